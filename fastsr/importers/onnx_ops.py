"""ONNX operators on pictures, element by element, and normalisation."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_shapes as shapes
from .context import register
from .onnx_context import Context, Handler, OnnxNode, Value
from .onnx_schema import FLOAT_TYPES, type_name
from .onnx_values import Picture, make
from .onnx_views import choose_channels, settled
from .values import Array, Dim, Filled, differ, unfilled

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
Args = list[Value | None]

ADVICE = {
    "LayerNormalization": "fastsr has no step for it",
    "LpNormalization": "fastsr has no step for it",
    "Softmax": "attention is not supported",
    "Einsum": "attention is not supported",
    "Loop": "loops are not supported: export the network for inference",
    "Scan": "loops are not supported: export the network for inference",
    "If": "branches are not supported: export the network for inference, with fixed conditions",
    "GridSample": "pixels can only move by fixed amounts",
    "LSTM": "recurrent networks are not supported",
    "GRU": "recurrent networks are not supported",
    "RandomNormalLike": "random numbers are not supported: export the network for inference",
}


def unsupported(node: OnnxNode) -> str:
    """What to say about an operator that is not in the tables."""
    if node.domain:
        return f"operator {node.op} of the domain '{node.domain}' is not supported; export the network with operators of ONNX itself"
    return f"operator {node.op} is not supported; {ADVICE.get(node.op, 'export the network without it, or ask for it in an issue with this message')}"


# ---- constants that meet pictures --------------------------------------------------------------------------------------------------------------


def per_channel(ctx: Context, node: OnnxNode, value: Array, x: Picture, layout: str) -> tuple[str, int]:
    """A constant that meets picture `x` in an element-wise operator, as a scalar or (1, C, 1, 1) constant of the Graph: its name and entries."""
    data = value.data
    if value.symbolic:
        raise ModelError("computes pixels from the size of the picture, which fastsr cannot do")
    if data.dtype.kind not in "fiub":
        raise ModelError(f"combines the picture with a constant of type {data.dtype}: not supported")
    if data.size == 1:
        return ctx.constant(value, data.reshape(()).astype(np.float32), "scalar", node.output), 1
    while data.ndim > len(layout) and data.shape[0] == 1:
        data = data[0]
    if data.ndim > len(layout):
        raise ModelError(f"combines the picture with a constant of shape {list(value.data.shape)}: not supported")
    letters = layout[len(layout) - data.ndim :]
    if any(n != 1 for a, n in zip(letters, data.shape, strict=True) if a != "C"):
        flat = data.reshape(-1)
        if flat.size and (flat == flat[0]).all() and all(n in (1, x.size[a]) for a, n in zip(letters, data.shape, strict=True)):
            return ctx.number(node, flat[0], "scalar"), 1
        raise ModelError(f"combines the picture with a constant of shape {list(data.shape)}: only one number, or one per channel, is supported")
    if data.size not in (1, x.channels) and x.channels != 1:
        raise ModelError(f"combines {x.channels} channels with a constant of shape {list(data.shape)}: damaged file")
    if not data.size:
        raise ModelError("combines the picture with an empty constant: damaged file")
    return ctx.constant(value, data.reshape(1, -1, 1, 1).astype(np.float32), "channels", node.output), data.size


def broadcast(x: Picture, y: Picture, name: str) -> Picture:
    """The result of an element-wise operator on two pictures with whole letters as axes."""
    layout = max(x.layout, y.layout, key=len)
    if not all(layout.endswith(p.layout) for p in (x, y)):
        raise ModelError(f"combines pictures of layouts {x.layout} and {y.layout}: not supported")
    size = dict(x.size)
    for a in "NCHW":
        p, q = x.size[a], y.size[a]
        if differ(p, q) and 1 not in (p, q):
            raise ModelError(f"combines pictures whose axis {a} differs ({p} and {q}): damaged file")
        size[a] = q if not isinstance(p, Dim) and p == 1 else p
    return make(name, layout, size)


def like(x: Picture, name: str, **size: Any) -> Picture:
    """A picture of that name, of this layout and size except for what is given."""
    return make(name, x.layout, {**x.size, **size})


# ---- two operands and more ---------------------------------------------------------------------------------------------------------------------

BINARY = ("Add", "Sub", "Mul", "Div")
MANY = ("Sum", "Max", "Min", "Mean")


@op(*BINARY)
def binary(ctx: Context, node: OnnxNode, args: Args) -> Any:
    """Two pictures, or a picture and a constant."""
    if len(args) != 2:
        raise ModelError(f"has {len(args)} inputs, needs 2: damaged file")
    if not any(isinstance(a, Picture) for a in args):
        return _fill(ctx, node, args)
    if node.op == "Mul" and args[0] is args[1]:
        x = settled(ctx, node, ctx.picture(node, args))
        return like(x, ctx.add(node, "Mul", [x.name, x.name], node.output))
    return combine(ctx, node, node.op, args, node.output)


@op(*MANY)
def many(ctx: Context, node: OnnxNode, args: Args) -> Any:
    """Any number of operands, as a chain of two."""
    if not args or not any(isinstance(a, Picture) for a in args) or len(args) > 1024:
        raise ModelError(f"combines {len(args)} inputs in a way that is not supported")
    total: Value | None = args[0]
    code = {"Sum": "Add", "Mean": "Add"}.get(node.op, node.op)
    if len(args) > 1 and not isinstance(total, Picture):
        k = next(i for i, a in enumerate(args) if isinstance(a, Picture))
        args = [args[k], *args[:k], *args[k + 1 :]]
        total = args[0]
    for k, other in enumerate(args[1:], 2):
        last = k == len(args) and node.op != "Mean"
        total = combine(ctx, node, code, [total, other], node.output if last else ctx.fresh(f"{node.output}/{k}"))
    if node.op == "Mean":
        return combine(ctx, node, "Mul", [total, Array(np.array(1 / len(args), np.float32))], node.output)
    return total


def combine(ctx: Context, node: OnnxNode, code: str, args: Args, output: str) -> Picture:
    """One element-wise operator of the Graph; one of the two arguments, or both, are pictures."""
    pictures = [settled(ctx, node, a) for a in args if isinstance(a, Picture)]
    if not pictures:
        raise ModelError("combines constants in a way that is not supported")
    x = pictures[0]
    if len(pictures) == 2:
        result = broadcast(x, pictures[1], output)
        ctx.add(node, code, [x.name, pictures[1].name], output)
        return result
    constant = next((a for a in args if a is not None and not isinstance(a, Picture)), None)
    if constant is None:
        raise ModelError("lacks an input: damaged file")
    constant = constant if isinstance(constant, Array) else _unfill(constant, x)
    name, width = per_channel(ctx, node, constant, x, x.layout)
    if width > x.channels:
        widened, size = choose_channels(ctx, node, x.name, x.size, [0] * width)
        x = make(widened, x.layout, size)
    ctx.add(node, code, [x.name, name] if isinstance(args[0], Picture) else [name, x.name], output)
    result = like(x, output)
    return result.view(((),) * (constant.data.ndim - result.rank) + result.axes)


def _unfill(value: Filled, x: Picture) -> Array:
    if len(value.shape) != x.rank or any(n != m for n, m in zip(value.shape, x.shape, strict=True)):
        raise ModelError("combines a picture with a filled array of another shape: not supported")
    return Array(value.value)


def _fill(ctx: Context, node: OnnxNode, args: Args) -> Filled:
    plain, shape = unfilled(args)
    return Filled(shapes.evaluate(ctx, node, [*plain]).data.reshape(()), shape)


@op("Pow")
def power(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """A picture to a fixed power: 1, 2, 3 or a half."""
    x, exponent = settled(ctx, node, ctx.picture(node, args)), ctx.single(node, args, 1)
    if exponent == 1:
        return x
    if exponent == 0.5:
        return like(x, ctx.add(node, "Sqrt", [x.name], node.output))
    if exponent == 2:
        return like(x, ctx.add(node, "Mul", [x.name, x.name], node.output))
    if exponent == 3:
        return like(x, ctx.add(node, "Mul", [ctx.add(node, "Mul", [x.name, x.name]), x.name], node.output))
    raise ModelError(f"raises the picture to the power {exponent:g}: only 1, 2, 3 and 0.5 are supported")


# ---- one operand -------------------------------------------------------------------------------------------------------------------------------

UNARY = ("Relu", "Tanh", "Sigmoid", "HardSwish", "Mish", "Abs", "Neg", "Sqrt", "Exp", "Reciprocal", "Softplus", "Softsign", "Erf")


@op(*UNARY)
def unary(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """One picture in, one out, element by element."""
    x = settled(ctx, node, ctx.picture(node, args))
    return like(x, ctx.add(node, node.op, [x.name], node.output))


@op("LeakyRelu", "HardSigmoid", "Swish", "Elu", "Selu", "Celu")
def with_numbers(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Activations with numbers as attributes."""
    x = settled(ctx, node, ctx.picture(node, args))
    given = {k: node.float(k, v) for k, v in NUMBERS[node.op].items()}
    if not all(map(math.isfinite, given.values())):
        raise ModelError(f"has the numbers {given}: damaged file")
    return like(x, ctx.add(node, node.op, [x.name], node.output, **given))


