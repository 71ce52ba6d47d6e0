import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve1d

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
        x = RNG.normal(size=shape)
        kernel = RNG.normal(size=(size, size, shape[-1], 5))
        weight = RNG.normal(size=jax.eval_shape(plain, x, kernel).shape)

        def value_and_gradients(convolution):
            value, back = jax.vjp(convolution, x, kernel)
            return value, back(weight)

        (out, mine), (wanted_out, wanted) = jax.jit(
            lambda: [value_and_gradients(f) for f in (fast, plain)]
        )()
        np.testing.assert_allclose(out, wanted_out, atol=1e-12)
        for a, b in zip(mine, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_upsampled_convolution_is_the_same_on_every_backend(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
    kernel = RNG.normal(size=(3, 3, 3, 5)).astype(np.float32)
    found = layers.conv3x3_of_upsampled(x, kernel)
    np.testing.assert_allclose(found, plain_upsampled(x, kernel), atol=1e-5)


@pytest.mark.parametrize(
    ("fast", "size", "shape", "features"),
    [
        (layers.conv3x3_of_upsampled, 3, (4, 32, 32, 32), 16),
        (layers.conv3x3_of_upsampled, 3, (4, 4, 4, 128), 128),
        (layers.conv4x4_stride2, 4, (4, 64, 64, 16), 32),
        (layers.conv4x4_stride2, 4, (4, 8, 8, 64), 128),
    ],
)
def test_gradients_have_no_reversed_convolution(fast, size, shape, features):
    """XLA on CPU has no fast path for one: it took 70 % of a step of DF-GAN at 64 px."""

    def loss(x, kernel):
        return (fast(x, kernel) ** 2).sum()

    x, kernel = jnp.zeros(shape), jnp.zeros((size, size, shape[-1], features))
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).compile()
    assert "rhs_reversal" not in gradients.as_text()


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
    params = jax.jit(module.init)(jax.random.key(0), x)["params"]
    expected = np.einsum("bhwc,co->bhwo", x, params["kernel"][0, 0])
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 8, 2)])
def test_smooth_resampling_against_scipy(shape):
    x = RNG.normal(size=shape).astype(np.float32)
    up, down = x, x
    for axis in (1, 2):
        # zeros between the pixels and after the last, whose copy stands behind the edge
        repeated = np.concatenate([up, up.take([-1], axis)], axis)
        spread = np.insert(repeated, range(1, repeated.shape[axis]), 0.0, axis)
        size = 2 * up.shape[axis]
        up = convolve1d(spread, [0.5, 1.0, 0.5], axis, mode="constant").take(range(size), axis)
        filtered = convolve1d(down, [0.25, 0.5, 0.25], axis, mode="nearest")
        down = filtered.take(range(0, down.shape[axis], 2), axis)
    ours = np.asarray(jax.jit(layers.up_121)(x))
    np.testing.assert_allclose(ours, up, atol=1e-6)
    np.testing.assert_array_equal(ours[:, ::2, ::2], x)
    np.testing.assert_allclose(jax.jit(layers.down_121)(x), down, atol=1e-6)


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_against_a_loop(patch):
    x = RNG.normal(size=(2, 6, 12, 2)).astype(np.float32)
    deep = np.empty((2, 6 // patch, 12 // patch, patch * patch * 2), np.float32)
    for b, i, j in np.ndindex(deep.shape[:3]):
        square = x[b, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
        deep[b, i, j] = square.ravel()  # row by row, the channels of a pixel together
    np.testing.assert_array_equal(layers.space_to_depth(jnp.asarray(x), patch), deep)
    np.testing.assert_array_equal(layers.depth_to_space(jnp.asarray(deep), patch), x)


def test_groups_do_not_see_each_other():
    x = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
    module = layers.Conv(9, groups=3)
    params = jax.jit(module.init)(jax.random.key(0), x)["params"]
    kernel, bias = np.asarray(params["kernel"]), RNG.normal(size=9).astype(np.float32)
    assert kernel.shape == (3, 3, 2, 9)
    parts = [
        plain_conv(x[..., 2 * i : 2 * i + 2], kernel[..., 3 * i : 3 * i + 3], 1, "SAME")
        for i in range(3)
    ]
    together = np.concatenate(parts, axis=-1)
    np.testing.assert_allclose(layers.convolve(x, kernel, 1, 3), together, atol=1e-5)
    out = module.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(out, together + bias, atol=1e-5)


def test_scaled_initialisation_keeps_the_mean_square():
    """He's rule: what leaves a layer with leaky ReLU is as large as what came in, times gain."""
    x = RNG.normal(size=(64, 1000)).astype(np.float32)
    for gain in (1.0, 0.5):
        dense = layers.scaled_init(gain)(jax.random.key(0), (1000, 2000))
        out = np.asarray(layers.leaky_relu(x @ np.asarray(dense)))
        assert np.mean(out**2) == pytest.approx(gain**2, rel=0.03)
        kernel = layers.scaled_init(gain)(jax.random.key(1), (3, 3, 32, 64))
        assert np.std(kernel) == pytest.approx(gain * (2 / 1.04 / (9 * 32)) ** 0.5, rel=0.03)


def test_kernels_start_as_they_are_told():
    x = np.ones((1, 4, 4, 3), np.float32)
    module = layers.Conv(5, kernel_init=jax.nn.initializers.zeros)
    out, variables = module.init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(out, 0)
    assert set(variables["params"]) == {"kernel", "bias"}
