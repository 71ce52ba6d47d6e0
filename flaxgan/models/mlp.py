"""The fully connected pair for small pictures, unconditional or conditioned on a sentence.

G: z -> 256 -> 512 -> 1024 -> pixels with leaky ReLU 0.2 and tanh; D: pixels -> 1024 -> 512 -> 256
-> 1 with leaky ReLU 0.2 and dropout 0.3. D returns logits: the sigmoid is part of the loss.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from flaxgan.config.fields import Config
from flaxgan.config.rule import Rule
from flaxgan.models.family import Family, common
from flaxgan.models.layers import kernel_init, leaky_relu
from flaxgan.text.conditioning import Text, TextFeatures, text_features

WIDTHS = (256, 512, 1024)
DROPOUT = 0.3


class Generator(nn.Module):
    """z, and a sentence if there is one, to an image. Attributes: as in dfgan.Generator."""

    resolution: int = 28
    channels: int = 1
    text_encoder: nn.Module | None = None
    output: str = "tanh"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: Array, text: Text | TextFeatures | None) -> Array:
        """`[b, z]` and text to `[b, h, w, c]` in [-1, 1]."""
        words = text_features(self.text_encoder, text)
        sentence = words and words.sentence
        x = z if sentence is None else jnp.concatenate([z, sentence], axis=-1)
        for i, width in enumerate(WIDTHS):
            x = leaky_relu(_dense(width, self.dtype, f"dense{i}")(x))
        x = _dense(self.resolution**2 * self.channels, self.dtype, "to_image")(x)
        images = x.reshape(-1, self.resolution, self.resolution, self.channels)
        images = images.astype(jnp.float32)
        return jnp.tanh(images) if self.output == "tanh" else images


class Discriminator(nn.Module):
    """An image, and a sentence if there is one, to a logit. Attributes: as in dfgan.Generator."""

    resolution: int = 28
    channels: int = 1
    text_encoder: nn.Module | None = None
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.hidden = [_dense(width, self.dtype, None) for width in reversed(WIDTHS)]
        self.output = _dense(1, self.dtype, None)

    @nn.nowrap
    def image_stages(self) -> list[list[str]]:
        """One for each hidden layer, the first of which reads text too: see `flaxgan.models`."""
        return [[f"hidden_{i}"] for i in range(len(WIDTHS))]

    def encode_text(self, text: Text | None) -> TextFeatures | None:
        """Text as `logits` reads it."""
        return text_features(self.text_encoder, text)

    def image_features(
        self, images: Array, keys: Array | None = None
    ) -> tuple[Array, Array | None]:
        """`[b, h, w, c]` to pixels `[b, h w c]`, with the keys for dropout; no keys: no dropout."""
        return images.reshape(len(images), -1), keys

    def logits(self, features: tuple[Array, Array | None], text: TextFeatures | None) -> Array:
        """Features and a caption to logits `[b]`, float32."""
        x, keys = features
        if text is not None:
            x = jnp.concatenate([x, text.sentence], axis=-1)
        for i, layer in enumerate(self.hidden):
            x = dropout(leaky_relu(layer(x)), keys, i)
        return self.output(x)[:, 0].astype(jnp.float32)

    def score(self, images: Array, text: Text | None, keys: Array | None = None) -> Array:
        """Images and text to logits `[b]`: the three parts in turn."""
        return self.logits(self.image_features(images, keys), self.encode_text(text))


def dropout(x: Array, keys: Array | None, layer: int) -> Array:
    """Zeroes each value with probability 0.3 and scales the rest by 1 / 0.7.

    One key per example makes the mask independent of the number of devices.

    Args:
      x: `[b, n]`.
      keys: `[b]`; None: x is returned unchanged.
      layer: number of the layer, so that each draws its own mask.
    """
    if keys is None:
        return x
    keep = 1.0 - DROPOUT
    mask = jax.vmap(
        lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), keep, x.shape[1:])
    )(keys)
    return jnp.where(mask, x / keep, 0.0)


def _dense(features: int, dtype: Any, name: str | None) -> nn.Dense:
    return nn.Dense(features, kernel_init=kernel_init, dtype=dtype, name=name)


def build(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[nn.Module, nn.Module]:
    """See `Family`."""
    return (
        Generator(text_encoder=encoders[0], output=config.model.output, **common(config)),
        Discriminator(text_encoder=encoders[1], **common(config)),
    )


FAMILY = Family(
    build,
    rules=(Rule("data.resolution", lambda side, _: side >= 8, "must be >= 8 for mlp"),),
)
