"""`fastsr compare`: the views and what is measured of them, the page within its budget, the contact sheet, errors."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fails, listing

import fastsr
from fastsr import metrics
from fastsr.cli import main
from fastsr.compare import page, sheet, views
from fastsr.compare.views import Subject
from fastsr.errors import FastsrError, PictureError
from fastsr.evaluation import Contender, contender
from fastsr.files import read_picture, write_picture
from fastsr.imresize import imresize

PILLOW = ("PIL", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont")
MODELS = {"bilinear": 2, "area": 3}


def photo(height: int = 120, width: int = 150, channels: int = 3) -> np.ndarray:
    """Smooth on the left, rich in detail on the right."""
    rng = np.random.default_rng(5)
    picture = imresize(rng.random((height // 10, width // 10, channels)), size=(height, width)) * 200 + 20
    picture[:, width * 2 // 3 :] += rng.normal(0, 40, picture[:, width * 2 // 3 :].shape)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    return picture if channels > 1 else picture[:, :, 0]


def models(*names: str) -> list[Contender]:
    return [contender(n, fastsr.load(n, "reference", scale=MODELS[n]), filter=True) for n in names]


def data_of(html: bytes) -> Any:
    found = re.search(rb'<script id="data" type="application/json">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def decoded(uri: str, folder: Path) -> np.ndarray:
    head, _, text = uri.partition(";base64,")
    path = folder / f"x.{head.rpartition('/')[2]}"
    path.write_bytes(base64.b64decode(text))
    return read_picture(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_of_an_original(channels: int) -> None:
    picture = photo(121, 153, channels)
    found = views.subject("p", picture, models("bilinear"), original=True)
    assert [(v.name, v.kind) for v in found.views] == [("nearest", "small"), ("bicubic", "filter"), ("bilinear", "model"), ("original", "original")]
    original = picture[:120, :152, :3] if channels > 1 else picture[:120, :152]
    assert found.frame == (120, 152)
    np.testing.assert_array_equal(found.views[3].pixels, original)
    np.testing.assert_array_equal(found.views[0].pixels, imresize(original, 0.5))
    assert found.views[2].values["psnr"] == metrics.psnr(found.views[2].pixels, original, shave=2)
    assert found.views[2].seconds is not None and found.views[1].seconds is None
    assert len(found.details) and all(x >= 100 - 48 for _, x, _, _ in found.details[:1])


def test_views_of_two_scales() -> None:
    found = views.subject("p", photo(121, 153), models("bilinear", "area"), original=True)
    names = ["nearest x2", "bicubic x2", "bilinear", "nearest x3", "bicubic x3", "area", "original"]
    assert [v.name for v in found.views] == names
    assert found.frame == (120, 150) and found.step == 6
    small = views.subject("p", photo(40, 50), models("bilinear", "area"), original=False)
    assert [v.name for v in small.views] == ["nearest", "bicubic x2", "bilinear", "bicubic x3", "area"]
    assert small.frame == (240, 300)
    assert [v.pixels.shape[:2] for v in small.views] == [(40, 50), (80, 100), (80, 100), (120, 150), (120, 150)]
    assert all(not v.values for v in small.views)


def test_deep_pictures_are_shown_in_8_bits() -> None:
    deep = photo().astype(np.uint16) * 257
    found = views.subject("p", deep, models("bilinear"), original=True)
    np.testing.assert_array_equal(found.views[-1].pixels, photo())


def test_pictures_that_do_not_fit() -> None:
    with pytest.raises(PictureError, match="too small for the scale 2"):
        views.subject("p", photo(10, 10)[:1], models("bilinear"), original=True)
    tiny = views.subject("p", photo(20, 20)[:6, :6], models("bilinear"), original=True)
    assert list(tiny.views[1].values) == ["psnr"] and tiny.details == []


# ---- the page ----------------------------------------------------------------------------------------------------------------------------------


def subjects(count: int = 2, **options: Any) -> list[Subject]:
    return [views.subject(f"p{k}", photo(**options), models("bilinear"), original=True) for k in range(count)]


def test_page_holds_every_view_without_loss(tmp_path: Path) -> None:
    made = subjects()
    html = page.render("a & b </title>", made, notes=["<script>alert(1)</script>"])
    assert b"<title>a &amp; b &lt;/title&gt;</title>" in html and b"{{" not in html and b"alert(1)<" not in html
    data = data_of(html)
    assert data["notes"] == ["<script>alert(1)</script>"]
    for s, facts in zip(made, data["subjects"], strict=True):
        assert facts["whole"] == [facts["width"], facts["height"]] == [150, 120]
        for v, shown in zip(s.views, facts["views"], strict=True):
            np.testing.assert_array_equal(decoded(shown["src"], tmp_path), v.pixels)
        assert facts["views"][1]["psnr"] == pytest.approx(s.views[1].values["psnr"])
    assert not re.search(rb"""(src|href)\s*=\s*["']?(https?:|//)|url\(|@import|fetch\(|XMLHttpRequest""", html)


