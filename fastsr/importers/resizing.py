"""The fixed scale behind a resize to a size that follows from the picture's, or the picture whose size it is."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import resized
from .values import Dim

Sized = Callable[[Any, Any], str | None]
"""(height, width) -> the name of a value of that size, None where there is none."""


def resizing(size: dict[str, Any], old: dict[str, Any], align_corners: bool, sized: Sized) -> tuple[dict[str, tuple[float, Any]], str | None]:
    """How pictures of size `old` (letter -> size, for H and W) become ones of `size`.

    Returns letter -> (scale, new size), and None; or anything and the name of the value whose size they take, where no fixed scale does that for
    every picture, or, in a file of fixed size, no whole number does. Raises ModelError when nothing does.
    """
    try:
        scales = {a: scale_of(size[a], old[a], align_corners) for a in "HW"}
    except ModelError:
        to = sized(size["H"], size["W"])
        if to is None:
            raise
        return {a: (1.0, size[a]) for a in "HW"}, to
    fixed = [(int(n), old[a]) for a, (_, n) in scales.items() if not isinstance(n, Dim)]
    odd = any(n % m and m % n for n, m in fixed)
    return scales, sized(size["H"], size["W"]) if odd else None


def scale_of(size: Any, old: Any, align_corners: bool) -> tuple[float, Any]:
    """(scale, new size) that takes `old` pixels to `size`. Raises ModelError when no fixed scale does that for every picture."""
    if not isinstance(old, Dim):
        if isinstance(size, Dim) or size != int(size) or not 0 < size <= 65536 * 16:
            raise ModelError("resizes to a size that does not follow from its input's: not supported")
        scale = np.float32(int(size) / old)
        if resized(int(old), float(scale)) < size:
            scale = np.nextafter(scale, np.float32(np.inf))
        return float(scale), int(size)
    if not isinstance(size, Dim):
        raise ModelError(f"resizes to a constant size ({size}), whatever the picture: fix its input's size too, or use a scale")
    exact = size.var[1] if isinstance(size.var, tuple) and size.var[0] == "floor" and size.var != old.var and size.a == 1 and size.b == 0 else size
    if exact is not size and not align_corners:
        raise ModelError("resizes to a size that is rounded down, for which no fixed scale exists: not supported")
    ratio = exact.a / old.a
    if exact.var != old.var or exact.b != old.b * ratio or ratio <= 0:
        raise ModelError("resizes to a size that is not a fixed multiple of its input's: not supported")
    if not Fraction(1, 256) <= ratio <= 256:
        raise ModelError(f"resizes by a factor of {float(ratio):g}: damaged file")
    return float(ratio), size
