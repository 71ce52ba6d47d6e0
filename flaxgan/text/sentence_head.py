"""A small network on top of frozen sentence vectors, learned with G and with D."""

import flax.linen as nn
from jax import Array

from flaxgan.text.conditioning import Text

SLOPE = 0.2  # of the leaky ReLU
# keeps the variance through a leaky ReLU (He et al. 2015, eq. 15)
kernel_init = nn.initializers.variance_scaling(2.0 / (1.0 + SLOPE**2), "fan_in", "normal")


class SentenceHead(nn.Module):
    """Dense layers with leaky ReLU.

    What a caption says of one part is no linear function of its sentence vector; a discriminator
    that reads the vector through one narrow layer cannot check it.

    Attributes:
      dim: width of every layer and of the result.
      depth: number of layers.

    Reference: GigaGAN (Kang et al. 2023), section 3.2, learns layers on top of a frozen encoder.
    """

    dim: int
    depth: int

    @nn.compact
    def __call__(self, sentence_emb: Array) -> Array:
        """`[b, d]` to `[b, dim]`."""
        x = sentence_emb
        for i in range(self.depth):
            layer = nn.Dense(self.dim, kernel_init=kernel_init, name=f"dense{i}")
            x = nn.leaky_relu(layer(x), SLOPE)
        return x

    def sentence(self, text: Text) -> Array:
        """The vectors `[b, dim]` that condition the networks."""
        return self(text.sentence_emb)
