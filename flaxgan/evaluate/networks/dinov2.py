"""DINOv2 (Oquab et al. 2023): features of the class token, from the files of transformers."""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.errors import UserError
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.networks import vit
from flaxgan.evaluate.networks.hf_weights import Weights, hf_folder, positive, read_json

SIDE = 224  # of the input, a multiple of the patches' 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
# transformers' values for what config.json leaves out
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "patch_size": 14,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}


class Dinov2(nn.Module):
    """The vision transformer.

    Attributes:
      width, layers, heads, hidden, eps, qkv_bias: see `vit.Block`.
      patch: side of a patch in pixels.
      swiglu: gated feed-forward nets, as in the giant model.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    eps: float
    patch: int
    qkv_bias: bool
    swiglu: bool

    @nn.compact
    def __call__(self, pixels: Array) -> Array:
        """Standardised pictures `[b, s, s, 3]` to tokens `[b, 1 + patches, width]`, class first."""
        x = vit.Patches(self.patch, self.width, bias=True, name="patches")(pixels)
        for i in range(self.layers):
            x = vit.Block(
                self.heads,
                self.hidden,
                self.eps,
                "swiglu" if self.swiglu else "gelu",
                self.qkv_bias,
                layer_scale=True,
                name=f"block{i}",
            )(x)
        return vit.layer_norm(self.eps, "norm")(x)


def load_dinov2(name_or_path: str, *, position_offset: float = 0.1) -> FeatureNetwork:
    """DINOv2 as Stein et al. 2023 use it: FD-DINOv2 of dgm-eval takes "facebook/dinov2-large".

    The picture is resized to 224 x 224 by PIL's bicubic filter, without a crop, and standardised by
    ImageNet's mean and deviation; the feature is the class token after the last LayerNorm.

    Args:
      name_or_path: a folder with config.json and model.safetensors, or its name on the hub.
      position_offset: see `interpolate_positions`.

    Raises:
      UserError: a file is missing or belongs to another model.

    Reference: Oquab et al. 2023 (DINOv2); Stein et al. 2023 (Exposing flaws of generative model
      evaluation metrics), https://github.com/layer6ai-labs/dgm-eval.
    """
    folder = hf_folder(name_or_path, ("config.json", "model.safetensors"))
    module = read_config(folder / "config.json")
    weights = Weights(folder)
    params = convert(weights, module, SIDE, position_offset)
    weights.check(module, params, jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))
    return FeatureNetwork(
        name="dinov2",
        dim=module.width,
        params=params,
        apply=functools.partial(_features, module),
        weights_sha256=weights.sha256,
        protocol={
            "layer": "class token after the last LayerNorm",
            "resize": "PIL bicubic on uint8, no crop",
            "side": SIDE,
            "width": module.width,
            "layers": module.layers,
            "position_offset": position_offset,
        },
    )


def _features(module: Dinov2, params: Any, images: Array) -> Array:
    levels = vit.pil_bicubic(images, SIDE, SIDE)
    return module.apply({"params": params}, vit.standardise(levels, MEAN, STD))[:, 0]


def read_config(path: Path) -> Dinov2:
    """The module that a config.json describes.

    Raises:
      UserError: it describes another architecture.
    """
    config = read_json(path)
    if config.get("model_type") != "dinov2":
        found = config.get("model_type")
        raise UserError(f"{path}: model_type must be 'dinov2', not {found!r}: name a DINOv2 model")
    config = DEFAULTS | config
    if config["hidden_act"] != "gelu":
        raise UserError(f"{path}: hidden_act must be 'gelu', not {config['hidden_act']!r}")
    width, layers, heads, ratio, patch = positive(
        config,
        path,
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "mlp_ratio",
        "patch_size",
    )
    if width % heads:
        raise UserError(f"{path}: num_attention_heads must divide hidden_size")
    if patch > SIDE:
        raise UserError(f"{path}: patch_size must be at most {SIDE}")
    hidden = width * ratio
    if config["use_swiglu_ffn"]:  # two thirds, rounded up to a multiple of 8
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
    return Dinov2(
        width,
        layers,
        heads,
        hidden,
        float(config["layer_norm_eps"]),
        patch,
        bool(config["qkv_bias"]),
        bool(config["use_swiglu_ffn"]),
    )


def convert(
    weights: Weights, module: Dinov2, side: int, position_offset: float = 0.0
) -> dict[str, Any]:
    """Tensors of transformers' Dinov2Model to parameters of the module for side x side pixels."""
    prefix = "" if "embeddings.cls_token" in weights else "dinov2."  # saved with a head
    embeddings = f"{prefix}embeddings."
    params: dict[str, Any] = {
        "patches": {
            "projection": weights.conv(f"{embeddings}patch_embeddings.projection"),
            "class_token": weights[f"{embeddings}cls_token"].reshape(-1),
            "positions": interpolate_positions(
                weights[f"{embeddings}position_embeddings"][0],
                side // module.patch,
                position_offset,
            ),
        },
        "norm": weights.norm(f"{prefix}layernorm"),
    }
    up, down = ("weights_in", "weights_out") if module.swiglu else ("fc1", "fc2")
    for i in range(module.layers):
        at = f"{prefix}encoder.layer.{i}."
        attention = [f"{at}attention.attention.{name}" for name in ("query", "key", "value")]
        params[f"block{i}"] = {
            "norm1": weights.norm(f"{at}norm1"),
            "qkv": weights.dense(*attention, bias=module.qkv_bias),
            "out": weights.dense(f"{at}attention.output.dense"),
            "scale1": weights[f"{at}layer_scale1.lambda1"],
            "norm2": weights.norm(f"{at}norm2"),
            "up": weights.dense(f"{at}mlp.{up}"),
            "down": weights.dense(f"{at}mlp.{down}"),
            "scale2": weights[f"{at}layer_scale2.lambda1"],
        }
    return params


