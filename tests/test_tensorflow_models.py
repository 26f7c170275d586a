"""Whole model files: OpenCV's and others' from the shared folder, and one built like OpenCV's EDSR, against TensorFlow and cv2.dnn."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from cases import OPENCV_MODELS, ModelCase
from limits import slowness
from tensorflow_graphs import FLOAT, QUINT8, UINT8, Frozen, TensorFlow, Type, peer

from fastsr.graph import Graph
from fastsr.importers import load_graph
from fastsr.ops import run_graph

__all__ = ["peer"]

OUTPUTS = {
    "LapSRN_x2": ["NCHW_output"],
    "LapSRN_x4": ["NCHW_output", "NCHW_output_4x", "NCHW_output_2x"],
    "LapSRN_x8": ["NCHW_output", "NCHW_output_8x", "NCHW_output_4x", "NCHW_output_2x"],
}
EDSR_MEAN = (103.1545782, 111.561547, 114.35629928)


def agree(graph: Graph, x: np.ndarray, want: dict[str, np.ndarray], tolerance: float = 1e-5) -> None:
    """Every output within a part of its largest value; x and want are NCHW."""
    got = run_graph(graph, {graph.inputs[0].name: x})
    for name, y in want.items():
        assert got[name].shape == y.shape
        np.testing.assert_allclose(got[name], y, rtol=0, atol=tolerance * float(np.abs(y).max()))


def luma(h: int = 13, w: int = 18) -> np.ndarray:
    """A picture of one channel, 0..1, (1, 1, H, W)."""
    return np.random.default_rng(3).random((1, 1, h, w), dtype=np.float32)


def cv2_dnn(path: Path, x: np.ndarray) -> np.ndarray:
    """What cv2's own reader makes of a file. Skips where cv2 has none."""
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromTensorflow") or not hasattr(cv2, "dnn_superres"):
        pytest.skip("this cv2 does not read super-resolution networks from TensorFlow files")
    # DepthToSpace is registered when the first such object is made
    cv2.dnn_superres.DnnSuperResImpl_create()
    net = cv2.dnn.readNetFromTensorflow(str(path))
    net.setInput(x)
    return net.forward()


# ---- OpenCV's files ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", OPENCV_MODELS, ids=lambda m: m.id)
def test_inputs_outputs_and_feed_of_opencv_models(model: ModelCase, shared: Path) -> None:
    graph = load_graph(shared / model.path)
    assert [(i.name, i.channels) for i in graph.inputs] == [("IteratorGetNext", 1)]
    assert graph.outputs == OUTPUTS.get(model.file, ["NCHW_output"])
    assert (graph.feed.colour, graph.feed.range, graph.feed.out_range, graph.feed.mean, graph.feed.pre_scale) == ("y", 1.0, 1.0, (), 1)
    y = run_graph(graph, {"IteratorGetNext": luma(3, 5)})
    assert y[graph.outputs[0]].shape == (1, 1, 3 * model.scale, 5 * model.scale)


@pytest.mark.tensorflow
@pytest.mark.parametrize("model", OPENCV_MODELS, ids=lambda m: m.id)
def test_opencv_models_agree_with_tensorflow(model: ModelCase, shared: Path, peer: TensorFlow) -> None:
    graph, x = load_graph(shared / model.path), luma()
    want = peer.run(shared / model.path, {"IteratorGetNext": x.transpose(0, 2, 3, 1)}, graph.outputs)
    agree(graph, x, dict(zip(graph.outputs, want, strict=True)))


@pytest.mark.parametrize("model", OPENCV_MODELS, ids=lambda m: m.id)
def test_opencv_models_agree_with_cv2_dnn(model: ModelCase, shared: Path) -> None:
    x = luma()
    y = cv2_dnn(shared / model.path, x)
    graph = load_graph(shared / model.path)
    # cv2 uses Winograd convolutions, which round more
    agree(graph, x, {graph.outputs[0]: y}, 2e-4)


def test_loading_takes_less_than_20_ms(shared: Path) -> None:
    path = shared / "models/tensorflow/ESPCN_x2.pb"
    load_graph(path)
    times = []
    for _ in range(10):
        start = time.thread_time()
        load_graph(path)
        times.append(time.thread_time() - start)
    assert min(times) < 0.02 * slowness()


