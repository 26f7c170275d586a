"""`fastsr info`, `convert`, `backends`, `bench` and `run`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import SANITIZED
from commands import fails, listing, process
from limits import HANGS
from programs import Builder, espcn, shuffle

import fastsr
from fastsr import fsr
from fastsr.cli import main
from fastsr.cli.common import binary, thousands
from fastsr.graph import Feed


def test_info_of_a_filter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "lanczos", "-s", "3"]) == 0
    out = capsys.readouterr().out
    assert "scale x3" in out
    assert "9x9 input pixels" in out
    assert "2,187" in out
    assert main(["info", "bicubic", "--program"]) == 0
    assert "Resize" in capsys.readouterr().out
    assert main(["info", "bicubic", "--graph"]) == 0
    assert "= Resize(picture, -, scales" in capsys.readouterr().out


def test_info_of_espcn(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shi et al. 2016, figure 1 and section 3: 5x5x64, 3x3x32, 3x3x(4), so a field of 9x9; the parameters follow."""
    assert main(["info", str(shared / "models/tensorflow/ESPCN_x2.pb"), "--json", "--size", "10x7"]) == 0
    facts = json.loads(capsys.readouterr().out)
    convolutions = [row for row in facts["layers"] if row["op"] == "Conv"]
    assert [(r["kernel"], r["channels_in"], r["parameters"]) for r in convolutions] == [
        ("5x5", [1], 25 * 64 + 64),
        ("3x3", [64], 9 * 64 * 32 + 32),
        ("3x3", [32], 9 * 32 * 4 + 4),
    ]
    multiply_adds = 25 * 64 + 9 * 64 * 32 + 9 * 32 * 4
    totals = facts["totals"]
    assert totals["receptive_field"] == [9, 9]
    assert totals["scale"] == "2"
    assert totals["parameters"] == multiply_adds + 64 + 32 + 4
    assert 2 * multiply_adds <= totals["flops_per_input_pixel"] <= 2.02 * multiply_adds
    assert totals["flops"] == pytest.approx(totals["flops_per_output_pixel"] * 280)
    assert facts["memory"]["result"] == [20, 14]
    assert facts["memory"]["whole_picture_bytes"] == 4 * 70 * (64 + 32)


