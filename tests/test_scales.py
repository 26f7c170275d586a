"""Weights for several scales: the one that is asked for, before what the file's name tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_archs_carn import Carn
from test_archs_lapsrn import Twtygqyy
from test_archs_others import Mdsr
from torch_check import seeded, torch

import fastsr
from fastsr import cli, onnx_file
from fastsr.errors import ModelError
from fastsr.files import write_picture
from fastsr.graph import Feed, Graph, Input, Node


def nets() -> dict[str, Any]:
    return {"carn": seeded(Carn, 8, 2), "mdsr": seeded(Mdsr, 8, 2, (2, 3, 4), 2), "lapsrn": seeded(Twtygqyy, 8, 2, 2)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scales")
    for name, net in nets().items():
        torch.save(net.state_dict(), out / f"{name}.pth")
        torch.save(net.state_dict(), out / f"{name}_x2.pth")
        torch.save({"params": net.state_dict()}, out / f"{name}_x8.pth")
    return out


@pytest.mark.filterwarnings("ignore:the weights are taken")
@pytest.mark.parametrize("name", ["carn", "mdsr", "lapsrn"])
def test_the_keyword_wins(folder: Path, name: str) -> None:
    held = (2, 4) if name == "lapsrn" else (2, 3, 4)
    for scale in held:
        for stem in (name, f"{name}_x2", f"{name}_x8"):
            model = fastsr.load(folder / f"{stem}.pth", "reference", scale=scale)
            assert model.scale == scale
            assert str(model.program.meta["scales"]).startswith(", ".join(f"x{n}" for n in held))
    assert fastsr.load(folder / f"{name}_x2.pth", "reference").scale == 2


@pytest.mark.filterwarnings("ignore:the weights are taken")
@pytest.mark.parametrize("name", ["carn", "mdsr", "lapsrn"])
@pytest.mark.parametrize("scale", [5, 8, 2.5, 1, 0, float("inf"), float("nan")])
def test_scales_that_it_does_not_hold(folder: Path, name: str, scale: float) -> None:
    with pytest.raises(ModelError) as error:
        fastsr.load(folder / f"{name}_x2.pth", "reference", scale=scale)
    if scale in (5, 8):
        assert f"scale {scale} is asked for" in str(error.value)
        assert "x2, x4" in str(error.value) or "x2, x3, x4" in str(error.value)


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(folder / "carn_x2.pth"), "--scale", "3", "--size", "64x64"]) == 0
    text = capsys.readouterr().out
    assert "scale x3" in text
    assert "x2, x3, x4" in text and "  scale: 3" not in text
    saved = tmp_path / "carn.fsr"
    assert cli.main(["convert", str(folder / "carn_x2.pth"), str(saved), "--scale", "4"]) == 0
    assert fastsr.load(saved, "reference").scale == 4
    assert "scales" not in fastsr.load(saved, "reference").program.meta
    assert cli.main(["info", str(folder / "carn_x2.pth"), "--scale", "7"]) != 0
    assert "x2, x3, x4" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:the weights are taken")
def test_eval_takes_them_at_each_scale(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (36, 36, 3)).astype(np.uint8))
    network = Graph([Input("x", 1)], ["y"], [Node("Conv", ["x", "w"], ["y"])], {"w": np.ones((1, 1, 1, 1), np.float32)}, Feed("y"))
    (tmp_path / "keeps.onnx").write_bytes(onnx_file.onnx_bytes(network))
    arguments = ["--data", str(tmp_path), "--backend", "reference", "--metrics", "psnr"]
    assert cli.main(["eval", str(folder / "carn.pth"), str(tmp_path / "keeps.onnx"), *arguments, "--scale", "3", "2"]) == 0
    out = capsys.readouterr().out
    assert "x2 " in out and "x3 " in out and out.count("carn.pth") == out.count("keeps.onnx") == 2
    assert cli.main(["eval", str(folder / "carn.pth"), *arguments, "--scale", "5"]) == 1
    assert "x2, x3, x4" in capsys.readouterr().err
