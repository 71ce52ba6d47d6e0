"""What both sides of a comparison have in common: measured when told to, in a process of its own.

The process prints one line of JSON when it is warm. Then it reads how many seconds to work, one
number a line, and answers each with what it did.
"""

import json
import resource
import sys
import time
from collections.abc import Callable


def serve(
    call: Callable[[], None], images: int, finish: Callable[[], None], **about: float
) -> None:
    """Answers until the input ends.

    Args:
      call: works on `images` images; it need not wait for the result.
      finish: waits for it.
      **about: what else to say when ready.
    """
    for _ in range(3):
        call()
    finish()
    _say(about)
    for line in sys.stdin:
        seconds, calls = float(line), 0
        wall, cpu = time.perf_counter(), time.process_time()
        while calls == 0 or time.perf_counter() - wall < seconds:
            call()
            calls += 1
        finish()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        _say({"images": calls * images, "wall": wall, "cpu": cpu, "peak_mb": peak})


def _say(what: dict[str, float]) -> None:
    print(json.dumps(what), flush=True)
