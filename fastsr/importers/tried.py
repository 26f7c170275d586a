"""What a network's file does not say about its pictures, tried on a drawing: their range, and by how much they are enlarged before it.

SRCNN and VDSR keep a picture's size and say nothing about its enlargement, and denoisers look the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..archs import choose
from ..archs.parts import DIV2K
from ..archs.weights import Weights
from ..graph import Feed, Graph

RESIZES = ("DepthToSpace", "SpaceToDepth", "ConvTranspose", "Resize", "Upsample", "Pad", "MaxPool", "AveragePool", "Reshape")
MAX_NODES = 400
MAX_WEIGHTS = 8 << 20
"""Numbers: a larger network takes too long to be tried."""

SCALES = (2, 3, 4)
EDGES = (12, 24)
"""Pixels of the picture that shows how much larger a network makes it; the larger one where the network does not take the smaller."""

USEFUL = 0.1
"""dB that a network must gain."""
WORTH = 0.5
"""The same for a network that is no plain chain of convolutions, as one that restores pictures is likelier then."""
FARTHER = 6.0
"""dB by which another range must be better than the guessed one."""
LIKE = 18.0
"""dB of PSNR to the drawing that another range than the guessed one must reach."""
LIKE_SHADES = 30.0
"""The same of soft shades, where the drawing tells nothing; no other range than one in which they come out so is tried."""

WANTS = re.compile(r"srcnn|vdsr|\bsr\b|super|upscal|edsr|waifu", re.IGNORECASE)
CLEANS = re.compile(
    r"(?i)denois|dncnn|clean|deblock|deblur|artifact|restor|enhanc|colou?ris|colou?riz|sharp|derain|dehaze|autoencod|(?<![a-z0-9])(x1|1x)(?![a-z0-9])"
)
"""Names of networks for pictures as they are."""
BUILT = re.compile(r"(?i)autoencod")
"""A name that says how a network is built: a scale beside it counts."""


def settle(graph: Graph, path: Path) -> None:
    """Set what the file of a network leaves open in `graph.feed`. Takes what importers noted for this in `graph.meta` away.

    "open": whether the range of the input and of the result are guesses; "called": a name besides the file's; "same size": known to keep it.
    """
    begins, ends = graph.meta.pop("open", (False, False))
    names = f"{path.stem} {graph.meta.pop('called', '')}".strip()
    same, plain = bool(graph.meta.pop("same size", False)), _keeps_size(graph)
    if graph.feed.colour == "raw":
        return
    budget = choose.Budget()
    by = _factor(graph, budget) if _may_be_tried(graph) else 0
    if (begins or ends) and by:
        _set_range(graph, names, begins, ends, by, budget)
    if (same or plain or by == 1) and graph.feed.pre_scale == 1:
        _set_pre_scale(graph, names, USEFUL if plain else WORTH)


# ---- the range of pixels -------------------------------------------------------------------------------------------------------------------------


def _set_range(graph: Graph, names: str, begins: bool, ends: bool, by: int, budget: choose.Budget) -> None:
    """Another range of pixels, where with the guessed one the result is far from the picture that it is given, and with the other it is not.

    Of large networks only the usual ranges are tried, as far as the budget reaches. Where shades come out about right, these are one for both ends.
    """
    gain, near = _judged(graph, graph.feed, by, names, budget)
    if gain > choose.WELL or (made := _shades(graph, graph.feed, by, names, budget)) > LIKE_SHADES:
        return
    others = list(_ranges(graph.feed, begins, ends))
    if made > LIKE:
        others = [f for f in others if (f.range, f.mean) == (f.out_range, f.out_mean)]
    if gain > choose.LEAST or not _told(graph, others, by, names, gain, budget):
        _by_shades(graph, others, by, names, near, made, budget)


def _told(graph: Graph, others: Sequence[Feed], by: int, names: str, gain: float, budget: choose.Budget) -> bool:
    """Whether the drawing tells another range than that with this gain; then it is taken."""
    top, found = max(choose.LEAST, gain + FARTHER) - choose.CLEAR, graph.feed
    for feed in others:
        gain, near = _judged(graph, feed, by, names, budget)
        if gain > top + choose.CLEAR and near > LIKE:
            found, top = feed, gain
    told, graph.feed = found is not graph.feed, found
    return told


def _by_shades(graph: Graph, others: Sequence[Feed], by: int, names: str, near: float, made: float, budget: choose.Budget) -> None:
    """Another range in which soft shades come out far better than `made`, and the drawing no worse than `near` it."""
    top, found = max(made + FARTHER, LIKE_SHADES) - choose.TRUER, graph.feed
    for feed in others:
        if (made := _shades(graph, feed, by, names, budget)) > top + choose.TRUER and _judged(graph, feed, by, names, budget)[1] > max(near, LIKE):
            found, top = feed, made
    graph.feed = found


def _shades(graph: Graph, feed: Feed, by: int, names: str, budget: choose.Budget) -> float:
    """`choose.shades` with pictures in this range."""
    pre = (Weights({}, names).scale_hint() or SCALES[0]) if by == 1 else 1
    return choose.shades(replace(graph, feed=replace(feed, pre_scale=pre), meta={"scale": by}), budget)


def _ranges(feed: Feed, begins: bool, ends: bool) -> Iterator[Feed]:
    """Other ranges in which pictures are fed, the usual first."""
    n = 3 if feed.colour in ("rgb", "bgr") else 1
    colours = DIV2K[::-1] if feed.colour == "bgr" else DIV2K
    plain = [(255.0, ()), (1.0, ()), (2.0, (1.0,) * n), (255.0, (127.5,) * n)]
    shifted = [(top, tuple(m * top for m in colours)) for top in (255.0, 1.0)] if n == 3 else []
    pairs = [(a, a) for a in plain + shifted] + [(a, b) for a in plain + shifted for b in plain[:3] if a != b]
    seen = {(feed.range, feed.mean, feed.out_range, feed.out_mean)}
    for (top, mean), (out, out_mean) in pairs:
        a = (top, mean) if begins else (feed.range, feed.mean)
        b = (out, out_mean) if ends else (feed.out_range, feed.out_mean)
        if (*a, *b) not in seen:
            seen.add((*a, *b))
            yield replace(feed, range=a[0], mean=a[1], out_range=b[0], out_mean=b[1])


def _factor(graph: Graph, budget: choose.Budget) -> int:
    """How many times larger the network makes a picture; 0 where it does not run, or the factor is not whole."""
    for edge in EDGES:
        x = np.full((1, graph.inputs[0].channels, edge, edge), 0.5, np.float32)
        try:
            with np.errstate(all="ignore"):
                height, width = choose.run(graph, x, budget).shape[2:]
        except choose.FAILURES:
            continue
        if height == width and height % edge == 0 and 0 < height <= choose.MAX_SCALE * edge:
            return int(height) // edge
    return 0


def _judged(graph: Graph, feed: Feed, by: int, names: str, budget: choose.Budget) -> tuple[float, float]:
    """The gain, and the PSNR; of a network that keeps the size at the scale at which it is best, down to a noisy picture."""
    if by > 1:
        return choose.judge(replace(graph, feed=feed, meta={"scale": by}), budget)[:2]
    hint = Weights({}, names).scale_hint()
    return max(_at(graph, feed, scale, budget) for scale in ([hint] if hint > 1 else [*SCALES, 1]))


def _at(graph: Graph, feed: Feed, scale: int, budget: choose.Budget) -> tuple[float, float]:
    """What a network that keeps the size makes of a picture enlarged by so much; by 1: of a noisy one."""
    meta = {"scale": 1, "task": "denoise" if scale == 1 else "enlarge"}
    return choose.judge(replace(graph, feed=replace(feed, pre_scale=scale), meta=meta), budget)[:2]


# ---- enlargement before ----------------------------------------------------------------------------------------------------------------------------


def _set_pre_scale(graph: Graph, names: str, useful: float) -> None:
    """`Feed.pre_scale` of a network that keeps its pictures' size.

    The scale that a name tells is taken, else the one at which the network improves a drawing enlarged by the bicubic filter most. A network that
    removes noise better keeps 1. Where trying tells nothing, the names and the shape of an SRCNN count.
    """
    hint = Weights({}, names).scale_hint()
    if CLEANS.search(names) and not (hint > 1 and BUILT.search(names)):
        return
    likely = hint > 1 or bool(WANTS.search(names)) or _like_srcnn(graph)
    scale = hint if hint > 1 else 2 if likely else 1
    if _may_be_tried(graph):
        budget = choose.Budget()
        gains = {s: _at(graph, graph.feed, s, budget)[0] for s in ([hint] if hint > 1 else SCALES)}
        best, noisy = max(gains, key=lambda s: gains[s]), _at(graph, graph.feed, 1, budget)[0]
        if budget.left < 0:
            pass
        elif noisy > choose.LEAST and gains[best] <= noisy - choose.OTHER_TASK:
            scale = 1
        elif gains[best] > useful:
            scale = best
    graph.feed = replace(graph.feed, pre_scale=scale)


def _like_srcnn(graph: Graph) -> bool:
    """At most five convolutions, the first kernel 9x9."""
    kernels = [w.shape[-1] for n in graph.nodes if n.op == "Conv" and (w := graph.const(n.inputs[1])) is not None]
    return 0 < len(kernels) <= 5 and kernels[0] == 9


def _may_be_tried(graph: Graph) -> bool:
    return len(graph.inputs) == 1 and len(graph.nodes) <= MAX_NODES and sum(c.size for c in graph.constants.values()) <= MAX_WEIGHTS


def _keeps_size(graph: Graph) -> bool:
    """Whether the network surely does: only convolutions that are padded, and operators without a size."""
    convs = [n for n in graph.nodes if n.op == "Conv"]
    return bool(convs) and not any(n.op in RESIZES for n in graph.nodes) and all(_padded(graph, n.inputs[1], n.attrs) for n in convs)


def _padded(graph: Graph, weight: str, attrs: dict[str, object]) -> bool:
    w = graph.const(weight)
    strides, dilations, pads = (list(attrs.get(k, d)) for k, d in (("strides", [1, 1]), ("dilations", [1, 1]), ("pads", [0] * 4)))  # type: ignore[call-overload]
    if w is None or w.ndim != 4 or strides != [1, 1] or len(pads) != 4:
        return False
    if attrs.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return True
    return all(pads[k] + pads[k + 2] == dilations[k] * (w.shape[2 + k] - 1) for k in (0, 1))
