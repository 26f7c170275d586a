"""The importer of TensorFlow frozen graphs: operators against plain NumPy and TensorFlow, real model files against TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow_cases_pixels  # noqa: F401
import tensorflow_cases_whole  # noqa: F401
from tensorflow_cases import CASES, Case
from tensorflow_graphs import Frozen, TensorFlow, peer

from fastsr.graph import Graph
from fastsr.importers import load_graph, tensorflow_conv
from fastsr.ops import run_graph

__all__ = ["peer"]


def picture(case: Case) -> np.ndarray:
    """An NHWC input."""
    return np.random.default_rng(7).standard_normal((1, *case.size, case.channels)).astype(np.float32)


def ours(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The imported graph's default output for an NHWC picture, as NHWC."""
    y = run_graph(graph, {graph.inputs[0].name: x.transpose(0, 3, 1, 2)})[graph.outputs[0]]
    assert y.dtype == np.float32
    return y.transpose(0, 2, 3, 1)


def close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Same shape, and equal within a part of the largest value."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(float(np.abs(want).max()), 1e-6))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operator_is_what_tensorflow_defines(case: Case, tmp_path: Path) -> None:
    g = Frozen()
    expected = case.build(g)
    graph = load_graph(g.save(tmp_path / "graph.pb"))
    assert graph.inputs[0].channels == case.channels
    assert graph.outputs == ["y"]
    x = picture(case)
    close(ours(graph, x), expected(x), min(case.tolerance, 3e-6))


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", [c for c in CASES if c.tensorflow], ids=lambda c: c.name)
def test_operator_agrees_with_tensorflow(case: Case, tmp_path: Path, peer: TensorFlow) -> None:
    g = Frozen()
    case.build(g)
    path = g.save(tmp_path / "graph.pb")
    x = picture(case)
    (want,) = peer.run(path, {"x": x.transpose(0, 3, 1, 2) if case.nchw else x}, ["y"])
    close(ours(load_graph(path), x), want.transpose(0, 2, 3, 1) if case.nchw else want, case.tolerance)


@pytest.mark.parametrize("size", [(3, 5, 2, 4), (1, 1, 3, 1), (9, 15, 2, 3)])
def test_filters_are_reordered_alike_whatever_their_size(size: tuple[int, int, int, int]) -> None:
    w = np.arange(np.prod(size), dtype=np.float32).reshape(size)
    np.testing.assert_array_equal(tensorflow_conv.reordered(w), w.transpose(3, 2, 0, 1))
