"""Fréchet distance against closed forms and a matrix square root."""

import numpy as np
import pytest
import scipy.linalg

from flaxgan.errors import UserError
from flaxgan.evaluate.frechet import Moments, frechet_distance, frechet_distance_moments


def exact_sample(mean, covariance, count, seed=0):
    """`[count, d]` data whose sample mean and covariance are exactly these."""
    d = len(mean)
    x = np.random.default_rng(seed).normal(size=(count, d))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return mean + np.sqrt(count - 1) * q @ np.linalg.cholesky(covariance).T


def moments_of(x, batch=1000):
    """Seen `batch` rows at a time."""
    moments = Moments.empty(x.shape[1])
    for start in range(0, len(x), batch):
        moments = moments.update(x[start : start + batch])
    return moments


def by_moments(x1, x2):
    return frechet_distance_moments(moments_of(x1), moments_of(x2))


DISTANCES = pytest.mark.parametrize("distance", [frechet_distance, by_moments])


def by_sqrtm(x1, x2):
    """Heusel et al. 2017, eq. 6, literally."""
    s1, s2 = np.cov(x1, rowvar=False), np.cov(x2, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    gap = x1.mean(axis=0) - x2.mean(axis=0)
    return gap @ gap + np.trace(s1 + s2 - 2 * root.real)


@DISTANCES
@pytest.mark.parametrize("counts", [(9, 9), (200, 9), (50, 300)])
def test_diagonal_gaussians(distance, counts):
    """|m1 - m2|^2 + sum (sd1 - sd2)^2."""
    draw = np.random.default_rng(1)
    m1, m2 = draw.normal(size=(2, 5))
    sd1, sd2 = draw.uniform(0.1, 3, (2, 5))
    x1 = exact_sample(m1, np.diag(sd1**2), counts[0], seed=2)
    x2 = exact_sample(m2, np.diag(sd2**2), counts[1], seed=3)
    expected = np.sum((m1 - m2) ** 2) + np.sum((sd1 - sd2) ** 2)
    assert distance(x1, x2) == pytest.approx(expected, rel=1e-9)


@DISTANCES
@pytest.mark.parametrize("counts", [(100, 100), (30, 400)])
def test_against_a_matrix_square_root(distance, counts):
    draw = np.random.default_rng(4)
    x1 = draw.normal(size=(counts[0], 12)) @ draw.normal(size=(12, 12)) + draw.normal(size=12)
    x2 = draw.normal(size=(counts[1], 12)) @ draw.normal(size=(12, 12))
    assert distance(x1, x2) == pytest.approx(by_sqrtm(x1, x2), rel=1e-6)


@DISTANCES
@pytest.mark.parametrize("counts", [(6, 9), (6, 40), (2, 2)])
def test_fewer_samples_than_dimensions(distance, counts):
    """Against eigenvalues of X1 X1^T-sized matrices, which exist without a square root of d x d."""
    draw = np.random.default_rng(5)
    x1, x2 = draw.normal(size=(counts[0], 20)), 2 * draw.normal(size=(counts[1], 20)) + 1
    s1, s2 = np.cov(x1, rowvar=False), np.cov(x2, rowvar=False)
    eigenvalues = np.linalg.eigvals(s1 @ s2).real
    gap = x1.mean(axis=0) - x2.mean(axis=0)
    root = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    expected = gap @ gap + np.trace(s1) + np.trace(s2) - 2 * root
    assert distance(x1, x2) == pytest.approx(expected, rel=1e-6)


@DISTANCES
@pytest.mark.parametrize("count", [5, 300])
def test_zero_for_equal_sets_and_symmetric(distance, count):
    draw = np.random.default_rng(6)
    x1, x2 = draw.normal(size=(count, 8)), draw.uniform(size=(70, 8))
    assert distance(x1, x1) == pytest.approx(0, abs=1e-12)
    assert distance(x1, x1[::-1]) == pytest.approx(0, abs=1e-12)
    assert distance(x1, x2) == pytest.approx(distance(x2, x1), rel=1e-12)


@DISTANCES
def test_a_shift_counts_its_square_also_in_float32(distance):
    x = np.random.default_rng(7).normal(size=(64, 16)).astype(np.float32)
    assert distance(x, x + np.float32(0.5)) == pytest.approx(16 * 0.25, rel=1e-5)


@DISTANCES
@pytest.mark.parametrize("counts", [(300, 200), (12, 300), (12, 9)])
def test_rotation_changes_nothing_and_a_shift_adds_its_square(distance, counts):
    draw = np.random.default_rng(8)
    x1, x2 = (draw.normal(size=(count, 20)) * draw.uniform(0.1, 3, 20) for count in counts)
    rotation, _ = np.linalg.qr(draw.normal(size=(20, 20)))
    before = distance(x1, x2)
    assert distance(x1 @ rotation, x2 @ rotation) == pytest.approx(before, rel=1e-9)
    x1, x2 = x1 - x1.mean(axis=0), x2 - x2.mean(axis=0)
    shift = draw.normal(size=20)
    assert distance(x1, x2 + shift) - distance(x1, x2) == pytest.approx(shift @ shift, rel=1e-9)


@DISTANCES
def test_constant_sets(distance):
    """A Gaussian without spread: |m1 - m2|^2 + tr S."""
    x = np.random.default_rng(9).normal(size=(40, 6))
    expected = np.sum(x.mean(axis=0) ** 2) + np.trace(np.cov(x, rowvar=False))
    assert distance(x, np.zeros((30, 6))) == pytest.approx(expected, rel=1e-12)
    assert distance(np.full((3, 6), 2.0), np.zeros((30, 6))) == pytest.approx(24, rel=1e-12)


@DISTANCES
def test_worse_features_are_farther(distance):
    draw = np.random.default_rng(10)
    real, fake, noise = draw.normal(size=(3, 500, 12))
    noisy = [distance(real, fake + amount * noise) for amount in (0, 0.3, 1, 3)]
    shifted = [distance(real, fake + amount) for amount in (0, 0.1, 0.5, 2)]
    narrow = [distance(real, fake * amount) for amount in (1, 0.7, 0.3, 0)]
    for scores in (noisy, shifted, narrow):
        assert scores == sorted(scores)
        assert scores[3] > 5 * scores[0]


@pytest.mark.parametrize("counts", [(2000, 1500), (40, 1500), (40, 30), (2, 2)])
def test_moments_and_features_agree(counts):
    """ReLU-like features: some channels dead, some alike, spreads over five orders."""
    draw = np.random.default_rng(11)
    scales = np.logspace(1, -4, 64)
    x1, x2 = (np.maximum(draw.normal(0.3, 1, (count, 64)) * scales, 0) for count in counts)
    x1[:, 5] = x2[:, 5] = 0
    x1[:, 9], x2[:, 9] = x1[:, 8], x2[:, 8]
    assert by_moments(x1, x2) == pytest.approx(frechet_distance(x1, x2), rel=1e-9)


@pytest.mark.parametrize("batch", [1, 7, 64, 300])
def test_moments_do_not_depend_on_batches(batch):
    x = np.random.default_rng(12).normal(5, 2, (300, 10)).astype(np.float32)
    moments = moments_of(x, batch)
    exact = x.astype(np.float64)
    assert moments.count == 300
    assert moments.mean.dtype == moments.scatter.dtype == np.float64
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        moments.covariance, np.cov(exact, rowvar=False), rtol=1e-12, atol=1e-13
    )


