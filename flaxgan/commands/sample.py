"""`flaxgan sample`: prompts and a trained generator in, PNG files out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flaxgan
from flaxgan.clean_text import MAX_CHARACTERS, printable, text_lines
from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler, describe, origin, upsampler_of
from flaxgan.drawing import grids
from flaxgan.drawing.sampler import AVOID_STRENGTH, MOST_AVOID_STRENGTH, Sampler
from flaxgan.errors import UserError
from flaxgan.times import part


def read_prompts(prompts: Sequence[str], file: Path | None) -> list[str]:
    """Prompts of the command line, then those of a file with one prompt a line.

    The file is read as caption files are: UTF-8, or UTF-16 with a byte order mark. Lines without
    text are passed over; on the command line they are the empty prompt.

    Raises:
      UserError: a file that cannot be read, or no prompt at all.
    """
    lines = list(prompts)
    if file is not None:
        try:
            found = text_lines(file.read_bytes())
        except (OSError, ValueError) as error:  # no text, an impossible name
            raise UserError(f"cannot read prompts file {file}: {error}") from error
        lines += [line for line in found if _clean(line)]
    if not lines:
        raise UserError('no prompt: give --prompt "…" or --prompts-file FILE')
    return [_clean(prompt) for prompt in lines]


def draw(
    *,
    prompts: Sequence[str],
    checkpoint: Path | None,
    model: str | None,
    slow: bool = False,
    runs: Path,
    num: int,
    seed: int,
    batch_size: int,
    out: Path,
    separate: bool,
    captions: bool,
    upsample: bool = False,
    upsampler: Path | None = None,
    best_of: int = 1,
    truncation: float = 1.0,
    avoid: str | None = None,
    avoid_strength: float = AVOID_STRENGTH,
) -> list[Path]:
    """Draws `num` pictures of each prompt and writes them; says with which weights.

    With `upsample` they are enlarged: by `upsampler`, or by the bundled one of their data set.
    `best_of`, `truncation`, `avoid` and `avoid_strength` are those of `Sampler`.

    Returns:
      The files: one grid, or `<out>-<prompt number>-<picture number>.png` for each picture.

    Raises:
      UserError: no checkpoint, no intact one, an empty prompt for a generator that was never
        trained with one, a number out of range, nothing to choose the best with, or nowhere to
        write.
    """
    if num < 1:
        raise UserError(f"--num must be at least 1, not {num}")
    if best_of < 1:
        raise UserError(f"--best-of must be at least 1, not {best_of}")
    if not 0.0 <= truncation <= 1.0:
        raise UserError(f"--truncation must be in [0, 1], not {truncation:g}")
    if not 0.0 <= avoid_strength <= MOST_AVOID_STRENGTH:
        raise UserError(
            f"--avoid-strength must be in [0, {MOST_AVOID_STRENGTH:g}], not {avoid_strength:g}"
        )
    if avoid == "":
        raise UserError("--avoid must say what not to draw")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png, not {out.name}")
    with part("load the model"):
        sampler = choose_sampler(checkpoint, model, runs, report=_warn, slow=slow)
    check_prompts(sampler, prompts)
    print(f"drawing with {describe(sampler)}", flush=True)
    larger = upsampler_of(sampler, upsampler) if upsample else None  # before the work begins
    _warn_of_prompts(
        sampler, prompts if avoid is None else [f"{prompt}, {avoid}" for prompt in prompts]
    )
    options: dict[str, Any] = {}
    if best_of > 1:
        options["best_of"] = best_of
    if truncation < 1.0:
        options["truncation"] = truncation
    if avoid is not None:
        options |= {"avoid": avoid, "avoid_strength": avoid_strength}
    with part("encode and draw"):
        images = sampler(prompts, num=num, seed=seed, batch_size=batch_size, **options)
    labels = {
        "seed": str(seed),
        **{name: str(value) for name, value in options.items()},
        "checkpoint": origin(sampler),
        "version": f"flaxgan {flaxgan.__version__}",
    }
    if larger is not None:
        print(f"enlarging {larger.times} times with {describe(larger)}", flush=True)
        each = [prompt for prompt in prompts for _ in range(num)]
        flat = images.reshape(-1, *images.shape[2:])
        flat = larger.upsample(flat, each, seed=seed, batch_size=batch_size)
        images = flat.reshape(*images.shape[:2], *flat.shape[1:])
        labels["upsampler"] = origin(larger)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not separate:
            shown = [prompt or grids.NO_PROMPT for prompt in prompts]
            picture = grids.grid_png(images, shown if captions else None)
            grids.save_png(picture, out, {"prompt": "\n".join(prompts), **labels})
            return [out]
        paths = []
        for row, prompt in enumerate(prompts):
            for column in range(num):
                path = out.with_stem(f"{out.stem}-{row:02d}-{column:02d}")
                picture = grids.flat_grid(images[row, column : column + 1], columns=1)
                grids.save_png(picture, path, {"prompt": prompt, **labels})
                paths.append(path)
        return paths
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error


def check_prompts(sampler: Sampler, prompts: Sequence[str]) -> None:
    """Raises UserError for an empty prompt where a generator was never trained with one."""
    if "" in prompts and sampler.text_encoder and not sampler.config.data.caption_dropout:
        raise UserError(
            "empty prompt: this generator was not trained with empty prompts; write a prompt, or "
            "train it with --data.caption-dropout 0.1"
        )


def _clean(prompt: str) -> str:
    """NFC, without control characters, halves of characters, and outer white space."""
    return " ".join(printable(prompt).split())[:MAX_CHARACTERS].rstrip()


def _warn_of_prompts(sampler: Sampler, prompts: Sequence[str]) -> None:
    encoder = sampler.text_encoder
    if encoder is None:
        _warn("this generator is unconditional: it draws without reading the prompt")
        return
    for prompt, count in zip(prompts, encoder.count_tokens(prompts), strict=True):
        if not encoder.learned and encoder.unknown_fraction(prompt) > 0.3:
            _warn(f"the text encoder does not know many words of: {prompt[:40]}")
        if count > encoder.max_tokens:
            _warn(
                f"prompt is longer than {encoder.max_tokens} tokens, its end is cut: {prompt[:40]}…"
            )


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def main(argv: Sequence[str]) -> None:
    """Parses the command line, draws, and says what was written."""
    parser = cli.Parser(prog="flaxgan sample", description="Draw pictures from prompts.")
    add = parser.add_argument
    add("--prompt", action="append", default=[], help="any number of times")
    add("--prompts-file", type=Path, help="text file with one prompt a line")
    cli.add_generator_options(parser)
    add("--num", type=int, default=4, help="pictures of each prompt")
    add("--upsample", action="store_true", help="enlarge the pictures, four times with avatars")
    add("--upsampler", type=Path, help="a run, checkpoint or file that enlarges, for --upsample")
    add("--best-of", type=int, default=1, help="draw so many for each picture, keep the best")
    add("--truncation", type=float, default=1.0, help="in [0, 1]: less is more typical")
    add("--avoid", help="what not to draw")
    add("--avoid-strength", type=float, help=f"of --avoid, default {AVOID_STRENGTH:g}")
    cli.add_drawing_options(parser, batch_size=16)
    add("--out", type=Path, default=Path("samples.png"), help="PNG file to write")
    add("--separate", action="store_true", help="write one file for each picture")
    add("--no-captions", action="store_true", help="draw the grid without text")
    args = parser.parse_args(argv)
    cli.check_drawing_options(args)
    if args.upsampler is not None and not args.upsample:
        raise UserError("--upsampler is read with --upsample only")
    if args.avoid_strength is not None and args.avoid is None:
        raise UserError("--avoid-strength is read with --avoid only")
    cli.prepare_process()  # a second CPU device made a cold start slower, and drawing no faster
    with part("all after the imports"):
        paths = _draw_as_asked(args)
    print(f"wrote {paths[0]}" if len(paths) == 1 else f"wrote {len(paths)} files: {paths[0]} …")


def _draw_as_asked(args: argparse.Namespace) -> list[Path]:
    return draw(
        prompts=read_prompts(args.prompt, args.prompts_file),
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
        upsample=args.upsample,
        upsampler=args.upsampler,
        best_of=args.best_of,
        truncation=args.truncation,
        avoid=args.avoid if args.avoid is None else _clean(args.avoid),
        avoid_strength=AVOID_STRENGTH if args.avoid_strength is None else args.avoid_strength,
    )
