"""WebDataset: tar files in which files of one name, up to its first dot, make an example.

Nothing is unpacked: an index of the tar files says where each picture lies.
"""

import dataclasses
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxgan.data.own_pictures.shards import (
    READABLE,
    UNREADABLE,
    Listing,
    RawPicture,
    RejectedShard,
    Shard,
    caption_lines,
    caption_of,
    check_regular,
    check_size,
    detail_of,
    digest,
    in_shards,
    printable_name,
    read_picture,
    reason_of,
    splits_by_name,
    stamp,
)

CAPTIONS = (".txt", ".caption", ".json")
TRUNCATED = "it ends in the middle of a file"


class _Member(NamedTuple):
    """Where a file lies in a tar file."""

    suffix: str
    offset: int
    size: int


class _Example(NamedTuple):
    """Members with one key."""

    key: str
    picture: _Member | None
    caption: _Member | None


@dataclasses.dataclass(frozen=True)
class TarShard:
    """Examples of one tar file."""

    path: Path
    name: str
    examples: tuple[_Example, ...]
    caption_column: str
    need_captions: bool
    split: str
    fingerprint: str

    @property
    def size(self) -> int:
        """As Shard."""
        return len(self.examples)

    def read(self) -> Iterator[RawPicture]:
        """As Shard."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            reason, detail = reason_of(error)
            for example in self.examples:
                name = f"{self.name}/{example.key}"
                yield RawPicture(name, None, reason=reason, detail=detail, split=self.split)
            return
        with file:
            for example in self.examples:
                yield self._read(file, example)

    def _read(self, file: Any, example: _Example) -> RawPicture:
        name = f"{self.name}/{example.key}"
        picture = example.picture
        if picture is None:
            return RawPicture(name, None, reason="no picture", split=self.split)
        return read_picture(
            name,
            picture.suffix,
            lambda: self._captions(file, example.caption),
            lambda: _read_member(file, picture),
            need_captions=self.need_captions,
            split=self.split,
        )

    def _captions(self, file: Any, member: _Member | None) -> list[str] | str:
        if member is None:
            return "no caption"
        data = _read_member(file, member)
        if member.suffix != ".json":
            return caption_lines(data)
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            return "broken metadata"
        return caption_of(fields, self.caption_column) if isinstance(fields, dict) else "no caption"


def list_tars(
    root: Path, paths: Sequence[Path], *, caption_column: str, need_captions: bool
) -> Listing:
    """The examples of tar files.

    Args:
      root: folder of all of them, or the only one.
      paths: the files, sorted.
      caption_column: field of .json members; .txt members are captions, one a line.
      need_captions: whether a picture without one is of no use.
    """
    shards: list[Shard] = []
    rejected: list[RawPicture] = []
    split_of = splits_by_name(paths)
    for path in paths:
        name = printable_name(path.name if path == root else path.relative_to(root))
        examples, problem = _index(path)
        if problem:
            rejected.append(RawPicture(name, None, reason="damaged archive", detail=problem))
        options = (caption_column, need_captions, split_of[path])
        for part in in_shards(examples):
            fingerprint = digest(name, part, stamp(path), options)
            shards.append(TarShard(path, name, tuple(part), *options, fingerprint))
    if rejected:
        shards.append(RejectedShard(tuple(rejected)))
    return Listing(root, f"{len(paths)} tar files (WebDataset)", shards)


def _index(path: Path) -> tuple[list[_Example], str]:
    """Examples in the order of the file, and what is wrong with its rest, if anything."""
    members: dict[str, dict[str, _Member]] = {}
    problem = ""
    try:
        end = check_regular(path)
        with tarfile.open(path, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # its list of all of them is of no use here
                if info.size < 0:  # the next one would be looked for before this one, for ever
                    problem = "a file of negative size"
                    break
                base = info.name.rsplit("/", 1)[-1]
                if not info.isreg() or info.issparse() or base.startswith("."):
                    continue
                stem, dot, _ = base.partition(".")
                suffix = "." + base.rsplit(".", 1)[-1].lower() if dot else ""
                if info.offset_data + info.size > end:
                    problem = TRUNCATED
                    break
                key = printable_name(info.name[: len(info.name) - len(base)] + stem)
                members.setdefault(key, {})[suffix] = _Member(suffix, info.offset_data, info.size)
            else:
                problem = _end_problem(path, archive.offset)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        problem = detail_of(error)
    examples = []
    for key, group in members.items():
        picture = next((m for s, m in group.items() if s in READABLE), None)
        picture = picture or next((m for s, m in group.items() if s in UNREADABLE), None)
        caption = next((group[s] for s in CAPTIONS if s in group), None)
        if picture or caption:
            examples.append(_Example(key, picture, caption))
    return examples, problem


def _end_problem(path: Path, offset: int) -> str:
    """What is wrong where tarfile finds no further member: it takes a broken header for the end."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if not block.strip(b"\0"):
        return ""
    return TRUNCATED if len(block) < tarfile.BLOCKSIZE else "a broken header"


def _read_member(file: Any, member: _Member) -> bytes:
    check_size(member.size)
    file.seek(member.offset)
    return file.read(member.size)
