"""What --best-of, --truncation and --avoid are worth: python -m tools.score_drawing.

Captions of `avatars` that training never saw, judged by the classifier of `attributes`, which has
no part in the drawing. No picture of the data set is needed.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler
from flaxgan.data.avatar_vocabulary import CLOTHING_COLOR, HAIR_COLOR, Words
from flaxgan.data.avatars import sample_example
from flaxgan.drawing.sampler import Sampler
from flaxgan.evaluate.attribute_accuracy import Asked, accuracies, asked, repeats
from flaxgan.evaluate.attribute_evaluator import FULL, OPEN
from flaxgan.evaluate.networks.attribute_net import (
    AttributeClassifier,
    load_attribute_classifier,
)

SPLITS = ("test", "heldout")
BATCH = 50
SEEDS = 10  # noises are spread over so many, so that no score hangs on a few of them
# what is avoided: attribute -> its words, and what has that colour
COLORS: dict[str, tuple[Mapping[str, Words], str]] = {
    "hair_color": (HAIR_COLOR, "hair"),
    "clothing_color": (CLOTHING_COLOR, "clothes"),
}


def captions(classifier: AttributeClassifier, num: int, number: int) -> tuple[list[str], Asked]:
    """Captions of a kind, `num` of each split, and what they ask.

    Args:
      classifier: whose attributes count.
      num: of each split.
      number: FULL: naming all; OPEN: naming one to three things.
    """
    examples = [sample_example(split, i, number + 1) for split in SPLITS for i in range(num)]
    texts = [texts[number] for _, texts in examples]
    rows = [attributes for attributes, _ in examples]
    return texts, asked(classifier.classes, rows, texts, classifier.alike)


def draw(
    sampler: Sampler,
    texts: Sequence[str],
    num: int = 1,
    avoid: Sequence[str] | None = None,
    **options: Any,
) -> np.ndarray:
    """`[n, num, h, w, c]` uint8: captions in SEEDS groups, each with noises of its own."""
    drawn = []
    for seed, rows in enumerate(np.array_split(np.arange(len(texts)), SEEDS)):
        if avoid is not None:
            options["avoid"] = [avoid[i] for i in rows]
        group = [texts[i] for i in rows]
        drawn.append(sampler(group, num=num, seed=seed, batch_size=BATCH, **options))
    return np.concatenate(drawn)


def score(sampler: Sampler, classifier: AttributeClassifier, num: int, **options: Any) -> str:
    """One row: attributes and bindings of full captions; repeats, and time, of open ones."""
    texts, wanted = captions(classifier, num, FULL)
    found = accuracies(wanted, classifier.predict(draw(sampler, texts, **options)[:, 0]))
    texts, wanted = captions(classifier, num, OPEN)
    start = time.perf_counter()
    pairs = draw(sampler, texts, 2, **options)
    each = (time.perf_counter() - start) / (2 * len(texts))
    first, second = (classifier.predict(pairs[:, k]) for k in range(2))
    same = np.mean(list(repeats(wanted, first, second).values()))
    return f"{_accuracies(found)} | {same:.3f} | {1000 * each:.0f} ms"


def ceiling(sampler: Sampler, classifier: AttributeClassifier, num: int, best_of: int) -> str:
    """One row: what choosing could give at the most, if the judge itself chose."""
    texts, wanted = captions(classifier, num, FULL)
    images = draw(sampler, texts, best_of)
    seen = np.stack([classifier.predict(images[:, k]) for k in range(best_of)], axis=1)
    right = ((seen == wanted.truth[:, None]) & wanted.named[:, None]).sum(axis=-1)
    best = right.argmax(axis=1)[:, None, None]
    found = accuracies(wanted, np.take_along_axis(seen, best, axis=1)[:, 0])
    return f"{_accuracies(found)} | | |"


def _accuracies(found: Mapping[str, tuple[float, int]]) -> str:
    return " | ".join(f"{found[name][0]:.3f}" for name in ("attr_mean", "attr_unasked", "binding"))


def avoided(
    sampler: Sampler, classifier: AttributeClassifier, num: int, strength: float
) -> tuple[float, float]:
    """Colours that a picture shows unasked are avoided, with the same noise.

    Returns:
      How often they are still there, and how much of what the captions name is there.
    """
    texts, wanted = captions(classifier, num, OPEN)
    before = classifier.predict(draw(sampler, texts)[:, 0])
    still, kept = [], []
    for name, (words, noun) in COLORS.items():
        column = wanted.column(name)
        shown = [classifier.classes[name][k] for k in before[:, column]]
        rows = [
            i for i, value in enumerate(shown) if value in words and not wanted.named[i, column]
        ]
        avoid = [f"{words[value].en[0]} {noun}" if value in words else noun for value in shown]
        images = draw(sampler, texts, avoid=avoid, avoid_strength=strength)[:, 0]
        after = classifier.predict(images)[rows]
        still.append(float((after[:, column] == before[rows, column]).mean()))
        kept.append(float((after == wanted.truth[rows])[wanted.named[rows]].mean()))
    return float(np.mean(still)), float(np.mean(kept))


def main(argv: Sequence[str]) -> None:
    """Prints two tables in Markdown."""
    parser = cli.Parser(
        prog="python -m tools.score_drawing",
        description="What --best-of, --truncation and --avoid are worth on avatars.",
    )
    cli.add_generator_options(parser)
    parser.add_argument("--num", type=int, default=250, help="captions of each of two splits")
    parser.add_argument("--best-of", type=int, default=8, help="against the first")
    parser.add_argument("--truncation", type=float, nargs="*", default=[0.7, 0.5])
    parser.add_argument("--avoid-strength", type=float, nargs="*", default=[0, 1, 1.5, 2, 4])
    args: argparse.Namespace = parser.parse_args(argv)
    cli.prepare_process()
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    classifier = load_attribute_classifier(sampler.config.data.resolution)
    parts = (sampler, classifier, args.num)
    draw(sampler, captions(classifier, args.num, OPEN)[0])  # compiled before the clock runs
    print("| option | attributes | not asked for | binding | repeats | a picture |")
    print("|---|---|---|---|---|---|")
    print(f"| none | {score(*parts)} |", flush=True)
    print(f"| `--best-of {args.best_of}` | {score(*parts, best_of=args.best_of)} |", flush=True)
    print(f"| the judge itself chooses | {ceiling(*parts, args.best_of)}", flush=True)
    for psi in args.truncation:
        print(f"| `--truncation {psi:g}` | {score(*parts, truncation=psi)} |", flush=True)
    print("\n| `--avoid-strength` | still there | attributes |\n|---|---|---|")
    for strength in args.avoid_strength:
        still, kept = avoided(*parts, strength)
        print(f"| {strength:g} | {still:.3f} | {kept:.3f} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
