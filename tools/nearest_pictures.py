"""Drawn pictures beside the training pictures nearest to them: python -m tools.nearest_pictures.

A model that copies shows it here: the first picture of a row is drawn, the others are the nearest
of all training pictures, by the root mean square difference of copies of at most 32 pixels a side.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxgan.clean_text import text_lines
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler
from flaxgan.data.source import CaptionedImages, open_dataset
from flaxgan.drawing.grids import grid_png, save_png
from flaxgan.errors import UserError

SMALL = 32  # pixels a side, at most


class Neighbours(NamedTuple):
    """The nearest training pictures of one drawn picture, nearest first.

    Attributes:
      indices: `[k]` of the training pictures.
      distances: `[k]` root mean square differences, in units of the range [0, 255].
    """

    indices: np.ndarray
    distances: np.ndarray


def small_copies(images: np.ndarray) -> np.ndarray:
    """`[n, s, s, c]` uint8 to `[n, d]` float32: block means of at most SMALL pixels a side."""
    n, side, _, channels = images.shape
    sides = [size for size in range(1, SMALL + 1) if side % size == 0]
    small, block = sides[-1], side // sides[-1]
    means = images.reshape(n, small, block, small, block, channels).mean(axis=(2, 4))
    return means.reshape(n, -1).astype(np.float32)


def nearest(drawn: np.ndarray, train: np.ndarray, count: int) -> list[Neighbours]:
    """The nearest pictures.

    Args:
      drawn: `[n, s, s, c]` uint8.
      train: `[m, s, s, c]` uint8, m >= count.
      count: neighbours of each.
    """
    gallery = small_copies(train)
    found = []
    for picture in small_copies(drawn):
        distances = np.sqrt(((gallery - picture) ** 2).mean(axis=1))
        indices = np.argsort(distances, kind="stable")[:count]
        found.append(Neighbours(indices, distances[indices]))
    return found


def all_pictures(dataset: CaptionedImages) -> np.ndarray:
    """`[m, h, w, c]` uint8."""
    if dataset.images is not None:
        return dataset.images
    return np.stack([dataset.image(index) for index in range(len(dataset))])


def main(argv: Sequence[str]) -> None:
    """Writes a sheet, and prints a line for each prompt."""
    parser = cli.Parser(
        prog="python -m tools.nearest_pictures",
        description="Draws prompts, and looks for the nearest training pictures.",
    )
    cli.add_generator_options(parser)
    parser.add_argument("--prompts", type=Path, required=True, help="text file, one a line")
    parser.add_argument("--neighbours", type=int, default=4, help="of each picture")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--out", type=Path, default=Path("nearest.png"), help="the sheet")
    args: argparse.Namespace = parser.parse_args(argv)
    if args.neighbours < 1:
        raise UserError(f"--neighbours must be at least 1, not {args.neighbours}")
    try:
        lines = text_lines(args.prompts.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read --prompts {args.prompts}: {error}") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise UserError(f"--prompts {args.prompts} holds no prompt")
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    dataset = open_dataset(sampler.config.data, sampler.config.data.split)
    train = all_pictures(dataset)
    drawn = sampler(prompts, num=1, seed=args.seed)[:, 0]
    found = nearest(drawn, train, min(args.neighbours, len(train)))
    rows = [
        np.stack([picture, *train[row.indices]]) for picture, row in zip(drawn, found, strict=True)
    ]
    save_png(grid_png(np.stack(rows), prompts), args.out, {})
    for prompt, row in zip(prompts, found, strict=True):
        print(f"{row.distances[0]:6.1f}  {prompt}  (picture {row.indices[0]})")
    print(f"root mean square differences from the nearest of {len(train):,}; {args.out}")


if __name__ == "__main__":
    cli.run(main)
