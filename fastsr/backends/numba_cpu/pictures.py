# mypy: disallow-untyped-defs=False
"""8-bit pictures of Y networks with the arithmetic of `fastsr/image.py`, bit for bit: the luma plane that the network reads, and the store that makes
pixels of a tile's luma and of the picture's chroma.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ... import image
from ...graph import Feed
from .vectors import F32, F64, FMA

_MAGIC = np.float32(12582912.0)
"""1.5 * 2^23: adding it to a number below 2^22 rounds that to the nearest integer, half to even."""


class Sink(NamedTuple):
    """Where a run's output goes when it becomes an 8-bit picture.

    pixels: uint8 (H, W, 1 or 3), empty for none. chroma: float32 (2, h, w), Cr and Cb in 0..1 of the picture before. taps: int64, the left and then
    the right chroma pixel of each of W columns, then the upper and the lower one of each of H rows. factors: float32, what the network's output is
    multiplied with, what is added before, 1 where `Feed.fine`, then the weight of the right chroma pixel for each column and of the lower one for
    each row.
    """

    pixels: np.ndarray
    chroma: np.ndarray
    taps: np.ndarray
    factors: np.ndarray


NO_SINK = Sink(np.zeros((0, 0, 1), np.uint8), np.zeros((2, 0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


def suits(picture: np.ndarray, feed: Feed, to_u8: bool) -> bool:
    """Whether `Sink` can hold what becomes of a checked picture. Lines of one pixel have an arithmetic of their own."""
    plain = feed.colour == "y" and max(len(feed.mean), len(feed.out_mean)) <= 1
    return FMA and plain and (to_u8 or picture.dtype == np.uint8) and 1 not in picture.shape


def make_sink(rest: image.Rest, height: int, width: int) -> Sink:
    """The sink for a new picture of that size that the rest stands for."""
    mean = rest.feed.out_mean[0] if rest.feed.out_mean else 0.0
    factors = [np.array([255.0 / rest.feed.out_range, mean, rest.feed.fine], np.float32)]
    if rest.cr is None or rest.cb is None:
        return NO_SINK._replace(pixels=np.empty((height, width, 1), np.uint8), factors=factors[0])
    taps = []
    for n_out, n_in in ((width, rest.width), (height, rest.height)):
        left, weight = image.linear_taps(n_out, n_in)
        taps += [np.clip(left, 0, n_in - 1), np.clip(left + 1, 0, n_in - 1)]
        factors.append(weight)
    return Sink(np.empty((height, width, 3), np.uint8), np.stack([rest.cr, rest.cb]), np.concatenate(taps), np.concatenate(factors))


@intrinsic
def _fma(_: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z of float32, rounded once; without the instruction in double, which is almost that."""

    def codegen(_context: Any, b: Any, _sig: Any, args: Any) -> Any:
        if FMA:
            return b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(F32, [F32] * 3), "llvm.fma.f32"), args)
        wide = [b.fpext(a, F64) for a in args]
        return b.fptrunc(b.fadd(b.fmul(wide[0], wide[1]), wide[2]), F32)

    return types.float32(x, y, z), codegen


@njit
def _clipped(v):
    """v in 0..255, 0 for NaN."""
    v = v if v > np.float32(0) else np.float32(0)
    return v if v < np.float32(255) else np.float32(255)


@njit
def _byte(v):
    """The same rounded half to even."""
    return np.int32((_clipped(v) + _MAGIC) - _MAGIC)


@njit
def _cut(v):
    """The same cut off to a whole number."""
    return np.uint8(np.int32(_clipped(v)))


@njit
def _saturate(v):
    return np.uint8(min(max(np.int32(v), np.int32(0)), np.int32(255)))


@njit
def _enlarge(line, left, right, weight, out):
    """A line of chroma at the columns of the output."""
    for x in range(out.size):
        a, b = line[left[x]], line[right[x]]
        out[x] = _fma(b - a, weight[x], a)


@njit
def _colour_line(luma, factor, mean, lines, upper, lower, weight, out):
    """A line of BGR pixels. lines: float32 (2, 2, width), Cr and Cb of two lines of chroma, of which `upper` and `lower` are taken."""
    cr_a, cr_b, cb_a, cb_b = lines[0, upper], lines[0, lower], lines[1, upper], lines[1, lower]
    for x in range(luma.size):
        y = _byte((luma[x] + mean) * factor)
        cr = np.int32(_byte(_fma(cr_b[x] - cr_a[x], weight, cr_a[x]) * np.float32(255)) - 128)
        cb = np.int32(_byte(_fma(cb_b[x] - cb_a[x], weight, cb_a[x]) * np.float32(255)) - 128)
        out[3 * x] = _saturate(y + (np.int32(29049 * cb + 8192) >> 14))
        out[3 * x + 1] = _saturate(y + (np.int32(-5636 * cb - 11698 * cr + 8192) >> 14))
        out[3 * x + 2] = _saturate(y + (np.int32(22987 * cr + 8192) >> 14))


