"""Random numbers by counter: against SplitMix64's published numbers, and as random numbers."""

import numpy as np
import pytest

from flaxgan.data import hashed


def test_splitmix64():
    """The first outputs of SplitMix64 with seed 0, as in its authors' test vectors."""
    steps = np.arange(3, dtype=np.uint64) * hashed.GOLDEN
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(x) for x in hashed._mix(steps)] == expected


def test_each_counter_has_its_own_stream():
    counters = np.array([7, 0, 2**40])
    together = hashed.bits(5, "a", counters, 4)
    for row, counter in enumerate(counters):
        np.testing.assert_array_equal(together[row], hashed.bits(5, "a", counters[[row]], 4)[0])
        skipped = hashed.bits(5, "a", np.array([counter]), 2, start=2)
        np.testing.assert_array_equal(skipped[0], together[row, 2:])


@pytest.mark.parametrize("other", [(1, "a"), (0, "b"), (2**63, "a")])
def test_seeds_and_names_are_independent(other):
    counters = np.arange(10_000)
    a, b = hashed.uniforms(0, "a", counters, 1)[:, 0], hashed.uniforms(*other, counters, 1)[:, 0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.04


def test_uniform_over_counters_and_within_a_stream():
    from scipy import stats

    u = hashed.uniforms(3, "a", np.arange(100_000), 3)
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    for shifted in (u[1:, 0], u[1:, 1], u[:-1, 1]):  # neighbours, and the stream's next
        assert abs(np.corrcoef(u[:-1, 0], shifted)[0, 1]) < 0.013
    pairs = np.histogram2d(u[:, 0], u[:, 1], bins=20)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3
