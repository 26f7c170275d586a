"""Every operator of ONNX that the importer knows, over its attributes, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_cases_pixels  # noqa: F401
import onnx_cases_whole  # noqa: F401
import pytest
from onnx_cases import CASES, Case
from onnx_graphs import Net, run_onnx

from fastsr import ops
from fastsr.backends import pick_backend
from fastsr.errors import ModelError
from fastsr.importers import onnx
from fastsr.lower import lower
from fastsr.passes import optimise

NAMES = [c.name for c in CASES]


def inputs_of(case: Case) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, case.shape).astype(np.uint8) if case.dtype == np.uint8 else rng.standard_normal(case.shape).astype(case.dtype)


def nchw(case: Case, array: np.ndarray, net: Net) -> np.ndarray:
    """A tensor of the file as (N, C, H, W)."""
    array = array[None] if array.ndim == 3 else array
    dims = [d.dim_param or d.dim_value for d in net.inputs[0].type.tensor_type.shape.dim]
    return array.transpose(0, 3, 1, 2) if dims[-1] in (1, 3) else array


def close(got: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_operator_gives_what_onnx_runtime_gives(case: Case) -> None:
    net = Net(case.opset)
    case.build(net)
    x = inputs_of(case)
    (wanted,) = run_onnx(net.data(), x)
    if case.name in ("NHWC Y", "NHWC all through"):
        wanted = wanted.transpose(0, 3, 1, 2)
    wanted = wanted[None] if wanted.ndim == 3 else wanted
    graph = onnx.loads(net.data())
    fed = np.ascontiguousarray(nchw(case, x, net), np.float32)
    name = graph.inputs[0].name
    close(ops.run_graph(graph, {name: fed})[graph.outputs[0]], wanted)
    if not case.runs:
        with pytest.raises(ModelError, match="not supported"):
            lower(optimise(graph))
        return
    program = lower(optimise(graph))
    for backend in ("reference", "cpu"):
        close(pick_backend(backend).compile(program).run([fed], [0])[0], wanted, 1e-4)
