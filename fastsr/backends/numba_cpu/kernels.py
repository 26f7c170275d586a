# mypy: disallow-untyped-defs=False
"""The numba kernels: convolution, element-wise operations, copies (pixel shuffle, pads, nearest) and resampling of one tile, and `run_tiles`, which
shares out tiles among threads. `layout.py` writes the code that they follow.

All values of a tile live in one float32 array, the arena. A value is stored row by row, all channels of a row one after another ("HCW"): pixel
(c, y, x) is at base + y * row + c * channel + x, in floats. Kernels work along x in vectors of `LANES` pixels and read and write up to LANES - 1
floats past the end of a row's channel; the layout leaves that much room, and what is written there is garbage.

Every result element is made by the same operations in the same order wherever it lies, so results depend neither on the tile nor on the threads:
vector code always runs over whole vectors, has its fused multiply-adds written out, and everything else is compiled without floating-point
contraction or reassociation.

The inner loops are written as LLVM vector instructions (`numba.extending.intrinsic`): accumulators of a block of output channels by a few vectors of
pixels stay in registers.

A tile's code is a list of calls in an int64 array: [kernel, length of the call, arguments...]; float arguments are in `floats`, from an index among
the arguments. Each kernel below gives its arguments in order; tables lie inline.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import pictures, winograd
from . import vectors as vec
from .vectors import I64, LANES, MANY_REGISTERS

CONV_BLOCKS: dict[int, tuple[int, ...]] = (
    {8: (3, 2, 1), 4: (6, 3, 2, 1), 2: (6, 3, 2, 1), 1: (6, 3, 2, 1)} if MANY_REGISTERS else {4: (3, 2, 1), 2: (3, 2, 1), 1: (3, 2, 1)}
)
"""Output channels that are convolved together -> vectors of pixels at a time, so that their product fits the registers."""

STRIP = 6
"""Vectors of a row that go through all blocks of output channels, while their input is in the nearest cache."""

ACT_NONE, ACT_CLIP, ACT_SLOPE = 0, 1, 2
"""Activations of `conv`: none; min(max(x, lo), hi); x >= 0 ? x : slope of the channel * x."""


def _ints(count: int) -> Any:
    """Intrinsic (code, p) -> the `count` numbers from code[p]."""

    @intrinsic
    def read(_: Any, code: Any, p: Any) -> Any:
        sig = types.UniTuple(types.int64, count)(code, p)

        def codegen(context: Any, b: Any, sig: Any, args: Any) -> Any:
            data = b.gep(vec.pointer(context, b, sig, args, 0), [args[1]])
            return context.make_tuple(b, sig.return_type, [b.load(b.gep(data, [I64(i)])) for i in range(count)])

        return sig, codegen

    return read


_ints4, _ints5, _ints6, _ints8, _ints9, _ints10, _ints12 = (_ints(n) for n in (4, 5, 6, 8, 9, 10, 12))


# ---- element by element ------------------------------------------------------------------------------------------------------------------------


def _each_code(b: Any, code: Any, table: dict[int, vec.Operation], body: Callable[[vec.Operation], None]) -> None:
    """Run the body of the operation with that code."""
    end = b.append_basic_block("end")
    switch = b.switch(code, end)
    for number, op in table.items():
        switch.add_case(I64(number), b.append_basic_block(f"code{number}"))
        b.position_at_end(switch.cases[-1][1])
        body(op)
        b.branch(end)
    b.position_at_end(end)


@intrinsic
def _map_unary(_: Any, arena: Any, code: Any, at: Any, n: Any, a: Any, b: Any) -> Any:
    """x = op(x, a, b) for the n floats from `at`, in whole vectors."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _arena, code, at, n, a, b = args
        data = builder.gep(vec.pointer(context, builder, sig, args, 0), [at])
        va, vb = vec.splat(builder, a), vec.splat(builder, b)

        def body(op: vec.Operation) -> None:
            with cgutils.for_range_slice(builder, I64(0), n, I64(LANES), intp=I64) as (i, _count):
                p = builder.gep(data, [i])
                vec.store(builder, op(builder, vec.load(builder, p), va, vb), p)

        _each_code(builder, code, vec.UNARY, body)
        return context.get_dummy_value()

    return types.void(arena, code, at, n, a, b), codegen


