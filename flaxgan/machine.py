"""What this machine has: caches, cores, and files that packages bring."""

import os
from importlib import metadata
from pathlib import Path

from flaxgan.errors import UserError


def cache_dir(name: str) -> Path:
    """~/.cache/flaxgan/<name>, or below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxgan" / name


def core_count() -> int:
    """Cores that this process may use."""
    affinity = hasattr(os, "sched_getaffinity")  # heeds limits on this process, but not everywhere
    return len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1


def installed_file(package: str, ending: str, *, advice: str, missing: str | None = None) -> Path:
    """The file of an installed package whose name ends so, found without importing the package.

    Args:
      package: as pip knows it.
      ending: of the file's name.
      advice: what to do when the package is not installed.
      missing: what an installed package without the file lacks; None: the ending.

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
