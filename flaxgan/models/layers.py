"""Convolutions, resampling and linear layers, written so that XLA runs them fast, also on CPU.

All are exact rewrites of the textbook operation (held to it by tests):
- conv3x3 after nearest upsampling: four 2x2 convolutions at low resolution, 16 instead of 36
  multiplications per low-resolution pixel and channel pair;
- a strided convolution: space-to-depth and a stride-1 convolution, because the second derivative
  of a strided one becomes a dilated, reversed convolution that XLA on CPU runs 40 times slower;
- 1x1 convolution: a matmul, whose weight gradient XLA runs 10 times faster.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Dtype = Any

# PyTorch's default for weights: uniform with bound 1 / sqrt(fan_in)
kernel_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def scaled_init(gain: float) -> nn.initializers.Initializer:
    """He's normal initialisation (He et al. 2015) for leaky ReLU, times a gain."""
    return nn.initializers.variance_scaling(2.0 / (1.0 + 0.2**2) * gain**2, "fan_in", "normal")


def convolve(x: Array, kernel: Array, padding: int | str, groups: int = 1) -> Array:
    """Stride-1 convolution.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[kh, kw, c / groups, o]`.
      padding: pixels on each side, or "SAME".
      groups: number of groups of channels that do not see each other.

    Returns:
      `[b, h', w', o]`.
    """
    if not isinstance(padding, str):
        padding = [(padding, padding)] * 2

    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def up_nearest(x: Array) -> Array:
    """Doubles height and width by repeating pixels: `[b, h, w, c]` to `[b, 2h, 2w, c]`."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def average_pool(x: Array) -> Array:
    """Halves height and width by 2x2 means: `[b, h, w, c]` to `[b, h/2, w/2, c]`."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def conv3x3_of_upsampled(x: Array, kernel: Array) -> Array:
    """Equals the zero-padded 3x3 convolution of `up_nearest(x)`.

    Output row 2i + p of the upsampled picture sees low-resolution rows (i - 1, i) for p = 0 with
    weights (k0, k1 + k2), and rows (i, i + 1) for p = 1 with weights (k0 + k1, k2); columns alike.

    Args:
      x: `[b, h, w, c]`.
      kernel: `[3, 3, c, o]`.

    Returns:
      `[b, 2h, 2w, o]`.
    """
    b, h, w, _ = x.shape
    rows = [(kernel[0], kernel[1] + kernel[2]), (kernel[0] + kernel[1], kernel[2])]
    phases = []
    for top, bottom in rows:
        k = jnp.stack([top, bottom])  # [2, 3, c, o]
        phases.append(jnp.stack([k[:, 0], k[:, 1] + k[:, 2]], axis=1))
        phases.append(jnp.stack([k[:, 0] + k[:, 1], k[:, 2]], axis=1))
    y = _convolve2x2(x, jnp.concatenate(phases, axis=-1))  # [b, h + 1, w + 1, 4 o]
    parts = jnp.split(y, 4, axis=-1)
    cut = [parts[2 * p + q][:, p : p + h, q : q + w] for p in (0, 1) for q in (0, 1)]
    grid = jnp.stack(cut, axis=3).reshape(b, h, w, 2, 2, -1)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)


def _convolve2x2(x: Array, kernel: Array) -> Array:
    """2x2 convolution with padding 1: `[b, h, w, c]` to `[b, h + 1, w + 1, o]`.

    On CPU as four matmuls: XLA there exchanges the operands of its weight gradient, which becomes a
    convolution with a reversed window of the whole map, slower than all of the step besides.
    """
    if jax.default_backend() != "cpu":
        return convolve(x, kernel, 1)
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [x[:, i : i + h + 1, j : j + w + 1] @ kernel[i, j] for i in (0, 1) for j in (0, 1)]
    return taps[0] + taps[1] + taps[2] + taps[3]


