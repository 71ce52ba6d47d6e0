"""What flaxgan edit and flaxgan vary are worth on `avatars`: python -m tools.score_editing.

Real portraits of the split `test`, rendered anew and reduced to the generator's size, judged by the
classifier of `attributes`, which has no part in the work. In every caption one named attribute is
exchanged for another value, by its words. No prepared data set is needed. `--sheets docs` writes
docs/verbs_edit.png and docs/verbs_vary.png.
"""

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler
from flaxgan.data import avatars as data
from flaxgan.data.avatar_captions import TABLES, named_attributes
from flaxgan.data.avatar_vocabulary import HIDDEN
from flaxgan.data.english import fix_articles
from flaxgan.data.pictures import decode
from flaxgan.drawing import grids
from flaxgan.drawing.editing import Inversion
from flaxgan.drawing.inversion import Search
from flaxgan.drawing.sampler import Sampler
from flaxgan.evaluate.attribute_accuracy import Asked, asked, chance_repeats, repeats
from flaxgan.evaluate.attribute_evaluator import FULL, OPEN
from flaxgan.evaluate.networks.attribute_net import (
    AttributeClassifier,
    load_attribute_classifier,
)

COLORS = ("skin", "hair_color", "clothing_color")  # what a variation should keep
VARIATIONS = COLUMNS = 8
EDITS: dict[str, dict[str, float]] = {  # of which the last is the default
    "`--residual 0 --emphasis 1`": {"residual": 0.0, "emphasis": 1.0},
    "`--residual 0`": {"residual": 0.0},
    "`--emphasis 1`": {"emphasis": 1.0},
    "`--strength 0.7`": {"strength": 0.7},
    "as it comes": {},
}
EDIT_ROWS = (
    "real portraits of the split test",
    "what the generator makes of them",
    "edited, --residual 0",
    "edited",
)
BATCH = 32
UNSEEN = (HIDDEN, "NONE")


@dataclasses.dataclass(frozen=True)
class Change:
    """One portrait and what is asked of it.

    Attributes:
      attributes: of the portrait.
      attribute: the one that is exchanged.
      value: for what.
      before, after: the captions.
    """

    attributes: Mapping[str, str]
    attribute: str
    value: str
    before: str
    after: str


def phrases(attributes: Mapping[str, str], part: str) -> dict[tuple[int, int], str]:
    """(number of the phrase, of the colour's word) -> English words of a part, with its colour."""
    table, colors = TABLES[part]
    words = table[attributes[part]]
    color = None if colors is None else colors.get(attributes[f"{part}_color"])
    return {
        (i, j): fix_articles(phrase.format(c=shade))
        for i, phrase in enumerate(words.en)
        for j, shade in enumerate(color.en if color else ("",))
    }


def retell(
    caption: str, before: Mapping[str, str], after: Mapping[str, str], part: str
) -> str | None:
    """A caption with the words of one part exchanged; None where it does not have them."""
    found = [(len(words), key) for key, words in phrases(before, part).items() if words in caption]
    if not found:
        return None
    key = max(found)[1]
    new = phrases(after, part)
    nearest = min(new, key=lambda k: (abs(k[0] - key[0]), abs(k[1] - key[1])))
    return fix_articles(caption.replace(phrases(before, part)[key], new[nearest]))


def possible(attributes: Mapping[str, str]) -> bool:
    """Whether colours are there exactly where the drawing has them, and no pair is withheld."""
    for part, (table, colors) in TABLES.items():
        if colors is not None and attributes[part] in table:
            colored = "{c}" in table[attributes[part]].en[0]
            if colored != (attributes[f"{part}_color"] != HIDDEN):
                return False
    graphic = attributes["clothing"] == "GRAPHIC_SHIRT"
    return graphic == (attributes["graphic"] != HIDDEN) and not data.is_heldout(dict(attributes))


def change_one(index: int, classifier: AttributeClassifier) -> Change | None:
    """One portrait of `test` with one named attribute exchanged, each as likely; None: none can."""
    attributes, captions = data.sample_example("test", index, FULL + 1)
    caption = captions[FULL]
    rng = np.random.default_rng([3, index])
    named = [x for x in named_attributes(attributes, caption) if x in classifier.classes]
    for attribute in rng.permutation(sorted(x for x in named if attributes[x] not in UNSEEN)):
        alike = classifier.alike.get(attribute, {})
        old = attributes[attribute]
        for value in rng.permutation(data.ATTRIBUTES[attribute]):
            new = {**attributes, str(attribute): str(value)}
            same = alike.get(value, value) == alike.get(old, old)
            if value in UNSEEN or same or not possible(new):
                continue
            part = str(attribute).removesuffix("_color")
            text = retell(caption, attributes, new, part)
            if text is not None and text != caption:
                return Change(attributes, str(attribute), str(value), caption, text)
    return None


