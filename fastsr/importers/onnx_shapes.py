"""ONNX operators on numbers known while importing: constants, and shape code over sizes of the picture.

Everything is evaluated with NumPy; arrays that hold a size (`Dim`) have dtype object, and only the arithmetic that shape code uses works on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import folding
from .context import register
from .folding import Evaluator, bounded, floored, integer, integers, plain, truncated
from .onnx_context import Context, OnnxNode, Value
from .onnx_schema import BFLOAT16, NUMPY_TYPES, tensor_array, type_name
from .values import Array, Dim, Filled, pack_dims

OPS: dict[str, Evaluator] = {}
op = partial(register, OPS)
Arg = Value | None
MAX_PARTS = 4096


def evaluate(ctx: Context, node: OnnxNode, args: list[Arg]) -> Any:
    """The value of a node whose inputs are known: an Array, a list of them for several outputs, or Filled."""
    return folding.evaluate(OPS, ctx, node, args, np.int64)


def data_of(value: Arg) -> np.ndarray:
    """Numbers, perhaps with sizes in them."""
    if not isinstance(value, Array):
        raise ModelError("mixes constants and pictures in a way that is not supported")
    return value.data


def listed(ctx: Context, node: OnnxNode, name: str, value: Arg, since: int) -> list[int] | None:
    """Integers that are an attribute before opset `since` and an input from then on; None when left out."""
    if node.has(name):
        return node.ints(name)
    return None if value is None or ctx.opset < since else integers(value, MAX_PARTS)


@op("Constant")
def constant(ctx: Context, node: OnnxNode) -> np.ndarray:
    """The value in the node's attributes."""
    if node.has("value"):
        return tensor_array(node.tensor("value"), ctx.folder)
    if node.has("value_float"):
        return np.array(node.float("value_float"), np.float32)
    if node.has("value_int"):
        return np.array(node.int("value_int"), np.int64)
    if node.has("value_floats"):
        return np.array(node.floats("value_floats"), np.float32)
    if node.has("value_ints"):
        return np.array(node.ints("value_ints"), np.int64)
    raise ModelError("has no numbers: only tensors, floats and integers are supported")


# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------


def _modulo(node: OnnxNode, a: Any, b: Any) -> Any:
    if a.dtype == object or b.dtype == object:
        return a % b
    if node.int("fmod", 0) or a.dtype.kind == "f":
        return np.fmod(a, b)
    return a - floored(a, b) * b


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b, "Div": truncated, "Max": np.maximum, "Min": np.minimum,
    "Sum": lambda a, b: a + b, "Pow": np.power,
}  # fmt: skip
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": np.equal, "Greater": np.greater, "Less": np.less, "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip


def _pairs(ctx: Context, a: np.ndarray, b: np.ndarray) -> None:
    if a.dtype != object and b.dtype != object and a.dtype != b.dtype:
        raise ModelError(f"combines constants of types {a.dtype} and {b.dtype}: damaged file")
    bounded(ctx, *np.broadcast_shapes(a.shape, b.shape), itemsize=2 * max(a.itemsize, b.itemsize))


@op(*BINARY, "Mod")
def arithmetic(ctx: Context, node: OnnxNode, *xs: Arg) -> Any:
    """Two arrays, or several for Max, Min and Sum, broadcast."""
    arrays = [data_of(x) for x in xs]
    many = node.op in ("Max", "Min", "Sum")
    if not arrays or (len(arrays) != 2 and not many):
        raise ModelError(f"has {len(arrays)} inputs: damaged file")
    out = arrays[0]
    for other in arrays[1:]:
        if node.op != "Pow" or out.dtype == object:
            _pairs(ctx, out, other)
        else:
            bounded(ctx, *np.broadcast_shapes(out.shape, other.shape), itemsize=8)
        symbolic = out.dtype == object or other.dtype == object
        if symbolic and node.op in ("Max", "Min"):
            out = _extreme(node.op == "Max", out, other)
            continue
        if symbolic and node.op == "Pow":
            raise ModelError("raises sizes of the picture to a power, which fastsr cannot follow")
        small = other.dtype.kind in "iu" and 0 <= other.min(initial=0) <= other.max(initial=0) <= 64
        if node.op == "Pow" and out.dtype.kind != "f" and not small:
            raise ModelError("raises integers to a power in a way that is not supported")
        kind = out.dtype
        out = np.asarray(_modulo(node, out, other) if node.op == "Mod" else BINARY[node.op](out, other))
        out = out.astype(kind) if node.op == "Pow" else out
    return out


