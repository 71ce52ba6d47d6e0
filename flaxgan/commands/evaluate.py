"""`flaxgan evaluate`: pictures in, a table and a JSON file out."""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import flaxgan
from flaxgan.clean_text import printable
from flaxgan.commands import cli, configs, data_options
from flaxgan.commands.generator import choose_sampler
from flaxgan.config import Config, DataConfig, EvalConfig, check, load_config
from flaxgan.data import CaptionedImages, open_dataset
from flaxgan.drawing.bundled import bundled_name
from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.evaluate import METRICS
from flaxgan.evaluate.build import build_evaluators
from flaxgan.evaluate.evaluator import CaptionedSet, Draw, Score, run_evaluators
from flaxgan.evaluate.picture_folder import ImageFolder, export_captions
from flaxgan.models.given_pictures import with_real_pictures
from flaxgan.progress import progress_bar
from flaxgan.text import encode_captions

MOST_IMAGES = 10_000  # drawn by default
# fields of the data section that only training reads: all captions are read here
OF_TRAINING = frozenset(
    {"max_captions", "caption_numbers", "caption_dropout", "horizontal_flip", "num_workers"}
)


def main(argv: Sequence[str]) -> None:
    """Parses the command line, scores, prints and writes."""
    args = _parser().parse_args(data_options.dashed(argv))
    cli.prepare_process(0)
    options = EvalConfig(
        metrics=tuple(name.strip() for name in args.metrics.split(",") if name.strip()),
        batch_size=args.batch_size,
        seed=args.seed,
        prdc_k=args.prdc_k,
        cache_dir=args.cache_dir,
        inception=args.inception,
        inception_resize=args.inception_resize,
        clip=args.clip,
        dinov2=args.dinov2,
    )
    cli.check_drawing_options(args)
    if args.caption_number < 0:
        raise UserError(f"--caption-number must be at least 0, not {args.caption_number}")
    if args.num_images is not None and args.num_images < 2:
        raise UserError(f"--num-images must be at least 2, not {args.num_images}")
    for name in options.metrics:
        METRICS[name]  # an unknown one is refused before anything is read
    folder = ImageFolder(args.images) if args.images else None
    sampler = None
    if folder is None and not args.export_captions:
        sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    config = dataclasses.replace(_config(args, sampler, folder), eval=options)
    check(config, "eval", "data")  # before a data set is made
    split = args.split or config.data.test_split

    @functools.cache
    def open_split(name: str) -> CaptionedImages:
        return open_dataset(
            dataclasses.replace(config.data, max_captions=0, caption_numbers=()), name
        )

    num = args.num_images or min(len(open_split(split)), MOST_IMAGES)
    if folder is not None and not folder.has_captions and args.num_images is None:
        num = len(folder.paths)
    evaluators = build_evaluators(
        config, open_split, split=split, num=num, which=args.caption_number
    )
    sets = list({s.name: s for evaluator in evaluators for s in evaluator.sets}.values())
    if args.export_captions:
        count = export_captions(sets, args.export_captions)
        print(f"wrote {count:,} captions to {args.export_captions}")
        return
    if folder is not None and not folder.has_captions:
        _refuse_captions(options.metrics)
    draw = folder.draw if folder is not None else _drawing(sampler, config, args.seed)
    start = time.monotonic()
    with progress_bar("drawing and scoring", sum(map(len, sets))) as advance:
        scores = run_evaluators(evaluators, draw, batch_size=options.batch_size, advance=advance)
    seconds = time.monotonic() - start
    report = {
        "flaxgan": flaxgan.__version__,
        **_source(sampler, folder),
        "data": config.data.path or config.data.name,
        "resolution": config.data.resolution,
        "split": split,
        "num_images": num,
        "caption_number": args.caption_number,
        "seed": args.seed,
        "truncation": None,  # z is drawn from the whole Gaussian
        "devices": [device.device_kind for device in jax.local_devices()],
        "jax": jax.__version__,
        "seconds": round(seconds, 1),
        "scores": [_as_json(score) for score in scores],
    }
    if args.json:  # first: nothing that a table does can lose it
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {args.json}: {error.strerror}") from error
    _print(scores, report)
    if args.json:
        print(f"wrote {args.json}")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="flaxgan evaluate",
        description="Score a trained generator, or a folder of pictures.",
        epilog=f"metrics: {', '.join(METRICS)}; docs/metrics.md says what each measures",
    )
    add = parser.add_argument
    cli.add_generator_options(parser)
    add("--images", type=Path, help="score the pictures of this folder instead")
    add("--config", help="config file whose data section is used; with --images")
    add("--split", help="whose pictures are the reference and whose captions are drawn")
    add("--metrics", default="fd_pixels8", help="names with commas between")
    add("--num-images", type=int, help=f"default: the whole split, at most {MOST_IMAGES:,}")
    add("--caption-number", type=int, default=0, help="which of each picture's captions is drawn")
    cli.add_drawing_options(parser, batch_size=64)
    add("--prdc-k", type=int, default=5, help="nearest neighbours of precision, recall …")
    add("--inception", metavar="FILE", help="pt_inception-2015-12-05-6726825d.pth")
    choices = ("bilinear", "tf1", "bicubic_antialias")
    whose = "pytorch-fid's, torch-fidelity's or clean-fid's"
    add("--inception-resize", default=choices[0], choices=choices, help=whose)
    add("--clip", metavar="FOLDER", help="a CLIP model, or its name on the hub")
    add("--dinov2", metavar="FOLDER", help="a DINOv2 model, or its name on the hub")
    add("--cache-dir", help="features of real pictures; default ~/.cache/flaxgan/features")
    add("--json", "--out", dest="json", type=Path, metavar="FILE", help="write the whole report")
    add("--export-captions", type=Path, metavar="FILE", help="write the captions, then exit")
    shorter = {"name": ("--data",), "data_dir": ("--data-dir",)}
    data_options.add_data_options(parser, without=OF_TRAINING, also=shorter)
    return parser


