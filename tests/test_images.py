"""uint8 pictures and float images."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.images import to_float, to_uint8


def test_every_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8)
    floats = to_float(jnp.asarray(levels))
    assert floats.dtype == jnp.float32
    np.testing.assert_allclose(floats, levels / 127.5 - 1, atol=1e-7)
    np.testing.assert_array_equal(to_uint8(floats), levels)


def test_nearest_level_and_clipping():
    inputs = jnp.array([-9.0, -1.0, -0.9965, -0.9955, 0.0, 0.999, 1.0, 7.0])
    np.testing.assert_array_equal(to_uint8(inputs), [0, 0, 0, 1, 128, 255, 255, 255])
    assert to_uint8(inputs).dtype == jnp.uint8


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_float_images_keep_their_values(dtype):
    images = jnp.array([-1.0, 0.25, 1.0], dtype)
    assert to_float(images).dtype == jnp.float32
    np.testing.assert_array_equal(to_float(images), [-1.0, 0.25, 1.0])
