"""TensorFlow Lite operators that move pixels, said in ONNX's terms: changes of axes, depth to space, padding, joining, cutting and resizing."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_pixels
from .context import register
from .onnx_pixels import axis_of, padded
from .onnx_values import MAX_RANK, Picture
from .onnx_values import reshape as reshaped
from .onnx_views import arranged, settled
from .resizing import scale_of
from .tflite_context import Args, Grid, Handler, TfliteContext, TfliteNode, integers, nhwc, whole
from .tflite_quantised import finish
from .values import Array, Dim, pack_dims

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
END = 1 << 31
"""Stands for the end of an axis."""


REQUANTISES = ("CONCATENATION", "PAD", "PADV2", "MIRROR_PAD")
"""Operators that move numbers and may change their scale."""


def same_scale(ctx: TfliteContext, node: TfliteNode, sources: list[Picture], grid: Grid) -> None:
    """Raise ModelError where the file calls the same integers other numbers before and after an operator that copies them."""
    for p in sources:
        known = ctx.grids.get(p.name)
        if known is not None and (abs(known.scale - grid.scale) > 1e-5 * grid.scale or known.low != grid.low):
            raise ModelError("copies quantised numbers to a tensor of another scale or zero point: damaged file")


def moved(ctx: TfliteContext, node: TfliteNode, sources: list[Picture], y: Picture, k: int = 0) -> Picture:
    """The result k of an operator that only moves numbers: on the grid of what it was made from."""
    grid = Grid.of(node.results[k]) if node.results[k].quantised else None
    if grid is not None and node.op not in REQUANTISES:
        same_scale(ctx, node, sources, grid)
    if grid is not None and all(p.name in ctx.grids and grid.holds(ctx.grids[p.name]) for p in sources):
        ctx.grids.setdefault(y.name, grid)
    return finish(ctx, node, y, 0, k)


def viewed(ctx: TfliteContext, node: TfliteNode, y: Picture) -> Picture:
    """The result of an operator that changes nothing but axes."""
    if node.result.quantised:
        same_scale(ctx, node, [y], Grid.of(node.result))
    return y


# ---- axes --------------------------------------------------------------------------------------------------------------------------------------


@op("TRANSPOSE")
def transpose(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Another order of axes."""
    core = ctx.spell(node, "Transpose", perm=ctx.ints(node, args, 1))
    return viewed(ctx, node, onnx_pixels.transpose(ctx, core, args))


