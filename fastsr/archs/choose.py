"""Which of several readings of the same weights is right: the one that enlarges a drawn picture best.

Weights do not say everything: activations without parameters, the range of pixels, strides of transposed convolutions. Each reading is a Graph; it is
run in NumPy on a small drawing that was made smaller (or noisy), and the result is compared with the drawing itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from .. import ops
from ..errors import FastsrError, ModelError
from ..graph import Graph

EDGES = {1: 24, 2: 24, 3: 20, 4: 16}
"""Scale -> pixels of the small picture's edge; 12 for larger scales."""

NOISE = 15 / 255
BORDER = 4
CLEAR = 0.3
"""dB by which a reading must be better than an earlier one: the order says what is usual."""

OTHER_TASK = 2.0
"""The same where one enlarges and the other denoises: sharpening with the wrong sign removes noise too."""

LEAST = -3.0
"""dB that a reading must gain to be taken for another: less is the result of weights that were not trained, or not understood."""


def best(graphs: Sequence[Graph]) -> Graph:
    """The reading that gains most PSNR over the interpolated (or noisy) picture; an earlier one unless a later one is clearly better.

    meta["scale"]: how many times the network enlarges; meta["task"] "denoise" has a noisy picture put in, else a small one. Raises ModelError for an
    empty sequence.
    """
    if not graphs:
        raise ModelError("no reading of the weights fits")
    if len(graphs) == 1:
        return graphs[0]
    found = graphs[0]
    top = gain(found)
    for graph in graphs[1:]:
        same = graph.meta.get("task", "") == found.meta.get("task", "")
        g = gain(graph)
        if g > LEAST and g > top + (CLEAR if same else OTHER_TASK):
            found, top = graph, g
    return found


def gain(graph: Graph) -> float:
    """dB of PSNR by which the network's result is nearer to the drawing than the interpolated picture is; -inf where it does not run."""
    channels = graph.inputs[0].channels
    if channels not in (1, 3) or graph.feed.colour == "raw":
        return -math.inf
    feed = graph.feed
    try:
        scale = feed.pre_scale * int(graph.meta["scale"]) if graph.meta.get("task") != "denoise" else 1
        whole = drawing(EDGES.get(scale, 12) * scale, channels)
        if graph.meta.get("task") == "denoise":
            plain = given = whole + NOISE * _noise(whole.shape)
        else:
            small = resample(whole, 1 / scale)
            plain = resample(small, scale)
            given = resample(small, feed.pre_scale) if feed.pre_scale > 1 else small
        x = given * feed.range - np.reshape(feed.mean or (0,), (1, -1, 1, 1))
        with np.errstate(all="ignore"):
            y = ops.run_graph(graph, {graph.inputs[0].name: x.astype(np.float32)})[graph.outputs[0]]
        y = (y + np.reshape(feed.out_mean or (0,), (1, -1, 1, 1))) / feed.out_range
    except FastsrError:
        return -math.inf
    if y.shape != whole.shape or not np.isfinite(y).all():
        return -math.inf
    return psnr(np.clip(y, 0, 1), whole) - psnr(np.clip(plain, 0, 1), whole)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of pictures in 0..1, without their borders."""
    d = (a - b)[..., BORDER:-BORDER, BORDER:-BORDER].astype(np.float64)
    return float(-10 * math.log10(max(float(np.mean(d * d)), 1e-10)))


@cache
def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


@cache
def drawing(edge: int, channels: int) -> np.ndarray:
    """A picture (1, channels, edge, edge) in 0..1 of discs, bars and shades, its edges as sharp as pixels allow."""
    y, x = (np.mgrid[0:edge, 0:edge] + 0.5) * (24 / edge)
    sharp = edge / 24

    def step(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + sharp * distance, 0, 1)

    planes = []
    for k in range(channels):
        p = 0.35 + 0.25 * np.sin(0.21 * x + k) * np.cos(0.17 * y - k)
        for cx, cy, r, level in ((7 + k, 8, 4.6, 0.95), (17, 16 - k, 5.3, 0.12), (7.3, 18.2, 2.9, 0.7)):
            p += (level - p) * step(r - np.hypot(x - cx, y - cy))
        bar = step(1.1 - np.abs(0.8 * (x - 14) + 0.6 * (y - 6 - k)))
        p += (0.9 - p) * bar
        bar = step(0.8 - np.abs((x - 20) - 0.3 * (y - 5)))
        p += (0.05 - p) * bar
        planes.append(p)
    return np.stack(planes)[None]


@cache
def _filter(n: int, scale: float) -> np.ndarray:
    """(out, n) weights of the bicubic filter with a = -0.5, widened when it makes a picture smaller, the edge pixel repeated."""
    out = round(n * scale)
    wide = max(1.0, 1 / scale)
    centre = (np.arange(out) + 0.5) / scale - 0.5
    weights = np.zeros((out, n))
    for i, c in enumerate(centre):
        taps = np.arange(math.ceil(c - 2 * wide), math.floor(c + 2 * wide) + 1)
        t = np.abs(taps - c) / wide
        w = np.where(t <= 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))
        np.add.at(weights[i], np.clip(taps, 0, n - 1), w / w.sum())
    return weights


def resample(x: np.ndarray, scale: float) -> np.ndarray:
    """The picture made larger or smaller by the bicubic filter of the literature (a = -0.5, antialiased)."""
    return np.einsum("yi,ncij,xj->ncyx", _filter(x.shape[2], scale), x, _filter(x.shape[3], scale), optimize=True)
