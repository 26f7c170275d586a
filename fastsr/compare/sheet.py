"""The contact sheet of `fastsr compare`: one picture with the same detail of every view, a row for each picture."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FastsrError
from .views import Subject, View

TILE = 240
_GAP, _LINE = 12, 20
_PAPER, _INK, _FAINT = 255, (40, 35, 31), (110, 99, 89)


def draw(subjects: Sequence[Subject]) -> np.ndarray:
    """The sheet: uint8 (H, W, 3) BGR. Details are enlarged by whole numbers by repeating pixels.

    Raises FastsrError when neither OpenCV nor Pillow, which write the letters, is installed.
    """
    rows = [_row(s) for s in subjects]
    width = max(r.shape[1] for r in rows)
    padded = [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=_PAPER) for r in rows]
    return np.pad(np.concatenate(padded), ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=_PAPER)


def _row(s: Subject) -> np.ndarray:
    box, times = _box(s)
    part = s.cut(*box)
    cells = [_cell(_overview(s, box), s.name, f"{s.frame[1]}x{s.frame[0]}")]
    for v in part.views:
        k = times * (part.frame[0] // v.pixels.shape[0])
        cells.append(_cell(_colour(v.pixels).repeat(k, axis=0).repeat(k, axis=1), v.name, _measured(v)))
    return np.concatenate(cells, axis=1)


def _box(s: Subject) -> tuple[tuple[int, int, int, int], int]:
    """(y, x, height, width) of the part of the frame to show, in the middle of the first detail, and how many times it is enlarged to fill a tile."""
    y, x, height, width = s.details[0] if s.details else (0, 0, *s.frame)
    times = max(1, math.ceil(TILE / max(height, width)))
    h, w = (max(s.step, min(n, TILE // times) // s.step * s.step) for n in (height, width))
    return ((y + (height - h) // 2) // s.step * s.step, (x + (width - w) // 2) // s.step * s.step, h, w), times


def _measured(v: View) -> str:
    parts = []
    if "psnr" in v.values:
        parts.append(f"{v.values['psnr']:.2f} dB")
    if "ssim" in v.values:
        parts.append(f"{v.values['ssim']:.4f}")
    if v.seconds is not None:
        parts.append(f"{1e3 * v.seconds:.3g} ms")
    return "  ".join(parts)


def _colour(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)


def _overview(s: Subject, box: tuple[int, int, int, int]) -> np.ndarray:
    """The last view, the original if there is one, made small, with a frame around the detail."""
    from ..imresize import imresize

    picture = _colour(s.views[-1].pixels)
    scale = min(1.0, TILE / max(picture.shape[:2]))
    small = imresize(picture, size=(max(1, int(picture.shape[0] * scale)), max(1, int(picture.shape[1] * scale))))
    per_frame = small.shape[0] / s.frame[0]
    y, x, height, width = (round(n * per_frame) for n in box)
    if (height, width) != small.shape[:2]:
        for inset, level in ((0, 255), (1, 0)):
            y1, x1 = min(y + height, small.shape[0]) - 1 - inset, min(x + width, small.shape[1]) - 1 - inset
            for rows, columns in (((y + inset, y1), slice(x + inset, x1 + 1)), (slice(y + inset, y1 + 1), (x + inset, x1))):
                small[rows, columns] = level
    return small


def _cell(picture: np.ndarray, title: str, below: str) -> np.ndarray:
    cell = np.full((TILE + 2 * _LINE + 2 * _GAP, TILE + _GAP, 3), _PAPER, np.uint8)
    picture = picture[:TILE, :TILE]
    cell[: picture.shape[0], : picture.shape[1]] = picture
    for k, (text, ink) in enumerate(((title, _INK), (below, _FAINT))):
        top = TILE + 4 + k * _LINE
        write(cell[top : top + _LINE, :TILE], text, ink)
    return cell


def write(area: np.ndarray, text: str, ink: tuple[int, int, int]) -> None:
    """Letters into a uint8 (height, width, 3) area, cut off at its right edge."""
    if not text:
        return
    try:
        image, drawing, fonts = (importlib.import_module(f"PIL.{name}") for name in ("Image", "ImageDraw", "ImageFont"))
    except ImportError:
        _write_cv2(area, text, ink)
        return
    height, width = area.shape[:2]
    mask = image.new("L", (width, height), 0)
    font = _font(fonts)
    try:
        drawing.Draw(mask).text((0, 1), text, fill=255, font=font)
    except UnicodeEncodeError:  # the built-in bitmap font has Latin letters only
        drawing.Draw(mask).text((0, 1), text.encode("ascii", "replace").decode(), fill=255, font=font)
    _ink(area, np.asarray(mask), ink)


def _font(fonts: Any) -> Any:
    try:
        return fonts.load_default(13)
    except (TypeError, OSError, ImportError):  # Pillow before 10.1, or without FreeType
        return fonts.load_default()


def _write_cv2(area: np.ndarray, text: str, ink: tuple[int, int, int]) -> None:
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        raise FastsrError("the contact sheet needs Pillow or OpenCV: pip install pillow") from None
    mask = np.zeros(area.shape[:2], np.uint8)
    cv2.putText(mask, text.encode("ascii", "replace").decode(), (0, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 255, 1, cv2.LINE_AA)
    _ink(area, mask, ink)


def _ink(area: np.ndarray, mask: np.ndarray, ink: tuple[int, int, int]) -> None:
    share = mask[:, :, None] / 255.0
    area[...] = np.rint(area * (1 - share) + np.array(ink) * share).astype(np.uint8)
