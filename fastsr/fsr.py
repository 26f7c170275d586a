"""Reads and writes .fsr, the portable file of a lowered network. The layout is docs/fsr.md; the C++ core has its own reader of the same."""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from typing import Any

import numpy as np

from .atomic import write_atomically
from .errors import ModelError
from .graph import Feed
from .program import (
    CODES,
    COLOURS,
    FLOAT_PARAMS,
    KINDS,
    MAX_CHANNELS,
    MAX_EPILOGUE,
    MAX_INPUTS,
    MAX_OUTPUTS,
    MAX_PRE_SCALE,
    MAX_STEP_INPUTS,
    MAX_STEPS,
    MAX_TENSORS,
    MAX_VALUES,
    PARAMS,
    Epilogue,
    Program,
    Step,
    Value,
)

MAGIC = b"\x89FSR\r\n\x1a\n"
VERSIONS = (1, 2, 3, 4)
"""Those that are read. Written is the lowest that has what the program needs: 2 for Quantize, 3 for steps that look at whole pictures, 4 for
`Feed.fine`."""

NONE = 0xFFFFFFFF
LARGEST_HALF = 65504.0
_HEADER = struct.Struct("<8sIIQIIQQQQ")
_CRC_AT = 24
MAX_TEXT = 65535
_COLOURS = tuple(COLOURS)
_FINE = 4
"""Code of colour "y" with Feed.fine."""
_DTYPES = (np.dtype("<f4"), np.dtype("<f2"), np.dtype("i1"), np.dtype("u1"), np.dtype("<i4"))
_KIND_NAMES = {v: k for k, v in KINDS.items()}
_CODE_NAMES = {v: k for k, v in CODES.items()}
_LAST_KIND = {1: KINDS["SpaceToDepth"], 2: KINDS["SpaceToDepth"], 3: max(KINDS.values()), 4: max(KINDS.values())}
_LAST_CODE = {1: CODES["DepthToSpace"], 2: CODES["Quantize"], 3: max(CODES.values()), 4: max(CODES.values())}
"""Version -> the last kind and code that it has."""


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self.tensors: list[np.ndarray] = []

    def u32(self, *numbers: int) -> None:
        self.out += struct.pack(f"<{len(numbers)}I", *numbers)

    def f64(self, *numbers: float) -> None:
        self.out += struct.pack(f"<{len(numbers)}d", *numbers)

    def text(self, s: str) -> None:
        b = s.encode("utf-8", "replace").replace(b"\0", b"")[:MAX_TEXT].decode("utf-8", "ignore").encode()
        self.u32(len(b))
        self.out += b

    def tensor(self, array: np.ndarray | None, small: bool = False, half: bool = False) -> int:
        """small: as int8, if that holds all of it. half: otherwise rounded to float16, see `dumps`."""
        if array is None:
            return NONE
        array = np.asarray(array, "<f4", order="C")
        whole = _as_bytes(array) if small else array
        self.tensors.append(_as_halves(array) if half and whole is array else whole)
        return len(self.tensors) - 1


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """As int8, if that holds all of it."""
    with np.errstate(invalid="ignore"):
        small = array.astype(np.int8)
    return array if not np.array_equal(small, array) or np.any(np.signbit(array) & (array == 0)) else small


def _as_halves(array: np.ndarray) -> np.ndarray:
    """As float16 where that is smaller in the file, whose tensors take multiples of 64 bytes, and where no number is too large for it."""
    if array.nbytes <= 64 or not np.all(np.abs(array) <= LARGEST_HALF):
        return array
    return array.astype("<f2")


def dumps(program: Program, *, half: bool = False) -> bytes:
    """The bytes of an .fsr file. Names longer than 65535 bytes are cut. Raises ModelError for an invalid program.

    half: weights of convolutions are rounded to float16 where no number is too large for that; biases and slopes, which take little room, are not.
    """
    head, tensors = _laid_out(program, small=True, half=half)
    body: list[bytes | memoryview] = [memoryview(head)[_HEADER.size :]]
    for t in tensors:
        body += t.data, bytes(-t.nbytes % 64)
    crc = 0
    for part in body:
        crc = zlib.crc32(part, crc)
    return b"".join((head[:_CRC_AT], struct.pack("<I", crc), head[_CRC_AT + 4 : _HEADER.size], *body))


def scattered(program: Program) -> tuple[bytes, list[np.ndarray]]:
    """The bytes of an .fsr file as far as its tensors, without a checksum, and these as float32: the program's own arrays where they are such arrays.

    Raises ModelError for an invalid program."""
    return _laid_out(program, small=False)


