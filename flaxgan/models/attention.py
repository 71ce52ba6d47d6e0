"""Attention over places and words, and what transformer blocks are made of.

Parameters are float32; matrix products run in `dtype`, normalisation and softmax in float32.
Attention keeps its logits bounded: queries and keys are normalised per head (Henry et al. 2020),
so that no step of a GAN can saturate the softmax at once.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flaxgan.errors import UserError

SLOWEST = 1.0 / 100.0  # radians per place: slow enough for sides of 64 and captions of 256 tokens


def at_least_float32(x: Array) -> Array:
    """Casts bfloat16 to float32 and leaves wider floats as they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def grid_positions(height: int, width: int) -> Array:
    """(row, column) of every place of a grid, row by row: `[height * width, 2]`, float32."""
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return jnp.stack([rows.ravel(), columns.ravel()], axis=-1).astype(jnp.float32)


def speeds(count: int) -> Array:
    """Geometric from 1 to almost `SLOWEST`, in radians per place: `[count]`, float32."""
    return SLOWEST ** (jnp.arange(count, dtype=jnp.float32) / count)


def sinusoids(positions: Array, width: int) -> Array:
    """Sines and cosines of positions, to be added to vectors.

    Args:
      positions: `[n, a]`, a coordinates each.
      width: number of values c, a multiple of 2 a.

    Returns:
      `[n, c]`, float32, of mean square 1/2.

    Reference: Vaswani et al. 2017, section 3.5, per coordinate.
    """
    angles = positions[:, :, None] * speeds(width // (2 * positions.shape[1]))
    both = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return both.reshape(len(positions), width)


def rotary(x: Array, positions: Array) -> Array:
    """Rotates pairs of channels by angles that grow with the position: scores of two rotated
    vectors depend on the difference of their positions alone.

    Half of the channels of a head turn with the row, half with the column, each pair at its own
    speed, see `speeds`.

    Args:
      x: `[b, n, h, d]`, d a multiple of 4.
      positions: `[n, 2]`, row and column.

    Returns:
      `[b, n, h, d]`, of the dtype of x.

    Reference: Su et al. 2021 (RoPE), eq. 14 and 34; its axial form for images, Heo et al. 2024.
    """
    pairs = x.shape[-1] // 4  # per axis
    angles = positions[:, :, None] * speeds(pairs)  # [n, 2, pairs]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]  # [n, 1, 2, pairs]
    split = x.reshape(*x.shape[:-1], 2, 2, pairs)
    first, second = split[..., 0, :], split[..., 1, :]  # [b, n, h, 2, pairs]
    turned = jnp.stack([first * cos - second * sin, first * sin + second * cos], axis=-2)
    return turned.reshape(x.shape).astype(x.dtype)


class SwiGLU(nn.Module):
    """Feed-forward layer with a gate: W_out (silu(W_gate x) * W_value x).

    Attributes:
      hidden: width of gate and value; 0: 8/3 of the input's, rounded up to a multiple of 8, which
        costs as much as an ungated layer four times as wide.
      dtype: compute dtype.
      zero_init_out: whether the output starts at zero.

    Reference: Shazeer 2020, "GLU Variants Improve Transformer", eq. 6.
    """

    hidden: int = 0
    dtype: Any = jnp.float32
    zero_init_out: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[..., c]` to `[..., c]`."""
        hidden = self.hidden or -(-x.shape[-1] // 3) * 8
        both = nn.Dense(2 * hidden, use_bias=False, dtype=self.dtype, name="gate_value")(x)
        gate, value = jnp.split(both, 2, axis=-1)
        return _output(x.shape[-1], self.dtype, self.zero_init_out)(nn.silu(gate) * value)


class Attention(nn.Module):
    """Multi-head attention of x to itself, or to a context.

    Attributes:
      heads: number of heads; the width c of x is a multiple of 4 times this.
      dtype: compute dtype.
      qk_norm: whether queries and keys are RMS-normalised per head; a logit then is at most
        sqrt(c / heads) until the learned scales grow.
      zero_init_out: whether the output starts at zero.

    Reference: Vaswani et al. 2017; query-key normalisation as in Dehghani et al. 2023 (ViT-22B).
    """

    heads: int
    dtype: Any = jnp.float32
    qk_norm: bool = True
    zero_init_out: bool = False

    @nn.compact
    def __call__(
        self,
        x: Array,
        context: Array | None = None,
        mask: Array | None = None,
        positions: Array | None = None,
    ) -> Array:
        """Attends.

        Args:
          x: `[b, n, c]`, asks.
          context: `[b, m, d]`, is asked; None: x itself, m = n.
          mask: `[b, m]` bool, False where a token is to be ignored; where all are, the output is
            0; or float weights: see `attention_weights`.
          positions: `[n, 2]` row and column of each place of x, for self-attention.

        Returns:
          `[b, n, c]`.

        Raises:
          UserError: c is no multiple of 4 heads.
        """
        width = x.shape[-1]
        if width % (4 * self.heads):
            raise UserError(
                f"the width of an attention layer must be a multiple of 4 x {self.heads} heads, "
                f"not {width}"
            )
        source = x if context is None else context

        def project(name: str, y: Array) -> Array:
            y = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(y)
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads)

        query, key, value = project("query", x), project("key", source), project("value", source)
        if self.qk_norm:
            query = nn.RMSNorm(dtype=self.dtype, name="query_norm")(query)
            key = nn.RMSNorm(dtype=self.dtype, name="key_norm")(key)
        if positions is not None:
            if context is not None:
                raise ValueError("positions are those of self-attention: give no context")
            query, key = rotary(query, positions), rotary(key, positions)

        weights = attention_weights(query, key, mask).astype(self.dtype)
        y = jnp.einsum("bhnm,bmhd->bnhd", weights, value).reshape(*x.shape[:-1], width)
        return _output(width, self.dtype, self.zero_init_out)(y)


class ImageAttention(nn.Module):
    """Residual block of a convolutional network: places look at each other, then at the words.

    Starts as the identity.

    Attributes:
      heads: number of heads; the channels c are a multiple of 4 times this.
      dtype: compute dtype.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, tokens: Array | None = None, mask: Array | None = None) -> Array:
        """Map `[b, h, w, c]`, tokens `[b, t, d]`, their mask `[b, t]` to `[b, h, w, c]`.

        Without tokens there is no cross-attention.
        """
        b, h, w, c = x.shape

        def attention(name: str, y: Array, **inputs: Array | None) -> Array:
            y = nn.RMSNorm(dtype=self.dtype, name=f"{name}_norm")(y)
            return Attention(self.heads, self.dtype, zero_init_out=True, name=name)(y, **inputs)

        y = x.reshape(b, h * w, c).astype(self.dtype)
        y = y + attention("places", y, positions=grid_positions(h, w))
        if tokens is not None:
            y = y + attention("words", y, context=tokens, mask=mask)
        return y.reshape(b, h, w, c)


def attention_weights(query: Array, key: Array, mask: Array | None = None) -> Array:
    """Softmax of scaled scores over the keys.

    Args:
      query: `[b, n, h, d]`.
      key: `[b, m, h, d]`.
      mask: `[b, m]` bool; a key with False gets weight 0, also where all are False. Or float, not
        negative: key j counts as mask_j keys do, exp(score_j) being multiplied by it.

    Returns:
      `[b, h, n, m]`, float32.
    """
    scores = at_least_float32(jnp.einsum("bnhd,bmhd->bhnm", query, key))
    scores = scores / query.shape[-1] ** 0.5
    if mask is None:
        return nn.softmax(scores)
    keep = mask[:, None, None, :]
    if mask.dtype != bool:
        scores = scores + jnp.log(jnp.maximum(keep, jnp.finfo(scores.dtype).tiny))
        keep = keep > 0
    # the lowest number instead of -inf: rows without any token stay free of NaN
    weights = nn.softmax(jnp.where(keep, scores, jnp.finfo(scores.dtype).min))
    return jnp.where(keep, weights, 0.0)


def _output(width: int, dtype: Any, zero_init: bool) -> nn.Dense:
    init = nn.initializers.zeros_init() if zero_init else nn.initializers.lecun_normal()
    return nn.Dense(width, use_bias=False, kernel_init=init, dtype=dtype, name="out")
