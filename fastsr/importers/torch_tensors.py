"""Records of a PyTorch pickle as tensors and dictionaries: storages, tensors, NumPy arrays, whole modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ModelError
from .pickles import Name, Record
from .state_dict import MAX_NAME, MAX_TENSORS, Lazy
from .tensor_types import MAX_AXES, SIZES, count, finished, numpy_kind, raw_type

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}
"""torch's classes of storages, of any device, and their types of numbers."""
OTHER_SIZES = {"complex64": 8, "complex128": 16, "qint8": 1, "quint8": 1, "qint32": 4}
DTYPES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16"}
MAX_VISITED = 1 << 19
MAX_NESTED = 64
BUDGET = 64 << 20


@dataclass
class Storage:
    """A flat run of numbers of type `kind` that lies elsewhere in the file. `offset`: where a view of it begins, in numbers.

    fetch: gives the bytes of the whole storage.
    """

    kind: str
    numel: int
    fetch: Callable[[], Any]
    offset: int = 0
    big_endian: bool = False


def storage_id(pid: Any) -> tuple[str, str, int, int]:
    """A persistent id's key, type of numbers, count of numbers and offset. Raises ModelError when it is none of a storage."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or not isinstance(pid[1], Name):
        raise ModelError("refers to something unknown outside of its pickle: damaged, or not written by torch.save")
    kind = STORAGES.get(pid[1].name)
    if kind is None:
        raise ModelError(f"has a storage of type {pid[1].whole}, which is not supported: save the weights as float32")
    key = str(pid[2]) if isinstance(pid[2], int) and abs(pid[2]) < 1 << 80 else pid[2]
    offset = 0
    if len(pid) == 6 and pid[5] is not None:
        view = pid[5]
        if not isinstance(view, tuple) or len(view) != 3 or not is_count(view[1]):
            raise ModelError("has a damaged storage: download the file again")
        offset = view[1]
    if not isinstance(key, str) or not is_count(pid[4]):
        raise ModelError("has a damaged storage: download the file again")
    return key, kind, pid[4], offset


def is_count(n: Any) -> bool:
    """True for integers that can be a size or an offset."""
    return type(n) is int and 0 <= n < 1 << 48


def size_of(kind: str) -> int:
    """Bytes of one number of a storage."""
    return SIZES.get(kind) or OTHER_SIZES[kind]


class Reading:
    """One file's records seen as tensors and dictionaries (`view`). nbytes: the file's size, on which depends what its tensors may take.

    nested: reads the bytes that torch.storage._load_from_bytes would be called with.
    """

    def __init__(self, nbytes: int, nested: Callable[[bytes], Any]) -> None:
        self.budget = BUDGET + 8 * nbytes
        self.nested = nested
        self.modules: dict[int, tuple[Record, dict[str, Any]]] = {}
        self.storages: dict[int, tuple[bytes, Any]] = {}
        self.visited = 0

    def spend(self, nbytes: int) -> None:
        """Account for memory about to be used."""
        self.budget -= nbytes
        if self.budget < 0:
            raise ModelError("asks for far more memory than its file suggests: damaged file")

    def view(self, value: Any) -> Lazy | Mapping[Any, Any] | None:
        """A tensor, a dictionary, or None for anything else."""
        if isinstance(value, dict):
            return value
        if isinstance(value, (list, tuple)):
            return {str(k): v for k, v in enumerate(value)} if 0 < len(value) <= 64 else None
        if not isinstance(value, Record):
            return value if isinstance(value, Lazy) else None
        tensor = self.tensor(value)
        if tensor is not None:
            return tensor
        if is_module(value):
            return self.module(value)
        return value.pairs or (value.state if isinstance(value.state, dict) else None)

    def tensor(self, r: Record) -> Lazy | None:
        """The tensor of a record, None when it is something else."""
        for _ in range(8):
            inner = unwrapped(r)
            if inner is None:
                break
            r = inner
        made_by = r.made_by
        if made_by is None:
            return None
        module, name = made_by.module, made_by.name
        if module in ("torch._utils", "torch._tensor") and name.startswith("_rebuild"):
            if name not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
                return Lazy((), lambda: unsupported(name))
            if len(r.args) < 4 or not isinstance(r.args[2], (tuple, list)) or len(r.args[2]) > MAX_AXES:
                raise ModelError("has a damaged tensor: download the file again")
            shape = tuple(r.args[2])
            count(shape)
            return Lazy(shape, lambda: self.read(r, shape))
        if module.startswith("numpy") and name in ("_reconstruct", "_frombuffer", "scalar"):
            return numpy_array(r, self)
        return None

    def read(self, r: Record, shape: tuple[int, ...]) -> np.ndarray:
        """The numbers of a tensor of torch._utils._rebuild_tensor and its kin: (storage, offset, size, stride, ..., dtype)."""
        storage, offset, _, strides = r.args[:4]
        if isinstance(storage, Record) and storage.is_a("torch.storage._load_from_bytes"):
            storage = self.nested_storage(storage.args[0]) if storage.args and isinstance(storage.args[0], bytes) else None
        if not isinstance(storage, Storage) or not isinstance(strides, (tuple, list)) or len(strides) != len(shape) or not is_count(offset):
            raise ModelError("has a damaged tensor: download the file again")
        if not all(is_count(s) for s in strides):
            raise ModelError("has a damaged tensor: download the file again")
        kind = storage.kind
        if len(r.args) > 6 and isinstance(r.args[6], Name) and r.args[6].module == "torch":
            kind = DTYPES.get(r.args[6].name, r.args[6].name)
        dtype = raw_type(kind, storage.big_endian)
        total = count(shape)
        self.spend(total * max(dtype.itemsize, 4))
        data = storage.fetch()
        available = min(len(data), (storage.offset + storage.numel) * size_of(storage.kind)) // dtype.itemsize
        first = storage.offset * size_of(storage.kind) // dtype.itemsize + offset
        last = first + sum((n - 1) * s for n, s in zip(shape, strides))
        if total == 0:
            return finished(np.zeros(shape, dtype), kind)
        if last >= available:
            raise ModelError("has a tensor that reaches beyond its storage: damaged file")
        flat = np.frombuffer(data, dtype, last + 1 - first, first * dtype.itemsize)
        if flat.size == total and is_dense(shape, tuple(strides)):
            return finished(flat.reshape(shape), kind)
        steps = tuple(s * dtype.itemsize for s in strides)
        return finished(np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)).reshape(shape), kind)

    def nested_storage(self, data: bytes) -> Any:
        """The storage in a file inside of the file."""
        if id(data) not in self.storages:
            self.storages[id(data)] = data, self.nested(data)
        return self.storages[id(data)][1]

    def module(self, r: Record) -> dict[str, Any]:
        """A whole module's tensors by the names that its state dict has."""
        if id(r) in self.modules:
            return self.modules[id(r)][1]
        out: dict[str, Any] = {}
        stack: list[tuple[str, Record, int]] = [("", r, 0)]
        while stack:
            prefix, module, depth = stack.pop()
            own, inner = contents(module)
            self.visited += 1 + len(own) + len(inner)
            if self.visited > MAX_VISITED or len(out) > MAX_TENSORS or depth > MAX_NESTED:
                raise ModelError("holds absurdly many modules: damaged, or not a model")
            for name, value in own.items():
                tensor = self.tensor(value) if isinstance(value, Record) and isinstance(name, str) else None
                if tensor is not None and len(prefix) + len(name) <= MAX_NAME:
                    out[prefix + name] = tensor
            for name, value in reversed(list(inner.items())):
                if isinstance(value, Record) and isinstance(name, str) and len(prefix) + len(name) < MAX_NAME and is_module(value):
                    stack.append((f"{prefix}{name}.", value, depth + 1))
        self.modules[id(r)] = (r, out)
        return out


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """True when the numbers lie in C order without gaps."""
    step = 1
    for n, s in zip(reversed(shape), reversed(strides)):
        if n != 1 and s != step:
            return False
        step *= n
    return True


