"""More of the table: layers that move pixels and channels, and quantised ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from ncnn_cases import case
from ncnn_graphs import Net, marked, plain

# ---- joining and cutting -----------------------------------------------------------------------------------------------------------------------

case("Concat", lambda n: n.layer("Concat", n.conv(n.input(), 3, 4), n.conv("data", 3, 5), "data"))
case("Concat negative axis", lambda n: n.layer("Concat", n.conv(n.input(), 3, 4), "data", p={0: -3}))


def cut(n: Net, p: dict[int, Any], count: int) -> Any:
    parts = n.layer("Slice", n.conv(n.input(), 3, 8), p=p, n=count)
    return n.layer("Concat", *[n.layer("BinaryOp", part, p={0: 2, 1: 1, 2: float(k + 1)}) for k, part in enumerate(parts)][::-1])


case("Slice halves", lambda n: cut(n, {0: [-233, -233]}, 2))
case("Slice sizes and the rest", lambda n: cut(n, {0: [1, 4, -233]}, 3))
case("Slice thirds", lambda n: cut(n, {0: [-233, -233, -233]}, 3))
case("Slice negative axis", lambda n: cut(n, {0: [3, 5], 1: -3}, 2))
case("Slice places", lambda n: cut(n, {2: [2, -1]}, 3))
for label, p in {
    "all sides": {0: 1, 1: 2, 3: -233, 4: -233, 5: -233, 6: 3, 7: 1},
    "channels": {2: 1, 3: -233, 4: -233, 5: 4},
    "channels from both ends": {2: 1, 3: -233, 4: -233, 5: -233, 8: 2},
    "starts and ends": {9: [1, 2, 3], 10: [5, -1, -2]},
    "axes": {9: [2, 1], 10: [-1, -2], 11: [2, 1]},
    "negative axes": {9: [2], 10: [-3], 11: [-1]},
    "to the end": {9: [2, 1], 10: [2147483647, -233], 11: [1, 2]},
    "channels from the back": {9: [-4], 10: [-1], 11: [0]},
    "one channel": {9: [2], 10: [3], 11: [0]},
}.items():
    case(f"Crop {label}", lambda n, p=p: n.layer("Crop", n.conv(n.input(), 3, 8), p=p))
case("Crop to another picture", lambda n: n.layer("Crop", n.conv(n.input(), 3, 5), n.conv("data", 3, 2, 3, more={4: 0}), p={0: 1, 1: 2, 2: 3}))
case("Crop the middle", lambda n: n.layer("Crop", n.conv(n.input(), 3, 2), n.conv("data", 3, 2, 5, more={4: 0}), p={0: 2, 1: 2}))
for kind in (0, 1, 2):
    case(f"Padding {kind}", lambda n, k=kind: n.layer("Padding", n.conv(n.input(), 3, 4), p={0: 1, 1: 2, 2: 3, 3: 4, 4: k, 5: 0.0}))
case("Padding with a number", lambda n: n.layer("Padding", n.conv(n.input(), 3, 4), p={0: 1, 1: 2, 2: 3, 3: 4, 5: 0.75}))

# ---- pixel shuffles ----------------------------------------------------------------------------------------------------------------------------

for mode in (0, 1):
    case(f"PixelShuffle {mode}", lambda n, m=mode: n.layer("PixelShuffle", n.conv(n.input(), 3, 18), p={0: 3, 1: m}))
    case(f"Reorg {mode}", lambda n, m=mode: n.layer("Reorg", n.conv(n.input(), 3, 5), p={0: 2, 1: m}))
case("Reorg of the input", lambda n: n.conv(n.layer("Reorg", n.input(), p={0: 2}), 12, 4))
for reverse in (0, 1):
    case(f"ShuffleChannel {reverse}", lambda n, r=reverse: n.layer("ShuffleChannel", n.conv(n.input(), 3, 12), p={0: 3, 1: r}))

# ---- resizing ----------------------------------------------------------------------------------------------------------------------------------

for kind, name in ((1, "nearest"), (2, "bilinear"), (3, "bicubic")):
    for factor in (2.0, 3.0, 4.0, 0.5, 1.5, 0.25):
        case(f"Interp {name} {factor}", lambda n, k=kind, f=factor: n.layer("Interp", n.conv(n.input(), 3, 4), p={0: k, 1: f, 2: f}))
    case(f"Interp {name} factors differ", lambda n, k=kind: n.layer("Interp", n.conv(n.input(), 3, 4), p={0: k, 1: 2.0, 2: 3.0}))
    case(f"Interp {name} to another size", lambda n, k=kind: n.layer("Interp", n.conv(n.input(), 3, 4), n.layer("Interp", "data", p={0: 1, 1: 4.0,
         2: 4.0}), p={0: k, 5: 1}))  # fmt: skip
    case(f"Interp {name} to a smaller size", lambda n, k=kind: n.layer("Interp", n.conv(n.input(), 3, 4), n.layer("Reorg", "data", p={0: 4}),
         p={0: k, 5: 1}))  # fmt: skip
for kind in (2, 3):
    case(f"Interp {kind} aligned", lambda n, k=kind: n.layer("Interp", n.conv(n.input(), 3, 4), p={0: k, 1: 2.0, 2: 2.0, 6: 1}))
    case(f"Interp {kind} aligned 3", lambda n, k=kind: n.layer("Interp", n.conv(n.input(), 3, 4), p={0: k, 1: 3.0, 2: 3.0, 6: 1}))
    case(f"Interp {kind} aligned to another", lambda n, k=kind: n.layer("Interp", n.conv(n.input(), 3, 4), n.layer("Interp", "data", p={0: 1, 1: 2.0,
         2: 2.0}), p={0: k, 5: 1, 6: 1}))  # fmt: skip
case("Interp of the input", lambda n: n.layer("BinaryOp", n.layer("PixelShuffle", n.conv(n.input(), 3, 48), p={0: 4}),
     n.layer("Interp", "data", p={0: 1, 1: 4.0, 2: 4.0})))  # fmt: skip
case("Interp by 1", lambda n: n.layer("Interp", n.conv(n.input(), 3, 4), p={0: 2, 1: 1.0, 2: 1.0}))
case("Permute nothing", lambda n: n.layer("Permute", n.conv(n.input(), 3, 4), p={0: 0}))

# ---- quantised ---------------------------------------------------------------------------------------------------------------------------------

STEP = 0.02
"""How much results may differ from ncnn's, relative to the largest: where a number is rounded lies with the last bit of its factor."""


