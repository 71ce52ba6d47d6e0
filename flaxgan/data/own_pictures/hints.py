"""What lies in a folder that cannot be read, and what to do about it: for errors."""

import os
from collections.abc import Iterator, Sequence

from flaxgan.data.own_pictures.folder import Found, file_above
from flaxgan.data.own_pictures.layouts.layout import named
from flaxgan.data.own_pictures.names import printable_name

PACKED = (".zip", ".7z", ".rar", ".gz", ".tgz", ".xz", ".bz2", ".zst")
FILES = "write its pictures out as files"
PICKLE = f"is pickled Python, which is not opened because it can run code: {FILES}"
TFRECORD = f"is TFRecord, which only TensorFlow reads: {FILES}, or make a TFDS data set of it"
# suffix -> what it is, and the way to pictures
KINDS = {
    ".mdb": f"is an LMDB database: {FILES}",
    ".lmdb": f"is an LMDB database: {FILES}",
    ".h5": f"is HDF5: {FILES}",
    ".hdf5": f"is HDF5: {FILES}",
    ".npz": f"is NumPy's: {FILES}",
    ".npy": f"is NumPy's: {FILES}",
    ".pkl": PICKLE,
    ".pickle": PICKLE,
    ".bin": f"is of an unknown kind: {FILES}",
    ".mat": "is MATLAB's: write what it says as metadata.jsonl",
    ".xml": "is XML: write its captions as metadata.jsonl",
}


def hints(found: Found, unused: Sequence[str]) -> str:
    """What there is instead of captions or pictures, "; " before each; empty: nothing known.

    Args:
      found: in the folder.
      unused: its files of text that were not understood.
    """
    return "".join(f"; {hint}" for hint in list(_hints(found, unused))[:4])


def _hints(found: Found, texts: Sequence[str]) -> Iterator[str]:
    if prepared := _prepared_tfds(found):
        yield (
            f"{prepared} is a prepared TFDS data set: --data.path None --data.name NAME "
            "--data.data-dir FOLDER"
        )
    for suffix, path in sorted(found.others.items()):
        shown = printable_name(path)
        if ".tfrecord" in path.lower():
            yield f"{shown} {TFRECORD}"
        elif suffix in PACKED:
            yield f"unpack {shown} first"
        elif suffix in KINDS and not prepared:
            yield f"{shown} {KINDS[suffix]}"
    if above := file_above(found.root):
        yield f"{above} lies one folder up: --data.path {found.root.parent}"
    if texts and not prepared:
        if (urls := next((text for text in texts if _holds_urls(found, text)), None)) is not None:
            yield f"{urls} is a list of addresses: download the pictures first (img2dataset)"
        else:
            yield f"{named(texts)}: not understood (docs/data.md, Layouts)"


def _prepared_tfds(found: Found) -> str:
    folders = [os.path.dirname(text) for text in found.texts if text.endswith("features.json")]
    infos = {os.path.dirname(t) for t in found.texts if t.endswith("dataset_info.json")}
    return next((printable_name(f or found.root) for f in folders if f in infos), "")


def _holds_urls(found: Found, text: str) -> bool:
    if not text.lower().endswith((".tsv", ".csv", ".txt", ".jsonl", ".json")):
        return text.lower().endswith(".parquet") and not found.pictures
    try:
        return "http" in found.read_text(text, 4096)
    except OSError:
        return False
