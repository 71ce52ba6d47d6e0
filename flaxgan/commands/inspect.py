"""What a folder of pictures holds, before it is trained on: `flaxgan inspect PATH`."""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxgan.commands import cli, data_options
from flaxgan.config import Config, DataConfig, TextConfig, check
from flaxgan.data.own_pictures.builder import find_pictures
from flaxgan.data.own_pictures.survey import Survey, copies, survey
from flaxgan.drawing import grids
from flaxgan.errors import UserError
from flaxgan.run.data_report import LOOKED_AT, advised_tokens
from flaxgan.text import TextEncoder, build_text_encoder

SHOWN_REJECTIONS = 20
SHOWN_CLASSES = 10
FOLDER_NAMES = "whose names are the captions"  # says `Listing.layout`
# fields of the data section that do not change what is found
NOT_READ = frozenset(
    {"name", "split", "test_split", "data_dir", "image_key", "max_captions", "caption_numbers"}
    | {"resolution", "channels", "strict", "caption_dropout", "horizontal_flip", "in_memory_mb"}
    | {"num_workers"}
)
SIDES = (32, 64, 128, 256)


def report(survey: Survey) -> dict[str, Any]:
    """Counts, sizes, captions, copies and rejections, JSON-able."""
    usable, rejected = survey.usable, survey.rejected
    sides = np.array([min(f.width, f.height) for f in usable])
    ratios = np.array([f.width / f.height for f in usable])
    captions = [caption for fact in usable for caption in fact.captions]
    words = np.array([len(caption.split()) for caption in captions])
    groups = copies(usable)
    return {
        "path": str(survey.listing.path),
        "layout": survey.listing.layout,
        "notes": list(survey.listing.notes),
        "found": len(survey.facts),
        "usable": len(usable),
        "shorter_side": _spread(sides),
        "smaller_than": {str(side): int((sides < side).sum()) for side in SIDES},
        "aspect_ratio": _spread(ratios),
        "formats": dict(Counter(f.format for f in usable).most_common()),
        "modes": dict(Counter(f.mode for f in usable).most_common()),
        "captions": len(captions),
        "distinct_captions": len(set(captions)),
        "caption_words": _spread(words),
        "tokens": _tokens(captions),
        "classes": _classes(survey),
        "copies": [[fact.name for fact in group] for group in groups],
        "reasons": dict(Counter(f.reason for f in rejected).most_common()),
        "rejected": [{"name": f.name, "reason": f.reason, "detail": f.detail} for f in rejected],
    }


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    found, usable = report["found"], report["usable"]
    lines = [
        f"{report['path']}: {report['layout']}",
        *(f"  {note}" for note in report["notes"]),
        f"pictures      {found:,} found, {usable:,} usable",
    ]
    if usable:
        side, ratio = report["shorter_side"], report["aspect_ratio"]
        small = [f"{n:,} below {s}" for s, n in report["smaller_than"].items() if n]
        lines += [
            f"shorter side  {side['min']:.0f} to {side['max']:.0f} pixels, median "
            f"{side['median']:.0f}" + (f"; {', '.join(small)}" if small else ""),
            f"width/height  {ratio['min']:.2f} to {ratio['max']:.2f}, median {ratio['median']:.2f}",
            f"formats       {_counts(report['formats'])}; modes: {_counts(report['modes'])}",
        ]
        if report["captions"]:
            words = report["caption_words"]
            lines.append(
                f"captions      {report['captions']:,} ({report['distinct_captions']:,} distinct), "
                f"{words['min']:.0f} to {words['max']:.0f} words, median {words['median']:.0f}"
            )
        if report["tokens"]:
            tokens = report["tokens"]
            lines.append(
                f"tokens        {tokens['min']:.0f} to {tokens['max']:.0f}, median "
                f"{tokens['median']:.0f}; 19 of 20 captions fit: --text.max-tokens "
                f"{tokens['advised']}"
            )
        if report["classes"]:
            lines.append(f"classes       {_most_common(report['classes'])}")
    if report["copies"]:
        count = sum(len(group) - 1 for group in report["copies"])
        first = " = ".join(report["copies"][0][:3])
        lines.append(f"copies        {count:,} pictures look like an earlier one, e.g. {first}")
    if report["reasons"]:
        lines.append(f"not usable    {_counts(report['reasons'])}")
        for row in report["rejected"][:SHOWN_REJECTIONS]:
            detail = f" ({row['detail']})" if row["detail"] else ""
            lines.append(f"  {row['name']}: {row['reason']}{detail}")
        if (more := len(report["rejected"]) - SHOWN_REJECTIONS) > 0:
            lines.append(f"  … and {more:,} more: --json FILE lists all")
    return "\n".join(lines)


