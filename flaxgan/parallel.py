"""How the per-device step is mapped over devices: the only file that names a mapping or a mesh."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxgan.errors import UserError
from flaxgan.state import Batch, TrainState
from flaxgan.step import Metrics, StepFn

AXIS = "data"
MODES = ("pmap", "shard_map", "jit")
CompiledStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def compile_step(
    step: StepFn, mode: str = "pmap", devices: Sequence[jax.Device] | None = None, **static: Any
) -> CompiledStep:
    """Compiles a per-device step for several devices; the old state is donated.

    Args:
      step: `(state, batch, *, axis_name, …)` of `flaxgan.make_train_step`.
      mode: "pmap": `jax.pmap` with the state unstacked; "shard_map": jit of shard_map;
        "jit": the global formula, XLA inserts the collectives.
      devices: defaults to all devices.
      **static: keyword arguments of the step that select a compiled variant.

    Returns:
      `(state, batch) -> (state, metrics)`; the batch must come from `shard_batch` with the same
      mode and devices, the state must be whole on every device (`replicated_sharding`).

    Raises:
      UserError: an unknown mode.
    """
    _check_mode(mode)
    devices = list(devices or jax.devices())
    if mode == "pmap":
        mapped = functools.partial(step, axis_name=AXIS, **static)
        return jax.pmap(
            mapped,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=(None, None),
            donate_argnums=0,
            devices=devices,
        )
    replicated, sharded = PartitionSpec(), PartitionSpec(AXIS)
    if mode == "shard_map":
        mapped = jax.shard_map(
            functools.partial(step, axis_name=AXIS, **static),
            mesh=_mesh(devices),
            in_specs=(replicated, sharded),
            out_specs=replicated,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)
    mesh = _mesh(devices)
    return jax.jit(
        functools.partial(step, **static),
        in_shardings=(NamedSharding(mesh, replicated), NamedSharding(mesh, sharded)),
        out_shardings=NamedSharding(mesh, replicated),
        donate_argnums=0,
    )


def replicated_sharding(devices: Sequence[jax.Device] | None = None) -> NamedSharding:
    """The sharding of a train state: whole on every device."""
    return NamedSharding(_mesh(list(devices or jax.devices())), PartitionSpec())


def shard_batch(batch: Batch, mode: str, devices: Sequence[jax.Device] | None = None) -> Batch:
    """Spreads a host batch `[B, …]` over the devices.

    Raises:
      UserError: B is not a multiple of the number of devices.
    """
    _check_mode(mode)
    devices = list(devices or jax.devices())
    check_batch_size(len(batch.images), len(devices))
    if mode == "pmap":
        batch = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), batch)
    return shard_rows(batch, devices)


def shard_ahead(
    batches: Iterator[Batch], mode: str, devices: Sequence[jax.Device] | None = None
) -> Iterator[Batch]:
    """`shard_batch` of each batch, one ahead: the next is on its way while a step computes."""
    ahead = shard_batch(next(batches), mode, devices)
    for batch in batches:
        current, ahead = ahead, shard_batch(batch, mode, devices)
        yield current
    yield ahead


def shard_rows(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Spreads the first axis of every leaf over the devices, which must divide it."""
    return jax.device_put(tree, NamedSharding(_mesh(list(devices)), PartitionSpec(AXIS)))


def even_batch_size(batch_size: int, count: int, num_devices: int) -> int:
    """At most `batch_size` of `count` rows at once, rounded up to a multiple of the devices."""
    return -(-max(1, min(batch_size, count)) // num_devices) * num_devices


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Raises UserError when a global batch cannot be spread evenly over the devices."""
    if batch_size < 1 or batch_size % num_devices:
        low = max(batch_size // num_devices, 1) * num_devices
        raise UserError(
            f"batch size {batch_size} does not divide by {num_devices} devices; "
            f"use --train.batch-size {low}"
        )


def check_replicated(step: StepFn, state: TrainState, batch: Batch, **static: Any) -> None:
    """Proves, without computing, that a step's outputs are equal on every replica.

    The step is traced under `vmap` over two replicas with unmapped outputs, which fails for any
    output that still depends on the replica, for example a gradient that was not averaged.

    Args:
      batch: a global batch of even size; only its shapes matter.

    Raises:
      ValueError: from jax, naming the output.
    """
    halves = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, x.shape[0] // 2, *x.shape[1:]), x.dtype), batch
    )
    mapped = functools.partial(step, axis_name=AXIS, **static)
    jax.eval_shape(
        jax.vmap(mapped, in_axes=(None, 0), out_axes=None, axis_name=AXIS), state, halves
    )


def _mesh(devices: list[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UserError(f"train.mode must be one of {', '.join(MODES)}, not {mode!r}")
