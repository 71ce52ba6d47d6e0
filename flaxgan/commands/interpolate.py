"""`flaxgan interpolate`: prompts and a trained generator in, a film of a walk between them out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import flaxgan
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler, describe, origin, upsampler_of
from flaxgan.commands.sample import check_prompts, read_prompts
from flaxgan.drawing import films
from flaxgan.drawing.sampler import Sampler
from flaxgan.drawing.walks import key_frames
from flaxgan.errors import UserError


def interpolate(
    prompts: Sequence[str],
    sampler: Sampler,
    *,
    out: Path,
    frames: int,
    fps: float,
    num: int,
    seed: int,
    batch_size: int,
    loop: bool,
    fixed_noise: bool,
    upsampler: Sampler | None = None,
) -> Path:
    """Draws `num` walks between prompts, side by side, and writes the film.

    Args:
      prompts: at least 2.
      sampler: a generator.
      out: a file that ends in one of `films.SUFFIXES`.
      frames, num, seed, batch_size, loop, fixed_noise: see `Sampler.interpolate`.
      fps: frames a second.
      upsampler: enlarges every frame; None: nothing does.

    Returns:
      The file.

    Raises:
      UserError: too few prompts or frames, or nowhere to write.
    """
    film = sampler.interpolate(
        prompts,
        frames=frames,
        num=num,
        seed=seed,
        loop=loop,
        fixed_noise=fixed_noise,
        batch_size=batch_size,
    )
    labels = {
        "prompt": "\n".join(prompts),
        "seed": str(seed),
        "checkpoint": origin(sampler),
        "version": f"flaxgan {flaxgan.__version__}",
    }
    if upsampler is not None:
        shown = nearest_prompts(prompts, frames, loop=loop)
        # a frame at a time: its pictures have the same noise in all frames, and nothing flickers
        film = np.stack(
            [
                upsampler.upsample(pictures, [prompt] * num, seed=seed, batch_size=batch_size)
                for pictures, prompt in zip(film, shown, strict=True)
            ]
        )
        labels["upsampler"] = origin(upsampler)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        films.save_film(films.tile(film), out, fps, labels)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    return out


def nearest_prompts(prompts: Sequence[str], frames: int, *, loop: bool) -> list[str]:
    """The prompt whose frame is nearest, for each frame."""
    keys = key_frames(len(prompts), frames, loop=loop)
    nearest = np.abs(np.arange(frames)[:, None] - keys).argmin(axis=1)
    return [prompts[i % len(prompts)] for i in nearest]


def main(argv: Sequence[str]) -> None:
    """Parses the command line, draws, and says what was written."""
    parser = cli.Parser(
        prog="flaxgan interpolate", description="Draw a film that walks from prompt to prompt."
    )
    add = parser.add_argument
    add("--prompt", action="append", default=[], help="two or more")
    add("--prompts-file", type=Path, help="text file with one prompt a line")
    cli.add_generator_options(parser)
    add("--frames", type=int, default=60, help="of the film")
    add("--fps", type=float, default=20.0, help=f"frames a second, at most {films.MOST_FPS}")
    add(
        "--loop",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="walk back to the first prompt at the end",
    )
    add("--num", type=int, default=1, help="walks, side by side")
    add("--fixed-noise", action="store_true", help="only the words change")
    add("--upsample", action="store_true", help="enlarge the frames, four times with avatars")
    add("--upsampler", type=Path, help="a run, checkpoint or file that enlarges, for --upsample")
    cli.add_drawing_options(parser, batch_size=64)
    add("--out", type=Path, default=Path("walk.gif"), help=", ".join(films.SUFFIXES))
    args = parser.parse_args(argv)
    cli.check_drawing_options(args)
    prompts = read_prompts(args.prompt, args.prompts_file)
    if len(prompts) < 2:
        raise UserError("a walk needs at least two prompts: give --prompt twice")
    if args.frames < len(prompts):
        raise UserError(
            f"--frames must be at least {len(prompts)}, one for each prompt, not {args.frames}"
        )
    if args.num < 1:
        raise UserError(f"--num must be at least 1, not {args.num}")
    if not 0 < args.fps <= films.MOST_FPS:
        raise UserError(f"--fps must be above 0 and at most {films.MOST_FPS}, not {args.fps:g}")
    if args.upsampler is not None and not args.upsample:
        raise UserError("--upsampler is read with --upsample only")
    films.check_suffix(args.out)
    cli.prepare_process()
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, report=_warn, slow=args.slow)
    print(f"drawing with {describe(sampler)}", flush=True)
    upsampler = upsampler_of(sampler, args.upsampler) if args.upsample else None
    check_prompts(sampler, prompts)
    path = interpolate(
        prompts,
        sampler,
        out=args.out,
        frames=args.frames,
        fps=args.fps,
        num=args.num,
        seed=args.seed,
        batch_size=args.batch_size,
        loop=args.loop,
        fixed_noise=args.fixed_noise,
        upsampler=upsampler,
    )
    print(f"wrote {path}, {args.frames} frames, {args.frames / args.fps:.1f} s")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
