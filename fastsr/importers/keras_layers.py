"""Keras' layers that compute: convolutions, normalisation, activations, sums; each translated to ONNX operators of our Graph.

Each function takes the import's state and the call, appends to the Graph and returns the resulting Picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .keras_context import NEW, Context, Node, combined, padding, plain_number, positive
from .keras_weights import depthwise
from .tensorflow_conv import reordered
from .tensorflow_values import Picture
from .values import differ

Handler = Callable[[Context, Node], Any]
LAYERS: dict[str, Handler] = {}
layer = partial(register, LAYERS)


@layer("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "Identity", "InputLayer")
def nothing(ctx: Context, node: Node) -> Picture:
    """Layers that do nothing when a trained network runs."""
    return ctx.picture(node)


# ---- convolutions ------------------------------------------------------------------------------------------------------------------------------


def kernel_of(ctx: Context, node: Node, *names: str) -> list[np.ndarray]:
    """A convolution's weights, the first of which has four axes; the bias last, if the layer has one."""
    arrays = ctx.weights(node, *names, *(["bias"] if node.flag("use_bias", "bias", default=True) else []))
    if arrays[0].ndim != 4 or 0 in arrays[0].shape:
        raise ModelError(f"has weights of shape {list(arrays[0].shape)}: damaged file")
    return arrays


def is_old(node: Node) -> bool:
    """Whether the layer is written as Keras 1 does."""
    return "nb_filter" in node.config or "border_mode" in node.config


def hwio(ctx: Context, node: Node, w: np.ndarray) -> np.ndarray:
    """A kernel as (kh, kw, I, O), Keras 1's with Theano's order of axes, and Theano's mirrored ones, too."""
    if is_old(node) and node.form == "NCHW":
        w = w.transpose(2, 3, 1, 0)
    return w[::-1, ::-1] if ctx.store.theano else w


def kernel_size(node: Node, w: np.ndarray) -> list[int]:
    """The kernel's size, which config and weights must agree on."""
    size = [node.whole("nb_row"), node.whole("nb_col")] if "nb_row" in node.config else node.pair("kernel_size", default=list(w.shape[:2]))
    if size != list(w.shape[:2]):
        raise ModelError(f"has weights of shape {list(w.shape)} for a kernel of {size[0]}x{size[1]}: damaged file")
    return size


def dilations_of(node: Node) -> list[int]:
    """How far apart the kernel's taps are."""
    return node.pair("dilation_rate", "atrous_rate", default=(1, 1))


def convolve(ctx: Context, node: Node, x: Picture, weight: np.ndarray, form: str, group: int, bias: np.ndarray | None, strides: list[int]) -> Picture:
    """A Conv with weights (O, I / group, kh, kw)."""
    k, kernel, dilations = weight.shape[0], list(weight.shape[2:]), dilations_of(node) if form != "pointwise" else [1, 1]
    if form == "pointwise":
        pads, out = {"pads": [0, 0, 0, 0]}, {"H": x.size["H"]}
    else:
        pads, out = padding(node, kernel, strides, dilations, x.size)
    names = [x.name, ctx.constant(NEW, weight, form, f"{node.name}/kernel")]
    if bias is not None:
        if bias.shape != (k,):
            raise ModelError(f"has a bias of shape {list(bias.shape)} for {k} channels: damaged file")
        names.append(ctx.constant(NEW, bias, "", f"{node.name}/bias"))
    made = ctx.emit("Conv", names, ctx.fresh(node.name), node, strides=strides, dilations=dilations, group=group, kernel_shape=kernel, **pads)
    return x.like(made, C=k, **out)


@layer("Conv2D", "Convolution2D", "AtrousConvolution2D", "AtrousConv2D")
def conv2d(ctx: Context, node: Node) -> Picture:
    """Conv2D, kernel (kh, kw, C / groups, K)."""
    x, arrays = ctx.spatial(node), kernel_of(ctx, node, "kernel")
    w = hwio(ctx, node, arrays[0])
    kernel_size(node, w)
    group = node.whole("groups", default=1)
    if w.shape[2] * group != x.channels or w.shape[3] % group or node.whole("filters", "nb_filter", default=w.shape[3]) != w.shape[3]:
        raise ModelError(f"has weights of shape {list(w.shape)} in {group} groups for {x.channels} channels: damaged file")
    out = convolve(ctx, node, x, reordered(w), "OIHW", group, arrays[1] if len(arrays) > 1 else None, node.pair("strides", "subsample"))
    return activated(ctx, node, out)


