"""8-bit pictures on the device: which can be read and written there, and the arguments of the kernels that do (`kernels/picture.cuh`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ... import image
from ...graph import Feed
from ...tiles import Rect, Size
from .layout import ARGS, set_view

_MODES = {("y", True): 0, ("y", False): 1, ("bgr", True): 2, ("rgb", True): 2, ("bgr", False): 3, ("rgb", False): 4}
"""(Colour that is fed, whether the picture is grey) -> PictureMode."""

FINE = 5
"""PictureMode of a colour picture of which Y is fed and not rounded."""

Table = Callable[[np.ndarray], int]
"""Gives a table's address on the device."""


def suits(shape: tuple[int, ...], feed: Feed) -> bool:
    """Whether the device can do all that a checked picture of 8 bits needs. Lines of one pixel have an arithmetic of their own."""
    return feed.colour in ("y", "bgr", "rgb") and feed.pre_scale == 1 and 1 not in shape[:2]


def mode_of(feed: Feed, grey: bool) -> int:
    """PictureMode of a picture for that feed."""
    return FINE if feed.fine and not grey else _MODES[feed.colour, grey]


def _mean(mean: tuple[float, ...], c: int) -> float:
    return mean[c] if mean else 0.0


def _set_picture(view: np.ndarray, address: int, shape: tuple[int, ...]) -> None:
    channels = shape[2] if len(shape) == 3 else 1
    set_view(view, address, channels, channels, (0, 0, shape[0], shape[1]), (shape[0], shape[1]), shape[1] * channels)


def read_args(feed: Feed, shape: tuple[int, ...], address: int, rect: Rect) -> np.ndarray:
    """For read_picture: a picture of that shape at an address. The value is yet to be set."""
    args = np.zeros(1, ARGS)
    a = args[0]
    _set_picture(a["in"], address, shape)
    a["y0"], a["x0"], a["y1"], a["x1"] = rect
    a["count"], a["constant"] = mode_of(feed, len(shape) == 2), np.float32(feed.range / 255.0)
    for c in range(3):
        a["slots"][c]["a"] = _mean(feed.mean, c)
    return args


def write_args(feed: Feed, shape: tuple[int, ...], address: int, rect: Rect, size: Size, source: int, table: Table) -> np.ndarray:
    """For write_picture: to a picture of `size` at an address, of one of that shape at `source`. The value is yet to be set."""
    args = np.zeros(1, ARGS)
    a = args[0]
    _set_picture(a["out"], address, (*size, *shape[2:]))
    a["y0"], a["x0"], a["y1"], a["x1"] = rect
    a["count"], a["constant"], a["first"] = mode_of(feed, len(shape) == 2), np.float32(255.0 / feed.out_range), feed.colour == "rgb"
    for c in range(3):
        a["slots"][c]["a"] = _mean(feed.out_mean, c)
    if mode_of(feed, len(shape) == 2) in (_MODES["y", False], FINE):
        _set_picture(a["slots"][0]["value"], source, shape)
        for axis, name in enumerate(("rows", "columns")):
            left, weight = image.linear_taps(size[axis], shape[axis])
            taps = np.stack([np.clip(left, 0, shape[axis] - 1), np.clip(left + 1, 0, shape[axis] - 1)], 1)
            a[name], a[name[:-1] + "_factors"] = table(taps.astype(np.int32)), table(weight)
    return args
