"""An asyncio event loop that stays quiet when Orbax gives up halfway through a checkpoint."""

import asyncio
import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any


class _PatientLoop(asyncio.SelectorEventLoop):
    def close(self) -> None:
        """Finishes the remaining tasks first."""
        if not self.is_closed() and (left := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        super().close()

    def call_soon_threadsafe(self, callback: Callable, *args: Any, **options: Any) -> Any:
        """Schedules a callback; does nothing once the loop is closed, instead of raising."""
        try:
            return super().call_soon_threadsafe(callback, *args, **options)
        except RuntimeError:
            if not self.is_closed():
                raise
            return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignores tasks that fail after the first one, whose exception has been raised."""


@contextlib.contextmanager
def ignore_late_callbacks() -> Iterator[None]:
    """Wrap around any read or write by Orbax.

    Orbax closes its event loop at the first array that fails. TensorStore's threads still report
    back for the other arrays, and asyncio would print a traceback for each of them. Python would
    also warn about coroutines that Orbax created but never started.
    """
    make = asyncio.new_event_loop
    asyncio.new_event_loop = _PatientLoop
    try:
        yield
    except Exception as error:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*was never awaited", RuntimeWarning)
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        asyncio.new_event_loop = make
