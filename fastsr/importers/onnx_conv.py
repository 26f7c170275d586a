"""ONNX's convolutions, what can be written as one, and pooling."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .onnx_context import Context, Handler, OnnxNode
from .onnx_ops import Args, like
from .onnx_values import Picture
from .onnx_views import arranged, settled
from .values import Array, Dim, ceil_div

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
LARGEST = 4096


def weights(ctx: Context, node: OnnxNode, args: Args, k: int = 1) -> tuple[Array, np.ndarray]:
    """A convolution's filter as (constant, array of four axes)."""
    value, data = ctx.array(node, args, k), ctx.numbers(node, args, k)
    if data.ndim != 4 or 0 in data.shape or data.dtype.kind not in "fiu":
        raise ModelError(f"has a filter of shape {list(data.shape)}: only convolution over two axes is supported")
    return value, data


def pairs(node: OnnxNode, name: str, default: int, least: int, count: int = 2) -> list[int]:
    """A list attribute such as strides, checked."""
    values = node.ints(name, [default] * count)
    if len(values) != count or not all(least <= v <= LARGEST for v in values):
        raise ModelError(f"{name} {values[:8]} are not supported")
    return values


def window(node: OnnxNode, kernel: list[int], x: Picture, extra: int = 0) -> tuple[list[int], list[int], dict[str, Any], dict[str, Any]]:
    """strides, dilations, attributes for the padding, and the size of the output, of a window that moves over picture `x`."""
    if node.has("kernel_shape") and node.ints("kernel_shape") != kernel:
        raise ModelError(f"has kernel_shape {node.ints('kernel_shape')[:8]} and a filter of {kernel}: damaged file")
    strides, dilations = pairs(node, "strides", 1, 1), pairs(node, "dilations", 1, 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = node.text("auto_pad", "NOTSET") or "NOTSET"
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        out: dict[str, Any] = {a: ceil_div(x.size[a], s) for a, s in zip("HW", strides, strict=True)}
        if strides == [1, 1]:
            low = [(r - 1) // 2 if mode == "SAME_UPPER" else r // 2 for r in reach]
            return strides, dilations, {"pads": low + [r - 1 - n for r, n in zip(reach, low, strict=True)]}, out
        return strides, dilations, {"auto_pad": mode}, out
    if mode not in ("NOTSET", "VALID"):
        raise ModelError(f"auto_pad '{mode}' is not known")
    pads = pairs(node, "pads", 0, 0, 4) if mode == "NOTSET" else [0, 0, 0, 0]
    out = {}
    for i, a in enumerate("HW"):
        out[a] = (x.size[a] + (pads[i] + pads[i + 2] + extra * (strides[i] - 1) - reach[i])) // strides[i] + 1
        if not isinstance(out[a], Dim) and out[a] < 1:
            raise ModelError("has no output pixel for the size that its input fixes: damaged file")
    return strides, dilations, {"pads": pads}, out


def dequantised(ctx: Context, node: OnnxNode, value: Array) -> str:
    """The name of a constant of integers with the DequantizeLinear that makes it numbers in the Graph, where the file has it; else ""."""
    if value.name not in ctx.dequantised:
        return ""
    names, axis = ctx.dequantised[value.name]
    if value.name not in ctx.emitted:
        ctx.emitted.add(value.name)
        inputs = [ctx.constant(Array(a, name), a, "plain", name) for name, a in names]
        ctx.add(node, "DequantizeLinear", inputs, value.name, axis=axis)
    return value.name


def filter_name(ctx: Context, node: OnnxNode, value: Array, w: np.ndarray) -> str:
    """The name of a filter in the Graph: a constant, or the result of a DequantizeLinear of one."""
    return dequantised(ctx, node, value) or ctx.constant(value, w.astype(np.float32, copy=False), "", f"{node.output}/weight")


def bias_of(ctx: Context, node: OnnxNode, args: Args, k: int, channels: int) -> list[str]:
    """The name of a bias in a list, or an empty list."""
    if not ctx.given(args, k):
        return []
    bias = ctx.numbers(node, args, k)
    if bias.shape != (channels,) or bias.dtype.kind != "f":
        raise ModelError(f"has a bias of shape {list(bias.shape)} for {channels} channels: damaged file")
    value = ctx.array(node, args, k)
    return [dequantised(ctx, node, value) or ctx.constant(value, bias.astype(np.float32, copy=False), "vector", f"{node.output}/bias")]


@op("Conv")
def conv(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Convolution over rows and columns."""
    x = arranged(ctx, node, ctx.picture(node, args))
    value, w = weights(ctx, node, args)
    k, cg, kh, kw = w.shape
    group = node.int("group", 1)
    if group < 1 or cg * group != x.channels or k % group:
        raise ModelError(f"has a filter of shape {list(w.shape)} in {group} groups for {x.channels} channels: damaged file")
    strides, dilations, pads, out = window(node, [kh, kw], x)
    names = [x.name, filter_name(ctx, node, value, w), *bias_of(ctx, node, args, 2, k)]
    ctx.add(node, "Conv", names, node.output, strides=strides, dilations=dilations, group=group, kernel_shape=[kh, kw], **pads)
    return like(x, node.output, C=k, **out)


@op("ConvTranspose")
def conv_transpose(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Transposed convolution; auto_pad and output_shape become pads."""
    x = arranged(ctx, node, ctx.picture(node, args))
    value, w = weights(ctx, node, args)
    c, kg, kh, kw = w.shape
    group = node.int("group", 1)
    if group < 1 or c != x.channels or c % group or kg * group > 65536:
        raise ModelError(f"has a filter of shape {list(w.shape)} in {group} groups for {x.channels} channels: damaged file")
    if node.has("kernel_shape") and node.ints("kernel_shape") != [kh, kw]:
        raise ModelError(f"has kernel_shape {node.ints('kernel_shape')[:8]} and a filter of {[kh, kw]}: damaged file")
    strides, dilations, extra = pairs(node, "strides", 1, 1), pairs(node, "dilations", 1, 1), pairs(node, "output_padding", 0, 0)
    mode = node.text("auto_pad", "NOTSET") or "NOTSET"
    pads = pairs(node, "pads", 0, 0, 4) if mode == "NOTSET" else [0, 0, 0, 0]
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad '{mode}' is not known")
    wanted = node.ints("output_shape") if node.has("output_shape") else None
    if wanted is not None and len(wanted) != 2:
        wanted = wanted[2:] if len(wanted) == 4 else [0, 0]
    out: dict[str, Any] = {}
    for i, a in enumerate("HW"):
        natural = (x.size[a] - 1) * strides[i] + ((kh, kw)[i] - 1) * dilations[i] + 1 + extra[i]
        if wanted is not None or mode.startswith("SAME"):
            total = natural - (wanted[i] if wanted is not None else x.size[a] * strides[i])
            if isinstance(total, Dim) or not 0 <= total <= LARGEST:
                raise ModelError("makes an output of a size that is not a fixed multiple of its input's: not supported")
            low = int(total) // 2 if mode == "SAME_UPPER" else int(total) - int(total) // 2
            pads[i], pads[i + 2] = low, int(total) - low
        out[a] = natural - (pads[i] + pads[i + 2])
        if not isinstance(out[a], Dim) and out[a] < 1:
            raise ModelError("has no output pixel for the size that its input fixes: damaged file")
    names = [x.name, filter_name(ctx, node, value, w), *bias_of(ctx, node, args, 2, kg * group)]
    ctx.add(node, "ConvTranspose", names, node.output, strides=strides, dilations=dilations, group=group, kernel_shape=[kh, kw], pads=pads,
            output_padding=extra)  # fmt: skip
    return like(x, node.output, C=kg * group, **out)


# ---- matrices ----------------------------------------------------------------------------------------------------------------------------------


def _pointwise(ctx: Context, node: OnnxNode, x: Picture, value: Array, matrix: np.ndarray, bias: list[str]) -> Picture:
    """The last axis, which must be the channels, times a matrix (C, K): a 1x1 convolution."""
    if x.layout[-1:] != "C" or matrix.ndim != 2 or matrix.shape[0] != x.channels or matrix.dtype.kind != "f":
        raise ModelError(f"multiplies a picture of axes {x.layout or '?'} by a matrix of shape {list(matrix.shape)}: only channels can be mixed")
    kernel = np.ascontiguousarray(matrix.T, np.float32)[:, :, None, None]
    names = [x.name, ctx.constant(value, kernel, f"1x1 {matrix.shape}", f"{node.output}/weight"), *bias]
    ctx.add(node, "Conv", names, node.output, kernel_shape=[1, 1])
    return like(x, node.output, C=kernel.shape[0])


@op("MatMul")
def matmul(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Channels, when they are the last axis, times a matrix."""
    x = settled(ctx, node, ctx.picture(node, args))
    return _pointwise(ctx, node, x, ctx.array(node, args, 1), ctx.numbers(node, args, 1), [])


@op("Gemm")
def gemm(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """alpha x A + beta b, for a picture of one pixel (N, C)."""
    x = settled(ctx, node, ctx.picture(node, args))
    value, matrix = ctx.array(node, args, 1), ctx.numbers(node, args, 1)
    if x.rank != 2 or node.int("transA", 0) or matrix.ndim != 2:
        raise ModelError("multiplies matrices in a way that is not supported")
    matrix = matrix.T if node.int("transB", 0) else matrix
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    bias = []
    if ctx.given(args, 2):
        b = ctx.numbers(node, args, 2)
        if b.size not in (1, matrix.shape[1]) or b.dtype.kind != "f":
            raise ModelError(f"has a bias of shape {list(b.shape)} for {matrix.shape[1]} channels: not supported")
        bias.append(ctx.number(node, np.broadcast_to(beta * b.reshape(-1), matrix.shape[1:]), "bias"))
    plain = alpha == 1 and not node.int("transB", 0)
    return _pointwise(ctx, node, x, value if plain else Array(matrix), matrix if alpha == 1 else alpha * matrix, bias)


# ---- pooling -----------------------------------------------------------------------------------------------------------------------------------


@op("AveragePool", "MaxPool")
def pool(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """The mean or the largest of a window."""
    x = arranged(ctx, node, ctx.picture(node, args))
    kernel, ceil, most = pairs(node, "kernel_shape", 0, 1), int(bool(node.int("ceil_mode", 0))), node.op == "MaxPool"
    strides, dilations, pads, out = window(node, kernel, x, ceil)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if "auto_pad" in pads:
        ceil = 0
        if most and (pads["auto_pad"] != "SAME_UPPER" or max(reach) > 2):
            raise ModelError("pads by an amount that depends on the picture's size: not supported")
    else:
        low = pads["pads"]
        if any(low[i] >= reach[i % 2] for i in range(4)):
            raise ModelError("pads by more than its window: damaged file")
        if ceil and any(low[i + 2] + strides[i] > reach[i] for i in range(2)):
            raise ModelError("rounds its output's size up to windows that may lie outside the picture (ceil_mode): not supported")
    if math.prod(kernel) > 1024:
        raise ModelError(f"has a window of {kernel}: not supported")
    if most and node.int("storage_order", 0):
        raise ModelError("stores indices by columns: not supported")
    if not most:
        ctx.spend(4 * x.channels * math.prod(kernel))
        pads["count_include_pad"] = int(bool(node.int("count_include_pad", 0)))
    ctx.add(node, node.op, [x.name], node.output, kernel_shape=kernel, strides=strides, dilations=dilations, ceil_mode=ceil, **pads)
    return like(x, node.output, **out)
