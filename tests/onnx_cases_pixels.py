"""More of the table in onnx_cases: operators that move pixels, shape code, layouts and types."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import case
from onnx_graphs import Net

# ---- pixel shuffle and its relatives -----------------------------------------------------------------------------------------------------------

for mode in ("DCR", "CRD"):
    case(f"DepthToSpace {mode}", lambda n, m=mode: n.node("DepthToSpace", n.conv(n.input(), 3, 18), blocksize=3, mode=m))
case("DepthToSpace opset 7", lambda n: n.node("DepthToSpace", n.conv(n.input(), 3, 8), blocksize=2), opset=7)
case("SpaceToDepth", lambda n: n.conv(n.node("SpaceToDepth", n.input(), blocksize=2), 12, 4))


def shuffle(n: Net, perm: list[int], first: list[int], last: list[int]) -> Any:
    x = n.conv(n.input((1, 3, 12, 16)), 3, 12)
    return n.node("Reshape", n.node("Transpose", n.node("Reshape", x, n.ints(*first)), perm=perm), n.ints(*last))


case("pixel shuffle spelled CRD", lambda n: shuffle(n, [0, 1, 4, 2, 5, 3], [1, 3, 2, 2, 12, 16], [1, 3, 24, 32]))
case("pixel shuffle spelled CRD -1", lambda n: shuffle(n, [0, 1, 4, 2, 5, 3], [-1, 3, 2, 2, 12, 16], [-1, 3, 24, 32]))
case("pixel shuffle spelled DCR", lambda n: shuffle(n, [0, 3, 4, 1, 5, 2], [1, 2, 2, 3, 12, 16], [1, 3, 24, 32]))
case("pixel shuffle columns first", lambda n: shuffle(n, [0, 1, 4, 3, 5, 2], [1, 3, 2, 2, 12, 16], [1, 3, 24, 32]))
case("pixel shuffle of odd order", lambda n: shuffle(n, [0, 2, 4, 1, 5, 3], [1, 2, 3, 2, 12, 16], [1, 3, 24, 32]))
case("channel shuffle", lambda n: n.conv(n.node("Reshape", n.node("Transpose", n.node("Reshape", n.conv(n.input((1, 3, 12, 16)), 3, 12),
     n.ints(1, 3, 4, 12, 16)), perm=[0, 2, 1, 3, 4]), n.ints(1, 12, 12, 16)), 12, 4, 1))  # fmt: skip


def dynamic_shuffle(n: Net) -> Any:
    x = n.conv(n.input(), 3, 12)
    h, w = n.size_of(x, 2), n.size_of(x, 3)
    two, b = n.ints(2), n.ints(-1)
    six = n.node("Concat", b, n.ints(3), two, two, h, w, axis=0)
    four = n.node("Concat", b, n.ints(3), n.node("Mul", h, two), n.node("Mul", w, two), axis=0)
    return n.node("Reshape", n.node("Transpose", n.node("Reshape", x, six), perm=[0, 1, 4, 2, 5, 3]), four)


def dynamic_unshuffle(n: Net) -> Any:
    x = n.input()
    h, w = n.size_of(x, 2), n.size_of(x, 3)
    two, b = n.ints(2), n.node("Gather", n.node("Shape", x), n.ints(0))
    h2, w2 = n.node("Div", h, two), n.node("Div", w, two)
    y = n.node("Reshape", x, n.node("Concat", b, n.ints(3), h2, two, w2, two, axis=0))
    y = n.node("Reshape", n.node("Transpose", y, perm=[0, 1, 3, 5, 2, 4]), n.node("Concat", b, n.ints(12), h2, w2, axis=0))
    return n.conv(y, 12, 4)


def unshuffle_and_shuffle(n: Net) -> Any:
    x = n.node("SpaceToDepth", n.input((1, 3, 12, 16)), blocksize=2)
    y = n.node("Reshape", n.node("Relu", n.conv(x, 12, 12)), n.ints(1, 3, 2, 2, 6, 8))
    return n.node("Reshape", n.node("Transpose", y, perm=[0, 1, 4, 2, 5, 3]), n.ints(1, 3, 12, 16))


def nearest_by_expand(n: Net) -> Any:
    x = n.conv(n.input((1, 3, 12, 16)), 3, 4)
    y = n.node("Expand", n.node("Reshape", x, n.ints(1, 4, 12, 1, 16, 1)), n.ints(1, 4, 12, 2, 16, 2))
    return n.node("Reshape", y, n.ints(1, 4, 24, 32))


def repeated_channels(n: Net) -> Any:
    x = n.node("Tile", n.input(), n.ints(1, 4, 1, 1))
    return n.node("DepthToSpace", n.node("Add", n.conv("x", 3, 12), x), blocksize=2)


def interleaved_channels(n: Net) -> Any:
    x = n.node("Expand", n.node("Unsqueeze", n.input((1, 3, 12, 16)), n.ints(2)), n.ints(1, 3, 4, 12, 16))
    return n.node("DepthToSpace", n.node("Add", n.conv("x", 3, 12), n.node("Reshape", x, n.ints(1, 12, 12, 16))), blocksize=2, mode="CRD")


for f in (dynamic_shuffle, dynamic_unshuffle, unshuffle_and_shuffle, nearest_by_expand, repeated_channels, interleaved_channels):
    case(f.__name__.replace("_", " "), f)

# ---- joining and cutting -----------------------------------------------------------------------------------------------------------------------

case("Concat", lambda n: n.node("Concat", n.input(), n.conv("x", 3, 4), "x", axis=1))
case("Concat negative axis", lambda n: n.node("Concat", n.input(), n.conv("x", 3, 4), axis=-3))


def split(n: Net, *sizes: int, **attrs: Any) -> Any:
    x = n.conv(n.input(), 3, 6)
    extra = [n.ints(*sizes)] if sizes and n.opset >= 13 else []
    a, b = n.many("Split", x, *extra, outputs=2, axis=1, **attrs)
    return n.node("Concat", n.node("Relu", b), a, axis=1)


case("Split equal", split)
case("Split sizes", lambda n: split(n, 2, 4))
case("Split attribute", lambda n: split(n, split=[1, 5]), opset=11)
case("Split num_outputs", lambda n: split(n, num_outputs=2), opset=18)
case("Slice channels", lambda n: n.node("Slice", n.conv(n.input(), 3, 6), n.ints(1), n.ints(4), n.ints(1)))
case("Slice channels attributes", lambda n: n.node("Slice", n.conv(n.input(), 3, 6), starts=[1], ends=[2**31 - 1], axes=[1]), opset=9)
case("Slice channels reversed", lambda n: n.node("Slice", n.conv(n.input(), 3, 6), n.ints(-1), n.ints(-(2**63)), n.ints(1), n.ints(-1)))
case("Slice every second channel", lambda n: n.node("Slice", n.conv(n.input(), 3, 6), n.ints(1), n.ints(9), n.ints(1), n.ints(2)))
case("Slice crop", lambda n: n.node("Slice", n.input(), n.ints(1, 2), n.ints(-1, 2**62), n.ints(2, 3)))
case("Slice crop fixed", lambda n: n.node("Slice", n.input((1, 3, 12, 16)), n.ints(1, 2), n.ints(11, 13), n.ints(2, 3)))
case("Slice crop and channels", lambda n: n.node("Slice", n.input(), n.ints(1, 1, 2), n.ints(3, -2, -1), n.ints(1, -2, -1)))
case("Slice every second pixel", lambda n: n.conv(n.node("Slice", n.input(), n.ints(1, 0), n.ints(2**62, 2**62), n.ints(2, 3), n.ints(2, 3)), 3, 4))
case("Gather channels", lambda n: n.node("Gather", n.input(), n.ints(2, 1, 0), axis=1))
case("Gather one channel", lambda n: n.conv(n.node("Unsqueeze", n.node("Gather", n.input(), n.const(-1, np.int64), axis=1), n.ints(1)), 1, 4))


def focus(n: Net) -> Any:
    x = n.input()
    parts = [n.node("Slice", x, n.ints(i, j), n.ints(2**62, 2**62), n.ints(2, 3), n.ints(2, 2)) for j in (0, 1) for i in (0, 1)]
    return n.conv(n.node("Concat", *parts, axis=1), 12, 4)


case("focus", focus)
for mode in ("constant", "reflect", "edge"):
    case(f"Pad {mode}", lambda n, m=mode: n.node("Pad", n.input(), n.ints(0, 0, 1, 2, 0, 0, 3, 0), mode=m))
    case(f"Pad {mode} attributes", lambda n, m=mode: n.node("Pad", n.input(), pads=[0, 0, 1, 2, 0, 0, 3, 0], mode=m), opset=10)
case("Pad value", lambda n: n.node("Pad", n.input(), n.ints(0, 0, 1, 2, 0, 0, 3, 0), n.const(0.5)))
case("Pad negative", lambda n: n.node("Pad", n.input(), n.ints(0, 0, -1, 2, 0, 0, 3, -2), n.const(0.5)))
case("Pad axes", lambda n: n.node("Pad", n.input(), n.ints(1, 2, 3, 0), n.const(0.0), n.ints(3, 2)), opset=18)

# ---- resizing ----------------------------------------------------------------------------------------------------------------------------------

for mode in ("nearest", "linear", "cubic"):
    for how in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"):
        for factor in (2.0, 3.0, 1.5, 0.5):
            case(f"Resize {mode} {how} {factor}", lambda n, m=mode, h=how, f=factor: n.node("Resize", n.input(), "", n.const([1, 1, f, f]), mode=m,
                 coordinate_transformation_mode=h, nearest_mode="floor" if h == "asymmetric" else "round_prefer_floor"))  # fmt: skip
for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    case(f"Resize nearest {nearest}", lambda n, k=nearest: n.node("Resize", n.input(), "", n.const([1, 1, 2, 2]), mode="nearest", nearest_mode=k))
for a in (-0.5, -0.75):
    for outside in (0, 1):
        case(f"Resize cubic {a} {outside}", lambda n, a=a, o=outside: n.node("Resize", n.input(), "", n.const([1, 1, 2, 2]), mode="cubic",
             cubic_coeff_a=a, exclude_outside=o))  # fmt: skip
case("Resize half_pixel_symmetric", lambda n: n.node("Resize", n.input(), "", n.const([1, 1, 2, 2]), mode="linear",
     coordinate_transformation_mode="half_pixel_symmetric"), opset=19)  # fmt: skip
case("Resize tf_half_pixel_for_nn", lambda n: n.node("Resize", n.input(), n.const([]), n.const([1, 1, 2, 2]), mode="nearest", nearest_mode="floor",
     coordinate_transformation_mode="tf_half_pixel_for_nn"), opset=11)  # fmt: skip
case("Resize opset 10", lambda n: n.node("Resize", n.input(), n.const([1, 1, 2, 3]), mode="linear"), opset=10)
case("Resize axes", lambda n: n.node("Resize", n.input(), "", n.const([2, 3]), mode="linear", axes=[2, 3]), opset=18)
case("Resize sizes fixed", lambda n: n.node("Resize", n.input((1, 3, 12, 16)), "", "", n.ints(1, 3, 36, 48), mode="cubic"))
case("Upsample attributes", lambda n: n.node("Upsample", n.input(), mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]), opset=7)
case("Upsample linear", lambda n: n.node("Upsample", n.input(), n.const([1, 1, 2, 2]), mode="linear"), opset=9)


def resize_by_shape(n: Net, times: int, **attrs: Any) -> Any:
    x = n.conv(n.input(), 3, 4)
    shape = n.node("Shape", x)
    sizes = n.node("Mul", n.node("Slice", shape, n.ints(2), n.ints(4)), n.ints(times, times))
    return n.node("Resize", x, "", "", n.node("Concat", n.node("Slice", shape, n.ints(0), n.ints(2)), sizes, axis=0), **attrs)


def resize_to_other(n: Net) -> Any:
    x = n.input((1, 3, 12, 16))
    small = n.node("AveragePool", n.conv(x, 3, 3), kernel_shape=[2, 2], strides=[2, 2])
    large = n.node("Resize", small, "", n.const([1, 1, 4, 4]), mode="linear")
    return n.node("Add", large, n.node("Resize", x, "", "", n.node("Shape", large), mode="nearest"))


def resize_by_float(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    sizes = [n.node("Floor", n.node("Mul", n.node("Cast", n.size_of(x, k), to=TensorProto.FLOAT), n.const([2.0]))) for k in (2, 3)]
    sizes = [n.node("Cast", s, to=TensorProto.INT64) for s in sizes]
    return n.node("Resize", x, "", "", n.node("Concat", n.size_of(x, 0), n.size_of(x, 1), *sizes, axis=0), mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="asymmetric")  # fmt: skip


def add_zeros(n: Net) -> Any:
    x = n.conv(n.input(), 3, 4)
    zeros = n.node("ConstantOfShape", n.node("Shape", x), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25]))
    return n.node("Add", x, zeros)


def expand_like_torch(n: Net) -> Any:
    """torch.expand: Where(shape == -1, ones, shape)."""
    x = n.conv(n.input(), 3, 1)
    shape = n.node("Shape", x)
    ones = n.node("ConstantOfShape", n.node("Shape", shape), value=numpy_helper.from_array(np.array([1], np.int64)))
    wanted = n.node("Where", n.node("Equal", shape, n.node("Mul", ones, n.ints(-1))), ones, shape)
    return n.node("Add", x, n.node("Expand", n.const(0.5), wanted))


case("Resize sizes from Shape", lambda n: resize_by_shape(n, 3, mode="cubic"))
case(
    "Resize sizes from Shape nearest",
    lambda n: resize_by_shape(n, 2, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
)
case("Resize sizes to another picture", resize_to_other)
case("Resize sizes by floats", resize_by_float)
case("ConstantOfShape", add_zeros)
case("Expand by Where", expand_like_torch)

# ---- layouts and types -------------------------------------------------------------------------------------------------------------------------


def opencv(n: Net) -> Any:
    """A Y network on NHWC, as TensorFlow's exporters write it."""
    x = n.node("Transpose", n.input((1, "H", "W", 1)), perm=[0, 3, 1, 2])
    y = n.node("DepthToSpace", n.conv(n.node("Tanh", n.conv(x, 1, 8)), 8, 4), blocksize=2)
    return n.node("Transpose", y, perm=[0, 2, 3, 1])


