"""Nearest neighbours against all pairs compared by subtraction."""

import tracemalloc

import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.manifold import nearest_distance, prdc


def pairwise(x, y):
    """`[n, m]` distances; bit-equal for equal pairs."""
    return np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=-1)


def by_definition(real, fake, k):
    """Naeem et al. 2020, eq. 3 to 5, with open balls; the k-th neighbour has index k with self."""
    real_radii = np.partition(pairwise(real, real), k, axis=1)[:, k]
    fake_radii = np.partition(pairwise(fake, fake), k, axis=1)[:, k]
    distances = pairwise(real, fake)
    in_real = distances < real_radii[:, None]
    return (
        in_real.any(axis=0).mean(),
        (distances < fake_radii[None]).any(axis=1).mean(),
        in_real.sum(axis=0).mean() / k,
        in_real.any(axis=1).mean(),
    )


def normal(count, seed, dim=4, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, dim)) + shift


def with_duplicates(count, seed):
    """Few values in few dimensions: copies in a set and across sets, and ties of distances."""
    return np.random.default_rng(seed).integers(0, 3, (count, 3)).astype(np.float32) / 7


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("draw", [normal, with_duplicates])
def test_prdc_against_all_pairs(draw, k, chunk):
    real, fake = draw(60, 0), draw(45, 1)
    expected = by_definition(real, fake, k)
    assert min(expected) > 0
    np.testing.assert_allclose(prdc(real, fake, k=k, chunk=chunk), expected, rtol=1e-12)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_copies_of_neighbours_lie_on_the_edge_at_any_offset(offset):
    """Fakes that are copies of reals: rounding must not let the k-th neighbour in."""
    real = (normal(200, 2, dim=64).astype(np.float32) + np.float32(offset)).astype(np.float32)
    result = prdc(real, real[::-1], k=3, chunk=17)
    assert result == (1, 1, 1, 1)  # itself and two neighbours inside: density is exactly k / k
    assert all(type(value) is float for value in result)


def test_a_common_offset_costs_no_digits():
    """Products of the raw data would leave none of these distances."""
    real, fake = (np.round(normal(80, seed) * 2**10) / 2**30 for seed in (15, 16))
    assert prdc(real + 2.0**20, fake + 2.0**20) == prdc(real, fake)
    assert prdc(real, fake) == pytest.approx(by_definition(real, fake, 5), rel=1e-12)


def test_a_ball_of_copies_is_empty():
    real = np.concatenate([np.ones((6, 3)), normal(20, 3, dim=3) + 50])
    fake = np.concatenate([np.ones((1, 3)), normal(20, 4, dim=3) - 50])
    assert prdc(real, fake, k=5).precision == 0
    assert prdc(real, fake, k=6).precision == pytest.approx(1 / 21)


def test_disjoint_collapsed_and_spread_sets():
    real = normal(300, 5)
    assert prdc(real, real + 1000, k=5) == (0, 0, 0, 0)
    few = prdc(real, np.tile(real[:3], (100, 1)) + 1e-3 * normal(300, 6), k=5)
    assert few.precision == 1
    assert few.recall < 0.05 and few.coverage < 0.1  # noqa: PT018
    wide = prdc(real, 5 * normal(300, 7), k=5)
    assert wide.recall > 0.9 and wide.precision < 0.5  # noqa: PT018


def test_worse_features_score_lower():
    real, fake, noise = np.random.default_rng(8).normal(size=(3, 400, 6))
    for name, worse in (
        ("noise", [fake + amount * noise for amount in (0, 1, 3, 9)]),
        ("shift", [fake + amount for amount in (0, 0.5, 1, 3)]),
    ):
        scores = [prdc(real, x) for x in worse]
        for field in ("precision", "density", "coverage"):
            values = [getattr(score, field) for score in scores]
            assert values == sorted(values, reverse=True), (name, field, values)
            assert values[-1] < 0.5 * values[0]
    recalls = [prdc(real, amount * fake).recall for amount in (1, 0.7, 0.4, 0.1)]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[-1] < 0.1


@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("draw", [normal, with_duplicates])
def test_nearest_against_all_pairs(draw, chunk):
    queries, gallery = draw(50, 9), draw(70, 10)
    distances, indices = nearest_distance(queries, gallery, chunk=chunk)
    expected = pairwise(queries, gallery)
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(indices, expected.argmin(axis=1))


@pytest.mark.parametrize("offset", [0, 1e4])
def test_copies_have_distance_zero_and_near_copies_do_not(offset):
    """One float32 step in one channel is 1e-16 of the squared norm: a matmul cannot see it."""
    gallery = (normal(40, 11, dim=512) + offset).astype(np.float32)
    near = gallery.copy()
    near[:, 3] = np.nextafter(near[:, 3], np.float32(np.inf))
    step = (near[:, 3].astype(np.float64) - gallery[:, 3]).max()
    both = np.concatenate([near, gallery])  # near copies come first
    distances, indices = nearest_distance(gallery, both)
    np.testing.assert_array_equal(distances, 0)
    np.testing.assert_array_equal(indices, np.arange(40) + 40)
    distances, indices = nearest_distance(gallery, near)
    np.testing.assert_array_equal(indices, np.arange(40))
    assert 0 < distances.min() <= distances.max() == step


def test_pixels_as_features():
    """uint8 does not wrap around."""
    images = np.random.default_rng(12).integers(0, 256, (30, 48), dtype=np.uint8)
    distances, _ = nearest_distance(images[:10], images[10:])
    expected = pairwise(images[:10].astype(float), images[10:].astype(float)).min(axis=1)
    np.testing.assert_allclose(distances, expected, rtol=1e-14)


@pytest.mark.parametrize("metric", [prdc, nearest_distance])
def test_memory_is_a_chunk_times_the_set(metric):
    x, y = normal(1500, 13, dim=8), normal(1500, 14, dim=8)
    tracemalloc.start()
    metric(x, y, chunk=25)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 25 * 1500 * 8 < 1500 * 1500


@pytest.mark.parametrize(
    ("x", "k", "message"),
    [
        (np.zeros((5, 3)), 5, "k must be from 1 to the number of pictures - 1 = 4, not 5"),
        (np.zeros((5, 3)), 0, "k must be from 1"),
        (np.zeros((0, 3)), 1, "at least 1 pictures per set, got 0"),
        (np.array([[0, 1], [2, np.nan], [3, 4]]), 2, "NaN or inf"),
        (np.zeros((5, 2)), 2, r"widths \[2, 3\]"),
    ],
)
def test_bad_input_is_refused(x, k, message):
    for pair in ((x, np.ones((9, 3))), (np.ones((9, 3)), x)):
        with pytest.raises(UserError, match=message):
            prdc(*pair, k=k)


def test_nearest_refuses_bad_features():
    with pytest.raises(UserError, match="at least 1"):
        nearest_distance(np.zeros((3, 2)), np.zeros((0, 2)))
    with pytest.raises(UserError, match="NaN or inf"):
        nearest_distance(np.full((3, 2), np.nan), np.zeros((3, 2)))
