"""ONNX operators that look at whole pictures: means, maxima and sums, and normalisation by the statistics of the picture itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_ops, onnx_pixels
from .context import register
from .onnx_context import Context, Handler, OnnxNode
from .onnx_ops import Args, like
from .onnx_values import Picture
from .onnx_views import arranged, settled
from .values import Dim, equal

OPS: dict[str, Handler] = {}
op = partial(register, OPS)


@dataclass
class Reduced:
    """The mean of a picture over rows, over columns or over both, times the number of pixels along the axes in `summed`.

    picture: before anything was reduced, with whole letters as axes. letters: which are gone, or of size 1. axes: of what is left, letters, "1" for
    an axis of size 1.
    """

    picture: Picture
    letters: frozenset[str]
    summed: frozenset[str]
    axes: str

    @property
    def shape(self) -> list[Any]:
        """Sizes of the axes."""
        return [1 if a == "1" else self.picture.size[a] for a in self.axes]


def whole(ctx: Context, node: OnnxNode, r: Reduced) -> Any:
    """The value itself, as a picture of one pixel, once rows and columns are gone and no number of pixels is left to divide by."""
    if r.letters != {"H", "W"} or r.summed:
        return r
    x = r.picture
    out = like(x, ctx.add(node, "GlobalAveragePool", [x.name], node.output), H=1, W=1)
    return out.view(tuple(() if a == "1" else out.parts[a] for a in r.axes))


@op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """The mean, or the largest, of every channel over the whole picture."""
    x = arranged(ctx, node, ctx.picture(node, args))
    ctx.add(node, node.op, [x.name], node.output)
    return like(x, node.output, H=1, W=1)


@op("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
def reduce(ctx: Context, node: OnnxNode, args: Args) -> Any:
    """The mean of the channels (a 1x1 convolution), or of the whole picture, perhaps first along one axis and then along the other."""
    before: Any = args[0] if args else None
    r = before if isinstance(before, Reduced) else None
    x = r.picture if r is not None else settled(ctx, node, ctx.picture(node, args))
    layout = r.axes if r is not None else x.layout
    axes = ctx.axes(node, args, 1, 13 if node.op == "ReduceSum" else 18, [])
    if not all(-len(layout) <= a < len(layout) for a in axes):
        raise ModelError(f"reduces the axes {axes[:8]} of {len(layout)}: damaged file")
    gone = {a % len(layout) for a in axes}
    letters = {layout[a] for a in gone}
    keep = node.int("keepdims", 1)
    if letters and letters <= {"H", "W"} and node.op in ("ReduceMean", "ReduceSum"):
        left = "".join("1" if i in gone else a for i, a in enumerate(layout) if keep or i not in gone)
        done, sums = (r.letters, r.summed) if r is not None else (frozenset[str](), frozenset[str]())
        return whole(ctx, node, Reduced(x, done | letters, sums | letters if node.op == "ReduceSum" else sums, left))
    if r is None and letters == {"H", "W"} and node.op == "ReduceMax":
        out = like(x, ctx.add(node, "GlobalMaxPool", [x.name], node.output), H=1, W=1)
    elif r is None and letters == {"C"} and node.op in ("ReduceMean", "ReduceSum"):
        weight = np.full((1, x.channels, 1, 1), 1 / x.channels if node.op == "ReduceMean" else 1)
        ctx.add(node, "Conv", [x.name, ctx.number(node, weight, "mean")], node.output, kernel_shape=[1, 1])
        out = like(x, node.output, C=1)
    else:
        raise ModelError(f"reduces the axes {''.join(sorted(letters))} of a picture: not supported")
    return out if keep else out.view(tuple(axis for i, axis in enumerate(out.axes) if i not in gone))


@op("Div")
def divide(ctx: Context, node: OnnxNode, args: Args) -> Any:
    """A sum over the picture by its number of pixels is a mean; anything else as usual."""
    r: Any = args[0] if args else None
    if not isinstance(r, Reduced):
        return onnx_ops.binary(ctx, node, args)
    count: Any = 1
    for letter in sorted(r.summed):
        count = r.picture.size[letter] * count
    by = ctx.array(node, args, 1).data
    if not r.summed or by.size != 1 or not equal(by.reshape(-1)[0], count):
        raise ModelError("divides a sum over rows or columns of the whole picture by something else than their number: not supported")
    return whole(ctx, node, replace(r, summed=frozenset()))


@op("Cast", "Identity")
def same(ctx: Context, node: OnnxNode, args: Args) -> Any:
    """A sum stays what it is; anything else as usual."""
    x: Any = args[0] if args else None
    return x if isinstance(x, Reduced) else onnx_ops.OPS[node.op](ctx, node, args)


# ---- normalisation -----------------------------------------------------------------------------------------------------------------------------


def _vectors(ctx: Context, node: OnnxNode, args: Args, entries: int, repeat: int) -> list[str]:
    """The names of scale and bias, one number for each channel: `entries` in the file, each for `repeat` channels."""
    names = []
    for k, stem in ((1, "scale"), (2, "bias")):
        data = ctx.numbers(node, args, k)
        if data.shape != (entries,) or data.dtype.kind != "f":
            raise ModelError(f"has a {stem} of shape {list(data.shape)} for {entries} channels: damaged file")
        names.append(ctx.constant(ctx.array(node, args, k), np.repeat(data, repeat).astype(np.float32), f"x{repeat}" if repeat > 1 else "vector",
                                  f"{node.output}/{stem}"))  # fmt: skip
    return names


@op("InstanceNormalization")
def instance_norm(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Each channel by its own mean and variance; or each group of channels, where the groups are the second axis and all else the third."""
    x, epsilon = ctx.picture(node, args), node.float("epsilon", 1e-5)
    groups = _groups(x)
    if groups:
        names = _vectors(ctx, node, args, groups, x.channels // groups)
        ctx.add(node, "GroupNormalization", [x.name, *names], node.output, num_groups=groups, epsilon=epsilon)
        return Picture(node.output, x.size, x.parts, x.axes)
    x = arranged(ctx, node, x)
    ctx.add(node, "InstanceNormalization", [x.name, *_vectors(ctx, node, args, x.channels, 1)], node.output, epsilon=epsilon)
    return like(x, node.output)


def _groups(x: Picture) -> int:
    """How many, for axes (N, groups, the rest of C with H and W); 0 for others."""
    if x.layout or x.rank != 3 or x.axes[0] != x.parts["N"] or x.axes[1] + x.axes[2] != x.parts["C"] + x.parts["H"] + x.parts["W"]:
        return 0
    groups = x.shape[1]
    return groups if isinstance(groups, int) and all(atom in x.parts["C"] for atom in x.axes[1]) else 0


@op("GroupNormalization")
def group_norm(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """Each group of channels by its own mean and variance; scale and bias for each group before opset 21, for each channel since."""
    x, groups = arranged(ctx, node, ctx.picture(node, args)), node.int("num_groups")
    if not 1 <= groups <= x.channels or x.channels % groups:
        raise ModelError(f"has {groups} groups for {x.channels} channels: damaged file")
    names = _vectors(ctx, node, args, *((groups, x.channels // groups) if ctx.opset < 21 else (x.channels, 1)))
    ctx.add(node, "GroupNormalization", [x.name, *names], node.output, num_groups=groups, epsilon=node.float("epsilon", 1e-5))
    return like(x, node.output)


# ---- one pixel repeated ------------------------------------------------------------------------------------------------------------------------


@op("Expand")
def expand(ctx: Context, node: OnnxNode, args: Args) -> Picture:
    """A picture of one pixel repeated to the size of another; anything else as usual."""
    x, target = ctx.picture(node, args), list(ctx.array(node, args, 1).data.reshape(-1))
    if x.rank == len(target) == 4 and x.layout and all(not isinstance(x.size[a], Dim) and x.size[a] == 1 for a in "HW"):
        size = dict(zip(x.layout, target, strict=True))
        if any(isinstance(size[a], Dim) or size[a] != 1 for a in "HW"):
            to = ctx.sized(size["H"], size["W"])
            if to is None or any(isinstance(size[a], Dim) != isinstance(x.size[a], Dim) or size[a] not in (1, x.size[a]) for a in "NC"):
                raise ModelError("repeats a pixel to a size that no picture in the network has: not supported")
            name = ctx.add(node, "Resize", [x.name, "", "", to], node.output, mode="nearest", nearest_mode="floor",
                           coordinate_transformation_mode="asymmetric")  # fmt: skip
            return like(x, name, H=size["H"], W=size["W"])
    return onnx_pixels.expand(ctx, node, args)