def contact_sheet(survey: Survey) -> Any:
    """Some pictures with their first captions, as a `PIL.Image`."""
    captions = [(survey.facts[i].captions or ("",))[0] for i in survey.shown]
    return grids.contact_sheet(survey.thumbnails, captions)


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }


@functools.cache
def _words() -> TextEncoder | None:
    try:
        return build_text_encoder(TextConfig(encoder="words"))
    except UserError:  # its package is not installed
        return None


def _tokens(captions: Sequence[str]) -> dict[str, float]:
    """Lengths of captions, as configs/folder.py reads them; empty without the extra `text`."""
    encoder = _words()
    if encoder is None or not captions:
        return {}
    distinct = sorted(set(captions))
    rows = np.linspace(0, len(distinct) - 1, min(LOOKED_AT, len(distinct))).astype(int)
    lengths = np.array(encoder.count_tokens([distinct[row] for row in rows]))
    return {**_spread(lengths), "advised": advised_tokens(lengths)}


def _classes(survey: Survey) -> dict[str, int]:
    """Usable pictures of each class, most first; empty where folders do not name them."""
    if FOLDER_NAMES not in survey.listing.layout:
        return {}
    return dict(Counter(fact.captions[0] for fact in survey.usable if fact.captions).most_common())


def _most_common(counts: dict[str, int]) -> str:
    shown = _counts(dict(list(counts.items())[:SHOWN_CLASSES]))
    more = len(counts) - SHOWN_CLASSES
    return f"{len(counts):,}: {shown}" + (f" … and {more:,} more" if more > 0 else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _data(parser: cli.Parser, args: Any) -> DataConfig:
    """Which pictures, and how they are read."""
    config = data_options.override(Config(), args)
    data = config.data
    if args.path is not None and data.path is not None:
        parser.error("give either PATH or --data.path, not both")
    if args.path is None and data.path is None:
        parser.error("the following arguments are required: PATH")
    if args.path is not None:
        data = dataclasses.replace(data, path=args.path)
    if args.captions_optional:
        data = dataclasses.replace(data, caption_key="")
    check(dataclasses.replace(config, data=data), "data")
    return data


def main(argv: Sequence[str]) -> None:
    """Parses the command line, prints the report, writes the files."""
    parser = cli.Parser(
        prog="flaxgan inspect",
        description="What a folder of captioned pictures holds.",
    )
    add = parser.add_argument
    add("path", nargs="?", metavar="PATH", help="as --data.path: the pictures")
    add("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet")
    add("--json", type=Path, metavar="FILE", help="write the whole report")
    add("--pictures", type=int, default=40, help="on the contact sheet")
    add("--captions-optional", action="store_true", help="pictures without captions are usable")
    older = {"caption_column": ("--caption-column",), "fit": ("--fit",)}
    data_options.add_data_options(parser, without=NOT_READ, also=older)
    args = parser.parse_args(data_options.dashed(argv))
    data = _data(parser, args)
    if args.pictures < 1:
        raise UserError(f"--pictures must be at least 1, not {args.pictures}")
    if args.sheet is not None and args.sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet must end in .png, not {args.sheet.name}")
    thumbnails = args.pictures if args.sheet else 0
    result = survey(find_pictures(data), thumbnails=thumbnails, fit=data.fit)
    facts = report(result)
    print(text(facts))
    try:
        if args.json is not None:
            args.json.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        if args.sheet is not None and len(result.thumbnails):
            grids.save_png(contact_sheet(result), args.sheet, {})
            print(f"wrote {args.sheet}")
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from error
