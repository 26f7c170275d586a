"""Networks with operations over the whole picture, with random weights: channel attention and the like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from programs import Builder, pads, shuffle

from fastsr.errors import ModelError, PictureError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

RELU, SIGMOID = Epilogue("Relu"), Epilogue("Sigmoid")


def attention(b: Builder, x: int, pool: str = "GlobalAveragePool") -> int:
    """A factor for each channel (Hu et al. 2018)."""
    c = b.channels(x)
    s = b.conv(b.step(pool, [x], c), max(1, c // 4), k=1, epilogue=[RELU])
    return b.conv(s, c, k=1, epilogue=[SIGMOID])


def squeeze(b: Builder, x: int) -> int:
    """Squeeze and excitation: x times its factors."""
    return b.step("Pointwise", [x], b.channels(x), {}, [Epilogue("Mul", value=attention(b, x))])


def rcan(blocks: int = 3, channels: int = 8, colours: int = 3) -> Program:
    """RCAN's structure (Zhang et al. 2018): residual blocks with channel attention, a long skip, a pixel shuffle."""
    b = Builder(colours)
    x = head = b.conv(0, channels)
    for _ in range(blocks):
        y = b.conv(b.conv(x, channels, epilogue=[RELU]), channels)
        x = b.step("Pointwise", [y], channels, {}, [Epilogue("Mul", value=attention(b, y)), Epilogue("Add", value=x)])
    x = b.conv(x, channels, epilogue=[Epilogue("Add", value=head)])
    b.conv(x, 4 * colours, epilogue=[shuffle(2, 1)])
    return b.program(feed=Feed("rgb"))


def standard_deviation(b: Builder, x: int) -> tuple[int, int]:
    """Of each channel: the mean and the standard deviation."""
    c = b.channels(x)
    mean = b.step("GlobalAveragePool", [x], c)
    d = b.step("Pointwise", [x], c, {}, [Epilogue("Sub", value=mean)])
    square = b.step("Pointwise", [d], c, {}, [Epilogue("Mul", value=d)])
    return mean, b.step("GlobalAveragePool", [square], c, {}, [Epilogue("Add", a=1e-5), Epilogue("Sqrt")])


def imdn() -> Program:
    """Contrast-aware channel attention (Hui et al. 2019)."""
    b = Builder(3)
    x = b.conv(0, 8, epilogue=[RELU])
    mean, deviation = standard_deviation(b, x)
    contrast = b.step("Pointwise", [mean], 8, {}, [Epilogue("Add", value=deviation)])
    s = b.conv(b.conv(contrast, 2, k=1, epilogue=[RELU]), 8, k=1, epilogue=[SIGMOID])
    y = b.step("Pointwise", [x], 8, {}, [Epilogue("Mul", value=s)])
    b.conv(y, 12, epilogue=[shuffle(2)])
    return b.program()


def instance_norm() -> Program:
    """Two convolutions with instance normalisation, the second of stride 2."""
    b = Builder(2)
    x = 0
    for stride in (1, 2):
        x = b.conv(x, 6, sh=stride, sw=stride)
        mean, deviation = standard_deviation(b, x)
        gain, shift = (b.normal(6) for _ in range(2))
        x = b.step("Pointwise", [x], 6, {}, [Epilogue("Sub", value=mean), Epilogue("Div", value=deviation), Epilogue("Mul", tensor=gain),
                                             Epilogue("Add", tensor=shift), RELU])  # fmt: skip
    return b.program()


