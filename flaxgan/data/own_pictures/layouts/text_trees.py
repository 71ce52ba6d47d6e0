"""Captions in a tree of text files beside the tree of pictures: CUB, Oxford-102, MM-CelebA-HQ.

`images/001.Albatross/a.jpg` goes with `text/001.Albatross/a.txt` (Reed et al. 2016, and all
text-to-image papers on birds and flowers since), `jpg/image_1.jpg` with
`text_c10/class_00001/image_1.txt`, `images/7.jpg` with `celeba-caption/7.txt`.
"""

import collections
import os
from collections.abc import Sequence

from flaxgan.data.own_pictures.folder import Found
from flaxgan.data.own_pictures.layouts.layout import Entry, Reading
from flaxgan.data.own_pictures.shards import ReadOptions, caption_lines

SAMPLE = 8  # texts that are looked into


class TextTrees:
    """See the module."""

    name = "text tree"
    looks_like = (
        "`images/CLASS/x.jpg` with `text/CLASS/x.txt` (CUB), `jpg/x.jpg` with "
        "`text_c10/CLASS/x.txt` (Oxford-102), `images/7.jpg` with `celeba-caption/7.txt` "
        "(MM-CelebA-HQ)"
    )

    def probe(self, found: Found) -> Sequence[str]:
        """Text files of other folders that have the names of pictures."""
        pairs = _pairs(found)
        files = sorted({text for texts in pairs.values() for text in texts})
        sample = files[:: max(1, len(files) // SAMPLE)][:SAMPLE]
        return files if any(_is_caption(found, text) for text in sample) else []

    def read(self, found: Found, files: Sequence[str], options: ReadOptions) -> Reading:
        """As Layout; the files are read with their pictures."""
        pairs = _pairs(found)
        entries = {picture: Entry(text_files=texts) for picture, texts in pairs.items()}
        tops = sorted({file.split(os.sep)[0] + os.sep for file in files})
        return Reading(f"text files in {', '.join(tops[:3])}", entries, used=frozenset(files))


def _is_caption(found: Found, text: str) -> bool:
    """Whether there is a caption in a file, and not the numbers of boxes."""
    try:
        with open(found.root / text, "rb") as file:
            return not isinstance(caption_lines(file.read(65_536)), str)
    except OSError:
        return False


def _pairs(found: Found) -> dict[str, tuple[str, ...]]:
    """Picture -> text files that share its folder's name and its own, or its own alone."""
    texts = [t for t in found.other_texts if t.lower().endswith((".txt", ".caption"))]
    if not texts:
        return {}
    by_place: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    by_stem: dict[str, list[str]] = collections.defaultdict(list)
    for text in texts:
        folder, stem = _place(text)
        by_place[folder, stem].append(text)
        by_stem[stem].append(text)
    stems = collections.Counter(_place(picture)[1] for picture in found.pictures)
    pairs = {}
    for picture in found.pictures:
        folder, stem = _place(picture)
        fitting = by_place.get((folder, stem), [])
        if not fitting and stems[stem] == 1 and _one_a_tree(by_stem.get(stem, [])):
            fitting = by_stem.get(stem, [])
        if fitting:
            pairs[picture] = tuple(fitting)
    return pairs


def _place(path: str) -> tuple[str, str]:
    """Name of the folder, and of the file without suffix."""
    folder, base = os.path.split(path)
    return os.path.basename(folder), os.path.splitext(base)[0]


def _one_a_tree(texts: Sequence[str]) -> bool:
    """Whether a name occurs at most once in each folder at the top."""
    tops = [text.split(os.sep)[0] for text in texts]
    return len(set(tops)) == len(tops)
