"""The table of small TensorFlow graphs: one operator or idiom each, with what it computes in plain NumPy (NHWC, TensorFlow's own definitions).

Convolutions and element-wise operators are here, the others in tensorflow_cases_pixels.py, which fills the same table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow_graphs import FLOAT, INT32, Frozen, Type

Expected = Callable[[np.ndarray], np.ndarray]
rng = np.random.default_rng(20)
PLAIN: dict[str, Any] = {"strides": [1, 1, 1, 1], "dilations": [1, 1, 1, 1], "padding": "SAME", "data_format": "NHWC"}


@dataclass(frozen=True)
class Case:
    """A graph with placeholder `x` and last node `y`, fed pictures of `size` and `channels`; `tolerance` relative to the largest value."""

    name: str
    build: Callable[[Frozen], Expected | None]
    size: tuple[int, int] = (7, 9)
    channels: int = 3
    tolerance: float = 1e-6
    nchw: bool = False
    tensorflow: bool = True


CASES: list[Case] = []


def case(name: str, **options: Any) -> Callable[[Callable[..., Expected | None]], Callable[..., Expected | None]]:
    """Register a function that builds a graph and returns what it computes."""

    def put(build: Callable[..., Expected | None]) -> Callable[..., Expected | None]:
        CASES.append(Case(name, build, **options))
        return build

    return put


def floats(*shape: int) -> np.ndarray:
    """Random numbers around 0."""
    return rng.standard_normal(shape).astype(np.float32)


# ---- what TensorFlow computes, in NumPy --------------------------------------------------------------------------------------------------------


def windows(n: int, k: int, s: int, d: int, padding: str) -> tuple[int, int]:
    """(output size, padding before) of one axis of a TensorFlow convolution."""
    reach = (k - 1) * d + 1
    if padding == "VALID":
        return (n - reach) // s + 1, 0
    out = math.ceil(n / s)
    return out, max((out - 1) * s + reach - n, 0) // 2


def conv2d(x: np.ndarray, w: np.ndarray, s: tuple[int, int] = (1, 1), d: tuple[int, int] = (1, 1), padding: str = "SAME") -> np.ndarray:
    """Convolution of an NHWC picture with an HWIO filter, pixel by pixel; groups by the filter's shape."""
    n, h, wd, c = x.shape
    kh, kw, cg, k = w.shape
    (oh, top), (ow, left) = windows(h, kh, s[0], d[0], padding), windows(wd, kw, s[1], d[1], padding)
    out = np.zeros((n, oh, ow, k))
    groups = c // cg
    for y in range(oh):
        for z in range(ow):
            for i in range(kh):
                for j in range(kw):
                    a, b = y * s[0] - top + i * d[0], z * s[1] - left + j * d[1]
                    if 0 <= a < h and 0 <= b < wd:
                        for g in range(groups):
                            ks = slice(g * k // groups, (g + 1) * k // groups)
                            out[:, y, z, ks] += x[:, a, b, g * cg : (g + 1) * cg].astype(np.float64) @ w[i, j, :, ks]
    return out


def conv2d_transpose(x: np.ndarray, w: np.ndarray, s: int, padding: str, size: tuple[int, int]) -> np.ndarray:
    """The gradient of conv2d with respect to its input: every output pixel of that convolution gives back to the pixels it read. w (kh, kw, K, C)."""
    n, h, wd, _ = x.shape
    kh, kw, k, _ = w.shape
    out = np.zeros((n, *size, k))
    top, left = windows(size[0], kh, s, 1, padding)[1], windows(size[1], kw, s, 1, padding)[1]
    for y in range(h):
        for z in range(wd):
            for i in range(kh):
                for j in range(kw):
                    a, b = y * s - top + i, z * s - left + j
                    if 0 <= a < size[0] and 0 <= b < size[1]:
                        out[:, a, b] += x[:, y, z].astype(np.float64) @ w[i, j].T
    return out


def depth_to_space(x: np.ndarray, b: int) -> np.ndarray:
    """TensorFlow's order: block row, block column, channel."""
    n, h, w, c = x.shape
    out = np.zeros((n, h * b, w * b, c // b**2), x.dtype)
    for i in range(b):
        for j in range(b):
            first = (i * b + j) * (c // b**2)
            out[:, i::b, j::b] = x[..., first : first + c // b**2]
    return out


def cubic(t: float, a: float) -> float:
    """Keys' cubic convolution kernel."""
    t = abs(t)
    return ((a + 2) * t - (a + 3)) * t * t + 1 if t <= 1 else ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0


def resize_axis(n: int, m: int, kind: str, align: bool, half: bool) -> np.ndarray:
    """The (m, n) matrix of TensorFlow's resize kernels on one axis."""
    scale = (n - 1) / (m - 1) if align and m > 1 else n / m
    out = np.zeros((m, n))
    for i in range(m):
        at = (i + 0.5) * scale - (0 if kind == "nearest" else 0.5) if half else i * scale
        if kind == "nearest":
            out[i, min(max(math.floor(at + 0.5) if align else math.floor(at), 0), n - 1)] = 1
        elif kind == "bilinear":
            low, f = math.floor(at), at - math.floor(at)
            out[i, min(max(low, 0), n - 1)] += 1 - f
            out[i, min(max(low + 1, 0), n - 1)] += f
        else:
            base = math.floor(at)
            taps = [(base + k, cubic(at - base - k, -0.5 if half else -0.75)) for k in range(-1, 3)]
            if half:
                taps = [(j, c) for j, c in taps if 0 <= j < n]
                total = sum(c for _, c in taps)
                taps = [(j, c / total) for j, c in taps]
            for j, c in taps:
                out[i, min(max(j, 0), n - 1)] += c
    return out


def resize(x: np.ndarray, factor: int, kind: str, align: bool = False, half: bool = False) -> np.ndarray:
    """An NHWC picture, enlarged."""
    rows, cols = (resize_axis(n, n * factor, kind, align, half) for n in x.shape[1:3])
    return np.einsum("yh,nhwc,xw->nyxc", rows, x.astype(np.float64), cols)


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------


def conv_case(kernel: tuple[int, int], padding: str, s: tuple[int, int] = (1, 1), d: tuple[int, int] = (1, 1), groups: int = 1) -> None:
    """Register a Conv2D case."""
    w = floats(*kernel, 4 // groups, 6)

    def build(g: Frozen) -> Expected:
        g.conv(g.placeholder([1, -1, -1, 4] if groups > 1 else None), w, "y", padding, strides=[1, *s, 1], dilations=[1, *d, 1])
        return lambda x: conv2d(x, w, s, d, padding)

    # TensorFlow's CPU kernels have no dilation together with stride
    name = f"conv_{kernel[0]}x{kernel[1]}_{padding}_s{s[0]}{s[1]}_d{d[0]}{d[1]}_g{groups}"
    CASES.append(Case(name, build, (11, 10), 4, tensorflow=s == (1, 1) or d == (1, 1)))


for _kernel in ((1, 1), (3, 3), (4, 4), (5, 3), (2, 2), (9, 9)):
    for _padding in ("SAME", "VALID"):
        conv_case(_kernel, _padding)
        conv_case(_kernel, _padding, s=(2, 2))
conv_case((3, 3), "SAME", s=(3, 1))
conv_case((3, 3), "SAME", d=(2, 2))
conv_case((3, 3), "VALID", d=(3, 1))
conv_case((4, 4), "SAME", d=(2, 2))
conv_case((3, 3), "SAME", s=(2, 2), d=(2, 2))
conv_case((3, 3), "SAME", groups=2)
conv_case((1, 1), "SAME", groups=2)


@case("conv_explicit")
def _(g: Frozen) -> Expected:
    w = floats(3, 3, 3, 2)
    g.conv(g.placeholder(), w, "y", "EXPLICIT", strides=[1, 2, 1, 1], explicit_paddings=[0, 0, 1, 2, 0, 3, 0, 0])
    return lambda x: conv2d(np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0))), w, (2, 1), padding="VALID")


@case("conv_nchw", nchw=True, tensorflow=False)
def _(g: Frozen) -> Expected:
    w, b = floats(3, 5, 3, 4), floats(4)
    y = g.conv(g.placeholder(), w, data_format="NCHW", strides=[1, 1, 2, 1])
    g.node("BiasAdd", y, g.const(b), name="y", data_format="NCHW")
    return lambda x: conv2d(x, w, (2, 1)) + b


@case("conv_between_transposes", nchw=True)
def _(g: Frozen) -> Expected:
    w, b = floats(3, 3, 3, 4), floats(4, 1, 1)
    y = g.conv(g.node("Transpose", g.placeholder([1, 3, -1, -1]), g.ints(0, 2, 3, 1), Tperm=Type(INT32)), w)
    g.node("Add", g.node("Transpose", y, g.ints(0, 3, 1, 2), Tperm=Type(INT32)), g.const(b), name="y")
    return lambda x: conv2d(x, w) + b[:, 0, 0]


@case("depthwise")
def _(g: Frozen) -> Expected:
    w = floats(3, 3, 3, 2)
    g.node("DepthwiseConv2dNative", g.placeholder(), g.const(w), name="y", **PLAIN)
    return lambda x: np.concatenate([conv2d(x[..., c : c + 1], w[:, :, c : c + 1]) for c in range(3)], axis=3)


@case("depthwise_stride", size=(8, 7))
def _(g: Frozen) -> Expected:
    w = floats(4, 4, 3, 1)
    g.node("DepthwiseConv2dNative", g.placeholder(), g.const(w), name="y", **{**PLAIN, "strides": [1, 2, 2, 1], "padding": "VALID"})
    return lambda x: np.concatenate([conv2d(x[..., c : c + 1], w[:, :, c : c + 1], (2, 2), padding="VALID") for c in range(3)], axis=3)


def transposed_case(kernel: int, s: int, padding: str, code: str) -> None:
    """Register a Conv2DBackpropInput case; `code`: how its output_shape comes about."""
    w = floats(kernel, kernel, 2, 3)

    def full(n: int) -> int:
        return n * s if padding == "SAME" else (n - 1) * s + kernel

    def build(g: Frozen) -> Expected:
        x = g.placeholder([1, 6, 5, 3] if code == "fixed" else [-1, -1, -1, 3])
        if code == "pack":
            sizes = [g.scalar_of(x, k) for k in (1, 2)]
            if padding == "VALID":
                sizes = [g.node("Sub", n, g.const(np.int32(1)), T=Type(INT32)) for n in sizes]
            sizes = [g.node("Mul", n, g.const(np.int32(s)), T=Type(INT32)) for n in sizes]
            if padding == "VALID":
                sizes = [g.node("Add", n, g.const(np.int32(kernel)), T=Type(INT32)) for n in sizes]
            shape = g.node("Pack", g.scalar_of(x, 0), *sizes, g.const(np.int32(2)), N=4, axis=0)
        else:
            shape = g.ints(1, full(6), full(5), 2)
        g.node("Conv2DBackpropInput", shape, g.const(w), x, name="y", **{**PLAIN, "strides": [1, s, s, 1], "padding": padding})
        return lambda x: conv2d_transpose(x, w, s, padding, (full(6), full(5)))

    CASES.append(Case(f"conv_transpose_{kernel}_s{s}_{padding}_{code}", build, (6, 5)))


for _kernel_size, _stride in ((9, 2), (4, 2), (3, 2), (5, 3), (2, 2), (2, 3), (3, 1)):
    transposed_case(_kernel_size, _stride, "SAME", "pack")
for _code in ("pack", "fixed", "constant"):
    transposed_case(4, 2, "SAME", _code)
    transposed_case(3, 2, "VALID", _code)


# ---- element by element ------------------------------------------------------------------------------------------------------------------------

UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Relu": lambda x: np.where(x > 0, x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x.astype(np.float64))),
    "Abs": np.abs,
    "Neg": lambda x: -x,
    "Square": lambda x: x * x,
    "Identity": lambda x: x,
    "StopGradient": lambda x: x,
    "LeakyRelu": lambda x: np.where(x > 0, x, np.float32(0.2) * x),
}
for _op in UNARY:

    @case(_op)
    def _(g: Frozen, op: str = _op) -> Expected:
        g.node(op, g.node("Mul", g.placeholder([-1, -1, -1, 3]), g.const(np.float32(4))), name="y")
        return lambda x: UNARY[op](x * np.float32(4))


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.divide, "Div": np.divide, "Maximum": np.maximum,
    "Minimum": np.minimum,
}  # fmt: skip
SCALARS = {
    "scalar": np.float32(-1.5),
    "one": np.array([0.7], np.float32),
    "channels": np.array([0.5, -2, 3], np.float32),
    "four": np.full((1, 1, 1, 3), 2.5, np.float32),
}
for _op in BINARY:

    @case(f"{_op}_constants")
    def _(g: Frozen, op: str = _op) -> Expected:
        y = g.placeholder([-1, -1, -1, 3])
        for k, (label, value) in enumerate(SCALARS.items()):
            pair = (y, g.const(value)) if k % 2 else (g.const(value), y)
            y = g.node(op, *pair, name="y" if label == "four" else "")

        def expected(x: np.ndarray) -> np.ndarray:
            y = x.astype(np.float64)
            for k, value in enumerate(SCALARS.values()):
                y = BINARY[op](y, value) if k % 2 else BINARY[op](value, y)
            return y

        return expected

    @case(f"{_op}_pictures")
    def _(g: Frozen, op: str = _op) -> Expected:
        x = g.placeholder([-1, -1, -1, 3])
        g.node(op, g.node("Tanh", x), g.node("Add", x, g.const(np.float32(2.5))), name="y")
        return lambda x: BINARY[op](np.tanh(x.astype(np.float64)), x + np.float64(2.5))


@case("leaky_relu_alpha")
def _(g: Frozen) -> Expected:
    g.node("LeakyRelu", g.placeholder([-1, -1, -1, 3]), name="y", alpha=0.05)
    return lambda x: np.where(x > 0, x, 0.05 * x)


@case("elu")
def _(g: Frozen) -> Expected:
    g.node("Selu", g.node("Elu", g.node("Softsign", g.placeholder([-1, -1, -1, 3]))), name="y")

    def expected(x: Any) -> Any:
        x = x / (1 + np.abs(x))
        x = np.where(x > 0, x, np.expm1(x))
        return 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(x))

    return expected


