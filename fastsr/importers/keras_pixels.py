"""Keras' layers that move pixels: pooling, enlargement, borders, changes of axes; translated to ONNX operators of our Graph."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .keras_context import NEW, Context, Node, padding, positive
from .keras_layers import LAYERS, ctx_constant_scales
from .resizing import scale_of
from .tensorflow_values import Picture
from .values import Dim

layer = partial(register, LAYERS)

RESIZES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "bicubic": {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5, "exclude_outside": 1},
}
"""Interpolation of TensorFlow 2 -> attributes of Resize."""


def resized(ctx: Context, node: Node, x: Picture, by: tuple[float, float], size: dict[str, Any], how: Any) -> Picture:
    """The picture at `size`, which is `by` times as high and wide."""
    if not isinstance(how, str) or how.lower() not in RESIZES:
        raise ModelError(f"enlarges by the filter '{str(how)[:40]}'; nearest, bilinear and bicubic are supported")
    scales = ctx_constant_scales(ctx, node, by)
    return x.like(ctx.emit("Resize", [x.name, "", scales], ctx.fresh(node.name), node, **RESIZES[how.lower()]), **size)


@layer("UpSampling2D")
def upsampling(ctx: Context, node: Node) -> Picture:
    """Whole factors of enlargement."""
    x, (h, w) = ctx.spatial(node), node.pair("size", default=(2, 2))
    if max(h, w) > 256:
        raise ModelError(f"enlarges by {h}x{w}: damaged file")
    return resized(ctx, node, x, (h, w), {"H": x.size["H"] * h, "W": x.size["W"] * w}, node.setting("interpolation", default="nearest"))


@layer("Resizing")
def resizing(ctx: Context, node: Node) -> Picture:
    """A size in pixels, for networks whose input has a fixed size."""
    x = ctx.spatial(node)
    if node.flag("crop_to_aspect_ratio", default=False) or node.flag("pad_to_aspect_ratio", default=False):
        raise ModelError("crops or pads to the aspect ratio, which is not supported")
    return to_size(ctx, node, x, [node.whole("height"), node.whole("width")], node.setting("interpolation", default="bilinear"))


def to_size(ctx: Context, node: Node, x: Picture, size: list[Any], how: Any) -> Picture:
    """The picture with so many rows and columns."""
    (sh, h), (sw, w) = (scale_of(n, x.size[a], False) for n, a in zip(size, "HW", strict=True))
    return resized(ctx, node, x, (sh, sw), {"H": h, "W": w}, how)


# ---- pooling -----------------------------------------------------------------------------------------------------------------------------------


@layer("MaxPooling2D", "MaxPool2D", "AveragePooling2D", "AvgPool2D")
def pooling(ctx: Context, node: Node) -> Picture:
    """The largest number, or the mean, of each window; the mean leaves out what lies outside the picture."""
    x, kernel = ctx.spatial(node), node.pair("pool_size", default=(2, 2))
    strides = node.pair("strides", default=kernel)
    pads, out = padding(node, kernel, strides, [1, 1], x.size)
    if max(kernel) > 1024:
        raise ModelError(f"has windows of {kernel[0]}x{kernel[1]}: damaged file")
    if node.op.startswith("Max"):
        made = ctx.emit("MaxPool", [x.name], ctx.fresh(node.name), node, kernel_shape=kernel, strides=strides, **pads)
    elif not any(pads.get("pads", [1])):
        weight = np.full((x.channels, 1, *kernel), 1 / (kernel[0] * kernel[1]), np.float32)
        names = [x.name, ctx.constant(NEW, weight, "", f"{node.name}/mean")]
        made = ctx.emit("Conv", names, ctx.fresh(node.name), node, strides=strides, dilations=[1, 1], group=x.channels, kernel_shape=kernel, **pads)
    else:
        made = ctx.emit("AveragePool", [x.name], ctx.fresh(node.name), node, kernel_shape=kernel, strides=strides, count_include_pad=0, **pads)
    return x.like(made, **out)


@layer("GlobalAveragePooling2D", "GlobalAvgPool2D")
def global_average(ctx: Context, node: Node) -> Picture:
    """The mean of each channel over the picture."""
    x = ctx.spatial(node)
    made = ctx.emit("GlobalAveragePool", [x.name], ctx.fresh(node.name), node)
    return Picture(made, x.layout if node.flag("keepdims", default=False) else "NC", {**x.size, "H": 1, "W": 1})


# ---- borders -----------------------------------------------------------------------------------------------------------------------------------


def amounts(node: Node, name: str) -> list[int]:
    """Top, left, bottom and right of a setting that is one number, two, or two pairs; Keras 1 also has four numbers or names."""
    value = node.setting(name, default=1 if name == "padding" else 0)
    if isinstance(value, dict):
        value = [[value.get("top_pad", 0), value.get("bottom_pad", 0)], [value.get("left_pad", 0), value.get("right_pad", 0)]]
    if isinstance(value, int):
        value = [value, value]
    items = list(value) if isinstance(value, list) else []
    if len(items) == 4:
        items = [items[:2], items[2:]]
    pairs = [list(v) if isinstance(v, list) else [v, v] for v in items]
    if len(pairs) != 2 or any(len(p) != 2 or not all(type(n) is int and 0 <= n <= 65536 for n in p) for p in pairs):
        raise ModelError(f"has {name} {str(value)[:80]}: damaged file")
    (top, bottom), (left, right) = pairs
    return [top, left, bottom, right]


def padded(ctx: Context, node: Node, x: Picture, pads: list[int], mode: str = "constant", fill: float = 0.0) -> Picture:
    """A border added, or cut off where `pads` (top, left, bottom, right) are negative."""
    t, le, b, r = pads
    out = {"H": positive(x.size["H"] + (t + b)), "W": positive(x.size["W"] + (le + r))}
    names = [x.name, ctx.constant(NEW, np.array([0, 0, t, le, 0, 0, b, r], np.int64), "", f"{node.name}/pads")]
    if fill:
        names.append(ctx.number(node, fill, "fill"))
    return x.like(ctx.emit("Pad", names, ctx.fresh(node.name), node, mode=mode), **out)


@layer("ZeroPadding2D")
def zero_padding(ctx: Context, node: Node) -> Picture:
    """Zeros around the picture."""
    return padded(ctx, node, ctx.spatial(node), amounts(node, "padding"))


@layer("ReflectionPadding2D", "ReflectPadding2D", "ReflectionPad2D")
def reflection_padding(ctx: Context, node: Node) -> Picture:
    """The picture mirrored at its border: a class of many projects, with the settings of ZeroPadding2D."""
    return padded(ctx, node, ctx.spatial(node), amounts(node, "padding"), "reflect")


@layer("Cropping2D")
def cropping(ctx: Context, node: Node) -> Picture:
    """The border cut off."""
    return padded(ctx, node, ctx.spatial(node), [-n for n in amounts(node, "cropping")])


# ---- axes --------------------------------------------------------------------------------------------------------------------------------------


@layer("Permute")
def permute(ctx: Context, node: Node) -> Picture:
    """Axes in another order, which is a matter of the label only."""
    x, dims = ctx.picture(node), node.setting("dims")
    if not isinstance(dims, list) or sorted(str(d) for d in dims) != [str(d) for d in range(1, len(x.layout))]:
        raise ModelError(f"has dims {str(dims)[:80]}: damaged file")
    return Picture(x.name, "N" + "".join(x.layout[d] for d in dims), x.size)


@layer("Reshape", "Flatten")
def reshape(ctx: Context, node: Node) -> Picture:
    """Axes of one pixel added or left out; nothing may move."""
    x = ctx.picture(node)
    target = node.setting("target_shape", default=[-1])
    if not isinstance(target, list) or len(target) not in (1, 3) or not all(type(t) is int for t in target):
        raise ModelError(f"has the shape {str(target)[:80]}, which is not supported")
    single = all(not isinstance(x.size[a], Dim) and x.size[a] == 1 for a in "HW")
    if single and all(t in (1, -1, x.channels) for t in target):
        if len(target) == 1:
            return Picture(x.name, "NC", x.size)
        for layout in ("NHWC", "NCHW"):
            if all(t == -1 or t == x.size[a] for a, t in zip(layout[1:], target, strict=True)):
                return Picture(x.name, layout, x.size)
    if len(target) == 3 and all(not isinstance(x.size[a], Dim) and t in (-1, x.size[a]) for a, t in zip(x.layout[1:], target, strict=False)):
        return x
    raise ModelError("changes the shape of a picture, which moves its pixels or fixes its size: not supported")


# ---- shuffles ----------------------------------------------------------------------------------------------------------------------------------


def shuffle(ctx: Context, node: Node, x: Picture, block: int) -> Picture:
    """TensorFlow's depth_to_space."""
    if not 2 <= block <= 64 or x.channels % (block * block):
        raise ModelError(f"cannot split {x.channels} channels into blocks of {block}x{block}: damaged file")
    made = ctx.emit("DepthToSpace", [x.name], ctx.fresh(node.name), node, blocksize=block, mode="DCR")
    return x.like(made, C=x.channels // (block * block), H=x.size["H"] * block, W=x.size["W"] * block)


def whole(value: Any) -> int:
    """A block factor that a setting gives, 0 when it gives none; [2, 2] is 2."""
    if isinstance(value, list) and len(value) in (1, 2) and all(v == value[0] for v in value):
        value = value[0]
    return value if type(value) is int and 2 <= value <= 64 else 0
