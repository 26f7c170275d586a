"""The table of small TensorFlow Lite graphs that are compared with LiteRT, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tflite_graphs import Net, Q

SAME, VALID = 0, 1
RELU, N1, RELU6, TANH = 1, 2, 3, 4


@dataclass
class Case:
    """A graph whose last operator makes its output. `runs`: a Program can express it; else only its Graph is compared."""

    name: str
    build: Callable[[Net], Any]
    shape: tuple[int, ...] = (1, 12, 16, 3)
    runs: bool = True
    low: float = -2.0
    high: float = 2.0


CASES: list[Case] = []
"""Networks of floats."""
QUANTISED: list[Case] = []


def case(name: str, build: Callable[[Net], Any], **more: Any) -> None:
    CASES.append(Case(name, build, **more))


# ---- convolution -------------------------------------------------------------------------------------------------------------------------------

for label, options in {
    "same": {},
    "valid": {"padding": VALID},
    "same stride": {"stride_h": 2, "stride_w": 2},
    "valid strides differ": {"padding": VALID, "stride_h": 1, "stride_w": 2},
    "dilation": {"dilation_h": 2, "dilation_w": 3},
    "RELU": {"fused": RELU},
    "RELU6": {"fused": RELU6},
    "RELU_N1_TO_1": {"fused": N1},
    "even kernel": {"k": 4},
    "even kernel stride": {"k": 4, "stride_h": 3, "stride_w": 3},
}.items():
    case(f"CONV_2D {label}", lambda n, o=options: n.conv(n.input(), 3, 5, **o))
case("CONV_2D TANH", lambda n: n.op("TANH", n.conv(n.input(), 3, 5)))
case("CONV_2D groups", lambda n: n.op("CONV_2D", n.conv(n.input(), 3, 8), n.random(12, 3, 3, 4), n.random(12), stride_w=1, stride_h=1))


def depthwise(n: Net, multiplier: int, **options: Any) -> Any:
    w = n.random(1, 3, 3, 3 * multiplier)
    return n.op(
        "DEPTHWISE_CONV_2D", n.input(), w, n.random(3 * multiplier), **{"stride_w": 1, "stride_h": 1, "dilation_w": 1, "dilation_h": 1, **options}
    )


case("DEPTHWISE_CONV_2D", lambda n: depthwise(n, 1))
case("DEPTHWISE_CONV_2D multiplier", lambda n: depthwise(n, 2, fused=RELU6))
case("DEPTHWISE_CONV_2D stride", lambda n: depthwise(n, 1, stride_w=2, stride_h=2))
case("DEPTHWISE_CONV_2D dilation", lambda n: depthwise(n, 1, dilation_w=2, dilation_h=2))


def transposed(n: Net, k: int, s: int, padding: int, bias: bool = False, **options: Any) -> Any:
    h, w = (12 * s, 16 * s) if padding == SAME else (11 * s + k, 15 * s + k)
    extra = [n.random(4)] if bias else []
    return n.op("TRANSPOSE_CONV", n.ints(1, h, w, 4), n.random(4, k, k, 3), n.input(), *extra, stride_w=s, stride_h=s, padding=padding, **options)


for k, s, padding in [(9, 3, SAME), (4, 2, SAME), (3, 2, SAME), (2, 2, SAME), (5, 4, SAME), (4, 2, VALID), (3, 1, SAME)]:
    case(f"TRANSPOSE_CONV {k} {s} {'VALID' if padding else 'SAME'}", lambda n, k=k, s=s, p=padding: transposed(n, k, s, p))
case("TRANSPOSE_CONV bias RELU", lambda n: transposed(n, 4, 2, SAME, True, fused=RELU))
case("FULLY_CONNECTED keeps axes", lambda n: n.op("FULLY_CONNECTED", n.input(), n.random(5, 3), n.random(5), keep_num_dims=True, fused=RELU))
case(
    "FULLY_CONNECTED and back",
    lambda n: n.op("RESHAPE", n.op("FULLY_CONNECTED", n.op("RESHAPE", n.input(), n.ints(192, 3)), n.random(5, 3), n.random(5)), n.ints(1, 12, 16, 5)),
)


def attention(n: Net) -> Any:
    """The mean of each channel, two small layers, and a factor for each channel."""
    x = n.conv(n.input(), 3, 8)
    m = n.op("MEAN", x, n.ints(1, 2))
    y = n.op("FULLY_CONNECTED", n.op("FULLY_CONNECTED", m, n.random(4, 8), n.random(4), fused=RELU), n.random(8, 4), n.random(8))
    return n.op("MUL", x, n.op("RESHAPE", n.op("LOGISTIC", y), n.ints(1, 1, 1, 8)))


case("channel attention", attention)
case(
    "channel attention by 1x1 convolutions",
    lambda n: n.op("MUL", (x := n.conv(n.input(), 3, 8)), n.op("LOGISTIC", n.conv(n.op("MEAN", x, n.ints(1, 2), keep_dims=True), 8, 8, 1))),
)
case("MEAN of channels", lambda n: n.op("MEAN", n.conv(n.input(), 3, 4), n.ints(3), keep_dims=True))
case("SUM of channels", lambda n: n.op("SUM", n.conv(n.input(), 3, 4), n.ints(-1), keep_dims=True))
for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
    for k, s, padding in [(2, 2, VALID), (2, 2, SAME), (3, 1, SAME), (3, 2, SAME), (3, 2, VALID), (4, 3, SAME)]:
        for shape in ((1, 12, 16, 3), (1, 11, 13, 3)):
            case(
                f"{kind} {k} {s} {'VALID' if padding else 'SAME'} {shape[1]}",
                lambda n, o=kind, k=k, s=s, p=padding, shape=shape: n.op(
                    o, n.conv(n.input(shape), 3, 4), filter_w=k, filter_h=k, stride_w=s, stride_h=s, padding=p
                ),
                shape=shape,
            )
case(
    "AVERAGE_POOL_2D of all",
    lambda n: n.op(
        "ADD", (x := n.conv(n.input(), 3, 4)), n.op("AVERAGE_POOL_2D", x, filter_w=16, filter_h=12, stride_w=1, stride_h=1, padding=VALID)
    ),
)

# ---- element by element ------------------------------------------------------------------------------------------------------------------------

for name, options in [
    ("RELU", {}),
    ("RELU6", {}),
    ("RELU_N1_TO_1", {}),
    ("RELU_0_TO_1", {}),
    ("TANH", {}),
    ("LOGISTIC", {}),
    ("ABS", {}),
    ("NEG", {}),
    ("SQUARE", {}),
    ("LEAKY_RELU", {"alpha": 0.2}),
    ("GELU", {"approximate": False}),
    ("GELU", {"approximate": True}),
    ("HARD_SWISH", {}),
    ("ELU", {}),
]:
    case(f"{name} {options or ''}", lambda n, o=name, a=options: n.op(o, n.conv(n.input(), 3, 4), **a))
case("PRELU per channel", lambda n: n.op("PRELU", n.conv(n.input(), 3, 4), n.random(1, 1, 4)))
case("PRELU one", lambda n: n.op("PRELU", n.conv(n.input(), 3, 4), n.const(np.full((1, 1, 1), 0.3))))
for name in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"):
    case(
        f"{name} of pictures",
        lambda n, o=name: n.op(
            o, n.conv(n.input(), 3, 4), n.op("ABS", n.conv(0, 3, 4)) if o != "DIV" else n.op("ADD", n.op("ABS", n.conv(0, 3, 4)), n.const(0.5))
        ),
    )
    case(f"{name} per channel", lambda n, o=name: n.op(o, n.conv(n.input(), 3, 4), n.const([[[[0.5, -1, 2, 0.7]]]])))
    case(f"{name} number first", lambda n, o=name: n.op(o, n.const(1.5), n.op("ADD", n.op("ABS", n.conv(n.input(), 3, 4)), n.const(0.5))))
for fused, name in ((RELU, "RELU"), (RELU6, "RELU6")):
    case(f"ADD {name}", lambda n, f=fused: n.op("ADD", n.conv(n.input(), 3, 4), n.const([1.0, 2, 3, 4]), fused=f))
case("SUB of a mean and MUL by 255", lambda n: n.op("MUL", n.conv(n.op("SUB", n.input(), n.const([0.4, 0.5, 0.6])), 3, 3), n.const(255.0)))
case("one channel and many", lambda n: n.op("ADD", n.conv(n.input(), 3, 1), n.conv(0, 3, 4)))
case("SQUARED_DIFFERENCE", lambda n: n.op("SQUARED_DIFFERENCE", n.conv(n.input(), 3, 4), n.conv(0, 3, 4)))
case("ADD_N", lambda n: n.op("ADD_N", n.conv(n.input(), 3, 4), n.conv(0, 3, 4), n.conv(0, 3, 4)))

# ---- pixels ------------------------------------------------------------------------------------------------------------------------------------

case("DEPTH_TO_SPACE", lambda n: n.op("DEPTH_TO_SPACE", n.conv(n.input(), 3, 27), block_size=3))
case("SPACE_TO_DEPTH", lambda n: n.op("SPACE_TO_DEPTH", n.conv(n.input(), 3, 4), block_size=2))
case("CONCATENATION", lambda n: n.op("CONCATENATION", n.conv(n.input(), 3, 4), n.conv(0, 3, 5), 0, axis=3))
case("SPLIT", lambda n: n.op("ADD", *n.op("SPLIT", n.ints(3), n.conv(n.input(), 3, 8), count=2, num=2)))
case(
    "SPLIT_V",
    lambda n: n.op("CONCATENATION", *n.op("SPLIT_V", n.conv(n.input(), 3, 8), n.ints(2, 5, -1), n.const(3, "int32"), count=3, num=3)[::-1], axis=3),
)
case("UNPACK", lambda n: n.op("EXPAND_DIMS", n.op("UNPACK", n.conv(n.input(), 3, 2), count=2, num=2, axis=3)[1], n.const(3, "int32")))
case(
    "STRIDED_SLICE of channels",
    lambda n: n.op("STRIDED_SLICE", n.conv(n.input(), 3, 8), n.ints(0, 0, 0, 2), n.ints(0, 0, 0, 5), n.ints(1, 1, 1, 1), begin_mask=7, end_mask=7),
)
case(
    "STRIDED_SLICE of pixels", lambda n: n.op("STRIDED_SLICE", n.conv(n.input(), 3, 4), n.ints(0, 1, 2, 0), n.ints(1, -1, 14, 4), n.ints(1, 1, 1, 1))
)
case(
    "STRIDED_SLICE every other",
    lambda n: n.op("STRIDED_SLICE", n.conv(n.input(), 3, 4), n.ints(0, 0, 0, 0), n.ints(1, 12, 16, 4), n.ints(1, 2, 2, 1)),
)
case("SLICE", lambda n: n.op("SLICE", n.conv(n.input(), 3, 8), n.ints(0, 1, 2, 3), n.ints(-1, -1, 13, 4)))
case("GATHER", lambda n: n.op("GATHER", n.conv(n.input(), 3, 4), n.ints(2, 1, 0), axis=3))
case("TILE of channels", lambda n: n.op("TILE", n.conv(n.input(), 3, 2), n.ints(1, 1, 1, 4)))
case("PAD", lambda n: n.op("PAD", n.conv(n.input(), 3, 4), n.const([[0, 0], [1, 2], [3, 0], [0, 0]], "int32")))
case("PADV2", lambda n: n.op("PADV2", n.conv(n.input(), 3, 4), n.const([[0, 0], [1, 2], [3, 0], [0, 0]], "int32"), n.const(0.7)))
case("MIRROR_PAD reflect", lambda n: n.op("MIRROR_PAD", n.conv(n.input(), 3, 4), n.const([[0, 0], [1, 2], [3, 0], [0, 0]], "int32"), mode=0))
case("MIRROR_PAD symmetric", lambda n: n.op("MIRROR_PAD", n.conv(n.input(), 3, 4), n.const([[0, 0], [1, 2], [3, 0], [0, 0]], "int32"), mode=1))
for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
    for options in ({}, {"align_corners": True}, {"half_pixel_centers": True}):
        for size in ((24, 32), (36, 48), (6, 8)):
            case(f"{name} {options or ''} {size[0]}", lambda n, o=name, a=options, s=size: n.op(o, n.conv(n.input(), 3, 4), n.ints(*s), **a))


def spelled_shuffle(n: Net, block: int = 2) -> Any:
    """DEPTH_TO_SPACE as RESHAPE, TRANSPOSE, RESHAPE."""
    x = n.op("RESHAPE", n.conv(n.input(), 3, 3 * block * block), n.ints(1, 12, 16, block, block, 3))
    return n.op("RESHAPE", n.op("TRANSPOSE", x, n.ints(0, 1, 3, 2, 4, 5)), n.ints(1, 12 * block, 16 * block, 3))


def channels_first(n: Net) -> Any:
    """What converters make of networks of (N, C, H, W)."""
    x = n.conv(n.op("TRANSPOSE", n.input((1, 3, 12, 16)), n.ints(0, 2, 3, 1)), 3, 12)
    x = n.op("RESHAPE", n.op("TRANSPOSE", x, n.ints(0, 3, 1, 2)), n.ints(1, 3, 2, 2, 12, 16))
    return n.op("RESHAPE", n.op("TRANSPOSE", x, n.ints(0, 1, 4, 2, 5, 3)), n.ints(1, 3, 24, 32))


case("pixel shuffle spelled out", spelled_shuffle)
case("pixel shuffle of channels first", channels_first, shape=(1, 3, 12, 16))
case("SQUEEZE", lambda n: n.op("SQUEEZE", n.conv(n.input(), 3, 1), axes=[0]))


def by_shape(n: Net) -> Any:
    """A resize to twice the size, by shape code."""
    x = n.conv(n.input((1, 1, 1, 3), signature=(1, -1, -1, 3)), 3, 4)
    size = n.op("STRIDED_SLICE", n.op("SHAPE", x, kind="int32", out=2), n.ints(1), n.ints(3), n.ints(1), kind="int32")
    return n.op("RESIZE_BILINEAR", x, n.op("MUL", size, n.ints(2, 2), kind="int32"), half_pixel_centers=True)


def shape_by_parts(n: Net) -> Any:
    """Pixel shuffle by shape code."""
    x = n.conv(n.input((1, 1, 1, 3), signature=(1, -1, -1, 3)), 3, 12)
    sizes = n.op("SHAPE", x, kind="int32", out=2)
    h, w = (n.op("STRIDED_SLICE", sizes, n.ints(k), n.ints(k + 1), n.ints(1), shrink_axis_mask=1, kind="int32") for k in (1, 2))
    one, two, three = (n.const(v, "int32") for v in (1, 2, 3))
    y = n.op("RESHAPE", x, n.op("PACK", one, h, w, two, two, three, kind="int32", axis=0, values=6))
    h2, w2 = (n.op("MUL", v, two, kind="int32") for v in (h, w))
    return n.op("RESHAPE", n.op("TRANSPOSE", y, n.ints(0, 1, 3, 2, 4, 5)), n.op("PACK", one, h2, w2, three, kind="int32", axis=0, values=4))


case("size by shape code", by_shape)
case("pixel shuffle by shape code", shape_by_parts)

# ---- weights of other types --------------------------------------------------------------------------------------------------------------------


def halves(n: Net) -> Any:
    """float16 weights and bias behind DEQUANTIZE."""
    x = n.input()
    w, b = (n.op("DEQUANTIZE", n.random(*s, kind="float16"), shape=s) for s in ((4, 3, 3, 3), (4,)))
    return n.op("CONV_2D", x, w, b, stride_w=1, stride_h=1)


case("float16 weights", halves)


# ---- quantised ---------------------------------------------------------------------------------------------------------------------------------

S8, U8 = ("int8", 0.0313, -3), ("uint8", 0.0313, 120)
OFF = 1.0137
OUT8, OUTU = ("int8", 0.0517, 5), ("uint8", 0.0517, 130)
"""Scales without common factors, so that few numbers lie halfway between two others, where rules of rounding differ."""


def quantised(name: str, build: Callable[[Net, int, Q], Any], kinds: str = "iu", **more: Any) -> None:
    """A case for int8 and for uint8; build gets the network, its input, and what that is quantised to."""
    for of in (S8, U8):
        if of[0][0] in kinds:
            QUANTISED.append(Case(f"{of[0]} {name}", lambda n, of=of: build(n, n.input(more.get("shape", (1, 12, 16, 3)), *of), of), **more))


def to(of: Q, scale: float, zero: int) -> Q:
    return (of[0], OFF * scale, zero + (128 if of[0] == "uint8" else 0))


for label, options in {
    "same": {},
    "valid stride": {"padding": VALID, "stride_w": 2, "stride_h": 2},
    "same stride": {"stride_w": 2, "stride_h": 2},
    "dilation": {"dilation_w": 2, "dilation_h": 2},
    "RELU inside": {"fused": RELU},
    "RELU6": {"fused": RELU6},
    "RELU_N1_TO_1": {"fused": N1},
}.items():
    quantised(f"CONV_2D {label}", lambda n, x, of, o=options: n.conv_q(x, of, 3, 6, to(of, 1 / 20, 5), per_channel=of[0] == "int8", **o))
quantised("CONV_2D RELU at the end", lambda n, x, of: n.conv_q(x, of, 3, 6, to(of, 1 / 20, -128), per_channel=of[0] == "int8", fused=RELU))
quantised("CONV_2D one scale", lambda n, x, of: n.conv_q(x, of, 3, 6, to(of, 1 / 20, 5), per_channel=False))
quantised(
    "two convolutions",
    lambda n, x, of: n.conv_q(
        n.conv_q(x, of, 3, 8, (q := to(of, 1 / 20, -128)), per_channel=of[0] == "int8", fused=RELU),
        q,
        8,
        6,
        to(of, 1 / 16, 3),
        per_channel=of[0] == "int8",
    ),
)
quantised("DEPTHWISE_CONV_2D", lambda n, x, of: n.conv_q(x, of, 3, 3, to(of, 1 / 20, 5), depthwise=True, per_channel=of[0] == "int8", fused=RELU6))
for name in ("ADD", "SUB", "MUL"):
    quantised(
        f"{name} of pictures",
        lambda n, x, of, o=name: n.op(o, x, n.conv_q(x, of, 3, 3, to(of, 1 / 20, 5), per_channel=of[0] == "int8"), q=to(of, 1 / 12, -7)),
    )
quantised(
    "ADD RELU6", lambda n, x, of: n.op("ADD", x, n.const(n.rng.integers(60, 120, (1, 1, 1, 3)), of[0], 0.03, 2), q=to(of, 1 / 20, -20), fused=RELU6)
)
quantised("CONCATENATION", lambda n, x, of: n.op("CONCATENATION", x, x, n.conv_q(x, of, 3, 4, of, per_channel=of[0] == "int8"), axis=3, q=of))
quantised("CONCATENATION of scales", lambda n, x, of: n.op("CONCATENATION", x, n.conv_q(x, of, 3, 4, OUTU, per_channel=False), axis=3, q=OUTU), "u")
for name in ("MAXIMUM", "MINIMUM"):
    quantised(f"{name} with a number", lambda n, x, of, o=name: n.op(o, x, n.const(100, of[0], *of[1:]), q=of))
quantised(
    "DEPTH_TO_SPACE and RELU",
    lambda n, x, of: n.op(
        "RELU",
        n.op("DEPTH_TO_SPACE", n.conv_q(x, of, 3, 12, (q := to(of, 1 / 20, 5)), per_channel=of[0] == "int8"), block_size=2, q=q),
        q=to(of, 1 / 18, -128),
    ),
)
quantised(
    "convolution behind SPACE_TO_DEPTH",
    lambda n, x, of: n.conv_q(n.op("SPACE_TO_DEPTH", x, block_size=2, q=of), of, 12, 4, to(of, 1 / 20, 5), per_channel=of[0] == "int8"),
)
quantised(
    "convolution behind RESHAPE",
    lambda n, x, of: n.conv_q(
        n.op(
            "RESHAPE",
            n.op("TRANSPOSE", n.op("RESHAPE", x, n.ints(1, 6, 2, 8, 2, 3), q=of), n.ints(0, 1, 3, 2, 4, 5), q=of),
            n.ints(1, 6, 8, 12),
            q=of,
        ),
        of,
        12,
        4,
        to(of, 1 / 20, 5),
        per_channel=of[0] == "int8",
    ),
)
quantised(
    "PAD",
    lambda n, x, of: n.conv_q(
        n.op("PAD", x, n.const([[0, 0], [1, 2], [3, 0], [0, 0]], "int32"), q=of), of, 3, 4, to(of, 1 / 20, 5), per_channel=of[0] == "int8"
    ),
)
quantised("QUANTIZE", lambda n, x, of: n.op("QUANTIZE", x, q=to(of, 1 / 20, 5)))
quantised(
    "to the other type", lambda n, x, of: n.op("QUANTIZE", x, q=("uint8", of[1], of[2] + 128) if of[0] == "int8" else ("int8", of[1], of[2] - 128))
)
quantised("DEQUANTIZE", lambda n, x, of: n.op("DEQUANTIZE", x))
quantised("LEAKY_RELU", lambda n, x, of: n.op("LEAKY_RELU", x, alpha=0.1, q=to(of, 1 / 20, 5)))
quantised("PRELU", lambda n, x, of: n.op("PRELU", x, n.const([[[30, 70, 90]]], of[0], 0.0107, 50), q=to(of, 1 / 20, 5)))
quantised("LOGISTIC", lambda n, x, of: n.op("LOGISTIC", x, q=to(of, 1 / 256 / OFF, -128)))
quantised("TANH", lambda n, x, of: n.op("TANH", x, q=to(of, 1 / 128 / OFF, 0)))
quantised("HARD_SWISH", lambda n, x, of: n.op("HARD_SWISH", x, q=to(of, 1 / 30, -40)))
quantised("RESIZE_NEAREST_NEIGHBOR", lambda n, x, of: n.op("RESIZE_NEAREST_NEIGHBOR", x, n.ints(24, 32), q=of))
quantised("RESIZE_BILINEAR", lambda n, x, of: n.op("RESIZE_BILINEAR", x, n.ints(24, 32), half_pixel_centers=True, q=of))
quantised("SPLIT", lambda n, x, of: n.op("CONCATENATION", *n.op("SPLIT", n.ints(3), x, count=3, num=3, q=of)[::-1], axis=3, q=of))
quantised(
    "STRIDED_SLICE",
    lambda n, x, of: n.op("STRIDED_SLICE", x, n.ints(0, 0, 0, 1), n.ints(0, 0, 0, 3), n.ints(1, 1, 1, 1), begin_mask=7, end_mask=7, q=of),
)
quantised("MAX_POOL_2D", lambda n, x, of: n.op("MAX_POOL_2D", x, filter_w=2, filter_h=2, stride_w=2, stride_h=2, q=of))
quantised("AVERAGE_POOL_2D", lambda n, x, of: n.op("AVERAGE_POOL_2D", x, filter_w=3, filter_h=3, stride_w=1, stride_h=1, q=of))
quantised("MEAN", lambda n, x, of: n.op("MEAN", x, n.ints(1, 2), keep_dims=True, q=to(of, 1 / 60, 0)))


def transposed_q(n: Net, x: int, of: Q) -> Any:
    per = of[0] == "int8"
    w = n.const(n.rng.integers(-100, 100, (4, 4, 4, 3)) + (0 if per else 128), of[0], n.rng.uniform(0.002, 0.004, 4 if per else 1), 0 if per else 128)
    return n.op("TRANSPOSE_CONV", n.ints(1, 24, 32, 4), w, x, stride_w=2, stride_h=2, q=to(of, 1 / 20, 5))


def matrix_q(n: Net, x: int, of: Q) -> Any:
    w = n.const(n.rng.integers(-100, 100, (5, 3)) + (0 if of[0] == "int8" else 128), of[0], 0.005, 0 if of[0] == "int8" else 128)
    b = n.const(n.rng.integers(-500, 500, 5), "int32", 0.005 * of[1])
    return n.op("FULLY_CONNECTED", x, w, b, keep_num_dims=True, q=to(of, 1 / 20, 5))


quantised("TRANSPOSE_CONV", transposed_q)
quantised("FULLY_CONNECTED", matrix_q)


def float_ends(n: Net) -> Any:
    """A quantised network whose input and output are floats."""
    x = n.conv_q(n.op("QUANTIZE", n.input(), q=S8), S8, 3, 12, OUT8)
    return n.op("DEQUANTIZE", n.op("DEPTH_TO_SPACE", x, block_size=2, q=OUT8))


QUANTISED.append(Case("floats at both ends", float_ends))
