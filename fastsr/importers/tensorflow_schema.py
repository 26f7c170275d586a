"""TensorFlow's GraphDef, as far as a frozen graph needs it: the protobuf messages, and tensors to NumPy.

The messages are described here and built at run time in a descriptor pool of their own, so nothing is generated and a loaded TensorFlow does not
clash. Field numbers are those of tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto. Strings are declared as bytes,
enums as int32 (the same bytes on the wire), maps as repeated entries: damaged text or unknown enum values then never fail inside protobuf.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..errors import ModelError
from .protobuf import message_classes, parse

MESSAGES: dict[str, str] = {
    "GraphDef": "node:1:*NodeDef library:2:FunctionDefLibrary",
    "FunctionDefLibrary": "function:1:*bytes",
    "NodeDef": "name:1:bytes op:2:bytes input:3:*bytes device:4:bytes attr:5:*Attr",
    "Attr": "key:1:bytes value:2:AttrValue",
    "AttrValue": "list:1:ListValue s:2:bytes i:3:int64 f:4:float b:5:bool type:6:int32 shape:7:TensorShape tensor:8:Tensor",
    "ListValue": "s:2:*bytes i:3:*int64 f:4:*float b:5:*bool type:6:*int32",
    "TensorShape": "dim:2:*Dim unknown_rank:3:bool",
    "Dim": "size:1:int64",
    "Tensor": "dtype:1:int32 shape:2:TensorShape tensor_content:4:bytes float_val:5:*float double_val:6:*double int_val:7:*int32 string_val:8:*bytes "
    "int64_val:10:*int64 bool_val:11:*bool half_val:13:*int32 uint32_val:16:*uint32 uint64_val:17:*uint64",
}
"""Message -> fields as name:number:type, "*" for repeated."""

ONE_OF = ("AttrValue",)
"""Messages of which one field at a time is set."""


@functools.lru_cache(maxsize=1)
def messages() -> dict[str, Any]:
    """Message name -> class. The first call imports protobuf and builds the classes."""
    return message_classes("tensorflow", MESSAGES, ONE_OF)


def parse_graph(data: bytes) -> Any:
    """A GraphDef message. Raises ModelError when the bytes are not one."""
    return parse(messages()["GraphDef"], data, "TensorFlow graph")


# ---- tensors -----------------------------------------------------------------------------------------------------------------------------------

BFLOAT16, STRING = 14, 7
NUMPY_TYPES: dict[int, Any] = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8, 9: np.int64, 10: np.bool_, 11: np.int8, 12: np.uint8,
    13: np.int32, 15: np.int16, 16: np.uint16, 17: np.uint16, 19: np.float16, 22: np.uint32, 23: np.uint64,
}  # fmt: skip
"""DataType -> NumPy type; quantised types by their integers. DT_BFLOAT16 (14) is read apart."""
FLOAT_TYPES = (1, 2, 14, 19)
TYPE_NAMES = {
    0: "DT_INVALID", 1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8", 7: "DT_STRING", 8: "DT_COMPLEX64",
    9: "DT_INT64", 10: "DT_BOOL", 11: "DT_QINT8", 12: "DT_QUINT8", 13: "DT_QINT32", 14: "DT_BFLOAT16", 15: "DT_QINT16", 16: "DT_QUINT16",
    17: "DT_UINT16", 18: "DT_COMPLEX128", 19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT", 22: "DT_UINT32", 23: "DT_UINT64",
}  # fmt: skip
VALUE_FIELD = {1: "float_val", 2: "double_val", 9: "int64_val", 10: "bool_val", 14: "half_val", 19: "half_val", 22: "uint32_val", 23: "uint64_val"}
MAX_ELEMENTS = 1 << 28
MAX_REPEATED = 1 << 24


def type_name(dtype: int) -> str:
    """DT_FLOAT for 1, and so on."""
    return TYPE_NAMES.get(dtype, f"data type {dtype}")


def tensor_shape(shape: Any) -> tuple[int, ...] | None:
    """Sizes of a TensorShape message, -1 for unknown ones; None for an unknown rank."""
    return None if shape.unknown_rank else tuple(d.size for d in shape.dim)


def tensor_array(tensor: Any) -> np.ndarray:
    """The array of a Tensor message, bfloat16 as float32, quantised types as their integers. Raises ModelError when it is damaged.

    A short list of values is continued with its last one, as TensorFlow defines; no value at all means zeros.
    """
    dtype = int(tensor.dtype)
    numpy_type = np.uint16 if dtype == BFLOAT16 else NUMPY_TYPES.get(dtype)
    if numpy_type is None:
        raise ModelError(f"constants of type {type_name(dtype)} are not supported")
    shape = tensor_shape(tensor.shape)
    if shape is None or len(shape) > 8 or any(d < 0 for d in shape):
        raise ModelError(f"a constant of shape {shape}: damaged file")
    size = math.prod(shape)
    if size > MAX_ELEMENTS:
        raise ModelError(f"a constant of shape {shape} is too large: damaged file")
    content = tensor.tensor_content
    if content:
        little = np.dtype(numpy_type).newbyteorder("<")
        if len(content) != size * little.itemsize:
            raise ModelError(f"a constant of shape {shape} and {type_name(dtype)} has {len(content)} bytes of {size * little.itemsize}: damaged file")
        raw = content if numpy_type is not np.bool_ else bytes(min(b, 1) for b in content)
        array = np.frombuffer(raw, dtype=little).astype(numpy_type, copy=False).reshape(shape)
    else:
        array = _from_values(getattr(tensor, VALUE_FIELD.get(dtype, "int_val")), dtype, numpy_type, shape, size)
    if dtype == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _from_values(values: Any, dtype: int, numpy_type: Any, shape: tuple[int, ...], size: int) -> np.ndarray:
    if len(values) > size:
        raise ModelError(f"a constant of shape {shape} has {len(values)} values: damaged file")
    if len(values) < size and size > MAX_REPEATED:
        raise ModelError(f"a constant of shape {shape} has only {len(values)} values: damaged file")
    if dtype in (BFLOAT16, 19):
        given = (np.array(values, dtype=np.int64) & 0xFFFF).astype(np.uint16)
        given = given if dtype == BFLOAT16 else given.view(np.float16)
    else:
        wide = np.int64 if np.dtype(numpy_type).kind in "iu" and np.dtype(numpy_type).itemsize < 8 else numpy_type
        given = np.array(values, dtype=wide).astype(numpy_type)
    if len(given) == size:
        return given.reshape(shape)
    array = np.full(size, given[-1] if len(given) else 0, dtype=numpy_type)
    array[: len(given)] = given
    return array.reshape(shape)
