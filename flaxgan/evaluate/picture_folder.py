"""A folder of pictures that somebody drew, as the pictures of an evaluation."""

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flaxgan.clean_text import text_lines
from flaxgan.data.own_pictures.shards import read_file
from flaxgan.data.pictures import open_image
from flaxgan.errors import UserError, first_line
from flaxgan.evaluate.evaluator import CaptionedSet

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
METADATA = "metadata.jsonl"  # file_name, text and set of each picture, one JSON object a line


class ImageFolder:
    """Pictures of one size in RGB; with METADATA, those of each set.

    Attributes:
      path: the folder.
      paths: its pictures, sorted by name, those with METADATA in its order.
      side: height and width, pixels.
      has_captions: whether METADATA says which picture belongs to which caption.
    """

    def __init__(self, path: Path):
        """Looks at the files; the first picture is read.

        Raises:
          UserError: no folder, no pictures, or a METADATA that cannot be read.
        """
        if not path.is_dir():
            raise UserError(f"no folder {path}")
        self.path = path
        metadata = path / METADATA
        self.has_captions = metadata.is_file()
        self._sets: dict[str, list[tuple[Path, str]]] = {}
        if self.has_captions:
            for file_name, text, set_name in _read_metadata(metadata):
                self._sets.setdefault(set_name, []).append((path / file_name, text))
            self.paths = [file for rows in self._sets.values() for file, _ in rows]
        else:
            self.paths = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if len(self.paths) < 2:
            count = "one picture" if self.paths else "no pictures"
            raise UserError(f"{count} in {path} ({', '.join(SUFFIXES)}); metrics need at least two")
        height, width, _ = _read(self.paths[0], None).shape
        if height != width:
            raise UserError(
                f"{self.paths[0]} has {width} x {height} pixels; metrics compare square pictures: "
                "crop them first"
            )
        self.side = height

    def draw(self, captioned: CaptionedSet, batch_size: int) -> Iterator[np.ndarray]:
        """The pictures of a set in the order of its captions, `[<= batch_size, h, w, 3]` uint8.

        Raises:
          UserError: there are too few, one is broken, not in RGB or of another size, or METADATA
            was written for other captions.
        """
        paths = self._captioned(captioned) if self.has_captions else self.paths[: len(captioned)]
        if len(paths) < len(captioned):
            raise UserError(
                f"{self.path} has {len(paths):,} pictures, {len(captioned):,} requested; "
                "lower --num-images"
            )
        for start in range(0, len(paths), batch_size):
            yield np.stack([_read(p, self.side) for p in paths[start : start + batch_size]])

    def _captioned(self, captioned: CaptionedSet) -> list[Path]:
        rows = self._sets.get(captioned.name, [])[: len(captioned)]
        if not rows:
            raise UserError(
                f"{self.path / METADATA} has no pictures of set {captioned.name!r}; write it again "
                "again with --export-captions and the same --metrics"
            )
        if captioned.captions is not None and [text for _, text in rows] != captioned.captions:
            raise UserError(
                f"{self.path / METADATA} holds different captions from {captioned.name}; write it "
                "again with --export-captions and the same --data, --split and --num-images"
            )
        return [path for path, _ in rows]


def export_captions(sets: Sequence[CaptionedSet], path: Path) -> int:
    """Writes what another program has to draw, as METADATA for its folder of pictures.

    Returns:
      The number of captions.

    Raises:
      UserError: the file cannot be written.
    """
    lines = []
    for captioned in sets:
        stem = captioned.name.replace("/", "-")
        for number, text in enumerate(captioned.captions or [""] * len(captioned)):
            row = {"file_name": f"{stem}-{number:06d}.png", "text": text, "set": captioned.name}
            lines.append(json.dumps(row, ensure_ascii=False))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return len(lines)


def _read_metadata(path: Path) -> Iterator[tuple[str, str, str]]:
    """(file name, text, set) of each line."""
    try:
        lines = text_lines(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):  # after the last line break
            return
        try:
            row = json.loads(line)
            fields = row["file_name"], row["text"], row["set"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: needs file_name, text and set ({error}); write it with "
                "--export-captions"
            ) from error
        if not all(isinstance(field, str) for field in fields) or Path(fields[0]).name != fields[0]:
            raise UserError(f"{path}, line {number}: file_name must be a name in this folder")
        yield fields


def _read(path: Path, side: int | None) -> np.ndarray:
    """`[h, w, 3]` uint8, exactly as stored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd but readable files
            image = open_image(read_file(path))
            image.load()
    except Exception as error:  # codecs raise many kinds: OSError, SyntaxError, struct.error …
        raise UserError(f"{path} is not a readable picture: {first_line(error)}") from error
    if image.mode != "RGB":
        kind = {"L": "grey", "RGBA": "transparent", "P": "a palette picture"}.get(image.mode)
        raise UserError(
            f"{path} is {kind or 'not in RGB'} (mode {image.mode}); metrics compare RGB pictures: "
            "convert it first"
        )
    if side is not None and image.size != (side, side):
        width, height = image.size
        raise UserError(
            f"{path} has {width} x {height} pixels, others {side} x {side}; bring all to one size"
        )
    return np.asarray(image)
