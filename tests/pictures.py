"""Pictures for tests; memory layouts, feeds and a small network for those of colour and depth."""

from __future__ import annotations

import numpy as np

from fastsr.graph import Feed
from fastsr.program import PARAMS, Epilogue, Program, Step, Value

SIZES = ((1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (17, 31), (33, 64), (40, 131))
DTYPES = ("uint8", "uint16", "float32")
FEEDS = (
    Feed("y"),
    Feed("y", 255.0, (3.5,), 2.0, (0.25,)),
    Feed("bgr", 255.0, (103.15, 111.56, 114.35), 255.0, (103.15, 111.56, 114.35)),
    Feed("rgb", 1.0, (0.4, 0.5, 0.6), 2.0, (0.1, 0.2, 0.3)),
    Feed("y", pre_scale=3),
    Feed("rgb", pre_scale=2),
    Feed("y", 255.0, (3.5,), 2.0, (0.25,), fine=True),
    Feed("y", pre_scale=3, fine=True),
)


def random_picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Full-range integers, or floats from -0.1 to 1.1."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return (rng.random(shape) * 1.2 - 0.1).astype(np.float32)
    return rng.integers(0, int(np.iinfo(dtype).max) + 1, shape).astype(dtype)


def drawn(seed: int, h: int = 72, w: int = 80) -> np.ndarray:
    """A picture (H, W, 3) uint8 of discs and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    out = np.full((h, w, 3), rng.uniform(0, 255, 3))
    for _ in range(14):
        cy, cx, r = rng.uniform(0, h), rng.uniform(0, w), rng.uniform(3, 25)
        out[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.uniform(0, 255, 3)
    return np.clip(out + rng.normal(0, 4, out.shape), 0, 255).astype(np.uint8)


def noise(seed: int, h: int = 64, w: int = 72) -> np.ndarray:
    """A picture (H, W, 3) uint8 without anything to learn."""
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)


def strange_layouts(picture: np.ndarray) -> dict[str, np.ndarray]:
    """The same pixels behind other strides."""
    big = np.zeros(tuple(2 * n for n in picture.shape[:2]) + tuple(n + 2 for n in picture.shape[2:]), picture.dtype)
    view = big[1::2, ::2, 1:-1] if picture.ndim == 3 else big[1::2, ::2]
    view[...] = picture
    packed = np.frombuffer(b"\0" + picture.tobytes() + b"\0" * 8, np.uint8)[1 : 1 + picture.nbytes]
    return {
        "slice": view,
        "reversed": np.ascontiguousarray(picture[::-1, ::-1])[::-1, ::-1],
        "fortran": np.asfortranarray(picture),
        "channels first": np.moveaxis(np.ascontiguousarray(np.moveaxis(picture, -1, 0)), 0, -1) if picture.ndim == 3 else picture.T.copy().T,
        "unaligned": packed.view(picture.dtype).reshape(picture.shape),
    }


def shuffle_network(feed: Feed, scale: int, stride: int = 1) -> Program:
    """A 3x3 convolution and a pixel shuffle; the outputs cover and exceed the range of pixels."""
    channels = 1 if feed.colour == "y" else 3
    rng, wide = np.random.default_rng(scale), channels * scale * scale
    params = dict.fromkeys(PARAMS["Conv"], 1) | {"kh": 3, "kw": 3, "sh": stride, "sw": stride}
    params |= dict.fromkeys(("pt", "pl", "pb", "pr"), 0)
    weight = (rng.standard_normal((wide, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
    store = (Epilogue("Mul", a=0.8), Epilogue("Add", a=0.1 * feed.out_range), Epilogue("DepthToSpace", a=float(scale)))
    step = Step("Conv", (0,), 1, params, weight, rng.standard_normal(wide).astype(np.float32), store, "conv")
    program = Program([Value("x", channels), Value("y", channels)], [0], [("y", 1)], [step], feed)
    program.validate()
    return program


def repeat_network(feed: Feed) -> Program:
    """Every pixel of three channels twice in each direction."""
    steps = [Step("Concat", (0, 0, 0, 0), 1), Step("DepthToSpace", (1,), 2, {"block": 2, "mode": 0})]
    program = Program([Value("x", 3), Value("wide", 12), Value("y", 3)], [0], [("y", 2)], steps, feed)
    program.validate()
    return program
