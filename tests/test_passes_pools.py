"""The rewrites of pools and of normalisation by the picture's own statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Builder, assert_same, count, fires, lowered, outputs

from fastsr.passes import normalisation, optimise, pooling

POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [7, 7], "strides": [3, 3], "pads": [3, 3, 3, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "dilations": [2, 1], "strides": [1, 1], "pads": [2, 0, 0, 0]},
    {"kernel_shape": [5, 4], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [4, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 1], "strides": [3, 1], "auto_pad": "VALID"},
]


@pytest.mark.parametrize("attrs", POOLS, ids=str)
@pytest.mark.parametrize(("op", "extra"), [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_pools(op: str, extra: dict[str, int], attrs: dict[str, Any], channels: int) -> None:
    b = Builder(channels)
    graph = b.done(b.op(op, "x", **attrs, **extra))
    for h, w in ((7, 9), (12, 8)):
        lowered(graph, h, w)
    assert op not in count(optimise(graph))


def test_pools_padded_by_unknown_amounts_stay() -> None:
    b = Builder(2)
    graph = b.done(b.op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"))
    fires(pooling, graph, None)


def test_means_at_borders_of_unknown_amounts_are_counted() -> None:
    b = Builder(2)
    lowered(b.done(b.op("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")), 8, 11)


def test_maxima_of_extreme_numbers() -> None:
    """Infinite and very low pixels come through, and what is beyond the border never does."""
    b = Builder(1)
    graph = b.done(b.op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]))
    x = np.full((1, 1, 4, 4), -1e38, np.float32)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = np.inf, -3.4e38
    from fastsr.backends.reference import run_program
    from fastsr.lower import lower
    from fastsr.ops import run_graph

    expected = run_graph(graph, {"x": x})[graph.outputs[0]]
    assert np.array_equal(run_program(lower(optimise(graph)), [x])[0], expected) and np.isinf(expected).sum() == 1


@pytest.mark.parametrize("groups", [None, 1, 2, 6])
def test_normalisation(groups: int | None) -> None:
    b = Builder(6)
    scale, shift = b.weights(6), b.weights(6)
    y = b.conv("x", 6, 6, pads=[1, 1, 1, 1])
    if groups is None:
        y = b.op("InstanceNormalization", y, scale, shift, epsilon=1e-3)
    else:
        y = b.op("GroupNormalization", y, scale, shift, num_groups=groups)
    graph = b.done(b.op("Relu", y))
    convs = {"Conv": 3} if groups in (1, 2) else {"Conv": 1}
    fires(normalisation, graph, {**convs, "GlobalAveragePool": 2, "Sub": 1, "Mul": 2, "Add": 2, "Sqrt": 1, "Div": 1, "Relu": 1})
    program = lowered(graph, tolerance=2e-5)
    assert [s.kind for s in program.steps].count("GlobalAveragePool") == 2


def test_normalisation_by_computed_numbers_stays() -> None:
    b = Builder(2)
    graph = b.done(b.op("InstanceNormalization", "x", b.weights(2), b.op("GlobalAveragePool", "x")))
    fires_not = outputs(graph)
    assert not normalisation.run(graph)
    assert_same(fires_not, outputs(graph))
