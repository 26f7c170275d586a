"""Numbers known while importing: how evaluators of constants and shape code read their inputs, and integer division with sizes in it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import BaseContext
from .values import Array, Dim, settle

MAX_ITEMS = 1 << 26
OVERHEAD = 256
"""Bytes that an array takes besides its numbers."""

Evaluator = Callable[..., Any]


def evaluate(table: Mapping[str, Evaluator], ctx: BaseContext, node: Any, args: Sequence[Any], integer: Any = np.int32) -> Any:
    """The value of a node whose inputs are known, by the function of its operator: an Array, a list of them for several outputs, or Filled.

    integer: type of integers whose sizes have cancelled out.
    """
    function = table[node.op]
    least, most = arity(function)
    if not least <= len(args) <= most:
        raise ModelError(f"has {len(args)} inputs, needs {least}: damaged file")
    try:
        result = function(ctx, node, *args)
    except (ArithmeticError, IndexError, TypeError, ValueError) as e:
        if isinstance(e, ModelError):
            raise
        raise ModelError(f"has inputs that do not fit together ({str(e)[:200]}): damaged file") from None
    results = result if isinstance(result, list) else [result]
    out: list[Any] = []
    ctx.spend(OVERHEAD * len(results))
    for r in results:
        if isinstance(r, np.ndarray | np.generic | Dim | int | float):
            data = settle(np.asarray(r), integer)
            if not np.shares_memory(data, args[0].data if args and isinstance(args[0], Array) else np.zeros(0)):
                ctx.spend(data.nbytes)
            r = Array(data)
        out.append(r)
    return out if isinstance(result, list) else out[0]


@cache
def arity(function: Evaluator) -> tuple[int, float]:
    """Fewest and most values that an evaluator takes."""
    parameters = list(inspect.signature(function).parameters.values())[2:]
    required = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
    return required, math.inf if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(parameters)


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