def test_large_pictures_are_cut_to_where_views_differ(tmp_path: Path) -> None:
    made = subjects(3)
    made[0] = made[0].cut(0, 0, 40, 40)
    whole = len(page.render("t", made))
    html = page.render("t", made, whole * 2 // 3)
    assert len(html) <= whole * 2 // 3
    small, *large = data_of(html)["subjects"]
    assert small["width"] == 40
    for facts in large:
        x, y = facts["at"]
        assert 32 <= facts["height"] < 120 and 32 <= facts["width"] < 150 and facts["whole"] == [150, 120]
        assert x + facts["width"] > 120, "the details are on the right"
        for v, shown in zip(made[1].views, facts["views"], strict=True):
            k = 120 // v.pixels.shape[0]
            part = v.pixels[y // k : (y + facts["height"]) // k, x // k : (x + facts["width"]) // k]
            np.testing.assert_array_equal(decoded(shown["src"], tmp_path), part)
    with pytest.raises(FastsrError, match="raise --budget"):
        page.render("t", made, 45_000)


def test_equal_pictures_have_no_number() -> None:
    flat = views.subject("flat", np.full((80, 80), 7, np.uint8), models("bilinear"), original=True)
    assert data_of(page.render("t", [flat]))["subjects"][0]["views"][1]["psnr"] is None


# ---- the sheet ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [(), PILLOW])
def test_sheet(without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2" if without else "PIL")
    for name in without:
        monkeypatch.setitem(sys.modules, name, None)
    made = [views.subject("grey", photo(channels=1), models("bilinear", "area"), original=True), *subjects(1), *subjects(1, height=20, width=400)]
    drawn = sheet.draw(made)
    cell = (sheet.TILE + 64, sheet.TILE + 12)
    assert drawn.shape == (12 + 3 * cell[0], 12 + 8 * cell[1], 3)
    nearest = drawn[12 + cell[0] :, 12 + cell[1] :][: sheet.TILE, : sheet.TILE]
    assert (nearest[::2] == nearest[1::2]).all()
    names = drawn[12 + sheet.TILE + 4 :][:20]
    assert (names < 128).any(axis=(0, 2)).sum() > 100


def test_sheet_needs_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    made = subjects(1)
    for name in (*PILLOW, "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(FastsrError, match="pip install pillow"):
        sheet.draw(made)


# ---- the command -------------------------------------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", photo())
    write_picture(tmp_path / "in" / "b.png", photo(60, 60, 1))
    arguments = ["compare", str(tmp_path / "in"), "--models", "bicubic", "bilinear", "--backend", "reference"]
    assert main([*arguments, "--out", str(tmp_path / "r.html"), "--sheet", str(tmp_path / "s.png"), "--hr"]) == 0
    out, err = capsys.readouterr()
    assert "2 pictures" in out and err == ""
    data = data_of((tmp_path / "r.html").read_bytes())
    assert data["title"] == "a, b: bilinear" and "MATLAB" in data["notes"][0] and [s["name"] for s in data["subjects"]] == ["a", "b"]
    assert str(tmp_path).encode() not in (tmp_path / "r.html").read_bytes()
    assert read_picture(tmp_path / "s.png").shape[2] == 3
    assert main([*arguments, "--out", str(tmp_path / "r.html"), "--scale", "2", "3", "--hr"]) == 0
    names = [v["name"] for v in data_of((tmp_path / "r.html").read_bytes())["subjects"][0]["views"]]
    assert names == ["nearest x2", "bicubic x2", "bilinear x2", "nearest x3", "bicubic x3", "bilinear x3", "original"]
    assert main([*arguments, "--out", str(tmp_path / "r.html"), "--scale", "3", "--title", "T"]) == 0
    data = data_of((tmp_path / "r.html").read_bytes())
    assert (data["title"], data["notes"][0]) == ("T", "Enlarged by x3.")
    assert listing(tmp_path) == ["in/a.png", "in/b.png", "r.html", "s.png"]


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "a.png", photo())
    write_picture(tmp_path / "flat.png", photo()[:1])
    start = ["compare", tmp_path / "a.png", "--models"]
    fails(capsys, [*start, "bilinear"], "--out report.html", 2)
    fails(capsys, [*start, "bicubic", "--out", tmp_path / "r.html"], "name another", 2)
    fails(capsys, [*start, "bilinear", "--out", tmp_path / "r.png"], "ends in .html")
    fails(capsys, [*start, "bilinear", "--out", tmp_path / "no" / "r.html"], "does not exist")
    fails(capsys, [*start, "bilinear", "--sheet", tmp_path / "s.txt"], "does not name a picture format")
    fails(capsys, [*start, "bilinear", "--out", tmp_path / "r.html", "--budget", "0"], "megabytes", 2)
    fails(capsys, [*start, "bilinear", "--out", tmp_path / "r.html", "--hr", "--budget", "0.04"], "raise --budget")
    fails(capsys, [*start, "missing.pb", "--out", tmp_path / "r.html"], "no model file")
    fails(capsys, ["compare", tmp_path / "flat.png", "--models", "bilinear", "--out", tmp_path / "r.html", "--hr"], "flat.png': a picture of 150x1")
    fails(capsys, ["compare", tmp_path / "b.png", "--models", "bilinear", "--out", tmp_path / "r.html"], "no such file")
    assert listing(tmp_path) == ["a.png", "flat.png"]


def test_set5_fits_into_5_megabytes(shared: Path, tmp_path: Path) -> None:
    names = [str(shared / "models/tensorflow" / f"FSRCNN_{x}.pb") for x in ("x2", "x3")]
    arguments = ["compare", str(shared / "images/Set5"), "--hr", "--models", *names, "--runs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_bytes()
    assert len(html) < 5_000_000
    facts = data_of(html)["subjects"]
    assert len(facts) == 5 and all(s["whole"] == [s["width"], s["height"]] for s in facts)
    butterfly = {v["name"]: v.get("psnr") for v in facts[2]["views"]}
    assert butterfly["FSRCNN_x2"] > butterfly["bicubic x2"] + 2
