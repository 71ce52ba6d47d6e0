"""CLIP (Radford et al. 2021): pictures and captions in one space, from transformers' files."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
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
from flaxgan.training import parallel

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's own training pictures
STD = (0.26862954, 0.26130258, 0.27577711)
# transformers' values for what config.json leaves out
TOWER = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
VISION = TOWER | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
TEXT = TOWER | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
BUCKET = 16  # captions are padded to a multiple of it: each length compiles once


class VisionTower(nn.Module):
    """Pictures to vectors.

    Attributes:
      dim: of the common space.
      width, layers, heads, hidden, eps, activation: see `vit.Block`.
      side: of a picture in pixels.
      patch: side of a patch in pixels.
    """

    dim: int
    width: int
    layers: int
    heads: int
    hidden: int
    eps: float
    activation: vit.Activation
    side: int
    patch: int

    @nn.compact
    def __call__(self, pixels: Array) -> Array:
        """Standardised pictures `[b, side, side, 3]` to `[b, dim]` of unit length."""
        x = vit.Patches(self.patch, self.width, bias=False, name="patches")(pixels)
        x = vit.layer_norm(self.eps, "norm_before")(x)
        for i in range(self.layers):
            block = vit.Block(self.heads, self.hidden, self.eps, self.activation, name=f"block{i}")
            x = block(x)
        x = vit.layer_norm(self.eps, "norm_after")(x[:, 0])
        x = nn.Dense(self.dim, use_bias=False, precision=vit.HIGHEST, name="projection")(x)
        return vit.normalise(x)


class TextTower(nn.Module):
    """Tokens to vectors.

    Attributes:
      dim: of the common space.
      width, layers, heads, hidden, eps, activation: see `vit.Block`.
      vocabulary: number of tokens.
      positions: longest sequence.
      end: the token whose first place holds the caption's vector.
    """

    dim: int
    width: int
    layers: int
    heads: int
    hidden: int
    eps: float
    activation: vit.Activation
    vocabulary: int
    positions: int
    end: int

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """`[b, t]` int32 to `[b, dim]` of unit length; what follows the end does not matter."""
        init = nn.initializers.normal(0.02)
        t = tokens.shape[1]
        words = self.param("words", init, (self.vocabulary, self.width))
        x = words[tokens] + self.param("positions", init, (self.positions, self.width))[:t]
        causal = jnp.where(jnp.tri(t, dtype=bool), 0.0, -jnp.inf)
        for i in range(self.layers):
            block = vit.Block(self.heads, self.hidden, self.eps, self.activation, name=f"block{i}")
            x = block(x, causal)
        x = vit.layer_norm(self.eps, "norm_after")(x)
        x = jnp.take_along_axis(x, end_position(tokens, self.end)[:, None, None], axis=1)[:, 0]
        x = nn.Dense(self.dim, use_bias=False, precision=vit.HIGHEST, name="projection")(x)
        return vit.normalise(x)


def end_position(tokens: Array, end: int) -> Array:
    """Where the caption's vector is, `[b]`: the first `end`, as transformers finds it.

    Old config.json files say end = 2, which is wrong for their tokenizers: there it is the largest
    token, which is OpenAI's end.
    """
    return jnp.argmax(tokens if end == 2 else tokens == end, axis=1)


@dataclasses.dataclass(frozen=True)
class Clip:
    """Both towers.

    Attributes:
      image: pictures to `[b, d]` of unit length.
      logit_scale: of the training: its logits are logit_scale * image @ text.T.
    """

    image: FeatureNetwork
    logit_scale: float
    _text: TextTower
    _text_params: Any
    _tokenize: Callable[[Sequence[str]], list[tuple[int, ...]]]

    def encode_text(self, captions: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Vectors of captions, cut after as many tokens as the model has positions.

        Equal tokens give the same bits, so that `clip_scores.r_precision` can tell captions apart.

        Args:
          captions: any number of them.
          batch_size: at most this many at once, rounded up to a multiple of the devices.

        Returns:
          `[n, d]` float32 of unit length, independent of batch size up to rounding.
        """
        rows = self._tokenize(captions)
        distinct = sorted(set(rows), key=lambda row: (len(row), row))  # like lengths together
        devices = jax.local_devices()
        batch_size = parallel.even_batch_size(batch_size, len(distinct), len(devices))
        vectors: dict[tuple[int, ...], np.ndarray] = {}
        for start in range(0, len(distinct), batch_size):
            part = distinct[start : start + batch_size]
            tokens = self._padded(part, batch_size)
            found = self._compiled(self._placed_params, parallel.shard_rows(tokens, devices))
            vectors |= zip(part, np.asarray(found), strict=False)  # without the rows added
        dim = self._text.dim
        return np.array([vectors[row] for row in rows], np.float32).reshape(len(rows), dim)

    def _padded(self, rows: Sequence[tuple[int, ...]], count: int) -> np.ndarray:
        """`[count, t]` int32; each row goes on with its own last token, which is the end."""
        length = min(-(-max(map(len, rows)) // BUCKET) * BUCKET, self._text.positions)
        rows = [*rows, *[rows[-1]] * (count - len(rows))]
        return np.array([row + row[-1:] * (length - len(row)) for row in rows], np.int32)

    @functools.cached_property
    def _compiled(self) -> Callable[[Any, Array], Array]:
        return jax.jit(lambda params, tokens: self._text.apply({"params": params}, tokens))

    @functools.cached_property
    def _placed_params(self) -> Any:
        return jax.device_put(self._text_params, parallel.replicated_sharding(jax.local_devices()))


def load_clip(name_or_path: str) -> Clip:
    """CLIP, any size.

    CLIPScore is usually taken with "openai/clip-vit-base-patch32", and CMMD with
    "openai/clip-vit-large-patch14-336"; CMMD's authors crop before they resize, which is the same
    for square pictures.

    Args:
      name_or_path: a folder with config.json, model.safetensors and tokenizer.json, or its name on
        the hub.

    Raises:
      UserError: a file is missing or belongs to another model.

    Reference: Radford et al. 2021 (CLIP).
    """
    folder = hf_folder(
        name_or_path,
        ("config.json", "model.safetensors", "tokenizer.json"),
        optional=("preprocessor_config.json",),
    )
    vision, text = read_config(folder / "config.json")
    mean, std = read_preprocessor(folder / "preprocessor_config.json")
    tokenize = read_tokenizer(folder / "tokenizer.json", text)
    weights = Weights(folder)
    vision_params, text_params = convert(weights, vision, text)
    pixels = jax.ShapeDtypeStruct((1, vision.side, vision.side, 3), jnp.float32)
    weights.check(vision, vision_params, pixels)
    weights.check(text, text_params, jax.ShapeDtypeStruct((1, BUCKET), jnp.int32))
    image = FeatureNetwork(
        name="clip",
        dim=vision.dim,
        params=vision_params,
        apply=functools.partial(_features, vision, mean, std),
        weights_sha256=weights.sha256,
        protocol={
            "layer": "projected class token, unit length",
            "resize": "shorter side by PIL bicubic on uint8, centre crop",
            "side": vision.side,
            "patch": vision.patch,
            "width": vision.width,
            "layers": vision.layers,
        },
    )
    scale = float(np.exp(weights["logit_scale"]))
    return Clip(image, scale, text, text_params, tokenize)


def preprocess(images: Array, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """What transformers' CLIPImageProcessor does: resize, centre crop, standardise.

    Args:
      images: `[b, h, w, 3]` uint8.
      side: of the result in pixels.
      mean, std: per channel, of values in [0, 1].

    Returns:
      `[b, side, side, 3]` float32.
    """
    _, h, w, _ = images.shape
    height, width = side * h // min(h, w), side * w // min(h, w)
    top, left = (height - side) // 2, (width - side) // 2
    levels = vit.pil_bicubic(images, height, width)[:, top : top + side, left : left + side]
    return vit.standardise(levels, mean, std)


def _features(
    module: VisionTower,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    params: Any,
    images: Array,
) -> Array:
    return module.apply({"params": params}, preprocess(images, module.side, mean, std))


def read_config(path: Path) -> tuple[VisionTower, TextTower]:
    """The towers that a config.json describes.

    Raises:
      UserError: it describes another architecture.
    """
    config = {"projection_dim": 512} | read_json(path)
    if config.get("model_type") != "clip":
        found = config.get("model_type")
        raise UserError(f"{path}: model_type must be 'clip', not {found!r}: name a CLIP model")
    (dim,) = positive(config, path, "projection_dim")

    def part(name: str, defaults: dict[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...]]:
        found = config.get(f"{name}_config_dict")  # of old files; transformers prefers it
        if found is None:
            found = config.get(f"{name}_config") or {}
        if not isinstance(found, dict):
            raise UserError(f"{path}: {name}_config must be an object")
        values = defaults | found
        positive(values, path, *(key for key, v in defaults.items() if isinstance(v, int)))
        if values["hidden_act"] not in vit.ACTIVATIONS:
            allowed = " or ".join(vit.ACTIVATIONS)
            raise UserError(f"{path}: hidden_act must be {allowed}, not {values['hidden_act']!r}")
        if values["hidden_size"] % values["num_attention_heads"]:
            raise UserError(f"{path}: num_attention_heads must divide hidden_size")
        common = (
            values["hidden_size"],
            values["num_hidden_layers"],
            values["num_attention_heads"],
            values["intermediate_size"],
            float(values["layer_norm_eps"]),
            values["hidden_act"],
        )
        return values, common

    vision, common = part("vision", VISION)
    if vision["patch_size"] > vision["image_size"]:
        raise UserError(f"{path}: patch_size must be at most image_size")
    vision_tower = VisionTower(dim, *common, vision["image_size"], vision["patch_size"])
    text, common = part("text", TEXT)
    return vision_tower, TextTower(
        dim, *common, text["vocab_size"], text["max_position_embeddings"], text["eos_token_id"]
    )


def read_preprocessor(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the input per channel; CLIP's own where the file does not exist.

    Raises:
      UserError: the file says something else than three numbers.
    """
    config = read_json(path) if path.is_file() else {}
    found = []
    for name, default in (("image_mean", MEAN), ("image_std", STD)):
        try:
            values = tuple(float(value) for value in config.get(name, default))
        except (TypeError, ValueError):
            values = ()
        if len(values) != 3:
            raise UserError(f"{path}: {name} must be three numbers, not {config[name]!r}")
        found.append(values)
    return found[0], found[1]


def read_tokenizer(path: Path, text: TextTower) -> Callable[[Sequence[str]], list[tuple[int, ...]]]:
    """Captions to tokens with the start and the end, at most as many as the tower has positions.

    Raises:
      UserError: the package tokenizers is not installed, the file cannot be read, or it is of
        another model.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(f"to read {path}: pip install tokenizers") from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        raise UserError(f"{path} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(text.positions)  # keeps the end
    if tokenizer.get_vocab_size() > text.vocabulary:
        raise UserError(
            f"{path} has {tokenizer.get_vocab_size()} tokens, the model {text.vocabulary}: "
            "it belongs to another model"
        )
    ids = tokenizer.encode("").ids
    end = max(ids, default=None) if text.end == 2 else text.end
    if not ids or ids[-1] != end:
        raise UserError(f"{path} does not end captions with the token that config.json names")

    def tokenize(captions: Sequence[str]) -> list[tuple[int, ...]]:
        return [tuple(encoding.ids) for encoding in tokenizer.encode_batch(list(captions))]

    return tokenize


def convert(
    weights: Weights, vision: VisionTower, text: TextTower
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors of transformers' CLIPModel to parameters of both towers."""

    def blocks(at: str, layers: int) -> dict[str, Any]:
        params = {}
        for i in range(layers):
            layer = f"{at}.encoder.layers.{i}."
            attention = [f"{layer}self_attn.{name}_proj" for name in "qkv"]
            params[f"block{i}"] = {
                "norm1": weights.norm(f"{layer}layer_norm1"),
                "qkv": weights.dense(*attention),
                "out": weights.dense(f"{layer}self_attn.out_proj"),
                "norm2": weights.norm(f"{layer}layer_norm2"),
                "up": weights.dense(f"{layer}mlp.fc1"),
                "down": weights.dense(f"{layer}mlp.fc2"),
            }
        return params

    embeddings = "vision_model.embeddings."
    vision_params = {
        "patches": {
            "projection": weights.conv(f"{embeddings}patch_embedding", bias=False),
            "class_token": weights[f"{embeddings}class_embedding"],
            "positions": weights[f"{embeddings}position_embedding.weight"],
        },
        "norm_before": weights.norm("vision_model.pre_layrnorm"),  # their spelling
        **blocks("vision_model", vision.layers),
        "norm_after": weights.norm("vision_model.post_layernorm"),
        "projection": weights.dense("visual_projection", bias=False),
    }
    text_params = {
        "words": weights["text_model.embeddings.token_embedding.weight"],
        "positions": weights["text_model.embeddings.position_embedding.weight"],
        **blocks("text_model", text.layers),
        "norm_after": weights.norm("text_model.final_layer_norm"),
        "projection": weights.dense("text_projection", bias=False),
    }
    return vision_params, text_params
