"""TensorFlow operators on numbers known while importing: constants, and shape code over sizes of the picture.

Everything is evaluated with NumPy; arrays that hold a size (`Dim`) have dtype object, and only the arithmetic that shape code uses works on them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import folding
from .context import register
from .folding import bounded, floored, integer, integers, plain, truncated
from .tensorflow_context import Context, TfNode
from .tensorflow_dequantize import dequantize
from .tensorflow_schema import NUMPY_TYPES, type_name
from .tensorflow_values import Blocks, Repeated, Value
from .values import Array, Dim, Filled, pack_dims

Evaluator = Callable[..., Any]
OPS: dict[str, Evaluator] = {"Const": lambda *_: None}
op = partial(register, OPS)


def evaluate(ctx: Context, node: TfNode, args: list[Value]) -> Any:
    """The value of a node whose inputs are known: an Array, a list of them for several outputs, or Filled."""
    return folding.evaluate(OPS, ctx, node, args)


# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "AddV2": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "RealDiv": lambda a, b: a / b,
    "Div": truncated,
    "FloorDiv": floored,
    "TruncateDiv": truncated,
    "FloorMod": lambda a, b: a % b if a.dtype == object or b.dtype == object else a - floored(a, b) * b,
    "Mod": lambda a, b: a - truncated(a, b) * b,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Pow": np.power,
    "SquaredDifference": lambda a, b: (a - b) * (a - b),
}


@op(*ARITHMETIC)
def arithmetic(ctx: Context, node: TfNode, x: Value, y: Value) -> Any:
    """Two arrays, broadcast."""
    if not isinstance(x, Array) or not isinstance(y, Array):
        raise ModelError("mixes constants and pictures in a way that is not supported")
    a, b = x.data, y.data
    if a.dtype != object and b.dtype != object and a.dtype != b.dtype and (a.dtype.kind, b.dtype.kind) != ("i", "i"):
        raise ModelError(f"combines constants of types {a.dtype} and {b.dtype}: damaged file")
    if (a.dtype == object or b.dtype == object) and node.op in ("Maximum", "Minimum", "Pow"):
        raise ModelError("compares sizes of the picture, which fastsr cannot follow")
    bounded(ctx, *np.broadcast_shapes(a.shape, b.shape), itemsize=2 * max(a.itemsize, b.itemsize))
    if node.op == "Pow" and a.dtype.kind != "f":
        raise ModelError("integer powers are not supported")
    return np.asarray(ARITHMETIC[node.op](a, b))


UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs,
    "Neg": lambda a: -a,
    "Square": lambda a: a * a,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda a: 1 / np.sqrt(a),
    "Reciprocal": lambda a: 1 / a,
    "Inv": lambda a: 1 / a,
    "Exp": np.exp,
    "Log": np.log,
    "Tanh": np.tanh,
    "Relu": lambda a: np.maximum(a, 0),
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
}


@op(*UNARY)
def unary(ctx: Context, node: TfNode, x: Value) -> np.ndarray:
    """One array of numbers."""
    data = plain(x)
    if data.dtype.kind != "f" and node.op not in ("Abs", "Neg", "Square", "Relu"):
        raise ModelError(f"is applied to {data.dtype}: damaged file")
    return np.asarray(UNARY[node.op](data)).astype(data.dtype, copy=False)


@op("Identity", "StopGradient", "CheckNumerics", "Snapshot", "PreventGradient")
def identity(ctx: Context, node: TfNode, x: Value, *_: Value) -> Value:
    """The same array, with the same name."""
    return x


@op("Cast")
def cast(ctx: Context, node: TfNode, x: Value) -> np.ndarray:
    """To another type; sizes that become integers are rounded down."""
    if not isinstance(x, Array):
        raise ModelError("mixes constants and pictures in a way that is not supported")
    target = node.attr_type("DstT", 0)
    dtype = np.float32 if target == 14 else NUMPY_TYPES.get(target)
    if dtype is None:
        raise ModelError(f"turns numbers into {type_name(target)}: not supported")
    if not x.symbolic:
        return x.data.astype(dtype)
    whole = np.dtype(dtype).kind in "iu"
    items = [(d.floor() if isinstance(d, Dim) else int(d)) if whole else d for d in x.data.reshape(-1)]
    return pack_dims(items, x.data.shape, dtype)


@op("Dequantize")
def dequantize_(ctx: Context, node: TfNode, x: Value, low: Value, high: Value) -> np.ndarray:
    """Quantised constants to float32."""
    source = ctx.nodes[node.inputs[0][0]]
    dtype = node.attr_type("T", source.attr_type("dtype", 0))
    bounded(ctx, plain(x).size, itemsize=8)
    return dequantize(plain(x), plain(low), plain(high), dtype, node.attr_text("mode", "MIN_COMBINED"), node.attr_flag("narrow_range", False),
                      node.attr_int("axis", -1))  # fmt: skip


# ---- shapes ------------------------------------------------------------------------------------------------------------------------------------


def shape_of(value: Value) -> tuple[Any, ...]:
    """Sizes of the TensorFlow tensor's axes."""
    if isinstance(value, (Blocks, Repeated)):
        raise ModelError("asks for the size of a picture in the middle of an idiom, which is not supported")
    return value.data.shape if isinstance(value, Array) else value.shape


