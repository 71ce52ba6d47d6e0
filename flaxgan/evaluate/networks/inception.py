"""InceptionV3 as FID means it: TensorFlow's graph of 2015-12-05 with its own poolings.

Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", with the slips of
that graph, which every published FID contains: averages that leave the border out of the count, and
a max pool in the last block. The weights are its port by pytorch-fid.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from flaxgan.errors import UserError
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.resize import resize as resample
from flaxgan.pretrained.state_dict import read_state_dict

Resize = Literal["tf1", "bilinear", "bicubic_antialias"]
Layer = Literal["pool3", "logits_unbiased", "logits"]

SIDE = 299
WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
SHA256_PREFIX = "6726825d"
BN_EPS = 1e-3
DIMS = {"pool3": 2048, "logits_unbiased": 1008, "logits": 1008}
# how the reference that has this resize scales what it gives to the network
SCALINGS = {
    "tf1": "(x - 128) / 128 after the resize (torch-fidelity)",
    "bilinear": "x / 255 before the resize, 2 x - 1 after it (pytorch-fid)",
    "bicubic_antialias": "clipped to 0..255, then (x - 128) / 128, after the resize (clean-fid)",
}


def load_inception(
    path: Path, *, resize: Resize = "bilinear", layer: Layer = "pool3"
) -> FeatureNetwork:
    """The feature network "inception" (of layer pool3), to which `fid` and `kid` refer.

    Args:
      path: pt_inception-2015-12-05-6726825d.pth, or a .safetensors file with the same tensors.
      resize: whose pipeline: tf1 torch-fidelity's, bilinear pytorch-fid's, bicubic_antialias
        clean-fid's.
      layer: pool3 for FID; the logits without their bias are what the Inception Score uses.

    Raises:
      UserError: no file there, or a tensor is missing or has another shape.
      ValueError: unknown resize or layer.
    """
    if resize not in get_args(Resize):
        raise ValueError(f"resize must be one of {', '.join(get_args(Resize))}, not {resize!r}")
    if layer not in get_args(Layer):
        raise ValueError(f"layer must be one of {', '.join(get_args(Layer))}, not {layer!r}")
    if not path.is_file():
        raise UserError(
            f"no Inception weights at {path}: download {WEIGHTS} "
            f"(any copy whose sha256 starts with {SHA256_PREFIX}) and give its path"
        )
    tensors, sha256 = read_state_dict(path)
    try:
        params = convert(tensors)
    except ValueError as error:
        raise UserError(f"{path} is not {WEIGHTS} or equal to it: {error}") from error

    def apply(params: Any, images: Array) -> Array:
        return InceptionV3().apply({"params": params}, preprocess(images, resize))[layer]

    verified = sha256.startswith(SHA256_PREFIX)
    return FeatureNetwork(
        name="inception" if layer == "pool3" else f"inception_{layer}",
        dim=DIMS[layer],
        params=params,
        apply=apply,
        weights_sha256=sha256,
        protocol={
            "weights": WEIGHTS if verified else "unverified",
            "layer": f"{layer} {DIMS[layer]}",
            "input_side": SIDE,
            "resize": resize,
            "scaling": SCALINGS[resize],
        },
    )


def preprocess(images: Array, resize: Resize) -> Array:
    """Pictures `[b, h, w, 3]` uint8 as the network sees them: `[b, 299, 299, 3]` about [-1, 1]."""
    x = images.astype(jnp.float32)
    if resize == "bilinear":
        return 2 * resample(x / 255, SIDE, SIDE, resize) - 1
    x = resample(x, SIDE, SIDE, resize)
    if resize == "bicubic_antialias":
        x = jnp.clip(x, 0, 255)  # the kernel overshoots
    return (x - 128) / 128


def convert(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """pytorch-fid's state dict to parameters of `InceptionV3`, batch norms folded in float64.

    Raises:
      ValueError: the first tensor that is missing or has another shape.
    """
    picture = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    wanted = jax.eval_shape(InceptionV3().init, jax.random.key(0), picture)["params"]

    def take(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in tensors:
            raise ValueError(f"it has no tensor {name}")
        if tensors[name].shape != shape:
            raise ValueError(f"{name} has shape {tensors[name].shape}, not {shape}")
        return np.asarray(tensors[name], np.float64)

    def conv_bn(at: str, kernel_shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        h, w, c_in, c_out = kernel_shape
        kernel = take(f"{at}.conv.weight", (c_out, c_in, h, w)).transpose(2, 3, 1, 0)
        scale, bias, mean, variance = (
            take(f"{at}.bn.{name}", (c_out,))
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + BN_EPS)
        return {
            "kernel": (kernel * scale).astype(np.float32),
            "bias": (bias - mean * scale).astype(np.float32),
        }

    def walk(tree: Any, at: str) -> dict[str, Any]:
        if "conv" in tree:
            return {"conv": conv_bn(at, tree["conv"]["kernel"].shape)}
        return {name: walk(tree[name], f"{at}.{name}".lstrip(".")) for name in tree}

    fc, fc_bias = wanted.pop("fc")["kernel"], wanted.pop("fc_bias")
    return walk(wanted, "") | {
        "fc": {"kernel": take("fc.weight", fc.shape[::-1]).T.astype(np.float32)},
        "fc_bias": take("fc.bias", fc_bias.shape).astype(np.float32),
    }


class InceptionV3(nn.Module):
    """Pictures in, the pooled features and both forms of the logits out."""

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        """Runs the network.

        Args:
          x: `[b, 299, 299, 3]` float32 in [-1, 1].

        Returns:
          pool3 `[b, 2048]`, logits_unbiased (without the bias) `[b, 1008]`, logits `[b, 1008]`.
        """
        x = ConvReLU(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)  # [b, 149, 149, 32]
        x = ConvReLU(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = ConvReLU(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))  # [b, 73, 73, 64]
        x = ConvReLU(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = ConvReLU(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))  # [b, 35, 35, 192]
        x = BlockA(32, name="Mixed_5b")(x)
        x = BlockA(64, name="Mixed_5c")(x)
        x = BlockA(64, name="Mixed_5d")(x)
        x = BlockB(name="Mixed_6a")(x)  # [b, 17, 17, 768]
        x = BlockC(128, name="Mixed_6b")(x)
        x = BlockC(160, name="Mixed_6c")(x)
        x = BlockC(160, name="Mixed_6d")(x)
        x = BlockC(192, name="Mixed_6e")(x)
        x = BlockD(name="Mixed_7a")(x)  # [b, 8, 8, 1280]
        x = BlockE("average", name="Mixed_7b")(x)
        x = BlockE("max", name="Mixed_7c")(x)  # [b, 8, 8, 2048]
        x = x.mean(axis=(1, 2))
        unbiased = nn.Dense(1008, use_bias=False, precision=Precision.HIGHEST, name="fc")(x)
        bias = self.param("fc_bias", nn.initializers.zeros, (1008,))
        return {"pool3": x, "logits_unbiased": unbiased, "logits": unbiased + bias}


class ConvReLU(nn.Module):
    """Convolution, batch norm folded into it, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = nn.Conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
            precision=Precision.HIGHEST,  # features must not depend on the device
            name="conv",
        )
        return nn.relu(conv(x))


