"""SIGINT and SIGTERM, remembered until the loop can act on them."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Interrupt:
    """The first SIGINT or SIGTERM, to be acted on at the end of a step."""

    number: int | None = None


@contextlib.contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Until the end of the block, the first signal is remembered and the second one raises."""
    interrupt = Interrupt()

    def remember(number: int, frame: Any) -> None:
        if interrupt.number is not None:  # the second one means: now
            raise KeyboardInterrupt
        interrupt.number = number

    previous = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
