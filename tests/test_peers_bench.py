"""What benchmarks/peers.py gives to the runtimes: its networks, and the same networks as ONNX, ncnn's files and a torch module."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsr.backends import available_backends, pick_backend
from fastsr.backends.reference import run_program
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.onnx_file import onnx_bytes
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
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx_bytes(graph, x.shape), options, providers=["CPUExecutionProvider"])
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


def test_contenders(peers: Any, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    assert [s.precision for s in peers.specs("openvino", 2)] == ["f32", "bf16"]
    (one,) = peers.specs(f"cv2:f32+threads=1@{before}", 2)
    assert (one.library, one.precision, one.threads, one.folder) == ("cv2", "f32", 1, str(before))
    assert one.name("4.14.0.94", 2) == "cv2 4.14 f32 1 thread"
    assert [s.name("0.1.0", 2) for s in peers.specs(f"fastsr:f32+isa=avx2@{before}", 2)] == ["fastsr f32 avx2 (before)"]
    for bad in ("nothing", "fastsr+threads", "fastsr:", "+threads=1", f"fastsr@{before / 'missing'}"):
        with pytest.raises(argparse.ArgumentTypeError):
            peers.specs(bad, 2)


KERNELS = """avx512, rows of 256 pixels
  conv  64-> 64 3x3    200.0 GFLOP/s   80.0 % of 250.0
  winograd  64-> 64 width 192    310.5 GFLOP/s of the direct sum   1.55 times conv's 200.0
  winograd2d  64-> 64 width 192     88.0 GFLOP/s of the direct sum   1.55 times conv's 201.0
  tanh           5.10 Gelement/s
  interleave 2   9.87 Gelement/s
scalar, rows of 256 pixels
  conv   1-> 64 5x5      3.1 GFLOP/s
avx512 vnni winograd16  64-> 64, 192 x  4   1234.5 GFLOP/s
scalar conv16   8-> 12 5x5, 192 x  4      1.5 GFLOP/s
"""


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
    with pytest.raises(SystemExit, match="no peak"):
        report.roofline(made, tmp_path / "roofline.png")
    for k, peaks in enumerate(({"f32": 500.0}, {"f32": 500.0, "int16": 1000.0, "bf16": 990.0})):
        report.roofline({**made, "peaks": peaks}, tmp_path / f"roofline{k}.png")
    for path in ("peers.png", "roofline0.png", "roofline1.png"):
        assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "roofline0.png").read_bytes() != (tmp_path / "roofline1.png").read_bytes()


@pytest.mark.slow
def test_scaling(peers: Any, tmp_path: Path) -> None:
    """Only that it runs, and that every size and number of threads is there; not how fast."""
    if "cpu" not in available_backends():
        pytest.skip("the C++ core is not built")
    scaling = importlib.import_module("scaling")
    small = replace(peers.NETWORKS["srcnn"], width=48, height=32)
    how = argparse.Namespace(megapixels=0.25, threads=1, rounds=1, clock="wall")
    wanted = [*peers.specs("fastsr:f32", 1), *peers.specs("torch:int4", 1)]
    made = {"sizes": scaling.sizes(wanted, [small], how), "by_threads": scaling.threads(wanted, [small], [2, 1], how)}
    assert [(r["name"], round(r["megapixels"], 2)) for r in made["sizes"]] == [("fastsr f32", 0.1), ("fastsr f32", 0.25)]
    assert [(r["name"], r["threads"]) for r in made["by_threads"]] == [("fastsr f32", 2), ("fastsr f32", 1)]
    assert [r["ns_per_pixel"] for r in made["sizes"]] == [pytest.approx(r["median_ms"] / r["megapixels"], abs=0.01) for r in made["sizes"]]
    assert [line[-1] for line in scaling.speedups([{**r, "median_ms": 6 / r["threads"]} for r in made["by_threads"]])] == ["2.00", "1.00"]
    assert scaling.extent(67) == (6684, 10026)
    pytest.importorskip("matplotlib", reason="draws the plot")
    report = importlib.import_module("report_peers")
    facts = {"threads": 1, "machine": {"cpu": "a processor"}}
    for kinds in (("sizes",), ("by_threads",), ("sizes", "by_threads")):
        report.scaling({**facts, **{k: made[k] for k in kinds}}, tmp_path / "scaling.png")
        assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_libraries_that_keep_whole_values_get_no_huge_pictures(peers: Any) -> None:
    scaling = importlib.import_module("scaling")
    graph = peers.NETWORKS["srcnn"].build()
    assert scaling.too_large(graph, (8, 8)) == ""
    if Path("/proc/meminfo").exists():
        assert "GiB" in scaling.too_large(graph, (200_000, 300_000))


def test_lines_of_the_kernels_benchmark(peers: Any) -> None:
    kernels = importlib.import_module("kernels")
    found: dict[str, Any] = {}
    kernels.parse(KERNELS, found)
    kernels.parse(KERNELS.replace("88.0", "99.5"), found)
    assert found == {
        "avx512 conv 64->64 3x3": {"gflops": 200.0, "peak": 250.0},
        "avx512 winograd 64->64 width 192": {"gflops": 310.5, "direct": 200.0},
        "avx512 winograd2d 64->64 width 192": {"gflops": 99.5, "direct": 201.0},
        "avx512 tanh": {"gelements": 5.1},
        "avx512 interleave 2": {"gelements": 9.87},
        "scalar conv 1->64 5x5": {"gflops": 3.1},
        "avx512 vnni winograd16 64->64 192 x 4": {"gflops": 1234.5},
        "scalar conv16 8->12 5x5, 192 x 4": {"gflops": 1.5},
    }


def test_peaks(peers: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    peaks = importlib.import_module("peaks")
    found = peaks.peaks(1)
    assert set(found) <= {"f32", "int16", "bf16"}
    assert all(rate > 0 for rate in found.values())
    assert found or "not measured" in capsys.readouterr().out
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert peaks.peaks(1) == {}
    assert "no C++ compiler" in capsys.readouterr().out
