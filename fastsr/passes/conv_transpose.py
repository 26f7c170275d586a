"""Turn a transposed convolution into an ordinary convolution followed by DepthToSpace: the sub-pixel form, exact up to the borders.

One axis, stride s, kernel w of k taps (a dilated kernel is one with zeros between its taps), pads p and p', output padding e. By definition
    full[t] = sum over i of x[i] w[t - s i],        y[o] = full[o + p],        o < n_out = s (n - 1) + k + e - p - p'.
Write o = s q + r with the phase r in 0..s-1, and i = q + j. Then t - s i = r + p - s j, so
    y[s q + r] = sum over j of x[q + j] w[r + p - s j],
an ordinary convolution for each phase. Tap j exists for phase r when 0 <= r + p - s j < k; over all phases j runs from ceil((p - k + 1) / s) to
floor((s - 1 + p) / s). Every phase gets this common range, with zeros where a tap does not exist; x outside 0..n-1 is zero in both forms.
The convolution must give ceil(n_out / s) = n - 1 + ceil((k + e - p - p') / s) positions, which fixes its pads for every n. Where a pad would be
negative the tap range or the number of positions is extended instead, and surplus pixels at the right and bottom are cropped by a negative Pad.

The phases may also be counted from d pixels before the first output pixel (p - d in place of p, and d more pixels to crop at the top and left). With
k = 4, s = 2, p = 1 the plain form needs 3 taps an axis and d = 1 only 2. This is done where it saves more arithmetic than the cropping costs.

Phases become channels in CRD order (channel c of phase (ry, rx) is c s s + ry s + rx), which keeps the output channels of a group together, so
grouped transposed convolutions become grouped convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Node
from .pattern import conv_geometry, pair

Array = np.ndarray


def run(graph: Graph) -> bool:
    """Rewrite every ConvTranspose with constant weights and equal strides. Those with `output_shape` or `auto_pad`, whose pads depend on the
    picture's size, stay."""
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        new = _rewrite(graph, node) if node.op == "ConvTranspose" else None
        nodes.extend(new or [node])
        changed |= new is not None
    graph.nodes = nodes
    return changed


MAX_WEIGHTS = 1 << 27
"""Numbers that the convolution may have."""

CROP_COST = 64
"""Multiplications per output element that cropping may cost at most: it is one more pass over the picture."""


@dataclass(frozen=True)
class _Axis:
    """taps[r, m]: index into the dilated kernel for phase r and tap m, -1 for none; convolution pads; surplus output pixels at both ends."""

    taps: Array
    before: int
    after: int
    crop: tuple[int, int]

    @property
    def count(self) -> int:
        return int(self.taps.shape[1])


def _axis(k: int, s: int, p: int, q: int, e: int, d: int = 0) -> _Axis:
    p -= d
    low = min(math.ceil((p - k + 1) / s), 0)
    high = max((s - 1 + p) // s, low)
    positions = math.ceil((k + e - p - q) / s) - 1  # minus n
    after = max(high + positions, 0)
    j = np.arange(low, high + 1)
    taps = np.arange(s)[:, None] + p - s * j[None, :]
    made = s * (after - high)
    return _Axis(np.where((taps >= 0) & (taps < k), taps, -1), -low, after, (d, made - (k + e - p - q - s)))


def _axes(sizes: tuple[int, int], s: int, pads: tuple[int, int, int, int], extra: tuple[int, int], cin: int) -> tuple[_Axis, _Axis]:
    """Rows and columns, with the phases counted from where the whole costs least."""
    plain = [_axis(sizes[a], s, pads[a], pads[a + 2], extra[a]) for a in (0, 1)]
    short = [min((_axis(sizes[a], s, pads[a], pads[a + 2], extra[a], d) for d in range(s)), key=lambda axis: axis.count) for a in (0, 1)]
    saved = cin * (plain[0].count * plain[1].count - short[0].count * short[1].count)
    rows, cols = short if saved > CROP_COST else plain
    return rows, cols


def _check_size(node: Node, channels: int, kernel: tuple[int, int], s: int, pads: tuple[int, int, int, int]) -> None:
    """Raise ModelError where the dilated kernel or that of all phases would be absurdly large."""
    taps = [s * (2 + (k + pads[a] + pads[a + 2]) // s) for a, k in enumerate(kernel)]
    if channels * max(kernel[0] * kernel[1], taps[0] * taps[1]) > MAX_WEIGHTS:
        raise ModelError(
            f"node '{node.name}' (ConvTranspose) has the stride {s}, a kernel of {kernel[0]}x{kernel[1]} and the pads {list(pads)}, which ask for "
            "absurd memory: damaged file"
        )


def _rewrite(graph: Graph, node: Node) -> list[Node] | None:
    weight = graph.const(node.inputs[1])
    (sh, sw), (dh, dw), (pt, pl, pb, pr), group = conv_geometry(node)
    if weight is None or sh != sw or "output_shape" in node.attrs or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    bias = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if len(node.inputs) > 2 and node.inputs[2] and bias is None:
        return None
    eh, ew = pair(node.attrs.get("output_padding"), 0)
    cin, kout, kh, kw = weight.shape
    _check_size(node, cin * kout, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), sh, (pt, pl, pb, pr))
    dilated = np.zeros((cin, kout, (kh - 1) * dh + 1, (kw - 1) * dw + 1), np.float32)
    dilated[:, :, ::dh, ::dw] = weight
    rows, cols = _axes((dilated.shape[2], dilated.shape[3]), sh, (pt, pl, pb, pr), (eh, ew), cin // group)
    # (cin, kout, sh, jh, sw, jw), then group by group (kout, sh, sw, cin / group, jh, jw).
    picked = np.pad(dilated, ((0, 0), (0, 0), (0, 1), (0, 1)))[:, :, rows.taps[:, :, None, None], cols.taps[None, None]]
    grouped = picked.reshape(group, cin // group, *picked.shape[1:]).transpose(0, 2, 3, 5, 1, 4, 6)
    conv_weight = np.ascontiguousarray(grouped.reshape(group * kout * sh * sw, cin // group, rows.taps.shape[1], cols.taps.shape[1]))

    inputs = [node.inputs[0], graph.add_const(node.output + "_weight", conv_weight)]
    if bias is not None:
        inputs.append(graph.add_const(node.output + "_bias", np.repeat(bias.astype(np.float32), sh * sw)))
    crop = any((*rows.crop, *cols.crop))
    shuffled = graph.fresh(node.output + "_uncropped") if crop else node.output
    phases = graph.fresh(node.output + "_phases") if sh > 1 else shuffled
    attrs = {"pads": [rows.before, cols.before, rows.after, cols.after], "group": group}
    nodes = [Node("Conv", inputs, [phases], attrs, node.name)]
    if sh > 1:
        nodes.append(Node("DepthToSpace", [phases], [shuffled], {"blocksize": sh, "mode": "CRD"}, node.name))
    if crop:
        pads = graph.add_const(node.output + "_crop", -np.array([0, 0, rows.crop[0], cols.crop[0], 0, 0, rows.crop[1], cols.crop[1]], np.int64))
        nodes.append(Node("Pad", [shuffled, pads], [node.output], {"mode": "constant"}, node.name))
    return nodes