_UNIT = 1.0 / 16384
_BLUE, _RED = np.float32(29049 * _UNIT), np.float32(22987 * _UNIT)
_GREEN_B, _GREEN_R = np.float32(-5636 * _UNIT), np.float32(-11698 * _UNIT)
_TO_B, _TO_G, _TO_R = (np.float32(0.5 + 128 * c * _UNIT) for c in (-29049, 5636 + 11698, -22987))


@njit
def _fine_line(luma, factor, mean, lines, upper, lower, weight, out):
    """As `_colour_line`, of a Y that is not rounded."""
    cr_a, cr_b, cb_a, cb_b = lines[0, upper], lines[0, lower], lines[1, upper], lines[1, lower]
    for x in range(luma.size):
        y = _clipped((luma[x] + mean) * factor)
        cr = np.float32(_byte(_fma(cr_b[x] - cr_a[x], weight, cr_a[x]) * np.float32(255)))
        cb = np.float32(_byte(_fma(cb_b[x] - cb_a[x], weight, cb_a[x]) * np.float32(255)))
        out[3 * x] = _cut(_fma(cb, _BLUE, y + _TO_B))
        out[3 * x + 1] = _cut(_fma(cb, _GREEN_B, _fma(cr, _GREEN_R, y + _TO_G)))
        out[3 * x + 2] = _cut(_fma(cr, _RED, y + _TO_R))


@njit
def store_pixels(arena, start, rows, width, y0, x0, pixels, chroma, taps, factors):
    """Store a tile from pixel (y0, x0); its luma is at arena[start + rows[y] + x]. The rest: see `Sink`."""
    total = pixels.shape[1]
    lines = np.empty((2, 2, width), np.float32)
    held = np.full(2, -1, np.int64)
    for i in range(rows.size):
        first, y = start + rows[i], y0 + i
        luma = arena[first : first + width]
        if pixels.shape[2] == 1:
            line = pixels[y, x0 : x0 + width, 0]
            for x in range(width):
                line[x] = np.uint8(_byte((luma[x] + factors[1]) * factors[0]))
            continue
        upper, lower = taps[2 * total + y], taps[2 * total + pixels.shape[0] + y]
        for row in (upper, lower):
            if held[row & 1] != row:
                held[row & 1] = row
                for plane in range(2):
                    _enlarge(chroma[plane, row], taps[x0 : x0 + width], taps[total + x0 : total + x0 + width], factors[3 + x0 : 3 + x0 + width],
                             lines[plane, row & 1])  # fmt: skip
        out = pixels[y].reshape(-1)[3 * x0 : 3 * (x0 + width)]
        weight = factors[3 + total + y]
        if factors[2]:
            _fine_line(luma, factors[0], factors[1], lines, upper & 1, lower & 1, weight, out)
        else:
            _colour_line(luma, factors[0], factors[1], lines, upper & 1, lower & 1, weight, out)


_C = np.float32(1.0 / 255.0)


_PIXELS = types.Array(types.uint8, 3, "C", readonly=True)


@njit(types.void(_PIXELS, types.float32, types.float32, types.boolean, types.float32[:, ::1], types.float32[:, :, ::1]), nogil=True, cache=True)
def read_bgr(pixels, factor, mean, fine, luma, chroma):
    """Luma as the network takes it and chroma in 0..1 of a BGR picture."""
    for i in range(pixels.shape[0]):
        line, y_line, cr_line, cb_line = pixels[i].reshape(-1), luma[i], chroma[0, i], chroma[1, i]
        for x in range(y_line.size):
            b, g, r = np.int32(line[3 * x]), np.int32(line[3 * x + 1]), np.int32(line[3 * x + 2])
            y = np.int32(np.int32(4899 * r + 9617 * g + 1868 * b + 8192) >> 14)
            level = np.float32(y)
            if fine:
                level = _fma(np.float32(b), np.float32(0.114), _fma(np.float32(g), np.float32(0.587), np.float32(r) * np.float32(0.299)))
            y_line[x] = level * factor - mean
            cr_line[x] = np.float32(_saturate(np.int32((r - y) * 11682 + 2105344) >> 14)) * _C
            cb_line[x] = np.float32(_saturate(np.int32((b - y) * 9241 + 2105344) >> 14)) * _C


def read(picture: np.ndarray, feed: Feed, white: float) -> tuple[np.ndarray, image.Rest]:
    """`image.to_network` of a picture that is to become an 8-bit one, for a Y network."""
    if picture.ndim == 2 or picture.dtype != np.uint8 or feed.pre_scale != 1:
        return image.to_network(picture, feed, white=white, dtype=np.uint8)
    height, width = picture.shape[:2]
    luma, chroma = np.empty((1, 1, height, width), np.float32), np.empty((2, height, width), np.float32)
    mean = feed.mean[0] if feed.mean else 0.0
    read_bgr(np.ascontiguousarray(picture), np.float32(feed.range / 255.0), np.float32(mean), feed.fine, luma[0, 0], chroma)
    return luma, image.Rest(feed, np.dtype(np.uint8), False, height, width, *chroma)
