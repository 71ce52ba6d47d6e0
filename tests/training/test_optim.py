import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.config import OptimConfig
from flaxgan.errors import UserError
from flaxgan.training import optim


def test_cosine_with_warmup_against_numpy():
    kimg = np.linspace(0, 30, 61)
    value = optim.cosine(2.0, 0.5, 20.0, 4.0)(kimg)
    expected = 0.5 + 1.5 * 0.5 * (1 + np.cos(np.pi * np.minimum(kimg / 20, 1)))
    np.testing.assert_allclose(value, expected * np.minimum(kimg / 4, 1), rtol=1e-6)


def test_constant_without_an_end():
    np.testing.assert_array_equal(optim.cosine(3.0, None, 0.0)(np.array([0.0, 9e9])), [3.0, 3.0])


def test_ema_halves_in_its_half_life():
    decay = optim.ema_decay(jnp.float32(1e9), 100, halflife_kimg=2.0, rampup=0.05)
    assert float(decay) ** (2000 / 100) == pytest.approx(0.5, rel=1e-5)


def test_ema_ramp_follows_the_images_seen():
    decay = optim.ema_decay(jnp.float32(10_000.0), 100, halflife_kimg=2.0, rampup=0.05)
    assert float(decay) == pytest.approx(0.5 ** (100 / 500), rel=1e-5)
    assert float(optim.ema_decay(jnp.float32(0.0), 100, 2.0, 0.05)) == 0.0


def test_adam_first_step_is_the_learning_rate():
    tx = optim.build_optimizer(OptimConfig(lr=0.1, b1=0.0, b2=0.99), batch_size=10)
    updates, _ = tx.update({"w": jnp.array([5.0, -3.0])}, tx.init({"w": jnp.zeros(2)}))
    np.testing.assert_allclose(updates["w"], [-0.1, 0.1], rtol=1e-5)


def test_learning_rate_is_a_function_of_images():
    config = OptimConfig(name="sgd", lr=1.0, lr_end=0.0, decay_kimg=0.04)
    tx = optim.build_optimizer(config, batch_size=10)  # 4 steps are 0.04 kimg
    state, seen = tx.init(jnp.zeros(())), []
    for _ in range(5):
        update, state = tx.update(jnp.ones(()), state)
        seen.append(-float(update))
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(5) / 4))
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_a_frozen_part_stays_and_the_schedule_counts_on():
    config = OptimConfig(name="sgd", lr=1.0, warmup_kimg=0.04)
    tx = optim.freeze(optim.build_optimizer(config, batch_size=10), ["trunk/block1"])
    params = {
        "trunk": {"block1": {"a": jnp.ones(2), "b": jnp.ones(())}, "block10": jnp.ones(2)},
        "head": jnp.ones(3),
    }
    state = tx.init(params)
    for count in range(6):
        updates, state = tx.update(params, state, params)
        expected = -min(count / 4, 1.0)
        for name, update in by_path(updates).items():
            np.testing.assert_allclose(update, 0.0 if "block1/" in name else expected, atol=1e-7)


def by_path(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def test_nothing_is_kept_of_a_frozen_part():
    params = {"fixed": jnp.ones(100), "free": jnp.ones(3)}
    state = optim.freeze(optim.build_optimizer(OptimConfig(), batch_size=1), ["fixed"]).init(params)
    assert sorted(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim) == [3, 3]


@pytest.mark.parametrize("field", ["lr", "b1", "b2", "warmup_kimg"])
def test_values_out_of_range_name_the_field(field):
    with pytest.raises(UserError, match=field):
        optim.build_optimizer(OptimConfig(**{field: -1.0}), batch_size=1)
