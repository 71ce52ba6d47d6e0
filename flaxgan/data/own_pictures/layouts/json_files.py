"""Captions in one JSON file for many pictures: COCO, Karpathy's splits, LAVIS, LLaVA, kohya …

The layout of such a file is told from its contents. Annotations without captions (boxes, classes,
key points) are no evidence.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from flaxgan.data.own_pictures.columns import clean_captions
from flaxgan.data.own_pictures.folder import Found
from flaxgan.data.own_pictures.layouts.layout import Captions, Missing, Reading, broken, named
from flaxgan.data.own_pictures.layouts.tables import picture_column
from flaxgan.data.own_pictures.names import printable_name, split_of
from flaxgan.data.own_pictures.shards import RawPicture, ReadOptions

# of COCO: boxes and key points, hundreds of megabytes without a caption
NOT_CAPTIONS = re.compile(r"(instances|person_keypoints|panoptic|stuff|image_info)_", re.IGNORECASE)
LEAST_SHARE = 0.5  # of the keys of a mapping that have to be pictures
LOOKED_AT = 50  # keys and rows, to tell the layout


class _JsonLayout:
    """What the layouts of JSON files share: which files are theirs."""

    name = ""

    def probe(self, found: Found) -> Sequence[str]:
        """JSON files of this shape, and of none before it."""
        files = [
            text
            for text in found.other_texts
            if text.lower().endswith(".json") and not NOT_CAPTIONS.match(os.path.basename(text))
        ]
        return [file for file in files if self._is_of(found, file)]

    def _is_of(self, found: Found, file: str) -> bool:
        value = found.load_json(file)
        return type(self) is next((kind for kind in KINDS if kind().fits(found, file, value)), None)

    def fits(self, found: Found, file: str, value: Any) -> bool:
        """Whether the value of a file has this layout's shape."""
        raise NotImplementedError

    def read(self, found: Found, files: Sequence[str], options: ReadOptions) -> Reading:
        """As Layout."""
        captions, rejected = Captions(), []
        for file in files:
            rejected += self.add(found, file, found.load_json(file), captions, options)
        words = f"{named(files)} ({self.name})"
        return Reading(words, captions.entries(), rejected, frozenset(files))

    def add(
        self, found: Found, file: str, value: Any, captions: Captions, options: ReadOptions
    ) -> Iterator[RawPicture]:
        """Adds what the value says; gives what names no picture."""
        raise NotImplementedError


class Coco(_JsonLayout):
    """Captions of COCO (2014, 2017) and of all who write its format."""

    name = "coco"
    looks_like = (
        "`train2017/`, `val2017/`, `annotations/captions_*.json` (COCO, also beside `images/`)"
    )

    def fits(self, found: Found, file: str, value: Any) -> bool:
        """ "images" and "annotations", one of which has a caption."""
        return (
            isinstance(value, dict)
            and isinstance(value.get("images"), list)
            and isinstance(value.get("annotations"), list)
            and any(isinstance(row, tuple) for row in value["annotations"][:LOOKED_AT])
        )

    def add(
        self, found: Found, file: str, value: Any, captions: Captions, options: ReadOptions
    ) -> Iterator[RawPicture]:
        """As _JsonLayout."""
        names: dict[Any, str] = {}
        for row in value["images"]:
            if isinstance(row, dict):  # without a height
                row = row.get("id"), row.get("file_name")
            if isinstance(row, tuple) and isinstance(row[1], str):
                names[row[0]] = row[1]
        # images of two splits may have one name
        folders = {path.split(os.sep)[0] for path in found.pictures if os.sep in path}
        word = _last_word(file)
        split, start = split_of(word), word if word in folders else os.path.dirname(file)
        paths = {number: found.find(name, start) for number, name in names.items()}
        texts: dict[str, list[Any]] = {}
        for row in value["annotations"]:
            if isinstance(row, tuple) and (path := paths.get(row[0])) is not None:
                texts.setdefault(path, []).append(row[1])
        for path, values in texts.items():
            captions.add(path, clean_captions(values), detail=printable_name(file), split=split)
        missing = Missing(file)
        for number, path in paths.items():
            if path is None:
                missing.add(names[number])
        yield from missing.report()


def _last_word(file: str) -> str:
    """ "annotations/captions_train2017.json" -> "train2017"."""
    return os.path.splitext(os.path.basename(file))[0].rpartition("_")[2]


class Karpathy(_JsonLayout):
    """Karpathy's splits of COCO, Flickr8k and Flickr30k: `dataset_coco.json`."""

    name = "karpathy"
    looks_like = (
        "`dataset_coco.json`, `dataset_flickr8k.json`, `dataset_flickr30k.json` (Karpathy's splits)"
    )

    def fits(self, found: Found, file: str, value: Any) -> bool:
        """ "images" with "sentences"."""
        images = value.get("images") if isinstance(value, dict) else None
        return isinstance(images, list) and any(
            isinstance(row, dict) and isinstance(row.get("sentences"), list)
            for row in images[:LOOKED_AT]
        )

    def add(
        self, found: Found, file: str, value: Any, captions: Captions, options: ReadOptions
    ) -> Iterator[RawPicture]:
        """As _JsonLayout."""
        shown, missing = printable_name(file), Missing(file)
        for number, row in enumerate(value["images"]):
            name = row.get("filename") if isinstance(row, dict) else None
            if not isinstance(name, str):
                yield broken(f"{shown} image {number}", "no filename")
                continue
            folder = row.get("filepath")
            full = os.path.join(folder, name) if isinstance(folder, str) else name
            path = found.find(full, os.path.dirname(file))
            if path is None:
                missing.add(full)
                continue
            captions.add(
                path,
                clean_captions(row.get("sentences")),
                detail=f"{shown} image {number}",
                split=split_of(str(row.get("split", ""))),
            )
        yield from missing.report()


