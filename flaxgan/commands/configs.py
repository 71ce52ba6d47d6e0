"""Config files by the bare name of one that comes with flaxgan: `--config avatars32_cpu`."""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from flaxgan.config import split_flag
from flaxgan.errors import UserError


def folder() -> Path | None:
    """Where they are: in an installed package inside it, in a clone beside it; None: not there."""
    package = Path(str(resources.files("flaxgan")))
    return next((p for p in (package / "configs", package.parent / "configs") if p.is_dir()), None)


def names() -> list[str]:
    """Of those that this installation has."""
    there = folder()
    return sorted(path.stem for path in there.glob("*.py")) if there else []


def with_path(argv: Sequence[str]) -> list[str]:
    """A command line in which `--config NAME` names the file.

    A name is a word without a folder and an ending; a file of that very name comes first.

    Raises:
      UserError: no config of that name comes with flaxgan.
    """
    value, rest = split_flag(argv, "--config", None)
    if value is None or not value.isidentifier() or os.path.exists(value):
        return list(argv)
    if value not in names():
        raise UserError(
            f"unknown config {value!r}; available: {', '.join(names()) or 'none'}; for a file of "
            "your own give its whole name: --config my_config.py"
        )
    return ["--config", str(folder() / f"{value}.py"), *rest]
