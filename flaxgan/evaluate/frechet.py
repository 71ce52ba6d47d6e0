"""Fréchet distance between Gaussians fitted to two sets of features."""

import numpy as np


def frechet_distance(features1: np.ndarray, features2: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64.

    tr (S1 S2)^(1/2) is the nuclear norm of X1c X2c^T / sqrt((n1 - 1)(n2 - 1)) for centred data X,
    which needs no matrix square root and is exact for rank-deficient covariances.

    Args:
      features1, features2: `[n1, d]` and `[n2, d]`, n >= 2.

    Returns:
      The distance, >= 0 up to rounding.

    Reference: Heusel et al. 2017 (FID), eq. 6; Dowson and Landau 1982.
    """
    x1, x2 = (np.asarray(x, np.float64) for x in (features1, features2))
    mean1, mean2 = x1.mean(axis=0), x2.mean(axis=0)
    x1, x2 = (x1 - mean1) / np.sqrt(len(x1) - 1), (x2 - mean2) / np.sqrt(len(x2) - 1)
    if len(x1) > x1.shape[1]:  # R of a QR has the same Gram matrix and is smaller
        x1 = np.linalg.qr(x1, mode="r")
    if len(x2) > x2.shape[1]:
        x2 = np.linalg.qr(x2, mode="r")
    cross = np.linalg.norm(x1 @ x2.T, ord="nuc")
    return float(np.sum((mean1 - mean2) ** 2) + np.sum(x1**2) + np.sum(x2**2) - 2.0 * cross)
