"""TensorFlow Lite operators on pictures, element by element, said in ONNX's terms; and what is said about those that are not supported."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_ops
from .context import register
from .onnx_ops import combine, like, settled
from .onnx_values import Picture
from .tflite_context import Args, Grid, Handler, TfliteContext, TfliteNode
from .tflite_quantised import BOUNDS, cut_off, finish, on_grid, real
from .values import Array

OPS: dict[str, Handler] = {}
op = partial(register, OPS)

FLEX = "it is one of TensorFlow's own (Flex): convert the model with the built-in operators only"
ADVICE = {
    "SOFTMAX": "attention is not supported",
    "BATCH_MATMUL": "attention is not supported",
    "L2_NORMALIZATION": "fastsr has no step for it",
    "LSTM": "recurrent networks are not supported",
    "IF": "branches are not supported: convert the network for inference",
    "WHILE": "loops are not supported: convert the network for inference",
    "CALL_ONCE": "variables are not supported: convert a network with constant weights",
    "VAR_HANDLE": "variables are not supported: convert a network with constant weights",
    "DENSIFY": "sparse weights are not supported: convert the model without sparsity",
    "FAKE_QUANT": "it belongs to training: convert the model with quantisation, or without",
}


def unsupported(name: str) -> str:
    """What to say about an operator that is not in the tables."""
    kind, _, custom = name.partition(" ")
    if kind == "CUSTOM":
        return f"the custom operator '{custom}' is not supported; {FLEX if custom.startswith('Flex') else 'convert the model without it'}"
    return f"operator {name} is not supported; {ADVICE.get(name, 'convert the model without it, or ask for it in an issue with this message')}"


# ---- two operands ------------------------------------------------------------------------------------------------------------------------------

BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min"}


@op(*BINARY)
def binary(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """Two pictures, or a picture and a constant: one number, or one per channel."""
    if len(args) != 2:
        raise ModelError(f"has {len(args)} inputs, needs 2: damaged file")
    code = BINARY[node.op]
    if not any(isinstance(a, Picture) for a in args):
        return onnx_ops.many(ctx, ctx.spell(node, code), args) if code in ("Max", "Min") else onnx_ops.binary(ctx, ctx.spell(node, code), args)
    core = ctx.spell(node, code)
    if code == "Mul" and args[0] is args[1]:
        return finish(ctx, node, onnx_ops.binary(ctx, core, args), node.int("fused"))
    y = combine(ctx, core, code, args, core.output)
    if code in ("Max", "Min"):
        _chosen(ctx, node, y, args)
    return finish(ctx, node, y, node.int("fused") if node.has("fused") else 0)


def _chosen(ctx: TfliteContext, node: TfliteNode, y: Picture, args: Args) -> None:
    """Note the grid of a result that is always one of its operands, where these are on one grid."""
    grid = Grid.of(node.result) if node.result.quantised else None
    for a in args:
        if isinstance(a, Picture):
            known = ctx.grids.get(a.name)
            if grid is None or known is None or not grid.holds(known):
                return
        elif isinstance(a, Array) and grid is not None:
            whole = np.asarray(a.data, np.float32) / grid.scale
            if not (np.abs(whole - np.rint(whole)) < 1e-3).all() or not (grid.low - 0.5 < whole).all() or not (whole < grid.high + 0.5).all():
                return
    if grid is not None:
        ctx.grids[y.name] = grid


@op("ADD_N")
def add_n(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """The sum of several pictures."""
    return finish(ctx, node, onnx_ops.many(ctx, ctx.spell(node, "Sum"), args))


@op("SQUARED_DIFFERENCE")
def squared_difference(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """(x - y) (x - y)."""
    if len(args) != 2:
        raise ModelError(f"has {len(args)} inputs, needs 2: damaged file")
    core = ctx.spell(node, "Sub")
    d = combine(ctx, core, "Sub", args, core.output)
    return finish(ctx, node, like(d, ctx.add(node, "Mul", [d.name, d.name])))


@op("POW")
def power(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """A picture to a fixed power."""
    return finish(ctx, node, onnx_ops.power(ctx, ctx.spell(node, "Pow"), args))


@op("PRELU")
def prelu(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """x, or a slope for each channel times x below zero."""
    return finish(ctx, node, onnx_ops.prelu(ctx, ctx.spell(node, "PRelu"), args))


# ---- one operand -------------------------------------------------------------------------------------------------------------------------------

UNARY = {"TANH": "Tanh", "LOGISTIC": "Sigmoid", "HARD_SWISH": "HardSwish", "ABS": "Abs", "NEG": "Neg", "SQRT": "Sqrt", "EXP": "Exp", "ELU": "Elu"}


@op(*UNARY)
def unary(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """One picture in, one out."""
    return finish(ctx, node, onnx_ops.unary(ctx, ctx.spell(node, UNARY[node.op]), args))


@op(*BOUNDS)
def bounded(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """RELU and its kin: numbers kept within bounds, at the ends of the result's own numbers where it is quantised."""
    x, grid = ctx.picture(node, args), Grid.of(node.result) if node.result.quantised else None
    y = cut_off(ctx, node, x, *BOUNDS[node.op], grid)
    known = ctx.grids.get(x.name)
    if grid is not None and known is not None and grid.holds(known):
        ctx.grids[y.name] = grid
    return finish(ctx, node, y)


