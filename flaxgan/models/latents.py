"""What a generator makes of text and noise before it draws: text features, and w."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from flaxgan.text.conditioning import Text, TextFeatures, text_features

NOISES = 512  # that the mean of w is taken over


def generator_text(generator: nn.Module, params: Any, text: Text | None) -> TextFeatures | None:
    """Text, standardised, as a generator's own text encoder sees it: `[b, t, d]` and `[b, d]`.

    Given to the generator in place of the text, it draws the same.
    """

    def encode(module: nn.Module) -> TextFeatures | None:
        return text_features(getattr(module, "text_encoder", None), text)

    return generator.apply({"params": params}, method=encode)


def draw_truncated(
    generator: nn.Module,
    params: Any,
    z: Array,
    text: Text | TextFeatures | None,
    truncation: Array | float,
) -> Array:
    """Typical pictures: w is drawn to its mean, w' = mean + psi (w - mean).

    The mean is that of NOISES noises, always the same ones, together with the text of this very
    picture: what is left out is how noises differ, not what the text says.

    Args:
      generator: one with `to_w`; of any other z is scaled, z' = psi z.
      params: of the generator.
      z: `[b, z]` noise.
      text: `[b, …]`; None for an unconditional generator.
      truncation: psi in [0, 1]. 1: nothing is changed; 0: all noises draw one picture.

    Returns:
      `[b, h, w, c]`.

    Reference: "Truncation trick in W", Karras et al. 2019 (StyleGAN), appendix B, whose mean is of
      all pictures; in z, Brock et al. 2019 (BigGAN), section 3.1. Deviations: the mean depends on
      the text; z is scaled, not drawn again where it is large.
    """
    variables = {"params": params}
    if not hasattr(generator, "to_w"):
        return generator.apply(variables, truncation * z, text)
    words = text if isinstance(text, TextFeatures) else generator_text(generator, params, text)

    def to_w(z: Array) -> Array:
        return generator.apply(variables, z, words, method="to_w")

    noises = jax.random.normal(jax.random.key(0), (NOISES, z.shape[-1]))
    mean = jax.vmap(lambda noise: to_w(jnp.broadcast_to(noise, z.shape)))(noises).mean(axis=0)
    return generator.apply(variables, z, words, mean + truncation * (to_w(z) - mean))
