"""What every layout gives: shards of pictures with captions, read one after the other."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from flaxgan.cleaning import clean

SHARD_SIZE = 256  # pictures: what an interruption can lose
MAX_FILE_BYTES = 256 * 2**20
READABLE = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
# pictures that Pillow does not read: to be named, not to be passed over
UNREADABLE = frozenset(
    {".heic", ".heif", ".svg", ".eps", ".pdf", ".psd", ".jxl"}
    | {".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng"}
)
CAPTION_COLUMNS = ("text", "caption", "captions", "prompt", "description", "title")
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "test",
    "valid": "test",
    "val": "test",
    "eval": "test",
}


@dataclasses.dataclass(frozen=True)
class RawPicture:
    """One picture as it was found.

    Attributes:
      name: unique within the data set, for reports.
      data: bytes of the image file; None where there are none to be had.
      captions: cleaned, none of them empty.
      reason: why it cannot be used; empty: nothing is known against it.
      detail: more about the reason.
      split: "train" or "test" where the layout says so, else empty.
    """

    name: str
    data: bytes | None
    captions: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""
    split: str = ""


class Shard(Protocol):
    """About SHARD_SIZE pictures.

    Attributes:
      size: how many there are, about.
      fingerprint: changes with the files that it is read from.
    """

    size: int
    fingerprint: str

    def read(self) -> Iterator[RawPicture]:
        """Reads from disk; every picture comes, those that cannot be used with a reason."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What was found at a path.

    Attributes:
      path: where.
      layout: in words.
      shards: everything, in a fixed order.
      has_captions: whether the layout brings any.
    """

    path: Path
    layout: str
    shards: Sequence[Shard]
    has_captions: bool = True

    @property
    def size(self) -> int:
        """Pictures, about."""
        return sum(shard.size for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class RejectedShard:
    """Things that were found to be wrong before any picture was read."""

    pictures: tuple[RawPicture, ...]

    @property
    def size(self) -> int:
        """As Shard."""
        return len(self.pictures)

    @property
    def fingerprint(self) -> str:
        """As Shard."""
        return digest(*((p.name, p.reason, p.detail) for p in self.pictures))

    def read(self) -> Iterator[RawPicture]:
        """As Shard."""
        yield from self.pictures


def digest(*parts: Any) -> str:
    """Hexadecimal digest of the representations of some values."""
    state = hashlib.sha256()
    for part in parts:
        state.update(repr(part).encode("utf-8", "backslashreplace") + b"\0")
    return state.hexdigest()[:24]


def in_shards(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Pieces of SHARD_SIZE."""
    for start in range(0, len(values), SHARD_SIZE):
        yield values[start : start + SHARD_SIZE]


def raw_picture(name: str, data: bytes, captions: list[str] | str, split: str = "") -> RawPicture:
    """With its captions cleaned; a string instead of a list is a reason against them."""
    if isinstance(captions, str):
        return RawPicture(name, None, reason=captions, split=split)
    return RawPicture(name, data, tuple(captions), split=split)


def clean_captions(values: Any) -> list[str] | str:
    """Captions of a metadata field or of a text file, or the reason why there are none.

    Args:
      values: a string, a list of strings, or anything else that a metadata file can hold.

    Returns:
      Distinct captions, NFC, on one line each; or "no caption", "empty caption", "caption is not
      UTF-8".
    """
    texts = values if isinstance(values, list | tuple) else [values]
    texts = [text for text in texts if isinstance(text, str)]
    if not texts:
        return "no caption"
    if any(unicodedata.category(c) == "Cs" or c == "\0" for text in texts for c in text):
        return "caption is not UTF-8"
    cleaned = dict.fromkeys(" ".join(clean(text).split()) for text in texts)
    cleaned.pop("", None)
    return list(cleaned) or "empty caption"


def caption_lines(data: bytes) -> list[str] | str:
    """Captions of a text file, one a line; see `clean_captions`."""
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return "caption is not UTF-8"
    return clean_captions(text.splitlines() or [""])


def caption_of(fields: dict[str, Any], column: str) -> list[str] | str:
    """Captions among the fields of a metadata line.

    Args:
      fields: name -> value.
      column: the field; "auto": the first of CAPTION_COLUMNS that there is.
    """
    names = CAPTION_COLUMNS if column == "auto" else (column,)
    return clean_captions(next((fields[name] for name in names if name in fields), None))


def read_file(path: Path) -> bytes:
    """The bytes of a picture.

    Raises:
      OSError: unreadable, or too large to be a picture.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise OSError(f"{size / 2**20:,.0f} MiB are too many for a picture")
    return path.read_bytes()


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change of a file: enough to notice that it is another one."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def inside(folder: Path, name: str) -> Path | None:
    """`folder / name`; None where a name such as "../x" or "/x" would leave the folder."""
    path = Path(os.path.normpath(folder / name))
    return path if name and path.is_relative_to(Path(os.path.normpath(folder))) else None


def printable_name(path: Path | str) -> str:
    """A file name for reports, whatever bytes it holds."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")


def reason_of(error: OSError) -> tuple[str, str]:
    """Reason and detail of a file that cannot be read."""
    return "unreadable file", error.strerror or str(error)
