"""How the picture is cut when nobody says: the tiles and bands with the least estimated time, weighing halos that are computed twice against cache
misses, idle threads and the work per band. Results do not depend on it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from typing import NamedTuple

from ... import tiles
from ...program import Program
from ...tiles import Rect, Size
from .bands import whole_tile
from .vectors import LANES

FLOPS = 200e9
"""Floating-point operations a core does in a second; with the rates below only the ratios count."""

WINOGRAD = 1.8
"""How many times faster a convolution in groups of rows is."""

BYTES_L2, BYTES_L3, BYTES_MEMORY = 60e9, 10e9, 5e9
"""Bytes a core reads or writes in a second when a step's rows fit the second-level cache, the last-level cache, or neither."""

L2, L3 = 3 << 18, 16 << 20
"""Bytes of the caches that may be filled: of one core, and of all together."""

LIMIT = 64 << 20
"""Bytes that the tiles of all threads may take, unless the smallest tiles take more."""

SECONDS_PER_STEP = 5e-6
"""For a step of a band."""

BANDS = (2, 4, 8, 16, 32)


class Cut(NamedTuple):
    """Height and width of a tile, and the height of its bands, in input pixels."""

    height: int
    width: int
    band: int


def cut_picture(size: Size, out_sizes: Sequence[Size], cut: Cut, seed: int | None = None) -> list[list[list[Rect]]]:
    """For each tile, from top to bottom, the part of each output that a band makes. `seed` shuffles the tiles."""
    found = []
    for y0 in range(0, size[0], cut.height):
        y1 = min(y0 + cut.height, size[0])
        for x in range(0, size[1], cut.width):
            bands = [[tiles.tile_of((y, x, min(y + cut.band, y1), x + cut.width), size, s) for s in out_sizes] for y in range(y0, y1, cut.band)]
            bands = [b for b in bands if not all(tiles.is_empty(r) for r in b)]
            if bands:
                found.append(bands)
    if seed is not None:
        random.Random(seed).shuffle(found)
    return found


def choose_cut(program: Program, size: Size, sizes: Sequence[Size], wanted: Sequence[int], threads: int, grouped: Set[int],
               tile: int | None = None) -> Cut:  # fmt: skip
    """The cut for a picture of that (H, W); sizes and wanted as in `layout.plan_tiles`. tile: the edge of a tile when somebody says."""
    best, best_cost = Cut(*size, size[0]), float("inf")
    for width in [tile] if tile else _parts(size[1], 64, 2048):
        for height in [tile] if tile else _parts(size[0], 8, 1 << 20):
            rows, columns = -(-size[0] // height), -(-size[1] // width)
            y, x = rows // 2 * height, columns // 2 * width
            # A tile from the middle, where the halo is whole on all sides.
            rects = [tiles.tile_of((y, x, y + height, x + width), size, sizes[v]) for v in wanted]
            need, _ = whole_tile(program, sizes, wanted, rects, grouped)
            workers = min(threads, rows * columns)
            for band in sorted({min(b, height) for b in (*BANDS, height)}):
                seconds, memory = _tile_cost(program, need, height, band, threads, grouped)
                cost = -(-rows * columns // workers) * seconds
                if memory * workers > LIMIT:
                    cost += 1e3 * memory
                if cost < best_cost:
                    best, best_cost = Cut(height, width, band), cost
    return best


def _parts(n: int, least: int, most: int) -> list[int]:
    """Lengths of the parts when n is cut into 1, 2, 3, 4, 6, 8, 12 ... equal ones."""
    lengths: list[int] = []
    for pieces in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024):
        length = -(-n // pieces)
        if length <= most and (length >= least or not lengths) and length not in lengths:
            lengths.append(length)
    return lengths or [most]


def _tile_cost(program: Program, need: Sequence[Rect], height: int, band: int, threads: int, grouped: Set[int]) -> tuple[float, int]:
    """Seconds and bytes of one tile of that height that makes those parts of all values in bands."""
    count = -(-height // band)
    overlap = [0] * len(need)
    for step in program.steps:
        for v in step.inputs:
            overlap[v] = max(overlap[v], step["dh"] * (step["kh"] - 1) if step.kind == "Conv" else int(step.kind in ("Resize", "Pad")))
    # Bytes of one row, of the rows made in a band, and of the rows held.
    row = [4 * v.channels * (-(-(r[3] - r[1]) // LANES) + 2) * LANES for v, r in zip(program.values, need, strict=True)]
    new = [b * -(-(r[2] - r[0]) // count) for b, r in zip(row, need, strict=True)]
    held = [a + b * o if count > 1 and a else a for a, b, o in zip(new, row, overlap, strict=True)]
    kept = [count > 1 and o > 0 for o in overlap]
    last = {v: s for s, step in enumerate(program.steps) for v in step.reads()}
    memory = live = sum(h for h, k in zip(held, kept, strict=True) if k)
    peak, seconds = live, 0.0
    for s, step in enumerate(program.steps):
        if not new[step.output]:
            continue
        used = {*step.reads(), step.output}
        live += 0 if kept[step.output] else held[step.output]
        peak = max(peak, live)
        touched = sum(held[v] for v in used)
        rate = BYTES_L2 if touched <= L2 else BYTES_L3 if max(touched, memory) * threads <= L3 else BYTES_MEMORY
        moved = touched + sum(row[v] * overlap[v] for v in used if kept[v])
        flops = 0.0 if step.weight is None else 2.0 * step.weight.size * new[step.output] / (4 * program.values[step.output].channels) / step.block**2
        seconds += SECONDS_PER_STEP + flops / FLOPS / (WINOGRAD if s in grouped else 1.0) + moved / rate
        live -= sum(held[v] for v in used if last.get(v, s) == s and not kept[v])
    return count * seconds, peak
