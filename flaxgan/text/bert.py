"""BERT (Devlin et al. 2019) as an encoder of sentences: post-norm blocks, exact GELU, mean pooling.

One module runs multilingual-e5-small (12 layers) and all-MiniLM-L6-v2 (6), both 384 wide.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Block(nn.Module):
    """Self-attention and a feed-forward net, each with a residual and a LayerNorm after it."""

    heads: int
    hidden: int
    eps: float

    @nn.compact
    def __call__(self, x: Array, bias: Array) -> Array:
        """`[b, t, d]` and the attention bias `[b, 1, 1, t]` to `[b, t, d]`."""
        b, t, d = x.shape
        qkv = nn.Dense(3 * d, name="qkv")(x).reshape(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each [b, heads, t, d / heads]
        scores = q @ k.swapaxes(-1, -2) / (d // self.heads) ** 0.5
        weights = nn.softmax(scores + bias, axis=-1)
        attended = (weights @ v).transpose(0, 2, 1, 3).reshape(b, t, d)
        x = nn.LayerNorm(self.eps, name="attention_norm")(x + nn.Dense(d, name="out")(attended))
        h = nn.gelu(nn.Dense(self.hidden, name="up")(x), approximate=False)
        return nn.LayerNorm(self.eps, name="output_norm")(x + nn.Dense(d, name="down")(h))


class Bert(nn.Module):
    """Token embeddings in, contextual token embeddings and one vector per sentence out.

    Attributes:
      layers: number of blocks.
      heads: attention heads.
      hidden: width of the feed-forward nets.
      max_positions: length of the position table.
      eps: of the LayerNorms.
    """

    layers: int
    heads: int = 12
    hidden: int = 1536
    max_positions: int = 512
    eps: float = 1e-12

    @nn.compact
    def __call__(self, word_emb: Array, mask: Array) -> tuple[Array, Array]:
        """Encodes.

        Args:
          word_emb: `[b, t, d]` rows of the word table.
          mask: `[b, t]` bool.

        Returns:
          `[b, t, d]` tokens, and `[b, d]` the mean over the mask, scaled to unit length.
        """
        d = word_emb.shape[-1]
        init = nn.initializers.normal(0.02)
        positions = self.param("positions", init, (self.max_positions, d))
        token_type = self.param("token_type", init, (d,))
        x = word_emb + positions[: word_emb.shape[1]] + token_type
        x = nn.LayerNorm(self.eps, name="embedding_norm")(x)
        bias = jnp.where(mask, 0.0, -1e9)[:, None, None, :]
        for i in range(self.layers):
            x = Block(self.heads, self.hidden, self.eps, name=f"block{i}")(x, bias)
        return x, normalise(masked_mean(x, mask))


def masked_mean(x: Array, mask: Array) -> Array:
    """Mean of `[b, t, d]` over the tokens that the mask `[b, t]` keeps: `[b, d]`."""
    weights = mask.astype(x.dtype)[..., None]
    return (x * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)


def normalise(x: Array) -> Array:
    """Rows of `[b, d]` scaled to unit length."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
