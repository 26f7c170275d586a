"""The page of `fastsr compare` in a real browser: the divider, zoom and pan by mouse, keys and fingers, the difference map, and no request at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import numpy as np
import pytest
from test_compare import models, photo

from fastsr.compare import page, views
from fastsr.files import read_picture

NONE = f"no Chromium here, or no POSIX system (looked for {', '.join(browser.NAMES)})"
pytestmark = pytest.mark.skipif(browser.installed() is None, reason=NONE)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    folder = tmp_path_factory.mktemp("browser")
    made = [views.subject(f"p{k}", photo(), models("bilinear", "area"), original=True) for k in range(2)]
    made.append(views.subject("small", photo(40, 50), models("bilinear", "area"), original=False))
    (folder / "r.html").write_bytes(page.render("Two & more", made, notes=["<b>note</b>"]))
    window = browser.Page(folder / "profile")
    try:
        window.open((folder / "r.html").as_uri())
        yield window
        assert window.requests == [(folder / "r.html").as_uri()]
        assert window.errors == []
    finally:
        window.close()


@pytest.fixture
def at_start(opened: browser.Page) -> browser.Page:
    """The page as it is when it has just been opened."""
    opened.resize(1200, 900)
    opened.call("Page.reload")
    opened.until("document.readyState === 'complete' && !!document.querySelector('#divider')")
    opened.requests[1:] = []
    opened.settle()
    return opened


def middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def text(window: browser.Page, selector: str) -> str:
    return str(window.run(f"document.querySelector({selector!r}).textContent"))


def divider(window: browser.Page) -> int:
    return int(window.run("document.querySelector('#divider').getAttribute('aria-valuenow')"))


def zoom(window: browser.Page) -> float:
    return float(text(window, "#zoom").split()[0])


def worlds(window: browser.Page) -> list[list[float]]:
    """Of every pane: where the picture lies in it and how large it is."""
    code = """[...document.querySelectorAll('.pane')].map((p) => {
        const a = p.getBoundingClientRect(), b = p.querySelector('.world').getBoundingClientRect();
        return [b.x - a.x, b.y - a.y, b.width, b.height].map((n) => Math.round(n * 4) / 4); })"""
    found: list[list[float]] = window.run(code)
    return found


def test_what_it_says(at_start: browser.Page) -> None:
    assert text(at_start, "h1") == "Two & more" and text(at_start, "#notes") == "<b>note</b>"
    assert at_start.run("[...document.querySelectorAll('nav button')].map((b) => b.textContent)") == ["p0", "p1", "small"]
    assert at_start.run("[left, right].map((s) => s.selectedOptions[0].textContent)") == ["bicubic x2", "bilinear"]
    rows = at_start.run("[...document.querySelectorAll('#facts tbody tr')].map((r) => r.firstChild.textContent)")
    assert rows == ["bicubic x2", "bilinear", "bicubic x3", "area"]
    assert at_start.run("document.querySelectorAll('#facts td.best').length") == 4
    assert "150\u00d7120 pixels, without loss" in text(at_start, "#legend")


def test_divider_by_mouse_and_keys(at_start: browser.Page, tmp_path: Path) -> None:
    x, y = middle(at_start.box("#divider"))
    width = at_start.box("#stage")[2]
    at_start.drag((x, y), (x + width / 4, y))
    assert divider(at_start) == 75
    assert at_start.run("getComputedStyle(document.querySelector('#pane-left')).clipPath").startswith("inset(0px 25")
    at_start.key("ArrowLeft")
    assert divider(at_start) == 73
    at_start.key("Home")
    assert divider(at_start) == 0
    at_start.key("End")
    assert divider(at_start) == 100
    at_start.drag((middle(at_start.box("#divider"))[0] - 12, y), (-50, y))
    assert divider(at_start) == 0


def test_divider_shows_left_and_right(at_start: browser.Page, tmp_path: Path) -> None:
    """The pixels on the screen are those of the two views: at 1:1, to the left of the divider the original, to the right the small picture."""
    names = at_start.run("[...left.options].map((o) => o.textContent)")
    for side, name in (("left", "original"), ("right", "nearest x3")):
        at_start.run(f"{side}.value = {names.index(name)}; {side}.dispatchEvent(new Event('change'))")
    at_start.key("1")
    at_start.settle()
    x, y, width, _ = (round(n) for n in at_start.box(".world"))
    assert width == 150
    at_start.screenshot(tmp_path / "s.png")
    shown = read_picture(tmp_path / "s.png")[y : y + 120, x : x + 150, :3]
    original = photo()
    np.testing.assert_array_equal(shown[:39, :70], original[:39, :70])
    nearest = shown[:39, 81:]
    assert (nearest[::3] == nearest[1::3]).all() and (nearest[:, ::3] == nearest[:, 2::3]).all()
    assert not (nearest == original[:39, 81:]).all()
    at_start.click("#stage")
    at_start.key(" ", up=False)
    at_start.settle()
    at_start.screenshot(tmp_path / "s.png")
    assert not (read_picture(tmp_path / "s.png")[y : y + 39, x : x + 70, :3] == original[:39, :70]).all()


def test_zoom_and_pan_move_all_views_together(at_start: browser.Page) -> None:
    at_start.click("#mode-grid")
    panes = worlds(at_start)
    assert len(panes) == 7 and all(p == panes[0] for p in panes)
    x, y, w, h = at_start.box(".pane:nth-child(3)")
    before = zoom(at_start)
    at_start.mouse("mouseWheel", x + 40, y + 30, deltaX=0, deltaY=-300)
    assert zoom(at_start) > 1.4 * before
    for _ in range(6):
        at_start.mouse("mouseWheel", x + 40, y + 30, deltaX=0, deltaY=-200)
    closer = worlds(at_start)
    assert all(p == closer[0] for p in closer) and closer[0][2] > 4 * panes[0][2]
    at_start.drag((x + w / 2, y + h / 2), (x + w / 2 + 30, y + h / 2 - 12))
    moved = worlds(at_start)
    assert [moved[0][0] - closer[0][0], moved[0][1] - closer[0][1]] == pytest.approx([30, -12], abs=0.5)
    assert all(p == moved[0] for p in moved)


def test_the_point_under_the_wheel_stays(at_start: browser.Page) -> None:
    x, y, _, _ = at_start.box("#stage")
    at = (x + 500, y + 250)

    def under() -> tuple[float, float]:
        left, top, width, height = at_start.box("#pane-left .world")
        return (at[0] - left) / width, (at[1] - top) / height

    for _ in range(4):
        at_start.mouse("mouseWheel", *at, deltaX=0, deltaY=-250)
    first = under()
    at_start.mouse("mouseWheel", *at, deltaX=0, deltaY=-250)
    assert under() == pytest.approx(first, abs=0.002)


def test_keys(at_start: browser.Page) -> None:
    x, y, _, _ = at_start.box("#stage")
    at_start.drag((x + 50, y + 50), (x + 50, y + 50), 1)
    fitted = zoom(at_start)
    at_start.key("+")
    assert zoom(at_start) == pytest.approx(1.25 * fitted, rel=0.01)
    for _ in range(6):
        at_start.key("+")
    before = worlds(at_start)[0]
    at_start.key("ArrowRight")
    assert worlds(at_start)[0][0] == before[0] - 40
    at_start.key("0")
    assert zoom(at_start) == fitted
    at_start.key("1")
    assert zoom(at_start) == 100
    at_start.key("x")
    assert at_start.run("[left, right].map((s) => s.selectedOptions[0].textContent)") == ["bilinear", "bicubic x2"]
    at_start.key("b")
    assert at_start.run("right.selectedOptions[0].textContent") == "bilinear"
    at_start.key("]")
    assert text(at_start, "#facts-title") == "p1"
    at_start.key("g")
    assert at_start.run("document.querySelector('#mode-grid').getAttribute('aria-pressed')") == "true"
    at_start.key("?")
    assert at_start.run("document.querySelector('#keys').open") is True


def test_tab_reaches_everything(at_start: browser.Page) -> None:
    seen = []
    for _ in range(25):
        at_start.key("Tab")
        seen.append(at_start.run("document.activeElement.id || document.activeElement.textContent"))
    for name in ("p1", "left", "swap", "right", "mode-map", "zoom-in", "Detail 1", "stage", "divider"):
        assert name in seen


def test_crops(at_start: browser.Page) -> None:
    """Each is the same place of every view; pressed, it comes onto the stage."""
    (detail, *_) = at_start.run("JSON.parse(data.textContent).subjects[0].details")
    number = at_start.run("JSON.parse(data.textContent).subjects[0].details.length")
    assert at_start.run("document.querySelectorAll('#crops button').length") == 7 * number
    part, img = at_start.box(".crops .part"), at_start.box(".crops img")
    scale = part[2] / detail[2]
    assert img == pytest.approx((part[0] - detail[0] * scale, part[1] - detail[1] * scale, 150 * scale, 120 * scale), abs=0.5)
    at_start.click(".crops button:nth-child(6)")
    assert at_start.run("right.selectedOptions[0].textContent") == "area"
    x, y, w, h = at_start.box("#stage")
    left, top, width, height = at_start.box("#pane-left .world")
    middle_of_detail = (detail[0] + detail[2] / 2) / 150, (detail[1] + detail[3] / 2) / 120
    assert ((x + w / 2 - left) / width, (y + h / 2 - top) / height) == pytest.approx(middle_of_detail, abs=0.2)


def test_details_and_other_pictures(at_start: browser.Page) -> None:
    before = zoom(at_start)
    at_start.click("#details button")
    assert zoom(at_start) > 1.3 * before
    at_start.click("nav button:nth-child(3)")
    assert text(at_start, "#facts-title") == "small"
    assert "150\u00d7120 pixels" in text(at_start, "#legend")
    assert at_start.run("[...document.querySelectorAll('#facts thead th')].map((t) => t.textContent)") == ["view", "time, ms"]
    at_start.click("#zoom-one")
    assert worlds(at_start)[0][2:] == [150, 120]


def test_difference_map(at_start: browser.Page) -> None:
    """The mean that it tells is that of the views; equal views are black."""
    at_start.click("#mode-map")
    at_start.until("document.querySelector('canvas')?.dataset.mean !== undefined")
    found = views.subject("p", photo(), models("bilinear", "area"), original=True).views
    bicubic, bilinear = (next(v for v in found if v.name == name).pixels.astype(float) @ [0.114, 0.587, 0.299] for name in ("bicubic x2", "bilinear"))
    assert at_start.run("Number(document.querySelector('canvas').dataset.mean)") == pytest.approx(np.abs(bicubic - bilinear).mean(), abs=1e-6)
    assert "of 255 levels" in text(at_start, "#legend")
    at_start.run("right.value = left.value; right.dispatchEvent(new Event('change'))")
    at_start.until("document.querySelector('canvas')?.dataset.mean === '0'")
    pixels = at_start.run("[...document.querySelector('canvas').getContext('2d').getImageData(3, 3, 1, 1).data]")
    assert pixels == [0, 0, 4, 255]


def test_fingers(at_start: browser.Page) -> None:
    at_start.resize(500, 900, 2, touch=True)
    at_start.settle()
    at_start.run("document.querySelector('#stage').scrollIntoView()")
    x, y, w, h = at_start.box("#stage")
    before = zoom(at_start)
    centre = (x + w / 2, y + h / 2)
    at_start.touch("touchStart", (centre[0] - 60, centre[1]), (centre[0] - 60 + 40, centre[1]))
    at_start.touch("touchMove", (centre[0] - 110, centre[1]), (centre[0] + 50, centre[1]))
    at_start.touch("touchEnd")
    assert zoom(at_start) == pytest.approx(4 * before, rel=0.05)
    place = worlds(at_start)[0]
    at_start.touch("touchStart", (centre[0] + 80, centre[1]))
    at_start.touch("touchMove", (centre[0] + 100, centre[1]))
    at_start.touch("touchEnd")
    assert worlds(at_start)[0][0] == pytest.approx(place[0] + 20, abs=0.5)
    knob = middle(at_start.box("#divider"))
    at_start.touch("touchStart", knob)
    at_start.touch("touchMove", (knob[0] - w / 4, knob[1]))
    at_start.touch("touchEnd")
    assert divider(at_start) == 25


def test_dark_and_light(at_start: browser.Page) -> None:
    shades = []
    for dark in (False, True):
        at_start.dark(dark)
        shades.append(at_start.run("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0]"))
    at_start.dark(False)
    assert shades[0] > 200 and shades[1] < 60


def test_narrow_windows_do_not_scroll_sideways(at_start: browser.Page) -> None:
    at_start.resize(360, 700)
    at_start.settle()
    assert at_start.run("document.documentElement.scrollWidth") <= 360
