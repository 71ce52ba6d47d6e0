"""Nearest neighbours among features: precision, recall, density, coverage, and copies.

NumPy in float64: on a CPU XLA is no faster, and whether a point lies in a ball must not depend on
how precisely a device multiplies. Distances exist for `chunk` rows at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from flaxgan.errors import UserError
from flaxgan.evaluate.feature_sets import checked


class PRDC(NamedTuple):
    """Fractions in [0, 1], but density, which has no upper bound; 1 is good.

    Attributes:
      precision: of the fakes that lie in the ball of a real one.
      recall: of the reals that lie in the ball of a fake one.
      density: balls of reals that a fake lies in, on average, divided by k.
      coverage: of the reals whose ball holds a fake.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, fake: np.ndarray, *, k: int = 5, chunk: int = 1024) -> PRDC:
    """How two sets cover each other; the ball of a point ends before its k-th nearest neighbour.

    The neighbour itself, and with it a fake that copies it, lies outside: what is as far as the
    radius up to rounding counts as on the edge. A point with k copies in its own set has an empty
    ball.

    Args:
      real, fake: features `[n, d]` and `[m, d]`; the same n and m for numbers to compare.
      k: which neighbour.
      chunk: rows of distances in memory at once.

    Raises:
      UserError: a set has k rows or fewer, or the features are unusable.

    Reference: Kynkäänniemi et al. 2019 (precision, recall); Naeem et al. 2020, eq. 3 to 5 (density,
      coverage), whose code has k = 5 and the ball open, where Kynkäänniemi's is closed.
    """
    real, fake = checked(real, fake, fewest=1)
    most = min(len(real), len(fake)) - 1
    if not 1 <= k <= most:
        raise UserError(f"k must be from 1 to the number of pictures - 1 = {most}, not {k}")
    real_radii, fake_radii = _squared_radii(real, k, chunk), _squared_radii(fake, k, chunk)
    balls = np.zeros(len(fake), np.int64)  # of reals, around each fake
    recalled = covered = 0
    for rows, squared, rounding in _squared_distances(real, fake, chunk):
        squared += rounding[:, None]
        inside = squared < real_radii[rows, None]
        balls += inside.sum(axis=0)
        covered += np.count_nonzero(inside.any(axis=1))
        recalled += np.count_nonzero((squared < fake_radii).any(axis=1))
    return PRDC(
        precision=float(np.mean(balls > 0)),
        recall=float(recalled / len(real)),
        density=float(np.mean(balls) / k),
        coverage=float(covered / len(real)),
    )


def nearest_distance(
    queries: np.ndarray, gallery: np.ndarray, *, chunk: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest row of the gallery; finds copies, whose distance is exactly 0.

    Args:
      queries, gallery: features `[n, d]` and `[m, d]`.
      chunk: rows of distances in memory at once.

    Returns:
      Euclidean distances `[n]` float64, and indices `[n]` into the gallery, the first of equals.

    Raises:
      UserError: the features are unusable, or the gallery is empty.
    """
    queries, gallery = checked(queries, gallery, fewest=1)
    distances, indices = np.empty(len(queries)), np.empty(len(queries), np.int64)
    for rows, squared, rounding in _squared_distances(queries, gallery, chunk):
        # all that rounding could have put in the wrong order, compared once more by subtraction
        candidates = squared <= squared.min(axis=1, keepdims=True) + 2.0 * rounding[:, None]
        for i, near in zip(range(rows.start, rows.stop), candidates, strict=True):
            (near,) = np.nonzero(near)
            gaps = np.linalg.norm(gallery[near] - np.asarray(queries[i], np.float64), axis=1)
            best = np.argmin(gaps)
            distances[i], indices[i] = gaps[best], near[best]
    return distances, indices


def _squared_radii(x: np.ndarray, k: int, chunk: int) -> np.ndarray:
    """Squared distance `[n]` of each row to the k-th nearest other row."""
    radii = np.empty(len(x))
    for rows, squared, _ in _squared_distances(x, x, chunk):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = -np.inf  # itself: 0th
        squared.partition(k, axis=1)
        radii[rows] = squared[:, k]
    return radii


def _squared_distances(
    x: np.ndarray, y: np.ndarray, chunk: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of x, their squared distances to all of y, and how far rounding may move those.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x . y of the centred data, as one product of widened matrices.
    """
    d = y.shape[1]
    relative = 2 * (d + 2) * np.finfo(np.float64).eps  # twice the bound for a sum of d + 2 terms
    centre = y.mean(axis=0, dtype=np.float64)
    right = np.ones((len(y), d + 2))  # [y, |y|^2, 1]
    np.subtract(y, centre, out=right[:, :d])
    right[:, d] = np.einsum("md,md->m", right[:, :d], right[:, :d])
    largest = right[:, d].max()
    for start in range(0, len(x), chunk):
        rows = slice(start, min(start + chunk, len(x)))
        left = np.ones((rows.stop - rows.start, d + 2))  # [-2 x, 1, |x|^2]
        np.subtract(x[rows], centre, out=left[:, :d])
        left[:, d + 1] = np.einsum("nd,nd->n", left[:, :d], left[:, :d])
        left[:, :d] *= -2.0
        yield rows, left @ right.T, relative * (left[:, d + 1] + largest)
