"""A small transformer over the tokens of a caption, learned with the networks."""

import flax.linen as nn
import jax.numpy as jnp

from flaxgan.text.bert import masked_mean
from flaxgan.text.conditioning import Text, TextFeatures


class TextTransformer(nn.Module):
    """Pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) over bytes or word vectors.

    Attributes:
      dim: width d, a multiple of 16.
      depth: number of blocks.
      max_tokens: length of the position table.
      vocabulary: number of token ids whose vectors are learned; None: text brings a frozen
        vector for each token, which is normalised and projected.
      direct: the frozen vectors are also projected past all blocks, and stand beside what comes
        out of these: what a single word says is learned sooner that way.
    """

    dim: int = 128
    depth: int = 2
    max_tokens: int = 256
    vocabulary: int | None = None
    direct: bool = False

    @nn.compact
    def features(self, text: Text) -> TextFeatures:
        """Captions of `[b, t]` tokens to `[b, t, d]` token and `[b, d]` sentence vectors.

        With `direct`, to vectors of 2 d.
        """
        init = nn.initializers.normal(0.02)
        positions = self.param("positions", init, (self.max_tokens, self.dim))
        if self.vocabulary is None:
            vectors = nn.LayerNorm(name="norm_in")(text.token_emb.astype(jnp.float32))
            x = nn.Dense(self.dim, name="embed")(vectors)
        else:
            x = nn.Embed(self.vocabulary, self.dim, name="embed")(text.tokens)
        x = x + positions[: x.shape[1]]
        attend = text.mask[:, None, None, :]
        for i in range(self.depth):
            h = nn.LayerNorm(name=f"norm_a{i}")(x)
            x = x + nn.MultiHeadDotProductAttention(
                max(1, self.dim // 32), name=f"attention{i}", deterministic=True
            )(h, h, mask=attend)
            h = nn.LayerNorm(name=f"norm_b{i}")(x)
            h = nn.gelu(nn.Dense(4 * self.dim, name=f"up{i}")(h))
            x = x + nn.Dense(self.dim, name=f"down{i}")(h)
        x = nn.LayerNorm(name="norm_out")(x)
        if self.direct:
            x = jnp.concatenate([x, nn.Dense(self.dim, name="direct")(vectors)], axis=-1)
        return TextFeatures(sentence=masked_mean(x, text.mask), tokens=x, mask=text.mask)
