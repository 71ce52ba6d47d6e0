"""Waiting: how long devices waited for batches, and an alarm where no step is done at all."""

import contextlib
import faulthandler
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later
PATIENCE = 10.0  # seconds for a file or terminal, which may be what everybody waits for


class InputTimer(Generic[T]):
    """An iterator that measures how long devices were idle because a batch was late.

    Steps are dispatched ahead of the devices, so a loop waits for something even where devices
    never do: next() can be slow while they compute. What next() takes therefore counts only beyond
    the steps that were computed meanwhile. One step's time is known from the wait for the scalars
    of a log line: where batches are late, nothing else is left to compute by then.
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
        """Around the lines that fetch the scalars of the newest step from a device."""
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


class StallAlarm:
    """A thread that speaks up when no step was done for long; a context manager.

    It counts only time in which it runs itself: neither a clock that jumps nor a process or
    machine that is stopped and goes on sets it off. A library that holds Python's lock for ever
    silences it, too.
    """

    def __init__(
        self,
        workdir: Path,
        minutes: float,
        *,
        end: bool = False,
        say: Callable[[str], None] = print,
    ):
        """Prepares the alarm; `with` starts it.

        Args:
          workdir: gets stalled.txt, the Python stacks of all threads.
          minutes: without a beat before it speaks; 0: never.
          end: also end the process, with EXIT_CODE: where several processes compute together, those
            that wait for a stuck one wait for ever, and only their own end lets all be restarted.
          say: prints a line.
        """
        self._path, self._minutes, self._end, self._say = workdir / "stalled.txt", minutes, end, say
        self._beats = self._resting = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall alarm", daemon=True)

    def __enter__(self) -> "StallAlarm":
        if self._minutes > 0:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._minutes > 0:
            self._thread.join(PATIENCE)

    def beat(self) -> None:
        """A step is done."""
        self._beats += 1

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Around work that may take longer than any step: scores, the first compilation."""
        self._resting += 1
        try:
            yield
        finally:
            self._resting -= 1
            self.beat()

    def _watch(self) -> None:
        limit = self._minutes * 60
        tick = min(limit / 10, 10.0)
        beats, silent, told = self._beats, 0.0, False
        last = time.monotonic()
        while not self._stop.wait(tick):
            now = time.monotonic()
            silent += min(now - last, 2 * tick)
            last = now
            if self._beats != beats or self._resting:
                beats, silent, told = self._beats, 0.0, False
            elif silent >= limit and not told:
                told = True
                self._tell()

    def _tell(self) -> None:
        where = f"what each thread does is in {self._path}"
        if not _in_time(self._dump):
            where = f"{self._path} cannot be written either"
        text = (
            f"no step for {self._minutes:g} minutes: the input pipeline, a file system or another "
            f"process is stuck; {where} (--train.stall-minutes sets the time, 0 is never)"
        )
        _in_time(functools.partial(self._say, text))
        if self._end:
            text = (
                f"ending with exit code {EXIT_CODE}, as the other processes would wait for ever; "
                "run the same command again in all of them to go on from the newest checkpoint"
            )
            _in_time(functools.partial(self._say, text))
            _in_time(sys.stdout.flush)
            os._exit(EXIT_CODE)

    def _dump(self) -> None:
        with self._path.open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)


def _in_time(work: Callable[[], None]) -> bool:
    """Whether the work was done within PATIENCE; what blocks or fails must not stop the alarm."""
    done = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            work()
            done.set()

    threading.Thread(target=run, name="stall report", daemon=True).start()
    return done.wait(PATIENCE)