def test_info_of_the_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Its memory by precision, as the engine itself says when it runs; it does not grow with the height of large pictures."""
    pytest.importorskip("fastsr._core", reason="the C++ extension is not built")
    (tmp_path / "a.fsr").write_bytes(fsr.dumps(espcn()))
    monkeypatch.setenv("FASTSR_THREADS", "2")
    x = np.zeros((1, 1, 200, 300), np.float32)

    def told(*options: str) -> dict[str, Any]:
        assert main(["info", str(tmp_path / "a.fsr"), "--json", *options]) == 0
        return json.loads(capfd.readouterr().out)["memory"]["engine"]

    mib = {}
    for precision in ("f32", "fast"):
        engine = told("--size", "300x200", "--precision", precision)
        assert (engine["precision"], engine["threads"]) == (precision, 2)
        monkeypatch.setenv("FASTSR_DEBUG", "1")
        fastsr.load(tmp_path / "a.fsr", "cpu", precision).run(x)
        monkeypatch.delenv("FASTSR_DEBUG")
        mib[precision] = float(re.findall(r"([\d.]+) MiB in all", capfd.readouterr().err)[-1])
        assert engine["scratch_bytes"] == engine["scratch_bytes_per_thread"] * engine["working_threads"]
        assert 0 <= engine["bytes"] - engine["rings_bytes"] - engine["scratch_bytes"] < 0.1 * engine["bytes"]
        assert mib[precision] - 0.06 <= engine["bytes"] / 2**20 <= mib[precision] * 1.15
    assert mib["fast"] <= mib["f32"]
    assert told("--size", "900x32000")["bytes"] < 1.2 * told("--size", "900x4000")["bytes"]
    monkeypatch.setenv("FASTSR_PRECISION", "fast")
    assert told("--size", "300x200")["precision"] == "fast"
    assert main(["info", str(tmp_path / "a.fsr"), "--size", "300x200"]) == 0
    assert "for the C++ core in fast with" in capfd.readouterr().out
    monkeypatch.delenv("FASTSR_PRECISION")
    assert main(["info", str(tmp_path / "a.fsr"), "--size", "300x200"]) == 0
    text = capfd.readouterr().out
    assert [text.count(s) for s in ("core in f32", "core in fast", "kernel scratch", "packed weights")] == [1, 1, 2, 2]


def test_info_dumps_each_pass(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(shared / "models/tensorflow/FSRCNN-small_x2.pb")
    assert main(["info", model, "--graph"]) == 0
    out = capsys.readouterr().out
    assert out.index("--- as read") < out.index("--- before piecewise_linear") < out.index("--- after piecewise_linear") < out.index("--- final")
    assert "PRelu" in out.partition("--- final")[2]
    assert main(["info", model]) == 0
    assert "PRelu [32]" in capsys.readouterr().out


def test_convert(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = shared / "models/tensorflow/FSRCNN-small_x2.pb"
    assert main(["convert", str(model), str(tmp_path / "a.fsr")]) == 0
    assert "-> " in capsys.readouterr().out
    assert listing(tmp_path) == ["a.fsr"]
    x = np.random.default_rng(0).random((1, 1, 9, 8), np.float32)
    np.testing.assert_array_equal(fastsr.load(tmp_path / "a.fsr", "reference").run(x), fastsr.load(model, "reference").run(x))


def test_backends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("cpu", "numba", "reference", "processor", fastsr.__version__))
    assert main(["backends", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [name for name, reason in facts["backends"].items() if reason is None] == fastsr.available_backends()
    assert main(["backends", "--knobs"]) == 0
    assert "FASTSR_TILE_SEED" in capsys.readouterr().out


def test_bench_of_a_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    arguments = ["bench", "bilinear", "--size", "20x16", "--runs", "2", "--no-peers", "--threads", "1", "--backend", "reference", "--json"]
    assert main([*arguments, str(report)]) == 0
    assert "fastsr reference" in capsys.readouterr().out
    facts = json.loads(report.read_text())
    assert [s["kind"] for s in facts["sections"]] == ["network", "picture"]
    assert all(r["runs"] == 2 and 0 < r["min_ms"] <= r["median_ms"] for s in facts["sections"] for r in s["results"])
    assert str(tmp_path) not in report.read_text()
    assert main([*arguments, "-"]) == 0
    assert json.loads(capsys.readouterr().out)["picture"] == "20x16"


@pytest.mark.skipif(SANITIZED, reason="OpenVINO opens libraries in a way (RTLD_DEEPBIND) that AddressSanitizer refuses")
def test_bench_with_peers(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    model = str(shared / "models/tensorflow/FSRCNN-small_x2.pb")
    assert main(["bench", model, "--size", "33x21", "--runs", "1", "--threads", "1", "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    rows = {(s["kind"], r["name"]): r for s in facts["sections"] for r in s["results"]}
    assert rows["network", "ONNX Runtime"]["difference"]["max_rel"] < 1e-5
    assert ("picture", "cv2.dnn_superres") in rows or "cv2.dnn_superres" in facts["absent"]
    assert rows["network", facts["sections"][0]["results"][0]["name"]]["times_best_peer"] > 0


def test_bench_goes_on_without_peers_that_fail(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OpenCV takes an .fsr file for a network without layers and fails when it is to run it."""
    pytest.importorskip("cv2")
    assert main(["convert", str(shared / "models/tensorflow/FSRCNN-small_x2.pb"), str(tmp_path / "a.fsr")]) == 0
    capsys.readouterr()
    assert main(["bench", str(tmp_path / "a.fsr"), "--size", "8x8", "--runs", "1", "--backend", "reference", "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [[r["name"] for r in s["results"]] for s in facts["sections"]] == [["fastsr reference"]] * 2
    assert "no graph" in facts["absent"]["peers"] and facts["absent"]["cv2.dnn_superres"]


@pytest.mark.parametrize("precision", ["f32", "fast"])
def test_bench_of_kernels(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every convolution has a pick among what was measured, and the table marks it."""
    pytest.importorskip("fastsr._core", reason="the C++ extension is not built")
    b = Builder(1)
    x = b.conv(0, 48, k=5)
    x = b.conv(x, 48)
    b.conv(x, 4, epilogue=[shuffle(2)])
    fsr.save(b.program(feed=Feed("y")), tmp_path / "a.fsr")
    arguments = ["bench", str(tmp_path / "a.fsr"), "--kernels", "--size", "40x30", "--runs", "1", "-j", "1", "--precision", precision, "--json"]
    assert main([*arguments, "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["kernel"], r["cin"], r["cout"]) for r in rows] == [("5x5", 1, 48), ("3x3", 48, 48), ("3x3", 48, 4)]
    assert set(rows[0]["ms"]) == {"direct", "winograd"} | ({"conv16", "conv16rows"} if precision == "fast" else set())
    assert {"direct", "winograd", "winograd2d", "winograd6x6"} <= set(rows[1]["ms"])
    assert ("winograd16" in rows[1]["ms"]) == (precision == "fast")
    for row in rows:
        assert row["pick"] in row["ms"]
        assert all(ms > 0 for ms in row["ms"].values())
    assert rows[1]["gflop"] == pytest.approx(2 * 9 * 48 * 48 * 40 * 30 / 1e9)
    assert main([*arguments, str(tmp_path / "a.json")]) == 0
    assert [line.count("*") for line in capsys.readouterr().out.splitlines()[2:5]] == [1, 1, 1]
    assert json.loads((tmp_path / "a.json").read_text())


def test_bench_says_at_once_that_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastsr, "load", lambda *_, **__: pytest.fail("was loaded"))
    fails(capsys, ["bench", "nearest", "--json", tmp_path / "no" / "out.json"], "does not exist")


def test_graph_of_a_lowered_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "nearest", str(tmp_path / "a.fsr")]) == 0
    capsys.readouterr()
    fails(capsys, ["info", tmp_path / "a.fsr", "--graph"], "holds a lowered program and no graph")


def test_bench_tells_wrong_results(shared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsr.cli import peers

    wrong = peers.Peer("Wrong", "1", lambda x: np.zeros((1, 1, 2 * x.shape[2], 2 * x.shape[3]), np.float32))
    monkeypatch.setattr(peers, "network_peers", lambda *_: ([wrong], {}))
    model = str(shared / "models/tensorflow/FSRCNN-small_x2.pb")
    assert main(["bench", model, "--size", "8x8", "--runs", "1", "--backend", "reference"]) == 1
    assert "DIFFERS" in capsys.readouterr().out


SCRIPT = """
import sys
import cv2
print(cv2.dnn_superres.__name__, sys.argv[1:], __name__)
if sys.argv[1:] == ["fail"]:
    raise ValueError("from the script")
sys.exit(int(sys.argv[1]) if len(sys.argv) == 2 else 0)
"""


@pytest.mark.parametrize(("arguments", "code"), [(["-i", "x", "--help"], 0), (["7"], 7), (["fail"], 1)])
@pytest.mark.parametrize("as_module", [False, True])
def test_run(tmp_path: Path, arguments: list[str], code: int, as_module: bool) -> None:
    (tmp_path / "their_script.py").write_text(SCRIPT)
    program = ["-m", "their_script"] if as_module else [tmp_path / "their_script.py"]
    p = process("run", *program, *arguments, cwd=tmp_path)
    out, error = p.communicate(timeout=HANGS)
    assert p.returncode == code, error
    assert out == f"fastsr.dnn_superres {arguments} __main__\n"
    assert ("ValueError: from the script" in error) == (code == 1)
    assert ("Traceback" in error) == (code == 1)


def test_run_without_such_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["run", tmp_path / "none.py", "-x"], "no such script")


def test_closed_pipe() -> None:
    p = process("backends", "--knobs")
    assert p.stdout is not None
    p.stdout.close()
    p.stdout = None
    _, error = p.communicate(timeout=HANGS)
    assert "Traceback" not in error
    assert "Exception ignored" not in error


@pytest.mark.parametrize(("n", "text"), [(5, "5"), (9999, "9999"), (12345, "12.3 k"), (5e6, "5 M"), (29.3e12, "29.3 T")])
def test_thousands(n: float, text: str) -> None:
    assert thousands(n) == text


@pytest.mark.parametrize(("n", "text"), [(5, "5 B"), (1 << 20, "1 MiB"), (123456789, "118 MiB"), (1001 << 20, "1001 MiB")])
def test_binary(n: int, text: str) -> None:
    assert binary(n) == text
