import jax
import jax.numpy as jnp
import numpy as np

from flaxgan import rng


def test_keys_depend_on_the_global_example_only():
    key = jax.random.key(0)
    whole = rng.normal(rng.example_keys(key, "z", jnp.int32(5), jnp.arange(8)), 3)
    halves = [
        rng.normal(rng.example_keys(key, "z", jnp.int32(5), jnp.arange(4) + start), 3)
        for start in (0, 4)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_streams_steps_and_seeds_differ():
    def draw(seed, name, step):
        keys = rng.example_keys(jax.random.key(seed), name, jnp.int32(step), jnp.arange(2))
        return np.asarray(rng.normal(keys, 4))

    draws = [draw(0, "a", 0), draw(0, "b", 0), draw(0, "a", 1), draw(1, "a", 0)]
    rows = np.concatenate(draws)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_normal_is_standard():
    keys = rng.example_keys(jax.random.key(0), "z", jnp.int32(0), jnp.arange(4000))
    z = np.asarray(rng.normal(keys, 4))
    assert abs(z.mean()) < 0.03
    assert abs(z.std() - 1) < 0.03
