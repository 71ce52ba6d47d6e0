"""EfficientNet-Lite0 as a feature network: of pictures of any size, one vector each."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.resize import resize
from flaxgan.pretrained.efficientnet_lite import (
    HEAD,
    MIDDLE,
    EfficientNetLite0,
    Layer,
    convert,
    read_weights,
)

# at 128 a third of the cost, but blur, JPEG and shifts of 64 px pictures stand less clearly above
# the distance of real pictures to real ones (Gaussian blur of 1 px: 2.6 times it, here 4.2 times)
INPUT_SIDE = 224


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
    tensors, sha256 = read_weights()
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
