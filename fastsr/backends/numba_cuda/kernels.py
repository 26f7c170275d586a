# mypy: disallow-untyped-defs=False
"""The kernels. A kernel is what one of very many threads does; each thread makes one pixel, or a few, of a step's result.

A value is an array (channels, height, width) in the GPU's memory. When the picture is cut into tiles, it is only a part of the value, and kernels are
told how far apart the corners of two parts lie: all coordinates here are those of arrays. `height` and `width` are those of the result before its
epilogue, so a pixel shuffle in the epilogue makes `out` larger than that.

Functions that return kernels fix what must be known when a kernel is compiled: sizes of arrays in registers and in shared memory, and the epilogue.
They remember what they have made, so steps that differ in numbers and sizes only share a kernel.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cuda, float32

from . import only_named
from .operations import NUMBERS, OPERANDS

SIMULATED = only_named()

THREADS = 32 if SIMULATED else 256
"""Threads in a block of a kernel whose threads share nothing."""

BLOCK_H, BLOCK_W, ROWS = (2, 4, 2) if SIMULATED else (4, 32, 4)
"""A block of `tiled_conv` has BLOCK_H x BLOCK_W threads and makes ROWS * BLOCK_H x BLOCK_W pixels. A warp, 32 threads in step, is one row of them."""

TOGETHER = 2 if SIMULATED else 4
"""Input channels that `tiled_conv` loads at a time."""

# ---- epilogues: what happens between a pixel's sum and its place in memory ---------------------------------------------------------------------


@cuda.jit(device=True)
def _unchanged(value, c, y, x, operands, shifts):
    return value


def _with_numbers(before, operation, a, b):
    """`before`, then an operation with two numbers."""

    @cuda.jit(device=True)
    def chain(value, c, y, x, operands, shifts):
        return operation(before(value, c, y, x, operands, shifts), a, b)

    return chain


def _with_operand(before, operation, number):
    """`before`, then an operation with operand `number`: that of the same pixel, or the only one where it has one channel, row or column."""

    @cuda.jit(device=True)
    def chain(value, c, y, x, operands, shifts):
        value = before(value, c, y, x, operands, shifts)
        operand, shift = operands[number], shifts[number]
        oc = c if operand.shape[0] > 1 else 0
        oy = y + shift[0] if operand.shape[1] > 1 else 0
        ox = x + shift[1] if operand.shape[2] > 1 else 0
        a = operand[oc, oy, ox]
        return operation(value, a, a)

    return chain


def _chain(operations, first):
    """One function of many operations; `first` is the number of the first operand."""
    chain = _unchanged
    for name, a, b in operations:
        if name in OPERANDS:
            chain = _with_operand(chain, OPERANDS[name], first)
            first += 1
        else:
            chain = _with_numbers(chain, NUMBERS[name], np.float32(a), np.float32(b))
    return chain


@functools.lru_cache(maxsize=256)
def store(before: tuple[Any, ...], block: int, crd: bool, after: tuple[Any, ...]) -> Any:
    """The function that stores a step's result: store(out, value, c, y, x, operands, shifts).

    before, after: operations (name, a, b) on both sides of a pixel shuffle by `block`; block 0: there is none, and nothing is `after`. crd: the
    channels of the shuffle are in ONNX's order CRD, not DCR. operands: arrays, one for each operation that has one; shifts: how much larger the
    pixel's y and x are in each.
    """
    finish = _chain(before, 0)
    if block == 0:

        @cuda.jit(device=True)
        def plain(out, value, c, y, x, operands, shifts):
            out[c, y, x] = finish(value, c, y, x, operands, shifts)

        return plain
    finish_shuffled = _chain(after, sum(name in OPERANDS for name, _, _ in before))

    @cuda.jit(device=True)
    def shuffled(out, value, c, y, x, operands, shifts):
        value = finish(value, c, y, x, operands, shifts)
        c, dy, dx = _shuffled_place(c, block, crd, out.shape[0])
        y, x = y * block + dy, x * block + dx
        out[c, y, x] = finish_shuffled(value, c, y, x, operands, shifts)

    return shuffled


@cuda.jit(device=True)
def _shuffled_place(c, block, crd, channels):
    """Where channel c goes in a DepthToSpace to that many channels: the channel, and the row and column in its block."""
    if crd:
        channel, place = c // (block * block), c % (block * block)
    else:
        channel, place = c % channels, c // channels
    return channel, place // block, place % block


# ---- convolutions ------------------------------------------------------------------------------------------------------------------------------
#
# Weights come in blocks of `outputs` output channels, (blocks, input channels, kh, kw, outputs), the last block of a group of channels filled up with
# zeros. A thread makes all channels of a block for its pixels: an input pixel read once is used `outputs` times.


@functools.lru_cache(maxsize=64)
def direct_conv(outputs: int, save: Any) -> Any:
    """Any convolution. A thread makes `outputs` channels of one pixel and reads the input straight from the GPU's memory.

    per_group: output channels of a group. stride, dilation: (along y, along x). corner: row and column of `source` under the first weight for the
    result's pixel (0, 0). Where there is nothing of `source` there is the padding, which is zero.
    """

    @cuda.jit
    def kernel(source, weights, bias, per_group, stride, dilation, corner, out, height, width, operands, shifts):
        i = cuda.grid(1)
        block, y, x = i // (height * width), i // width % height, i % width
        if block >= weights.shape[0]:
            return
        inputs, kh, kw, rows, columns = weights.shape[1], weights.shape[2], weights.shape[3], source.shape[1], source.shape[2]
        blocks_per_group = (per_group + outputs - 1) // outputs
        group = block // blocks_per_group
        first = group * per_group + block % blocks_per_group * outputs
        total = cuda.local.array(outputs, float32)
        for o in range(outputs):
            total[o] = bias[block, o]
        for c in range(inputs):
            for ky in range(kh):
                sy = corner[0] + y * stride[0] + ky * dilation[0]
                if sy < 0 or sy >= rows:
                    continue
                for kx in range(kw):
                    sx = corner[1] + x * stride[1] + kx * dilation[1]
                    if sx < 0 or sx >= columns:
                        continue
                    pixel = source[group * inputs + c, sy, sx]
                    for o in range(outputs):
                        total[o] += pixel * weights[block, c, ky, kx, o]
        finished = cuda.local.array(outputs, float32)  # see tiled_conv
        for o in range(outputs):
            finished[o] = total[o]
        for o in range(outputs):
            if first + o < (group + 1) * per_group:
                save(out, finished[o], first + o, y, x, operands, shifts)

    return kernel


@functools.lru_cache(maxsize=64)
def tiled_conv(kh: int, kw: int, outputs: int, save: Any) -> Any:
    """A convolution of kh x kw with stride and dilation 1, for which the threads of a block work together.

    Neighbouring pixels need nearly the same inputs. So the block first copies all that it needs of a few channels, and their weights, to shared
    memory, a small memory as fast as registers nearly; waits until all threads have done their part; and computes from there.

    A thread makes `outputs` channels of ROWS pixels, BLOCK_H rows apart: ROWS pixels and `outputs` weights read make ROWS * outputs multiplications.
    Arguments are those of `direct_conv`.
    """
    tile_h, tile_w = BLOCK_H * ROWS + kh - 1, BLOCK_W + kw - 1
    tile_shape, weights_shape, total_shape = (TOGETHER, tile_h, tile_w), (TOGETHER, kh, kw, outputs), (ROWS, outputs)

    @cuda.jit
    def kernel(source, weights, bias, per_group, corner, out, height, width, operands, shifts):
        tile = cuda.shared.array(tile_shape, float32)
        tile_weights = cuda.shared.array(weights_shape, float32)

        # Which channels and which pixels are this block's. Blocks that run at the same time should read the same pixels: channels first.
        blocks, inputs, rows, columns = weights.shape[0], weights.shape[1], source.shape[1], source.shape[2]
        block, place = cuda.blockIdx.x % blocks, cuda.blockIdx.x // blocks
        blocks_per_group = (per_group + outputs - 1) // outputs
        group = block // blocks_per_group
        first = group * per_group + block % blocks_per_group * outputs
        blocks_per_row = (width + BLOCK_W - 1) // BLOCK_W
        y0, x0 = place // blocks_per_row * (BLOCK_H * ROWS), place % blocks_per_row * BLOCK_W
        ty, tx = cuda.threadIdx.y, cuda.threadIdx.x
        thread = ty * BLOCK_W + tx

        total = cuda.local.array(total_shape, float32)
        for r in range(ROWS):
            for o in range(outputs):
                total[r, o] = bias[block, o]
        for start in range(0, inputs, TOGETHER):
            count = TOGETHER if start + TOGETHER <= inputs else inputs - start
            for i in range(thread, count * tile_h * tile_w, BLOCK_H * BLOCK_W):
                c, y, x = i // (tile_h * tile_w), i // tile_w % tile_h, i % tile_w
                sy, sx = corner[0] + y0 + y, corner[1] + x0 + x
                inside = sy >= 0 and sy < rows and sx >= 0 and sx < columns
                tile[c, y, x] = source[group * inputs + start + c, sy, sx] if inside else float32(0)
            for i in range(thread, count * kh * kw * outputs, BLOCK_H * BLOCK_W):
                c, ky, kx, o = i // (kh * kw * outputs), i // (kw * outputs) % kh, i // outputs % kw, i % outputs
                tile_weights[c, ky, kx, o] = weights[block, start + c, ky, kx, o]
            cuda.syncthreads()
            for c in range(count):
                for ky in range(kh):
                    for kx in range(kw):
                        for r in range(ROWS):
                            pixel = tile[c, ty + r * BLOCK_H + ky, tx + kx]
                            for o in range(outputs):
                                total[r, o] += pixel * tile_weights[c, ky, kx, o]
            cuda.syncthreads()  # nobody loads the next channels before all have used these

        # `total` stays in registers only if all its indices are known when the kernel is compiled. The loop that stores, with a long epilogue in
        # it, is not unrolled, so it reads a copy.
        finished = cuda.local.array(total_shape, float32)
        for r in range(ROWS):
            for o in range(outputs):
                finished[r, o] = total[r, o]
        for r in range(ROWS):
            y, x = y0 + ty + r * BLOCK_H, x0 + tx
            if y < height and x < width:
                for o in range(outputs):
                    if first + o < (group + 1) * per_group:
                        save(out, finished[r, o], first + o, y, x, operands, shifts)

    return kernel


# ---- the other kinds: a thread makes one pixel of one channel ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def moved(save: Any) -> Any:
    """Pointwise, and one input of Concat: the same pixel, in channels from `first` on. shift: how much larger its y and x are in `source`."""

    @cuda.jit
    def kernel(source, first, shift, out, height, width, operands, shifts):
        i = cuda.grid(1)
        c, y, x = i // (height * width), i // width % height, i % width
        if c < source.shape[0]:
            save(out, source[c, y + shift[0], x + shift[1]], first + c, y, x, operands, shifts)

    return kernel


@functools.lru_cache(maxsize=64)
def padded(save: Any) -> Any:
    """Pad. rows, columns: of the whole result, the input's row and column that is copied, -1 for the number `fill`; corner: where this part of the
    result begins; source_corner: the same of `source`.
    """

    @cuda.jit
    def kernel(source, rows, columns, corner, source_corner, fill, out, height, width, operands, shifts):
        i = cuda.grid(1)
        c, y, x = i // (height * width), i // width % height, i % width
        if c < source.shape[0]:
            sy, sx = rows[corner[0] + y], columns[corner[1] + x]
            value = fill
            if sy >= 0 and sx >= 0:
                value = source[c, sy - source_corner[0], sx - source_corner[1]]
            save(out, value, c, y, x, operands, shifts)

    return kernel


@functools.lru_cache(maxsize=64)
def resized(save: Any) -> Any:
    """Resize. rows, columns: of the whole result, the input's rows and columns that are summed, with factors row_weights and column_weights, all
    (n, taps); corners as in `padded`.
    """

    @cuda.jit
    def kernel(source, rows, row_weights, columns, column_weights, corner, source_corner, out, height, width, operands, shifts):
        i = cuda.grid(1)
        c, y, x = i // (height * width), i // width % height, i % width
        if c < source.shape[0]:
            total = float32(0)
            for ty in range(rows.shape[1]):
                sy = rows[corner[0] + y, ty] - source_corner[0]
                line = float32(0)
                for tx in range(columns.shape[1]):
                    sx = columns[corner[1] + x, tx] - source_corner[1]
                    line += column_weights[corner[1] + x, tx] * source[c, sy, sx]
                total += row_weights[corner[0] + y, ty] * line
            save(out, total, c, y, x, operands, shifts)

    return kernel


@functools.lru_cache(maxsize=64)
def depth_to_space(save: Any) -> Any:
    """DepthToSpace as a step of its own: a pixel of `source` becomes a block. shift: how much larger y and x of that pixel are in `source`."""

    @cuda.jit
    def kernel(source, block, crd, shift, out, height, width, operands, shifts):
        i = cuda.grid(1)
        c, y, x = i // (height * width), i // width % height, i % width
        if c < source.shape[0]:
            channels = source.shape[0] // (block * block)
            channel, dy, dx = _shuffled_place(c, block, crd, channels)
            value = source[c, y + shift[0], x + shift[1]]
            save(out, value, channel, y * block + dy, x * block + dx, operands, shifts)

    return kernel


@functools.lru_cache(maxsize=64)
def space_to_depth(save: Any) -> Any:
    """SpaceToDepth: a block of `source` becomes channels of one pixel. corner: row and column of `source` where the result's first block begins."""

    @cuda.jit
    def kernel(source, block, corner, out, height, width, operands, shifts):
        i = cuda.grid(1)
        c, y, x = i // (height * width), i // width % height, i % width
        if c < source.shape[0] * block * block:
            place, channel = c // source.shape[0], c % source.shape[0]
            sy, sx = corner[0] + y * block + place // block, corner[1] + x * block + place % block
            save(out, source[channel, sy, sx], c, y, x, operands, shifts)

    return kernel
