"""Names of files: how they are printed, what they say of splits, and what stays in a folder."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from flaxgan.clean_text import UNPRINTABLE

SPLITS = {
    "train": "train",
    "training": "train",
    "restval": "train",  # of Karpathy's COCO: trained on as well
    "test": "test",
    "testing": "test",
    "validation": "test",
    "valid": "test",
    "val": "test",
    "eval": "test",
    "evaluation": "test",
    "dev": "test",
}
AROUND = re.compile(r"[\W_]*(set|data|images?|imgs?|pictures|photos|split)?[\W_\d]*$")


def split_of(name: str) -> str:
    """Which split a word such as "train", "val2017" or "test_set" names: "train", "test" or ""."""
    return SPLITS.get(AROUND.sub("", name.lower()), "")


def splits_by_name(paths: Sequence[Path]) -> dict[Path, str]:
    """File -> "train" or "test" by the start of its name or its folder's, where both occur."""
    splits = {}
    for path in paths:
        stem = path.name.lower().replace("_", "-").split("-")[0].split(".")[0]
        splits[path] = split_of(stem) or split_of(path.parent.name)
    return splits if {"train", "test"} <= set(splits.values()) else dict.fromkeys(paths, "")


def inside(folder: Path | str, name: str) -> str | None:
    """`folder / name`; None where a name such as "../x" or "/x" would leave the folder."""
    folder = os.path.abspath(folder)
    if "\0" in name:
        return None
    path = os.path.abspath(os.path.join(folder, name))
    return path if path.startswith(os.path.join(folder, "")) else None


def printable_name(path: Path | str) -> str:
    """A file name for reports, on one line, whatever bytes it holds."""
    return UNPRINTABLE.sub(_escape, str(path))


def _escape(match: re.Match) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
