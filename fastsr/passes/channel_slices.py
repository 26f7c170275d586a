"""Split and Slice of channels as convolutions, because a Program has no step that copies some of the channels.

Split - equal convolutions - Concat in the same order is one grouped convolution. Any other part of the channels is a 1x1 convolution whose weights
are 1 for the wanted channel and 0 elsewhere.
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Node
from .pattern import Channels, Uses, conv_geometry, split_sizes

SAME = ("strides", "dilations", "pads", "auto_pad", "group")
"""Attributes that must agree for convolutions to be groups of one."""

MAX_WEIGHTS = 1 << 26
"""Of all selections of one node."""


def run(graph: Graph) -> bool:
    """Rewrite every Split and Slice along the channels whose bounds are constant."""
    uses = Uses(graph)
    channels = Channels(graph)
    grouped = False
    for node in list(graph.nodes):
        if node.op == "Split":
            grouped |= _group(graph, uses, node, split_sizes(graph, node, channels.get(node.inputs[0])))
    if grouped:
        graph.prune()
    nodes: list[Node] = []
    changed = grouped
    for node in graph.nodes:
        selected = _selected(graph, node, channels.get(node.inputs[0])) if node.op in ("Split", "Slice") else None
        if selected is None:
            nodes.append(node)
            continue
        cin = channels.get(node.inputs[0]) or 0
        if cin * sum(map(len, selected)) > MAX_WEIGHTS:
            raise ModelError(
                f"node '{node.name}' ({node.op}) takes parts of {cin} channels, which asks for absurd memory: the model file is damaged, or "
                "no network that makes pictures"
            )
        for out, wanted in zip(node.outputs, selected, strict=True):
            weight = np.zeros((len(wanted), cin, 1, 1), np.float32)
            weight[np.arange(len(wanted)), wanted] = 1
            nodes.append(Node("Conv", [node.inputs[0], graph.add_const(out + "_selection", weight)], [out], {}, node.name))
        changed = True
    graph.nodes = nodes
    return changed


def _selected(graph: Graph, node: Node, channels: int | None) -> list[list[int]] | None:
    """For each output of a Split or Slice the channels it takes, or None."""
    if channels is None:
        return None
    if node.op == "Split":
        sizes = split_sizes(graph, node, channels)
        if sizes is None:
            return None
        ends = np.cumsum(sizes)
        return [list(range(int(e) - s, int(e))) for s, e in zip(sizes, ends, strict=True)]
    numbers = [graph.const(i) if i else None for i in node.inputs[1:]]
    if len(numbers) < 3 or any(n is None or n.size != 1 for n in numbers if n is not None) or numbers[0] is None or numbers[1] is None:
        return None
    axes, step = numbers[2], numbers[3].item() if len(numbers) > 3 and numbers[3] is not None else 1
    if axes is None or axes.item() not in (1, -3) or step == 0:
        return None
    start, end = int(numbers[0].item()), int(numbers[1].item())
    wanted = list(range(channels))[slice(start, None if step < 0 and end < -channels else end, int(step))]
    return [wanted] if wanted else None


def _group(graph: Graph, uses: Uses, split: Node, sizes: list[int] | None) -> bool:
    """Make the Concat behind the Split a grouped convolution of the Split's input, when it is one."""
    if sizes is None or len(set(sizes)) != 1 or not all(uses.private(o) for o in split.outputs):
        return False
    convs = [uses.readers[o][0] for o in split.outputs]
    if any(c.op != "Conv" or c.inputs[0] != o or not uses.private(c.output) for c, o in zip(convs, split.outputs, strict=True)):
        return False
    concat = uses.readers[convs[0].output][0]
    if concat.op != "Concat" or concat.attrs.get("axis", 1) not in (1, -3) or concat.inputs != [c.output for c in convs]:
        return False
    weights = [graph.const(c.inputs[1]) for c in convs]
    biases = [graph.const(c.inputs[2]) if len(c.inputs) > 2 and c.inputs[2] else None for c in convs]
    if any(w is None or w.shape != weights[0].shape for w in weights if weights[0] is not None) or weights[0] is None:
        return False
    kinds = {(conv_geometry(c), str(c.attrs.get("auto_pad", "NOTSET"))) for c in convs}
    if len(kinds) != 1 or conv_geometry(convs[0])[3] != 1 or len({b is None for b in biases}) != 1:
        return False
    inputs = [split.inputs[0], graph.add_const(concat.output + "_weight", np.concatenate([w for w in weights if w is not None]))]
    if biases[0] is not None:
        inputs.append(graph.add_const(concat.output + "_bias", np.concatenate([b for b in biases if b is not None])))
    attrs = {k: v for k, v in convs[0].attrs.items() if k in SAME} | {"group": len(convs)}
    concat.op, concat.inputs, concat.attrs = "Conv", inputs, attrs
    return True
