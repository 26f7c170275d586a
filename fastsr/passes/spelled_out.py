"""Recognise Gelu and Mish that are spelled out, in any order of their factors.

    Gelu    x (1 + erf(x / sqrt(2))) / 2, and with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) in place of erf; also times a number, where other passes
            have joined its 1 / 2 and a number behind it
    Mish    x tanh(softplus(x))
"""

from __future__ import annotations

import math

import numpy as np

from ..graph import Graph, Node
from .pattern import Uses, split_vector

TOLERANCE = 1e-5
MAX_DEPTH = 8
MAX_VALUES = 16
ARGUMENTS = {"Erf": (math.sqrt(0.5), 0.0), "Tanh": (math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715)}
"""Function inside a Gelu -> coefficients of x and x^3 in its argument."""


def run(graph: Graph) -> bool:
    """Replace such products; what nothing else reads of their insides goes."""
    if not any(n.op in ("Erf", "Softplus", "Tanh") for n in graph.nodes):
        return False
    changed = False
    while _one(graph, Uses(graph).made):
        graph.prune()
        changed = True
    return changed


def _one(graph: Graph, made: dict[str, Node]) -> bool:
    for scaled in (False, True):
        for at, node in reversed(list(enumerate(graph.nodes))):
            found = _match(graph, made, node, scaled) if node.op == "Mul" and len(node.inputs) == 2 else None
            if found is None:
                continue
            op, attrs, inputs, factor = found
            if not scaled:
                node.op, node.attrs, node.inputs = op, attrs, inputs
                return True
            bare = graph.fresh(f"{node.output}_{op.lower()}")
            node.inputs = [bare, graph.add_const(f"{bare}_factor", np.array(factor, np.float32))]
            graph.nodes.insert(at, Node(op, inputs, [bare], attrs))
            return True
    return False


def _match(graph: Graph, made: dict[str, Node], node: Node, scaled: bool) -> tuple[str, dict[str, str], list[str], float] | None:
    """(operator, attributes, inputs) that the product is, times a number: 1, or where `scaled` another one."""
    for gate in _reach(graph, made, node.inputs, ("Mul",)):
        maker = made.get(gate)
        softplus = made.get(maker.inputs[0]) if maker is not None and maker.op == "Tanh" else None
        if softplus is not None and softplus.op == "Softplus":
            scale, leaves = _factors(graph, made, node.output, (softplus.inputs[0], gate), 0)
            if sorted(leaves) == sorted((softplus.inputs[0], gate)) and _near(scale, 1):
                return None if scaled else ("Mish", {}, [softplus.inputs[0]], 1.0)
        a, b, core = _affine(graph, made, gate)
        function = made.get(core)
        if function is None or function.op not in ARGUMENTS or not _near(b, a):
            continue
        first, third = ARGUMENTS[function.op]
        for x in _reach(graph, made, function.inputs[:1], ("Mul", "Add")):
            scale, leaves = _factors(graph, made, node.output, (x, gate), 0)
            factor = 2 * scale * a
            wanted = 1e-30 < abs(factor) < 1e30 if scaled else _near(factor, 1)
            p = _polynomial(graph, made, function.inputs[0], x, 0) if sorted(leaves) == sorted((x, gate)) and wanted else None
            if p is not None and np.allclose(p, [0, first, 0, third], rtol=TOLERANCE, atol=1e-7):
                return "Gelu", {"approximate": "none" if function.op == "Erf" else "tanh"}, [x], factor
    return None


def _reach(graph: Graph, made: dict[str, Node], names: list[str], through: tuple[str, ...]) -> list[str]:
    """Values from which the named ones are made by these operators, nearest first, and the named ones themselves."""
    found = [n for n in dict.fromkeys(names) if n not in graph.constants]
    for name in found:
        node = made.get(name)
        if node is not None and node.op in through and len(found) < MAX_VALUES:
            found += [i for i in node.inputs if i not in graph.constants and i not in found]
    return found


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * abs(b)


def _number(graph: Graph, node: Node) -> tuple[str, float] | None:
    """(other operand, number) of an operator with one constant number."""
    found = split_vector(graph, node)
    return (found[0], float(found[1])) if found is not None and found[1].ndim == 0 else None


def _factors(graph: Graph, made: dict[str, Node], name: str, whole: tuple[str, str], depth: int) -> tuple[float, list[str]]:
    """A value as a number times other values; those in `whole` are not taken apart."""
    node = made.get(name)
    if name in whole or node is None or node.op != "Mul" or len(node.inputs) != 2 or depth > MAX_DEPTH:
        return 1.0, [name]
    plain = _number(graph, node)
    if plain is not None:
        scale, leaves = _factors(graph, made, plain[0], whole, depth + 1)
        return scale * plain[1], leaves
    (s, left), (t, right) = (_factors(graph, made, i, whole, depth + 1) for i in node.inputs)
    return s * t, left + right


def _affine(graph: Graph, made: dict[str, Node], name: str) -> tuple[float, float, str]:
    """(a, b, v) with name = a v + b."""
    a, b = 1.0, 0.0
    for _ in range(MAX_DEPTH):
        node = made.get(name)
        plain = _number(graph, node) if node is not None and node.op in ("Add", "Mul") else None
        if node is None or plain is None:
            break
        name, c = plain
        a, b = (a, b + a * c) if node.op == "Add" else (a * c, b)
    return a, b, name


def _polynomial(graph: Graph, made: dict[str, Node], name: str, x: str, depth: int) -> np.ndarray | None:
    """Coefficients of 1, x, x^2 and x^3 of a value that is a polynomial of x; None when it is not one."""
    if name == x:
        return np.array([0.0, 1.0, 0.0, 0.0])
    node = made.get(name)
    if node is None or node.op not in ("Add", "Mul") or len(node.inputs) != 2 or depth > MAX_DEPTH:
        return None
    plain = _number(graph, node)
    if plain is not None:
        p = _polynomial(graph, made, plain[0], x, depth + 1)
        return None if p is None else p * plain[1] if node.op == "Mul" else p + [plain[1], 0, 0, 0]
    p, q = (_polynomial(graph, made, i, x, depth + 1) for i in node.inputs)
    if p is None or q is None:
        return None
    if node.op == "Add":
        return p + q
    product = np.convolve(p, q)
    return None if product[4:].any() else product[:4]