@op("RESHAPE")
def reshape(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Another cut into axes of the same numbers; without a second input, into those that the file gives the result."""
    x = ctx.picture(node, args)
    if len(args) > 1 and args[1] is not None:
        target = list(ctx.array(node, args, 1).data.reshape(-1))
        if any(not isinstance(n, (Dim, int, np.integer)) for n in target):
            raise ModelError("has a shape that is not of integers: damaged file")
    else:
        target = list(node.result.signature)
    return viewed(ctx, node, reshaped(x, [n if isinstance(n, Dim) else int(n) for n in target], True))


@op("EXPAND_DIMS", "SQUEEZE")
def other_rank(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """New axes of size 1, or such axes dropped."""
    if node.op == "EXPAND_DIMS":
        return viewed(ctx, node, onnx_pixels.unsqueeze(ctx, ctx.spell(node, "Unsqueeze", axes=ctx.ints(node, args, 1)), args[:1]))
    listed = node.message.ints(0) if node.message is not None else []
    if len(listed) > MAX_RANK:
        raise ModelError(f"drops the axes {listed[:8]}: damaged file")
    return viewed(ctx, node, onnx_pixels.squeeze(ctx, ctx.spell(node, "Squeeze", axes=listed), args[:1]))


@op("TILE", "BROADCAST_TO")
def repeat(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Repeated along axes."""
    handler = onnx_pixels.tile if node.op == "TILE" else onnx_pixels.expand
    return viewed(ctx, node, handler(ctx, ctx.spell(node, node.op), args))


@op("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def depth_to_space(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Channels to pixels, the position in the block outermost; and back."""
    x, block = ctx.picture(node, args), node.int("block_size")
    if node.op == "DEPTH_TO_SPACE":
        y = onnx_pixels.depth_to_space(ctx, ctx.spell(node, "DepthToSpace", blocksize=block, mode="DCR"), [ctx.nchw(node, x)])
    else:
        y = onnx_pixels.space_to_depth(ctx, ctx.spell(node, "SpaceToDepth", blocksize=block), [ctx.nchw(node, x)])
    return moved(ctx, node, [x], nhwc(y))


# ---- padding, joining, cutting -----------------------------------------------------------------------------------------------------------------


@op("PAD", "PADV2", "MIRROR_PAD")
def pad(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """A border of one number, or mirrored."""
    x, amounts = settled(ctx, node, ctx.picture(node, args)), ctx.numbers(node, args, 1)
    if amounts.shape != (x.rank, 2) or amounts.dtype.kind not in "iu" or (amounts.size and int(amounts.min()) < 0):
        raise ModelError(f"has paddings of shape {list(amounts.shape)} for {x.rank} axes, or negative ones: damaged file")
    pads = {a: (int(p[0]), int(p[1])) for a, p in zip(x.layout, amounts, strict=True)}
    value, mode = 0.0, "constant"
    if node.op == "MIRROR_PAD":
        if node.int("mode") not in (0, 1):
            raise ModelError(f"has the mode {node.int('mode')}, which is not known")
        mode = ("reflect", "symmetric")[node.int("mode")]
    elif ctx.given(args, 2):
        value = ctx.single(node, args, 2)
    y = padded(ctx, ctx.spell(node, "Pad"), x, pads, mode, value, "")
    grid = ctx.grids.get(x.name)
    inside = grid is not None and abs(value / grid.scale - round(value / grid.scale)) < 1e-3 and grid.low <= round(value / grid.scale) <= grid.high
    return moved(ctx, node, [x], y) if inside else finish(ctx, node, y)


@op("CONCATENATION")
def concat(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Pictures joined by channels."""
    pictures = [ctx.picture(node, args, k) for k in range(len(args))]
    y = onnx_pixels.concat(ctx, ctx.spell(node, "Concat", axis=node.int("axis")), args)
    if node.int("fused"):
        raise ModelError("joins pictures with a fused activation, which the format does not know: damaged file")
    return moved(ctx, node, pictures, y)


@op("SPLIT", "SPLIT_V")
def split(ctx: TfliteContext, node: TfliteNode, args: Args) -> list[Picture]:
    """Channels cut into parts: axis and picture, or picture, sizes and axis."""
    equal = node.op == "SPLIT"
    x, axis = ctx.picture(node, args, 1 if equal else 0), ctx.ints(node, args, 0 if equal else 2)
    if len(axis) != 1:
        raise ModelError("has no axis: damaged file")
    n, attrs = len(node.results), {"axis": axis[0]}
    total = x.shape[axis_of(node, x, axis[0])]
    sizes = [] if equal else ctx.ints(node, args, 1)
    if not equal and sizes.count(-1) == 1 and not isinstance(total, Dim):
        sizes[sizes.index(-1)] = total - sum(sizes) - 1
    if (equal and (isinstance(total, Dim) or total % n)) or (not equal and min(sizes, default=0) < 1):
        raise ModelError(f"splits {total} entries into {n} parts: not supported")
    core = ctx.spell(node, "Split", *(ctx.fresh(t.name) for t in node.results), **attrs)
    parts = onnx_pixels.split(ctx, core, [x] if equal else [x, integers(sizes)])
    return [moved(ctx, node, [x], y, k) for k, y in enumerate(parts)]


@op("UNPACK")
def unpack(ctx: TfliteContext, node: TfliteNode, args: Args) -> list[Picture]:
    """The channels, each as a picture without that axis."""
    x = settled(ctx, node, ctx.picture(node, args))
    axis = axis_of(node, x, node.int("axis"))
    core = ctx.spell(node, "Split", *(ctx.fresh(t.name) for t in node.results), axis=axis)
    if x.shape[axis] != len(node.results):
        raise ModelError(f"makes {len(node.results)} parts of {x.shape[axis]}: damaged file")
    parts = [y.view(y.axes[:axis] + y.axes[axis + 1 :]) for y in onnx_pixels.split(ctx, core, [x])]
    return [moved(ctx, node, [x], y, k) for k, y in enumerate(parts)]


@op("STRIDED_SLICE")
def strided_slice(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """A crop by constant amounts on each side, a range of channels, or every nth pixel."""
    x = ctx.picture(node, args)
    begin, end, step, gone = slices(ctx, node, args, x.rank)
    bounds = [Array(pack_dims(begin, (len(begin),), np.int64)), Array(pack_dims(end, (len(end),), np.int64)), integers(list(range(x.rank)))]
    y = onnx_pixels.slice_(ctx, ctx.spell(node, "Slice"), [x, *bounds, integers(step)])
    if any(y.axes[i] and y.axes[i] != y.parts["N"] for i in gone):
        raise ModelError("takes one row or column of a picture, which is not supported")
    return moved(ctx, node, [x], y.view(tuple(a for i, a in enumerate(y.axes) if i not in gone)))


def slices(ctx: TfliteContext, node: TfliteNode, args: Args, rank: int) -> tuple[list[Any], list[Any], list[int], set[int]]:
    """First, end and step for each of `rank` axes, by STRIDED_SLICE's masks, and the axes that are dropped."""
    begin, end, step = (list(ctx.array(node, args, k).data.reshape(-1)) for k in (1, 2, 3))
    masks = {m: node.int(f"{m}_mask") for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    if not len(begin) == len(end) == len(step) <= rank or any(isinstance(s, Dim) or s == 0 for s in step):
        raise ModelError("has begin, end and strides of different lengths, or a stride of 0: damaged file")
    if masks["new_axis"] or masks["ellipsis"] or node.flag("offset"):
        raise ModelError("cuts with new axes, an ellipsis or offsets, which is not supported")
    gone: set[int] = set()
    for i in range(len(begin)):
        bit = 1 << i
        if masks["shrink_axis"] & bit:
            gone.add(i)
            end[i] = END if not isinstance(begin[i], Dim) and begin[i] == -1 else begin[i] + 1
            step[i] = 1
            continue
        if masks["begin"] & bit:
            begin[i] = 0 if step[i] > 0 else END
        if masks["end"] & bit:
            end[i] = END if step[i] > 0 else -END
    more = rank - len(begin)
    return begin + [0] * more, end + [END] * more, [int(s) for s in step] + [1] * more, gone


@op("SLICE")
def slice_(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """A crop by begin and size, -1 for the rest."""
    x = ctx.picture(node, args)
    begin, size = (list(ctx.array(node, args, k).data.reshape(-1)) for k in (1, 2))
    if len(begin) != x.rank or len(size) != x.rank or any(not isinstance(b, Dim) and b < 0 for b in begin):
        raise ModelError("slices beyond its input: damaged file")
    if any(not isinstance(n, Dim) and n < -1 for n in size):
        raise ModelError("cuts a part of negative size: damaged file")
    end = [END if not isinstance(n, Dim) and n == -1 else b + n for b, n in zip(begin, size, strict=True)]
    bounds = [Array(pack_dims(v, (len(v),), np.int64)) for v in (begin, end)]
    return moved(ctx, node, [x], onnx_pixels.slice_(ctx, ctx.spell(node, "Slice"), [x, *bounds]))


@op("GATHER")
def gather(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Channels by number."""
    if node.int("batch_dims"):
        raise ModelError("gathers by batches, which is not supported")
    x = ctx.picture(node, args)
    return moved(ctx, node, [x], onnx_pixels.gather(ctx, ctx.spell(node, "Gather", axis=node.int("axis")), args))


# ---- resizing ----------------------------------------------------------------------------------------------------------------------------------


@op("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Resampling to a size from shape code, or to a fixed one, which over the fixed size of the input is the factor for every picture."""
    x, size = arranged(ctx, node, ctx.picture(node, args), "NHWC"), ctx.array(node, args, 1).data.reshape(-1)
    if size.size != 2:
        raise ModelError(f"has a size of {size.size} numbers: damaged file")
    align, half = node.flag("align_corners"), node.flag("half_pixel_centers")
    if align and half:
        raise ModelError("has both align_corners and half_pixel_centers: damaged file")
    (sh, h), (sw, w) = (scale_of(n, x.size[a], align) for n, a in zip(size.tolist(), "HW", strict=True))
    attrs: dict[str, Any] = {"coordinate_transformation_mode": "align_corners" if align else "half_pixel" if half else "asymmetric"}
    nearest = node.op == "RESIZE_NEAREST_NEIGHBOR"
    if nearest:
        attrs |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if align else "floor"}
        if half:
            attrs["coordinate_transformation_mode"] = "tf_half_pixel_for_nn"
    else:
        attrs["mode"] = "linear"
    y = whole(ctx.add(node, "Resize", [x.name, "", ctx.number(node, [1, 1, sh, sw], "scales")], **attrs), x, H=h, W=w)
    return moved(ctx, node, [x], y) if nearest else finish(ctx, node, y)