def cunet() -> Program:
    """An encoder and decoder with squeeze and excitation at half and quarter size, cropped skips, as in waifu2x's cunet."""
    b = Builder(3)
    one = b.conv(0, 8, epilogue=[RELU])
    half = b.conv(one, 8, k=2, sh=2, sw=2, **pads(0, 0, 0, 0))
    half = squeeze(b, b.conv(half, 8, epilogue=[RELU]))
    quarter = b.conv(half, 12, k=2, sh=2, sw=2, **pads(0, 0, 0, 0))
    quarter = squeeze(b, b.conv(quarter, 12))
    up = b.conv(quarter, 32, k=1, epilogue=[shuffle(2)])
    up = b.step("Pointwise", [up], 8, {}, [Epilogue("Add", value=half)])
    up = squeeze(b, b.conv(up, 8, epilogue=[RELU]))
    up = b.conv(up, 32, k=1, epilogue=[shuffle(2), Epilogue("Add", value=one)])
    b.conv(b.step("Concat", [up, one], 16), 3)
    return b.program()


def cropped() -> Program:
    """The same with sizes that differ by crops, and a factor of one scale used at another, in an epilogue of a convolution."""
    b = Builder(4)
    s = attention(b, 0, "GlobalMaxPool")
    half = b.conv(0, 4, sh=2, sw=2, epilogue=[Epilogue("Mul", value=s), RELU])
    whole = b.conv(0, 16, epilogue=[shuffle(2), Epilogue("Add", value=s), Epilogue("Add", value=attention(b, half))])
    inner = b.conv(half, 4, **pads(0, 0, 0, 0))
    crop = b.step("Pad", [half], 4, pads(-1, -1, -1, -1) | {"mode": 0}, [Epilogue("Mul", value=attention(b, inner))])
    joined = b.step("Concat", [crop, inner], 8)
    return b.program(b.conv(joined, 4), whole, s)


def esa() -> Program:
    """Enhanced spatial attention (Liu et al. 2020): a mask computed at a fraction of the size and resized to the picture's; and a mean repeated."""
    b = Builder(3)
    x = b.conv(0, 8)
    c1 = b.conv(x, 4, k=1)
    small = b.conv(b.conv(c1, 4, sh=2, sw=2, **pads(0, 0, 0, 0)), 4, k=7, sh=3, sw=3, **pads(3, 3, 3, 3))
    back = b.step("ResizeTo", [b.conv(small, 4, epilogue=[RELU]), x], 4)
    mask = b.conv(back, 4, k=1, epilogue=[Epilogue("Add", value=b.conv(c1, 4, k=1)), SIGMOID])
    mean = b.step("ResizeTo", [b.step("GlobalAveragePool", [x], 8), x], 8, {"mode": 0}, [RELU])
    joined = b.step("Concat", [b.conv(mask, 8, k=1, epilogue=[SIGMOID, Epilogue("Mul", value=x)]), mean], 16)
    b.conv(joined, 12, epilogue=[shuffle(2)])
    return b.program()


def two_inputs() -> Program:
    """Two inputs, of which one is only averaged; a value and its mean are outputs."""
    b = Builder([3, 2])
    s = b.conv(b.step("GlobalAveragePool", [1], 2), 3, k=1)
    x = b.step("Pointwise", [0], 3, {}, [Epilogue("Mul", value=s)])
    y = b.conv(x, 3)
    return b.program(y, b.step("GlobalAveragePool", [y], 3), s)


NETWORKS: dict[str, Callable[[], Program]] = {
    f.__name__: f for f in (rcan, imdn, instance_norm, cunet, cropped, esa, two_inputs)
}


def random_network(seed: int) -> tuple[Program, int, int]:
    """Random steps with means, maxima and resizing to other values among them, and a picture size (height, width) that fits."""
    rng = np.random.default_rng(seed)
    b = Builder([int(c) for c in rng.integers(1, 4, rng.integers(1, 3))], seed)
    size = int(rng.integers(1, 30)), int(rng.integers(1, 40))
    for _ in range(int(rng.integers(4, 16))):
        values, steps = list(b.values), list(b.steps)
        try:
            _random_step(b, rng, size)
            sizes = b.program().value_sizes(*size)
        except (ModelError, PictureError):
            sizes = [(1000, 1000)]
        if max(sizes[-1]) > 90 or b.values[-1].channels > 16:
            b.values, b.steps = values, steps
    if not b.steps:
        b.step("Pointwise", [0], b.channels(0))
    outputs = [int(v) for v in rng.choice([s.output for s in b.steps], int(rng.integers(1, 4)))]
    return b.program(b.last, *outputs), *size


