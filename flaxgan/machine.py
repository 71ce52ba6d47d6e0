"""This machine: its cache folder, its cores, and the files of installed packages."""

import os
from importlib import metadata
from pathlib import Path

from flaxgan.errors import UserError


def cache_dir(name: str) -> Path:
    """~/.cache/flaxgan/<name>, or below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxgan" / name


def core_count() -> int:
    """Cores that this process may use."""
    affinity = hasattr(os, "sched_getaffinity")  # knows limits on this process; not on all systems
    return len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1


def installed_file(package: str, ending: str, *, advice: str, missing: str | None = None) -> Path:
    """Finds a file of an installed package by how its name ends, without importing the package.

    Args:
      package: as pip knows it.
      ending: of the file's name.
      advice: the error when the package is not installed.
      missing: what the error calls a file that is not there; None: its ending.

    Raises:
      UserError: the package is not installed, or has no such file.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise UserError(advice) from error
    for file in files:
        if file.name.endswith(ending):
            return Path(str(file.locate()))
    raise UserError(f"the installed package {package} has no {missing or ending}")
