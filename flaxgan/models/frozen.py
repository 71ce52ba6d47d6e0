"""A second judge beside a discriminator: small heads on the features of a frozen network.

What a network trained on photographs sees, a discriminator from scratch has to find out: eyes,
glasses, words that match. The features are those of EfficientNet-Lite0, mixed at random and never
trained; only heads of two layers are.

Reference: Sauer et al. 2021, "Projected GANs Converge Faster" (random mixing across channels and
  scales, several heads), and Kumari et al. 2022 (vision-aided GAN: a frozen network beside the
  discriminator). Realism and alignment are judged by separate heads, so that the caption cannot
  stand in for the picture. Deviation: no discriminator reads the deepest map alone.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.models.layers import Conv, leaky_relu, scaled_init, up_nearest
from flaxgan.models.matching import TokenMatch
from flaxgan.pretrained import efficientnet_lite
from flaxgan.text.conditioning import Text, TextFeatures

MIN_SIDE = 64  # pixels; smaller pictures are enlarged, or the deepest map would be a point
WIDTH = 64
# root mean squares of the maps of Gaussian noise (those of `avatars` at 64 px: 10.6, 10.1 and 8.9),
# so that heads see values of order 1
SCALES = (13.0, 8.5, 5.0)
MATCH_LEVEL = 1  # the map, of stride 8, in which words are looked for


@functools.cache
def _parameters() -> Any:
    """Of the frozen network; read once.

    Raises:
      UserError: the package with its weights is not installed.
    """
    tensors, _ = efficientnet_lite.read_weights()
    return efficientnet_lite.convert(tensors, "maps")


@functools.cache
def _mixing() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Random matrices: of each map's channels to WIDTH, and of the mixed map below to this one."""
    rng = np.random.default_rng(0)
    channels = tuple(
        (rng.normal(size=(count, WIDTH)) / math.sqrt(count)).astype(np.float32)
        for count in efficientnet_lite.MAPS
    )
    scales = tuple(
        np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
        for _ in efficientnet_lite.MAPS[1:]
    )
    return channels, scales


def frozen_features(images: Array) -> tuple[Array, ...]:
    """Mixed maps of the frozen network, largest first.

    Args:
      images: `[b, s, s, 1 or 3]`, [-1, 1]; s below 64 or a multiple of 16.

    Returns:
      Three arrays `[b, n, n, 64]`, n = max(s, 64) / 4, / 8 and / 16.
    """
    b, side, _, channels = images.shape
    x = images.astype(jnp.float32)
    if channels == 1:
        x = jnp.repeat(x, 3, axis=-1)
    if side < MIN_SIDE:
        x = jax.image.resize(x, (b, MIN_SIDE, MIN_SIDE, 3), "bilinear")
    x = (127.5 * (x + 1.0) - 127.0) / 128.0  # as its pictures were scaled
    network = efficientnet_lite.EfficientNetLite0("maps", parent=None)
    maps = network.apply({"params": _parameters()}, x)
    project, mix = _mixing()
    found: list[Array] = []
    for level in reversed(range(len(maps))):
        mixed = (maps[level] / SCALES[level]) @ project[level]
        if found:
            mixed = (mixed + up_nearest(found[-1] @ mix[level])) / math.sqrt(2.0)
        found.append(mixed)
    return tuple(reversed(found))


class Heads(nn.Module):
    """Logits of mixed maps: for each map one of realism and, with text, one of alignment.

    Attributes:
      dtype: compute dtype.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: tuple[Array, ...], text: TextFeatures | None) -> Array:
        """Maps of `frozen_features` and captions to logits `[b, 3]`, or `[b, 6]`, float32."""
        logits = []
        for level, x in enumerate(features):
            init = scaled_init(1.0)
            x = leaky_relu(
                Conv(WIDTH, kernel_init=init, dtype=self.dtype, name=f"see{level}")(
                    x.astype(self.dtype)
                )
            )
            logits.append(self._mean(nn.Dense(1, dtype=self.dtype, name=f"real{level}")(x)))
            if text is None:
                continue
            asked = nn.Dense(WIDTH, kernel_init=init, dtype=self.dtype, name=f"asked{level}")(
                text.sentence.astype(self.dtype)
            )
            seen = nn.Dense(
                WIDTH, use_bias=False, kernel_init=init, dtype=self.dtype, name=f"seen{level}"
            )(x)
            joint = leaky_relu(seen + asked[:, None, None])
            logit = self._mean(nn.Dense(1, dtype=self.dtype, name=f"match{level}")(joint))
            if level == MATCH_LEVEL and text.tokens is not None:
                logit = logit + TokenMatch(dtype=self.dtype, name="words")(x, text)
            logits.append(logit)
        return jnp.stack(logits, axis=1)

    def _mean(self, places: Array) -> Array:
        """`[b, h, w, 1]` to `[b]`, float32."""
        return places.astype(jnp.float32).mean(axis=(1, 2, 3))


class WithFrozenFeatures(nn.Module):
    """A discriminator with a second judge; its own parameters keep their names.

    Attributes:
      base: a discriminator, see `flaxgan.models`.
      dtype: compute dtype of the heads.
    """

    base: nn.Module
    dtype: Any = jnp.float32

    def setup(self) -> None:
        nn.share_scope(self, self.base)
        self.frozen_heads = Heads(self.dtype)

    @property
    def embed_dim(self) -> int:
        """Of the discriminator."""
        return getattr(self.base, "embed_dim", 0)

    @nn.nowrap
    def image_stages(self) -> list[list[str]]:
        """Of the discriminator: see `flaxgan.models`."""
        return self.base.image_stages()

    def encode_text(self, text: Text | None) -> TextFeatures | None:
        """Text as all heads read it."""
        return self.base.encode_text(text)

    def image_features(self, images: Array, keys: Array | None = None, *picture: Array) -> Any:
        """Features of the discriminator."""
        return self.base.image_features(images, keys, *picture)

    def logits(self, features: Any, text: TextFeatures | None) -> Array:
        """Of the discriminator, `[b]`."""
        return self.base.logits(features, text)

    def embed_image(self, features: Any) -> Array:
        """See JointEmbedding."""
        return self.base.embed_image(features)

    def embed_text(self, text: TextFeatures) -> Array:
        """See JointEmbedding."""
        return self.base.embed_text(text)

    def frozen_logits(self, features: tuple[Array, ...], text: TextFeatures | None) -> Array:
        """Of the second judge, `[b, heads]`, from `frozen_features`."""
        return self.frozen_heads(features, text)

    def score(self, images: Array, text: Text | None, keys: Array | None = None) -> Array:
        """The discriminator's logits `[b]`: both judges in turn."""
        self.frozen_logits(frozen_features(images), self.encode_text(text))
        return self.base.score(images, text, keys)
