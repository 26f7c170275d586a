"""ONNX operators on quantised pictures: QuantizeLinear and its kin, and those of ONNX Runtime's quantiser (domain com.microsoft).

The latter are written as DequantizeLinear, the operator on real numbers, QuantizeLinear, which is what they mean.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_shapes as shapes
from .context import register
from .onnx_context import Context, Handler, OnnxNode
from .onnx_conv import weights, window
from .onnx_ops import Args, combine, like
from .onnx_values import Picture
from .onnx_views import arranged, settled
from .values import Array

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
MICROSOFT: dict[str, Handler] = {}
microsoft = partial(register, MICROSOFT)


@op("QuantizeLinear", "DequantizeLinear")
def linear(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """To integers by a scale and a zero point, and back."""
    x = settled(ctx, node, ctx.picture(node, args))
    scale = ctx.numbers(node, args, 1)
    axis = node.int("axis", 1)
    if scale.size != 1 and (scale.size != x.channels or x.layout[axis % max(x.rank, 1)] != "C"):
        raise ModelError(f"has {scale.size} scales for {x.channels} channels: only one number, or one per channel, is supported")
    names = [x.name, quantity(ctx, node, args, 1)]
    if ctx.given(args, 2):
        names.append(quantity(ctx, node, args, 2))
    extra = {k: node.int(k) for k in ("saturate", "output_dtype") if node.has(k)}
    return like(x, ctx.add(node, node.op, names, node.output, axis=1, **extra))


def quantity(ctx: Context, node: OnnxNode, args: Args, k: int) -> str:
    """A scale, zero point or integer bias as a constant of its own type; returns its name."""
    data = ctx.numbers(node, args, k)
    if data.dtype.kind not in "fiu" or data.ndim > 1:
        raise ModelError(f"has a scale or zero point of shape {list(data.shape)} and type {data.dtype}: damaged file")
    if data.dtype.kind == "f":
        data = data.astype(np.float32)
        if not (data > 0).all():
            raise ModelError("has a scale that is not positive: damaged file")
    return ctx.constant(ctx.array(node, args, k), data, "plain", node.output)


@op("QLinearConv")
def quantised_conv(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Convolution of integers: x, its scale and zero point, the filter's, the output's, and a bias."""
    x = arranged(ctx, node, ctx.picture(node, args))
    value, w = weights(ctx, node, args, 3)
    k, cg, kh, kw = w.shape
    group = node.int("group", 1)
    if group < 1 or cg * group != x.channels or k % group or w.dtype.kind not in "iu" or len(args) < 8:
        raise ModelError(f"has a filter of shape {list(w.shape)} in {group} groups for {x.channels} channels: damaged file")
    strides, dilations, pads, out = window(node, [kh, kw], x)
    names = [x.name, *(ctx.constant(value, w, "plain", node.output) if i == 3 else quantity(ctx, node, args, i) for i in range(1, 8))]
    if ctx.given(args, 8):
        names.append(quantity(ctx, node, args, 8))
    ctx.add(node, "QLinearConv", names, node.output, strides=strides, dilations=dilations, group=group, kernel_shape=[kh, kw], **pads)
    return like(x, node.output, C=k, **out)


CHOOSING = ("Split", "Slice", "Gather", "MaxPool", "Resize", "Upsample")
"""Operators that only choose pixels, Resize and Upsample in mode nearest."""


def translate(ctx: Context, node: OnnxNode, args: Args, handler: Handler) -> Any:
    """The result of an operator; one that chooses pixels of integers does it with the real numbers that these stand for, which is the same."""
    x = args[0] if args else None
    names = ctx.quantised.get(x.name) if isinstance(x, Picture) and node.op in CHOOSING else None
    if names is None or not isinstance(x, Picture) or (node.op in ("Resize", "Upsample") and node.text("mode", "nearest") != "nearest"):
        return handler(ctx, node, args)
    real = Picture(ctx.add(node, "DequantizeLinear", [x.name, *names]), x.size, x.parts, x.axes)
    result = handler(ctx, node, [real, *args[1:]])
    if isinstance(result, list):
        return [_quantised(ctx, node, p, names) for p in result]
    return _quantised(ctx, node, result, names)


