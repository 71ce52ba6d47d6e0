"""Runs a pure function over many jobs on every core, in order, with a progress bar."""

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from flaxgan.data.workers import end_with_parent
from flaxgan.machine import core_count
from flaxgan.progress import progress_bar

Job = TypeVar("Job")
Result = TypeVar("Result")

MIN_PARALLEL_JOBS = 512  # below, starting processes costs more than it saves
CHUNK = 64


def render_parallel(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    description: str,
    workers: int | None = None,
) -> Iterator[Result]:
    """Yields `function(job)` for every job, in the order of the jobs.

    Args:
      function: of a module's top level (it is pickled), without side effects.
      jobs: picklable.
      description: shown beside the progress bar.
      workers: processes; None: one per core; 1: in this process.
    """
    if workers is None:
        workers = core_count() if len(jobs) >= MIN_PARALLEL_JOBS else 1
    with progress_bar(description, len(jobs)) as advance:
        done = 0
        if workers > 1:
            context = multiprocessing.get_context("spawn")  # fork is unsafe once jax has threads
            # a script without `if __name__ == "__main__":` cannot be spawned: the rest is done here
            with (
                contextlib.suppress(concurrent.futures.process.BrokenProcessPool),
                concurrent.futures.ProcessPoolExecutor(workers, context, end_with_parent) as pool,
            ):
                for result in pool.map(function, jobs, chunksize=CHUNK):
                    yield result
                    done += 1
                    advance(1)
        for job in jobs[done:]:
            yield function(job)
            advance(1)