def int8_conv(n: Net, x: str, cin: int, cout: int, term: int = 1, floats: bool = False, group: int = 1, more: dict[int, Any] | None = None) -> Any:
    op = "Convolution" if group == 1 else "ConvolutionDepthWise"
    shape = (cout, cin // group, 3, 3)
    w = n.random(*shape) if floats else n.rng.integers(-127, 128, shape)
    count = {1: group, 2: 1}[term % 100] if group > 1 else cout
    scales = n.rng.uniform(100, 150, count).astype(np.float32)
    data = [marked(w, "f32" if floats else "int8"), plain(n.random(cout)), plain(scales), plain([31.7])]
    p = {0: cout, 1: 3, 4: 1, 5: 1, 6: w.size, 8: term, **({7: group} if group > 1 else {}), **(more or {})}
    return n.layer(op, x, p=p, w=(*data, *((plain([31.7]),) if term > 100 else ())))


case("int8 Convolution", lambda n: int8_conv(n, n.input(), 3, 8), tolerance=STEP)
case("int8 Convolution of floats", lambda n: int8_conv(n, n.input(), 3, 8, floats=True), tolerance=STEP)
case("int8 Convolution saturates", lambda n: int8_conv(n, n.layer("BinaryOp", n.input(), p={0: 2, 1: 1, 2: -9.0}), 3, 8), tolerance=STEP)
case("int8 ConvolutionDepthWise", lambda n: int8_conv(n, n.conv(n.input(), 3, 8), 8, 8, group=8), tolerance=STEP)
case("int8 ConvolutionDepthWise one scale", lambda n: int8_conv(n, n.conv(n.input(), 3, 8), 8, 8, term=2, group=8), tolerance=STEP)
for cin, cout, group in ((6, 9, 3), (16, 16, 4)):
    case(
        f"int8 ConvolutionDepthWise {group} groups",
        lambda n, a=cin, b=cout, g=group: int8_conv(n, n.conv(n.input(), 3, a), a, b, group=g),
        tolerance=STEP,
    )
case("int8 Convolution activation", lambda n: int8_conv(n, n.input(), 3, 8, more={9: 2, 10: [0.1]}), tolerance=STEP)
case("int8 Convolution handed on", lambda n: int8_conv(n, int8_conv(n, n.input(), 3, 8, term=101, more={9: 1}), 8, 8), tolerance=STEP)
case("int8 InnerProduct", lambda n: n.layer("InnerProduct", n.layer("Pooling", n.conv(n.input(), 3, 8), p={0: 1, 4: 1}), p={0: 4, 1: 1, 2: 32, 8: 1},
     w=(marked(n.rng.integers(-127, 128, (4, 8)), "int8"), plain(n.random(4)), plain(n.rng.uniform(100, 150, 4)), plain([50.0]))),
     tolerance=STEP)  # fmt: skip
