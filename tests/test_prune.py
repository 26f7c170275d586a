"""fastsr.prune: what is left computes what the whole network computes without the channels that went; multiply-adds fall as asked for; pins hold."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from graphs import Builder, assert_same, outputs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastsr import evaluation, ops, passes, prune
from fastsr.errors import FastsrError, ModelError
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.model import load_program
from fastsr.onnx_export import graph_of

KEEP_ZERO = ("Relu", "LeakyRelu", "PRelu", "Neg")
"""Activations that make zero of zero."""


class Drawn:
    """A random network for pictures of one channel, of the parts that super-resolution networks are made of."""

    def __init__(self, seed: int, plain: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder(1, seed)
        self.plain = plain
        self.c = self.width()
        self.x = self.b.conv("x", 1, self.c)
        parts = [self.chain, self.chain, self.residual, self.depthwise, self.concat, self.picked, self.shuffled, *([] if plain else [self.gated])]
        for _ in range(int(self.rng.integers(2, 6))):
            parts[self.rng.integers(len(parts))]()
        self.x = self.b.conv(self.x, self.c, 4)
        self.graph = self.b.done(self.b.op("DepthToSpace", self.x, blocksize=2, mode="CRD"))

    def width(self) -> int:
        return int(self.rng.choice([3, 5, 8, 12, 16, 20]))

    def act(self, x: str, c: int) -> str:
        """An activation, or a constant operand for each channel."""
        op = str(self.rng.choice([*KEEP_ZERO, *([] if self.plain else ["Sigmoid", "Clip", "Add", "Mul"])]))
        if op in ("PRelu", "Add", "Mul"):
            values = self.b.const(self.rng.uniform(-0.5, 1, (1, c, 1, 1) if op != "PRelu" else (c, 1, 1)))
            return self.b.op(op, *([x, values] if self.rng.random() < 0.7 or op == "PRelu" else [values, x]))
        return self.b.op(op, x, *([self.b.const(-0.5), self.b.const(0.5)] if op == "Clip" else []))

    def convolved(self, x: str, a: int, b: int, **attrs: object) -> str:
        return self.act(self.b.conv(x, a, b, 3, bool(self.rng.random() < 0.7), pads=[1] * 4, **attrs), b)

    def chain(self) -> None:
        new = self.width()
        self.x, self.c = self.convolved(self.x, self.c, new), new

    def residual(self) -> None:
        inside = self.width()
        y = self.convolved(self.convolved(self.x, self.c, inside), inside, self.c)
        self.x = self.b.op("Add", *((self.x, y) if self.rng.random() < 0.5 else (y, self.x)))

    def depthwise(self) -> None:
        self.x = self.convolved(self.x, self.c, self.c, group=self.c)

    def concat(self) -> None:
        new = self.width()
        y = self.convolved(self.x, self.c, new)
        self.x, self.c = self.b.op("Concat", self.x, y, axis=1), self.c + new

    def picked(self) -> None:
        """Two parts of the channels, picked by convolutions, one convolved further."""
        half = self.c // 2
        eye = np.eye(self.c)[:, :, None, None]
        a, b = (self.b.op("Conv", self.x, self.b.const(w)) for w in (eye[:half], eye[half:]))
        self.x = self.b.op("Concat", self.convolved(a, half, half), b, axis=1)

    def shuffled(self) -> None:
        new = self.width()
        up = self.b.op("DepthToSpace", self.convolved(self.x, self.c, 4 * new), blocksize=2, mode=str(self.rng.choice(["DCR", "CRD"])))
        self.x, self.c = self.b.conv(up, new, self.c, strides=[2, 2], pads=[1] * 4), self.c

    def gated(self) -> None:
        mean = self.b.op("GlobalAveragePool", self.x)
        self.x = self.b.op("Mul", self.x, self.b.op("Sigmoid", self.b.conv(mean, self.c, self.c, 1)))


def zeroed(graph: Graph, channels: prune.Channels, gone: set[int], side: str) -> Graph:
    """The graph with the kernels zero that read the channels that go, or those that make them."""
    graph = copy.deepcopy(graph)
    nodes = graph.producers()
    for layer in channels.layers:
        node = nodes[layer.node.output]
        w = graph.constants[node.inputs[1]].copy()
        if side == "made":
            away = np.isin(layer.makes, list(gone))
            w[away] = 0
            for name in node.inputs[2:]:
                graph.constants[name] = np.where(away, np.float32(0), graph.constants[name])
        elif not layer.alone:
            w[:, np.isin(layer.reads, list(gone))] = 0
        node.inputs[1] = graph.add_const("zeroed", w)
    return graph


def calibration_of(graph: Graph, h: int = 24, w: int = 24) -> prune.Calibration:
    """Of random pictures; every convolution counts alike."""
    layers = [layer for layer in prune.Channels(graph).layers if not layer.alone]
    names = sorted({layer.node.inputs[0] for layer in layers})
    moments = {name: prune.Moments() for name in names}
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((1, graph.inputs[0].channels, h, w))
        for name, value in ops.run_graph(graph, {graph.inputs[0].name: x}, names).items():
            moments[name].add(value)
    return prune.Calibration(moments, {layer.node.output: np.ones(len(layer.makes)) for layer in layers})


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.booleans(), st.sampled_from([0.1, 0.3, 0.5]))
def test_what_is_left_computes_the_same_without_what_went(seed: int, plain: bool, share: float) -> None:
    graph = Drawn(seed, plain).graph
    before = copy.deepcopy(graph.constants)
    try:
        channels, gone = prune.removed(graph, share)
    except ModelError as e:
        assume("can be pruned" not in str(e))
        raise
    small = prune.prune(graph, share)
    assert gone
    assert_same(outputs(zeroed(graph, channels, gone, "read"), 10, 10), outputs(small, 10, 10), 1e-9)
    if plain:
        assert_same(outputs(zeroed(graph, channels, gone, "made"), 10, 10), outputs(small, 10, 10), 1e-9)
    left = prune.multiply_adds(small) / prune.multiply_adds(graph)
    assert 1 - share - 0.3 < left <= 1 - share
    assert all((before[k] == v).all() for k, v in graph.constants.items())
    again = prune.prune(graph, share)
    assert again.dump() == small.dump()
    assert all((again.constants[k] == v).all() for k, v in small.constants.items())


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_calibrated_pruning_keeps_more_of_the_result(seed: int) -> None:
    graph = Drawn(seed, True).graph
    calibration = calibration_of(graph)
    channels, gone = prune.removed(graph, 0.3, calibration)
    name = graph.outputs[0]
    want, cut, kept = (outputs(g, 24, 24)[name] for g in (graph, zeroed(graph, channels, gone, "read"), prune.prune(graph, 0.3, calibration)))
    assert np.square(kept - want).mean() < np.square(cut - want).mean()


def test_channels_that_others_make_up_for_go_without_a_trace() -> None:
    b = Builder(1, 3)
    first = b.rng.standard_normal((16, 1, 3, 3)).astype(np.float32)
    bias = b.rng.standard_normal(16).astype(np.float32)
    first[8:], bias[8:] = 2 * first[:8], 2 * bias[:8]  # the Relu keeps the factor
    x = b.op("Relu", b.op("Conv", "x", b.const(first), b.const(bias), pads=[1] * 4))
    graph = b.done(b.conv(x, 16, 4, pads=[1] * 4))
    small = prune.prune(graph, 0.5, calibration_of(graph))
    assert [w.shape for w in small.constants.values() if w.ndim == 4] == [(8, 1, 3, 3), (4, 8, 3, 3)]
    assert_same(outputs(graph, 12, 12), outputs(small, 12, 12), 2e-3)


def test_the_mean_goes_into_the_bias() -> None:
    b = Builder(1, 5)
    x = b.op("Sigmoid", b.conv("x", 1, 16))
    graph = b.done(b.conv(x, 16, 2, 1, bias=False))
    calibration = calibration_of(graph)
    small = prune.prune(graph, 0.5, calibration)
    x = np.concatenate([np.random.default_rng(seed).standard_normal((1, 1, 24, 24)) for seed in range(3)])
    want, got = (ops.run_graph(g, {"x": x})[g.outputs[0]].mean((0, 2, 3)) for g in (graph, small))
    assert np.abs(got - want).max() < 1e-5


def test_layers_keep_multiples_of_four_and_never_vanish() -> None:
    b = Builder(1, 1)
    x = "x"
    for a, c in ((1, 56), (56, 30), (30, 5), (5, 64)):
        x = b.op("Relu", b.conv(x, a, c, pads=[1] * 4))
    graph = b.done(b.conv(x, 64, 3))
    for share in (0.2, 0.5, 0.8, 0.9):
        small = prune.prune(graph, share)
        kept = [len(small.constants[n.inputs[1]]) for n in small.nodes if n.op == "Conv"]
        assert kept[0] % 4 == kept[1] % 2 == kept[3] % 4 == 0
        assert kept[0] >= 8
        assert kept[2] >= 3
        assert kept[4] == 3


def test_multiply_adds_are_those_of_the_program() -> None:
    graph = Drawn(11, False).graph
    for g in (graph, prune.prune(graph, 0.4)):
        program = lower(passes.optimise(copy.deepcopy(g)))
        assert float(prune.multiply_adds(g)) / 4 == pytest.approx(evaluation.multiply_adds_of(program), rel=1e-2)


def pinned(b: Builder, output: str) -> list[int]:
    """How many channels of each convolution can go."""
    return [int((layer.makes != prune.PINNED).sum()) for layer in prune.Channels(b.done(output)).layers]


def test_pins() -> None:
    b = Builder(8)
    assert pinned(b, b.conv(b.op("Add", "x", b.conv("x", 8, 8, pads=[1] * 4)), 8, 8)) == [0, 0], "what is added to the graph's input stays"
    b = Builder(8)
    scale = b.const(np.ones(8))
    x = b.op("InstanceNormalization", b.conv("x", 8, 8), scale, scale)
    assert pinned(b, b.conv(x, 8, 8)) == [0, 0], "an operator that is not known pins what it reads"
    b = Builder(8)
    assert pinned(b, b.conv(b.conv("x", 8, 8, group=2), 8, 8)) == [0, 0], "groups of several channels stay"
    b = Builder(8)
    gate = b.conv("x", 8, 1)
    assert pinned(b, b.conv(b.op("Mul", b.conv("x", 8, 8), gate), 8, 8)) == [0, 8, 0], "one channel that multiplies all of them stays"
    b = Builder(8)
    x = b.conv("x", 8, 16)
    assert pinned(b, b.op("Add", b.op("DepthToSpace", x, blocksize=2), b.conv("x", 8, 4))) == [0, 0], "so does all of the result"


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_shares_out_of_range_are_told(share: float) -> None:
    with pytest.raises(FastsrError, match="between 0 and 1"):
        prune.prune(Drawn(0, True).graph, share)


def test_what_cannot_be_pruned_is_told() -> None:
    b = Builder(1)
    with pytest.raises(ModelError, match="nothing in this network can be pruned"):
        prune.prune(b.done(b.conv("x", 1, 4)), 0.5)
    with pytest.raises(ModelError, match=r"at most \d+ % of this network's multiply-adds can be pruned"):
        prune.prune(Drawn(0, True).graph, 0.999)


MODELS = ("tensorflow/ESPCN_x2.pb", "tensorflow/FSRCNN-small_x2.pb", "tensorflow/FSRCNN_x3.pb", "tensorflow/FALSR-C.pb", "tensorflow/LapSRN_x4.pb",
          "torch/IMDN_x2.pth", "torch/SRGAN_leftthomas_x4.pth", "torch/realesr-animevideov3.safetensors")  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_networks_of_others(shared: Path, name: str) -> None:
    path = shared / "models" / name
    if not path.exists():
        pytest.skip(f"{name} is absent")
    graph = graph_of(load_program(path))
    small = prune.prune(graph, 0.3)
    assert 0.5 < prune.multiply_adds(small) / prune.multiply_adds(graph) <= 0.7
    x = {i.name: np.zeros((1, i.channels, 6, 6), np.float32) for i in graph.inputs}
    assert [a.shape for a in ops.run_graph(graph, x).values()] == [a.shape for a in ops.run_graph(small, x).values()]
    program = lower(passes.optimise(copy.deepcopy(small)))
    assert evaluation.multiply_adds_of(program) == pytest.approx(float(prune.multiply_adds(small) / load_program(path).scale() ** 2), rel=1e-3)
