"""What `flaxgan vary` and `flaxgan edit` share: picture files in, inverted; PNG files out."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import flaxgan
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler, describe, origin, upsampler_of
from flaxgan.commands.picture_files import find_pictures, name_outputs, write_png
from flaxgan.data.own_pictures.shards import read_file
from flaxgan.data.pictures import FITS, Fit, Unreadable, load
from flaxgan.drawing.editing import FAR, Inversion
from flaxgan.drawing.inversion import Search, rounds
from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.progress import progress_bar


def add_options(parser: cli.Parser, *, strength: float, what: str) -> None:
    """The options of both commands."""
    add = parser.add_argument
    add("pictures", nargs="+", help="files, folders, or patterns such as 'pictures/*.png'")
    cli.add_generator_options(parser)
    add("--strength", type=float, default=strength, help=f"in [0, 1], {what}")
    add("--residual", type=float, default=1.0, help="in [0, 1], of what no inversion reproduces")
    add("--fit", choices=FITS, default="crop", help="the centre square, or all of it, on white")
    add("--starts", type=int, default=Search.starts, help="of the inversion; the best is kept")
    add("--inversion-steps", type=int, default=Search.steps, help="of Adam")
    add("--upsample", action="store_true", help="enlarge the pictures, four times with avatars")
    add("--upsampler", type=Path, help="a run, checkpoint or file that enlarges, for --upsample")
    cli.add_drawing_options(parser, batch_size=16)
    add("--out", type=Path, help="a folder, or for one picture a PNG file; default: beside each")


def check_options(args: argparse.Namespace) -> Search:
    """The search that `add_options` describes.

    Raises:
      UserError: a number out of range.
    """
    cli.check_drawing_options(args)
    for name in ("strength", "residual"):
        if not 0.0 <= getattr(args, name) <= 1.0:
            raise UserError(f"--{name} must be in [0, 1], not {getattr(args, name):g}")
    if not 1 <= args.starts <= Search.candidates:
        raise UserError(f"--starts must be in [1, {Search.candidates}], not {args.starts}")
    if args.inversion_steps < 1:
        raise UserError(f"--inversion-steps must be at least 1, not {args.inversion_steps}")
    if args.upsampler is not None and not args.upsample:
        raise UserError("--upsampler is read with --upsample only")
    return Search(starts=args.starts, steps=args.inversion_steps)


def each_part(
    args: argparse.Namespace, ending: str, prompt_of: Callable[[Path], str | None]
) -> Iterator[tuple[Sampler, Inversion, list[tuple[Path, Path, str | None]]]]:
    """Finds, reads and inverts pictures, `--batch-size` at a time.

    Args:
      args: of `add_options`, checked.
      ending: of the stems of files that are written.
      prompt_of: what a picture shows; None for all: it is not known.

    Yields:
      The generator; what was found; of each picture its file, the file to write, and its prompt.

    Raises:
      UserError: no picture, one that cannot be read, a generator that cannot invert, or nowhere to
        write.
    """
    search = check_options(args)
    pictures = find_pictures(args.pictures, ending)
    outputs = name_outputs(pictures, args.out, ending)
    prompts = [prompt_of(path) for path in pictures]
    cli.prepare_process(0)
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, report=warn, slow=args.slow)
    sampler.check_inverts()
    data = sampler.config.data
    images = [read_picture(path, data.resolution, data.channels, args.fit) for path in pictures]
    print(f"drawing with {describe(sampler)}", flush=True)
    with progress_bar("inverting", len(pictures) * rounds(search)) as advance:
        for known in dict.fromkeys(prompt is not None for prompt in prompts):
            rows = [i for i, prompt in enumerate(prompts) if (prompt is not None) == known]
            for start in range(0, len(rows), args.batch_size):
                part = rows[start : start + args.batch_size]
                found = sampler.invert(
                    np.stack([images[i] for i in part]),
                    [prompts[i] or "" for i in part] if known else None,
                    seed=args.seed,
                    batch_size=args.batch_size,
                    search=search,
                    advance=advance,
                )
                for i, distance in zip(part, found.distance, strict=True):
                    warn_if_far(pictures[i], float(distance))
                yield sampler, found, [(pictures[i], outputs[i], prompts[i]) for i in part]


def read_picture(path: Path, resolution: int, channels: int, fit: Fit) -> np.ndarray:
    """`[resolution, resolution, channels]` uint8 of any picture file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return load(read_file(path), resolution, channels, fit=fit)
    except Unreadable as error:
        raise UserError(f"cannot use {path}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def warn_if_far(path: Path, distance: float) -> None:
    """Says where the generator found nothing like a picture."""
    if distance > FAR:
        warn(
            f"{path}: no inversion was found: the nearest picture of this generator differs by "
            f"{distance:.2f} of the range from black to white (more than {FAR:g})"
        )


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def enlarge(
    images: np.ndarray, prompts: Sequence[str], sampler: Sampler, args: argparse.Namespace
) -> tuple[np.ndarray, dict[str, str]]:
    """`[n, k, h, w, c]` uint8, enlarged with `--upsample`, and what the files then say of it.

    Args:
      images: k of each of n prompts.
      prompts: what they show.
      sampler: that drew them.
      args: of `add_options`.
    """
    if not args.upsample:
        return images, {}
    upsampler = upsampler_of(sampler, args.upsampler)
    n, k, *shape = images.shape
    each = [prompt for prompt in prompts for _ in range(k)]
    larger = upsampler.upsample(
        images.reshape(n * k, *shape), each, seed=args.seed, batch_size=args.batch_size
    )
    return larger.reshape(n, k, *larger.shape[1:]), {"upsampler": origin(upsampler)}


def write(
    picture: Image.Image,
    path: Path,
    sampler: Sampler,
    args: argparse.Namespace,
    labels: Mapping[str, str],
) -> None:
    """Writes a PNG that says how it was made.

    Raises:
      UserError: it cannot be written.
    """
    common = {
        "strength": f"{args.strength:g}",
        "residual": f"{args.residual:g}",
        "seed": str(args.seed),
        "checkpoint": origin(sampler),
        "version": f"flaxgan {flaxgan.__version__}",
    }
    write_png(picture, path, {**labels, **common})
