"""`flaxgan upsample`: picture files and a trained upsampler in, larger PNG files out."""

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import flaxgan
from flaxgan.clean_text import clean
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_upsampler, describe, origin
from flaxgan.data.own_pictures.shards import read_file
from flaxgan.data.pictures import Unreadable, load_whole
from flaxgan.drawing import grids
from flaxgan.drawing.sampler import MOST_PIXELS, Sampler
from flaxgan.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp")


def find_pictures(names: Sequence[str], ending: str) -> list[Path]:
    """Picture files that names stand for: files, folders (not their folders), patterns.

    Args:
      names: of the command line.
      ending: of the stems of enlarged pictures, which are left out of folders and patterns.

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
    """Where each enlarged picture goes: beside it, in a folder, or for one picture a PNG file.

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
    prompts = [_prompt_in(path) if prompt is None else prompt for path in pictures]
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
            try:
                outputs[i].parent.mkdir(parents=True, exist_ok=True)
                grids.save_png(grids.flat_grid(image[None], columns=1), outputs[i], labels)
            except OSError as error:
                raise UserError(f"cannot write {outputs[i]}: {error.strerror}") from error


def _read(path: Path, channels: int) -> np.ndarray:
    try:
        return load_whole(read_file(path), channels, most_pixels=MOST_PIXELS)
    except Unreadable as error:
        raise UserError(f"cannot enlarge {path}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _prompt_in(path: Path) -> str:
    """The prompt that flaxgan wrote into a picture; "" where there is none, or one of many."""
    try:
        text = grids.read_png_text(path)
    except Exception:  # no PNG, or one with broken chunks: it has been read as a picture already
        return ""
    prompt = text.get("prompt", "") if text.get("version", "").startswith("flaxgan") else ""
    return "" if "\n" in prompt else prompt


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
    print(f"wrote {paths[0]}" if len(paths) == 1 else f"wrote {len(paths)} files: {paths[0]} …")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