NUMBERS: dict[str, dict[str, float]] = {
    "LeakyRelu": {"alpha": 0.01},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Swish": {"alpha": 1.0},
    "Elu": {"alpha": 1.0},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Celu": {"alpha": 1.0},
}
"""Attributes and what they are by default."""


@op("ThresholdedRelu")
def no_step(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Activations that no network for pictures seems to use."""
    raise ModelError(f"operator {node.op} is not supported: fastsr has no step for it")


@op("Gelu")
def gelu(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """x times the normal distribution function of x."""
    x, how = settled(ctx, node, ctx.picture(node, args)), node.text("approximate", "none")
    if how not in ("none", "tanh"):
        raise ModelError(f"approximates by '{how}', which is not known")
    return like(x, ctx.add(node, "Gelu", [x.name], node.output, approximate=how))


@op("PRelu")
def prelu(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """x, or a slope for each channel times x below zero."""
    x, slope = settled(ctx, node, ctx.picture(node, args)), ctx.array(node, args, 1)
    name, width = per_channel(ctx, node, slope, x, x.layout)
    if width not in (1, x.channels):
        raise ModelError(f"has {width} slopes for {x.channels} channels: damaged file")
    return like(x, ctx.add(node, "PRelu", [x.name, name], node.output))


@op("Clip")
def clip(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """min(max(x, low), high), with bounds as attributes before opset 11."""
    x = settled(ctx, node, ctx.picture(node, args))
    names = []
    for k, name in ((1, "min"), (2, "max")):
        bound = None
        if ctx.opset < 11 and node.has(name):
            bound = node.float(name)
        elif ctx.opset >= 11 and ctx.given(args, k):
            bound = _bound(ctx.numbers(node, args, k))
        names.append("" if bound is None else ctx.number(node, bound, name))
    while names and not names[-1]:
        names.pop()
    return like(x, ctx.add(node, "Clip", [x.name, *names], node.output))


def _bound(data: np.ndarray) -> float | None:
    if data.size != 1 or data.dtype.kind not in "fiu" or np.isnan(data.astype(np.float64)).any():
        raise ModelError(f"clips to bounds of shape {list(data.shape)}: only single numbers are supported")
    value = float(data.reshape(()))
    return None if math.isinf(value) else value


@op("Identity")
def identity(ctx: Context, node: OnnxNode, args: Args) -> Value:
    """The same value."""
    if not args or args[0] is None:
        raise ModelError("has no input: damaged file")
    return args[0]


@op("Dropout")
def dropout(ctx: Context, node: OnnxNode, args: Args) -> Value:
    """Nothing happens, outside training."""
    if ctx.opset >= 12 and ctx.given(args, 2) and np.any(ctx.numbers(node, args, 2)):
        raise ModelError("is in training mode: export the network for inference")
    return identity(ctx, node, args)


@op("Cast", "CastLike")
def cast(ctx: Context, node: OnnxNode, args: Args) -> Value:
    """To a floating-point type: the same picture, for everything is computed in float32."""
    value = identity(ctx, node, args)
    target = node.int("to") if node.op == "Cast" else 1
    like_ = args[1] if node.op == "CastLike" and len(args) > 1 else None
    if target not in FLOAT_TYPES or (isinstance(like_, Array) and like_.data.dtype.kind != "f"):
        raise ModelError(f"turns the picture into {type_name(target)} inside the network: export the network with floating-point output")
    return value


# ---- normalisation -----------------------------------------------------------------------------------------------------------------------------


@op("BatchNormalization")
def batch_norm(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Batch normalisation with stored statistics."""
    if node.int("training_mode", 0) or (ctx.opset < 9 and not node.int("spatial", 1)):
        raise ModelError("normalises by the statistics of the picture itself, or of each pixel: export the network for inference")
    x = settled(ctx, node, ctx.picture(node, args))
    if x.layout[1:2] != "C":
        raise ModelError(f"works on NCHW, but its input is {x.layout}: not supported")
    names = [x.name]
    for k in range(1, 5):
        data = ctx.numbers(node, args, k)
        if data.shape != (x.channels,) or data.dtype.kind != "f":
            raise ModelError(f"has statistics of shape {list(data.shape)} for {x.channels} channels: damaged file")
        names.append(ctx.constant(ctx.array(node, args, k), data.astype(np.float32), "vector", node.output))
    epsilon = node.float("epsilon", 1e-5)
    if not (ctx.graph.constants[names[4]] + epsilon > 0).all():
        raise ModelError("has variances that are not positive: damaged file, or training failed")
    return like(x, ctx.add(node, "BatchNormalization", names, node.output, epsilon=epsilon))
