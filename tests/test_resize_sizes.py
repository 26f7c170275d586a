"""How many pixels a Resize makes, against ONNX Runtime over many sizes and scales, in every backend, in tiles and in saved files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from programs import Builder

from fastsr import fsr, ops
from fastsr.backends import pick_backend
from fastsr.graph import Feed, Graph, Input, Node, resized
from fastsr.lower import lower
from fastsr.model import Model
from fastsr.program import Program, size_scale

SCALES = [1.1, 1.2, 1.25, 1.3, 1.4, 1.6, 1.7, 1.9, 2.1, 2.3, 2.6, 3.3, 0.1, 0.3, 1 / 3, 0.35, 0.6, 0.7, 2 / 3, 0.9, 1.0001, 4.35]


def runtime(scale: float, sizes: list[int]) -> list[int]:
    """Widths that ONNX Runtime makes of pictures of these widths."""
    onnx = pytest.importorskip("onnx", reason="onnx builds the model for ONNX Runtime")
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the peer")
    h = onnx.helper
    picture = h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, "w"])
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 1, scale], np.float32), "s")
    node = h.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    result = h.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = h.make_model(h.make_graph([node], "g", [picture], [result], [scales]), opset_imports=[h.make_opsetid("", 19)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(None, {"x": np.zeros((1, 1, 1, n), np.float32)})[0].shape[3] for n in sizes]


def program(scale: float) -> Program:
    b = Builder(1)
    b.step("Resize", [0], 1, {"mode": 1, "scale_h": scale, "scale_w": scale})
    return b.program()


@pytest.mark.parametrize("scale", SCALES)
def test_sizes_are_those_of_onnx_runtime(scale: float) -> None:
    widths = [n for n in [*range(1, 120), 255, 640, 1000, 1079, 1920, 4097, 12345] if n * scale >= 1.01]
    want = runtime(scale, widths)
    assert [resized(n, scale) for n in widths] == want
    assert [program(scale).value_sizes(n, n)[1] for n in widths] == [(m, m) for m in want]


def test_the_oracle_agrees() -> None:
    node = Node("Resize", ["x"], ["y"], {"mode": "linear"})
    y = ops.Resize(node, np.zeros((1, 1, 10, 20), np.float32), None, np.array([1, 1, 1.3, 0.7], np.float32))
    assert y.shape == (1, 1, 13, 14)


@pytest.mark.parametrize("backend", ["cpu", "numba"])
@pytest.mark.parametrize("scale", [1.3, 0.7, 1 / 3, 2.6])
def test_backends_and_tiles(backend: str, scale: float, tmp_path: Path) -> None:
    p = program(scale)
    fsr.save(p, tmp_path / "m.fsr")
    for n, saved in ((10, p), (37, fsr.load(tmp_path / "m.fsr")), (110, p)):
        x = np.random.default_rng(n).random((1, 1, n, n + 10), np.float32)
        want = pick_backend("reference").compile(p).run([x], [0])[0]
        assert want.shape[2:] == (resized(n, scale), resized(n + 10, scale))
        for tile in (None, 16):
            np.testing.assert_allclose(pick_backend(backend).compile(saved, tile=tile).run([x], [0])[0], want, atol=1e-6)


def test_a_scale_for_every_pair_of_sizes() -> None:
    rng = np.random.default_rng(1)
    for n, m in rng.integers(1, 9000, (3000, 2)).tolist():
        assert resized(n, size_scale(n, m)) == m
    assert resized(1 << 27, size_scale(1 << 27, (1 << 26) + 1)) == (1 << 26) + 1


def test_a_picture_through_the_model() -> None:
    graph = Graph([Input("x", 3)], ["y"], feed=Feed("rgb"))
    graph.constants["s"] = np.array([1, 1, 1.3, 1.3], np.float32)
    graph.nodes.append(Node("Resize", ["x", "", "s"], ["y"], {"mode": "linear"}))
    assert Model(lower(graph), "cpu").upscale(np.zeros((10, 20, 3), np.uint8)).shape == (13, 26, 3)
