"""The bicubic filter with which the literature on super-resolution makes its small pictures: MATLAB's `imresize`, in NumPy.

Cubic convolution (Keys, IEEE Trans. ASSP 29(6), 1981) with a = -0.5. When a picture shrinks, the filter is widened by the factor, so that it
antialiases; the picture is continued beyond its edges by its mirror image, edge pixels included; pixel centres lie at half coordinates; the size
is ceil(n * scale). The weights of a pixel are scaled to the sum 1.

Each axis is a multiplication by a banded matrix, done densely in blocks of few rows by BLAS. 8-bit pictures are computed in float32 and rounded once
at the end, which is `imresize(im2double(x))` followed by `im2uint8`; for uint8 arrays MATLAB itself rounds after the first axis too, and so does
Pillow, which can differ by one level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .errors import PictureError

_BLOCK = 16
_TIE = 2.0**-10
"""Exact halves round up whatever the order of summation in BLAS made of them."""


def imresize(picture: np.ndarray, scale: float | None = None, *, size: tuple[int, int] | None = None, antialias: bool = True) -> np.ndarray:
    """The picture resized by MATLAB's bicubic filter.

    picture: uint8, uint16, float32 or float64; (H, W) or (H, W, channels), any strides. The result has the same type and channels; integers are
    rounded half up and saturated, floats are not clipped.
    scale: above 1 enlarges, below 1 shrinks: 1 / 3, Fraction(1, 3). size: (height, width) of the result instead; then each axis has its own scale.
    antialias: widen the filter when shrinking.
    Raises PictureError for other arrays and for scales and sizes that are not above 0, ValueError unless one of scale and size is given.
    """
    if not isinstance(picture, np.ndarray):
        raise PictureError(f"imresize takes a NumPy array, not {type(picture).__name__}")
    if picture.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise PictureError(f"imresize takes uint8, uint16, float32 or float64, not {picture.dtype}")
    if picture.ndim not in (2, 3) or 0 in picture.shape:
        raise PictureError(f"imresize takes a picture of shape (H, W) or (H, W, channels) with pixels in it, got {picture.shape}")
    if (scale is None) == (size is None):
        raise ValueError("imresize needs either a scale or a size")
    if scale is not None:
        factor = float(scale)
        if not (math.isfinite(factor) and factor > 0):
            raise PictureError(f"scale {scale}: a number above 0 is needed")
        scales = (factor, factor)
        size = (_ceil(picture.shape[0] * factor), _ceil(picture.shape[1] * factor))
    else:
        assert size is not None
        if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in size):
            raise PictureError(f"size {size!r}: two whole numbers are needed, height and width, each at least 1")
        scales = (size[0] / picture.shape[0], size[1] / picture.shape[1])
    precise = picture.dtype in (np.uint16, np.float64)
    planes = np.ascontiguousarray(picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1), np.float64 if precise else np.float32)
    for axis in sorted((0, 1), key=lambda a: scales[a]):
        bands = _bands(picture.shape[axis], size[axis], scales[axis], antialias)
        planes = _rows(planes, bands, size[0]) if axis == 0 else _columns(planes, bands, size[1])
    if picture.dtype.kind == "u":
        top = np.iinfo(picture.dtype).max
        np.add(planes, 0.5 + _TIE, out=planes)
        planes = np.clip(planes, 0, top, out=planes).astype(picture.dtype)
    return planes[0] if picture.ndim == 2 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _ceil(length: float) -> int:
    """Rounded up, but not because of the last bits of a scale such as 1 / 3."""
    return max(1, math.ceil(length - 1e-9 * length))


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=128)
def taps(n_in: int, n_out: int, scale: float, antialias: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the source pixels (0 .. n_in - 1, mirrored) and their weights, both (n_out, taps), of every pixel along one axis.

    The arrays are shared: do not write to them.
    """
    widen = min(scale, 1.0) if antialias else 1.0
    width = 4.0 / widen
    centre = (np.arange(n_out) + 0.5) / scale - 0.5
    left = np.floor(centre - width / 2).astype(np.int64)
    index = left[:, None] + np.arange(math.ceil(width) + 2)
    weight = _cubic(widen * (centre[:, None] - index))
    used = np.any(weight != 0, axis=0)
    index, weight = index[:, used] % (2 * n_in), weight[:, used]
    index = np.where(index < n_in, index, 2 * n_in - 1 - index)
    weight /= weight.sum(axis=1, keepdims=True)
    index.flags.writeable = weight.flags.writeable = False
    return index, weight


@lru_cache(maxsize=128)
def _bands(n_in: int, n_out: int, scale: float, antialias: bool) -> list[tuple[int, int, int, np.ndarray]]:
    """(first output, first input, behind the last input, weights float64 (outputs, inputs)) of each block of output pixels."""
    index, weight = taps(n_in, n_out, scale, antialias)
    blocks = []
    for start in range(0, n_out, _BLOCK):
        i, w = index[start : start + _BLOCK], weight[start : start + _BLOCK]
        first, last = int(i.min()), int(i.max()) + 1
        dense = np.zeros((len(i), last - first))
        np.add.at(dense, (np.arange(len(i))[:, None], i - first), w)
        blocks.append((start, first, last, dense))
    return blocks


def _rows(planes: np.ndarray, bands: list[tuple[int, int, int, np.ndarray]], height: int) -> np.ndarray:
    out = np.empty((len(planes), height, planes.shape[2]), planes.dtype)
    for start, first, last, dense in bands:
        weight = dense.astype(planes.dtype)
        for plane, result in zip(planes, out):
            np.matmul(weight, plane[first:last], out=result[start : start + len(weight)])
    return out


def _columns(planes: np.ndarray, bands: list[tuple[int, int, int, np.ndarray]], width: int) -> np.ndarray:
    flat = planes.reshape(-1, planes.shape[2])
    out = np.empty((len(flat), width), planes.dtype)
    for start, first, last, dense in bands:
        out[:, start : start + len(dense)] = flat[:, first:last] @ dense.T.astype(planes.dtype)
    return out.reshape(len(planes), planes.shape[1], width)
