"""Which of several readings of the same weights is right: the one that enlarges a drawn picture best.

Weights do not say everything: activations without parameters, the range of pixels, strides of transposed convolutions. Each reading is a Graph; it is
run in NumPy on a small drawing that was made smaller (or noisy), and the result is compared with the drawing itself. Where no reading improves the
drawing, whose edges are sharper than those of photographs, soft shades tell: in the wrong range, or with other activations, not even these come out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import ops
from ..errors import FastsrError, ModelError, PictureError
from ..graph import Graph, Node

EDGES = {1: 24, 2: 24, 3: 20, 4: 16}
"""Scale -> pixels of the small picture's edge; 12 for larger scales."""

MAX_SCALE = 16

NOISE = 15 / 255
BORDER = 4
CLEAR = 0.3
"""dB by which a reading must be better than an earlier one: the order says what is usual."""

OTHER_TASK = 2.0
"""The same where one enlarges and the other denoises: sharpening with the wrong sign removes noise too. And where both enlarge by different scales,
as more is gained easily over larger pixels."""

LEAST = -3.0
"""dB that a reading must gain to be taken for another: less is the result of weights that were not trained, or not understood."""


WELL = 0.5
"""dB of gain from which on rare readings are not tried."""

FAR_CLEARER = 1.0
"""dB by which a reading that gains less than LEAST must be better than an earlier one."""

DOUBTFUL = 14.0
"""dB of PSNR: a reading whose result is farther from the drawing makes another picture than the one it is given. A grey one has 12."""

AT_BORDER = 1.0
"""dB by which another padding must make the border better."""

CLEANS = 4.0
"""dB by which a denoiser cleans shades. What sharpens, with the wrong sign, does not clean as much."""

TRUER = 1.0
"""dB of PSNR by which another reading must be better on shades than the one that the drawing tells."""

MAX_VALUES, MAX_COLUMNS = 1 << 26, 1 << 27
"""Numbers that all values together, and what a convolution multiplies with its weights, have at most while readings are compared."""

WORK = 1 << 37
"""Multiply-adds of a `Budget`: some seconds of one core."""
ELSEWHERE, CALL, INTEGERS = 256, 1 << 21, 16
"""What a number that another operator makes, of each pixel of a pool's window, counts as; each of the many matrix products of a convolution that is
no plain one; and a multiply-add of integers."""

FAILURES = (FastsrError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError)
"""What running a network raises that does not fit together."""


class Budget:
    """Multiply-adds that trying a network may still take, all runs together; once they are spent no run succeeds any more."""

    def __init__(self, left: float = WORK) -> None:
        self.left = left

    def spend(self, work: float) -> None:
        """Raise PictureError when there is less left."""
        self.left -= work
        if self.left < 0:
            raise PictureError("trying the network takes too long")


def best(graphs: Sequence[Graph]) -> Graph:
    """The reading that gains most PSNR over the interpolated (or noisy) picture; an earlier one unless a later one is clearly better.

    meta["scale"]: how many times the network enlarges; meta["task"] "denoise" has a noisy picture put in, else a small one; meta["rare"]: only tried
    where the readings before gain little; meta["border"]: the same as another reading with the same meta["reading"], but for padding, which only the
    border can tell; meta["told"]: the file's name tells the task; meta["placed"]: the tensors' names tell that the picture is enlarged there, which
    others must disprove by a gain. Where not even the best gains WELL, readings of the same task and scale are told apart by `shades`. Raises
    ModelError for an empty sequence. Warns (RuntimeWarning) when not even the best reading makes a picture like the drawing, or one that is no worse
    than what it is given, enlarged or noisy: a network that was not trained, or one that only has the same shapes.
    """
    if not graphs:
        raise ModelError("no reading of the weights fits")
    if len(graphs) == 1:
        return graphs[0]
    found = graphs[0]
    top, near, frame = judge(found)
    nearest = near
    judged = [(found, top, near, frame)]
    for graph in graphs[1:]:
        if graph.meta.get("border"):
            if top > WELL and graph.meta["reading"] == found.meta["reading"] and (clearer := judge(graph)[2]) > frame + AT_BORDER:
                found, frame = graph, clearer
            continue
        if graph.meta.get("rare") and top > WELL:
            continue
        same = _alike(graph, found)
        g, near, around = judge(graph)
        nearest = max(nearest, near)
        judged.append((graph, g, near, around))
        clear = g > LEAST or (near > DOUBTFUL and g > top + FAR_CLEARER)
        if graph.meta.get("rare") and (top > LEAST or not same) and g <= CLEAR:  # what hands its picture on gains over what makes it worse
            clear = False
        if found.meta.get("placed") and not graph.meta.get("placed") and g <= CLEAR:
            clear = False
        if clear and g > top + (CLEAR if same else _apart(found, graph, top, g)):
            found, top, frame = graph, g, around
    if top <= WELL:
        found, top, frame = _by_shades(judged, found)
    improves = found.feed.pre_scale > 1 or found.meta.get("task") == "denoise"  # a picture that is good enough to be taken for the result
    improves = improves or (bool(found.meta.get("placed")) and top < LEAST)
    if nearest < DOUBTFUL or (improves and top < 0):
        kind = "better" if improves else "similar"
        warnings.warn(
            f"the weights are taken for {found.meta['architecture']}, but in none of {len(graphs)} readings do they make a {kind} picture of the one "
            "they are given: they were not trained, or the network is another one of the same shapes. Export it to ONNX, which holds the network too",
            RuntimeWarning,
            stacklevel=2,
        )
    for name in ("rare", "reading", "border", "told", "placed"):
        found.meta.pop(name, None)
    return found