@intrinsic
def _map_binary(_: Any, arena: Any, code: Any, at: Any, other: Any, n: Any) -> Any:
    """x = op(x, y) for the n floats from `at` and from `other`, in whole vectors."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _arena, code, at, other, n = args
        data = vec.pointer(context, builder, sig, args, 0)

        def body(op: vec.Operation) -> None:
            with cgutils.for_range_slice(builder, I64(0), n, I64(LANES), intp=I64) as (i, _count):
                p, q = (builder.gep(data, [builder.add(start, i)]) for start in (at, other))
                vec.store(builder, op(builder, vec.load(builder, p), vec.load(builder, q)), p)

        _each_code(builder, code, vec.BINARY, body)
        return context.get_dummy_value()

    return types.void(arena, code, at, other, n), codegen


OPERAND_SCALAR, OPERAND_TENSOR, OPERAND_VALUE = 0, 1, 2


@njit
def _pointwise(arena, consts, code, floats, p):
    """Apply operations in order to a value in place: base, row, channel, rows, channels, width, floats (a, b of each), operations, then for each
    5 numbers: code of docs/fsr.md, operand kind, and where the operand is: for a tensor its place in `consts` and its step from channel to channel,
    for a value base, row and channel in the arena.
    """
    base, row, channel, rows, channels, width, scalars, count = _ints8(code, p)
    for y in range(rows):
        for c in range(channels):
            at = base + y * row + c * channel
            for k in range(count):
                op, kind, place, step, step_c = _ints5(code, p + 8 + 5 * k)
                if kind == OPERAND_VALUE:
                    _map_binary(arena, op, at, place + y * step + c * step_c, width)
                    continue
                a = floats[scalars + 2 * k]
                if kind == OPERAND_TENSOR:
                    a = consts[place + c * step]
                _map_unary(arena, op, at, width, a, floats[scalars + 2 * k + 1])


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------


@intrinsic
def _conv_block(_: Any, arena: Any, consts: Any, code: Any, offsets: Any, channels: Any, vectors: Any, at: Any, weights: Any, bias: Any, slope: Any,
                out: Any, out_channel: Any, act: Any, lo: Any, hi: Any, add: Any, add_channel: Any, add_first: Any) -> Any:  # fmt: skip
    """One output row's next pixels for a block of output channels; returns how many of the `vectors` vectors left were made.

    out[o][x] = store(bias[o] + sum over k of weights[k][o] * arena[at + code[offsets + 1 + k] + x]), k < code[offsets], summed in the order of k by
    fused multiply-adds.
    """
    numbers = (offsets, channels, vectors, at, weights, bias, slope, out, out_channel, act, lo, hi, add, add_channel, add_first)

    def codegen(context: Any, b: Any, sig: Any, args: Any) -> Any:
        places = [vec.pointer(context, b, sig, args, i) for i in range(3)]
        places[2] = b.gep(places[2], [args[3]])
        done = cgutils.alloca_once_value(b, I64(0))
        end = b.append_basic_block("end")
        for n, sizes in CONV_BLOCKS.items():
            for v in sizes:
                this, other = b.append_basic_block(f"conv{n}x{v}"), b.append_basic_block("other")
                b.cbranch(b.and_(b.icmp_signed("==", args[4], I64(n)), b.icmp_signed(">=", args[5], I64(v))), this, other)
                b.position_at_end(this)
                _emit_conv(b, n, v, *places, *args[6:])
                b.store(I64(v), done)
                b.branch(end)
                b.position_at_end(other)
        b.branch(end)
        b.position_at_end(end)
        return b.load(done)

    return types.int64(arena, consts, code, *numbers), codegen


def _emit_conv(b: Any, channels: int, vectors: int, data: Any, const: Any, offset: Any, at: Any, weights: Any, bias: Any, slope: Any, out: Any,
               out_channel: Any, act: Any, lo: Any, hi: Any, add: Any, add_channel: Any, add_first: Any) -> None:  # fmt: skip
    """The code of `_conv_block` for one size of block: channels * vectors sums in registers."""
    pairs = [(o, x) for o in range(channels) for x in range(vectors)]
    source, line = b.gep(data, [at]), b.gep(const, [weights])

    def const_of(place: Any) -> list[Any]:
        return [vec.splat(b, b.load(b.gep(const, [b.add(place, I64(o))]))) for o in range(channels)]

    def spot(place: Any, step: Any, o: int, x: int) -> Any:
        return b.gep(data, [b.add(b.add(place, b.mul(step, I64(o))), I64(x * LANES))])

    start, count = const_of(bias), b.load(offset)
    entry, loop, done = b.block, b.append_basic_block("taps"), b.append_basic_block("store")
    b.branch(loop)
    b.position_at_end(loop)
    k = b.phi(I64)
    k.add_incoming(I64(0), entry)
    sums = [b.phi(vec.VEC) for _ in pairs]
    k_next = b.add(k, I64(1))
    tap = b.gep(source, [b.load(b.gep(offset, [k_next]))])
    pixels = [vec.load(b, b.gep(tap, [I64(x * LANES)])) for x in range(vectors)]
    factors = [vec.splat(b, b.load(b.gep(line, [b.add(b.mul(k, I64(channels)), I64(o))]))) for o in range(channels)]
    values = [vec.fma(b, pixels[x], factors[o], s) for s, (o, x) in zip(sums, pairs, strict=True)]
    k.add_incoming(k_next, loop)
    for s, v, (o, _x) in zip(sums, values, pairs, strict=True):
        s.add_incoming(start[o], entry)
        s.add_incoming(v, loop)
    b.cbranch(b.icmp_signed("<", k_next, count), loop, done)
    b.position_at_end(done)

    places = [(spot(out, out_channel, o, x), spot(add, add_channel, o, x), o) for o, x in pairs]
    _emit_store(b, values, places, lambda: const_of(slope), act, lo, hi, b.icmp_signed(">=", add, I64(0)), add_first)


def _emit_store(b: Any, values: list[Any], places: list[tuple[Any, Any, int]], slopes_of: Callable[[], list[Any]], act: Any, lo: Any, hi: Any,
                has: Any, add_first: Any) -> None:  # fmt: skip
    """Activation, residual and store of some vectors. places: of each vector, where it goes, where its residual is when there `has` one, and which of
    the slopes it takes.
    """

    def with_residual(vs: list[Any]) -> list[Any]:
        return [b.fadd(v, vec.load(b, residual)) for v, (_, residual, _) in zip(vs, places, strict=True)]

    def clipped(vs: list[Any]) -> list[Any]:
        low, high = vec.splat(b, lo), vec.splat(b, hi)
        return [vec.clip(b, v, low, high) for v in vs]

    def sloped(vs: list[Any]) -> list[Any]:
        slopes = slopes_of()
        return [vec.leaky(b, v, slopes[o]) for v, (_, _, o) in zip(vs, places, strict=True)]

    first = b.icmp_signed("!=", add_first, I64(0))
    values = vec.branch(b, b.and_(has, first), values, with_residual)
    values = vec.branch(b, b.icmp_signed("==", act, I64(ACT_CLIP)), values, clipped)
    values = vec.branch(b, b.icmp_signed("==", act, I64(ACT_SLOPE)), values, sloped)
    values = vec.branch(b, b.and_(has, b.not_(first)), values, with_residual)
    for v, (target, _, _) in zip(values, places, strict=True):
        vec.store(b, v, target)


@njit
def _conv(arena, consts, code, floats, p):
    """A convolution, bias, activation and residual: at, row, channel, out, out_row, out_channel, rows, width, act, slope, floats (lo, hi), add,
    add_row, add_channel, add_first, weights_row, offsets, blocks; then for each block 5 numbers.

    offsets: how far from the arguments these lie: K, then where each of the K products of one group finds its pixel, counted from the place of output
    pixel (0, 0). block: its channels (of CONV_BLOCKS), its first output channel, its group's first input channel, and the places of its weights (K,
    channels) and bias in `consts`. slope: place of the slopes of all channels for ACT_SLOPE. row, channel: steps from one output row to the next in
    the input (stride included), and from one input channel to the next. add: a value that is added, before the activation when `add_first`, else
    after; -1 for none. weights_row: step from the weights of one row to those of the next.
    """
    at, row, channel, out, out_row, out_channel, rows, width, act, slope = _ints10(code, p)
    limits, add, add_row, add_channel, add_first, weights_row = _ints6(code, p + 10)
    offsets, blocks = p + code[p + 16], code[p + 17]
    lo, hi = floats[limits], floats[limits + 1]
    vectors = (width + LANES - 1) // LANES
    for y in range(rows):
        for x in range(0, vectors, STRIP):
            strip = min(vectors - x, STRIP)
            for k in range(blocks):
                n, o, c, weights, bias = _ints5(code, p + 18 + 5 * k)
                weights += y * weights_row
                source = at + y * row + c * channel
                target = out + y * out_row + o * out_channel
                residual = add + y * add_row + o * add_channel
                i = 0
                while i < strip:
                    d = (x + i) * LANES
                    i += _conv_block(arena, consts, code, offsets, n, strip - i, source + d, weights, bias, slope + o, target + d, out_channel, act,
                                     lo, hi, residual + d if add >= 0 else -1, add_channel, add_first)  # fmt: skip


@intrinsic
def _winograd_store(_: Any, arena: Any, consts: Any, m: Any, point: Any, bias: Any, slope: Any, out: Any, out_row: Any, rows: Any, act: Any, lo: Any,
                    hi: Any, add: Any, add_row: Any, add_first: Any) -> Any:  # fmt: skip
    """One vector of a group's rows from the six points of M."""
    numbers = (m, point, bias, slope, out, out_row, rows, act, lo, hi, add, add_row, add_first)

    def codegen(context: Any, b: Any, sig: Any, args: Any) -> Any:
        data, const = (vec.pointer(context, b, sig, args, i) for i in range(2))
        m, point, bias, slope, out, out_row, rows, act, lo, hi, add, add_row, add_first = args[2:]

        def one(place: Any) -> Any:
            return vec.splat(b, b.load(b.gep(const, [place])))

        def row_of(place: Any, step: Any, i: int) -> Any:
            return b.gep(data, [b.add(place, b.mul(step, I64(i)))])

        values = winograd.output_rows(b, lambda i: vec.load(b, row_of(m, point, i)), one(bias))
        has = b.icmp_signed(">=", add, I64(0))
        for i, v in enumerate(values):
            with b.if_then(b.icmp_signed("<", I64(i), rows), likely=True):
                _emit_store(b, [v], [(row_of(out, out_row, i), row_of(add, add_row, i), 0)], lambda: [one(slope)], act, lo, hi, has, add_first)
        return context.get_dummy_value()

    return types.void(arena, consts, *numbers), codegen


