"""DRRN: one residual unit that runs many times, on the enlarged picture."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Feed, Graph
from .net import Net
from .weights import Weights

NAME = "DRRN"
PAPER = "Tai et al., Image Super-Resolution via Deep Recursive Residual Network, CVPR 2017"
FED = "Y 0..1, enlarged before; 25 or 9 runs of the unit, whichever enlarges better"

NAMES = ("input", "conv1", "conv2", "output")
RUNS = (25, 9)


def detect(w: Weights) -> bool:
    """Exactly four convolutions of these names, without biases."""
    named = {m.name for m in w.modules if m.kind == "conv" and not m.bias} == set(NAMES)
    return named and len(w.modules) == len(NAMES) and w.shape("conv1.weight") == w.shape("conv2.weight")


def build(w: Weights) -> list[Graph]:
    """The network, whatever its width. How many times the unit runs is in no shape."""
    return [_network(w, runs) for runs in RUNS]


def _network(w: Weights, runs: int) -> Graph:
    net = Net(w, w.shape("input.weight")[1])
    x = first = net.act(net.conv(net.act(net.input, "relu"), "input"), "relu")  # its ReLUs work in place, so the first features lack what is negative
    for _ in range(runs):
        y = net.conv(net.act(x, "relu"), "conv1")
        x = net.add(net.conv(net.act(y, "relu"), "conv2"), first)
    out = net.add(net.conv(net.act(x, "relu"), "output"), net.act(net.input, "relu"))
    graph = net.done(out, Feed({1: "y", 3: "rgb"}.get(net.channels[net.input], "raw")), NAME)
    return replace(graph, feed=replace(graph.feed, pre_scale=w.scale_hint() or 2)) if graph.feed.colour != "raw" else graph
