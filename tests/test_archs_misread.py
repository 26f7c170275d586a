"""Networks trained so briefly that they hardly improve a drawing: ranges of pixels, enlargements without weights, the task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks are trained with PyTorch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch_check import tensors_of  # noqa: E402
from torch_networks import Apply, conv, seq  # noqa: E402

from fastsr import archs, onnx_file  # noqa: E402
from fastsr.archs import chain, choose  # noqa: E402
from fastsr.archs.weights import Weights  # noqa: E402
from fastsr.graph import Feed, Graph  # noqa: E402
from fastsr.importers import load_graph  # noqa: E402

W = 8


def edsr() -> Any:
    blocks = [Apply(lambda s, x: x + s.body(x), body=nn.Sequential(conv(W, W), nn.ReLU(), conv(W, W))) for _ in range(2)]
    net = Apply(lambda s, x: s.tail((y := s.head(x)) + s.body(y)), head=conv(3, W), body=nn.Sequential(*blocks, conv(W, W)),
                tail=nn.Sequential(nn.Sequential(conv(W, 4 * W), nn.PixelShuffle(2)), conv(W, 3)))  # fmt: skip
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.3)
        for layer, of in ((net.head, 3), (net.tail[0][0], 0), (net.tail[1], W)):
            for k in range(layer.weight.shape[0]):
                layer.weight[k, k % of if of else k // 4, 1, 1] += 1
    return net


def trained(net: Any, top: float) -> Any:
    """Some hundred steps on soft pictures with edges."""
    rng, steps = np.random.default_rng(1), 150
    optimiser = torch.optim.Adam(net.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        grey = choose.resample(rng.random((4, 1, 6, 6)), 4) + 0.1 * rng.normal(size=(4, 3, 1, 1))
        x, y = np.mgrid[0:24, 0:24] / 24
        edge = np.clip(0.5 + 12 * (x - rng.random((4, 1, 1, 1)) + (y - 0.5) * rng.normal(size=(4, 1, 1, 1))), 0, 1)
        large = np.clip(grey + edge * rng.normal(0, 0.3, (4, 3, 1, 1)), 0, 1)
        small = torch.tensor(choose.resample(large, 0.5), dtype=torch.float32)
        loss = F.l1_loss(net(small * top) / top, torch.tensor(large, dtype=torch.float32))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


@pytest.mark.parametrize("top", [255.0, 1.0])
def test_range_of_edsr(top: float, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = trained(edsr(), top)
    graph = archs.graph_of(tensors_of(net), Path("net.pth"))
    assert graph.feed.range == top
    (tmp_path / "net.onnx").write_bytes(onnx_file.onnx_bytes(replace(graph, feed=Feed(), meta={})))
    assert load_graph(tmp_path / "net.onnx").feed.range == top


@pytest.mark.parametrize("top", [255.0, 1.0])
def test_mean_shifts_tell_the_range(top: float) -> None:
    net = edsr()
    for sign in (-1, 1):
        shift = nn.Conv2d(3, 3, 1)
        shift.weight.data, shift.bias.data = torch.eye(3).reshape(3, 3, 1, 1), sign * top * torch.tensor([0.4488, 0.4371, 0.4040])
        net.add_module("add_mean" if sign > 0 else "sub_mean", shift)
    assert archs.graph_of(tensors_of(net), Path("net.pth")).feed.range == top


UP = nn.Upsample(scale_factor=2)


@pytest.mark.parametrize(("layers", "place"), [
    ([UP, conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 1)], 0), ([conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), UP, conv(4, 1)], 2),
    ([conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 1)], None), ([conv(1, 4), UP, nn.PReLU(), UP, conv(4, 4), UP, conv(4, 1)], None),
    ([conv(1, 4), nn.BatchNorm2d(4), nn.ReLU(), UP, conv(4, 4), nn.ReLU(), conv(4, 1)], 1),
])  # fmt: skip
def test_numbers_in_names_tell_where_pixels_are_repeated(layers: list[Any], place: int | None) -> None:
    found = chain.layers(Weights(tensors_of(nn.Sequential(*layers))))
    assert found and chain._gap(found) == place


def test_what_names_tell_is_taken_unless_another_reading_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {"placed": -2.0, "usual": -0.1}
    monkeypatch.setattr(choose, "judge", lambda graph: (gains[graph.meta["kind"]], 25.0, 20.0))
    made = [Graph(feed=Feed("y"), meta={"kind": k, "architecture": "x", **({"placed": True} if k == "placed" else {})}) for k in gains]
    assert choose.best(made).meta["kind"] == "placed"


def test_norms_and_slopes_that_are_defined_last() -> None:
    net = seq(conv1=conv(1, 8, 9), conv2=conv(8, 4), conv3=conv(4, 1), bn1=nn.BatchNorm2d(8), bn2=nn.BatchNorm2d(4))
    found = chain.layers(Weights(tensors_of(net)))
    assert found and [layer.name for layer in found] == ["conv1", "bn1", "conv2", "bn2", "conv3"]
    slopes = seq(conv1=conv(1, 8), conv2=conv(8, 4), deconv=nn.ConvTranspose2d(4, 1, 9, 2, 4), prelu1=nn.PReLU(8), prelu2=nn.PReLU(4))
    found = chain.layers(Weights(tensors_of(slopes)))
    assert found and [layer.name for layer in found] == ["conv1", "prelu1", "conv2", "prelu2", "deconv"]


@pytest.mark.parametrize(("gains", "cleaned", "taken"), [
    ((-0.4, -0.2), 20.0, "enlarge"), ((0.6, 0.8), 20.0, "denoise"), ((0.1, 0.3), 35.0, "denoise"),
])  # fmt: skip
def test_what_makes_noise_worse_is_no_denoiser(gains: tuple[float, float], cleaned: float, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_task = dict(zip(("denoise", "enlarge"), gains, strict=True))
    monkeypatch.setattr(choose, "judge", lambda graph: (by_task[graph.meta["task"]], 25.0, 20.0))
    monkeypatch.setattr(choose, "shades", lambda graph: cleaned)
    graphs = [Graph(feed=Feed("y"), meta={"task": task, "architecture": "x"}) for task in by_task]
    assert choose.best(graphs).meta["task"] == taken


@pytest.mark.parametrize(("cleaned", "taken"), [(30.0, "denoise"), (26.0, "enlarge")])
def test_what_cleans_is_no_enlarging_network(cleaned: float, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_task = {"enlarge": -0.4, "denoise": 0.5}
    monkeypatch.setattr(choose, "judge", lambda graph: (by_task[graph.meta["task"]], 25.0, 20.0))
    monkeypatch.setattr(choose, "shades", lambda graph: cleaned)
    graphs = [Graph(feed=Feed("y"), meta={"task": task, "architecture": "x"}) for task in by_task]
    assert choose.best(graphs).meta["task"] == taken
