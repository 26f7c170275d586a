"""Weights without a network: each architecture against the same network in PyTorch, the choice between readings, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsr import archs, lower, ops, passes
from fastsr.archs import choose
from fastsr.archs.weights import Weights
from fastsr.errors import ModelError
from fastsr.graph import Graph
from fastsr.model import Model, fed

torch = pytest.importorskip("torch", reason="the networks that weights are compared with are PyTorch's")
import torch_networks  # noqa: E402
from torch_networks import NETWORKS  # noqa: E402

TOLERANCE = 1e-4
torch.set_num_threads(1)  # such small networks wait for threads rather than gain by them


def made(name: str) -> Any:
    """The network, with statistics, slopes and biases that are not the initial ones."""
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    for key, t in net.state_dict().items():
        if key.endswith("running_var"):
            t.uniform_(0.5, 2)
        elif key.endswith("running_mean"):
            t.normal_(0, 0.2)
    return net


def tensors_of(net: Any) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in net.state_dict().items()}


def readings(weights: Weights) -> list[Graph]:
    """All that the first architecture whose tensors are all used makes of them."""
    for arch in archs.ARCHS:
        if arch.detect(weights):
            weights.used.clear()
            graphs = arch.build(weights)
            if not weights.left():
                return graphs if isinstance(graphs, list) else [graphs]
    return []


def error_of(graph: Graph, net: Any, x: np.ndarray) -> float:
    """Largest difference over the largest number; infinite where sizes differ."""
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    got = ops.run_graph(graph, {"picture": x})[graph.outputs[0]]
    return float(np.abs(got - expected).max() / np.abs(expected).max()) if got.shape == expected.shape else np.inf


@pytest.mark.parametrize("name", NETWORKS)
def test_one_reading_is_the_network(name: str) -> None:
    net = made(name)
    graphs = readings(Weights(tensors_of(net)))
    assert graphs, "no architecture takes these weights"
    x = np.random.default_rng(1).random((1, graphs[0].inputs[0].channels, 12, 16), np.float32)
    assert min(error_of(g, net, x) for g in graphs) < TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_tensors_may_be_lost(name: str) -> None:
    """Files that sort their tensors by name: the network is found all the same, or refused; never another one."""
    net = made(name)
    tensors = tensors_of(net)
    graphs = readings(Weights({k: tensors[k] for k in sorted(tensors)}))
    x = np.random.default_rng(1).random((1, 3 if not graphs else graphs[0].inputs[0].channels, 12, 16), np.float32)
    assert graphs, "no architecture takes these weights"
    assert min(error_of(g, net, x) for g in graphs) < TOLERANCE


@pytest.mark.parametrize("name", ["FSRCNN x3", "EDSR x3 with shifts", "SRGAN x4", "RRDB x2, unshuffled", "SRVGG x4"])
def test_lowered_and_run(name: str) -> None:
    net = made(name)
    x = np.random.default_rng(2).random((1, 1 if "FSRCNN" in name else 3, 14, 18), np.float32)
    graph = min(readings(Weights(tensors_of(net))), key=lambda g: error_of(g, net, x))
    got = Model(lower.lower(passes.optimise(graph))).run(x)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert np.abs(got - expected).max() < TOLERANCE * np.abs(expected).max()


# ---- the choice between readings ---------------------------------------------------------------------------------------------------------------


def passes_on(*layers: Any, by: float = 1.0) -> None:
    """Make convolutions hand on their first channel, times `by`."""
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = by
            if layer.bias is not None:
                layer.bias.zero_()


def interpolates(weight: Any, scale: int) -> None:
    """Write the bicubic filter's weights for a transposed convolution of 9x9 with padding 4 and this stride, its first channel."""
    x = np.abs(np.arange(9) - 4 - (scale - 1) / 2) / scale
    taps = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    with torch.no_grad():
        weight.zero_()
        weight[0, 0] = torch.from_numpy(np.outer(taps, taps))


@pytest.mark.parametrize("scale", [2, 3])
def test_the_scale_of_a_transposed_convolution_is_found(scale: int) -> None:
    net = torch_networks.fsrcnn(scale, 8, 4, 1).eval()
    passes_on(*[m for m in net.modules() if isinstance(m, torch.nn.Conv2d)])
    interpolates(net.last_part.weight, scale)
    with torch.no_grad():
        net.last_part.bias.zero_()
    graph = archs.graph_of(tensors_of(net), Path("weights.pth"))
    assert graph.meta["scale"] == scale
    assert error_of(graph, net, choose.drawing(12, 1).astype(np.float32)) < TOLERANCE


