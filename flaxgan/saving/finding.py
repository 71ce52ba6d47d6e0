"""Finding runs and checkpoints on disk by the names of their folders."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flaxgan.errors import UserError

Report = Callable[[str], None]
Result = TypeVar("Result")


def newest_run(root: Path) -> Path:
    """The run below `root` whose checkpoints changed last.

    Raises:
      UserError: no run with a checkpoint.
    """
    metas = root.glob("*/checkpoints/*/meta")  # also of unfinished and of broken checkpoints
    runs = [p.parent.parent.parent for p in metas if p.parent.name.isdecimal()]
    if not runs:
        raise UserError(
            f"no trained run in {root}/; train one with train.py, or name one with --checkpoint"
        )
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime)


def find_steps(root: Path) -> list[int]:
    """Steps of the finished checkpoints in a `checkpoints` folder, ascending."""
    folders = (p for p in root.glob("*") if p.name.isdecimal())
    return sorted(int(p.name) for p in folders if (p / "meta").is_dir())


def find_checkpoints(path: Path) -> list[Path]:
    """Checkpoint folders below a path, newest first.

    Args:
      path: a workdir, its `checkpoints` folder, or one checkpoint.

    Raises:
      UserError: nothing of the kind is there.
    """
    if (path / "meta").is_dir():
        return [path]
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = find_steps(root)
    if not steps:
        raise UserError(f"no checkpoint in {path}; train one with train.py, or name another folder")
    return [root / str(step) for step in reversed(steps)]


def newest_intact(path: Path, read: Callable[[Path], Result], report: Report) -> Result:
    """What is read from the newest checkpoint that can be read.

    Args:
      path: see `find_checkpoints`.
      read: makes the result of one checkpoint's folder; a UserError says that it is broken.
      report: called with one line for each broken checkpoint that is passed over.

    Raises:
      UserError: no checkpoint, or none intact.
    """
    folders = find_checkpoints(path)
    for folder in folders[:-1]:
        try:
            return read(folder)
        except UserError as error:
            report(f"{error}; using the one before it")
    return read(folders[-1])
