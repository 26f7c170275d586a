"""fastsr.train's photographs with drawn contours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastsr.cli import main
from fastsr.errors import FastsrError
from fastsr.files import write_picture

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from trainings import job  # noqa: E402

from fastsr.train import contours, pictures, run  # noqa: E402
from fastsr.train.report import Report  # noqa: E402


def photograph(height: int = 96, width: int = 121, detail: float = 6.0) -> np.ndarray:
    """Broad waves without an edge, (H, W, 3) uint8, under noise of that deviation."""
    y, x = np.mgrid[:height, :width]
    waves = 128 + 50 * np.sin(x / 17 + np.sin(y / 11)) + 30 * np.cos(y / 13)
    noise = np.random.default_rng(0).normal(0, detail, (height, width, 3))
    return np.clip(np.rint(waves[:, :, None] + noise), 0, 255).astype(np.uint8)


def steep(picture: np.ndarray) -> float:
    """Share of horizontal neighbours that differ by more than 40 levels."""
    y = pictures.luma(picture).astype(int)
    return float((np.abs(np.diff(y, axis=1)) > 40).mean())


@pytest.mark.parametrize("form", [(96, 121), (17, 30), (3, 2)])
def test_contours_follow_the_generator(form: tuple[int, int]) -> None:
    rgb = photograph(*form)
    kept = rgb.copy()
    made = [contours.contoured(rgb, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(m.shape == rgb.shape and m.dtype == np.uint8 and m.flags.c_contiguous for m in made)
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()
    assert (rgb == kept).all()


def test_threads_change_no_pixel() -> None:
    rgb = photograph(300, 421)
    made = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        made.append([contours.contoured(rgb, np.random.default_rng(seed)) for seed in range(4)])
    for other in made[1:]:
        np.testing.assert_array_equal(made[0], other)


def test_of_a_large_photograph_a_part_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = photograph(90, 120)
    whole = contours.contoured(rgb, np.random.default_rng(5))
    made = {contours.contoured(rgb, np.random.default_rng(seed), 60).tobytes() for seed in (5, 5, 6, 7)}
    assert len(made) == 3
    assert {len(m) for m in made} == {60 * 60 * 3}
    assert contours.contoured(rgb[:50], np.random.default_rng(5), 60).shape == (50, 60, 3)
    assert (contours.contoured(rgb, np.random.default_rng(5), 120) == whole).all()
    monkeypatch.setattr(contours, "LARGEST", 60)
    made = contours.also_contoured(lambda rgb, name: [(rgb, rgb)], 1.0, 0, 70)(rgb, "a.png")
    assert made[1][0].shape == (70, 70, 3)


def test_edges_are_high() -> None:
    rgb = photograph()
    assert steep(rgb) == 0
    shares = [steep(contours.contoured(rgb, np.random.default_rng(seed))) for seed in range(12)]
    assert np.median(shares) > 0.02
    assert max(shares) < 0.25


@pytest.mark.parametrize("seed", range(4))
def test_detail_stays(seed: int) -> None:
    """Red and green that change without the luma move no contour, and are still there."""
    plain = photograph(detail=0.0)
    signs = np.random.default_rng(0).choice([-1, 1], plain.shape[:2])
    detail = np.stack([4 * signs, -2 * signs, 0 * signs], axis=2)
    without, made = (contours.contoured(p.astype(np.uint8), np.random.default_rng(seed)).astype(float) for p in (plain, plain + detail))
    inside = (without > 20) & (without < 235)
    assert inside[:, :, 0].mean() > 0.2
    before, after = (d[:, :, 0][inside[:, :, 0]] for d in (detail, made - without))
    assert 0.45 < (before * after).sum() / (before**2).sum() < 1.0
    assert np.corrcoef(before, after)[0, 1] > 0.85


@pytest.mark.parametrize("sigma", [0.6, 2.5])
def test_blur_is_a_gaussian(sigma: float) -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[0, 0, 20, 20] = 1
    got = contours.blurred(x, sigma)[0, 0].double()
    place = torch.arange(41) - 20.0
    for axis in (0, 1):
        line = got.sum(axis)
        assert line.sum() == pytest.approx(1, abs=1e-5)
        assert (line * place**2).sum() == pytest.approx(sigma**2, rel=0.04)
    constant = torch.full((2, 1, 5, 7), 3.0)
    torch.testing.assert_close(contours.blurred(constant, sigma), constant)


def test_share_of_the_pictures() -> None:
    def make(rgb: np.ndarray, name: str) -> list[pictures.Planes]:
        return [(rgb, rgb), (rgb, rgb)]

    rgb = photograph(8, 8)
    counts = [len(contours.also_contoured(make, 0.5, 3)(rgb, f"{k}.png")) for k in range(200)]
    assert {*counts} == {2, 4}
    assert 70 < counts.count(4) < 130
    again = contours.also_contoured(make, 1.0, 3)(rgb, "a.png")
    assert len(again) == 4
    assert (again[1][0] == rgb).all()
    assert (again[2][0] == again[3][0]).all()
    assert (again[2][0] != rgb).any()
    assert (contours.also_contoured(make, 1.0, 4)(rgb, "a.png")[2][0] != again[2][0]).any()
    assert (contours.also_contoured(make, 1.0, 3)(rgb, "b.png")[2][0] != again[2][0]).any()


@pytest.mark.parametrize("degradation", ["bicubic", "photo"])
def test_training_sees_both(degradation: str, tmp_path: Path) -> None:
    """The photographs and their twins, in a cache of their own; what is measured on stays as it is."""
    for folder, count in (("data", 2), ("valid", 1)):
        (tmp_path / folder).mkdir()
        for k in range(count):
            rgb = photograph(80 + k, 90)
            write_picture(tmp_path / folder / f"{folder}{k}.png", rgb if folder == "data" else np.ascontiguousarray(rgb.transpose(1, 0, 2)))
    plain = job(tmp_path / "data", tmp_path / "out", valid=tmp_path / "valid", degradation=degradation, keep_cache=True)
    both = replace(plain, recipe=replace(plain.recipe, contours=1.0))
    found = [run._pictures(j, Report(tmp_path / "out", quiet=True)) for j in (plain, both)]
    (alone, valid), (twins, same) = found
    assert len(twins) == 2 * len(alone)
    assert alone.mark != twins.mark
    each = len(alone) // 2
    for p, q in zip(alone, [*twins[:each], *twins[2 * each : 3 * each]], strict=True):
        assert np.array_equal(p.large, q.large)
        assert np.array_equal(p.small, q.small)
    assert not np.array_equal(twins[0].large, twins[each].large)
    assert np.array_equal(valid[0].large, same[0].large)
    assert np.array_equal(valid[0].small, same[0].small)


@pytest.mark.parametrize(
    ("words", "share"),
    [("--arch plain", 0.2), ("--preset balanced", 0.5), ("--arch espcn", None), ("--arch espcn --contours 0.3", 0.3),
     ("--arch plain --contours 0", None), ("--arch plain --degradation photo", None), ("--arch plain --degradation photo --contours 1", 1.0)],
)  # fmt: skip
def test_command_says_the_share(words: str, share: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, the settings are those of checkpoints that know none."""
    seen = []
    monkeypatch.setattr(run, "train", lambda job: seen.append(run._settings(job, "cpu", {})) or run.Outcome(True, 1, None, None, None, None))
    assert main(["train", *words.split(), "--data", str(tmp_path)]) == 0
    assert seen[0].get("contours") == share


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_impossible_shares(share: float, tmp_path: Path) -> None:
    whole = job(tmp_path, tmp_path / "out")
    with pytest.raises(FastsrError, match="a share from 0 to 1"):
        run.train(replace(whole, recipe=replace(whole.recipe, contours=share)))