@njit
def _winograd_out(arena, consts, code, floats, p):
    """The end of `winograd`: m, m_channel, m_point, vectors, cout, rows, out, out_row, out_channel, bias, act, slope, floats (lo, hi), add, add_row,
    add_channel, add_first; as in `_conv`.
    """
    m, m_channel, m_point, vectors, cout, rows, out, out_row, out_channel, bias = _ints10(code, p)
    act, slope, limits, add, add_row, add_channel = _ints6(code, p + 10)
    add_first = code[p + 16]
    lo, hi = floats[limits], floats[limits + 1]
    for k in range(cout):
        for x in range(0, vectors * LANES, LANES):
            residual = add + k * add_channel + x if add >= 0 else -1
            _winograd_store(arena, consts, m + k * m_channel + x, m_point, bias + k, slope + k, out + k * out_channel + x, out_row, rows, act, lo, hi,
                            residual, add_row, add_first)  # fmt: skip


# ---- copies and resampling ---------------------------------------------------------------------------------------------------------------------


@njit
def _copy(source, target, code, floats, p, source_shift, target_shift):
    """Copy pixels: jobs, height, width, line, floats (fill), index of the tile's shift for LOAD and STORE; then for each job 4 numbers: from, to,
    to_row, to_column; then rows (height) and columns (width).

    target[to + y * to_row + x * to_column] = source[from + rows[y] + columns[x]]; a negative rows[y] or columns[x] gives `fill` instead. line:
    whether the columns are neighbours, from left to right.
    """
    jobs, height, width, line, value, _shift = _ints6(code, p)
    fill = floats[value]
    tables = p + 6 + 4 * jobs
    rows, columns = code[tables : tables + height], code[tables + height : tables + height + width]
    for j in range(jobs):
        start, to, to_row, step = _ints4(code, p + 6 + 4 * j)
        start += source_shift
        to += target_shift
        for y in range(height):
            if rows[y] < 0:
                for x in range(width):
                    target[to + x * step] = fill
            elif line and step == 1:
                first = start + rows[y] + columns[0]
                target[to : to + width] = source[first : first + width]
            else:
                first = start + rows[y]
                for x in range(width):
                    target[to + x * step] = fill if columns[x] < 0 else source[first + columns[x]]
            to += to_row


