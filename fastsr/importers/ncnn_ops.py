"""ncnn's layers that work on each pixel by itself: activations, arithmetic, normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .ncnn_context import Context, Handler, Picture, Value
from .ncnn_param import Layer
from .values import Array, differ

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
Args = list[Value]
HUGE = 3e38
"""What stands for no bound at all: FLT_MAX, printed with few digits."""


def unsupported(name: str) -> str:
    """Why a layer type cannot be read."""
    return WHY.get(name, f"layers of type {name} are not supported by fastsr yet")


WHY = {
    "Softmax": "attention over pixels is not supported",
    "MultiHeadAttention": "attention over pixels is not supported",
    "SDPA": "attention over pixels is not supported",
    "GroupNorm": "it takes means over the whole picture and several channels, which is not supported",
    "LayerNorm": "it takes means over the whole picture and several channels, which is not supported",
    "GridSample": "it moves pixels by computed amounts, which is not supported",
    "DeformableConv2D": "it moves pixels by computed amounts, which is not supported",
    "Quantize": "quantisation outside of convolutions is not supported",
    "Dequantize": "quantisation outside of convolutions is not supported",
    "Requantize": "quantisation outside of convolutions is not supported",
}


def unary(ctx: Context, layer: Layer, x: Picture, op_name: str, *constants: str, **attrs: Any) -> Picture:
    """An operator that keeps the picture's shape."""
    return x.like(ctx.add(layer, op_name, [x.name, *constants], **attrs))


# ---- activations -------------------------------------------------------------------------------------------------------------------------------


def leaky(ctx: Context, layer: Layer, x: Picture, slope: float) -> Picture:
    """x above zero, slope x below."""
    return unary(ctx, layer, x, "LeakyRelu", alpha=slope) if slope else unary(ctx, layer, x, "Relu")


def clipped(ctx: Context, layer: Layer, x: Picture, low: float, high: float) -> Picture:
    """x between two bounds; enormous ones do not bound."""
    bounds = [ctx.number(layer, low, "low") if low > -HUGE else "", ctx.number(layer, high, "high") if high < HUGE else ""]
    return unary(ctx, layer, x, "Clip", *(bounds if bounds[1] else bounds[:1])) if any(bounds) else x


def hard_swish(ctx: Context, layer: Layer, x: Picture, alpha: float, beta: float) -> Picture:
    """x min(max(alpha x + beta, 0), 1)."""
    if abs(alpha * 6 - 1) < 1e-5 and beta == 0.5:
        return unary(ctx, layer, x, "HardSwish")
    gate = unary(ctx, layer, x, "HardSigmoid", alpha=alpha, beta=beta)
    return unary(ctx, layer, x, "Mul", gate.name)


def activated(ctx: Context, layer: Layer, x: Picture, kind: int = 9, numbers: int = 10) -> Picture:
    """The activation that is part of a convolution: parameter `kind`, with the numbers of parameter `numbers`."""
    code, given = layer.integer(kind, 0), layer.reals(numbers)
    if code not in ACTIVATIONS:
        raise ModelError(f"has an activation of number {code}, which is not known")
    needs = {2: 1, 3: 2, 6: 2}.get(code, 0)
    if len(given) < needs:
        raise ModelError(f"has an activation with {len(given)} numbers, {needs} are needed: damaged file")
    return x if code == 0 else ACTIVATIONS[code](ctx, layer, x, given)


ACTIVATIONS: dict[int, Any] = {
    0: None,
    1: lambda ctx, layer, x, p: unary(ctx, layer, x, "Relu"),
    2: lambda ctx, layer, x, p: leaky(ctx, layer, x, p[0]),
    3: lambda ctx, layer, x, p: clipped(ctx, layer, x, p[0], p[1]),
    4: lambda ctx, layer, x, p: unary(ctx, layer, x, "Sigmoid"),
    5: lambda ctx, layer, x, p: unary(ctx, layer, x, "Mish"),
    6: lambda ctx, layer, x, p: hard_swish(ctx, layer, x, p[0], p[1]),
}
"""ncnn's fused_activation.h."""

PLAIN = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "Mish": "Mish", "Swish": "Swish", "Softplus": "Softplus", "Erf": "Erf"}