class Conversations(_JsonLayout):
    """Instruction data of LLaVA: the first answer about a picture is its caption."""

    name = "llava"
    looks_like = "a JSON list of `image` and `conversations` (LLaVA)"

    def fits(self, found: Found, file: str, value: Any) -> bool:
        """A list with "conversations"."""
        return isinstance(value, list) and any(
            isinstance(row, dict) and isinstance(row.get("conversations"), list)
            for row in value[:LOOKED_AT]
        )

    def add(
        self, found: Found, file: str, value: Any, captions: Captions, options: ReadOptions
    ) -> Iterator[RawPicture]:
        """As _JsonLayout."""
        missing = Missing(file)
        for number, row in enumerate(value):
            where = f"{printable_name(file)} item {number}"
            name = row.get("image") if isinstance(row, dict) else None
            if not isinstance(name, str):
                continue  # a conversation about nothing
            path = found.find(name, os.path.dirname(file))
            if path is None:
                missing.add(name)
                continue
            turns = row.get("conversations")
            answers = [
                turn.get("value")
                for turn in (turns if isinstance(turns, list) else ())
                if isinstance(turn, dict) and turn.get("from") in ("gpt", "assistant")
            ]
            captions.add(path, clean_captions(answers[:1]), detail=where)
        yield from missing.report()


class Rows(_JsonLayout):
    """A JSON list of objects that name pictures: LAVIS, `metadata.json`; also inside an object."""

    name = "json list"
    looks_like = (
        "`metadata.json`, `coco_karpathy_train.json` (LAVIS): a JSON list of objects with "
        "`file_name` or `image` and a caption"
    )

    def fits(self, found: Found, file: str, value: Any) -> bool:
        """A list of objects, one of which names a picture."""
        return any(_row_picture(found, file, row)[0] for row in _row_list(value))

    def add(
        self, found: Found, file: str, value: Any, captions: Captions, options: ReadOptions
    ) -> Iterator[RawPicture]:
        """As _JsonLayout; LAVIS has a file for each split ("coco_karpathy_train.json")."""
        missing, split = Missing(file), split_of(_last_word(file))
        for number, row in enumerate(_row_list(value)):
            where = f"{printable_name(file)} item {number}"
            path, name = _row_picture(found, file, row)
            if not name:
                yield broken(where, "it names no picture")
                continue
            if path is None:
                missing.add(name)
                continue
            captions.add_row(path, row, where, options, split=split)
        yield from missing.report()


def _row_list(value: Any) -> list[Any]:
    """The list itself, or the only list of objects in an object."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else None
    return value if isinstance(value, list) else []


def _row_picture(found: Found, file: str, row: Any) -> tuple[str | None, str]:
    """The picture of a row, and what the row calls it."""
    column = picture_column(row) if isinstance(row, dict) else None
    name = row[column] if column is not None else None
    if not isinstance(name, str) or not name:
        return None, ""
    return found.find(name, os.path.dirname(file)), name


class Mapping(_JsonLayout):
    """A JSON object from pictures to captions: kohya's `meta_cap.json`, DiffusionDB's parts."""

    name = "json object"
    looks_like = (
        "`meta_cap.json` (kohya), `part-000001.json` (DiffusionDB): a JSON object from file names "
        "to captions"
    )

    def fits(self, found: Found, file: str, value: Any) -> bool:
        """Half of the keys or more are pictures, or half of the pictures are keys."""
        if not isinstance(value, dict):
            return False
        texts = [key for key, held in value.items() if isinstance(held, str | list | dict)]
        hits = sum(found.find(key, os.path.dirname(file)) is not None for key in texts)
        return hits > 0 and hits >= LEAST_SHARE * min(len(value), len(found.pictures))

    def add(
        self, found: Found, file: str, value: Any, captions: Captions, options: ReadOptions
    ) -> Iterator[RawPicture]:
        """As _JsonLayout."""
        missing = Missing(file)
        for key, held in value.items():
            where = f"{printable_name(file)} {printable_name(key)[:80]}"
            path = found.find(key, os.path.dirname(file))
            if path is None:
                missing.add(key)
                continue
            if not isinstance(held, dict):
                captions.add(path, clean_captions(held), detail=where)
                continue
            if "p" in held and options.caption_column == "auto":  # DiffusionDB's prompt
                held = {**held, "prompt": held["p"]}
            elif "tags" in held and options.caption_column == "auto":  # where kohya has no caption
                held = {**held, "comment": held["tags"]}
            captions.add_row(path, held, where, options)
        yield from missing.report()


# a file is of the first that it fits
KINDS: tuple[type[_JsonLayout], ...] = (Karpathy, Coco, Conversations, Rows, Mapping)