@njit
def _store_pixels(arena, code, p, shift, pixels, chroma, taps, factors):
    """`_copy`'s arguments of a STORE from one channel; the pixels go to a `pictures.Sink`."""
    height, start = code[p + 1], code[p + 6]
    y0, x0 = shift // pixels.shape[1], shift % pixels.shape[1]
    pictures.store_pixels(arena, start, code[p + 10 : p + 10 + height], code[p + 2], y0, x0, pixels, chroma, taps, factors)


@njit
def _zero_border(arena, code, p):
    """Zero a value's storage but for its pixels: base, row, channel, rows, channels, then the pixels' top, left, height, width."""
    base, row, channel, rows, channels, top, left, height, width = _ints9(code, p)
    for y in range(rows):
        start = base + y * row
        if y < top or y >= top + height:
            arena[start : start + row] = np.float32(0)
        else:
            for c in range(channels):
                arena[start + c * channel : start + c * channel + left] = np.float32(0)
                arena[start + c * channel + left + width : start + (c + 1) * channel] = np.float32(0)


@njit
def _resize(arena, code, floats, p):
    """Resample first down the columns into one line of n pixels, then along it: source, channel, n, target, out_row, out_channel, rows, channels,
    width, row_taps, column_taps, floats (factors of the rows, then of the columns); then rows (rows, row_taps) and columns (width, column_taps).

    rows: where the input rows start, counted from `source`; columns: the pixels of the line.
    """
    source, channel, n, target, out_row, out_channel, rows, channels, width, row_taps, column_taps, factors = _ints12(code, p)
    columns = p + 12 + rows * row_taps
    column_factors = factors + rows * row_taps
    line = np.empty(n, np.float32)
    for y in range(rows):
        for c in range(channels):
            line[:] = np.float32(0)
            for t in range(row_taps):
                start, factor = source + c * channel + code[p + 12 + y * row_taps + t], floats[factors + y * row_taps + t]
                pixels = arena[start : start + n]
                for i in range(n):
                    line[i] += pixels[i] * factor
            out = target + y * out_row + c * out_channel
            for x in range(width):
                total = np.float32(0)
                for t in range(x * column_taps, (x + 1) * column_taps):
                    total += line[code[columns + t]] * floats[column_factors + t]
                arena[out + x] = total


