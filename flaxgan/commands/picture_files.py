"""Picture files that a command reads, and where it writes what it makes of each."""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from flaxgan.drawing import grids
from flaxgan.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp")


def find_pictures(names: Sequence[str], ending: str) -> list[Path]:
    """Picture files that names stand for: files, folders (not their folders), patterns.

    Args:
      names: of the command line.
      ending: of the stems of what a command wrote, which is left out of folders and patterns.

    Raises:
      UserError: nothing is there of that name.
    """
    found: list[Path] = []
    for name in names:
        if os.path.isfile(name):  # unlike Path.is_file, without an error for impossible names
            found.append(Path(name))
            continue
        folder = os.path.isdir(name)
        try:
            inside = sorted(Path(name).iterdir() if folder else map(Path, glob.glob(name)))
        except OSError as error:
            raise UserError(f"cannot read folder {name}: {error.strerror}") from error
        pictures = [
            p
            for p in inside
            if p.is_file() and p.suffix.lower() in SUFFIXES and not p.stem.endswith(ending)
        ]
        if not pictures:
            where = f"in folder {name}" if folder else f"at {name}"
            raise UserError(f"no picture {where}: give files, folders or patterns like 'a/*.png'")
        found += pictures
    return list(dict.fromkeys(found))


def name_outputs(pictures: Sequence[Path], out: Path | None, ending: str) -> list[Path]:
    """Where each result goes: beside its picture, in a folder, or for one picture a PNG file.

    Raises:
      UserError: two pictures would go to one file, or a picture to itself.
    """
    if out is not None and out.suffix.lower() == ".png":
        if len(pictures) > 1:
            raise UserError(f"--out {out} is one file for {len(pictures)} pictures: name a folder")
        outputs = [out]
    else:
        outputs = [(out or p.parent) / f"{p.stem}{ending}.png" for p in pictures]
    taken: dict[Path, Path] = {}
    for picture, output in zip(pictures, outputs, strict=True):
        if output in taken:
            raise UserError(f"{taken[output]} and {picture} would both become {output}: rename one")
        if output.resolve() == picture.resolve():
            raise UserError(f"--out would replace {picture} itself: name another file")
        taken[output] = picture
    return outputs


def prompt_in(path: Path) -> str:
    """The prompt that flaxgan wrote into a picture; "" where there is none, or one of many."""
    try:
        text = grids.read_png_text(path)
    except Exception:  # no PNG, or one with broken chunks: it has been read as a picture already
        return ""
    prompt = text.get("prompt", "") if text.get("version", "").startswith("flaxgan") else ""
    return "" if "\n" in prompt else prompt


def write_png(picture: Image.Image, path: Path, labels: Mapping[str, str]) -> None:
    """Writes a PNG that says how it was made, into a folder that need not be there.

    Raises:
      UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        grids.save_png(picture, path, labels)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def say_written(paths: Sequence[Path]) -> None:
    """One line for the user."""
    print(f"wrote {paths[0]}" if len(paths) == 1 else f"wrote {len(paths)} files: {paths[0]} …")
