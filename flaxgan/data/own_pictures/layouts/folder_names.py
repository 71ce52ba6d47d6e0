"""Captions from the names of folders, where nothing speaks against it; repeats of kohya.

`cat/`, `dog/` are classes. `10_sks dog/` (kohya's trainers) is a caption, and each picture counts
ten times. `n01440764/` is a synset of WordNet: its words come from `LOC_synset_mapping.txt` or
`synset_words.txt`. `train2017/`, `00001/`, `masks/` are no captions.
"""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from flaxgan.data.captions import readable
from flaxgan.data.own_pictures.columns import clean_captions
from flaxgan.data.own_pictures.folder import Found, file_above
from flaxgan.data.own_pictures.layouts.layout import Entry, Reading, named
from flaxgan.data.own_pictures.names import printable_name, split_of
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.errors import UserError

# of folders that hold all pictures, or part of them in some order
CONTAINERS = frozenset(
    {"image", "images", "img", "imgs", "jpg", "jpeg", "png", "picture", "pictures", "pics"}
    | {"photo", "photos", "frames", "raw", "original", "originals", "resized", "cropped", "full"}
    | {"thumbs", "thumbnails", "data", "dataset", "download", "downloads", "file", "files"}
    | {"part", "parts", "shard", "shards", "chunk", "chunks", "batch", "batches", "dir", "folder"}
    | {"subset", "subfolder", "group", "split", "page", "set", "untitled", "new"}
)
# of pictures that go with others
ASIDE = frozenset(
    {"mask", "masks", "seg", "segs", "segmentation", "segmentations", "trimap", "trimaps"}
    | {"conditioning", "conditioning_image", "conditioning_images", "control", "controls"}
    | {"control_images", "depth", "depths", "canny", "edge", "edges", "pose", "poses"}
    | {"normal", "normals", "annotation", "annotations", "label", "labels", "sketch", "sketches"}
)
NUMBER = re.compile(r"[\d\W_]+")
GAN_SIDES = re.compile(r"(train|test|val)[ab]", re.IGNORECASE)  # of CycleGAN's data
SYNSET = re.compile(r"n\d{8}")
SYNSET_FILES = frozenset({"loc_synset_mapping.txt", "synset_words.txt", "words.txt"})
REPEATED = re.compile(r"(\d{1,3})_+(\S.*)", re.DOTALL)  # with four digits it is a year
# files that say nothing of the captions of single pictures
TELLS_NOTHING = re.compile(
    r"(readme|licen[cs]e|requirements|citation|rejected|classes|notes?)\b", re.IGNORECASE
)


class Repeats(NamedTuple):
    """Of a folder "10_sks dog".

    Attributes:
      weight: 10.
      words: "sks dog".
    """

    weight: float
    words: str


class FolderNames:
    """See the module; the last of the layouts."""

    name = "folders"
    looks_like = (
        "`cat/`, `dog/` …, or `10_sks dog/` (kohya), `n01440764/` with `LOC_synset_mapping.txt`"
    )

    def probe(self, found: Found) -> Sequence[str]:
        """The pictures in folders whose names can be captions, if there are two such names."""
        names = class_names(found)
        kohya = repeats(found)
        if len(set(names.values())) > 1 or kohya:
            return sorted(names)
        return []

    def read(self, found: Found, files: Sequence[str], options: ReadOptions) -> Reading:
        """As Layout.

        Raises:
          UserError: something speaks against it, and `options.captions` does not insist.
        """
        names, kohya = class_names(found), repeats(found)
        words_of, used = _synsets(found, set(names.values()))
        weighted = any(repeated.weight > 1 for repeated in kohya.values())
        if options.captions != "folders" and not weighted:
            against = suspicion(found, sorted(set(names.values())), bool(words_of))
            if against:
                raise UserError(
                    f"no captions for the pictures in {found.root} but the names of their folders "
                    f"({named(sorted(set(names.values())))}), and {against}. Put captions beside "
                    "the pictures (docs/data.md, Layouts), or insist with --data.captions folders"
                )
        captions = {}
        for folder in set(names.values()):
            shown = words_of.get(folder) or _shown(kohya[folder].words if kohya else folder)
            texts = clean_captions(
                [template.replace("{}", shown) for template in options.templates]
            )
            captions[folder] = () if isinstance(texts, str) else tuple(texts)
        entries = {path: Entry(captions=captions[folder]) for path, folder in names.items()}
        words = f"{len(captions)} folders, whose names are the captions"
        if len(captions) == 1:
            words = "a folder, whose name is the caption"
        return Reading(words, entries, used=frozenset(used))


def _shown(folder: str) -> str:
    return readable(printable_name(folder)) or printable_name(folder)


def class_names(found: Found) -> dict[str, str]:
    """Picture -> the innermost folder that it lies in, without those of splits at the top."""
    names = {}
    splits, shared = split_folders(found.pictures), len(_common(found.pictures))
    for path in found.pictures:
        parts = path.split(os.sep)[:-1]
        if path in splits:
            del parts[splits[path][0]]
        if len(parts) > shared or (parts and not splits):
            names[path] = parts[-1]
    return names


def _common(paths: Sequence[str]) -> list[str]:
    """The folders that all paths begin with."""
    if not paths:
        return []
    first, last = min(paths).split(os.sep)[:-1], max(paths).split(os.sep)[:-1]
    count = 0
    while count < min(len(first), len(last)) and first[count] == last[count]:
        count += 1
    return first[:count]


