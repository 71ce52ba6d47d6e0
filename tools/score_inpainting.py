"""What an inpainter is worth on `avatars`: python -m tools.score_inpainting.

Real portraits of the split `test`, rendered anew, of which one named attribute is asked for another
value (`tools.score_editing`), with a hole where that attribute is: the hair, the face or the
clothes. Judged by the classifier of `attributes`, which has no part in the work. `--sheet FILE.png`
writes a contact sheet.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flaxgan.commands import cli
from flaxgan.commands.generator import choose_inpainter
from flaxgan.drawing import grids
from flaxgan.drawing.filling import Margins
from flaxgan.drawing.sampler import Sampler
from flaxgan.evaluate.networks.attribute_net import (
    AttributeClassifier,
    load_attribute_classifier,
)
from tools.score_editing import Change, change_one, judge_edits, portraits

PLACES = {
    "hair": ("hair", "hair_color", "hat", "hat_color"),
    "face": ("eyebrows", "eyes", "mouth", "facial_hair", "facial_hair_color", "accessory"),
    "clothes": ("clothing", "clothing_color", "graphic"),
}
COLUMNS, BATCH = 8, 32
CROP = (8, 16)  # rows and columns that the last row of the sheet continues, at 32 px
ROWS = (
    "real portraits of the split test",
    "without the place of what is asked for",
    "redrawn with the new caption",
    "redrawn with other noise",
    "without their upper and left part",
    "continued: --left 16 --top 8",
)


def holes(side: int) -> dict[str, np.ndarray]:
    """Place -> `[side, side]` bool, where a portrait has it; in 32nds of the side."""

    def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
        place = (np.arange(side) + 0.5) * 32 / side
        rows, columns = (place > top) & (place < bottom), (place > left) & (place < right)
        return rows[:, None] & columns

    return {
        "hair": box(0, 26, 2, 30) & ~box(9, 26, 11, 21),  # also long hair beside the face
        "face": box(9, 24, 8, 24),
        "clothes": box(21, 32, 0, 32),
    }


def place_of(change: Change) -> str | None:
    """Where what is asked for is; None: everywhere (skin)."""
    return next((place for place, names in PLACES.items() if change.attribute in names), None)


def changes_in_holes(num: int, classifier: AttributeClassifier) -> list[Change]:
    """Of the first `num` portraits where something in a hole can be asked for."""
    found: list[Change] = []
    for index in range(2 * num):
        change = change_one(index, classifier)
        if change is not None and place_of(change) is not None:
            found.append(change)
        if len(found) == num:
            break
    return found


def border_steps(images: np.ndarray, masks: np.ndarray) -> float:
    """Mean absolute difference of neighbours of which one is in the hole, of 255 levels.

    Args:
      images: `[n, h, w, c]` uint8.
      masks: `[n, h, w]` bool.
    """
    images = images.astype(np.float64)
    found = []
    for axis in (1, 2):
        step = np.abs(np.diff(images, axis=axis)).mean(axis=-1)
        found.append(step[np.diff(masks, axis=axis)])
    return float(np.concatenate(found).mean())


def sheet(
    sampler: Sampler, asked_for: Sequence[Change], pictures: np.ndarray, masks: np.ndarray
) -> Image.Image:
    """Six rows, see ROWS."""
    after, before = [x.after for x in asked_for], [x.before for x in asked_for]
    drawn = sampler.inpaint(pictures, masks, after, num=2, seed=1, batch_size=BATCH)
    side = pictures.shape[1]
    rows, columns = (n * side // 32 for n in CROP)
    part = pictures[:, rows:, columns:]
    margins = Margins(left=columns, top=rows)
    continued = sampler.outpaint(part, before, left=columns, top=rows, seed=1, batch_size=BATCH)
    grey = np.uint8(128)
    table = [
        pictures,
        np.where(masks[..., None], grey, pictures),
        drawn[:, 0],
        drawn[:, 1],
        np.where(margins.hole(part[0])[..., None], grey, pictures),
        continued[:, 0],
    ]
    return grids.grid_png(np.stack(table), ROWS)


def report(sampler: Sampler, classifier: AttributeClassifier, args: argparse.Namespace) -> None:
    """Prints the tables, and writes the sheet."""
    side = sampler.config.data.resolution
    asked_for = changes_in_holes(args.num, classifier)
    pictures = portraits([x.attributes for x in asked_for], side)
    places = np.array([place_of(x) for x in asked_for])
    masks = np.stack([holes(side)[place] for place in places])
    before, after = [x.before for x in asked_for], [x.after for x in asked_for]
    sampler.inpaint(pictures[:BATCH], masks[:BATCH], after[:BATCH], batch_size=BATCH)  # compiled
    start = time.perf_counter()
    edited = sampler.inpaint(pictures, masks, after, batch_size=BATCH)[:, 0]
    each = 1000 * (time.perf_counter() - start) / len(pictures)
    same = sampler.inpaint(pictures, masks, before, batch_size=BATCH)[:, 0]
    assert (edited == pictures)[~masks].all(), "pixels outside the hole have changed"
    print(f"{len(pictures)} portraits, {each:.1f} ms each, text included; outside the hole equal\n")
    print("| hole | portraits | changed as asked | others kept | with the old caption, kept |")
    print("|---|---|---|---|---|")
    for place in ("all", *PLACES):
        rows = np.flatnonzero((places == place) | (place == "all"))
        chosen = [asked_for[i] for i in rows]
        changed, kept = judge_edits(chosen, edited[rows], classifier)
        share = np.mean([x for found in changed.values() for x in found])
        _, kept_same = judge_edits(chosen, same[rows], classifier)
        print(
            f"| {place} | {len(rows)} | {share:.3f} | {kept.mean():.3f} | {kept_same.mean():.3f} |"
        )
    _, kept = judge_edits(asked_for, pictures, classifier)
    print(f"\nOf the portraits themselves {kept.mean():.3f} of the others count as kept.")
    real = border_steps(pictures, masks)
    for name, images in (("new", edited), ("old", same)):
        steps = border_steps(images, masks)
        print(f"Steps across the border, {name} caption: {steps:.2f}, real {real:.2f} "
              f"({steps / real - 1:+.1%})")  # fmt: skip
    print("\n| attribute | changed | portraits |\n|---|---|---|")
    changed, _ = judge_edits(asked_for, edited, classifier)
    for name, right in sorted(changed.items()):
        print(f"| {name} | {np.mean(right):.2f} | {len(right)} |")
    if args.sheet is not None:
        first = slice(args.first, args.first + COLUMNS)
        picture = sheet(sampler, asked_for[first], pictures[first], masks[first])
        grids.save_png(picture, args.sheet, {})
        for change in asked_for[first]:
            print(f"{change.attribute}: {change.before} -> {change.after}")


def main(argv: Sequence[str]) -> None:
    """Prints tables in Markdown."""
    parser = cli.Parser(
        prog="python -m tools.score_inpainting",
        description="What an inpainter is worth on avatars.",
    )
    cli.add_checkpoint_option(parser)
    add = parser.add_argument
    add("--num", type=int, default=1000, help="portraits")
    add("--sheet", type=Path, help="contact sheet")
    add("--first", type=int, default=0, help="portrait of the sheet")
    args = parser.parse_args(argv)
    cli.prepare_process(0)
    sampler = choose_inpainter(args.checkpoint)
    classifier = load_attribute_classifier(sampler.config.data.resolution)
    report(sampler, classifier, args)


if __name__ == "__main__":
    cli.run(main)
