"""Captions beside their pictures: `x.txt`, `x.caption`, `x.json` or `x.png.txt` for `x.png`."""

import os
from collections.abc import Sequence

from flaxgan.data.own_pictures.folder import Found
from flaxgan.data.own_pictures.layouts.layout import Entry, Reading
from flaxgan.data.own_pictures.shards import ReadOptions


class SideFiles:
    """See the module. Text files count before JSON; several text files are read, all of them."""

    name = "text files"
    looks_like = (
        "`name.png` with `name.txt`, `name.caption`, `name.json` or `name.png.txt` beside it"
    )

    def probe(self, found: Found) -> Sequence[str]:
        """All files beside pictures."""
        return [text for texts in found.side_files.values() for text in texts]

    def read(self, found: Found, files: Sequence[str], options: ReadOptions) -> Reading:
        """As Layout; the files are read with their pictures."""
        entries, suffixes = {}, set()
        for picture, texts in found.side_files.items():
            plain = [t for t in texts if not t.lower().endswith(".json")]
            plain.sort(key=lambda text: not text.lower().endswith(".txt"))
            entries[picture] = Entry(text_files=tuple(plain or texts))
            suffixes |= {os.path.splitext(t)[1].lower() for t in plain or texts}
        kinds = " and ".join(sorted(suffixes))
        words = "text files" if suffixes == {".txt"} else f"{kinds} files"
        return Reading(words, entries, used=frozenset(files))
