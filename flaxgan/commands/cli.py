"""What the command-line entry points share: clear errors, and the process set up before jax."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from flaxgan.errors import UserError, one_line
from flaxgan.machine import cache_dir, core_count


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs `main(argv)` and exits: 0, 2 with one line for a UserError, 128 + n for signal n."""
    try:
        code = main(sys.argv[1:]) or 0
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations; its errors are one line without the usage."""

    def __init__(self, **options: Any):
        """See `argparse.ArgumentParser`."""
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def prepare_process(batch_size: int = 1) -> None:
    """Sets up jax before it is imported, unless the user has: CPU devices, compilation cache.

    One jax device on CPU does not keep all cores busy, one per core does: on a machine without
    accelerators there are as many devices as cores, or the next smaller divisor of the batch.

    Args:
      batch_size: global images per step; 0: any number of devices will do.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        count = max(n for n in range(1, core_count() + 1) if batch_size % n == 0)
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir("jax")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