def changes(num: int, classifier: AttributeClassifier) -> list[Change]:
    """Of the first `num` portraits where it is possible."""
    found: list[Change] = []
    for index in range(2 * num):
        change = change_one(index, classifier)
        found += [change] if change else []
        if len(found) == num:
            break
    return found


def portraits(rows: Sequence[Mapping[str, str]], side: int) -> np.ndarray:
    """`[n, side, side, 3]` uint8, as `avatars/10k` has them."""
    return np.stack([decode(data.render(dict(row)), side, 3, what="a portrait") for row in rows])


def judge_edits(
    asked_for: Sequence[Change], images: np.ndarray, classifier: AttributeClassifier
) -> tuple[dict[str, list[bool]], np.ndarray]:
    """Attribute -> whether each change is seen; and the share of the others that are as before.

    The others are those that the portrait shows, also that there is no hat, beard or glasses.
    """
    seen = classifier.predict(images)
    changed: dict[str, list[bool]] = {}
    kept = []
    for row, change in zip(seen, asked_for, strict=True):
        right = []
        for column, (name, values) in enumerate(classifier.classes.items()):
            alike = classifier.alike.get(name, {})
            wanted = change.value if name == change.attribute else change.attributes[name]
            is_there = row[column] == values.index(alike.get(wanted, wanted))
            if name == change.attribute:
                changed.setdefault(name, []).append(bool(is_there))
            elif wanted != HIDDEN:
                right.append(is_there)
        kept.append(np.mean(right))
    return changed, np.array(kept)


def edit_row(
    asked_for: Sequence[Change], images: np.ndarray, classifier: AttributeClassifier
) -> str:
    """Changed, kept, their product, and the share of pictures with all others kept, in Markdown."""
    changed, kept = judge_edits(asked_for, images, classifier)
    share = float(np.mean([x for found in changed.values() for x in found]))
    return f"{share:.3f} | {kept.mean():.3f} | {share * kept.mean():.3f} | {(kept == 1).mean():.3f}"


def edit_sheet(
    sampler: Sampler, found: Inversion, asked_for: Sequence[Change], pictures: np.ndarray
) -> Image.Image:
    """The first COLUMNS portraits, what the generator makes of them, and both edits."""
    before, after = [x.before for x in asked_for], [x.after for x in asked_for]
    rows = [
        pictures,
        sampler.edit(found, before, before, residual=0.0, batch_size=BATCH)[:, 0],
        sampler.edit(found, before, after, residual=0.0, batch_size=BATCH)[:, 0],
        sampler.edit(found, before, after, batch_size=BATCH)[:, 0],
    ]
    return grids.grid_png(np.stack([row[:COLUMNS] for row in rows]), EDIT_ROWS)


def vary_sheet(sampler: Sampler, found: Inversion, pictures: np.ndarray) -> Image.Image:
    """Two portraits, each with variations at three strengths."""
    rows, names = [], []
    for strength in (0.3, 0.6, 1.0):
        images = sampler.vary(found, num=COLUMNS - 1, strength=strength, seed=1, batch_size=BATCH)
        for k in range(2):
            rows.append((k, np.concatenate([pictures[k : k + 1], images[k]])))
            names.append((k, f"--strength {strength:g}"))
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], i))
    return grids.grid_png(np.stack([rows[i][1] for i in order]), [names[i][1] for i in order])


def report_edits(
    sampler: Sampler, classifier: AttributeClassifier, args: argparse.Namespace
) -> None:
    """Prints the table of edits, and that of single attributes."""
    asked_for = changes(args.num, classifier)
    pictures = portraits([x.attributes for x in asked_for], sampler.config.data.resolution)
    before, after = [x.before for x in asked_for], [x.after for x in asked_for]
    options = {"batch_size": BATCH}
    sampler.invert(pictures[:BATCH], before[:BATCH], search=args.search, **options)  # compiled
    start = time.perf_counter()
    found = sampler.invert(pictures, before, search=args.search, **options)
    each = (time.perf_counter() - start) / len(pictures)
    print(
        f"{len(pictures)} portraits, {each:.2f} s each for the inversion; "
        f"distance {found.distance.mean():.3f}, at most {found.distance.max():.3f}\n"
    )
    print("| pictures | changed | others kept | product | all others kept |\n|---|---|---|---|---|")
    rows = {
        "the portraits": pictures,
        "drawn anew from the second caption": sampler(after, batch_size=BATCH)[:, 0],
    }
    for name, values in EDITS.items():
        edited = rows[name] = sampler.edit(found, before, after, **values, **options)[:, 0]
    for name, images in rows.items():
        print(f"| {name} | {edit_row(asked_for, images, classifier)} |", flush=True)
    print("\n| attribute | changed | portraits |\n|---|---|---|")
    if args.sheets is not None:
        sheet = edit_sheet(sampler, found, asked_for, pictures)
        grids.save_png(sheet, args.sheets / "verbs_edit.png", {})
    changed, _ = judge_edits(asked_for, edited, classifier)
    for name, right in sorted(changed.items()):
        print(f"| {name} | {np.mean(right):.2f} | {len(right)} |")
    if args.sheets is not None:
        for change in asked_for[:COLUMNS]:
            print(f"{change.attribute}: {change.before} -> {change.after}")


