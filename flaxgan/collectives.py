"""Mean and gather over a named axis, the identity without one; where parameters live in a step."""

from typing import Any

import jax
from jax import Array


def mean(tree: Any, axis_name: str | None) -> Any:
    """Averages every leaf over the replicas of `axis_name`; returns it unchanged for None."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def gather(x: Array, axis_name: str | None) -> Array:
    """Concatenates `[b, …]` of all replicas to the global `[devices * b, …]`."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def global_indices(local_batch: int, axis_name: str | None) -> Array:
    """`[b]` positions of this replica's examples in the global batch."""
    local = jax.numpy.arange(local_batch)
    return local if axis_name is None else jax.lax.axis_index(axis_name) * local_batch + local


def size(axis_name: str | None) -> int:
    """Number of replicas on the axis; 1 without one."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


class Placement:
    """Where parameters and gradients live during a step; this one leaves them as they are.

    `parallel` has one for parameters that are spread over the devices.
    """

    def whole(self, params: Any) -> Any:
        """Parameters as the networks read them."""
        return params

    def spread(self, grads: Any) -> Any:
        """Gradients as the optimisers read them."""
        return grads