@layer("DepthwiseConv2D", "DepthwiseConvolution2D")
def depthwise_conv2d(ctx: Context, node: Node) -> Picture:
    """One filter per channel, kernel (kh, kw, C, multiplier)."""
    x, arrays = ctx.spatial(node), kernel_of(ctx, node, "depthwise_kernel")
    out = depthwise_part(ctx, node, x, arrays[0], arrays[1] if len(arrays) > 1 else None)
    return activated(ctx, node, out)


def depthwise_part(ctx: Context, node: Node, x: Picture, w: np.ndarray, bias: np.ndarray | None) -> Picture:
    """A Conv with a group for each channel."""
    kernel_size(node, w)
    if w.shape[2] != x.channels or w.shape[3] != node.whole("depth_multiplier", default=1):
        raise ModelError(f"has weights of shape {list(w.shape)} for {x.channels} channels: damaged file")
    return convolve(ctx, node, x, depthwise(w), "depthwise", x.channels, bias, node.pair("strides", "subsample"))


@layer("SeparableConv2D", "SeparableConvolution2D")
def separable_conv2d(ctx: Context, node: Node) -> Picture:
    """A depthwise convolution and then one of 1x1."""
    x, arrays = ctx.spatial(node), kernel_of(ctx, node, "depthwise_kernel", "pointwise_kernel")
    middle = depthwise_part(ctx, node, x, arrays[0], None)
    w = arrays[1]
    if w.ndim != 4 or w.shape[:3] != (1, 1, middle.channels):
        raise ModelError(f"has pointwise weights of shape {list(w.shape)} for {middle.channels} channels: damaged file")
    out = convolve(ctx, node, middle, reordered(w), "pointwise", 1, arrays[2] if len(arrays) > 2 else None, [1, 1])
    return activated(ctx, node, out)