def split_folders(paths: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Picture -> depth of the folder that names its split, and "train" or "test".

    Only where the folders at one depth, below what all paths share, name both.
    """
    depth = len(_common(paths))
    splits = {}
    for path in paths:
        parts = path.split(os.sep)[:-1]
        if len(parts) > depth and (split := split_of(parts[depth])):
            splits[path] = depth, split
    return splits if {"train", "test"} <= {split for _, split in splits.values()} else {}


def repeats(found: Found) -> dict[str, Repeats]:
    """Folder name -> repeats, where all innermost folders are written as kohya's.

    Names that only count (1_cat, 2_dog, 3_cow; 01_cat) are classes in an order: of weight 1.
    """
    folders = {path.split(os.sep)[-2] if os.sep in path else "" for path in found.pictures}
    matches = {folder: REPEATED.fullmatch(folder) for folder in folders}
    if not folders or not all(matches.values()):
        return {}
    numbers = sorted(int(match[1]) for match in matches.values() if match)
    padded = any(match[1].startswith("0") for match in matches.values() if match)
    counting = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    ordered = padded or (counting and numbers[0] <= 1)
    return {
        folder: Repeats(1.0 if ordered else float(match[1]), match[2].replace("_", " ").strip())
        for folder, match in matches.items()
        if match
    }


def _synsets(found: Found, folders: set[str]) -> tuple[dict[str, str], list[str]]:
    """Synset -> its first word, from the usual files; and the files that were read."""
    if not folders or not all(SYNSET.fullmatch(folder) for folder in folders):
        return {}, []
    words: dict[str, str] = {}
    used = []
    for text in found.texts:
        if os.path.basename(text).lower() in SYNSET_FILES:
            used.append(text)
            for line in found.read_text(text).splitlines():
                synset, _, meaning = line.replace("\t", " ").partition(" ")
                if synset in folders and meaning.strip():
                    words.setdefault(synset, meaning.split(",")[0].strip())
    return words if words.keys() >= folders else {}, used


def suspicion(found: Found, folders: Sequence[str], synsets_known: bool) -> str:
    """What speaks against these names being captions; empty: nothing."""
    numbers, containers = [], []
    for folder in folders:
        shown, plain = printable_name(folder), NUMBER.sub(" ", folder.lower()).strip()
        if split_of(folder) or GAN_SIDES.fullmatch(folder):
            return f"{shown} names a split, not what is in the pictures"
        if SYNSET.fullmatch(folder) and not synsets_known:
            return f"{shown} is a synset of WordNet, and LOC_synset_mapping.txt is not there"
        if not plain:
            numbers.append(shown)
        elif plain.replace(" ", "_") in CONTAINERS:
            containers.append(shown)
    if 2 * len(numbers) >= len(folders):
        return f"{numbers[0]} is a number"
    if 2 * (len(numbers) + len(containers)) >= len(folders):
        return f"{containers[0]} says nothing of what is in the pictures"
    paired = next((f for f in folders if f.lower() in ASIDE), "")
    if paired and any(f.lower() not in ASIDE and _pairs_up(found, f, paired) for f in folders):
        return f"the pictures in {printable_name(paired)} go with others of the same names"
    if above := file_above(found.root):
        return f"{above} lies one folder up: --data.path {found.root.parent}"
    if unused := unused_texts(found):
        texts = "is a file" if len(unused) == 1 else "are files"
        return f"{named(unused)} {texts} that may hold captions in a form unknown here"
    return ""


def unused_texts(found: Found, used: frozenset[str] = frozenset()) -> list[str]:
    """Files that may hold captions, and that no layout understood; printable."""
    return [
        printable_name(text)
        for text in found.texts
        if text not in used
        and not TELLS_NOTHING.match(os.path.basename(text))
        and os.path.basename(text).lower() not in SYNSET_FILES
    ]


def _pairs_up(found: Found, folder: str, other: str) -> bool:
    def stems(name: str) -> set[str]:
        return {
            os.path.splitext(os.path.basename(path))[0]
            for path in found.pictures
            if name in path.split(os.sep)[:-1]
        }

    return len(stems(folder) & stems(other)) > len(stems(other)) / 2


def paired_pictures(found: Found) -> dict[str, list[str]]:
    """Folder of masks or control pictures -> those in it that go with a picture beside it.

    `masks/x.png` goes with `images/x.jpg`: the paths differ in one folder, whose name is one of
    ASIDE. A picture with a caption of its own beside it is none of them.
    """
    folders = {folder for path in found.pictures for folder in path.lower().split(os.sep)[:-1]}
    if not folders & ASIDE:
        return {}
    places: set[tuple[str, ...]] = set()
    aside: list[tuple[str, int, tuple[str, ...]]] = []
    for path in found.pictures:
        parts = os.path.splitext(path)[0].split(os.sep)
        for depth, folder in enumerate(parts[:-1]):
            place = (*parts[:depth], "", *parts[depth + 1 :])
            if folder.lower() not in ASIDE:
                places.add(place)
            elif path not in found.side_files:
                aside.append((path, depth, place))
    paired: dict[str, list[str]] = {}
    for path, depth, place in aside:
        if place in places:
            folder = os.sep.join(path.split(os.sep)[: depth + 1])
            paired.setdefault(folder, []).append(path)
    return paired
