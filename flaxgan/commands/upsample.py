"""`flaxgan upsample`: picture files and a trained upsampler in, larger PNG files out."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import flaxgan
from flaxgan.clean_text import clean
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_upsampler, describe, origin
from flaxgan.commands.picture_files import (
    find_pictures,
    name_outputs,
    prompt_in,
    say_written,
    write_png,
)
from flaxgan.data.own_pictures.shards import read_file
from flaxgan.data.pictures import Unreadable, load_whole
from flaxgan.drawing import grids
from flaxgan.drawing.sampler import MOST_PIXELS, Sampler
from flaxgan.errors import UserError


def upsample(
    names: Sequence[str],
    sampler: Sampler,
    *,
    prompt: str | None,
    out: Path | None,
    seed: int,
    batch_size: int,
) -> list[Path]:
    """Enlarges picture files and writes PNG files.

    Args:
      names: files, folders or patterns.
      sampler: an upsampler.
      prompt: what the pictures show; None: what their files say, if flaxgan drew them.
      out: a folder, or for one picture a PNG file; None: beside each picture.
      seed: of the noise.
      batch_size: pictures of one size enlarged at once.

    Returns:
      The files.

    Raises:
      UserError: no picture, one that cannot be read or is too large, or nowhere to write.
    """
    ending = f"-{sampler.times}x"
    pictures = find_pictures(names, ending)
    outputs = name_outputs(pictures, out, ending)
    for start in range(0, len(pictures), batch_size):
        part = slice(start, start + batch_size)
        _enlarge(pictures[part], outputs[part], sampler, prompt, seed, batch_size)
    return outputs


def _enlarge(
    pictures: Sequence[Path],
    outputs: Sequence[Path],
    sampler: Sampler,
    prompt: str | None,
    seed: int,
    batch_size: int,
) -> None:
    """Reads a few pictures, enlarges those of one size together, and writes all."""
    channels = sampler.config.data.channels
    images = [_read(path, channels) for path in pictures]
    prompts = [prompt_in(path) if prompt is None else prompt for path in pictures]
    for shape in dict.fromkeys(image.shape for image in images):
        rows = [i for i, image in enumerate(images) if image.shape == shape]
        larger = sampler.upsample(
            np.stack([images[i] for i in rows]),
            [prompts[i] for i in rows],
            seed=seed,
            batch_size=batch_size,
        )
        for i, image in zip(rows, larger, strict=True):
            labels = {
                "prompt": prompts[i],
                "seed": str(seed),
                "source": pictures[i].name,
                "upsampler": origin(sampler),
                "version": f"flaxgan {flaxgan.__version__}",
            }
            write_png(grids.flat_grid(image[None], columns=1), outputs[i], labels)


def _read(path: Path, channels: int) -> np.ndarray:
    try:
        return load_whole(read_file(path), channels, most_pixels=MOST_PIXELS)
    except Unreadable as error:
        raise UserError(f"cannot enlarge {path}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def main(argv: Sequence[str]) -> None:
    """Parses the command line, enlarges, and says what was written."""
    parser = cli.Parser(prog="flaxgan upsample", description="Enlarge pictures.")
    add = parser.add_argument
    add("pictures", nargs="+", help="files, folders, or patterns such as 'pictures/*.png'")
    add("--times", type=int, help="how many times as wide and high; that of the upsampler")
    add("--prompt", help="what the pictures show; default: what flaxgan wrote into them, if it did")
    cli.add_checkpoint_option(parser)
    cli.add_drawing_options(parser, batch_size=16)
    add("--out", type=Path, help="a folder, or for one picture a PNG file; default: beside each")
    args = parser.parse_args(argv)
    cli.check_drawing_options(args)
    cli.prepare_process()
    sampler = choose_upsampler(args.checkpoint, report=_warn)
    if args.times not in (None, sampler.times):
        raise UserError(f"--times must be {sampler.times} for this upsampler, not {args.times}")
    print(f"enlarging {sampler.times} times with {describe(sampler)}", flush=True)
    paths = upsample(
        args.pictures,
        sampler,
        prompt=args.prompt if args.prompt is None else clean(args.prompt),
        out=args.out,
        seed=args.seed,
        batch_size=args.batch_size,
    )
    say_written(paths)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