def unwrapped(r: Record) -> Record | None:
    """The tensor inside of a parameter or of a subclass of tensors; None when `r` is not such a wrapper."""
    if r.is_a("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch.nn.parameter.Parameter"):
        inner = r.args[0] if r.args else None
        if inner is None and isinstance(r.state, tuple) and r.state:
            inner = r.state[0]
        return inner if isinstance(inner, Record) else None
    if r.is_a("torch.autograd.variable.Variable") or (r.made_by is not None and r.made_by.name == "_rebuild_parameter"):
        return r.args[0] if r.args and isinstance(r.args[0], Record) else None
    if r.is_a("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type") and len(r.args) >= 3:
        args = r.args[2] if isinstance(r.args[0], Name) else None
        return Record(r.args[0], args) if isinstance(args, tuple) else None
    return None


def unsupported(name: str) -> np.ndarray:
    """Raises ModelError for tensors that are not plain arrays of numbers."""
    what = {"_rebuild_qtensor": "a quantised tensor", "_rebuild_sparse_tensor": "a sparse tensor", "_rebuild_nested_tensor": "a nested tensor"}
    raise ModelError(f"has {what.get(name, f'a tensor of a special kind ({name[:60]})')} among its weights: save the network in float32 instead")


def is_module(r: Record) -> bool:
    """True for pickled torch.nn.Modules and the modules of a TorchScript archive."""
    scripted = r.made_by is not None and r.made_by.module.startswith("__torch__")
    return isinstance(r.state, dict) and (scripted or isinstance(r.state.get("_modules"), dict))