def gain(graph: Graph) -> float:
    """dB of PSNR by which the network's result is nearer to the drawing than the interpolated picture is; -inf where it does not run."""
    return judge(graph)[0]


def judge(graph: Graph, budget: Budget | None = None) -> tuple[float, float, float]:
    """The gain, the PSNR itself, and that of the border; -inf where the network does not run, or takes more work than is left."""
    made = _made(graph, drawing, budget)
    if made is None:
        return -math.inf, -math.inf, -math.inf
    whole, plain, y = made
    near = psnr(y, whole)
    d = (y - whole) ** 2
    frame = np.concatenate([part.ravel() for part in (d[..., :BORDER, :], d[..., -BORDER:, :], d[..., :BORDER], d[..., -BORDER:])])
    return near - psnr(np.clip(plain, 0, 1), whole), near, float(-10 * math.log10(max(float(frame.mean()), 1e-10)))


def shades(graph: Graph, budget: Budget | None = None) -> float:
    """dB of PSNR of the network's result to soft shades, which any network that was trained makes well; -inf as for `judge`."""
    made = _made(graph, soft, budget)
    return psnr(made[2], made[0]) if made else -math.inf


def _alike(a: Graph, b: Graph) -> bool:
    """Whether two readings have the same task and enlarge by the same scale, in the network or before it, and whether names tell where."""

    def kind(graph: Graph) -> tuple[str, bool, float]:
        return graph.meta.get("task", ""), bool(graph.meta.get("placed")), graph.feed.pre_scale * float(graph.meta.get("scale") or 1)

    return kind(a) == kind(b)


def _apart(found: Graph, graph: Graph, top: float, gain: float) -> float:
    """dB by which a reading of another task or scale must gain more than the one found, which gains top."""
    cleans = found.meta.get("task") == "denoise"
    if top < 0 and not found.meta.get("told"):
        if cleans:  # what makes noise worse is no denoiser
            return 0
        if gain > 0 and graph.meta.get("task") == "denoise" and shades(graph) > CLEANS - 20 * math.log10(NOISE):
            return CLEAR
    return OTHER_TASK


def _by_shades(judged: Sequence[tuple[Graph, float, float, float]], found: Graph) -> tuple[Graph, float, float]:
    """The reading like `found` that makes shades best, `found` itself unless that is clear; its gain, and the PSNR of its border."""
    others = [entry for entry in judged if entry[0] is not found and entry[2] > DOUBTFUL and _alike(entry[0], found)]
    _, top, _, frame = next(entry for entry in judged if entry[0] is found)
    most = shades(found) if others else 0
    for graph, gained, _, around in others:
        margin = 2 * TRUER if graph.meta.get("rare") else TRUER
        if (made := shades(graph)) > most + margin:
            found, top, frame, most = graph, gained, around, made
    return found, top, frame


