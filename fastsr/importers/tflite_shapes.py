"""TensorFlow Lite operators on numbers known while importing: constants, and shape code over sizes of the picture; by what evaluates ONNX's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_shapes
from .context import register
from .folding import bounded, floored, integers
from .tflite_context import Args, TfliteContext, TfliteNode
from .tflite_pixels import slices
from .values import Array

Evaluator = Callable[[TfliteContext, TfliteNode, Args], Any]
OPS: dict[str, Evaluator] = {}
op = partial(register, OPS)
TYPES = {"float32": 1, "float16": 1, "int32": 7, "int64": 7, "bool": 9}
"""Types of results -> ONNX's number of the type in which they are computed."""
MAX_PARTS = 4096


def evaluate(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """The value of an operator whose inputs are known: an Array, a list of them for several outputs, or Filled."""
    try:
        return OPS[node.op](ctx, node, args)
    except (ArithmeticError, IndexError, TypeError, ValueError) as e:
        if isinstance(e, ModelError):
            raise
        raise ModelError(f"has inputs that do not fit together ({str(e)[:200]}): damaged file") from None


def said(ctx: TfliteContext, node: TfliteNode, op: str, args: Args, **attrs: Any) -> Any:
    """The value of an ONNX operator."""
    return onnx_shapes.evaluate(ctx, ctx.spell(node, op, node.output, **attrs), args)


SAME = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow", "FLOOR_MOD": "Mod", "ABS": "Abs",
    "NEG": "Neg", "SQRT": "Sqrt", "EXP": "Exp", "TANH": "Tanh", "RELU": "Relu", "FLOOR": "Floor", "CEIL": "Ceil", "ROUND": "Round",
    "LOGISTIC": "Sigmoid", "SHAPE": "Shape", "FILL": "Fill", "RANGE": "Range", "TILE": "Tile", "BROADCAST_TO": "Expand", "ADD_N": "Sum",
}  # fmt: skip
"""Operators with a namesake that takes the same inputs."""


