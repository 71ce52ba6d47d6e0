"""`flaxgan vary`: picture files and a trained generator in, variations of each out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxgan.clean_text import clean
from flaxgan.commands import cli, inverting
from flaxgan.commands.picture_files import prompt_in, say_written
from flaxgan.drawing import grids
from flaxgan.errors import UserError

ENDING = "-vary"


def main(argv: Sequence[str]) -> None:
    """Parses the command line, draws, and says what was written."""
    parser = cli.Parser(prog="flaxgan vary", description="Draw variations of pictures.")
    inverting.add_options(parser, strength=0.5, what="from the picture to others of its prompt")
    add = parser.add_argument
    add("--prompt", help="what the pictures show; default: what flaxgan wrote into them, if it did")
    add("--num", type=int, default=8, help="variations of each picture")
    add("--separate", action="store_true", help="write one file for each variation")
    args = parser.parse_args(argv)
    if args.num < 1:
        raise UserError(f"--num must be at least 1, not {args.num}")
    prompt = None if args.prompt is None else clean(args.prompt).strip()

    def prompt_of(path: Path) -> str | None:
        return prompt or prompt_in(path) or None

    paths: list[Path] = []
    for sampler, found, files in inverting.each_part(args, ENDING, prompt_of):
        images = sampler.vary(
            found,
            num=args.num,
            strength=args.strength,
            residual=args.residual,
            seed=args.seed,
            batch_size=args.batch_size,
        )
        prompts = [prompt or "" for _, _, prompt in files]
        images, labels = inverting.enlarge(images, prompts, sampler, args)
        for row, (source, out, prompt_here) in zip(images, files, strict=True):
            labels |= {"prompt": prompt_here or "", "source": source.name, "num": str(args.num)}
            if args.separate:
                for k, image in enumerate(row):
                    # ends as a sheet does, so that the same command can be run again
                    end = ENDING if out.stem.endswith(ENDING) else ""
                    path = out.with_stem(f"{out.stem.removesuffix(end)}-{k:02d}{end}")
                    picture = grids.flat_grid(image[None], columns=1)
                    inverting.write(picture, path, sampler, args, labels)
                    paths.append(path)
            else:
                sheet = grids.grid_png(row[np.newaxis])
                inverting.write(sheet, out, sampler, args, labels)
                paths.append(out)
    say_written(paths)
