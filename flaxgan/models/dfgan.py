"""DF-GAN: one generator and a one-way discriminator, both conditioned on one sentence vector.

Reference: Tao et al. 2022, "DF-GAN: A Simple and Effective Baseline for Text-to-Image Synthesis".
Deviations: biases start at zero; D's shortcut is a learned 1x1 convolution in every block, also
where the number of channels stays. Pointwise work and 1x1 convolutions come before upsampling,
which is the same function.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flaxgan.config.fields import Config
from flaxgan.config.rule import Rule
from flaxgan.models.family import Family, common
from flaxgan.models.layers import (
    Conv,
    average_pool,
    block_class,
    kernel_init,
    leaky_relu,
    up_nearest,
)
from flaxgan.models.matching import JointEmbedding, TokenMatch
from flaxgan.text.conditioning import Text, TextFeatures, text_features


def channel_multipliers(resolution: int) -> list[int]:
    """Channels at resolution, resolution / 2, …, 4 in units of nf: 1, 2, 4, 8, 8, …"""
    return [min(2**i, 8) for i in range(int(math.log2(resolution)) - 1)]


class Affine(nn.Module):
    """Scale and shift predicted from the condition by two MLPs with one hidden layer (eq. 4).

    Starts as the identity: scale 1, shift 0.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """`[b, h, w, c]` and `[b, n]` to `[b, h, w, c]`."""
        channels = x.shape[-1]

        def mlp(name: str, bias_init: nn.initializers.Initializer) -> Array:
            hidden = nn.Dense(
                channels, kernel_init=kernel_init, dtype=self.dtype, name=f"{name}_hidden"
            )(condition)
            return nn.Dense(
                channels,
                kernel_init=nn.initializers.zeros_init(),
                bias_init=bias_init,
                dtype=self.dtype,
                name=name,
            )(nn.relu(hidden))[:, None, None, :]

        scale = mlp("scale", nn.initializers.ones_init())
        shift = mlp("shift", nn.initializers.zeros_init())
        return scale * x + shift


class Fusion(nn.Module):
    """Deep text-image fusion: affine, leaky ReLU, affine, leaky ReLU (figure 4)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """`[b, h, w, c]` and `[b, n]` to `[b, h, w, c]`."""
        for name in ("affine0", "affine1"):
            x = leaky_relu(Affine(self.dtype, name=name)(x, condition))
        return x


class UpBlock(nn.Module):
    """Upsampling, then shortcut + fusion, conv, fusion, conv."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """`[b, h, w, c]` and `[b, n]` to `[b, 2h, 2w, features]`."""
        h = Fusion(self.dtype, name="fusion0")(x, condition)
        h = Conv(self.features, resample="up", dtype=self.dtype, name="conv0")(h)
        h = Fusion(self.dtype, name="fusion1")(h, condition)
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, size=1, dtype=self.dtype, name="shortcut")(x)
        return up_nearest(x.astype(self.dtype)) + h


class Generator(nn.Module):
    """z and a sentence to an image.

    Attributes:
      resolution: pixels, a power of two from 8.
      channels: 3 RGB or 1 grey.
      nf: base width.
      text_encoder: learned with this network: see `flaxgan.text.transformer`;
        None: the sentence vectors that text brings are used as they are.
      output: "tanh" as published, or "linear": images may leave [-1, 1] a little.
      remat: blocks are computed again in the backward pass: less memory, more time.
      dtype: compute dtype; parameters and images are float32.
    """

    resolution: int
    channels: int = 3
    nf: int = 32
    text_encoder: nn.Module | None = None
    remat: bool = False
    output: str = "tanh"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: Array, text: Text | TextFeatures | None) -> Array:
        """`[b, z]` and text to `[b, h, w, c]` in [-1, 1]."""
        words = text_features(self.text_encoder, text)
        sentence = words and words.sentence
        condition = z if sentence is None else jnp.concatenate([z, sentence], axis=-1)
        widths = [self.nf * m for m in channel_multipliers(self.resolution)][::-1]
        x = nn.Dense(16 * widths[0], kernel_init=kernel_init, dtype=self.dtype, name="from_z")(z)
        x = x.reshape(-1, 4, 4, widths[0])
        for i, width in enumerate(widths[1:]):
            x = block_class(UpBlock, self.remat)(width, self.dtype, name=f"block{i}")(x, condition)
        x = Conv(self.channels, dtype=self.dtype, name="to_image")(leaky_relu(x))
        x = x.astype(jnp.float32)
        return jnp.tanh(x) if self.output == "tanh" else x


class DownBlock(nn.Module):
    """Shortcut + gamma (conv 4x4 stride 2, conv 3x3), gamma starting at 0."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[b, h, w, c]` to `[b, h/2, w/2, features]`."""
        h = Conv(
            self.features, size=4, resample="down", use_bias=False, dtype=self.dtype, name="conv0"
        )(x)
        h = Conv(self.features, use_bias=False, dtype=self.dtype, name="conv1")(leaky_relu(h))
        gamma = self.param("gamma", nn.initializers.zeros_init(), (1,))
        # pooling and a 1x1 convolution commute; pooled first it is 4 times cheaper
        x = average_pool(x.astype(self.dtype))
        x = Conv(self.features, size=1, dtype=self.dtype, name="shortcut")(x)
        return x + gamma.astype(self.dtype) * leaky_relu(h)


