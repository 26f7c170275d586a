"""The rewrites: each file has one, `run(graph) -> bool` (did it change anything), which keeps every graph output's meaning up to float rounding.

`optimise` runs the list `PASSES` to a fixed point. Between importers and `fastsr.lower`.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TextIO

import numpy as np

from .. import knobs
from ..graph import Graph
from . import (
    cancel_shuffles,
    canonical,
    channel_slices,
    clip,
    common_subexpressions,
    conv_transpose,
    explicit_pads,
    exponential_linear,
    fold_affine,
    fold_constants,
    gates,
    hoist,
    join_shuffles,
    merge_pads,
    normalisation,
    piecewise_linear,
    pixel_shuffle,
    pooling,
    positive_factors,
    quantised_conv,
    remove_noops,
    spelled_out,
)
from .check import check

PASSES: tuple[ModuleType, ...] = (
    quantised_conv,
    fold_constants,
    remove_noops,
    normalisation,
    exponential_linear,
    pooling,
    explicit_pads,
    canonical,
    clip,
    channel_slices,
    pixel_shuffle,
    piecewise_linear,
    gates,
    spelled_out,
    conv_transpose,
    cancel_shuffles,
    merge_pads,
    fold_affine,
    positive_factors,
    hoist,
    join_shuffles,
    hoist,
    common_subexpressions,
)
"""In running order. Quantised weights are recognised before they are folded into floats.

Recognition comes before folding: once a factor has gone into the weights, the pattern it belonged to is gone. Folding comes
before hoisting, which would carry arithmetic away from the convolution that follows it. A second hoisting takes what follows a joined shuffle in
front of it at once, which spares LapSRN a round."""

MAX_ROUNDS = 1000
"""Far above what any network needs: every pass removes nodes or moves them one way."""

Trace = Callable[[str, str, str], None]
"""Called with (pass, graph as text before, graph as text after) for each pass that changed something."""


def optimise(graph: Graph, dump: TextIO | None = None, trace: Trace | None = None) -> Graph:
    """Rewrite the graph in place until no pass changes it, and return it.

    dump: stream for the graph as text before and after each pass that changed something; with FASTSR_DEBUG=3 standard error is used.
    trace: called at the same places. Raises ModelError for a graph that is not well formed.
    """
    if dump is None and knobs.debug_level() >= 3:
        dump = sys.stderr
    graph.validate()
    graph.prune()
    check(graph)
    with np.errstate(all="ignore"):
        return _to_fixed_point(graph, dump, trace)


def _to_fixed_point(graph: Graph, dump: TextIO | None, trace: Trace | None) -> Graph:
    unchanged = 0
    for rewrite in itertools.islice(itertools.cycle(PASSES), MAX_ROUNDS * len(PASSES)):
        before = graph.dump() if dump or trace else ""
        if rewrite.run(graph):
            unchanged = 0
            graph.prune()
            if dump or trace:
                graph.validate()
                _report(rewrite.__name__.rpartition(".")[2], before, graph.dump(), dump, trace)
            continue
        unchanged += 1
        if unchanged == len(PASSES):
            graph.validate()
            return graph
    raise AssertionError("the passes did not reach a fixed point")


def _report(name: str, before: str, after: str, dump: TextIO | None, trace: Trace | None) -> None:
    if dump is not None:
        print(f"--- before {name}\n{before}\n--- after {name}\n{after}", file=dump)
    if trace is not None:
        trace(name, before, after)
