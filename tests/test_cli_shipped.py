"""`fastsr upscale` without a model and without an output, and the other commands with names of networks that come with fastsr."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import fails, listing, picture
from programs import espcn

import fastsr
from fastsr import fsr, shipped
from fastsr.cli import main
from fastsr.files import read_picture, write_picture


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Untrained networks in place of the package's: fast x2 and x3, espcn x2, photo x4. The current folder is an empty one."""
    folder, here = tmp_path / "weights", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    for seed, (name, scale) in enumerate((("fast", 2), ("fast", 3), ("espcn", 2), ("photo", 4))):
        fsr.save(espcn(scale, seed, channels=(2, 2)), folder / f"{name}_x{scale}.fsr", half=True)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.chdir(here)
    return folder


@pytest.fixture
def photo(weights: Path) -> Path:
    path = Path("photo.jpg")
    write_picture(path, picture(12, 16))
    return path


def test_a_picture_and_nothing_else(weights: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", "photo.jpg"]) == 0
    assert listing(Path()) == ["photo.jpg", "photo_x2.png"]
    assert np.array_equal(read_picture("photo_x2.png"), fastsr.load(weights / "fast_x2.fsr").upscale(read_picture(photo)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("network: fast_x2") and "photo.jpg -> photo_x2.png" in lines[1]
    assert main(["photo.jpg"]) == 0
    assert "photo.jpg -> photo_x2-2.png" in capsys.readouterr().out
    assert main(["-i", "photo.jpg", "-s", "3", "-f", "webp", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert listing(Path()) == ["photo.jpg", "photo_x2-2.png", "photo_x2.png", "photo_x3.webp"]


def test_scale_chooses(weights: Path, photo: Path) -> None:
    for scale, name in ((2, "fast"), (3, "fast"), (4, "photo")):
        assert main(["upscale", "photo.jpg", f"{scale}.png", "-s", str(scale), "--quiet"]) == 0
        assert np.array_equal(read_picture(f"{scale}.png"), fastsr.load(weights / f"{name}_x{scale}.fsr").upscale(read_picture(photo)))


def test_scales_that_are_not_there(photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fails(capsys, ["upscale", "photo.jpg", "-s", "8"], "enlarges by 8, only by 2, 3, 4: -m FILE names a trained network; -m bicubic -s 8 needs none")
    fails(capsys, ["upscale", "photo.jpg", "-m", "espcn", "-s", "3"], "'espcn' is there for x2")
    monkeypatch.setattr(shipped, "FOLDER", Path("none"))
    fails(capsys, ["upscale", "photo.jpg", "out.png"], "no network comes with this installation of fastsr: -m FILE")
    assert listing(Path()) == ["photo.jpg"]


def test_no_output_with_a_model(photo: Path) -> None:
    assert main(["upscale", "photo.jpg", "-m", "nearest", "-s", "5", "--quiet"]) == 0
    assert main(["upscale", "photo.jpg", "-m", "espcn", "-s", "2", "--quiet"]) == 0
    assert main(["upscale", "photo.jpg", "-m", "photo_x4", "--quiet"]) == 0
    assert listing(Path()) == ["photo.jpg", "photo_x2.png", "photo_x4.png", "photo_x5.png"]


def test_folders_without_output(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("album/old").mkdir(parents=True)
    for name in ("a.png", "b.jpg"):
        write_picture(Path("album") / name, picture())
    assert main(["upscale", "album/", "--quiet"]) == 0
    assert listing(Path("album_x2")) == ["a.png", "b.jpg"]
    assert main(["upscale", "album", "--resume"]) == 0
    assert "all 2 pictures are there already" in capsys.readouterr().out
    assert main(["upscale", "album", "--quiet"]) == 0
    assert listing(Path("album_x2-2")) == ["a.png", "b.jpg"]
    Path("here.v1").mkdir()
    write_picture(Path("here.v1/c.png"), picture())
    assert main(["upscale", "here.v1/../here.v1", "--quiet"]) == 0
    assert listing(Path("here.v1_x2")) == ["c.png"]


def test_inputs_that_are_missing(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["upscale", "none.jpg"], "none.jpg")
    fails(capsys, ["upscale", "none.jpg", "out.png"], "none.jpg")
    fails(capsys, ["upscale", "-i", "none.jpg", "-o", ""], "no output", code=2)
    assert listing(Path()) == []


def test_other_commands(weights: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "fast", "-s", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["scale"] == "3"
    assert main(["convert", "fast_x3", "fast.onnx"]) == 0
    assert fastsr.load("fast.onnx").scale == 3
    fails(capsys, ["info", "fast", "--graph"], "holds a lowered program")
    fails(capsys, ["info", "quick"], "the networks that come with fastsr are fast, espcn, photo; the filters are nearest")


def test_eval_takes_the_scales_that_are_there(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("Tiny").mkdir()
    write_picture(Path("Tiny/a.png"), picture(48, 48))
    assert main(["eval", "fast", "espcn", "bicubic", "--data", "Tiny", "-s", "2", "3", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [(r["model"], r["scale"]) for r in rows] == [("fast", 2), ("espcn", 2), ("bicubic", 2), ("fast", 3), ("bicubic", 3)]
    assert main(["eval", "fast", "--data", "Tiny", "--json", "-"]) == 0
    assert [r["scale"] for r in json.loads(capsys.readouterr().out)["results"]] == [2]
    fails(capsys, ["eval", "espcn", "--data", "Tiny", "-s", "3"], "enlarges by 2")
