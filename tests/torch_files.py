"""Files as torch.save writes them, made without torch: a writer of pickles that can name anything, and the zip and older forms around it."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
NAMES = {"<f8": "DoubleStorage", "<f4": "FloatStorage", "<f2": "HalfStorage", "<i8": "LongStorage", "|u1": "ByteStorage", "|b1": "BoolStorage"}


@dataclass(frozen=True)
class Global:
    """A class or function by name."""

    module: str
    name: str


@dataclass
class Call:
    """What REDUCE (or another opcode) makes; `state` is what BUILD fills it with, `pairs` what SETITEMS stores in it."""

    made_by: Any
    args: tuple[Any, ...] = ()
    state: Any = None
    pairs: Any = None
    by: str = "reduce"


@dataclass(frozen=True)
class Pid:
    """An object outside of the pickle."""

    key: Any


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


def dumps(value: Any, protocol: int = 2) -> bytes:
    """The pickle of a value made of Python's own types and those above."""
    head = bytes([0x80, protocol]) if protocol >= 2 else b""
    return head + _code(value, protocol) + b"."


def _code(value: Any, protocol: int) -> bytes:
    def inner(v: Any) -> bytes:
        return _code(v, protocol)

    if isinstance(value, Raw):
        return value.code
    if isinstance(value, Global):
        if protocol >= 4:
            return inner(value.module) + inner(value.name) + b"\x93"
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Pid):
        return inner(value.key) + b"Q"
    if isinstance(value, Call):
        code = _call(value, protocol)
        if value.pairs:
            code += b"(" + b"".join(inner(k) + inner(v) for k, v in value.pairs.items()) + b"u"
        return code if value.state is None else code + inner(value.state) + b"b"
    if isinstance(value, dict):
        return (b"(d" if protocol == 0 else b"}") + b"".join(inner(k) + inner(v) + b"s" for k, v in value.items())
    if isinstance(value, list):
        return b"(" + b"".join(map(inner, value)) + b"l"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(inner, value)) + b"t"
    body = pickle.dumps(value, protocol)[2 if protocol >= 2 else 0 : -1]
    return body[9:] if body[:1] == b"\x95" else body  # a FRAME


def _call(value: Call, protocol: int) -> bytes:
    what, args = _code(value.made_by, protocol), _code(value.args, protocol)
    if value.by == "newobj":
        return what + args + b"\x81"
    if value.by == "newobj_ex":
        return what + args + b"}\x92"
    if value.by == "obj":
        return b"(" + what + b"".join(_code(a, protocol) for a in value.args) + b"o"
    if value.by == "inst":
        return b"(" + b"".join(_code(a, protocol) for a in value.args) + f"i{value.made_by.module}\n{value.made_by.name}\n".encode()
    return what + args + b"R"


class Storages:
    """The storages of one file, and tensors in them."""

    def __init__(self) -> None:
        self.data: dict[str, np.ndarray] = {}

    def add(self, flat: np.ndarray) -> Pid:
        """A storage with these numbers."""
        key = str(len(self.data))
        self.data[key] = flat
        return Pid(("storage", Global("torch", NAMES[flat.dtype.str]), key, "cpu", flat.size))

    def tensor(self, array: np.ndarray) -> Call:
        """A tensor with a storage of its own."""
        strides = tuple(s // array.itemsize for s in np.empty(array.shape, array.dtype).strides)
        return self.view(self.add(np.ascontiguousarray(array).reshape(-1)), 0, array.shape, strides)

    def view(self, storage: Any, offset: Any, shape: Any, strides: Any) -> Call:
        """A tensor in a given storage."""
        return Call(
            Global("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, strides, False, Call(Global("collections", "OrderedDict")))
        )

    def tree(self, value: Any) -> Any:
        """Arrays in nested dictionaries made tensors."""
        if isinstance(value, np.ndarray):
            return self.tensor(value)
        return {k: self.tree(v) for k, v in value.items()} if isinstance(value, dict) else value


def zip_file(root: Any, storages: Storages, protocol: int = 2, deflate: bool = False, folder: str = "archive/") -> bytes:
    """torch.save since version 1.6."""
    members = {"data.pkl": dumps(root, protocol), "byteorder": b"little", **{f"data/{k}": v.tobytes() for k, v in storages.data.items()}}
    return zipped({folder + k: v for k, v in {**members, "version": b"3\n"}.items()}, deflate)


def zipped(members: dict[str, bytes], deflate: bool = False) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        for name, data in members.items():
            z.writestr(name, data)
    return out.getvalue()


def legacy_file(root: Any, storages: Storages, protocol: int = 2) -> bytes:
    """torch.save before version 1.6."""
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = list(storages.data)
    out = b"".join(pickle.dumps(v, protocol) for v in (MAGIC, 1001, info)) + dumps(_legacy(root), protocol) + pickle.dumps(keys, protocol)
    return out + b"".join(struct.pack("<q", storages.data[k].size) + storages.data[k].tobytes() for k in keys)


def _legacy(value: Any) -> Any:
    """Persistent ids with their sixth entry."""
    if isinstance(value, Pid):
        return Pid((*value.key, None)) if len(value.key) == 5 else value
    if isinstance(value, Call):
        return Call(value.made_by, tuple(map(_legacy, value.args)), _legacy(value.state), _legacy(value.pairs), value.by)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_legacy, value))
    return {k: _legacy(v) for k, v in value.items()} if isinstance(value, dict) else value


def safetensors_file(tensors: dict[str, np.ndarray], codes: Sequence[str] = (), metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file; `codes`: types instead of those of the arrays."""
    import json

    names = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "|u1": "U8", "|b1": "BOOL", "<u2": "U16"}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for k, (name, array) in enumerate(tensors.items()):
        code = codes[k] if codes else names[array.dtype.str]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in tensors.values())