@case("add_n")
def _(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    g.node("AddN", x, g.node("Abs", x), g.node("Relu", x), name="y", N=3)
    return lambda x: x + np.abs(x) + np.maximum(x, 0)


@case("one_channel_meets_vector", channels=1)
def _(g: Frozen) -> Expected:
    b = floats(4)
    g.node("Add", g.placeholder([-1, -1, -1, 1]), g.const(b), name="y")
    return lambda x: x + b


@case("gate")
def _(g: Frozen) -> Expected:
    w = floats(1, 1, 3, 1)
    x = g.placeholder()
    g.node("Mul", x, g.node("Sigmoid", g.conv(x, w)), name="y")
    return lambda x: x / (1 + np.exp(-conv2d(x, w)))


@case("prelu_spelled_out")
def _(g: Frozen) -> Expected:
    alpha, b = floats(3), floats(3)
    x = g.node("BiasAdd", g.placeholder(), g.const(b), data_format="NHWC")
    low = g.node("Mul", g.node("Mul", g.const(alpha), g.node("Sub", x, g.node("Abs", x))), g.const(np.float32(0.5)))
    g.node("Add", g.node("Relu", x), low, name="y")
    return lambda x: np.where(x + b > 0, x + b, alpha * (x + b))


for _version in ("", "V2", "V3"):

    @case(f"batch_norm{_version}")
    def _(g: Frozen, version: str = _version) -> Expected:
        scale, offset, mean, var = floats(3), floats(3), floats(3), np.abs(floats(3)) + np.float32(0.1)
        types = {"U": Type(FLOAT)} if version else {}
        g.node(f"FusedBatchNorm{version}", g.placeholder(), *map(g.const, (scale, offset, mean, var)), name="y", epsilon=0.01, is_training=False,
               data_format="NHWC", **types)  # fmt: skip
        return lambda x: (x - mean) / np.sqrt(var.astype(np.float64) + 0.01) * scale + offset


@case("batch_norm_spelled_out")
def _(g: Frozen) -> Expected:
    gamma, beta, mean, var = floats(3), floats(3), floats(3), np.abs(floats(3)) + np.float32(0.1)
    scale = g.node("Mul", g.node("Rsqrt", g.node("AddV2", g.const(var), g.const(np.float32(0.001)))), g.const(gamma))
    shift = g.node("Sub", g.const(beta), g.node("Mul", g.const(mean), scale))
    g.node("AddV2", g.node("Mul", g.placeholder([-1, -1, -1, 3]), scale), shift, name="y")
    return lambda x: (x - mean) / np.sqrt(var.astype(np.float64) + 0.001) * gamma + beta


@case("clip_by_filled_arrays")
def _(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    low = g.node("Maximum", x, g.node("Fill", g.node("Shape", x), g.const(np.float32(-0.5)), index_type=Type(INT32)))
    ones = g.node("Fill", g.node("Shape", low), g.const(np.float32(1)), index_type=Type(INT32))
    g.node("Minimum", low, g.node("Mul", ones, g.const(np.float32(0.75))), name="y")
    return lambda x: np.clip(x, -0.5, 0.75)


@case("zeros_like")
def _(g: Frozen) -> Expected:
    x = g.placeholder([-1, -1, -1, 3])
    g.node("Maximum", g.node("ZerosLike", x), x, name="y")
    return lambda x: np.maximum(x, 0)
