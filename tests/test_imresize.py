"""The bicubic filter of the literature: against a naive reference, Pillow inside the picture, and MATLAB's documented behaviour."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from fastsr.errors import PictureError
from fastsr.imresize import imresize

SCALES = (2, 3, 4, 1, 0.5, 1 / 3, Fraction(1, 4), 1.7, 0.61, 0.07)


def naive_axis(row: np.ndarray, n_out: int, scale: float) -> np.ndarray:
    """One row, pixel by pixel, from the definition: the kernel over the row continued by its mirror image, without end."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    widen, n, out = min(scale, 1.0), len(row), np.zeros(n_out)
    for i in range(n_out):
        centre, total = (i + 0.5) / scale - 0.5, 0.0
        for j in range(math.floor(centre - 2 / widen) - 1, math.ceil(centre + 2 / widen) + 2):
            weight = kernel((centre - j) * widen)
            at = j % (2 * n)
            out[i] += weight * row[at if at < n else 2 * n - 1 - at]
            total += weight
        out[i] /= total
    return out


def naive(plane: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, math.ceil(n * scale - 1e-9)) for n in plane.shape)
    rows = np.stack([naive_axis(row, width, scale) for row in plane])
    return np.stack([naive_axis(column, height, scale) for column in rows.T], axis=1)


@pytest.mark.parametrize("scale", SCALES)
def test_is_the_definition(scale: float) -> None:
    plane = np.random.default_rng(1).random((23, 14)) * 255
    expected = naive(plane, float(scale))
    assert imresize(plane, scale).shape == expected.shape
    np.testing.assert_allclose(imresize(plane, scale), expected, atol=1e-9)
    np.testing.assert_allclose(imresize(plane.astype(np.float32), scale), expected, atol=2e-3)
    bytes_ = np.rint(plane).astype(np.uint8)
    exact = naive(bytes_.astype(np.float64), float(scale))
    assert np.abs(imresize(bytes_, scale) - np.clip(exact, 0, 255)).max() <= 0.502


@pytest.mark.parametrize("scale", SCALES)
def test_is_pillow_inside_the_picture(scale: float) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(2)
    smooth = imresize(rng.integers(0, 256, (16, 20, 3)).astype(np.float64), 6)  # no overshoot beyond black and white, which Pillow cuts between axes
    picture = np.clip(smooth * 0.6 + 50, 0, 255).astype(np.uint8)
    size = tuple(round(n * float(scale)) for n in picture.shape[:2])
    ours = imresize(picture, size=(size[0], size[1]))
    theirs = np.asarray(pillow.fromarray(picture).resize(size[::-1], pillow.Resampling.BICUBIC))
    edge = math.ceil(2 * max(float(scale), 1)) + 1
    difference = np.abs(ours.astype(int) - theirs)[edge:-edge, edge:-edge]
    assert difference.size or scale == 0.07
    assert difference.max(initial=0) <= 1


def test_matlab_weights() -> None:
    """The weights that MATLAB's imresize is known to have for 2 and 1/2: fractions of 128 and 256."""
    impulse = np.zeros((1, 9))
    impulse[0, 4] = 128
    assert imresize(impulse, size=(1, 18)).tolist()[0] == [0] * 5 + [-3, -9, 29, 111, 111, 29, -9, -3] + [0] * 5
    assert [imresize(np.eye(24)[at : at + 1] * 256, size=(1, 12))[0, 5] for at in range(7, 15)] == [-3, -9, 29, 111, 111, 29, -9, -3]


def test_sizes() -> None:
    assert imresize(np.zeros((7, 9)), 0.5).shape == (4, 5)
    assert imresize(np.zeros((9, 300)), 1 / 3).shape == (3, 100)
    assert imresize(np.zeros((49, 98)), 1 / 49).shape == (1, 2)
    assert imresize(np.zeros((30, 70)), 0.1).shape == (3, 7)
    assert imresize(np.zeros((2, 2)), 0.01).shape == (1, 1)
    assert imresize(np.zeros((1, 1, 3), np.uint8), 4).shape == (4, 4, 3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_types_and_layouts(dtype: str) -> None:
    white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    picture = (np.random.default_rng(3).random((20, 31, 3)) * white).astype(dtype)
    result = imresize(picture, 0.5)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, imresize(np.asfortranarray(picture), 0.5))
    np.testing.assert_array_equal(imresize(picture[:, :, 1], 2), imresize(picture[:, :, 1:2], 2)[:, :, 0])
    np.testing.assert_array_equal(imresize(picture, 1), picture)
    flat = np.full((9, 9), white, dtype)
    np.testing.assert_allclose(imresize(flat, 3), np.full((27, 27), white), rtol=1e-6)


def test_integers_saturate() -> None:
    edge = np.repeat(np.array([0, 255], np.uint8), 8)[None].repeat(4, axis=0)
    result = imresize(edge, 4)
    assert (result.min(), result.max()) == (0, 255)
    over = imresize(edge.astype(np.float64), 4)
    assert over.min() < -5 and over.max() > 260


def test_without_antialiasing_pixels_are_taken_where_they_lie() -> None:
    picture = np.random.default_rng(4).random((15, 15))
    np.testing.assert_allclose(imresize(picture, 1 / 3, antialias=False), picture[1::3, 1::3], atol=1e-12)


@pytest.mark.parametrize(
    ("picture", "scale", "message"),
    [
        (np.zeros((4, 4), np.int32), 2, "not int32"),
        (np.zeros(4), 2, "shape"),
        (np.zeros((0, 4)), 2, "pixels"),
        (np.zeros((4, 4)), 0, "above 0"),
        (np.zeros((4, 4)), -1, "above 0"),
        (np.zeros((4, 4)), math.nan, "above 0"),
        (np.zeros((4, 4)), math.inf, "above 0"),
    ],
)
def test_errors(picture: np.ndarray, scale: float, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        imresize(picture, scale)


def test_scale_or_size() -> None:
    with pytest.raises(ValueError, match="either"):
        imresize(np.zeros((4, 4)))
    for size in ((0, 3), (2.5, 3), (3,), 3):
        with pytest.raises(PictureError, match="height and width"):
            imresize(np.zeros((4, 4)), size=size)  # type: ignore[arg-type]
