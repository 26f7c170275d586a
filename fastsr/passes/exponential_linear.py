"""Elu, Selu, Celu and Softsign of operators that every backend has.

With t = tanh(min(x, 0) / 2) is exp(min(x, 0)) - 1 = 2 t / (1 - t), exact to the last digits near 0 too. Where the factor of the exponential is in
0..1, it never lies below x, so the larger of the two is the result; elsewhere it is added to max(x, 0).
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Node

SELU = 1.67326319217681884765625, 1.05070102214813232421875
"""ONNX's alpha and gamma."""


def run(graph: Graph) -> bool:
    """Replace these operators."""
    found = [n for n in graph.nodes if n.op in ("Elu", "Selu", "Celu", "Softsign")]
    if not found:
        return False
    for node in found:
        made: list[Node] = []
        _Writer(graph, node, made).write()
        at = next(k for k, n in enumerate(graph.nodes) if n is node)
        graph.nodes[at : at + 1] = made
    return True


class _Writer:
    """Writes what one node means into `made`."""

    def __init__(self, graph: Graph, node: Node, made: list[Node]) -> None:
        self.graph, self.node, self.made = graph, node, made
        self.stem = graph.fresh(f"{node.output}_{node.op.lower()}")

    def write(self) -> None:
        x, attrs = self.node.inputs[0], self.node.attrs
        if self.node.op == "Softsign":
            self.op("Div", x, self.op("Add", self.op("Abs", x), self.number(1)), last=True)
        elif self.node.op == "Celu":
            alpha = float(attrs.get("alpha", 1.0))
            if alpha < 1e-30:
                raise ModelError(
                    f"node '{self.node.name}' (Celu) cannot work: its alpha is {alpha}. The model file is damaged or was converted wrongly"
                )
            self.linear(x, 1 / alpha, alpha, 1)
        else:
            alpha, gamma = (float(attrs.get(k, v)) for k, v in zip(("alpha", "gamma"), SELU, strict=True))
            self.linear(x, 1, *((alpha, gamma) if self.node.op == "Selu" else (float(attrs.get("alpha", 1.0)), 1)))

    def linear(self, x: str, inner: float, alpha: float, gamma: float) -> None:
        """gamma max(x, 0) + gamma alpha (exp(inner min(x, 0)) - 1)."""
        low = self.op("Mul", self.op("Min", x, self.number(0)), self.number(inner / 2))
        t = self.op("Tanh", low)
        fraction = self.op("Div", t, self.op("Sub", self.number(1), t))
        bent = self.op("Mul", fraction, self.number(2 * alpha))
        plain = gamma == 1
        if inner == 1 and 0 <= alpha <= 1:
            y = self.op("Max", bent, x, last=plain)
        else:
            y = self.op("Add", bent, self.op("Relu", x), last=plain)
        if not plain:
            self.op("Mul", y, self.number(gamma), last=True)

    def op(self, op: str, *inputs: str, last: bool = False) -> str:
        output = self.node.output if last else f"{self.stem}.{len(self.made)}"
        self.made.append(Node(op, list(inputs), [output], {}, self.node.name))
        return output

    def number(self, value: float) -> str:
        return self.graph.add_const(f"{self.stem}_number", np.float32(value).reshape(()))
