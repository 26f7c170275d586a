"""The oracle's quantised operators against ONNX Runtime: the same integers."""

from __future__ import annotations

import numpy as np
import pytest
from quantised_graphs import runtime_cuts_off

from fastsr import ops
from fastsr.errors import ModelError
from fastsr.graph import Node

onnx = pytest.importorskip("onnx", reason="onnx builds the models for ONNX Runtime")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the peer")

TYPES = (np.uint8, np.int8)


def onnx_run(node: Node, arrays: list[np.ndarray | None], dtype: type) -> np.ndarray:
    """Run one node in ONNX Runtime, opset 21: the first input is fed, the others are constants."""
    h = onnx.helper
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
    constants = [onnx.numpy_helper.from_array(a, n) for a, n in zip(arrays[1:], names[1:], strict=True) if a is not None]
    x = arrays[0]
    assert x is not None
    info = h.make_tensor_value_info("i0", h.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    out = h.make_tensor_value_info("o", h.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
    n = h.make_node(node.op, names, ["o"], **node.attrs)
    model = h.make_model(h.make_graph([n], "g", [info], [out], constants), opset_imports=[h.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"i0": x})[0]


def check(op: str, *arrays: np.ndarray | None, **attrs: object) -> np.ndarray:
    node = Node(op, [], ["o"], attrs)
    (ours,) = ops.run_node(node, arrays)
    theirs = onnx_run(node, list(arrays), ours.dtype.type)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
    return ours


def integers(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_quantize(dtype: type) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 40, 500), np.arange(-50, 50) / 2, [1e9, -1e9, np.inf, -np.inf]]).astype(np.float32).reshape(1, 2, -1, 1)
    for zero in (0, 3, np.iinfo(dtype).max):
        check("QuantizeLinear", x, np.array(0.5, np.float32), np.array(zero, dtype))
        check("QuantizeLinear", x, np.array([0.3, 0.7], np.float32), np.array([zero, 1], dtype), axis=1)
    check("QuantizeLinear", x, np.array(0.1, np.float32), None)


def test_quantize_of_integers_and_of_what_is_no_number() -> None:
    node = Node("QuantizeLinear", [], ["o"])
    (q,) = ops.run_node(node, [np.array([7, -5], np.int32), np.array(2.0, np.float32), np.array(1, np.uint8)])
    assert q.tolist() == [5, 0]
    (q,) = ops.run_node(node, [np.array([np.nan], np.float32), np.array(2.0, np.float32), np.array(1, np.int8)])
    assert q.tolist() == [-128]
    (q,) = ops.run_node(Node("QuantizeLinear", [], ["o"], {"output_dtype": 3}), [np.array([-9.0], np.float32), np.array(1.0, np.float32)])
    assert q.dtype == np.int8 and q.tolist() == [-9]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_dequantize(dtype: type) -> None:
    x = integers(np.random.default_rng(2), np.int8 if dtype is np.int32 else dtype, 2, 3, 4, 5).astype(dtype)
    zero = None if dtype is np.int32 else np.array(7, dtype)
    check("DequantizeLinear", x, np.array(0.013, np.float32), zero)
    for axis in (0, 1, -1):
        n = x.shape[axis]
        zeros = None if dtype is np.int32 else np.arange(n).astype(dtype)
        check("DequantizeLinear", x, np.linspace(0.01, 0.3, n, dtype=np.float32), zeros, axis=axis)


CONVS: list[dict[str, object]] = [
    dict(pads=[1, 1, 1, 1]),
    dict(pads=[0, 2, 1, 0], strides=[2, 1]),
    dict(pads=[2, 2, 2, 2], dilations=[2, 2]),
    dict(auto_pad="SAME_UPPER", strides=[2, 2]),
]


@pytest.mark.parametrize("x_type", TYPES)
@pytest.mark.parametrize("w_type", TYPES)
@pytest.mark.parametrize("attrs", CONVS)
def test_convolution(x_type: type, w_type: type, attrs: dict[str, object]) -> None:
    rng = np.random.default_rng(3)
    x, w, b = integers(rng, x_type, 1, 6, 9, 11), integers(rng, w_type, 4, 6, 3, 3), rng.integers(-5000, 5000, 4).astype(np.int32)
    x_zero, w_zero = np.array(5, x_type), np.array(0 if w_type is np.int8 else 128, w_type)
    if x_type is not w_type and runtime_cuts_off():
        w //= 2
    check("ConvInteger", x, w, x_zero, w_zero, **attrs)
    scales = np.array(0.02, np.float32), np.array([0.01, 0.003, 0.02, 0.0007], np.float32), np.array(0.7, np.float32)
    if w_type is np.int8 or x_type is np.uint8:
        for w_scale in (scales[1], scales[1][0]):
            zeros = np.full(np.shape(w_scale), w_zero, w_type)
            y = check("QLinearConv", x, scales[0], x_zero, w, np.asarray(w_scale), zeros, scales[2], np.array(9, x_type), b, **attrs)
            assert len(np.unique(y)) > 10


def test_what_cannot_be_is_an_error() -> None:
    x = np.zeros((1, 2, 3, 3), np.float32)
    bad = [
        ("QuantizeLinear", [x, np.array(0.0, np.float32)], {}, "positive"),
        ("QuantizeLinear", [x, np.array(np.nan, np.float32)], {}, "positive"),
        ("QuantizeLinear", [x, np.array([1, 1, 1], np.float32)], {}, "axis"),
        ("QuantizeLinear", [x, np.array([1, 1], np.float32)], {"axis": 7}, "axis"),
        ("QuantizeLinear", [x, np.array([1, 1], np.float32), np.array(1, np.uint8)], {}, "zero points"),
        ("QuantizeLinear", [x, np.array(1, np.float32)], {"output_dtype": 17}, "type"),
        ("DequantizeLinear", [x.astype(np.uint8), np.array([1, 1], np.float32)], {"block_size": 2}, "block"),
        ("ConvInteger", [x, x], {}, "integers"),
    ]
    for op, arrays, attrs, message in bad:
        with pytest.raises(ModelError, match=message):
            ops.run_node(Node(op, [], ["o"], attrs), arrays)
