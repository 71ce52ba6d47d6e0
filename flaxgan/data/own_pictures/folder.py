"""What a walk over a folder meets, and which of its pictures a name means."""

import collections
import dataclasses
import functools
import gc
import json
import os
from pathlib import Path
from typing import Any

from flaxgan.clean_text import UTF16_MARKS
from flaxgan.data.own_pictures.names import inside, printable_name
from flaxgan.data.own_pictures.shards import (
    READABLE,
    UNREADABLE,
    RawPicture,
    check_regular,
)
from flaxgan.errors import UserError

ARCHIVES = (".tar", ".parquet", ".arrow")
JUNK = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})
ABOVE = (*(f"metadata.{kind}" for kind in ("jsonl", "csv", "parquet", "json")), "annotations")
TEXT_SUFFIXES = frozenset(
    {".txt", ".caption", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".token", ".parquet"}
)


@dataclasses.dataclass
class Found:
    """Files below a folder; paths relative to it, sorted.

    Attributes:
      root: the folder.
      pictures: by their suffix.
      texts: what may hold captions: text, JSON, tables.
      archives: tar, Parquet and Arrow files.
      others: suffix -> the first other file of it.
      problems: folders that cannot be read.
    """

    root: Path
    pictures: list[str] = dataclasses.field(default_factory=list)
    texts: list[str] = dataclasses.field(default_factory=list)
    archives: list[str] = dataclasses.field(default_factory=list)
    others: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: list[RawPicture] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """The pictures, to look them up."""
        return frozenset(self.pictures)

    @functools.cached_property
    def stems(self) -> dict[str, list[str]]:
        """Path without suffix -> pictures."""
        stems: dict[str, list[str]] = {}
        for path in self.pictures:
            stems.setdefault(os.path.splitext(path)[0], []).append(path)
        return stems

    @functools.cached_property
    def side_files(self) -> dict[str, list[str]]:
        """Picture -> text and JSON files beside it: x.txt, x.caption, x.json, or x.png.txt."""
        sides: dict[str, list[str]] = {}
        for text in self.texts:
            stem, suffix = os.path.splitext(text)
            if suffix.lower() in (".txt", ".caption", ".json"):
                owners = [stem] if stem in self.known else self.stems.get(stem, [])
                for picture in owners:
                    sides.setdefault(picture, []).append(text)
        return sides

    @functools.cached_property
    def other_texts(self) -> list[str]:
        """Those of `texts` that lie beside no picture of their name."""
        sides = {text for texts in self.side_files.values() for text in texts}
        return [text for text in self.texts if text not in sides]

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = collections.defaultdict(list)
        for path in self.pictures:
            base = os.path.basename(path)
            names[base].append(path)
            names[os.path.splitext(base)[0]].append(path)
        return names

    def find(self, name: str, folder: str = "") -> str | None:
        """The picture that a caption file means, however its author wrote the path.

        Args:
          name: a path relative to the file's folder or to the root, an absolute path of another
            machine, a bare file name, with or without suffix; with slashes or backslashes.
          folder: of the file that names it, relative to the root.

        Returns:
          None where there is none, or several that fit as well.
        """
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            for start in (folder, ""):
                path = os.path.normpath(os.path.join(start, written))
                if path in self.known:
                    return path
        parts = written.split("/")
        candidates = self._by_name.get(parts[-1], ())
        if len(candidates) == 1:
            return candidates[0]
        common = {path: _common_end(os.path.splitext(path)[0], parts) for path in candidates}
        best = [path for path in candidates if common[path] == max(common.values())]
        return best[0] if len(best) == 1 else None

    def load_json(self, file: str) -> Any:
        """The value in a JSON file of `texts`; None where there is none. Kept.

        Annotations of COCO come as (image id, caption) and its images as (id, file name), because
        a dictionary for each takes five times the memory.
        """
        if file not in self._json:
            collected = gc.isenabled()
            gc.disable()  # it looks again and again through all that is read: a third of the time
            try:
                self._json[file] = json.loads(self.read_text(file), object_hook=_slim)
            except (OSError, ValueError, RecursionError):
                self._json[file] = None
            finally:
                if collected:
                    gc.enable()
        return self._json[file]

    @functools.cached_property
    def _json(self) -> dict[str, Any]:
        return {}

    def read_text(self, file: str, most: int = -1) -> str:
        """A text file, or its beginning.

        Bytes that are no UTF-8 become lone surrogates, which `clean_captions` finds in the one
        line that has them.

        Args:
          file: relative to the root.
          most: bytes; -1: all.

        Raises:
          OSError: it cannot be read.
        """
        check_regular(self.root / file)
        with open(self.root / file, "rb") as opened:
            data = opened.read(most)
        if data[:2] in UTF16_MARKS:
            return data.decode("utf-16", "replace")
        return data.decode("utf-8-sig", "surrogateescape")

    def inside(self, folder: str, name: str) -> str | None:
        """The path of a file, as metadata of Hugging Face's imagefolder names it; None: outside.

        Args:
          folder: of the metadata, relative to the root, which has to hold the file.
          name: relative to it, of a file that need not be there, or look like a picture.
        """
        usual = os.path.normpath(os.path.join(folder, name))
        if usual in self.known:
            return usual
        base = self.root / folder
        paths = [inside(base, written) for written in (name, name.replace("\\", "/"))]
        if None in paths:
            return None
        path = next((p for p in paths if p is not None and os.path.exists(p)), paths[0])
        return path[len(os.path.join(os.path.abspath(self.root), "")) :]


def _common_end(path: str, parts: list[str]) -> int:
    """How many of the last parts of two paths are equal; suffixes left aside."""
    stem = [*parts[:-1], os.path.splitext(parts[-1])[0]]
    count = 0
    for ours, theirs in zip(reversed(path.split(os.sep)), reversed(stem), strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def _slim(fields: dict[str, Any]) -> Any:
    if "image_id" in fields:
        if "caption" in fields and not fields.keys() & {"image", "file_name", "filename"}:
            return fields["image_id"], fields["caption"]
        if "bbox" in fields or "segmentation" in fields:
            return None
    elif "file_name" in fields and "id" in fields and "height" in fields:
        return fields["id"], fields["file_name"]
    return fields


def walk(root: Path) -> Found:
    """All files below a folder, hidden ones left out; folders reached by links too, once each.

    Pipes and devices are met, too: reading them is up to `read_file`.

    Raises:
      UserError: the folder cannot be read.
    """
    found = Found(root)
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
            if not name.startswith("."):
                _sort_in(found, prefix + name)
    found.pictures.sort()
    found.texts.sort()
    found.archives.sort()
    return found


def _sort_in(found: Found, path: str) -> None:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in READABLE or suffix in UNREADABLE:
        found.pictures.append(path)
        return
    if suffix in ARCHIVES and os.path.isfile(os.path.join(found.root, path)):
        found.archives.append(path)
    if suffix in TEXT_SUFFIXES:
        found.texts.append(path)
    elif suffix not in ARCHIVES:
        found.others.setdefault(suffix, path)


def file_above(root: Path) -> str:
    """The name of what holds captions in the folder above, which may be the data set's; or ""."""
    return next((name for name in ABOVE if (root.parent / name).exists()), "")
