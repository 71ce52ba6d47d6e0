"""Captioned pictures to try flaxgan on, out of Debian packages: `python -m tools.example_data`.

    apt-get download dataset-fashion-mnist tuxpaint-stamps-default
    for file in *.deb; do dpkg -x $file unpacked; done
    python -m tools.example_data fashion-mnist my_fashion --unpacked unpacked
    python -m tools.example_data stamps my_stamps --unpacked unpacked

Fashion-MNIST (Zalando SE, MIT): 70,000 pictures of clothes, 28 x 28 grey, in ten classes, as
Parquet files of `train` and `test`. Stamps of Tux Paint (GPL-2): photographs and drawings with a
sentence each, in many languages, as `name.png` and `name.txt`. Without `--unpacked` the installed
packages are read.
"""

import gzip
import io
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from flaxgan.commands import cli
from flaxgan.errors import UserError

CLOTHES = (
    *("t-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
MAGIC = {"images": 2051, "labels": 2049}  # of IDX files
# stamps that are no things: letters, digits, notes, signs
LEFT_OUT = ("symbols/alphabets", "symbols/math", "symbols/music", "symbols/numbers")


def read_idx(path: Path, kind: str) -> np.ndarray:
    """A gzipped IDX file: `[n, h, w]` uint8 images, or `[n]` uint8 labels.

    Raises:
      UserError: it is not there, or not such a file.
    """
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    axes = 3 if kind == "images" else 1
    header = struct.unpack(f">{1 + axes}I", data[: 4 * (1 + axes)])
    if header[0] != MAGIC[kind] or len(data) != 4 * (1 + axes) + np.prod(header[1:]):
        raise UserError(f"{path} is not an IDX file of {kind}")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + axes)).reshape(header[1:])


def write_fashion_mnist(root: Path, out: Path) -> int:
    """Writes train.parquet and test.parquet with columns image, text; returns the pictures."""
    folder = root / "usr/share/datasets/fashion-mnist"
    count = 0
    for split, name in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", "images")
        labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz", "labels")
        rows = {
            "image": [{"bytes": _png(image), "path": None} for image in images],
            "text": [CLOTHES[label] for label in labels],
        }
        out.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows), out / f"{split}.parquet", row_group_size=1000)
        count += len(images)
    return count


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_stamps(root: Path, out: Path, languages: Sequence[str]) -> int:
    """Writes name.png and name.txt, a language a line; returns the pictures."""
    folder = root / "usr/share/tuxpaint/stamps"
    stamps = list(_stamps(folder))
    if not stamps:
        raise UserError(f"there are no stamps in {folder}")
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for picture in stamps:
        captions = read_stamp(picture.with_suffix(".txt").read_text("utf-8", "replace"), languages)
        if captions:
            name = "_".join(picture.relative_to(folder).with_suffix("").parts)
            shutil.copyfile(picture, out / f"{name}.png")
            (out / f"{name}.txt").write_text("\n".join(captions) + "\n", "utf-8")
            count += 1
    return count


def _stamps(folder: Path) -> Iterator[Path]:
    for picture in sorted(folder.rglob("*.png")):
        place = os.fspath(picture.relative_to(folder))
        if not place.startswith(LEFT_OUT) and picture.with_suffix(".txt").is_file():
            yield picture


def read_stamp(text: str, languages: Sequence[str]) -> list[str]:
    """The captions in a stamp's text file: English in the first line, then `de.utf8=…` lines."""
    first, *others = text.splitlines() or [""]
    found = {"en": first.strip()}
    for line in others:
        language, equals, caption = line.partition(".utf8=")
        if equals:
            found[language.strip()] = caption.strip()
    return [found[language] for language in languages if found.get(language)]


def main(argv: Sequence[str]) -> None:
    """Parses the command line and writes one of the data sets."""
    parser = cli.Parser(prog="python -m tools.example_data", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("fashion-mnist", "stamps"))
    parser.add_argument("out", type=Path, metavar="FOLDER", help="new, or empty")
    parser.add_argument("--unpacked", type=Path, default=Path("/"), help="where the package lies")
    parser.add_argument("--languages", default="en", help='of stamps, for example "en,de,zh_cn"')
    args = parser.parse_args(argv)
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"{args.out} is not empty; name a new folder")
    if args.name == "stamps":
        count = write_stamps(args.unpacked, args.out, args.languages.split(","))
    else:
        count = write_fashion_mnist(args.unpacked, args.out)
    print(f"wrote {count:,} pictures to {args.out}")


if __name__ == "__main__":
    cli.run(main)