def interpolate_positions(positions: np.ndarray, side: int, offset: float) -> np.ndarray:
    """Position embeddings of a square grid for another grid, by torch's bicubic filter.

    Args:
      positions: `[1 + old * old, d]`, the class token's first.
      side: of the new grid in patches.
      offset: the new grid is scaled as if it had side + offset patches. DINOv2's own code, and so
        dgm-eval, has 0.1; transformers has 0.

    Returns:
      `[1 + side * side, d]`; positions themselves where the grid is the same.
    """
    old = round((len(positions) - 1) ** 0.5)
    if old == side:
        return positions
    if old * old != len(positions) - 1:
        raise UserError(f"{len(positions) - 1} position embeddings are not a square grid")
    matrix = _bicubic(old, side, (side + offset) / old)
    grid = positions[1:].reshape(old, old, -1)
    grid = np.einsum("yh,xw,hwd->yxd", matrix, matrix, grid, optimize=True)
    return np.concatenate([positions[:1], grid.reshape(side * side, -1)]).astype(np.float32)


def _bicubic(size_in: int, size_out: int, scale: float) -> np.ndarray:
    """torch's interpolate(mode="bicubic", scale_factor=scale): `[size_out, size_in]`.

    `resize_matrix` has no scale of its own: there it is size_out / size_in.
    """
    at = (np.arange(size_out) + 0.5) / scale - 0.5
    first = np.floor(at).astype(int)
    matrix = np.zeros((size_out, size_in))
    for tap in range(-1, 3):
        x = np.abs(at - first - tap)
        near = 1.25 * x**3 - 2.25 * x**2 + 1.0  # Keys 1981 with a = -0.75
        far = -0.75 * (x**3 - 5.0 * x**2 + 8.0 * x - 4.0)
        column = np.clip(first + tap, 0, size_in - 1)
        np.add.at(matrix, (np.arange(size_out), column), np.where(x < 1.0, near, far))
    return matrix
