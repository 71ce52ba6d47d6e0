"""Exported files: written in one go, with a file beside them that says what their bytes must be."""

import hashlib
from pathlib import Path

from flaxgan.atomic_write import open_atomic
from flaxgan.errors import UserError


def check_free(path: Path, suffix: str, overwrite: bool) -> None:
    """Checks that a file may be written, before the work begins.

    Raises:
      UserError: another suffix, or the file exists and may not be replaced.
    """
    if path.suffix != suffix:
        raise UserError(f"--out must end in {suffix}, not {path.name}")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; name another --out, or replace it with --overwrite")


def check_folder(path: Path, overwrite: bool) -> None:
    """Checks that a folder may be filled.

    Raises:
      UserError: it is a file, or holds something and may not be written into.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: name a folder")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise UserError(
            f"{path} is not empty; name another folder, or write into it with --overwrite"
        )


def write_file(path: Path, data: bytes) -> None:
    """Writes a file, and the folder that it is in.

    Raises:
      UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def write_with_digest(path: Path, data: bytes) -> str:
    """Writes a file, and `<name>.sha256` beside it, which `sha256sum -c` reads.

    Returns:
      The digest.

    Raises:
      UserError: they cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    write_file(path, data)
    write_file(path.with_name(f"{path.name}.sha256"), f"{digest}  {path.name}\n".encode())
    return digest
