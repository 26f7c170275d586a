"""What the first and last operators of a network say about the range of its pixels."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node

WHOLE = (255.0, 127.5)
"""Numbers that pixels of 0..255 are divided by before a network, and its result is multiplied by."""
MEANS = (90.0, 140.0)
"""Between these lies a number that is taken for the mean of pixels of 0..255."""


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
        if n is not None and node.op in ("Add", "Sub") and MEANS[0] < abs(n) < MEANS[1]:
            continue
        if n is None or not any(
            (node.op == "Div" and node.inputs[0] == name and np.isclose(n, by, rtol=1e-5)) or (node.op == "Mul" and np.isclose(n, 1 / by, rtol=1e-5))
            for by in WHOLE
        ):
            return False
    return bool(readers)


def multiplied(graph: Graph, name: str) -> bool:
    """Whether a value is something times 255 or 127.5, perhaps with a number added, or cut to a range; or is cut off at 255."""
    makers = graph.producers()
    for _ in range(8):
        node = makers.get(name)
        if node is None:
            return False
        if node.op == "Mul" and number(graph, node) in WHOLE:
            return True
        if node.op in ("Clip", "Min") and any(c is not None and c.size == 1 and float(c.reshape(())) == 255 for c in map(graph.const, node.inputs)):
            return True
        if node.op not in ("Identity", "Clip", "Max", "Min", "Relu") and not (node.op in ("Add", "Sub") and number(graph, node) is not None):
            return False
        name = next((i for i in node.inputs if i not in graph.constants), "")
    return False


def left_open(graph: Graph, begins: bool, ends: bool) -> None:
    """Note in the graph that the range of pixels of its input or its result is only guessed: `tried.settle` tries others then."""
    graph.meta["open"] = (begins, ends)
