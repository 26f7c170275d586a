"""PSNR, SSIM and MS-SSIM: against scikit-image, by hand, and the figures that papers print for bicubic."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr import metrics
from fastsr.errors import FastsrError, PictureError
from fastsr.imresize import imresize


def pair(height: int = 60, width: int = 75, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    original = np.clip(imresize(rng.random((height // 5, width // 5, channels)) * 255, 5), 0, 255)
    noisy = np.clip(original + rng.normal(0, 6, original.shape), 0, 255)
    return noisy.astype(np.uint8), original.astype(np.uint8)


def test_luma_is_matlabs() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [0, 0, 255], [0, 255, 0], [255, 0, 0], [30, 20, 10]]], np.uint8)  # BGR
    expected = [16, 235, 81.481, 144.553, 40.966, 16 + (65.481 * 10 + 128.553 * 20 + 24.966 * 30) / 255]
    np.testing.assert_allclose(metrics.luma(colours)[0], expected, atol=1e-9)
    assert metrics.luma(colours, rounded=True)[0].tolist() == [16, 235, 81, 145, 41, 32]
    grey = np.array([[0, 7, 255]], np.uint8)
    assert metrics.luma(grey).tolist() == [[0, 7, 255]]
    np.testing.assert_allclose(metrics.luma(colours.astype(np.uint16) * 257), metrics.luma(colours))
    np.testing.assert_allclose(metrics.luma(colours.astype(np.float32) / 255), metrics.luma(colours), atol=1e-4)


def test_psnr_by_hand() -> None:
    a = np.full((9, 9), 100, np.uint8)
    b = a.copy()
    b[4, 4] = 110
    assert metrics.psnr(a, b) == pytest.approx(10 * np.log10(255**2 / (100 / 81)))
    assert metrics.psnr(a, b, shave=4) == pytest.approx(10 * np.log10(255**2 / 100))
    b[0, 0] = 0
    assert metrics.psnr(a, b, shave=1) == pytest.approx(10 * np.log10(255**2 / (100 / 49)))
    assert metrics.psnr(a, a) == float("inf")


def test_luma_is_219_of_255_of_grey() -> None:
    noisy, original = pair(channels=1)
    as_grey = metrics.psnr(noisy[:, :, 0], original[:, :, 0])
    as_colour = metrics.psnr(np.repeat(noisy, 3, axis=2), np.repeat(original, 3, axis=2))
    assert as_colour - as_grey == pytest.approx(20 * np.log10(255 / 219))
    assert metrics.psnr(noisy, original) == as_grey


@pytest.mark.parametrize("space", ["y", "rgb"])
def test_ssim_is_scikit_images(space: str) -> None:
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    noisy, original = pair(153, 131)
    planes = [(metrics.luma(noisy), metrics.luma(original))]
    if space == "rgb":
        planes = [(noisy[:, :, i].astype(float), original[:, :, i].astype(float)) for i in range(3)]
    expected = []
    for a, b in planes:
        a, b = a[2:-2, 2:-2], b[2:-2, 2:-2]
        _, field = skimage.structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
        )
        expected.append(field[5:-5, 5:-5].mean())
    assert metrics.ssim(noisy, original, shave=2, space=space) == pytest.approx(np.mean(expected), abs=1e-12)
    if space == "rgb":
        assert metrics.psnr(noisy, original, space="rgb") == pytest.approx(skimage_psnr(original, noisy))


def skimage_psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(importlib.import_module("skimage.metrics").peak_signal_noise_ratio(a, b))


def test_ms_ssim() -> None:
    """One scale of contrast and structure after another, from scikit-image's SSIM where the means are equal."""
    noisy, original = pair(190, 180, 1)
    assert metrics.ms_ssim(original, original) == pytest.approx(1)
    assert 0 < metrics.ms_ssim(noisy, original) < 1
    flat = np.full((176, 176), 60, np.uint8)
    lighter = flat + np.uint8(40)
    c1 = (0.01 * 255) ** 2
    expected = ((2 * 60 * 100 + c1) / (60**2 + 100**2 + c1)) ** 0.1333
    assert metrics.ms_ssim(flat, lighter) == pytest.approx(expected)
    mild = np.clip(original.astype(float) + (noisy.astype(float) - original) / 2, 0, 255).astype(np.uint8)
    assert metrics.ms_ssim(mild, original) > metrics.ms_ssim(noisy, original)