def _config(args: Any, sampler: Sampler | None, folder: ImageFolder | None) -> Config:
    """Whose data section says what is real: the checkpoint's or the file's, as flags change it.

    Raises:
      UserError: flags that do not fit what is scored.
    """
    if sampler is not None:
        config = sampler.config
    elif args.config is not None:
        config = load_config(configs.with_path(["--config", args.config])[1])
    else:
        config = Config(data=DataConfig())
    data, named = config.data, data_options.named_fields(args)
    if sampler is None:
        data = dataclasses.replace(data, horizontal_flip="off")  # nothing is trained
    if folder is not None:
        data = dataclasses.replace(data, resolution=folder.side, channels=3)
    if "name" in named:  # in place of own pictures, too
        data = dataclasses.replace(data, path=None)
    if "path" in named and data.path is None:  # own pictures have the usual keys
        usual = DataConfig()
        key = data.caption_key and usual.caption_key
        data = dataclasses.replace(data, image_key=usual.image_key, caption_key=key)
    config = data_options.override(dataclasses.replace(config, data=data), args)
    if sampler is not None or folder is not None:
        _check_size(data, config.data)
    return config


def _check_size(scored: DataConfig, real: DataConfig) -> None:
    """Raises UserError where flags ask for real pictures of another size than the scored ones."""
    for name in ("resolution", "channels"):
        size, asked = getattr(scored, name), getattr(real, name)
        if size != asked:
            raise UserError(f"--data.{name} {asked}: the pictures to score have {size}; remove it")


def _drawing(sampler: Sampler, config: Config, seed: int) -> Draw:
    """Draws the captions of a set."""

    def draw(captioned: CaptionedSet, batch_size: int) -> Any:
        text = None
        if sampler.text_encoder is not None:
            if captioned.captions is None:
                raise UserError(
                    "this generator reads captions, and data set "
                    f"{config.data.path or config.data.name} has none"
                )
            text = encode_captions(sampler.text_encoder, captioned.captions, config.text)
        images = captioned.real_images(batch_size)
        text = with_real_pictures(sampler.generator, text, images)
        return sampler.batches(np.arange(len(captioned)), text, seed=seed, batch_size=batch_size)

    return draw


def _refuse_captions(metrics: Sequence[str]) -> None:
    needing = [name for name in metrics if METRICS[name].needs_captions]
    if needing:
        raise UserError(
            f"{needing[0]} must know which caption each picture was drawn for: write the captions "
            "with --export-captions FOLDER/metadata.jsonl, draw them, and score that folder"
        )


def _source(sampler: Sampler | None, folder: ImageFolder | None) -> dict[str, Any]:
    if sampler is None:
        return {"images": str(folder.path) if folder else None}
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(sampler.params)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf))
    return {
        "checkpoint": bundled_name(sampler.checkpoint) or str(sampler.checkpoint),
        "config": sampler.config.name,
        "images_seen": sampler.images_seen,
        "generator_sha256": digest.hexdigest(),
    }


def _as_json(score: Score) -> dict[str, Any]:
    values = {"name": score.name, "value": score.value, "better": score.better}
    for name in ("std_error", "real", "chance"):
        if getattr(score, name) is not None:
            values[name] = getattr(score, name)
    return {**values, "protocol": dict(score.protocol)}


def _print(scores: Sequence[Score], report: dict[str, Any]) -> None:
    """A table; `real` and `chance` are what the values must be read against."""
    source = report.get("checkpoint") or report["images"]
    title = f"{source}: {report['num_images']:,} pictures, {report['data']} {report['split']}"
    table = Table(
        title=Text(
            printable(title), "table.title"
        ),  # not a string: in one, [b] and :cat: are markup
        caption="real: real pictures instead of drawn ones; chance: real ones of other captions",
    )
    for heading in ("score", "value", "±", "real", "chance", "better"):
        table.add_column(heading, justify="left" if heading in ("score", "better") else "right")
    for score in scores:
        numbers = (score.value, score.std_error, score.real, score.chance)
        table.add_row(Text(score.name), *map(_number, numbers), score.better)
    Console().print(table)
    print(f"{report['seconds']} s")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
