"""Interpolation filters as networks: what a trained model has to beat. `fastsr.load("bicubic", scale=3)` runs them through the same engine.

| name | filter | same as |
|---|---|---|
| nearest | the nearest pixel | cv2.INTER_NEAREST_EXACT |
| bilinear | triangle | cv2.INTER_LINEAR |
| bicubic | Keys' cubic convolution (IEEE Trans. ASSP 29(6), 1981) with a = -0.75 | cv2.INTER_CUBIC; Pillow and MATLAB take a = -0.5 |
| lanczos | Lanczos window of 4 pixels, weights scaled to the sum 1; whole scales only | cv2.INTER_LANCZOS4 |
| area | the mean over the part of the picture that a pixel covers; whole scales only, where it is the pixel around | cv2.INTER_AREA |

The last column holds for whole scales. Pixel centres lie at half coordinates and pixels beyond the edge repeat it, as in OpenCV.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ModelError
from .graph import Feed, Graph, Input, Node

BASELINES = ("nearest", "bilinear", "bicubic", "lanczos", "area")

WHOLE = ("lanczos", "area")
"""Filters of whole scales only."""

MAX_SCALE = 16

_RESIZE: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.75},
    "area": {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
}


def is_baseline(name: str) -> bool:
    """True when `name` is one of `BASELINES`."""
    return name in BASELINES


def baseline_graph(name: str, scale: float = 2) -> Graph:
    """The filter `name` as a network of three BGR channels 0..255 that enlarges by `scale`, 1 to 16 (whole for those of `WHOLE`).

    Raises ModelError for an unknown name or a scale out of range.
    """
    if name not in BASELINES:
        raise ModelError(f"unknown filter '{name}': choose one of {', '.join(BASELINES)}")
    if not 1 <= scale <= MAX_SCALE:
        raise ModelError(f"scale {scale:g}: the filters enlarge by 1 to {MAX_SCALE}")
    graph = Graph(
        inputs=[Input("picture", 3)],
        outputs=["enlarged"],
        feed=Feed(colour="bgr", range=255.0, out_range=255.0),
        meta={"name": f"{name} x{scale:g}", "format": "baseline"},
    )
    if name in WHOLE and scale != int(scale):
        raise ModelError(f"scale {scale:g}: {name} enlarges by whole numbers only; nearest, bilinear and bicubic by any")
    if name == "lanczos":
        _lanczos(graph, int(scale))
    else:
        graph.constants["scales"] = np.array([1, 1, scale, scale], np.float64)
        attrs = {"coordinate_transformation_mode": "half_pixel", **_RESIZE[name]}
        graph.nodes.append(Node("Resize", ["picture", "", "scales"], ["enlarged"], attrs, name))
    graph.validate()
    return graph


def _lanczos(graph: Graph, scale: int) -> None:
    """Each of the scale x scale positions of an output pixel within an input pixel is a fixed 9x9 convolution; DepthToSpace interleaves them."""
    rows = np.stack([_lanczos_taps((k + 0.5) / scale - 0.5) for k in range(scale)])
    weight = np.einsum("yi,xj->yxij", rows, rows).reshape(scale * scale, 1, 9, 9)
    graph.constants |= {
        "pads": np.array([0, 0, 4, 4, 0, 0, 4, 4], np.int64),
        "weight": np.tile(weight, (3, 1, 1, 1)).astype(np.float32),
    }
    graph.nodes += [
        Node("Pad", ["picture", "pads"], ["padded"], {"mode": "edge"}, "edge"),
        Node("Conv", ["padded", "weight"], ["phases"], {"kernel_shape": [9, 9], "group": 3}, "lanczos"),
        Node("DepthToSpace", ["phases"], ["enlarged"], {"blocksize": scale, "mode": "CRD"}, "interleave"),
    ]


def _lanczos_taps(offset: float) -> np.ndarray:
    """Weights of the pixels -4..4 around a position `offset` (-0.5..0.5) away from pixel 0: sinc(x) sinc(x / 4), |x| < 4."""
    x = np.arange(-4, 5) - offset
    w = np.where(np.abs(x) < 4, np.sinc(x) * np.sinc(x / 4), 0.0)
    return w / w.sum()
