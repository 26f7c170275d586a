"""Which convolutions of a quantised network stay in floats, so that little is lost.

The error of a quantised network is about the sum of the errors that its convolutions make when each alone is rounded. A few of them, most often the
first and the last ones, make most of it and do few of the multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import quantise
from .graph import Graph

Array = np.ndarray
PICTURES = 8
"""Calibration pictures that the errors of single convolutions are measured on."""

CANDIDATES = 32
"""Convolutions that are measured: those of the fewest multiply-adds, since each takes a run of the whole network."""

TRIES = 4
"""Choices that are measured, each stricter than the one before."""

STRICTER = 0.7
"""Times the error that is allowed, from choice to choice."""


@dataclass(frozen=True)
class Cost:
    """What rounding one convolution alone does, named by its result: the mean squared difference of the network's results, and its multiply-adds."""

    name: str
    error: float
    work: int


@dataclass(frozen=True)
class Found:
    """A quantised graph, names of the results of convolutions that stay in floats by choice, their share of the multiply-adds of all that could be of
    integers, and the dB that this graph loses and one without floats would lose, None where that is unknown."""

    graph: Graph
    floats: tuple[str, ...]
    float_work: float
    lost: float | None
    all_lost: float | None


def quantise_within(
    graph: Graph,
    inputs: Sequence[Array],
    lost: Callable[[Graph], float | None],
    most: float,
    *,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Found:
    """`quantise.quantise`, with convolutions left in floats where otherwise more than `most` dB are lost.

    lost: dB that a quantised graph loses on some pictures, None where that is unknown: then all are rounded. progress: called with what is done, how
    much of it is done, and of how much. One convolution at least is of integers. Of at most TRIES choices the first that keeps the limit is taken, or
    else the one that loses least. Raises what `quantise.quantise` raises.
    """

    def made(floats: Sequence[str]) -> quantise.Quantised:
        return quantise.quantised(graph, inputs, floats=floats, threads=threads, progress=lambda done, total: progress("quantising", done, total))

    whole = made(())
    all_lost = lost(whole.graph)
    found = Found(whole.graph, (), 0.0, all_lost, all_lost)
    if all_lost is None or not all_lost > most:
        return found
    measured = costs(graph, inputs, whole.work, threads=threads, progress=lambda done, total: progress("rounding one at a time", done, total))
    share = (10 ** (most / 10) - 1) / (10 ** (all_lost / 10) - 1)
    tried: set[frozenset[str]] = {frozenset()}
    for _ in range(TRIES):
        floats = to_keep(measured, share, whole.error, len(whole.work))
        share *= STRICTER
        if frozenset(floats) in tried:
            continue
        tried.add(frozenset(floats))
        now = made(floats).graph
        loss = lost(now)
        if loss is not None and (found.lost is None or loss < found.lost):
            found = Found(now, floats, sum(whole.work[name] for name in floats) / sum(whole.work.values()), loss, all_lost)
        if loss is not None and loss <= most:
            break
    return found


def costs(
    graph: Graph,
    inputs: Sequence[Array],
    work: dict[str, int],
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Cost]:
    """Of the CANDIDATES cheapest convolutions of `work`, which `quantise.quantised` gives. progress: called with (done, total) convolutions."""
    few: list[Array] = []
    for a in inputs:
        few.append(a[: PICTURES - sum(map(len, few))])
        if sum(map(len, few)) == PICTURES:
            break
    found: list[Cost] = []
    names = sorted(work, key=work.__getitem__)[:CANDIDATES]
    for name in names:
        progress(len(found), len(names))
        alone = quantise.quantised(graph, few, floats=work.keys() - {name}, threads=threads)
        found.append(Cost(name, alone.error, work[name]))
    return found


def to_keep(costs: Sequence[Cost], share: float, whole: float, count: int) -> tuple[str, ...]:
    """Names of the convolutions to leave in floats, so that the errors of the others sum up to at most `share` of all, but never all of them.

    whole: the error with all `count` convolutions rounded, those without a cost too. Those are taken first that make the largest errors for their
    multiply-adds. Those that turn out not to be needed are given back, beginning with the one of most multiply-adds.
    """
    left = max(whole, sum(c.error for c in costs))
    allowed = share * left
    kept: list[Cost] = []
    for c in sorted(costs, key=lambda c: c.error / c.work, reverse=True):
        if left <= allowed:
            break
        kept.append(c)
        left -= c.error
    for c in sorted(kept, key=lambda c: c.work, reverse=True):
        if left + c.error <= allowed:
            kept.remove(c)
            left += c.error
    if len(kept) == count:
        kept.remove(min(kept, key=lambda c: c.error))
    return tuple(c.name for c in kept)
