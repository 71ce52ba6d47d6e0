"""What `flaxgan inpaint` and `flaxgan outpaint` share: files in, completed PNG files out."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import flaxgan
from flaxgan.clean_text import clean
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_inpainter, describe, origin
from flaxgan.commands.picture_files import (
    find_pictures,
    name_outputs,
    prompt_in,
    say_written,
    write_png,
)
from flaxgan.data.own_pictures.shards import read_file
from flaxgan.data.pictures import Unreadable, load_transparent, load_whole
from flaxgan.drawing.filling import MOST_SIDE
from flaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A picture as its file has it, and what of it is redrawn.

    Attributes:
      kept: `[h, w, 3]` or, with transparency, `[h, w, 4]` uint8.
      shown: `[h, w, c]` uint8, as a generator takes it.
      hole: `[h, w]` bool.
      labels: what a PNG says of the hole.
    """

    kept: np.ndarray
    shown: np.ndarray
    hole: np.ndarray
    labels: Mapping[str, str]

    def filled(self, image: np.ndarray) -> np.ndarray:
        """`kept` with the pixels of `image [h, w, c]` in its hole, where nothing is transparent."""
        colors = np.broadcast_to(image, (*image.shape[:2], 3))
        opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
        new = np.concatenate([colors, opaque], axis=-1)[..., : self.kept.shape[-1]]
        return np.where(self.hole[..., None], new, self.kept)


MakeCanvas = Callable[[Path, np.ndarray, np.ndarray], Canvas]  # of a path, `kept` and `shown`


def add_options(parser: cli.Parser) -> None:
    """The options of both commands."""
    add = parser.add_argument
    add("pictures", nargs="+", help="files, folders, or patterns such as 'pictures/*.png'")
    add(
        "--prompt",
        help="what the whole picture shall show; default: what flaxgan wrote into it, if it did",
    )
    add("--num", type=int, default=1, help="results of each picture, a file for each")
    cli.add_checkpoint_option(parser)
    cli.add_drawing_options(parser, batch_size=16)
    add("--out", type=Path, help="a folder, or for one picture a PNG file; default: beside each")


def fill(
    args: argparse.Namespace, ending: str, canvas_of: MakeCanvas, masks: Sequence[Path] = ()
) -> None:
    """Reads pictures, draws in their holes, writes, and says what was written.

    Args:
      args: of `add_options`.
      ending: of the stems of files that are written.
      canvas_of: what is redrawn.
      masks: files that must not be replaced.

    Raises:
      UserError: no picture, one that cannot be read or has no prompt, a model that fills no holes,
        a number out of range, or nowhere to write.
    """
    cli.check_drawing_options(args)
    if args.num < 1:
        raise UserError(f"--num must be at least 1, not {args.num}")
    pictures = find_pictures(args.pictures, ending)
    outputs = name_outputs(pictures, args.out, ending)
    read = {path.resolve() for path in (*pictures, *masks)}
    for path in (numbered(x, k, args.num, ending) for x in outputs for k in range(args.num)):
        if path.resolve() in read:
            raise UserError(f"{path} would be replaced, which is read here: choose another --out")
    given = None if args.prompt is None else clean(args.prompt).strip()
    cli.prepare_process()
    sampler = choose_inpainter(args.checkpoint, report=_warn)
    channels = sampler.config.data.channels
    prompts = [prompt_in(path) if given is None else given for path in pictures]
    if sampler.text_encoder is not None and not sampler.config.data.caption_dropout:
        for path, prompt in zip(pictures, prompts, strict=True):
            if not prompt:
                raise UserError(f"{path} does not say what it shows: give --prompt")
    print(f"drawing with {describe(sampler)}", flush=True)
    written: list[Path] = []
    for start in range(0, len(pictures), args.batch_size):
        part = slice(start, start + args.batch_size)
        canvases = [canvas_of(path, *read_picture(path, channels)) for path in pictures[part]]
        results = sampler.inpaint(
            [canvas.shown for canvas in canvases],
            [canvas.hole for canvas in canvases],
            prompts[part],
            num=args.num,
            seed=args.seed,
            batch_size=args.batch_size,
        )
        for i, (canvas, images) in enumerate(zip(canvases, results, strict=True), start):
            labels = {
                "prompt": prompts[i],
                "seed": str(args.seed),
                "source": pictures[i].name,
                **canvas.labels,
                "inpainter": origin(sampler),
                "version": f"flaxgan {flaxgan.__version__}",
            }
            for k, image in enumerate(images):
                path = numbered(outputs[i], k, args.num, ending)
                filled = Image.fromarray(canvas.filled(image))
                write_png(filled, path, {**labels, "number": str(k)})
                written.append(path)
    say_written(written)


def read_picture(path: Path, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture file as it is kept, RGB or RGBA, and as a generator takes it.

    Raises:
      UserError: it cannot be read.
    """
    try:
        data = read_file(path)
        shown = load_whole(data, channels, most_pixels=MOST_SIDE**2)
        kept = load_transparent(data)
        if kept is None:
            kept = shown if channels == 3 else load_whole(data, 3)
    except Unreadable as error:
        raise UserError(f"cannot use {path}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return kept, shown


def numbered(path: Path, number: int, count: int, ending: str) -> Path:
    """`a-00-inpaint.png` for `a-inpaint.png`, where there are several."""
    if count == 1:
        return path
    stem, end = path.stem, ""
    if stem.endswith(ending):
        stem, end = stem.removesuffix(ending), ending
    digits = max(2, len(str(count - 1)))
    return path.with_name(f"{stem}-{number:0{digits}}{end}{path.suffix}")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
