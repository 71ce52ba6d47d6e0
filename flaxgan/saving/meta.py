"""The `meta` item of a checkpoint: config, position in the data and digests, as JSON."""

import json
import zlib
from pathlib import Path
from typing import Any

from flaxgan.errors import UserError

FORMAT = 2  # of the items `meta` and `state`


class OtherFormat(UserError):
    """Not broken, but written by another version."""


def stamped(meta: dict[str, Any]) -> dict[str, Any]:
    """The item as it is saved: with its format and a checksum over everything else."""
    meta = {**meta, "format": FORMAT}
    return {**meta, "crc32": checksum(meta)}


def read_meta(folder: Path) -> dict[str, Any]:
    """The JSON item of one checkpoint folder.

    Raises:
      OtherFormat: it was written by another version.
      UserError: not a checkpoint, or damaged.
    """
    path = folder / "meta" / "metadata"
    try:
        meta = read_json_object(path)
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {folder} is not intact: {error}") from error
    if "crc32" in meta and meta["crc32"] != checksum(meta):
        raise UserError(f"checkpoint {folder} is not intact: checksum differs in {path.name}")
    if meta.get("format") != FORMAT:
        raise OtherFormat(
            f"checkpoint {folder} was written by another version of flaxgan: go on with that "
            "version, or export its networks there (flaxgan export) and --init-from the file"
        )
    return meta


def checksum(meta: dict[str, Any]) -> int:
    """CRC-32 of the item without its own `crc32` field."""
    covered = {name: value for name, value in meta.items() if name != "crc32"}
    return zlib.crc32(json.dumps(covered, sort_keys=True).encode())


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
      OSError: the file cannot be read.
      ValueError: it holds something else.
    """
    try:
        value = json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
