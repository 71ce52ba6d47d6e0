"""Pictures that a generator is given beside text: made from real ones, for training and scores.

A generator that is given pictures has one of two methods:
- `shrink(images [b, h, w, c], keys [b] or None)`, of one that enlarges, gives small pictures
  `[b, h / times, w / times, c]`: see `flaxgan.models.low_pictures`;
- `blank(images [b, h, w, c], keys [b] or None)`, of one that fills holes, gives pictures without
  what lies in them, and the holes, `[b, h, w, c + 1]`: see `flaxgan.models.holes`.
What they give goes with the captions, in `Text.picture`, to both networks: so data sets, batches
and checkpoints are those of any other family.
"""

from collections.abc import Iterable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.images import to_float
from flaxgan.text.conditioning import Text


def with_picture(
    generator: nn.Module, text: Text | None, images: Array, keys: Array | None = None
) -> Text | None:
    """Text, and with it pictures where the generator is one that is given some.

    Args:
      generator: any.
      text: captions `[b, …]`; None: there are none.
      images: `[b, h, w, c]` float in [-1, 1], that the pictures are made from.
      keys: `[b]`, of their faults or holes; None: they have no faults, and always the same holes.
    """
    if not is_given_pictures(generator):
        return text
    give = generator.shrink if enlarges(generator) else generator.blank
    return (text or Text()).replace(picture=give(images, keys))


def with_real_pictures(
    generator: nn.Module, text: Text | None, images: Iterable[np.ndarray]
) -> Text | None:
    """As `with_picture`, from pictures of a data set: `[n, h, w, c]` uint8 at a time."""
    if not is_given_pictures(generator):
        return text
    given = [with_picture(generator, None, to_float(jnp.asarray(x))).picture for x in images]
    return (text or Text()).replace(picture=np.concatenate([np.asarray(x) for x in given]))


def is_given_pictures(generator: nn.Module) -> bool:
    """Whether a generator makes pictures from others."""
    return enlarges(generator) or inpaints(generator)


def enlarges(generator: nn.Module) -> bool:
    """Whether a generator makes pictures from smaller ones."""
    return hasattr(generator, "shrink")


def inpaints(generator: nn.Module) -> bool:
    """Whether a generator fills holes of pictures."""
    return hasattr(generator, "blank")
