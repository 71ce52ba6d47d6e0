"""PSNR: how near enlarged pictures come to the real ones, beside bicubic interpolation."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.evaluate.evaluator import CaptionedSet, Score
from flaxgan.evaluate.resize import resize

LEAST_ERROR = 255.0**2 * 1e-10  # mean square of equal pictures: 100 dB


def psnr(images: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture, over all its pixels and channels.

    Args:
      images, real: `[b, h, w, c]` uint8, or float in [0, 255].

    Returns:
      `[b]` 10 log10(255^2 / mean square error), dB; 100 at the most.
    """
    difference = images.astype(np.float64) - real.astype(np.float64)
    error = (difference**2).mean(axis=(1, 2, 3))
    return 10.0 * np.log10(255.0**2 / np.maximum(error, LEAST_ERROR))


def bicubic(real: np.ndarray, times: int) -> np.ndarray:
    """Pictures shrunk to area means and enlarged again as Pillow's BICUBIC does.

    Args:
      real: `[b, h, w, c]` uint8, h and w multiples of `times`.
      times: the enlargement.

    Returns:
      `[b, h, w, c]` float32 in [0, 255].
    """
    b, h, w, c = real.shape
    small = real.reshape(b, h // times, times, w // times, times, c).mean(axis=(2, 4))
    return np.asarray(_enlarge(jnp.asarray(small, jnp.float32), h, w)).clip(0.0, 255.0).round()


class PsnrEvaluator:
    """`psnr` and `psnr_gain` of enlarged pictures: means over pictures, in dB.

    The gain is over `bicubic` interpolation of the same small pictures.
    """

    def __init__(self, reference: CaptionedSet, times: int):
        """Compares with `reference`, whose pictures are enlarged `times` times."""
        self.sets = (reference,)
        self.times = times

    def accumulator(self) -> "PsnrAccumulator":
        """A fresh one."""
        return PsnrAccumulator(self)


class PsnrAccumulator:
    """Keeps two numbers of each picture."""

    def __init__(self, evaluator: PsnrEvaluator):
        """Starts with nothing."""
        self._reference, self._times = evaluator.sets[0], evaluator.times
        self._found: list[np.ndarray] = []
        self._baseline: list[np.ndarray] = []

    def add(self, set_name: str, images: np.ndarray) -> None:
        """`[b, h, w, c]` uint8, the next pictures of the set."""
        start = sum(map(len, self._found))
        rows = self._reference.rows[start : start + len(images)]
        real = np.stack([self._reference.dataset.image(row) for row in rows])
        self._found.append(psnr(images, real))
        self._baseline.append(psnr(bicubic(real, self._times), real))

    def scores(self) -> Iterator[Score]:
        """Once every picture is there."""
        found, baseline = np.concatenate(self._found), np.concatenate(self._baseline)
        protocol = {
            "unit": "dB, RGB, mean over pictures",
            "small": f"area means of {self._times} x {self._times} pixels",
            "bicubic": float(baseline.mean()),
        }
        for name, values in (("psnr", found), ("psnr_gain", found - baseline)):
            error = float(values.std() / len(values) ** 0.5)
            yield Score(name, float(values.mean()), std_error=error, protocol=protocol)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _enlarge(small: Array, height: int, width: int) -> Array:
    return resize(small, height, width, "bicubic_antialias")
