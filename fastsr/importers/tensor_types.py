"""Types of numbers in files of weights, as NumPy arrays."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from ..errors import ModelError

SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of one number of each type that can be read, by torch's names of the types."""
STORED_AS = {"bfloat16": "u2", "bool": "u1", **{name: "u1" for name in SIZES if name.startswith("float8")}}
MAX_AXES = 16


def numpy_kind(code: str) -> tuple[str, bool]:
    """NumPy's code of a type ("<f4") as one of SIZES and whether it is big-endian; "" for other types."""
    match = re.fullmatch(r"([<>|=]?)([fiub])([1248])", code)
    if not match:
        return "", False
    order, letter, n = match.groups()
    kind = "bool" if letter == "b" else {"f": "float", "i": "int", "u": "uint"}[letter] + str(8 * int(n))
    return (kind, order == ">") if kind in SIZES else ("", False)


def raw_type(kind: str, big_endian: bool = False) -> np.dtype[Any]:
    """The type as which numbers of a type in SIZES are read from a file, before `finished` makes them what they mean."""
    if kind not in SIZES:
        raise ModelError(f"has numbers of type {kind[:60]}, which is not supported: save the weights as float32")
    return np.dtype(STORED_AS.get(kind, kind)).newbyteorder(">" if big_endian else "<")


def finished(raw: np.ndarray, kind: str) -> np.ndarray:
    """Numbers read with `raw_type`, in C order, of the machine's byte order, aligned: all floating types as float32, integers and bool as they are.

    What needs no conversion is not copied, and cannot be written to then.
    """
    if kind == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32).reshape(raw.shape)
    if kind.startswith("float8"):
        return _float8(kind)[raw]
    if kind == "bool":
        return raw != 0
    target = np.float32 if kind.startswith("float") else raw.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):
        made = np.asarray(raw, target, order="C")
    return made if made.flags.aligned else made.copy()


@cache
def _float8(kind: str) -> np.ndarray:
    """The 256 numbers of an 8-bit floating type (Micikevicius et al., FP8 Formats for Deep Learning; fnuz: without infinities and negative zero)."""
    bits = np.arange(256)
    mantissa_bits = 3 if "e4m3" in kind else 2
    bias = (7 if mantissa_bits == 3 else 15) + kind.endswith("fnuz")
    exponent = (bits & 127) >> mantissa_bits
    mantissa = (bits & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    size = np.where(exponent == 0, np.ldexp(mantissa, 1 - bias), np.ldexp(1 + mantissa, exponent - bias))
    values = np.where(bits >= 128, -size, size)
    if kind.endswith("fnuz"):
        values[128] = np.nan
    elif kind.endswith("fn"):
        values[[127, 255]] = np.nan
    else:
        values[[124, 252]] = np.inf, -np.inf
        values[[125, 126, 127, 253, 254, 255]] = np.nan
    return values.astype(np.float32)


def count(shape: tuple[int, ...]) -> int:
    """How many numbers an array of this shape has. Raises ModelError for a shape that none can have."""
    if len(shape) > MAX_AXES or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise ModelError("has a shape that no weight has: damaged file")
    total = 1
    for n in shape:
        total *= n
    if total >= 1 << 40:
        raise ModelError("has a shape that no weight has: damaged file")
    return total
