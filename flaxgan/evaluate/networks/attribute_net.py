"""The classifier behind the attribute scores: a small residual network, bundled with the package.

Trained on renders alone by `python -m tools.train_attribute_net`.
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

from flaxgan.data.avatars import ATTRIBUTES
from flaxgan.errors import UserError
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.networks.judge_file import read_judge
from flaxgan.models.layers import Conv

SIDES = (32, 64)  # pixels, resolutions with bundled weights
NUM_CLASSES = tuple(len(values) for values in ATTRIBUTES.values())
OFFSETS = tuple(int(end) for end in np.cumsum(NUM_CLASSES)[:-1])


class AttributeNet(nn.Module):
    """Logits of every class of every attribute, from pictures of one resolution."""

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`[b, s, s, 3]` float32 in [0, 255], s 32 or 64, to `[b, sum(NUM_CLASSES)]`."""
        x = images / 127.5 - 1.0
        while x.shape[1] > 32:
            x = space_to_depth(x)
        x = Conv(24)(x)
        for features, blocks in ((48, 1), (96, 2)):
            x = Conv(features, 1)(space_to_depth(nn.relu(x)))
            for _ in range(blocks):
                h = Conv(features)(nn.relu(x))
                x = x + Conv(features)(nn.relu(h))
        x = nn.relu(Conv(24, 1)(nn.relu(x)))
        # faces do not move: each place has weights of its own
        x = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return nn.Dense(sum(NUM_CLASSES))(x)


def space_to_depth(x: Array) -> Array:
    """2x2 pixels to channels: `[b, h, w, c]` to `[b, h/2, w/2, 4c]`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // 2, w // 2, 4 * c)


def split_logits(logits: Array) -> dict[str, Array]:
    """`[b, sum(NUM_CLASSES)]` to attribute -> `[b, classes]`."""
    return dict(zip(ATTRIBUTES, jnp.split(logits, OFFSETS, axis=-1), strict=True))


def attribute_network(params: Any, side: int, weights_sha256: str) -> FeatureNetwork:
    """`AttributeNet` as a feature network whose features are the logits of every class."""

    def apply(params: Any, images: Array) -> Array:
        params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
        return AttributeNet().apply({"params": params}, images.astype(jnp.float32))

    return FeatureNetwork(
        name=f"avatars{side}",
        dim=sum(NUM_CLASSES),
        params=params,
        apply=apply,
        weights_sha256=weights_sha256,
        protocol={"classifier": f"avatars{side}", "input_side": side},
    )


def predict_all(network: FeatureNetwork, images: np.ndarray) -> np.ndarray:
    """`[n, s, s, 3]` uint8 to `[n, attributes]` class numbers, int16."""
    logits = np.split(network(images), OFFSETS, axis=-1)
    return np.stack([values.argmax(axis=-1) for values in logits], axis=-1).astype(np.int16)


def merge(labels: np.ndarray, alike: Mapping[str, Mapping[str, str]]) -> np.ndarray:
    """Class numbers `[n, attributes]` with those of values that count as another one replaced."""
    labels = labels.copy()
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        for value, other in alike.get(name, {}).items():
            labels[labels[:, column] == values.index(value), column] = values.index(other)
    return labels


@dataclasses.dataclass(frozen=True)
class AttributeClassifier:
    """What it sees in avatars.

    Attributes:
      network: of `attribute_network`.
      classes: the attributes that it tells reliably -> their class names.
      alike: attribute -> value -> the value that it counts as, because the two cannot be told apart
        at this resolution.
      accuracy: of every attribute on unseen renders, also of those that are left out.
    """

    network: FeatureNetwork
    classes: Mapping[str, Sequence[str]]
    alike: Mapping[str, Mapping[str, str]]
    accuracy: Mapping[str, float]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """`[n, s, s, 3]` uint8 to `[n, len(classes)]` class numbers, int16."""
        names = list(ATTRIBUTES)
        predicted = merge(predict_all(self.network, images), self.alike)
        return predicted[:, [names.index(name) for name in self.classes]]


def bundled_weights(side: int) -> Path:
    """The file in the package for pictures of one size."""
    return Path(str(resources.files("flaxgan.evaluate"))) / "weights" / f"avatars{side}.safetensors"


def load_attribute_classifier(side: int, path: Path | None = None) -> AttributeClassifier:
    """Reads the classifier for pictures of one size.

    Args:
      side: height and width, pixels.
      path: safetensors file; None: the bundled one.

    Raises:
      UserError: there is none for this size, or the file does not fit this version's data set.
    """
    if path is None:
        if side not in SIDES:
            sizes = " and ".join(map(str, SIDES))
            raise UserError(f"attributes are scored at {sizes} pixels, not at {side}")
        path = bundled_weights(side)
    header, params, digest = read_judge(path)
    if header["classes"] != {name: list(values) for name, values in ATTRIBUTES.items()}:
        raise UserError(f"{path} was trained on different attributes from this version's")
    return AttributeClassifier(
        attribute_network(params, side, digest),
        {name: ATTRIBUTES[name] for name in header["reliable"]},
        header["alike"],
        header["accuracy"],
    )
