"""How a picture is fed to a Keras model: what its first and last operators suggest."""

from __future__ import annotations

from ..graph import Feed, Graph
from .feed import divided, left_open, multiplied


def guess_feed(graph: Graph, channels: tuple[int, int]) -> Feed:
    """One channel in and out: Y. Three: RGB. Else "raw".

    Values are 0..1; 0..255 where the network begins by dividing by 255 or 127.5, and in the result where it ends by multiplying by these; -1..1 in
    the result, and so in the input unless that is 0..255, where it ends in tanh. channels: of input and output.
    """
    if len(graph.inputs) != 1 or channels[0] not in (1, 3) or channels[0] != channels[1]:
        return Feed()
    source, sink = graph.inputs[0].name, graph.outputs[0]
    last = graph.producers().get(sink)
    whole, brought, tanh = divided(graph, source), multiplied(graph, sink), last is not None and last.op == "Tanh"
    scale, mean = (255.0, 0.0) if whole else (2.0, 1.0) if tanh else (1.0, 0.0)
    out, out_mean = (255.0, 0.0) if brought else (2.0, 1.0) if tanh else (1.0, 0.0)
    left_open(graph, not whole, not brought)
    means = tuple((m,) * channels[0] if m else () for m in (mean, out_mean))
    return Feed("y" if channels[0] == 1 else "rgb", scale, means[0], out, means[1])
