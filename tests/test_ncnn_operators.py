"""Every layer of ncnn that the importer knows, over its parameters, against ncnn itself."""

from __future__ import annotations

from pathlib import Path

import ncnn_cases_pixels  # noqa: F401
import numpy as np
import pytest
from ncnn_cases import CASES, Case
from ncnn_graphs import Net, run_ncnn

from fastsr import ops
from fastsr.backends import pick_backend
from fastsr.errors import ModelError
from fastsr.importers import ncnn as importer
from fastsr.lower import lower
from fastsr.passes import optimise

pytest.importorskip("ncnn", reason="ncnn is not installed (pip install ncnn)")


def close(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_layer_gives_what_ncnn_gives(case: Case, tmp_path: Path) -> None:
    net = Net()
    case.build(net)
    x = np.random.default_rng(1).standard_normal(case.shape).astype(np.float32)
    path = net.save(tmp_path / "net.param")
    wanted = run_ncnn(path, path.with_suffix(".bin"), x, net.output)
    graph = importer.load(path)
    binary, source, output = net.binary()
    assert importer.loads(binary, net.data()).dump().count("\n") == graph.dump().count("\n")
    close(ops.run_graph(graph, {"data": x})[graph.outputs[0]], wanted, case.tolerance)
    again = importer.loads(binary, net.data())
    assert again.outputs[0] == str(output)
    close(ops.run_graph(again, {str(source): x})[str(output)], wanted, case.tolerance)
    if case.refused:
        with pytest.raises(ModelError, match=f"{case.refused} .*not supported"):
            lower(optimise(graph))
        return
    program = lower(optimise(graph))
    for backend in ("reference", "cpu"):
        close(pick_backend(backend).compile(program).run([x], [0])[0], wanted, max(case.tolerance, 1e-4))
