"""Named random streams with one key per global example.

Every random number in training is a function of (seed, stream name, step, global example index)
alone, so results depend neither on the number of devices nor on where a run was interrupted.
"""

import zlib

import jax
from jax import Array


def stream(key: Array, name: str) -> Array:
    """The key of a named stream: `fold_in(key, crc32(name))`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def example_keys(key: Array, name: str, step: Array, indices: Array) -> Array:
    """One key per example.

    Args:
      key: the run's root key.
      name: the stream, such as `"z"`.
      step: `[]` int, the training step.
      indices: `[b]` int, positions of the examples in the GLOBAL batch.

    Returns:
      `[b]` keys.
    """
    step_key = jax.random.fold_in(stream(key, name), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, indices)


def normal(keys: Array, dim: int) -> Array:
    """Standard normal vectors `[b, dim]`, float32, one row for each of the `[b]` keys."""
    return jax.vmap(lambda key: jax.random.normal(key, (dim,)))(keys)
