"""The table of small ONNX graphs that are compared with ONNX Runtime, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx_graphs import Net


@dataclass
class Case:
    """A graph whose last node makes its output. `runs`: a Program can express it; else only its Graph is compared."""

    name: str
    build: Callable[[Net], Any]
    opset: int = 17
    shape: tuple[int, ...] = (1, 3, 12, 16)
    runs: bool = True
    dtype: Any = np.float32
    more: dict[str, Any] = field(default_factory=dict)


CASES: list[Case] = []


def case(name: str, build: Callable[[Net], Any], **more: Any) -> None:
    CASES.append(Case(name, build, **more))


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------

for label, attrs in {
    "plain": {},
    "stride": {"strides": [2, 2]},
    "strides differ": {"strides": [1, 2], "pads": [0, 1, 2, 1]},
    "dilation": {"dilations": [2, 3], "pads": [2, 3, 2, 3]},
    "no pads": {"pads": [0, 0, 0, 0]},
    "same upper": {"auto_pad": "SAME_UPPER", "pads": None},
    "same lower": {"auto_pad": "SAME_LOWER", "pads": None},
    "same upper stride": {"auto_pad": "SAME_UPPER", "pads": None, "strides": [2, 2]},
    "same lower stride": {"auto_pad": "SAME_LOWER", "pads": None, "strides": [3, 2]},
    "valid": {"auto_pad": "VALID", "pads": None},
    "kernel_shape": {"kernel_shape": [3, 3]},
}.items():
    case(f"Conv {label}", lambda n, a=attrs: n.node("Conv", n.input(), n.random(4, 3, 3, 3), n.random(4),
                                                   **{k: v for k, v in {"pads": [1, 1, 1, 1], **a}.items() if v is not None}))  # fmt: skip
case("Conv without bias", lambda n: n.node("Conv", n.input(), n.random(5, 3, 5, 3), pads=[2, 1, 2, 1]))
case("Conv even kernel same upper", lambda n: n.node("Conv", n.input(), n.random(5, 3, 4, 2), auto_pad="SAME_UPPER"))
case("Conv even kernel same lower", lambda n: n.node("Conv", n.input(), n.random(5, 3, 4, 2), auto_pad="SAME_LOWER"))
case("Conv groups", lambda n: n.conv(n.conv(n.input(), 3, 8), 8, 12, group=4))
case("Conv depthwise", lambda n: n.conv(n.conv(n.input(), 3, 8), 8, 8, group=8))
case("Conv opset 7", lambda n: n.conv(n.input(), 3, 4), opset=7)
for label, attrs in {
    "plain": {},
    "stride": {"strides": [2, 2]},
    "stride pads": {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    "output_padding": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    "stride 3": {"strides": [3, 3], "pads": [0, 1, 0, 1]},
    "dilation": {"dilations": [2, 2]},
    "same upper": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same lower": {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
}.items():
    case(f"ConvTranspose {label}", lambda n, a=attrs: n.node("ConvTranspose", n.input(), n.random(3, 4, 4, 4), n.random(4), **a))
case(
    "ConvTranspose odd kernel",
    lambda n: n.node("ConvTranspose", n.input(), n.random(3, 2, 9, 9), strides=[3, 3], pads=[4, 4, 4, 4], output_padding=[2, 2]),
)
case("ConvTranspose groups", lambda n: n.node("ConvTranspose", n.conv(n.input(), 3, 6), n.random(6, 2, 4, 4), strides=[2, 2], pads=[1] * 4, group=3))
case(
    "ConvTranspose output_shape",
    lambda n: n.node("ConvTranspose", n.input((1, 3, 12, 16)), n.random(3, 2, 4, 4), strides=[2, 2], output_shape=[24, 32]),
)
case(
    "MatMul of NHWC",
    lambda n: n.node("Transpose", n.node("MatMul", n.node("Transpose", n.input(), perm=[0, 2, 3, 1]), n.random(3, 5)), perm=[0, 3, 1, 2]),
)

# ---- activations -------------------------------------------------------------------------------------------------------------------------------

for op, attrs, since in [
    ("Relu", {}, 7), ("Tanh", {}, 7), ("Sigmoid", {}, 7), ("Abs", {}, 7), ("Neg", {}, 7), ("LeakyRelu", {}, 7), ("LeakyRelu", {"alpha": 0.2}, 16),
    ("HardSigmoid", {}, 7), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 7), ("HardSwish", {}, 14), ("Mish", {}, 18), ("Gelu", {}, 20),
    ("Gelu", {"approximate": "tanh"}, 20), ("Identity", {}, 7), ("Dropout", {}, 13), ("Dropout", {}, 7),
    ("Elu", {}, 7), ("Elu", {"alpha": 1.7}, 7), ("Elu", {"alpha": -0.5}, 7), ("Selu", {}, 7), ("Celu", {"alpha": 2.0}, 12), ("Softsign", {}, 7),
]:  # fmt: skip
    case(f"{op} {attrs or ''} {since}", lambda n, op=op, a=attrs: n.node(op, n.conv(n.input(), 3, 4), **a), opset=since)
for op in ("Exp", "Softplus", "Erf"):
    case(op, lambda n, op=op: n.node(op, n.conv(n.input(), 3, 4)), runs=False)
case("Reciprocal", lambda n: n.node("Reciprocal", n.node("Add", n.node("Abs", n.input()), n.const(0.5))))
case("Sqrt", lambda n: n.node("Sqrt", n.node("Abs", n.input())))
case("Clip attributes", lambda n: n.node("Clip", n.input(), min=-0.5, max=0.7), opset=8)
case("Clip one attribute", lambda n: n.node("Clip", n.input(), max=0.7), opset=10)
case("Clip inputs", lambda n: n.node("Clip", n.input(), n.const(-0.5), n.const(0.7)))
case("Clip low", lambda n: n.node("Clip", n.input(), n.const(-0.5)))
case("Clip high", lambda n: n.node("Clip", n.input(), "", n.const(0.5)))
case("Clip nothing", lambda n: n.node("Clip", n.input()))
case("PRelu per channel", lambda n: n.node("PRelu", n.conv(n.input(), 3, 4), n.random(4, 1, 1)))
case("PRelu one", lambda n: n.node("PRelu", n.conv(n.input(), 3, 4), n.random(1)))
case("PRelu negative", lambda n: n.node("PRelu", n.conv(n.input(), 3, 4), n.const(-np.ones((1, 1, 1)))), opset=9)


def silu(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    return n.node("Mul", x, n.node("Sigmoid", x))


def mish(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    return n.node("Mul", x, n.node("Tanh", n.node("Softplus", x)))


def gelu_of_erf(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    erf = n.node("Add", n.node("Erf", n.node("Div", x, n.const(np.sqrt(2)))), n.const(1.0))
    return n.node("Mul", n.node("Mul", x, erf), n.const(0.5))


def gelu_half_first(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    erf = n.node("Add", n.const(1.0), n.node("Erf", n.node("Mul", x, n.const(np.sqrt(0.5)))))
    return n.node("Mul", n.node("Mul", x, n.const(0.5)), erf)


def gelu_of_tanh(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    cubed = n.node("Mul", n.node("Pow", x, n.const(3.0)), n.const(0.044715))
    inner = n.node("Mul", n.node("Add", x, cubed), n.const(np.sqrt(2 / np.pi)))
    return n.node("Mul", n.node("Mul", x, n.const(0.5)), n.node("Add", n.node("Tanh", inner), n.const(1.0)))


def hard_swish(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    return n.node("Mul", x, n.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))


for f in (silu, mish, gelu_of_erf, gelu_half_first, gelu_of_tanh, hard_swish):
    case(f"spelled {f.__name__}", f)

# ---- arithmetic and normalisation --------------------------------------------------------------------------------------------------------------

for op in ("Add", "Sub", "Mul", "Div"):
    case(f"{op} scalar", lambda n, op=op: n.node(op, n.input(), n.const(0.7)))
    case(f"{op} scalar left", lambda n, op=op: n.node(op, n.const(0.7), n.node("Add", n.node("Abs", n.input()), n.const(0.5))))
    case(f"{op} channels", lambda n, op=op: n.node(op, n.input(), n.const([[[0.5]], [[2]], [[3]]])))
    case(f"{op} channels rank 4", lambda n, op=op: n.node(op, n.input(), n.const(np.reshape([0.5, 2, 3], (1, 3, 1, 1)))))
    case(f"{op} pictures", lambda n, op=op: n.node(op, n.conv(n.input(), 3, 4), n.node("Add", n.node("Abs", n.conv("x", 3, 4)), n.const(1.0))))
case("Add uniform picture", lambda n: n.node("Add", n.input((1, 3, 12, 16)), n.const(np.full((1, 1, 12, 16), 0.25))))
case("Add itself", lambda n: n.node("Add", n.input(), "x"))
case("Mul itself", lambda n: n.node("Mul", n.conv(n.input(), 3, 4), "v0_0"))
case("one channel by many", lambda n: n.node("Mul", n.conv(n.input(), 3, 4), n.node("Sigmoid", n.conv("x", 3, 1))))
case("one channel widened", lambda n: n.node("Add", n.conv(n.input(), 3, 1), n.random(5, 1, 1)))
case("Max of two", lambda n: n.node("Max", n.input(), n.const(0.1)))
case("Min of three", lambda n: n.node("Min", n.const(0.1), n.input(), n.node("Neg", "x")))
case("Sum of three", lambda n: n.node("Sum", n.input(), n.node("Neg", "x"), n.node("Abs", "x")))
case("Mean of three", lambda n: n.node("Mean", n.input(), n.node("Neg", "x"), n.node("Abs", "x")))
for p in (1.0, 2.0, 3.0):
    case(f"Pow {p:g}", lambda n, p=p: n.node("Pow", n.input(), n.const(p)))
case("Pow 0.5", lambda n: n.node("Pow", n.node("Abs", n.input()), n.const(0.5)))
for opset in (7, 9, 14, 15):
    case(f"BatchNormalization {opset}", lambda n: n.node("BatchNormalization", n.conv(n.input(), 3, 4), n.random(4), n.random(4), n.random(4),
                                                         n.const(np.abs(n.rng.standard_normal(4)) + 0.5), epsilon=1e-3), opset=opset)  # fmt: skip
case("Cast to double and back", lambda n: n.node("Cast", n.node("Cast", n.input(), to=TensorProto.DOUBLE), to=TensorProto.FLOAT))
case("GlobalAveragePool", lambda n: n.node("Mul", n.input(), n.node("Sigmoid", n.conv(n.node("GlobalAveragePool", "x"), 3, 3, 1))))
case("ReduceMean of pixels", lambda n: n.node("Sub", n.input(), n.node("ReduceMean", "x", axes=[2, 3])))
case("ReduceMean of pixels 18", lambda n: n.node("Sub", n.input(), n.node("ReduceMean", "x", n.ints(-1, -2))), opset=18)
case("ReduceMean of channels", lambda n: n.node("Sub", n.input(), n.node("ReduceMean", "x", axes=[1])))
case("ReduceSum of channels", lambda n: n.node("ReduceSum", n.input(), n.ints(1)))


def squeeze_and_excite(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    pooled = n.node("Flatten", n.node("GlobalAveragePool", x))
    hidden = n.node("Relu", n.node("Gemm", pooled, n.random(2, 4), n.random(2), transB=1))
    gate = n.node("Sigmoid", n.node("Gemm", hidden, n.random(2, 4), n.random(4), alpha=0.5, beta=2.0))
    return n.node("Mul", x, n.node("Reshape", gate, n.ints(-1, 4, 1, 1)))


def squeeze_and_excite_matmul(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    pooled = n.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    gate = n.node("Add", n.node("MatMul", pooled, n.random(4, 4)), n.random(4))
    return n.node("Mul", x, n.node("Unsqueeze", n.node("Unsqueeze", gate, n.ints(2)), n.ints(3)))


case("channel attention Gemm", squeeze_and_excite)
case("channel attention MatMul", squeeze_and_excite_matmul)

# ---- pooling -----------------------------------------------------------------------------------------------------------------------------------

for label, attrs in {
    "2": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "3 stride 1": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "3 stride 2 pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "7 stride 3": {"kernel_shape": [7, 7], "strides": [3, 3]},
    "dilated": {"kernel_shape": [2, 3], "dilations": [2, 2]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "same upper": {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"},
    "one column": {"kernel_shape": [3, 1], "strides": [1, 2]},
}.items():
    case(f"MaxPool {label}", lambda n, a=attrs: n.node("MaxPool", n.node("Sub", n.conv(n.input(), 3, 4), n.const(3.0)), **a))
for label, attrs in {
    "2": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "3": {"kernel_shape": [3, 3]},
    "3 pads counted": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
}.items():
    case(f"AveragePool {label}", lambda n, a=attrs: n.node("AveragePool", n.conv(n.input(), 3, 4), **a))
