"""ncnn's layers that move pixels and channels: joining, cutting, pixel shuffles, padding, resizing, changes of axes."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import resized
from .context import register
from .ncnn_context import FAR, Context, Handler, Picture
from .ncnn_ops import Args
from .ncnn_param import Layer
from .resizing import scale_of
from .values import Dim, differ

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
REST = -233
"""What stands for "the rest" in Slice, Crop and Reshape."""


def axis_of(x: Picture, axis: int) -> int:
    """An axis counted from the front. Raises ModelError."""
    if not -x.rank <= axis < x.rank:
        raise ModelError(f"has the axis {axis} for {x.rank} axes: damaged file")
    return axis % x.rank


# ---- joining and cutting -----------------------------------------------------------------------------------------------------------------------


@op("Concat")
def concat(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Pictures joined by channels."""
    pictures = [ctx.picture(layer, args, k) for k in range(max(len(args), 1))]
    x = pictures[0]
    if axis_of(x, layer.integer(0, 0)):
        raise ModelError("joins pictures side by side, only channels can be joined")
    if any(p.rank != x.rank or differ(p.height, x.height) or differ(p.width, x.width) for p in pictures):
        raise ModelError("joins pictures of different sizes: damaged file")
    if len(pictures) == 1:
        return x
    return x.like(ctx.add(layer, "Concat", [p.name for p in pictures], axis=1), channels=sum(p.channels for p in pictures))


