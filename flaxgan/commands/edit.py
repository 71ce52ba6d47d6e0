"""`flaxgan edit`: picture files, what they show, and what they shall show in; edited files out."""

from collections.abc import Sequence
from pathlib import Path

from flaxgan.clean_text import clean
from flaxgan.commands import cli, inverting
from flaxgan.commands.picture_files import prompt_in, say_written
from flaxgan.drawing import grids
from flaxgan.drawing.sampler import EMPHASIS, MOST_EMPHASIS
from flaxgan.errors import UserError

ENDING = "-edit"


def main(argv: Sequence[str]) -> None:
    """Parses the command line, edits, and says what was written."""
    parser = cli.Parser(prog="flaxgan edit", description="Edit pictures by words.")
    add = parser.add_argument
    inverting.add_options(parser, strength=1.0, what="how far from one prompt to the other")
    add(
        "--from",
        dest="before",
        metavar="FROM",
        help="what the pictures show; default: what flaxgan wrote into them, if it did",
    )
    add("--to", dest="after", metavar="TO", required=True, help="what they shall show")
    add("--steps", type=int, default=1, help="pictures side by side on the way there; 1: the last")
    add("--emphasis", type=float, default=EMPHASIS, help="of new words; 1: as of the others")
    args = parser.parse_args(argv)
    if args.steps < 1:
        raise UserError(f"--steps must be at least 1, not {args.steps}")
    if not 0.0 <= args.emphasis <= MOST_EMPHASIS:
        raise UserError(f"--emphasis must be in [0, {MOST_EMPHASIS:g}], not {args.emphasis:g}")
    after = clean(args.after).strip()
    before = None if args.before is None else clean(args.before).strip()
    if not after:
        raise UserError("--to must say what the pictures shall show")

    def prompt_of(path: Path) -> str:
        prompt = before or prompt_in(path)
        if not prompt:
            raise UserError(f"{path} does not say what it shows: give --from")
        return prompt

    paths: list[Path] = []
    for sampler, found, files in inverting.each_part(args, ENDING, prompt_of):
        prompts = [prompt or "" for _, _, prompt in files]
        images = sampler.edit(
            found,
            prompts,
            after,
            strength=args.strength,
            steps=args.steps,
            residual=args.residual,
            emphasis=args.emphasis,
            seed=args.seed,
            batch_size=args.batch_size,
        )
        images, labels = inverting.enlarge(images, [after] * len(files), sampler, args)
        for row, (source, out, prompt) in zip(images, files, strict=True):
            said = {
                "prompt": after,
                "edited_from": prompt or "",
                "emphasis": f"{args.emphasis:g}",
                "source": source.name,
            }
            strip = grids.flat_grid(row, columns=args.steps)
            inverting.write(strip, out, sampler, args, labels | said)
            paths.append(out)
    say_written(paths)
