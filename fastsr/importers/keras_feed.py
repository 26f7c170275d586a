"""How a picture is fed to a Keras model: what its first and last operators and its name suggest."""

from __future__ import annotations

import re

import numpy as np

from ..graph import Feed, Graph, Node

PLAIN = re.compile(r"srcnn|vdsr|\bsr\b|super|upscal|edsr|waifu", re.IGNORECASE)
CLEANS = re.compile(r"denois|dncnn|deblur|artifact|deblock|autoencod|sharp|derain|dehaze|enhance", re.IGNORECASE)
TIMES = re.compile(r"(?:^|[^a-z0-9])(?:x([2348])|([2348])x)(?![0-9a-z])", re.IGNORECASE)


def number(graph: Graph, node: Node) -> float | None:
    """The constant of a node of two operands, or the mean of it where each channel has its own and they are added."""
    found = [c for i in node.inputs if (c := graph.const(i)) is not None]
    if len(found) != 1 or len(node.inputs) != 2 or not (found[0].size == 1 or (found[0].size == 3 and node.op in ("Add", "Sub"))):
        return None
    return float(found[0].mean())


def divided(graph: Graph, name: str) -> bool:
    """Whether every reader of the input divides it by 255 or 127.5, or subtracts the mean of pixels of 0..255 from it."""
    readers = graph.consumers().get(name, [])
    for node in readers:
        n = number(graph, node)
        if n is not None and node.op in ("Add", "Sub") and 90 < abs(n) < 140:
            continue
        if n is None or not any(
            (node.op == "Div" and np.isclose(n, by, rtol=1e-5)) or (node.op == "Mul" and np.isclose(n, 1 / by, rtol=1e-5)) for by in (255.0, 127.5)
        ):
            return False
    return bool(readers)


def multiplied(graph: Graph, name: str) -> bool:
    """Whether a value is something times 255 or 127.5, perhaps with a number added, or cut to a range."""
    makers = graph.producers()
    for _ in range(8):
        node = makers.get(name)
        if node is None:
            return False
        if node.op == "Mul" and number(graph, node) in (255.0, 127.5):
            return True
        if node.op not in ("Identity", "Clip", "Max", "Min", "Relu") and not (node.op in ("Add", "Sub") and number(graph, node) is not None):
            return False
        name = next((i for i in node.inputs if i not in graph.constants), "")
    return False


def enlargement(names: str, graph: Graph) -> int:
    """How much a picture is enlarged before a network that keeps its size: what the names say ("x3"), else 2 for those known to want it, else 1.

    names: of file and model. Without a telling name, a network of at most five convolutions whose first kernel is 9x9 is taken for an SRCNN.
    """
    found = TIMES.search(names)
    if found:
        return int(found[1] or found[2])
    if CLEANS.search(names):
        return 1
    kernels = [w.shape[-1] for n in graph.nodes if n.op == "Conv" and (w := graph.const(n.inputs[1])) is not None]
    return 2 if PLAIN.search(names) or (0 < len(kernels) <= 5 and kernels[0] == 9) else 1


def guess_feed(graph: Graph, channels: tuple[int, int], same_size: bool, names: str) -> Feed:
    """One channel in and out: Y. Three: RGB. Else "raw".

    Values are 0..1; 0..255 where the network begins by dividing by 255 or 127.5, and in the result where it ends by multiplying by these; -1..1 in
    the result, and so in the input unless that is 0..255, where it ends in tanh. channels: of input and output. same_size: it does not enlarge.
    """
    if len(graph.inputs) != 1 or channels[0] not in (1, 3) or channels[0] != channels[1]:
        return Feed()
    source, sink = graph.inputs[0].name, graph.outputs[0]
    last = graph.producers().get(sink)
    scale, mean = (255.0, 0.0) if divided(graph, source) else (1.0, 0.0)
    out, out_mean = (255.0, 0.0) if multiplied(graph, sink) else (1.0, 0.0)
    if last is not None and last.op == "Tanh":
        out, out_mean = 2.0, 1.0
        scale, mean = (scale, mean) if scale == 255.0 else (2.0, 1.0)
    pre_scale = enlargement(names, graph) if same_size else 1
    means = tuple((m,) * channels[0] if m else () for m in (mean, out_mean))
    return Feed("y" if channels[0] == 1 else "rgb", scale, means[0], out, means[1], pre_scale)
