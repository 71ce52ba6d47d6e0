"""How the per-device step is mapped over devices: the only file that names a mapping or a mesh."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxgan.collectives import Placement
from flaxgan.config import TrainConfig
from flaxgan.errors import UserError
from flaxgan.training.state import Batch, TrainState

if TYPE_CHECKING:  # drawing needs no step: its losses would make every start slower
    from flaxgan.training.step import Metrics, StepFn

AXIS = "data"
# fields of a train state that mode "jit" spreads over the devices; the others are small, or read
# by every device in every step
SPREAD = (
    "g_params",
    "d_params",
    "ema_params",
    "ema_slow_params",
    "g_opt_state",
    "d_opt_state",
)
SHARD_ABOVE = 2**16
MODES = get_args(get_type_hints(TrainConfig)["mode"])  # "pmap", "shard_map", "jit"
CompiledStep = Callable[[TrainState, Batch], "tuple[TrainState, Metrics]"]


def all_devices() -> list[jax.Device]:
    """The devices of all processes, those of a process next to each other."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def compile_step(
    step: "StepFn",
    mode: str = "pmap",
    devices: Sequence[jax.Device] | None = None,
    shard_above: int = SHARD_ABOVE,
    **static: Any,
) -> CompiledStep:
    """Compiles a per-device step for several devices; the old state is donated.

    Args:
      step: `(state, batch, *, axis_name, …)` of `flaxgan.make_train_step`.
      mode: "pmap": `jax.pmap` with the state unstacked; "shard_map": jit of shard_map;
        "jit": the global formula, XLA inserts the collectives, and large parameters, moments and
        averages are spread over the devices (FSDP, ZeRO-3).
      devices: defaults to those of all processes.
      shard_above: see `state_sharding`.
      **static: keyword arguments of the step that select a compiled variant.

    Returns:
      `(state, batch) -> (state, metrics)`; the batch must come from `shard_batch`, and the
      state's leaves must be where `state_sharding` says, with the same mode and devices.

    Raises:
      UserError: an unknown mode.

    Reference: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion
      Parameter Models".
    """
    _check_mode(mode)
    devices = list(devices or all_devices())
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
    mesh = _mesh(devices)
    replicated, sharded = PartitionSpec(), PartitionSpec(AXIS)
    if mode == "shard_map":
        mapped = jax.shard_map(
            functools.partial(step, axis_name=AXIS, **static),
            mesh=mesh,
            in_specs=(replicated, sharded),
            out_specs=replicated,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)

    def spread(state: TrainState, batch: Batch) -> "tuple[TrainState, Metrics]":
        placement = _Spread(mesh, shard_above)
        new, metrics = step(state, batch, placement=placement, **static)
        constrain = jax.lax.with_sharding_constraint
        new = constrain(new, state_sharding(new, mode, devices, shard_above))
        return new, constrain(metrics, NamedSharding(mesh, replicated))

    return jax.jit(spread, donate_argnums=0)


def state_sharding(
    state: TrainState,
    mode: str,
    devices: Sequence[jax.Device],
    shard_above: int = SHARD_ABOVE,
) -> TrainState:
    """Where each leaf of a train state lives.

    In mode "jit" each leaf of SPREAD with more than `shard_above` elements is cut along its
    longest axis that the number of devices divides; whatever else there is, and all of it in the
    other modes, is whole on every device.

    Args:
      state: abstract or not; only shapes matter.
      mode: see `compile_step`.
      devices: of all processes.
      shard_above: elements.

    Returns:
      The state with a sharding in place of each leaf.
    """
    _check_mode(mode)
    whole = replicated_sharding(_own(devices) if mode == "pmap" else devices)
    shardings = jax.tree.map(lambda _: whole, state)
    if mode != "jit":
        return shardings
    rule = _Spread(whole.mesh, shard_above).sharding
    return shardings.replace(**{name: jax.tree.map(rule, getattr(state, name)) for name in SPREAD})


@dataclasses.dataclass(frozen=True)
class _Spread(Placement):
    """Large parameters in parts on all devices, put together where the networks read them."""

    mesh: Mesh
    shard_above: int

    def sharding(self, x: Any) -> NamedSharding:
        """The rule for one array or abstract array."""
        axis = _spread_axis(x, self.mesh.size, self.shard_above)
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)
        return NamedSharding(self.mesh, spec)

    def whole(self, params: Any) -> Any:
        return jax.lax.with_sharding_constraint(params, NamedSharding(self.mesh, PartitionSpec()))

    def spread(self, grads: Any) -> Any:
        return jax.lax.with_sharding_constraint(grads, jax.tree.map(self.sharding, grads))


