"""The meaning of operators that look at windows or at the whole picture, in naive NumPy, as in `fastsr.ops`; and how windows are padded."""

from __future__ import annotations

import math

import numpy as np

from .errors import PictureError
from .graph import Node

Array = np.ndarray


def same_pads(n: int, kernel: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    """(before, after) padding of one axis for auto_pad SAME_UPPER or SAME_LOWER."""
    total = max((math.ceil(n / stride) - 1) * stride + (kernel - 1) * dilation + 1 - n, 0)
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def conv_pads(node: Node, size: tuple[int, int], kernel: tuple[int, int]) -> list[int]:
    """Top, left, bottom and right padding of a convolution or pool over a picture of that (H, W)."""
    strides, dilations = node.attrs.get("strides", [1, 1]), node.attrs.get("dilations", [1, 1])
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0, 0, 0, 0]
    if mode == "NOTSET":
        return list(node.attrs.get("pads", [0, 0, 0, 0]))
    (t, b), (left, r) = (same_pads(size[a], kernel[a], strides[a], dilations[a], mode == "SAME_UPPER") for a in (0, 1))
    return [t, left, b, r]


def GlobalAveragePool(node: Node, x: Array) -> Array:
    """The mean of each channel over the whole picture, (N, C, 1, 1)."""
    return x.mean(axis=(2, 3), keepdims=True, dtype=np.float64).astype(x.dtype)


def GlobalMaxPool(node: Node, x: Array) -> Array:
    """The largest of each channel over the whole picture, (N, C, 1, 1)."""
    return x.max(axis=(2, 3), keepdims=True)


def InstanceNormalization(node: Node, x: Array, scale: Array, b: Array) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + b, with the mean and variance of each channel over the whole picture; scale and b are (C)."""
    y = x.astype(np.float64)
    y = y - y.mean(axis=(2, 3), keepdims=True)
    y = y / np.sqrt((y * y).mean(axis=(2, 3), keepdims=True) + node.attrs.get("epsilon", 1e-5))
    return (y * scale.reshape(1, -1, 1, 1) + b.reshape(1, -1, 1, 1)).astype(x.dtype)


def GroupNormalization(node: Node, x: Array, scale: Array, b: Array) -> Array:
    """InstanceNormalization with mean and variance of groups of channels; attribute num_groups. scale and b are (C)."""
    n, c, h, w = x.shape
    y = x.astype(np.float64).reshape(n, node.attrs["num_groups"], -1)
    y = y - y.mean(axis=2, keepdims=True)
    y = (y / np.sqrt((y * y).mean(axis=2, keepdims=True) + node.attrs.get("epsilon", 1e-5))).reshape(n, c, h, w)
    return (y * scale.reshape(1, -1, 1, 1) + b.reshape(1, -1, 1, 1)).astype(x.dtype)


def _windows(node: Node, x: Array, fill: float) -> Array:
    """(N, C, H', W', kernel pixels): what the windows of a pool see, `fill` outside the picture."""
    (kh, kw), (sh, sw), (dh, dw) = node.attrs["kernel_shape"], node.attrs.get("strides", [1, 1]), node.attrs.get("dilations", [1, 1])
    t, left, bottom, r = conv_pads(node, x.shape[2:], (kh, kw))
    eh, ew = (sh - 1, sw - 1) if node.attrs.get("ceil_mode") else (0, 0)
    x = np.pad(x, ((0, 0), (0, 0), (t, bottom + eh), (left, r + ew)), constant_values=fill)
    oh, ow = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    if oh < 1 or ow < 1:
        raise PictureError(f"the picture is too small for node '{node.name}': it would have no output pixel")
    parts = [x[:, :, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw] for i in range(kh) for j in range(kw)]
    return np.stack(parts, -1)


def MaxPool(node: Node, x: Array) -> Array:
    """The largest of each window; windows may reach beyond the picture, also by rounding up (ceil_mode), but never lie outside."""
    return _windows(node, x, -np.inf).max(-1)


def AveragePool(node: Node, x: Array) -> Array:
    """The mean of each window: of its pixels inside the picture, or, count_include_pad, inside the picture with its pads."""
    inside = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if node.attrs.get("count_include_pad"):
        t, left, bottom, r = conv_pads(node, x.shape[2:], tuple(node.attrs["kernel_shape"]))
        inside = np.pad(inside, ((0, 0), (0, 0), (t, bottom), (left, r)), constant_values=1)
        counts = _windows(Node("", [], [], {**node.attrs, "pads": [0, 0, 0, 0], "auto_pad": "NOTSET"}), inside, 0)
    else:
        counts = _windows(node, inside, 0)
    return _windows(node, x, 0).sum(-1) / counts.sum(-1)


ALL = (GlobalAveragePool, GlobalMaxPool, InstanceNormalization, GroupNormalization, MaxPool, AveragePool)
