"""What the benchmarks stand on: the ONNX bytes that peers are given, the comparison of results, the turns, the README's table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastsr import ops
from fastsr.baselines import BASELINES, baseline_graph
from fastsr.cli.peers import difference
from fastsr.cli.timing import interleaved, summary
from fastsr.errors import ModelError
from fastsr.graph import Graph, Input, Node
from fastsr.importers import load_graph
from fastsr.onnx_file import onnx_bytes
from fastsr.passes import optimise

ROOT = Path(__file__).resolve().parents[1]


def everything() -> Graph:
    """A graph with every kind of attribute and constant."""
    rng = np.random.default_rng(0)
    graph = Graph(inputs=[Input("x", 2)], outputs=["y", "side"])
    graph.constants = {
        "w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float64),
        "slope": rng.uniform(-1, 1, (4, 1, 1)).astype(np.float32),
        "pads": np.array([0, 0, 2, 1, 0, 0, 1, 2], np.int64),
        "low": np.array(-0.5, np.float32),
        "high": np.array(0.75, np.float32),
    }
    graph.nodes = [
        Node("Conv", ["x", "w", "b"], ["c"], {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3], "strides": [2, 1], "group": 1}, "conv"),
        Node("PRelu", ["c", "slope"], ["p"], {}, "prelu"),
        Node("Pad", ["p", "pads"], ["q"], {"mode": "reflect"}, "pad"),
        Node("LeakyRelu", ["q"], ["side"], {"alpha": 0.1}, "leaky"),
        Node("Clip", ["side", "low", "high"], ["k"], {}, "clip"),
        Node("DepthToSpace", ["k"], ["y"], {"blocksize": 2, "mode": "DCR"}, "shuffle"),
    ]
    return graph


def check_with_onnxruntime(graph: Graph, x: np.ndarray) -> None:
    ort = pytest.importorskip("onnxruntime", reason="runs the ONNX bytes: pip install fastsr[bench]")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx_bytes(graph), options, providers=["CPUExecutionProvider"])
    theirs = session.run(graph.outputs, {graph.inputs[0].name: x})
    ours = ops.run_graph(graph, {graph.inputs[0].name: x})
    for name, y in zip(graph.outputs, theirs, strict=True):
        np.testing.assert_allclose(y, ours[name], rtol=1e-4, atol=1e-5 * np.abs(ours[name]).max())


def test_onnx_of_everything() -> None:
    check_with_onnxruntime(everything(), np.random.default_rng(1).normal(size=(1, 2, 7, 9)).astype(np.float32))


@pytest.mark.parametrize("name", BASELINES)
def test_onnx_of_filters(name: str) -> None:
    check_with_onnxruntime(baseline_graph(name, 3), np.random.default_rng(1).uniform(0, 255, (1, 3, 7, 9)).astype(np.float32))


@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("name", ["ESPCN_x2", "FSRCNN-small_x2", "LapSRN_x2"])
def test_onnx_of_networks(shared: Path, name: str, passes: bool) -> None:
    graph = load_graph(shared / f"models/tensorflow/{name}.pb")
    check_with_onnxruntime(optimise(graph) if passes else graph, np.random.default_rng(1).random((1, 1, 12, 9), np.float32))


def test_onnx_passes_the_checker() -> None:
    onnx = pytest.importorskip("onnx", reason="checks the ONNX bytes: pip install fastsr[bench]")
    onnx.checker.check_model(onnx.load_from_string(onnx_bytes(everything())), full_check=True)


def test_what_onnx_cannot_say() -> None:
    graph = everything()
    graph.nodes[2].attrs["mode"] = "symmetric"
    with pytest.raises(ModelError, match="symmetric"):
        onnx_bytes(graph)


def test_difference() -> None:
    a = np.array([[1, 2], [3, 5]], np.uint8)
    b = np.array([[1, 2], [4, 5]], np.uint8)
    assert difference(a, b) == {"max_abs": 1.0, "max_rel": 0.2, "equal_percent": 75.0}
    assert difference(a, b[:1]) == {"shapes": [[2, 2], [1, 2]]}


def test_turns() -> None:
    order: list[str] = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "abababab"
    assert [len(s) for s in seconds.values()] == [3, 3]
    assert summary([0.003, 0.001, 0.002]) == {"median_ms": 2.0, "min_ms": 1.0, "q1_ms": 1.5, "q3_ms": 2.5, "runs": 3}
    assert summary([0.004])["q3_ms"] == 4.0


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/report.py; the modules beside it can be imported too."""
    if not (ROOT / "benchmarks" / "report.py").is_file():
        pytest.skip("the benchmarks are not part of this installation")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("report")


def upsample_report() -> dict[str, object]:
    def row(name: str, ms: float, **more: object) -> dict[str, object]:
        return {"name": name, "version": "1", "median_ms": ms, **more}

    equal = {"cv2 5.0.0": {"max_abs": 1.0, "equal_percent": 99.99}, "cv2 4.14.0": {"max_abs": 1.0, "equal_percent": 99.98}}
    rows = [row("fastsr cpu", 10.0, difference=equal), row("fastsr numba", 20.0, difference=equal), row("cv2 4.14.0", 40.0), row("cv2 5.0.0", 50.0)]
    machine = {"cpu": "Some CPU", "cores": 2, "system": "Linux x86_64", "versions": {}}
    case = {"model": "ESPCN_x2", "scale": 2, "picture": "960x540", "results": rows}
    return {"date": "2026-01-02", "machine": machine, "threads": 2, "cases": [case]}


def test_table_of_the_readme(report: ModuleType) -> None:
    lines = report.markdown(upsample_report()).splitlines()
    assert lines[0] == "| model | picture | cv2 4.14.0 | cv2 5.0.0 | fastsr cpu | fastsr numba | times faster | equal |"
    assert lines[2] == "| ESPCN x2 | 960x540 | 40.0 ms | 50.0 ms | **10.0 ms** | 20.0 ms | **4.0** | 99.980 % |"


def test_table_goes_between_the_marks(report: ModuleType) -> None:
    text = "a\n<!-- table:upsample -->\nold\n<!-- /table -->\nb\n"
    assert report.with_table(text, "| new |") == "a\n<!-- table:upsample -->\n| new |\n<!-- /table -->\nb\n"
    with pytest.raises(SystemExit, match="no <!-- table:upsample"):
        report.with_table("a", "| new |")


def test_plot_of_the_readme(report: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the plot: pip install fastsr[bench]")
    report.plot(upsample_report(), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_kept_results_name_no_place() -> None:
    """Results in the repository carry no host names or folders."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        text = path.read_text(encoding="utf-8")
        assert "/home" not in text
        assert "/root" not in text
        assert {"date", "machine"} <= set(json.loads(text)), path.name
