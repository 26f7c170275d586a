"""The networks that come with fastsr: finding them by name, and the files themselves, of which there may be none."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import HANGS
from programs import Builder, espcn

import fastsr
from fastsr import fsr, shipped
from fastsr.cli import main, models
from fastsr.dnn_superres import DnnSuperResImpl_create
from fastsr.errors import FastsrError, ModelError
from fastsr.evaluation import contender as contender_of
from fastsr.evaluation import evaluate, items_of, means, multiply_adds_of, parameters_of
from fastsr.graph import Feed
from fastsr.train.recipes import RECIPES, fixed

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
CARD = ("name", "scale", "architecture", "parameters", "multiply_adds", "command", "steps", "seed", "settings", "date", "data", "licence", "sha256",
        "evaluation")  # fmt: skip
SHIPPED = list(shipped.files().values())


def write(folder: Path, name: str, scale: int, channels: int = 2) -> Path:
    path = folder / f"{name}_x{scale}.fsr"
    fsr.save(espcn(scale, channels=(channels, channels)), path, half=True)
    scores = {"Set5": {"psnr": 30 + scale / 10, "ssim": 0.9}, "Set14": {"psnr": 28.5, "ssim": 0.8}}
    bicubic = {"Set5": {"psnr": 29.25, "ssim": 0.85}}
    card = {"name": name, "scale": scale, "parameters": 1234, "multiply_adds": 56.5, "seed": 0, "evaluation": {"sets": scores, "bicubic": bicubic}}
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of untrained networks in place of the package's."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name, scale in (("photo", 4), ("fast", 3), ("fast", 2), ("espcn", 2), ("own", 2)):
        write(folder, name, scale)
    (folder / "Odd_x2.fsr").write_bytes(b"")
    (folder / "fast_x0.fsr").write_bytes(b"")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


@pytest.fixture
def none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "missing")


# ---- names -------------------------------------------------------------------------------------------------------------------------------------


def test_names(weights: Path) -> None:
    assert shipped.names() == ["fast", "espcn", "photo", "own"]
    assert list(shipped.files()) == [("fast", 2), ("fast", 3), ("espcn", 2), ("photo", 4), ("own", 2)]
    assert shipped.scales("fast") == [2, 3] and shipped.scales("best") == []
    assert [shipped.is_shipped(n) for n in ("fast", "fast_x3", "fast_x4", "best", "fast_x", "")] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("name", "scale", "file"),
    [("fast", None, "fast_x2"), ("fast", 3, "fast_x3"), ("fast", 3.0, "fast_x3"), ("photo", None, "photo_x4"), ("fast_x3", None, "fast_x3"),
     ("fast_x3", 3, "fast_x3")],
)  # fmt: skip
def test_found(weights: Path, name: str, scale: float | None, file: str) -> None:
    assert shipped.find(name, scale) == weights / f"{file}.fsr"
    model = fastsr.load(name, "reference", scale=scale)
    assert model.scale == int(file[-1])
    assert model.upscale(np.zeros((4, 5, 3), np.uint8)).shape == (4 * model.scale, 5 * model.scale, 3)


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [("fast", 4, "'fast' does not enlarge by 4: 'fast' is there for x2, x3"), ("fast", 2.5, "by 2.5: 'fast' is there for x2, x3"),
     ("fast_x3", 2, "'fast_x3' enlarges by 3, not by 2: 'fast' is there for x2, x3"), ("photo", 2, "is there for x4")],
)  # fmt: skip
def test_other_scales(weights: Path, name: str, scale: float, message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        fastsr.load(name, scale=scale)


def test_other_names(weights: Path) -> None:
    with pytest.raises(FileNotFoundError, match="those that come with fastsr are fast, espcn, photo, own"):
        fastsr.load("balanced")
    with pytest.raises(ModelError, match="no network 'balanced' comes with fastsr: there are fast, espcn, photo, own"):
        shipped.find("balanced")
    with pytest.raises(FileNotFoundError, match="no such model file"):
        fastsr.load("fast.pb")


def test_files_come_first_and_folders_do_not(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast").mkdir()
    assert fastsr.load("fast", "reference").scale == 2
    (tmp_path / "fast").rmdir()
    fsr.save(espcn(4, channels=(2, 2)), tmp_path / "fast")
    assert fastsr.load("fast", "reference").scale == 4
    fsr.save(espcn(2, channels=(2, 2)), weights / "bicubic_x2.fsr")
    assert fastsr.load("bicubic", "reference").program.meta["format"] == "baseline"


def test_without_any(none: None) -> None:
    assert shipped.names() == [] and shipped.files() == {}
    with pytest.raises(FileNotFoundError, match="none comes with this installation"):
        fastsr.load("fast")
    with pytest.raises(ModelError, match="none does in this installation"):
        shipped.find("fast")
    with pytest.raises(ModelError, match="no network comes with this installation"):
        shipped.default()


def test_default(weights: Path) -> None:
    assert [shipped.default(s).stem for s in (2, 3, 4)] == ["fast_x2", "fast_x3", "photo_x4"]
    with pytest.raises(ModelError, match="enlarges by 8, only by 2, 3, 4"):
        shipped.default(8)
    write(weights, "balanced", 2)
    assert shipped.default().stem == "balanced_x2"


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{", "not JSON"), ("[1]", "not a JSON object"), ("[" * 100_000, "not JSON"), ("\udcff", "not JSON")],
    ids=["missing", "cut", "list", "deep", "bytes"],
)  # fmt: skip
def test_bad_cards(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a_x2.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=message):
        shipped.card(tmp_path / "a_x2.fsr")


def test_the_drop_in_reads_files_only(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sr = DnnSuperResImpl_create()
    with pytest.raises(FastsrError, match=re.escape(str(weights / "fast_x2.fsr"))):
        sr.readModel("fast")
    (tmp_path / "fast").mkdir()
    with pytest.raises(FastsrError, match="folder"):
        sr.readModel("fast")
    sr.readModel(fastsr.shipped.find("fast"))
    sr.setModel("espcn", 2)
    assert sr.upsample(np.zeros((4, 5, 3), np.uint8)).shape == (8, 10, 3)


# ---- 16-bit weights ----------------------------------------------------------------------------------------------------------------------------


def test_half_is_rounded_once_and_read_the_same_everywhere() -> None:
    program = espcn(channels=(9, 7))
    weight = program.steps[0].weight
    assert weight is not None
    weight.flat[:6] = [1e-7, -6e-8, 2e-8, 65503.0, -0.0, 1 / 3]
    data = fsr.dumps(program, half=True)
    assert len(data) < 0.7 * len(fsr.dumps(program))
    read = fsr.loads(data)
    for a, b in zip(program.steps, read.steps):
        assert a.weight is not None and b.weight is not None and a.bias is not None and b.bias is not None
        assert np.array_equal(a.weight.astype(np.float16).astype(np.float32), b.weight)
        assert np.array_equal(a.bias, b.bias)
    assert fsr.dumps(read, half=True) == data
    core = pytest.importorskip("fastsr._core", reason="the C++ core is not built")
    x = np.random.default_rng(0).random((1, 1, 12, 17)).astype(np.float32)
    assert np.array_equal(core.Model(data).run([x], [0])[0], core.Model(fsr.dumps(read)).run([x], [0])[0])


def test_half_leaves_what_it_cannot_hold() -> None:
    b = Builder(4)
    b.conv(0, 8)
    b.conv(b.last, 8, epilogue=[b.prelu(8)])
    b.conv(b.last, 1, k=1)
    program = b.program()
    assert program.steps[0].weight is not None
    program.steps[0].weight[0, 0, 0, 0] = 7e4
    read = fsr.loads(fsr.dumps(program, half=True))
    exact = [np.array_equal(p.weight, q.weight) for p, q in zip(program.steps, read.steps)]
    assert exact == [True, False, True]
    slopes, again = (q.steps[1].epilogue[0].tensor for q in (program, read))
    assert slopes is not None and again is not None and np.array_equal(slopes, again)


# ---- the command -------------------------------------------------------------------------------------------------------------------------------


def test_models(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "scale", "parameters", "mult-adds/pixel", "Set5", "Set14", "BSD100", "size"]
    assert [line.split()[:2] for line in lines[2:7]] == [["fast", "x2"], ["fast", "x3"], ["espcn", "x2"], ["photo", "x4"], ["own", "x2"]]
    assert lines[2].split()[2:7] == ["1234", "56.5", "30.20", "28.50", "-"]
    assert main(["models", "--cards"]) == 0
    text = capsys.readouterr().out
    assert text.count("multiply_adds: 56.5") == 5 and "Set5: psnr 30.2, ssim 0.9" in text


def test_models_measured_as_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json", "--measure", "--runs", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["path"]) for row in found] == list(shipped.files().values())
    for row in found:
        assert row["bytes"] == Path(row["path"]).stat().st_size and row["card"]["seed"] == 0
        assert row["ms_per_megapixel"] == pytest.approx(row["ms"] / (0.5184 * row["scale"] ** 2), abs=1e-3)
    assert main(["models", "--measure", "--runs", "1", "-j", "1"]) == 0
    assert "ms/megapixel" in capsys.readouterr().out


def test_models_without_any(none: None, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--cards"], ["--measure"]):
        assert main(["models", *options]) == 0
        assert capsys.readouterr().out == "no network comes with this installation of fastsr\n"
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert models.NONE in models.markdown(models.rows())


def test_the_page_has_a_row_for_each(weights: Path) -> None:
    page = models.markdown(models.rows())
    assert "| `fast` | x3 | 1234 | 56.5 | 30.30 / 0.9000 | 28.50 / 0.8000 | - / - |" in page
    assert page.count("| bicubic | x") == 3 and "29.25 / 0.8500" in page


def test_the_page_is_up_to_date() -> None:
    """Write it again with: fastsr models --markdown > docs/models.md"""
    assert PAGE.read_text(encoding="utf-8") == models.markdown(models.rows())


# ---- the files that are there ------------------------------------------------------------------------------------------------------------------


def test_all_together_are_small() -> None:
    assert sum(p.stat().st_size for p in shipped.FOLDER.iterdir() if p.is_file()) < shipped.MAX_BYTES


def test_nothing_else_is_there() -> None:
    ours = {p.with_suffix(s).name for p in SHIPPED for s in (".fsr", ".json")}
    assert {p.name for p in shipped.FOLDER.iterdir() if p.is_file()} - ours == {"__init__.py"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_card_says_what_the_file_is(path: Path) -> None:
    card = shipped.card(path)
    assert [k for k in CARD if k not in card] == []
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == card["sha256"]
    program = fsr.loads(data)
    assert f"{card['name']}_x{card['scale']}" == path.stem
    assert program.scale() * program.feed.pre_scale == card["scale"]
    assert (program.feed.colour, program.feed.fine) == (card["colour"], card["colour"] == "y")
    assert parameters_of(program) == card["parameters"]
    assert multiply_adds_of(program) == pytest.approx(card["multiply_adds"], abs=0.1)
    assert fsr.dumps(program, half=True) == data
    sets = card["evaluation"]["sets"]
    assert {k: v["pictures"] for k, v in sets.items()} == {"Set5": 5, "Set14": 14, "BSD100": 100}
    assert card["evaluation"]["bicubic"].keys() == sets.keys()


@lru_cache
def measured(path: Path, pictures: Path) -> dict[str, Any]:
    model = contender_of("m", fastsr.load(path))
    model = replace(model, timed=False)
    return means([score for _, score in evaluate([model], items_of(pictures, model.scale))])


@pytest.mark.parametrize("path", [p for p in SHIPPED if not p.stem.startswith("photo")], ids=lambda p: p.stem)
def test_card_says_what_the_network_does(shared: Path, path: Path) -> None:
    found, said = measured(path, shared / "images" / "Set5"), shipped.card(path)["evaluation"]["sets"]["Set5"]
    assert found["psnr"] == pytest.approx(said["psnr"], abs=2e-3)
    assert found["ssim"] == pytest.approx(said["ssim"], abs=1e-4)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_networks_are_better_than_bicubic(path: Path) -> None:
    if path.stem.startswith("photo"):
        pytest.skip("trained for looks, not for PSNR")
    evaluation = shipped.card(path)["evaluation"]
    for name, scores in evaluation["sets"].items():
        assert scores["psnr"] > evaluation["bicubic"][name]["psnr"]


# ---- packages ----------------------------------------------------------------------------------------------------------------------------------


def test_packages_hold_them(tmp_path: Path) -> None:
    """What setuptools copies into a wheel, without building the core, and lists for a source distribution."""
    pytest.importorskip("setuptools")
    if not (ROOT / "setup.py").is_file():
        pytest.skip("not a source tree")
    source = tmp_path / "source"
    folder = source / "fastsr" / "weights"
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "fastsr" / "__init__.py").touch()
    (source / "fastsr" / "_version.py").write_text('__version__ = "0"\n')
    (folder / "__init__.py").touch()
    for name in ("toy_x2.fsr", "toy_x2.json", "toy_x2.txt"):
        (folder / name).write_text("{}")
    command = [sys.executable, "setup.py", "-q", "egg_info", "build_py", "--build-lib", "built"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=HANGS)
    if "No module named" in done.stderr:
        pytest.skip("setuptools cannot run here")
    assert done.returncode == 0, done.stderr
    wanted = {"__init__.py", "toy_x2.fsr", "toy_x2.json"}
    assert {p.name for p in (source / "built" / "fastsr" / "weights").iterdir()} == wanted
    listed = (source / "fastsr.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").replace("\\", "/").split()
    assert {Path(n).name for n in listed if n.startswith("fastsr/weights/")} == wanted


# ---- making them -------------------------------------------------------------------------------------------------------------------------------


def test_a_training_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ship = pytest.importorskip("ship")
    training, out = tmp_path / "espcn-x2", tmp_path / "out"
    training.mkdir()
    out.mkdir()
    arguments = [str(training), "--name", "espcn", "--images", str(tmp_path), "--sets", "Tiny", "--out", str(out), "--date", "2026-01-01"]
    assert ship.main(arguments) == 1
    assert "no finished training" in capsys.readouterr().err
    rng = np.random.default_rng(0)
    (tmp_path / "Tiny").mkdir()
    fastsr.files.write_picture(tmp_path / "Tiny" / "a.png", rng.integers(0, 256, (40, 36, 3)).astype(np.uint8))
    program = replace(espcn(channels=(6, 5)), meta={"source": str(tmp_path)})
    fsr.save(program, training / "espcn_x2.fsr")
    settings = {"arch": "espcn", "scale": 2, "seed": 7}
    (training / "training.json").write_text(json.dumps({"settings": settings, "steps": 300, "seconds": 43.5}))
    assert ship.main(arguments) == 1
    assert "is not what `fastsr train` writes" in capsys.readouterr().err
    recipe = asdict(replace(RECIPES["espcn"], options={"width": 6}, finish=0.2, rate=0.001, stages=fixed(24, 8), contours=0.5))
    settings |= {**recipe, "degradation": "photo", "init": "first.safetensors"}
    (training / "training.json").write_text(json.dumps({"settings": settings, "steps": 300, "seconds": 43.5}))
    (training / "curve.csv").write_text("step,psnr\n100\n")
    assert ship.main(arguments) == 1
    assert "curve.csv' is not what" in capsys.readouterr().err
    (training / "curve.csv").write_text("step,seconds,rate,loss,psnr\n100,1.0,0.1,0.5,30.12345\n200,2.0,0.1,0.4,nan\n300,3.0,0.1,0.4,31.5\n")
    assert ship.main(arguments) == 0
    assert sorted(p.name for p in out.iterdir()) == ["espcn_x2.fsr", "espcn_x2.json"]
    card = shipped.card(out / "espcn_x2.fsr")
    assert [k for k in CARD if k not in card] == []
    wanted = "fastsr train --arch espcn --scale 2 --data photos/ --colour y --option width=6 --patch 24 --batch 8 --degradation photo --loss l1"
    wanted += " --finish 0.2 --optimiser soap --rate 0.001 --choice 4 --seed 7 --contours 0.5 --init first.safetensors --steps 300"
    assert card["command"] == wanted
    assert card["curve"] == {"step": [100, 300], "psnr": [30.123, 31.5]}
    assert card["sha256"] == hashlib.sha256((out / "espcn_x2.fsr").read_bytes()).hexdigest()
    assert card["evaluation"]["sets"]["Tiny"]["psnr"] != card["evaluation"]["bicubic"]["Tiny"]["psnr"]
    assert str(tmp_path) not in (out / "espcn_x2.json").read_text() and str(tmp_path).encode() not in (out / "espcn_x2.fsr").read_bytes()
    assert fsr.load(out / "espcn_x2.fsr").feed == Feed("y")
    monkeypatch.setattr(shipped, "MAX_BYTES", 1000)
    assert ship.main(arguments) == 1
    assert "more than 1000" in capsys.readouterr().err
