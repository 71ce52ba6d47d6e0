"""KID against its double sum, its expectation, and a closed form."""

import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.kernel import kid, mmd2_unbiased


def features(count, seed, shift=0.0, dim=6):
    return np.random.default_rng(seed).normal(size=(count, dim)) + shift


def kernel(x, y):
    return (float(np.dot(x, y)) / len(x) + 1) ** 3


def by_loops(x, y):
    """Gretton et al. 2012, eq. 3, and the biased form of its eq. 5."""
    n, m = len(x), len(y)
    xx = [[kernel(a, b) for b in x] for a in x]
    yy = [[kernel(a, b) for b in y] for a in y]
    cross = 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)
    apart = [sum(k[i][j] for i in range(len(k)) for j in range(len(k)) if i != j) for k in (xx, yy)]
    unbiased = apart[0] / (n * (n - 1)) + apart[1] / (m * (m - 1)) - cross
    return unbiased, np.sum(xx) / n**2 + np.sum(yy) / m**2 - cross


@pytest.mark.parametrize("counts", [(12, 12), (7, 15), (2, 3)])
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_all_rows_against_double_loops(counts, chunk):
    x, y = features(counts[0], 0), features(counts[1], 1, shift=0.5)
    expected, _ = by_loops(x, y)
    assert mmd2_unbiased(x, y, chunk=chunk) == pytest.approx(expected, rel=1e-10)


def test_subsets_against_double_loops():
    x, y = features(30, 2), features(20, 3, shift=0.5)
    draw = np.random.RandomState(5)
    values = []
    for _ in range(4):
        rows, cols = draw.choice(30, 8, replace=False), draw.choice(20, 8, replace=False)
        values.append(by_loops(x[rows], y[cols])[0])
    result = kid(x, y, subsets=4, subset_size=8, seed=5)
    assert result.mean == pytest.approx(np.mean(values), rel=1e-10)
    assert result.std == pytest.approx(np.std(values), rel=1e-10)
    assert result.stderr == pytest.approx(np.std(values, ddof=1) / 2, rel=1e-10)


def test_one_number_by_hand():
    """d = 1: k(x, y) = (x y + 1)^3."""
    x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [-1.0]])
    expected = (0 + 1) ** 3 + (-2 + 1) ** 3 - 2 * (1 + 1 + 27 + 0) / 4
    assert mmd2_unbiased(x, y) == pytest.approx(expected, rel=1e-14)


def test_unbiased_where_the_biased_form_is_not():
    """Mean over independent draws of one distribution, in standard errors."""
    draw = np.random.default_rng(4)
    pairs = [draw.normal(size=(2, 10, 5)) for _ in range(150)]
    unbiased, biased = np.array([by_loops(x, y) for x, y in pairs]).T
    ours = np.array([mmd2_unbiased(x, y) for x, y in pairs])

    def in_errors(values):
        return np.mean(values) / (np.std(values, ddof=1) / len(values) ** 0.5)

    np.testing.assert_allclose(ours, unbiased, rtol=1e-9, atol=1e-12)
    assert abs(in_errors(ours)) < 4
    assert in_errors(biased) > 20


def test_expectation_for_shifted_gaussians():
    """E k(x, y) = E (1 + s)^3 has a closed form; at any number of pictures."""
    draw, shift, dim = np.random.default_rng(6), 0.8, 4
    values = [
        mmd2_unbiased(draw.normal(size=(20, dim)), draw.normal(size=(15, dim)) + shift)
        for _ in range(800)
    ]

    def expected_kernel(a, b):
        """1 + 3 E s + 3 E s^2 + E s^3 of s = x . y / d, with x ~ N(a, 1) and y ~ N(b, 1)."""
        first, second = a * b, (1 + a**2) * (1 + b**2)
        third = (a**3 + 3 * a) * (b**3 + 3 * b)
        es2 = (dim * second + dim * (dim - 1) * first**2) / dim**2
        es3 = dim * third + 3 * dim * (dim - 1) * second * first
        es3 = (es3 + dim * (dim - 1) * (dim - 2) * first**3) / dim**3
        return 1 + 3 * first + 3 * es2 + es3

    expected = expected_kernel(0, 0) + expected_kernel(shift, shift) - 2 * expected_kernel(0, shift)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    assert error < 0.05 * expected
    assert abs(np.mean(values) - expected) < 4 * error


def test_float32_features_are_multiplied_in_float64():
    x, y = (features(300, seed, shift=5.0, dim=64).astype(np.float32) for seed in (7, 8))
    exact = mmd2_unbiased(x.astype(np.float64), y.astype(np.float64))
    assert mmd2_unbiased(x, y) == pytest.approx(exact, rel=1e-12)
    kernels = [(a @ b.T / 64 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    apart = [(k.sum() - np.trace(k)) / (300 * 299) for k in kernels[:2]]
    assert abs(sum(apart) - 2 * kernels[2].mean() - exact) > 1e-4 * abs(exact)  # float32 would show


def test_the_seed_decides_and_features_stay():
    x, y = features(50, 9), features(40, 10)
    before = x.copy(), y.copy()
    first = kid(x, y, subsets=5, subset_size=20, seed=1)
    assert first == kid(x, y, subsets=5, subset_size=20, seed=1)
    assert first != kid(x, y, subsets=5, subset_size=20, seed=2)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_subsets_are_drawn_without_replacement():
    """All rows, in any order, are one subset."""
    x, y = features(25, 11), features(25, 12, shift=0.3)
    result = kid(x, y, subsets=3, subset_size=25)
    assert result.mean == pytest.approx(mmd2_unbiased(x, y), rel=1e-10)
    assert result.std == pytest.approx(0, abs=1e-12)


def test_worse_features_are_farther():
    real, fake, noise = np.random.default_rng(13).normal(size=(3, 400, 12))
    for worse in (
        [fake + amount * noise for amount in (0, 0.3, 1, 3)],
        [fake + amount for amount in (0, 0.1, 0.5, 2)],
        [fake * amount for amount in (1, 0.7, 0.3, 0)],
    ):
        for scores in (
            [mmd2_unbiased(real, x) for x in worse],
            [kid(real, x, subsets=5, subset_size=200).mean for x in worse],
        ):
            assert scores == sorted(scores)
            assert abs(scores[0]) < 0.2 * scores[-1]


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((9, 3)), {"subset_size": 10}, "subset_size <= number of pictures: 10 > 9"),
        (np.zeros((9, 3)), {}, "subset_size <= number of pictures: 1000 > 9"),
        (np.zeros((9, 3)), {"subset_size": 1}, "subset_size >= 2"),
        (np.zeros((9, 3)), {"subset_size": 5, "subsets": 1}, "subsets and subset_size >= 2"),
        (np.full((9, 3), np.inf), {"subset_size": 5}, "NaN or inf"),
        (np.zeros((9, 2)), {"subset_size": 5}, r"widths \[2, 3\]"),
    ],
)
def test_bad_input_is_refused(x, options, message):
    for pair in ((x, np.ones((2000, 3))), (np.ones((2000, 3)), x)):
        with pytest.raises(UserError, match=message):
            kid(*pair, **options)


def test_all_rows_refuse_bad_features():
    with pytest.raises(UserError, match="at least 2 pictures per set, got 1"):
        mmd2_unbiased(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(UserError, match="NaN or inf"):
        mmd2_unbiased(np.zeros((4, 3)), np.full((4, 3), np.nan))
