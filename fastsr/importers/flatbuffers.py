"""FlatBuffers as they lie in a file (https://flatbuffers.dev/internals): tables and vectors, every offset checked before it is followed.

A table is a list of fields by number; one that is left out has the schema's default. Whatever does not lie inside the file is a ModelError.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..errors import ModelError

SPARE = 1 << 20
MAX_TABLES = 65536
"""How many tables a vector may have."""


class Table:
    """One table of a file. Fields are read by number; `default` is what a field that is left out has.

    budget: a list of one number, the bytes that may still be read from vectors of this file: offsets may overlap, so a small file could otherwise
    describe an enormous structure.
    """

    __slots__ = ("_at", "_budget", "_data", "_fields")

    def __init__(self, data: bytes, at: int, budget: list[int]) -> None:
        self._data, self._at, self._budget = data, at, budget
        base = at - _unpack("<i", data, at)
        size = _unpack("<H", data, base)
        if size < 4 or size % 2 or base + size > len(data):
            raise ModelError("a table lies outside the file: damaged or cut short")
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", data, base + 4)
        self._spend(size)

    def _spend(self, n: int) -> None:
        self._budget[0] -= n
        if self._budget[0] < 0:
            raise ModelError("its tables and vectors overlap in an absurd way: damaged file")

    def _place(self, field: int) -> int:
        """Where a field lies, 0 when it is left out."""
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else 0

    def _follow(self, field: int) -> int:
        """Where the table, vector or text of a field lies, 0 when it is left out."""
        at = self._place(field)
        if not at:
            return 0
        return at + _unpack("<I", self._data, at)

    def number(self, field: int, form: str, default: Any = 0) -> Any:
        """A number of struct format `form`: b, B, i, I, q, Q, f, or ? for a flag."""
        at = self._place(field)
        return _unpack("<" + form, self._data, at) if at else default

    def table(self, field: int) -> Table | None:
        """The table of a field."""
        at = self._follow(field)
        return Table(self._data, at, self._budget) if at else None

    def _vector(self, field: int, itemsize: int) -> tuple[int, int]:
        """Where the items of a vector begin and how many there are."""
        at = self._follow(field)
        if not at:
            return 0, 0
        count = _unpack("<I", self._data, at)
        if at + 4 + count * itemsize > len(self._data):
            raise ModelError(f"a vector of {count} items of {itemsize} bytes lies outside the file: damaged or cut short")
        self._spend(count * itemsize)
        return at + 4, count

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return bool(self._place(field))

    def tables(self, field: int) -> list[Table]:
        """The tables of a vector."""
        at, count = self._vector(field, 4)
        if count > MAX_TABLES:
            raise ModelError(f"has a list of {count} tables: damaged, or not a network for pictures")
        places = [at + 4 * k for k in range(count)]
        return [Table(self._data, p + _unpack("<I", self._data, p), self._budget) for p in places]

    def numbers(self, field: int, dtype: Any) -> np.ndarray:
        """The numbers of a vector, a view of the file."""
        kind = np.dtype(dtype).newbyteorder("<")
        at, count = self._vector(field, kind.itemsize)
        return np.frombuffer(self._data, kind, count, at) if count else np.zeros(0, kind)

    def ints(self, field: int, form: str = "<i4") -> list[int]:
        """The numbers of a vector as Python integers."""
        return [int(n) for n in self.numbers(field, form)]

    def text(self, field: int) -> str:
        """A text, "" when it is left out."""
        return self.numbers(field, np.uint8).tobytes().decode("utf-8", "replace")


def _unpack(form: str, data: bytes, at: int) -> Any:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise ModelError("an offset points outside the file: damaged or cut short")
    return struct.unpack_from(form, data, at)[0]


def root(data: bytes) -> Table:
    """The table that a file begins with. Raises ModelError when it does not lie inside the file."""
    return Table(data, _unpack("<I", data, 0), [4 * len(data) + SPARE])