def _made(
    graph: Graph, picture: Callable[[int, int], np.ndarray], budget: Budget | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The picture, what the network is given, enlarged if need be, and what it makes of it, in 0..1; None where it does not run.

    picture: makes one from its edge and channels.
    """
    feed = graph.feed
    try:
        channels = graph.inputs[0].channels
        scale = feed.pre_scale * int(graph.meta["scale"]) if graph.meta.get("task") != "denoise" else 1
        if channels not in (1, 3) or feed.colour == "raw" or not 1 <= scale <= MAX_SCALE:
            return None
        whole = picture(EDGES.get(scale, 12) * scale, channels)
        if graph.meta.get("task") == "denoise":
            plain = given = whole + NOISE * _noise(whole.shape)
        else:
            small = resample(whole, 1 / scale)
            plain = resample(small, scale)
            given = resample(small, feed.pre_scale) if feed.pre_scale > 1 else small
        x = given * feed.range - np.reshape(feed.mean or (0,), (1, -1, 1, 1))
        with np.errstate(all="ignore"):
            y = run(graph, x.astype(np.float32), budget)
        y = (y + np.reshape(feed.out_mean or (0,), (1, -1, 1, 1))) / feed.out_range
    except FAILURES:
        return None
    return (whole, plain, np.clip(y, 0, 1)) if y.shape == whole.shape and np.isfinite(y).all() else None


def run(graph: Graph, x: np.ndarray, budget: Budget | None = None) -> np.ndarray:
    """`ops.run_graph`, with one matrix product for each plain convolution: many times faster on small pictures.

    Raises one of FAILURES where the network does not run, or would take absurdly much memory, or more work than is left.
    """
    budget = budget or Budget(math.inf)
    result = graph.outputs[0]
    last = {name: k for k, node in enumerate(graph.nodes) for name in node.inputs}
    values, held = {graph.inputs[0].name: x}, x.size
    for k, node in enumerate(graph.nodes):
        arrays = [(values[i] if i in values else graph.constants[i]) if i else None for i in node.inputs]
        plain = node.op == "Conv" and set(node.attrs.get("strides", [1]) + node.attrs.get("dilations", [1]) + [node.attrs.get("group", 1)]) == {1}
        if not plain and held + _growth(node, arrays) * arrays[0].size > MAX_VALUES:  # type: ignore[union-attr]
            raise PictureError("the network enlarges without end")
        budget.spend(_work(node, arrays, plain))
        results = [_conv(node, *arrays)] if plain else ops.run_node(node, arrays)
        values.update(zip(node.outputs, results, strict=True))
        held += sum(r.size for r in results)
        if held > MAX_VALUES:
            raise PictureError("the network keeps too many values")
        for name in {*node.inputs, *node.outputs}:
            if name in values and name != result and last.get(name, -1) <= k:
                held -= values.pop(name).size
    return values[result] if result in values else graph.constants[result]


def _work(node: Node, arrays: Sequence[np.ndarray | None], plain: bool) -> float:
    """About how many multiply-adds an operator takes as long as."""
    x = arrays[0]
    size = _growth(node, arrays) * (x.size if x is not None else 1)
    w = next((a for a in arrays[1:] if a is not None and a.ndim == 4), None) if "Conv" in node.op else None
    if w is None or x is None or x.ndim != 4:
        return ELSEWHERE * size * math.prod(node.attrs.get("kernel_shape", [1]))
    pixels = math.prod(x.shape[2:]) * (_growth(node, arrays) if node.op == "Conv" else 1)
    products = float(w.size * pixels / (math.prod(node.attrs.get("strides", [1])) if node.op == "Conv" else 1))
    calls = 0 if plain else node.attrs.get("group", 1) * math.prod(w.shape[2:])
    return products * (1 if node.op in ("Conv", "ConvTranspose") else INTEGERS) + CALL * calls


def _growth(node: Node, arrays: Sequence[np.ndarray | None]) -> float:
    """How many times more numbers than it reads an operator makes of a picture, at most."""
    x = arrays[0]
    if node.op == "ConvTranspose":
        return math.prod(node.attrs["strides"])
    if x is None or x.ndim != 4 or not x.size:
        return 1
    if node.op == "Resize" and len(arrays) > 3 and arrays[3] is not None:
        return arrays[3].shape[2] * arrays[3].shape[3] / (x.shape[2] * x.shape[3])
    if node.op == "Resize" and len(arrays) > 2 and arrays[2] is not None:
        return float(np.prod(arrays[2], dtype=np.float64))
    if node.op == "Pad" and arrays[1] is not None and arrays[1].size == 8:
        return math.prod(1 + max(int(arrays[1][k] + arrays[1][k + 4]), 0) / x.shape[k] for k in (2, 3))
    if node.op == "Conv" and (pads := node.attrs.get("pads")):
        return math.prod(1 + (pads[k] + pads[k + 2]) / x.shape[2 + k] for k in (0, 1))
    return 1


def _conv(node: Node, x: Any, w: Any, b: Any = None) -> np.ndarray:
    top, left, bottom, right = node.attrs.get("pads", [0, 0, 0, 0])
    k, c, kh, kw = w.shape
    x = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    h, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    if h < 1 or width < 1:
        raise PictureError("the picture is too small")
    if c * kh * kw * h * width > MAX_COLUMNS:
        raise PictureError("the network is too wide")
    columns = np.lib.stride_tricks.sliding_window_view(x, (h, width), (1, 2)).reshape(-1, h * width)
    out = (w.reshape(k, -1) @ columns).reshape(1, k, h, width)
    return out if b is None else out + b.reshape(1, -1, 1, 1)


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
def soft(edge: int, channels: int) -> np.ndarray:
    """A picture (1, channels, edge, edge) in 0..1 of waves, the weaker the shorter, dark to bright, with little colour: as soft as photographs."""
    y, x = (np.mgrid[0:edge, 0:edge] + 0.5) / edge
    rng = np.random.default_rng(0)

    def waves(most: int, slope: float) -> np.ndarray:
        p = np.zeros_like(x)
        for u in range(most + 1):
            for v in range(-most, most + 1):
                if 0 < (r := math.hypot(u, v)) <= most:
                    p += rng.normal() * r**-slope * np.cos(2 * np.pi * (u * x + v * y + rng.random()))
        return (p - p.min()) / (p.max() - p.min())

    light, warm, green = 0.04 + 0.92 * waves(6, 1.7), 0.2 * waves(3, 1) - 0.1, 0.2 * waves(3, 1) - 0.1
    planes = [light + warm, light - 0.5 * warm + 0.3 * green, light - green] if channels == 3 else [light] * channels
    return np.clip(np.stack(planes)[None], 0, 1)


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
