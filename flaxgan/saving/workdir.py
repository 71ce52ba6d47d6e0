"""The folder of one run: it belongs to one config, and to one process at a time."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import filelock

from flaxgan.atomic_write import open_atomic
from flaxgan.config import Config, EvalConfig, from_json, to_json
from flaxgan.config.fields import flatten
from flaxgan.errors import UserError

# fields that may change when a run is resumed: they alter neither parameters nor data order (a run
# with a checkpoint does not read train.init_from again)
FREE_FIELDS = frozenset(
    {
        "name",
        "data.data_dir",
        "data.in_memory_mb",
        "data.num_workers",
        "data.path",
        "data.strict",
        "model.remat",
        "text.batch_size",
        "text.cache_dir",
        "text.path",
        "train.accumulate_steps",
        "train.grid_cols",
        "train.grid_every_kimg",
        "train.grid_prompts",
        "train.grid_rows",
        "train.init_from",
        "train.keep_last",
        "train.log_every_steps",
        "train.max_rollbacks",
        "train.max_skips_in_row",
        "train.mode",
        "train.save_every_kimg",
        "train.shard_above",
        "train.stall_minutes",
        "train.tensorboard",
        "train.total_kimg",
        *(f"eval.{field.name}" for field in dataclasses.fields(EvalConfig)),
    }
)


def prepare_workdir(config: Config, workdir: Path) -> None:
    """Makes the folder and writes config.json, or checks that it holds the same experiment.

    Raises:
      UserError: the folder cannot be written, or holds a run with another config.
    """
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same(from_json(path.read_text(errors="replace")), config, workdir)
        with open_atomic(path) as file:
            file.write(to_json(config).encode())
    except OSError as error:
        raise UserError(f"cannot write to workdir {workdir}: {error.strerror}") from error


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Locks a folder against other runs, until the block ends or the process dies.

    Raises:
      UserError: another process is training there, or the folder cannot be made.
    """
    lock = filelock.FileLock(workdir / "run.lock")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"another process is training in {workdir}: wait for it or stop it, or use another "
            "--workdir"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write to workdir {workdir}: {error.strerror}") from error
    except NotImplementedError:
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


def _check_same(old: Config, new: Config, workdir: Path) -> None:
    before, after = flatten(old), flatten(new)
    changed = [k for k in after if k not in FREE_FIELDS and before.get(k) != after[k]]
    if changed:
        first = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"workdir {workdir} holds a run with another config: {first} is {before.get(first)!r} "
            f"there and {after[first]!r} here{more}; use another --workdir"
        )