def test_merged_moments_are_those_of_all_rows():
    x = np.random.default_rng(13).normal(size=(100, 5)) + np.arange(100)[:, None]  # parts differ
    whole, first, second = moments_of(x), moments_of(x[:30], 8), moments_of(x[30:], 9)
    nothing = Moments.empty(5)
    for merged in (
        first.merge(second),
        second.merge(first),
        nothing.merge(first).merge(nothing).merge(second),
        first.update(x[30:]).update(x[:0]),
    ):
        assert merged.count == whole.count
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-12)
    assert nothing.merge(nothing).count == 0
    assert first.count == 30  # nothing is changed in place


def test_a_large_mean_costs_no_digits():
    """E[x x^T] - m m^T would lose eight of them."""
    x = np.random.default_rng(14).normal(size=(500, 8))
    moved = (x + 1e4) - 1e4  # what the sum can hold of x
    np.testing.assert_allclose(
        moments_of(x + 1e4, 10).covariance, np.cov(moved, rowvar=False), rtol=1e-9, atol=1e-11
    )
    other = moments_of(2 * x + 1e4)
    expected = np.sum(x.mean(axis=0) ** 2) + np.trace(np.cov(x, rowvar=False))
    assert frechet_distance_moments(moments_of(x + 1e4, 10), other) == pytest.approx(
        expected, rel=1e-9
    )


@DISTANCES
@pytest.mark.parametrize(
    ("x1", "message"),
    [
        (np.zeros((1, 3)), "at least 2 pictures per set, got 1"),
        (np.zeros((0, 3)), "at least 2 pictures per set, got 0"),
        (np.full((4, 3), np.nan), "NaN or inf"),
        (np.full((4, 3), -np.inf), "NaN or inf"),
        (np.zeros((4, 2)), r"widths \[2, 3\]"),
        (np.zeros((4, 3, 2)), r"must be \[n, d\]"),
    ],
)
def test_bad_features_are_refused(distance, x1, message):
    with pytest.raises(UserError, match=message):
        distance(x1, np.zeros((5, 3)))
    with pytest.raises(UserError, match=message):
        distance(np.zeros((5, 3)), x1)


def test_moments_of_other_widths_are_refused():
    with pytest.raises(UserError, match=r"widths \[2, 3\]"):
        Moments.empty(3).update(np.zeros((4, 2)))
    with pytest.raises(UserError, match=r"widths \[2, 3\]"):
        Moments.empty(3).merge(Moments.empty(2))
