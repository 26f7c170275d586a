"""The .bin file of an ncnn model: the numbers of all layers one after another, in the order of the layers (ncnn's modelbin.cpp)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ..errors import ModelError
from .context import register
from .ncnn_param import Layer

HALF, BRAIN, BYTES, RAW = 0x01306B47, 0x01348B83, 0x000D4B38, 0x0002C056
"""Marks in front of 16-bit floats, bfloat16, signed bytes, 32-bit floats. 0: the same; any other: a table of 256 floats, and indices to it."""


class Weights:
    """Reads from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes that nothing has read yet."""
        return len(self.data) - self.at

    def floats(self, n: int, what: str) -> np.ndarray:
        """n 32-bit floats without a mark. Raises ModelError when so many are not left."""
        return np.frombuffer(self._take(4 * n, what), "<f4")

    def marked(self, n: int, what: str) -> np.ndarray:
        """n numbers as the mark in front of them says: float32, or int8 for signed bytes. Raises ModelError when so many are not left."""
        mark = int.from_bytes(self._take(4, what), "little")
        if mark == HALF:
            return np.frombuffer(self._take(2 * n, what, True), "<f2")[:n].astype(np.float32)
        if mark == BRAIN:
            return (np.frombuffer(self._take(2 * n, what, True), "<u2")[:n].astype(np.uint32) << 16).view(np.float32)
        if mark == BYTES:
            return np.frombuffer(self._take(n, what, True), np.int8)[:n]
        if mark in (0, RAW):
            return self.floats(n, what)
        table = np.frombuffer(self._take(1024, what), "<f4")
        return table[np.frombuffer(self._take(n, what, True), np.uint8)[:n]]

    def _take(self, n: int, what: str, padded: bool = False) -> bytes:
        n = -(-n // 4) * 4 if padded else n
        if n < 0 or n > self.left:
            raise ModelError(f"its {what} take {n} bytes, but the .bin file has {self.left} left: it is cut short, or belongs to another .param file")
        self.at += n
        return self.data[self.at - n : self.at]


# ---- what each type of layer reads -------------------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[Layer, Weights], None]] = {}
op = partial(register, READERS)


def _scales(layer: Layer, weights: Weights, n: int, term: int) -> None:
    if not term:
        return
    layer.weights["scales"] = weights.floats(n, "scales of weights")
    layer.weights["input scale"] = weights.floats(1, "scale of its input")
    if term > 100:
        layer.weights["output scale"] = weights.floats(1, "scale of its output")


@op("Convolution", "ConvolutionDepthWise")
def convolution(layer: Layer, weights: Weights) -> None:
    """Filter, bias, and of quantised ones the scales."""
    if layer.integer(19, 0):
        raise ModelError("takes its weights from another layer (dynamic_weight): not supported")
    n, term = layer.integer(0, 0), layer.integer(8, 0)
    layer.weights["weight"] = weights.marked(layer.integer(6, 0), "weights")
    if layer.integer(5, 0):
        layer.weights["bias"] = weights.floats(n, "biases")
    if layer.op == "ConvolutionDepthWise":
        if term not in (0, 1, 2, 101, 102):
            raise ModelError(f"is quantised in a way that is not known (int8_scale_term {term})")
        n = layer.integer(7, 1) if term % 100 == 1 else 1
    _scales(layer, weights, n, term)


@op("Deconvolution", "DeconvolutionDepthWise")
def deconvolution(layer: Layer, weights: Weights) -> None:
    """Filter and bias."""
    if layer.integer(28, 0):
        raise ModelError("takes its weights from another layer (dynamic_weight): not supported")
    layer.weights["weight"] = weights.marked(layer.integer(6, 0), "weights")
    if layer.integer(5, 0):
        layer.weights["bias"] = weights.floats(layer.integer(0, 0), "biases")


@op("InnerProduct")
def inner_product(layer: Layer, weights: Weights) -> None:
    """Matrix, bias, and of quantised ones the scales."""
    n = layer.integer(0, 0)
    layer.weights["weight"] = weights.marked(layer.integer(2, 0), "weights")
    if layer.integer(1, 0):
        layer.weights["bias"] = weights.floats(n, "biases")
    _scales(layer, weights, n, layer.integer(8, 0))


@op("PReLU", "Bias")
def vector(layer: Layer, weights: Weights) -> None:
    """One number for each channel, or for all."""
    layer.weights["vector"] = weights.floats(layer.integer(0, 0), "numbers")


@op("BatchNorm")
def batch_norm(layer: Layer, weights: Weights) -> None:
    """Slope, mean, variance, bias."""
    for what in ("slope", "mean", "variance", "bias"):
        layer.weights[what] = weights.floats(layer.integer(0, 0), f"{what}s")


@op("Scale")
def scale(layer: Layer, weights: Weights) -> None:
    """Factor and bias; neither when the factor is another layer's result (size -233)."""
    n = layer.integer(0, 0)
    if n != -233:
        layer.weights["vector"] = weights.floats(n, "factors")
        if layer.integer(1, 0):
            layer.weights["bias"] = weights.floats(n, "biases")


@op("InstanceNorm")
def instance_norm(layer: Layer, weights: Weights) -> None:
    """Factor and bias, unless affine is 0."""
    if layer.integer(2, 1):
        for what in ("factor", "bias"):
            layer.weights[what] = weights.floats(layer.integer(0, 0), f"{what}s")


@op("MemoryData")
def memory_data(layer: Layer, weights: Weights) -> None:
    """An array of one to four axes, (c, d, h, w)."""
    w, h, d, c = (layer.integer(k, 0) for k in (0, 1, 11, 2))
    shape = (c, d, h, w) if d else (c, h, w) if c else (h, w) if h else (w,)
    kind = layer.integer(21, 1)
    if min(shape) < 1 or kind not in (0, 1):
        raise ModelError(f"is an array of shape {list(shape)}, stored in the way {kind}: damaged file, or not supported")
    n = math.prod(shape)
    data = weights.floats(n, "numbers") if kind else weights.marked(n, "numbers")
    layer.weights["array"] = data.reshape(shape).astype(np.float32)


@op("Padding")
def padding(layer: Layer, weights: Weights) -> None:
    """One number for each channel, where it is padded with such."""
    if layer.integer(6, 0):
        layer.weights["vector"] = weights.floats(layer.integer(6, 0), "numbers")