def contents(r: Record) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """A module's own tensors, and its inner modules, among other things."""
    state = r.state
    if not isinstance(state.get("_modules"), dict):
        return state, state
    own: dict[Any, Any] = {}
    passing = state.get("_non_persistent_buffers_set")
    left_out = {n for n in passing if isinstance(n, str)} if isinstance(passing, (list, tuple)) else set()
    for part in ("_parameters", "_buffers"):
        held = state.get(part)
        if isinstance(held, dict):
            own.update((k, v) for k, v in held.items() if part == "_parameters" or k not in left_out)
    return own, state["_modules"]


# ---- NumPy arrays --------------------------------------------------------------------------------------------------------------------------------


def numpy_array(r: Record, reading: Reading) -> Lazy | None:
    """An array or number of a pickle that NumPy wrote, None when it holds no plain numbers."""
    assert r.made_by is not None
    fortran: Any = False
    if r.made_by.name == "_frombuffer" and len(r.args) == 4:
        data, dtype, shape, order = r.args
        fortran = order == "F"
    elif r.made_by.name == "scalar" and len(r.args) == 2:
        dtype, data = r.args
        shape = ()
    elif isinstance(r.state, tuple) and len(r.state) in (4, 5):
        shape, dtype, fortran, data = r.state[-4:]
    else:
        return None
    kind, big_endian = numpy_type(dtype)
    if not kind or not isinstance(shape, tuple) or not isinstance(data, (bytes, str)):
        return None
    total = count(shape)

    def read() -> np.ndarray:
        stored = raw_type(kind, big_endian)
        reading.spend(max(total, len(data)) * max(stored.itemsize, 4))
        raw = data.encode("utf-8") if isinstance(data, str) else data
        if len(raw) != total * stored.itemsize:
            raise ModelError("has a NumPy array whose shape does not fit its data: damaged file")
        flat = np.frombuffer(raw, stored)
        return finished(np.ascontiguousarray(flat.reshape(shape, order="F" if fortran else "C")).reshape(shape), kind)

    return Lazy(shape, read)


def numpy_type(r: Any) -> tuple[str, bool]:
    """A pickled numpy.dtype as one of tensor_types.SIZES and whether it is big-endian; "" for other types."""
    code = r.args[0] if isinstance(r, Record) and r.is_a("numpy.dtype") and r.args else None
    if not isinstance(code, str):
        return "", False
    order = r.state[1] if isinstance(r.state, tuple) and len(r.state) > 1 else "<"
    return numpy_kind(code)[0], order == ">"