@op("Shape")
def shape(ctx: Context, node: TfNode, x: Value) -> np.ndarray:
    """The sizes of a picture or constant."""
    sizes = list(shape_of(x))
    return pack_dims(sizes, (len(sizes),), np.int64 if node.attr_type("out_type", 3) == 9 else np.int32)


@op("ShapeN")
def shape_n(ctx: Context, node: TfNode, *xs: Value) -> list[np.ndarray]:
    """The sizes of several tensors."""
    return [shape(ctx, node, x) for x in xs]


@op("Rank")
def rank(ctx: Context, node: TfNode, x: Value) -> np.ndarray:
    """The number of axes."""
    return np.array(len(shape_of(x)), np.int32)


@op("Fill")
def fill(ctx: Context, node: TfNode, dims: Value, value: Value) -> Any:
    """One number, repeated."""
    number = plain(value)
    if number.size != 1 or not isinstance(dims, Array):
        raise ModelError("fills with more than one number: damaged file")
    if dims.symbolic:
        return Filled(number.reshape(()), tuple(dims.data.reshape(-1)))
    sizes = integers(dims)
    bounded(ctx, *sizes)
    return np.full(sizes, number.reshape(()))


@op("ZerosLike", "OnesLike")
def filled_like(ctx: Context, node: TfNode, x: Value) -> Any:
    """Zeros or ones in the shape of a constant."""
    data = plain(x)
    return np.full(data.shape, node.op == "OnesLike", data.dtype)


