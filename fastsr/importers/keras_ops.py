"""Functions that Keras keeps as layers: TensorFlow's (TFOpLambda, SlicingOpLambda, TensorFlowOpLayer) and Keras 3's own (`keras.ops`).

All are brought into one form: the function's plain name, its operands and its settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .keras_context import NEW, Context, Node, combined, plain_number
from .keras_layers import LAYERS, activation, clipped, concatenate, rectified
from .keras_pixels import padded, resized, shuffle, to_size, whole
from .tensorflow_values import Picture
from .values import Dim

layer = partial(register, LAYERS)
FUNCTIONS: dict[str, Callable[[Context, Node, list[Any], dict[str, Any]], Any]] = {}
function = partial(register, FUNCTIONS)
MAX_NUMBERS = 65536


@layer("TFOpLambda")
def tf_op_lambda(ctx: Context, node: Node) -> Any:
    """A function of TensorFlow by its name, as "math.multiply"."""
    return apply(ctx, node, node.text("function"), list(node.args), dict(node.kwargs))


@layer("SlicingOpLambda")
def slicing(ctx: Context, node: Node) -> Any:
    """x[...]."""
    return get_item(ctx, node, [*node.args, node.kwargs.get("slice_spec")], {})


@layer("TensorFlowOpLayer")
def tensorflow_op_layer(ctx: Context, node: Node) -> Any:
    """TensorFlow 2.0 to 2.3: a node of a graph, in JSON; constants by the place of the operand."""
    spec, constants = node.config.get("node_def"), node.setting("constants", default={})
    spec = json.loads(spec) if isinstance(spec, str) and spec.lstrip().startswith("{") else spec
    if not isinstance(spec, dict) or not isinstance(constants, dict):
        raise ModelError("holds a node of a graph in a form that fastsr does not read: save the model with TensorFlow 2.4 or later")
    operands: list[Any] = list(node.pictures)
    for place in sorted(constants, key=lambda k: int(k) if str(k).isdigit() else 0):
        operands.insert(int(place), constants[place])
    attrs = spec.get("attr", {})
    attrs = attrs if isinstance(attrs, dict) else {}
    settings = {k: int(v["i"]) if "i" in v else v.get("f") for k, v in attrs.items() if isinstance(v, dict) and ("i" in v or "f" in v)}
    op = str(spec.get("op"))
    if op == "ConcatV2":
        return apply(ctx, node, op, [operands[:-1]], {"axis": operands[-1]})
    return apply(ctx, node, op, operands, settings)


def operation(ctx: Context, node: Node) -> Any:
    """An operation of Keras 3; its settings are the config."""
    return apply(ctx, node, node.op, list(node.args), {**node.config, **node.kwargs})


def apply(ctx: Context, node: Node, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The result of a function. Raises ModelError for one that is not known."""
    plain = re.sub("v2$", "", name.rpartition(".")[2].replace("_", "").lower())
    if plain not in FUNCTIONS:
        raise ModelError(f"calls the function '{name[:80]}', which fastsr does not know: export the network to ONNX or a frozen .pb")
    if re.match(r"(keras\.)?ops\.gelu$", name):
        kwargs = {"approximate": True, **kwargs}
    return FUNCTIONS[plain](ctx, node, args, kwargs)


