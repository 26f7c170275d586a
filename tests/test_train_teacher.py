"""fastsr.train's teachers: networks whose pictures are learnt from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import Builder

import fastsr
from fastsr import fsr
from fastsr.cli import main
from fastsr.errors import FastsrError, ModelError
from fastsr.files import write_picture
from fastsr.graph import Feed
from fastsr.model import Model
from fastsr.program import Epilogue, Program

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from trainings import job  # noqa: E402

from fastsr.train import pictures, run, teacher  # noqa: E402
from fastsr.train.report import Report  # noqa: E402


def doubling(colour: str, fine: bool = False, gain: float = 1.0) -> Program:
    """A network that enlarges by 2, of that colour, to pictures that look like its input's, `gain` times as bright, channels in their order."""
    channels = 1 if colour == "y" else 3
    b = Builder([channels])
    b.conv(0, 4 * channels, k=1, pt=0, epilogue=[Epilogue("DepthToSpace", a=2.0, b=1.0)])
    program = b.program()
    weight = np.zeros((4 * channels, channels, 1, 1), np.float32)
    for c in range(channels):
        weight[4 * c : 4 * c + 4, c, 0, 0] = 0.6 + 0.1 * np.arange(4) - 0.05 * c
    program.steps[0] = replace(program.steps[0], weight=weight * np.float32(gain), bias=np.zeros(4 * channels, np.float32))
    program.feed = Feed(colour, fine=fine)
    return program


class Counted:
    """A model that notes each picture that it is given."""

    def __init__(self, model: Model, asked: list[int]) -> None:
        self.model, self.asked = model, asked

    def upscale(self, picture: np.ndarray) -> np.ndarray:
        self.asked.append(picture.size)
        return self.model.upscale(picture)


def photographs(folder: Path, count: int, height: int = 60) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(count)
    for k in range(count):
        write_picture(folder / f"{folder.name}{k}.png", rng.integers(20, 200, (height, 70 + k, 3)).astype(np.uint8))
    return folder


