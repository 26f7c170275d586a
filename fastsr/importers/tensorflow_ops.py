"""TensorFlow operators on pictures, translated to ONNX operators of our Graph: layouts, and what is done element by element.

Each function takes the import's state, the node and its input values, appends to the Graph and returns the result (a list for several outputs).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .tensorflow_context import Context, TfNode
from .tensorflow_schema import FLOAT_TYPES, type_name
from .tensorflow_values import Picture, Value
from .values import Array, Dim, Filled, differ, unfilled

Handler = Callable[[Context, TfNode, list[Value]], Any]
OPS: dict[str, Handler] = {}
op = partial(register, OPS)

ADVICE = {
    "Softplus": "fastsr has no step for it",
    "VariableV2": "the graph is not frozen: freeze it with its checkpoint (tf.compat.v1.graph_util.convert_variables_to_constants)",
    "VarHandleOp": "the graph is not frozen: freeze it (convert_variables_to_constants_v2)",
    "ReadVariableOp": "the graph is not frozen: freeze it (convert_variables_to_constants_v2)",
    "Variable": "the graph is not frozen: freeze it with its checkpoint (tf.compat.v1.graph_util.convert_variables_to_constants)",
    "IteratorGetNext": "the graph reads a data set: export it with a Placeholder in its place",
    "QueueDequeueV2": "the graph reads a queue: export it with a Placeholder in its place",
    "PartitionedCall": "the graph calls functions: freeze it so that they are inlined (convert_variables_to_constants_v2)",
    "StatefulPartitionedCall": "the graph calls functions: freeze it so that they are inlined (convert_variables_to_constants_v2)",
}


def unsupported(op: str) -> str:
    """What to say about an operator that is not in the table."""
    return f"operator {op} is not supported; {ADVICE.get(op, 'export the network without it, or ask for it in an issue with this message')}"


# ---- layouts -----------------------------------------------------------------------------------------------------------------------------------

SAME_AXES = {
    "Identity", "StopGradient", "CheckNumerics", "Snapshot", "PreventGradient", "Elu", "Selu",
    "Relu", "Relu6", "LeakyRelu", "Tanh", "Sigmoid", "Abs", "Neg",
    "Square", "Cast", "Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "Pad", "PadV2", "MirrorPad",
    "SpaceToBatchND", "BatchToSpaceND", "IdentityN", "ClipByValue",
}  # fmt: skip
TELLS_LAYOUT = {
    "Conv2D": 2, "DepthwiseConv2dNative": 2, "BiasAdd": 0, "FusedBatchNorm": 0, "FusedBatchNormV2": 0, "FusedBatchNormV3": 0,
    "DepthToSpace": -1, "SpaceToDepth": -1, "MaxPool": -1, "AvgPool": -1, "ResizeBilinear": -1, "ResizeNearestNeighbor": -1, "ResizeBicubic": -1,
}  # fmt: skip
"""Operators with a data format -> the axis of their second input that counts the channels, -1 for none."""


def first_reader(ctx: Context, placeholder: TfNode) -> tuple[str, int] | None:
    """(layout, channels or 0) of a rank 4 placeholder, from the nearest reader that tells."""
    readers: dict[str, list[TfNode]] = {}
    for node in ctx.nodes.values():
        for source, _ in node.inputs[:8]:
            readers.setdefault(source, []).append(node)
    seen = {placeholder.name}
    queue: deque[tuple[str, tuple[int, ...]]] = deque([(placeholder.name, (0, 1, 2, 3))])
    layout = ""
    while queue:
        name, axes = queue.popleft()
        for node in readers.get(name, []):
            if node.op in TELLS_LAYOUT and name == node.inputs[0][0]:
                form = data_format_of(node)
                here = "".join(form[axes.index(i)] for i in range(4))
                layout = layout or here
                weight = ctx.values.get(node.inputs[1][0]) if len(node.inputs) > 1 else None
                axis = TELLS_LAYOUT[node.op]
                if here == layout and isinstance(weight, Array) and axis >= 0 and weight.data.ndim == (4 if axis else 1):
                    return layout, weight.data.shape[axis]
            if node.name in seen:
                continue
            seen.add(node.name)
            if node.op in SAME_AXES:
                queue.append((node.name, axes))
            elif node.op == "Transpose" and len(node.inputs) == 2:
                perm = ctx.values.get(node.inputs[1][0])
                if isinstance(perm, Array) and sorted(perm.data.reshape(-1).tolist()) == [0, 1, 2, 3]:
                    queue.append((node.name, tuple(axes[int(p)] for p in perm.data.reshape(-1))))
    return (layout, 0) if layout else None


def data_format_of(node: TfNode) -> str:
    """NHWC or NCHW."""
    form = node.attr_text("data_format", "NHWC")
    if form not in ("NHWC", "NCHW"):
        raise ModelError(f"data_format '{form}' is not supported, only NHWC and NCHW")
    return form


def formatted(ctx: Context, node: TfNode, args: list[Value], k: int = 0) -> Picture:
    """Argument k as a picture whose layout is the node's data_format."""
    x, form = ctx.picture(node, args, k), data_format_of(node)
    if x.layout != form:
        raise ModelError(f"works on {form}, but its input is {x.layout}: fastsr does not transpose pictures")
    return x


