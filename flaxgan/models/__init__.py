"""Networks: `build_models(config)` gives a generator and a discriminator of one family.

Every family keeps one protocol, which is all that the objective knows:
- `generator(z [b, z], text) -> images [b, h, w, c]`, float32; text may be its features already,
  which `text_features(text_encoder, text)` passes on. One whose noise and sentence become an
  intermediate latent vector has `.to_w(z, text) -> [b, w]`, and takes `w` as a third argument, also
  one for each of its `.w_stages()` stages, `[b, stages, w]`;
- `discriminator.encode_text(text) -> TextFeatures | None`,
  `.image_features(images, keys) -> features` (`keys [b]` switch dropout on, None off),
  `.logits(features, text features) -> [b]`, float32,
  `.embed_image(features)` and `.embed_text(text features) -> [b, e]`, if `embed_dim` > 0, for
  contrastive losses,
  and `.score(images, text, keys)`, all in turn;
  `.image_stages()`: the parameters of each stage that an image goes through, from the image on, as
  paths of parts of the parameter tree ("trunk/block0"); what train.freeze_d_blocks counts.
A generator that is given pictures has `.shrink`, if it enlarges them, or `.blank`, if it fills
holes, and its discriminator's `image_features` takes them as a third argument: see
`flaxgan.models.given_pictures`.
With `model.frozen_features`, D has a second judge beside it: `.frozen_logits`, see
`flaxgan.models.frozen`.
Split so, a step judges the same images with right and wrong captions at the cost of one trunk.
"""

import flax.linen as nn
import jax.numpy as jnp

from flaxgan.config import Config
from flaxgan.config.rules import check
from flaxgan.errors import UserError
from flaxgan.models.family import Family
from flaxgan.models.frozen import WithFrozenFeatures
from flaxgan.registry import Table
from flaxgan.text import ENCODERS

__all__ = ["FAMILIES", "Family", "build_models"]

FAMILIES = Table(
    "model.family",
    {
        "dfgan": "flaxgan.models.dfgan:FAMILY",
        "r3gan": "flaxgan.models.r3gan:FAMILY",
        "gat": "flaxgan.models.gat:FAMILY",
        "mlp": "flaxgan.models.mlp:FAMILY",
        "upsampler": "flaxgan.models.upsampler:FAMILY",
        "inpainter": "flaxgan.models.inpainter:FAMILY",
    },
    kind=Family,
    group="flaxgan.model_families",
)


def build_models(config: Config, *, sentence_dim: int | None = None) -> tuple[nn.Module, nn.Module]:
    """Builds (generator, discriminator).

    Args:
      config: its model, data (resolution, channels) and text sections are read.
      sentence_dim: width of frozen sentence vectors; only checked, as layers find it out.

    Raises:
      UserError: a value that no model supports, or that this family does not read.
    """
    check(config, "model", "data.resolution", "data.channels", "text")
    if sentence_dim is not None and sentence_dim < 1:
        raise UserError(f"sentence_dim must be >= 1, not {sentence_dim}")
    learned = ENCODERS[config.text.encoder].module
    encoders = tuple(learned(config.text) if learned else None for _ in range(2))
    generator, discriminator = FAMILIES[config.model.family].build(config, encoders)
    if config.model.frozen_features:
        discriminator = WithFrozenFeatures(discriminator, jnp.dtype(config.model.dtype))
    return generator, discriminator
