"""Small TensorFlow Lite files for tests: a writer of FlatBuffers, a network built operator by operator, and what LiteRT makes of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastsr.importers.tflite_schema import OPERATORS, OPTIONS, TYPES

NUMBERS = {name: number for number, name in OPERATORS.items()}
TYPE_NUMBERS = {name: number for number, (name, _) in TYPES.items()}
UNIONS = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "FULLY_CONNECTED": 8, "CONCATENATION": 10, "ADD": 11,
    "RESIZE_BILINEAR": 15, "SPACE_TO_DEPTH": 19, "MUL": 21, "GATHER": 23, "MEAN": 27, "SUM": 27, "REDUCE_PROD": 27, "SUB": 28, "DIV": 29,
    "SQUEEZE": 30, "STRIDED_SLICE": 32, "SPLIT": 35, "CAST": 37, "TRANSPOSE_CONV": 49, "PACK": 59, "UNPACK": 64, "RESIZE_NEAREST_NEIGHBOR": 74,
    "LEAKY_RELU": 75, "MIRROR_PAD": 77, "SPLIT_V": 79, "DEPTH_TO_SPACE": 94, "GELU": 116, "RESHAPE": 17, "SHAPE": 55, "REDUCE_MAX": 27,
}  # fmt: skip
"""Operator -> BuiltinOptions, for those whose options matter here."""
EXTRA = {
    "PACK": {"values": (0, "i")}, "UNPACK": {"num": (0, "i")}, "SPLIT": {"num": (0, "i")}, "SPLIT_V": {"num": (0, "i")},
    "SHAPE": {"out": (0, "b")}, "CAST": {"source": (0, "b"), "target": (1, "b")},
}  # fmt: skip
"""Options that the runtime needs and the importer does not read."""

# ---- FlatBuffers -------------------------------------------------------------------------------------------------------------------------------


class Table(dict[int, Any]):
    """Fields by number: (struct format, number), a text, an array, a list of tables, or a table."""


def _align(out: bytearray, to: int, before: int = 0) -> None:
    while (len(out) + before) % to:
        out.append(0)


def _put(out: bytearray, value: Any) -> int:
    """Append a value and all that it refers to; returns where it lies."""
    if isinstance(value, Table):
        return _put_table(out, value)
    if isinstance(value, str):
        data = value.encode()
        _align(out, 4)
        at = len(out)
        out += struct.pack("<I", len(data)) + data + b"\0"
        return at
    if isinstance(value, np.ndarray):
        _align(out, 16, 4)
        at = len(out)
        out += struct.pack("<I", value.size) + value.tobytes()
        return at
    _align(out, 4)
    at = len(out)
    out += struct.pack("<I", len(value)) + bytes(4 * len(value))
    for k, item in enumerate(value):
        place = at + 4 + 4 * k
        struct.pack_into("<I", out, place, _put(out, item) - place)
    return at


def _put_table(out: bytearray, table: Table) -> int:
    count = max(table, default=-1) + 1
    offsets = {number: 8 + 8 * k for k, number in enumerate(table)}
    _align(out, 8)
    vtable = len(out)
    out += struct.pack(f"<HH{count}H", 4 + 2 * count, 8 + 8 * len(table), *(offsets.get(k, 0) for k in range(count)))
    _align(out, 8)
    at = len(out)
    out += struct.pack("<i", at - vtable) + bytes(4 + 8 * len(table))
    for number, value in table.items():
        place = at + offsets[number]
        if isinstance(value, tuple):
            struct.pack_into("<" + value[0], out, place, value[1])
        else:
            struct.pack_into("<I", out, place, _put(out, value) - place)
    return at


def flatbuffer(top: Table, mark: bytes) -> bytes:
    """A whole file."""
    out = bytearray(4) + mark
    struct.pack_into("<I", out, 0, _put(out, top))
    return bytes(out)


# ---- networks ----------------------------------------------------------------------------------------------------------------------------------

Q = tuple[str, float, int]
"""Type, scale and zero point."""


@dataclass
class Net:
    """A graph under construction; values are numbers of tensors. The last operator's results are its outputs, unless `outputs` says otherwise."""

    tensors: list[Table] = field(default_factory=list)
    buffers: list[Table] = field(default_factory=lambda: [Table()])
    operators: list[Table] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    rng: Any = field(default_factory=lambda: np.random.default_rng(0))
    version: int = 3

    def tensor(
        self, name: str, shape: Any, kind: str, scale: Any = None, zero: Any = 0, axis: int = 0, buffer: int = 0, signature: Any = None
    ) -> int:
        t = Table({0: np.array(shape, np.int32), 1: ("b", TYPE_NUMBERS[kind]), 2: ("I", buffer), 3: name})
        if signature is not None:
            t[7] = np.array(signature, np.int32)
        if scale is not None:
            scale = np.asarray(scale, np.float32).reshape(-1)
            zeros = np.broadcast_to(np.asarray(zero, np.int64).reshape(-1), scale.shape).copy()
            t[4] = Table({2: scale, 3: zeros, 6: ("i", axis)})
        self.tensors.append(t)
        return len(self.tensors) - 1

    def input(self, shape: Any = (1, 12, 16, 3), kind: str = "float32", scale: Any = None, zero: int = 0, signature: Any = None) -> int:
        self.inputs.append(self.tensor(f"x{len(self.inputs) or ''}", shape, kind, scale, zero, signature=signature))
        return self.inputs[-1]

    def const(self, data: Any, kind: str = "float32", scale: Any = None, zero: Any = 0, axis: int = 0) -> int:
        array = np.asarray(data, TYPES[TYPE_NUMBERS[kind]][1] or np.uint8)
        self.buffers.append(Table({0: np.frombuffer(array.tobytes(), np.uint8)}))
        return self.tensor(f"c{len(self.tensors)}", array.shape, kind, scale, zero, axis, len(self.buffers) - 1)

    def ints(self, *values: int) -> int:
        return self.const(values, "int32")

    def random(self, *shape: int, kind: str = "float32") -> int:
        return self.const(self.rng.standard_normal(shape), kind)

    def op(self, op: str, *inputs: int, q: Q | None = None, kind: str = "float32", count: int = 1, shape: Any = (), **options: Any) -> Any:
        """An operator. q: what its results are quantised to; kind: else their type; count: how many."""
        if op not in self.codes:
            self.codes.append(op)
        made = [self.tensor(f"v{len(self.operators)}_{k}", shape, q[0] if q else kind, *(q[1:] if q else ())) for k in range(count)]
        t = Table({0: ("I", self.codes.index(op)), 1: np.array(inputs, np.int32), 2: np.array(made, np.int32)})
        known = {**OPTIONS.get(op, {}), **EXTRA.get(op, {})}
        if op in UNIONS and (known or op == "SQUEEZE"):
            given = {known[name][0]: (known[name][1], value) for name, value in options.items() if name in known}
            if op == "SQUEEZE":
                given = {0: np.array(options["axes"], np.int32)}
            t[3], t[4] = ("B", UNIONS[op]), Table(given)
        self.operators.append(t)
        self.outputs = made
        return made[0] if count == 1 else made

    def conv(self, x: int, cin: int, cout: int, k: int = 3, bias: bool = True, q: Q | None = None, **options: Any) -> int:
        """A convolution of floats."""
        w = self.const(self.rng.standard_normal((cout, k, k, cin)) / (k * np.sqrt(cin)))
        b = [self.random(cout)] if bias else []
        return self.op("CONV_2D", x, w, *b, q=q, **{"stride_w": 1, "stride_h": 1, "dilation_w": 1, "dilation_h": 1, **options})

    def conv_q(self, x: int, of: Q, cin: int, cout: int, q: Q, k: int = 3, per_channel: bool = True, depthwise: bool = False, **options: Any) -> int:
        """A convolution of integers; of: what x is quantised to."""
        shape, axis = ((1, k, k, cout), 3) if depthwise else ((cout, k, k, cin), 0)
        kind = "int8" if of[0] != "uint8" else "uint8"
        w = np.clip(np.rint(self.rng.standard_normal(shape) * 40), -127, 127) + (128 if kind == "uint8" else 0)
        fan = k * (1 if depthwise else np.sqrt(cin))
        scale = self.rng.uniform(0.5, 1.5, cout if per_channel else 1).astype(np.float32) / np.float32(40 * fan)
        filters = self.const(w, kind, scale, 128 if kind == "uint8" else 0, axis)
        bias = self.const(self.rng.integers(-500, 500, cout), "int64" if of[0] == "int16" else "int32", np.float32(of[1]) * scale)
        usual = {"stride_w": 1, "stride_h": 1, "dilation_w": 1, "dilation_h": 1}
        return self.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", x, filters, bias, q=q, **{**usual, **options})

    def model(self) -> Table:
        """The tables of the file."""
        codes = []
        for name in self.codes:
            number = NUMBERS["CUSTOM" if name.startswith("Custom") else name] if not name.isdigit() else int(name)
            code = Table({0: ("b", min(number, 127)), 2: ("i", 1), 3: ("i", number)})
            if name.startswith("Custom"):
                code[1] = name[6:]
            codes.append(code)
        graph = Table({0: self.tensors, 1: np.array(self.inputs, np.int32), 2: np.array(self.outputs, np.int32), 3: self.operators, 4: "main"})
        buffers, entries = list(self.buffers), []
        for name, data in self.metadata.items():
            entries.append(Table({0: name, 1: ("I", len(buffers))}))
            buffers.append(Table({0: np.frombuffer(data, np.uint8)}))
        return Table({0: ("I", self.version), 1: codes, 2: [graph], 3: "made for a test", 4: buffers, 6: entries})

    def data(self) -> bytes:
        """The file."""
        return flatbuffer(self.model(), b"TFL3")

    def shaped(self, shape: Any) -> bytes:
        """The file with the shapes of all tensors for an input of this shape, as LiteRT finds them: XNNPACK takes no operators without."""
        interpreter = _interpreter(self.data(), shape, True)
        for detail in interpreter.get_tensor_details():
            if detail["index"] < len(self.tensors):
                self.tensors[detail["index"]][0] = np.array(detail["shape"], np.int32)
        return self.data()


def run_litert(data: bytes, x: np.ndarray, plain: bool = False) -> np.ndarray:
    """The first output that LiteRT computes. plain: without XNNPACK, which rounds quantised numbers by another rule."""
    interpreter = _interpreter(data, x.shape, plain)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _interpreter(data: bytes, shape: Any, plain: bool) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=kind)
    number = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(number, shape)
    interpreter.allocate_tensors()
    return interpreter