# ---- other files -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_frozen_srcnn_agrees_with_tensorflow(shared: Path, peer: TensorFlow) -> None:
    path = shared / "models/tensorflow/SRCNN_feqe_div2k.pb"
    graph = load_graph(path)
    x = np.random.default_rng(1).random((1, 3, 12, 15), dtype=np.float32)
    (want,) = peer.run(path, {"input": x.transpose(0, 2, 3, 1)}, ["output"])
    agree(graph, x, {"output": want.transpose(0, 3, 1, 2)})


def test_frozen_srcnn_takes_rgb_and_improves_bicubic(shared: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    graph = load_graph(shared / "models/tensorflow/SRCNN_feqe_div2k.pb")
    assert (graph.feed.colour, graph.feed.range, graph.feed.out_range) == ("rgb", 1.0, 1.0)
    sharp = cv2.imread(str(shared / "images/Set5/butterfly.png"))[:120, :120, ::-1] / np.float32(255)
    blurred = cv2.resize(cv2.resize(sharp, (30, 30), interpolation=cv2.INTER_AREA), (120, 120), interpolation=cv2.INTER_CUBIC)
    y = run_graph(graph, {"input": np.ascontiguousarray(blurred.transpose(2, 0, 1)[None])})["output"][0].transpose(1, 2, 0)
    assert np.mean((y - sharp) ** 2) < 0.9 * np.mean((blurred - sharp) ** 2)


def test_falsr_is_its_luma_network(shared: Path) -> None:
    graph = load_graph(shared / "models/tensorflow/FALSR-C.pb")
    assert [(i.name, i.channels) for i in graph.inputs] == [("input_image_evaluate_y", 1)]
    assert graph.outputs == ["test_sr_evaluator_i1_b0_g/mul"]
    assert (graph.feed.colour, graph.feed.range, graph.feed.out_range) == ("y", 1.0, 255.0)
    assert graph.meta["left out"] == ["input_image_evaluate_pbpr"]


@pytest.mark.tensorflow
def test_falsr_agrees_with_tensorflow(shared: Path, peer: TensorFlow) -> None:
    path = shared / "models/tensorflow/FALSR-C.pb"
    graph, x = load_graph(path), luma(9, 8)
    (want,) = peer.run(path, {"input_image_evaluate_y": x.transpose(0, 2, 3, 1)}, graph.outputs)
    agree(graph, x, {graph.outputs[0]: want.transpose(0, 3, 1, 2)})


# ---- how pictures are fed ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "dtype", "before", "after", "feed"),
    [
        (1, FLOAT, None, None, ("y", 1.0, 1.0)),
        (3, FLOAT, None, None, ("rgb", 1.0, 1.0)),
        (3, UINT8, None, None, ("rgb", 255.0, 1.0)),
        (3, FLOAT, ("RealDiv", 255.0), ("Mul", 255.0), ("rgb", 255.0, 255.0)),
        (1, FLOAT, ("Mul", 1 / 255), None, ("y", 255.0, 1.0)),
        (1, FLOAT, ("Mul", 0.5), ("Mul", 127.5), ("y", 1.0, 255.0)),  # the operators do not tell; what is cut off at 255 does, when it is tried
        (4, FLOAT, None, None, ("raw", 1.0, 1.0)),
    ],
)
def test_feed_is_deduced(channels: int, dtype: int, before: tuple[str, float] | None, after: tuple[str, float] | None, feed: tuple[str, float, float],
                         tmp_path: Path) -> None:  # fmt: skip
    g = Frozen()
    x = g.placeholder([1, -1, -1, channels], dtype=dtype)
    if dtype == UINT8:
        x = g.node("Cast", x, SrcT=Type(UINT8), DstT=Type(FLOAT))
    if before:
        x = g.node(before[0], x, g.const(np.float32(before[1])))
    x = g.conv(x, np.ones((3, 3, channels, channels), np.float32))
    if after:
        x = g.node("Minimum", g.node(after[0], x, g.const(np.float32(after[1]))), g.const(np.float32(255)))
    g.node("Identity", x, name="y")
    got = load_graph(g.save(tmp_path / "m.pb")).feed
    assert (got.colour, got.range, got.out_range) == feed


# ---- a file like OpenCV's EDSR -----------------------------------------------------------------------------------------------------------------


def quantised(g: Frozen, name: str, weight: np.ndarray) -> str:
    """A constant as TensorFlow's quantize_weights transform stores it."""
    low, high = np.float32(min(weight.min(), 0)), np.float32(max(weight.max(), 0))
    q = np.round((weight - low) / (high - low) * 255).astype(np.uint8)
    parts = g.const(q, f"{name}_quantized_const", QUINT8), g.const(low, f"{name}_quantized_min"), g.const(high, f"{name}_quantized_max")
    return g.node("Dequantize", *parts, name=name, T=Type(QUINT8), mode="MIN_FIRST")


