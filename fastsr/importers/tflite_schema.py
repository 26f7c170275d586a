"""What is read of a TensorFlow Lite file: the numbers of fields, operators and types, as in tensorflow/lite/schema/schema.fbs, version 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ModelError
from .flatbuffers import Table, root

MAGIC = b"TFL3"
VERSION = 3
MAX_RANK = 8

TYPES: dict[int, tuple[str, Any]] = {
    0: ("float32", np.float32), 1: ("float16", np.float16), 2: ("int32", np.int32), 3: ("uint8", np.uint8), 4: ("int64", np.int64),
    5: ("string", None), 6: ("bool", np.bool_), 7: ("int16", np.int16), 8: ("complex64", None), 9: ("int8", np.int8), 10: ("float64", np.float64),
    11: ("complex128", None), 12: ("uint64", np.uint64), 13: ("resource", None), 14: ("variant", None), 15: ("uint32", np.uint32),
    16: ("uint16", np.uint16), 17: ("int4", None), 18: ("bfloat16", None), 19: ("int2", None), 20: ("uint4", None),
}  # fmt: skip
"""TensorType -> (name, NumPy's type; None for those that NumPy lacks)."""
INT4 = "int4"

OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE", 6: "DEQUANTIZE", 8: "FLOOR",
    9: "FULLY_CONNECTED", 11: "L2_NORMALIZATION", 14: "LOGISTIC", 16: "LSTM", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1",
    21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 25: "SOFTMAX", 26: "SPACE_TO_DEPTH", 28: "TANH", 32: "CUSTOM", 34: "PAD", 36: "GATHER",
    37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 45: "STRIDED_SLICE",
    47: "EXP", 49: "SPLIT", 53: "CAST", 54: "PRELU", 55: "MAXIMUM", 57: "MINIMUM", 59: "NEG", 60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV",
    69: "TILE", 70: "EXPAND_DIMS", 74: "SUM", 75: "SQRT", 76: "RSQRT", 77: "SHAPE", 78: "POW", 80: "FAKE_QUANT", 81: "REDUCE_PROD",
    82: "REDUCE_MAX", 83: "PACK", 88: "UNPACK", 89: "REDUCE_MIN", 90: "FLOOR_DIV", 92: "SQUARE", 93: "ZEROS_LIKE", 94: "FILL", 95: "FLOOR_MOD",
    96: "RANGE", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 99: "SQUARED_DIFFERENCE", 100: "MIRROR_PAD", 101: "ABS", 102: "SPLIT_V",
    104: "CEIL", 106: "ADD_N", 110: "RANK", 111: "ELU", 114: "QUANTIZE", 116: "ROUND", 117: "HARD_SWISH", 118: "IF", 119: "WHILE",
    124: "DENSIFY", 126: "BATCH_MATMUL", 129: "CALL_ONCE", 130: "BROADCAST_TO", 142: "VAR_HANDLE", 150: "GELU", 152: "RELU_0_TO_1",
}  # fmt: skip
"""BuiltinOperator -> name, those that something is known or said about."""

