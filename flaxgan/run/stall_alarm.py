"""An alarm for a run that is stuck: no step has finished for minutes."""

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

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later
PATIENCE = 10.0  # seconds for writing to a file or terminal, which may itself be what is stuck


class StallAlarm:
    """A thread that warns when no step has finished for a long time; a context manager.

    It counts only time in which its own thread runs, so that neither a clock that jumps nor a
    process or machine that is suspended sets it off. It cannot warn while a library holds Python's
    global lock.
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
          minutes: without a step before it warns; 0: never.
          end: also exit, with EXIT_CODE. Needed where several processes train together: they would
            wait for a stuck one for ever, and must exit before all can be restarted.
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
        """Call after every step."""
        self._beats += 1

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Wrap around work that may take longer than any step: scoring, the first compilation."""
        self._resting += 1
        try:
            yield
        finally:
            self._resting -= 1
            self.beat()

    def _watch(self) -> None:
        limit = self._minutes * 60
        tick = min(limit / 10, 10.0)
        beats, silent, warned = self._beats, 0.0, False
        last = time.monotonic()
        while not self._stop.wait(tick):
            now = time.monotonic()
            silent += min(now - last, 2 * tick)
            last = now
            if self._beats != beats or self._resting:
                beats, silent, warned = self._beats, 0.0, False
            elif silent >= limit and not warned:
                warned = True
                self._warn()

    def _warn(self) -> None:
        where = f"what each thread does is in {self._path}"
        if not _within_patience(self._dump):
            where = f"{self._path} cannot be written either"
        text = (
            f"no step for {self._minutes:g} minutes: the input pipeline, a file system or another "
            f"process is stuck; {where} (--train.stall-minutes sets the time, 0 turns this off)"
        )
        _within_patience(functools.partial(self._say, text))
        if self._end:
            text = (
                f"ending with exit code {EXIT_CODE}, as the other processes would wait forever; "
                "run the same command again in all of them to go on from the newest checkpoint"
            )
            _within_patience(functools.partial(self._say, text))
            _within_patience(sys.stdout.flush)
            os._exit(EXIT_CODE)

    def _dump(self) -> None:
        with self._path.open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)


def _within_patience(work: Callable[[], None]) -> bool:
    """Whether the work finished within PATIENCE; if it blocks or fails, the alarm goes on."""
    done = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            work()
            done.set()

    threading.Thread(target=run, name="stall report", daemon=True).start()
    return done.wait(PATIENCE)
