"""Graphs with operations over the whole picture, as exporters write them, for the table of onnx_cases."""

from __future__ import annotations

from typing import Any

from onnx_cases import case
from onnx_graphs import Net

# ---- channel attention -------------------------------------------------------------------------------------------------------------------------


def expanded(n: Net) -> Any:
    """y.expand_as(x), as PyTorch writes it."""
    x = n.conv(n.input(), 3, 4)
    s = n.node("Sigmoid", n.conv(n.node("GlobalAveragePool", x), 4, 4, 1))
    return n.node("Mul", x, n.node("Expand", s, n.node("Shape", x)))


def expanded_and_joined(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    return n.conv(n.node("Concat", x, n.node("Expand", n.node("GlobalAveragePool", x), n.node("Shape", x)), axis=1), 8, 3)


def fixed_and_expanded(n: Net) -> Any:
    x = n.conv(n.input((1, 3, 12, 16)), 3, 4)
    return n.node("Mul", x, n.node("Expand", n.node("GlobalMaxPool", x), n.ints(1, 4, 12, 16)))


def sums(n: Net, x: str, count: str) -> str:
    return n.node("Div", n.node("ReduceSum", n.node("ReduceSum", x, n.ints(3)), n.ints(2)), count)


def contrast_aware(n: Net, count: str, x: str) -> Any:
    """IMDN's channel attention: sums along one axis and then the other over the number of pixels."""
    mean = sums(n, x, count)
    d = n.node("Sub", x, mean)
    deviation = n.node("Pow", sums(n, n.node("Pow", d, n.const(2.0)), count), n.const(0.5))
    return n.node("Mul", x, n.node("Sigmoid", n.conv(n.node("Add", deviation, n.node("GlobalAveragePool", x)), 4, 4, 1)))


def contrast_of_any_size(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    sizes = [n.node("Gather", n.node("Shape", x), n.const(k, "int64")) for k in (2, 3)]
    return contrast_aware(n, n.node("Cast", n.node("Mul", *sizes), to=1), x)


def contrast_of_fixed_size(n: Net) -> Any:
    return contrast_aware(n, n.const(12 * 16), n.conv(n.input((1, 3, 12, 16)), 3, 4))


def one_after_the_other(n: Net) -> Any:
    rows = n.node("ReduceMean", n.input(), axes=[3], keepdims=0)
    mean = n.node("ReduceMean", rows, axes=[2], keepdims=0)
    return n.node("Mul", "x", n.node("Unsqueeze", mean, n.ints(2, 3)))


def channels_last(n: Net) -> Any:
    x = n.node("Transpose", n.input((1, "h", "w", 3)), perm=[0, 3, 1, 2])
    y = n.node("Transpose", n.conv(x, 3, 4), perm=[0, 2, 3, 1])
    mean = n.node("ReduceMean", y, axes=[1, 2])
    return n.node("Transpose", n.node("Mul", y, n.node("Sigmoid", n.node("MatMul", mean, n.random(4, 4)))), perm=[0, 3, 1, 2])


case("attention expanded", expanded)
case("attention expanded and joined", expanded_and_joined)
case("attention of fixed size expanded", fixed_and_expanded)
case("contrast of any size", contrast_of_any_size)
case("contrast of fixed size", contrast_of_fixed_size)
case("mean along one axis after the other", one_after_the_other)
case("attention channels last", channels_last, shape=(1, 12, 16, 3))
case("GlobalMaxPool", lambda n: n.node("Add", n.input(), n.node("GlobalMaxPool", "x")))
case("ReduceMax of pixels", lambda n: n.node("Sub", n.input(), n.node("ReduceMax", "x", axes=[2, 3])))
case("ReduceSum of pixels over their number", lambda n: n.node("Sub", n.input(), n.node("Div", n.node("ReduceSum", "x", n.ints(2, 3)), n.node(
    "Cast", n.node("Mul", n.size_of("x", 3), n.size_of("x", 2)), to=1))))  # fmt: skip
case("a constant less a mean", lambda n: n.node("Mul", n.input(), n.node("Sub", n.random(1, 3, 1, 1), n.node("GlobalAveragePool", "x"))))
case("Reciprocal of a mean", lambda n: n.node("Mul", n.node("Reciprocal", n.node("GlobalAveragePool", n.node("Abs", n.input()))), "x"))
case("a picture subtracted from its mean", lambda n: n.node("Sub", n.node("GlobalAveragePool", n.input()), "x"))
case("a mean over a picture", lambda n: n.node("Div", n.node("GlobalAveragePool", n.input()), n.node("Add", n.node("Abs", "x"), n.const(1.0))))
case("a mean as the output", lambda n: n.node("Relu", n.node("GlobalAveragePool", n.conv(n.input(), 3, 4))))

# ---- normalisation -----------------------------------------------------------------------------------------------------------------------------


def grouped(n: Net) -> Any:
    """PyTorch's GroupNorm."""
    x = n.conv(n.input(), 3, 8)
    y = n.node("InstanceNormalization", n.node("Reshape", x, n.ints(0, 4, -1)), n.const([1] * 4), n.const([0] * 4))
    y = n.node("Reshape", y, n.node("Shape", x))
    return n.node("Add", n.node("Mul", y, n.random(8, 1, 1)), n.random(8, 1, 1))


case("InstanceNormalization", lambda n: n.node("Relu", n.node("InstanceNormalization", n.conv(n.input(), 3, 4), n.random(4), n.random(4))))
case("InstanceNormalization epsilon", lambda n: n.node("InstanceNormalization", n.input(), n.random(3), n.random(3), epsilon=0.5), opset=7)
case("group normalisation spelled out", grouped)
case("GroupNormalization 21", lambda n: n.node("GroupNormalization", n.conv(n.input(), 3, 6), n.random(6), n.random(6), num_groups=2), opset=21)
case("GroupNormalization 18", lambda n: n.node("GroupNormalization", n.conv(n.input(), 3, 6), n.random(2), n.random(2), num_groups=2), opset=18)

# ---- sizes of other values ---------------------------------------------------------------------------------------------------------------------


def spatial_attention(n: Net, shape: tuple[Any, ...], mode: str, coordinates: str) -> Any:
    """RFDN's: a mask made at about a sixth of the size."""
    x = n.conv(n.input(shape), 3, 4)
    c1 = n.conv(x, 4, 2, 1)
    small = n.node("MaxPool", n.conv(c1, 2, 2, strides=[2, 2], pads=[0] * 4), kernel_shape=[7, 7], strides=[3, 3])
    size = n.node("Concat", n.node("Slice", n.node("Shape", small), n.ints(0), n.ints(2)), n.node("Slice", n.node("Shape", x), n.ints(2), n.ints(4)),
                  axis=0)  # fmt: skip
    back = n.node("Resize", small, "", "", size, mode=mode, coordinate_transformation_mode=coordinates, nearest_mode="floor")
    return n.node("Mul", x, n.node("Sigmoid", n.conv(n.node("Add", back, c1), 2, 4, 1)))


for label, mode, coordinates in (
    ("linear", "linear", "pytorch_half_pixel"),
    ("corners", "linear", "align_corners"),
    ("cubic", "cubic", "half_pixel"),
    ("nearest", "nearest", "asymmetric"),
):
    for height, width in ((23, 38), (19, 20), (24, 31)):
        case(f"spatial attention {label} {width}x{height}", lambda n, m=mode, c=coordinates: spatial_attention(n, ("n", 3, "h", "w"), m, c),
             shape=(1, 3, height, width))  # fmt: skip
case("spatial attention of fixed size", lambda n: spatial_attention(n, (1, 3, 23, 38), "linear", "half_pixel"), shape=(1, 3, 23, 38))

# ---- pools -------------------------------------------------------------------------------------------------------------------------------------

for label, attrs in {
    "at borders": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "at borders stride": {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1]},
    "same upper stride": {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil counted": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1},
}.items():
    case(f"AveragePool {label}", lambda n, a=attrs: n.node("AveragePool", n.conv(n.input(), 3, 4), **a), shape=(1, 3, 11, 16), opset=19)
case("MaxPool same upper stride", lambda n: n.node("MaxPool", n.input(), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
     shape=(1, 3, 11, 7))  # fmt: skip
