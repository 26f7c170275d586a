"""TensorFlow Lite's convolutions, matrices and pooling, said in ONNX's terms."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_conv, onnx_whole
from .context import register
from .onnx_values import Axis, Picture, product
from .onnx_values import reshape as reshaped
from .onnx_views import settled
from .tflite_context import Args, Handler, TfliteContext, TfliteNode, nhwc, whole
from .tflite_quantised import bias, finish, for_convolution, parameter
from .values import Dim, ceil_div

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
SAME, VALID = 0, 1
LARGEST = 4096
LARGEST_WINDOW = 1024


def movement(node: TfliteNode) -> dict[str, Any]:
    """ONNX's attributes for the padding and the steps of a window."""
    padding, strides = node.int("padding"), [node.int("stride_h"), node.int("stride_w")]
    dilations = [node.int(f"dilation_{a}") if node.has("dilation_h") else 1 for a in "hw"]
    if padding not in (SAME, VALID):
        raise ModelError(f"has the padding {padding}, which is not known")
    if not all(1 <= n <= LARGEST for n in (*strides, *dilations)):
        raise ModelError(f"has the strides {strides} and dilations {dilations}: damaged file")
    return {"strides": strides, "dilations": dilations, "auto_pad": "SAME_UPPER" if padding == SAME else "VALID"}


def filter_of(ctx: TfliteContext, node: TfliteNode, k: int, rank: int = 4) -> None:
    """Check the shape of a filter."""
    shape = ctx.tensor(node, k).shape
    if len(shape) != rank or 0 in shape:
        raise ModelError(f"has a filter of shape {shape}: damaged file")


