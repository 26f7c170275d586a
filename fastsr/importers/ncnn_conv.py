"""ncnn's convolutions, in floats and quantised, and layers that look at windows or at the whole picture."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .ncnn_context import FAR, Context, Handler, Picture
from .ncnn_ops import Args, activated
from .ncnn_param import Layer
from .values import Dim, ceil_div

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
SAME_UPPER, SAME_LOWER = -233, -234
WHOLE = "over rows or columns of the whole picture, which is not supported"


def pair(layer: Layer, w: int, h: int, default: int, what: str, least: int = 1) -> list[int]:
    """[height, width] of a parameter that is given for the width, and for the height where it differs."""
    wide = layer.integer(w, default)
    both = [layer.integer(h, wide), wide]
    if not all(least <= n <= FAR for n in both):
        raise ModelError(f"has {what} of {both[1]}x{both[0]}: damaged file")
    return both


def borders(layer: Layer, left: int, right: int, top: int, bottom: int) -> list[int]:
    """[top, left, bottom, right]; a missing right is the left, a missing top the left, a missing bottom the top."""
    a = layer.integer(left, 0)
    t = layer.integer(top, a)
    return [t, a, layer.integer(bottom, t), layer.integer(right, a)]


def filters(layer: Layer, channels: int, group: int, kernel: list[int]) -> np.ndarray:
    """The weights as (outputs, inputs of a group, height, width). Raises ModelError when they do not fit."""
    n, w = layer.integer(0, 0), layer.weights["weight"]
    if not 1 <= n <= FAR or group < 1 or n % group or channels % group:
        raise ModelError(f"makes {n} channels of {channels} in {group} groups: damaged file")
    shape = (n, channels // group, *kernel)
    if w.size != math.prod(shape):
        raise ModelError(f"has {w.size} weights, and takes {math.prod(shape)} for {channels} channels: damaged file, or another number of channels")
    out: np.ndarray = w.reshape(shape)
    return out


def bias_name(ctx: Context, layer: Layer) -> list[str]:
    """The name of the bias as a list that is empty when there is none."""
    return [ctx.number(layer, layer.weights["bias"], "bias")] if "bias" in layer.weights else []


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------


def _windows(x: Picture, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int]) -> list[Any]:
    """[height, width] of what windows make."""
    sizes = []
    for i, n in enumerate((x.height, x.width)):
        size = (n + (pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1)) // strides[i] + 1
        if not isinstance(size, Dim) and size < 1:
            raise ModelError("has no output pixel for the size that the input fixes: damaged file")
        sizes.append(size)
    return sizes


def _padding(layer: Layer, pads: list[int]) -> dict[str, Any]:
    """ONNX attributes for ncnn's [top, left, bottom, right]."""
    for code, mode in ((SAME_UPPER, "SAME_UPPER"), (SAME_LOWER, "SAME_LOWER")):
        if pads == [code] * 4:
            return {"auto_pad": mode}
    if not all(0 <= p <= FAR for p in pads):
        raise ModelError(f"pads by {pads} pixels: damaged file")
    return {"pads": pads}


