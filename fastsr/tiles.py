"""Rectangles and halos: which part of every value a part of the outputs needs. Pure functions over a `Program`, used by the backends that tile.

A rectangle is (y0, x0, y1, x1), the last two exclusive, in pixels of one value. `demand` is the exact halo: a backend that computes what
`plan_tile` says, from absolute coordinates, gives the same picture for every tiling.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence

import numpy as np

from .program import Program, Step, conv_pads

Rect = tuple[int, int, int, int]
Size = tuple[int, int]

EMPTY: Rect = (0, 0, 0, 0)


def is_empty(rect: Rect) -> bool:
    """Whether the rectangle holds no pixel."""
    return rect[2] <= rect[0] or rect[3] <= rect[1]


def union(a: Rect, b: Rect) -> Rect:
    """The smallest rectangle that holds both; an empty one adds nothing."""
    if is_empty(a):
        return b
    if is_empty(b):
        return a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def clamp(rect: Rect, size: Size) -> Rect:
    """The part of the rectangle inside a picture of that (H, W), at least the one pixel nearest to it."""
    y0, x0 = min(max(rect[0], 0), size[0] - 1), min(max(rect[1], 0), size[1] - 1)
    return y0, x0, max(min(rect[2], size[0]), y0 + 1), max(min(rect[3], size[1]), x0 + 1)


def align(rect: Rect, block: int) -> Rect:
    """The rectangle grown outwards to multiples of `block`."""
    y0, x0, y1, x1 = rect
    return y0 // block * block, x0 // block * block, -(-y1 // block) * block, -(-x1 // block) * block


# ---- tables of one axis ------------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def axis_table(
    mode: int, coord: int, nearest_mode: int, cubic_a: float, exclude_outside: int, scale: float, n_in: int, n_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """`resize_table` from plain numbers; codes as in docs/fsr.md. The arrays are read-only."""
    i = np.arange(n_out, dtype=np.float64)
    x = (i + 0.5) / scale - 0.5
    if coord == 1:
        x = i * (n_in - 1) / (n_out - 1) if n_out > 1 else np.zeros(1)
    elif coord == 2:
        x = i / scale
    elif coord == 3 and n_out == 1:
        x = np.zeros(1)
    elif coord == 4:
        x = n_in / 2 * (1 - n_out / (scale * n_in)) + (i + 0.5) / scale - 0.5
    elif coord == 5:
        x = (i + 0.5) / scale
    if mode == 0:
        nearest = (np.ceil(x - 0.5), np.floor(x + 0.5), np.floor(x), np.ceil(x))[nearest_mode]
        index, coef = nearest[:, None], np.ones((n_out, 1))
    else:
        base = np.floor(x)
        f, a = x - base, cubic_a
        if mode == 1:
            index, coef = np.stack([base, base + 1], 1), np.stack([1 - f, f], 1)
        else:
            far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (f + 1, 2 - f)]
            near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (f, 1 - f)]
            index, coef = np.stack([base - 1, base, base + 1, base + 2], 1), np.stack([far[0], near[0], near[1], far[1]], 1)
        if exclude_outside:
            coef = np.where((index >= 0) & (index < n_in), coef, 0)
            coef = coef / coef.sum(1, keepdims=True)
    clamped = np.clip(index, 0, n_in - 1).astype(np.int64)
    narrow = coef.astype(np.float32)
    clamped.setflags(write=False)
    narrow.setflags(write=False)
    return clamped, narrow


def resize_table(step: Step, axis: int, n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """How a Resize step makes one axis (0 rows, 1 columns): index int64 (n_out, taps), coef float32 (n_out, taps).

    Output pixel i is the sum over t of coef[i, t] * input[index[i, t]], as ONNX Resize 19 defines it; every index lies inside the input. One tap for
    nearest, two for linear, four for cubic.
    """
    scale = step["scale_h"] if axis == 0 else step["scale_w"]
    return axis_table(step["mode"], step["coord"], step["nearest_mode"], step["cubic_a"], step["exclude_outside"], scale, n_in, n_out)


@functools.lru_cache(maxsize=64)
def _pad_table(mode: int, before: int, n_in: int, n_out: int) -> np.ndarray:
    i = np.arange(-before, n_out - before)
    if mode == 0:
        i = np.where((i >= 0) & (i < n_in), i, -1)
    elif mode == 2:
        i = np.clip(i, 0, n_in - 1)
    else:
        edge = 0 if mode == 1 else -1
        i = np.where(i < 0, edge - i, i)
        i = np.where(i >= n_in, 2 * n_in - 2 - edge - i, i)
    i = i.astype(np.int64)
    i.setflags(write=False)
    return i


def pad_table(step: Step, axis: int, n_in: int, n_out: int) -> np.ndarray:
    """The input row (axis 0) or column (1) that each of a Pad step's n_out output ones copies, int64; -1 where it has the constant value."""
    return _pad_table(step["mode"], step["pt"] if axis == 0 else step["pl"], n_in, n_out)


# ---- what a step needs -------------------------------------------------------------------------------------------------------------------------


def made(step: Step, rect: Rect) -> Rect:
    """The part of its output a step makes when `rect` is asked for: grown to whole blocks where pixels are shuffled."""
    return align(rect, step.block * (step["block"] if step.kind == "DepthToSpace" else 1))


