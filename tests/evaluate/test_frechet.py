"""Fréchet distance against closed forms and a matrix square root."""

import numpy as np
import pytest
import scipy.linalg

from flaxgan.evaluate.frechet import frechet_distance


def exact_sample(mean, covariance, count, seed=0):
    """`[count, d]` data whose sample mean and covariance are exactly these."""
    d = len(mean)
    x = np.random.default_rng(seed).normal(size=(count, d))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return mean + np.sqrt(count - 1) * q @ np.linalg.cholesky(covariance).T


def by_sqrtm(x1, x2):
    """Heusel et al. 2017, eq. 6, literally."""
    s1, s2 = np.cov(x1, rowvar=False), np.cov(x2, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    gap = x1.mean(axis=0) - x2.mean(axis=0)
    return gap @ gap + np.trace(s1 + s2 - 2 * root.real)


@pytest.mark.parametrize("counts", [(9, 9), (200, 9), (50, 300)])
def test_diagonal_gaussians(counts):
    """|m1 - m2|^2 + sum (sd1 - sd2)^2."""
    draw = np.random.default_rng(1)
    m1, m2 = draw.normal(size=(2, 5))
    sd1, sd2 = draw.uniform(0.1, 3, (2, 5))
    x1 = exact_sample(m1, np.diag(sd1**2), counts[0], seed=2)
    x2 = exact_sample(m2, np.diag(sd2**2), counts[1], seed=3)
    expected = np.sum((m1 - m2) ** 2) + np.sum((sd1 - sd2) ** 2)
    assert frechet_distance(x1, x2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("counts", [(100, 100), (30, 400)])
def test_against_a_matrix_square_root(counts):
    draw = np.random.default_rng(4)
    x1 = draw.normal(size=(counts[0], 12)) @ draw.normal(size=(12, 12)) + draw.normal(size=12)
    x2 = draw.normal(size=(counts[1], 12)) @ draw.normal(size=(12, 12))
    assert frechet_distance(x1, x2) == pytest.approx(by_sqrtm(x1, x2), rel=1e-6)


@pytest.mark.parametrize("counts", [(6, 9), (6, 40), (2, 2)])
def test_fewer_samples_than_dimensions(counts):
    """Against eigenvalues of X1 X1^T-sized matrices, which exist without a square root of d x d."""
    draw = np.random.default_rng(5)
    x1, x2 = draw.normal(size=(counts[0], 20)), 2 * draw.normal(size=(counts[1], 20)) + 1
    s1, s2 = np.cov(x1, rowvar=False), np.cov(x2, rowvar=False)
    eigenvalues = np.linalg.eigvals(s1 @ s2).real
    gap = x1.mean(axis=0) - x2.mean(axis=0)
    root = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    expected = gap @ gap + np.trace(s1) + np.trace(s2) - 2 * root
    assert frechet_distance(x1, x2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [5, 300])
def test_zero_for_equal_sets_and_symmetric(count):
    draw = np.random.default_rng(6)
    x1, x2 = draw.normal(size=(count, 8)), draw.uniform(size=(70, 8))
    assert frechet_distance(x1, x1) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x1, x1[::-1]) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x1, x2) == pytest.approx(frechet_distance(x2, x1), rel=1e-12)


def test_a_shift_counts_its_square_also_in_float32():
    x = np.random.default_rng(7).normal(size=(64, 16)).astype(np.float32)
    assert frechet_distance(x, x + np.float32(0.5)) == pytest.approx(16 * 0.25, rel=1e-5)