def nhwc_all_through(n: Net) -> Any:
    x = n.node("Sub", n.input((1, "H", "W", 3)), n.const([0.4, 0.5, 0.6]))
    y = n.node("Transpose", n.conv(n.node("Transpose", x, perm=[0, 3, 1, 2]), 3, 4), perm=[0, 2, 3, 1])
    y = n.node("Relu", n.node("Add", n.node("PRelu", y, n.random(4)), n.random(4)))
    y = n.node("Concat", y, n.node("Mul", y, n.random(1, 1, 1, 4)), axis=3)
    return n.node("Pad", y, n.ints(0, 1, 2, 0, 0, 0, 1, 0), mode="reflect")


def three_axes(n: Net) -> Any:
    x = n.node("Unsqueeze", n.input((3, "H", "W")), n.ints(0))
    return n.node("Squeeze", n.conv(x, 3, 4), n.ints(0))


def uint8_in(n: Net) -> Any:
    x = n.node("Transpose", n.input((1, "H", "W", 3), dtype=TensorProto.UINT8), perm=[0, 3, 1, 2])
    return n.conv(n.node("Div", n.node("Cast", x, to=TensorProto.FLOAT), n.const(255.0)), 3, 4)


case("NHWC Y", opencv, shape=(1, 12, 16, 1))
case("NHWC all through", nhwc_all_through, shape=(1, 12, 16, 3))
case("three axes", three_axes, shape=(3, 12, 16))
case("uint8", uint8_in, shape=(1, 12, 16, 3), dtype=np.uint8)
case("fixed size", lambda n: n.conv(n.input((1, 3, 12, 16)), 3, 4))
case("Constant nodes", lambda n: n.node("Add", n.node("Mul", n.input(), n.node("Constant", value_float=0.5)),
     n.node("Constant", value=numpy_helper.from_array(np.full((3, 1, 1), 0.25, np.float32)))))  # fmt: skip


