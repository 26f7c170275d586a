"""The fixed scale behind a resize to a size that follows from the picture's."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import ModelError
from .values import Dim


def scale_of(size: Any, old: Any, align_corners: bool) -> tuple[float, Any]:
    """(scale, new size) that takes `old` pixels to `size`. Raises ModelError when no fixed scale does that for every picture."""
    if not isinstance(old, Dim):
        if isinstance(size, Dim) or size != int(size) or not 0 < size <= 65536 * 16:
            raise ModelError("resizes to a size that does not follow from its input's: not supported")
        scale = np.float32(int(size) / old)
        if math.floor(old * float(scale)) != size:
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