# ---- tiles -------------------------------------------------------------------------------------------------------------------------------------

CONV, POINTWISE, COPY, LOAD, STORE, ZERO_BORDER, RESIZE, MOVE, WINOGRAD_IN, WINOGRAD_OUT, TABLE = range(11)
"""Kernels in a tile's code. LOAD copies from the network's inputs, STORE to its outputs, COPY within the arena; MOVE: from, to, count; TABLE: nothing
but numbers that other calls read.
"""


@intrinsic
def _move(_: Any, arena: Any, source: Any, target: Any, count: Any) -> Any:
    """Copy `count` floats inside the arena; the places may overlap."""

    def codegen(context: Any, b: Any, sig: Any, args: Any) -> Any:
        data = vec.pointer(context, b, sig, args, 0)
        cgutils.raw_memmove(b, b.gep(data, [args[2]]), b.gep(data, [args[1]]), args[3], 4)
        return context.get_dummy_value()

    return types.void(arena, source, target, count), codegen


@intrinsic
def _take_number(_: Any, counter: Any) -> Any:
    """counter[0]++, returning the old value; atomic."""

    def codegen(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.atomic_rmw("add", vec.pointer(context, b, sig, args, 0), I64(1), "monotonic")

    return types.int64(counter), codegen


_INTS, _INTS2, _FLOATS, _FLOATS2 = types.int64[::1], types.int64[:, ::1], types.float32[::1], types.float32[:, ::1]
_SIGNATURE = types.void(
    types.int64, _INTS, _INTS, _INTS2, _INTS2, _INTS, _FLOATS, _FLOATS, _FLOATS2, types.Array(types.float32, 1, "C", readonly=True), _FLOATS,
    types.uint8[:, :, ::1], types.float32[:, :, ::1], _INTS, _FLOATS,
)  # fmt: skip


def _compile(stamp: int, cache: bool) -> Any:
    """`run_tiles`, compiled now or loaded from numba's cache.

    The cache knows a function by its own file and by the values it closes over: `stamp` stands for the other files that are compiled into it.
    """

    @njit(_SIGNATURE, parallel=True, nogil=True, cache=cache)
    def run_tiles(workers, counter, starts, bands, shifts, code, floats, consts, arenas, source, target, pixels, chroma, taps, factors):
        """Run the tiles, each band by band; each of the workers takes the next one when it is done with one.

        counter: int64 (1), 0. starts, bands, shifts, code, floats: see `layout.Plan`. arenas: float32 (workers, floats a tile needs). source, target:
        all inputs and all outputs, one after another. pixels, chroma, taps, factors: a `pictures.Sink`; unless it is empty it takes the output.
        """
        if stamp == 0:
            return
        for worker in prange(workers):
            arena = arenas[worker]
            tile = _take_number(counter)
            while tile < starts.size - 1:
                for band in range(starts[tile], starts[tile + 1]):
                    p = bands[band, 0]
                    scalars = floats[bands[band, 2] : bands[band, 3]]
                    while p < bands[band, 1]:
                        kernel, body = code[p], p + 2
                        if kernel == CONV:
                            _conv(arena, consts, code, scalars, body)
                        elif kernel == WINOGRAD_IN:
                            winograd.transform_inputs(arena, code, body)
                        elif kernel == WINOGRAD_OUT:
                            _winograd_out(arena, consts, code, scalars, body)
                        elif kernel == POINTWISE:
                            _pointwise(arena, consts, code, scalars, body)
                        elif kernel == COPY:
                            _copy(arena, arena, code, scalars, body, 0, 0)
                        elif kernel == LOAD:
                            _copy(source, arena, code, scalars, body, shifts[band, code[body + 5]], 0)
                        elif kernel == STORE and pixels.size > 0:
                            _store_pixels(arena, code, body, shifts[band, code[body + 5]], pixels, chroma, taps, factors)
                        elif kernel == STORE:
                            _copy(arena, target, code, scalars, body, 0, shifts[band, code[body + 5]])
                        elif kernel == MOVE:
                            _move(arena, code[body], code[body + 1], code[body + 2])
                        elif kernel == ZERO_BORDER:
                            _zero_border(arena, code, body)
                        elif kernel == RESIZE:
                            _resize(arena, code, scalars, body)
                        p += code[p + 1]
                tile = _take_number(counter)

    return run_tiles


_stamp = zlib.crc32(b"".join(Path(f).read_bytes() for f in (vec.__file__, pictures.__file__, winograd.__file__, __file__) if Path(f).is_file())) | 1
try:
    run_tiles = _compile(_stamp, True)
except Exception:  # the cache's folder cannot be written, or its files are damaged: unpickling may raise anything
    run_tiles = _compile(_stamp, False)
