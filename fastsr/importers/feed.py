"""What the first and last operators of a network say about the range of its pixels."""

from __future__ import annotations

import numpy as np

from ..graph import Graph


def _number(graph: Graph, name: str) -> float | None:
    constant = graph.const(name)
    return None if constant is None or constant.size != 1 else float(constant.reshape(()))


def divides(graph: Graph, name: str) -> bool:
    """True when every reader of the input divides it by 255."""
    readers = graph.consumers().get(name, [])
    return bool(readers) and all(
        (n.op == "Div" and n.inputs[0] == name and _number(graph, n.inputs[1]) == 255.0)
        or (n.op == "Mul" and any(np.isclose(_number(graph, i) or 0.0, 1 / 255, rtol=1e-6) for i in n.inputs if i != name))
        for n in readers
    )


def multiplied(graph: Graph, name: str) -> bool:
    """True when a value is something times 255, perhaps clipped."""
    makers = graph.producers()
    for _ in range(8):
        node = makers.get(name)
        if node is None:
            return False
        if node.op == "Mul" and any(_number(graph, i) == 255.0 for i in node.inputs):
            return True
        if node.op not in ("Identity", "Clip", "Max", "Min"):
            return False
        name = next((i for i in node.inputs if i not in graph.constants), "")
    return False