@layer("Conv2DTranspose", "Deconvolution2D", "Convolution2DTranspose")
def conv2d_transpose(ctx: Context, node: Node) -> Picture:
    """Transposed convolution, kernel (kh, kw, K, C); Keras 1's is (kh, kw, C, K). What "same" cuts off is as TensorFlow does it."""
    x, arrays = ctx.spatial(node), kernel_of(ctx, node, "kernel")
    w = hwio(ctx, node, arrays[0])
    w = w.transpose(0, 1, 3, 2) if is_old(node) else w
    kernel, strides = kernel_size(node, w), node.pair("strides", "subsample")
    if w.shape[3] != x.channels or node.whole("filters", "nb_filter", default=w.shape[2]) != w.shape[2] or dilations_of(node) != [1, 1]:
        raise ModelError(f"has weights of shape {list(w.shape)} for {x.channels} channels, or a dilation: damaged file, or not supported")
    mode, given = node.text("padding", "border_mode", default="valid").lower(), node.setting("output_padding")
    more = node.pair("output_padding", default=(0, 0), least=0) if given is not None else None
    pads, extra, out = [0, 0, 0, 0], [0, 0], {}
    for i, a in enumerate("HW"):
        s, k = strides[i], kernel[i]
        over = k - s if more is None else 2 * (k // 2) - more[i]
        if mode in ("same", "half"):
            pads[i], pads[i + 2], extra[i] = max(over, 0) // 2, max(over, 0) - max(over, 0) // 2, max(-over, 0)
            out[a] = (x.size[a] - 1) * s + (k - over)
        elif mode == "valid":
            extra[i] = max(s - k, 0) if more is None else more[i]
            out[a] = (x.size[a] - 1) * s + (k + extra[i])
        else:
            raise ModelError(f"has the padding '{mode[:40]}', which is not supported")
        positive(out[a])
    names = [x.name, ctx.constant(NEW, reordered(w), "IOHW", f"{node.name}/kernel")]
    if len(arrays) > 1:
        if arrays[1].shape != (w.shape[2],):
            raise ModelError(f"has a bias of shape {list(arrays[1].shape)} for {w.shape[2]} channels: damaged file")
        names.append(ctx.constant(NEW, arrays[1], "", f"{node.name}/bias"))
    made = ctx.emit("ConvTranspose", names, ctx.fresh(node.name), node, strides=strides, kernel_shape=kernel, pads=pads, output_padding=extra)
    return activated(ctx, node, x.like(made, C=w.shape[2], **out))


@layer("Dense")
def dense(ctx: Context, node: Node) -> Picture:
    """Dense on the channels, weights (C, K): a convolution of 1x1."""
    x = ctx.picture(node)
    if x.layout not in ("NC", "NHWC"):
        raise ModelError(f"reads {x.layout}, where the channels should come last: not supported")
    arrays = ctx.weights(node, "kernel", *(["bias"] if node.flag("use_bias", "bias", default=True) else []))
    w = arrays[0]
    if w.ndim != 2 or w.shape[0] != x.channels or 0 in w.shape:
        raise ModelError(f"has weights of shape {list(w.shape)} for {x.channels} channels: damaged file")
    out = convolve(ctx, node, x, w.T[:, :, None, None], "pointwise", 1, arrays[1] if len(arrays) > 1 else None, [1, 1])
    return activated(ctx, node, out)


# ---- activations -------------------------------------------------------------------------------------------------------------------------------

PLAIN = {
    "relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus", "softsign": "Softsign", "elu": "Elu", "selu": "Selu",
    "swish": "Swish", "silu": "Swish", "mish": "Mish", "exponential": "Exp", "hard_swish": "HardSwish", "hard_silu": "HardSwish",
}  # fmt: skip
"""Activation -> operator with the same meaning by default."""


def activated(ctx: Context, node: Node, x: Picture) -> Picture:
    """The layer's own activation of its result."""
    return activation(ctx, node, x, node.config.get("activation"))


def activation(ctx: Context, node: Node, x: Picture, spec: Any) -> Picture:
    """An activation by name, or by the config of a layer or function. The project's own can have another slope than Keras' of the same name."""
    own = isinstance(spec, dict) and re.match(r"(builtins$|(tf_)?keras\b|tensorflow\b)", str(spec.get("module") or "keras")) is None
    if isinstance(spec, dict):
        kind, config = spec.get("class_name"), spec.get("config")
        if isinstance(kind, str) and kind.rpartition(">")[2] in ACTIVATION_LAYERS and isinstance(config, dict):
            kind = kind.rpartition(">")[2]
            inner = Node(node.name, kind, config, [x], {}, node.layer, node.path, node.group)
            return LAYERS[kind](ctx, inner)
        spec = config if isinstance(config, str) else spec.get("registered_name") or kind
    if spec is None or spec == "linear":
        return x
    if not isinstance(spec, str):
        raise ModelError(f"has an activation that is not a name ({str(spec)[:80]}): damaged file")
    name, own = spec.rpartition(">")[2].rpartition(".")[2].lower(), own or ">" in spec
    if name in PLAIN:
        return ctx.put(node, PLAIN[name], x)
    if name in ("relu6", "relu_6"):
        return clipped(ctx, node, x, 0.0, 6.0)
    if name == "leaky_relu" and not own:
        return ctx.put(node, "LeakyRelu", x, alpha=0.2)
    if name == "hard_sigmoid":
        return hard_sigmoid(ctx, node, x)
    if name == "gelu":
        return ctx.put(node, "Gelu", x, approximate="none")
    if name == "hard_tanh":
        return clipped(ctx, node, x, -1.0, 1.0)
    raise ModelError(f"has the activation '{spec[:60]}', which fastsr does not know")


def hard_sigmoid(ctx: Context, node: Node, x: Picture) -> Picture:
    """Keras 1 and 2: 0.2 x + 0.5; Keras 3: x / 6 + 0.5; both cut to 0..1."""
    new = ctx.keras >= 3
    return ctx.put(node, "HardSigmoid", x, alpha=1 / 6 if new else 0.2, beta=0.5)


def clipped(ctx: Context, node: Node, x: Picture, low: float | None, high: float | None) -> Picture:
    """Numbers cut to a range."""
    names = ["" if v is None else ctx.number(node, v, stem) for v, stem in ((low, "min"), (high, "max"))]
    return ctx.put(node, "Clip", x, *names)


@layer("Activation")
def activation_layer(ctx: Context, node: Node) -> Picture:
    """An activation as a layer of its own."""
    return activation(ctx, node, ctx.picture(node), node.config.get("activation"))


@layer("ReLU")
def relu(ctx: Context, node: Node) -> Picture:
    """ReLU with a slope below zero and a largest value."""
    high = None if node.setting("max_value") is None else node.number("max_value")
    if node.number("threshold", "theta", default=0.0) != 0:
        raise ModelError("has a threshold, which is not supported")
    return rectified(ctx, node, ctx.picture(node), node.number("negative_slope", "alpha", default=0.0), high)


def rectified(ctx: Context, node: Node, x: Picture, slope: float, high: float | None) -> Picture:
    """x between 0 and a largest value, if there is one; slope x below zero."""
    if slope == 0:
        return ctx.put(node, "Relu", x) if high is None else clipped(ctx, node, x, 0.0, high)
    x = ctx.put(node, "LeakyRelu", x, alpha=slope)
    return x if high is None else clipped(ctx, node, x, None, high)


@layer("LeakyReLU")
def leaky_relu(ctx: Context, node: Node) -> Picture:
    """Slope 0.3 below zero by default."""
    return ctx.put(node, "LeakyRelu", ctx.picture(node), alpha=node.number("negative_slope", "alpha", default=0.3))


@layer("ELU")
def elu(ctx: Context, node: Node) -> Picture:
    """alpha (exp(x) - 1) below zero."""
    return ctx.put(node, "Elu", ctx.picture(node), alpha=node.number("alpha", default=1.0))


@layer("PReLU")
def prelu(ctx: Context, node: Node) -> Picture:
    """A slope for each channel below zero, weights (1, 1, C)."""
    x = ctx.picture(node)
    alpha = ctx.weights(node, "alpha")[0]
    axis = x.layout.index("C") - 1
    if alpha.ndim != len(x.layout) - 1 or any(n != 1 for i, n in enumerate(alpha.shape) if i != axis):
        raise ModelError(
            f"has a slope for every pixel (weights {list(alpha.shape)}), so it takes pictures of one size only: train it with shared_axes=[1, 2]"
        )
    if alpha.size not in (1, x.channels):
        raise ModelError(f"has {alpha.size} slopes for {x.channels} channels: damaged file")
    return ctx.put(node, "PRelu", x, ctx.constant(NEW, alpha.reshape(-1, 1, 1), "", f"{node.name}/alpha"))


ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU")


# ---- normalisation -----------------------------------------------------------------------------------------------------------------------------


def over_channels(node: Node, x: Picture, default: int = -1) -> None:
    """Check that the layer's axis is that of the channels."""
    axis = node.setting("axis", default=default)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if not isinstance(axis, int) or not -len(x.layout) <= axis < len(x.layout) or x.layout[axis] != "C":
        raise ModelError(f"works along axis {str(axis)[:40]} of {x.layout}, only the channels are supported")


def affine(ctx: Context, node: Node, x: Picture, *statistics: str) -> list[np.ndarray]:
    """gamma and beta, in full where the layer leaves them out, and then the statistics; each (C,)."""
    scale, centre = node.flag("scale", default=True), node.flag("center", default=True)
    arrays = ctx.weights(node, *(["gamma"] if scale else []), *(["beta"] if centre else []), *statistics)
    gamma = arrays.pop(0) if scale else np.ones(x.channels, np.float32)
    beta = arrays.pop(0) if centre else np.zeros(x.channels, np.float32)
    if any(a.shape != (x.channels,) for a in (gamma, beta, *arrays)):
        raise ModelError(f"has weights of shape {list(gamma.shape)} for {x.channels} channels: damaged file")
    return [gamma, beta, *arrays]


@layer("BatchNormalization", "SyncBatchNormalization")
def batch_normalization(ctx: Context, node: Node) -> Picture:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, for each channel."""
    x = ctx.picture(node)
    if node.setting("mode", default=0) != 0 or node.flag("renorm", default=False):
        raise ModelError("normalises in a mode that is not supported")
    over_channels(node, x)
    arrays = affine(ctx, node, x, "moving_mean", "moving_variance")
    if (arrays[3] < 0).any():
        raise ModelError("has a negative variance: damaged file")
    names = [ctx.constant(NEW, a, "", f"{node.name}/{stem}") for a, stem in zip(arrays, ("gamma", "beta", "mean", "variance"), strict=True)]
    return ctx.put(node, "BatchNormalization", x, *names, epsilon=node.number("epsilon", default=1e-3))


@layer("GroupNormalization", "InstanceNormalization")
def instance_normalization(ctx: Context, node: Node) -> Picture:
    """Normalisation by each channel's own mean and variance over the picture."""
    x = ctx.spatial(node)
    over_channels(node, x)
    groups = node.setting("groups", default=32) if node.op == "GroupNormalization" else -1
    if groups not in (-1, x.channels):
        raise ModelError(f"normalises {x.channels} channels in {str(groups)[:20]} groups; only a group for each channel is supported")
    gamma, beta = affine(ctx, node, x)
    names = [ctx.constant(NEW, a, "", f"{node.name}/{stem}") for a, stem in ((gamma, "gamma"), (beta, "beta"))]
    return ctx.put(node, "InstanceNormalization", x, *names, epsilon=node.number("epsilon", default=1e-3))


@layer("Rescaling")
def rescaling(ctx: Context, node: Node) -> Picture:
    """x * scale + offset, numbers or one for each channel."""
    x = ctx.picture(node)
    return scaled(ctx, node, x, numbers(node, "scale", 1.0), numbers(node, "offset", 0.0))


def numbers(node: Node, name: str, default: float) -> np.ndarray:
    """A setting of one number or several."""
    value = node.setting(name, default=default)
    if isinstance(value, list):
        return np.array([plain_number(v, name) for v in value], np.float32)
    return np.float32(plain_number(value, name)).reshape(())


def scaled(ctx: Context, node: Node, x: Picture, scale: np.ndarray | float, offset: np.ndarray | float) -> Picture:
    """x * scale + offset."""
    if not np.array_equal(scale, 1):
        x = ctx.put(node, "Mul", x, ctx.number(node, scale, "scale", x.channels))
    if np.any(offset):
        x = ctx.put(node, "Add", x, ctx.number(node, offset, "offset", x.channels))
    return x


@layer("Normalization")
def normalization(ctx: Context, node: Node) -> Picture:
    """(x - mean) / max(sqrt(variance), 1e-7), or its inverse; the numbers are settings, or weights that were adapted to pictures."""
    x = ctx.picture(node)
    if node.setting("mean") is not None:
        if isinstance(node.setting("mean"), list) and len(node.setting("mean")) > 1:
            over_channels(node, x)
        mean, variance = numbers(node, "mean", 0.0), numbers(node, "variance", 1.0)
    else:
        over_channels(node, x)
        mean, variance = (a.reshape(-1) for a in ctx.weights(node, "mean", "variance", "count")[:2])
    deviation = np.maximum(np.sqrt(np.maximum(variance, 0)), 1e-7)
    if node.flag("invert", default=False):
        return scaled(ctx, node, x, deviation, mean)
    return scaled(ctx, node, scaled(ctx, node, x, 1.0, -mean), 1 / deviation, 0.0)


# ---- several pictures --------------------------------------------------------------------------------------------------------------------------


def fold(ctx: Context, node: Node, op: str, pictures: list[Picture]) -> Picture:
    """Pictures combined two at a time, from left to right."""
    if not pictures:
        raise ModelError("reads nothing: damaged file")
    out = pictures[0]
    for p in pictures[1:]:
        size = combined(out, p)
        out = Picture(ctx.emit(op, [out.name, p.name], ctx.fresh(node.name), node), out.layout, size)
    return out


@layer("Add", "Subtract", "Multiply", "Maximum", "Minimum")
def combine(ctx: Context, node: Node) -> Picture:
    """Element by element."""
    ops = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Maximum": "Max", "Minimum": "Min"}
    return fold(ctx, node, ops[node.op], node.pictures)


@layer("Average")
def average(ctx: Context, node: Node) -> Picture:
    """The mean of several pictures."""
    return scaled(ctx, node, fold(ctx, node, "Add", node.pictures), 1 / max(len(node.pictures), 1), 0.0)


@layer("Concatenate")
def concatenate(ctx: Context, node: Node, *, axis: Any = None, pictures: list[Picture] | None = None) -> Picture:
    """Channels side by side, of all pictures that the layer reads where none are given."""
    pictures = node.pictures if pictures is None else pictures
    if not pictures:
        raise ModelError("reads nothing: damaged file")
    first = pictures[0]
    axis = node.setting("axis", "concat_axis", default=-1) if axis is None else axis
    if not isinstance(axis, int) or not -len(first.layout) <= axis < len(first.layout) or first.layout[axis] != "C":
        raise ModelError(f"joins pictures along axis {str(axis)[:40]} of {first.layout}; only channels can be joined")
    channels = 0
    for p in pictures:
        if p.layout != first.layout or any(differ(p.size[a], first.size[a]) for a in "HW"):
            raise ModelError("joins pictures of different sizes: damaged file, or made for pictures of another size")
        channels += p.channels
    if channels > 1 << 20:
        raise ModelError("has absurdly many channels: damaged file")
    return first.like(ctx.emit("Concat", [p.name for p in pictures], ctx.fresh(node.name), node, axis=1), C=channels)


@layer("Merge")
def merge(ctx: Context, node: Node) -> Picture:
    """Keras 1: sum, mul, ave, max, concat."""
    mode = node.text("mode", default="sum")
    if mode == "concat":
        return concatenate(ctx, node)
    kinds = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum"}
    if mode not in kinds:
        raise ModelError(f"joins pictures by '{mode[:40]}', which is not supported" + (" (a function, which never runs)" if "<" in mode else ""))
    node.op = kinds[mode]
    return average(ctx, node) if mode == "ave" else combine(ctx, node)


def ctx_constant_scales(ctx: Context, node: Node, by: tuple[float, float]) -> str:
    """The constant with the factors of a Resize."""
    return ctx.constant(NEW, np.array([1, 1, *by], np.float32), "", f"{node.name}/scales")
