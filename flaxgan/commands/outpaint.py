"""`flaxgan outpaint`: picture files and a prompt in; larger files with more around them out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxgan.commands import cli, filling
from flaxgan.commands.filling import Canvas
from flaxgan.drawing.filling import MOST_SIDE, Margins
from flaxgan.errors import UserError

ENDING = "-outpaint"
SIDES = ("left", "top", "right", "bottom")


def main(argv: Sequence[str]) -> None:
    """Parses the command line, draws what is around, and says what was written."""
    parser = cli.Parser(
        prog="flaxgan outpaint", description="Continue pictures beyond their sides."
    )
    filling.add_options(parser)
    add = parser.add_argument
    add("--left", type=int, default=0, help="pixels to add there")
    add("--top", type=int, default=0, help="likewise")
    add("--right", type=int, default=0, help="likewise")
    add("--bottom", type=int, default=0, help="likewise")
    args = parser.parse_args(argv)
    sizes = {side: getattr(args, side) for side in SIDES}
    for side, size in sizes.items():
        if not 0 <= size <= MOST_SIDE:
            raise UserError(f"--{side} must be in [0, {MOST_SIDE}], not {size}")
    if not any(sizes.values()):
        raise UserError("nothing to add: give --left, --top, --right or --bottom")
    margins = Margins(**sizes)
    labels = {"margins": " ".join(f"{side} {size}" for side, size in sizes.items() if size)}

    def canvas_of(path: Path, kept: np.ndarray, shown: np.ndarray) -> Canvas:
        margins.check_size(shown)
        return Canvas(margins.widen(kept), margins.widen(shown), margins.hole(shown), labels)

    filling.fill(args, ENDING, canvas_of)
