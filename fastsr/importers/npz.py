"""NumPy archives of weights (.npz) to `Graph`: a zip archive of .npy files (numpy/lib/format.py), named as the weights are."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .. import archs
from ..errors import ModelError
from ..graph import Graph
from . import state_dict
from .tensor_types import count, finished, numpy_kind, raw_type
from .zips import Zip

NAME = "NumPy archive"
SUFFIXES = (".npz",)

HEADER = re.compile(rb"\{'descr': '([<>|=]?\w{2,3})', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,200})\),? ?\}\s*")


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True for a zip archive that begins with a .npy file."""
    return re.match(rb"PK\x03\x04[\s\S]{26}[^\x00]{1,512}?\.npy", head) is not None


def load(path: str | os.PathLike[str], scale: int = 0) -> Graph:
    """Read a NumPy archive.

    scale: as for `archs.graph_of`. Raises ModelError for anything that cannot be read, OSError when the file cannot be opened.
    """
    return state_dict.graph_of(path, tensors_of, scale)


def loads(data: bytes, path: Path | None = None) -> Graph:
    """`load` for the bytes of a file. path: what the file may be called."""
    return archs.graph_of(tensors_of(io.BytesIO(data)), path or Path("model.npz"))


def tensors_of(file: BinaryIO) -> dict[str, np.ndarray]:
    """The network's weights by name, in the file's order, as `state_dict.weights` says."""
    archive = Zip(file)
    found = {name[:-4]: array(name, archive.read(name)) for name in archive.members if name.endswith(".npy")}
    return state_dict.weights(found, lambda value: value if isinstance(value, (dict, state_dict.Lazy)) else None)


def array(name: str, data: bytes) -> state_dict.Lazy:
    """One .npy file, checked."""
    wide = data[6:7] > b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    match = HEADER.fullmatch(data[start : start + length]) if data[:6] == b"\x93NUMPY" and length < 4096 else None
    if not match:
        raise ModelError(f"'{name[:80]}' in it is no array of numbers: damaged, or not weights")
    kind, big_endian = numpy_kind(match.group(1).decode())
    if not kind:
        raise ModelError(f"'{name[:80]}' has numbers of type {match.group(1).decode()}, which is not supported: save the weights as float32")
    shape = tuple(int(n) for n in match.group(3).replace(b" ", b"").split(b",") if n)
    dtype, total = raw_type(kind, big_endian), count(shape)
    if len(data) - start - length != total * dtype.itemsize:
        raise ModelError(f"'{name[:80]}' has a shape that does not fit its data: damaged file")
    flat = np.frombuffer(data, dtype, total, start + length)
    stored = flat.reshape(shape[::-1]).T if match.group(2) == b"True" else flat.reshape(shape)
    return state_dict.Lazy(shape, lambda: finished(np.ascontiguousarray(stored).reshape(shape), kind))
