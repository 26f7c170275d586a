"""InstanceNormalization and GroupNormalization as means over the picture and arithmetic.

    d = x - mean(x)        y = d * (scale / sqrt(mean(d d) + epsilon)) + bias

For groups of channels a 1x1 convolution averages the means of each group: all channels have the same number of pixels.
"""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from .pattern import Channels, operand_array


def run(graph: Graph) -> bool:
    """Rewrite all with constant parameters that fit the channels."""
    channels = Channels(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        new = _rewrite(graph, node, channels) if node.op in ("InstanceNormalization", "GroupNormalization") else None
        nodes.extend(new or [node])
    changed = len(nodes) != len(graph.nodes)
    graph.nodes = nodes
    return changed


def _rewrite(graph: Graph, node: Node, channels: Channels) -> list[Node] | None:
    x, c = node.inputs[0], channels.get(node.inputs[0])
    scale, bias = (graph.const(i) for i in node.inputs[1:3])
    if c is None or scale is None or bias is None or scale.size != c or bias.size != c:
        return None
    group = c // int(node.attrs.get("num_groups", c))
    nodes: list[Node] = []
    stem = graph.fresh(node.output + "_norm")

    def add(op: str, *inputs: str) -> str:
        nodes.append(Node(op, list(inputs), [f"{stem}.{len(nodes)}"], {}, node.name))
        return nodes[-1].output

    def mean(value: str) -> str:
        found = add("GlobalAveragePool", value)
        if group == 1:
            return found
        weight = np.kron(np.eye(c // group), np.full((group, group), 1 / group)).astype(np.float32)
        return add("Conv", found, graph.add_const(f"{stem}_groups", weight[:, :, None, None]))

    centred = add("Sub", x, mean(x))
    variance = mean(add("Mul", centred, centred))
    root = add("Sqrt", add("Add", variance, graph.add_const(f"{stem}_epsilon", np.float32(node.attrs.get("epsilon", 1e-5)).reshape(()))))
    factor = add("Div", graph.add_const(f"{stem}_scale", operand_array(scale.reshape(-1))), root)
    add("Add", add("Mul", centred, factor), graph.add_const(f"{stem}_bias", operand_array(bias.reshape(-1))))
    nodes[-1].outputs = [node.output]
    return nodes
