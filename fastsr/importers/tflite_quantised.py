"""Quantised values of TensorFlow Lite: a number q stands for scale * (q - zero point), one scale and zero point for a tensor.

While importing a quantised tensor is the real numbers that it stands for. Operators compute with these; where the file rounds, a QuantizeLinear and
a DequantizeLinear follow. Those are left out where the numbers are on the grid already, so moving pixels costs nothing. Before a convolution they
are put in again, for passes/quantised_conv.py to see what the integers are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ModelError
from .onnx_context import OnnxNode
from .onnx_ops import like, settled
from .onnx_values import Picture
from .tflite_context import Grid, TfliteContext, TfliteNode
from .tflite_schema import Tensor
from .values import Array

FUSED = {0: "", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}
BOUNDS = {"RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}
"""Activations that cut numbers off -> the smallest and the largest number."""


def real(tensor: Tensor, data: np.ndarray, axis: int = -1, copies: int = 1) -> np.ndarray:
    """The float32 numbers that a constant stands for; integers that are not quantised become int64.

    axis: which axis of `data` several scales belong to, -1 for what the tensor says; its channels are there `copies` times.
    """
    if tensor.quantised:
        if data.dtype.kind not in "iu":
            raise ModelError(f"constant '{tensor.name}' of type {tensor.type} is quantised: damaged file")
        axis = tensor.axis if axis < 0 else axis
        shape = [-1 if i == axis else 1 for i in range(data.ndim)] if tensor.scale.size > 1 else []
        scale, zero = (_vector(a, t, copies).reshape(shape) for a, t in ((tensor.scale, np.float32), (tensor.zero, np.int64)))
        return (data.astype(np.int64) - zero).astype(np.float32) * scale
    if data.dtype.kind in "iu":
        return data.astype(np.int64)
    return data.astype(np.float32) if data.dtype.kind == "f" else data


def on_grid(ctx: TfliteContext, node: OnnxNode, x: Picture, grid: Grid, always: bool = False) -> Picture:
    """The picture rounded to a grid; itself where it is on it already, unless a DequantizeLinear has to make it (`always`)."""
    known = ctx.grids.get(x.name)
    if known is not None and grid.holds(known) and not (always and x.name not in ctx.rounded):
        return x
    x = settled(ctx, node, x)
    names = [ctx.number(node, grid.scale, "scale"), ctx.number(node, grid.zero, "zero", grid.dtype)]
    quantised = ctx.add(node, "QuantizeLinear", [x.name, *names])
    name = ctx.add(node, "DequantizeLinear", [quantised, *names])
    ctx.grids[name] = ctx.grids[quantised] = grid
    ctx.rounded.add(name)
    return like(x, name)


def for_convolution(ctx: TfliteContext, node: OnnxNode, x: Picture) -> Picture:
    """A picture with whole letters as axes; one of integers of 8 bits as the result of a DequantizeLinear."""
    grid, y = ctx.grids.get(x.name), settled(ctx, node, x)
    if grid is None or grid.dtype.itemsize > 1:
        return y
    ctx.grids.setdefault(y.name, grid)
    return on_grid(ctx, node, y, grid, always=True)


def cut_off(ctx: TfliteContext, node: OnnxNode, x: Picture, low: float | None, high: float | None, grid: Grid | None = None) -> Picture:
    """Numbers kept within bounds, those of a grid within its own numbers next to them; bounds that the grid has anyway are left out."""
    if grid is not None:
        low, high = (None if b is None else float(np.floor(np.float32(b) / grid.scale + np.float32(0.5)) * grid.scale) for b in (low, high))
        low = None if low is not None and low <= float(grid.low * grid.scale) else low
        high = None if high is not None and high >= float(grid.high * grid.scale) else high
    if low is None and high is None:
        return x
    x = settled(ctx, node, x)
    if low == 0 and high is None:
        return like(x, ctx.add(node, "Relu", [x.name]))
    names = ["" if b is None else ctx.number(node, b, stem) for b, stem in ((low, "min"), (high, "max"))]
    return like(x, ctx.add(node, "Clip", [x.name, *(names if names[-1] else names[:1])]))


def finish(ctx: TfliteContext, node: TfliteNode, x: Picture, fused: int = 0, k: int = 0) -> Picture:
    """The result k of an operator from what it computes: with its fused activation, and rounded where the tensor is quantised."""
    if fused not in FUSED:
        raise ModelError(f"has the fused activation {fused}, which is not known")
    tensor = node.results[k]
    grid = Grid.of(tensor) if tensor.quantised else None
    if grid is None and tensor.type not in ("float32", "float16"):
        raise ModelError(f"makes {tensor.type} from pixels without a scale: only floating-point and quantised numbers can be")
    how = FUSED[fused]
    if how == "TANH":
        x = settled(ctx, node, x)
        x = like(x, ctx.add(node, "Tanh", [x.name]))
    elif how:
        x = cut_off(ctx, node, x, *BOUNDS[how], grid)
    return x if grid is None else on_grid(ctx, node, x, grid)


# ---- parameters of convolutions ----------------------------------------------------------------------------------------------------------------


def parameter(ctx: TfliteContext, node: TfliteNode, k: int, arrange: Any, axis: int, integer: bool, copies: int = 1) -> tuple[Array, np.ndarray]:
    """A filter in another order of axes, as (constant, float32 numbers).

    arrange: from the file's order of axes to the Graph's. axis: which of the latter several scales belong to. integer: the Graph has the integers,
    with a DequantizeLinear. copies: how many times `arrange` makes the channels that several scales belong to.
    """
    number, tensor = node.operator.inputs[k], ctx.tensor(node, k)
    data = ctx.stored(number)
    if data is None:
        known = ctx.found.get(number)
        if not isinstance(known, Array):
            raise ModelError(f"input {k} is computed from the picture, where a constant is expected: fastsr cannot run this")
        if list(known.data.shape) != tensor.shape or known.data.dtype.kind != "f":
            raise ModelError(f"has a filter of shape {list(known.data.shape)} of {known.data.dtype}, not {tensor.shape} of float32: damaged file")
        return Array(arrange(known.data)), arrange(known.data)
    if data.dtype.kind not in "fiu":
        raise ModelError(f"has a filter of type {tensor.type}: damaged file")
    if tensor.quantised and data.dtype.kind in "iu":
        info = np.iinfo(data.dtype)
        if tensor.zero.min() < info.min or tensor.zero.max() > info.max:
            raise ModelError(f"has a filter with the zero point {int(tensor.zero[0])}, which {tensor.type} cannot hold: damaged file")
    numbers = real(tensor, arrange(data), axis, copies)
    form = f"{tensor.name}/{node.op}"
    if integer and tensor.type in ("int8", "uint8", "int4") and tensor.quantised:
        parts = {"integers": arrange(data), "scale": _vector(tensor.scale, np.float32, copies), "zero": _vector(tensor.zero, data.dtype, copies)}
        name = ctx.fresh(form)
        ctx.dequantised[name] = [(ctx.fresh(f"{name}/{part}"), a) for part, a in parts.items()], axis
        return Array(numbers, name), numbers
    return Array(numbers), numbers


def _vector(values: np.ndarray, dtype: Any, copies: int = 1) -> np.ndarray:
    out = np.ascontiguousarray(values).astype(dtype)
    return out.reshape(()) if out.size == 1 else np.tile(out, copies)


def bias(ctx: TfliteContext, node: TfliteNode, k: int, x: Picture, weight: Tensor, integer: bool, copies: int = 1) -> Array | None:
    """The bias of a convolution, None for none. That of integers has the scale of the picture times the filter's, whatever its tensor says."""
    if not ctx.given_at(node, k):
        return None
    tensor = ctx.tensor(node, k)
    data = ctx.stored(node.operator.inputs[k])
    if data is None:
        known = ctx.found.get(node.operator.inputs[k])
        if not isinstance(known, Array):
            raise ModelError(f"input {k} is computed from the picture, where a constant is expected: fastsr cannot run this")
        return Array(np.tile(known.data, copies))
    grid = ctx.grids.get(x.name)
    if data.dtype.kind not in "iu" or grid is None:
        return Array(np.tile(real(tensor, data).astype(np.float32), copies))
    scale = (grid.scale * weight.scale).astype(np.float32)
    if data.ndim != 1 or not scale.size or scale.size not in (1, data.size):
        raise ModelError(f"has a bias of shape {list(data.shape)} for {scale.size} scales: damaged file")
    data = np.tile(data, copies)
    scale = np.tile(scale, copies) if scale.size > 1 else scale
    numbers = data.astype(np.float32) * scale
    if not integer or data.dtype != np.int32:
        return Array(numbers)
    name = ctx.fresh(f"{tensor.name}/{node.op} bias")
    parts = {"integers": data, "scale": _vector(scale, np.float32)}
    ctx.dequantised[name] = [(ctx.fresh(f"{name}/{part}"), a) for part, a in parts.items()], 0
    return Array(numbers, name)
