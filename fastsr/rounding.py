"""Rounding to 8 bits: the range of activations, the scales of weights, and the integers that weights become.

Activations are clipped where the squared error is smallest (Choukroun et al., ICCV Workshops 2019). Weights are rounded one input after another,
and those not rounded yet make up for the error of those that are, as far as what the convolution reads allows (Frantar et al., GPTQ, ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import ModelError
from .graph import Node
from .ops_pools import conv_pads

Array = np.ndarray
LEVELS = 255
"""Steps between the smallest and the largest uint8."""

MOST = 127
"""The largest magnitude of a quantised weight."""

SAMPLES = 16384
"""Windows of a convolution's input that its rounding looks at, about."""

DAMPING = 1e-3
"""Share of the mean variance that is added to each variance."""

SMALLEST = float(np.finfo(np.float32).tiny) * 1e6
"""The smallest scale of an activation: numbers closer together than this are taken as 0."""

_BINS = 8192
_ROUNDS = 3
_RANGES = np.linspace(0.08, 1.0, 70)
_WEIGHT_RANGES = np.linspace(0.5, 1.0, 26)


def activation_range(values: Sequence[Array]) -> tuple[np.float32, int]:
    """Scale and uint8 zero point for numbers like these, where the mean squared error of clipping and rounding is smallest. Zero stays exact."""
    low = min(0.0, *(float(a.min()) for a in values))
    high = max(0.0, *(float(a.max()) for a in values))
    if not np.isfinite([low, high]).all():
        raise ModelError("the network makes numbers that are not finite of the calibration pictures")
    if high - low < SMALLEST:
        return np.float32(1), 0
    counts = np.zeros(_BINS)
    for a in values:
        counts += np.histogram(a, _BINS, (low, high))[0]
    centres = low + (np.arange(_BINS) + 0.5) * ((high - low) / _BINS)
    centres, counts = centres[counts > 0], counts[counts > 0]
    best = (low, high)
    for _ in range(_ROUNDS):
        before = best
        best = _least(centres, counts, np.full(len(_RANGES), best[0]), high * _RANGES)
        best = _least(centres, counts, low * _RANGES, np.full(len(_RANGES), best[1]))
        if best == before:
            break
    return _grid(*best)


def _grid(low: float, high: float) -> tuple[np.float32, int]:
    scale = np.float32(max((high - low) / LEVELS, SMALLEST))
    return scale, int(np.clip(np.rint(-low / scale), 0, LEVELS))


def _least(values: Array, counts: Array, lows: Array, highs: Array) -> tuple[float, float]:
    """The pair of bounds whose squared error is smallest."""
    errors = []
    for low, high in zip(lows, highs, strict=True):
        scale, zero = _grid(float(low), float(high))
        off = np.clip(np.rint(values / scale), -zero, LEVELS - zero) * scale - values
        errors.append(float(counts @ (off * off)))
    k = int(np.argmin(errors))
    return float(lows[k]), float(highs[k])


def windows(node: Node, shape: tuple[int, ...], arrays: Sequence[Array], group: int) -> Array:
    """What a convolution with weights of this shape multiplies them with: (about SAMPLES, channels / groups * kh * kw), float64, for one group.

    arrays: its input (N, C, H, W), several of them.
    """
    (sh, sw), (dh, dw) = node.attrs.get("strides", [1, 1]), node.attrs.get("dilations", [1, 1])
    _, channels, kh, kw = shape
    extent = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    found = []
    for a in arrays:
        top, left, bottom, right = conv_pads(node, a.shape[2:], (kh, kw))
        padded = np.pad(a[:, group * channels : (group + 1) * channels], ((0, 0), (0, 0), (top, bottom), (left, right)))
        view = np.lib.stride_tricks.sliding_window_view(padded, extent, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
        found.append(view.transpose(0, 2, 3, 1, 4, 5))
    total = sum(int(np.prod(v.shape[:3])) for v in found)
    every = max(total // SAMPLES, 1)
    rows = []
    for v in found:
        n, y, x = np.unravel_index(np.arange(every // 2, int(np.prod(v.shape[:3])), every), v.shape[:3])
        rows.append(v[n, y, x].reshape(len(n), -1).astype(np.float64))
    return np.concatenate(rows)


def round_weights(node: Node, w: Array, arrays: Sequence[Array], least: Array) -> tuple[Array, Array]:
    """Weights (K, C / groups, kh, kw) as whole numbers -127..127, and the scale of each output channel, at least `least`; both float32.

    arrays: what the convolution reads. The variance of the result's error is made small; its mean is the bias's business.
    """
    groups = int(node.attrs.get("group", 1))
    parts = np.split(w.astype(np.float64).reshape(len(w), -1), groups)
    floors = np.split(np.asarray(least, np.float64), groups)
    found = []
    for g, (part, floor) in enumerate(zip(parts, floors, strict=True)):
        x = windows(node, w.shape, arrays, g)
        x -= x.mean(axis=0)
        found.append(_rounded(part, x.T @ x / len(x), floor))
    integers, scales = (np.concatenate(p) for p in zip(*found, strict=True))
    return integers.reshape(w.shape).astype(np.float32), scales.astype(np.float32)


def weight_scales(w: Array, variances: Array, least: Array) -> Array:
    """One scale for each output channel of weights (K, n), where the squared error is smallest that rounding makes of inputs with these variances."""
    top = np.abs(w).max(axis=1) / MOST
    best, error = top.copy(), np.full(len(w), np.inf)
    for factor in _WEIGHT_RANGES:
        scale = np.maximum(top * factor, 1e-30)
        off = np.square(np.clip(np.rint(w / scale[:, None]), -MOST, MOST) * scale[:, None] - w) @ variances
        better = off < error
        best[better], error[better] = scale[better], off[better]
    best = np.maximum(best, least)
    return np.where(best < 1e-30, 1.0, best).astype(np.float32).astype(np.float64)


def _rounded(w: Array, covariance: Array, least: Array) -> tuple[Array, Array]:
    variances = np.diag(covariance) + max(DAMPING * float(np.mean(np.diag(covariance))), 1e-30)
    scales = weight_scales(w, variances, least)
    order = np.argsort(-variances, kind="stable")
    h = covariance[np.ix_(order, order)]
    h[np.diag_indices_from(h)] = variances[order]
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    left, integers = w[:, order], np.empty_like(w)
    for k in range(len(order)):
        q = np.clip(np.rint(left[:, k] / scales), -MOST, MOST)
        integers[:, order[k]] = q
        left[:, k + 1 :] -= ((left[:, k] - q * scales) / upper[k, k])[:, None] * upper[k, k + 1 :]
    return integers, scales
