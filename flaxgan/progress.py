"""A bar for work that takes a while; lines of text where the output is not a terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 10.0  # between lines where the output is not a terminal


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar that is gone when the work is done; in a log, a line every ten seconds.

    Args:
      description: what is being done.
      total: of what `advance` counts.

    Yields:
      `advance(count)`.
    """
    console = Console()
    if not console.is_terminal:
        yield _Lines(description, total)
        return
    named = TextColumn("{task.description}", markup=False)  # may be the path of a folder
    columns = (named, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


class _Lines:
    """Says how far the work is; jobs shorter than LINE_SECONDS say nothing."""

    def __init__(self, description: str, total: int):
        self._description, self._total, self._done = description, total, 0
        self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            print(f"{self._description}: {self._done:,} of {self._total:,}", flush=True)