def picture(args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """The first operand, which must be a picture."""
    for value in (*args[:1], *(kwargs.get(k) for k in ("x", "input", "inputs", "features", "images", "tensor", "value", "t", "logits"))):
        if isinstance(value, Picture):
            return value
    raise ModelError("reads a constant, where a picture is expected: not supported")


def setting(args: list[Any], kwargs: dict[str, Any], place: int, *names: str) -> Any:
    """An argument by name or place, None when it is not there."""
    for name in names:
        if kwargs.get(name) is not None:
            return kwargs[name]
    return args[place] if place < len(args) else None


# ---- element by element ------------------------------------------------------------------------------------------------------------------------


def constant(ctx: Context, node: Node, value: Any, like: Picture) -> str:
    """The name of a constant operand: a number, or one for each channel."""
    if isinstance(value, dict):
        inner = value.get("config", value)
        value = inner.get("value") if isinstance(inner, dict) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ctx.number(node, plain_number(value, "a constant"), "constant")
    if not isinstance(value, list):
        raise ModelError(f"has the operand {str(value)[:60]}, which is not supported")
    shape, flat = [], value
    while isinstance(flat, list) and flat and isinstance(flat[0], list):
        shape.append(len(flat))
        flat = flat[0] if len(flat) == 1 else [v for part in flat for v in (part if isinstance(part, list) else [part])]
        if len(shape) > 4 or len(flat) > MAX_NUMBERS:
            raise ModelError("has a constant that is too large")
    if any(n != 1 for n in shape[: len(like.layout)]) or not like.layout.endswith("C"):
        raise ModelError("has a constant that differs from pixel to pixel, which is not supported")
    return ctx.number(node, np.array([plain_number(v, "a constant") for v in flat], np.float32), "constant", like.channels)


def binary(op: str) -> Callable[[Context, Node, list[Any], dict[str, Any]], Picture]:
    """A function of two operands, of which one may be a constant."""

    def make(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
        operands = list(args[0]) if len(args) == 1 and isinstance(args[0], list) else list(args)
        operands += [kwargs[k] for k in ("x", "x1", "a", "y", "x2", "b") if k in kwargs]
        if len(operands) != 2 or not any(isinstance(o, Picture) for o in operands):
            raise ModelError(f"has {len(operands)} operands: damaged file, or not supported")
        left, right = operands
        if isinstance(left, Picture) and isinstance(right, Picture):
            size = combined(left, right)
            return Picture(ctx.emit(op, [left.name, right.name], ctx.fresh(node.name), node), left.layout, size)
        x = left if isinstance(left, Picture) else right
        names = [o.name if isinstance(o, Picture) else constant(ctx, node, o, x) for o in operands]
        return x.like(ctx.emit(op, names, ctx.fresh(node.name), node))

    return make


for _op, _names in {
    "Add": ("add", "biasadd"),
    "Sub": ("subtract", "sub"),
    "Mul": ("multiply", "mul"),
    "Div": ("divide", "truediv", "truedivide", "realdiv", "div"),
    "Max": ("maximum",),
    "Min": ("minimum",),
}.items():
    function(*_names)(binary(_op))


def unary(op: str) -> Callable[[Context, Node, list[Any], dict[str, Any]], Picture]:
    """A function of one picture without settings."""

    def make(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
        if any(isinstance(a, (int, float)) for a in args[1:]) or kwargs.get("beta") not in (None, 1):
            raise ModelError("has settings that fastsr does not know for this function: export the network to ONNX or a frozen .pb")
        return ctx.put(node, op, picture(args, kwargs))

    return make


for _op, _names in {
    "Tanh": ("tanh",), "Sigmoid": ("sigmoid",), "Swish": ("swish", "silu"), "Abs": ("abs", "absolute"), "Neg": ("negative", "neg"),
    "Softplus": ("softplus",), "Sqrt": ("sqrt",), "Exp": ("exp",), "Mish": ("mish",), "HardSwish": ("hardswish", "hardsilu"),
}.items():  # fmt: skip
    function(*_names)(unary(_op))


@function("relu")
def relu(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """TensorFlow's, or the backend's of Keras with a slope, a largest value and a threshold."""
    slope, high, threshold = (
        None if v is None or isinstance(v, str) else plain_number(v, "a setting")
        for v in (setting(args, kwargs, 1, "alpha", "negative_slope"), setting(args, kwargs, 2, "max_value"), setting(args, kwargs, 3, "threshold"))
    )
    if threshold:
        raise ModelError("has a threshold, which is not supported")
    return rectified(ctx, node, picture(args, kwargs), slope or 0.0, high)


@function("elu")
def elu(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """alpha (exp(x) - 1) below zero."""
    alpha = setting(args, kwargs, 1, "alpha")
    return ctx.put(node, "Elu", picture(args, kwargs), alpha=1.0 if alpha is None or isinstance(alpha, str) else plain_number(alpha, "alpha"))


@function("relu6")
def relu6(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """Cut to 0..6."""
    return clipped(ctx, node, picture(args, kwargs), 0.0, 6.0)


@function("hardsigmoid")
def hard_sigmoid(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """The activation of that name."""
    return activation(ctx, node, picture(args, kwargs), "hard_sigmoid")


@function("gelu")
def gelu(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """Keras' is approximate by default, TensorFlow's is not."""
    approximate = setting(args, kwargs, 1, "approximate")
    return ctx.put(node, "Gelu", picture(args, kwargs), approximate="tanh" if approximate else "none")


@function("leakyrelu")
def leaky_relu(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """Slope 0.2 below zero by default."""
    alpha = setting(args, kwargs, 1, "alpha", "negative_slope")
    return ctx.put(node, "LeakyRelu", picture(args, kwargs), alpha=0.2 if alpha is None else plain_number(alpha, "alpha"))


@function("square")
def square(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """x * x."""
    x = picture(args, kwargs)
    return ctx.put(node, "Mul", x, x.name)


@function("identity", "stopgradient", "cast")
def identity(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """x; everything is computed in floats."""
    if str(setting(args, kwargs, 1, "dtype") or "float32") not in ("float32", "float16", "bfloat16", "float64", "mixed_float16"):
        raise ModelError(f"turns pixels into {str(setting(args, kwargs, 1, 'dtype'))[:40]}, which is not supported")
    return picture(args, kwargs)


@function("clipbyvalue", "clip")
def clip(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """Cut to a range of numbers."""
    low = setting(args, kwargs, 1, "clip_value_min", "x_min", "min_value", "min")
    high = setting(args, kwargs, 2, "clip_value_max", "x_max", "max_value", "max")
    bounds = [None if v is None else plain_number(v, "a bound") for v in (low, high)]
    return clipped(ctx, node, picture(args, kwargs), *bounds)


# ---- pixels and channels -----------------------------------------------------------------------------------------------------------------------


@function("concat", "concatenate")
def concat(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """Channels side by side."""
    axis, joined = setting(args, kwargs, 1, "axis"), setting(args, kwargs, 0, "values", "tensors", "xs", "arrays")
    pictures = joined if isinstance(joined, list) else [joined]
    if not all(isinstance(p, Picture) for p in pictures):
        raise ModelError("joins a picture with a constant, which is not supported")
    return concatenate(ctx, node, axis=-1 if axis is None else axis, pictures=pictures)


@function("depthtospace")
def depth_to_space(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """Channels to pixels."""
    if str(setting(args, kwargs, 2, "data_format") or "NHWC") not in ("NHWC", "channels_last"):
        raise ModelError("shuffles pictures in another layout than NHWC, which is not supported")
    x = picture(args, kwargs)
    if x.layout != "NHWC":
        raise ModelError(f"works on NHWC, but its input is {x.layout}: not supported")
    return shuffle(ctx, node, x, whole(setting(args, kwargs, 1, "block_size", "block_shape")))


@function("resize", "resizeimages")
def resize(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """A size in pixels, for networks whose input has a fixed size."""
    x, size = picture(args, kwargs), setting(args, kwargs, 1, "size")
    how = setting(args, kwargs, 2, "method", "interpolation") or "bilinear"
    if kwargs.get("antialias") or kwargs.get("preserve_aspect_ratio") or kwargs.get("crop_to_aspect_ratio") or kwargs.get("pad_to_aspect_ratio"):
        raise ModelError("resizes with smoothing or an aspect ratio, which is not supported")
    if x.layout != "NHWC" or not isinstance(size, list) or len(size) != 2 or not all(type(s) is int for s in size):
        raise ModelError(f"resizes to {str(size)[:60]}, where two numbers are expected: not supported")
    if all(isinstance(x.size[a], Dim) for a in "HW"):
        raise ModelError("resizes to a size in pixels, whatever the picture: use UpSampling2D instead")
    return to_size(ctx, node, x, size, how)


@function("pad", "mirrorpad")
def pad(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """A border of a constant, or of the picture itself."""
    x, pads = picture(args, kwargs), setting(args, kwargs, 1, "paddings", "pad_width")
    mode = str(setting(args, kwargs, 2, "mode") or "constant").lower()
    ok = isinstance(pads, list) and len(pads) == 4 and all(isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p) for p in pads)
    if not ok or mode not in ("constant", "reflect", "symmetric") or not all(0 <= n <= 65536 for p in pads for n in p):
        raise ModelError(f"pads by {str(pads)[:60]} in mode '{mode[:20]}', which is not supported")
    by = dict(zip(x.layout, pads, strict=True))
    if any(by["N"]) or any(by["C"]):
        raise ModelError("pads the batch or the channels, which is not supported")
    fill = setting(args, kwargs, 3, "constant_values")
    return padded(ctx, node, x, [by["H"][0], by["W"][0], by["H"][1], by["W"][1]], mode, plain_number(fill or 0, "constant_values"))


@function("reducemean", "mean")
def mean(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """The mean over rows and columns."""
    x, axes = picture(args, kwargs), setting(args, kwargs, 1, "axis")
    axes = axes if isinstance(axes, list) else [axes]
    if len(x.layout) != 4 or not all(type(a) is int and -4 <= a < 4 for a in axes) or sorted(x.layout[a] for a in axes) != ["H", "W"]:
        raise ModelError(f"takes the mean along the axes {str(axes)[:40]}; only that over rows and columns is supported")
    made = ctx.emit("GlobalAveragePool", [x.name], ctx.fresh(node.name), node)
    return Picture(made, x.layout if kwargs.get("keepdims") else "NC", {**x.size, "H": 1, "W": 1})


def bounds_of(item: Any) -> tuple[Any, Any, Any] | None:
    """(start, stop, step) of one axis of an index; None for anything but a slice."""
    if not isinstance(item, dict):
        return None
    config = item.get("config", item)
    if isinstance(config, dict):
        parts = [config.get(k) for k in ("start", "stop", "step")]
    elif isinstance(config, list) and len(config) == 3:
        parts = config
    else:
        return None
    return tuple(parts) if all(p is None or (type(p) is int and abs(p) <= 1 << 24) for p in parts) else None  # type: ignore[return-value]


def is_ellipsis(item: Any) -> bool:
    """Whether part of an index is "..."."""
    return "llipsis" in str(item)[:200] and not isinstance(item, list)


@function("getitem", "stridedslice")
def get_item(ctx: Context, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Picture:
    """x[:, a:b, c:d, e:f]: rows and columns cut off, channels chosen."""
    x, index = picture(args, kwargs), setting(args, kwargs, 1, "key", "slice_spec")
    items = index if isinstance(index, list) else [index]
    for k, item in enumerate(items):
        if is_ellipsis(item):
            items = [*items[:k], *[{}] * (len(x.layout) - len(items) + 1), *items[k + 1 :]]
            break
    if len(items) > len(x.layout):
        raise ModelError("has an index of too many axes: damaged file, or not supported")
    crop = {"H": [0, 0], "W": [0, 0]}
    chosen = None
    for letter, item in zip(x.layout, items, strict=False):
        bounds = bounds_of(item)
        if bounds is None:
            raise ModelError(f"has the index {str(item)[:60]}, only slices are supported")
        start, stop, step = bounds[0] or 0, bounds[1], bounds[2] or 1
        if (start, stop, step) == (0, None, 1):
            continue
        if letter == "C":
            first, last, by = slice(*bounds).indices(x.channels)
            count = len(range(first, last, by))
            if by < 1 or count < 1:
                raise ModelError("chooses no channels, or backwards: not supported")
            chosen = (first, last, by, count)
        elif letter in "HW" and step == 1 and start >= 0 and (stop is None or stop < 0):
            crop[letter] = [-start, stop or 0]
        else:
            raise ModelError("cuts a picture at places that depend on its size, which is not supported")
    if any(crop["H"] + crop["W"]):
        x = padded(ctx, node, x, [crop["H"][0], crop["W"][0], crop["H"][1], crop["W"][1]])
    if chosen is None:
        return x
    numbers = [ctx.constant(NEW, np.array([n], np.int64), "", f"{node.name}/{stem}") for stem, n in zip("fla", (*chosen[:2], 1), strict=True)]
    numbers.append(ctx.constant(NEW, np.array([chosen[2]], np.int64), "", f"{node.name}/step"))
    made = ctx.emit("Slice", [x.name, *numbers], ctx.fresh(node.name), node)
    return x.like(made, C=chosen[3])


@layer("UpSampling")
def upsampling_by_name(ctx: Context, node: Node) -> Picture:
    """A layer of projects with UpSampling2D's settings."""
    x, by = ctx.spatial(node), node.whole("scale", "size", "factor", least=2)
    return resized(ctx, node, x, (by, by), {a: x.size[a] * by for a in "HW"}, node.text("interpolation", default="nearest"))
