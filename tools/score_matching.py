"""What a discriminator knows of words: python -m tools.score_matching --model avatars.

Real portraits of the split `test`, each with its caption and with the same caption in which one
named attribute is exchanged. For each attribute: how often D's matching head (the contrastive
loss), and its logit (the game), prefer the true caption. 0.5 is chance; a generator cannot learn
from D what D does not tell apart. No prepared data set is needed.
"""

import argparse
import collections
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler
from flaxgan.drawing.drawer import in_batches
from flaxgan.drawing.reranking import Matcher
from flaxgan.drawing.sampler import Sampler
from flaxgan.evaluate.networks.attribute_net import load_attribute_classifier
from flaxgan.images import to_float
from flaxgan.text.conditioning import Text, TextStats, standardise
from tools.score_editing import Change, changes, portraits

BATCH = 64
HEADS = ("matching head", "logit")


def preferences(
    matcher: Matcher, images: np.ndarray, before: Text, after: Text
) -> dict[str, np.ndarray]:
    """Head -> `[n]` how much it prefers the first caption of each picture to the second.

    Args:
      matcher: a discriminator with a matching head.
      images: `[n, h, w, c]` uint8.
      before, after: captions `[n, …]`, as `Sampler.encode` gives them.
    """
    scored = [_head_scores(matcher, images, text) for text in (before, after)]
    return dict(zip(HEADS, (scored[0] - scored[1]).T, strict=True))


def _head_scores(matcher: Matcher, images: np.ndarray, text: Text) -> np.ndarray:
    """`[n, 2]` of pictures with captions."""

    def judge(rows: np.ndarray, text: Text) -> Array:
        return _judge(
            matcher.params, rows, text, matcher.text_stats, discriminator=matcher.discriminator
        )

    return np.concatenate(list(in_batches(judge, images, text, min(BATCH, len(images)))))


@functools.partial(jax.jit, static_argnames="discriminator")
def _judge(
    params: Any, images: Array, text: Text, stats: TextStats | None, *, discriminator: nn.Module
) -> Array:
    """`[b, h, w, c]` uint8 and captions to `[b, 2]`."""

    def scores(module: nn.Module) -> Array:
        features = module.image_features(to_float(images))
        words = module.encode_text(standardise(text, stats))
        cosines = module.embed_image(features) * module.embed_text(words)
        return jax.numpy.stack([cosines.sum(axis=1), module.logits(features, words)], axis=1)

    return discriminator.apply({"params": params}, method=scores)


def score(sampler: Sampler, asked_for: Sequence[Change]) -> dict[str, dict[str, list[bool]]]:
    """Head -> attribute -> whether the true caption is preferred, for each change."""
    images = portraits([change.attributes for change in asked_for], sampler.config.data.resolution)
    texts = [
        sampler.encode([getattr(change, when) for change in asked_for])
        for when in ("before", "after")
    ]
    found: dict[str, dict[str, list[bool]]] = {
        head: collections.defaultdict(list) for head in HEADS
    }
    for head, values in preferences(sampler.matcher, images, *texts).items():
        for change, value in zip(asked_for, values, strict=True):
            found[head][change.attribute].append(bool(value > 0))
    return found


def main(argv: Sequence[str]) -> None:
    """Prints a table: attributes down, heads across."""
    parser = cli.Parser(
        prog="python -m tools.score_matching",
        description="What a discriminator of avatars knows of words.",
    )
    cli.add_generator_options(parser)
    parser.add_argument("--num", type=int, default=1000, help="portraits")
    args: argparse.Namespace = parser.parse_args(argv)
    cli.prepare_process(0)
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    classifier = load_attribute_classifier(sampler.config.data.resolution)
    found = score(sampler, changes(args.num, classifier))
    print("| attribute | portraits | " + " | ".join(HEADS) + " |\n|---|---|---|---|")
    for attribute in classifier.classes:
        rows = [found[head][attribute] for head in HEADS]
        if rows[0]:
            shares = " | ".join(f"{np.mean(row):.2f}" for row in rows)
            print(f"| {attribute} | {len(rows[0])} | {shares} |")
    means = [np.mean([np.mean(row) for row in found[head].values() if row]) for head in HEADS]
    print("| mean of attributes | | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")


if __name__ == "__main__":
    cli.run(main)