def by_layout(form: str, values: list[int]) -> dict[str, int]:
    """Attribute lists such as strides, by letter."""
    if len(values) != 4:
        raise ModelError(f"has an attribute of {len(values)} numbers, where 4 are needed: damaged file")
    return dict(zip(form, values, strict=True))


def spatial(node: TfNode, name: str, form: str) -> list[int]:
    """The H and W entries of an attribute list, which must be 1 for N and C."""
    values = by_layout(form, node.attr_ints(name, [1, 1, 1, 1]))
    if values["N"] != 1 or values["C"] != 1 or not all(1 <= values[a] <= 1024 for a in "HW"):
        raise ModelError(f"{name} {list(values.values())} are not supported")
    return [values["H"], values["W"]]


# ---- element by element ------------------------------------------------------------------------------------------------------------------------


def per_channel(ctx: Context, node: TfNode, value: Array, x: Picture) -> str:
    """A constant that meets picture `x` in an element-wise operator, as a scalar or (1, C, 1, 1) constant of the Graph; returns its name."""
    data = value.data
    if value.symbolic:
        raise ModelError("computes pixels from the size of the picture, which fastsr cannot do")
    if data.dtype.kind not in "fiub" or data.ndim > len(x.layout):
        raise ModelError(f"combines the picture with a constant of shape {list(data.shape)} and type {data.dtype}: not supported")
    if data.size == 1:
        return ctx.constant(value, data.reshape(()).astype(np.float32), "scalar", node.name)
    letters = x.layout[len(x.layout) - data.ndim :]
    if any(n != 1 for a, n in zip(letters, data.shape, strict=True) if a != "C") or data.size not in (x.channels, data.shape[letters.find("C")]):
        raise ModelError(f"combines the picture with a constant of shape {list(data.shape)}: only one number, or one per channel, is supported")
    if data.size != x.channels and x.channels != 1:
        raise ModelError(f"combines {x.channels} channels with a constant of shape {list(data.shape)}: damaged file")
    return ctx.constant(value, data.reshape(1, -1, 1, 1).astype(np.float32), "channels", node.name)


def broadcast(ctx: Context, x: Picture, y: Picture, name: str) -> Picture:
    """The result of an element-wise operator on two pictures."""
    if x.layout != y.layout:
        raise ModelError(f"combines pictures of layouts {x.layout} and {y.layout}: not supported")
    size = dict(x.size)
    for a in "NCHW":
        p, q = x.size[a], y.size[a]
        if p is q:
            continue
        ctx.relate(p, q)
        if differ(p, q) and 1 not in (p, q):
            raise ModelError(f"combines pictures whose axis {a} differs ({_say(p)} and {_say(q)}): damaged file")
        size[a] = q if not isinstance(p, Dim) and p == 1 else p
    return Picture(name, x.layout, size)


def _say(size: Any) -> str:
    return "a size of its own" if isinstance(size, Dim) else str(size)


BINARY = {"Add": "Add", "AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div", "Div": "Div", "Maximum": "Max", "Minimum": "Min"}


@op(*BINARY)
def binary(ctx: Context, node: TfNode, args: list[Value]) -> Picture | Filled:
    """Two pictures, or a picture and a constant."""
    if len(args) != 2:
        raise ModelError(f"has {len(args)} inputs, needs 2: damaged file")
    if not any(isinstance(a, Picture) for a in args):
        return _fill_binary(ctx, node, args)
    names: list[str] = []
    pictures = [a for a in args if isinstance(a, Picture)]
    result = pictures[0].like(node.name)
    for a in args:
        if isinstance(a, Picture):
            result = broadcast(ctx, result, a, node.name)
            names.append(a.name)
        else:
            names.append(per_channel(ctx, node, a if isinstance(a, Array) else _unfill(a, pictures[0]), pictures[0]))
            width = ctx.graph.constants[names[-1]].size
            result.size["C"] = max(result.channels, width)
    ctx.emit(BINARY[node.op], names, node.name, node)
    return result


def _unfill(value: Value, x: Picture) -> Array:
    if not isinstance(value, Filled) or len(value.shape) != len(x.layout) or any(n != m for n, m in zip(value.shape, x.shape, strict=True)):
        raise ModelError("combines a picture with a filled array of another shape: not supported")
    return Array(value.value)


