"""Fréchet distance between Gaussians fitted to two sets of features, in float64.

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

For S1 = F1 F1^T and S2 = F2 F2^T the last trace is the nuclear norm of F1^T F2: no matrix square
root, no root of an eigenvalue that is only rounding, and exact for singular covariances.

Reference: Heusel et al. 2017 (FID), eq. 6; Dowson and Landau 1982.
"""

import dataclasses

import numpy as np
from scipy.linalg import lapack

from flaxgan.errors import UserError
from flaxgan.evaluate.feature_sets import checked


def frechet_distance(features1: np.ndarray, features2: np.ndarray) -> float:
    """The distance of two sets that fit in memory; the factors F are the centred data themselves.

    Args:
      features1, features2: `[n1, d]` and `[n2, d]`, n >= 2.

    Returns:
      The distance, >= 0: what rounding leaves below zero is zero.

    Raises:
      UserError: a set has fewer than two rows, NaN or inf, or another width than the other.
    """
    sets = checked(features1, features2, fewest=2)
    x1, x2 = (np.asarray(x, np.float64) for x in sets)
    mean1, mean2 = x1.mean(axis=0), x2.mean(axis=0)
    x1, x2 = (x1 - mean1) / np.sqrt(len(x1) - 1), (x2 - mean2) / np.sqrt(len(x2) - 1)
    if len(x1) > x1.shape[1]:  # R of a QR has the same Gram matrix and is smaller
        x1 = np.linalg.qr(x1, mode="r")
    if len(x2) > x2.shape[1]:
        x2 = np.linalg.qr(x2, mode="r")
    return _distance(mean1 - mean2, np.sum(x1**2) + np.sum(x2**2), x1 @ x2.T)


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Mean and spread of features seen in pieces; its size does not grow with their number.

    Attributes:
      count: rows seen.
      mean: `[d]` float64.
      scatter: `[d, d]` float64, the sum of (x - mean)(x - mean)^T.

    Reference: Chan, Golub and LeVeque 1979, eq. 2.1: every piece is centred on its own mean, so
      a mean much larger than the spread costs no digits.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, dim: int) -> "Moments":
        """Of no rows of width `dim`."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def update(self, features: np.ndarray) -> "Moments":
        """With the rows `[b, d]` too; pieces of several hundred rows are the cheapest.

        Raises:
          UserError: NaN or inf, or another width.
        """
        features, _ = checked(features, self.mean[None], fewest=0)
        if len(features) == 0:
            return self
        rows = np.asarray(features, np.float64)
        mean = rows.mean(axis=0)
        count, joint_mean, between = self._join(len(rows), mean)
        rows = np.concatenate([rows - mean, between[None]])
        return Moments(count, joint_mean, self.scatter + rows.T @ rows)

    def merge(self, other: "Moments") -> "Moments":
        """Of the rows of both, which two processes may have seen.

        Raises:
          UserError: another width.
        """
        checked(self.mean[None], other.mean[None], fewest=0)
        if other.count == 0:
            return self
        count, mean, between = self._join(other.count, other.mean)
        return Moments(count, mean, self.scatter + other.scatter + np.outer(between, between))

    @property
    def covariance(self) -> np.ndarray:
        """`[d, d]`, unbiased.

        Raises:
          UserError: fewer than two rows were seen.
        """
        if self.count < 2:
            raise UserError(f"a covariance needs at least 2 pictures per set, got {self.count}")
        return self.scatter / (self.count - 1)

    def _join(self, count: int, mean: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """Joint count and mean, and the row whose square the distance of the means adds."""
        total = self.count + count
        gap = mean - self.mean
        return total, self.mean + gap * (count / total), np.sqrt(self.count * count / total) * gap


def frechet_distance_moments(moments1: Moments, moments2: Moments) -> float:
    """The distance of two sets of any size.

    Args:
      moments1, moments2: of the same width.

    Returns:
      The distance, >= 0: what rounding leaves below zero is zero.

    Raises:
      UserError: a set has fewer than two rows, or another width than the other.
    """
    checked(moments1.mean[None], moments2.mean[None], fewest=0)
    s1, s2 = moments1.covariance, moments2.covariance
    f1, f2 = _factor(s1, moments1.count - 1), _factor(s2, moments2.count - 1)
    return _distance(moments1.mean - moments2.mean, np.trace(s1) + np.trace(s2), f1.T @ f2)


def _factor(covariance: np.ndarray, most: int) -> np.ndarray:
    """F `[d, r]` with F F^T = covariance up to rounding, and r at most the largest rank possible.

    Cholesky with pivoting stops where the rest of the matrix is rounding (Higham 1990); it finds
    the same rank as eigenvalues do and costs a tenth.
    """
    lower, pivots, rank, _ = lapack.dpstrf(covariance, lower=1)
    rank = min(rank, most)
    factor = np.empty((len(covariance), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor


def _distance(gap: np.ndarray, traces: float, cross: np.ndarray) -> float:
    """|gap|^2 + tr S1 + tr S2 - 2 |F1^T F2|_*."""
    return max(0.0, float(gap @ gap + traces - 2.0 * np.linalg.norm(cross, ord="nuc")))
