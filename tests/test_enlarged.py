"""Networks that keep a picture's size: whether pictures are enlarged before, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr import onnx_file
from fastsr.archs import choose
from fastsr.graph import Graph, Input, Node
from fastsr.importers import load_graph


def network(*kernels: np.ndarray, channels: int = 1) -> Graph:
    """Convolutions of one channel each (or the same for three), one after another."""
    graph = Graph(inputs=[Input("x", channels)], outputs=[f"y{len(kernels)}"])
    for k, kernel in enumerate(kernels):
        weight = np.zeros((channels, channels, *kernel.shape), np.float32)
        weight[range(channels), range(channels)] = kernel
        graph.constants[f"w{k}"] = weight
        pad = kernel.shape[0] // 2
        graph.nodes.append(Node("Conv", [f"y{k}" if k else "x", f"w{k}"], [f"y{k + 1}"], {"kernel_shape": list(kernel.shape), "pads": [pad] * 4}))
    return graph


def sharpening(amount: float) -> np.ndarray:
    kernel = np.full((5, 5), -amount / 25)
    kernel[2, 2] += 1 + amount
    return kernel


def pre_scale(graph: Graph, path: Path) -> int:
    path.write_bytes(onnx_file.onnx_bytes(graph))
    return load_graph(path).feed.pre_scale


@pytest.mark.parametrize("channels", [1, 3])
def test_what_sharpens_is_fed_enlarged_pictures(channels: int, tmp_path: Path) -> None:
    graph = network(np.eye(1), sharpening(0.6), channels=channels)
    assert pre_scale(graph, tmp_path / "some.onnx") in (2, 3, 4)
    assert pre_scale(graph, tmp_path / "some_x3.onnx") == 3
    assert pre_scale(graph, tmp_path / "denoise_x3.onnx") == 1


def test_what_smooths_or_does_nothing_useful_is_not(tmp_path: Path) -> None:
    assert pre_scale(network(np.eye(1), np.full((3, 3), 1 / 9)), tmp_path / "a.onnx") == 1
    assert pre_scale(network(np.eye(1), np.random.default_rng(0).normal(0, 1, (3, 3))), tmp_path / "b.onnx") == 1
    assert pre_scale(network(np.eye(1)), tmp_path / "c.onnx") == 1


def test_what_the_file_says_stays(tmp_path: Path) -> None:
    graph = network(np.eye(1), sharpening(0.6))
    (tmp_path / "first.onnx").write_bytes(onnx_file.onnx_bytes(graph))
    fastsr.load(tmp_path / "first.onnx", feed={"pre_scale": 1}).save(tmp_path / "again.onnx")
    assert load_graph(tmp_path / "again.onnx").feed.pre_scale == 1
    fastsr.load(tmp_path / "first.onnx", scale=4).save(tmp_path / "again.onnx")
    assert fastsr.load(tmp_path / "again.onnx").scale == 4


def test_large_networks_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsr.importers.enlarged.MAX_WEIGHTS", 10)
    monkeypatch.setattr(choose, "gain", lambda graph: pytest.fail("tried"))
    assert pre_scale(network(np.eye(1), sharpening(0.6)), tmp_path / "a.onnx") == 1


def test_feqe(shared: Path) -> None:
    """Trained for x4."""
    assert load_graph(shared / "models/tensorflow/SRCNN_feqe_div2k.pb").feed.pre_scale == 4
