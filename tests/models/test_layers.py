import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.models import layers

RNG = np.random.default_rng(0)


def plain_conv(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def plain_upsampled(x, kernel):
    x = x.repeat(2, axis=1).repeat(2, axis=2)
    return plain_conv(x, kernel, 1, "SAME")


def plain_strided(x, kernel):
    return plain_conv(x, kernel, 2, [(1, 1), (1, 1)])


@pytest.mark.parametrize(
    ("fast", "plain", "size"),
    [
        (layers.conv3x3_of_upsampled, plain_upsampled, 3),
        (layers.conv4x4_stride2, plain_strided, 4),
    ],
)
@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (1, 8, 6, 2)])
def test_rewrites_are_exact_with_their_gradients(fast, plain, size, shape):
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=shape))
        kernel = jnp.asarray(RNG.normal(size=(size, size, shape[-1], 5)))
        out = plain(x, kernel)
        np.testing.assert_allclose(fast(x, kernel), out, atol=1e-12)
        weight = jnp.asarray(RNG.normal(size=out.shape))
        for which in (0, 1):
            mine = jax.grad(lambda *a: jnp.vdot(fast(*a), weight), which)(x, kernel)
            wanted = jax.grad(lambda *a: jnp.vdot(plain(*a), weight), which)(x, kernel)
            np.testing.assert_allclose(mine, wanted, atol=1e-11)


def test_pooling_and_upsampling_against_numpy():
    x = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
    means = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    np.testing.assert_allclose(layers.average_pool(jnp.asarray(x)), means, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        layers.up_nearest(jnp.asarray(x)), np.kron(x, np.ones((1, 2, 2, 1), np.float32))
    )


def test_pointwise_convolution_is_a_matmul():
    x = RNG.normal(size=(2, 4, 4, 3)).astype(np.float32)
    module = layers.Conv(5, size=1)
    params = module.init(jax.random.key(0), x)["params"]
    expected = np.einsum("bhwc,co->bhwo", x, params["kernel"][0, 0])
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-6)
