"""Every operator of TensorFlow Lite that the importer knows, over its options, against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tflite_cases import CASES, QUANTISED, Case
from tflite_graphs import Net, run_litert

from fastsr import levels, ops
from fastsr.backends import pick_backend
from fastsr.errors import ModelError
from fastsr.importers import tflite
from fastsr.importers.tflite_schema import parse_model
from fastsr.lower import lower
from fastsr.passes import optimise

pytest.importorskip("ai_edge_litert", reason="LiteRT, which TensorFlow Lite files are compared with, is not installed")


def built(case: Case) -> bytes:
    net = Net()
    case.build(net)
    return net.shaped(case.shape)


def channels_first(array: np.ndarray, layout: str = "NHWC") -> np.ndarray:
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return np.ascontiguousarray(array if layout == "NCHW" else array.transpose(0, 3, 1, 2))


def results(data: bytes, fed: np.ndarray, runs: bool) -> list[tuple[str, np.ndarray]]:
    """What the Graph's meaning and the backends make of an input."""
    graph = tflite.loads(data)
    name = graph.inputs[0].name
    found = [("graph", ops.run_graph(graph, {name: fed})[graph.outputs[0]])]
    if not runs:
        with pytest.raises(ModelError, match="not supported"):
            lower(optimise(graph))
        return found
    program = lower(optimise(graph))
    found += [(backend, pick_backend(backend).compile(program).run([fed], [0])[0]) for backend in ("reference", "cpu")]
    if any(levels.integer_convs(program)):
        found.append(("cpu int8", pick_backend("cpu").compile(program, precision="int8").run([fed], [0])[0]))
    return found


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_operator_gives_what_litert_gives(case: Case) -> None:
    data = built(case)
    x = np.random.default_rng(1).uniform(case.low, case.high, case.shape).astype(np.float32)
    layout = "NCHW" if case.shape[1] == 3 else "NHWC"
    wanted = channels_first(run_litert(data, x), layout)
    for how, got in results(data, channels_first(x, layout), case.runs):
        assert got.shape == wanted.shape, how
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max(), how


def integers(data: bytes, x: np.ndarray) -> tuple[np.ndarray, Any]:
    """The input of a quantised network from real numbers, and what its output is quantised to."""
    model = parse_model(data)
    source, result = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    if not source.quantised:
        return x, result
    info = np.iinfo(source.dtype)
    return np.clip(np.rint(x / source.scale[0]) + source.zero[0], info.min, info.max).astype(source.dtype), result


@pytest.mark.parametrize("case", QUANTISED, ids=[c.name for c in QUANTISED])
def test_quantised_operator_is_at_most_one_level_off(case: Case) -> None:
    data = built(case)
    given, result = integers(data, np.random.default_rng(1).uniform(-4, 4, case.shape).astype(np.float32))
    source = parse_model(data).tensors[0]
    real = given if given.dtype.kind == "f" else (given.astype(np.float32) - source.zero[0]) * source.scale[0]
    wanted = channels_first(run_litert(data, given))
    step = 1 / 20
    if result.quantised:
        step = float(result.scale[0])
        wanted = (wanted.astype(np.float32) - result.zero[0]) * result.scale[0]
    for how, got in results(data, channels_first(real.astype(np.float32)), case.runs):
        assert got.shape == wanted.shape, how
        levels = np.rint(np.abs(got - wanted) / step)
        assert levels.max() <= 1, how
        assert (levels > 0).mean() < (0.06 if "BILINEAR" in case.name or "POOL" in case.name else 0.03), how