@op("Slice")
def slice_(ctx: Context, layer: Layer, args: Args) -> list[Picture]:
    """Channels cut into parts."""
    x = ctx.picture(layer, args)
    if axis_of(x, layer.integer(1, 0)):
        raise ModelError("cuts a picture in pieces, only channels can be cut")
    sizes, indices, n, c = layer.integers(0), layer.integers(2), len(layer.outputs), x.channels
    if indices:
        ends = [i if i >= 0 else c + i for i in indices[: n - 1]] + [c]
        if len(ends) != n:
            raise ModelError(f"has {len(indices)} places to cut for {n} parts: damaged file")
    else:
        if len(sizes) != n:
            raise ModelError(f"has {len(sizes)} sizes for {n} parts: damaged file")
        ends = []
        for k, size in enumerate(sizes):
            start = ends[-1] if ends else 0
            ends.append(start + ((c - start) // (n - k) if size == REST else size))
    starts = [0, *ends[:-1]]
    if any(not 0 <= a < b <= c for a, b in zip(starts, ends, strict=True)):
        raise ModelError(f"cuts {c} channels at {ends[:8]}: damaged file")
    if n == 1 and ends == [c]:
        return [x]
    if ends[-1] < c:
        return [ctx.choose(layer, x, list(range(a, b))) for a, b in zip(starts, ends, strict=True)]
    parts = [b - a for a, b in zip(starts, ends, strict=True)]
    ctx.add(layer, "Split", [x.name, ctx.number(layer, parts, "split", np.int64)], axis=1)
    node = ctx.graph.nodes[-1]
    node.outputs += [ctx.fresh(out) for out in layer.outputs[1:]]
    return [x.like(name, channels=size) for name, size in zip(node.outputs, parts, strict=True)]


def _window(x: Picture, starts: list[int], ends: list[int], axes: list[int]) -> list[tuple[int, int]]:
    """(cut off before, cut off after) of channels, rows and columns for a crop like a[start:end]."""
    sizes = [x.channels, x.height, x.width][: x.rank]
    cuts = [(0, 0)] * 3
    axes = [axis_of(x, a) for a in axes] if axes else list(range(len(starts)))
    if not len(starts) == len(ends) == len(axes) or len(set(axes)) != len(axes) or len(axes) > x.rank:
        raise ModelError(f"cuts from {starts[:4]} to {ends[:4]} along {axes[:4]}: damaged file")
    for axis, start, end in zip(axes, starts, ends, strict=True):
        n = sizes[axis]
        start = 0 if start == REST else start
        if isinstance(n, Dim):
            after = 0 if end in (REST, 0) or end > FAR else -end
            if start < 0 or after < 0:
                raise ModelError("cuts a part of fixed size from a picture of any size, which is not supported")
        else:
            start = start if start >= 0 else n + start
            end = n if end == REST else min(n, end if end > 0 else n + end)
            after = n - end
        cuts[axis] = (start, after)
    return cuts


def _sized(x: Picture, offsets: list[int], sizes: list[int], ends: list[int]) -> list[tuple[int, int]]:
    """The same for offsets on both sides and a size, of channels, rows and columns."""
    cuts = []
    for n, offset, size, end in zip((x.channels, x.height, x.width), offsets, sizes, ends, strict=True):
        if size == REST:
            cuts.append((offset, end))
        elif isinstance(n, Dim):
            raise ModelError("cuts a part of fixed size from a picture of any size, which is not supported")
        else:
            cuts.append((offset, n - offset - min(size, n - offset - end)))
    return cuts


def _like_another(x: Picture, other: Any, offsets: list[int]) -> list[tuple[int, int]]:
    """The same for the size of another picture."""
    if not isinstance(other, Picture) or other.rank != 3:
        raise ModelError("cuts a picture to the size of something else than a picture: not supported")
    cuts = [(offsets[0], x.channels - offsets[0] - other.channels)]
    for n, m, offset in ((x.height, other.height, offsets[1]), (x.width, other.width, offsets[2])):
        after = n - m - offset if isinstance(n, Dim) == isinstance(m, Dim) else None
        if after is None or isinstance(after, Dim) or after != int(after):
            raise ModelError("cuts a picture to another's size, which differs by an amount that depends on the size: not supported")
        cuts.append((offset, int(after)))
    return cuts


@op("Crop")
def crop(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Some channels, and a crop by constant amounts on each side."""
    x = ctx.picture(layer, args)
    if any(isinstance(layer.params.get(k), str) for k in (19, 20, 21)):
        raise ModelError("cuts at places that a formula gives: not supported")
    offsets, sizes = [layer.integer(k, 0) for k in (2, 1, 0)], [layer.integer(k, 0) for k in (5, 4, 3)]
    starts, ends = layer.integers(9), layer.integers(10)
    if starts and ends:
        cuts = _window(x, starts, ends, layer.integers(11))
    elif any(sizes):
        if x.rank != 3 or layer.integer(13, 0) or layer.integer(14, 0):
            raise ModelError("cuts a value of other axes than a picture's: not supported")
        cuts = _sized(x, offsets, sizes, [layer.integer(k, 0) for k in (8, 7, 6)])
    else:
        if len(args) < 2 or x.rank != 3:
            raise ModelError("does not say what to cut off: damaged file")
        cuts = _like_another(x, args[1], offsets)
    (first, last), (top, bottom), (left, right) = cuts
    if min(top, bottom, left, right) < 0 or not 0 <= first < x.channels - last <= x.channels:
        raise ModelError(f"cuts off {[top, left, bottom, right]} pixels, and {first} and {last} of {x.channels} channels: damaged file")
    return ctx.pads(layer, ctx.choose(layer, x, list(range(first, x.channels - last))), [-top, -left, -bottom, -right])


MODES = ("constant", "edge", "reflect")


@op("Padding")
def padding(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A border of one number, of the edge's pixels, or mirrored."""
    x = ctx.picture(layer, args)
    top, bottom, left, right, kind = (layer.integer(k, 0) for k in range(5))
    if "vector" in layer.weights or layer.integer(7, 0) or layer.integer(8, 0) or x.rank != 3 or len(args) != 1:
        raise ModelError("pads channels, each channel with its own number, or by computed amounts: not supported")
    if min(top, bottom, left, right) < 0 or not 0 <= kind < len(MODES):
        raise ModelError(f"pads by {[top, left, bottom, right]} pixels in the way {kind}: damaged file, or not supported")
    return ctx.pads(layer, x, [top, left, bottom, right], MODES[kind], layer.real(5, 0.0))


# ---- pixel shuffles ----------------------------------------------------------------------------------------------------------------------------


@op("PixelShuffle")
def pixel_shuffle(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Channels to pixels; the block's place is the innermost part of the channel's number in mode 0, the outermost in mode 1."""
    x, b, mode = ctx.picture(layer, args), layer.integer(0, 1), layer.integer(1, 0)
    if not 1 <= b <= 256 or x.channels % (b * b) or mode not in (0, 1):
        raise ModelError(f"cannot split {x.channels} channels into blocks of {b}x{b} in mode {mode}: damaged file")
    name = ctx.add(layer, "DepthToSpace", [x.name], blocksize=b, mode=("CRD", "DCR")[mode])
    return x.like(name, channels=x.channels // (b * b), height=x.height * b, width=x.width * b)


@op("Reorg")
def reorg(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Pixels to channels, the inverse."""
    x, b, mode = ctx.picture(layer, args), layer.integer(0, 1), layer.integer(1, 0)
    if not 1 <= b <= 256 or x.channels * b * b > FAR or mode not in (0, 1):
        raise ModelError(f"has blocks of {b}x{b} for {x.channels} channels in mode {mode}: damaged file")
    size = {}
    for axis, n in (("height", x.height), ("width", x.width)):
        if not isinstance(n, Dim) and n % b:
            raise ModelError(f"cannot cut {n} pixels into blocks of {b}: not supported")
        size[axis] = Dim(n.var, n.a / b, n.b / b, True, n.depth) if isinstance(n, Dim) else n // b
    out = x.like(ctx.add(layer, "SpaceToDepth", [x.name], blocksize=b), channels=x.channels * b * b, **size)
    return out if mode else ctx.choose(layer, out, np.arange(out.channels).reshape(b * b, -1).T.reshape(-1).tolist())


@op("ShuffleChannel")
def shuffle_channel(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Channels of groups taken in turn."""
    x, group = ctx.picture(layer, args), layer.integer(0, 1)
    if group < 1 or x.channels % group:
        raise ModelError(f"has {group} groups of {x.channels} channels: damaged file")
    rows = x.channels // group if layer.integer(1, 0) else group
    return ctx.choose(layer, x, np.arange(x.channels).reshape(rows, -1).T.reshape(-1).tolist())


# ---- resizing ----------------------------------------------------------------------------------------------------------------------------------


@op("Interp")
def interp(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Resampling by fixed factors, or to a size that is a fixed multiple of the picture's."""
    x, kind, align = ctx.picture(layer, args), layer.integer(0, 0), layer.integer(6, 0)
    if kind not in (1, 2, 3):
        raise ModelError(f"resizes in the way {kind}, which is not known")
    if 9 in layer.params:
        raise ModelError("resizes to a size that a formula gives: not supported")
    factors, out = [layer.real(1, 1.0), layer.real(2, 1.0)], [x.height, x.width]
    wanted: list[Any] = [layer.integer(3, 0), layer.integer(4, 0)]
    if layer.integer(5, 0):
        other = ctx.picture(layer, args, 1)
        wanted = [other.height, other.width]
    if isinstance(wanted[0], Dim) or isinstance(wanted[1], Dim) or all(wanted):
        for i in range(2):
            factors[i], out[i] = scale_of(wanted[i], out[i], bool(align)) if wanted[i] != out[i] else (1.0, out[i])
    else:
        out = [_resized(n, f) for n, f in zip(out, factors, strict=True)]
    if x.rank != 3:
        raise ModelError("resizes a vector: not supported")
    if factors == [1.0, 1.0]:
        return x
    attrs: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if kind != 1:
        attrs = {"mode": ("linear", "cubic")[kind - 2], "coordinate_transformation_mode": "align_corners" if align else "half_pixel"}
    if kind == 3:
        attrs["cubic_coeff_a"] = -0.75
    name = ctx.add(layer, "Resize", [x.name, "", ctx.number(layer, [1, 1, *factors], "scales")], **attrs)
    return x.like(name, height=out[0], width=out[1])


def _resized(n: Any, factor: float) -> Any:
    if not 1 / 256 <= factor <= 256:
        raise ModelError(f"resizes by a factor of {factor:g}: damaged file, or not supported")
    if not isinstance(n, Dim):
        return resized(n, factor)
    exact = Fraction(factor).limit_denominator(1000)
    return (n * (exact if abs(float(exact) - factor) < 1e-6 * factor else Fraction(factor))).floor()


# ---- axes of one pixel -------------------------------------------------------------------------------------------------------------------------


def _one_pixel(x: Picture, rank: int) -> Picture:
    if not x.single:
        raise ModelError("changes the axes of a picture, which is supported for single pixels only")
    return x.like(x.name, rank=rank)


@op("Flatten")
def flatten(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A picture of one pixel as a vector."""
    return _one_pixel(ctx.picture(layer, args), 1)


@op("Permute")
def permute(ctx: Context, layer: Layer, args: Args) -> Picture:
    """Another order of axes: none, as nothing else is supported."""
    x = ctx.picture(layer, args)
    if layer.integer(0, 0):
        raise ModelError("exchanges axes of a picture: not supported")
    return x


@op("Reshape")
def reshape(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A vector as a picture of one pixel, or the other way round, or nothing."""
    x = ctx.picture(layer, args)
    wide, high, deep, channels = (layer.integer(k, REST) for k in (0, 1, 11, 2))
    if deep != REST or len(args) != 1 or 6 in layer.params:
        raise ModelError("makes four axes, or computed ones: not supported")
    wanted = [n for n in (channels, high, wide) if n != REST]
    now = [x.channels, x.height, x.width][: x.rank]
    if len(wanted) == x.rank and all(w == 0 or w == n for w, n in zip(wanted, now, strict=True)):
        return x
    if len(wanted) == 3:
        size = [now[i] if w == 0 and i < len(now) else w for i, w in enumerate(wanted)]
        size = [1 if w == -1 and i else w for i, w in enumerate(size)]
        if x.single and size[1:] == [1, 1] and size[0] in (-1, x.channels):
            return _one_pixel(x, 3)
    elif len(wanted) == 1 and wanted[0] in (-1, x.channels):
        return _one_pixel(x, 1)
    raise ModelError(f"makes the axes {wanted} of a picture: only single pixels can get other axes")


@op("Squeeze")
def squeeze(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A picture of one pixel as a vector."""
    x, axes = ctx.picture(layer, args), layer.integers(3)
    rows, columns = (layer.integer(k, 0) for k in (1, 0))
    gone = {axis_of(x, a) for a in axes} if axes else {i for i, flag in ((0, layer.integer(2, 0)), (1, rows), (2, columns)) if flag}
    if gone != {1, 2}:
        raise ModelError("drops some axes of a picture: not supported")
    return _one_pixel(x, 1)


@op("ExpandDims")
def expand_dims(ctx: Context, layer: Layer, args: Args) -> Picture:
    """A vector as a picture of one pixel."""
    x, axes = ctx.picture(layer, args), layer.integers(3)
    new = {a % 3 for a in axes} if axes else {i for i, k in ((0, 2), (1, 1), (2, 0)) if layer.integer(k, 0)}
    if x.rank != 1 or new != {1, 2}:
        raise ModelError("adds axes to a picture: not supported")
    return _one_pixel(x, 3)
