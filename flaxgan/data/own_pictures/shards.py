"""What every layout gives: shards of pictures with captions, read one after the other."""

import dataclasses
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from flaxgan.clean_text import text_lines
from flaxgan.data.own_pictures.columns import NOT_UTF8, clean_captions
from flaxgan.data.own_pictures.names import printable_name
from flaxgan.errors import first_line

SHARD_SIZE = 256  # pictures: what an interruption can lose
MAX_FILE_BYTES = 256 * 2**20
READABLE = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
# kinds of pictures that are not read: to be named, not to be passed over
UNREADABLE = frozenset(
    {".heic", ".heif", ".svg", ".eps", ".pdf", ".psd", ".jxl", ".ico"}
    | {".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng"}
)
# class and box of YOLO and its like: beside pictures as often as captions are
NUMBERS = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( [-+]?[\d.]+(e[-+]?\d+)?){4,}", re.IGNORECASE)


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
      weight: how often it is trained on, in units of a usual picture; above 0.
    """

    name: str
    data: bytes | None
    captions: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""
    split: str = ""
    weight: float = 1.0


Problem = tuple[str, str]  # reason and detail


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
class ReadOptions:
    """What a user says of the layout; the fields of DataConfig of the same names."""

    captions: str = "auto"
    caption_column: str = "auto"
    image_column: str = "auto"
    weight_column: str = "auto"
    templates: tuple[str, ...] = ("{}",)
    need_captions: bool = True

    @property
    def has_weights(self) -> bool:
        """Whether a column of weights is named."""
        return self.weight_column not in ("", "auto")


@dataclasses.dataclass(frozen=True)
class Listing:
    """What was found at a path.

    Attributes:
      path: where.
      layout: in words.
      shards: everything, in a fixed order.
      has_captions: whether the layout brings any.
      notes: what else was understood, a sentence each.
      unused: files of text that nobody understood.
      weighted: whether weights can differ.
    """

    path: Path
    layout: str
    shards: Sequence[Shard]
    has_captions: bool = True
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    weighted: bool = False

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
    read_captions: Callable[[], list[str] | Problem],
    read_data: Callable[[], bytes],
    *,
    need_captions: bool,
    split: str = "",
    weight: float = 1.0,
) -> RawPicture:
    """Captions and then, unless there is a reason against them, the file.

    Args:
      name: see RawPicture.
      suffix: of the file.
      read_captions: gives captions, or reason and detail why there are none.
      read_data: gives the bytes.
      need_captions: whether the picture is of no use without a caption.
      split, weight: see RawPicture.
    """
    if suffix in UNREADABLE:
        detail = f"{suffix}: convert it to PNG or JPEG"
        return RawPicture(name, None, reason="format is not supported", detail=detail)
    try:
        captions = _needed(read_captions(), need_captions)
        data = b"" if isinstance(captions, tuple) else read_data()
    except OSError as error:
        reason, detail = reason_of(error)
        return RawPicture(name, None, reason=reason, detail=detail, split=split)
    return raw_picture(name, data, captions, split=split, weight=weight)


def _needed(captions: list[str] | Problem, need_captions: bool) -> list[str] | Problem:
    """Without a need for captions, no reason against them counts."""
    return [] if isinstance(captions, tuple) and not need_captions else captions


def raw_picture(
    name: str,
    data: bytes,
    captions: list[str] | Problem,
    *,
    need_captions: bool = True,
    split: str = "",
    weight: float = 1.0,
) -> RawPicture:
    """With its captions; reason and detail in their place are against it."""
    captions = _needed(captions, need_captions)
    if isinstance(captions, tuple):
        return RawPicture(name, None, reason=captions[0], detail=captions[1], split=split)
    return RawPicture(name, data, tuple(captions), split=split, weight=weight)


def caption_lines(data: bytes) -> list[str] | str:
    """Captions of a text file, one a line; see `clean_captions`.

    Lines of five or more numbers are labels of boxes: "numbers, not a caption".
    """
    try:
        captions = clean_captions(text_lines(data))
    except ValueError:
        return NOT_UTF8
    if not isinstance(captions, str) and all(NUMBERS.fullmatch(line) for line in captions):
        return "numbers, not a caption"
    return captions


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


def reason_of(error: OSError) -> tuple[str, str]:
    """Reason and detail of a file that cannot be read."""
    return "unreadable file", error.strerror or str(error)


def detail_of(error: Exception) -> str:
    """What an exception says, for a detail."""
    return printable_name(first_line(error))[:160]
