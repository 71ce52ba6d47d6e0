"""The judge behind `emoji_retrieval`: emoji and captions as vectors of one space.

Two small heads, bundled with the package, on frozen networks: EfficientNet-Lite0's pooled features
and 8 x 8 pixels on one side, e5's sentence vectors on the other. Made by `python -m
tools.train_emoji_matcher` from the pictures of all splits and spoilt copies of them, for
it judges generators and is not one: so what it gives real pictures (97 % of `test`, 99 % of
`heldout` are nearest to their own of 100 captions) are values of pictures that it knows. The same
training on `train` alone gives 80 % and 98 %: the figures of pictures that it has not seen.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from flaxgan.config import TextConfig
from flaxgan.errors import UserError
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.networks.efflite0 import load_efflite0
from flaxgan.evaluate.networks.judge_file import read_judge
from flaxgan.evaluate.networks.pixels import shrink
from flaxgan.evaluate.resize import resize
from flaxgan.pretrained.efficientnet_lite import EfficientNetLite0
from flaxgan.text import TextEncoder, build_text_encoder, embed_captions

DIM, HIDDEN = 128, 256
# unlike distances, a matcher gains little at 224 and this costs a third
INPUT_SIDE = 128
# pooled features of ImageNet say little about skin tones, 8 x 8 pixels do
IMAGE_FEATURES = 1280 + 8 * 8 * 3


class Tower(nn.Module):
    """A linear map plus a hidden layer, to unit length."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Standardised features `[b, f]` to `[b, DIM]`."""

        def dense(features: int, name: str, *, bias: bool = False) -> nn.Dense:
            return nn.Dense(features, bias, precision=Precision.HIGHEST, name=name)

        h = nn.relu(dense(HIDDEN, "hidden", bias=True)(x))
        y = dense(DIM, "linear")(x) + dense(DIM, "out")(h)
        return y / jnp.maximum(jnp.linalg.norm(y, axis=-1, keepdims=True), 1e-12)


def embed(params: Any, features: Array) -> Array:
    """Features `[b, f]` of a frozen network to vectors `[b, DIM]` of unit length.

    Args:
      params: mean and sd `[f]` of the features, and the tower; of any float type.
      features: as they come.
    """
    params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    x = (features.astype(jnp.float32) - params["mean"]) / params["sd"]
    return Tower().apply({"params": params["tower"]}, x)


def image_features(backbone: Any, images: Array) -> Array:
    """Pictures `[b, h, w, 3]` uint8 to `[b, IMAGE_FEATURES]`, with EfficientNet-Lite0's params."""
    x = images.astype(jnp.float32)
    large = resize(x, INPUT_SIDE, INPUT_SIDE, "bicubic_antialias").clip(0.0, 255.0)
    pooled = EfficientNetLite0("pool1280").apply({"params": backbone}, (large - 127.0) / 128.0)
    return jnp.concatenate([pooled, shrink(images)], axis=-1)


@dataclasses.dataclass(frozen=True)
class EmojiMatcher:
    """Pictures and captions in one space.

    Attributes:
      image: pictures to `[b, DIM]`, unit length.
      header: how it was trained and tested: see `train_emoji_matcher`.
    """

    image: FeatureNetwork
    header: Mapping[str, Any]
    _text_params: Any
    _encoder: TextEncoder
    _text: TextConfig

    def encode_text(self, captions: Sequence[str]) -> np.ndarray:
        """`n` captions to `[n, DIM]` float32, unit length; equal captions get equal bits."""
        unique = sorted(set(captions))
        emb = embed_captions(
            self._encoder,
            unique,
            cache_dir=self._text.cache_dir,
            batch_size=self._text.batch_size,
        )
        vectors = np.asarray(jax.jit(embed)(self._text_params, emb))
        rows = {caption: i for i, caption in enumerate(unique)}
        return vectors[[rows[caption] for caption in captions]]


def load_emoji_matcher(text: TextConfig, path: Path | None = None) -> EmojiMatcher:
    """Reads the matcher, and the two networks below it.

    Args:
      text: of the generator's config; where its encoder is e5 its path counts, where it is
        another, e5's package is read.
      path: safetensors file; None: the bundled one.

    Raises:
      UserError: weights of EfficientNet-Lite0 or e5 are not installed or not the right ones.
    """
    header, params, digest = read_judge(path or bundled_weights())
    backbone = load_efflite0()
    e5 = matcher_text_config(text)
    encoder = build_text_encoder(e5)
    if encoder.dim != len(params["text"]["mean"]):
        raise UserError(
            f"emoji_retrieval needs multilingual-e5-small, whose vectors have "
            f"{len(params['text']['mean'])} dimensions; {e5.path} gives {encoder.dim}"
        )

    def apply(params: Any, images: Array) -> Array:
        return embed(params["image"], image_features(params["backbone"], images))

    image = FeatureNetwork(
        name="emoji_matcher",
        dim=DIM,
        params={"image": params["image"], "backbone": backbone.params},
        apply=apply,
        weights_sha256=digest,
        protocol={
            "input_side": INPUT_SIDE,
            "resize": "bicubic_antialias",
            "backbone_sha256": backbone.weights_sha256,
            "text_fingerprint": encoder.fingerprint,
        },
    )
    return EmojiMatcher(image, header, params["text"], encoder, e5)


def bundled_weights() -> Path:
    """The file in the package."""
    return Path(str(resources.files("flaxgan.evaluate"))) / "weights" / "emoji_matcher.safetensors"


def matcher_text_config(text: TextConfig) -> TextConfig:
    """The settings of e5 that the matcher was trained with, and where things lie."""
    return TextConfig(
        encoder="e5",
        path=text.path if text.encoder == "e5" else None,
        cache_dir=text.cache_dir,
        batch_size=text.batch_size,
    )
