import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.losses import ADVERSARIAL, discriminator_loss, generator_loss, matching_loss

REAL = np.array([-3.0, -0.5, 0.2, 4.0])
FAKE = np.array([1.5, -2.0, 0.3, -0.7])
WRONG = np.array([0.4, 0.9, -1.2, 2.0])
WRONG_FAKE = np.array([-0.3, 1.1, 0.7, -2.5])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def log(p):
    return np.log(p)


# name -> (D's loss, with wrong captions of real images at weight 1/2, with wrong captions of real
# and fake images at weights 1/2 and 1/8, G's loss), by the definitions
EXPECTED = {
    "minimax": (
        -log(sigmoid(REAL)) - log(1 - sigmoid(FAKE)),
        -log(sigmoid(REAL)) - log(1 - sigmoid(FAKE)) / 2 - log(1 - sigmoid(WRONG)) / 2,
        -log(sigmoid(REAL))
        - log(1 - sigmoid(FAKE)) * 3 / 8
        - log(1 - sigmoid(WRONG)) / 2
        - log(1 - sigmoid(WRONG_FAKE)) / 8,
        log(1 - sigmoid(FAKE)),
    ),
    "nonsaturating": (
        -log(sigmoid(REAL)) - log(1 - sigmoid(FAKE)),
        -log(sigmoid(REAL)) - log(1 - sigmoid(FAKE)) / 2 - log(1 - sigmoid(WRONG)) / 2,
        -log(sigmoid(REAL))
        - log(1 - sigmoid(FAKE)) * 3 / 8
        - log(1 - sigmoid(WRONG)) / 2
        - log(1 - sigmoid(WRONG_FAKE)) / 8,
        -log(sigmoid(FAKE)),
    ),
    "hinge": (
        relu(1 - REAL) + relu(1 + FAKE),
        relu(1 - REAL) + relu(1 + FAKE) / 2 + relu(1 + WRONG) / 2,
        relu(1 - REAL) + relu(1 + FAKE) * 3 / 8 + relu(1 + WRONG) / 2 + relu(1 + WRONG_FAKE) / 8,
        -FAKE,
    ),
    "least_squares": (
        (REAL - 1) ** 2 / 2 + FAKE**2 / 2,
        (REAL - 1) ** 2 / 2 + FAKE**2 / 4 + WRONG**2 / 4,
        (REAL - 1) ** 2 / 2 + FAKE**2 * 3 / 16 + WRONG**2 / 4 + WRONG_FAKE**2 / 16,
        (FAKE - 1) ** 2 / 2,
    ),
    "rpgan": (
        -log(sigmoid(REAL - FAKE)),
        -log(sigmoid(REAL - FAKE)) / 2 - log(sigmoid(REAL - WRONG)) / 2,
        -log(sigmoid(REAL - FAKE)) * 3 / 8
        - log(sigmoid(REAL - WRONG)) / 2
        - log(sigmoid(REAL - WRONG_FAKE)) / 8,
        -log(sigmoid(FAKE - REAL)),
    ),
}


def test_every_loss_has_a_row():
    assert set(EXPECTED) == set(ADVERSARIAL)


@pytest.mark.parametrize("name", EXPECTED)
def test_values_against_the_definitions(name):
    plain, mismatched, both, g = EXPECTED[name]
    real, fake, wrong, wrong_fake = (
        jnp.asarray(x, jnp.float32) for x in (REAL, FAKE, WRONG, WRONG_FAKE)
    )
    np.testing.assert_allclose(
        jax.jit(discriminator_loss, static_argnums=0)(name, real, fake), plain, rtol=1e-5
    )
    with_wrong = discriminator_loss(name, real, fake, mismatched_logits=wrong, mismatch_weight=0.5)
    np.testing.assert_allclose(with_wrong, mismatched, rtol=1e-5)
    with_both = discriminator_loss(
        name,
        real,
        fake,
        mismatched_logits=wrong,
        mismatch_weight=0.5,
        mismatched_fake_logits=wrong_fake,
        mismatch_fake_weight=0.125,
    )
    np.testing.assert_allclose(with_both, both, rtol=1e-5)
    result = generator_loss(name, real if ADVERSARIAL[name].g_needs_real else None, fake)
    np.testing.assert_allclose(result, g, rtol=1e-5)
    assert result.dtype == jnp.float32
    assert result.shape == (4,)