@op("Convolution", "ConvolutionDepthWise")
def convolution(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A convolution of all channels, or of groups of them, and an activation."""
    x = ctx.picture(layer, args)
    kernel = pair(layer, 1, 11, 0, "a window")
    dilations, strides = pair(layer, 2, 12, 1, "dilations"), pair(layer, 3, 13, 1, "strides")
    group = layer.integer(7, 1) if layer.op == "ConvolutionDepthWise" else 1
    w = filters(layer, x.channels, group, kernel)
    pads = borders(layer, 4, 15, 14, 16)
    fill = layer.real(18, 0.0)
    if fill and any(pads):
        _padding(layer, pads)
        if pads[0] < 0:
            raise ModelError("pads with a number by amounts that depend on the picture's size: not supported")
        x, pads = ctx.pads(layer, x, pads, value=fill), [0] * 4
    padding = _padding(layer, pads)
    size = [ceil_div(n, s) for n, s in zip((x.height, x.width), strides, strict=True)]
    if "pads" in padding:
        size = _windows(x, kernel, strides, dilations, pads)
    x, weight = prepared(ctx, layer, x, w)
    name = ctx.add(layer, "Conv", [x.name, weight, *bias_name(ctx, layer)], strides=strides, dilations=dilations, group=group, kernel_shape=kernel,
                   **padding)  # fmt: skip
    y = activated(ctx, layer, x.like(name, channels=w.shape[0], height=size[0], width=size[1]))
    return requantised(ctx, layer, y)


@op("Deconvolution", "DeconvolutionDepthWise")
def deconvolution(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A transposed convolution, whose borders are cut off, and an activation."""
    x = ctx.picture(layer, args)
    kernel = pair(layer, 1, 11, 0, "a window")
    dilations, strides = pair(layer, 2, 12, 1, "dilations"), pair(layer, 3, 13, 1, "strides")
    group = layer.integer(7, 1) if layer.op == "DeconvolutionDepthWise" else 1
    w = _floats(filters(layer, x.channels, group, kernel))
    n, cg, kh, kw = w.shape
    w = w.reshape(group, n // group, cg, kh, kw).transpose(0, 2, 1, 3, 4).reshape(x.channels, n // group, kh, kw)
    pads = borders(layer, 4, 15, 14, 16)
    right = layer.integer(18, 0)
    more = [layer.integer(19, right), right]
    if layer.integer(20, 0) or layer.integer(21, layer.integer(20, 0)):
        raise ModelError("makes a picture of constant size, whatever the input: not supported")
    if not all(0 <= p <= FAR for p in (*pads, *more)):
        raise ModelError(f"cuts off {pads} pixels and adds {more}: damaged file, or not supported")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    ctx.spend(4 * w.size // (kh * kw) * math.prod(r + 2 * s for r, s in zip(reach, strides, strict=True)))
    cut = [min(p, r - 1) for p, r in zip(pads, reach * 2, strict=True)]
    size = [(m - 1) * s + (r + e - p - q) for m, s, r, e, p, q in zip((x.height, x.width), strides, reach, more, cut[:2], cut[2:], strict=True)]
    name = ctx.add(layer, "ConvTranspose", [x.name, ctx.number(layer, w, "weight"), *bias_name(ctx, layer)], strides=strides, dilations=dilations,
                   group=group, kernel_shape=kernel, pads=cut, output_padding=more)  # fmt: skip
    y = x.like(name, channels=n, height=size[0], width=size[1])
    return activated(ctx, layer, ctx.pads(layer, y, [c - p for c, p in zip(cut, pads, strict=True)]))


@op("InnerProduct")
def inner_product(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A matrix that mixes the channels of one pixel, and an activation."""
    x = ctx.picture(layer, args)
    if not x.single:
        raise ModelError("mixes all pixels of a picture, which needs a picture of fixed size: not supported")
    w = filters(layer, x.channels, 1, [1, 1])
    x, weight = prepared(ctx, layer, x, w)
    name = ctx.add(layer, "Conv", [x.name, weight, *bias_name(ctx, layer)], kernel_shape=[1, 1])
    return activated(ctx, layer, x.like(name, channels=w.shape[0], rank=1))


# ---- quantised ---------------------------------------------------------------------------------------------------------------------------------


def _floats(w: np.ndarray) -> np.ndarray:
    if w.dtype == np.int8:
        raise ModelError("has weights of 8-bit integers and no scales for them: damaged file")
    return w


def _reciprocal(layer: Layer, what: str) -> np.ndarray:
    """1 over scales, which in ncnn turn numbers into integers; the scale 0 of weights that are all 0 becomes 1."""
    s = layer.weights[what]
    with np.errstate(all="ignore"):
        inverse = np.where(s == 0, np.float32(1), np.float32(1) / s).astype(np.float32)
    if not np.isfinite(s).all() or not (s >= 0).all() or not np.isfinite(inverse).all() or (what != "scales" and not s.all()):
        raise ModelError(f"has the {what} {s.reshape(-1)[:4]}: damaged file")
    return inverse


def _quantised(ctx: Context, layer: Layer, x: Picture, scale: np.ndarray) -> Picture:
    """x rounded to what whole multiples of a scale, from -127 to 127, can hold."""
    step = float(scale.reshape(-1)[0])
    zero, name = ctx.number(layer, 0, "zero", np.int8), ctx.number(layer, step, "step")
    low = ctx.add(layer, "Clip", [x.name, ctx.number(layer, np.float32(-127) * np.float32(step), "low")])
    whole = ctx.add(layer, "QuantizeLinear", [low, name, zero])
    return x.like(ctx.add(layer, "DequantizeLinear", [whole, name, zero]))


def prepared(ctx: Context, layer: Layer, x: Picture, w: np.ndarray) -> tuple[Picture, str]:
    """The picture and the weights (outputs, inputs, h, w) as a Conv takes them; in a quantised layer both are made of 8-bit integers."""
    if "scales" not in layer.weights:
        return x, ctx.number(layer, _floats(w), "weight")
    step = _reciprocal(layer, "scales")
    if step.size not in (1, w.shape[0]):
        step = np.repeat(step, w.shape[0] // step.size)
    if w.dtype != np.int8:
        exact = w * layer.weights["scales"].repeat(w.shape[0] // layer.weights["scales"].size).reshape(-1, 1, 1, 1)
        if not np.isfinite(exact).all():
            raise ModelError("has weights with infinite or undefined (NaN) numbers: damaged file, or training failed")
        w = np.clip(np.sign(exact) * np.floor(np.abs(exact) + 0.5), -127, 127).astype(np.int8)
    if not layer.weights["scales"].all():
        w = np.where(np.broadcast_to(layer.weights["scales"] == 0, step.shape).repeat(w.shape[0] // step.size).reshape(-1, 1, 1, 1), 0, w)
    names = [ctx.number(layer, w, "weight", np.int8), ctx.number(layer, step if step.size > 1 else step.reshape(()), "steps")]
    weight = ctx.add(layer, "DequantizeLinear", names, axis=0)
    return _quantised(ctx, layer, x, _reciprocal(layer, "input scale")), weight


def requantised(ctx: Context, layer: Layer, y: Picture) -> Picture:
    """The result rounded to 8-bit integers again, where ncnn hands these on to the next convolution."""
    return _quantised(ctx, layer, y, _reciprocal(layer, "output scale")) if "output scale" in layer.weights else y


# ---- windows and the whole picture -------------------------------------------------------------------------------------------------------------


@op("Pooling")
def pooling(ctx: Context, layer: Layer, args: Args) -> Picture:
    """The largest or the mean of a window or of the whole picture."""
    x, kind = ctx.picture(layer, args), layer.integer(0, 0)
    if kind not in (0, 1):
        raise ModelError(f"pools in the way {kind}, which is not known")
    adaptive = layer.integer(7, 0)
    out = (layer.integer(18, layer.integer(8, 0)), layer.integer(8, 0))
    if layer.integer(4, 0) or (adaptive and out == (1, 1)):
        name = ctx.add(layer, "GlobalMaxPool" if kind == 0 else "GlobalAveragePool", [x.name])
        return x.like(name, height=1, width=1, rank=3 if adaptive and not layer.integer(4, 0) else 1)
    if adaptive:
        if out == (SAME_UPPER, SAME_UPPER):
            return x
        raise ModelError(f"makes a picture of {out[1]}x{out[0]} pixels by windows that depend on the picture's size: not supported")
    kernel, strides = pair(layer, 1, 11, 0, "a window"), pair(layer, 2, 12, 1, "strides")
    if math.prod(kernel) > 1024:
        raise ModelError(f"has a window of {kernel[1]}x{kernel[0]}: not supported")
    return _max_pool(ctx, layer, x, kernel, strides) if kind == 0 else _mean_pool(ctx, layer, x, kernel, strides)


def _pool_pads(layer: Layer, kernel: list[int], strides: list[int]) -> tuple[list[int], bool]:
    """Padding, and whether the size of the result is rounded up."""
    pads, mode = borders(layer, 3, 14, 13, 15), layer.integer(5, 0)
    if mode not in (0, 1):
        raise ModelError("pads by an amount that depends on the picture's size (pad_mode): not supported")
    if not all(0 <= pads[i] < kernel[i % 2] for i in range(4)):
        raise ModelError(f"pads by {pads}, more than its window: damaged file")
    up = mode == 0 and strides != [1, 1]
    if up and any(pads[i + 2] + strides[i] > kernel[i] for i in range(2)):
        raise ModelError("rounds its output's size up to windows that may lie outside the picture (pad_mode 0): not supported")
    return pads, up


def _max_pool(ctx: Context, layer: Layer, x: Picture, kernel: list[int], strides: list[int]) -> Picture:
    pads, up = _pool_pads(layer, kernel, strides)
    low = [*pads[:2], *(p + s - 1 if up else p for p, s in zip(pads[2:], strides, strict=True))]
    height, width = _windows(x, kernel, strides, [1, 1], low)
    more = {"ceil_mode": 1} if up else {}
    name = ctx.add(layer, "MaxPool", [x.name], kernel_shape=kernel, strides=strides, pads=pads, **more)
    return x.like(name, height=height, width=width)


def _mean_pool(ctx: Context, layer: Layer, x: Picture, kernel: list[int], strides: list[int]) -> Picture:
    pads, up = _pool_pads(layer, kernel, strides)
    if up or (any(pads) and not layer.integer(6, 0)):
        raise ModelError("takes the mean of fewer pixels at borders (avgpool_count_include_pad 0, or pad_mode 0): not supported")
    ctx.spend(4 * x.channels * math.prod(kernel))
    weight = np.full((x.channels, 1, *kernel), 1 / math.prod(kernel), np.float32)
    height, width = _windows(x, kernel, strides, [1, 1], pads)
    name = ctx.add(layer, "Conv", [x.name, ctx.number(layer, weight, "mean")], strides=strides, group=x.channels, kernel_shape=kernel, pads=pads)
    return x.like(name, height=height, width=width)


@op("Reduction")
def reduction(ctx: Context, layer: Layer, args: Args) -> Picture:
    """The mean of the whole picture, or the mean or sum of the channels."""
    x, kind, coeff = ctx.picture(layer, args), layer.integer(0, 0), layer.real(2, 1.0)
    axes, keep = layer.integers(3), layer.integer(4, 0)
    if axes and not layer.integer(5, 0):
        raise ModelError("numbers axes in an old way that ncnn refuses too: convert the model again")
    if layer.integer(1, 1) or kind not in (0, 3) or x.rank != 3:
        raise ModelError(f"reduces in the way {kind}: only the mean of rows and columns, and the mean or sum of channels, are supported")
    if not all(-3 <= a < 3 for a in axes):
        raise ModelError(f"reduces the axes {axes[:8]} of three: damaged file")
    letters = {a % 3 for a in axes}
    if letters == {1, 2} and kind == 3:
        out = x.like(ctx.add(layer, "GlobalAveragePool", [x.name]), height=1, width=1, rank=3 if keep else 1)
    elif letters == {0} and keep:
        weight = np.full((1, x.channels, 1, 1), 1 / x.channels if kind == 3 else 1)
        out = x.like(ctx.add(layer, "Conv", [x.name, ctx.number(layer, weight, "mean")], kernel_shape=[1, 1]), channels=1)
    else:
        why = f"takes the sum {WHOLE}" if 1 in letters or 2 in letters else "drops the axis of channels: not supported"
        raise ModelError(f"reduces the axes {sorted(letters)}: {why}")
    return out if coeff == 1 else out.like(ctx.add(layer, "Mul", [out.name, ctx.number(layer, coeff, "coeff")]))