POOL = {"padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"), "filter_w": (3, "i"), "filter_h": (4, "i"), "fused": (5, "b")}
FUSED_ONLY = {"fused": (0, "b")}
REDUCER = {"keep_dims": (0, "?", False)}
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "CONV_2D": {
        "padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"), "fused": (3, "b"), "dilation_w": (4, "i", 1), "dilation_h": (5, "i", 1),
    },
    "DEPTHWISE_CONV_2D": {
        "padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"), "fused": (4, "b"), "dilation_w": (5, "i", 1), "dilation_h": (6, "i", 1),
    },
    "TRANSPOSE_CONV": {"padding": (0, "b"), "stride_w": (1, "i"), "stride_h": (2, "i"), "fused": (3, "b")},
    "AVERAGE_POOL_2D": POOL,
    "MAX_POOL_2D": POOL,
    "ADD": FUSED_ONLY,
    "SUB": FUSED_ONLY,
    "MUL": FUSED_ONLY,
    "DIV": FUSED_ONLY,
    "CONCATENATION": {"axis": (0, "i"), "fused": (1, "b")},
    "STRIDED_SLICE": {
        "begin_mask": (0, "i"), "end_mask": (1, "i"), "ellipsis_mask": (2, "i"), "new_axis_mask": (3, "i"), "shrink_axis_mask": (4, "i"),
        "offset": (5, "?", False),
    },
    "DEPTH_TO_SPACE": {"block_size": (0, "i")},
    "SPACE_TO_DEPTH": {"block_size": (0, "i")},
    "RESIZE_BILINEAR": {"align_corners": (2, "?", False), "half_pixel_centers": (3, "?", False)},
    "RESIZE_NEAREST_NEIGHBOR": {"align_corners": (0, "?", False), "half_pixel_centers": (1, "?", False)},
    "MIRROR_PAD": {"mode": (0, "b")},
    "FULLY_CONNECTED": {"fused": (0, "b"), "weights_format": (1, "b"), "keep_num_dims": (2, "?", False)},
    "LEAKY_RELU": {"alpha": (0, "f", 0.0)},
    "GELU": {"approximate": (0, "?", False)},
    "PACK": {"axis": (1, "i")},
    "UNPACK": {"axis": (1, "i")},
    "GATHER": {"axis": (0, "i"), "batch_dims": (1, "i")},
    "MEAN": REDUCER,
    "SUM": REDUCER,
    "REDUCE_MAX": REDUCER,
    "REDUCE_MIN": REDUCER,
    "REDUCE_PROD": REDUCER,
}  # fmt: skip
"""Operator -> option -> (number of its field, struct format, default if not 0)."""


@dataclass
class Tensor:
    """One tensor. signature: sizes that are free are -1. scale, zero: empty when the tensor is not quantised; axis: what several scales belong to."""

    name: str
    shape: list[int]
    signature: list[int]
    type: str
    dtype: Any
    buffer: int
    scale: np.ndarray
    zero: np.ndarray
    axis: int
    sparse: bool = False
    variable: bool = False

    @property
    def quantised(self) -> bool:
        return self.scale.size > 0


@dataclass
class Operator:
    """One operator; -1 among `inputs` stands for one that is left out."""

    op: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None
    number: int = 0


