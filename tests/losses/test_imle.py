"""Distances of fakes to a real image, against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.losses import multiscale_l1, nearest


def small(images, size):
    """Means of squares of pixels, by hand."""
    b, h, w, c = images.shape
    out = np.zeros((b, h // size, w // size, c))
    for y in range(h // size):
        for x in range(w // size):
            square = images[:, y * size : (y + 1) * size, x * size : (x + 1) * size]
            out[:, y, x] = square.mean(axis=(1, 2))
    return out


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (5, 3, 8, 12, 3))


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_mean_over_scales(images, scales):
    found = multiscale_l1(jnp.array(images[0]), jnp.array(images[1]), scales=scales)
    expected = np.mean(
        [
            np.abs(small(images[0], 2**i) - small(images[1], 2**i)).mean(axis=(1, 2, 3))
            for i in range(scales)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scales_below_a_pixel_are_left_out():
    a, b = jnp.ones((2, 2, 2, 1)), jnp.zeros((2, 2, 2, 1))
    np.testing.assert_allclose(multiscale_l1(a, b, scales=9), 1.0)


def test_each_real_image_has_its_nearest_fake(images):
    real, candidates = images[0], images.copy()
    candidates[0] += 1.0
    candidates[2, 1] = real[1] + 0.01
    candidates[4, [0, 2]] = real[[0, 2]] - 0.02
    chosen, distance = jax.jit(nearest)(jnp.array(candidates), jnp.array(real))
    np.testing.assert_array_equal(chosen, [4, 2, 4])
    np.testing.assert_allclose(distance, [0.02, 0.01, 0.02], rtol=1e-3)