@pytest.mark.parametrize(("act", "by", "bias"), [("Tanh", 0.05, -0.03), ("ReLU", 20.0, 0.0)])
def test_the_activation_is_found(act: str, by: float, bias: float) -> None:
    """tanh of small numbers, of either sign; ReLU of large ones."""
    net = torch_networks.espcn(1, 2, getattr(torch.nn, act)).eval()
    passes_on(net.first_part[0], by=by)
    passes_on(net.first_part[2])
    with torch.no_grad():
        net.first_part[0].bias[0] = bias
        last = net.last_part[0]
        last.weight.zero_()
        for k in range(4):
            last.weight[k, 0, 1, 1] = 0.75**2 / by
            last.weight[k, 0, 1, 2 * (k % 2)] = last.weight[k, 0, 2 * (k // 2), 1] = 0.1875 / by
            last.weight[k, 0, 2 * (k // 2), 2 * (k % 2)] = 0.0625 / by
        last.bias.fill_(-bias / by)
    graph = archs.graph_of(tensors_of(net), Path("weights.pth"))
    assert error_of(graph, net, choose.drawing(12, 1).astype(np.float32)) < 1e-3


@pytest.mark.parametrize("skip", [True, False])
def test_the_skip_is_found(skip: bool) -> None:
    """Six layers that sharpen the picture, or only make what sharpens it."""
    net = torch_networks.vdsr(6, 6).eval()
    passes_on(*[m for m in net.modules() if isinstance(m, torch.nn.Conv2d)])
    with torch.no_grad():
        net.output.weight[0, 0] = -0.05
        net.output.weight[0, 0, 1, 1] += 0.45 + (0 if skip else 1)
    graph = archs.graph_of(tensors_of(net), Path("weights.pth"))
    assert graph.meta["architecture"] == ("VDSR" if skip else "SRCNN") and graph.feed.pre_scale == 2


def test_noise_is_removed() -> None:
    net = made("DnCNN")
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    passes_on(*convs)
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.zero_()
            norm.running_var.fill_(1)
        convs[-1].weight[0, 0] = -0.4 / 9
        convs[-1].weight[0, 0, 1, 1] += 0.4
    graph = archs.graph_of(tensors_of(net), Path("weights.pth"))
    assert graph.meta["architecture"] == "DnCNN" and graph.feed.pre_scale == 1


def test_the_name_tells_the_scale() -> None:
    for stem, scale in (("vdsr_x3", 3), ("4x_thing", 4), ("net-scale2", 2), ("FSRCNNx4", 4), ("x264", 0), ("model", 0), ("2x2", 2)):
        assert Weights({}, stem).scale_hint() == scale, stem
    net = torch_networks.srcnn(1, (9, 1, 5))
    passes_on(net.conv1, net.conv2, net.conv3)
    assert archs.graph_of(tensors_of(net), Path("srcnn_x3.pth")).feed.pre_scale == 3


def test_resampling_keeps_shades() -> None:
    x = np.full((1, 1, 12, 12), 0.7)
    assert np.allclose(choose.resample(x, 2), 0.7) and np.allclose(choose.resample(x, 1 / 3), 0.7)


# ---- how pictures are fed ----------------------------------------------------------------------------------------------------------------------


def test_enlarged_before_by_the_scale_that_is_asked_for() -> None:
    net = torch_networks.srcnn(1, (9, 1, 5))
    passes_on(net.conv1, net.conv2, net.conv3)
    program = lower.lower(passes.optimise(archs.graph_of(tensors_of(net), Path("srcnn.pth"))))
    assert fed(program, {}).feed.pre_scale == 2
    assert Model(fed(program, {}, 3)).upscale(np.zeros((5, 7), np.uint8)).shape == (15, 21)
    assert fed(program, {"pre_scale": 4}, 3).feed.pre_scale == 4


def test_a_feed_of_ones_own() -> None:
    program = lower.lower(passes.optimise(archs.graph_of(tensors_of(made("SRVGG x4")), Path("x4.pth"))))
    changed = fed(program, {"colour": "bgr", "range": "255", "mean": [1, 2, 3]}).feed
    assert (changed.colour, changed.range, changed.mean) == ("bgr", 255.0, (1.0, 2.0, 3.0))
    for wrong, says in (({"color": "bgr"}, "there is no 'color'"), ({"colour": "cmyk"}, "colour is 'cmyk'"), ({"range": "much"}, "range='much'"),
                        ({"colour": "y"}, "has 3 channels"), ({"mean": [1, 2]}, "2 means"), ({"range": 0}, "not 0")):  # fmt: skip
        with pytest.raises(ModelError, match=says):
            fed(program, wrong)


# ---- what is refused ---------------------------------------------------------------------------------------------------------------------------


def test_unknown_weights() -> None:
    tensors = {"mystery.weight": np.zeros((7, 5, 3, 3), np.float32), "mystery.scale": np.zeros(3, np.float32)}
    with pytest.raises(ModelError, match=r"does not know.*2 tensors: 'mystery.weight' \[7, 5, 3, 3\].*ONNX"):
        archs.graph_of(tensors, Path("x.pth"))


def test_no_weights() -> None:
    with pytest.raises(ModelError, match="no weights"):
        archs.graph_of({}, Path("x.pth"))


@pytest.mark.parametrize("name", ["RRDB x4", "SRVGG x4", "SRGAN x4", "EDSR x2", "FSRCNN x2"])
def test_a_tensor_too_many(name: str) -> None:
    tensors = tensors_of(made(name))
    tensors["extra.gate"] = np.zeros((4, 4), np.float32)
    with pytest.raises(ModelError, match=r"does not know|belong"):
        archs.graph_of(tensors, Path("x.pth"))


@pytest.mark.parametrize("name", ["RRDB x4", "SRGAN x4", "EDSR x2", "FSRCNN x2", "MSRResNet"])
def test_a_tensor_of_another_shape(name: str) -> None:
    """Wherever it is, an error of ours comes out, or the network still fits together."""
    whole = tensors_of(made(name))
    for key, tensor in list(whole.items())[:: 1 + len(whole) // 20]:
        for shape in ((5,), (len(tensor), 5, 3, 3) if tensor.ndim else (1,), (1, 2, 3, 4, 5)):
            try:
                archs.graph_of({**whole, key: np.zeros(shape, np.float32)}, Path("x.pth"))
            except ModelError:
                continue


def test_undefined_numbers() -> None:
    tensors = tensors_of(made("EDSR x2"))
    tensors["head.0.bias"] = np.full(16, np.nan, np.float32)
    with pytest.raises(ModelError, match=r"'head.0.bias'.*NaN"):
        archs.graph_of(tensors, Path("x.pth"))


def test_every_architecture_says_how_it_is_fed() -> None:
    for arch in archs.ARCHS:
        assert arch.NAME and arch.PAPER and arch.FED, arch.__name__
        assert arch.detect.__doc__ and arch.build.__doc__, arch.__name__
