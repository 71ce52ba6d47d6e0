"""Picture files in folders, with captions in text files, in metadata files, or by folder name.

Metadata files are those of Hugging Face's imagefolder: `metadata.jsonl` or `metadata.csv` in any
folder, with `file_name` relative to it.
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxgan.clean_text import UTF16_MARKS
from flaxgan.data.captions import readable
from flaxgan.data.own_pictures.shards import (
    READABLE,
    SPLITS,
    UNREADABLE,
    Listing,
    RawPicture,
    RejectedShard,
    Shard,
    caption_lines,
    caption_of,
    check_regular,
    clean_captions,
    column_names,
    detail_of,
    digest,
    find_caption_column,
    in_shards,
    inside,
    no_caption_column,
    printable_name,
    read_file,
    read_picture,
    stamp,
)
from flaxgan.errors import UserError

METADATA = ("metadata.jsonl", "metadata.csv")
CAPTION_FILES = (".txt", ".caption")
ARCHIVES = (".tar", ".parquet")
JUNK = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})


class _File(NamedTuple):
    """A picture, relative to the root, and where its captions are, or why there are none."""

    path: str
    text_file: str | None = None
    captions: tuple[str, ...] | None = None
    split: str = ""
    reason: str = "no caption"
    detail: str = ""


class Found(NamedTuple):
    """What a walk over the folder met; paths relative to it, sorted."""

    pictures: list[str]
    caption_files: dict[str, str]  # path without suffix -> path
    metadata: list[str]
    archives: list[str]  # .tar and .parquet files
    problems: list[RawPicture]  # folders that cannot be read


class _Described(NamedTuple):
    """What metadata says about a picture.

    Attributes:
      captions: of all lines that name it.
      reason: why there are none.
      detail: the line.
    """

    captions: tuple[str, ...]
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class FileShard:
    """Picture files below a root."""

    root: Path
    files: tuple[_File, ...]
    need_captions: bool
    fingerprint: str

    @property
    def size(self) -> int:
        """As Shard."""
        return len(self.files)

    def read(self) -> Iterator[RawPicture]:
        """As Shard."""
        for file in self.files:
            yield self._read(file)

    def _read(self, file: _File) -> RawPicture:
        name = printable_name(file.path)
        picture = read_picture(
            name,
            os.path.splitext(file.path)[1].lower(),
            lambda: self._captions(file),
            lambda: read_file(self.root / file.path),
            need_captions=self.need_captions,
            split=file.split,
        )
        if file.detail and picture.reason == file.reason:  # why metadata gives no caption
            return dataclasses.replace(picture, detail=file.detail)
        return picture

    def _captions(self, file: _File) -> list[str] | str:
        if file.text_file is not None:
            return caption_lines(read_file(self.root / file.text_file))
        return file.reason if file.captions is None else list(file.captions)


def list_folder(
    root: Path,
    found: Found,
    *,
    caption_column: str,
    templates: Sequence[str],
    need_captions: bool,
) -> Listing:
    """The pictures of a folder.

    Where there is a metadata file, captions come from there, and from text files for pictures that
    it does not name; else from text files `name.txt` beside `name.png`, one caption a line; else
    from the names of two or more folders.

    Args:
      root: the folder.
      found: in it.
      caption_column: of metadata files; "auto": the first of "text", "caption" …
      templates: of captions from folder names, see DataConfig.
      need_captions: whether a picture without one is of no use.

    Raises:
      UserError: metadata has no such column.
    """
    described, rejected = _read_metadata(root, found.metadata, caption_column, need_captions)
    known = set(found.pictures)
    # metadata can name hidden files, and files without a suffix
    named = [p for p in described if p not in known and os.path.exists(os.path.join(root, p))]
    found = found._replace(pictures=sorted(found.pictures + named)) if named else found
    split_of = _splits(found.pictures)
    files: list[_File] = []
    if found.metadata:
        layout = "pictures with " + " and ".join(sorted({Path(m).name for m in found.metadata}))
    elif any(os.path.splitext(path)[0] in found.caption_files for path in found.pictures):
        layout = "pictures with text files"
    else:
        layout = ""
    classes = {} if layout else _classes(found.pictures, split_of, templates)
    for path in found.pictures:
        text_file = found.caption_files.get(os.path.splitext(path)[0])
        line = described.pop(path, None)
        captions = line.captions if line and line.captions else classes.get(path)
        if captions is not None:
            text_file = None
        file = _File(path, text_file, captions, split_of.get(path, ""))
        if line and line.reason and text_file is None:
            file = file._replace(reason=line.reason, detail=line.detail)
        files.append(file)
    rejected += [
        RawPicture(printable_name(path), None, reason="file is missing", detail=line.detail)
        for path, line in described.items()
    ]
    shards: list[Shard] = [
        FileShard(root, tuple(part), need_captions, _fingerprint(root, part, need_captions))
        for part in in_shards(files)
    ]
    if rejected:
        shards.append(RejectedShard(tuple(rejected)))
    if classes:
        count = len(set(classes.values()))
        layout = f"pictures in {count} folders, whose names are the captions"
    return Listing(root, layout or "pictures without captions", shards, bool(layout or classes))


def walk(root: Path) -> Found:
    """All files below a folder, hidden ones left out; folders reached by links too, once each.

    Pipes and devices are met, too: reading them is up to `read_file`.

    Raises:
      UserError: the folder cannot be read.
    """
    found = Found([], {}, [], [], [])
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        if error.filename == str(root):
            raise UserError(f"cannot read folder {root}: {error.strerror}") from error
        name = printable_name(os.path.relpath(error.filename, root))
        detail = error.strerror
        found.problems.append(RawPicture(name, None, reason="unreadable folder", detail=detail))

    for folder, names, files in os.walk(root, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in JUNK)
        prefix = os.path.relpath(folder, root) + os.sep if folder != str(root) else ""
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            suffix = suffix.lower()
            if name.startswith("."):
                continue
            if suffix in READABLE or suffix in UNREADABLE:
                found.pictures.append(prefix + name)
            elif name.lower() in METADATA:
                found.metadata.append(prefix + name)
            elif suffix in CAPTION_FILES:
                found.caption_files[prefix + stem] = prefix + name
            elif suffix in ARCHIVES and os.path.isfile(os.path.join(folder, name)):
                found.archives.append(prefix + name)
    found.pictures.sort()
    found.archives.sort()
    return found


def _splits(paths: Sequence[str]) -> dict[str, str]:
    """Path -> "train" or "test", where folders at the top are named so, both of them."""
    tops = {path: SPLITS.get(path.split(os.sep)[0].lower(), "") for path in paths if os.sep in path}
    return {p: s for p, s in tops.items() if s} if {"train", "test"} <= set(tops.values()) else {}


def _classes(
    paths: Sequence[str], split_of: dict[str, str], templates: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Path -> captions from the name of its folder, where there are two names or more."""
    names: dict[str, str] = {}
    for path in paths:
        parts = path.split(os.sep)[:-1]
        if path in split_of:
            parts = parts[1:]
        if parts:
            folder = printable_name(parts[-1])
            names[path] = readable(folder) or folder
    captions = {
        name: tuple(clean_captions([template.replace("{}", name) for template in templates]))
        for name in set(names.values())
    }
    return {path: captions[name] for path, name in names.items()} if len(captions) > 1 else {}


