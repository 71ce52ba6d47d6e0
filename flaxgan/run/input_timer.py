"""How long the devices waited for batches."""

import contextlib
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InputTimer(Generic[T]):
    """An iterator that measures how long devices were idle because a batch was late.

    Steps are dispatched ahead of the devices, so a slow next() need not mean that a device is
    idle: it may be computing earlier steps meanwhile. Time in next() therefore counts only as far
    as it exceeds the time of those steps. How long one step takes is measured by the wait for the
    scalars of a log line: where batches are late, no other step is pending by then.
    """

    def __init__(self, batches: Iterator[T]):
        """Wraps an iterator."""
        self._batches = batches
        self._since = time.monotonic()
        self._waited = self._fetched = 0.0
        self._steps = 0

    def __iter__(self) -> "InputTimer[T]":
        return self

    def __next__(self) -> T:
        before = time.monotonic()
        batch = next(self._batches)
        self._waited += time.monotonic() - before
        self._steps += 1
        return batch

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Wrap around fetching the scalars of the newest step from a device."""
        before = time.monotonic()
        yield
        self._fetched += time.monotonic() - before

    def wait_share(self) -> float:
        """Share of the time since the last call in which devices waited for data, in [0, 1]."""
        now = time.monotonic()
        idle = self._waited - max(self._steps - 1, 0) * self._fetched
        share = max(idle, 0.0) / max(now - self._since, 1e-9)
        self._since, self._waited, self._fetched, self._steps = now, 0.0, 0.0, 0
        return min(share, 1.0)
