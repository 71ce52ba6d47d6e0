"""Draws pictures: python sample.py --prompt "a woman with long pink hair" --num 8 --out out.png."""

from collections.abc import Sequence
from pathlib import Path

from flaxgan.commands import cli


def main(argv: Sequence[str]) -> int | None:
    parser = cli.Parser(prog="sample.py", description="Draw pictures from prompts.")
    parser.add_argument("--prompt", action="append", default=[], help="any number of times")
    parser.add_argument("--prompts-file", type=Path, help="text file with one prompt a line")
    parser.add_argument("--checkpoint", type=Path, help="a run, one of its checkpoints, or a file")
    parser.add_argument("--model", help="a shipped model; default: the newest run, else avatars")
    parser.add_argument("--slow", action="store_true", help="the second averaged generator")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are looked for")
    parser.add_argument("--num", type=int, default=4, help="pictures of each prompt")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--batch-size", type=int, default=16, help="pictures drawn at once")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="PNG to write")
    parser.add_argument("--separate", action="store_true", help="one file for each picture")
    parser.add_argument("--no-captions", action="store_true", help="a grid without text")
    args = parser.parse_args(argv)
    cli.prepare_process()

    from flaxgan.commands import (
        sample as sample_command,  # jax is imported only after the process is set up
    )

    paths = sample_command.draw(
        prompts=sample_command.read_prompts(args.prompt, args.prompts_file),
        checkpoint=args.checkpoint,
        model=args.model,
        slow=args.slow,
        runs=args.runs,
        num=args.num,
        seed=args.seed,
        batch_size=args.batch_size,
        out=args.out,
        separate=args.separate,
        captions=not args.no_captions,
    )
    print(f"wrote {paths[0]}" if len(paths) == 1 else f"wrote {len(paths)} files: {paths[0]} …")
    return None


if __name__ == "__main__":
    cli.run(main)
