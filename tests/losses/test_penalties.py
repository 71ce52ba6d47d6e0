import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.losses import finite_difference_penalty, gradient_penalty, ma_gp


class SmallD(nn.Module):
    """A strided convolutional net with a smooth non-linearity."""

    @nn.compact
    def __call__(self, x, c):
        x = nn.tanh(nn.Conv(5, (4, 4), (2, 2))(x))
        x = jnp.concatenate([x.reshape(len(x), -1), c], axis=-1)
        return nn.Dense(1)(nn.tanh(nn.Dense(6)(x)))[:, 0]


@pytest.fixture
def problem():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, c = jnp.asarray(rng.normal(size=(3, 8, 8, 3))), jnp.asarray(rng.normal(size=(3, 4)))
        module = SmallD()
        params = jax.tree.map(
            lambda p: jnp.asarray(rng.normal(size=p.shape) * 0.3),
            jax.eval_shape(module.init, jax.random.key(0), x, c),
        )
        yield module, params, x, c


def test_r1_equals_double_backward(problem):
    module, params, x, c = problem

    def ours(p):
        penalty, logits, aux = gradient_penalty(
            lambda x: (module.apply(p, x, c), x.mean()), x, gamma=0.7
        )
        assert aux.shape == ()
        return penalty.sum(), (penalty, logits)

    def reference(p):
        g = jax.grad(lambda x: module.apply(p, x, c).sum())(x)
        return 0.35 * jnp.sum(g**2), 0.35 * jnp.sum(g**2, axis=(1, 2, 3))

    (gradient, (penalty, logits)), (wanted, value) = (
        jax.jit(jax.grad(ours, has_aux=True))(params),
        jax.jit(jax.grad(reference, has_aux=True))(params),
    )
    np.testing.assert_allclose(penalty, value, rtol=1e-10)
    np.testing.assert_allclose(logits, jax.jit(module.apply)(params, x, c), rtol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), gradient, wanted
    )


def test_ma_gp_equals_double_backward(problem):
    module, params, x, c = problem

    def ours(p):
        return ma_gp(lambda x, c: (module.apply(p, x, c), None), x, c)[0].sum()

    def reference(p):
        gx, gc = jax.grad(lambda xc: module.apply(p, *xc).sum())((x, c))
        squared = jnp.sum(gx**2, axis=(1, 2, 3)) + jnp.sum(gc**2, axis=1)
        return jnp.sum(2.0 * jnp.sqrt(squared) ** 6)

    value, gradient = jax.jit(jax.value_and_grad(ours))(params)
    wanted_value, wanted = jax.jit(jax.value_and_grad(reference))(params)
    assert float(value) == pytest.approx(float(wanted_value), rel=1e-10)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), gradient, wanted
    )


def test_parameter_gradient_against_finite_differences(problem):
    module, params, x, c = problem

    @jax.jit
    @jax.value_and_grad
    def penalty(p):
        return gradient_penalty(lambda x: (module.apply(p, x, c), None), x, gamma=1.0)[0].sum()

    params = jax.tree.map(np.asarray, params)
    above, below = (
        float(penalty(jax.tree.map(lambda p, s=s: p + s, params))[0]) for s in (1e-5, -1e-5)
    )
    slope = sum(np.sum(g) for g in jax.tree.leaves(penalty(params)[1]))
    assert float(slope) == pytest.approx((above - below) / 2e-5, rel=1e-6)


def test_closed_forms():
    w = jnp.arange(12.0).reshape(2, 2, 3)
    x = jnp.ones((4, 2, 2, 3))

    def linear(x):
        return jnp.einsum("bhwc,hwc->b", x, w), None

    np.testing.assert_allclose(gradient_penalty(linear, x, gamma=2.0)[0], np.full(4, np.sum(w**2)))
    # D = |x|^2 / 2 has gradient x
    penalty, _, _ = gradient_penalty(
        lambda x: (0.5 * jnp.sum(x**2, axis=(1, 2, 3)), None), 3 * x, gamma=1.0
    )
    np.testing.assert_allclose(penalty, np.full(4, 0.5 * 9 * 12))
    np.testing.assert_allclose(
        ma_gp(lambda x, c: (linear(x)[0] / 20, None), x, None, weight=2.0, power=6.0)[0],
        np.full(4, 2 * (np.sum(w**2) / 400) ** 3),
        rtol=1e-5,
    )


def test_finite_difference_form_estimates_the_squared_gradient():
    w = np.random.default_rng(0).normal(size=(2, 2, 3))
    noise = np.random.default_rng(1).normal(size=(20_000, 2, 2, 3))
    with jax.enable_x64(True):
        penalty, logits, _ = finite_difference_penalty(
            lambda x: (jnp.einsum("bhwc,hwc->b", x, w), None),
            jnp.zeros(noise.shape),
            noise,
            gamma=0.5,
        )
    assert float(np.asarray(penalty).mean()) == pytest.approx(0.5 * np.sum(w**2), rel=0.03)
    np.testing.assert_array_equal(logits, np.zeros(len(noise)))


def test_wrong_ranks_are_refused():
    with pytest.raises(AssertionError):
        gradient_penalty(lambda x: (x.sum(axis=1), None), jnp.zeros((2, 3)), gamma=1.0)
    with pytest.raises(AssertionError):
        gradient_penalty(lambda x: (x.sum(axis=(1, 2)), None), jnp.zeros((2, 3, 3, 1)), gamma=1.0)


@pytest.mark.parity
def test_r1_against_torch(problem):
    torch = pytest.importorskip("torch")
    _, _, x, _ = problem
    rng = np.random.default_rng(2)
    w1, w2 = rng.normal(size=(192, 7)) * 0.1, rng.normal(size=(7,))

    def ours(w1, w2):
        def d_fn(x):
            return jnp.tanh(x.reshape(len(x), -1) @ w1) @ w2, None

        return gradient_penalty(d_fn, x, gamma=3.0)[0].mean()

    t1, t2 = (torch.tensor(w, requires_grad=True) for w in (w1, w2))
    images = torch.tensor(np.asarray(x), requires_grad=True)
    logits = torch.tanh(images.reshape(len(images), -1) @ t1) @ t2
    (g,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    penalty = 1.5 * g.square().sum(dim=(1, 2, 3)).mean()
    penalty.backward()
    assert float(ours(w1, w2)) == pytest.approx(penalty.item(), rel=1e-10)
    for mine, theirs in zip(jax.grad(ours, (0, 1))(w1, w2), (t1.grad, t2.grad), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-9)
