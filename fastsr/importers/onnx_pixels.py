"""ONNX operators that move pixels: changes of axes, pixel shuffles, padding, joining, cutting and resizing."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import resized
from . import onnx_shapes as shapes
from .context import register
from .onnx_context import Context, Handler, OnnxNode
from .onnx_ops import Args, like
from .onnx_values import Atom, Axis, Picture, make, reshape
from .onnx_views import arranged, choose_channels, divided, settled
from .resizing import resizing
from .values import Dim, Filled, differ

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
FAR = 65536


def axis_of(node: OnnxNode, x: Picture, axis: int) -> int:
    """An axis counted from the front."""
    if not -x.rank <= axis < x.rank:
        raise ModelError(f"has the axis {axis} for {x.rank} axes: damaged file")
    return axis % x.rank


# ---- axes --------------------------------------------------------------------------------------------------------------------------------------


@op("Transpose")
def transpose(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Another order of axes."""
    x = ctx.picture(node, args)
    perm = node.ints("perm", list(range(x.rank))[::-1])
    if sorted(perm) != list(range(x.rank)):
        raise ModelError(f"has the order of axes {perm[:8]} for {x.rank} axes: damaged file")
    return x.view(tuple(x.axes[p] for p in perm))


@op("Unsqueeze")
def unsqueeze(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """New axes of size 1."""
    x, axes = ctx.picture(node, args), ctx.axes(node, args, 1, 13)
    rank = x.rank + len(axes)
    at = {a % rank for a in axes if -rank <= a < rank}
    if len(at) != len(axes) or rank > 8:
        raise ModelError(f"has the axes {axes[:8]}: damaged file")
    old = iter(x.axes)
    return x.view(tuple(() if i in at else next(old) for i in range(rank)))


@op("Squeeze")
def squeeze(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Axes of size 1 dropped."""
    x, axes = ctx.picture(node, args), ctx.axes(node, args, 1, 13, [])
    gone = {axis_of(node, x, a) for a in axes} if axes else {i for i, axis in enumerate(x.axes) if not axis}
    if any(x.axes[i] and x.axes[i] != x.parts["N"] for i in gone) or any(differ(x.shape[i], 1) for i in gone):
        raise ModelError("drops axes of a picture that are not of size 1: damaged file")
    return x.view(tuple(axis for i, axis in enumerate(x.axes) if i not in gone))


@op("Reshape")
def reshape_(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Another cut into axes of the same numbers; a shape as attribute before opset 5."""
    x = ctx.picture(node, args)
    target = list(ctx.array(node, args, 1).data.reshape(-1))
    if any(not isinstance(n, (Dim, int, np.integer)) for n in target):
        raise ModelError("has a shape that is not of integers: damaged file")
    return reshape(x, [n if isinstance(n, Dim) else int(n) for n in target], bool(node.int("allowzero", 0)))


@op("Flatten")
def flatten(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Two axes."""
    x = ctx.picture(node, args)
    axis = node.int("axis", 1)
    if not -x.rank <= axis <= x.rank:
        raise ModelError(f"has the axis {axis} for {x.rank} axes: damaged file")
    at = axis + x.rank if axis < 0 else axis
    return x.view((sum(x.axes[:at], ()), sum(x.axes[at:], ())))


@op("Expand")
def expand(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Repeated along axes of size 1."""
    x = ctx.picture(node, args)
    target = list(ctx.array(node, args, 1).data.reshape(-1))
    if len(target) > 8:
        raise ModelError(f"makes {len(target)} axes: not supported")
    x = x.view(((),) * (len(target) - x.rank) + x.axes)
    target = [1] * (x.rank - len(target)) + target
    return x.view(tuple(_repeated(axis, n, size) for axis, n, size in zip(x.axes, target, x.shape, strict=True)))


def _repeated(axis: Axis, wanted: Any, size: Any) -> Axis:
    if isinstance(wanted, Dim):
        if wanted == size:
            return axis
    elif wanted in (1, size):
        return axis
    elif not axis and 1 < wanted <= 256:
        return (Atom(int(wanted), copies=True),)
    raise ModelError("repeats a picture in a way that is not supported")


@op("Tile")
def tile(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """The whole tensor repeated along its axes."""
    x, counts = ctx.picture(node, args), ctx.ints(node, args, 1)
    if len(counts) != x.rank or not all(1 <= n <= 256 for n in counts):
        raise ModelError(f"repeats a picture {counts[:8]} times: not supported")
    return x.view(tuple((Atom(n, copies=True), *axis) if n > 1 else axis for axis, n in zip(x.axes, counts, strict=True)))


@op("DepthToSpace")
def depth_to_space(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Channels to pixels; mode since opset 11, DCR before."""
    x, b, mode = arranged(ctx, node, ctx.picture(node, args)), node.int("blocksize"), node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ModelError(f"mode '{mode}' is not known")
    if not 1 <= b <= 256 or x.channels % (b * b):
        raise ModelError(f"cannot split {x.channels} channels into blocks of {b}x{b}: damaged file")
    ctx.add(node, "DepthToSpace", [x.name], node.output, blocksize=b, mode=mode)
    return like(x, node.output, C=x.channels // (b * b), H=x.size["H"] * b, W=x.size["W"] * b)


@op("SpaceToDepth")
def space_to_depth(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Pixels to channels."""
    x, b = arranged(ctx, node, ctx.picture(node, args)), node.int("blocksize")
    if not 1 <= b <= 256 or x.channels * b * b > FAR:
        raise ModelError(f"has blocks of {b}x{b} for {x.channels} channels: damaged file")
    ctx.add(node, "SpaceToDepth", [x.name], node.output, blocksize=b)
    return like(x, node.output, C=x.channels * b * b, **{a: divided(x.size[a], b) for a in "HW"})


# ---- padding, joining, cutting -----------------------------------------------------------------------------------------------------------------


def padded(ctx: Context, node: OnnxNode, x: Picture, pads: dict[str, tuple[int, int]], mode: str, value: float, output: str) -> Picture:
    """A border of (before, after) pixels for each letter, negative to crop."""
    if any(pads.get("N", (0, 0))) or any(pads.get("C", (0, 0))):
        raise ModelError("pads or cuts the batch or the channels, which is not supported")
    if any(abs(p) > FAR for pair in pads.values() for p in pair):
        raise ModelError("pads by absurd amounts: damaged file")
    (t, b), (left, r) = pads.get("H", (0, 0)), pads.get("W", (0, 0))
    if mode != "constant" and min(t, b, left, r) < 0:
        raise ModelError(f"crops in mode {mode}: not supported")
    names = [x.name, ctx.number(node, [0, 0, t, left, 0, 0, b, r], "pads", np.int64)]
    if mode == "constant" and value:
        names.append(ctx.number(node, value, "value"))
    out = like(x, ctx.add(node, "Pad", names, output, mode=mode), H=x.size["H"] + (t + b), W=x.size["W"] + (left + r))
    if any(not isinstance(out.size[a], Dim) and out.size[a] < 1 for a in "HW"):
        raise ModelError("leaves no pixel of the size that its input fixes: damaged file")
    return out


@op("Pad")
def pad(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """A border of one value, mirrored, or of the edge's pixels; pads and value as attributes before opset 11."""
    x, mode = settled(ctx, node, ctx.picture(node, args)), node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise ModelError(f"mode '{mode}' is not supported")
    value, axes = 0.0, list(range(x.rank))
    if ctx.opset < 11:
        amounts, value = node.ints("pads"), node.float("value", 0.0)
    else:
        amounts = ctx.ints(node, args, 1)
        value = ctx.single(node, args, 2) if ctx.given(args, 2) else 0.0
        if ctx.given(args, 3):
            axes = [axis_of(node, x, a) for a in ctx.ints(node, args, 3)]
    if len(amounts) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ModelError(f"has {len(amounts)} paddings for {len(axes)} axes: damaged file")
    pads = {x.layout[a]: (amounts[i], amounts[i + len(axes)]) for i, a in enumerate(axes)}
    return padded(ctx, node, x, pads, mode, value, node.output)


@op("Concat")
def concat(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Pictures joined by channels."""
    pictures = [settled(ctx, node, ctx.picture(node, args, k)) for k in range(len(args))]
    if not pictures:
        raise ModelError("joins nothing: damaged file")
    x = pictures[0]
    axis = axis_of(node, x, node.int("axis", 1) if ctx.opset < 4 else node.int("axis"))
    if any(p.layout != x.layout for p in pictures):
        raise ModelError("joins pictures of different layouts: not supported")
    if x.layout[axis] != "C":
        raise ModelError("joins pictures side by side, only channels can be joined")
    if any(differ(p.size[a], x.size[a]) for p in pictures for a in "NHW"):
        raise ModelError("joins pictures of different sizes: damaged file")
    total = sum(p.channels for p in pictures)
    if total > FAR:
        raise ModelError(f"makes {total} channels: damaged file")
    ctx.add(node, "Concat", [p.name for p in pictures], node.output, axis=1)
    return like(x, node.output, C=total)


@op("Split")
def split(ctx: Context, node: OnnxNode, args: Args) -> list[Picture]:
    """Channels cut into parts."""
    x = settled(ctx, node, ctx.picture(node, args))
    if x.layout[axis_of(node, x, node.int("axis", 0))] != "C":
        raise ModelError("cuts a picture in pieces, only channels can be cut")
    sizes = shapes.split_sizes(ctx, node, args[1] if len(args) > 1 else None, x.channels)
    if min(sizes) < 1:
        raise ModelError("makes parts without channels: not supported")
    outputs = [name or ctx.fresh(f"{node.name}/part") for name in node.outputs]
    ctx.add(node, "Split", [x.name, ctx.number(node, sizes, "split", np.int64)], outputs[0], axis=1)
    ctx.graph.nodes[-1].outputs = outputs
    return [like(x, name, C=c) for name, c in zip(outputs, sizes, strict=True)]


@op("Slice")
def slice_(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Some channels, a crop by constant amounts on each side, or every nth pixel."""
    x = settled(ctx, node, ctx.picture(node, args))
    index = shapes.slice_index(ctx, node, tuple(args[1:]), x.shape)
    name, size = x.name, dict(x.size)
    crop: dict[str, tuple[int, int]] = {}
    steps = {"H": 1, "W": 1}
    for letter, s in zip(x.layout, index, strict=True):
        if letter == "C":
            if isinstance(s.start, Dim) or isinstance(s.stop, Dim):
                raise ModelError("takes a number of channels that depends on the picture's size: not supported")
            wanted = list(range(x.channels))[s]
            if wanted != list(range(x.channels)):
                name, size = choose_channels(ctx, node, name, size, wanted)
            continue
        pair, step = _crop(s, x.size[letter], letter)
        if any(pair):
            crop[letter] = pair
        if step != 1:
            if letter not in steps:
                raise ModelError("takes every nth picture of a batch: not supported")
            steps[letter] = step
    y = make(name, x.layout, size)
    if crop:
        y = padded(ctx, node, y, crop, "constant", 0.0, "")
    if steps != {"H": 1, "W": 1}:
        weight = ctx.number(node, np.ones((y.channels, 1, 1, 1)), "every")
        strides = [steps["H"], steps["W"]]
        name = ctx.add(node, "Conv", [y.name, weight], strides=strides, group=y.channels, kernel_shape=[1, 1])
        y = like(y, name, **{a: (y.size[a] - 1) // n + 1 for a, n in steps.items()})
    return y


def _crop(s: slice, n: Any, letter: str) -> tuple[tuple[int, int], int]:
    """Paddings (0 or less) that cut a slice from an axis of n pixels, and the slice's step."""
    step = 1 if s.step is None else s.step
    if not 1 <= step <= 4096:
        raise ModelError(f"takes pixels with the step {step}: not supported")
    a, b = s.start, s.stop
    if not isinstance(n, Dim) and not isinstance(a, Dim) and not isinstance(b, Dim):
        a, b, _ = slice(a, b).indices(n)
        if a >= b:
            raise ModelError("leaves no pixel of the size that its input fixes: damaged file")
        return (-a, b - n), step
    a = 0 if a is None else a if isinstance(a, Dim) or a >= 0 else n + a
    left = 0 if b is None else n - b if isinstance(b, Dim) or b >= 0 else -b
    if letter == "N" and not isinstance(a, Dim) and a == 0 and not isinstance(b, Dim) and b == 1:
        return (0, 0), step
    if isinstance(a, Dim) or isinstance(left, Dim) or a < 0 or left < 0:
        raise ModelError("cuts a part of fixed size from a picture of any size, which is not supported")
    return (-int(a), -int(left)), step


@op("Gather")
def gather(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Channels by number; one number drops the axis."""
    x, index = settled(ctx, node, ctx.picture(node, args)), ctx.numbers(node, args, 1)
    axis = axis_of(node, x, node.int("axis", 0))
    if index.ndim > 1 or index.dtype.kind not in "iu" or index.size > FAR:
        raise ModelError(f"gathers by an array of shape {list(index.shape)}: not supported")
    letter = x.layout[axis]
    if letter == "N" and index.ndim == 0 and int(index) == 0:
        return x.view(x.axes[:axis] + x.axes[axis + 1 :])
    if letter != "C":
        raise ModelError("gathers pixels, only channels can be taken by number")
    wanted = [int(i) % x.channels if -x.channels <= i < x.channels else -1 for i in index.reshape(-1)]
    name, size = choose_channels(ctx, node, x.name, x.size, wanted)
    y = make(name, x.layout, size)
    return y if index.ndim else y.view(y.axes[:axis] + y.axes[axis + 1 :])


# ---- size and resizing -------------------------------------------------------------------------------------------------------------------------


@op("Shape", "Size")
def shape(ctx: Context, node: OnnxNode, args: Args) -> Any:
    """The size of a picture, for shape code."""
    return shapes.evaluate(ctx, node, args)


@op("ConstantOfShape")
def constant_of_shape(ctx: Context, node: OnnxNode, args: Args) -> Filled:
    """One number in the shape of a picture."""
    raise ModelError("has a shape made from pixels: damaged file")


COORDINATES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@op("Resize", "Upsample")
def resize(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Resampling by fixed factors, or to a size that is a fixed multiple of the picture's."""
    x = settled(ctx, node, ctx.picture(node, args))
    old = node.op == "Upsample" or ctx.opset < 11
    mode = node.text("mode", "nearest").replace("bilinear", "linear")
    coordinates = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if old else node.text("nearest_mode", "round_prefer_floor")
    if mode not in ("nearest", "linear", "cubic") or (mode == "cubic" and old):
        raise ModelError(f"mode '{mode}' is not supported")
    if coordinates not in COORDINATES or nearest not in NEAREST:
        raise ModelError(f"coordinate_transformation_mode '{coordinates}' with nearest_mode '{nearest}' is not supported")
    if node.int("antialias", 0):
        raise ModelError("antialias is not supported")
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ModelError("keeps the aspect ratio, which is not supported")
    axes = [axis_of(node, x, a) for a in node.ints("axes")] if node.has("axes") else list(range(x.rank))
    factors, sizes = _factors(ctx, node, args, old), None
    if factors is None:
        sizes = list(ctx.array(node, args, 3).data.reshape(-1))
    wanted = sizes if factors is None else factors
    if wanted is None or len(wanted) != len(axes) or len(set(axes)) != len(axes):
        raise ModelError(f"has {len(wanted or [])} scales or sizes for {len(axes)} axes: damaged file")
    scales: dict[str, float] = {"H": 1.0, "W": 1.0}
    out: dict[str, Any] = {a: x.size[a] for a in "HW"}
    to: str | None = None
    for axis, n in zip(axes, wanted, strict=True):
        letter = x.layout[axis]
        if letter not in "HW":
            if (n != 1.0) if factors is not None else differ(n, x.shape[axis]):
                raise ModelError("resizes the batch or the channels, which is not supported")
        elif factors is None:
            out[letter] = n
        else:
            if not 1 / 256 <= n <= 256:
                raise ModelError(f"resizes by a factor of {n:g}: not supported")
            scales[letter], out[letter] = n, _resized(x.size[letter], n)
    if factors is None:
        found, to = resizing(out, x.size, coordinates == "align_corners", ctx.sized)
        scales, out = {a: found[a][0] for a in "HW"}, {a: found[a][1] for a in "HW"}
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attrs["nearest_mode"] = nearest
    if mode == "cubic":
        attrs |= {"cubic_coeff_a": node.float("cubic_coeff_a", -0.75), "exclude_outside": int(bool(node.int("exclude_outside", 0)))}
    elif node.int("exclude_outside", 0):
        raise ModelError("leaves out pixels outside in a mode other than cubic: not supported")
    how = [ctx.number(node, [1, 1, scales["H"], scales["W"]], "scales")] if to is None else ["", to]
    ctx.add(node, "Resize", [x.name, "", *how], node.output, **attrs)
    return like(x, node.output, **out)


def _factors(ctx: Context, node: OnnxNode, args: Args, old: bool) -> list[float] | None:
    """The scales; None when sizes are given instead."""
    if node.op == "Upsample" and ctx.opset < 9:
        factors = node.floats("scales")
    else:
        k = 1 if old else 2
        data = ctx.numbers(node, args, k) if ctx.given(args, k) else np.zeros(0, np.float32)
        if data.dtype.kind != "f" or data.size > 8:
            raise ModelError("has scales that are not a few numbers: damaged file")
        if not data.size and not old:
            return None
        factors = [float(v) for v in data.reshape(-1)]
    if not all(math.isfinite(f) and f > 0 for f in factors):
        raise ModelError(f"resizes by the factors {factors[:8]}: damaged file")
    return factors


def _resized(n: Any, factor: float) -> Any:
    if not isinstance(n, Dim):
        size = resized(n, factor)
        if size < 1:
            raise ModelError("leaves no pixel of the size that its input fixes: damaged file")
        return size
    exact = Fraction(factor).limit_denominator(1000)
    return (n * (exact if abs(float(exact) - factor) < 1e-6 * factor else Fraction(factor))).floor()