@op("LEAKY_RELU")
def leaky_relu(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """x, or alpha x below zero."""
    return finish(ctx, node, onnx_ops.with_numbers(ctx, ctx.spell(node, "LeakyRelu", alpha=node.float("alpha")), args))


@op("GELU")
def gelu(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """x times the normal distribution function of x."""
    how = "tanh" if node.flag("approximate") else "none"
    return finish(ctx, node, onnx_ops.gelu(ctx, ctx.spell(node, "Gelu", approximate=how), args))


@op("SQUARE")
def square(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """x x."""
    x = settled(ctx, node, ctx.picture(node, args))
    return finish(ctx, node, like(x, ctx.add(node, "Mul", [x.name, x.name])))


@op("RSQRT")
def rsqrt(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """1 / sqrt(x)."""
    x = settled(ctx, node, ctx.picture(node, args))
    return finish(ctx, node, like(x, ctx.add(node, "Reciprocal", [ctx.add(node, "Sqrt", [x.name])])))


# ---- types -------------------------------------------------------------------------------------------------------------------------------------


@op("QUANTIZE")
def quantize(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """To another scale and zero point."""
    x = args[0] if args else None
    if not node.result.quantised:
        raise ModelError("quantises without a scale: damaged file")
    if not isinstance(x, Array):
        return on_grid(ctx, node, ctx.picture(node, args), Grid.of(node.result))
    info, scale = np.iinfo(node.result.dtype), node.result
    if x.symbolic or x.data.dtype.kind != "f" or scale.scale.size != 1:
        raise ModelError("quantises a constant in a way that is not supported")
    whole = np.clip(np.rint(x.data / scale.scale[0]) + scale.zero[0], info.min, info.max)
    return Array(real(scale, whole.astype(scale.dtype)))


@op("DEQUANTIZE")
def dequantize(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """To floating point: the real numbers, which quantised values are here anyway."""
    if not args or not isinstance(args[0], Picture | Array):
        raise ModelError("has no input: damaged file")
    return args[0]


@op("CAST")
def cast(ctx: TfliteContext, node: TfliteNode, args: Args) -> Any:
    """To floating point, from numbers that stand for themselves."""
    x, source, target = ctx.picture(node, args), ctx.tensor(node, 0), node.result
    if target.type not in ("float32", "float16") or target.quantised:
        raise ModelError(f"turns the picture into {target.type} inside the network: convert the network with floating-point output")
    if source.quantised and (float(source.scale[0]) != 1 or source.zero[0]):
        raise ModelError("turns quantised numbers into floating point without their scale: not supported")
    return x
