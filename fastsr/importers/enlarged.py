"""By how much pictures are enlarged before a network that keeps their size: SRCNN and VDSR say nothing about it, and denoisers look the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ..archs import choose
from ..archs.weights import Weights
from ..graph import Graph

RESIZES = ("DepthToSpace", "SpaceToDepth", "ConvTranspose", "Resize", "Upsample", "Pad", "MaxPool", "AveragePool", "Reshape")
MAX_NODES = 400
MAX_WEIGHTS = 8 << 20
"""Numbers: a larger network takes too long to be tried."""

SCALES = (2, 3, 4)

USEFUL = 0.1
"""dB that a network must gain."""

CLEANS = re.compile(r"(?i)denois|dncnn|clean|deblock|deblur|artifact|restor|enhanc|colou?ris|colou?riz")
"""Names of networks for pictures as they are."""


def set_pre_scale(graph: Graph, path: Path) -> None:
    """Set `Feed.pre_scale` of a network that keeps its pictures' size, where the file says nothing about it.

    The scale that the file's name tells is taken, else the one at which the network improves a drawing enlarged by the bicubic filter most. A network
    that improves none, or removes noise better, keeps 1.
    """
    feed = graph.feed
    if feed.colour == "raw" or feed.pre_scale != 1 or CLEANS.search(path.stem) or not _keeps_size(graph):
        return
    hint = Weights({}, path.stem).scale_hint()
    gains = {scale: _gain(graph, scale) for scale in ([hint] if hint > 1 else SCALES)}
    scale = max(gains, key=lambda s: gains[s])
    if gains[scale] > (choose.LEAST if hint > 1 else USEFUL) and gains[scale] > _gain(graph, 1) - choose.OTHER_TASK:
        graph.feed = replace(feed, pre_scale=scale)


def _keeps_size(graph: Graph) -> bool:
    """Whether the network surely does: only convolutions that are padded, and operators without a size."""
    if len(graph.nodes) > MAX_NODES or sum(c.size for c in graph.constants.values()) > MAX_WEIGHTS:
        return False
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


def _gain(graph: Graph, scale: int) -> float:
    """What the network gains on a picture enlarged by so much; by 1: on a noisy one."""
    meta = {"scale": 1, "task": "denoise" if scale == 1 else "enlarge"}
    return choose.gain(replace(graph, feed=replace(graph.feed, pre_scale=scale), meta=meta))
