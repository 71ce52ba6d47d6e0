"""No network at all: pictures shrunk to 8 x 8 pixels.

`fd_pixels8` costs a second. It sees colours and layout and no detail; it can pick the best
checkpoint of a run, and says nothing across data sets.
"""

import jax.numpy as jnp
from jax import Array

from flaxgan.evaluate.feature_network import FeatureNetwork

SIDE = 8


def load_pixels8() -> FeatureNetwork:
    """Area averages on an 8 x 8 grid, in [0, 1], as features of length 192."""
    return FeatureNetwork(
        name="pixels8",
        dim=SIDE * SIDE * 3,
        params={},
        apply=lambda params, images: shrink(images),
        weights_sha256="",
        protocol={"layer": "pixels", "resize": "area average", "input_side": SIDE},
    )


def shrink(images: Array) -> Array:
    """Area averages on an 8 x 8 grid.

    Args:
      images: `[n, h, w, c]` uint8; h and w at least 8. Rows beyond a multiple of 8 are left out.

    Returns:
      `[n, 8 * 8 * c]` float32 in [0, 1].
    """
    n, h, w, c = images.shape
    rows, cols = h // SIDE, w // SIDE
    cropped = images[:, : rows * SIDE, : cols * SIDE].astype(jnp.float32) / 255.0
    blocks = cropped.reshape(n, SIDE, rows, SIDE, cols, c)
    return blocks.mean(axis=(2, 4)).reshape(n, -1)
