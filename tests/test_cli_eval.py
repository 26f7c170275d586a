"""`fastsr eval` from end to end: tables, files, errors, interruption."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import fails, listing, picture, process

from fastsr.cli import eval_plot, main
from fastsr.cli.eval import Section
from fastsr.evaluation import Contender, Score
from fastsr.files import write_picture

FAST = ["--backend", "reference"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "Tiny"
    folder.mkdir(parents=True)
    for name, seed in (("a", 0), ("b", 1)):
        noise = np.random.default_rng(seed).integers(0, 256, (36, 42, 3)).astype(np.uint8)
        write_picture(folder / f"{name}.png", noise)
    return folder.parent


def test_table_and_files(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {kind: tmp_path / f"out.{kind}" for kind in ("csv", "json")}
    arguments = ["eval", "bicubic", "bilinear", "--data", "Tiny", "--root", str(data), "--scale", "3", "2", *FAST]
    assert main([*arguments, "--csv", str(names["csv"]), "--json", str(names["json"])]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("x2") and "Tiny PSNR/SSIM" in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["bicubic", "bilinear"]
    assert "x3 " in out and "Tiny 2 pictures" in out
    rows = list(csv.DictReader(names["csv"].open(encoding="utf-8")))
    assert [(r["model"], r["scale"]) for r in rows] == [("bicubic", "2"), ("bilinear", "2"), ("bicubic", "3"), ("bilinear", "3")]
    assert rows[0]["ms_per_picture"] == rows[0]["parameters"] == "" and float(rows[1]["ms_per_picture"]) > 0
    assert f"{float(rows[0]['psnr']):.2f} / {float(rows[0]['ssim']):.4f}" in lines[2]
    report = json.loads(names["json"].read_text(encoding="utf-8"))
    first = report["results"][0]
    assert [e["picture"] for e in first["each"]] == ["a", "b"]
    assert np.mean([e["psnr"] for e in first["each"]]) == pytest.approx(first["psnr"])
    assert str(tmp_path) not in names["json"].read_text(encoding="utf-8")
    assert main([*arguments, "--json", "-", "--limit", "1", "--metrics", "psnr"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["pictures"] == 1


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot(data: Path, tmp_path: Path, kind: str, magic: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    arguments = ["eval", "bicubic", "bilinear", "nearest", "--data", str(data / "Tiny"), "--limit", "1", *FAST]
    assert main([*arguments, "--plot", str(tmp_path / f"p.{kind}")]) == 0
    assert (tmp_path / f"p.{kind}").read_bytes().startswith(magic)
    if kind == "svg":
        text = (tmp_path / "p.svg").read_text(encoding="utf-8")
        assert "<!-- bilinear -->" in text and "<!-- bicubic -->" in text


@pytest.mark.parametrize("apart", [1.02, 1.2, 1.8])
def test_names_in_a_plot_cover_nothing(apart: float) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    one = Contender("bicubic", 2, lambda small: small, None)
    sections = [Section(f"Set{k}", 2, [(one, [Score("a", values={"psnr": 33.0})])]) for k in range(3)]
    for section in sections:
        for k in range(5):
            model = replace(one, name=f"a_network_with_a_name_x{k}", parameters=1_000_000 if k == 2 else 9000)
            time, value = (0.006 * apart**k, 36 + 0.1 * (-1) ** k) if k < 4 else (0.18, 33.02)
            section.scores.append((model, [Score("a", seconds=time, values={"psnr": value})]))
    figure, drawn = eval_plot.draw(sections)
    before = [axes.get_window_extent() for axes, _, _ in drawn]
    figure.savefig(io.BytesIO(), format="png")
    np.testing.assert_allclose(before, [axes.get_window_extent() for axes, _, _ in drawn], rtol=1e-9)
    for axes, names, lines in drawn:
        boxes = [name.get_window_extent() for name, _ in names]
        everything = [*boxes, *(line.get_window_extent() for line in lines)]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(everything, 2))
        panel = axes.get_window_extent()
        assert all(panel.containsx(x) and panel.containsy(y) for box in boxes for x, y in box.corners())
        for k, (name, _) in enumerate(names):
            x, y = axes.transData.transform(name.xy)
            assert not any(box.contains(x, y) for i, box in enumerate(boxes) if i != k)


def test_pictures_that_fail_are_told_and_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(data / "Tiny" / "c.png", picture(1, 30))
    assert main(["eval", "bicubic", "bilinear", "--data", str(data / "Tiny"), *FAST]) == 1
    out, err = capsys.readouterr()
    assert err.count("fastsr: Tiny x2, c, ") == 2 and "too small for the scale 2" in err
    assert out.count("(2)") == 2 and "how many pictures could be measured" in out
    for name in ("a", "b"):
        (data / "Tiny" / f"{name}.png").unlink()
    assert main(["eval", "bicubic", "--data", str(data / "Tiny"), *FAST]) == 1
    assert "- / - (0)" in capsys.readouterr().out


def test_equal_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "flat.png", np.full((40, 40), 9, np.uint8))
    assert main(["eval", "bicubic", "--data", str(tmp_path), "--json", "-"]) == 0
    row = json.loads(capsys.readouterr().out)["results"][0]
    assert row["psnr"] is None and row["ssim"] == 1
    assert main(["eval", "bicubic", "--data", str(tmp_path)]) == 0
    assert "inf / 1.0000" in capsys.readouterr().out


def test_scales_are_those_of_the_models(shared: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(shared / "models/tensorflow" / f"{name}.pb") for name in ("FSRCNN-small_x2", "FSRCNN_x3")]
    assert main(["eval", *models, "bicubic", "--data", str(data / "Tiny"), "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "/ 0." in line] == ["FSRCNN-small_x2.pb", "bicubic", "FSRCNN_x3.pb", "bicubic"]
    srcnn = str(shared / "models/keras/SRCNN_rgb_full_model.h5")
    assert main(["eval", srcnn, "--data", str(data / "Tiny"), "--limit", "1", "--scale", "2", "4", "--protocol", "luma"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("x")] == ["x2", "x4"]
    fails(capsys, ["eval", models[0], "--data", data / "Tiny", "--scale", 3], "which --scale 3 leaves out")


def test_errors(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTSR_DATA", raising=False)
    tiny = data / "Tiny"
    (tmp_path / "empty").mkdir()
    fails(capsys, ["eval", "bicubic", "--data", "Set5"], "--root or FASTSR_DATA")
    fails(capsys, ["eval", "bicubic", "--data", "Set5", "--root", data], "there are Tiny")
    fails(capsys, ["eval", "bicubic", "--data", tmp_path / "empty"], "no picture in the folder")
    fails(capsys, ["eval", "missing.pb", "--data", tiny], "no model file 'missing.pb'")
    fails(capsys, ["eval", "bicubic", "--data", tiny, "--csv", tmp_path / "no" / "a.csv"], "does not exist")
    fails(capsys, ["eval", "bicubic", "--data", tiny, "--csv", tmp_path], "it is a folder")
    fails(capsys, ["eval", "bicubic", "--data", tiny, "--scale", "1"], "at least 2", 2)
    fails(capsys, ["eval", "bicubic", "--data", tiny, "--metrics", "psnr", "psnr"], "twice", 2)
    fails(capsys, ["eval", "bicubic"], "--data", 2)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    fails(capsys, ["eval", "bicubic", "--data", tiny, "--plot", tmp_path / "a.png"], "pip install matplotlib")
    fails(capsys, ["eval", "bicubic", "--data", tiny, "--plot", tmp_path / "a.txt"], "end the name with .png")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupted(shared: Path, tmp_path: Path) -> None:
    """Ctrl-C while a network computes: one line, exit code 130, no file."""
    write_picture(tmp_path / "bad.png", picture(1, 9))
    write_picture(tmp_path / "large.png", picture(1200, 1200))
    model = shared / "models/torch/IMDN_x2.pth"
    p = process("eval", model, "--data", tmp_path, "--csv", tmp_path / "out.csv", "--runs", "100")
    assert p.stderr is not None
    first = p.stderr.readline()
    assert "too small" in first
    p.send_signal(signal.SIGINT)
    _, error = p.communicate(timeout=300)
    assert p.returncode == 130
    assert error == "fastsr: interrupted\n"
    assert listing(tmp_path) == ["bad.png", "large.png"]