TENSORFLOW = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
pictures = np.load(sys.argv[1])
print(float(tf.image.ssim_multiscale(*(tf.constant(p, tf.float32)[..., None] for p in pictures), 255)))
"""


@pytest.mark.tensorflow
def test_ms_ssim_is_tensorflows(tmp_path: Path) -> None:
    python = os.environ.get("FASTSR_TF_PYTHON") or sys.executable
    there = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is None)"
    if subprocess.run([python, "-c", there], capture_output=True).returncode:
        pytest.skip(f"{python} has no TensorFlow: name a Python that has one in FASTSR_TF_PYTHON")
    noisy, original = (p[:, :, 0] for p in pair(200, 240, 1))
    np.save(tmp_path / "pictures.npy", np.stack([noisy, original]))
    command = [python, "-c", TENSORFLOW, str(tmp_path / "pictures.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert metrics.ms_ssim(noisy, original) == pytest.approx(float(done.stdout), abs=2e-5)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deeper_pictures_measure_the_same(dtype: str) -> None:
    noisy, original = pair(80, 80)
    white = 65535 if dtype == "uint16" else 1
    a, b = ((p.astype(np.float64) / 255 * white).astype(dtype) for p in (noisy, original))
    assert metrics.psnr(a, b) == pytest.approx(metrics.psnr(noisy, original), abs=1e-3)
    assert metrics.ssim(a, b) == pytest.approx(metrics.ssim(noisy, original), abs=1e-4)


def test_alpha_is_left_out() -> None:
    noisy, original = pair()
    alpha = np.zeros((*original.shape[:2], 1), np.uint8)
    assert metrics.psnr(np.dstack([noisy, alpha]), np.dstack([original, alpha + 9])) == metrics.psnr(noisy, original)


def test_modcrop() -> None:
    picture = np.arange(7 * 11 * 3, dtype=np.uint8).reshape(7, 11, 3)
    assert metrics.modcrop(picture, 3).shape == (6, 9, 3)
    assert np.shares_memory(metrics.modcrop(picture, 3), picture)
    with pytest.raises(PictureError, match="too small for the scale 8"):
        metrics.modcrop(picture, 8)
    for scale in (0, -2, 2.5):
        with pytest.raises(ValueError, match="scale"):
            metrics.modcrop(picture, scale)  # type: ignore[arg-type]


def test_errors() -> None:
    a = np.zeros((20, 20, 3), np.uint8)
    for b in (np.zeros((20, 21, 3), np.uint8), np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3), np.uint16)):
        with pytest.raises(PictureError, match="differ"):
            metrics.psnr(a, b)
    with pytest.raises(PictureError, match="nothing but border"):
        metrics.psnr(a, a, shave=10)
    with pytest.raises(PictureError, match="too few for SSIM"):
        metrics.ssim(a, a, shave=5)
    with pytest.raises(PictureError, match="each side needs 176"):
        metrics.ms_ssim(a, a)
    for shave in (-1, 1.5, 2.0, float("nan"), "2"):
        with pytest.raises(ValueError, match="shave"):
            metrics.psnr(a, a, shave=shave)  # type: ignore[arg-type]
    with pytest.raises(PictureError, match="space"):
        metrics.psnr(a, a, space="lab")
    with pytest.raises(PictureError, match="int64"):
        metrics.psnr(a.astype(int), a)
    with pytest.raises(PictureError, match="shape"):
        metrics.ssim(a[0, 0], a[0, 0])
    with pytest.raises(FastsrError, match="choose alex"):
        metrics.lpips(a, a, net="resnet")


def test_lpips_says_what_is_missing() -> None:
    if importlib.util.find_spec("lpips"):
        pytest.skip("lpips is installed")
    with pytest.raises(FastsrError, match="pip install lpips"):
        metrics.lpips(*pair())


def test_needs_numpy_alone() -> None:
    heavy = ("torch", "cv2", "PIL", "scipy", "skimage", "matplotlib")
    code = f"import sys, fastsr.metrics, fastsr.imresize; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(fastsr.__file__).parents[1], timeout=300)
    assert done.stdout.strip() == "[]"
