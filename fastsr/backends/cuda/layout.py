"""What kernels are given, as `kernels/base.cuh` declares it, and how values and weights lie in memory."""

from __future__ import annotations

import numpy as np

from ...tiles import Rect, Size

SLOTS = 12
"""Operations with numbers or operands that one launch can do behind a step."""

_VIEW = np.dtype(
    [("data", "u8"), ("stride", "i8"), *((n, "i4") for n in ("pitch", "channels", "height", "width", "y0", "x0", "y1", "x1"))], align=True
)
_SLOT = np.dtype([("value", _VIEW), ("tensor", "u8"), ("a", "f4"), ("b", "f4")], align=True)

ARGS = np.dtype(
    [
        ("in", _VIEW),
        ("out", _VIEW),
        *((n, "u8") for n in ("weight", "bias", "rows", "columns", "row_factors", "column_factors")),
        *((n, "i4") for n in ("y0", "x0", "y1", "x1", "cin", "cout", "kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl", "group", "first",
                              "count", "taps", "block", "tiles", "tiles_x", "chunks")),
        ("constant", "f4"),
        ("vectors", "i8"),
        ("slots", _SLOT, (SLOTS,)),
    ],
    align=True,
)  # fmt: skip
"""The structure Args."""

TYPES = {"f32": ("float", 4), "fast": ("half", 2)}
"""Precision -> the kernels' name for an element, its bytes."""


def pitch_of(channels: int) -> int:
    """Elements from pixel to pixel: vectors of eight where there are as many channels."""
    return channels if channels < 8 else -(-channels // 8) * 8


def area(rect: Rect) -> int:
    """Pixels of a rectangle."""
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def set_view(view: np.ndarray, address: int, channels: int, pitch: int, rect: Rect, size: Size, stride: int) -> None:
    """Describe a part of a value: `rect` of a picture of `size`, `stride` elements a picture of the batch."""
    view["data"], view["stride"], view["pitch"], view["channels"] = address, stride, pitch, channels
    view["height"], view["width"] = size
    view["y0"], view["x0"], view["y1"], view["x1"] = rect


def are_halfs(weight: np.ndarray) -> bool:
    """Whether none of the weights is beyond the largest half."""
    return bool(np.abs(weight).max() <= np.finfo(np.float16).max)


def direct_weights(weight: np.ndarray, group: int, outputs: int) -> np.ndarray:
    """Weights for conv_direct, float32 (group, kh, kw, cin, couts) of (cout, cin, kh, kw)."""
    cout, cin, kh, kw = weight.shape
    each = cout // group
    found = np.zeros((group, kh, kw, cin, -(-each // outputs) * outputs), np.float32)
    found[..., :each] = weight.reshape(group, each, cin, kh, kw).transpose(0, 3, 4, 2, 1)
    return found


def mma_weights(weight: np.ndarray, channels: int, outputs: int) -> np.ndarray:
    """Weights for conv_mma, float16 (output blocks, channel blocks, kh * kw, outputs, channels) of (cout, cin, kh, kw)."""
    cout, cin, kh, kw = weight.shape
    blocks, chunks = -(-cout // outputs), -(-cin // channels)
    found = np.zeros((blocks * outputs, chunks * channels, kh * kw), np.float16)
    found[:cout, :cin] = weight.reshape(cout, cin, kh * kw)
    return np.ascontiguousarray(found.reshape(blocks, outputs, chunks, channels, kh * kw).transpose(0, 2, 4, 1, 3))


def mma_bytes(kh: int, kw: int, channels: int, outputs: int, rows: int, resident: bool) -> int:
    """Shared memory of conv_mma: MmaLayout::BYTES."""
    step = channels + 8
    held = max((rows + kh - 1) * (16 + kw - 1) * step, rows * 16 * (outputs + 8))
    return 2 * (2 * held + (1 if resident else 2) * kh * kw * outputs * step)
