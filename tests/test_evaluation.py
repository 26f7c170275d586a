"""Models on data sets: the figures that papers print, the folders that count as data sets, and what is told of pictures that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import picture

import fastsr
from fastsr.errors import FastsrError, PictureError
from fastsr.evaluation import (
    Contender,
    Score,
    bicubic,
    compared,
    contender,
    evaluate,
    find_data_set,
    items_of,
    means,
    multiply_adds_of,
    parameters_of,
    prepare,
    timed,
)
from fastsr.files import write_picture
from fastsr.imresize import imresize
from fastsr.model import load_program

PUBLISHED = {
    ("Set5", 2): (33.66, 0.9299),
    ("Set5", 3): (30.39, 0.8682),
    ("Set5", 4): (28.42, 0.8104),
    ("Set14", 2): (30.23, 0.8687),
    ("Set14", 4): (26.00, 0.7019),
    ("BSD100", 2): (29.56, 0.8431),
}
"""Bicubic in papers since 2014 (Set14: 30.23 or 30.24, 0.8687 or 0.8688; 26.00 or 26.01, 0.7019 to 0.7027)."""


@pytest.mark.parametrize(("data", "scale"), [pytest.param(*k, marks=pytest.mark.slow if k[0] == "BSD100" else ()) for k in PUBLISHED])
def test_bicubic_of_papers(shared: Path, data: str, scale: int) -> None:
    items = items_of(shared / "images" / data, scale)
    row = means([score for _, score in evaluate([bicubic(scale)], items, protocol="luma")])
    assert (row["pictures"], row["failed"], row["seconds"]) == (len(items), 0, None)
    assert round(row["psnr"], 2) == PUBLISHED[data, scale][0]
    assert round(row["ssim"], 4) == pytest.approx(PUBLISHED[data, scale][1], abs=1.01e-4)


@pytest.mark.parametrize(("protocol", "psnr", "ssim"), [("picture", 33.68, 0.9305), ("matlab", 33.65, 0.9295)])
def test_other_protocols_differ_by_hundredths(shared: Path, protocol: str, psnr: float, ssim: float) -> None:
    row = means([score for _, score in evaluate([bicubic(2)], items_of(shared / "images/Set5", 2), protocol=protocol)])
    assert (round(row["psnr"], 2), round(row["ssim"], 4)) == (psnr, ssim)


@pytest.mark.parametrize(("model", "psnr"), [("tensorflow/FSRCNN_x2.pb", 34.85), ("tensorflow/ESPCN_x2.pb", 34.76), ("torch/FSRCNN_x2.pth", 36.92)])
def test_trained_weights(shared: Path, model: str, psnr: float) -> None:
    """OpenCV's, as measured with cv2.dnn_superres; and weights trained on antialiased pictures, nearer to the paper's 37.00."""
    trained = contender("trained", fastsr.load(shared / "models" / model))
    scores = [score for _, score in evaluate([trained], items_of(shared / "images/Set5", 2))]
    assert means(scores)["psnr"] == pytest.approx(psnr, abs=0.011)
    assert all(s.seconds and s.seconds > 0 for s in scores)


def test_sizes_of_networks(shared: Path) -> None:
    """IMDN x2 has 694 k parameters and 158.8 G multiply-adds for 1280x720 in its paper; lowering's convolutions that pick channels do not count."""
    program = load_program(shared / "models/torch/IMDN_x2.pth")
    assert round(parameters_of(program) / 1e3) == 694
    assert multiply_adds_of(program) * 1280 * 720 / 1e9 == pytest.approx(158.8, abs=0.3)
    espcn = load_program(shared / "models/tensorflow/ESPCN_x2.pb")
    weights = 25 * 64 + 9 * 64 * 32 + 9 * 32 * 4
    assert parameters_of(espcn) == weights + 64 + 32 + 4
    assert multiply_adds_of(espcn) * 4 == pytest.approx(weights)


# ---- data sets ---------------------------------------------------------------------------------------------------------------------------------


def test_folder_of_pictures(tmp_path: Path) -> None:
    for name in ("b10", "b9", "a"):
        write_picture(tmp_path / f"{name}.png", picture(14, 17))
    items = items_of(tmp_path, 2)
    assert [i.name for i in items] == ["a", "b9", "b10"]
    small, original = prepare(items[0], 3)
    assert (small.shape, original.shape) == ((4, 5, 3), (12, 15, 3))
    np.testing.assert_array_equal(small, imresize(picture(14, 17)[:12, :15], 1 / 3))
    grey, luma = prepare(items[0], 2, "luma")
    assert (grey.shape, grey.dtype, luma.shape, luma.dtype) == ((7, 8), np.float32, (14, 16), np.uint8)


