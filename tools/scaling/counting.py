"""Floating-point operations and averaged bytes of a traced function, counted from its jaxpr.

Only matrix products and convolutions are counted, two operations per multiplication and addition.
What no output depends on is left out, and what is computed twice from the same values is counted
once, as a compiler does: a penalty and the loss share D's forward pass. Nothing is compiled.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.interpreters import partial_eval

CALLS = ("jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")
SAME = ("copy", "stop_gradient")  # primitives whose output is their input
RECOMPUTED = (
    "checkpoint",
    "remat2",
    "optimization_barrier",
)  # not merged with what was computed before


class Work(NamedTuple):
    """What a function does.

    Attributes:
      flops: of matrix products and convolutions.
      averaged_bytes: of the values that are summed or averaged over devices.
    """

    flops: float
    averaged_bytes: float


def count(function: Callable[..., Any], *args: Any, axis: tuple[str, int] | None = None) -> Work:
    """Traces a function and counts its work.

    Args:
      function: of arrays, without side effects.
      *args: trees of arrays or of `jax.ShapeDtypeStruct`.
      axis: name and size of an axis that the function averages over.

    Raises:
      ValueError: a loop of unknown length that multiplies matrices.
    """
    closed = jax.make_jaxpr(function, axis_env=[axis] if axis else None)(*args)
    used = [True] * len(closed.jaxpr.outvars)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, used)
    counter = _Counter()
    counter.run(jaxpr, [counter.fresh() for _ in jaxpr.invars])
    return Work(counter.flops, counter.averaged_bytes)


class _Counter:
    """Walks through a jaxpr, giving every distinct value a number."""

    def __init__(self) -> None:
        self.flops = self.averaged_bytes = 0.0
        self._repeats = 1.0  # how often the code at hand runs
        self._numbers = 0
        self._known: dict[Hashable, list[int]] = {}

    def fresh(self) -> int:
        self._numbers += 1
        return self._numbers

    def run(self, jaxpr: Jaxpr, inputs: Sequence[Hashable]) -> list[Hashable]:
        """Values of the outputs, given those of the inputs."""
        values: dict[Any, Hashable] = {var: self.fresh() for var in jaxpr.constvars}
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Hashable:
            if isinstance(atom, Literal):
                return str(atom.aval), np.asarray(atom.val).tobytes()
            return values[atom]

        for eqn in jaxpr.eqns:
            outputs = self._apply(eqn, [read(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn: JaxprEqn, inputs: list[Hashable]) -> list[Hashable]:
        name = eqn.primitive.name
        if name in SAME:
            return inputs
        inner = [_open(x) for value in eqn.params.values() for x in _jaxprs(value)]
        if name in CALLS:
            return self.run(inner[0], inputs)
        if name in RECOMPUTED:
            inputs = [self.fresh() for _ in inputs]
            return self.run(inner[0], inputs) if inner else inputs
        if inner:
            self._control_flow(name, inner, eqn.params.get("length", 1))
            return [self.fresh() for _ in eqn.outvars]
        key = (name, str(eqn.params), *inputs)
        if key not in self._known:
            self._known[key] = [self.fresh() for _ in eqn.outvars]
            if name in FLOPS:
                self.flops += self._repeats * FLOPS[name](eqn)
            elif name == "psum":
                shapes = [var.aval for var in eqn.invars]
                self.averaged_bytes += self._repeats * sum(
                    x.size * x.dtype.itemsize for x in shapes
                )
        return self._known[key]

    def _control_flow(self, name: str, bodies: list[Jaxpr], length: int) -> None:
        before = self.flops, self.averaged_bytes
        if name == "scan":
            (body,) = bodies
            self._repeats *= length
            self.run(body, [self.fresh() for _ in body.invars])
            self._repeats /= length
            return
        for body in bodies:
            self.run(body, [self.fresh() for _ in body.invars])
        if (self.flops, self.averaged_bytes) != before:
            raise ValueError(f"there is no telling how often the products inside a {name} run")


def _jaxprs(value: Any) -> list[Any]:
    values = value if isinstance(value, (tuple, list)) else [value]
    return [x for x in values if isinstance(x, (Jaxpr, ClosedJaxpr))]


def _open(jaxpr: Any) -> Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _dot_flops(eqn: JaxprEqn) -> float:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    lengths = [eqn.invars[0].aval.shape[i] for i in contracted]
    return 2.0 * eqn.outvars[0].aval.size * math.prod(lengths)


def _conv_flops(eqn: JaxprEqn) -> float:
    """Multiplications with padding, and with the zeros of a dilated input, do not count."""
    p = eqn.params
    image, kernel, out = (var.aval.shape for var in (*eqn.invars, *eqn.outvars))
    dims = p["dimension_numbers"]
    pairs = 1
    for i in range(len(p["window_strides"])):
        pairs *= _pairs(
            image[dims.lhs_spec[2 + i]],
            kernel[dims.rhs_spec[2 + i]],
            out[dims.out_spec[2 + i]],
            stride=p["window_strides"][i],
            before=p["padding"][i][0],
            image_dilation=p["lhs_dilation"][i],
            kernel_dilation=p["rhs_dilation"][i],
        )
    per_pair = out[dims.out_spec[0]] * out[dims.out_spec[1]] * kernel[dims.rhs_spec[1]]
    return 2.0 * pairs * per_pair


def _pairs(
    image: int,
    kernel: int,
    out: int,
    *,
    stride: int,
    before: int,
    image_dilation: int,
    kernel_dilation: int,
) -> int:
    """Pairs of an output and a kernel place, along one axis, that meet a value of the image."""
    places = np.arange(out)[:, None] * stride + np.arange(kernel) * kernel_dilation - before
    inside = (places >= 0) & (places < (image - 1) * image_dilation + 1)
    return int((inside & (places % image_dilation == 0)).sum())


FLOPS: dict[str, Callable[[JaxprEqn], float]] = {
    "dot_general": _dot_flops,
    "conv_general_dilated": _conv_flops,
}
