"""What every worker process starts with."""

import multiprocessing
import os
import threading


def end_with_parent(*_: int) -> None:
    """In a worker: ends it when the process that started it is gone, even if that was killed.

    The pipes that it waits for do not tell, as other workers hold their ends too.

    Args:
      _: of Grain, the number of the worker and of all; not read.
    """
    parent = multiprocessing.parent_process()
    if parent is None:  # Grain on a Python without a global lock: threads
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
