"""Pictures and what networks are fed: colour, depth, chroma and rounding as pure functions in NumPy. No cv2.

Where it sits: `model.py` and `dnn_superres.py` call `to_network` and `from_network` around a backend's `run`. The C++ core does the same inside its
rows (csrc/engine/picture.h) with the same bits, for which this module is the definition.

Arithmetic. All floats are float32; "fma" is a multiplication and an addition with one rounding; constants are rounded to float32 from double.

- uint8 to Y, Cr, Cb: fixed point with 14 bits, the coefficients of OpenCV's 8-bit BGR2YCrCb (modules/imgproc/src/color_yuv.simd.hpp).
- Other types: pixels to 0..1 by one multiplication, then OpenCV's float BGR2YCrCb in its vector units' order of operations.
- Chroma is enlarged bilinearly with pixel centres at half coordinates and edges repeated, along x first: fma(b - a, f, a). These are the bits of
  `cv2.resize(INTER_LINEAR)` on float32 in the x86 wheels (Intel IPP). A picture one pixel high or wide takes OpenCV's plain code instead:
  a * (1 - f) + b * f.
- uint8 from Y, Cr, Cb: each times 255, rounded half to even, saturated; then OpenCV's fixed-point YCrCb2BGR. With these, a uint8 picture differs
  from cv2.dnn_superres only where the network's own output does.
- `Feed.fine`: Y of uint8 pictures is OpenCV's float formula of the bytes, and uint8 comes from an unrounded Y, clipped to 0..255: Y plus a half, less
  what makes chroma's middle nought, then plus chroma times its coefficients by fma, cut off to whole numbers.
- uint16 and float32 results are made from float Y, Cr, Cb; uint16 is rounded half to even and saturated, float32 is not clipped. In integers NaN
  becomes 0.
- `Feed.pre_scale`: the fed planes are enlarged with the cubic convolution filter of Keys 1981, a = -0.5, without antialiasing, edges repeated, the
  filter of MATLAB's imresize when enlarging, with which SRCNN and VDSR were trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import PictureError
from .graph import Feed

DTYPES = (np.uint8, np.uint16, np.float32)
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}

TO_HOST = "copy it to the host first, by x.get() of CuPy, x.cpu().numpy() of PyTorch or x.download() of OpenCV"
"""What to do with a picture that lies on a GPU."""

_f32 = np.float32
_KEYS_A = -0.5


@dataclass(frozen=True)
class Rest:
    """What `from_network` needs to know besides the network's output.

    dtype: type of the result. grey: the picture had one channel. cr, cb: float32 (H, W) chroma planes in 0..1 of the picture, None unless a colour
    picture went to a Y network.
    """

    feed: Feed
    dtype: np.dtype[Any]
    grey: bool
    height: int
    width: int
    cr: np.ndarray | None = None
    cb: np.ndarray | None = None


# ---- pictures ----------------------------------------------------------------------------------------------------------------------------------


def lies_on_gpu(picture: Any) -> bool:
    """Whether this is an array in the memory of an NVIDIA GPU: one of PyTorch, CuPy, JAX or numba, or a cv2.cuda.GpuMat."""
    if isinstance(picture, np.ndarray):
        return False
    try:
        if hasattr(picture, "__dlpack_device__"):
            return picture.__dlpack_device__()[0] in (2, 13)  # kDLCUDA, kDLCUDAManaged
        return hasattr(picture, "__cuda_array_interface__") or hasattr(picture, "cudaPtr")
    except Exception:  # an array that lies nowhere
        return False


def check_picture(picture: Any) -> np.ndarray:
    """The picture as an array: uint8, uint16 or float32; (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Raises PictureError saying what is wrong."""
    if picture is None:
        raise PictureError("the picture is None: cv2.imread returns None when it cannot read a file, check the path")
    if lies_on_gpu(picture):
        raise PictureError(f"the picture lies on a GPU: {TO_HOST}")
    if not isinstance(picture, np.ndarray):
        raise PictureError(f"a picture is a NumPy array, got {type(picture).__name__}")
    if picture.dtype not in DTYPES:
        hint = "use float32 in 0..1" if picture.dtype.kind == "f" else "use uint8, uint16 or float32 in 0..1"
        raise PictureError(f"pictures of type {picture.dtype} are not supported: {hint}")
    if picture.ndim not in (2, 3):
        raise PictureError(f"a picture has shape (H, W) or (H, W, channels), got {picture.shape}")
    if picture.ndim == 3 and picture.shape[2] not in (1, 3, 4):
        raise PictureError(f"a picture has 1 (grey), 3 (BGR) or 4 (BGRA) channels, got {picture.shape[2]} in shape {picture.shape}")
    if 0 in picture.shape:
        raise PictureError(f"the picture is empty: shape {picture.shape}")
    return picture


def split_alpha(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A checked picture as (colour, alpha), both views: colour (H, W) or (H, W, 3); alpha (H, W), or None when there is none."""
    if picture.ndim == 2:
        return picture, None
    if picture.shape[2] == 1:
        return picture[:, :, 0], None
    if picture.shape[2] == 4:
        return picture[:, :, :3], picture[:, :, 3]
    return picture, None


def merge_alpha(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) colour and (H, W) alpha of the same type and size as one (H, W, 4) array."""
    return np.concatenate([colour, alpha[:, :, None]], axis=2)


def like(result: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A grey (H, W) result gets the last axis back that `split_alpha` took from an (H, W, 1) picture; others pass through."""
    return result[:, :, None] if result.ndim == 2 and picture.ndim == 3 else result


# ---- to the network and back -------------------------------------------------------------------------------------------------------------------


def to_network(picture: np.ndarray, feed: Feed, *, white: float | None = None, dtype: Any = None) -> tuple[np.ndarray, Rest]:
    """What the network reads, and what `from_network` will need.

    picture: uint8, uint16 or float32; (H, W) grey or (H, W, 3) BGR, any strides. A grey picture is repeated in the channels of a BGR or RGB network.
    white: the value of white in a float32 picture, 1 by default; cv2.dnn_superres takes 255. dtype: type of the result, by default the picture's
    (uint8 is the only other choice, and only for float32 pictures).
    Returns a C-contiguous float32 array (1, C, H * pre_scale, W * pre_scale) and the rest. Raises PictureError for a "raw" feed.
    """
    if feed.colour not in ("y", "bgr", "rgb"):
        raise PictureError(f"a network with feed '{feed.colour}' takes arrays, not pictures: use Model.run")
    if white is None or picture.dtype != np.float32:
        white = WHITE[picture.dtype.name]
    out_dtype = picture.dtype if dtype is None else np.dtype(dtype)
    if out_dtype != picture.dtype and (picture.dtype, out_dtype) != (np.float32, np.uint8):
        raise PictureError(f"a {picture.dtype} picture cannot give a {out_dtype} result")
    height, width = picture.shape[:2]
    grey = picture.ndim == 2
    mean = _per_channel(feed.mean, 1 if feed.colour == "y" else 3)
    cr = cb = None
    if feed.colour == "y" and not grey:
        y, cr, cb, y_white = _to_ycrcb(picture, white, feed.fine)
        planes = _scale(y, feed.range / y_white)[None]
    elif feed.colour == "y" or grey:
        planes = _scale(picture, feed.range / white)[None]
        if feed.colour != "y":
            planes = np.repeat(planes, 3, axis=0)
    else:
        order = picture if feed.colour == "bgr" else picture[:, :, ::-1]
        planes = _scale(order.transpose(2, 0, 1), feed.range / white)
    planes = planes - mean
    if feed.pre_scale != 1:
        planes = np.stack([_enlarge_cubic(p, feed.pre_scale) for p in planes])
    return np.ascontiguousarray(planes[None]), Rest(feed, out_dtype, grey, height, width, cr, cb)


def from_network(y: np.ndarray, rest: Rest) -> np.ndarray:
    """The picture, (H', W') or (H', W', 3) of type `rest.dtype`, that the network's output (1, C, H', W') stands for.

    Raises PictureError when the channels do not fit the feed (1 for "y", 3 otherwise).
    """
    feed = rest.feed
    channels = 1 if feed.colour == "y" else 3
    if y.ndim != 4 or y.shape[:2] != (1, channels):
        raise PictureError(f"a network with feed '{feed.colour}' makes (1, {channels}, H, W), this one made {y.shape}: its output is not a picture")
    planes = np.asarray(y[0], np.float32) + _per_channel(feed.out_mean, channels)
    if feed.colour == "rgb":
        planes = planes[::-1]
    if rest.dtype == np.uint8:
        k = 255.0 / feed.out_range
        if rest.cr is not None and rest.cb is not None:
            size = y.shape[2:]
            chroma = [_round(enlarge_linear(c, *size), 255.0, 255, np.uint8) for c in (rest.cr, rest.cb)]
            return _fine_bgr_u8(_clipped(planes[0], k, 255), *chroma) if feed.fine else _bgr_u8(_round(planes[0], k, 255, np.uint8), *chroma)
        bytes_ = [_round(p, k, 255, np.uint8) for p in planes]
        if feed.colour == "y":
            return bytes_[0]
        return grey_u8(*bytes_) if rest.grey else np.stack(bytes_, axis=-1)
    white = 65535.0 if rest.dtype == np.uint16 else 1.0
    if rest.cr is not None and rest.cb is not None:
        size = y.shape[2:]
        values = _bgr_f32(_scale(planes[0], 1.0 / feed.out_range), enlarge_linear(rest.cr, *size), enlarge_linear(rest.cb, *size))
        k = white
    elif feed.colour != "y" and rest.grey:
        b, g, r = (_scale(p, 1.0 / feed.out_range) for p in planes)
        values, k = [_luma_f32(b, g, r)], white
    else:
        values, k = list(planes), white / feed.out_range
    done = [_round(p, k, 65535, np.uint16) if rest.dtype == np.uint16 else _scale(p, k) for p in values]
    return done[0] if rest.grey else np.stack(done, axis=-1)


# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------


def _per_channel(mean: tuple[float, ...], channels: int) -> np.ndarray:
    values = mean or (0.0,) * channels
    if len(values) != channels:
        raise PictureError(f"the model's feed has {len(values)} means for {channels} channels: the model file is damaged")
    return np.array(values, np.float32).reshape(channels, 1, 1)


def _scale(x: np.ndarray, k: float) -> np.ndarray:
    return x.astype(np.float32) * _f32(k)


def _clipped(x: np.ndarray, k: float, top: int) -> np.ndarray:
    """x * k in 0..top, 0 for NaN."""
    with np.errstate(invalid="ignore"):
        v = x * _f32(k)
        return np.where(v > 0, np.minimum(v, _f32(top)), _f32(0))


def _round(x: np.ndarray, k: float, top: int, dtype: Any) -> np.ndarray:
    return np.rint(_clipped(x, k, top)).astype(dtype)


def _fma(a: Any, b: Any, c: Any) -> np.ndarray:
    """a * b + c of float32 with one rounding."""
    views = np.broadcast_arrays(a, b, c)
    out = np.empty(views[0].shape, np.float32)
    if out.ndim < 2:
        out[...] = _fma_part(*views)
        return out
    rows = max(1, 16384 // max(1, out[0].size))
    for i in range(0, len(out), rows):
        out[i : i + rows] = _fma_part(*(v[i : i + rows] for v in views))
    return out


def _fma_part(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    product = np.atleast_1d(np.multiply(a, b, dtype=np.float64))
    total = product + c
    halfway = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    if halfway.any():
        # The sum in double may have been rounded onto a tie of float32: step back towards what was lost (rounding to odd).
        t, p, c64 = total[halfway], product[halfway], np.broadcast_to(c, total.shape)[halfway].astype(np.float64)
        c_part = t - p
        lost = (p - (t - c_part)) + (c64 - c_part)
        total[halfway] = np.where(lost == 0, t, np.nextafter(t, np.where(lost > 0, np.inf, -np.inf)))
    return total.reshape(np.shape(a))


def _to_ycrcb(picture: np.ndarray, white: float, fine: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Y with its value of white, and Cr, Cb as float32 in 0..1."""
    if picture.dtype == np.uint8:
        b, g, r = (picture[:, :, i].astype(np.int32) for i in range(3))
        y = _luma_u8(b, g, r)
        cr = ((r - y) * 11682 + ((128 << 14) + 8192)) >> 14
        cb = ((b - y) * 9241 + ((128 << 14) + 8192)) >> 14
        if fine:
            y = fine_grey(*(picture[:, :, i] for i in range(3)))
        return y, _scale(np.clip(cr, 0, 255), 1.0 / 255.0), _scale(np.clip(cb, 0, 255), 1.0 / 255.0), 255.0
    b, g, r = (_scale(picture[:, :, i], 1.0 / white) for i in range(3))
    y = _luma_f32(b, g, r)
    return y, _fma(r - y, _f32(0.713), _f32(0.5)), _fma(b - y, _f32(0.564), _f32(0.5)), 1.0


def _luma_u8(b: np.ndarray, g: np.ndarray, r: np.ndarray) -> np.ndarray:
    return (4899 * r + 9617 * g + 1868 * b + 8192) >> 14


def grey_u8(b: np.ndarray, g: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Y of planes of uint8, as OpenCV's 8-bit BGR2YCrCb makes it; uint8."""
    return _luma_u8(b.astype(np.int32), g.astype(np.int32), r.astype(np.int32)).astype(np.uint8)


def fine_grey(b: np.ndarray, g: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Y of planes of uint8 without rounding, as `Feed.fine` has it; float32 in 0..255."""
    return _luma_f32(*(c.astype(np.float32) for c in (b, g, r)))


def _luma_f32(b: np.ndarray, g: np.ndarray, r: np.ndarray) -> np.ndarray:
    return _fma(b, _f32(0.114), _fma(g, _f32(0.587), r * _f32(0.299)))


def _bgr_u8(y: np.ndarray, cr: np.ndarray, cb: np.ndarray) -> np.ndarray:
    y32, cr32, cb32 = y.astype(np.int32), cr.astype(np.int32) - 128, cb.astype(np.int32) - 128
    out = np.empty((*y.shape, 3), np.uint8)
    for i, c in enumerate((29049 * cb32, -5636 * cb32 - 11698 * cr32, 22987 * cr32)):
        out[:, :, i] = np.clip(y32 + ((c + 8192) >> 14), 0, 255)
    return out


_UNIT = 1.0 / 16384
"""Of the fixed-point coefficients, which are exact in float32."""


def _fine_bgr_u8(y: np.ndarray, cr: np.ndarray, cb: np.ndarray) -> np.ndarray:
    red, blue = cr.astype(np.float32), cb.astype(np.float32)
    b = _fma(blue, _f32(29049 * _UNIT), y + _f32(0.5 - 128 * 29049 * _UNIT))
    g = _fma(blue, _f32(-5636 * _UNIT), _fma(red, _f32(-11698 * _UNIT), y + _f32(0.5 + 128 * (5636 + 11698) * _UNIT)))
    r = _fma(red, _f32(22987 * _UNIT), y + _f32(0.5 - 128 * 22987 * _UNIT))
    return np.clip(np.stack([b, g, r], axis=-1), 0, 255).astype(np.uint8)


def _bgr_f32(y: np.ndarray, cr: np.ndarray, cb: np.ndarray) -> list[np.ndarray]:
    cr, cb = cr - _f32(0.5), cb - _f32(0.5)
    return [_fma(cb, _f32(1.773), y), _fma(cr, _f32(-0.714), _fma(cb, _f32(-0.344), y)), _fma(cr, _f32(1.403), y)]


def linear_taps(n_out: int, n_in: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of n_out pixels: index of the left source pixel (-1 .. n_in - 1, not clamped) and float32 weight of its right neighbour."""
    position = (2 * np.arange(n_out, dtype=np.int64) + 1) * n_in - n_out  # times 2 n_out
    left, over = np.divmod(position, 2 * n_out)
    return left, (over / (2 * n_out)).astype(np.float32)


def enlarge_linear(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """A float32 (H, W) plane resized bilinearly to (height, width), as the module's text says."""
    plain = 1 in plane.shape
    for axis, n_out in ((1, width), (0, height)):
        n_in = plane.shape[axis]
        left, f = linear_taps(n_out, n_in)
        a, b = (np.take(plane, np.clip(i, 0, n_in - 1), axis) for i in (left, left + 1))
        if plain and axis == 1:
            f[(left < 0) | (left >= n_in - 1)] = 0
        if axis == 0:
            f = f[:, None]
        plane = a * (_f32(1) - f) + b * f if plain else _fma(b - a, f, a)
    return plane


def cubic_taps(scale: int) -> np.ndarray:
    """Keys' cubic filter for enlarging by a whole number: float32 (scale, 4) weights of the source pixels left - 1 .. left + 2 for each phase.

    `left` is the pixel at or before the position: cell - 1 for the first scale // 2 phases of a cell, the cell itself for the others.
    """
    phases = np.arange(scale)
    t = ((2 * phases + 1 - scale) % (2 * scale)) / (2 * scale)
    x = np.abs(np.stack([t + 1, t, 1 - t, 2 - t], axis=1))
    a = _KEYS_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, far).astype(np.float32)


def _enlarge_cubic(plane: np.ndarray, scale: int) -> np.ndarray:
    taps = cubic_taps(scale)
    for axis in (1, 0):
        n_in = plane.shape[axis]
        d = np.arange(n_in * scale)
        left = d // scale - (d % scale < scale // 2)
        total = None
        for k in range(4):
            w = taps[d % scale, k]
            term = np.take(plane, np.clip(left + k - 1, 0, n_in - 1), axis) * (w if axis == 1 else w[:, None])
            total = term if total is None else total + term
        assert total is not None
        plane = total
    return plane