def kept_colors(
    sampler: Sampler,
    found: Inversion,
    before: np.ndarray,
    classifier: AttributeClassifier,
    strength: float,
) -> float:
    """Of VARIATIONS variations, how many keep skin, hair and clothes colour, on average."""
    images = sampler.vary(found, num=VARIATIONS, strength=strength, seed=1, batch_size=BATCH)
    seen = [classifier.predict(images[:, k]) for k in range(VARIATIONS)]
    columns = [list(classifier.classes).index(name) for name in COLORS]
    same = [(x[:, columns] == before[:, columns]).all(axis=1) for x in seen]
    return float(np.sum(same, axis=0).mean())


def repeat_rate(
    sampler: Sampler,
    found: Inversion,
    wanted: Asked,
    classifier: AttributeClassifier,
    strength: float,
) -> float:
    """How often two variations agree in what the caption leaves open: see `repeats`."""
    images = sampler.vary(found, num=2, strength=strength, seed=1, batch_size=BATCH)
    first, second = (classifier.predict(images[:, k]) for k in range(2))
    return float(np.mean(list(repeats(wanted, first, second).values())))


def real_repeats(wanted: Asked, classifier: AttributeClassifier) -> float:
    """What `repeats` is for real portraits of one caption: see `chance_repeats`."""
    examples = [data.sample_example("train", i, OPEN + 1) for i in range(2000)]
    rows, texts = [a for a, _ in examples], [t[OPEN] for _, t in examples]
    prior = asked(classifier.classes, rows, texts, classifier.alike)
    return float(np.mean(list(chance_repeats(prior).values())))


def report_variations(
    sampler: Sampler, classifier: AttributeClassifier, args: argparse.Namespace
) -> None:
    """Prints the table of variations, with the caption that names a few things, and without."""
    examples = [data.sample_example("test", i, OPEN + 1) for i in range(args.num_varied)]
    rows, texts = [a for a, _ in examples], [t[OPEN] for _, t in examples]
    wanted = asked(classifier.classes, rows, texts, classifier.alike)
    pictures = portraits(rows, sampler.config.data.resolution)
    before = classifier.predict(pictures)
    print(f"\nReal portraits of one caption: repeats {real_repeats(wanted, classifier):.3f}\n")
    print("| caption | `--strength` | of 8, colours kept | repeats |\n|---|---|---|---|")
    for name, prompts in (("a few words", texts), ("not known", None)):
        found = sampler.invert(pictures, prompts, search=args.search, batch_size=BATCH)
        if prompts is not None and args.sheets is not None:
            sheet = vary_sheet(sampler, found, pictures)
            grids.save_png(sheet, args.sheets / "verbs_vary.png", {})
            print("\n".join(texts[:2]))
        for strength in args.vary_strength:
            parts = (classifier, strength)
            kept = kept_colors(sampler, found, before, *parts)
            same = repeat_rate(sampler, found, wanted, *parts)
            print(f"| {name} | {strength:g} | {kept:.2f} | {same:.3f} |", flush=True)


def main(argv: Sequence[str]) -> None:
    """Prints tables in Markdown."""
    parser = cli.Parser(
        prog="python -m tools.score_editing",
        description="What flaxgan edit and flaxgan vary are worth on avatars.",
    )
    cli.add_generator_options(parser)
    add = parser.add_argument
    add("--num", type=int, default=500, help="portraits that are edited; 0: none")
    add("--num-varied", type=int, default=100, help="portraits that are varied; 0: none")
    add("--sheets", type=Path, help="folder of two contact sheets")
    add("--vary-strength", type=float, nargs="*", default=[0.3, 0.5, 1.0])
    for field in dataclasses.fields(Search):
        flag = "--" + field.name.replace("_", "-")
        add(flag, type=type(field.default), default=field.default, help="of the inversion")
    args: argparse.Namespace = parser.parse_args(argv)
    args.search = Search(**{x.name: getattr(args, x.name) for x in dataclasses.fields(Search)})
    cli.prepare_process(0)
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    classifier = load_attribute_classifier(sampler.config.data.resolution)
    if args.num:
        report_edits(sampler, classifier, args)
    if args.num_varied:
        report_variations(sampler, classifier, args)


if __name__ == "__main__":
    cli.run(main)
