"""Event loops that wait for what Orbax leaves behind."""

import asyncio
import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any


class _Loop(asyncio.SelectorEventLoop):
    def close(self) -> None:
        """Lets the tasks that are left come to their end."""
        if not self.is_closed() and (left := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        super().close()

    def call_soon_threadsafe(self, callback: Callable, *args: Any, **options: Any) -> Any:
        """As of any loop; once it is closed, nothing instead of a RuntimeError."""
        try:
            return super().call_soon_threadsafe(callback, *args, **options)
        except RuntimeError:
            if not self.is_closed():
                raise
            return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Of tasks that failed after the first one, whose exception has been raised."""


@contextlib.contextmanager
def drop_late_answers() -> Iterator[None]:
    """While Orbax reads or writes: it closes its loop at the first array that it cannot.

    TensorStore's threads answer for the other arrays all the same, and the loop and its tasks would
    print a traceback for each of them. Of coroutines that it made and never started, Python warns.
    """
    make = asyncio.new_event_loop
    asyncio.new_event_loop = _Loop
    try:
        yield
    except Exception as error:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*was never awaited", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        asyncio.new_event_loop = make
