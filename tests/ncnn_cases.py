"""The table of small ncnn models that are compared with ncnn itself, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ncnn_graphs import Net, marked, plain


@dataclass
class Case:
    """A model whose last layer makes its output. `refused`: an operator that no backend runs on pictures."""

    name: str
    build: Callable[[Net], Any]
    shape: tuple[int, ...] = (1, 3, 12, 16)
    tolerance: float = 1e-5
    refused: str = ""


CASES: list[Case] = []


def case(name: str, build: Callable[[Net], Any], **more: Any) -> None:
    CASES.append(Case(name, build, **more))


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------

for label, p in {
    "plain": {},
    "no padding": {4: 0},
    "stride": {3: 2},
    "strides differ": {3: 1, 13: 2},
    "dilation": {2: 2, 12: 3, 4: 2, 14: 3},
    "all borders": {4: 1, 14: 2, 15: 0, 16: 3},
    "same upper": {4: -233, 14: -233, 15: -233, 16: -233},
    "same upper by default": {4: -233},
    "same lower": {4: -234},
    "same upper stride": {4: -233, 3: 2},
    "same lower stride": {4: -234, 3: 2},
    "pads with a number": {18: 0.5},
}.items():
    case(f"Convolution {label}", lambda n, p=p: n.conv(n.input(), 3, 4, more=p))
case("Convolution without bias", lambda n: n.conv(n.input(), 3, 4, bias=False))
case("Convolution 5x3", lambda n: n.layer("Convolution", n.input(), p={0: 4, 1: 3, 11: 5, 4: 1, 14: 2, 6: 180}, w=(marked(n.random(4, 3, 5, 3)),)))
case("Convolution even same upper", lambda n: n.layer("Convolution", n.input(), p={0: 4, 1: 4, 4: -233, 6: 192}, w=(marked(n.random(4, 3, 4, 4)),)))
case("Convolution even same lower", lambda n: n.layer("Convolution", n.input(), p={0: 4, 1: 4, 4: -234, 6: 192}, w=(marked(n.random(4, 3, 4, 4)),)))
case("Convolution with declared channels", lambda n: n.conv(n.input(3), 3, 4))
for kind in ("f16", "bf16", "raw", "table"):
    case(f"Convolution weights {kind}", lambda n, kind=kind: n.conv(n.conv(n.input(), 3, 5, kind=kind), 5, 3, kind=kind))
for k, numbers in {1: [], 2: [0.2], 3: [-0.5, 0.7], 4: [], 5: [], 6: [1 / 6, 0.5]}.items():
    case(f"Convolution activation {k}", lambda n, k=k, v=numbers: n.conv(n.input(), 3, 4, more={9: k, 10: v} if v else {9: k}))
case("Convolution activation 6 of other numbers", lambda n: n.conv(n.input(), 3, 4, more={9: 6, 10: [0.25, 0.4]}))


def grouped(n: Net, op: str, cin: int, cout: int, group: int, k: int = 3, more: dict[int, Any] | None = None) -> Any:
    x = n.conv(n.input(), 3, cin)
    size = cout * (cin // group) * k * k
    return n.layer(op, x, p={0: cout, 1: k, 4: 1, 5: 1, 6: size, 7: group, **(more or {})}, w=(marked(n.random(size)), plain(n.random(cout))))


case("ConvolutionDepthWise", lambda n: grouped(n, "ConvolutionDepthWise", 8, 8, 8))
case("ConvolutionDepthWise groups", lambda n: grouped(n, "ConvolutionDepthWise", 8, 12, 4))
case("ConvolutionDepthWise one group", lambda n: grouped(n, "ConvolutionDepthWise", 8, 4, 1, more={9: 2, 10: [0.1]}))
case("ConvolutionDepthWise multiplier", lambda n: grouped(n, "ConvolutionDepthWise", 4, 8, 4, more={3: 2}))
for label, p in {
    "plain": {4: 0},
    "stride": {3: 2},
    "stride 3": {3: 3, 4: 2},
    "borders": {3: 2, 4: 1, 14: 0, 15: 2, 16: 1},
    "output pad": {3: 2, 18: 1},
    "output pads differ": {3: 3, 18: 1, 19: 2},
    "dilation": {2: 2},
    "activation": {3: 2, 9: 1},
    "cut by more than the kernel": {3: 2, 4: 5, 16: 6},
}.items():
    case(f"Deconvolution {label}", lambda n, p=p: n.layer("Deconvolution", n.input(), p={0: 5, 1: 4, 4: 1, 5: 1, 6: 240, **p},
                                                         w=(marked(n.random(5, 3, 4, 4)), plain(n.random(5)))))  # fmt: skip
case("Deconvolution 9x9 without bias", lambda n: n.layer("Deconvolution", n.input(), p={0: 2, 1: 9, 3: 3, 4: 4, 18: 2, 6: 486},
                                                        w=(marked(n.random(2, 3, 9, 9)),)))  # fmt: skip
case("DeconvolutionDepthWise", lambda n: grouped(n, "DeconvolutionDepthWise", 8, 8, 8, k=4, more={3: 2}))
case("DeconvolutionDepthWise groups", lambda n: grouped(n, "DeconvolutionDepthWise", 8, 4, 2, k=4, more={3: 2}))


def positive(n: Net, x: str) -> Any:
    return n.layer("BinaryOp", n.layer("AbsVal", x), p={0: 0, 1: 1, 2: 0.5})


# ---- activations -------------------------------------------------------------------------------------------------------------------------------

for op, p in [
    ("ReLU", {}), ("ReLU", {0: 0.25}), ("ReLU", {0: -0.5}), ("Clip", {0: -0.5, 1: 0.75}), ("Clip", {0: 0.0}), ("Clip", {1: 0.5}), ("Clip", {}),
    ("Clip", {0: -3.402823e38, 1: 3.402823e38}), ("Sigmoid", {}), ("TanH", {}), ("HardSigmoid", {}), ("HardSigmoid", {0: 0.3, 1: 0.4}),
    ("HardSwish", {}), ("HardSwish", {0: 1 / 6, 1: 0.5}), ("Swish", {}), ("Mish", {}), ("GELU", {}), ("GELU", {0: 1}), ("AbsVal", {}),
    ("UnaryOp", {0: 0}), ("UnaryOp", {0: 1}), ("UnaryOp", {0: 4}), ("UnaryOp", {0: 16}), ("Dropout", {}), ("Dropout", {0: 0.5}), ("Noop", {}),
    ("Power", {}), ("Power", {1: 2.0, 2: 0.5}), ("Power", {0: 2.0, 1: 2.0, 2: 0.5}), ("DeepCopy", {}), ("Cast", {0: 1, 1: 1}),
    ("ELU", {}), ("ELU", {0: 1.5}), ("SELU", {}), ("SELU", {0: 0.5, 1: 2.0}),
]:  # fmt: skip
    case(f"{op} {p}", lambda n, op=op, p=p: n.layer(op, n.conv(n.input(), 3, 4), p=p), tolerance=2e-4 if op in ("GELU", "Mish") else 1e-5)
case("PReLU channels", lambda n: n.layer("PReLU", n.conv(n.input(), 3, 4), p={0: 4}, w=(plain(n.random(4)),)))
case("PReLU one", lambda n: n.layer("PReLU", n.conv(n.input(), 3, 4), p={0: 1}, w=(plain([0.3]),)))
case("PReLU of the input", lambda n: n.layer("PReLU", n.input(), p={0: 3}, w=(plain(n.random(3)),)))
for name, layer, p, why in [("exp", "UnaryOp", {0: 7}, "Exp"), ("reciprocal", "UnaryOp", {0: 15}, ""), ("rsqrt", "UnaryOp", {0: 6}, ""),
                            ("softplus", "Softplus", {}, "Softplus"), ("erf", "Erf", {}, "Erf"),
                            ("root", "BinaryOp", {0: 6, 1: 1, 2: 0.5}, "")]:  # fmt: skip
    case(f"{layer} {name}", lambda n, op=layer, p=p: n.layer(op, positive(n, n.conv(n.input(), 3, 4)), p=p), tolerance=1e-4, refused=why)
case("UnaryOp sqrt", lambda n: n.layer("UnaryOp", n.layer("AbsVal", n.conv(n.input(), 3, 4)), p={0: 5}))

# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------


for code in (0, 1, 2, 3, 4, 5, 7, 8):
    case(f"BinaryOp {code} number", lambda n, c=code: n.layer("BinaryOp", positive(n, n.conv(n.input(), 3, 4)), p={0: c, 1: 1, 2: 0.7}))
    case(f"BinaryOp {code} pictures", lambda n, c=code: n.layer("BinaryOp", positive(n, n.conv(n.input(), 3, 4)), positive(n, n.conv("data", 3, 4)),
                                                               p={0: c}))  # fmt: skip
    case(f"BinaryOp {code} constant", lambda n, c=code: n.layer("BinaryOp", positive(n, n.conv(n.input(), 3, 4)),
                                                               n.memory([[[0.5]], [[2]], [[3]], [[1]]]), p={0: c}))  # fmt: skip
    case(f"BinaryOp {code} constant first", lambda n, c=code: n.layer("BinaryOp", n.memory([[[0.5]], [[2]], [[3]], [[1]]]),
                                                                     positive(n, n.conv(n.input(), 3, 4)), p={0: c}))  # fmt: skip
for exponent in (1.0, 2.0, 3.0):
    case(f"BinaryOp power {exponent:g}", lambda n, e=exponent: n.layer("BinaryOp", positive(n, n.input(3)), p={0: 6, 1: 1, 2: e}), tolerance=1e-4)
case("BinaryOp vector constant", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.memory([0.5, 2, 3, 1]), p={0: 2}))
case("BinaryOp single constant", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.memory([0.75]), p={0: 1}))
case("BinaryOp single constant of three axes", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.memory([[[0.75]]]), p={0: 1}))
case("BinaryOp column constant", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.memory([[0.5], [2], [3], [1]]), p={0: 0}),
     shape=(1, 3, 1, 16))  # fmt: skip
case("BinaryOp uniform constant", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.memory(np.full((4, 12, 16), 0.5)), p={0: 2}))
case("BinaryOp itself", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), "b1", p={0: 2}))
case("BinaryOp one channel by many", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.conv("data", 3, 1), p={0: 2}))
case("BinaryOp many channels by one", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 1), n.conv("data", 3, 4), p={0: 1}))
case("BinaryOp one channel widened", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 1), n.memory([[[0.5]], [[2]], [[3]], [[1]]]), p={0: 0}))
for code in (0, 1, 2):
    case(f"Eltwise {code}", lambda n, c=code: n.layer("Eltwise", n.conv(n.input(), 3, 4), n.conv("data", 3, 4), n.conv("data", 3, 4), p={0: c}))
case("Eltwise factors", lambda n: n.layer("Eltwise", n.conv(n.input(), 3, 4), n.conv("data", 3, 4), p={0: 1, 1: [1.0, -0.5]}))

# ---- normalisation -----------------------------------------------------------------------------------------------------------------------------

case("BatchNorm", lambda n: n.layer("BatchNorm", n.conv(n.input(), 3, 4), p={0: 4, 1: 1e-3}, w=(plain(n.random(4)), plain(n.random(4)),
                                    plain(np.abs(n.random(4)) + 0.5), plain(n.random(4)))))  # fmt: skip
case("Scale", lambda n: n.layer("Scale", n.conv(n.input(), 3, 4), p={0: 4}, w=(plain(n.random(4)),)))
case("Scale of the input with bias", lambda n: n.layer("Scale", n.input(), p={0: 3, 1: 1}, w=(plain(n.random(3)), plain(n.random(3)))))
case("Bias", lambda n: n.layer("Bias", n.conv(n.input(), 3, 4), p={0: 4}, w=(plain(n.random(4)),)))
case("InstanceNorm", lambda n: n.layer("InstanceNorm", n.conv(n.input(), 3, 4), p={0: 4, 1: 1e-3}, w=(plain(n.random(4)), plain(n.random(4)))),
     tolerance=1e-4)  # fmt: skip
case("InstanceNorm plain", lambda n: n.layer("InstanceNorm", n.conv(n.input(), 3, 4), p={0: 0, 2: 0}), tolerance=1e-4)

# ---- windows and the whole picture -------------------------------------------------------------------------------------------------------------

for label, p in {"2": {1: 2, 2: 2, 5: 1}, "2 up": {1: 2, 2: 2}, "3 borders": {1: 3, 2: 1, 3: 1}, "3 stride 2": {1: 3, 2: 2, 3: 1, 5: 1},
                 "3x2": {1: 2, 11: 3, 2: 1, 12: 2, 5: 1}, "3 up": {1: 3, 2: 2, 3: 1}}.items():  # fmt: skip
    case(f"Pooling max {label}", lambda n, p=p: n.layer("Pooling", n.conv(n.input(), 3, 4), p={0: 0, **p}), shape=(1, 3, 13, 16))
for label, p in {"2": {1: 2, 2: 2, 5: 1}, "3": {1: 3}, "3 borders counted": {1: 3, 3: 1, 5: 1, 6: 1}, "2x3": {1: 3, 11: 2, 2: 2, 5: 1}}.items():
    case(f"Pooling mean {label}", lambda n, p=p: n.layer("Pooling", n.conv(n.input(), 3, 4), p={0: 1, **p}), shape=(1, 3, 13, 16))
case("Pooling global mean", lambda n: n.layer("BinaryOp", n.input(3), n.layer("Pooling", "data", p={0: 1, 4: 1}), p={0: 1}))
case("Pooling adaptive mean", lambda n: n.layer("BinaryOp", n.input(3), n.layer("Pooling", "data", p={0: 1, 7: 1, 8: 1}), p={0: 1}))
for keep in (0, 1):
    case(f"Reduction mean of pixels {keep}", lambda n, keep=keep: n.layer("BinaryOp", n.input(3), n.layer("Reduction", "data",
         p={0: 3, 1: 0, 3: [1, 2], 4: keep, 5: 1}), p={0: 1}))  # fmt: skip
case("Reduction mean of negative axes", lambda n: n.layer("BinaryOp", n.input(3), n.layer("Reduction", "data", p={0: 3, 1: 0, 3: [-1, -2], 4: 1, 5: 1,
     2: 0.5}), p={0: 1}))  # fmt: skip
for name, code, axis in (("mean", 3, 0), ("sum", 0, -3)):
    case(f"Reduction {name} of channels", lambda n, c=code, a=axis: n.layer("BinaryOp", n.input(3), n.layer("Reduction", "data",
         p={0: c, 1: 0, 3: [a], 4: 1, 5: 1}), p={0: 1}))  # fmt: skip


def attention(n: Net, dense: str, vector: bool, reshape: bool) -> Any:
    x = n.conv(n.input(), 3, 4)
    y = n.layer("Pooling", x, p={0: 1, 4: 1} if vector else {0: 1, 7: 1, 8: 1})
    if dense == "InnerProduct":
        y = n.layer(dense, y, p={0: 2, 1: 1, 2: 8, 9: 1}, w=(marked(n.random(2, 4)), plain(n.random(2))))
        y = n.layer(dense, y, p={0: 4, 1: 0, 2: 8, 9: 4}, w=(marked(n.random(4, 2)),))
    else:
        y = n.layer("Sigmoid", n.conv(n.layer("ReLU", n.conv(y, 4, 2, 1)), 2, 4, 1))
    if reshape:
        y = n.layer("Reshape", y, p={0: 1, 1: 1, 2: 4})
    return n.layer("BinaryOp", x, y, p={0: 2})


case("attention Convolution", lambda n: attention(n, "Convolution", False, False))
case("attention InnerProduct", lambda n: attention(n, "InnerProduct", True, False))
case("attention InnerProduct of pixels", lambda n: attention(n, "InnerProduct", False, False))
case("attention InnerProduct Reshape", lambda n: attention(n, "InnerProduct", True, True))
case("attention Scale", lambda n: n.layer("Scale", n.conv(n.input(), 3, 4), n.layer("Sigmoid", n.layer("Pooling", "b1", p={0: 1, 4: 1})),
     p={0: -233}))  # fmt: skip
case("attention ExpandDims", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.layer("ExpandDims", n.layer("Pooling", "b1", p={0: 1, 4: 1}),
     p={3: [1, 2]}), p={0: 2}))  # fmt: skip
case("attention Squeeze", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.layer("Squeeze", n.layer("Pooling", "b1", p={0: 1, 7: 1, 8: 1}),
     p={3: [1, 2]}), p={0: 2}))  # fmt: skip
case("attention Flatten", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.layer("Flatten", n.layer("Pooling", "b1", p={0: 1, 7: 1, 8: 1})),
     p={0: 2}))  # fmt: skip
