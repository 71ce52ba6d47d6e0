"""Heads of a discriminator that compare an image with a caption."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flaxgan.models.layers import kernel_init
from flaxgan.text.conditioning import TextFeatures


class JointEmbedding(nn.Module):
    """Images and captions as vectors of one space, for contrastive losses.

    Attributes:
      dim: size e of the space.
      dtype: compute dtype.

    Reference: Radford et al. 2021 (CLIP), figure 3; the temperature 1/10 at the start is that of
      XMC-GAN (Zhang et al. 2021).
    """

    dim: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.log_scale = self.param("log_scale", nn.initializers.constant(math.log(10.0)), ())
        self.image = nn.Dense(self.dim, kernel_init=kernel_init, dtype=self.dtype)
        self.text = nn.Dense(self.dim, kernel_init=kernel_init, dtype=self.dtype)

    def of_image(self, vectors: Array) -> Array:
        """Image vectors `[b, n]` to `[b, dim]`, float32.

        Products with those of captions are cosines times a learned inverse temperature, at most
        100, whose root is in each.
        """
        return self._scaled(self.image(vectors))

    def of_text(self, text: TextFeatures) -> Array:
        """Captions to `[b, dim]`, float32."""
        return self._scaled(self.text(text.sentence))

    def _scaled(self, x: Array) -> Array:
        root = jnp.exp(0.5 * jnp.minimum(self.log_scale, math.log(100.0)))  # CLIP's bound
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return root * x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


class TokenMatch(nn.Module):
    """How well the words of a caption are found in an image: `[b]`, a part of a logit.

    Each word attends to the places of a feature map; what it finds is compared with what it wants,
    and the comparisons are averaged over the words.

    Attributes:
      dim: width of the common space.
      dtype: compute dtype.

    Reference: word-region matching as in AttnGAN (Xu et al. 2018), eq. 8 to 11, with learned
      projections and a mean in place of the smoothed maximum.
    """

    dim: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, text: TextFeatures) -> Array:
        """`[b, h, w, c]` and a caption with tokens `[b, t, d]` to `[b]`, float32."""
        b, h, w, c = x.shape

        def dense(name: str) -> nn.Dense:
            return nn.Dense(self.dim, kernel_init=kernel_init, dtype=self.dtype, name=name)

        position = self.param("position", nn.initializers.normal(0.02), (h * w, c))
        places = x.reshape(b, h * w, c)
        key, value = dense("key")(places + position.astype(x.dtype)), dense("value")(places)
        query, wanted = dense("query")(text.tokens), dense("wanted")(text.tokens)
        scores = jnp.einsum("btd,bpd->btp", query, key) / math.sqrt(self.dim)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        weights = nn.softmax(scores, axis=-1).astype(self.dtype)
        found = jnp.einsum("btp,bpd->btd", weights, value)
        match = jnp.sum((found * wanted).astype(scores.dtype), axis=-1) / math.sqrt(self.dim)
        kept = text.mask.astype(match.dtype)
        return jnp.sum(match * kept, axis=-1) / jnp.maximum(jnp.sum(kept, axis=-1), 1.0)