def _fingerprint(root: Path, files: Sequence[_File], need_captions: bool) -> str:
    stamps = []
    for file in files:
        for path in (file.path, file.text_file):
            try:
                stamps.append(stamp(os.path.join(root, path)) if path else None)
            except OSError:  # gone, or a broken link: said when it is read
                stamps.append(None)
    return digest(files, stamps, need_captions)


def _read_metadata(
    root: Path, files: Sequence[str], column: str, need_captions: bool
) -> tuple[dict[str, _Described], list[RawPicture]]:
    """Path of a picture -> what all lines that name it say; and lines that name none."""
    captions: dict[str, list[str]] = {}
    problems: dict[str, tuple[str, str]] = {}
    rejected: list[RawPicture] = []
    prefix = len(os.path.join(root, ""))
    for file in files:
        columns: set[str] = set()
        try:
            check_regular(root / file)
            data = (root / file).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot read {root / file}: {reason}") from error
        folder = os.path.dirname(os.path.join(root, file))
        for number, fields in _lines(file, data):
            where = f"{printable_name(file)} line {number}"
            if isinstance(fields, str):
                rejected.append(RawPicture(where, None, reason="broken metadata", detail=fields))
                continue
            columns |= set(fields)
            name = fields.get("file_name")
            path = inside(folder, name) if isinstance(name, str) and name.strip() else None
            if path is None:
                named = isinstance(name, str) and name.strip()
                detail = f"{name[:80]!r} is outside the folder" if named else "no file_name"
                rejected.append(RawPicture(where, None, reason="broken metadata", detail=detail))
                continue
            path = path[prefix:]
            texts = caption_of(fields, column)
            if isinstance(texts, str):
                problems.setdefault(path, (texts, where))
                texts = []
            captions.setdefault(path, []).extend(texts)
        _check_columns(root / file, columns, column, need_captions)
    return {
        path: _Described(tuple(dict.fromkeys(texts)), *problems.get(path, ("", "")))
        for path, texts in captions.items()
    }, rejected


def _lines(file: str, data: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and fields of each line, or what is wrong with it.

    Bytes that are no UTF-8 become lone surrogates, which `clean_captions` finds in the one line.
    """
    if data[:2] in UTF16_MARKS:
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "surrogateescape")
    if file.lower().endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text, newline=""))
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, str(error)
                continue
            yield reader.line_num, {k: v for k, v in fields.items() if k is not None}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {detail_of(error)[:80]}"
            continue
        yield number, fields if isinstance(fields, dict) else "not a JSON object"


def _check_columns(path: Path, columns: set[str], column: str, need_captions: bool) -> None:
    if columns and "file_name" not in columns:
        raise UserError(f"{path} has no column file_name; it has: {column_names(columns)}")
    if need_captions and columns and find_caption_column(columns, column) is None:
        raise no_caption_column(path, columns, column)
