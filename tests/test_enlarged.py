"""Networks that keep a picture's size: whether pictures are enlarged before, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr import onnx_file
from fastsr.archs import choose
from fastsr.errors import ModelError, PictureError
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
    monkeypatch.setattr("fastsr.importers.tried.MAX_WEIGHTS", 10)
    monkeypatch.setattr(choose, "judge", lambda graph: pytest.fail("tried"))
    assert pre_scale(network(np.eye(1), sharpening(0.6)), tmp_path / "a.onnx") == 1


def test_feqe(shared: Path) -> None:
    """Trained for x4."""
    assert load_graph(shared / "models/tensorflow/SRCNN_feqe_div2k.pb").feed.pre_scale == 4


# ---- the range of pixels -------------------------------------------------------------------------------------------------------------------------


def trained(top: float, mean: float, out_top: float, out_mean: float, channels: int = 3, known: bool = False) -> Graph:
    """Makes a picture twice as large; works in such pixels only: what lies beyond is cut off, what is dark too.

    known: it begins with a division.
    """
    graph = Graph(inputs=[Input("x", channels)], outputs=["y"])

    def scaled(name: str, source: str, factor: float, term: float, out: str) -> None:
        weight, bias = np.eye(channels, dtype=np.float32)[..., None, None] * np.float32(factor), np.full(channels, term, np.float32)
        graph.constants |= {f"{name}w": weight, f"{name}b": bias}
        graph.nodes.append(Node("Conv", [source, f"{name}w", f"{name}b"], [out], {"kernel_shape": [1, 1]}))

    source = "x"
    if known:
        graph.constants["whole"] = np.float32(255)
        graph.nodes.append(Node("Div", ["x", "whole"], ["d"]))
        source, top = "d", top / 255
    scaled("a", source, 1 / top, mean / top, "a")
    graph.constants |= {"low": np.float32(0.03), "high": np.float32(1), "s": np.array([1, 1, 2, 2], np.float32)}
    graph.nodes.append(Node("Clip", ["a", "low", "high"], ["c"]))
    graph.nodes.append(Node("Resize", ["c", "", "s"], ["r"], {"mode": "cubic"}))
    scaled("z", "r", out_top, -out_mean, "y")
    return graph


@pytest.mark.parametrize(
    ("ranges", "channels"),
    [
        ((255, 0, 255, 0), 3), ((255, 0, 255, 0), 1), ((1, 0, 2, 1), 3), ((255, 0, 2, 1), 3), ((255, 0, 1, 0), 3), ((255, 127.5, 1, 0), 1)
    ],
)  # fmt: skip
def test_the_range_of_pixels_is_tried(ranges: tuple[float, ...], channels: int, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(trained(*ranges, channels=channels)))
    feed = load_graph(tmp_path / "net.onnx").feed
    found = (feed.range, (*feed.mean, 0)[0], feed.out_range, (*feed.out_mean, 0)[0])
    assert found == ranges


def test_what_makes_a_picture_keeps_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    judge = choose.judge
    monkeypatch.setattr(choose, "judge", lambda graph, budget: tries.append(graph.feed) or judge(graph, budget))
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(trained(1, 0, 1, 0)))
    assert load_graph(tmp_path / "net.onnx").feed.range == 1 and len(tries) == 1


def test_a_range_that_the_network_tells_is_not_tried(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(trained(255, 0, 2, 1, known=True)))
    feed = load_graph(tmp_path / "net.onnx").feed
    assert (feed.range, feed.mean, feed.out_range, feed.out_mean) == (255, (), 2, (1, 1, 1))


def test_a_network_that_makes_no_picture_keeps_the_guess(tmp_path: Path) -> None:
    graph = trained(1, 0, 1, 0)
    graph.constants["aw"] = np.random.default_rng(0).normal(0, 9, (3, 3, 1, 1)).astype(np.float32)
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(graph))
    assert load_graph(tmp_path / "net.onnx").feed.range == 1


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "2", "wide", (2,), True, 0, -1, 2.5, 1e9])
def test_scales_that_cannot_be(scale: float, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(network(np.eye(1), sharpening(0.6))))
    for name in (str(tmp_path / "net.onnx"), "bicubic"):
        if (name, scale) != ("bicubic", 2.5):
            with pytest.raises(ModelError):
                fastsr.load(name, scale=scale)
    with pytest.raises(ModelError, match="by 1 to 16 before"):
        fastsr.load(tmp_path / "net.onnx", scale=20)


def test_trying_keeps_no_value_longer_than_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(op: str) -> Graph:
        nodes = [Node("Relu", [f"v{k}"], [f"v{k + 1}"]) for k in range(20)]
        return Graph([Input("v0", 3)], ["y"], [*nodes, Node(op, [f"v{k}" for k in ((20,) if op == "Relu" else range(21))], ["y"])])

    x = np.ones((1, 3, 24, 24), np.float32)
    monkeypatch.setattr(choose, "MAX_VALUES", 4 * x.size)
    assert (choose.run(chain("Relu"), x) == 1).all()
    with pytest.raises(PictureError):
        choose.run(chain("Concat"), x)


@pytest.mark.parametrize(
    ("node", "least"),
    [
        (Node("Conv", ["x", "w"], ["y"], {"pads": [1] * 4}), 8 * 8 * 9 * 24 * 24),
        (Node("Conv", ["x", "w"], ["y"], {"pads": [1] * 4, "group": 8}), 8 * 9 * choose.CALL),
        (Node("MaxPool", ["x"], ["y"], {"kernel_shape": [31, 31], "pads": [15] * 4}), 8 * 24 * 24 * 31 * 31),
        (Node("Tanh", ["x"], ["y"]), 8 * 24 * 24),
    ],
)
def test_work(node: Node, least: float) -> None:
    w = np.zeros((8, 8 // node.attrs.get("group", 1), 3, 3), np.float32)
    budget = choose.Budget(least - 1)
    with pytest.raises(PictureError, match="too long"):
        choose.run(Graph([Input("x", 8)], ["y"], [node], {"w": w}), np.zeros((1, 8, 24, 24), np.float32), budget)


def test_trying_takes_no_longer_than_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(trained(255, 0, 255, 0)))
    assert load_graph(tmp_path / "net.onnx").feed.range == 255
    budgets = [choose.Budget(1e5), choose.Budget(1e5)]
    monkeypatch.setattr(choose, "Budget", iter(budgets).__next__)
    feed = load_graph(tmp_path / "net.onnx").feed
    assert feed.range == feed.out_range == feed.pre_scale == 1
    assert budgets[0].left < 0