def edsr(blocks: int = 2, features: int = 8, scale: int = 2) -> Frozen:
    """OpenCV's EDSR, smaller: quint8 filters, float biases, residual blocks scaled by 0.1, DepthToSpace at the end, output transposed to NCHW."""
    g, rng = Frozen(), np.random.default_rng(5)

    def conv(x: str, cin: int, cout: int, name: str) -> str:
        weight = quantised(g, f"resFilter{name}", rng.standard_normal((3, 3, cin, cout)).astype(np.float32) / np.float32(3 * np.sqrt(cin)))
        y = g.node("Conv2D", x, weight, strides=[1, 1, 1, 1], dilations=[1, 1, 1, 1], padding="SAME", data_format="NHWC", use_cudnn_on_gpu=True)
        return g.node("Add", y, g.const(rng.standard_normal(cout).astype(np.float32), f"Bias{name}"))

    x = first = conv(g.placeholder(name="IteratorGetNext"), 3, features, "_one")
    for k in range(blocks):
        y = conv(g.node("Relu", conv(x, features, features, str(2 * k))), features, features, str(2 * k + 1))
        x = g.node("Add", x, g.node("Mul", y, g.const(np.float32(0.1))))
    x = g.node("Add", conv(x, features, features, "_two"), first)
    x = conv(x, features, 3 * scale**2, "_three")
    x = g.node("DepthToSpace", x, name="NHWC_output", block_size=scale, data_format="NHWC")
    g.node("Transpose", x, g.const(np.array([0, 3, 1, 2], np.int32), "NCHW_output/perm"), name="NCHW_output", Tperm=Type(3))
    return g


def bgr() -> np.ndarray:
    """A picture less the mean, (1, 3, H, W)."""
    pixels = np.random.default_rng(6).integers(0, 256, (1, 3, 11, 14)).astype(np.float32)
    return pixels - np.array(EDSR_MEAN, np.float32).reshape(1, 3, 1, 1)


def test_edsr_is_fed_bgr_less_the_mean(tmp_path: Path) -> None:
    graph = load_graph(edsr().save(tmp_path / "EDSR_x2.pb"))
    feed = graph.feed
    assert (feed.colour, feed.range, feed.out_range, feed.mean, feed.out_mean) == ("bgr", 255.0, 255.0, EDSR_MEAN, EDSR_MEAN)
    assert all(c.dtype in (np.float32, np.int64) for c in graph.constants.values())


@pytest.mark.tensorflow
@pytest.mark.parametrize("scale", [2, 3])
def test_edsr_agrees_with_tensorflow(scale: int, tmp_path: Path, peer: TensorFlow) -> None:
    path = edsr(scale=scale).save(tmp_path / "EDSR.pb")
    x = bgr()
    (want,) = peer.run(path, {"IteratorGetNext": x.transpose(0, 2, 3, 1)}, ["NCHW_output"])
    agree(load_graph(path), x, {"NCHW_output": want}, 2e-6)


def test_edsr_agrees_with_cv2_dnn(tmp_path: Path) -> None:
    path = edsr().save(tmp_path / "EDSR_x2.pb")
    x = bgr()
    # cv2 does not round the lowest value to a whole step as TensorFlow's MIN_FIRST does
    agree(load_graph(path), x, {"NCHW_output": cv2_dnn(path, x)}, 2e-2)


def test_dequantised_weights_are_exactly_tensorflow_s(tmp_path: Path) -> None:
    weight = np.random.default_rng(8).standard_normal((3, 3, 4, 5)).astype(np.float32)
    g = Frozen()
    w = quantised(g, "w", weight)
    g.node("Conv2D", g.placeholder(), w, strides=[1, 1, 1, 1], dilations=[1, 1, 1, 1], padding="SAME", data_format="NHWC", T=Type(FLOAT))
    graph = load_graph(g.save(tmp_path / "w.pb"))
    step = (weight.max() - weight.min()) / np.float32(255)
    stored = graph.constants[graph.nodes[0].inputs[1]].transpose(2, 3, 1, 0)
    assert np.abs(stored - weight).max() <= step * np.float32(1.01)
    assert np.abs(np.round(stored / step) * step - stored).max() < 1e-5
