"""What XLA makes of a train step for simulated devices: operations, collectives, memory."""

import math
import re
from typing import Any, NamedTuple

import jax

from flaxgan.config import Config
from flaxgan.errors import UserError
from flaxgan.training import parallel
from tools.scaling.subjects import abstract_run

# of machine code, which nobody runs here: the program and its buffers are the same without
NO_CODE_OPTIMISATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.-]+) = (.+?) ([\w-]+)\(([^)]*)\)", re.MULTILINE)
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


def compile_for(config: Config, count: int, mode: str, batch_size: int) -> Any:
    """Compiles the step, with its penalty, for the first `count` devices of this process.

    Args:
      config: the experiment.
      count: devices.
      mode: see `parallel.compile_step`.
      batch_size: global images per step.

    Returns:
      A `jax.stages.Compiled`.

    Raises:
      UserError: fewer devices, or a batch that does not divide by them.
    """
    devices = parallel.all_devices()[:count]
    if len(devices) < count:
        raise UserError(
            f"{count} devices are needed, there are {len(devices)}: "
            f"set XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    parallel.check_batch_size(batch_size, count)
    networks, state, batch = abstract_run(config, batch_size)
    state = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        state,
        parallel.state_sharding(state, mode, devices, config.train.shard_above),
    )
    batch = parallel.abstract_batch(batch, mode, devices)
    step = parallel.compile_step(networks.step, mode, devices, config.train.shard_above)
    return step.lower(state, batch).compile(compiler_options=NO_CODE_OPTIMISATION)


def flops(compiled: Any) -> float:
    """Operations of one device in one step, as XLA counts them: pointwise ones included."""
    return float(compiled.cost_analysis()["flops"])


def collective_bytes(hlo: str) -> dict[str, int]:
    """Bytes of the values that a program's collectives handle, by kind.

    Args:
      hlo: text of a program compiled for CPU, where a collective is one instruction.

    Returns:
      For each kind that occurs the size of the whole values: what goes into an all-reduce or a
      reduce-scatter, what comes out of an all-gather.
    """
    sizes: dict[str, int] = {}
    found: dict[str, int] = {}
    for name, shape, operation, operands in _INSTRUCTION.findall(hlo):
        sizes[name] = _bytes(shape)
        if operation in COLLECTIVES:
            given = sum(sizes[operand] for operand in re.findall(r"%([\w.-]+)", operands))
            found[operation] = found.get(operation, 0) + max(given, sizes[name])
    return found


def _bytes(shape: str) -> int:
    """Of an array or a tuple in HLO's notation, `(f32[3,3]{1,0}, bf16[])`."""
    return sum(
        math.prod(int(side) for side in sides.split(",") if side) * (int(bits or 8) // 8)
        for _, bits, sides in _ARRAY.findall(shape)
    )


class Memory(NamedTuple):
    """Bytes on one device while a step runs.

    Attributes:
      arguments: state and batch.
      outputs: new state and metrics.
      aliased: the part of the outputs that is written over arguments.
      temporaries: everything between.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int

    @property
    def total(self) -> int:
        """All together."""
        return self.arguments + self.outputs - self.aliased + self.temporaries


def memory(compiled: Any) -> Memory:
    """XLA's plan of the memory of a compiled step, for one device."""
    stats = compiled.memory_analysis()
    return Memory(
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
        stats.temp_size_in_bytes,
    )


def memory_per_device(config: Config, count: int, mode: str = "jit", batch_size: int = 8) -> Memory:
    """The memory of a step that is compiled for `count` devices: see `compile_for`."""
    return memory(compile_for(config, count, mode, batch_size))
