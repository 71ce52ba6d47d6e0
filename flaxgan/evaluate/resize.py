"""Resampling of pictures as two matrix products, each mode exactly that of a reference.

Metrics depend on how pictures are resized (Parmar et al. 2022), and `jax.image.resize` has neither
TensorFlow 1's grid nor PyTorch's edges.
"""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

Mode = Literal["tf1", "bilinear", "bilinear_antialias", "bicubic", "bicubic_antialias"]


def resize(images: Array, height: int, width: int, mode: Mode) -> Array:
    """Resamples pictures; bicubic modes overshoot the input's range, and nothing is clipped.

    Args:
      images: `[b, h, w, c]` float32.
      height: of the result.
      width: of the result.
      mode: see `resize_matrix`.

    Returns:
      `[b, height, width, c]` float32; the input itself where the size is equal.
    """
    _, h, w, _ = images.shape
    if height != h:
        rows = jnp.asarray(resize_matrix(h, height, mode))
        images = jnp.einsum("oh,bhwc->bowc", rows, images, precision=Precision.HIGHEST)
    if width != w:
        columns = jnp.asarray(resize_matrix(w, width, mode))
        images = jnp.einsum("ow,bhwc->bhoc", columns, images, precision=Precision.HIGHEST)
    return images


def resize_matrix(size_in: int, size_out: int, mode: Mode) -> np.ndarray:
    """Weights of every input pixel in every output pixel along one axis; rows sum to 1.

    Args:
      size_in: pixels of the input.
      size_out: pixels of the output.
      mode: one of
        tf1: TensorFlow 1's resize_bilinear(align_corners=False): no half-pixel centres.
        bilinear: torch's interpolate(mode="bilinear", align_corners=False).
        bilinear_antialias: PIL's BILINEAR, a triangle that widens when shrinking.
        bicubic: torch's interpolate(mode="bicubic", align_corners=False), a = -0.75.
        bicubic_antialias: PIL's BICUBIC, a = -0.5, a kernel that widens when shrinking.

    Returns:
      `[size_out, size_in]` float32, computed in float64.

    Raises:
      ValueError: unknown mode.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"resize mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    scale = size_in / size_out
    at = np.arange(size_out) * scale  # in input pixels
    if mode != "tf1":
        at += 0.5 * scale - 0.5
    if mode == "bilinear_antialias":
        matrix = _windowed(at, size_in, max(scale, 1.0), _triangle)
    elif mode == "bicubic_antialias":
        matrix = _windowed(at, size_in, max(scale, 1.0), lambda x: _cubic(x, -0.5))
    elif mode == "bicubic":
        matrix = _clamped(at, size_in, range(-1, 3), lambda x: _cubic(x, -0.75))
    else:
        matrix = _clamped(at, size_in, range(2), _triangle)
    return matrix.astype(np.float32)


def _clamped(
    at: np.ndarray, size_in: int, taps: range, kernel: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Weights where a tap beyond the edge reads the edge pixel."""
    matrix = np.zeros((len(at), size_in))
    first = np.floor(at).astype(int)
    for tap in taps:
        column = np.clip(first + tap, 0, size_in - 1)
        matrix[np.arange(len(at)), column] += kernel(at - (first + tap))
    return matrix


def _windowed(
    at: np.ndarray, size_in: int, stretch: float, kernel: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Weights where taps beyond the edge are left out and the others sum to 1 again."""
    matrix = kernel((np.arange(size_in) - at[:, None]) / stretch)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys 1981, eq. 15 with a free; a = -0.5 is its optimum."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
