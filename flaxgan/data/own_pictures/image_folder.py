"""Picture files in folders, with captions from whatever layouts there are: see `layouts`."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flaxgan.data.own_pictures.columns import captions_of_fields
from flaxgan.data.own_pictures.folder import Found
from flaxgan.data.own_pictures.layouts import LAYOUTS, Entry, Reading
from flaxgan.data.own_pictures.layouts.folder_names import (
    Repeats,
    paired_pictures,
    repeats,
    split_folders,
    unused_texts,
)
from flaxgan.data.own_pictures.layouts.layout import named
from flaxgan.data.own_pictures.names import printable_name
from flaxgan.data.own_pictures.shards import (
    Listing,
    Problem,
    RawPicture,
    ReadOptions,
    RejectedShard,
    Shard,
    caption_lines,
    digest,
    in_shards,
    read_file,
    read_picture,
    stamp,
)
from flaxgan.errors import UserError


class _File(NamedTuple):
    """A picture, relative to the root, and what is known of it."""

    path: str
    entry: Entry


@dataclasses.dataclass(frozen=True)
class FileShard:
    """Picture files below a root."""

    root: Path
    files: tuple[_File, ...]
    caption_column: str
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
        entry = file.entry
        return read_picture(
            printable_name(file.path),
            os.path.splitext(file.path)[1].lower(),
            lambda: self._captions(entry),
            lambda: read_file(self.root / file.path),
            need_captions=self.need_captions,
            split=entry.split,
            weight=entry.weight,
        )

    def _captions(self, entry: Entry) -> list[str] | Problem:
        if not entry.text_files:
            return list(entry.captions) or (entry.reason or "no caption", entry.detail)
        found: dict[str, None] = {}
        problems: list[Problem] = []
        for text_file in entry.text_files:
            data = read_file(self.root / text_file)
            captions: list[str] | Problem
            if text_file.lower().endswith(".json"):
                captions = _captions_in_json(data, self.caption_column)
            else:
                lines = caption_lines(data)
                captions = (lines, "") if isinstance(lines, str) else lines
            if isinstance(captions, tuple):
                problems.append(captions)
            else:
                found |= dict.fromkeys(captions)
        return list(found) or problems[0]


def _captions_in_json(data: bytes, caption_column: str) -> list[str] | Problem:
    """Of a file that goes with one picture."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return "broken metadata", "its JSON cannot be read"
    if not isinstance(fields, dict):
        return "no caption", "its JSON is no object"
    return captions_of_fields(fields, caption_column)


def list_folder(found: Found, options: ReadOptions) -> Listing:
    """The pictures of a folder, with captions of the layouts that it has.

    Raises:
      UserError: a layout is there, but cannot be used; or only names of folders that are hardly
        captions.
    """
    aside = paired_pictures(found) if options.captions != "folders" else {}
    if aside:
        gone = {path for paths in aside.values() for path in paths}
        left = [path for path in found.pictures if path not in gone]
        found = dataclasses.replace(found, pictures=left)
    readings = _readings(found, options)
    rejected = [row for reading in readings for row in reading.rejected]
    pictures = list(found.pictures)
    for path, entry in {p: e for r in reversed(readings) for p, e in r.entries.items()}.items():
        if path in found.known:
            continue
        if os.path.exists(os.path.join(found.root, path)):  # hidden, or without a suffix
            pictures.append(path)
        else:
            name = printable_name(path)
            rejected.append(RawPicture(name, None, reason="file is missing", detail=entry.detail))
    pictures.sort()
    weights = repeats(found) if options.weight_column == "auto" else {}
    splits = split_folders(found.pictures)
    files = [
        _File(path, _merged(path, readings, splits.get(path, (0, ""))[1], weights))
        for path in pictures
    ]
    shards: list[Shard] = [
        FileShard(
            found.root,
            tuple(part),
            options.caption_column,
            options.need_captions,
            _fingerprint(found.root, part, options),
        )
        for part in in_shards(files)
    ]
    if rejected:
        shards.append(RejectedShard(tuple(rejected)))
    sources = [r.words for r in readings if any(e.has_captions for e in r.entries.values())]
    layout = f"pictures with {' and '.join(sources)}" if sources else "pictures without captions"
    if sources and readings[0].words == sources[0] and " captions" in sources[0]:
        layout = f"pictures in {sources[0]}"
    notes = list(_notes(files, aside, weights))
    unused = unused_texts(found, frozenset().union(*(reading.used for reading in readings)))
    without = sum(not file.entry.has_captions for file in files)
    if without and readings and unused:
        notes.append(f"{without:,} pictures have no caption; not understood: {named(unused)}")
    return Listing(
        found.root,
        layout,
        shards,
        bool(sources),
        tuple(notes),
        tuple(unused),
        weighted=any(file.entry.weight != 1.0 for file in files),
    )


def _readings(found: Found, options: ReadOptions) -> list[Reading]:
    """Of every layout that is there; of folder names only where there is no other."""
    readings: list[Reading] = []
    for layout in LAYOUTS:
        if options.captions not in ("auto", layout.name):
            continue
        if layout.name == "folders" and (readings or not options.need_captions):
            continue
        if files := layout.probe(found):
            readings.append(layout.read(found, files, options))
    if options.captions != "auto" and not readings and options.need_captions:
        layout = f"the layout {options.captions!r} (docs/data.md, Layouts)"
        raise UserError(f"{found.root} has no captions of {layout}")
    return readings


def _merged(
    path: str, readings: Sequence[Reading], split: str, weights: dict[str, Repeats]
) -> Entry:
    """What the strongest layout with a caption says, and of the others what it leaves open."""
    entries = [entry for r in readings if (entry := r.entries.get(path)) is not None]
    best = next((e for e in entries if e.has_captions), entries[0] if entries else Entry())
    split = next((e.split for e in entries if e.split), split)
    weight = next((e.weight for e in entries if e.weight != 1.0), best.weight)
    if weights and weight == 1.0 and os.sep in path:
        own = weights.get(path.split(os.sep)[-2])
        weight = own.weight if own else 1.0
    return best._replace(split=split, weight=weight)


def _notes(
    files: Sequence[_File], aside: dict[str, list[str]], weights: dict[str, Repeats]
) -> Iterator[str]:
    for folder, paths in aside.items():
        where = f"{len(paths):,} pictures in {printable_name(folder)} are left out"
        yield f"{where}: they go with others of the same names (masks, control pictures)"
    if any(weight.weight != 1.0 for weight in weights.values()):
        repeated = [f"{w.weight:.0f} x {printable_name(f)!r}" for f, w in sorted(weights.items())]
        off = "--data.weight-column '': not"
        yield f"repeats in folder names count as weights: {named(repeated)} ({off})"
    if not any(file.entry.has_captions for file in files):
        problem = next((f.entry for f in files if f.entry.reason), None)
        if problem is not None:
            yield f"{problem.reason}: {problem.detail}"


def _fingerprint(root: Path, files: Sequence[_File], options: ReadOptions) -> str:
    stamps = []
    for file in files:
        for path in (file.path, *file.entry.text_files):
            try:
                stamps.append(stamp(os.path.join(root, path)))
            except OSError:  # gone, or a broken link: said when it is read
                stamps.append(None)
    return digest(files, stamps, options.caption_column, options.need_captions)
