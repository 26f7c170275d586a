"""Every trained model at hand: loads with no option, makes a sane picture in every backend, and survives being saved as .fsr and .onnx."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

import fastsr
from fastsr.importers import FORMATS
from fastsr.model import Model

cv2 = pytest.importorskip("cv2", reason="reads and shrinks the pictures: pip install fastsr[opencv]")

SUFFIXES = {".pb", ".onnx", ".h5", ".keras", ".pth", ".safetensors", ".param", ".tflite"}
MODELS = sorted(p for p in (SHARED / "models").glob("*/*") if p.suffix in SUFFIXES) if SHARED.is_dir() else []
PRE_SCALE = 2

LOSSES = {"SRCNN_feqe_div2k": 6.0, "DenoisingAutoEncoder_x2_keras1": 1.0, "realesr": 3.0, "RealESRGAN": 3.0, "SRGAN": 1.0,
          "SRCNN_rgb_full_model": 6.0, "ESPCN_x3_pytorch_tutorial": 0.5, "LapSRN_x8": 0.5}  # fmt: skip
"""By the beginning of a model's name: dB of PSNR that it may lose to the bicubic filter. Those trained for looks change the picture; the files of
SRCNN for RGB were hardly trained: their own framework computes the same."""

SHADES = {"SRGAN": 8, "RealESRGAN": 8, "SRCNN_rgb_full_model": 20}
"""Levels by which the mean of a colour may differ, where it is more than 4."""


@cache
def whole(scale: int) -> np.ndarray:
    picture = cv2.imread(str(SHARED / "images" / "Set5" / "butterfly.png"))
    h, w = (n // scale * scale for n in picture.shape[:2])
    return picture[:h, :w]


@cache
def small(scale: int) -> np.ndarray:
    picture = whole(scale)
    return cv2.resize(picture, (picture.shape[1] // scale, picture.shape[0] // scale), interpolation=cv2.INTER_AREA)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """On Y, without borders."""
    y = [cv2.cvtColor(p, cv2.COLOR_BGR2YCrCb)[8:-8, 8:-8, 0].astype(np.float64) for p in (a, b)]
    return float(10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2)))


@cache
def loaded(path: Path) -> Model:
    return fastsr.load(path)


@pytest.fixture(params=MODELS or [None], ids=lambda p: p.name if p else "none")
def model(request: pytest.FixtureRequest, shared: Path) -> Path:
    return request.param


def test_a_sane_picture(model: Path) -> None:
    """Near the whole picture: no worse than the bicubic filter by more than its training explains, colours kept."""
    m = loaded(model)
    scale = int(m.scale)
    if scale == 1:
        picture = small(2)
        out = m.upscale(picture)
        assert psnr(out, picture) > 20
        return
    out = m.upscale(small(scale))
    assert out.shape == whole(scale).shape
    plain = cv2.resize(small(scale), whole(scale).shape[1::-1], interpolation=cv2.INTER_CUBIC)
    loss = next((v for k, v in LOSSES.items() if model.name.startswith(k)), 0.0)
    assert psnr(out, whole(scale)) > psnr(plain, whole(scale)) - loss
    shades = next((v for k, v in SHADES.items() if model.name.startswith(k)), 4)
    assert np.abs(out.mean((0, 1)) - whole(scale).mean((0, 1))).max() < shades


@pytest.mark.parametrize("backend", [b for b in fastsr.available_backends() if b != "cpu"])
def test_every_backend(model: Path, backend: str) -> None:
    picture = small(int(loaded(model).scale))[20:44, 20:50]
    precision = "f32"
    expected = fastsr.load(model, "cpu", precision).upscale(picture)
    got = fastsr.load(model, backend, precision).upscale(picture)
    off = np.abs(got.astype(int) - expected)
    most, share = (4, 0.05) if "int8" in model.name else (1, 0.01)  # in floats, a rounding to 8 bits on the way can go to the other side
    assert off.max() <= most
    assert np.mean(off > 0) < share


@pytest.mark.parametrize("suffix", [".fsr", ".onnx"])
def test_saved_and_read_again(model: Path, suffix: str, tmp_path: Path) -> None:
    m = loaded(model)
    m.save(tmp_path / f"again{suffix}")
    again = fastsr.load(tmp_path / f"again{suffix}")
    picture = small(int(m.scale))[20:44, 20:50]
    off = np.abs(again.upscale(picture).astype(int) - m.upscale(picture))
    assert again.scale == m.scale and again.feed == m.feed
    assert off.max() <= (0 if suffix == ".fsr" else 1)


def test_the_formats_are_all_here(shared: Path) -> None:
    """At least one real file of each format but npz, which nobody publishes networks in."""
    found = {next(f.NAME for f in FORMATS if f.probe(p.read_bytes()[:4096], p)) for p in MODELS}
    assert {f.NAME for f in FORMATS if f.NAME != "NumPy archive"} <= found


def test_the_same_network_from_two_formats(shared: Path) -> None:
    """realesr-animevideov3: 16-bit weights from ncnn, 32-bit ones from safetensors and a deflated archive of PyTorch."""
    models = shared / "models"
    picture = small(4)
    exact = fastsr.load(models / "torch/realesr-animevideov3.safetensors").upscale(picture)
    assert np.array_equal(fastsr.load(models / "torch/realesr-animevideov3.deflated.pth").upscale(picture), exact)
    off = np.abs(fastsr.load(models / "ncnn/realesr-animevideov3-x4.param").upscale(picture).astype(int) - exact)
    assert off.max() <= 1 and np.mean(off) < 0.15