def quantised(n: Net) -> Any:
    scale, zero = n.const(0.05), n.const(128, np.uint8)
    return n.node("DequantizeLinear", n.node("QuantizeLinear", n.input(), scale, zero), scale, zero)


def quantised_filter(n: Net) -> Any:
    w = n.const(n.rng.integers(-99, 99, (4, 3, 3, 3)), np.int8)
    w = n.node("DequantizeLinear", w, n.const([0.01, 0.02, 0.01, 0.03]), n.const([0, 1, 2, 3], np.int8), axis=0)
    return n.node("Conv", n.input(), w)


def quantised_conv(n: Net) -> Any:
    x = [n.node("QuantizeLinear", n.input(), n.const(0.05), n.const(128, np.uint8)), n.const(0.05), n.const(128, np.uint8)]
    w = [n.const(n.rng.integers(-99, 99, (4, 3, 3, 3)), np.int8), n.const(0.01), n.const(0, np.int8)]
    y = [n.const(0.1), n.const(100, np.uint8)]
    return n.node("DequantizeLinear", n.node("QLinearConv", *x, *w, *y, n.const([3, 5, -7, 9], np.int32), pads=[1, 1, 1, 1]), *y)


def microsoft(n: Net, op: str, constant: bool = False) -> Any:
    """An operator of ONNX Runtime's quantiser between QuantizeLinear and DequantizeLinear."""

    def pair(scale: float, zero: int) -> list[str]:
        return [n.const(scale), n.const(zero, np.uint8)]

    x, z, y = pair(0.03137, 120), pair(0.05171, 128), pair(0.07113, 100)
    a = n.node("QuantizeLinear", n.input(), *x)
    b = n.const(n.rng.integers(0, 255, (3, 1, 1)), np.uint8) if constant else n.node("QuantizeLinear", n.node("Abs", "x"), *z)
    if op == "QLinearConcat":
        out = n.node(op, *y, a, *x, b, *z, domain="com.microsoft", axis=1)
    elif op in ("QLinearAdd", "QLinearMul"):
        out = n.node(op, a, *x, b, *z, *y, domain="com.microsoft")
    else:
        out = n.node(op, a, *x, *y, domain="com.microsoft", **({"alpha": 0.2} if op == "QLinearLeakyRelu" else {}))
    return n.node("DequantizeLinear", out, *y)


