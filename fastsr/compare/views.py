"""What is compared: one picture in several views, with what was measured of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import PictureError
from ..evaluation import Contender, bicubic, colour, compared, timed
from ..imresize import imresize
from ..metrics import modcrop

DETAILS = 3
SSIM_WINDOW = 11


@dataclass
class View:
    """A picture as one contender makes it. kind: "small" (enlarged by repeating pixels where it is shown), "filter", "model" or "original".

    pixels: uint8 (H, W) or (H, W, 3) BGR. scale: of the pixels to the small picture they come from; of "small" itself, how many times it is enlarged.
    """

    name: str
    kind: str
    scale: int
    pixels: np.ndarray
    values: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None


@dataclass
class Subject:
    """One picture: its name, its views, the size (height, width) of the frame in which all are shown, and details: (y, x, height, width) in it.
    Every view is a whole number of times smaller than the frame.

    whole: size of the frame before it was cut, at: (y, x) of the part that is left.
    """

    name: str
    views: list[View]
    frame: tuple[int, int]
    details: list[tuple[int, int, int, int]]
    whole: tuple[int, int]
    at: tuple[int, int] = (0, 0)

    @property
    def step(self) -> int:
        """Cuts of the frame must fall on multiples of this, so that every view is cut between pixels."""
        return math.lcm(*(_per_frame(self.frame, v) for v in self.views))

    def cut(self, y: int, x: int, height: int, width: int) -> Subject:
        """The same with this part of the frame alone, without details; y, x, height and width are multiples of `step`."""
        views = []
        for v in self.views:
            k = _per_frame(self.frame, v)
            views.append(View(v.name, v.kind, v.scale, v.pixels[y // k : (y + height) // k, x // k : (x + width) // k], v.values, v.seconds))
        return Subject(self.name, views, (height, width), [], self.whole, (self.at[0] + y, self.at[1] + x))


def _per_frame(frame: tuple[int, int], view: View) -> int:
    return frame[0] // view.pixels.shape[0]


def subject(
    name: str,
    picture: np.ndarray,
    models: Sequence[Contender],
    *,
    original: bool,
    runs: int = 1,
    starting: Callable[[Contender], Any] = lambda model: None,
) -> Subject:
    """A picture in all its views: the small one, bicubic for each scale, each model, and the original if there is one.

    picture: uint8 or uint16, grey, BGR or BGRA (alpha is left out). original: it is the original, and the small ones are made from it; else it is
    the small one itself. runs: how often each model is run; the fastest counts. starting: called before each model, gives the `progress` callback of
    `Model.upscale`. Raises PictureError when picture and models do not go together.
    """
    picture = colour(picture)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    scales = sorted({m.scale for m in models})
    several = len(scales) > 1
    views: list[View] = []
    if original:
        whole = modcrop(picture, math.lcm(*scales))
        smalls = {s: imresize(whole, 1 / s) for s in scales}
    else:
        whole = None
        smalls = dict.fromkeys(scales, picture)
    for model in [c for s in scales for c in (bicubic(s), *(m for m in models if m.scale == s))]:
        s, small = model.scale, smalls[model.scale]
        filter = not model.timed
        if filter and original:
            views.append(View(f"nearest x{s}" if several else "nearest", "small", s, _bytes(small)))
        elif filter and not views:
            views.append(View("nearest", "small", math.lcm(*scales), _bytes(picture)))
        result, seconds = timed(model, small, runs, starting(model))
        label = f"{model.name} x{s}" if several and (filter or [m.name for m in models].count(model.name) > 1) else model.name
        values = {} if whole is None else _values(result, whole, s)
        views.append(View(label, "filter" if filter else "model", s, _bytes(result), values, seconds))
    if whole is not None:
        views.append(View("original", "original", 1, _bytes(whole)))
    largest = max((v for v in views if v.kind != "small"), key=lambda v: v.pixels.shape[0])
    height, width = largest.pixels.shape[:2]
    step = math.lcm(*scales)
    if not original and several:  # of x2 and x3, the frame is x6 of the small picture: every view is a whole number of times smaller
        height, width = picture.shape[0] * step, picture.shape[1] * step
    for v in views:
        if height % v.pixels.shape[0] or height // v.pixels.shape[0] * v.pixels.shape[1] != width:
            raise PictureError(f"'{v.name}' makes {v.pixels.shape[1]}x{v.pixels.shape[0]} pixels, which do not fit {width}x{height}")
    found = Subject(name, views, (height, width), [], (height, width))
    found.details = details(found)
    return found


def _values(result: np.ndarray, whole: np.ndarray, scale: int) -> dict[str, float]:
    inside = min(whole.shape[:2]) - 2 * scale
    return compared(result, whole, scale, () if inside < 1 else ("psnr",) if inside < SSIM_WINDOW else ("psnr", "ssim"))


def _bytes(picture: np.ndarray) -> np.ndarray:
    return picture if picture.dtype == np.uint8 else ((picture + np.uint32(128)) // 257).astype(np.uint8)


# ---- where to look -----------------------------------------------------------------------------------------------------------------------------


def interest(found: Subject) -> np.ndarray:
    """float64 (H, W) in the pixels of the first filter's view: how much the models' views differ from it there, squared."""
    base = next(v for v in found.views if v.kind == "filter")
    total = np.zeros(base.pixels.shape[:2])
    others = [v for v in found.views if v.kind in ("model", "original") and v.pixels.shape == base.pixels.shape]
    for v in others or [base]:
        difference = v.pixels.astype(np.float64) - (base.pixels if others else base.pixels.mean())
        total += np.square(difference) if difference.ndim == 2 else np.square(difference).sum(axis=2)
    return total


def windows(weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums of `weight` over all windows of that size: (H - height + 1, W - width + 1)."""
    sums = np.zeros((weight.shape[0] + 1, weight.shape[1] + 1))
    np.cumsum(np.cumsum(weight, axis=0), axis=1, out=sums[1:, 1:])
    return sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]


def details(found: Subject) -> list[tuple[int, int, int, int]]:
    """Up to DETAILS windows of the frame, a quarter of its shorter side and at least 48 pixels, where the views differ most."""
    weight = interest(found)
    k = found.frame[0] // weight.shape[0]
    side = max(48, min(weight.shape) // 4)
    if min(weight.shape) < 2 * side:
        return []
    places = []
    for _ in range(DETAILS):
        sums = windows(weight, side, side)
        y, x = (int(i) for i in np.unravel_index(int(np.argmax(sums)), sums.shape))
        if sums[y, x] <= 0:
            break
        places.append((y * k, x * k, side * k, side * k))
        weight[y : y + side, x : x + side] = 0
    return places
