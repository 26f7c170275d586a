"""TensorFlow operators over the whole picture or windows of it, and on pictures of one pixel, as in squeeze and excitation."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import tensorflow_ops, tensorflow_rearrange
from . import tensorflow_shapes as shapes
from .context import register
from .tensorflow_context import Context, TfNode
from .tensorflow_conv import padding
from .tensorflow_ops import Handler, broadcast, by_layout, data_format_of, formatted, spatial
from .tensorflow_rearrange import NEW
from .tensorflow_values import Picture, Value
from .values import Dim

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
FAR = 65536


def is_pixel(x: Value) -> bool:
    """Whether it is a picture of one pixel, whatever the network's input."""
    return isinstance(x, Picture) and all(not isinstance(x.size[a], Dim) and x.size[a] == 1 for a in "HW")


# ---- the whole picture -------------------------------------------------------------------------------------------------------------------------


@op("Mean", "Max")
def reduce(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """The mean or the largest of each channel over the whole picture, or the mean of the channels."""
    x, axes = ctx.picture(node, args), ctx.ints(node, args, 1)
    rank = len(x.layout)
    if not axes or not all(-rank <= a < rank for a in axes):
        raise ModelError(f"reduces the axes {axes[:8]} of {rank}: damaged file")
    letters = {x.layout[a] for a in axes}
    if letters == {"H", "W"}:
        ctx.emit("GlobalAveragePool" if node.op == "Mean" else "GlobalMaxPool", [x.name], node.name, node)
        out = x.like(node.name, H=1, W=1)
    elif letters == {"C"} and node.op == "Mean":
        weight = ctx.constant(NEW, np.full((1, x.channels, 1, 1), 1 / x.channels, np.float32), "mean", node.name)
        ctx.emit("Conv", [x.name, weight], node.name, node, kernel_shape=[1, 1])
        out = x.like(node.name, C=1)
    else:
        raise ModelError(f"reduces the axes {''.join(sorted(letters))} of a picture: only both of rows and columns, or the mean of channels, can be")
    keep = node.attr_flag("keep_dims", False)
    return out if keep else Picture(out.name, "".join(a for a in out.layout if a not in letters), out.size)


# ---- one pixel ---------------------------------------------------------------------------------------------------------------------------------


@op("MatMul")
def matmul(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """A matrix times the channels of one pixel (N, C): a 1x1 convolution."""
    x, value, matrix = ctx.picture(node, args), ctx.array(node, args, 1), ctx.numbers(node, args, 1)
    if x.layout != "NC" or node.attr_flag("transpose_a", False) or matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise ModelError("multiplies matrices: only fully convolutional networks can be run on pictures of any size")
    matrix = matrix if node.attr_flag("transpose_b", False) else matrix.T
    if matrix.shape[1] != x.channels or 0 in matrix.shape:
        raise ModelError(f"has a matrix of shape {list(matrix.shape)} for {x.channels} channels: damaged file")
    form = f"1x1 {matrix.shape}"
    ctx.emit("Conv", [x.name, ctx.constant(value, np.ascontiguousarray(matrix, np.float32)[:, :, None, None], form, node.name)], node.name, node,
             kernel_shape=[1, 1])  # fmt: skip
    return x.like(node.name, C=matrix.shape[0])


@op("BiasAdd", "BiasAddV1")
def bias_add(ctx: Context, node: TfNode, args: list[Value]) -> Any:
    """One number per channel, added; to (N, C) too."""
    x = args[0] if args else None
    if not isinstance(x, Picture) or x.layout != "NC":
        return tensorflow_ops.bias_add(ctx, node, args)
    out = tensorflow_ops.bias_add(ctx, node, [Picture(x.name, data_format_of(node), x.size), *args[1:]])
    return Picture(out.name, "NC", out.size)


def _axes_of_pixel(x: Picture, target: list[Any]) -> str | None:
    """The layout of one pixel in an array of that shape, None where there is none."""
    if not 2 <= len(target) <= 4:
        return None
    for layout in {2: ("NC",), 3: ("NHC", "NCH"), 4: ("NHWC", "NCHW")}[len(target)]:
        sizes = {"N": x.size["N"], "C": x.channels, "H": 1, "W": 1}
        if all(t == sizes[a] or (not isinstance(t, Dim) and t == -1) for t, a in zip(target, layout, strict=True)):
            return layout
    return None


@op("Reshape")
def reshape(ctx: Context, node: TfNode, args: list[Value]) -> Any:
    """One pixel with more or fewer axes of size 1; anything else as usual."""
    x = args[0] if args else None
    if isinstance(x, Picture) and is_pixel(x):
        layout = _axes_of_pixel(x, list(ctx.array(node, args, 1).data.reshape(-1)))
        if layout is not None:
            return Picture(x.name, layout, x.size)
    return tensorflow_rearrange.reshape(ctx, node, args)


@op("Squeeze")
def squeeze(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """One pixel without its axes of size 1, but N and C; anything else as usual."""
    x = ctx.picture(node, args)
    axes = node.attr_ints("squeeze_dims", [])
    rank = len(x.layout)
    if is_pixel(x) and axes and all(-rank <= a < rank for a in axes) and {x.layout[a] for a in axes} <= {"H", "W"}:
        return Picture(x.name, "".join(a for i, a in enumerate(x.layout) if i not in {k % rank for k in axes}), x.size)
    return tensorflow_rearrange.squeeze(ctx, node, args)


@op("ExpandDims")
def expand_dims(ctx: Context, node: TfNode, args: list[Value]) -> Any:
    """One pixel with another axis of size 1; anything else as usual."""
    x, axes = ctx.picture(node, args), ctx.ints(node, args, 1)
    missing = [a for a in "HW" if a not in x.layout]
    if not is_pixel(x) or not missing or len(axes) != 1 or x.layout not in ("NC", "NHC", "NCH"):
        return tensorflow_rearrange.expand_dims(ctx, node, args)
    at = axes[0] + len(x.layout) + 1 if axes[0] < 0 else axes[0]
    layout = x.layout[:at] + missing[0] + x.layout[at:]
    if not 0 < at <= len(x.layout) or layout not in ("NHC", "NCH", "NHWC", "NCHW", "NWHC", "NCWH"):
        raise ModelError(f"has the axis {axes[:4]} for {len(x.layout)} axes: not supported")
    return Picture(x.name, layout.replace("WH", "HW"), x.size)


@op("StridedSlice")
def strided_slice(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """(N, C) with two new axes; anything else as usual."""
    x = ctx.picture(node, args)
    if x.layout == "NC" and is_pixel(x):
        begin, end, stride = (ctx.ints(node, args, k) for k in (1, 2, 3))
        index = shapes.slices(node, begin, end, stride, 2)
        whole = slice(None)
        for layout, wanted in (("NHWC", [whole, None, None, whole]), ("NCHW", [whole, whole, None, None])):
            if len(index) == 4 and all(i is None if w is None else isinstance(i, slice) and i in (whole, slice(None, None, 1))
                                       for i, w in zip(index, wanted, strict=True)):  # fmt: skip
                return Picture(x.name, layout, x.size)
    return tensorflow_rearrange.strided_slice(ctx, node, args)


@op("Tile", "BroadcastTo")
def repeat(ctx: Context, node: TfNode, args: list[Value]) -> Value:
    """One pixel repeated to the size of another picture; anything else as usual."""
    x = args[0] if args else None
    if not isinstance(x, Picture) or len(x.layout) != 4 or not is_pixel(x):
        if node.op == "BroadcastTo":
            raise ModelError("repeats a picture in a way that is not supported")
        return tensorflow_rearrange.tile(ctx, node, args)
    size = dict(zip(x.layout, ctx.array(node, args, 1).data.reshape(-1).tolist(), strict=True))
    kept = {"N": 1, "C": 1} if node.op == "Tile" else {"N": x.size["N"], "C": x.channels}
    if all(not isinstance(size[a], Dim) and size[a] == 1 for a in "HW"):
        to = None
    else:
        to = ctx.sized(size["H"], size["W"])
        if to is None:
            raise ModelError("repeats a pixel to a size that no picture in the network has: not supported")
    if any(size[a] != kept[a] for a in "NC"):
        raise ModelError("repeats the batch or the channels, which is not supported")
    if to is None:
        return x
    ctx.emit("Resize", [x.name, "", "", to], node.name, node, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    return x.like(node.name, H=size["H"], W=size["W"])


# ---- arithmetic of statistics ------------------------------------------------------------------------------------------------------------------


@op("SquaredDifference")
def squared_difference(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """(x - y) squared."""
    x, y = ctx.picture(node, args), ctx.picture(node, args, 1)
    result = broadcast(ctx, x, y, node.name)
    d = ctx.emit("Sub", [x.name, y.name], ctx.fresh(f"{node.name}/difference"), node)
    ctx.emit("Mul", [d, d], node.name, node)
    return result


@op("Sqrt", "Rsqrt", "Reciprocal")
def root(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Square root, its inverse, or the inverse."""
    x = ctx.picture(node, args)
    name = x.name
    if node.op != "Reciprocal":
        name = ctx.emit("Sqrt", [name], node.name if node.op == "Sqrt" else ctx.fresh(f"{node.name}/root"), node)
    if node.op != "Sqrt":
        ctx.emit("Reciprocal", [name], node.name, node)
    return x.like(node.name)


# ---- windows -----------------------------------------------------------------------------------------------------------------------------------


@op("MaxPool", "AvgPool")
def pool(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """The largest or the mean of a window; pixels outside the picture do not count."""
    x, form = formatted(ctx, node, args), data_format_of(node)
    kernel, strides = spatial(node, "ksize", form), spatial(node, "strides", form)
    by_layout(form, node.attr_ints("ksize"))
    pads, out = padding(node, form, kernel, strides, [1, 1], x.size)
    if "pads" in pads and any(p >= kernel[i % 2] for i, p in enumerate(pads["pads"])):
        raise ModelError("pads by more than its window: damaged file")
    if node.op == "MaxPool" and "auto_pad" in pads and max(kernel) > 2:
        raise ModelError("pads by an amount that depends on the picture's size: not supported")
    if math.prod(kernel) > 1024:
        raise ModelError(f"has a window of {kernel}: not supported")
    ctx.spend(4 * x.channels * math.prod(kernel))
    ctx.emit("MaxPool" if node.op == "MaxPool" else "AveragePool", [x.name], node.name, node, kernel_shape=kernel, strides=strides, **pads)
    return x.like(node.name, **out)