def _random_step(b: Builder, rng: np.random.Generator, size: tuple[int, int]) -> None:
    program = b.program() if b.steps else None
    sizes = program.value_sizes(*size) if program else [size] * len(b.values)
    small = program.small_values() if program else [False] * len(b.values)
    x = int(rng.integers(max(0, len(b.values) - 6), len(b.values)))
    c = b.channels(x)
    kind = rng.choice(["Conv", "Conv", "Pointwise", "Pointwise", "GlobalAveragePool", "GlobalMaxPool", "ResizeTo", "Concat", "Pad", "Resize"])
    if kind == "Conv":
        made = int(rng.choice([c, 4, 8]))
        stride, k = int(rng.choice([1, 1, 2])), int(rng.choice([1, 3]))
        block = int(rng.choice([1, 1, 2])) if not small[x] else 1
        edge = int(rng.integers(0, 2))
        h, w = ((n + 2 * edge - k) // stride + 1 for n in sizes[x])
        entries = _random_entries(b, rng, made * block**2, (h, w), sizes, small, small[x])
        entries += [shuffle(block)] if block > 1 else []
        entries += _random_entries(b, rng, made, (h * block, w * block), sizes, small, small[x])
        b.conv(x, made * block**2, k=k, sh=stride, sw=stride, epilogue=entries, **pads(edge, edge, edge, edge))
    elif kind == "Concat":
        same = [v for v in range(len(b.values)) if sizes[v] == sizes[x] and small[v] == small[x]]
        parts = [x, *(int(v) for v in rng.choice(same, int(rng.integers(0, 3))))]
        b.step("Concat", parts, sum(b.channels(v) for v in parts))
    elif kind == "ResizeTo":
        to = int(rng.integers(0, len(b.values)))
        b.step("ResizeTo", [x, to], c, {"mode": int(rng.integers(0, 3)), "coord": int(rng.integers(0, 2))},
               _random_entries(b, rng, c, sizes[to], sizes, small, small[to]))  # fmt: skip
    elif kind == "Pad":
        b.step("Pad", [x], c, {p: int(rng.integers(-1, 3)) for p in ("pt", "pl", "pb", "pr")})
    elif kind == "Resize":
        b.step("Resize", [x], c, {"scale_h": float(rng.choice([0.5, 1, 2])), "scale_w": float(rng.choice([0.5, 1, 1.5]))})
    else:
        over = kind != "Pointwise"
        entries = _random_entries(b, rng, c, (1, 1) if over else sizes[x], sizes, small, over or small[x])
        b.step(str(kind), [x], c, {}, entries or [RELU])


def _random_entries(
    b: Builder, rng: np.random.Generator, c: int, size: tuple[int, int], sizes: list[tuple[int, int]], small: list[bool], pixel: bool
) -> list[Epilogue]:
    entries = []
    for _ in range(int(rng.integers(0, 3))):
        fit = [v for v in range(len(b.values)) if b.channels(v) in (1, c) and (small[v] or (sizes[v] == size and not pixel))]
        choice = int(rng.integers(0, 4))
        if choice and fit:
            fit = [v for v in fit if small[v]] or fit if rng.integers(0, 2) else fit
            entries.append(Epilogue(str(rng.choice(["Add", "Mul", "Max", "RSub"])), value=int(rng.choice(fit))))
        elif choice == 0:
            entries.append(Epilogue("Clip", a=-2.0, b=2.0))
        elif pixel:
            entries += [Epilogue("Abs"), Epilogue("Sqrt")]
    return entries


def image(program: Program, height: int, width: int, batch: int = 1) -> list[np.ndarray]:
    """Inputs with means that are not 0."""
    rng = np.random.default_rng(height * 1000 + width)
    return [(rng.standard_normal((batch, program.values[v].channels, height, width)) + 0.5).astype(np.float32) for v in program.inputs]
