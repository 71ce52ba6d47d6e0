"""Kernel distance (KID): the squared MMD under (x . y / d + 1)^3, unbiased at any sample size.

NumPy in float64: the distance is a small difference of large means, and must not depend on how
precisely a device multiplies.

Reference: Binkowski et al. 2018, section 4; Gretton et al. 2012, eq. 3.
"""

from typing import NamedTuple

import numpy as np

from flaxgan.errors import UserError
from flaxgan.evaluate.feature_sets import checked


class KernelDistance(NamedTuple):
    """A mean over subsets and how far it can be trusted.

    Attributes:
      mean: of the subsets' distances; may be a little below zero.
      std: over subsets, what papers print after the plus-minus sign; it measures subset_size.
      stderr: of the mean, std / sqrt(subsets - 1): what other subsets of these same pictures would
        change. That the pictures are a sample themselves is not in it.
    """

    mean: float
    std: float
    stderr: float


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """Mean of the unbiased squared MMD over random subsets.

    Args:
      real, fake: features `[n, d]` and `[m, d]`.
      subsets: how many, at least 2.
      subset_size: rows of each set in a subset, drawn without replacement.
      seed: with equal seeds the subsets are those of torch-fidelity.

    Raises:
      UserError: subset_size is larger than a set or below 2, subsets is below 2, or the features
        are unusable.
    """
    real, fake = checked(real, fake, fewest=2)
    if subsets < 2 or subset_size < 2:
        raise UserError(f"KID needs subsets and subset_size >= 2, not {subsets} and {subset_size}")
    if subset_size > (fewest := min(len(real), len(fake))):
        raise UserError(
            f"KID needs subset_size <= number of pictures: {subset_size} > {fewest}; "
            "draw more pictures or pass a smaller subset_size"
        )
    rng = np.random.RandomState(seed)  # unlike Generator, its stream never changes
    values = [
        _mmd2(
            real[rng.choice(len(real), subset_size, replace=False)],
            fake[rng.choice(len(fake), subset_size, replace=False)],
            chunk=subset_size,
        )
        for _ in range(subsets)
    ]
    std = float(np.std(values))
    return KernelDistance(float(np.mean(values)), std, std / (subsets - 1) ** 0.5)


def mmd2_unbiased(x: np.ndarray, y: np.ndarray, *, chunk: int = 1024) -> float:
    """The unbiased squared MMD of all rows: no subsets, no random numbers.

    Args:
      x, y: features `[n, d]` and `[m, d]`, n and m >= 2.
      chunk: rows of the kernel matrix in memory at once.

    Raises:
      UserError: the features are unusable.
    """
    return _mmd2(*checked(x, y, fewest=2), chunk=chunk)


def _mmd2(x: np.ndarray, y: np.ndarray, chunk: int) -> float:
    """mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    within = sum(
        (_kernel_sum(z, z, chunk) - _cubed(np.sum(z * z, axis=1), z.shape[1]).sum())
        / (len(z) * (len(z) - 1))
        for z in (x, y)
    )
    return float(within - 2.0 * _kernel_sum(x, y, chunk) / (len(x) * len(y)))


def _kernel_sum(x: np.ndarray, y: np.ndarray, chunk: int) -> float:
    """Sum of k(x_i, y_j) over all pairs."""
    starts = range(0, len(x), chunk)
    return sum(_cubed(x[start : start + chunk] @ y.T, x.shape[1]).sum() for start in starts)


def _cubed(products: np.ndarray, dim: int) -> np.ndarray:
    """(x . y / d + 1)^3 of the products x . y, which it overwrites; np.power is far slower."""
    products /= dim
    products += 1.0
    return products * products * products
