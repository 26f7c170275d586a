"""From a Program to what the kernels take: the code that makes tiles (`plan_tiles`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ... import tiles
from ...program import CODES, Program, Step
from ...tiles import Rect, Size
from . import kernels as k
from . import winograd
from .bands import Bands, Rows, plan_bands, window
from .constants import Constants, ConvConstants
from .vectors import LANES


class Plan(NamedTuple):
    """What `kernels.run_tiles` needs to make some tiles.

    code: int64; floats: float32; starts: int64 (tiles + 1), each tile's first band. bands: int64 (n, 4), where a band's code begins and ends and
    where its floats do; bands that look alike share them. shifts: int64 (n, inputs + outputs): what is added to the places of the band in the
    network's inputs and outputs. arena: floats of memory needed. calls: begin in `code` -> the step each kernel call belongs to (-1 for none) and
    where it begins.
    """

    code: np.ndarray
    floats: np.ndarray
    starts: np.ndarray
    bands: np.ndarray
    shifts: np.ndarray
    arena: int
    calls: dict[int, list[tuple[int, int]]]


@dataclass
class Buffer:
    """Where a part of a value lies in the arena: `rect` is the part, `ext` the rows that are held and the columns with zeros left and right."""

    channels: int
    rect: Rect
    ext: Rect
    base: int = 0

    def __post_init__(self) -> None:
        self.left = -(-(self.rect[1] - self.ext[1]) // LANES) * LANES
        width = self.left + self.width + max(self.ext[3] - self.rect[3], LANES)
        # An odd number of vectors spreads the channels over all sets of the caches.
        self.channel = (-(-width // LANES) | 1) * LANES
        self.row = self.channel * self.channels
        self.size = self.row * (self.ext[2] - self.ext[0])

    @property
    def height(self) -> int:
        return self.rect[2] - self.rect[0]

    @property
    def width(self) -> int:
        return self.rect[3] - self.rect[1]

    def at(self, y: int, x: int, c: int = 0) -> int:
        """Place of pixel (y, x) of channel c."""
        return self.base + (y - self.ext[0]) * self.row + c * self.channel + self.left + x - self.rect[1]


def plan_tiles(program: Program, constants: Constants, sizes: Sequence[Size], wanted: Sequence[int],
               tile_bands: Sequence[Sequence[Sequence[Rect]]]) -> Plan:  # fmt: skip
    """The code that makes some tiles.

    sizes: of every value; wanted: value index of each requested output; tile_bands: of each tile, from top to bottom, the part of each output that a
    band makes.
    """
    known: dict[object, tuple[int, int, int, int]] = {}
    code: list[np.ndarray] = []
    floats: list[np.ndarray] = [np.zeros(0, np.float32)]
    calls: dict[int, list[tuple[int, int]]] = {}
    starts, places, shifts = [0], [], []
    length = n_floats = arena = 0
    for band_rects in tile_bands:
        tile = _Tile(program, constants, sizes, wanted, band_rects)
        for number in range(len(tile.bands.rows)):
            band = _Band(tile, number)
            key = band.key()
            if key not in known:
                band.plan()
                code += band.code
                floats += band.floats
                known[key] = (length, length + band.length, n_floats, n_floats + band.n_floats)
                calls[length] = [(step, length + at) for step, at in band.calls]
                length, n_floats, arena = length + band.length, n_floats + band.n_floats, max(arena, band.arena)
            places.append(known[key])
            shifts.append(band.shifts())
        starts.append(len(places))
    tables = [np.array(x, np.int64) for x in (starts, places, shifts)]
    return Plan(np.concatenate(code), np.concatenate(floats), tables[0], tables[1], tables[2], arena, calls)


class _Tile:
    """What the bands of a tile share: the storage of the values whose rows outlive a band, at the front of the arena."""

    def __init__(self, program: Program, constants: Constants, sizes: Sequence[Size], wanted: Sequence[int],
                 band_rects: Sequence[Sequence[Rect]]) -> None:  # fmt: skip
        self.program, self.constants, self.sizes, self.wanted = program, constants, sizes, wanted
        self.bands: Bands = plan_bands(program, sizes, wanted, band_rects, constants.grouped)
        need, ext = self.bands.need, self.bands.ext
        self.rects = [tiles.EMPTY] * len(wanted)
        for band in band_rects:
            self.rects = [tiles.union(a, b) for a, b in zip(self.rects, band, strict=True)]
        self.base: dict[int, int] = {}
        self.size = 0
        parts: list[object] = []
        for v, (r, e) in enumerate(zip(need, ext, strict=True)):
            parts.append((r[1] - e[1], r[3] - r[1], e[3] - r[3], self.bands.capacity[v], self.bands.kept[v]))
            if self.bands.kept[v]:
                self.base[v] = self.size
                self.size += self.buffer(v, 0, self.bands.capacity[v]).size
        self.key = tuple(parts)

    def buffer(self, v: int, first: int, last: int) -> Buffer:
        """Storage of those rows of value v."""
        r, e = self.bands.need[v], self.bands.ext[v]
        return Buffer(self.program.values[v].channels, (first, r[1], last, r[3]), (first, e[1], last, e[3]), self.base.get(v, 0))


class _Band:
    """Writes the code of one band."""

    def __init__(self, tile: _Tile, number: int) -> None:
        self.tile, self.number = tile, number
        self.program, self.constants, self.sizes, self.wanted = tile.program, tile.constants, tile.sizes, tile.wanted
        self.rows: list[Rows] = tile.bands.rows[number]
        self.steps = [(s, step) for s, step in enumerate(self.program.steps) if not tiles.is_empty(self.rows[step.output].made)]
        self.stored = []
        for v, r in zip(self.wanted, tile.rects, strict=True):
            y0, y1 = max(r[0], self.rows[v].made[0]), min(r[2], self.rows[v].made[2])
            self.stored.append((y0, r[1], y1, r[3]) if y0 < y1 and r[1] < r[3] else tiles.EMPTY)
        self.code: list[np.ndarray] = []
        self.length = 0
        self.floats: list[np.ndarray] = []
        self.n_floats = 0
        self.calls: list[tuple[int, int]] = []
        self.tables: dict[bytes, int] = {}
        self.s = -1
        self.buffers: dict[int, Buffer] = {}
        self.free: list[tuple[int, int]] = []
        self.size = tile.size

    # ---- bands that look alike ---------------------------------------------------------------------------------------------------------------

    def key(self) -> object:
        """Equal for bands of one picture whose code is equal: all that the code depends on, counted from the first row and column that is held."""
        parts: list[object] = [self.tile.key]
        for n in self.rows:
            new = () if tiles.is_empty(n.made) else (n.made[0] - n.first, n.made[2] - n.first, n.top - n.first, n.bottom - n.first)
            parts.append((new, n.moved, n.step))
        ext = self.tile.bands.ext
        for s, step in self.steps:
            rect = self.rows[step.output].made
            inner = tiles.before_shuffle(step, rect)
            if step.kind in ("Pad", "Resize"):
                parts.append(inner)
            for v in step.inputs:
                origin = window(s, step, rect, self.sizes[v], self.sizes[step.output], self.constants.grouped)
                parts.append((origin[0] - self.rows[v].first, origin[1] - ext[v][1]))
            for op in step.epilogue:
                if op.op == "DepthToSpace":
                    inner = rect
                elif op.value is not None:
                    parts.append((inner[0] - self.rows[op.value].first, inner[1] - ext[op.value][1]))
        for v, r in zip(self.wanted, self.stored, strict=True):
            parts.append((r[0] - self.rows[v].first, r[1] - ext[v][1], r[2] - r[0], r[3] - r[1]) if not tiles.is_empty(r) else ())
        return tuple(parts)

    def shifts(self) -> list[int]:
        """Of each input and output: the place of the band's first pixel in one channel."""
        corners = [(v, self.rows[v].made) for v in self.program.inputs] + list(zip(self.wanted, self.stored, strict=True))
        return [r[0] * self.sizes[v][1] + r[1] for v, r in corners]

    # ---- the code ----------------------------------------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Write the code."""
        for v, rows in enumerate(self.rows):
            if v in self.tile.base:
                b = self.buffers[v] = self.tile.buffer(v, rows.first, rows.first + self.tile.bands.capacity[v])
                if rows.step:
                    self._call(k.MOVE, (b.base + rows.step * b.row, b.base, rows.moved * b.row))
        last_use = {v: s for s, step in self.steps for v in step.reads()}
        place = 0
        for i, v in enumerate(self.program.inputs):
            if not tiles.is_empty(self.rows[v].made):
                self._load(i, v, place)
            place += self.program.values[v].channels * self.sizes[v][0] * self.sizes[v][1]
        for s, step in self.steps:
            self.s = s
            out = self._storage(step.output)
            self._step(step, out)
            self._finish(step.output, out)
            for v in {*step.reads(), step.output}:
                if last_use.get(v, s) == s and v not in self.tile.base:
                    self._release(self.buffers.pop(v))
        # Vectors and the columns of strided convolutions reach past the end of the last buffer.
        self.arena = self.size + 2 * LANES + max((s["sw"] for _, s in self.steps if s.kind == "Conv"), default=0)

    # ---- memory ------------------------------------------------------------------------------------------------------------------------------

    def _storage(self, v: int) -> Buffer:
        """Storage of a value that is made now; the part that is new."""
        rows = self.rows[v]
        if v not in self.buffers:
            self.buffers[v] = self._place(self.tile.buffer(v, rows.first, rows.bottom))
        return replace(self.buffers[v], rect=rows.made)

    def _new(self, channels: int, rect: Rect) -> Buffer:
        return self._place(Buffer(channels, rect, rect))

    def _place(self, buffer: Buffer) -> Buffer:
        for i, (start, end) in enumerate(self.free):
            if end - start >= buffer.size:
                self.free[i] = (start + buffer.size, end)
                buffer.base = start
                return buffer
        if self.free and self.free[-1][1] == self.size:
            buffer.base = self.free.pop()[0]
        else:
            buffer.base = self.size
        self.size = buffer.base + buffer.size
        return buffer

    def _release(self, buffer: Buffer) -> None:
        merged: list[tuple[int, int]] = []
        for start, end in sorted([*self.free, (buffer.base, buffer.base + buffer.size)]):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            elif end > start:
                merged.append((start, end))
        self.free = merged

    # ---- calls -------------------------------------------------------------------------------------------------------------------------------

    def _call(self, kernel: int, numbers: Sequence[int], *tables: Any) -> None:
        flat = [np.asarray(t, np.int64).reshape(-1) for t in tables]
        length = 2 + len(numbers) + sum(t.size for t in flat)
        self.calls.append((self.s, self.length))
        self.code += [np.array([kernel, length, *numbers], np.int64), *flat]
        self.length += length

    def _distance(self, table: np.ndarray) -> int:
        """How far from the arguments of the next call the table's length and the table lie. Tables are shared by the calls of a band."""
        key = table.tobytes()
        if key not in self.tables:
            self.tables[key] = self.length + 2
            self._call(k.TABLE, (), table.size, table)
        return self.tables[key] - self.length - 2

    def _put(self, floats: Any) -> int:
        """Place of some floats among the float arguments."""
        place = self.n_floats
        self.floats.append(np.asarray(floats, np.float32).reshape(-1))
        self.n_floats += np.size(floats)
        return place

    def _gather(self, jobs: Sequence[tuple[int, int, int, int]], rows: np.ndarray, columns: np.ndarray, fill: float = 0.0, kernel: int = k.COPY,
                shift: int = 0) -> None:  # fmt: skip
        """One copy kernel; jobs: (from, to, to_row, to_column)."""
        line = bool(columns[0] >= 0 and (np.diff(columns) == 1).all())
        self._call(kernel, (len(jobs), len(rows), len(columns), int(line), self._put(fill), shift), jobs, rows, columns)

    def _load(self, number: int, v: int, place: int) -> None:
        h, w = self.sizes[v]
        b = self._storage(v)
        jobs = [(place + c * h * w, b.at(b.rect[0], b.rect[1], c), b.row, 1) for c in range(b.channels)]
        self._gather(jobs, np.arange(b.height) * w, np.arange(b.width), kernel=k.LOAD, shift=number)
        self._finish(v, b)

    def _finish(self, v: int, b: Buffer) -> None:
        """Zeros around the new part of a value, and the store of what is wanted of it."""
        top, bottom = self.rows[v].top, self.rows[v].bottom
        if (top, b.ext[1], bottom, b.ext[3]) != b.rect:
            start = b.base + (top - b.ext[0]) * b.row
            self._call(k.ZERO_BORDER, (start, b.row, b.channel, bottom - top, b.channels, b.rect[0] - top, b.left, b.height, b.width))
        place = 0
        for number, (value, (y0, x0, y1, x1)) in enumerate(zip(self.wanted, self.stored, strict=True), len(self.program.inputs)):
            (h, w), channels = self.sizes[value], self.program.values[value].channels
            if value == v and y0 < y1:
                jobs = [(b.at(y0, x0, c), place + c * h * w, w, 1) for c in range(channels)]
                self._gather(jobs, np.arange(y1 - y0) * b.row, np.arange(x1 - x0), kernel=k.STORE, shift=number)
            place += channels * h * w

    def _step(self, step: Step, out: Buffer) -> None:
        split = next((j for j, e in enumerate(step.epilogue) if e.op == "DepthToSpace"), None)
        if split is None:
            self._result(step, out, len(step.epilogue))
            return
        e = step.epilogue[split]
        rect = tiles.before_shuffle(step, out.rect)
        result = self._new(out.channels * int(e.a) ** 2, rect)
        self._result(step, result, split)
        self._shuffle(result, out, int(e.a), int(e.b))
        self._release(result)
        self._pointwise(step, out, split + 1, len(step.epilogue))

    def _result(self, step: Step, out: Buffer, n_epilogue: int) -> None:
        """The step's kind and its first `n_epilogue` epilogues."""
        fused = 0
        if step.kind == "Conv":
            fused = self._conv(step, out)
        elif step.kind == "Resize":
            self._resize(step, out)
        elif step.kind == "Pad":
            self._pick(step, out, tiles.pad_table, step["value"])
        elif step.kind == "DepthToSpace":
            self._shuffle(self.buffers[step.inputs[0]], out, step["block"], step["mode"])
        elif step.kind == "SpaceToDepth":
            self._space_to_depth(step, out)
        else:
            self._copy(step, out)
        self._pointwise(step, out, fused, n_epilogue)

    def _pointwise(self, step: Step, b: Buffer, start: int, end: int) -> None:
        ops, scalars = [], []
        for j in range(start, end):
            e = step.epilogue[j]
            if e.value is not None:
                operand = self.buffers[e.value]
                place = operand.at(b.rect[0], b.rect[1])
                ops.append((CODES[e.op], k.OPERAND_VALUE, place, operand.row, operand.channel if operand.channels > 1 else 0))
            elif e.tensor is not None:
                ops.append((CODES[e.op], k.OPERAND_TENSOR, self.constants.tensors[self.s, j], int(e.tensor.size > 1), 0))
            else:
                ops.append((CODES[e.op], k.OPERAND_SCALAR, 0, 0, 0))
            scalars.append((e.a, e.b))
        if ops:
            size = (b.height, b.channels, b.width)
            self._call(k.POINTWISE, (b.at(*b.rect[:2]), b.row, b.channel, *size, self._put(scalars), len(ops)), ops)

    def _conv(self, step: Step, out: Buffer) -> int:
        c = self.constants.convs[self.s]
        source = self.buffers[step.inputs[0]]
        y0, x0, _, _ = tiles.conv_window(step, out.rect, self.sizes[step.inputs[0]])
        weight, sw = step.weight, step["sw"]
        assert weight is not None
        x_offsets = np.arange(step["kw"]) * step["dw"]
        at, row, channel, temporary = source.at(y0, x0), source.row, source.channel, None
        if self.s in self.constants.grouped:
            return self._winograd(c, source, out, (y0, x0))
        if sw > 1:
            # The input's columns sorted by phase, so that neighbours in the output are neighbours in each phase; phases are stored as channels.
            n = out.width + int(x_offsets[-1]) // sw
            rows = (out.height - 1) * step["sh"] + step["dh"] * (step["kh"] - 1) + 1
            temporary = self._new(source.channels * sw, (0, 0, rows, n))
            jobs = [(source.at(y0, x0 + p, i), temporary.at(0, 0, i * sw + p), temporary.row, 1) for i in range(source.channels) for p in range(sw)]
            self._gather(jobs, np.arange(rows) * source.row, np.arange(n) * sw)
            at, row, channel = temporary.at(0, 0), temporary.row, temporary.channel * sw
            x_offsets = x_offsets % sw * temporary.channel + x_offsets // sw
        offsets = (np.arange(weight.shape[1]) * channel)[:, None, None] + (np.arange(step["kh"]) * step["dh"] * row)[:, None] + x_offsets
        residual = (-1, 0, 0) if c.residual is None else self._residual(c.residual, out)
        act, slope, lo, hi = c.act
        self._call(k.CONV, (at, row * step["sh"], channel, out.at(*out.rect[:2]), out.row, out.channel, out.height, out.width, act, slope,
                            self._put((lo, hi)), *residual, int(c.residual_first), 0, self._distance(offsets), len(c.blocks)), c.blocks)  # fmt: skip
        if temporary is not None:
            self._release(temporary)
        return c.fused

    def _winograd(self, c: ConvConstants, source: Buffer, out: Buffer, origin: tuple[int, int]) -> int:
        """Groups of rows, the first of which reads from `origin`, in chunks."""
        parts = winograd.chunks(-(-out.width // LANES), source.channels, out.channels)
        most = max(end - start for start, end in parts)
        t_channel, m_channel = ((n | 1) * LANES for n in (most + 1, most))
        t_point, m_point = t_channel * source.channels + 11 * LANES, m_channel * out.channels + 11 * LANES
        t, m = (self._new(1, (0, 0, 1, winograd.POINTS * point)) for point in (t_point, m_point))
        offsets = (np.arange(source.channels) * t_channel)[:, None] + np.arange(3)
        act, slope, lo, hi = c.act
        none, limits = self._put((0.0, 0.0)), self._put((lo, hi))
        for y in range(0, out.height, winograd.GROUP):
            for start, end in parts:
                x, n = start * LANES, end - start
                at, target = source.at(origin[0] + y, origin[1]) + x, out.at(out.rect[0] + y, out.rect[1]) + x
                residual = (-1, 0, 0) if c.residual is None else self._residual(c.residual, out, y, x)
                self._call(k.WINOGRAD_IN, (at, source.row, source.channel, source.channels, n + 1, t.base, t_channel, t_point))
                self._call(k.CONV, (t.base, t_point, t_channel, m.base, m_point, m_channel, winograd.POINTS, n * LANES, k.ACT_NONE, 0, none,
                                    -1, 0, 0, 0, c.weights_row, self._distance(offsets), len(c.blocks)), c.blocks)  # fmt: skip
                self._call(k.WINOGRAD_OUT, (m.base, m_channel, m_point, n, out.channels, min(winograd.GROUP, out.height - y), target, out.row,
                                            out.channel, c.bias, act, slope, limits, *residual, int(c.residual_first)))  # fmt: skip
        self._release(t)
        self._release(m)
        return c.fused

    def _residual(self, v: int, out: Buffer, y: int = 0, x: int = 0) -> tuple[int, int, int]:
        b = self.buffers[v]
        return b.at(out.rect[0] + y, out.rect[1] + x), b.row, b.channel

    def _copy(self, step: Step, out: Buffer) -> None:
        """Pointwise and Concat: the inputs' channels one after another."""
        y0, x0, _, _ = out.rect
        c = 0
        for v in step.inputs:
            b = self.buffers[v]
            self._gather([(b.at(y0, x0, i), out.at(y0, x0, c + i), out.row, 1) for i in range(b.channels)],
                         np.arange(out.height) * b.row, np.arange(out.width))  # fmt: skip
            c += b.channels

    def _pick(self, step: Step, out: Buffer, table: Any, fill: float) -> None:
        """Every output pixel is one input pixel, or `fill`."""
        b = self.buffers[step.inputs[0]]
        size_in, (y0, x0, y1, x1) = self.sizes[step.inputs[0]], out.rect
        size_out = tuple(n // step.block for n in self.sizes[step.output])
        rows, cols = table(step, 0, size_in[0], size_out[0])[y0:y1], table(step, 1, size_in[1], size_out[1])[x0:x1]
        jobs = [(b.at(b.rect[0], b.rect[1], i), out.at(y0, x0, i), out.row, 1) for i in range(b.channels)]
        self._gather(jobs, np.where(rows < 0, -1, (rows - b.rect[0]) * b.row), np.where(cols < 0, -1, cols - b.rect[1]), fill)

    def _resize(self, step: Step, out: Buffer) -> None:
        if step["mode"] == 0:
            self._pick(step, out, lambda *args: tiles.resize_table(*args)[0][:, 0], 0.0)
            return
        b = self.buffers[step.inputs[0]]
        size_in, (y0, x0, y1, x1) = self.sizes[step.inputs[0]], out.rect
        size_out = tuple(n // step.block for n in self.sizes[step.output])
        (rows, row_coef), (cols, col_coef) = (tiles.resize_table(step, a, size_in[a], size_out[a]) for a in (0, 1))
        rows, row_coef, cols, col_coef = rows[y0:y1], row_coef[y0:y1], cols[x0:x1], col_coef[x0:x1]
        factors = self._put(np.concatenate([row_coef.reshape(-1), col_coef.reshape(-1)]))
        self._call(k.RESIZE, (b.at(*b.rect[:2]), b.channel, b.width, out.at(y0, x0), out.row, out.channel, out.height, out.channels, out.width,
                              rows.shape[1], cols.shape[1], factors), (rows - b.rect[0]) * b.row, cols - b.rect[1])  # fmt: skip

    def _shuffle(self, source: Buffer, out: Buffer, block: int, mode: int) -> None:
        y0, x0, _, _ = out.rect
        jobs = []
        for c in range(out.channels):
            for i in range(block):
                for j in range(block):
                    channel = (i * block + j) * out.channels + c if mode == 0 else (c * block + i) * block + j
                    jobs.append((source.at(y0 // block, x0 // block, channel), out.at(y0 + i, x0 + j, c), out.row * block, block))
        self._gather(jobs, np.arange(out.height // block) * source.row, np.arange(out.width // block))

    def _space_to_depth(self, step: Step, out: Buffer) -> None:
        b, block = self.buffers[step.inputs[0]], step["block"]
        y0, x0, _, _ = out.rect
        jobs = [(b.at(y0 * block + i, x0 * block + j, c), out.at(y0, x0, (i * block + j) * b.channels + c), out.row, 1)
                for i in range(block) for j in range(block) for c in range(b.channels)]  # fmt: skip
        self._gather(jobs, np.arange(out.height) * block * b.row, np.arange(out.width) * block)
