"""TensorFlow operators that move pixels: layout changes, depth to space, padding, joining, cutting and resizing."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import tensorflow_shapes as shapes
from .context import register
from .resizing import resizing
from .tensorflow_context import Context, TfNode
from .tensorflow_ops import Handler, formatted
from .tensorflow_values import Picture, Repeated, Value
from .values import Dim, Filled, differ

OPS: dict[str, Handler] = {}
op = partial(register, OPS)

NEW = np.empty(0)
"""Stands for "no constant of the file" where a constant of the Graph is made from attributes."""


def integers(ctx: Context, node: TfNode, stem: str, values: list[int]) -> str:
    """An int64 constant of the Graph."""
    return ctx.constant(NEW, np.array(values, np.int64), stem, node.name)


# ---- layout ------------------------------------------------------------------------------------------------------------------------------------


@op("Transpose")
def transpose(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Another order of axes: the same picture under another label."""
    x, perm = ctx.picture(node, args), ctx.ints(node, args, 1)
    if sorted(perm) != list(range(len(x.layout))):
        raise ModelError(f"has the order of axes {perm[:8]} for {len(x.layout)} axes: damaged file")
    return Picture(x.name, "".join(x.layout[p] for p in perm), x.size)


@op("ExpandDims")
def expand_dims(ctx: Context, node: TfNode, args: list[Value]) -> Picture | Repeated:
    """A new axis of size 1: batch, channels, or a fifth one as tf.repeat needs it."""
    x, axes = ctx.picture(node, args), ctx.ints(node, args, 1)
    at = axes[0] + len(x.layout) + 1 if len(axes) == 1 and axes[0] < 0 else axes[0] if len(axes) == 1 else -1
    if not 0 <= at <= len(x.layout):
        raise ModelError(f"has the axis {axes[:4]} for {len(x.layout)} axes: damaged file")
    if len(x.layout) == 4 and at > 0 and x.layout[at - 1] in "HW":
        return Repeated(x, x.layout[at - 1])
    return _insert(x, at)


def _insert(x: Picture, at: int) -> Picture:
    missing = [a for a in "NC" if a not in x.layout]
    if not missing:
        raise ModelError("makes an array of five axes from a picture, which is not supported")
    letter = "C" if missing == ["N", "C"] and at > 0 else missing[0]
    return Picture(x.name, x.layout[:at] + letter + x.layout[at:], {**x.size, letter: 1})


