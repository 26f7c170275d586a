"""A tile from top to bottom: which rows of every value each band makes and keeps. Nothing is made twice inside a tile, and of each value only the
rows that its readers still need are held.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from ... import tiles
from ...program import Program, Step
from ...tiles import EMPTY, Rect, Size
from .winograd import GROUP

_FAR = 1 << 60
_MOST_WARM_UP = 64


class Rows(NamedTuple):
    """One value in one band.

    made: the part that is new. top, bottom: the new rows with the zeros above and below the picture. first: the first row held; moved: how many rows
    go to the front of the storage before the band, and `step` how many rows far.
    """

    made: Rect
    top: int
    bottom: int
    first: int
    moved: int
    step: int


class Bands(NamedTuple):
    """need: the part of every value that the tile makes; ext: with the zeros around the picture that convolutions read; capacity: rows of storage;
    kept: whether rows outlive a band; rows: for each band all values.
    """

    need: list[Rect]
    ext: list[Rect]
    capacity: list[int]
    kept: list[bool]
    rows: list[list[Rows]]


def made(s: int, step: Step, rect: Rect, size: Size, grouped: Set[int]) -> Rect:
    """The part of its output that step number s makes when `rect` is asked for. size: of the output."""
    rect = tiles.made(step, rect)
    if s in grouped:
        n = GROUP * step.block
        rect = rect[0] // n * n, rect[1], min(-(-rect[2] // n) * n, size[0]), rect[3]
    return rect


def window(s: int, step: Step, rect: Rect, in_size: Size, out_size: Size, grouped: Set[int]) -> Rect:
    """What step number s reads of its inputs for a part of its output; a convolution may reach outside, where zeros are."""
    if step.kind != "Conv":
        return tiles.demand(step, rect, in_size, out_size)
    y0, x0, y1, x1 = tiles.before_shuffle(step, rect)
    if s in grouped:
        y1 = -(-y1 // GROUP) * GROUP
    return tiles.conv_window(step, (y0, x0, y1, x1), in_size)


def whole_tile(program: Program, sizes: Sequence[Size], wanted: Sequence[int], rects: Sequence[Rect],
               grouped: Set[int]) -> tuple[list[Rect], list[Rect]]:  # fmt: skip
    """`Bands.need` and `Bands.ext` of a tile; rects: the part of each wanted value."""
    need = [EMPTY] * len(program.values)
    ext = list(need)
    for v, rect in zip(wanted, rects, strict=True):
        need[v] = tiles.union(need[v], rect)
    for s in range(len(program.steps) - 1, -1, -1):
        step = program.steps[s]
        if tiles.is_empty(need[step.output]):
            continue
        out_size = sizes[step.output]
        rect = need[step.output] = made(s, step, need[step.output], out_size, grouped)
        for v in step.inputs:
            part = window(s, step, rect, sizes[v], out_size, grouped)
            ext[v] = tiles.union(ext[v], part)
            need[v] = tiles.union(need[v], tiles.clamp(part, sizes[v]))
        for v, part in tiles.operand_demand(step, rect).items():
            need[v] = tiles.union(need[v], part)
    return need, [tiles.union(a, b) for a, b in zip(need, ext, strict=True)]


def plan_bands(program: Program, sizes: Sequence[Size], wanted: Sequence[int], band_rects: Sequence[Sequence[Rect]], grouped: Set[int]) -> Bands:
    """band_rects: from top to bottom, the part of each wanted value that a band makes; together a rectangle of each. There are more bands in the plan
    when the halo above the first rows is high: it is made little by little.
    """
    rects = [EMPTY] * len(wanted)
    for band in band_rects:
        rects = [tiles.union(a, b) for a, b in zip(rects, band, strict=True)]
    need, ext = whole_tile(program, sizes, wanted, rects, grouped)
    start = [r[0] for r in need]

    def make(before: list[int], ends: list[int]) -> tuple[list[int], list[int]]:
        """The ends of all values, and the first rows read, when they are to be made from `before` to `ends` at least."""
        done, low = [max(a, b) for a, b in zip(before, ends, strict=True)], [_FAR] * len(need)
        for s in range(len(program.steps) - 1, -1, -1):
            step = program.steps[s]
            if done[step.output] > before[step.output]:
                _read(s, step, program, sizes, need, ext, before, done, low, grouped)
        return done, low

    goals = []
    for band in band_rects:
        goals.append(list(start))
        for v, rect in zip(wanted, band, strict=True):
            goals[-1][v] = max(goals[-1][v], rect[2])
    if len(goals) > 1:
        goals = _warm_up(sizes, need, make(start, goals[0])[0], wanted[0], band_rects[0][0]) + goals
    spans = []
    before = start
    for goal in goals:
        done, low = make(before, goal)
        tops = [ext[v][0] if b == start[v] and d > b else b for v, (b, d) in enumerate(zip(before, done, strict=True))]
        bottoms = [ext[v][2] if d == need[v][2] else d for v, d in enumerate(done)]
        spans.append(list(zip(before, done, tops, bottoms, low, strict=True)))
        before = done
    return Bands(need, ext, *_storage(need, spans))


def _warm_up(sizes: Sequence[Size], need: list[Rect], first: list[int], out: int, rect: Rect) -> list[list[int]]:
    """Ends of all values in the bands before the one whose ends are `first` and that makes `rect` of value `out`: always so much less as that band
    makes rows.
    """
    goals: list[list[int]] = []
    while rect[2] > rect[0] and len(goals) < _MOST_WARM_UP:
        height = (len(goals) + 1) * (rect[2] - rect[0])
        goal = [end - height * size[0] // sizes[out][0] for end, size in zip(first, sizes, strict=True)]
        if all(g <= r[0] for g, r in zip(goal, need, strict=True)):
            break
        goals.insert(0, goal)
    return goals


def _read(s: int, step: Step, program: Program, sizes: Sequence[Size], need: list[Rect], ext: list[Rect], before: list[int], done: list[int],
          low: list[int], grouped: Set[int]) -> None:  # fmt: skip
    """Note what step number s needs in a band to make the rows of its output from `before` to `done`."""
    o = step.output
    rect = made(s, step, (before[o], need[o][1], done[o], need[o][3]), sizes[o], grouped)
    done[o] = rect[2]
    parts = [(v, window(s, step, rect, sizes[v], sizes[o], grouped)) for v in step.inputs]
    for v, part in [*parts, *tiles.operand_demand(step, rect).items()]:
        low[v] = min(low[v], max(part[0], ext[v][0]))
        done[v] = max(done[v], min(tiles.clamp(part, sizes[v])[2], need[v][2]))


def _storage(need: list[Rect], spans: list[list[tuple[int, int, int, int, int]]]) -> tuple[list[int], list[bool], list[list[Rows]]]:
    """Capacity, kept and rows; spans: for each band and value the new rows, the same with zeros, and the first row read."""
    n, count = len(need), len(spans)
    first = [[_FAR] * n for _ in range(count + 1)]
    for i in range(count - 1, -1, -1):
        for v, (start, end, top, _, low) in enumerate(spans[i]):
            first[i][v] = min(low, first[i + 1][v], top if end > start else _FAR)
    capacity, kept = [0] * n, [False] * n
    rows: list[list[Rows]] = []
    for i in range(count):
        rows.append([])
        for v, (start, end, top, bottom, _) in enumerate(spans[i]):
            held = first[i][v]
            moved = max(0, spans[i - 1][v][3] - held) if i and spans[i - 1][v][1] > need[v][0] else 0
            kept[v] |= moved > 0
            if end > need[v][0]:
                capacity[v] = max(capacity[v], bottom - held)
            rect = (start, need[v][1], end, need[v][3]) if end > start else EMPTY
            rows[i].append(Rows(rect, top, bottom, held, moved, held - first[i - 1][v] if moved else 0))
    return capacity, kept, rows
