"""A Graph as the bytes of an ONNX file: what `Model.save` writes, and how other runtimes are given the very network that fastsr runs.

Graph uses ONNX names and semantics, so this only writes the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) of the messages
of onnx.proto that a network needs; the `onnx` package is not used.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .errors import ModelError
from .graph import Graph, Node

OPSET = 20
IR_VERSION = 9

_DTYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3, np.dtype(np.int32): 6, np.dtype(np.int64): 7}
_FLOAT, _INT, _STRING, _FLOATS, _INTS = 1, 2, 3, 6, 7


def onnx_bytes(graph: Graph, shape: tuple[int, int, int, int] | None = None, metadata: dict[str, str] | None = None) -> bytes:
    """The network as an ONNX model with inputs and outputs of shape (N, C, H, W): every size but the channels free, or the inputs' fixed to `shape`.

    metadata: metadata_props of the file. Constants of float64 become float32. Raises ModelError for what ONNX cannot say: the Pad mode "symmetric".
    """
    body = b"".join(_message(1, _node(n)) for node in graph.nodes for n in _spelled_out(graph, node))
    body += _text(2, str(graph.meta.get("name") or "network"))
    body += b"".join(_message(5, _tensor(name, a)) for name, a in graph.constants.items())
    body += b"".join(_message(11, _value(i.name, i.channels, shape)) for i in graph.inputs)
    body += b"".join(_message(12, _value(name, None, None)) for name in graph.outputs)
    opset = _text(1, "") + _number(2, OPSET)
    props = b"".join(_message(14, _text(1, key) + _text(2, value)) for key, value in (metadata or {}).items())
    return _number(1, IR_VERSION) + _text(2, "fastsr") + _message(7, body) + _message(8, opset) + props


def _spelled_out(graph: Graph, node: Node) -> list[Node]:
    """The node as ONNX has it: sizes to resize to, which a Graph takes from a picture, from that picture's shape."""
    if node.op != "Resize" or len(node.inputs) < 4 or not node.inputs[3]:
        return [node]
    kept, given, sizes = (graph.fresh(f"{node.output}/{name}") for name in ("kept", "given", "sizes"))
    return [
        Node("Shape", [node.inputs[0]], [kept], {"end": 2}),
        Node("Shape", [node.inputs[3]], [given], {"start": 2}),
        Node("Concat", [kept, given], [sizes], {"axis": 0}),
        Node("Resize", [*node.inputs[:3], sizes], node.outputs, node.attrs, node.name),
    ]


def _node(node: Node) -> bytes:
    if node.op == "Pad" and node.attrs.get("mode") == "symmetric":
        raise ModelError(f"node '{node.name}': ONNX has no Pad mode 'symmetric'")
    out = b"".join(_text(1, i) for i in node.inputs) + b"".join(_text(2, o) for o in node.outputs)
    out += _text(3, node.output) + _text(4, node.op)  # unlike node.name, unique, which ONNX Runtime insists on
    return out + b"".join(_message(5, _attribute(k, v)) for k, v in node.attrs.items())


def _attribute(name: str, value: Any) -> bytes:
    out = _text(1, name)
    if isinstance(value, (bool, int, np.integer)):
        return out + _number(3, int(value)) + _number(20, _INT)
    if isinstance(value, (float, np.floating)):
        return out + _key(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT)
    if isinstance(value, str):
        return out + _text(4, value) + _number(20, _STRING)
    values = list(value)
    if all(isinstance(v, (int, np.integer)) for v in values):
        return out + b"".join(_number(8, int(v)) for v in values) + _number(20, _INTS)
    return out + b"".join(_key(7, 5) + struct.pack("<f", v) for v in values) + _number(20, _FLOATS)


def _tensor(name: str, array: np.ndarray) -> bytes:
    if array.dtype not in _DTYPES:
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    dims = b"".join(_number(1, d) for d in array.shape)
    return dims + _number(2, _DTYPES[array.dtype]) + _text(8, name) + _message(9, little.tobytes())


def _value(name: str, channels: int | None, sizes: tuple[int, int, int, int] | None) -> bytes:
    dims = [_text(2, "N"), _text(2, f"{name}_C") if channels is None else _number(1, channels), _text(2, f"{name}_H"), _text(2, f"{name}_W")]
    if sizes:
        dims = [_number(1, n) for n in sizes]
    shape = b"".join(_message(1, d) for d in dims)
    return _text(1, name) + _message(2, _message(1, _number(1, 1) + _message(2, shape)))


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, n: int) -> bytes:
    return _key(field, 0) + _varint(n)


def _message(field: int, data: bytes) -> bytes:
    return _key(field, 2) + _varint(len(data)) + data


def _text(field: int, s: str) -> bytes:
    return _message(field, s.encode())
