"""What a picture with rearranged axes amounts to: DepthToSpace, SpaceToDepth, a choice of channels, enlargement by repeated pixels.

    pixel shuffle     (N, [c b1 b2], H, W) -> axes N, c, [H b1], [W b2]
    its inverse       (N, C, [H b1], [W b2]) -> axes N, [C b1 b2], H, W
    channel shuffle   (N, [g c], H, W) -> axes N, [c g], H, W

where [...] is one axis made of several pieces. All of them, and any mixture, are SpaceToDepth, then another order of the channels, then DepthToSpace.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ModelError
from .onnx_context import Context, OnnxNode
from .onnx_values import Axis, Picture, make, product
from .values import Dim

MAX_CHANNELS = 65536
MOVES = "moves pixels in a way that is not supported; pixel shuffles, their inverse, channel shuffles and changes of layout are"


def settled(ctx: Context, node: OnnxNode, x: Picture) -> Picture:
    """The picture with whole letters as axes (`layout` is not ""), computed by nodes of the Graph where the view moves pixels."""
    if x.layout:
        return x
    key = (x.name, x.axes)
    if key not in ctx.settled:
        ctx.settled[key] = _emit(ctx, node, x)
    return ctx.settled[key]


def arranged(ctx: Context, node: OnnxNode, x: Picture, layout: str = "NCHW") -> Picture:
    """`settled`, where the layout has to be `layout`."""
    x = settled(ctx, node, x)
    if x.layout != layout:
        raise ModelError(f"works on {layout}, but its input is {x.layout}: fastsr does not transpose pictures")
    return x


def _letters(x: Picture) -> str:
    """Which of N, C, H, W each axis is about."""
    heads = {x.parts[a][0]: a for a in "NHW" if x.parts[a]}
    found = []
    for axis in x.axes:
        inside = [heads[a] for a in axis if a in heads]
        if len(inside) > 1 or (inside and axis[0] not in heads):
            raise ModelError(MOVES)
        found.append(inside[0] if inside else "C" if axis and "C" not in found else "")
    blank = [a for a in "NCHW" if a not in found]
    wanted = found.count("")
    if len(found) > 4 or len(blank) < wanted or any(axis and not letter for axis, letter in zip(x.axes, found, strict=True)):
        raise ModelError(MOVES)
    blank = blank[len(blank) - wanted :]
    return "".join(letter or blank.pop(0) for letter in found)


def _emit(ctx: Context, node: OnnxNode, x: Picture) -> Picture:
    layout = _letters(x)
    axis = {a: x.axes[layout.index(a)] if a in layout else () for a in "NCHW"}
    if len(set(layout)) != len(layout) or axis["N"][1:] or x.parts["N"][1:]:
        raise ModelError(MOVES)
    minor: dict[str, Axis] = {}
    grow: dict[str, int] = {}
    for a in "HW":
        pieces = axis[a]
        head = x.parts[a][0] if x.parts[a] else None
        pieces = pieces[1:] if head is not None else pieces
        copies = 1
        while pieces and pieces[-1].copies:
            copies *= pieces[-1].size
            pieces = pieces[:-1]
        minor[a], grow[a] = pieces, copies
    if len({*axis["C"], *minor["H"], *minor["W"]}) != len(axis["C"]) + len(minor["H"]) + len(minor["W"]):
        raise ModelError(MOVES)
    name, size = x.name, dict(x.size)
    inner = {a: x.parts[a][1:] if x.parts[a] else () for a in "HW"}
    channels = x.parts["C"]
    if any(inner[a] != minor[a] for a in "HW"):
        name, size, channels = _space_to_depth(ctx, node, name, size, channels, inner)
        order = axis["C"] + minor["H"] + minor["W"]
        mode = "CRD"
        if channels == minor["H"] + minor["W"] + axis["C"] and channels != order:
            order, mode = channels, "DCR"
        name, size = _channel_order(ctx, node, name, size, channels, order)
        name, size = _depth_to_space(ctx, node, name, size, minor, mode)
    else:
        name, size = _channel_order(ctx, node, name, size, channels, axis["C"])
    if grow != {"H": 1, "W": 1}:
        scales = ctx.number(node, [1, 1, grow["H"], grow["W"]], "scales")
        name = ctx.add(node, "Resize", [name, "", scales], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
        size = {**size, **{a: size[a] * grow[a] for a in "HW"}}
    return make(name, layout, size)


def _block(pieces: dict[str, Axis]) -> int:
    h, w = (product(pieces[a]) for a in "HW")
    if isinstance(h, Dim) or isinstance(w, Dim) or h != w or any(a.copies for p in pieces.values() for a in p):
        raise ModelError(f"cuts rows and columns into blocks of {h}x{w}: only square blocks are supported")
    return int(h)


def _space_to_depth(ctx: Context, node: OnnxNode, name: str, size: dict[str, Any], channels: Axis, inner: dict[str, Axis]) -> Any:
    block = _block(inner)
    if block == 1:
        return name, size, channels
    if size["C"] * block * block > MAX_CHANNELS:
        raise ModelError(f"makes {size['C'] * block * block} channels: damaged file")
    name = ctx.add(node, "SpaceToDepth", [name], blocksize=block)
    return name, {**size, "C": size["C"] * block * block, **{a: divided(size[a], block) for a in "HW"}}, inner["H"] + inner["W"] + channels


def divided(n: Any, block: int) -> Any:
    """A size over a block: exact for every picture that can be cut into such blocks."""
    if isinstance(n, Dim):
        return Dim(n.var, n.a / block, n.b / block, True, n.depth)
    if n % block:
        raise ModelError(f"cannot cut {n} pixels into blocks of {block}: damaged file")
    return n // block


def _depth_to_space(ctx: Context, node: OnnxNode, name: str, size: dict[str, Any], minor: dict[str, Axis], mode: str) -> Any:
    block = _block(minor)
    if block == 1:
        return name, size
    name = ctx.add(node, "DepthToSpace", [name], blocksize=block, mode=mode)
    return name, {**size, "C": size["C"] // (block * block), **{a: size[a] * block for a in "HW"}}


def _channel_order(ctx: Context, node: OnnxNode, name: str, size: dict[str, Any], now: Axis, wanted: Axis) -> Any:
    """Channels given by the pieces `now` in the order of `wanted`, which may hold copies besides."""
    if now == wanted:
        return name, size
    if {a for a in wanted if not a.copies} != set(now) or math.prod(a.size for a in wanted) > MAX_CHANNELS:
        raise ModelError(MOVES)
    index = np.arange(size["C"]).reshape([a.size for a in now])
    index = index.transpose([now.index(a) for a in wanted if not a.copies])
    index = index.reshape([1 if a.copies else a.size for a in wanted])
    index = np.broadcast_to(index, [a.size for a in wanted]).reshape(-1)
    return choose_channels(ctx, node, name, size, index.tolist())


def choose_channels(ctx: Context, node: OnnxNode, name: str, size: dict[str, Any], index: list[int], output: str = "") -> tuple[str, dict[str, Any]]:
    """Channels of a value by number, in any order and any number of times: a run of them is a Slice, others a convolution by ones and zeros."""
    c = size["C"]
    if not index or len(index) > MAX_CHANNELS or not all(0 <= i < c for i in index):
        raise ModelError(f"takes the channels {index[:8]} of {c}: damaged file")
    if index == list(range(index[0], index[0] + len(index))):
        names = [ctx.number(node, [v], stem, np.int64) for stem, v in (("starts", index[0]), ("ends", index[-1] + 1), ("axes", 1))]
        return ctx.add(node, "Slice", [name, *names], output), {**size, "C": len(index)}
    ctx.spend(8 * len(index) * c)
    weight = np.zeros((len(index), c, 1, 1), np.float32)
    weight[np.arange(len(index)), index] = 1
    return ctx.add(node, "Conv", [name, ctx.number(node, weight, "channels")], output, kernel_shape=[1, 1]), {**size, "C": len(index)}


