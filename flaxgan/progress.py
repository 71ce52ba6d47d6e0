"""A bar for work that takes a while; where the output is not a terminal, one line that names it."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

LOGGED = 1000  # smaller jobs are over before anybody reads about them in a log


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar that is gone when the work is done.

    Args:
      description: what is being done.
      total: of what `advance` counts.

    Yields:
      `advance(count)`.
    """
    console = Console()
    if not console.is_terminal:
        if total >= LOGGED:
            print(f"{description}: {total:,}", flush=True)
        yield lambda count: None
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
