"""What importers of graphs know while they read: numbers, and sizes that depend on the picture's.

A `Dim` is a size or a number computed from sizes (`2 H`, `H / 2 + 1`); arrays of shape code are object arrays holding ints and Dims, so that NumPy's
own arithmetic evaluates them.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import ModelError

MAX_DEPTH = 32
MAX_BITS = 256


@dataclass(frozen=True)
class Dim:
    """`a * var + b`, where var is a size of an input ("x:H") or a step: ("floor", Dim), ("mod", Dim, n), ("times", Dim, Dim).

    `whole`: known to be an integer.
    """

    var: Any
    a: Fraction
    b: Fraction
    whole: bool = True
    depth: int = 0

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Dim):
            if other.var != self.var:
                raise ModelError("adds sizes of different axes or pictures, which fastsr cannot follow")
            return _make(self, self.a + other.a, self.b + other.b, self.whole and other.whole)
        n = _number(other)
        return _make(self, self.a, self.b + n, self.whole and n.denominator == 1)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return _make(self, -self.a, -self.b, self.whole)

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Dim):
            if self._is_product() or other._is_product():
                raise ModelError("multiplies more than two sizes of the picture, which fastsr cannot follow")
            return self._opaque("times", *sorted((self, other), key=repr))
        n = _number(other)
        return _make(self, self.a * n, self.b * n, self.whole and n.denominator == 1)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        n = _divisor(other)
        return _make(self, self.a / n, self.b / n, False)

    def __floordiv__(self, other: Any) -> Any:
        return (self / _divisor(other)).floor()

    def __mod__(self, other: Any) -> Any:
        n = _divisor(other)
        if self.whole and (self.a / n).denominator == 1:
            rest = self.b - (self.b // n) * n
            return int(rest) if rest.denominator == 1 else float(rest)
        return self._opaque("mod", self, n)

    def _is_product(self) -> bool:
        return isinstance(self.var, tuple) and (self.var[0] == "times" or self.var[1]._is_product())

    def _opaque(self, *var: Any) -> Dim:
        depth = max(d.depth for d in var if isinstance(d, Dim))
        if depth >= MAX_DEPTH:
            raise ModelError("rounds sizes too many times for fastsr to follow")
        return Dim(var, Fraction(1), Fraction(0), True, depth + 1)

    def floor(self) -> Any:
        """The integer at or below."""
        if self.whole:
            return self
        if self.a.denominator == 1:
            return _make(self, self.a, Fraction(self.b.numerator // self.b.denominator), True)
        return self._opaque("floor", self)


def _make(d: Dim, a: Fraction, b: Fraction, whole: bool) -> Any:
    for f in (a, b):
        if f.numerator.bit_length() > MAX_BITS or f.denominator.bit_length() > MAX_BITS:
            raise ModelError("computes absurd sizes: damaged file")
    if a == 0:
        return int(b) if b.denominator == 1 else float(b)
    return Dim(d.var, a, b, whole or (isinstance(d.var, (str, tuple)) and a.denominator == 1 and b.denominator == 1), d.depth)


def _number(x: Any) -> Fraction:
    if isinstance(x, (numbers.Real, np.number)):
        value = float(x) if not isinstance(x, (int, np.integer, Fraction)) else x
        if isinstance(value, float) and not np.isfinite(value):
            raise ModelError("computes with infinite sizes: damaged file")
        return Fraction(int(value)) if isinstance(value, (int, np.integer)) else Fraction(value)
    raise ModelError("computes with sizes in a way that fastsr cannot follow")


def _divisor(x: Any) -> Fraction:
    if isinstance(x, Dim):
        raise ModelError("divides sizes of the picture by each other, which fastsr cannot follow")
    n = _number(x)
    if n == 0:
        raise ModelError("divides by zero")
    return n


def symbol(name: str) -> Dim:
    """A size that is known only at run time."""
    return Dim(name, Fraction(1), Fraction(0))


def ceil_div(size: Any, k: int) -> Any:
    """size / k rounded up."""
    return size if k == 1 else -((-size) // k)


def equal(x: Any, y: Any) -> bool:
    """True when two sizes are the same for every picture, as far as is known."""
    if isinstance(x, Dim) and isinstance(y, Dim):
        return x.var == y.var and x.a == y.a and x.b == y.b
    return not isinstance(x, Dim) and not isinstance(y, Dim) and bool(x == y)


def differ(x: Any, y: Any) -> bool:
    """True when two sizes are different for every picture."""
    if x is y:
        return False
    if isinstance(x, Dim) and isinstance(y, Dim):
        return x.var == y.var and x.a == y.a and x.b != y.b
    return not isinstance(x, Dim) and not isinstance(y, Dim) and x != y


@dataclass
class Array:
    """Numbers known now: a constant or the result of shape code (of dtype object when it holds Dims). `name`: the constant's node, "" if computed."""

    data: np.ndarray
    name: str = ""

    @property
    def symbolic(self) -> bool:
        return self.data.dtype == object


@dataclass
class Filled:
    """One number in the shape of a picture (Fill, ZerosLike): usable with pictures of that shape."""

    value: np.ndarray
    shape: tuple[Any, ...]


def pack_dims(items: list[Any], shape: tuple[int, ...], dtype: Any = np.int32) -> np.ndarray:
    """An array of ints, or an object array when one of them is a Dim."""
    if any(isinstance(i, Dim) for i in items):
        out = np.empty(len(items), dtype=object)
        out[:] = items
        return out.reshape(shape)
    return np.array(items, dtype=dtype).reshape(shape)


def settle(data: np.ndarray, dtype: Any = np.int32) -> np.ndarray:
    """An object array without Dims turned into numbers; anything else as it is."""
    data = np.asarray(data)
    if data.dtype != object:
        return data
    items = list(data.reshape(-1))
    if any(isinstance(i, Dim) for i in items):
        return data
    kind = np.float32 if any(isinstance(i, float) for i in items) else dtype
    return np.array(items, dtype=kind).reshape(data.shape)


def unfilled(args: Iterable[Any]) -> tuple[list[Array], tuple[Any, ...]]:
    """Filled arrays and single numbers as single numbers, and the shape that the filled ones share. Raises ModelError."""
    shape: tuple[Any, ...] = ()
    plain: list[Array] = []
    for a in args:
        if isinstance(a, Filled):
            if shape and a.shape != shape:
                raise ModelError("combines filled arrays of different shapes: not supported")
            shape = a.shape
            plain.append(Array(a.value))
        elif isinstance(a, Array) and a.data.size == 1:
            plain.append(a)
        else:
            raise ModelError("combines a filled array with a constant: not supported")
    return plain, shape
