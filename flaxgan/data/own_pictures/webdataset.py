"""WebDataset: tar files in which files of one name, up to its first dot, make an example.

Nothing is unpacked: an index of the tar files says where each picture lies.
"""

import dataclasses
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxgan.data.own_pictures.archives import list_archives
from flaxgan.data.own_pictures.columns import captions_of_fields, no_weight, weight_in
from flaxgan.data.own_pictures.names import printable_name
from flaxgan.data.own_pictures.shards import (
    READABLE,
    UNREADABLE,
    Listing,
    Problem,
    RawPicture,
    ReadOptions,
    Shard,
    caption_lines,
    check_regular,
    check_size,
    detail_of,
    digest,
    in_shards,
    read_picture,
    reason_of,
    stamp,
)
from flaxgan.errors import UserError

TEXTS = ("txt", "caption")
TRUNCATED = "it ends in the middle of a file"


class _Member(NamedTuple):
    """Where a file lies in a tar file.

    Attributes:
      suffix: all after the first dot of its name, in lower case: "jpg", "cond.png".
      offset, size: bytes.
    """

    suffix: str
    offset: int
    size: int

    @property
    def kind(self) -> str:
        """What follows the last dot, with a dot: ".png"."""
        return "." + self.suffix.rsplit(".", 1)[-1]


class _Example(NamedTuple):
    """Members with one key.

    Attributes:
      picture: None: there is none.
      texts: members with captions, one a line.
      json: member with fields, one of which can be a caption.
    """

    key: str
    picture: _Member | None
    texts: tuple[_Member, ...]
    json: _Member | None


@dataclasses.dataclass(frozen=True)
class TarShard:
    """Examples of one tar file."""

    path: Path
    name: str
    examples: tuple[_Example, ...]
    options: ReadOptions
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
        fields: dict[str, Any] = {}
        problem = "no caption"
        if example.json is not None and (self.options.has_weights or not example.texts):
            fields, problem = self._fields(file, example.json)
        weight = weight_in(fields, self.options.weight_column)
        if weight is None:
            reason, detail = "no weight", no_weight(fields, self.options.weight_column)
            return RawPicture(name, None, reason=reason, detail=detail, split=self.split)
        return read_picture(
            name,
            picture.kind,
            lambda: self._captions(file, example.texts, fields, problem),
            lambda: _read_member(file, picture),
            need_captions=self.options.need_captions,
            split=self.split,
            weight=weight,
        )

    def _fields(self, file: Any, member: _Member) -> tuple[dict[str, Any], str]:
        """Of the JSON member, and what is wrong with it."""
        try:
            fields = json.loads(_read_member(file, member))
        except (ValueError, RecursionError, OSError):
            return {}, "broken metadata"
        return (fields, "") if isinstance(fields, dict) else ({}, "no caption")

    def _captions(
        self, file: Any, texts: Sequence[_Member], fields: dict[str, Any], problem: str
    ) -> list[str] | Problem:
        found: dict[str, None] = {}
        for member in texts:
            captions = caption_lines(_read_member(file, member))
            if isinstance(captions, str):
                problem = captions
            else:
                found |= dict.fromkeys(captions)
        if found or texts or not fields:
            return list(found) or (problem, "")
        return captions_of_fields(fields, self.options.caption_column)


def list_tars(root: Path, paths: Sequence[Path], options: ReadOptions) -> Listing:
    """The examples of tar files.

    Args:
      root: folder of all of them, or the only one.
      paths: the files, sorted.
      options: columns are fields of .json members; .txt members are captions, one a line; pictures
        are members such as "jpg", or the one that `image_column` names.

    Raises:
      UserError: several pictures in an example, and none of them named.
    """

    def shards_of(path: Path, name: str, split: str) -> tuple[list[Shard], str]:
        examples, problem = _index(path, options)
        shards: list[Shard] = []
        for part in in_shards(examples):
            fingerprint = digest(name, part, stamp(path), options, split)
            shards.append(TarShard(path, name, tuple(part), options, split, fingerprint))
        return shards, problem

    return list_archives(root, paths, "tar files (WebDataset)", shards_of, options)


def _index(path: Path, options: ReadOptions) -> tuple[list[_Example], str]:
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
                stem, _, suffix = base.partition(".")
                suffix = suffix.lower()
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
        picture = _picture(path, key, group, options.image_column)
        texts = tuple(m for m in group.values() if m.suffix.rsplit(".", 1)[-1] in TEXTS)
        fields = next((m for m in group.values() if m.kind == ".json"), None)
        if picture or texts or fields:
            examples.append(_Example(key, picture, _by_suffix(texts), fields))
    return examples, problem


def _by_suffix(members: Sequence[_Member]) -> tuple[_Member, ...]:
    return tuple(sorted(members, key=lambda m: (TEXTS.index(m.kind[1:]), m.suffix)))


def _picture(path: Path, key: str, group: dict[str, _Member], wish: str) -> _Member | None:
    """The one that is trained on: "jpg" before "cond.png"; readable ones before others."""
    if wish != "auto":
        return group.get(wish.lower().lstrip("."))
    for kinds in (READABLE, UNREADABLE):
        pictures = [m for m in group.values() if m.kind in kinds]
        plain = [m for m in pictures if "." not in m.suffix]
        chosen = plain or pictures
        if len(chosen) > 1:
            names = ", ".join(sorted(printable_name(m.suffix) for m in chosen))
            raise UserError(
                f"{path}: example {key} has {len(chosen)} pictures: {names}; name the one to train "
                f"on: --data.image-column {printable_name(chosen[0].suffix)}"
            )
        if chosen:
            return chosen[0]
    return None


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
