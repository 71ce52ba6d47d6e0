"""A small byte-level transformer that is learned with the networks: any language, no download."""

import flax.linen as nn
import numpy as np
from jax import Array

from flaxgan.text.bert import masked_mean
from flaxgan.text.conditioning import Text

VOCABULARY = 256


def byte_tokenize(captions: list[str], max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes, cut or padded with zeros to a fixed length.

    Returns:
      Tokens `[b, max_tokens]` int32 and mask `[b, max_tokens]` bool; the empty caption keeps one
      zero byte, so that its mean exists.
    """
    tokens = np.zeros((len(captions), max_tokens), np.int32)
    mask = np.zeros((len(captions), max_tokens), bool)
    for row, caption in enumerate(captions):
        data = np.frombuffer(caption.encode()[:max_tokens] or b"\0", np.uint8)
        tokens[row, : len(data)] = data
        mask[row, : len(data)] = True
    return tokens, mask


class ByteEncoder(nn.Module):
    """Pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) over bytes.

    Attributes:
      dim: width d, a multiple of 16.
      depth: number of blocks.
      max_tokens: length of the position table.
    """

    dim: int = 128
    depth: int = 2
    max_tokens: int = 256

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """Tokens `[b, t]` and mask `[b, t]` to `[b, t, d]` tokens and `[b, d]` sentences."""
        init = nn.initializers.normal(0.02)
        positions = self.param("positions", init, (self.max_tokens, self.dim))
        x = nn.Embed(VOCABULARY, self.dim, name="embed")(tokens) + positions[: tokens.shape[1]]
        attend = mask[:, None, None, :]
        for i in range(self.depth):
            h = nn.LayerNorm(name=f"norm_a{i}")(x)
            x = x + nn.MultiHeadDotProductAttention(
                max(1, self.dim // 32), name=f"attention{i}", deterministic=True
            )(h, h, mask=attend)
            h = nn.LayerNorm(name=f"norm_b{i}")(x)
            h = nn.gelu(nn.Dense(4 * self.dim, name=f"up{i}")(h))
            x = x + nn.Dense(self.dim, name=f"down{i}")(h)
        x = nn.LayerNorm(name="norm_out")(x)
        return x, masked_mean(x, mask)

    def sentence(self, text: Text) -> Array:
        """The vectors `[b, d]` that condition the networks."""
        return self(text.tokens, text.mask)[1]