def _extreme(most: bool, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Max or Min of sizes with numbers that no picture can reach: sizes are at least 1."""
    a, b = np.broadcast_arrays(a, b)
    out = np.empty(a.shape, object)
    for i in np.ndindex(a.shape):
        x, y = a[i], b[i]
        if not isinstance(x, Dim) and not isinstance(y, Dim):
            out[i] = max(x, y) if most else min(x, y)
            continue
        d, n = (x, y) if isinstance(x, Dim) else (y, x)
        if d == n or (not isinstance(n, Dim) and n <= 1 and isinstance(d.var, str) and d.a >= 1 and d.b >= 0):
            out[i] = d if most or d == n else n
            continue
        raise ModelError("compares sizes of the picture, which fastsr cannot follow")
    return out


@op(*COMPARE)
def compare(ctx: Context, node: OnnxNode, x: Arg, y: Arg) -> np.ndarray:
    """Two arrays, broadcast; a size differs from every number below 1."""
    a, b = data_of(x), data_of(y)
    _pairs(ctx, a, b)
    if a.dtype != object and b.dtype != object:
        return np.asarray(COMPARE[node.op](a, b))
    if node.op != "Equal":
        raise ModelError("compares sizes of the picture, which fastsr cannot follow")
    a, b = np.broadcast_arrays(a, b)
    return np.array([_equal(p, q) for p, q in zip(a.reshape(-1), b.reshape(-1), strict=True)], bool).reshape(a.shape)


def _equal(p: Any, q: Any) -> bool:
    symbolic = isinstance(p, Dim), isinstance(q, Dim)
    if p == q or not any(symbolic):
        return bool(p == q)
    number = q if symbolic[0] else p
    if all(symbolic) or number >= 1:
        raise ModelError("compares sizes of the picture, which fastsr cannot follow")
    return False


UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs, "Neg": lambda a: -a, "Sqrt": np.sqrt, "Reciprocal": lambda a: 1 / a, "Exp": np.exp, "Log": np.log, "Tanh": np.tanh,
    "Relu": lambda a: np.maximum(a, 0), "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Not": np.logical_not, "Sign": np.sign,
    "Sigmoid": lambda a: 1 / (1 + np.exp(-a)),
}  # fmt: skip


@op(*UNARY)
def unary(ctx: Context, node: OnnxNode, x: Arg) -> np.ndarray:
    """One array, element by element."""
    data = data_of(x)
    if data.dtype == object:
        if node.op not in ("Neg", "Floor", "Ceil"):
            raise ModelError("computes with sizes of the picture in a way that fastsr cannot follow")
        items = [_whole(d, node.op) for d in data.reshape(-1)]
        return pack_dims(items, data.shape, np.float32 if node.op != "Neg" else np.int64)
    if data.dtype.kind != "f" and node.op not in ("Abs", "Neg", "Relu", "Not", "Sign"):
        raise ModelError(f"is applied to {data.dtype}: damaged file")
    return np.asarray(UNARY[node.op](data)).astype(bool if node.op == "Not" else data.dtype, copy=False)


def _whole(d: Any, how: str) -> Any:
    if how == "Neg":
        return -d
    if isinstance(d, Dim):
        return d.floor() if how == "Floor" else -((-d).floor())
    return math.floor(d) if how == "Floor" else math.ceil(d)


@op("Identity", "Dropout")
def identity(ctx: Context, node: OnnxNode, x: Arg, *_: Arg) -> Any:
    """The same array, with the same name."""
    return x


@op("Clip")
def clip(ctx: Context, node: OnnxNode, x: Arg, low: Arg = None, high: Arg = None) -> np.ndarray:
    """Numbers kept within bounds."""
    data = plain(x)
    for name, bound, function in (("min", low, np.maximum), ("max", high, np.minimum)):
        if node.has(name) or bound is not None:
            data = function(data, np.asarray(node.float(name) if node.has(name) else plain(bound).item(), data.dtype))
    return data


@op("Cast")
def cast(ctx: Context, node: OnnxNode, x: Arg) -> np.ndarray:
    """To another type; sizes that become integers are rounded down."""
    target, data = node.int("to"), data_of(x)
    dtype = np.float32 if target == BFLOAT16 else NUMPY_TYPES.get(target)
    if dtype is None:
        raise ModelError(f"turns numbers into {type_name(target)}: not supported")
    if data.dtype != object:
        bounded(ctx, data.size)
        return data.astype(dtype)
    whole = np.dtype(dtype).kind in "iu"
    return pack_dims([(d.floor() if isinstance(d, Dim) else int(d)) if whole else d for d in data.reshape(-1)], data.shape, dtype)


@op("CastLike")
def cast_like(ctx: Context, node: OnnxNode, x: Arg, y: Arg) -> np.ndarray:
    """To the type of another constant."""
    return plain(x).astype(plain(y).dtype)


@op("Where")
def where(ctx: Context, node: OnnxNode, condition: Arg, x: Arg, y: Arg) -> np.ndarray:
    """One or the other, by a condition."""
    c, a, b = plain(condition), data_of(x), data_of(y)
    bounded(ctx, *np.broadcast_shapes(c.shape, a.shape, b.shape), itemsize=2 * max(a.itemsize, b.itemsize))
    return np.where(c.astype(bool), a, b)


# ---- shapes ------------------------------------------------------------------------------------------------------------------------------------


def shape_of(value: Arg) -> list[Any]:
    """Sizes of a tensor's axes."""
    if value is None:
        raise ModelError("has no input: damaged file")
    return list(value.data.shape if isinstance(value, Array) else value.shape)


@op("Shape")
def shape(ctx: Context, node: OnnxNode, x: Arg) -> np.ndarray:
    """The sizes of a picture or constant."""
    sizes = shape_of(x)
    sizes = sizes[slice(node.int("start", 0), node.int("end", len(sizes)))]
    return pack_dims(sizes, (len(sizes),), np.int64)


@op("Size")
def size(ctx: Context, node: OnnxNode, x: Arg) -> np.ndarray:
    """How many numbers there are."""
    total: Any = 1
    for n in shape_of(x):
        total = n * total
    return pack_dims([total], (), np.int64)


@op("ConstantOfShape")
def constant_of_shape(ctx: Context, node: OnnxNode, dims: Arg) -> Any:
    """One number, repeated."""
    number = tensor_array(node.tensor("value"), ctx.folder) if node.has("value") else np.zeros(1, np.float32)
    if number.size != 1:
        raise ModelError("fills with more than one number: damaged file")
    return filled(ctx, number.reshape(()), data_of(dims))


def filled(ctx: Context, number: np.ndarray, dims: np.ndarray) -> Any:
    """An array of one number, or Filled when its shape depends on the picture."""
    if dims.dtype == object:
        return Filled(number, tuple(dims.reshape(-1)))
    sizes = integers(Array(dims))
    bounded(ctx, *sizes)
    return np.full(sizes, number)


@op("Expand")
def expand(ctx: Context, node: OnnxNode, x: Arg, dims: Arg) -> Any:
    """Repeated along axes of size 1."""
    data, target = data_of(x), data_of(dims)
    if target.dtype == object:
        if data.size != 1 or data.dtype == object:
            raise ModelError("repeats a constant over the picture, which is not supported")
        return filled(ctx, data.reshape(()), target)
    sizes = np.broadcast_shapes(data.shape, tuple(integers(Array(target))))
    bounded(ctx, *sizes)
    return np.broadcast_to(data, sizes).copy()


@op("Tile")
def tile(ctx: Context, node: OnnxNode, x: Arg, repeats: Arg) -> np.ndarray:
    """Repeated along every axis."""
    data, counts = data_of(x), integers(repeats)
    bounded(ctx, data.size, *counts)
    return np.tile(data, counts)


@op("Range")
def range_(ctx: Context, node: OnnxNode, start: Arg, limit: Arg, delta: Arg) -> np.ndarray:
    """Integers start, start + delta, ... below limit."""
    a, b, step = integer(start), integer(limit), integer(delta)
    if step == 0:
        raise ModelError("has a step of 0: damaged file")
    bounded(ctx, max(-(-(b - a) // step), 0))
    return np.arange(a, b, step, dtype=plain(start).dtype)


@op("Concat")
def concat(ctx: Context, node: OnnxNode, *xs: Arg) -> np.ndarray:
    """Arrays joined along an axis."""
    arrays = [data_of(x) for x in xs]
    if not arrays:
        raise ModelError("joins nothing: damaged file")
    bounded(ctx, sum(a.size for a in arrays))
    return np.concatenate([a.astype(object) for a in arrays] if any(a.dtype == object for a in arrays) else arrays, axis=node.int("axis"))


@op("Reshape")
def reshape(ctx: Context, node: OnnxNode, x: Arg, target: Arg) -> np.ndarray:
    """The same numbers in another shape."""
    data, sizes = data_of(x), integers(target)
    if not node.int("allowzero", 0):
        sizes = [data.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return data.reshape(sizes)


@op("Flatten")
def flatten(ctx: Context, node: OnnxNode, x: Arg) -> np.ndarray:
    """Two axes."""
    data, axis = data_of(x), node.int("axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(math.prod(data.shape[:axis]), -1)


@op("Squeeze")
def squeeze(ctx: Context, node: OnnxNode, x: Arg, axes: Arg = None) -> np.ndarray:
    """Without axes of size 1."""
    drop = listed(ctx, node, "axes", axes, 13)
    return np.squeeze(data_of(x), axis=None if drop is None else tuple(drop))


@op("Unsqueeze")
def unsqueeze(ctx: Context, node: OnnxNode, x: Arg, axes: Arg = None) -> np.ndarray:
    """With new axes of size 1."""
    new = listed(ctx, node, "axes", axes, 13)
    if new is None or len(new) > 8:
        raise ModelError("has no axes: damaged file")
    return np.expand_dims(data_of(x), tuple(new))


@op("Transpose")
def transpose(ctx: Context, node: OnnxNode, x: Arg) -> np.ndarray:
    """Axes in another order."""
    return np.transpose(data_of(x), node.ints("perm") if node.has("perm") else None)


@op("Gather")
def gather(ctx: Context, node: OnnxNode, x: Arg, indices: Arg) -> np.ndarray:
    """Entries by index."""
    data, index, axis = data_of(x), plain(indices), node.int("axis", 0)
    if index.dtype.kind not in "iu" or index.size > 65536:
        raise ModelError("gathers by numbers that are no indices: damaged file")
    n = data.shape[axis]
    if index.size and not (int(index.min()) >= -n and int(index.max()) < n):
        raise ModelError("gathers beyond the end of an array: damaged file")
    bounded(ctx, index.size, data.size // max(n, 1))
    return np.take(data, index, axis=axis)


@op("Slice")
def slice_(ctx: Context, node: OnnxNode, x: Arg, *bounds: Arg) -> np.ndarray:
    """Part of an array."""
    data = data_of(x)
    return np.asarray(data[tuple(slice_index(ctx, node, bounds, list(data.shape)))])


def slice_index(ctx: Context, node: OnnxNode, bounds: tuple[Arg, ...], shape: list[Any]) -> list[slice]:
    """One Python slice for every axis. Ends beyond +-2^30 stand for the end of the axis; all may hold sizes."""
    if ctx.opset < 10 or node.has("starts"):
        starts: list[Any] = node.ints("starts")
        ends: list[Any] = node.ints("ends")
        axes, steps = node.ints("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        if not 2 <= len(bounds) <= 4:
            raise ModelError(f"has {len(bounds) + 1} inputs: damaged file")
        given = [*bounds, None, None][:4]
        starts, ends = (list(data_of(b).reshape(-1)) for b in given[:2])
        axes = list(range(len(starts))) if given[2] is None else integers(given[2])
        steps = [1] * len(starts) if given[3] is None else integers(given[3])
    if not len(starts) == len(ends) == len(axes) == len(steps) or len(starts) > 8:
        raise ModelError("has starts, ends, axes and steps of different lengths: damaged file")
    index = [slice(None)] * len(shape)
    for a, b, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0 or not -len(shape) <= axis < len(shape) or isinstance(a, float) or isinstance(b, float):
            raise ModelError(f"cuts along axis {axis} with step {step}: damaged file")
        first, last = _end(a, None if step > 0 else -1), _end(b, None)
        if step < 0 and last is not None and not isinstance(last, Dim) and not isinstance(shape[axis], Dim) and last < -shape[axis]:
            last = None
        index[axis] = slice(first, last, step)
    return index


def _end(n: Any, beyond: int | None) -> Any:
    if isinstance(n, Dim):
        return n
    n = int(n)
    return beyond if n > 1 << 30 else None if n < -(1 << 30) else n


@op("Split")
def split(ctx: Context, node: OnnxNode, x: Arg, sizes: Arg = None) -> list[np.ndarray]:
    """Parts along an axis."""
    data, axis = data_of(x), node.int("axis", 0)
    parts = split_sizes(ctx, node, sizes, data.shape[axis])
    return [np.asarray(a) for a in np.split(data, np.cumsum(parts)[:-1], axis=axis)]


def split_sizes(ctx: Context, node: OnnxNode, sizes: Arg, total: int) -> list[int]:
    """The sizes of Split's parts: given, or equal with a smaller last one."""
    parts = listed(ctx, node, "split", sizes, 13)
    n = len(node.outputs)
    if n > MAX_PARTS:
        raise ModelError(f"makes {n} parts: damaged file")
    if parts is None:
        each = -(-total // n)
        parts = [each] * (n - 1) + [total - each * (n - 1)]
    if len(parts) != n or sum(parts) != total or min(parts) < 0:
        raise ModelError(f"splits {total} entries into parts of {parts[:16]}: damaged file")
    return parts


@op("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean")
def reduce(ctx: Context, node: OnnxNode, x: Arg, axes: Arg = None) -> np.ndarray:
    """One number for all entries along axes."""
    data = plain(x)
    along = listed(ctx, node, "axes", axes, 13 if node.op == "ReduceSum" else 18)
    if along is None and node.int("noop_with_empty_axes", 0):
        return data
    function: Any = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceMean": np.mean}[node.op]
    return np.asarray(function(data, axis=None if along is None else tuple(along), keepdims=bool(node.int("keepdims", 1)))).astype(data.dtype)


# ---- quantised constants -----------------------------------------------------------------------------------------------------------------------


def _along(data: np.ndarray, scale: np.ndarray, axis: int) -> list[int]:
    if scale.size == 1:
        return []
    if scale.ndim != 1 or not -data.ndim <= axis < data.ndim or scale.size != data.shape[axis]:
        raise ModelError(f"has {scale.size} scales for a constant of shape {list(data.shape)}: not supported")
    return [scale.size if i == axis % data.ndim else 1 for i in range(data.ndim)]


def _parameters(node: OnnxNode, data: np.ndarray, scale: Arg, zero: Arg, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point in a shape that goes with the constant."""
    s = plain(scale)
    z = plain(zero) if zero is not None else np.zeros(s.shape, dtype)
    if s.dtype.kind != "f" or not np.isfinite(s).all() or not (s > 0).all():
        raise ModelError("has a scale that is not positive: damaged file")
    if s.size != z.size or z.dtype.kind not in "iu" or node.int("block_size", 0):
        raise ModelError(f"has {s.size} scales and {z.size} zero points of {z.dtype}: not supported")
    shape = _along(data, s, node.int("axis", 1))
    return s.astype(np.float32).reshape(shape), z.reshape(shape)


@op("DequantizeLinear")
def dequantize_linear(ctx: Context, node: OnnxNode, x: Arg, scale: Arg, zero: Arg = None) -> np.ndarray:
    """(x - zero point) scale."""
    data = plain(x)
    s, z = _parameters(node, data, scale, zero, data.dtype)
    if data.dtype.kind not in "iu" or z.dtype != data.dtype:
        raise ModelError(f"makes numbers from {data.dtype} by a zero point of {z.dtype}: damaged file")
    bounded(ctx, data.size)
    return (data.astype(np.int64) - z.astype(np.int64)).astype(np.float32) * s


@op("QuantizeLinear")
def quantize_linear(ctx: Context, node: OnnxNode, x: Arg, scale: Arg, zero: Arg = None) -> np.ndarray:
    """x / scale, rounded half to even, plus the zero point, within the range of its type."""
    data = plain(x)
    if data.dtype.kind != "f" or not np.isfinite(data).all() or (zero is None and node.int("output_dtype", 2) != 2):
        raise ModelError(f"quantises {data.dtype} in a way that is not supported")
    s, z = _parameters(node, data, scale, zero, np.uint8)
    bounded(ctx, data.size)
    info = np.iinfo(z.dtype)
    return np.clip(np.rint(data.astype(np.float32) / s) + z.astype(np.float64), info.min, info.max).astype(z.dtype)