def conv_window(step: Step, rect: Rect, in_size: Size) -> Rect:
    """The input under a Conv step's kernel for a part of its result (before the epilogue); may reach outside the input, where zeros are read."""
    pt, pl, _, _ = conv_pads(step, in_size)
    y0, x0, y1, x1 = rect
    dy, dx = step["dh"] * (step["kh"] - 1), step["dw"] * (step["kw"] - 1)
    return y0 * step["sh"] - pt, x0 * step["sw"] - pl, (y1 - 1) * step["sh"] - pt + dy + 1, (x1 - 1) * step["sw"] - pl + dx + 1


def before_shuffle(step: Step, rect: Rect) -> Rect:
    """The part of a step's result before its epilogue's DepthToSpace that makes `rect` of its output."""
    y0, x0, y1, x1 = made(step, rect)
    b = step.block
    return y0 // b, x0 // b, y1 // b, x1 // b


def demand(step: Step, out_rect: Rect, in_size: Size, out_size: Size) -> Rect:
    """The part of a step's inputs needed for `out_rect` of its output (after the epilogue): never empty, inside the input.

    in_size, out_size: (H, W) of the whole inputs (all inputs of a step have one size) and of the whole output.
    """
    rect = before_shuffle(step, out_rect)
    if step.kind == "DepthToSpace":
        b = step["block"]
        return clamp((rect[0] // b, rect[1] // b, rect[2] // b, rect[3] // b), in_size)
    if step.kind == "Conv":
        return clamp(conv_window(step, rect, in_size), in_size)
    if step.kind == "SpaceToDepth":
        b = step["block"]
        return clamp((rect[0] * b, rect[1] * b, rect[2] * b, rect[3] * b), in_size)
    if step.kind in ("Resize", "Pad"):
        spans = [_span(step, axis, rect[axis], rect[axis + 2], in_size[axis], out_size[axis] // step.block) for axis in (0, 1)]
        return clamp((spans[0][0], spans[1][0], spans[0][1], spans[1][1]), in_size)
    return clamp(rect, in_size)


def _span(step: Step, axis: int, i0: int, i1: int, n_in: int, n_out: int) -> tuple[int, int]:
    index = resize_table(step, axis, n_in, n_out)[0] if step.kind == "Resize" else pad_table(step, axis, n_in, n_out)
    part = index[i0:i1]
    part = part[part >= 0]
    return (int(part.min()), int(part.max()) + 1) if part.size else (0, 1)


def operand_demand(step: Step, out_rect: Rect) -> dict[int, Rect]:
    """Value -> the part of it that the step's epilogue reads for `out_rect` of the output."""
    needs: dict[int, Rect] = {}
    rect = before_shuffle(step, out_rect)
    for e in step.epilogue:
        if e.op == "DepthToSpace":
            rect = made(step, out_rect)
        elif e.value is not None:
            needs[e.value] = union(needs.get(e.value, EMPTY), rect)
    return needs


def plan_tile(program: Program, sizes: Sequence[Size], out_rects: Mapping[int, Rect]) -> list[Rect]:
    """The part of every value that must be computed for parts of some values, found backwards from these.

    sizes: `program.value_sizes(...)`. out_rects: value index -> part wanted (may be empty). Values that nothing needs get `EMPTY`.
    """
    need = [EMPTY] * len(program.values)
    for value, rect in out_rects.items():
        need[value] = union(need[value], rect)
    for step in reversed(program.steps):
        if is_empty(need[step.output]):
            continue
        rect = need[step.output] = made(step, need[step.output])
        for i in step.inputs:
            need[i] = union(need[i], demand(step, rect, sizes[i], sizes[step.output]))
        for i, part in operand_demand(step, rect).items():
            need[i] = union(need[i], part)
    return need


# ---- cutting the picture -----------------------------------------------------------------------------------------------------------------------


def tile_of(rect: Rect, in_size: Size, out_size: Size) -> Rect:
    """The part of an output that goes with a part of the picture; parts that share an edge there share one here. May be empty."""
    y0, x0, y1, x1 = rect
    h, w = in_size
    return y0 * out_size[0] // h, x0 * out_size[1] // w, min(y1, h) * out_size[0] // h, min(x1, w) * out_size[1] // w


def tile_rects(size: Size, edge: int | None = None, seed: int | None = None) -> list[Rect]:
    """Cut a picture into tiles: with `tile_of` they hold each pixel of an output exactly once.

    size: (H, W) of the picture. edge: height and width of a tile in its pixels, of which the last ones of a row or column take what is left; None for
    the whole picture. `seed` shuffles the order, otherwise they run row by row.
    """
    edge = edge or max(size)
    found = [tile_of((y, x, y + edge, x + edge), size, size) for y in range(0, size[0], edge) for x in range(0, size[1], edge)]
    if seed is not None:
        random.Random(seed).shuffle(found)
    return found


def halves(rect: Rect) -> list[Rect]:
    """Both halves of a tile of at least two pixels, cut across its longer edge: the second one first, as work is taken from the end of a list."""
    y0, x0, y1, x1 = rect
    if y1 - y0 >= x1 - x0:
        middle = (y0 + y1) // 2
        return [(middle, x0, y1, x1), (y0, x0, middle, x1)]
    middle = (x0 + x1) // 2
    return [(y0, middle, y1, x1), (y0, x0, y1, middle)]
