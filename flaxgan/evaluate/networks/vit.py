"""What vision transformers share: pre-norm blocks, patches with a class token, input levels."""

from collections.abc import Callable
from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from flaxgan.evaluate.resize import resize

Activation = Literal["gelu", "quick_gelu"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
HIGHEST = Precision.HIGHEST  # a metric must not depend on the accelerator's default


def activation_function(name: Activation) -> Callable[[Array], Array]:
    """ "gelu": x Phi(x), exactly; "quick_gelu": x sigmoid(1.702 x), of OpenAI's CLIP."""
    if name == "quick_gelu":
        return lambda x: x * nn.sigmoid(1.702 * x)
    return lambda x: nn.gelu(x, approximate=False)


def layer_norm(eps: float, name: str) -> nn.LayerNorm:
    """With the variance as the mean of (x - mean)^2, as in PyTorch."""
    return nn.LayerNorm(eps, use_fast_variance=False, name=name)


class Block(nn.Module):
    """Attention and a feed-forward net, each after a LayerNorm and added to its input.

    Attributes:
      heads: of the attention.
      hidden: width of the feed-forward net.
      eps: of the LayerNorms.
      activation: of the feed-forward net, or "swiglu": silu(a) * b for its two halves.
      qkv_bias: whether queries, keys and values have biases.
      layer_scale: whether both branches are scaled per channel.
    """

    heads: int
    hidden: int
    eps: float
    activation: Activation | Literal["swiglu"]
    qkv_bias: bool = True
    layer_scale: bool = False

    @nn.compact
    def __call__(self, x: Array, bias: Array | None = None) -> Array:
        """`[b, t, d]` to `[b, t, d]`; bias `[t, t]` is added to the attention's logits."""
        b, t, d = x.shape
        h = layer_norm(self.eps, "norm1")(x)
        qkv = nn.Dense(3 * d, use_bias=self.qkv_bias, precision=HIGHEST, name="qkv")(h)
        q, k, v = qkv.reshape(b, t, 3, self.heads, d // self.heads).transpose(2, 0, 3, 1, 4)
        scores = jnp.matmul(q, k.swapaxes(-1, -2), precision=HIGHEST) * (d // self.heads) ** -0.5
        weights = nn.softmax(scores if bias is None else scores + bias, axis=-1)  # [b, heads, t, t]
        h = jnp.matmul(weights, v, precision=HIGHEST).transpose(0, 2, 1, 3).reshape(b, t, d)
        x = x + self._scaled(nn.Dense(d, precision=HIGHEST, name="out")(h), "scale1")
        h = layer_norm(self.eps, "norm2")(x)
        if self.activation == "swiglu":
            h = nn.Dense(2 * self.hidden, precision=HIGHEST, name="up")(h)
            gate, h = jnp.split(h, 2, axis=-1)
            h = nn.silu(gate) * h
        else:
            h = nn.Dense(self.hidden, precision=HIGHEST, name="up")(h)
            h = activation_function(self.activation)(h)
        return x + self._scaled(nn.Dense(d, precision=HIGHEST, name="down")(h), "scale2")

    def _scaled(self, x: Array, name: str) -> Array:
        if not self.layer_scale:
            return x
        return x * self.param(name, nn.initializers.ones, (x.shape[-1],))


class Patches(nn.Module):
    """A class token and one token per patch, with learnt positions.

    Attributes:
      size: side of a patch in pixels; what is left over at the edge is ignored.
      width: of a token.
      bias: whether the patches' projection has one.
    """

    size: int
    width: int
    bias: bool

    @nn.compact
    def __call__(self, pixels: Array) -> Array:
        """`[b, h, w, 3]` to `[b, 1 + patches, width]`."""
        size, init = (self.size, self.size), nn.initializers.normal(0.02)
        x = nn.Conv(
            self.width,
            size,
            size,
            "VALID",
            use_bias=self.bias,
            precision=HIGHEST,
            name="projection",
        )(pixels)
        x = x.reshape(len(x), -1, self.width)
        first = jnp.broadcast_to(self.param("class_token", init, (self.width,)), x[:, :1].shape)
        x = jnp.concatenate([first, x], axis=1)
        return x + self.param("positions", init, x.shape[1:])


def pil_bicubic(images: Array, height: int, width: int) -> Array:
    """PIL's BICUBIC: rows first, each of the two passes rounded to 0..255.

    Args:
      images: `[b, h, w, c]` uint8.
      height: of the result.
      width: of the result.

    Returns:
      `[b, height, width, c]` float32, whole numbers.
    """
    x = images.astype(jnp.float32)
    for size in ((x.shape[1], width), (height, width)):
        x = jnp.clip(jnp.floor(resize(x, *size, mode="bicubic_antialias") + 0.5), 0.0, 255.0)
    return x


def standardise(levels: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """(levels / 255 - mean) / std per channel, for levels `[b, h, w, 3]` in 0..255."""
    return (levels / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)


def normalise(x: Array) -> Array:
    """Rows of `[b, d]` scaled to unit length."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
