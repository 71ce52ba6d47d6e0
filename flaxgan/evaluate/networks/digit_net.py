"""The classifier behind the metric `modes`: a small convolutional network, in the package.

It reads each colour of a picture of `stacked_digits` as one handwritten digit. Trained on the
source digits of the split `train` alone by `python -m tools.train_digit_net`.
"""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.data.stacked_digits import CHANNELS, NUM_DIGITS, SIDE, mode_of
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.networks.judge_file import read_judge
from flaxgan.evaluate.networks.pixels import SIDE as SMALL
from flaxgan.evaluate.networks.pixels import shrink
from flaxgan.models.layers import Conv


class DigitNet(nn.Module):
    """Logits of the ten digits, from one colour shrunk to 8 x 8 pixels."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[b, 8, 8, 1]` float32 in [0, 1] to `[b, 10]`."""
        x = nn.relu(Conv(32)(2.0 * x - 1.0))
        x = nn.relu(Conv(32)(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(NUM_DIGITS)(x)


def digit_logits(params: Any, images: Array) -> Array:
    """`[b, 32, 32, 3]` uint8 to `[b, 3 * 10]` float32: the logits of red, of green, of blue."""
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    x = shrink(images).reshape(-1, SMALL, SMALL, len(CHANNELS))
    x = jnp.moveaxis(x, -1, 1).reshape(-1, SMALL, SMALL, 1)
    return DigitNet().apply({"params": params}, x).reshape(len(images), -1)


@dataclasses.dataclass(frozen=True)
class DigitClassifier:
    """What it sees in pictures of `stacked_digits`.

    Attributes:
      network: whose features are `digit_logits`.
      accuracy: on source digits that it was not trained on, of one digit.
    """

    network: FeatureNetwork
    accuracy: float

    def digits(self, images: np.ndarray) -> np.ndarray:
        """`[n, 32, 32, 3]` uint8 to the digits of red, green and blue, `[n, 3]` int64."""
        logits = self.network(images).reshape(len(images), len(CHANNELS), NUM_DIGITS)
        return logits.argmax(axis=-1)

    def modes(self, images: np.ndarray) -> np.ndarray:
        """`[n, 32, 32, 3]` uint8 to the numbers that their digits spell, `[n]` in [0, 1000)."""
        return mode_of(self.digits(images))


def digit_network(params: Any, weights_sha256: str) -> FeatureNetwork:
    """`DigitNet` as a feature network whose features are the logits of all colours."""
    return FeatureNetwork(
        name="digits",
        dim=len(CHANNELS) * NUM_DIGITS,
        params=params,
        apply=digit_logits,
        weights_sha256=weights_sha256,
        protocol={"classifier": "digits", "input_side": SIDE},
    )


def bundled_weights() -> Path:
    """The file in the package."""
    return Path(str(resources.files("flaxgan.evaluate"))) / "weights" / "digits.safetensors"


def load_digit_classifier(path: Path | None = None) -> DigitClassifier:
    """Reads the classifier from a safetensors file; None: the bundled one."""
    header, params, digest = read_judge(path or bundled_weights())
    return DigitClassifier(digit_network(params, digest), header["accuracy"])