@op("Squeeze")
def squeeze(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Axes of size 1 dropped: batch or a single channel."""
    x = ctx.picture(node, args)
    rank = len(x.layout)
    axes = {a % rank for a in node.attr_ints("squeeze_dims", []) if -rank <= a < rank}
    drop = {x.layout[a] for a in axes} if node.attr_ints("squeeze_dims", []) else {a for a in x.layout if x.size[a] == 1}
    if drop - {"N", "C"} or ("C" in drop and x.channels != 1) or ("N" in drop and differ(x.size["N"], 1)):
        raise ModelError(f"drops axes {sorted(drop)} of a picture, which is not supported")
    return Picture(x.name, "".join(a for a in x.layout if a not in drop), {**x.size, **dict.fromkeys(drop, 1)})


@op("Reshape")
def reshape(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Only shapes that add or drop axes of size 1, or that end a tf.repeat."""
    if args and isinstance(args[0], Repeated):
        return _repeat(ctx, node, args[0], list(ctx.array(node, args, 1).data.reshape(-1)))
    x = ctx.picture(node, args)
    target = list(ctx.array(node, args, 1).data.reshape(-1))
    if len(target) > 8:
        raise ModelError(f"reshapes a picture to {len(target)} axes, which is not supported")
    old = list(x.shape)
    if len(target) == len(old) and all(_fits(t, n) for t, n in zip(target, old, strict=True)):
        return x
    if len(target) == len(old) + 1:
        for at in range(len(target)):
            if _fits(target[at], 1) and all(_fits(t, n) for t, n in zip(target[:at] + target[at + 1 :], old, strict=True)):
                return _insert(x, at)
    if len(target) == len(old) - 1:
        for at, letter in enumerate(x.layout):
            if letter in "NC" and x.size[letter] == 1 and all(_fits(t, n) for t, n in zip(target, old[:at] + old[at + 1 :], strict=True)):
                return Picture(x.name, x.layout.replace(letter, ""), {**x.size, letter: 1})
    raise ModelError("reshapes a picture in a way that moves pixels, which is not supported")


@op("Tile")
def tile(ctx: Context, node: TfNode, args: list[Value]) -> Value:
    """Copies along the fifth axis of a tf.repeat."""
    x, counts = args[0] if args else None, ctx.ints(node, args, 1)
    if isinstance(x, Picture) and counts == [1] * len(x.layout):
        return x
    if not isinstance(x, Repeated) or x.factor != 1 or len(counts) != 5 or any(n != 1 for i, n in enumerate(counts) if i != x.at):
        raise ModelError("repeats pictures in a way that is not supported")
    if not 1 <= counts[x.at] <= 256:
        raise ModelError(f"repeats pixels {counts[x.at]} times: damaged file")
    return Repeated(x.source, x.letter, counts[x.at])


def _repeat(ctx: Context, node: TfNode, x: Repeated, target: list[Any]) -> Picture:
    """Every row or column several times: ONNX Resize, nearest."""
    size = {**x.source.size, x.letter: x.source.size[x.letter] * x.factor}
    if len(target) != 4 or not all(_fits(t, size[a]) for t, a in zip(target, x.source.layout, strict=True)):
        raise ModelError("reshapes a picture in a way that moves pixels, which is not supported")
    scales = [1, 1, *(x.factor if a == x.letter else 1 for a in "HW")]
    names = [x.source.name, "", ctx.constant(NEW, np.array(scales, np.float32), "scales", node.name)]
    ctx.emit("Resize", names, node.name, node, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    return Picture(node.name, x.source.layout, size)


def _fits(wanted: Any, size: Any) -> bool:
    return bool(wanted == size) or (not isinstance(wanted, Dim) and wanted == -1)


@op("DepthToSpace")
def depth_to_space(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Channels to pixels, block position outermost (ONNX DCR)."""
    x, b = formatted(ctx, node, args), node.attr_int("block_size")
    if not 2 <= b <= 256 or x.channels % (b * b):
        raise ModelError(f"cannot split {x.channels} channels into blocks of {b}x{b}: damaged file")
    ctx.emit("DepthToSpace", [x.name], node.name, node, blocksize=b, mode="DCR")
    return x.like(node.name, C=x.channels // (b * b), H=x.size["H"] * b, W=x.size["W"] * b)


@op("SpaceToDepth")
def space_to_depth(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Pixels to channels."""
    x, b = formatted(ctx, node, args), node.attr_int("block_size")
    if not 2 <= b <= 256 or x.channels * b * b > 65536:
        raise ModelError(f"has blocks of {b}x{b} for {x.channels} channels: damaged file")
    sizes = {}
    for a in "HW":
        n = x.size[a]
        if isinstance(n, Dim):
            sizes[a] = Dim(n.var, n.a / b, n.b / b, True, n.depth)
        elif n % b:
            raise ModelError(f"cannot cut {n} pixels into blocks of {b}: damaged file")
        else:
            sizes[a] = n // b
    ctx.emit("SpaceToDepth", [x.name], node.name, node, blocksize=b)
    return x.like(node.name, C=x.channels * b * b, **sizes)


# ---- padding, joining, cutting -----------------------------------------------------------------------------------------------------------------


def _emit_pad(ctx: Context, node: TfNode, x: Picture, pairs: dict[str, tuple[int, int]], mode: str, value: float = 0.0) -> Picture:
    if any(pairs.get("N", (0, 0))) or any(pairs.get("C", (0, 0))):
        raise ModelError("pads or cuts the batch or the channels, which is not supported")
    if any(abs(p) > 65536 for pair in pairs.values() for p in pair):
        raise ModelError("pads by absurd amounts: damaged file")
    (t, b), (left, r) = pairs.get("H", (0, 0)), pairs.get("W", (0, 0))
    if mode in ("reflect", "symmetric") and min(t, b, left, r) < 0:
        raise ModelError("mirrors a negative number of pixels: damaged file")
    names = [x.name, integers(ctx, node, "pads", [0, 0, t, left, 0, 0, b, r])]
    if mode == "constant" and value:
        names.append(ctx.constant(NEW, np.array(value, np.float32), "value", node.name))
    ctx.emit("Pad", names, node.name, node, mode=mode)
    out = x.like(node.name, H=x.size["H"] + (t + b), W=x.size["W"] + (left + r))
    if any(not isinstance(out.size[a], Dim) and out.size[a] < 1 for a in "HW"):
        raise ModelError("leaves no pixel of the size that its placeholder fixes: damaged file")
    return out


@op("Pad", "PadV2", "MirrorPad")
def pad(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """A border of one value, or mirrored."""
    x, amounts = ctx.picture(node, args), ctx.numbers(node, args, 1)
    if amounts.shape != (len(x.layout), 2) or amounts.dtype.kind not in "iu" or (amounts.size and int(amounts.min()) < 0):
        raise ModelError(f"has paddings of shape {list(amounts.shape)} for {len(x.layout)} axes, or negative ones: damaged file")
    pairs = {a: (int(p[0]), int(p[1])) for a, p in zip(x.layout, amounts, strict=True)}
    if node.op == "MirrorPad":
        mode = node.attr_text("mode")
        if mode not in ("REFLECT", "SYMMETRIC"):
            raise ModelError(f"mode '{mode}' is not known")
        return _emit_pad(ctx, node, x, pairs, mode.lower())
    value = 0.0
    if node.op == "PadV2":
        number = ctx.numbers(node, args, 2)
        if number.size != 1 or number.dtype.kind not in "fiu":
            raise ModelError("pads with more than one value: damaged file")
        value = float(number.reshape(()))
    return _emit_pad(ctx, node, x, pairs, "constant", value)


@op("ConcatV2", "Concat")
def concat(ctx: Context, node: TfNode, args: list[Value]) -> Value:
    """Pictures joined by channels."""
    k = len(args) - 1 if node.op == "ConcatV2" else 0
    axis, parts = ctx.ints(node, args, k), [i for i in range(len(args)) if i != k]
    pictures = [ctx.picture(node, args, i) for i in parts]
    if not pictures or len(axis) != 1:
        raise ModelError("joins nothing: damaged file")
    x = pictures[0]
    if not -len(x.layout) <= axis[0] < len(x.layout) or any(p.layout != x.layout for p in pictures):
        raise ModelError("joins pictures of different layouts, or along an axis that they do not have: not supported")
    if x.layout[axis[0]] != "C":
        raise ModelError("joins pictures side by side, only channels can be joined")
    for p in pictures[1:]:
        for a in "HW":
            ctx.relate(p.size[a], x.size[a])
        if any(differ(p.size[a], x.size[a]) for a in "NHW"):
            raise ModelError("joins pictures of different sizes: damaged file")
    total = sum(p.channels for p in pictures)
    if total > 65536:
        raise ModelError(f"makes {total} channels: damaged file")
    ctx.emit("Concat", [p.name for p in pictures], node.name, node, axis=1)
    return x.like(node.name, C=total)


@op("Split", "SplitV")
def split(ctx: Context, node: TfNode, args: list[Value]) -> list[Picture]:
    """Channels cut into parts."""
    x = ctx.picture(node, args, 1 if node.op == "Split" else 0)
    axis = ctx.ints(node, args, 0 if node.op == "Split" else 2)
    if len(axis) != 1 or not -len(x.layout) <= axis[0] < len(x.layout) or x.layout[axis[0]] != "C":
        raise ModelError("cuts a picture in pieces, only channels can be cut")
    if node.op == "Split":
        n = node.attr_int("num_split")
        if not 1 <= n <= 4096 or x.channels % n:
            raise ModelError(f"splits {x.channels} channels into {n} parts: damaged file")
        sizes = [x.channels // n] * n
    else:
        sizes = shapes.split_sizes(ctx.ints(node, args, 1), x.channels)
    if min(sizes) < 1:
        raise ModelError("makes parts without channels: not supported")
    outputs = [node.name, *(ctx.fresh(f"{node.name}:{k}") for k in range(1, len(sizes)))]
    ctx.emit("Split", [x.name, integers(ctx, node, "split", sizes)], node.name, node, axis=1)
    ctx.graph.nodes[-1].outputs = outputs
    return [x.like(name, C=c) for name, c in zip(outputs, sizes, strict=True)]


@op("StridedSlice")
def strided_slice(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """A crop by constant amounts on each side, or a range of channels."""
    x = ctx.picture(node, args)
    begin, end, stride = (ctx.ints(node, args, k) for k in (1, 2, 3))
    index = shapes.slices(node, begin, end, stride, len(x.layout))
    if any(i is None or isinstance(i, int) for i in index) or sum(i is Ellipsis for i in index) > 1:
        raise ModelError("drops or adds axes of a picture, which is not supported")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index[at : at + 1] = [slice(None)] * (len(x.layout) - len(index) + 1)
    return cut(ctx, node, x, index)


@op("Slice")
def slice_(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """A crop by begin and size; sizes may be shape code."""
    x, begin, size = ctx.picture(node, args), ctx.ints(node, args, 1), list(ctx.array(node, args, 2).data.reshape(-1))
    if len(begin) != len(x.layout) or len(size) != len(x.layout) or min(begin) < 0:
        raise ModelError("slices beyond its input: damaged file")
    index = []
    for n, a, count in zip(x.shape, begin, size, strict=True):
        left = 0 if not isinstance(count, Dim) and count == -1 else n - a - count
        if isinstance(left, Dim) or left < 0:
            raise ModelError("cuts a part whose size is not that of the picture less a constant: not supported")
        index.append(slice(a, -int(left) if left else None, 1))
    return cut(ctx, node, x, index)


def cut(ctx: Context, node: TfNode, x: Picture, index: list[Any]) -> Picture:
    """The part of a picture given by one slice for each axis of its TensorFlow tensor."""
    if len(index) > len(x.layout) or any(s.step not in (None, 1) for s in index):
        raise ModelError("takes every nth pixel or channel, which is not supported")
    pairs: dict[str, tuple[int, int]] = {}
    channels = (0, x.channels)
    for letter, s in zip(x.layout, index, strict=False):
        a, b, n = s.start or 0, s.stop, x.size[letter]
        if letter == "C":
            channels = slice(a, b).indices(x.channels)[:2]
            continue
        if not isinstance(n, Dim):
            a, b, _ = slice(a, b).indices(n)
            b = None if b == n else b - n
        if a < 0 or (b is not None and b >= 0):
            if letter == "N" and a == 0 and b == 1:
                continue
            raise ModelError("cuts a part of fixed size from a picture of any size, which is not supported")
        pairs[letter] = (-a, b or 0)
    c = channels[1] - channels[0]
    if c < 1:
        raise ModelError("leaves no channels: damaged file")
    cropped = any(any(p) for p in pairs.values())
    if c == x.channels:
        return _emit_pad(ctx, node, x, pairs, "constant") if cropped else x
    if cropped:
        raise ModelError("cuts channels and pixels at once, which is not supported")
    names = [integers(ctx, node, s, [v]) for s, v in (("starts", channels[0]), ("ends", channels[1]), ("axes", 1))]
    ctx.emit("Slice", [x.name, *names], node.name, node)
    return x.like(node.name, C=c)


# ---- size and resizing -------------------------------------------------------------------------------------------------------------------------


@op("Shape", "ShapeN", "Rank")
def shape(ctx: Context, node: TfNode, args: list[Value]) -> Any:
    """The size of a picture, for shape code."""
    return shapes.evaluate(ctx, node, args)


@op("ZerosLike", "OnesLike")
def filled_like(ctx: Context, node: TfNode, args: list[Value]) -> Filled:
    """Zeros or ones in the shape of a picture."""
    return Filled(np.array(float(node.op == "OnesLike"), np.float32), ctx.picture(node, args).shape)


@op("Fill")
def fill(ctx: Context, node: TfNode, args: list[Value]) -> Any:
    """One number in the shape of a picture."""
    return shapes.evaluate(ctx, node, args)


@op("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
def resize(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Resampling of an NHWC picture to a size from shape code, or from constants when the placeholder has a fixed size.

    TensorFlow's bicubic filter has a = -0.75 in its legacy form, and with half_pixel_centers a = -0.5 with taps outside the picture left out. It
    reads the filter from a table of 1024 entries, so results for scales that are not a power of two differ in the fourth digit.
    """
    x, size = ctx.picture(node, args), ctx.array(node, args, 1).data.reshape(-1)
    if x.layout != "NHWC":
        raise ModelError(f"works on NHWC, but its input is {x.layout}: fastsr does not transpose pictures")
    if size.size != 2:
        raise ModelError(f"has a size of {size.size} numbers: damaged file")
    align, half = node.attr_flag("align_corners", False), node.attr_flag("half_pixel_centers", False)
    if align and half:
        raise ModelError("has both align_corners and half_pixel_centers: damaged file")
    scales, to = resizing(dict(zip("HW", size.tolist(), strict=True)), x.size, align, ctx.sized)
    (sh, h), (sw, w) = (scales[a] for a in "HW")
    attrs: dict[str, Any] = {"coordinate_transformation_mode": "align_corners" if align else "half_pixel" if half else "asymmetric"}
    if node.op == "ResizeBilinear":
        attrs["mode"] = "linear"
    elif node.op == "ResizeBicubic":
        attrs |= {"mode": "cubic", "cubic_coeff_a": -0.5 if half else -0.75, "exclude_outside": int(half)}
    else:
        attrs |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if align else "floor"}
        if half:
            attrs["coordinate_transformation_mode"] = "tf_half_pixel_for_nn"
    how = [ctx.constant(NEW, np.array([1, 1, sh, sw], np.float32), "scales", node.name)] if to is None else ["", to]
    ctx.emit("Resize", [x.name, "", *how], node.name, node, **attrs)
    return x.like(node.name, H=h, W=w)
