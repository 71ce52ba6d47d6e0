import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.losses import ADVERSARIAL, discriminator_loss, generator_loss

REAL = np.array([-3.0, -0.5, 0.2, 4.0])
FAKE = np.array([1.5, -2.0, 0.3, -0.7])
WRONG = np.array([0.4, 0.9, -1.2, 2.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


# name -> (D's loss without and with mismatched pairs at weight 1/2, G's loss), by the definitions
EXPECTED = {
    "minimax": (
        -np.log(sigmoid(REAL)) - np.log(1 - sigmoid(FAKE)),
        -np.log(sigmoid(REAL)) - 0.5 * np.log(1 - sigmoid(FAKE)) - 0.5 * np.log(1 - sigmoid(WRONG)),
        np.log(1 - sigmoid(FAKE)),
    ),
    "nonsaturating": (
        -np.log(sigmoid(REAL)) - np.log(1 - sigmoid(FAKE)),
        -np.log(sigmoid(REAL)) - 0.5 * np.log(1 - sigmoid(FAKE)) - 0.5 * np.log(1 - sigmoid(WRONG)),
        -np.log(sigmoid(FAKE)),
    ),
    "hinge": (
        relu(1 - REAL) + relu(1 + FAKE),
        relu(1 - REAL) + 0.5 * relu(1 + FAKE) + 0.5 * relu(1 + WRONG),
        -FAKE,
    ),
    "rpgan": (
        -np.log(sigmoid(REAL - FAKE)),
        -0.5 * np.log(sigmoid(REAL - FAKE)) - 0.5 * np.log(sigmoid(REAL - WRONG)),
        -np.log(sigmoid(FAKE - REAL)),
    ),
}


def test_every_loss_has_a_row():
    assert set(EXPECTED) == set(ADVERSARIAL)


@pytest.mark.parametrize("name", EXPECTED)
def test_values_against_the_definitions(name):
    plain, mismatched, g = EXPECTED[name]
    real, fake, wrong = (jnp.asarray(x, jnp.float32) for x in (REAL, FAKE, WRONG))
    np.testing.assert_allclose(
        jax.jit(discriminator_loss, static_argnums=0)(name, real, fake), plain, rtol=1e-5
    )
    with_wrong = discriminator_loss(name, real, fake, mismatched_logits=wrong, mismatch_weight=0.5)
    np.testing.assert_allclose(with_wrong, mismatched, rtol=1e-5)
    result = generator_loss(name, real if ADVERSARIAL[name].g_needs_real else None, fake)
    np.testing.assert_allclose(result, g, rtol=1e-5)
    assert result.dtype == jnp.float32
    assert result.shape == (4,)


@pytest.mark.parametrize("name", EXPECTED)
def test_gradients_against_finite_differences(name):
    with jax.enable_x64(True):
        real, fake, step = jnp.asarray(REAL), jnp.asarray(FAKE), 1e-6
        for loss in (discriminator_loss, generator_loss):
            gradient = jax.grad(lambda f, loss=loss: loss(name, real, f).sum())(fake)
            difference = (loss(name, real, fake + step) - loss(name, real, fake - step)) / (
                2 * step
            )
            np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", EXPECTED)
def test_extreme_logits_stay_finite(name):
    huge = jnp.array([1e4, -1e4])
    assert np.isfinite(discriminator_loss(name, huge, -huge)).all()
    assert np.isfinite(generator_loss(name, huge, -huge)).all()


def test_wrong_shapes_and_names_are_refused():
    with pytest.raises(AssertionError):
        discriminator_loss("hinge", jnp.zeros(3), jnp.zeros((3, 1)))
    with pytest.raises(UserError, match="hinge"):
        generator_loss("wasserstein", None, jnp.zeros(3))
