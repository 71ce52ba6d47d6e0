"""A metric that costs a second: the Fréchet distance of pictures shrunk to 8 x 8 pixels.

It sees colours and layout and no detail. It picks the best checkpoint of a run; it is not FID and
says nothing across data sets.
"""

from collections.abc import Callable, Iterator

import numpy as np

from flaxgan.evaluate.frechet import frechet_distance

SIDE = 8


class PixelEvaluator:
    """Yields `fd_pixels8`, lower is better."""

    def __init__(self, real_images: np.ndarray, draw: Callable[..., np.ndarray]):
        """Keeps the real side.

        Args:
          real_images: `[n, h, w, c]` uint8, never trained on.
          draw: `params -> [n, h, w, c]` uint8, pictures for the captions of the real ones.
        """
        self._real = shrink(real_images)
        self._draw = draw

    def run(self, params: object) -> Iterator[tuple[str, float]]:
        """Scores the generator with these (averaged) parameters."""
        yield "fd_pixels8", frechet_distance(self._real, shrink(self._draw(params)))


def shrink(images: np.ndarray) -> np.ndarray:
    """Area averages on an 8 x 8 grid.

    Args:
      images: `[n, h, w, c]` uint8; h and w at least 8. Rows beyond a multiple of 8 are left out.

    Returns:
      `[n, 8 * 8 * c]` float32 in [0, 1].
    """
    n, h, w, c = images.shape
    rows, cols = h // SIDE, w // SIDE
    cropped = images[:, : rows * SIDE, : cols * SIDE].astype(np.float32) / 255.0
    blocks = cropped.reshape(n, SIDE, rows, SIDE, cols, c)
    return blocks.mean(axis=(2, 4)).reshape(n, -1)