def d_loss(name, real, fake, wrong, wrong_fake):
    return discriminator_loss(
        name,
        real,
        fake,
        mismatched_logits=wrong,
        mismatch_weight=0.5,
        mismatched_fake_logits=wrong_fake,
        mismatch_fake_weight=0.125,
    )


def check_gradients(loss, *logits):
    """Example i of the loss depends on example i of every argument, as differences say."""
    with jax.enable_x64(True):
        logits, step = [jnp.asarray(x) for x in logits], 1e-6
        for i in range(len(logits)):
            gradient = jax.jacobian(loss, i)(*logits)
            moved = [
                loss(*logits[:i], logits[i] + sign * step, *logits[i + 1 :]) for sign in (1, -1)
            ]
            difference = jnp.diag((moved[0] - moved[1]) / (2 * step))
            np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-8)
            assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", EXPECTED)
def test_gradients_against_finite_differences(name):
    check_gradients(lambda *logits: d_loss(name, *logits), REAL, FAKE, WRONG, WRONG_FAKE)
    if ADVERSARIAL[name].g_needs_real:
        check_gradients(lambda *logits: generator_loss(name, *logits), REAL, FAKE)
    else:
        check_gradients(lambda fake: generator_loss(name, None, fake), FAKE)


def test_matching_loss_by_its_definition():
    fake, wrong = jnp.asarray(FAKE, jnp.float32), jnp.asarray(WRONG_FAKE, jnp.float32)
    loss = jax.jit(matching_loss)(fake, wrong)
    np.testing.assert_allclose(loss, -log(sigmoid(FAKE - WRONG_FAKE)), rtol=1e-5)
    assert loss.dtype == jnp.float32
    check_gradients(matching_loss, FAKE, WRONG_FAKE)
    huge = jnp.array([1e4, -1e4])
    np.testing.assert_allclose(matching_loss(huge, -huge), [0, 2e4])


@pytest.mark.parametrize("name", EXPECTED)
def test_extreme_logits_stay_finite(name):
    huge = jnp.array([1e4, -1e4])
    assert np.isfinite(discriminator_loss(name, huge, -huge)).all()
    assert np.isfinite(generator_loss(name, huge, -huge)).all()


def test_wrong_shapes_and_names_are_refused():
    with pytest.raises(AssertionError):
        discriminator_loss("hinge", jnp.zeros(3), jnp.zeros((3, 1)))
    with pytest.raises(AssertionError):
        matching_loss(jnp.zeros(3), jnp.zeros((3, 1)))
    for which in ("mismatch", "mismatch_fake"):
        logits = f"{which.replace('mismatch', 'mismatched')}_logits"
        with pytest.raises(AssertionError):
            discriminator_loss(
                "rpgan",
                jnp.zeros(3),
                jnp.zeros(3),
                **{f"{which}_weight": 0.5, logits: jnp.zeros(1)},
            )
    with pytest.raises(UserError, match="hinge"):
        generator_loss("wasserstein", None, jnp.zeros(3))


UNDECIDED = {"least_squares": 0.5}  # the logit of a D that cannot tell; 0 of the others


@pytest.mark.parametrize("name", EXPECTED)
def test_what_watchdogs_and_ada_read_of_a_game(name):
    """At chance D's loss is `chance`; ADA calls real what costs D less as a real image."""
    game, undecided = ADVERSARIAL[name], UNDECIDED.get(name, 0.0)
    logits = jnp.full(3, undecided)
    np.testing.assert_allclose(discriminator_loss(name, logits, logits), game.chance, rtol=1e-6)
    real, fake = undecided + jnp.linspace(-2.0, 2.0, 8), undecided + jnp.array([0.3, -0.3] * 4)
    if game.real is None:  # only the order of a pair means something
        expected = game.fake(real, fake) < game.fake(fake, real)
    else:
        expected = game.real(real) < game.fake(real, real)
    np.testing.assert_array_equal(game.certainty(real, fake) > 0, expected)
    assert game.gap is None or game.gap[0] > game.gap[1] > 0
