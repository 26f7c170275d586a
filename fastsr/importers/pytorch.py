"""PyTorch files (.pth, .pt, .ckpt, .bin, .pkl) to `Graph`: the three forms of torch.save, TorchScript archives, and plain pickles of arrays.

The forms are those of torch/serialization.py: a zip archive with data.pkl and one member for each storage; before version 1.6 a chain of pickles
followed by the storages. Only data is read: pickles.py runs nothing, and the code of TorchScript archives is not looked at. Which of the tensors are
the network's is found in state_dict.py, which network they are in fastsr/archs.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import archs
from ..errors import ModelError
from ..graph import Graph
from . import pickles, state_dict
from .torch_tensors import Reading, Storage, size_of, storage_id
from .zips import Zip

NAME = "PyTorch"
SUFFIXES = (".pth", ".pt", ".ckpt", ".pkl", ".pickle")

LEGACY = 0x1950A86A20F9469CFC6C
PICKLE = re.compile(
    rb"\x80[\x02-\x05][])}(BCGIJKLMNSTUVXc\x88-\x8f\x95]|L119547037146038801333356L?\n|\(dp?\d*\n|\(lp?\d*\n|[]}]q|c[A-Za-z_][\w.]*\n\w+\n|"
    rb"\(i[A-Za-z_][\w.]*\n\w+\n"
)
"""How pickles begin: of protocol 2 to 5 with that number, older ones with a container, the name of a class or torch's number."""
NESTED_COST = 1 << 20
TAR_MEMBERS = (b"storages", b"tensors", b"pickle", b"sys_info")
NOT_TORCH = (
    "is not a file of torch.save, neither a zip archive nor a pickle (a .bin of an ncnn model is opened by its .param, a .ckpt of TensorFlow has to "
    "be frozen to one .pb)"
)


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True for a zip archive with a data.pkl in it, for a pickle, and for torch's first format, a tar archive."""
    if head.startswith(b"PK\x03\x04"):
        if re.match(rb"PK\x03\x04[\s\S]{26}([^/\x00]{1,255}/)?(data\.pkl|\.data/serialization_id|\.format_version)", head):
            return True
        try:
            with open(path, "rb") as f:
                return data_member(Zip(f)) is not None
        except OSError:
            return False
        except ModelError:  # cut off or damaged
            return Path(path).suffix.lower() in SUFFIXES
    return bool(PICKLE.match(head)) or is_tar(head)


def is_tar(head: bytes) -> bool:
    """True for torch's first format."""
    return head[257:262] == b"ustar" and head[:100].strip(b"./\x00") in TAR_MEMBERS


def data_member(archive: Zip) -> str | None:
    """The name of the member that holds the pickle, None when the archive is not torch's."""
    found = [name for name in archive.members if name == "data.pkl" or name.endswith("/data.pkl")]
    return min(found, key=len, default=None)


def load(path: str | os.PathLike[str], scale: int = 0) -> Graph:
    """Read a file of torch.save.

    scale: as for `archs.graph_of`. Raises ModelError for anything that cannot be read, OSError when the file cannot be opened.
    """
    return state_dict.graph_of(path, tensors_of, scale)


def loads(data: bytes, path: Path | None = None) -> Graph:
    """`load` for the bytes of a file. path: what the file may be called."""
    return archs.graph_of(tensors_of(io.BytesIO(data)), path or Path("model.pth"))


def tensors_of(file: BinaryIO) -> dict[str, np.ndarray]:
    """The network's weights by name, in the file's order, as `state_dict.weights` says."""
    file.seek(0)
    head = file.read(512)
    length = file.seek(0, os.SEEK_END)
    reading = Reading(length, nested_storage)
    if head.startswith(b"PK\x03\x04"):
        root = zip_root(Zip(file))
    elif is_tar(head):
        raise ModelError("is in torch's first format, a tar archive: load it with torch and save it again")
    elif not head:
        raise ModelError("the file is empty: download it again")
    elif not PICKLE.match(head):
        raise ModelError(NOT_TORCH)
    else:
        file.seek(0)
        root = pickle_root(memoryview(file.read()))
    return state_dict.weights(root, reading.view)


# ---- zip archives ------------------------------------------------------------------------------------------------------------------------------


def zip_root(archive: Zip, cost: int = pickles.MAX_COST) -> Any:
    """The object in a zip archive. cost: as for `pickles.load`."""
    member = data_member(archive)
    if member is None:
        raise ModelError("is a zip archive without 'data.pkl', which torch.save puts into it: unpack it and give the model file that is inside")
    folder = member[: -len("data.pkl")]
    order = archive.read(f"{folder}byteorder").strip() if f"{folder}byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise ModelError("has an unknown byte order: damaged file")
    fetched: dict[str, bytes] = {}

    def fetch(key: str) -> bytes:
        if key not in fetched:
            fetched[key] = archive.read(f"{folder}data/{key}")
        return fetched[key]

    def persistent(pid: Any) -> Storage:
        key, kind, numel, offset = storage_id(pid)
        return Storage(kind, numel, lambda: fetch(key), offset, order == b"big")

    return pickles.load(memoryview(archive.read(member)), 0, persistent, cost)[0]


# ---- pickles -----------------------------------------------------------------------------------------------------------------------------------


def pickle_root(data: memoryview, cost: int = pickles.MAX_COST) -> Any:
    """The object of a file of pickles: torch's form before zip archives, or one pickle of arrays. cost: as for `pickles.load`."""
    first, at = pickles.load(data, 0, None, cost)
    return first if type(first) is not int or first != LEGACY else legacy_root(data, at, cost)


def legacy_root(data: memoryview, at: int, cost: int) -> Any:
    """The object after the magic number: version, sizes of types, the object, keys of storages; then each storage's count and its numbers.

    Numbers are little-endian on every machine.
    """
    version, at = pickles.load(data, at, None, cost)
    if version != 1001:
        raise ModelError("was written by an unknown version of torch.save: save it again with a newer torch")
    _, at = pickles.load(data, at, None, cost)
    kinds: dict[str, str] = {}
    places: dict[str, memoryview] = {}

    def fetch(key: str) -> memoryview:
        if key not in places:
            raise ModelError("lacks the numbers of one of its tensors: damaged file")
        return places[key]

    def persistent(pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]
        key, kind, numel, offset = storage_id(pid)
        if size_of(kinds.setdefault(key, kind)) != size_of(kind):
            raise ModelError("has a storage of two types: damaged file")
        return Storage(kind, numel, lambda: fetch(key), offset)

    root, at = pickles.load(data, at, persistent, cost)
    keys, at = pickles.load(data, at, None, cost)
    if not isinstance(keys, list):
        raise ModelError("has a damaged list of storages: download the file again")
    for key in keys:
        name = str(key) if type(key) is int and abs(key) < 1 << 80 else key
        if not isinstance(name, str) or name not in kinds:
            raise ModelError("has a damaged list of storages: download the file again")
        numel = int.from_bytes(data[at : at + 8], "little")
        size = numel * size_of(kinds[name])
        if len(data) - at - 8 < size:
            raise ModelError("ends in the middle of its weights: the download was not finished")
        places[name] = data[at + 8 : at + 8 + size]
        at += 8 + size
    return root


def nested_storage(data: bytes) -> Any:
    """The storage in the bytes that pickle writes for a tensor: a file of torch.save of their own. None when they hold something else."""
    if data.startswith(b"PK\x03\x04"):
        root = zip_root(Zip(io.BytesIO(data)), NESTED_COST)
    else:
        root = pickle_root(memoryview(data), NESTED_COST)
    return root if isinstance(root, Storage) else None
