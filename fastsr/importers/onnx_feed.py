"""How a picture is fed to a network in an ONNX file: what its metadata says, else what its channels, first and last operators suggest."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ModelError
from ..graph import Feed
from .feed import divided, left_open, multiplied
from .onnx_context import Context

KEYS = ("colour", "range", "mean", "out_range", "out_mean", "pre_scale", "fine")
PREFIX = "fastsr."
PIXEL_FORMATS = {"Gray8": "y", "Rgb8": "rgb", "Bgr8": "bgr"}
PIXEL_RANGES = {"NominalRange_0_255": (255.0, 0.0), "Normalized_0_1": (1.0, 0.0), "Normalized_1_1": (2.0, 1.0)}
"""Image.NominalPixelRange of ONNX's metadata -> (range, mean)."""


def guess_feed(ctx: Context, channels: tuple[int, int], whole: bool, metadata: dict[str, str]) -> Feed:
    """One channel in and out: Y. Three: RGB. Else "raw". Values are 0..1, or 0..255 where the input is of integers or the network begins by dividing
    by 255, and in the result where it ends by multiplying by 255. ONNX's own `Image.*` metadata and fastsr's `fastsr.*` have precedence.

    channels: of the first input and the default output. whole: the input is uint8.
    """
    graph = ctx.graph
    given = {k: metadata[PREFIX + k] for k in KEYS if PREFIX + k in metadata}
    if len(graph.inputs) != 1 or channels[0] not in (1, 3) or channels[0] != channels[1]:
        return _given(Feed(), given, channels)
    source = graph.inputs[0]
    colour = PIXEL_FORMATS.get(metadata.get("Image.BitmapPixelFormat", ""), "")
    if {"y": 1, "bgr": 3, "rgb": 3}.get(colour) != source.channels:
        colour = "y" if source.channels == 1 else "rgb"
    scale, mean = 255.0 if whole or divided(graph, source.name) else 1.0, 0.0
    if metadata.get("Image.NominalPixelRange", "") in PIXEL_RANGES:
        scale, mean = PIXEL_RANGES[metadata["Image.NominalPixelRange"]]
    said = metadata.get("Image.NominalPixelRange", "") in PIXEL_RANGES
    means = (mean,) * source.channels if mean else ()
    out = scale if mean else 255.0 if multiplied(graph, graph.outputs[0]) else 1.0
    left_open(graph, scale == 1.0 and not said, out == 1.0)
    return _given(Feed(colour, scale, means, out, means), given, channels)


def _given(feed: Feed, given: dict[str, str], channels: tuple[int, int]) -> Feed:
    """The feed with what the metadata says in place of what was deduced."""
    if not given:
        return feed
    try:
        values: dict[str, Any] = {k: float(v) for k, v in given.items() if k in ("range", "out_range")}
        values |= {k: tuple(float(n) for n in v.split(",") if n.strip()) for k, v in given.items() if k in ("mean", "out_mean")}
        values |= {k: int(v) for k, v in given.items() if k == "pre_scale"}
        values |= {k: v for k, v in given.items() if k == "colour"}
        if given.get("fine", "false") not in ("true", "false"):
            raise ValueError("fine is true or false")
        values |= {k: v == "true" for k, v in given.items() if k == "fine"}
        numbers = [n for v in values.values() for n in (v if isinstance(v, tuple) else [v]) if not isinstance(n, str)]
        if not all(math.isfinite(n) for n in numbers):
            raise ValueError("numbers must be finite")
    except (ValueError, OverflowError) as e:
        raise ModelError(f"its metadata does not say properly how pictures are fed ({e}): see the keys that begin with '{PREFIX}'") from None
    return Feed(**{**{k: getattr(feed, k) for k in KEYS}, **values})