def _quantised(ctx: Context, node: OnnxNode, x: Picture, names: list[str]) -> Picture:
    return Picture(ctx.add(node, "QuantizeLinear", [x.name, *names]), x.size, x.parts, x.axes)


# ---- ONNX Runtime's own ------------------------------------------------------------------------------------------------------------------------

REAL = {"QLinearAdd": "Add", "QLinearMul": "Mul", "QLinearSigmoid": "Sigmoid", "QLinearLeakyRelu": "LeakyRelu"}


def _parameters(ctx: Context, node: OnnxNode, args: Args, k: int) -> list[str]:
    """Scale k and zero point k + 1, each one number; without a zero point, 0 of uint8."""
    if ctx.numbers(node, args, k).size != 1 or (ctx.given(args, k + 1) and ctx.numbers(node, args, k + 1).size != 1):
        raise ModelError("has several scales: only one number is supported")
    zero = quantity(ctx, node, args, k + 1) if ctx.given(args, k + 1) else ctx.number(node, 0, "zero", np.uint8)
    return [quantity(ctx, node, args, k), zero]


def _real(ctx: Context, node: OnnxNode, args: Args, k: int) -> Picture | Array:
    """Argument k, quantised by scale k + 1 and zero point k + 2, as real numbers."""
    value = args[k] if k < len(args) else None
    if isinstance(value, Array):
        zero = args[k + 2] if k + 2 < len(args) else None
        return Array(shapes.dequantize_linear(ctx, node, value, args[k + 1], zero))
    x = settled(ctx, node, ctx.picture(node, args, k))
    return like(x, ctx.add(node, "DequantizeLinear", [x.name, *_parameters(ctx, node, args, k + 1)]))


@microsoft("QLinearAdd", "QLinearMul")
def two(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Two quantised pictures, or a picture and a constant."""
    result = combine(ctx, node, REAL[node.op], [_real(ctx, node, args, 0), _real(ctx, node, args, 3)], ctx.fresh(f"{node.output}/{REAL[node.op]}"))
    name = ctx.add(node, "QuantizeLinear", [result.name, *_parameters(ctx, node, args, 6)], node.output)
    return Picture(name, result.size, result.parts, result.axes)


@microsoft("QLinearSigmoid", "QLinearLeakyRelu")
def one(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """An activation of a quantised picture."""
    ctx.picture(node, args)
    x = _real(ctx, node, args, 0)
    assert isinstance(x, Picture)
    attrs: dict[str, Any] = {"alpha": node.float("alpha", 0.01)} if node.op == "QLinearLeakyRelu" else {}
    name = ctx.add(node, REAL[node.op], [x.name], **attrs)
    return like(x, ctx.add(node, "QuantizeLinear", [name, *_parameters(ctx, node, args, 3)], node.output))


@microsoft("QLinearConcat")
def concat(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Quantised pictures joined by channels: scale and zero point of the result, then each with its own."""
    if len(args) < 5 or len(args) % 3 != 2:
        raise ModelError(f"has {len(args)} inputs: damaged file")
    pictures = [p for k in range(2, len(args), 3) if isinstance(p := _real(ctx, node, args, k), Picture)]
    if len(pictures) != len(args) // 3:
        raise ModelError("joins constants with pictures, which is not supported")
    x = pictures[0]
    axis = node.int("axis")
    if not -x.rank <= axis < x.rank or x.layout[axis] != "C" or any(p.layout != x.layout for p in pictures):
        raise ModelError("joins pictures side by side, only channels can be joined")
    total = sum(p.channels for p in pictures)
    if total > 65536:
        raise ModelError(f"makes {total} channels: damaged file")
    name = ctx.add(node, "Concat", [p.name for p in pictures], axis=1)
    return like(x, ctx.add(node, "QuantizeLinear", [name, *_parameters(ctx, node, args, 0)], node.output), C=total)