class ImageTrunk(nn.Module):
    """Images to a 4x4 map."""

    resolution: int
    nf: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`[b, h, w, c]` to `[b, 4, 4, 8 nf]`."""
        widths = [self.nf * m for m in channel_multipliers(self.resolution)]
        x = Conv(widths[0], dtype=self.dtype, name="from_image")(images)
        for i, width in enumerate(widths[1:]):
            x = block_class(DownBlock, self.remat)(width, self.dtype, name=f"block{i}")(x)
        return x


class Discriminator(nn.Module):
    """One-way discriminator: image features and the sentence to one logit.

    Attributes: as in Generator, and
      embed_dim: size of the space that images and captions share; 0 as published: there is none.
      token_match: 4: words are looked for in the 4x4 map; 0 as published: they are not.
    """

    resolution: int
    channels: int = 3
    nf: int = 32
    text_encoder: nn.Module | None = None
    embed_dim: int = 0
    token_match: int = 0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.trunk = ImageTrunk(self.resolution, self.nf, self.remat, self.dtype)
        if self.embed_dim:
            self.embedding = JointEmbedding(self.embed_dim, self.dtype)
        if self.token_match:
            self.match = TokenMatch(dtype=self.dtype)
        self.joint = Conv(2 * self.nf, use_bias=False, dtype=self.dtype)
        self.output = Conv(1, size=4, resample="valid", use_bias=False, dtype=self.dtype)

    @nn.nowrap
    def image_stages(self) -> list[list[str]]:
        """One stage for each halving: see `flaxgan.models`."""
        count = len(channel_multipliers(self.resolution)) - 1
        stages = [[f"trunk/block{i}"] for i in range(count)]
        return [["trunk/from_image", *stages[0]], *stages[1:]]

    def encode_text(self, text: Text | None) -> TextFeatures | None:
        """Text as `logits` reads it."""
        return text_features(self.text_encoder, text)

    def image_features(self, images: Array, keys: Array | None = None) -> Array:
        """`[b, h, w, c]` to `[b, 4, 4, 8 nf]`; there is nothing random that `keys` would drive."""
        return self.trunk(images)

    def logits(self, features: Array, text: TextFeatures | None) -> Array:
        """Features and a caption to logits `[b]`, float32."""
        x = features
        if text is not None:
            tiled = jnp.broadcast_to(
                text.sentence[:, None, None, :].astype(x.dtype),
                (*x.shape[:3], text.sentence.shape[-1]),
            )
            x = jnp.concatenate([x, tiled], axis=-1)
        x = self.output(leaky_relu(self.joint(x)))
        logits = x.reshape(len(x)).astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.token_match and text is not None and text.tokens is not None:
            logits = logits + self.match(leaky_relu(features), text)
        return logits

    def embed_image(self, features: Array) -> Array:
        """Images in the space of captions: see JointEmbedding."""
        return self.embedding.of_image(leaky_relu(features).reshape(len(features), -1))

    def embed_text(self, text: TextFeatures) -> Array:
        """Captions in the space of images: see JointEmbedding."""
        return self.embedding.of_text(text)

    def score(self, images: Array, text: Text | None, keys: Array | None = None) -> Array:
        """Images and text to logits `[b]`: the parts in turn."""
        features, words = self.image_features(images, keys), self.encode_text(text)
        if self.embed_dim and words is not None:
            self.embed_image(features), self.embed_text(words)
        return self.logits(features, words)


def build(
    config: Config, encoders: tuple[nn.Module | None, nn.Module | None]
) -> tuple[nn.Module, nn.Module]:
    """See `Family`."""
    model = config.model
    shared = {**common(config), "remat": model.remat}
    return (
        Generator(nf=model.g_channels, text_encoder=encoders[0], output=model.output, **shared),
        Discriminator(
            nf=model.d_channels,
            text_encoder=encoders[1],
            embed_dim=model.embed_dim,
            token_match=model.token_match,
            **shared,
        ),
    )


FAMILY = Family(
    build,
    fields=frozenset({"g_channels", "d_channels", "remat", "embed_dim", "token_match"}),
    rules=(
        Rule(
            "data.resolution",
            lambda side, _: side in (32, 64, 128, 256),
            "must be one of 32, 64, 128, 256 for dfgan",
        ),
        Rule(
            "model.token_match",
            lambda side, _: side in (0, 4),
            "must be one of 0, 4 for dfgan",
        ),
    ),
    sizes={
        "s": {"g_channels": 16, "d_channels": 16},
        "b": {"g_channels": 32, "d_channels": 32},
        "l": {"g_channels": 64, "d_channels": 64},
    },
)
