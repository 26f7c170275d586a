"""The oracle itself: each operator's NumPy meaning against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from fastsr import ops
from fastsr.errors import ModelError
from fastsr.graph import Graph, Input, Node

onnx = pytest.importorskip("onnx", reason="onnx builds the models for ONNX Runtime")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the peer")

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(5))


def onnx_run(node: Node, arrays: list[np.ndarray | None], outputs: int = 1) -> list[np.ndarray]:
    """Run one node in ONNX Runtime, opset 20."""
    h = onnx.helper
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
    given = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    infos = [h.make_tensor_value_info(n, h.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()]
    outs = [h.make_tensor_value_info(f"o{k}", onnx.TensorProto.FLOAT, None) for k in range(outputs)]
    n = h.make_node(node.op, names, [f"o{k}" for k in range(outputs)], **node.attrs)
    model = h.make_model(h.make_graph([n], "g", infos, outs), opset_imports=[h.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, given)


def check(op: str, *arrays: np.ndarray | None, tolerance: float = 2e-6, outputs: int = 1, **attrs: object) -> None:
    node = Node(op, [], [f"o{k}" for k in range(outputs)], attrs)
    ours, theirs = ops.run_node(node, arrays), onnx_run(node, list(arrays), outputs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max())))


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CONVS = [
    dict(kernel=(3, 3), pads=[1, 1, 1, 1]),
    dict(kernel=(4, 4), pads=[1, 1, 2, 2]),
    dict(kernel=(5, 1), pads=[0, 2, 3, 1], strides=[2, 1]),
    dict(kernel=(3, 3), strides=[2, 3], dilations=[2, 1], pads=[0, 1, 2, 0]),
    dict(kernel=(3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    dict(kernel=(4, 3), strides=[3, 2], auto_pad="SAME_LOWER"),
    dict(kernel=(3, 2), auto_pad="VALID"),
    dict(kernel=(3, 3), group=4, pads=[1, 1, 1, 1]),
    dict(kernel=(3, 3), group=2, pads=[1, 0, 0, 1]),
]


@pytest.mark.parametrize("case", CONVS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(case: dict, bias: bool) -> None:
    case = dict(case)
    kernel = case.pop("kernel")
    check(
        "Conv",
        f32(2, 4, 11, 13),
        f32(6 if case.get("group") != 4 else 8, 4 // case.get("group", 1), *kernel),
        f32(6 if case.get("group") != 4 else 8) if bias else None,
        **case,
    )


@pytest.mark.parametrize(
    "case",
    [
        dict(k=(4, 4), strides=[2, 2], pads=[1, 1, 1, 1]),
        dict(k=(9, 9), strides=[2, 2], pads=[4, 4, 4, 4], output_padding=[1, 1]),
        dict(k=(3, 2), strides=[3, 1], pads=[0, 1, 0, 0]),
        dict(k=(2, 3), strides=[1, 2], dilations=[2, 2]),
        dict(k=(3, 3), strides=[2, 2], group=2),
    ],
    ids=str,
)
def test_conv_transpose(case: dict) -> None:
    case = dict(case)
    k = case.pop("k")
    check("ConvTranspose", f32(2, 4, 6, 7), f32(4, 3, *k), f32(3 * case.get("group", 1)), **case)


@pytest.mark.parametrize("op", ["Abs", "Neg", "Relu", "Tanh", "Sigmoid", "HardSwish", "Mish", "Exp", "Identity"])
def test_unary(op: str) -> None:
    x = np.concatenate([f32(1, 2, 3, 40).ravel() * 4, np.float32([0, -0.0, 30, -30, 1e-6, -1e-6])]).reshape(1, 1, 1, -1)
    check(op, x)


def test_activations_with_attributes() -> None:
    x = f32(1, 3, 5, 7) * 3
    check("LeakyRelu", x, alpha=0.2)
    check("PRelu", x, f32(3, 1, 1))
    check("Clip", x, np.array(-1, np.float32), np.array(0.5, np.float32))
    check("Clip", x, None, np.array(0.5, np.float32))
    check("HardSigmoid", x, alpha=0.3, beta=0.4)
    check("Gelu", x)
    check("Gelu", x, approximate="tanh")


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_binary_broadcasts(op: str) -> None:
    check(op, f32(2, 3, 4, 5), f32(1, 3, 1, 1) + 3)
    check(op, f32(2, 3, 4, 5), np.array(1.5, np.float32))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [2, 3])
def test_shuffles(mode: str, block: int) -> None:
    check("DepthToSpace", f32(2, 2 * block * block, 3, 5), blocksize=block, mode=mode)
    check("SpaceToDepth", f32(2, 2, 3 * block, 5 * block), blocksize=block)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(mode: str) -> None:
    check("Pad", f32(1, 2, 5, 6), np.array([0, 0, 2, 1, 0, 0, 3, 4], np.int64), np.array(0.5, np.float32) if mode == "constant" else None, mode=mode)


def test_pad_crops() -> None:
    check("Pad", f32(1, 2, 5, 6), np.array([0, 0, -1, 1, 0, 0, 2, -2], np.int64), mode="constant")


def test_others() -> None:
    x = f32(2, 6, 4, 5)
    check("BatchNormalization", x, f32(6), f32(6), f32(6), np.abs(f32(6)) + 0.1, epsilon=1e-3)
    check("Concat", x, f32(2, 3, 4, 5), axis=1)
    check("Split", x, np.array([1, 2, 3], np.int64), axis=1, outputs=3)
    check("Slice", x, np.array([1, 0], np.int64), np.array([5, 3], np.int64), np.array([1, 3], np.int64), np.array([2, 1], np.int64))
    check("Transpose", x, perm=[0, 2, 3, 1])
    check("Reshape", x, np.array([0, 3, -1, 5], np.int64))


RESIZES = [
    (mode, coord, extra)
    for mode in ("nearest", "linear", "cubic")
    for coord in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")
    for extra in (
        {},
        {"nearest_mode": "floor"},
        {"nearest_mode": "ceil"},
        {"nearest_mode": "round_prefer_ceil"},
        {"cubic_coeff_a": -0.5, "exclude_outside": 1},
    )
    if ("nearest_mode" in extra) <= (mode == "nearest") and ("exclude_outside" in extra) <= (mode == "cubic")
]


@pytest.mark.parametrize(("mode", "coord", "extra"), RESIZES, ids=str)
@pytest.mark.parametrize("scale", [(2.0, 3.0), (1.5, 0.5), (4.0, 1.25)])
def test_resize(mode: str, coord: str, extra: dict, scale: tuple[float, float]) -> None:
    if coord == "half_pixel_symmetric" and scale[0] == 1.5 and extra.get("nearest_mode") == "ceil":
        scale = (2.0, 0.5)  # at 1.5 positions are whole numbers up to rounding, which ceil decides differently in float32 and float64
    check(
        "Resize",
        f32(1, 2, 7, 8),
        None,
        np.array([1, 1, *scale], np.float32),
        mode=mode,
        coordinate_transformation_mode=coord,
        tolerance=2e-5,
        **extra,
    )


def test_unknown_operator_is_named() -> None:
    graph = Graph([Input("x", 1)], ["y"], [Node("FooBar", ["x"], ["y"], name="nn")])
    with pytest.raises(ModelError, match=r"FooBar.*'nn'"):
        ops.run_graph(graph, {"x": f32(1, 1, 2, 2)})
