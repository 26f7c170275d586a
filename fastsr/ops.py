"""What every operator means, in naive NumPy: the oracle that passes, backends and importers are compared with.

Each function takes the node and its input arrays (None for an omitted optional input) and returns the output array; pictures are (N, C, H, W). The
meaning is that of the ONNX operator of the same name. Arithmetic is done in the dtype of the inputs: call with float64 for a sharper oracle.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import ops_pools, ops_quantised
from .errors import ModelError, PictureError
from .graph import Graph, Node, resized
from .ops_pools import conv_pads

Array = np.ndarray
OPS: dict[str, Callable[..., Any]] = {f.__name__: f for f in ops_pools.ALL}


def op(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function under its name without the trailing underscore."""
    OPS[function.__name__.rstrip("_")] = function
    return function


def run_node(node: Node, arrays: Sequence[Array | None]) -> list[Array]:
    """The outputs of one node. Raises ModelError for an operator that fastsr does not know."""
    if node.op not in OPS:
        raise ModelError(f"operator {node.op} (node '{node.name}') is not supported by fastsr yet")
    result = OPS[node.op](node, *arrays)
    return list(result) if isinstance(result, (list, tuple)) else [result]


def run_graph(graph: Graph, inputs: dict[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
    """Run the whole graph on the given (N, C, H, W) inputs; returns {output name: array} in the inputs' dtype."""
    dtype = np.result_type(*inputs.values())
    values: dict[str, Array] = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in graph.constants.items()}
    values.update(inputs)
    for node in graph.nodes:
        results = run_node(node, [values[i] if i else None for i in node.inputs])
        values.update(zip(node.outputs, results, strict=True))
    return {name: values[name] for name in (graph.outputs if outputs is None else outputs)}


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------


@op
def Conv(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
    """Cross-correlation. x (N, C, H, W), w (K, C / group, kh, kw), b (K)."""
    (sh, sw), (dh, dw), group = node.attrs.get("strides", [1, 1]), node.attrs.get("dilations", [1, 1]), node.attrs.get("group", 1)
    k, cg, kh, kw = w.shape
    t, left, bottom, r = conv_pads(node, x.shape[2:], (kh, kw))
    x = np.pad(x, ((0, 0), (0, 0), (t, bottom), (left, r)))
    oh, ow = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    if oh < 1 or ow < 1:
        raise PictureError(f"the picture is too small for node '{node.name}': its convolution would have no output pixel")
    out = np.zeros((x.shape[0], k, oh, ow), np.result_type(x, w))
    for g in range(group):
        xs, ks = x[:, g * cg : (g + 1) * cg], slice(g * k // group, (g + 1) * k // group)
        for i, j in itertools.product(range(kh), range(kw)):
            part = xs[:, :, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
            out[:, ks] += np.einsum("nchw,kc->nkhw", part, w[ks, :, i, j], optimize=True)
    return out if b is None else out + b.reshape(1, -1, 1, 1)


@op
def ConvTranspose(node: Node, x: Array, w: Array, b: Array | None = None) -> Array:
    """Transposed convolution. x (N, C, H, W), w (C, K / group, kh, kw), b (K)."""
    (sh, sw), (dh, dw), group = node.attrs.get("strides", [1, 1]), node.attrs.get("dilations", [1, 1]), node.attrs.get("group", 1)
    t, left, bottom, r = node.attrs.get("pads", [0, 0, 0, 0])
    eh, ew = node.attrs.get("output_padding", [0, 0])
    n, c, h, wd = x.shape
    _, kg, kh, kw = w.shape
    cg = c // group
    full = np.zeros((n, kg * group, (h - 1) * sh + dh * (kh - 1) + 1 + eh, (wd - 1) * sw + dw * (kw - 1) + 1 + ew), np.result_type(x, w))
    for g in range(group):
        cs = slice(g * cg, (g + 1) * cg)
        for i, j in itertools.product(range(kh), range(kw)):
            part = np.einsum("nchw,ck->nkhw", x[:, cs], w[cs, :, i, j], optimize=True)
            full[:, g * kg : (g + 1) * kg, i * dh : i * dh + (h - 1) * sh + 1 : sh, j * dw : j * dw + (wd - 1) * sw + 1 : sw] += part
    out = full[:, :, t : full.shape[2] - bottom, left : full.shape[3] - r]
    if 0 in out.shape:
        raise PictureError(f"the picture is too small for node '{node.name}': its transposed convolution would have no output pixel")
    return out if b is None else out + b.reshape(1, -1, 1, 1)


@op
def BatchNormalization(node: Node, x: Array, scale: Array, b: Array, mean: Array, var: Array) -> Array:
    """Inference form: (x - mean) / sqrt(var + epsilon) * scale + b, per channel."""
    s = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
    return (x * s.reshape(1, -1, 1, 1) + (b - mean * s).reshape(1, -1, 1, 1)).astype(x.dtype)


@op
def QuantizeLinear(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """saturate(round half to even(x / scale) + zero point); integers, of the zero point's type."""
    return ops_quantised.quantize(node, x, scale, zero)


@op
def DequantizeLinear(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """(x - zero point) * scale, in the scale's type; x of any integer type."""
    return ops_quantised.dequantize(node, x, scale, zero)


@op
def ConvInteger(node: Node, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None) -> Array:
    """The exact convolution of x - x_zero, padded with zeros, with w - w_zero; int32. w_zero: one number, or one for each output channel."""
    return Conv(node, *ops_quantised.centred(node, x, w, x_zero, w_zero)).astype(np.int64).astype(np.int32)


@op
def QLinearConv(node: Node, x: Array, x_scale: Array, x_zero: Array, w: Array, w_scale: Array, w_zero: Array, y_scale: Array, y_zero: Array,
                b: Array | None = None) -> Array:  # fmt: skip
    """saturate(round half to even((ConvInteger(x, w) + b) * (x_scale * w_scale / y_scale)) + y_zero), see `ops_quantised`.

    w_scale, w_zero: one number or one for each output channel; b: int32, one for each.
    """
    ops_quantised.check_linear_conv(node, x_scale, x_zero, w, w_scale, y_scale, y_zero, b)
    sums = ConvInteger(node, x, w, x_zero, w_zero)
    if b is not None:
        sums = sums + b.reshape(-1, 1, 1).astype(np.int32)
    factor = ops_quantised.factors(x_scale, w_scale, y_scale).reshape(-1, 1, 1)
    return ops_quantised.saturate(sums.astype(y_scale.dtype) * factor, y_zero.reshape(()), ops_quantised.quantised_type(node, y_zero))


# ---- element by element ------------------------------------------------------------------------------------------------------------------------


@op
def Add(node: Node, a: Array, b: Array) -> Array:
    """a + b."""
    return a + b


@op
def Sub(node: Node, a: Array, b: Array) -> Array:
    """a - b."""
    return a - b


@op
def Mul(node: Node, a: Array, b: Array) -> Array:
    """a * b."""
    return a * b


@op
def Div(node: Node, a: Array, b: Array) -> Array:
    """a / b."""
    return a / b if a.dtype.kind == "f" else (np.fix(a / b)).astype(a.dtype)


@op
def Max(node: Node, *xs: Array) -> Array:
    """Element-wise maximum of all inputs."""
    out = xs[0]
    for x in xs[1:]:
        out = np.maximum(out, x)
    return out


@op
def Min(node: Node, *xs: Array) -> Array:
    """Element-wise minimum of all inputs."""
    out = xs[0]
    for x in xs[1:]:
        out = np.minimum(out, x)
    return out


@op
def Sum(node: Node, *xs: Array) -> Array:
    """Element-wise sum of all inputs, from left to right."""
    out = xs[0]
    for x in xs[1:]:
        out = out + x
    return out


@op
def Abs(node: Node, x: Array) -> Array:
    """|x|."""
    return np.abs(x)


@op
def Neg(node: Node, x: Array) -> Array:
    """-x."""
    return -x


@op
def Sqrt(node: Node, x: Array) -> Array:
    """Square root."""
    return np.sqrt(x)


@op
def Reciprocal(node: Node, x: Array) -> Array:
    """1 / x."""
    return 1 / x


@op
def Exp(node: Node, x: Array) -> Array:
    """e to the x."""
    return np.exp(x)


@op
def Pow(node: Node, x: Array, y: Array) -> Array:
    """x to the y."""
    return np.power(x, y).astype(x.dtype)


@op
def Erf(node: Node, x: Array) -> Array:
    """The error function."""
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype) if x.size else x


@op
def Softplus(node: Node, x: Array) -> Array:
    """log(1 + exp(x)), computed without overflow."""
    return np.logaddexp(0, x).astype(x.dtype)


@op
def Relu(node: Node, x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


@op
def LeakyRelu(node: Node, x: Array) -> Array:
    """x for x >= 0, alpha x below."""
    return np.where(x >= 0, x, x.dtype.type(node.attrs.get("alpha", 0.01)) * x)


@op
def PRelu(node: Node, x: Array, slope: Array) -> Array:
    """x for x >= 0, slope x below; slope broadcasts from (C, 1, 1) or (1, C, 1, 1)."""
    return np.where(x >= 0, x, slope * x)


@op
def Clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """min(max(x, low), high); a missing bound does not bound."""
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@op
def Tanh(node: Node, x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


@op
def Sigmoid(node: Node, x: Array) -> Array:
    """1 / (1 + exp(-x)), computed without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


@op
def HardSigmoid(node: Node, x: Array) -> Array:
    """min(max(alpha x + beta, 0), 1)."""
    return np.clip(x.dtype.type(node.attrs.get("alpha", 0.2)) * x + x.dtype.type(node.attrs.get("beta", 0.5)), 0, 1)


@op
def HardSwish(node: Node, x: Array) -> Array:
    """x min(max(x / 6 + 0.5, 0), 1)."""
    return x * np.clip(x / 6 + x.dtype.type(0.5), 0, 1)


@op
def Swish(node: Node, x: Array) -> Array:
    """x sigmoid(alpha x)."""
    return x * Sigmoid(node, x.dtype.type(node.attrs.get("alpha", 1.0)) * x)


@op
def Elu(node: Node, x: Array) -> Array:
    """alpha (exp(x) - 1) below zero, else x."""
    alpha = x.dtype.type(node.attrs.get("alpha", 1.0))
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


@op
def Selu(node: Node, x: Array) -> Array:
    """gamma times Elu."""
    alpha, gamma = (x.dtype.type(node.attrs.get(k, v)) for k, v in (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)))
    return gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


@op
def Celu(node: Node, x: Array) -> Array:
    """alpha (exp(x / alpha) - 1) below zero, else x."""
    alpha = x.dtype.type(node.attrs.get("alpha", 1.0))
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / alpha), x)


@op
def Softsign(node: Node, x: Array) -> Array:
    """x / (1 + |x|)."""
    return x / (1 + np.abs(x))


@op
def Gelu(node: Node, x: Array) -> Array:
    """x times the normal distribution function of x; attribute approximate "none" (erf) or "tanh"."""
    if node.attrs.get("approximate", "none") == "tanh":
        return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))).astype(x.dtype)
    return (0.5 * x * (1 + Erf(node, x.astype(np.float64) / math.sqrt(2)))).astype(x.dtype)


@op
def Mish(node: Node, x: Array) -> Array:
    """x tanh(log(1 + exp(x)))."""
    return (x * np.tanh(np.logaddexp(0, x))).astype(x.dtype)


@op
def Identity(node: Node, x: Array) -> Array:
    """x."""
    return x


# ---- shape -------------------------------------------------------------------------------------------------------------------------------------


@op
def Concat(node: Node, *xs: Array) -> Array:
    """Join along attribute `axis`."""
    return np.concatenate(xs, axis=node.attrs.get("axis", 1))


@op
def Split(node: Node, x: Array, split: Array | None = None) -> list[Array]:
    """Cut along attribute `axis` into parts of the given lengths, or equal parts."""
    axis, n = node.attrs.get("axis", 0), len(node.outputs)
    parts = [int(s) for s in split] if split is not None else [-(-x.shape[axis] // n)] * (n - 1)
    return np.split(x, np.cumsum(parts[: n - 1]), axis=axis)


@op
def Slice(node: Node, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    """x[starts:ends:steps] along `axes`."""
    index: list[slice] = [slice(None)] * x.ndim
    for i, (s, e) in enumerate(zip(starts, ends, strict=True)):
        step = 1 if steps is None else int(steps[i])
        end: int | None = int(e)
        if step < 0 and end is not None and end < -x.shape[i]:
            end = None
        index[i if axes is None else int(axes[i])] = slice(int(s), end, step)
    return x[tuple(index)]


@op
def Transpose(node: Node, x: Array) -> Array:
    """Axes in the order `perm`."""
    return np.transpose(x, node.attrs.get("perm"))


@op
def Reshape(node: Node, x: Array, shape: Array) -> Array:
    """New shape; 0 keeps a dimension, -1 is what is left."""
    return x.reshape([x.shape[i] if d == 0 and not node.attrs.get("allowzero") else int(d) for i, d in enumerate(shape)])


@op
def DepthToSpace(node: Node, x: Array) -> Array:
    """(N, C b b, H, W) -> (N, C, H b, W b); mode DCR (the block's channels outermost, TensorFlow) or CRD (innermost, PyTorch's pixel shuffle)."""
    n, c, h, w = x.shape
    s = node.attrs["blocksize"]
    if node.attrs.get("mode", "DCR") == "DCR":
        x = x.reshape(n, s, s, c // (s * s), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c // (s * s), s, s, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (s * s), h * s, w * s)


@op
def SpaceToDepth(node: Node, x: Array) -> Array:
    """(N, C, H b, W b) -> (N, b b C, H, W), the block's position outermost."""
    n, c, h, w = x.shape
    s = node.attrs["blocksize"]
    if h % s or w % s:
        raise PictureError(f"node '{node.name}' needs a height and width divisible by {s}, got {w}x{h}")
    return x.reshape(n, c, h // s, s, w // s, s).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * s * s, h // s, w // s)


@op
def Pad(node: Node, x: Array, pads: Array, value: Array | None = None) -> Array:
    """Pads begin then end of every axis, negative to crop; mode constant, reflect, edge or symmetric."""
    p = [int(v) for v in pads]
    pairs = list(zip(p[: x.ndim], p[x.ndim :], strict=True))
    crop = tuple(slice(max(-a, 0), x.shape[i] - max(-b, 0)) for i, (a, b) in enumerate(pairs))
    grow = [(max(a, 0), max(b, 0)) for a, b in pairs]
    mode = node.attrs.get("mode", "constant")
    if mode == "constant":
        return np.pad(x[crop], grow, constant_values=0 if value is None else value.item())
    return np.pad(x[crop], grow, mode=mode)


# ---- resize ------------------------------------------------------------------------------------------------------------------------------------


def resize_position(i: int, scale: float, n_in: int, n_out: int, mode: str) -> float:
    """Where output pixel i lies on the input axis: ONNX Resize's coordinate_transformation_mode."""
    if mode == "align_corners":
        return 0.0 if n_out == 1 else i * (n_in - 1) / (n_out - 1)
    if mode == "asymmetric":
        return i / scale
    if mode == "pytorch_half_pixel" and n_out == 1:
        return 0.0
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "half_pixel_symmetric":
        adjustment = n_out / (scale * n_in)
        return n_in / 2 * (1 - adjustment) + (i + 0.5) / scale - 0.5
    return (i + 0.5) / scale - 0.5


def resize_matrix(n_in: int, scale: float, attrs: dict[str, Any], n_out: int | None = None) -> Array:
    """The (n_out, n_in) float64 matrix that resizes one axis, `graph.resized` rows unless n_out is given."""
    n_out = resized(n_in, scale) if n_out is None else n_out
    mode, coord = attrs.get("mode", "nearest"), attrs.get("coordinate_transformation_mode", "half_pixel")
    a = attrs.get("cubic_coeff_a", -0.75)
    m = np.zeros((n_out, n_in))
    for i in range(n_out):
        x = resize_position(i, scale, n_in, n_out, coord)
        if mode == "nearest":
            nearest = attrs.get("nearest_mode", "round_prefer_floor")
            j = {"floor": math.floor(x), "ceil": math.ceil(x), "round_prefer_floor": math.ceil(x - 0.5), "round_prefer_ceil": math.floor(x + 0.5)}[
                nearest
            ]
            m[i, min(max(j, 0), n_in - 1)] = 1
            continue
        base, f = math.floor(x), x - math.floor(x)
        if mode == "linear":
            taps = [(base, 1 - f), (base + 1, f)]
        else:
            near, far = (lambda d: ((a + 2) * d - (a + 3)) * d * d + 1), (lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
            taps = [(base - 1, far(f + 1)), (base, near(f)), (base + 1, near(1 - f)), (base + 2, far(2 - f))]
        if attrs.get("exclude_outside"):
            total = sum(c for j, c in taps if 0 <= j < n_in)
            taps = [(j, c / total) for j, c in taps if 0 <= j < n_in]
        for j, c in taps:
            m[i, min(max(j, 0), n_in - 1)] += c
    return m


@op
def Resize(node: Node, x: Array, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None) -> Array:
    """Resample H and W. `scales` has four entries (the first two 1). `sizes` is a picture: the result has its H and W (see `fastsr.graph`)."""
    if sizes is not None:
        rows, cols = (resize_matrix(n, m / n, node.attrs, m) for n, m in zip(x.shape[2:], sizes.shape[2:], strict=True))
        return np.einsum("yh,nchw,xw->ncyx", rows, x, cols, optimize=True).astype(x.dtype)
    if scales is None or scales.size != 4 or scales[0] != 1 or scales[1] != 1:
        raise ModelError(f"node '{node.name}': Resize needs scales [1, 1, h, w]")
    rows, cols = (resize_matrix(n, float(s), node.attrs) for n, s in zip(x.shape[2:], scales[2:], strict=True))
    if 0 in rows.shape or 0 in cols.shape:
        raise PictureError(f"the picture is too small for node '{node.name}': the resized picture would be empty")
    return np.einsum("yh,nchw,xw->ncyx", rows, x, cols, optimize=True).astype(x.dtype)
