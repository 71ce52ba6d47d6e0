"""Where the time to the first picture goes: FLAXGAN_TIMES=1 prints the seconds of each part."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

_on = os.environ.get("FLAXGAN_TIMES", "") not in ("", "0")


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Prints, where it is asked for, what its body takes: seconds passed, and of CPU time.

    CPU time is what a busy machine does not change much. Parts may lie within others.
    """
    if not _on:
        yield
        return
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"time: {wall:7.3f} s, CPU {cpu:7.3f} s  {name}", file=sys.stderr, flush=True)