@op(*SAME)
def namesake(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """An operator that ONNX has too."""
    if node.has("fused") and node.int("fused"):
        raise ModelError("has a fused activation on constants: not supported")
    if node.op == "FILL":
        return said(ctx, node, "Expand", args[1::-1])
    return said(ctx, node, SAME[node.op], args, **({"axis": 0} if node.op == "SHAPE" else {}))


@op("CONCATENATION", "GATHER")
def along(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Arrays joined along an axis; entries by index."""
    return said(ctx, node, "Concat" if node.op == "CONCATENATION" else "Gather", args, axis=node.int("axis"))


@op("FLOOR_DIV", "SQUARE", "RSQRT", "SQUARED_DIFFERENCE")
def computed(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Arithmetic that ONNX says otherwise."""
    if node.op == "FLOOR_DIV":
        a, b = (ctx.array(node, args, k).data for k in (0, 1))
        bounded(ctx, *np.broadcast_shapes(a.shape, b.shape), itemsize=16)
        return Array(np.asarray(floored(a, b)))
    if node.op == "RSQRT":
        return said(ctx, node, "Reciprocal", [said(ctx, node, "Sqrt", args)])
    d = args[0] if node.op == "SQUARE" else said(ctx, node, "Sub", args)
    return said(ctx, node, "Mul", [d, d])


@op("CAST")
def cast(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """To another type; sizes that become integers are rounded down."""
    if node.result.type not in TYPES:
        raise ModelError(f"turns numbers into {node.result.type}: not supported")
    return said(ctx, node, "Cast", args, to=TYPES[node.result.type])


@op("DEQUANTIZE")
def dequantize(ctx: TfliteContext, node: TfliteNode, args: Args) -> Array:
    """Constants of float16 or quantised ones as floats, which they are here anyway."""
    return ctx.array(node, args, 0)


@op("RESHAPE")
def reshape(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """The same numbers in another shape."""
    target = args[1] if len(args) > 1 else Array(np.asarray(node.result.signature, np.int64))
    return said(ctx, node, "Reshape", [args[0], target], allowzero=1)


@op("EXPAND_DIMS")
def expand_dims(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """With a new axis."""
    return said(ctx, node, "Unsqueeze", args)


@op("SQUEEZE")
def squeeze(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Without axes of size 1."""
    listed = node.message.ints(0) if node.message is not None else []
    return said(ctx, node, "Squeeze", args, **({"axes": listed} if listed else {}))


@op("TRANSPOSE")
def transpose(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Axes in another order."""
    return said(ctx, node, "Transpose", args[:1], perm=ctx.ints(node, args, 1))


@op("REDUCE_PROD", "SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN")
def reduce(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """One number for all entries along axes."""
    axes = ctx.ints(node, args, 1)
    name = {"REDUCE_PROD": "ReduceProd", "SUM": "ReduceSum", "MEAN": "ReduceMean", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"}[node.op]
    return said(ctx, node, name, args[:1], axes=axes, keepdims=int(node.flag("keep_dims")))


@op("PACK")
def pack(ctx: TfliteContext, node: TfliteNode, args: Args) -> Array:
    """Arrays stacked along a new axis."""
    arrays = [ctx.array(node, args, k).data for k in range(len(args))]
    if not arrays:
        raise ModelError("stacks nothing: damaged file")
    bounded(ctx, sum(a.size for a in arrays))
    symbolic = any(a.dtype == object for a in arrays)
    return Array(np.stack([a.astype(object) for a in arrays] if symbolic else arrays, axis=node.int("axis")))


@op("UNPACK")
def unpack(ctx: TfliteContext, node: TfliteNode, args: Args) -> list[Array]:
    """Entries along an axis."""
    data = np.moveaxis(ctx.array(node, args, 0).data, node.int("axis"), 0)
    if len(data) > MAX_PARTS or len(data) != len(node.results):
        raise ModelError(f"makes {len(node.results)} parts of {len(data)}: damaged file")
    return [Array(np.asarray(part)) for part in data]


@op("STRIDED_SLICE")
def strided_slice(ctx: TfliteContext, node: TfliteNode, args: Args) -> Array:
    """Part of an array."""
    data = ctx.array(node, args, 0).data
    begin, end, step, gone = slices(ctx, node, args, data.ndim)
    index = tuple(begin[i] if i in gone else slice(begin[i], None if end[i] <= -(1 << 31) else end[i], step[i]) for i in range(data.ndim))
    return Array(np.asarray(data[index]))


@op("SLICE")
def slice_(ctx: TfliteContext, node: TfliteNode, args: Args) -> Array:
    """Part of an array by begin and size, -1 for the rest."""
    data, begin, size = ctx.array(node, args, 0).data, ctx.ints(node, args, 1), ctx.ints(node, args, 2)
    if len(begin) != data.ndim or len(size) != data.ndim or min([*begin, 0]) < 0 or min([*size, 0]) < -1:
        raise ModelError("slices beyond its input: damaged file")
    return Array(np.asarray(data[tuple(slice(a, None if n == -1 else a + n) for a, n in zip(begin, size, strict=True))]))


@op("SPLIT", "SPLIT_V")
def split(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Parts along an axis."""
    equal = node.op == "SPLIT"
    axis = integers(args[0] if equal else args[2], 1)
    core = ctx.spell(node, "Split", *node.outputs, axis=axis[0])
    return onnx_shapes.evaluate(ctx, core, args[1:2] if equal else args[:2])


@op("RANK")
def rank(ctx: TfliteContext, node: TfliteNode, args: Args) -> Array:
    """The number of axes."""
    return Array(np.array(len(onnx_shapes.shape_of(args[0])), np.int64))


@op("ZEROS_LIKE")
def zeros_like(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Zeros in the shape of a constant or picture."""
    sizes = said(ctx, node, "Shape", args)
    return said(ctx, node, "Expand", [Array(np.zeros((), np.float32)), sizes])
