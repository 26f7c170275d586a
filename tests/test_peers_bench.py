"""What benchmarks/peers.py gives to the runtimes: its networks, and the same networks as ONNX, ncnn's files and a torch module."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsr.backends import available_backends, pick_backend
from fastsr.backends.reference import run_program
from fastsr.cli.onnx_file import onnx_bytes
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.passes import optimise

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PER_PIXEL = {
    "espcn": 25 * 64 + 9 * 64 * 32 + 9 * 32 * 4,
    "fsrcnn": 25 * 56 + 56 * 12 + 4 * 9 * 12 * 12 + 12 * 56 + 56 * 4,
    "fsrcnn-small": 25 * 32 + 32 * 5 + 9 * 5 * 5 + 5 * 32 + 32 * 4,
    "srcnn": 81 * 64 + 64 * 32 + 25 * 32,
    "vdsr": 9 * 64 + 18 * 9 * 64 * 64 + 9 * 64,
    "srvgg": 27 * 64 + 16 * 9 * 64 * 64 + 9 * 64 * 48,
    "edsr-baseline": 27 * 64 + 33 * 9 * 64 * 64 + 9 * 64 * 256 + 4 * 27 * 64,
    "lapsrn": (1 + 4) * (9 * 64 + 9 * 9 * 64 * 64 + 16 * 64 * 4 + 16 * 4),
    "rrdb": 27 * 64 + 2 * 3 * 9 * (32 * (64 + 96 + 128 + 160) + 192 * 64) + 9 * 64 * 64 * (1 + 4 + 16 + 16) + 16 * 27 * 64,
    "edsr": 27 * 256 + 5 * 9 * 256 * 256 + 9 * 256 * 1024 + 4 * 27 * 256,
}
"""Multiplications per input pixel; of the last two networks with two blocks."""

NAMES = tuple(PER_PIXEL)


@pytest.fixture(scope="module")
def peers() -> Iterator[Any]:
    """benchmarks/peers.py; the modules beside it can be imported while the fixture lives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("peers")


def network(peers: Any, name: str) -> Graph:
    """One of the networks, the two largest cut down to two blocks, after the passes."""
    networks = importlib.import_module("networks")
    cut = {"rrdb": networks.rrdb(2), "edsr": networks.edsr(2, 256, 0.1)}
    try:
        graph: Graph = optimise(cut.get(name, peers.NETWORKS[name].build)())
    except FileNotFoundError:
        pytest.skip("its model file is absent: set FASTSR_SHARED")
    return graph


