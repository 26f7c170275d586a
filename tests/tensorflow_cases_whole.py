"""Graphs with operations over the whole picture and pools, for the table of tensorflow_cases."""

from __future__ import annotations

import numpy as np
from tensorflow_cases import Expected, case, conv2d, floats, windows
from tensorflow_graphs import INT32, Frozen, Type


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mean(g: Frozen, x: str, keep: bool, op: str = "Mean") -> str:
    return g.node(op, x, g.ints(1, 2), keep_dims=keep, Tidx=Type(INT32))


@case("attention by matrices")
def by_matrices(g: Frozen) -> Expected:
    x, w1, w2, bias = g.placeholder(), floats(3, 2), floats(3, 2), floats(3)
    y = g.conv(x, f := floats(3, 3, 3, 3))
    hidden = g.node("Relu", g.node("MatMul", mean(g, y, False), g.const(w1), transpose_a=False, transpose_b=False))
    gate = g.node("Sigmoid", g.node("BiasAdd", g.node("MatMul", hidden, g.const(w2), transpose_a=False, transpose_b=True), g.const(bias)))
    shape = g.node("Pack", g.scalar_of(gate, 0), g.const(np.int32(1)), g.const(np.int32(1)), g.const(np.int32(3)), N=4, axis=0)
    g.node("Mul", y, g.node("Reshape", gate, shape), name="y")

    def expected(v: np.ndarray) -> np.ndarray:
        c = conv2d(v, f)
        return c * sigmoid(np.maximum(c.mean((1, 2)) @ w1, 0) @ w2.T + bias)[:, None, None, :]

    return expected


@case("attention by convolutions")
def by_convolutions(g: Frozen) -> Expected:
    x, w = g.placeholder([-1, -1, -1, 3]), floats(1, 1, 3, 3)
    g.node("Mul", g.node("Sigmoid", g.conv(mean(g, x, True), w)), x, name="y")
    return lambda v: v * sigmoid(v.mean((1, 2), keepdims=True) @ w[0, 0])


@case("largest of the picture, squeezed and expanded")
def largest(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    flat = g.node("Squeeze", mean(g, x, True, "Max"), squeeze_dims=[1, 2])
    g.node("Add", x, g.node("ExpandDims", g.node("ExpandDims", flat, g.const(np.int32(1))), g.const(np.int32(2))), name="y")
    return lambda v: v + v.max((1, 2), keepdims=True)


@case("statistics", tolerance=3e-6)
def statistics(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    m = mean(g, x, True)
    variance = mean(g, g.node("SquaredDifference", x, g.node("StopGradient", m)), True)
    factor = g.node("Rsqrt", g.node("AddV2", variance, g.const(np.float32(1e-3))))
    g.node("AddV2", g.node("Mul", x, factor), g.node("Sub", g.const(np.float32(0.5)), g.node("Mul", m, factor)), name="y")
    return lambda v: 0.5 + (v - v.mean((1, 2), keepdims=True)) / np.sqrt(v.var((1, 2), keepdims=True) + 1e-3)


@case("a mean repeated")
def repeated(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    wide = g.node("BroadcastTo", mean(g, x, True), g.node("Shape", x, out_type=Type(INT32)))
    g.node("ConcatV2", x, wide, g.const(np.int32(3)), name="y", N=2)
    return lambda v: np.concatenate([v, np.broadcast_to(v.mean((1, 2), keepdims=True), v.shape)], 3)


@case("resize to another picture's size", tolerance=3e-6)
def resized(g: Frozen) -> Expected:
    x, f = g.placeholder(), floats(3, 3, 3, 2)
    g.node("ResizeNearestNeighbor", g.conv(x, f, strides=[1, 2, 2, 1]), g.size_of(x), name="y", align_corners=False, half_pixel_centers=False)

    def expected(v: np.ndarray) -> np.ndarray:
        small = conv2d(v, f, (2, 2))
        rows, columns = (np.arange(n) * m // n for n, m in zip(v.shape[1:3], small.shape[1:3], strict=True))
        return small[:, rows][:, :, columns]

    return expected


POOLS = {"2": (2, 2, "SAME"), "3 stride 1": (3, 1, "SAME"), "3 valid": (3, 2, "VALID")}


def pooled(v: np.ndarray, k: int, s: int, padding: str, most: bool) -> np.ndarray:
    (oh, top), (ow, left) = (windows(n, k, s, 1, padding) for n in v.shape[1:3])
    out = np.zeros((1, oh, ow, v.shape[3]))
    for y in range(oh):
        for x in range(ow):
            a, b = y * s - top, x * s - left
            part = v[:, max(a, 0) : a + k, max(b, 0) : b + k].astype(np.float64)
            out[:, y, x] = part.max((1, 2)) if most else part.mean((1, 2))
    return out


for label, (k, s, padding) in POOLS.items():
    for op in ("MaxPool", "AvgPool"):

        @case(f"{op} {label}")
        def pool(g: Frozen, op: str = op, k: int = k, s: int = s, padding: str = padding) -> Expected:
            x = g.node("Sub", g.placeholder([-1, -1, -1, 3]), g.const(np.float32(5)))
            g.node(op, x, name="y", ksize=[1, k, k, 1], strides=[1, s, s, 1], padding=padding, data_format="NHWC")
            return lambda v: pooled(v - np.float32(5), k, s, padding, op == "MaxPool")


@case("AvgPool 3 stride 2")
def average(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    g.node("AvgPool", x, name="y", ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME", data_format="NHWC")
    return lambda v: pooled(v, 3, 2, "SAME", False)