def test_answers_of_y_are_not_rounded_before() -> None:
    model = Model(doubling("y", fine=True))
    rgb = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    small = pictures.small_planes(rgb, "y")
    got = teacher.answer(model, small, 2)
    assert (got.shape, got.dtype) == ((1, 40, 48), np.uint8)
    x = small.astype(np.float32) / np.float32(255 * pictures.PARTS)
    want = np.clip(np.rint(model.run(x[None])[0] * 255), 0, 255)
    np.testing.assert_array_equal(got, want)
    whole = np.rint(small / pictures.PARTS)
    assert (got != np.clip(np.rint(model.run((whole / 255).astype(np.float32)[None])[0] * 255), 0, 255)).any()


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_answers_of_colours(colour: str) -> None:
    program = doubling(colour)
    rgb = np.random.default_rng(1).integers(0, 256, (10, 12, 3)).astype(np.uint8)
    got = teacher.answer(Model(program), pictures.small_planes(rgb, "rgb"), 2)
    want = Model(program).upscale(rgb[:, :, ::-1])[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(got, want)
    assert got.flags.c_contiguous
    assert (got[0] != got[2]).any()


def test_an_rgb_network_teaches_y() -> None:
    """The luma of what it makes of a grey picture."""
    small = pictures.small_planes(np.random.default_rng(2).integers(0, 256, (10, 12, 3)).astype(np.uint8), "y")
    model = Model(doubling("rgb"))
    got = teacher.answer(model, small, 2)
    x = np.repeat(small.astype(np.float32) / np.float32(255 * pictures.PARTS), 3, axis=0)
    red, green, blue = model.run(x[None])[0]
    want = np.clip(255 * (0.299 * red + 0.587 * green + 0.114 * blue), 0, 255)
    assert got.shape == (1, 20, 24)
    np.testing.assert_allclose(got[0], want, rtol=0, atol=0.51)


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_answers_are_the_mean_of_views(colour: str, count: int) -> None:
    """`doubling` makes four different pixels of each, so turned pictures have them elsewhere: the mean of a picture and of it upside down makes
    pixels on diagonals equal, that of more views all four."""
    small = pictures.small_planes(np.random.default_rng(4).integers(20, 200, (9, 12, 3)).astype(np.uint8), colour)
    model = Model(doubling(colour, fine=colour == "y"))
    one, got = teacher.answer(model, small, 2), teacher.answer(model, small, 2, count)
    assert (got.shape, got.dtype) == (one.shape, np.uint8)
    spread = [int(np.ptp(a[0].astype(int).reshape(9, 2, 12, 2), axis=(1, 3)).max()) for a in (one, got)]
    assert spread[0] > 10
    assert spread[1] == spread[0] if count == 1 else spread[1] <= 1
    asked: list[int] = []
    teacher.answer(Counted(model, asked), small, 2, count)  # type: ignore[arg-type]
    assert len(asked) == count
    np.testing.assert_allclose(got.reshape(-1, 9, 2, 12, 2).mean((2, 4)), one.reshape(-1, 9, 2, 12, 2).mean((2, 4)), atol=1.0)


def test_answers_that_do_not_fit() -> None:
    small = pictures.small_planes(np.random.default_rng(3).integers(0, 256, (20, 24, 3)).astype(np.uint8), "y")
    b = Builder([1])
    b.conv(0, 4, pt=0, pl=0, pb=0, pr=0, epilogue=[Epilogue("DepthToSpace", a=2.0, b=1.0)])
    program = b.program()
    program.feed = Feed("y")
    with pytest.raises(FastsrError, match="36x44 of 20x24 pixels, not 2 times"):
        teacher.answer(Model(program), small, 2)
    program = doubling("y")
    program.steps[0].weight[:] = np.inf  # type: ignore[index]
    with pytest.raises(FastsrError, match="not finite"):
        teacher.answer(Model(program), small - small.min(), 2)


@pytest.mark.parametrize("degradation", ["bicubic", "photo"])
def test_training_sees_answers(degradation: str, tmp_path: Path) -> None:
    """Of photographs and of their twins with contours; what is measured on are photographs."""
    fsr.save(doubling("y"), tmp_path / "double.fsr")
    fsr.save(doubling("y", gain=0.5), tmp_path / "darker.fsr")
    data, valid = photographs(tmp_path / "data", 2), photographs(tmp_path / "valid", 1)
    plain = job(data, tmp_path / "out", valid=valid, degradation=degradation, keep_cache=True)
    plain = replace(plain, recipe=replace(plain.recipe, contours=1.0))
    report = Report(tmp_path / "out", quiet=True)
    jobs = [plain, *(replace(plain, teacher=tmp_path / name) for name in ("double.fsr", "darker.fsr"))]
    (alone, kept), (taught, same), (other, _) = (run._pictures(j, report) for j in jobs)
    assert len({alone.mark, taught.mark, other.mark}) == 3
    model = fastsr.load(tmp_path / "double.fsr")
    for a, b, c in zip(alone, taught, other, strict=True):
        np.testing.assert_array_equal(a.small, b.small)
        np.testing.assert_array_equal(b.large, teacher.answer(model, a.small, 2))
        assert b.large.mean() > 1.5 * c.large.mean()
        assert (a.large != b.large).any()
    np.testing.assert_array_equal(kept[0].large, same[0].large)
    views, _ = run._pictures(replace(jobs[1], teacher_views=4), report)
    assert views.mark not in (alone.mark, taught.mark, other.mark)
    for a, b, c in zip(alone, taught, views, strict=True):
        np.testing.assert_array_equal(c.large, teacher.answer(model, a.small, 2, 4))
        assert (b.large != c.large).any()


def test_command_learns_from_a_teacher(tmp_path: Path) -> None:
    """And goes on only with the same one."""
    photographs(tmp_path / "data", 2)
    fsr.save(doubling("y", fine=True), tmp_path / "double.fsr")
    fsr.save(doubling("y"), tmp_path / "rounding.fsr")
    folders = ["--data", str(tmp_path / "data"), "--val", str(photographs(tmp_path / "valid", 1)), "--out", str(tmp_path / "out")]
    sizes = ["--option", "width=4", "--option", "layers=1", "--patch", "8", "--batch", "2"]
    words = ["train", "--arch", "plain", "-q", "-j", "1", *sizes, *folders, "--steps"]
    assert main([*words, "3", "--teacher", str(tmp_path / "double.fsr")]) == 0
    facts = json.loads((tmp_path / "out" / "training.json").read_text())
    assert facts["settings"]["teacher"] == "double.fsr"
    assert main([*words, "4", "--teacher", str(tmp_path / "rounding.fsr")]) == 1
    assert main([*words, "4"]) == 1
    assert main([*words, "4", "--teacher", str(tmp_path / "double.fsr")]) == 0
    assert json.loads((tmp_path / "out" / "training.json").read_text())["steps"] == 4
    assert "teacher_views" not in facts["settings"]
    assert main([*words, "5", "--teacher", str(tmp_path / "double.fsr"), "--teacher-views", "2"]) == 1
    again = [*words, "3", "--restart", "--teacher", str(tmp_path / "double.fsr"), "--teacher-views", "2"]
    assert main(again) == 0
    assert json.loads((tmp_path / "out" / "training.json").read_text())["settings"]["teacher_views"] == 2
    assert main([*words, "4", "--teacher", str(tmp_path / "double.fsr")]) == 1
    assert main([*words, "3", "--restart", "--teacher-views", "2"]) == 2
    assert main([*again[:-1], "9"]) == 2


def test_finetuning_learns_from_a_teacher(tmp_path: Path) -> None:
    """A network that doubles the picture, 0.75 as bright, becomes darker, as its teacher is; alone it becomes brighter."""
    data, valid = photographs(tmp_path / "data", 2, 80), photographs(tmp_path / "valid", 1)
    fsr.save(doubling("y", fine=True), tmp_path / "double.fsr")
    fsr.save(doubling("y", fine=True, gain=0.5), tmp_path / "darker.fsr")
    words = ["finetune", str(tmp_path / "double.fsr"), "--data", str(data), "--val", str(valid), "-q", "-j", "1", "--steps", "60", "--rate", "2e-2"]
    gains = []
    for name, more in (("alone", []), ("taught", ["--teacher", str(tmp_path / "darker.fsr"), "--contours", "1"])):
        assert main([*words, "-o", str(tmp_path / name), *more]) == 0
        program = fsr.load(tmp_path / name / "double-tuned.fsr")
        gains.append(float(program.steps[0].weight.mean()))  # type: ignore[union-attr]
        settings = json.loads((tmp_path / name / "training.json").read_text())["settings"]
        assert (settings.get("teacher"), settings.get("contours", 0)) == (("darker.fsr", 1) if more else (None, 0))
    assert gains[1] < 0.65 < 0.75 < gains[0], gains


def test_teachers_that_cannot_teach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(tmp_path / "data", 3)
    fsr.save(replace(doubling("y"), feed=Feed()), tmp_path / "raw.fsr")
    fsr.save(doubling("y"), tmp_path / "double.fsr")
    (tmp_path / "broken.fsr").write_bytes(b"FSR?")
    cases = [("raw.fsr", 2, "plain", FastsrError), ("double.fsr", 3, "plain", ModelError), ("broken.fsr", 2, "plain", ModelError),
             ("none.fsr", 2, "plain", OSError), ("double.fsr", 2, "srvgg", FastsrError)]  # fmt: skip
    for name, scale, arch, error in cases:
        with pytest.raises(error):
            teacher.find(tmp_path / name, scale, "y" if arch == "plain" else "rgb")
        assert main(["train", "--arch", arch, "-s", str(scale), "--data", str(tmp_path / "data"), "-o", str(tmp_path / "o"), "--steps", "1",
                     "--teacher", str(tmp_path / name), "--restart"]) == 1  # fmt: skip
        assert name in capsys.readouterr().err
    assert teacher.find(Path("fast"), 2, "y").scale == 2