@dataclass
class Model:
    """The first graph of a file, and all buffers."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]
    buffers: list[np.ndarray]
    metadata: dict[str, bytes] = field(default_factory=dict)


def parse_model(data: bytes) -> Model:
    """The tables of a file. Raises ModelError for a file that is damaged, of another version, or with numbers that point nowhere."""
    if len(data) < 8 or data[4:8] != MAGIC:
        raise ModelError("does not begin like a TensorFlow Lite file: damaged, or another format")
    top = root(data)
    version = top.number(0, "I")
    if version != VERSION:
        raise ModelError(f"is of version {version} of the format, fastsr reads version {VERSION}: convert the model again")
    graphs = top.tables(2)
    if not graphs:
        raise ModelError("has no graph: damaged file")
    buffers = [_buffer(data, b) for b in top.tables(4)]
    codes = [_operator_name(code) for code in top.tables(1)]
    graph = graphs[0]
    tensors = [_tensor(t, k, len(buffers)) for k, t in enumerate(graph.tables(0))]
    operators = [_operator(o, k, codes, len(tensors)) for k, o in enumerate(graph.tables(3))]
    inputs, outputs = (_indices(graph, f, len(tensors), 0) for f in (1, 2))
    metadata = {m.text(0): buffers[k].tobytes() for m in top.tables(6)[:64] if (k := m.number(1, "I")) < len(buffers)}
    return Model(tensors, operators, inputs, outputs, buffers, metadata)


def _buffer(data: bytes, table: Table) -> np.ndarray:
    offset, size = table.number(1, "Q"), table.number(2, "Q")
    if offset > 1:
        if offset + size > len(data):
            raise ModelError("a constant lies outside the file: damaged or cut short")
        return np.frombuffer(data, np.uint8, size, offset)
    return table.numbers(0, np.uint8)


def _operator_name(table: Table) -> str:
    number = max(table.number(0, "b"), table.number(3, "i"))
    name = OPERATORS.get(number, f"number {number}")
    return f"CUSTOM {table.text(1)[:64]}" if name == "CUSTOM" else name


def _indices(table: Table, number: int, count: int, least: int) -> list[int]:
    found = table.ints(number)
    if not all(least <= i < count for i in found):
        raise ModelError(f"names tensors {found[:8]} of {count}: damaged file")
    return found


def _operator(table: Table, number: int, codes: list[str], tensors: int) -> Operator:
    code = table.number(0, "I")
    if code >= len(codes):
        raise ModelError(f"operator {number} has the code {code} of {len(codes)}: damaged file")
    outputs = _indices(table, 2, tensors, 0)
    if not outputs:
        raise ModelError(f"operator {number} ({codes[code]}) has no output: damaged file")
    return Operator(codes[code], _indices(table, 1, tensors, -1), outputs, table.table(4), number)


def _tensor(table: Table, number: int, buffers: int) -> Tensor:
    name = table.text(3) or f"tensor {number}"
    shape = table.ints(0)
    signature = table.ints(7) or shape
    code, buffer = table.number(1, "b"), table.number(2, "I")
    kind, dtype = TYPES.get(code, (f"type {code}", None))
    if len(shape) > MAX_RANK or len(signature) != len(shape) or min(shape, default=0) < 0 or buffer >= max(buffers, 1):
        raise ModelError(f"tensor '{name}' has the shape {shape[:16]} and lies in buffer {buffer} of {buffers}: damaged file")
    scale, zero, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    quantisation = table.table(4)
    if quantisation is not None:
        scale, zero = quantisation.numbers(2, np.float32), quantisation.numbers(3, np.int64)
        axis = quantisation.number(6, "i")
        if quantisation.number(4, "B") and not scale.size:
            raise ModelError(f"tensor '{name}' is quantised in a way of its own (blocks, or custom): not supported")
    if scale.size:
        zero = _zeros(name, scale, zero)
        if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
            raise ModelError(f"tensor '{name}' has {scale.size} scales along axis {axis} of {shape}: damaged file")
    return Tensor(name, shape, signature, kind, dtype, buffer, scale, zero, axis, table.has(6), bool(table.number(5, "?", False)))


def _zeros(name: str, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """One zero point for each scale."""
    if not (np.isfinite(scale).all() and (scale >= np.finfo(np.float32).tiny).all()):
        raise ModelError(f"tensor '{name}' has scales that are not positive numbers: damaged file")
    if zero.size not in (0, 1, scale.size):
        raise ModelError(f"tensor '{name}' has {zero.size} zero points for {scale.size} scales: damaged file")
    return np.broadcast_to(zero if zero.size else np.zeros(1, np.int64), scale.shape)


def tensor_array(model: Model, tensor: Tensor) -> np.ndarray | None:
    """The numbers of a constant as they lie in the file, None for a tensor that is computed. Raises ModelError where shape and bytes differ."""
    data = model.buffers[tensor.buffer] if tensor.buffer < len(model.buffers) else np.zeros(0, np.uint8)
    count = 1
    for n in tensor.shape:
        count *= n
    if not data.size and count:
        return None
    if tensor.sparse:
        raise ModelError(f"constant '{tensor.name}' is sparse, which is not supported: convert the model without sparsity")
    if tensor.type == INT4:
        if data.size != (count + 1) // 2:
            raise ModelError(f"constant '{tensor.name}' has {data.size} bytes for the shape {tensor.shape} of int4: damaged file")
        pairs = np.stack([data << 4, data & 0xF0], axis=1).reshape(-1)[:count]
        return (pairs.view(np.int8) >> 4).reshape(tensor.shape)
    if tensor.dtype is None:
        raise ModelError(f"constant '{tensor.name}' is of type {tensor.type}: not supported")
    if data.size != count * np.dtype(tensor.dtype).itemsize:
        raise ModelError(f"constant '{tensor.name}' has {data.size} bytes for the shape {tensor.shape} of {tensor.type}: damaged file")
    return np.frombuffer(data.tobytes(), np.dtype(tensor.dtype).newbyteorder("<")).astype(tensor.dtype, copy=False).reshape(tensor.shape)
