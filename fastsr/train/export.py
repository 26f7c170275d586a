"""From a trained network to files that `fastsr.load` reads, checked against PyTorch's own result."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import archs, fsr, importers, lower, passes
from ..archs.weights import Weights
from ..atomic import write_atomically
from ..errors import FastsrError, ModelError
from ..graph import Graph
from ..model import Model
from ..program import Program
from .networks import Network

TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
"""Largest difference between the engine's result and PyTorch's, in units of white; the second for weights rounded to 16 bits."""

_TYPES = {"float32": "F32", "float16": "F16"}


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of float32 and float16 arrays, in the order given."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, a in tensors.items():
        header[name] = {"dtype": _TYPES[a.dtype.name], "shape": list(a.shape), "data_offsets": [place, place + a.nbytes]}
        place += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values())


def npz_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """An .npz file of the arrays."""
    out = io.BytesIO()
    np.savez(out, **dict(tensors))  # type: ignore[arg-type]
    return out.getvalue()


def save_weights(network: Network, path: Path, half: bool = False, metadata: Mapping[str, str] | None = None) -> None:
    """Write the shipped weights as .safetensors or .npz, atomically. half: in 16-bit floats."""
    tensors = {k: v.cpu().numpy().astype(np.float16 if half else np.float32) for k, v in network.shipped().items()}
    for name, a in tensors.items():
        if not np.isfinite(a).all():
            raise FastsrError(f"the weights '{name}' are not all finite{' in 16 bits' if half else ''}: the training failed, lower --rate")
    data = npz_bytes(tensors) if path.suffix == ".npz" else safetensors_bytes(tensors, metadata)
    write_atomically(path, data)


def export(network: Network, weights: Path, half: bool = False, metadata: Mapping[str, str] | None = None) -> tuple[Path, float, str]:
    """Write the weights and, beside them, the network as .fsr. Returns that path, the largest difference to PyTorch's result (white is 1), a warning.

    weights: .safetensors or .npz. The .fsr of a network of colour "y" says `Feed.fine`. The warning is "" or says that the weights alone are taken
    for another network than they are. Raises FastsrError when no reading of the weights computes what PyTorch does, ModelError and OSError when a
    file cannot be written.
    """
    network = network.eval().float().cpu()
    save_weights(network, weights, half, metadata)
    limit = HALF_TOLERANCE if half else TOLERANCE
    x = probe_picture(network)
    with torch.no_grad():
        want = network(torch.from_numpy(x)).numpy()
    warning = ""
    program = _loaded(weights)
    error = difference(program, x, want) if program is not None else np.inf
    if error > limit:
        warning = f"'{weights}' alone is taken for another network than it is: use the .fsr file"
        program, error = _matching(network, weights, x, want)
    if program is None or error > limit:
        raise FastsrError(f"the engine's result differs from PyTorch's by {error:.2g} (white is 1): '{weights}' is kept, but no .fsr was written")
    path = weights.with_suffix(".fsr")
    fsr.save(replace(program, feed=replace(program.feed, fine=network.colour == "y")), path)
    return path, error, warning


def probe_picture(network: Network, h: int = 30, w: int = 38) -> np.ndarray:
    """A picture (1, C, H, W) in 0..1 with shades, edges and noise."""
    y, x = np.mgrid[0:h, 0:w]
    planes = [0.5 + 0.3 * np.sin(0.2 * x + k) * np.cos(0.23 * y) + 0.2 * np.sign(np.sin(0.5 * x + 0.3 * y + k)) for k in range(network.channels)]
    noisy = np.stack(planes)[None] + np.random.default_rng(0).normal(0, 0.05, (1, network.channels, h, w))
    return np.clip(noisy, 0, 1).astype(np.float32)


def difference(program: Program, x: np.ndarray, want: np.ndarray, mean: bool = False) -> float:
    """Largest difference of the engine's result to `want` (1, C, H', W') for the picture x (1, C, H, W) in 0..1, white being 1.

    mean: the root of the mean squared one instead.
    """
    feed = program.feed
    given = x * np.float32(feed.range) - np.reshape(np.array(feed.mean or (0,), np.float32), (1, -1, 1, 1))
    try:
        got = Model(program).run(np.ascontiguousarray(given, np.float32))
    except FastsrError:
        return float("inf")
    assert isinstance(got, np.ndarray)
    got = (got + np.reshape(np.array(feed.out_mean or (0,), np.float32), (1, -1, 1, 1))) / np.float32(feed.out_range)
    if got.shape != want.shape:
        return float("inf")
    return float(np.sqrt(np.mean(np.square(got - want, dtype=np.float64)))) if mean else float(np.abs(got - want).max())


def _loaded(path: Path) -> Program | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return lower.lower(passes.optimise(importers.load_graph(path)))
        except ModelError:
            return None


def _readings(weights: Weights) -> Iterator[Graph]:
    """All that the weights could be."""
    for arch in archs.ARCHS:
        try:
            if not arch.detect(weights):
                continue
            weights.used.clear()
            made = arch.build(weights)
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError):
            continue
        if not weights.left():
            yield from made if isinstance(made, list) else [made]


def _matching(network: Network, path: Path, x: np.ndarray, want: np.ndarray) -> tuple[Program | None, float]:
    """The reading whose result is nearest to PyTorch's."""
    tensors = {k: v.numpy() for k, v in network.shipped().items()}
    best: tuple[Program | None, float] = None, float("inf")
    for graph in _readings(Weights(tensors, path.stem)):
        pre = graph.feed.pre_scale > 1
        if pre != network.enlarged or graph.feed.colour != network.colour:
            continue
        for name in ("rare", "reading", "border"):
            graph.meta.pop(name, None)
        program = lower.lower(passes.optimise(graph))
        error = difference(program, x, want)
        if error < best[1]:
            best = program, error
    return best