class BlockA(nn.Module):
    """`[b, 35, 35, c]` to `[b, 35, 35, 224 + pool_features]`."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = ConvReLU(64, (1, 1), name="branch1x1")(x)
        b = ConvReLU(48, (1, 1), name="branch5x5_1")(x)
        b = ConvReLU(64, (5, 5), name="branch5x5_2")(b)
        c = ConvReLU(64, (1, 1), name="branch3x3dbl_1")(x)
        c = ConvReLU(96, (3, 3), name="branch3x3dbl_2")(c)
        c = ConvReLU(96, (3, 3), name="branch3x3dbl_3")(c)
        d = ConvReLU(self.pool_features, (1, 1), name="branch_pool")(average_pool(x))
        return jnp.concatenate([a, b, c, d], axis=-1)


class BlockB(nn.Module):
    """`[b, 35, 35, c]` to `[b, 17, 17, 480 + c]`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = ConvReLU(384, (3, 3), 2, "VALID", name="branch3x3")(x)
        b = ConvReLU(64, (1, 1), name="branch3x3dbl_1")(x)
        b = ConvReLU(96, (3, 3), name="branch3x3dbl_2")(b)
        b = ConvReLU(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(b)
        return jnp.concatenate([a, b, nn.max_pool(x, (3, 3), (2, 2))], axis=-1)


class BlockC(nn.Module):
    """`[b, 17, 17, c]` to `[b, 17, 17, 768]`; `width` of the 7 x 1 and 1 x 7 convolutions."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = ConvReLU(192, (1, 1), name="branch1x1")(x)
        b = ConvReLU(self.width, (1, 1), name="branch7x7_1")(x)
        b = ConvReLU(self.width, (1, 7), name="branch7x7_2")(b)
        b = ConvReLU(192, (7, 1), name="branch7x7_3")(b)
        c = ConvReLU(self.width, (1, 1), name="branch7x7dbl_1")(x)
        c = ConvReLU(self.width, (7, 1), name="branch7x7dbl_2")(c)
        c = ConvReLU(self.width, (1, 7), name="branch7x7dbl_3")(c)
        c = ConvReLU(self.width, (7, 1), name="branch7x7dbl_4")(c)
        c = ConvReLU(192, (1, 7), name="branch7x7dbl_5")(c)
        d = ConvReLU(192, (1, 1), name="branch_pool")(average_pool(x))
        return jnp.concatenate([a, b, c, d], axis=-1)


class BlockD(nn.Module):
    """`[b, 17, 17, c]` to `[b, 8, 8, 512 + c]`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = ConvReLU(192, (1, 1), name="branch3x3_1")(x)
        a = ConvReLU(320, (3, 3), 2, "VALID", name="branch3x3_2")(a)
        b = ConvReLU(192, (1, 1), name="branch7x7x3_1")(x)
        b = ConvReLU(192, (1, 7), name="branch7x7x3_2")(b)
        b = ConvReLU(192, (7, 1), name="branch7x7x3_3")(b)
        b = ConvReLU(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(b)
        return jnp.concatenate([a, b, nn.max_pool(x, (3, 3), (2, 2))], axis=-1)


class BlockE(nn.Module):
    """`[b, 8, 8, c]` to `[b, 8, 8, 2048]`; `pool` of its last branch."""

    pool: Literal["average", "max"]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a = ConvReLU(320, (1, 1), name="branch1x1")(x)
        b = ConvReLU(384, (1, 1), name="branch3x3_1")(x)
        b1 = ConvReLU(384, (1, 3), name="branch3x3_2a")(b)
        b2 = ConvReLU(384, (3, 1), name="branch3x3_2b")(b)
        c = ConvReLU(448, (1, 1), name="branch3x3dbl_1")(x)
        c = ConvReLU(384, (3, 3), name="branch3x3dbl_2")(c)
        c1 = ConvReLU(384, (1, 3), name="branch3x3dbl_3a")(c)
        c2 = ConvReLU(384, (3, 1), name="branch3x3dbl_3b")(c)
        pooled = nn.max_pool(x, (3, 3), (1, 1), "SAME") if self.pool == "max" else average_pool(x)
        d = ConvReLU(192, (1, 1), name="branch_pool")(pooled)
        return jnp.concatenate([a, b1, b2, c1, c2, d], axis=-1)


def average_pool(x: Array) -> Array:
    """3 x 3 averages at stride 1; at the border of those pixels only that exist."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
