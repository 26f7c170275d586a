"""ONNX's ModelProto, as far as an inference graph needs it: the protobuf messages, and tensors to NumPy.

Field numbers are those of onnx/onnx.proto. Strings are declared as bytes, enums as int32 (the same bytes on the wire): damaged text or unknown enum
values then never fail inside protobuf.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from .protobuf import message_classes, parse

MESSAGES: dict[str, str] = {
    "Model": "ir_version:1:int64 producer_name:2:bytes graph:7:Graph opset_import:8:*OperatorSet metadata_props:14:*Entry functions:25:*Function",
    "OperatorSet": "domain:1:bytes version:2:int64",
    "Entry": "key:1:bytes value:2:bytes",
    "Function": "name:1:bytes domain:10:bytes",
    "Graph": "node:1:*Node name:2:bytes initializer:5:*Tensor input:11:*ValueInfo output:12:*ValueInfo sparse_initializer:15:*SparseTensor",
    "Node": "input:1:*bytes output:2:*bytes name:3:bytes op_type:4:bytes attribute:5:*Attribute domain:7:bytes",
    "Attribute": "name:1:bytes f:2:float i:3:int64 s:4:bytes t:5:Tensor g:6:Graph floats:7:*float ints:8:*int64 strings:9:*bytes type:20:int32",
    "Tensor": "dims:1:*int64 data_type:2:int32 float_data:4:*float int32_data:5:*int32 string_data:6:*bytes int64_data:7:*int64 name:8:bytes "
    "raw_data:9:bytes double_data:10:*double uint64_data:11:*uint64 external_data:13:*Entry data_location:14:int32",
    "SparseTensor": "values:1:Tensor",
    "ValueInfo": "name:1:bytes type:2:Type",
    "Type": "tensor_type:1:TensorType",
    "TensorType": "elem_type:1:int32 shape:2:Shape",
    "Shape": "dim:1:*Dim",
    "Dim": "dim_value:1:int64 dim_param:2:bytes",
}
"""Message -> fields as name:number:type, "*" for repeated."""


@functools.lru_cache(maxsize=1)
def messages() -> dict[str, Any]:
    """Message name -> class. The first call imports protobuf and builds the classes."""
    return message_classes("onnx", MESSAGES)


def parse_model(data: bytes) -> Any:
    """A Model message. Raises ModelError when the bytes are not one."""
    return parse(messages()["Model"], data, "ONNX model")


# ---- tensors -----------------------------------------------------------------------------------------------------------------------------------

BFLOAT16 = 16
NUMPY_TYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64,
    12: np.uint32, 13: np.uint64,
}  # fmt: skip
"""DataType -> NumPy type. BFLOAT16 (16) is read apart."""
FLOAT_TYPES = (1, 10, 11, BFLOAT16)
TYPE_NAMES = (
    "UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16", "DOUBLE", "UINT32", "UINT64",
    "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4", "INT4", "FLOAT4E2M1",
)  # fmt: skip
MAX_ELEMENTS = 1 << 28
EXTERNAL = 1


def type_name(dtype: int) -> str:
    """FLOAT for 1, and so on."""
    return TYPE_NAMES[dtype] if 0 <= dtype < len(TYPE_NAMES) else f"data type {dtype}"


def value_field(dtype: int) -> str:
    """The field that holds numbers of a type when they are not raw bytes."""
    return {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data"}.get(dtype, "int32_data")


def tensor_array(tensor: Any, folder: Path | None = None) -> np.ndarray:
    """The array of a Tensor message; bfloat16 as float32.

    folder: where files of external data may lie, None for nowhere. Raises ModelError when the message is damaged, its type is not supported or its
    external data cannot be read.
    """
    dtype, shape = int(tensor.data_type), tuple(int(d) for d in tensor.dims)
    numpy_type = np.uint16 if dtype == BFLOAT16 else NUMPY_TYPES.get(dtype)
    if numpy_type is None:
        raise ModelError(f"constants of type {type_name(dtype)} are not supported")
    if len(shape) > 8 or any(d < 0 for d in shape):
        raise ModelError(f"a constant of shape {list(shape[:16])}: damaged file")
    size = math.prod(shape)
    if max(size, *shape, 0) > MAX_ELEMENTS:
        raise ModelError(f"a constant of shape {list(shape)} is too large: damaged file")
    little = np.dtype(numpy_type).newbyteorder("<")
    content: bytes = external_bytes(tensor, folder, size * little.itemsize) if tensor.data_location == EXTERNAL else tensor.raw_data
    values = getattr(tensor, value_field(dtype))
    if content or not values:
        if len(content) != size * little.itemsize:
            raise ModelError(f"a constant of shape {list(shape)} and {type_name(dtype)} has {len(content)} bytes: damaged file")
        if numpy_type is np.bool_:
            content = bytes(min(b, 1) for b in content)
        array = np.frombuffer(content, dtype=little).astype(numpy_type, copy=False)
    elif len(values) != size:
        raise ModelError(f"a constant of shape {list(shape)} has {len(values)} values: damaged file")
    elif dtype in (BFLOAT16, 10):
        array = (np.array(values, dtype=np.int64) & 0xFFFF).astype(np.uint16)
        array = array.view(np.float16) if dtype == 10 else array
    else:
        array = np.array(values, np.uint64 if dtype in (12, 13) else None).astype(numpy_type)
    if dtype == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(shape)


def external_path(tensor: Any, folder: Path | None) -> Path:
    """The file in which a constant lies, in the model's folder or below it. Raises ModelError."""
    location = external_entries(tensor).get("location", "")
    if folder is None:
        raise ModelError(f"its constants lie in another file, '{location[:200]}': give the path of the model file, beside which that file lies")
    if not location or "\0" in location:
        raise ModelError("a constant in another file without a proper location: damaged file")
    root = folder.resolve()
    try:
        path = (root / location.replace("\\", "/")).resolve()
        inside = path.is_relative_to(root) and path != root
        found = inside and path.is_file()
    except (OSError, ValueError, RuntimeError):
        inside, found = True, False
    if not inside:
        raise ModelError(f"a constant lies in '{location[:200]}', outside the model's folder: refused")
    if not found:
        raise ModelError(f"a constant lies in '{location[:200]}', which is missing: put it beside the model file")
    return path


def external_entries(tensor: Any) -> dict[str, str]:
    """What a constant says of the other file that it lies in."""
    return {e.key.decode("utf-8", "replace"): e.value.decode("utf-8", "replace") for e in tensor.external_data}


def external_bytes(tensor: Any, folder: Path | None, size: int) -> bytes:
    """The bytes of a constant that lie in another file. Raises ModelError."""
    path = external_path(tensor, folder)
    entries = external_entries(tensor)
    location, numbers = entries["location"], [entries.get(k, "0") for k in ("offset", "length")]
    if not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise ModelError("a constant in another file without a proper offset and length: damaged file")
    offset, length = int(numbers[0]), int(numbers[1]) or size
    if length != size or offset + size > path.stat().st_size:
        raise ModelError(f"a constant of {size} bytes is said to have {length} at {offset} of '{location[:200]}', which is too short or damaged")
    with open(path, "rb") as f:
        f.seek(offset)
        return f.read(size)