def quantised_constant(n: Net) -> Any:
    pair = [n.const(0.01), n.const(0, np.int8)]
    return n.node("Mul", n.input(), n.node("DequantizeLinear", n.node("QuantizeLinear", n.random(3, 1, 1), *pair), *pair))


for name in ("QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearLeakyRelu", "QLinearSigmoid"):
    case(f"com.microsoft {name}", lambda n, name=name: microsoft(n, name))
for name in ("QLinearAdd", "QLinearMul"):
    case(f"com.microsoft {name} constant", lambda n, name=name: microsoft(n, name, True))
def quantised_pieces(n: Net) -> Any:
    """Operators that only choose pixels, on integers."""
    pair = [n.const(0.031), n.const(120, np.uint8)]
    x = n.node("QuantizeLinear", n.conv(n.input(), 3, 4), *pair)
    a, b = n.many("Split", x, outputs=2, axis=1)
    a = n.node("MaxPool", a, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    b = n.node("Slice", b, n.ints(0), n.ints(1), n.ints(1))
    out = n.node("Concat", n.node("DequantizeLinear", a, *pair), n.node("DequantizeLinear", b, *pair), axis=1)
    large = n.node("Resize", x, "", n.const([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    small = n.node("MaxPool", n.node("DequantizeLinear", large, *pair), kernel_shape=[2, 2], strides=[2, 2])
    return n.node("Concat", out, small, axis=1)


case("quantised pieces", quantised_pieces)
case("QuantizeLinear of a constant", quantised_constant)
case("QuantizeLinear and back", quantised)
case("DequantizeLinear of a filter", quantised_filter)
case("QLinearConv", quantised_conv)