def convolved(ctx: TfliteContext, node: TfliteNode, args: Args, arrange: Any, x: Picture, group: int = 0, **attrs: Any) -> Picture:
    """The convolution of input 0, `x`, with input 1 and the bias in input 2. group: 0 for as many as the channels make."""
    value, w = parameter(ctx, node, 1, arrange, 0, x.name in ctx.rounded)
    b = bias(ctx, node, 2, x, ctx.tensor(node, 1), bool(value.name))
    group = group or max(x.channels // w.shape[1], 1)
    core = ctx.spell(node, "Conv", group=group, **attrs)
    return onnx_conv.conv(ctx, core, [ctx.nchw(node, x), value, *([] if b is None else [b])])


@op("CONV_2D")
def conv(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Filter (K, kh, kw, C / groups), bias."""
    filter_of(ctx, node, 1)
    x = for_convolution(ctx, node, ctx.picture(node, args))
    y = convolved(ctx, node, args, lambda w: w.transpose(0, 3, 1, 2), x, **movement(node))
    return finish(ctx, node, nhwc(y), node.int("fused"))


@op("DEPTHWISE_CONV_2D")
def depthwise(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Filter (1, kh, kw, C multiplier), bias: a convolution with C groups."""
    filter_of(ctx, node, 1)
    x = for_convolution(ctx, node, ctx.picture(node, args))
    if ctx.tensor(node, 1).shape[0] != 1:
        raise ModelError(f"has a filter of shape {ctx.tensor(node, 1).shape}: damaged file")
    y = convolved(ctx, node, args, lambda w: w.transpose(3, 0, 1, 2), x, x.channels, **movement(node))
    return finish(ctx, node, nhwc(y), node.int("fused"))


# ---- matrices ----------------------------------------------------------------------------------------------------------------------------------


@op("FULLY_CONNECTED")
def fully_connected(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """A matrix (K, C) that mixes the channels of each pixel, bias: a 1x1 convolution. Other axes may be joined to one."""
    filter_of(ctx, node, 1, 2)
    if node.int("weights_format"):
        raise ModelError("stores its matrix in an order of its own (weights_format): not supported")
    x = ctx.picture(node, args)
    k, c = ctx.tensor(node, 1).shape
    channels = x.parts["C"]
    flat: Axis = sum(x.axes, ())
    if x.channels != c or flat[len(flat) - len(channels) :] != channels:
        raise ModelError(f"multiplies a picture of axes {x.layout or '?'} by a matrix of shape {[k, c]}: only channels can be mixed")
    outer = flat[: len(flat) - len(channels)]
    if outer != x.parts["N"] + x.parts["H"] + x.parts["W"]:
        raise ModelError("multiplies pixels that were moved by a matrix: not supported")
    last = not x.axes or x.axes[-1] == channels
    whole_x = for_convolution(ctx, node, x.view(tuple(x.parts[a] for a in "NHWC")))
    y = finish(ctx, node, nhwc(convolved(ctx, node, args, lambda w: w[:, :, None, None], whole_x)), node.int("fused"))
    if node.flag("keep_num_dims"):
        if not last:
            raise ModelError("mixes more than the last axis: damaged file")
        return reshaped(y, [*x.shape[:-1], k], True)
    total: Any = product(outer)
    return reshaped(y, [total, k], True)


# ---- pooling -----------------------------------------------------------------------------------------------------------------------------------


def pool(ctx: TfliteContext, node: TfliteNode, args: Args) -> tuple[Picture, list[int], dict[str, Any], dict[str, Any]]:
    """The picture (N, C, H, W), the window, ONNX's attributes, and the size of the output."""
    x, attrs = ctx.nchw(node, ctx.picture(node, args)), movement(node)
    kernel, strides = [node.int("filter_h"), node.int("filter_w")], attrs["strides"]
    if min(kernel) < 1 or kernel[0] * kernel[1] > LARGEST_WINDOW:
        raise ModelError(f"has a window of {kernel}: not supported")
    out: dict[str, Any] = {}
    for a, n, s in zip("HW", kernel, strides, strict=True):
        out[a] = ceil_div(x.size[a], s) if attrs["auto_pad"] == "SAME_UPPER" else (x.size[a] - n) // s + 1
        if not isinstance(out[a], Dim) and out[a] < 1:
            raise ModelError("has no output pixel for the size that its input fixes: damaged file")
    return x, kernel, {**attrs, "kernel_shape": kernel}, out


@op("AVERAGE_POOL_2D")
def average_pool(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """The mean of a window, at borders of the pixels that are inside: a convolution by ones, over what it makes of a picture of ones."""
    x, fused = ctx.picture(node, args), node.int("fused")
    size = [node.int("filter_h"), node.int("filter_w")]
    if node.int("padding") == VALID and size == [x.size["H"], x.size["W"]]:
        y = onnx_whole.global_pool(ctx, ctx.spell(node, "GlobalAveragePool"), [ctx.nchw(node, x)])
        return finish(ctx, node, nhwc(y), fused)
    picture, kernel, attrs, out = pool(ctx, node, args)
    picture = settled(ctx, node, picture)
    c, same = picture.channels, attrs["auto_pad"] == "SAME_UPPER" and kernel != [1, 1]
    ctx.spend(4 * (c + 1) * kernel[0] * kernel[1])
    weight = np.full((c, 1, *kernel), 1 if same else 1 / (kernel[0] * kernel[1]), np.float32)
    name = ctx.add(node, "Conv", [picture.name, ctx.number(node, weight, "mean")], group=c, **attrs)
    if same:
        first = ctx.add(node, "Slice", [picture.name, *(ctx.number(node, [v], s, np.int64) for v, s in ((0, "from"), (1, "to"), (1, "axis")))])
        ones = ctx.add(node, "Clip", [first, ctx.number(node, 1, "one"), ctx.number(node, 1, "one")])
        count = ctx.add(node, "Conv", [ones, ctx.number(node, np.ones((1, 1, *kernel)), "count")], **attrs)
        name = ctx.add(node, "Div", [name, count])
    return finish(ctx, node, whole(name, picture, **out), fused)


@op("MAX_POOL_2D")
def max_pool(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """The largest of a window: the maximum around every pixel, and of these every stride-th."""
    x, kernel, attrs, out = pool(ctx, node, args)
    y = settled(ctx, node, x)
    same = attrs["auto_pad"] == "SAME_UPPER"
    before = [(k - 1) // 2 if same else 0 for k in kernel]
    pads = [*before, *(k - 1 - b if same else 0 for k, b in zip(kernel, before, strict=True))]
    largest = onnx_conv.pool(ctx, ctx.spell(node, "MaxPool", kernel_shape=kernel, pads=pads), [x])
    name = settled(ctx, node, largest).name
    if attrs["strides"] != [1, 1]:
        c = y.channels
        size = kernel if same else [1, 1]
        weight = np.zeros((c, 1, *size), np.float32)
        weight[:, :, (size[0] - 1) // 2, (size[1] - 1) // 2] = 1
        name = ctx.add(node, "Conv", [name, ctx.number(node, weight, "every")], group=c, **{**attrs, "kernel_shape": size})
    result = whole(name, y, **out)
    grid = ctx.grids.get(x.name)
    if grid is not None:
        ctx.grids[name] = grid
    return finish(ctx, node, result, node.int("fused"))


@op("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
def reduce(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """The mean of the channels, or of the whole picture, or its largest; the sum of the channels."""
    axes = ctx.ints(node, args, 1)
    name = {"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"}[node.op]
    core = ctx.spell(node, name, axes=axes, keepdims=int(node.flag("keep_dims")))
    result = onnx_whole.reduce(ctx, core, [settled(ctx, node, ctx.picture(node, args))])
    if isinstance(result, onnx_whole.Reduced):
        raise ModelError("takes a sum or a mean over rows or columns of the whole picture: only the mean of both is supported")
    return finish(ctx, node, result)
