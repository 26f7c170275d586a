"""What the operators of quantised networks mean: the part of `fastsr.ops` where values are integers with a scale and a zero point.

A quantised number q stands for scale * (q - zero point). Sums of a convolution are exact integers; they become float32 once, are multiplied by one
float32 factor for each output channel, rounded half to even, moved by the zero point and cut off to the type's range. That is ONNX Runtime's
arithmetic, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ModelError
from .graph import Node

Array = np.ndarray

TYPES = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16}
"""ONNX's number of a type -> the type: those that QuantizeLinear makes."""


def quantised_type(node: Node, zero: Array | None) -> np.dtype[Any]:
    """The type of a QuantizeLinear's result: that of its zero point, or what attribute `output_dtype` says, else uint8. Raises ModelError."""
    number = node.attrs.get("output_dtype") or 2
    dtype = np.dtype(TYPES.get(number, np.void) if zero is None else zero.dtype)
    if dtype not in TYPES.values():
        kind = number if zero is None else zero.dtype
        raise ModelError(f"node '{node.name}' ({node.op}) quantises to type {kind}: fastsr knows uint8, int8, uint16 and int16")
    return dtype


def check_scale(node: Node, scale: Array, zero: Array | None, divides: bool = False) -> None:
    """Raise ModelError for scales that are not positive, for blocks of scales, and for zero points that do not go with them.

    divides: numbers are divided by the scales, which then need a float32 reciprocal.
    """
    if node.attrs.get("block_size"):
        raise ModelError(f"node '{node.name}' ({node.op}) has scales for blocks: only one, or one per channel, is known")
    if scale.ndim > 1 or scale.dtype.kind != "f" or not np.all(np.isfinite(scale) & (scale > 0)):
        raise ModelError(f"node '{node.name}' ({node.op}) has scales that are not positive numbers, or of shape {list(scale.shape)}")
    if divides and scale.min() < np.finfo(np.float32).tiny:
        raise ModelError(f"node '{node.name}' ({node.op}) divides by the scale {scale.min():g}, which is too small: quantise the network again")
    if zero is not None and (zero.size != scale.size or zero.dtype.kind not in "iu"):
        raise ModelError(f"node '{node.name}' ({node.op}) has {zero.size} zero points of type {zero.dtype} for {scale.size} scales")


def along(node: Node, x: Array, parameter: Array) -> Array:
    """A scale or zero point, one or one for each index of attribute `axis`, shaped to go with x."""
    if parameter.size == 1:
        return parameter.reshape(())
    axis = int(node.attrs.get("axis", 1))
    if not -x.ndim <= axis < x.ndim or parameter.size != x.shape[axis]:
        raise ModelError(f"node '{node.name}' ({node.op}) has {parameter.size} scales along axis {axis} of {list(x.shape)}")
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def saturate(x: Array, zero: Array, dtype: np.dtype[Any]) -> Array:
    """Round half to even, add the zero point, cut off to the type's range; NaN becomes its smallest number."""
    info = np.iinfo(dtype)
    return np.fmin(np.fmax(np.rint(x).astype(np.float64) + zero, info.min), info.max).astype(dtype)


def quantize(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """saturate(round half to even(x / scale) + zero point); integers, of the zero point's type."""
    check_scale(node, scale, zero)
    dtype = quantised_type(node, zero)
    x = x if x.dtype.kind == "f" else x.astype(scale.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return saturate(x / along(node, x, scale), np.zeros(()) if zero is None else along(node, x, zero), dtype)


def dequantize(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """(x - zero point) * scale, in the scale's type; x of any integer type."""
    check_scale(node, scale, zero)
    centred = x.astype(np.int64) - (0 if zero is None else along(node, x, zero))
    return centred.astype(scale.dtype) * along(node, x, scale)


def centred(node: Node, x: Array, w: Array, x_zero: Array | None, w_zero: Array | None) -> tuple[Array, Array]:
    """x and w of a ConvInteger less their zero points, as whole numbers in float64, whose sums are exact below 2^53. Raises ModelError."""
    if x.dtype.kind not in "iu" or w.dtype.kind not in "iu":
        raise ModelError(f"node '{node.name}' ({node.op}) convolves {x.dtype} with {w.dtype}: it needs integers")
    for zero, n in ((x_zero, 1), (w_zero, w.shape[0])):
        if zero is not None and (zero.size not in (1, n) or zero.dtype.kind not in "iu"):
            raise ModelError(f"node '{node.name}' ({node.op}) has {zero.size} zero points of type {zero.dtype}")
    xs, ws = x.astype(np.float64), w.astype(np.float64)
    return xs if x_zero is None else xs - x_zero.reshape(()), ws if w_zero is None else ws - w_zero.reshape(-1, *[1] * (w.ndim - 1))


def check_linear_conv(node: Node, x_scale: Array, x_zero: Array, w: Array, w_scale: Array, y_scale: Array, y_zero: Array, b: Array | None) -> None:
    """Raise ModelError for parameters of a QLinearConv that do not go with each other."""
    check_scale(node, x_scale, x_zero)
    check_scale(node, w_scale, None)
    check_scale(node, y_scale, y_zero, divides=True)
    if x_scale.size != 1 or y_scale.size != 1 or w_scale.size not in (1, w.shape[0]):
        raise ModelError(f"node '{node.name}' ({node.op}) has {x_scale.size}, {w_scale.size} and {y_scale.size} scales")
    if b is not None and (b.dtype.kind not in "iu" or b.shape != (w.shape[0],)):
        raise ModelError(f"node '{node.name}' ({node.op}) has a bias of type {b.dtype} and shape {list(b.shape)}: one int32 a channel is needed")


def representable(scale: Array) -> Array:
    """Products and quotients of scales as float32, neither 0 nor infinite: what is made with them rounds to the same integers."""
    limits = np.finfo(np.float32)
    return np.clip(scale, limits.smallest_subnormal, limits.max).astype(np.float32)


def factors(x_scale: Array, w_scale: Array, y_scale: Array) -> Array:
    """What an integer sum is multiplied by for each output channel (or for all), rounded at each operation as ONNX Runtime does."""
    return (x_scale.reshape(()) * w_scale.reshape(-1)) / y_scale.reshape(())
