"""A batch in equal parts, one after the other, for what does not fit into memory at once."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

Result = TypeVar("Result")


def split(tree: Any, count: int, rows: int) -> Any:
    """A batch as parts: leaves `[n b, …]` become `[count, n b / count, …]`.

    Part k has the examples k, k + count, …: each is spread over all devices as the batch is.

    Args:
      tree: leaves `[b, …]`, or `[n b, …]` with n rows after one another for each example.
      count: number of parts, which divides b.
      rows: b.
    """

    def split_leaf(x: Array) -> Array:
        parts = x.reshape(rows // count, count, len(x) // rows, *x.shape[1:])
        return jnp.swapaxes(parts, 0, 1).reshape(count, -1, *x.shape[1:])

    return jax.tree.map(split_leaf, tree)


def each(function: Callable[[Any, Array], Result], parts: Any) -> Result:
    """Results of `function(part, number)` for all parts in order, stacked: `[count, …]`."""
    if jax.default_backend() != "cpu":
        return jax.lax.map(lambda both: function(*both), (parts, jnp.arange(_count(parts))))
    results = list(_one_by_one(function, parts))
    return jax.tree.map(lambda *xs: jnp.stack(xs), *results)


def mean(function: Callable[[Any, Array], Result], parts: Any) -> Result:
    """The mean of `function(part, number)`, a pytree of floats; one part's memory at a time."""
    count = _count(parts)
    if jax.default_backend() == "cpu":
        total = None
        for result in _one_by_one(function, parts):
            total = result if total is None else jax.tree.map(jnp.add, total, result)
    else:

        def add(total: Result, both: tuple[Any, Array]) -> tuple[Result, None]:
            return jax.tree.map(jnp.add, total, function(*both)), None

        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(function, first, jnp.int32(0))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, (parts, jnp.arange(count)))
    return jax.tree.map(lambda x: x / count, total)


def _one_by_one(function: Callable[[Any, Array], Result], parts: Any) -> Any:
    """A loop written out: in one that XLA sees, weight gradients are 20 times as slow on CPU.

    The barriers keep XLA from computing all parts at once, which would take the memory of all.
    """
    for number in range(_count(parts)):
        result = function(jax.tree.map(lambda x: x[number], parts), jnp.int32(number))  # noqa: B023
        result, parts = jax.lax.optimization_barrier((result, parts))
        yield result


def _count(parts: Any) -> int:
    return len(jax.tree.leaves(parts)[0])
