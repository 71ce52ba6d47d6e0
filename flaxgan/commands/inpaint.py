"""`flaxgan inpaint`: pictures, masks and a prompt in; what is masked is redrawn."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxgan.commands import cli, filling
from flaxgan.commands.filling import Canvas, read_picture
from flaxgan.commands.picture_files import find_pictures
from flaxgan.drawing.filling import as_hole
from flaxgan.errors import UserError

ENDING = "-inpaint"


def main(argv: Sequence[str]) -> None:
    """Parses the command line, redraws, and says what was written."""
    parser = cli.Parser(prog="flaxgan inpaint", description="Redraw parts of pictures by words.")
    filling.add_options(parser)
    parser.add_argument(
        "--mask",
        type=Path,
        required=True,
        help="a picture, white where it is redrawn, for all; or a folder with one named as each",
    )
    args = parser.parse_args(argv)
    masks = _masks_in(args.mask)

    def canvas_of(path: Path, kept: np.ndarray, shown: np.ndarray) -> Canvas:
        mask = masks if isinstance(masks, Path) else masks.get(path.stem)
        if mask is None:
            raise UserError(f"--mask {args.mask} has no mask named {path.stem}")
        hole = as_hole(read_picture(mask, 1)[1], shown, f"mask {mask}")
        return Canvas(kept, shown, hole, {"mask": mask.name})

    files = [masks] if isinstance(masks, Path) else list(masks.values())
    filling.fill(args, ENDING, canvas_of, files)


def _masks_in(path: Path) -> Path | dict[str, Path]:
    """One mask for all, or stem -> mask."""
    if os.path.isdir(path):
        return {mask.stem: mask for mask in find_pictures([str(path)], ENDING)}
    if not os.path.isfile(path):
        raise UserError(f"--mask {path} is not there: name a picture or a folder")
    return path
