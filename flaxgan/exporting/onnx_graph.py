"""A jaxpr as an ONNX graph: one small function for each primitive that the generators use.

Written here, and not left to a converter, because the one there is (jax2onnx 0.17) asks for an
Orbax that this package excludes, and has none for a symbolic batch of some of the operators.

Broadcasting is put off: ONNX broadcasts by itself, as NumPy does, so that most arrays that jax
repeats need not be. What depends on constants alone is computed now; parameters are no constants.
"""

import ast
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import TensorProto, helper, numpy_helper

from flaxgan.errors import UserError

OPSET, IR_VERSION = 20, 9  # old enough for the runtimes of 2024 and later
LARGEST_FOLDED = 2**16  # numbers that a computed constant may have
Shape = tuple[Any, ...]  # of whole numbers, and of symbolic ones, such as b or 8*b


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the jaxpr.

    Attributes:
      shape: in the jaxpr.
      dtype: its.
      actual: of the ONNX tensor, where 1 may stand for any size.
      name: of the tensor; "" for a constant that no node has used.
      constant: its values, of shape `actual`; None: known when the graph runs.
    """

    shape: Shape
    dtype: np.dtype
    actual: Shape
    name: str = ""
    constant: np.ndarray | None = None


def constant(array: Any) -> Value:
    """A constant as a value."""
    array = np.asarray(array)
    return Value(array.shape, array.dtype, array.shape, constant=array)


class Graph:
    """Nodes and initializers, in the making."""

    def __init__(self) -> None:
        """An empty one."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: dict[Any, str] = {}  # of constants, by their bytes
        self._dims: dict[str, str] = {}  # symbol -> tensor [1] int64

    def add_input(self, name: str, spec: jax.ShapeDtypeStruct) -> Value:
        """An input of the graph; symbols of its shape are known from then on."""
        value = Value(spec.shape, np.dtype(spec.dtype), spec.shape, name)
        for axis, size in enumerate(spec.shape):
            if not isinstance(size, int) and str(size) not in self._dims:
                start, end = axis, axis + 1
                self._dims[str(size)] = self.node("Shape", [value], start=start, end=end)
        return value

    def add_parameter(self, name: str, array: np.ndarray) -> Value:
        """An initializer, which is never computed with in advance."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return Value(array.shape, array.dtype, array.shape, name)

    def node(self, kind: str, inputs: Sequence[Value | str], count: int = 1, **attributes: Any):
        """Adds a node; returns the name of its output, or the names of `count`."""
        names = [x if isinstance(x, str) else self.tensor(x) for x in inputs]
        outputs = [f"{kind}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, names, outputs, outputs[0], **attributes))
        return outputs[0] if count == 1 else outputs

    def tensor(self, value: Value) -> str:
        """The name of a value's tensor, which has its actual shape."""
        if value.constant is None:
            return value.name
        array = np.ascontiguousarray(value.constant)
        key = (array.tobytes(), value.constant.shape, str(array.dtype))
        if key not in self._names:
            self._names[key] = f"constant_{len(self._names)}"
            array = array.reshape(value.constant.shape)  # of a scalar: NumPy makes a vector
            self.initializers.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def full(self, value: Value) -> str:
        """The name of a tensor that has the value's own shape."""
        if value.actual == value.shape:
            return self.tensor(value)
        # 1 leaves what is there
        wanted = [
            1 if have == want else want
            for have, want in zip(value.actual, value.shape, strict=True)
        ]
        return self.node("Expand", [value, self.shape(wanted)])

    def shape(self, sizes: Sequence[Any]) -> str:
        """A shape as a tensor, int64."""
        if all(isinstance(size, int) for size in sizes):
            return self.tensor(constant(np.array(sizes, np.int64)))
        return self.node("Concat", [self.size(size) for size in sizes], axis=0)

    def size(self, size: Any) -> str:
        """A whole number, or a symbolic one, as a tensor `[1]`, int64."""
        return self._size(ast.parse(str(size), mode="eval").body)

    def _size(self, tree: ast.expr) -> str:
        kinds = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
        match tree:
            case ast.Constant(value=int(number)):
                return self.tensor(constant(np.array([number], np.int64)))
            case ast.Name(id=name) if name in self._dims:
                return self._dims[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in kinds:
                return self.node(kinds[type(op)], [self._size(left), self._size(right)])
        raise UserError(f"ONNX export: a size {ast.unparse(tree)} is not known")

    def reshape(self, name: str, sizes: Sequence[Any]) -> str:
        """Reshapes a tensor; one symbolic size is left to the runtime."""
        symbolic = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
        if len(symbolic) == 1:
            sizes = [-1 if i in symbolic else size for i, size in enumerate(sizes)]
        return self.node("Reshape", [name, self.shape(sizes)])

    def ints(self, numbers: Sequence[int]) -> str:
        """A vector of whole numbers, int64."""
        return self.tensor(constant(np.array(numbers, np.int64)))


Handler = Callable[..., Any]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Registers what translates primitives: `(graph, inputs, out, **params)` to a value or more.

    `out` holds the shapes and dtypes of the outputs: one, or a list where there are several.
    """

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def made(name: str, out: Any, actual: Shape | None = None) -> Value:
    """A value that a node made."""
    return Value(out.shape, np.dtype(out.dtype), out.shape if actual is None else actual, name)


def joint(values: Sequence[Value], rank: int) -> Shape:
    """The actual shape of what is computed element by element."""
    shapes = [value.actual for value in values if len(value.actual) == rank]
    if not shapes:
        return ()
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*shapes, strict=True))


def _elementwise(kind: str) -> Handler:
    def translate(graph: Graph, inputs: list[Value], out: Any, **params: Any) -> Value:
        return made(graph.node(kind, inputs), out, joint(inputs, len(out.shape)))

    return translate


HANDLERS |= {
    name: _elementwise(kind)
    for name, kind in {
        **{"add": "Add", "sub": "Sub", "mul": "Mul", "max": "Max", "min": "Min"},
        **{"neg": "Neg", "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos", "tanh": "Tanh"},
        **{"sqrt": "Sqrt", "logistic": "Sigmoid", "erf": "Erf", "abs": "Abs", "sign": "Sign"},
        **{"floor": "Floor", "ceil": "Ceil", "pow": "Pow", "div": "Div"},
        **{"ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less"},
        **{"eq": "Equal"},
    }.items()
}


@handles("ne")
def _not_equal(graph: Graph, inputs: list[Value], out: Any) -> Value:
    equal = graph.node("Equal", inputs)
    return made(graph.node("Not", [equal]), out, joint(inputs, len(out.shape)))


@handles("square")
def _square(graph: Graph, inputs: list[Value], out: Any) -> Value:
    return made(graph.node("Mul", inputs * 2), out, inputs[0].actual)


@handles("integer_pow")
def _integer_pow(graph: Graph, inputs: list[Value], out: Any, *, y: int) -> Value:
    if y == 2:
        return _square(graph, inputs, out)
    power = constant(np.asarray(y, inputs[0].dtype))
    return made(graph.node("Pow", [inputs[0], power]), out, inputs[0].actual)


@handles("rsqrt")
def _rsqrt(graph: Graph, inputs: list[Value], out: Any, **params: Any) -> Value:
    root = graph.node("Sqrt", inputs)
    return made(graph.node("Reciprocal", [root]), out, inputs[0].actual)


@handles("erfc")
def _erfc(graph: Graph, inputs: list[Value], out: Any) -> Value:
    one = constant(np.ones((), inputs[0].dtype))
    return made(graph.node("Sub", [one, graph.node("Erf", inputs)]), out, inputs[0].actual)


@handles("log1p")
def _log1p(graph: Graph, inputs: list[Value], out: Any, **params: Any) -> Value:
    one = constant(np.ones((), inputs[0].dtype))
    return made(graph.node("Log", [graph.node("Add", [one, inputs[0]])]), out, inputs[0].actual)


@handles("and", "or")
def _bits(graph: Graph, inputs: list[Value], out: Any, *, primitive: str) -> Value:
    kind = primitive.capitalize() if np.dtype(out.dtype) == bool else f"Bitwise{primitive.title()}"
    return made(graph.node(kind, inputs), out, joint(inputs, len(out.shape)))


@handles("not")
def _not(graph: Graph, inputs: list[Value], out: Any) -> Value:
    kind = "Not" if np.dtype(out.dtype) == bool else "BitwiseNot"
    return made(graph.node(kind, inputs), out, inputs[0].actual)


@handles("shift_right_logical")
def _shift(graph: Graph, inputs: list[Value], out: Any) -> Value:
    if not np.issubdtype(out.dtype, np.unsignedinteger):
        raise UserError("ONNX export: shifts of signed numbers are not translated")
    name = graph.node("BitShift", inputs, direction="RIGHT")
    return made(name, out, joint(inputs, len(out.shape)))


@handles("select_n")
def _select(graph: Graph, inputs: list[Value], out: Any) -> Value:
    which, *cases = inputs
    if len(cases) != 2 or which.dtype != bool:
        raise UserError("ONNX export: only choices between two are translated")
    name = graph.node("Where", [which, cases[1], cases[0]])
    return made(name, out, joint(inputs, len(out.shape)))


@handles("clamp")
def _clamp(graph: Graph, inputs: list[Value], out: Any) -> Value:
    low, x, high = inputs
    name = graph.node("Min", [graph.node("Max", [x, low]), high])
    return made(name, out, joint(inputs, len(out.shape)))


@handles("convert_element_type")
def _convert(graph: Graph, inputs: list[Value], out: Any, **params: Any) -> Value:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype))
    return made(graph.node("Cast", inputs, to=to), out, inputs[0].actual)


@handles("stop_gradient", "copy", "optimization_barrier")
def _same(graph: Graph, inputs: list[Value], out: Any, **params: Any) -> Any:
    return inputs if isinstance(out, list) else inputs[0]


@handles("broadcast_in_dim")
def _broadcast(
    graph: Graph,
    inputs: list[Value],
    out: Any,
    *,
    shape: Shape,
    broadcast_dimensions: tuple[int, ...],
    **params: Any,
) -> Value:
    value = inputs[0]
    actual: list[Any] = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, value.actual, strict=True):
        actual[axis] = size
    if tuple(actual) == value.actual:
        return dataclasses.replace(value, shape=tuple(shape))
    if value.constant is not None:
        array = value.constant.reshape(actual)
        return Value(tuple(shape), value.dtype, array.shape, constant=array)
    axes = [axis for axis in range(len(shape)) if axis not in broadcast_dimensions]
    return made(graph.node("Unsqueeze", [value, graph.ints(axes)]), out, tuple(actual))


@handles("reshape")
def _reshape(graph: Graph, inputs: list[Value], out: Any, **params: Any) -> Value:
    return made(graph.reshape(graph.full(inputs[0]), out.shape), out)


@handles("squeeze")
def _squeeze(graph: Graph, inputs: list[Value], out: Any, *, dimensions: tuple[int, ...]) -> Value:
    actual = tuple(n for axis, n in enumerate(inputs[0].actual) if axis not in dimensions)
    return made(graph.node("Squeeze", [inputs[0], graph.ints(dimensions)]), out, actual)


@handles("transpose")
def _transpose(
    graph: Graph, inputs: list[Value], out: Any, *, permutation: tuple[int, ...]
) -> Value:
    actual = tuple(inputs[0].actual[axis] for axis in permutation)
    return made(graph.node("Transpose", inputs, perm=list(permutation)), out, actual)


@handles("concatenate")
def _concatenate(graph: Graph, inputs: list[Value], out: Any, *, dimension: int) -> Value:
    # without empty ones, which jax adds when it repeats edges: to Reshape, 0 is "as it was"
    parts = [graph.full(x) for x in inputs if x.shape[dimension] != 0]
    return made(graph.node("Concat", parts, axis=dimension), out)


@handles("stack")
def _stack(graph: Graph, inputs: list[Value], out: Any, *, axis: int) -> Value:
    parts = [graph.node("Unsqueeze", [graph.full(x), graph.ints([axis])]) for x in inputs]
    return made(graph.node("Concat", parts, axis=axis), out)


@handles("split")
def _split(
    graph: Graph, inputs: list[Value], out: Any, *, sizes: tuple[int, ...], axis: int
) -> list[Value]:
    names = graph.node(
        "Split", [graph.full(inputs[0]), graph.ints(sizes)], count=len(sizes), axis=axis
    )
    names = [names] if isinstance(names, str) else names
    return [made(name, each) for name, each in zip(names, out, strict=True)]


@handles("slice")
def _slice(
    graph: Graph,
    inputs: list[Value],
    out: Any,
    *,
    start_indices: Shape,
    limit_indices: Shape,
    strides: tuple[int, ...] | None,
) -> Value:
    steps = strides or (1,) * len(start_indices)
    shape = inputs[0].shape
    axes = [
        axis
        for axis in range(len(shape))
        if (start_indices[axis], limit_indices[axis], steps[axis]) != (0, shape[axis], 1)
    ]
    words = [
        graph.shape([values[axis] for axis in axes]) for values in (start_indices, limit_indices)
    ]
    words += [graph.ints(axes), graph.ints([steps[axis] for axis in axes])]
    return made(graph.node("Slice", [graph.full(inputs[0]), *words]), out)


@handles("rev")
def _rev(graph: Graph, inputs: list[Value], out: Any, *, dimensions: tuple[int, ...]) -> Value:
    count = len(dimensions)
    words = [graph.ints(x) for x in ([-1] * count, [-(2**31)] * count, dimensions, [-1] * count)]
    return made(graph.node("Slice", [graph.full(inputs[0]), *words]), out)


@handles("pad")
def _pad(
    graph: Graph, inputs: list[Value], out: Any, *, padding_config: tuple[tuple[int, int, int], ...]
) -> Value:
    low, high, inner = zip(*padding_config, strict=True)
    if any(inner) or min(*low, *high) < 0:
        raise UserError("ONNX export: padding between pixels is not translated")
    words = [graph.full(inputs[0]), graph.ints([*low, *high]), inputs[1]]
    return made(graph.node("Pad", words), out)


@handles("iota")
def _iota(
    graph: Graph, inputs: list[Value], out: Any, *, dimension: int, shape: Shape, **params: Any
) -> Value:
    zero, one = (constant(np.array(n, np.int64)) for n in (0, 1))
    end = graph.node("Squeeze", [graph.size(shape[dimension]), graph.ints([0])])
    name = graph.node("Range", [zero, end, one])
    name = graph.node("Cast", [name], to=helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype)))
    actual = tuple(n if axis == dimension else 1 for axis, n in enumerate(shape))
    axes = [axis for axis in range(len(shape)) if axis != dimension]
    return made(graph.node("Unsqueeze", [name, graph.ints(axes)]) if axes else name, out, actual)


@handles("dim_as_value")
def _size_as_number(graph: Graph, inputs: list[Value], out: Any, *, dim: Any) -> Value:
    name = graph.node("Squeeze", [graph.size(dim), graph.ints([0])])
    to = helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype))
    return made(graph.node("Cast", [name], to=to), out)


def _reduction(kind: str) -> Handler:
    def translate(
        graph: Graph, inputs: list[Value], out: Any, *, axes: tuple[int, ...], **params: Any
    ) -> Value:
        words = [graph.full(inputs[0]), graph.ints(axes)]
        return made(graph.node(kind, words, keepdims=0), out)

    return translate


HANDLERS |= {
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_prod": _reduction("ReduceProd"),
}


@handles("reduce_and", "reduce_or")
def _reduce_bool(
    graph: Graph, inputs: list[Value], out: Any, *, axes: tuple[int, ...], primitive: str
) -> Value:
    kind = "ReduceMin" if primitive == "reduce_and" else "ReduceMax"
    number = graph.node("Cast", [graph.full(inputs[0])], to=TensorProto.INT32)
    name = graph.node(kind, [number, graph.ints(axes)], keepdims=0)
    return made(graph.node("Cast", [name], to=TensorProto.BOOL), out)


@handles("dot_general")
def _dot(
    graph: Graph, inputs: list[Value], out: Any, *, dimension_numbers: Any, **params: Any
) -> Value:
    (left_sum, right_sum), (left_batch, right_batch) = dimension_numbers
    left, right = inputs
    left_free = _others(left, left_sum, left_batch)
    right_free = _others(right, right_sum, right_batch)
    names = [
        _permuted(graph, left, [*left_batch, *left_free, *left_sum]),
        _permuted(graph, right, [*right_batch, *right_sum, *right_free]),
    ]
    # MatMul wants [batch, m, k] and [batch, k, n]; without a batch also [any, …, k] and [k, n]
    batch = [left.shape[axis] for axis in left_batch]
    one_sum = len(left_sum) == 1
    plain_left = one_sum and (len(left_free) == 1 or (not batch and left_free))
    plain_right = one_sum and len(right_free) == 1
    if not plain_left:
        sizes = [left.shape[axis] for axis in left_free], [left.shape[axis] for axis in left_sum]
        names[0] = graph.reshape(names[0], [*batch, *map(math.prod, sizes)])
    if not plain_right:
        sizes = (
            [right.shape[axis] for axis in right_sum],
            [right.shape[axis] for axis in right_free],
        )
        names[1] = graph.reshape(names[1], [*batch, *map(math.prod, sizes)])
    if left.dtype != np.dtype(out.dtype):
        to = helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype))
        names = [graph.node("Cast", [name], to=to) for name in names]
    name = graph.node("MatMul", names)
    if not (plain_left and plain_right):
        name = graph.reshape(name, out.shape)
    return made(name, out)


def _others(value: Value, *groups: Sequence[int]) -> list[int]:
    named = {axis for group in groups for axis in group}
    return [axis for axis in range(len(value.shape)) if axis not in named]


def _permuted(graph: Graph, value: Value, axes: Sequence[int]) -> str:
    if list(axes) == sorted(axes):
        return graph.full(value)
    if value.constant is not None and value.actual == value.shape:
        return graph.tensor(constant(np.transpose(value.constant, axes)))
    return graph.node("Transpose", [graph.full(value)], perm=list(axes))


@handles("conv_general_dilated")
def _convolution(
    graph: Graph,
    inputs: list[Value],
    out: Any,
    *,
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **params: Any,
) -> Value:
    if set(lhs_dilation) != {1} or batch_group_count != 1:
        raise UserError("ONNX export: transposed convolutions are not translated")
    numbers = dimension_numbers
    images, kernel = (
        _permuted(graph, value, spec)
        for value, spec in zip(inputs, (numbers.lhs_spec, numbers.rhs_spec), strict=True)
    )
    low, high = zip(*padding, strict=True)
    name = graph.node(
        "Conv",
        [images, kernel],
        strides=list(window_strides),
        pads=[*low, *high],
        dilations=list(rhs_dilation),
        group=feature_group_count,
    )
    back = np.argsort(numbers.out_spec).tolist()
    return made(graph.node("Transpose", [name], perm=back), out)


@handles("gather")
def _gather(
    graph: Graph,
    inputs: list[Value],
    out: Any,
    *,
    dimension_numbers: Any,
    slice_sizes: tuple[int, ...],
    **params: Any,
) -> Value:
    """Whole rows by their numbers, as tables of embeddings are read; one block, as slices are."""
    table, numbers = inputs
    rows = dimension_numbers
    if len(numbers.shape) == 1 and numbers.constant is not None:
        return _block(graph, table, numbers.constant, out, rows, slice_sizes)
    axis, last = rows.start_index_map[0], len(numbers.shape) - 1
    kept = [i for i in range(len(table.shape)) if i != axis]
    places = tuple(range(axis)) + tuple(range(axis + last, last + len(kept)))
    if (
        rows.start_index_map != rows.collapsed_slice_dims
        or len(rows.start_index_map) != 1
        or rows.operand_batching_dims
        or [slice_sizes[i] for i in kept] != [table.shape[i] for i in kept]
        or tuple(rows.offset_dims) != places
    ):
        raise UserError("ONNX export: only whole rows and blocks are looked up")
    index = graph.node("Squeeze", [graph.full(numbers), graph.ints([last])])
    return made(graph.node("Gather", [graph.full(table), index], axis=axis), out)


def _block(
    graph: Graph, table: Value, place: np.ndarray, out: Any, rows: Any, sizes: Shape
) -> Value:
    """A block at a place that is known: how jax cuts where a size is symbolic."""
    first = [0] * len(sizes)
    for axis, start in zip(rows.start_index_map, place, strict=True):
        first[axis] = int(start)
    axes = list(rows.start_index_map)
    starts = [first[axis] for axis in axes]
    ends = [first[axis] + sizes[axis] for axis in axes]
    words = [graph.ints(starts), graph.shape(ends), graph.ints(axes)]
    name = graph.node("Slice", [graph.full(table), *words])
    if rows.collapsed_slice_dims:
        name = graph.node("Squeeze", [name, graph.ints(rows.collapsed_slice_dims)])
    return made(name, out)


# what holds a jaxpr, by the name of its parameter
_INLINED = {
    **dict.fromkeys(("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint"), "jaxpr"),
    **{"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "remat2": "jaxpr"},
}
_NEVER_FOLDED = {"broadcast_in_dim", "dim_as_value"}
_NEEDS_NAME = {"and", "or", "reduce_and", "reduce_or"}


def run(graph: Graph, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Translates the equations of a jaxpr, those inside of others too.

    Raises:
      UserError: a primitive, or a use of one, has no translation.
    """
    values: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    values |= zip(jaxpr.constvars, map(constant, consts), strict=True)

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            return constant(np.asarray(atom.val, atom.aval.dtype))
        return values[atom]

    for equation in jaxpr.eqns:
        found = _translate(graph, equation, [read(atom) for atom in equation.invars])
        values |= zip(equation.outvars, found, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _translate(graph: Graph, equation: Any, inputs: list[Value]) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    if name in _INLINED:
        inner = params[_INLINED[name]]
        closed = hasattr(inner, "consts")
        return run(graph, inner.jaxpr if closed else inner, inner.consts if closed else (), inputs)
    folded = None if name in _NEVER_FOLDED else _fold(equation, inputs)
    if folded is not None:
        return folded
    if name not in HANDLERS:
        raise UserError(f"ONNX export: the operation {name} is not translated")
    outs = [var.aval for var in equation.outvars]
    several = equation.primitive.multiple_results
    extra = {"primitive": name} if name in _NEEDS_NAME else {}
    found = HANDLERS[name](graph, inputs, outs if several else outs[0], **params, **extra)
    return found if several else [found]


def _fold(equation: Any, inputs: list[Value]) -> list[Value] | None:
    """What is known in advance, as constants; None: it is not, or takes too much room."""
    if any(value.constant is None for value in inputs):
        return None
    shapes = [var.aval.shape for var in equation.outvars] + [value.shape for value in inputs]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        return None
    if max(math.prod(shape) for shape in shapes) > LARGEST_FOLDED:
        return None
    arrays = [jnp.asarray(np.broadcast_to(value.constant, value.shape)) for value in inputs]
    found = equation.primitive.bind(*arrays, **equation.params)
    return [constant(x) for x in (found if equation.primitive.multiple_results else [found])]


def model_of(
    function: Callable[..., Any],
    params: Any,
    inputs: dict[str, jax.ShapeDtypeStruct],
    outputs: Sequence[str],
    metadata: dict[str, str],
    *,
    fold: bool = False,
) -> onnx.ModelProto:
    """Translates a function of jax to ONNX.

    Args:
      function: `function(params, **inputs)`: one array, or a tuple.
      params: a tree of NumPy arrays, which become initializers, named by their path.
      inputs: names, shapes and dtypes; sizes may be symbolic.
      outputs: names of what it returns.
      metadata: strings that the file is to hold.
      fold: whether parameters are constants, whose names are lost.

    Raises:
      UserError: it uses what has no translation.
    """
    names = list(inputs)
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)

    def flat(arrays: list[Any], *rest: Any) -> Any:
        return function(jax.tree.unflatten(tree, arrays), **dict(zip(names, rest, strict=True)))

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in leaves]
    closed = jax.jit(flat, keep_unused=True).trace(shapes, *inputs.values()).jaxpr
    graph = Graph()
    given = [
        constant(x)
        if fold
        else graph.add_parameter(
            jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(x)
        )
        for path, x in leaves
    ]
    given += [graph.add_input(name, spec) for name, spec in inputs.items()]
    found = run(graph, closed.jaxpr, closed.consts, given)
    for name, value in zip(outputs, found, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.full(value)], [name], name))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "generator",
            [_info(name, spec.shape, spec.dtype) for name, spec in inputs.items()],
            [
                _info(name, value.shape, value.dtype)
                for name, value in zip(outputs, found, strict=True)
            ],
            graph.initializers,
        ),
        producer_name="flaxgan",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    _remove_unused(model)
    return model


def _info(name: str, shape: Shape, dtype: Any) -> onnx.ValueInfoProto:
    sizes = [size if isinstance(size, int) else str(size) for size in shape]
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes
    )


def _remove_unused(model: onnx.ModelProto) -> None:
    """Nodes and initializers that no output needs."""
    graph = model.graph
    wanted = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            nodes.append(node)
            wanted |= set(node.input)
    kept = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(kept)