def _spread_axis(x: Any, count: int, shard_above: int) -> int | None:
    """The longest axis that `count` devices divide, of equals the last; None: it stays whole."""
    axes = [axis for axis, length in enumerate(x.shape) if length % count == 0]
    if count == 1 or x.size <= shard_above or not axes:
        return None
    return max(axes, key=lambda axis: (x.shape[axis], axis))


def spread_shape(x: Any, count: int, shard_above: int = SHARD_ABOVE) -> tuple[int, ...]:
    """The part of an array of a state in mode "jit" that each of `count` devices has."""
    axis = _spread_axis(x, count, shard_above)
    return tuple(n // count if i == axis else n for i, n in enumerate(x.shape))


def replicated_sharding(devices: Sequence[jax.Device] | None = None) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(_mesh(list(devices or all_devices())), PartitionSpec())


def shard_batch(batch: Batch, mode: str, devices: Sequence[jax.Device] | None = None) -> Batch:
    """Spreads a host batch over the devices.

    Args:
      batch: this process's part, `[B / processes, …]`; of the global batch those rows that lie
        at the places of its devices.
      mode: see `compile_step`.
      devices: of all processes.

    Raises:
      UserError: B is not a multiple of the number of devices.
    """
    _check_mode(mode)
    devices = list(devices or all_devices())
    own = _own(devices)
    check_batch_size(len(batch.images) * len(devices) // len(own), len(devices))
    if mode == "pmap":
        batch = jax.tree.map(lambda x: x.reshape(len(own), -1, *x.shape[1:]), batch)
        return shard_rows(batch, own)
    if len(own) == len(devices):
        return shard_rows(batch, devices)
    sharding = NamedSharding(_mesh(devices), PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def abstract_batch(batch: Batch, mode: str, devices: Sequence[jax.Device]) -> Batch:
    """What `shard_batch` makes of a batch, from its shapes alone, in one process."""
    if mode == "pmap":
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (len(devices), x.shape[0] // len(devices), *x.shape[1:]), x.dtype
            ),
            batch,
        )
    sharding = NamedSharding(_mesh(list(devices)), PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), batch)


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
    """Spreads the first axis of every leaf over the devices, which must divide it.

    Where they belong to several processes, each has the whole host arrays.
    """
    sharding = NamedSharding(_mesh(list(devices)), PartitionSpec(AXIS))
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree
    )


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts every leaf whole on all devices, wherever and in whatever parts it is.

    Where they belong to several processes, host arrays and arrays on one process's own devices
    have to be the same in all.
    """
    sharding = replicated_sharding(devices)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    own = _own(devices)

    def whole(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x
        parts = jax.device_put(x, replicated_sharding(own)).addressable_shards
        return jax.make_array_from_single_device_arrays(
            x.shape, sharding, [part.data for part in parts]
        )

    return jax.jit(lambda t: t, out_shardings=sharding)(jax.tree.map(whole, tree))


def put_like(value: np.ndarray, like: jax.Array) -> jax.Array:
    """A host array, equal in all processes, where another array of its shape is."""
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])


def fetch(x: jax.Array) -> np.ndarray:
    """An array from the devices, on those of other processes too, to each host."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)


def even_batch_size(batch_size: int, count: int, num_devices: int) -> int:
    """At most `batch_size` of `count` rows at once, rounded up to a multiple of the devices."""
    return -(-max(1, min(batch_size, count)) // num_devices) * num_devices


def check_batch_size(batch_size: int, num_devices: int, parts: int = 1) -> None:
    """Raises UserError when a global batch cannot be spread evenly.

    Args:
      batch_size: of all devices together.
      num_devices: of all processes.
      parts: in which each device works on its share, one after the other.
    """
    unit = num_devices * parts
    if batch_size < 1 or batch_size % unit:
        low = max(batch_size // unit, 1) * unit
        in_parts = f" x {parts} parts (train.accumulate_steps)" if parts > 1 else ""
        raise UserError(
            f"batch size {batch_size} does not divide by {num_devices} devices{in_parts}; "
            f"use --train.batch-size {low}"
        )


def check_replicated(step: "StepFn", state: TrainState, batch: Batch, **static: Any) -> None:
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


def _own(devices: Sequence[jax.Device]) -> list[jax.Device]:
    return [device for device in devices if device.process_index == jax.process_index()]


def _mesh(devices: list[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UserError(f"train.mode must be one of {', '.join(MODES)}, not {mode!r}")
