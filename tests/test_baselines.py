"""fastsr.baselines against OpenCV's resize: the same pixels, through the naive operators and through every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr import baselines, ops
from fastsr.errors import ModelError

cv2 = pytest.importorskip("cv2", reason="compares with OpenCV: pip install fastsr[opencv]")

FILTERS = {"nearest": "INTER_NEAREST_EXACT", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC", "lanczos": "INTER_LANCZOS4", "area": "INTER_AREA"}
SIZES = [(11, 9), (1, 1), (1, 20), (33, 2)]


def resized(picture: np.ndarray, name: str, scale: int) -> np.ndarray:
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=getattr(cv2, FILTERS[name]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", baselines.BASELINES)
def test_graph_is_cv2_resize(name: str, scale: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).uniform(0, 255, (*size, 3)).astype(np.float32)
    graph = baselines.baseline_graph(name, scale)
    y = ops.run_graph(graph, {"picture": x.transpose(2, 0, 1)[None]})["enlarged"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(y, resized(x, name, scale), atol=1e-3)


@pytest.mark.parametrize("backend", fastsr.available_backends())
@pytest.mark.parametrize("shape", [(21, 34), (21, 34, 3), (21, 34, 4), (7, 5, 1)])
@pytest.mark.parametrize("name", baselines.BASELINES)
def test_pictures(name: str, shape: tuple[int, ...], backend: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    model = fastsr.load(name, backend, scale=3)
    assert model.scale == 3
    out = model.upscale(picture)
    exact = np.clip(resized(picture.astype(np.float32), name, 3), 0, 255).reshape(out.shape)
    assert out.dtype == np.uint8
    assert out.shape == (shape[0] * 3, shape[1] * 3, *shape[2:])
    assert np.abs(out - exact).max() <= 0.501


@pytest.mark.parametrize("backend", fastsr.available_backends())
def test_16_bits_keep_their_depth(backend: str) -> None:
    picture = np.random.default_rng(2).integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    np.testing.assert_array_equal(fastsr.load("nearest", backend).upscale(picture), picture.repeat(2, 0).repeat(2, 1))


def test_broken_scales_of_resize() -> None:
    graph = baselines.baseline_graph("bicubic", 1.5)
    x = np.random.default_rng(0).uniform(0, 255, (10, 8, 3)).astype(np.float32)
    y = ops.run_graph(graph, {"picture": x.transpose(2, 0, 1)[None]})["enlarged"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(y, cv2.resize(x, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("bicubik", 2, "choose one of nearest, bilinear"),
        ("bicubic", 0, "1 to 16"),
        ("bicubic", 17, "1 to 16"),
        ("lanczos", 1.5, "whole numbers"),
        ("area", 2.5, "whole numbers"),
    ],
)
def test_errors(name: str, scale: float, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        baselines.baseline_graph(name, scale)


def test_a_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fastsr.load("nearest", "reference", scale=3).save(tmp_path / "nearest.fsr")
    (tmp_path / "nearest.fsr").rename(tmp_path / "bicubic")
    monkeypatch.chdir(tmp_path)
    assert fastsr.load("bicubic", "reference").scale == 3