@op(*PLAIN)
def plain(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Activations without parameters."""
    return unary(ctx, layer, ctx.picture(layer, args), PLAIN[layer.op])


@op("ReLU")
def relu(ctx: Context, layer: Layer, args: Args) -> Picture:
    """ReLU with a slope."""
    return leaky(ctx, layer, ctx.picture(layer, args), layer.real(0, 0.0))


@op("ELU")
def elu(ctx: Context, layer: Layer, args: Args) -> Picture:
    """alpha (exp(x) - 1) below zero; parameter 0 is alpha, 0.1 by default."""
    return unary(ctx, layer, ctx.picture(layer, args), "Elu", alpha=layer.real(0, 0.1))


@op("SELU")
def selu(ctx: Context, layer: Layer, args: Args) -> Picture:
    """lambda times an ELU."""
    return unary(ctx, layer, ctx.picture(layer, args), "Selu", alpha=layer.real(0, 1.67326324), gamma=layer.real(1, 1.050700987))


@op("PReLU")
def prelu(ctx: Context, layer: Layer, args: Args) -> Picture:
    """One slope, or one for each channel."""
    x = ctx.picture(layer, args)
    slopes = per_channel(layer.weights["vector"], x)
    return unary(ctx, layer, x, "PRelu", ctx.number(layer, slopes.reshape(-1, 1, 1), "slope"))


@op("Clip")
def clip(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Lower and upper bound."""
    return clipped(ctx, layer, ctx.picture(layer, args), layer.real(0, -HUGE), layer.real(1, HUGE))


@op("HardSigmoid")
def hard_sigmoid(ctx: Context, layer: Layer, args: Args) -> Picture:
    """min(max(alpha x + beta, 0), 1)."""
    return unary(ctx, layer, ctx.picture(layer, args), "HardSigmoid", alpha=layer.real(0, 0.2), beta=layer.real(1, 0.5))


@op("HardSwish")
def hard_swish_layer(ctx: Context, layer: Layer, args: Args) -> Picture:
    """x HardSigmoid(x)."""
    return hard_swish(ctx, layer, ctx.picture(layer, args), layer.real(0, 0.2), layer.real(1, 0.5))


@op("GELU")
def gelu(ctx: Context, layer: Layer, args: Args) -> Picture:
    """With erf, or with tanh when fast_gelu is set."""
    return unary(ctx, layer, ctx.picture(layer, args), "Gelu", approximate="tanh" if layer.integer(0, 0) else "none")


UNARY = {0: "Abs", 1: "Neg", 5: "Sqrt", 7: "Exp", 15: "Reciprocal", 16: "Tanh"}
UNARY_NAMES = (
    "abs", "neg", "floor", "ceil", "square", "sqrt", "rsqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "reciprocal",
    "tanh", "log10", "round", "trunc",
)  # fmt: skip


@op("UnaryOp")
def unary_op(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A function of one number."""
    x, code = ctx.picture(layer, args), layer.integer(0, 0)
    if code == 4:
        return unary(ctx, layer, x, "Mul", x.name)
    if code == 6:
        return unary(ctx, layer, unary(ctx, layer, x, "Sqrt"), "Reciprocal")
    if code not in UNARY:
        known = UNARY_NAMES[code] if 0 <= code < len(UNARY_NAMES) else f"of number {code}"
        raise ModelError(f"computes the function {known}, which is not supported")
    return unary(ctx, layer, x, UNARY[code])


# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------

BINARY = {0: "Add", 1: "Sub", 2: "Mul", 3: "Div", 4: "Max", 5: "Min", 7: "Sub", 8: "Div"}
POW, RPOW = 6, 9


@op("BinaryOp")
def binary_op(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Arithmetic of two pictures, or of a picture and a number or one number for each channel."""
    code, scalar = layer.integer(0, 0), layer.integer(1, 0)
    if code not in BINARY and code != POW:
        raise ModelError(f"computes the function of number {code} of two values, which is not supported")
    if scalar:
        x = ctx.picture(layer, args)
        b = np.float32(layer.real(2, 0.0))
        if code == POW:
            return power(ctx, layer, x, float(b))
        return _with_constant(ctx, layer, x, np.asarray(b), BINARY[code], code in (7, 8))
    if len(args) != 2:
        raise ModelError(f"has {len(args)} inputs, needs 2: damaged file")
    a, b = args[::-1] if code in (7, 8) else args
    if code == POW:
        if not isinstance(a, Picture) or not isinstance(b, Array) or b.data.size != 1:
            raise ModelError("raises to a power that is not one number: not supported")
        return power(ctx, layer, a, float(b.data.reshape(-1)[0]))
    if isinstance(a, Picture) and isinstance(b, Picture):
        return combined(ctx, layer, a, b, BINARY[code])
    if isinstance(a, Picture) and isinstance(b, Array):
        return _with_constant(ctx, layer, a, _spread(a, b.data), BINARY[code], False)
    if isinstance(b, Picture) and isinstance(a, Array):
        return _with_constant(ctx, layer, b, _spread(b, a.data), BINARY[code], True)
    raise ModelError("combines two constants: not supported, let ncnnoptimize fold them")


def power(ctx: Context, layer: Layer, x: Picture, exponent: float) -> Picture:
    """x to a power of 0.5, 1, 2 or 3."""
    if exponent == 0.5:
        return unary(ctx, layer, x, "Sqrt")
    if exponent not in (1, 2, 3):
        raise ModelError(f"raises to the power {exponent:g}: only 0.5, 1, 2 and 3 are supported")
    out = x
    for _ in range(int(exponent) - 1):
        out = unary(ctx, layer, out, "Mul", x.name)
    return out


def _spread(x: Picture, data: np.ndarray) -> np.ndarray:
    """A constant of ncnn's axes as one number, or one for each channel: missing axes are the inner ones."""
    if data.size == 1 or (data == data.reshape(-1)[0]).all():
        if data.ndim == x.rank == 3 and data.shape[1:] != (1, 1) and data.shape[0] not in (1, x.channels):
            raise ModelError(f"combines {x.channels} channels with a constant of shape {list(data.shape)}: damaged file")
        return data.reshape(-1)[:1] if data.size == 1 or data.shape[0] in (1, x.channels) else data.reshape(data.shape[0], -1)[:, 0]
    if data.size != data.shape[0]:
        raise ModelError(f"combines a picture with a constant of shape {list(data.shape)}, which differs from pixel to pixel: not supported")
    return data.reshape(-1)


def _with_constant(ctx: Context, layer: Layer, x: Picture, data: np.ndarray, op_name: str, left: bool) -> Picture:
    if data.size != 1 and data.size != x.channels and x.channels != 1:
        raise ModelError(f"combines {x.channels} channels with {data.size} numbers: damaged file")
    if op_name == "Div" and not left and not np.all(data):
        raise ModelError("divides by zero: damaged file")
    if data.size > x.channels:
        ones = ctx.number(layer, np.ones((data.size, 1, 1, 1)), "ones")
        x = x.like(ctx.add(layer, "Conv", [x.name, ones], kernel_shape=[1, 1]), channels=data.size)
    names = [x.name, ctx.channel_numbers(layer, data, "constant")]
    return x.like(ctx.add(layer, op_name, names[::-1] if left else names))


def combined(ctx: Context, layer: Layer, a: Picture, b: Picture, op_name: str) -> Picture:
    """Arithmetic of two pictures, of which one may have one channel or one pixel."""
    for x, y in ((a, b), (b, a)):
        if x.rank == 3 and y.rank == 1 and y.channels not in (1, x.channels):
            raise ModelError(f"combines {x.channels} channels with a vector of {y.channels}: not supported")
    if a.channels != b.channels and 1 not in (a.channels, b.channels):
        raise ModelError(f"combines {a.channels} and {b.channels} channels: damaged file")
    size: dict[str, Any] = {}
    for axis in ("height", "width"):
        p, q = getattr(a, axis), getattr(b, axis)
        wide = {p == 1: q, q == 1: p}.get(True)
        if wide is None and differ(p, q):
            raise ModelError(f"combines pictures whose {axis}s differ: damaged file, or not supported")
        size[axis] = p if wide is None else wide
    if (a.single, b.single).count(True) == 0 and any(getattr(x, axis) == 1 != size[axis] for x in (a, b) for axis in size):
        raise ModelError("combines a picture with a row or a column of pixels: not supported")
    return a.like(ctx.add(layer, op_name, [a.name, b.name]), channels=max(a.channels, b.channels), rank=max(a.rank, b.rank), **size)


@op("Eltwise")
def eltwise(ctx: Context, layer: Layer, args: Args) -> Picture:
    """The product, the sum with factors, or the largest of several pictures."""
    code, factors = layer.integer(0, 0), layer.reals(1)
    pictures = [ctx.picture(layer, args, k) for k in range(max(len(args), 2))]
    if code not in (0, 1, 2) or (factors and code == 1 and len(factors) < len(pictures)):
        raise ModelError(f"combines in the way {code}, with {len(factors)} factors of {len(pictures)} pictures: damaged file")
    if any(p.channels != pictures[0].channels or p.rank != pictures[0].rank for p in pictures):
        raise ModelError("combines pictures of different shapes: damaged file")
    if code == 1 and factors:
        pictures = [p if f == 1 else unary(ctx, layer, p, "Mul", ctx.number(layer, f, "factor")) for p, f in zip(pictures, factors, strict=False)]
    out = pictures[0]
    for p in pictures[1:]:
        out = combined(ctx, layer, out, p, ("Mul", "Add", "Max")[code])
    return out


@op("Power")
def power_layer(ctx: Context, layer: Layer, args: Args) -> Picture:
    """(shift + scale x) to a power."""
    x = ctx.picture(layer, args)
    exponent, scale, shift = layer.real(0, 1.0), layer.real(1, 1.0), layer.real(2, 0.0)
    if scale != 1:
        x = unary(ctx, layer, x, "Mul", ctx.number(layer, scale, "scale"))
    if shift:
        x = unary(ctx, layer, x, "Add", ctx.number(layer, shift, "shift"))
    return power(ctx, layer, x, exponent)


# ---- normalisation -----------------------------------------------------------------------------------------------------------------------------


def per_channel(data: np.ndarray, x: Picture) -> np.ndarray:
    """A vector that is one number, or one for each channel of a picture. Raises ModelError for others."""
    if data.size not in (1, x.channels):
        raise ModelError(f"has {data.size} numbers for {x.channels} channels: damaged file")
    return data.astype(np.float32)


def every_channel(data: np.ndarray, x: Picture) -> np.ndarray:
    """A vector of one number for each channel of a picture. Raises ModelError for others."""
    if data.size != x.channels:
        raise ModelError(f"has {data.size} numbers for {x.channels} channels: damaged file")
    return data.astype(np.float32)


@op("BatchNorm")
def batch_norm(ctx: Context, layer: Layer, args: Args) -> Picture:
    """(x - mean) / sqrt(variance + eps) slope + bias."""
    x = ctx.picture(layer, args)
    names = [ctx.number(layer, every_channel(layer.weights[what], x), what) for what in ("slope", "bias", "mean", "variance")]
    epsilon = layer.real(1, 0.0)
    if not np.all(layer.weights["variance"] + np.float32(epsilon) > 0):
        raise ModelError("divides by the root of a variance that is not positive: damaged file")
    return unary(ctx, layer, x, "BatchNormalization", *names, epsilon=epsilon)


@op("Bias")
def bias(ctx: Context, layer: Layer, args: Args) -> Picture:
    """One number for each channel added."""
    x = ctx.picture(layer, args)
    return unary(ctx, layer, x, "Add", ctx.channel_numbers(layer, every_channel(layer.weights["vector"], x), "bias"))


@op("Scale")
def scale(ctx: Context, layer: Layer, args: Args) -> Picture:
    """One factor for each channel, and perhaps a bias; or the factors that another layer computes."""
    x = ctx.picture(layer, args)
    if "vector" not in layer.weights:
        factor = ctx.picture(layer, args, 1)
        if not factor.single or factor.channels != x.channels:
            raise ModelError(f"multiplies {x.channels} channels by something else than so many computed numbers: not supported")
        return combined(ctx, layer, x, factor, "Mul")
    out = unary(ctx, layer, x, "Mul", ctx.channel_numbers(layer, every_channel(layer.weights["vector"], x), "factor"))
    if "bias" in layer.weights:
        out = unary(ctx, layer, out, "Add", ctx.channel_numbers(layer, every_channel(layer.weights["bias"], x), "bias"))
    return out


@op("InstanceNorm")
def instance_norm(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Every channel less its mean over the picture, over its deviation, times a factor, plus a bias."""
    x = ctx.picture(layer, args)
    numbers = [every_channel(layer.weights[what], x) if what in layer.weights else np.full(x.channels, default, np.float32)
               for what, default in (("factor", 1), ("bias", 0))]  # fmt: skip
    names = [ctx.number(layer, data, what) for data, what in zip(numbers, ("factor", "bias"), strict=True)]
    return unary(ctx, layer, x, "InstanceNormalization", *names, epsilon=layer.real(1, 0.001))


# ---- nothing -----------------------------------------------------------------------------------------------------------------------------------


@op("MemoryData")
def memory_data(ctx: Context, layer: Layer, args: Args) -> Array:
    """A constant."""
    return Array(layer.weights["array"])


@op("Split")
def split(ctx: Context, layer: Layer, args: Args) -> list[Value]:
    """The same value several times."""
    if len(args) != 1:
        raise ModelError(f"has {len(args)} inputs, needs 1: damaged file")
    return [args[0]] * len(layer.outputs)


@op("Noop", "DeepCopy", "Packing")
def noop(ctx: Context, layer: Layer, args: Args) -> list[Value]:
    """Its inputs."""
    return list(args[: len(layer.outputs)])


FLOATS = (0, 1, 2, 4)
"""ncnn's numbers for floats of 32 and 16 bits; 0: as it is."""


@op("Cast")
def cast(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Between types of floats: nothing, as all is computed in float32."""
    if layer.integer(0, 0) not in FLOATS or layer.integer(1, 0) not in FLOATS[1:]:
        raise ModelError("casts to or from another type than floats: not supported")
    return ctx.picture(layer, args)


@op("Dropout")
def dropout(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A factor, 1 as a rule."""
    x, factor = ctx.picture(layer, args), layer.real(0, 1.0)
    return x if factor == 1 else unary(ctx, layer, x, "Mul", ctx.number(layer, factor, "factor"))
