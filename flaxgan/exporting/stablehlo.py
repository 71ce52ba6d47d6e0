"""A generator as StableHLO: `jax.export.deserialize` reads it, without Flax and without flaxgan.

The file is versioned: what jax promises is that later releases read it for at least six months.
"""

from typing import Any

import jax
import jax.export
import numpy as np
from jax import Array

from flaxgan.drawing.sampler import Sampler
from flaxgan.exporting.program import check_close, largest_difference, program_of

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(sampler: Sampler, dtype: str = "float32") -> tuple[bytes, float]:
    """Serialises a generator with its text path for PLATFORMS, with a symbolic batch.

    Args:
      sampler: of `flaxgan.load`.
      dtype: of the generator's parameters in the file: float16, bfloat16 or float32.

    Returns:
      The file, and the largest difference of its images, in [-1, 1], to those of the Flax model.

    Raises:
      UserError: this kind of generator cannot be exported, or draws other pictures then.
    """
    program = program_of(sampler, dtype)
    names = list(program.inputs)

    def draw(*inputs: Array) -> Array:
        # else the compiler unpacks all parameters in advance, which takes longer than drawing
        params: Any = jax.lax.optimization_barrier(program.params)
        return program.draw(params, **dict(zip(names, inputs, strict=True)))

    exported = jax.export.export(jax.jit(draw), platforms=PLATFORMS)(*program.inputs.values())
    data = bytes(exported.serialize())
    again = jax.export.deserialize(bytearray(data))

    def call(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(again.call(*(inputs[name] for name in names)))

    difference = largest_difference(sampler, call)
    check_close(difference, dtype, "StableHLO file")
    return data, difference
