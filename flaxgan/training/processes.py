"""Several processes that train one model together: how they start, and how they agree.

Every process runs the same program on its own devices; XLA's collectives join them. What is done
once (files, log lines) is done by process 0. Decisions that must be the same in all processes are
made here.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flaxgan.errors import UserError, first_line

START_SECONDS = 300  # for all processes to join
END_SECONDS = 60  # that a finished process waits for the others
HEARTBEAT_SECONDS = 60  # of silence from one process until the others exit
TASK_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # how many a launcher started


@dataclasses.dataclass(frozen=True)
class Launch:
    """How this process finds the others.

    Attributes:
      detect: ask the launcher: SLURM, Open MPI, Kubernetes or a TPU pod.
      coordinator: `host:port` of process 0; None: detected, or there is one process only.
      num_processes: how many there are.
      process_id: which of them this is, counted from 0.
    """

    detect: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    @property
    def several(self) -> bool:
        """Whether there may be other processes; known before they are joined."""
        return self.detect or self.coordinator is not None


def take_flags(
    argv: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[Launch, list[str]]:
    """Takes `--distributed`, or `--coordinator`, `--num-processes`, `--process-id`, out of a line.

    Args:
      argv: command line.
      environment: of the process.

    Returns:
      The launch, and the rest of the command line.

    Raises:
      UserError: flags that do not go together, or one of several tasks without any of them.
    """
    from flaxgan.config import split_flag

    rest = [word for word in argv if word != "--distributed"]
    detect = len(rest) < len(argv)
    coordinator, rest = split_flag(rest, "--coordinator", None)
    count, rest = split_flag(rest, "--num-processes", None)
    number, rest = split_flag(rest, "--process-id", None)
    given = (coordinator, count, number)
    if detect and given != (None, None, None):
        raise UserError(
            "--distributed cannot be combined with --coordinator, --num-processes and --process-id"
        )
    if given == (None, None, None):
        counts = [environment.get(name, "") for name in TASK_COUNTS]
        tasks = max(int(text) if text.isdecimal() else 1 for text in counts)
        if tasks > 1 and not detect:
            raise UserError(
                f"this is one of {tasks} tasks, and each would train by itself in the same "
                "--workdir: add --distributed to train one model together, or start one task"
            )
        return Launch(detect=detect), rest
    if None in given:
        raise UserError("--coordinator HOST:PORT, --num-processes and --process-id go together")
    launch = Launch(
        coordinator=coordinator,
        num_processes=_number("--num-processes", count),
        process_id=_number("--process-id", number),
    )
    _check(launch)
    return launch, rest


def join(launch: Launch) -> None:
    """Joins the other processes; must come before the first use of jax's devices.

    From here on only the first process prints; the others print errors alone.

    Raises:
      UserError: not all of them join in time, or the launcher is not known.
    """
    if not launch.several:
        return
    import jax

    try:
        jax.distributed.initialize(
            coordinator_address=launch.coordinator,
            num_processes=launch.num_processes,
            process_id=launch.process_id,
            cluster_detection_method=None if launch.detect else "deactivate",
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=END_SECONDS,
        )
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        where = launch.coordinator or "the launcher's coordinator"
        hint = (
            "; no launcher is known here: give --coordinator HOST:PORT --num-processes N "
            "--process-id I"
            if launch.detect
            else ""
        )
        raise UserError(f"cannot join {where}: {first_line(error)}{hint}") from error
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)


def is_first() -> bool:
    """Whether this process writes the files and the log."""
    import jax

    return jax.process_index() == 0


def count() -> int:
    """Number of processes."""
    import jax

    return jax.process_count()


def from_first(values: dict[str, float]) -> dict[str, float]:
    """The values of process 0, in float32; all processes must call this at the same point."""
    if count() == 1:
        return values
    from jax.experimental import multihost_utils

    return {k: float(x) for k, x in multihost_utils.broadcast_one_to_all(values).items()}


def largest(numbers: Sequence[int]) -> list[int]:
    """Each number's maximum over all processes, which must all call this at the same point."""
    if count() == 1:
        return list(numbers)
    return [int(n) for n in gather(list(numbers)).max(axis=0)]


def gather(numbers: Sequence[int]) -> Any:
    """`[processes, n]` int64: the n numbers of every process, each below 2^63."""
    import numpy as np
    from jax.experimental import multihost_utils

    # as halves, since jax has no 64-bit numbers unless it is told to
    wide = np.asarray(numbers, np.int64)
    halves = np.stack([wide >> 32, wide & 0xFFFFFFFF]).astype(np.uint32)
    found = np.asarray(multihost_utils.process_allgather(halves)).astype(np.int64)
    found = found.reshape(-1, 2, len(wide))
    return found[:, 0] << 32 | found[:, 1]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """If one process raises a UserError in the block, all of them raise one.

    Otherwise the rest would wait for it for ever in their next collective.

    Raises:
      UserError: this process's own; or, if it had none, one that names a process that failed.
    """
    error = None
    try:
        yield
    except UserError as caught:
        error = caught
    if count() > 1:
        failed = gather([error is not None])[:, 0]
        if error is None and failed.any():
            raise UserError(f"process {failed.argmax()} stopped: see its message")
    if error is not None:
        raise error


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Process 0 runs the block first, then all others, which find what it wrote to a shared disk.

    Raises:
      UserError: as `together`, of process 0.
    """
    if is_first():
        with together():
            yield
        return
    with together():
        pass
    yield


def _number(flag: str, text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError as error:
        raise UserError(f"{flag} must be a whole number, not {text!r}") from error


def _check(launch: Launch) -> None:
    host, _, port = (launch.coordinator or "").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator must be HOST:PORT, not {launch.coordinator!r}")
    if launch.num_processes < 1 or not 0 <= launch.process_id < launch.num_processes:
        raise UserError(
            f"--process-id must be in [0, {launch.num_processes}), not {launch.process_id}"
        )