@pytest.mark.parametrize(
    ("hr", "lr", "name"),
    [("HR", "LR_bicubic/X2", "ax2"), ("GTmod12", "LRbicx2", "a"), ("HR", "LR", "a"), ("HR", "LR/x2", "a_x2")],
)
def test_pairs(tmp_path: Path, hr: str, lr: str, name: str) -> None:
    for folder in (hr, lr):
        (tmp_path / folder).mkdir(parents=True)
    write_picture(tmp_path / hr / "a.png", picture(21, 16))
    write_picture(tmp_path / lr / f"{name}.png", picture(10, 8))
    (item,) = items_of(tmp_path, 2)
    small, original = prepare(item, 2)
    np.testing.assert_array_equal(small, picture(10, 8))
    np.testing.assert_array_equal(original, picture(21, 16)[:20])
    if lr != "LR":
        (made,) = items_of(tmp_path, 3)
        assert made.small is None


def test_pairs_that_are_none(tmp_path: Path) -> None:
    for folder in ("HR", "LR_x2"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        write_picture(tmp_path / "HR" / f"{name}.png", picture(20, 16))
    write_picture(tmp_path / "LR_x2" / "c.png", picture(10, 8))
    with pytest.raises(PictureError, match="name them alike"):
        items_of(tmp_path, 2)
    write_picture(tmp_path / "LR_x2" / "a.png", picture(9, 8))
    with pytest.raises(PictureError, match="lacks the small picture of b"):
        items_of(tmp_path, 2)
    write_picture(tmp_path / "LR_x2" / "b.png", picture(10, 8, 1))
    a, b = items_of(tmp_path, 2)
    with pytest.raises(PictureError, match="8x9 pixels and its original 16x20, which is not 2 times"):
        prepare(a, 2)
    with pytest.raises(PictureError, match="both must be grey or both in colours"):
        prepare(b, 2)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Set5").mkdir()
    assert find_data_set(str(tmp_path / "Set5")) == tmp_path / "Set5"
    assert find_data_set("Set5", tmp_path) == tmp_path / "Set5"
    monkeypatch.delenv("FASTSR_DATA", raising=False)
    with pytest.raises(FastsrError, match="--root or FASTSR_DATA"):
        find_data_set("Set5")
    monkeypatch.setenv("FASTSR_DATA", str(tmp_path))
    assert find_data_set("Set5") == tmp_path / "Set5"
    with pytest.raises(FastsrError, match=r"no data set 'Set6' in .*: there are Set5"):
        find_data_set("Set6")
    monkeypatch.setenv("FASTSR_DATA", str(tmp_path / "gone"))
    assert fastsr.load("nearest", "reference").scale == 2
    with pytest.raises(FastsrError, match=r"FASTSR_DATA=.*gone: there is no such folder"):
        find_data_set("Set5")


# ---- what does not fit -------------------------------------------------------------------------------------------------------------------------


def test_pictures_that_do_not_fit(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", picture(2, 30))
    write_picture(tmp_path / "b.png", picture(40, 40))
    (tmp_path / "c.png").write_bytes(b"no picture")
    write_picture(tmp_path / "d.png", picture(14, 40))
    scores = [score for _, score in evaluate([bicubic(3)], items_of(tmp_path, 3))]
    assert [s.error is None for s in scores] == [False, True, False, False]
    for score, words in zip(scores, ("too small for the scale 3", "", "not a picture", "too few for SSIM")):
        assert words in (score.error or "")
    row = means(scores)
    assert (row["pictures"], row["failed"], row["psnr"]) == (1, 3, scores[1].values["psnr"])
    assert means([Score("x", error="why")])["pictures"] == 0


def test_results_of_another_size() -> None:
    narrow = Contender("narrow", 2, lambda small, progress=None: small)
    result, _ = timed(narrow, picture(20, 20))
    with pytest.raises(PictureError, match="20x20 pixels where the original has 40x40"):
        compared(result, picture(40, 40), 2)


def test_models_that_do_not_enlarge() -> None:
    for scale in (1, 1.5):
        with pytest.raises(FastsrError, match="only whole numbers from 2 on"):
            contender("nearest", fastsr.load("nearest", "reference", scale=scale))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_and_alpha(tmp_path: Path, channels: int) -> None:
    write_picture(tmp_path / "a.png", picture(32, 40, channels))
    model = contender("bilinear", fastsr.load("bilinear", "reference"))
    scores = [score for _, score in evaluate([model, bicubic(2)], items_of(tmp_path, 2), which=("psnr", "ssim"))]
    assert all(s.error is None and 5 < s.values["psnr"] < 40 for s in scores)
