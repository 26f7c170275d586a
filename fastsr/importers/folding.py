"""Numbers known while importing: how evaluators of constants and shape code read their inputs, and integer division with sizes in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import BaseContext
from .values import Array

MAX_ITEMS = 1 << 26


def plain(value: Any) -> np.ndarray:
    """Numbers without sizes in them."""
    if not isinstance(value, Array) or value.symbolic:
        raise ModelError("reads the size of the picture where a constant is expected: fastsr cannot follow this")
    return value.data


def integers(value: Any, limit: int = 64) -> list[int]:
    """A short list of integers."""
    data = plain(value)
    if data.dtype.kind not in "iu" or data.size > limit:
        raise ModelError("expects a few integers as input: damaged file")
    return [int(i) for i in data.reshape(-1)]


def integer(value: Any) -> int:
    """One integer."""
    items = integers(value, 1)
    if len(items) != 1:
        raise ModelError("expects one integer as input: damaged file")
    return items[0]


def bounded(ctx: BaseContext, *shape: Any, itemsize: int = 8) -> None:
    """Account for an array of that shape before it is made. Raises ModelError when it is absurdly large."""
    items = math.prod(int(n) for n in shape)
    if items > MAX_ITEMS or any(int(n) < 0 for n in shape):
        raise ModelError(f"makes an array of shape {[int(n) for n in shape]}: damaged file")
    ctx.spend(items * itemsize)


def truncated(a: Any, b: Any) -> Any:
    """a / b, rounded towards zero for integers."""
    if a.dtype == object or b.dtype == object:
        return a // b
    if a.dtype.kind in "iu":
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype) if np.all(b != 0) else _zero()
    return a / b


def floored(a: Any, b: Any) -> Any:
    """a // b."""
    return a // b if a.dtype == object or b.dtype == object or a.dtype.kind == "f" or np.all(b != 0) else _zero()


def _zero() -> Any:
    raise ModelError("divides by zero: damaged file")