@op("Range")
def range_(ctx: Context, node: TfNode, start: Value, limit: Value, delta: Value) -> np.ndarray:
    """Integers start, start + delta, ... below limit."""
    a, b, step = integer(start), integer(limit), integer(delta)
    if step == 0:
        raise ModelError("has a step of 0: damaged file")
    bounded(ctx, max(-(-(b - a) // step), 0))
    return np.arange(a, b, step, dtype=plain(start).dtype)


@op("Pack")
def pack(ctx: Context, node: TfNode, *xs: Value) -> np.ndarray:
    """Arrays stacked along a new axis."""
    arrays = [x.data for x in xs if isinstance(x, Array)]
    if len(arrays) != len(xs) or not arrays:
        raise ModelError("stacks pictures, which is not supported")
    bounded(ctx, sum(a.size for a in arrays))
    return np.stack([a.astype(object) for a in arrays] if any(a.dtype == object for a in arrays) else arrays, axis=node.attr_int("axis", 0))


@op("Unpack")
def unpack(ctx: Context, node: TfNode, x: Value) -> list[np.ndarray]:
    """The parts of an array along one axis."""
    if not isinstance(x, Array):
        raise ModelError("takes a picture apart, which is not supported")
    axis = node.attr_int("axis", 0)
    if x.data.shape[axis] > 4096:
        raise ModelError(f"takes an array apart into {x.data.shape[axis]} pieces: damaged file")
    return [np.asarray(a) for a in np.moveaxis(x.data, axis, 0)]


@op("ConcatV2", "Concat")
def concat(ctx: Context, node: TfNode, *xs: Value) -> np.ndarray:
    """Arrays joined along an axis."""
    parts = xs[:-1] if node.op == "ConcatV2" else xs[1:]
    axis = integer(xs[-1] if node.op == "ConcatV2" else xs[0])
    arrays = [x.data for x in parts if isinstance(x, Array)]
    if len(arrays) != len(parts) or not arrays:
        raise ModelError("joins constants with pictures, which is not supported")
    bounded(ctx, sum(a.size for a in arrays))
    return np.concatenate([a.astype(object) for a in arrays] if any(a.dtype == object for a in arrays) else arrays, axis=axis)


@op("Reshape")
def reshape(ctx: Context, node: TfNode, x: Value, target: Value) -> np.ndarray:
    """The same numbers in another shape."""
    if not isinstance(x, Array):
        raise ModelError("reshapes a picture in a way that is not supported")
    return x.data.reshape(integers(target))


@op("Squeeze")
def squeeze(ctx: Context, node: TfNode, x: Value) -> np.ndarray:
    """Without axes of size 1."""
    if not isinstance(x, Array):
        raise ModelError("squeezes a picture in a way that is not supported")
    axes = tuple(node.attr_ints("squeeze_dims", []))
    return np.squeeze(x.data, axis=axes or None)


@op("ExpandDims")
def expand_dims(ctx: Context, node: TfNode, x: Value, axis: Value) -> np.ndarray:
    """With a new axis of size 1."""
    if not isinstance(x, Array):
        raise ModelError("expands a picture in a way that is not supported")
    return np.expand_dims(x.data, integer(axis))


@op("Transpose")
def transpose(ctx: Context, node: TfNode, x: Value, perm: Value) -> np.ndarray:
    """Axes in another order."""
    if not isinstance(x, Array):
        raise ModelError("transposes a picture by an order that is not constant")
    return np.transpose(x.data, integers(perm))


@op("Gather", "GatherV2")
def gather(ctx: Context, node: TfNode, x: Value, indices: Value, axis: Value | None = None) -> np.ndarray:
    """Entries by index."""
    if not isinstance(x, Array) or plain(indices).size > 65536 or plain(indices).dtype.kind not in "iu":
        raise ModelError("gathers from a picture, which is not supported")
    along, index = 0 if axis is None else integer(axis), plain(indices)
    n = x.data.shape[along]
    if index.size and not (int(index.min()) >= 0 and int(index.max()) < n):
        raise ModelError("gathers beyond the end of an array: damaged file")
    bounded(ctx, index.size, x.data.size // max(n, 1))
    return np.take(x.data, index, axis=along)


def slices(node: TfNode, begin: list[int], end: list[int], stride: list[int], ndim: int) -> list[Any]:
    """A NumPy index for StridedSlice's masks: slices, integers and np.newaxis, one entry per entry of `begin`, at most one ellipsis."""
    masks = {m: node.attr_int(f"{m}_mask", 0) for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    if not len(begin) == len(end) == len(stride) or len(begin) > 32:
        raise ModelError("has begin, end and strides of different lengths: damaged file")
    index: list[Any] = []
    for i, (a, b, s) in enumerate(zip(begin, end, stride, strict=True)):
        bit = 1 << i
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(a)
        else:
            if s == 0:
                raise ModelError("has a stride of 0: damaged file")
            index.append(slice(None if masks["begin"] & bit else a, None if masks["end"] & bit else b, s))
    return index


@op("StridedSlice")
def strided_slice(ctx: Context, node: TfNode, x: Value, begin: Value, end: Value, stride: Value) -> np.ndarray:
    """Part of an array."""
    if not isinstance(x, Array):
        raise ModelError("slices a picture in a way that is not supported")
    return np.asarray(x.data[tuple(slices(node, integers(begin), integers(end), integers(stride), x.data.ndim))])


@op("Slice")
def slice_(ctx: Context, node: TfNode, x: Value, begin: Value, size: Value) -> np.ndarray:
    """Part of an array by begin and size, -1 for the rest."""
    if not isinstance(x, Array):
        raise ModelError("slices a picture in a way that is not supported")
    starts, sizes = integers(begin), integers(size)
    if len(starts) != x.data.ndim or len(sizes) != x.data.ndim or min([*starts, 0]) < 0 or min([*sizes, 0]) < -1:
        raise ModelError("slices beyond its input: damaged file")
    return np.asarray(x.data[tuple(slice(a, None if n == -1 else a + n) for a, n in zip(starts, sizes, strict=True))])


@op("Prod")
def prod(ctx: Context, node: TfNode, x: Value, axes: Value) -> np.ndarray:
    """Product along axes."""
    return np.prod(plain(x), axis=tuple(integers(axes)), keepdims=node.attr_flag("keep_dims", False))


@op("Split")
def split(ctx: Context, node: TfNode, axis: Value, x: Value) -> list[np.ndarray]:
    """Equal parts along an axis."""
    n = node.attr_int("num_split")
    if not 1 <= n <= 4096:
        raise ModelError(f"splits into {n} parts: damaged file")
    return [np.asarray(a) for a in np.split(plain(x), n, axis=integer(axis))]


@op("SplitV")
def split_v(ctx: Context, node: TfNode, x: Value, sizes: Value, axis: Value) -> list[np.ndarray]:
    """Parts of given sizes along an axis, at most one of them -1."""
    along = integer(axis)
    ends = np.cumsum(split_sizes(integers(sizes, 4096), plain(x).shape[along]))
    return [np.asarray(a) for a in np.split(plain(x), ends[:-1], axis=along)]


def split_sizes(sizes: list[int], total: int) -> list[int]:
    """Sizes with -1 replaced by what is left."""
    rest = total - sum(n for n in sizes if n != -1)
    done = [rest if n == -1 else n for n in sizes]
    if sizes.count(-1) > 1 or sum(done) != total or min([*done, 0]) < 0 or not done:
        raise ModelError(f"splits {total} entries into parts of {sizes[:16]}: damaged file")
    return done


@op("NoOp")
def no_op(ctx: Context, node: TfNode, *_: Value) -> np.ndarray:
    """Nothing."""
    return np.zeros(0, np.float32)