def conv4x4_stride2(x: Array, kernel: Array) -> Array:
    """Equals the 4x4 convolution with stride 2 and padding 1.

    Args:
      x: `[b, h, w, c]`, h and w even.
      kernel: `[4, 4, c, o]`.

    Returns:
      `[b, h/2, w/2, o]`.
    """
    b, h, w, c = x.shape
    o = kernel.shape[-1]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(b, h // 2 + 1, 2, w // 2 + 1, 2, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, h // 2 + 1, w // 2 + 1, 4 * c)
    kernel = kernel.reshape(2, 2, 2, 2, c, o).transpose(0, 2, 1, 3, 4, 5)
    return convolve(x, kernel.reshape(2, 2, 4 * c, o), 0)


def up_121(x: Array) -> Array:
    """Doubles height and width by linear interpolation between pixels; edges are repeated.

    Zeros between the pixels, then the filter [1, 2, 1] / 2 along each side.

    Args:
      x: `[b, h, w, c]`.

    Returns:
      `[b, 2h, 2w, c]`; pixel 2i is pixel i of x.

    Reference: R3GAN (Huang et al. 2024), section 3.2.
    """
    for axis in (1, 2):
        following = jnp.concatenate([_cut(x, axis, 1, None), _cut(x, axis, -1, None)], axis=axis)
        both = jnp.stack([x, 0.5 * (x + following)], axis=axis + 1)
        shape = list(x.shape)
        shape[axis] *= 2
        x = both.reshape(shape)
    return x


def down_121(x: Array) -> Array:
    """Halves height and width: the filter [1, 2, 1] / 4 along each side, centred on even pixels.

    Args:
      x: `[b, h, w, c]`, h and w even; pixels outside are copies of the edge.

    Returns:
      `[b, h/2, w/2, c]`.

    Reference: R3GAN (Huang et al. 2024), section 3.2.
    """
    for axis in (1, 2):
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        even, odd = _cut(pairs, axis + 1, 0, 1), _cut(pairs, axis + 1, 1, 2)
        even, odd = even.squeeze(axis + 1), odd.squeeze(axis + 1)
        before = jnp.concatenate([_cut(even, axis, 0, 1), _cut(odd, axis, 0, -1)], axis=axis)
        x = 0.5 * even + 0.25 * (odd + before)
    return x


def space_to_depth(x: Array, patch: int) -> Array:
    """`[b, h, w, c]` to `[b, h / patch, w / patch, patch * patch * c]`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // patch, w // patch, patch * patch * c)


def depth_to_space(x: Array, patch: int) -> Array:
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * patch, w * patch, c // patch**2)


def _cut(x: Array, axis: int, start: int, stop: int | None) -> Array:
    return jax.lax.slice_in_dim(x, *slice(start, stop).indices(x.shape[axis])[:2], axis=axis)


def of_stages(w: Array, count: int) -> list[Array]:
    """What modulates each stage: `[b, d]`, the same for all, or `[b, count, d]` to `count` arrays.

    Reference: Abdal et al. 2019, "Image2StyleGAN", section 4.1 (W+), which they invert into.
    """
    return [w] * count if w.ndim == 2 else [w[:, i] for i in range(count)]


def block_class(block: type[nn.Module], remat: bool) -> type[nn.Module]:
    """The block, or one whose inner values are computed again in the backward pass, not kept.

    Reference: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """
    return nn.remat(block) if remat else block


class Conv(nn.Module):
    """Convolution with zero padding that keeps, halves or doubles the resolution.

    Attributes:
      features: output channels o.
      size: kernel height and width: 1, 3, or 4.
      resample: "": stride 1; "up": of the nearest-upsampled input (size 3); "down": stride 2
        (size 4); "valid": stride 1 without padding.
      use_bias: whether a bias is added.
      groups: of channels, for stride-1 convolutions.
      kernel_init: of the kernel.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    size: int = 3
    resample: str = ""
    use_bias: bool = True
    groups: int = 1
    kernel_init: nn.initializers.Initializer = kernel_init
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[b, h, w, c]` to `[b, h', w', o]`."""
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.resample == "up":
            y = conv3x3_of_upsampled(x, kernel)
        elif self.resample == "down":
            y = conv4x4_stride2(x, kernel)
        elif self.resample == "valid":
            y = convolve(x, kernel, 0)
        elif self.size == 1:
            y = x @ kernel[0, 0]
        else:
            y = convolve(x, kernel, "SAME", self.groups)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y = y + bias.astype(self.dtype)
        return y


def leaky_relu(x: Array) -> Array:
    """Leaky ReLU with slope 0.2, the value of every GAN here."""
    return nn.leaky_relu(x, 0.2)
