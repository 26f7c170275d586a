"""safetensors files to `Graph`: eight bytes with the length of a header in JSON, the header, the numbers (https://github.com/huggingface/safetensors)."""

from __future__ import annotations

import json
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .. import archs
from ..errors import ModelError
from ..graph import Graph
from . import state_dict
from .tensor_types import count, finished, raw_type

NAME = "safetensors"
SUFFIXES = (".safetensors",)

MAX_HEADER = 4 << 20
TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True when the file starts with a plausible length and a JSON object."""
    return re.match(rb"[\s\S]{4}\x00{4}\{\s*(\"|\}|$)", head) is not None


def load(path: str | os.PathLike[str], scale: int = 0) -> Graph:
    """Read a safetensors file.

    scale: as for `archs.graph_of`. Raises ModelError for anything that cannot be read, OSError when the file cannot be opened.
    """
    return state_dict.graph_of(path, lambda f: tensors_of(f.read()), scale)


def loads(data: bytes, path: Path | None = None) -> Graph:
    """`load` for the bytes of a file. path: what the file may be called."""
    return archs.graph_of(tensors_of(data), path or Path("model.safetensors"))


def tensors_of(data: bytes) -> dict[str, np.ndarray]:
    """The network's weights by name, in the file's order, as `state_dict.weights` says; views of `data` where they need no conversion."""
    header, start = read_header(data)
    spans: list[tuple[int, int]] = []
    found: dict[str, Any] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        found[name], span = tensor(name, entry, data, start)
        spans.append(span)
    spans.sort()
    if any(first < last for (_, last), (first, _) in pairwise(spans)):
        raise ModelError("has tensors that overlap: damaged file")
    if not found:
        raise ModelError("holds no tensors")
    return state_dict.weights(found, lambda value: value if isinstance(value, (dict, state_dict.Lazy)) else None)


def read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header and where the numbers begin."""
    n = int.from_bytes(data[:8], "little")
    if len(data) < 8:
        raise ModelError("the file is empty or cut off: download it again" if data else "the file is empty: download it again")
    if n > MAX_HEADER:
        raise ModelError(f"claims to have a header of {n} bytes: no safetensors file, or damaged")
    if n > len(data) - 8:
        raise ModelError("ends in the middle of its header: the download was not finished")
    try:
        header = json.loads(data[8 : 8 + n], parse_int=small_int)
    except (ValueError, RecursionError):
        raise ModelError("has a header that is no JSON: no safetensors file, or damaged") from None
    if not isinstance(header, dict):
        raise ModelError("has a header that is no JSON object: no safetensors file, or damaged")
    return header, 8 + n


def small_int(text: str) -> int:
    """An integer of at most 18 digits."""
    if len(text) > 18:
        raise ValueError("absurdly large")
    return int(text)


def tensor(name: str, entry: Any, data: bytes, start: int) -> tuple[state_dict.Lazy, tuple[int, int]]:
    """A tensor of the header, checked, and the bytes that it takes after `start`."""
    shape, span, code = (entry.get(k) for k in ("shape", "data_offsets", "dtype")) if isinstance(entry, dict) else (None, None, None)
    if not isinstance(shape, list) or not isinstance(span, list) or len(span) != 2 or not all(type(n) is int and n >= 0 for n in span):
        raise ModelError(f"has a damaged header: the tensor '{name[:100]}' lacks its type, shape or place")
    if not isinstance(code, str) or code not in TYPES:
        raise ModelError(f"'{name[:100]}' has numbers of type {str(code)[:40]}, which is not supported: save the weights as F32")
    first, last = span
    kind, sizes = TYPES[code], tuple(shape)
    dtype, total = raw_type(kind), count(sizes)
    if last - first != total * dtype.itemsize:
        raise ModelError(f"'{name[:100]}' has a shape that does not fit its {last - first} bytes: damaged file")
    if last > len(data) - start:
        raise ModelError("ends in the middle of its weights: the download was not finished")
    return state_dict.Lazy(sizes, lambda: finished(np.frombuffer(data, dtype, total, start + first).reshape(sizes), kind)), (first, last)
