"""Weights without a network: which architecture they belong to, and the Graph of it.

An architecture is a module with NAME, PAPER, FED (one line for people: how pictures are fed), `detect(w) -> bool`, judged by names and shapes, and
`build(w) -> Graph | list[Graph]`: several where the weights leave something open, the usual reading first; `choose.best` takes one. Every number that
shapes the network follows from the shapes of tensors. Modules are asked in the order of `ARCHS`, the most particular first; one that leaves a tensor
unused is not the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from . import (
    a2n,
    awsrn,
    bsrn,
    carn,
    chain,
    choose,
    cunet,
    dbpn,
    drrn,
    ecbsr,
    hourglass,
    imdn,
    lapsrn,
    mdsr,
    msrn,
    pan,
    plksr,
    rcan,
    rdn,
    resnet,
    rfdn,
    rrdb,
    span,
    srdensenet,
    srvgg,
    swift_srgan,
    transformers,
)
from .weights import ScaleError, Weights

ARCHS: tuple[ModuleType, ...] = (
    transformers, rrdb, cunet, span, plksr, a2n, awsrn, pan, bsrn, rfdn, imdn, carn, mdsr, msrn, dbpn, srdensenet, drrn, ecbsr, lapsrn, rcan, rdn,
    srvgg, hourglass, swift_srgan, resnet, chain,
)  # fmt: skip

MAX_TENSORS = 20000
SHOWN = 6


def graph_of(tensors: Mapping[str, np.ndarray], path: Path, *, keras: bool = False, scale: int = 0) -> Graph:
    """The network that these weights belong to, with its feed.

    tensors: by name, PyTorch's names and layouts (convolutions O, I / groups, kh, kw; transposed ones I, O / groups, kh, kw), in the file's order.
    path: its name may tell the scale. keras: the network was made with Keras, whose pixel shuffle and batch normalisation differ. scale: in place of
    what the name tells; 0 for nothing.
    Raises ModelError when no architecture fits; the message shows some of the tensors.
    """
    if not tensors:
        raise ModelError(f"'{path}': has no weights in it")
    if len(tensors) > MAX_TENSORS:
        raise ModelError(f"'{path}': {len(tensors)} tensors, more than any network that fastsr knows")
    for name, tensor in tensors.items():
        if not tensor.size or (tensor.dtype.kind == "f" and not np.isfinite(tensor).all()):
            raise ModelError(f"'{path}': tensor '{name}' is empty, or has infinite or undefined (NaN) numbers: damaged file, or training failed")
    weights = Weights(tensors, path.stem, keras, scale)
    reasons = []
    for arch in ARCHS:
        if not _detects(arch, weights):
            continue
        weights.used.clear()
        try:
            graph = _built(arch, weights)
        except ModelError as e:
            if getattr(arch, "REFUSES", False) or isinstance(e, ScaleError):
                raise ModelError(f"'{path}': {e}") from None
            reasons.append(f"as {arch.NAME}: {e}")
            continue
        left = weights.left()
        if not left:
            return graph
        reasons.append(f"as {arch.NAME}: {len(left)} tensors belong to something else, '{left[0]}' for one")
    shown = ", ".join(f"'{n}' {list(t.shape)}" for n, t in list(tensors.items())[:SHOWN])
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise ModelError(
        f"'{path}': weights of a network whose architecture fastsr does not know{why}. It has {len(tensors)} tensors: {shown}"
        f"{', ...' if len(tensors) > SHOWN else ''}. Export the network to ONNX, which holds the architecture too"
    )


def _detects(arch: ModuleType, weights: Weights) -> bool:
    try:
        return bool(arch.detect(weights))
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError):  # ModelError too
        return False


def _built(arch: ModuleType, weights: Weights) -> Graph:
    try:
        made = arch.build(weights)
        graph = choose.best(made if isinstance(made, list) else [made])
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as e:
        if isinstance(e, ModelError):
            raise
        raise ModelError(f"the tensors do not fit together ({e})") from None
    graph.meta["format"] = "weights"
    return graph