def _laid_out(program: Program, small: bool, half: bool = False) -> tuple[bytes, list[np.ndarray]]:
    program.validate()
    w = _Writer()
    kind = max((KINDS[s.kind] for s in program.steps), default=0)
    code = max((CODES[e.op] for s in program.steps for e in s.epilogue), default=0)
    least = 4 if program.feed.fine else 1
    version = next(v for v in VERSIONS if v >= least and kind <= _LAST_KIND[v] and code <= _LAST_CODE[v])
    w.u32(len(program.steps))
    for s in program.steps:
        w.u32(KINDS[s.kind])
        w.text(s.name)
        w.u32(len(s.inputs), *s.inputs, s.output)
        w.u32(len(s.params))
        w.f64(*(float(v) for v in s.params.values()))
        if s.kind == "Conv":
            w.u32(2, w.tensor(s.weight, small and version > 1, half), w.tensor(s.bias))
        else:
            w.u32(0)
        w.u32(len(s.epilogue))
        for e in s.epilogue:
            w.u32(CODES[e.op], NONE if e.value is None else e.value, w.tensor(e.tensor))
            w.f64(e.a, e.b)
    steps, w.out = w.out, bytearray()

    f = program.feed
    meta = json.dumps(program.meta, default=str, ensure_ascii=False)
    if len(meta.encode("utf-8", "replace")) > MAX_TEXT:
        raise ModelError(f"the model's metadata takes more than {MAX_TEXT} bytes: shorten Program.meta")
    w.text(meta)
    w.u32(_FINE if f.fine else _COLOURS.index(f.colour), f.pre_scale)
    w.f64(f.range, f.out_range)
    for mean in (f.mean, f.out_mean):
        w.u32(len(mean))
        w.f64(*mean)
    w.u32(len(w.tensors))
    offset = 0
    for t in w.tensors:
        w.u32(_DTYPES.index(t.dtype), t.ndim, *t.shape)
        w.out += struct.pack("<Q", offset)
        offset += -(-t.nbytes // 64) * 64
    w.u32(len(program.values))
    for v in program.values:
        w.text(v.name)
        w.u32(v.channels)
    w.u32(len(program.inputs), *program.inputs)
    w.u32(len(program.outputs))
    for name, index in program.outputs:
        w.u32(index)
        w.text(name)
    w.out += steps

    size = len(w.out)
    w.out += bytes(-size % 64)
    data_at = 64 + len(w.out)
    return _HEADER.pack(MAGIC, version, 64, data_at + offset, 0, 0, 64, size, data_at, offset) + w.out, w.tensors


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> memoryview:
        if n < 0 or n > len(self.data) - self.at:
            raise ModelError("the .fsr file is damaged: a record runs past its section")
        self.at += n
        return self.data[self.at - n : self.at]

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u32s(self, n: int) -> tuple[int, ...]:
        return struct.unpack(f"<{n}I", self.take(4 * n))

    def f64s(self, n: int) -> tuple[float, ...]:
        return struct.unpack(f"<{n}d", self.take(8 * n))

    def count(self, what: str, least: int, most: int) -> int:
        n = self.u32()
        if not least <= n <= most:
            raise ModelError(f"the .fsr file is damaged: {n} {what}, expected {least} to {most}")
        return n

    def text(self) -> str:
        try:
            s = bytes(self.take(self.count("bytes of text", 0, MAX_TEXT))).decode()
        except UnicodeDecodeError:
            raise ModelError("the .fsr file is damaged: a name is not UTF-8") from None
        if "\0" in s:
            raise ModelError("the .fsr file is damaged: a name contains NUL")
        return s

    def name_of(self, table: dict[int, str], last: int, what: str) -> str:
        n = self.u32()
        if n not in table or n > last:
            raise ModelError(f"the .fsr file has an unknown {what} {n}: it was written by a newer fastsr; upgrade fastsr")
        return table[n]


def loads(data: bytes | memoryview) -> Program:
    """The program in the bytes of an .fsr file. Raises ModelError when they are damaged, truncated or of an unknown version."""
    data = memoryview(data)
    if bytes(data[:8]) != MAGIC:
        raise ModelError("not an .fsr file: its first bytes are not the .fsr signature")
    if len(data) < 64:
        raise ModelError("the .fsr file is truncated: it ends inside its header")
    _, version, header, total, crc, reserved, at, size, data_at, data_size = _HEADER.unpack(data[:64])
    if version not in VERSIONS:
        known = " to ".join(map(str, (VERSIONS[0], VERSIONS[-1])))
        raise ModelError(f"the .fsr file has version {version}, this fastsr reads versions {known}: upgrade fastsr or convert the model again")
    if total != len(data):
        raise ModelError(f"the .fsr file is truncated or has grown: {len(data)} bytes, its header says {total}")
    if header != 64 or reserved or at != 64 or size > data_at - 64 or data_at % 64 or data_at + data_size != total:
        raise ModelError("the .fsr file is damaged: its header contradicts itself")
    if zlib.crc32(data[64:]) != crc:
        raise ModelError("the .fsr file is damaged: its checksum does not fit")
    r = _Reader(data[64 : 64 + size])
    try:
        meta = json.loads(r.text() or "{}")
    except (ValueError, RecursionError):
        raise ModelError("the .fsr file is damaged: its metadata is not JSON") from None
    if not isinstance(meta, dict):
        raise ModelError("the .fsr file is damaged: its metadata is not a JSON object")
    program = _program(r, data[data_at:], meta, version)
    if r.at != size:
        raise ModelError("the .fsr file is damaged: bytes are left over after the last step")
    program.validate()
    return program


def _program(r: _Reader, data: memoryview, meta: dict[str, Any], version: int) -> Program:
    code = r.count("as colour", 0, _FINE if version > 3 else len(_COLOURS) - 1)
    colour, fine = ("y", True) if code == _FINE else (_COLOURS[code], False)
    pre_scale = r.count("as pre_scale", 1, MAX_PRE_SCALE)
    rng, out_range = r.f64s(2)
    mean, out_mean = (r.f64s(r.count("means", 0, MAX_CHANNELS)) for _ in range(2))
    tensors: list[np.ndarray] = []
    room = len(data)
    for _ in range(r.count("tensors", 0, MAX_TENSORS)):
        array, size = _tensor(r, data)
        room -= size
        if room < 0:
            raise ModelError("the .fsr file is damaged: tensors overlap")
        tensors.append(array)

    def tensor(i: int) -> np.ndarray | None:
        if i != NONE and i >= len(tensors):
            raise ModelError(f"the .fsr file is damaged: tensor {i} of {len(tensors)}")
        return None if i == NONE else tensors[i]

    values = [Value(r.text(), r.count("channels", 1, MAX_CHANNELS)) for _ in range(r.count("values", 1, MAX_VALUES))]
    inputs = list(r.u32s(r.count("inputs", 1, MAX_INPUTS)))
    outputs = []
    for _ in range(r.count("outputs", 1, MAX_OUTPUTS)):
        v = r.u32()
        outputs.append((r.text(), v))
    steps = []
    for _ in range(r.count("steps", 0, MAX_STEPS)):
        kind = r.name_of(_KIND_NAMES, _LAST_KIND[version], "step kind")
        name = r.text()
        ins = r.u32s(r.count("step inputs", 1, MAX_STEP_INPUTS))
        out = r.u32()
        numbers = r.f64s(r.count("parameters", len(PARAMS[kind]), len(PARAMS[kind])))
        params = {p: v if p in FLOAT_PARAMS else _whole(v, name) for p, v in zip(PARAMS[kind], numbers, strict=True)}
        n = 2 if kind == "Conv" else 0
        weights = [tensor(i) for i in r.u32s(r.count("step tensors", n, n))] or [None, None]
        epilogue = []
        for _ in range(r.count("epilogue entries", 0, MAX_EPILOGUE)):
            op = r.name_of(_CODE_NAMES, _LAST_CODE[version], "epilogue code")
            value, t = r.u32s(2)
            a, b = r.f64s(2)
            epilogue.append(Epilogue(op, None if value == NONE else value, tensor(t), a, b))
        steps.append(Step(kind, ins, out, params, weights[0], weights[1], tuple(epilogue), name))
    return Program(values, inputs, outputs, steps, Feed(colour, rng, mean, out_range, out_mean, pre_scale, fine), meta)


def _whole(v: float, name: str) -> int:
    if not (math.isfinite(v) and v == int(v) and abs(v) < 2**31):
        raise ModelError(f"the .fsr file is damaged: step '{name}' has the parameter {v}, a whole number is needed")
    return int(v)


def _tensor(r: _Reader, data: memoryview) -> tuple[np.ndarray, int]:
    """A tensor as float32, where it lies if it is that, and the bytes it takes in the file."""
    dtype = _DTYPES[r.count("as tensor type", 0, len(_DTYPES) - 1)]
    shape = tuple(r.count("as tensor size", 1, 2**31 - 1) for _ in range(r.count("dimensions", 0, 4)))
    offset = int(struct.unpack("<Q", r.take(8))[0])
    n = math.prod(shape)
    if offset % 64 or offset > len(data) or n * dtype.itemsize > len(data) - offset:
        raise ModelError("the .fsr file is damaged: a tensor lies outside the data")
    return np.frombuffer(data, dtype, n, offset).reshape(shape).astype(np.float32, copy=False), n * dtype.itemsize


def save(program: Program, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write the program to `path`, atomically: the file appears whole or not at all; `half` as in `dumps`. Raises ModelError, OSError."""
    write_atomically(path, dumps(program, half=half))


def load(path: str | os.PathLike[str]) -> Program:
    """Read the program in the .fsr file at `path`. Raises FileNotFoundError, OSError, ModelError."""
    with open(path, "rb") as f:
        data = f.read()
    try:
        return loads(data)
    except ModelError as e:
        raise ModelError(f"'{os.fspath(path)}': {e}") from None