def _fill_binary(ctx: Context, node: TfNode, args: list[Value]) -> Filled:
    from .tensorflow_shapes import evaluate

    plain, shape = unfilled(args)
    return Filled(evaluate(ctx, node, [*plain]).data.reshape(()), shape)


@op("AddN")
def add_n(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Sum of several pictures, as a chain of Add."""
    total = ctx.picture(node, args, 0)
    for k in range(1, len(args)):
        other = ctx.picture(node, args, k)
        name = node.name if k == len(args) - 1 else ctx.fresh(f"{node.name}/sum")
        result = broadcast(ctx, total, other, name)
        ctx.emit("Add", [total.name, other.name], name, node)
        total = result
    return total


@op("BiasAdd", "BiasAddV1")
def bias_add(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """One number per channel, added."""
    x = formatted(ctx, node, args)
    bias = ctx.numbers(node, args, 1)
    if bias.shape != (x.channels,) or bias.dtype.kind not in "fiu":
        raise ModelError(f"has a bias of shape {list(bias.shape)} for {x.channels} channels: damaged file")
    name = ctx.constant(ctx.array(node, args, 1), bias.reshape(1, -1, 1, 1).astype(np.float32), "channels", node.name)
    ctx.emit("Add", [x.name, name], node.name, node)
    return x.like(node.name)


@op("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Batch normalisation with stored statistics."""
    if node.attr_flag("is_training", True):
        raise ModelError("normalises by the statistics of the picture itself (is_training): export the graph for inference")
    x = formatted(ctx, node, args)
    names = [x.name]
    for k in range(1, 5):
        data = ctx.numbers(node, args, k)
        if data.shape != (x.channels,) or data.dtype.kind != "f":
            raise ModelError(f"has statistics of shape {list(data.shape)} for {x.channels} channels: damaged file")
        names.append(ctx.constant(ctx.array(node, args, k), data.astype(np.float32), "vector", node.name))
    ctx.emit("BatchNormalization", names, node.name, node, epsilon=node.attr_float("epsilon", 1e-4))
    return x.like(node.name)


UNARY = {op: op for op in ("Relu", "Tanh", "Sigmoid", "Abs", "Neg", "Elu", "Selu", "Softsign")}


@op(*UNARY)
def unary(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """One picture in, one out, element by element."""
    x = ctx.picture(node, args)
    ctx.emit(UNARY[node.op], [x.name], node.name, node)
    return x.like(node.name)


@op("LeakyRelu")
def leaky_relu(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """x, or alpha x below zero."""
    x, alpha = ctx.picture(node, args), node.attr_float("alpha", 0.2)
    if not math.isfinite(alpha):
        raise ModelError(f"has the slope {alpha}: damaged file")
    ctx.emit("LeakyRelu", [x.name], node.name, node, alpha=alpha)
    return x.like(node.name)


@op("Relu6")
def relu6(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """min(max(x, 0), 6)."""
    x = ctx.picture(node, args)
    bounds = [ctx.constant(np.empty(0), np.array(b, np.float32), s, node.name) for b, s in ((0, "min"), (6, "max"))]
    ctx.emit("Clip", [x.name, *bounds], node.name, node)
    return x.like(node.name)


@op("ClipByValue")
def clip(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """min(max(x, low), high)."""
    x, names = ctx.picture(node, args), []
    for k in (1, 2):
        bound = ctx.numbers(node, args, k)
        if bound.size != 1 or bound.dtype.kind != "f":
            raise ModelError(f"clips to bounds of shape {list(bound.shape)}: only single numbers are supported")
        names.append(ctx.constant(ctx.array(node, args, k), bound.reshape(()).astype(np.float32), "scalar", node.name))
    ctx.emit("Clip", [x.name, *names], node.name, node)
    return x.like(node.name)


@op("Square")
def square(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """x * x."""
    x = ctx.picture(node, args)
    ctx.emit("Mul", [x.name, x.name], node.name, node)
    return x.like(node.name)


@op("Identity", "StopGradient", "CheckNumerics", "Snapshot", "PreventGradient", "PlaceholderWithDefault")
def identity(ctx: Context, node: TfNode, args: list[Value]) -> Value:
    """The same value."""
    if not args:
        raise ModelError("has no input: damaged file")
    return args[0]


@op("IdentityN")
def identity_n(ctx: Context, node: TfNode, args: list[Value]) -> list[Value]:
    """The same values."""
    if not args:
        raise ModelError("has no input: damaged file")
    return args


@op("Cast")
def cast(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """To a floating-point type: the same picture. Rounding to integers is not done inside the network."""
    x, target = ctx.picture(node, args), node.attr_type("DstT", 0)
    if target not in FLOAT_TYPES:
        raise ModelError(f"turns the picture into {type_name(target)} inside the network: export the network with floating-point output")
    return Picture(x.name, x.layout, x.size)
