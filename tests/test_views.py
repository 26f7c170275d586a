"""fastsr.views: the mean of what a network makes of a picture turned and mirrored, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastsr
from fastsr.cli import main
from fastsr.errors import PictureError
from fastsr.files import read_picture, write_picture
from fastsr.views import mean_of_views


def test_views_are_turned_back() -> None:
    picture = np.random.default_rng(5).random((5, 7, 3)).astype(np.float32)
    seen: list[np.ndarray] = []

    def enlarge(view: np.ndarray) -> np.ndarray:
        assert view.flags.c_contiguous
        seen.append(view)
        return view.repeat(2, 0).repeat(2, 1)

    for count in range(1, 9):
        seen.clear()
        np.testing.assert_allclose(mean_of_views(enlarge, picture, count), picture.repeat(2, 0).repeat(2, 1), rtol=1e-6)
        assert len({v.tobytes() for v in seen}) == len(seen) == count
    marked = mean_of_views(lambda v: np.pad(v[1:, 1:], ((1, 0), (1, 0), (0, 0))), picture, 8)
    np.testing.assert_allclose(marked[2, 3], picture[2, 3], rtol=1e-6)
    np.testing.assert_allclose(marked[0, 3], picture[0, 3] / 2, rtol=1e-6)
    np.testing.assert_allclose(marked[0, 0], picture[0, 0] / 4, rtol=1e-6)
    for count in (0, 9):
        with pytest.raises(ValueError, match="1 to 8 views"):
            mean_of_views(enlarge, picture, count)


@pytest.fixture(scope="module")
def network(shared: Path) -> fastsr.Model:
    return fastsr.load(shared / "models" / "tensorflow" / "FSRCNN_x2.pb")


def of_dtype(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if dtype == np.float32:
        return rng.random(shape).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(13, 18), (13, 18, 1), (12, 17, 3), (9, 11, 4)])
def test_pictures_of_all_kinds(shape: tuple[int, ...], dtype: Any, network: fastsr.Model) -> None:
    picture = of_dtype(np.random.default_rng(len(shape)), shape, dtype)
    want = []
    for turns in range(4):
        for mirrored in (False, True):
            view = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
            back = np.rot90(network.upscale(np.ascontiguousarray(view)), -turns)
            want.append(back[:, ::-1] if mirrored else back)
    got = network.upscale(picture, views=8)
    assert (got.dtype, got.shape) == (picture.dtype, want[0].shape)
    mean = np.mean(np.stack(want).astype(np.float64), 0)
    np.testing.assert_allclose(got, mean, rtol=0, atol=1e-6 if dtype == np.float32 else 0.5 + 1e-2)
    assert not np.array_equal(got, network.upscale(picture))
    np.testing.assert_array_equal(network.upscale(picture, views=1), network.upscale(picture))
    many = list(network.upscale_many([picture, picture[1:]], views=8))
    np.testing.assert_array_equal(many[0], got)
    np.testing.assert_array_equal(many[1], network.upscale(picture[1:], views=8))


def test_progress_goes_once_from_0_to_1(network: fastsr.Model) -> None:
    told: list[float] = []
    network.upscale(np.zeros((40, 30, 3), np.uint8), views=4, progress=lambda done, total: told.append(done / total))
    assert told == sorted(told)
    assert told[-1] == 1
    assert len({*told}) >= 4

    def stop(done: float, total: float) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network.upscale(np.zeros((40, 30, 3), np.uint8), views=8, progress=stop)


@pytest.mark.parametrize("views", [0, -1, 9, 1.5, 1.0, True, None, "8", np.ones(2)])
def test_numbers_of_views_that_there_are_not(views: Any, network: fastsr.Model) -> None:
    picture = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="views"):
        network.upscale(picture, views=views)
    with pytest.raises(ValueError, match="views"):
        network.upscale_many([picture], views=views)


def test_pictures_that_are_none(network: fastsr.Model) -> None:
    with pytest.raises(PictureError):
        network.upscale(np.zeros((8, 8, 2), np.uint8), views=8)


def test_command_line(tmp_path: Path, network: fastsr.Model, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    for k in range(2):
        write_picture(folder / f"{k}.png", of_dtype(np.random.default_rng(k), (20, 24, 3), np.uint8))
    model = str(shared / "models" / "tensorflow" / "FSRCNN_x2.pb")
    assert main(["upscale", "--tta", str(folder / "0.png"), str(tmp_path / "one.png"), "-m", model, "--quiet"]) == 0
    assert main(["upscale", "-x", str(folder), str(tmp_path / "large"), "-m", model, "--quiet"]) == 0
    for k in range(2):
        want = network.upscale(read_picture(folder / f"{k}.png"), views=8)
        np.testing.assert_array_equal(read_picture(tmp_path / "large" / f"{k}.png"), want)
    np.testing.assert_array_equal(read_picture(tmp_path / "one.png"), read_picture(tmp_path / "large" / "0.png"))
    assert main(["upscale", str(folder / "0.png"), str(tmp_path / "plain.png"), "-m", model, "--quiet"]) == 0
    assert (read_picture(tmp_path / "plain.png") != read_picture(tmp_path / "one.png")).any()
    capsys.readouterr()


def test_networks_are_better_by_it(shared: Path, tmp_path: Path) -> None:
    result = tmp_path / "eval.json"
    found = {}
    for more in ([], ["--tta"]):
        words = ["eval", "balanced", "bicubic", "-s", "4", "--data", "Set5", "--root", str(shared / "images"), "--json", str(result)]
        assert main([*words, *more]) == 0
        report = json.loads(result.read_text())
        assert all(r["engine"].endswith(", 8 views") == (r["model"] == "balanced+") for r in report["results"])
        found |= {(r["model"], bool(more)): r for r in report["results"]}
    assert {name for name, _ in found} == {"balanced", "balanced+", "bicubic"}
    one, eight = found["balanced", False], found["balanced+", True]
    assert eight["psnr"] > one["psnr"] + 0.05
    assert eight["multiply_adds_1280x720"] == 8 * one["multiply_adds_1280x720"]
    assert found["bicubic", True]["psnr"] == found["bicubic", False]["psnr"]
