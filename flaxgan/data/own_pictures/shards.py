"""What every layout gives: shards of pictures with captions, read one after the other."""

import dataclasses
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from flaxgan.clean_text import UNPRINTABLE, clean, text_lines
from flaxgan.errors import UserError, first_line

SHARD_SIZE = 256  # pictures: what an interruption can lose
MAX_FILE_BYTES = 256 * 2**20
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
READABLE = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
# kinds of pictures that are not read: to be named, not to be passed over
UNREADABLE = frozenset(
    {".heic", ".heif", ".svg", ".eps", ".pdf", ".psd", ".jxl", ".ico"}
    | {".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng"}
)
NOT_UTF8 = "caption is not UTF-8"
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


def read_picture(
    name: str,
    suffix: str,
    read_captions: Callable[[], list[str] | str],
    read_data: Callable[[], bytes],
    *,
    need_captions: bool,
    split: str = "",
) -> RawPicture:
    """Captions and then, unless there is a reason against them, the file.

    Args:
      name: see RawPicture.
      suffix: of the file.
      read_captions: gives captions or the reason why there are none.
      read_data: gives the bytes.
      need_captions: whether the picture is of no use without a caption.
      split: see RawPicture.
    """
    if suffix in UNREADABLE:
        detail = f"{suffix}: convert it to PNG or JPEG"
        return RawPicture(name, None, reason="format is not supported", detail=detail)
    try:
        captions = _needed(read_captions(), need_captions)
        data = b"" if isinstance(captions, str) else read_data()
    except OSError as error:
        reason, detail = reason_of(error)
        return RawPicture(name, None, reason=reason, detail=detail, split=split)
    return raw_picture(name, data, captions, split=split)


def _needed(captions: list[str] | str, need_captions: bool) -> list[str] | str:
    """Without a need for captions, no reason against them counts."""
    return [] if isinstance(captions, str) and not need_captions else captions


def raw_picture(
    name: str,
    data: bytes,
    captions: list[str] | str,
    *,
    need_captions: bool = True,
    split: str = "",
) -> RawPicture:
    """With its captions cleaned; a string instead of a list is a reason against them."""
    captions = _needed(captions, need_captions)
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
    if any(NOT_TEXT.search(text) for text in texts):
        return NOT_UTF8
    cleaned = dict.fromkeys(" ".join(clean(text).split()) for text in texts)
    cleaned.pop("", None)
    return list(cleaned) or "empty caption"


def caption_lines(data: bytes) -> list[str] | str:
    """Captions of a text file, one a line; see `clean_captions`."""
    try:
        return clean_captions(text_lines(data))
    except ValueError:
        return NOT_UTF8


def caption_of(fields: dict[str, Any], column: str) -> list[str] | str:
    """Captions among the fields of a metadata line.

    Args:
      fields: name -> value.
      column: the field; "auto": the first of CAPTION_COLUMNS that there is.
    """
    name = find_caption_column(fields, column)
    return clean_captions(None if name is None else fields[name])


def find_caption_column(columns: Iterable[str], column: str) -> str | None:
    """Which of the columns holds captions: the named one, or for "auto" a usual one; or None."""
    names = CAPTION_COLUMNS if column == "auto" else (column,)
    return next((name for name in names if name in columns), None)


def no_caption_column(path: Path, columns: Iterable[str], column: str) -> UserError:
    """That a file has none."""
    named = "text or caption" if column == "auto" else column
    return UserError(
        f"{path} has no column {named}; it has: {column_names(columns)}; name one with "
        "--data.caption-column"
    )


def splits_by_name(paths: Sequence[Path]) -> dict[Path, str]:
    """File -> "train" or "test" by the start of its name or its folder's, where both occur."""
    splits = {}
    for path in paths:
        stem = path.name.lower().replace("_", "-").split("-")[0].split(".")[0]
        splits[path] = SPLITS.get(stem) or SPLITS.get(path.parent.name.lower(), "")
    return splits if {"train", "test"} <= set(splits.values()) else dict.fromkeys(paths, "")


def read_file(path: Path) -> bytes:
    """The bytes of a picture.

    Raises:
      OSError: unreadable, or too large to be a picture.
    """
    check_size(check_regular(path))
    return path.read_bytes()


def check_size(size: int) -> None:
    """Raises OSError for a file of too many bytes to be a picture."""
    if size > MAX_FILE_BYTES:
        raise OSError(f"{size / 2**20:,.0f} MiB are too many for a picture")


def check_regular(path: Path) -> int:
    """The size of a file, bytes.

    Raises:
      OSError: it is a pipe or a device, reading from which may never end; or not there.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    return status.st_size


def stamp(path: Path | str) -> tuple[int, int]:
    """Size and time of change of a file: enough to notice that it is another one."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


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


def column_names(names: Iterable[str]) -> str:
    """Of metadata, for errors."""
    return ", ".join(sorted(printable_name(name)[:40] for name in names)[:20])


def reason_of(error: OSError) -> tuple[str, str]:
    """Reason and detail of a file that cannot be read."""
    return "unreadable file", error.strerror or str(error)


def detail_of(error: Exception) -> str:
    """What an exception says, for a detail."""
    return printable_name(first_line(error))[:160]