def given(graph: Graph, height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(1).random((1, graph.inputs[0].channels, height, width), np.float32)


def near(y: np.ndarray, expected: np.ndarray, limit: float = 1e-5) -> None:
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() < limit * np.abs(expected).max()


@pytest.mark.parametrize("name", NAMES)
def test_network(peers: Any, name: str) -> None:
    graph = network(peers, name)
    x = given(graph)
    program = lower(graph)
    expected = run_program(program, [x])[0]
    assert np.ptp(expected) > 0.1
    assert np.abs(expected).max() < 100
    if "cpu" in available_backends():
        near(pick_backend("cpu").compile(program, threads=1).run([x], [0])[0], expected)
    ort = pytest.importorskip("onnxruntime", reason="runs the ONNX bytes: pip install fastsr[bench]")
    session = ort.InferenceSession(onnx_bytes(graph, x.shape), providers=["CPUExecutionProvider"])
    assert tuple(session.get_inputs()[0].shape) == x.shape
    near(session.run(graph.outputs, {graph.inputs[0].name: x})[0], expected)


@pytest.mark.parametrize("name", NAMES)
def test_work_of_a_network(peers: Any, name: str) -> None:
    assert peers.gigaflops(network(peers, name), 10, 14) == pytest.approx(2 * 10 * 14 * PER_PIXEL[name] / 1e9, rel=1e-12)


def test_every_network_is_tested(peers: Any) -> None:
    assert tuple(peers.NETWORKS) == NAMES


@pytest.mark.parametrize("library", ["ncnn", "torch"])
@pytest.mark.parametrize("name", ["fsrcnn", "srvgg", "lapsrn", "rrdb"])
def test_other_forms(peers: Any, name: str, library: str) -> None:
    pytest.importorskip(library, reason="a contender of benchmarks/peers.py")
    worker = importlib.import_module("peers_worker")
    graph = network(peers, name)
    x = given(graph, 8, 12)
    loaded = worker.LIBRARIES[library](worker.Job(graph, x, "f32", 1))
    near(loaded.fetch(loaded.run()), run_program(lower(graph), [x])[0], 1e-4)


def test_contenders(peers: Any) -> None:
    assert [s.precision for s in peers.specs("openvino", 2)] == ["f32", "bf16"]
    (one,) = peers.specs("cv2:f32+threads=1@/opt/some-cv2", 2)
    assert (one.library, one.precision, one.threads, one.folder) == ("cv2", "f32", 1, "/opt/some-cv2")
    assert one.name("4.14.0.94", 2) == "cv2 4.14 f32 1 thread"
    assert [s.name("0.1.0", 2) for s in peers.specs("fastsr:f32+isa=avx2@/opt/before", 2)] == ["fastsr f32 avx2 (before)"]
    for bad in ("nothing", "fastsr+threads", "fastsr:", "+threads=1"):
        with pytest.raises(argparse.ArgumentTypeError):
            peers.specs(bad, 2)


def row(library: str, precision: str, ms: float, psnr: float, max_rel: float = 1e-6) -> dict[str, Any]:
    return {
        "name": f"{library} {precision}",
        "library": library,
        "precision": precision,
        "median_ms": ms,
        "psnr": psnr,
        "max_rel": max_rel,
        "gflops": 1.0,
    }


def test_ratios(peers: Any) -> None:
    case = {"title": "a", "input": "1x1", "gflop": 1.0, "results": [
        row("fastsr", "f32", 10, 120), row("fastsr", "fast", 5, 59), row("openvino", "f32", 30, 120), row("ncnn", "f32", 20, 130),
        row("torch", "f32", 1, 20), row("torch", "bf16", 15, 50)]}  # fmt: skip
    peers.compare(case)
    assert case["results"][0]["times"] == {"f32": 2, "bf16": 1.5}
    assert [r["wrong"] for r in case["results"]] == [False, True, False, False, True, False]
    text = peers.overview({"cases": [case, {**case, "title": "b"}]})
    assert text.splitlines()[-1].split() == ["geometric", "mean", "2.00", "1.50", "4.00", "3.00"]
    case["results"][0]["max_rel"] = 2e-4
    peers.compare(case)
    assert case["results"][0]["wrong"]


def test_exactness(peers: Any) -> None:
    reference = np.linspace(0, 1, 101).reshape(1, 1, 1, 101)
    got = peers.exactness((reference + 0.01).astype(np.float32), reference)
    assert got["max_rel"] == pytest.approx(0.01, rel=1e-3)
    assert got["psnr"] == pytest.approx(40, abs=0.1)
    assert peers.exactness(reference[..., 1:], reference)["psnr"] == -np.inf


def test_report(peers: Any, tmp_path: Path) -> None:
    report = importlib.import_module("report_peers")
    results = [row("fastsr", "f32", 10, 120), row("fastsr", "fast", 5, 70), {**row("fastsr", "f32", 1, 120), "name": "fastsr f32 1 thread"},
               row("openvino", "f32", 30, 120), row("ncnn", "f32", 20, 130), row("torch", "bf16", 15, 50), row("torch", "f32", 1, 20)]  # fmt: skip
    case = {"network": "a", "title": "A", "input": "1x1", "gflop": 1.0, "results": [{**r, "version": "1"} for r in results]}
    peers.compare(case)
    made = {"date": "2000-01-01", "threads": 2, "clock": "wall", "machine": {"cpu": "a processor", "system": "a system"}, "cases": [case]}
    lines = report.markdown(made).splitlines()
    assert lines[2] == "| A | 1x1 | ncnn 20.0 ms | torch 15.0 ms | **10.0 ms** | **2.00** | **5.0 ms** | **3.00** |"
    assert lines[3].count("**2.00**") == lines[3].count("**3.00**") == 1
    assert "2 threads, a processor" in lines[-1]
    pytest.importorskip("matplotlib", reason="draws the plot")
    report.plot(made, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
