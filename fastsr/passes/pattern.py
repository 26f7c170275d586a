"""What every rewrite needs to look at a graph: who makes and reads a value, constants as numbers per channel, channel counts.

Sits below the rewrites of this package and above `fastsr.graph`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..graph import Graph, Node

Array = np.ndarray

ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish"})
UNARY = ACTIVATIONS | {"Abs", "Neg", "Exp", "Sqrt", "Reciprocal", "Erf", "Softplus", "Elu", "Selu", "Celu", "Softsign"}
"""Element-wise operators of one picture; their other inputs are parameters."""

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min"})
"""Element-wise operators of two operands."""


POOLS = ("GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "GroupNormalization", "MaxPool", "AveragePool")
"""Operators that look at several pixels of one channel, or of a group of channels, and keep the number of channels."""

WEIGHT = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolution -> which input its weights are."""


class Uses:
    """Producers and readers of every value, each as they are when first asked for: a rewrite asks before it changes anything."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.outputs = set(graph.outputs)

    @functools.cached_property
    def made(self) -> dict[str, Node]:
        """Value -> the node that computes it."""
        return self._graph.producers()

    @functools.cached_property
    def readers(self) -> dict[str, list[Node]]:
        """Value -> the nodes that read it, one entry per use."""
        return self._graph.consumers()

    def private(self, name: str) -> bool:
        """True when exactly one node input reads the value and it is not a graph output."""
        return name not in self.outputs and len(self.readers.get(name, ())) == 1

    def maker(self, name: str, *ops: str) -> Node | None:
        """The node of one of the operators `ops` that computes `name` for a single reader; None otherwise."""
        node = self.made.get(name)
        return node if node is not None and node.op in ops and self.private(name) else None


def pair(value: Any, default: int = 1) -> tuple[int, int]:
    """A two-element attribute such as `strides` as a tuple; `default` twice when it is absent."""
    return (default, default) if value is None else (int(value[0]), int(value[1]))


def conv_geometry(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], int]:
    """(strides, dilations, pads, group) of a Conv or ConvTranspose; pads are top, left, bottom, right."""
    a = node.attrs
    pads = a.get("pads") or (0, 0, 0, 0)
    return pair(a.get("strides")), pair(a.get("dilations")), (int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])), int(a.get("group", 1))


def per_channel(c: Array) -> Array | None:
    """A constant that broadcasts against (N, C, H, W), as float64 of shape () or (C,); None when it varies with position."""
    if c.size == 1 and c.ndim <= 4:
        return c.reshape(()).astype(np.float64)
    if c.ndim in (3, 4) and c.shape[-2:] == (1, 1) and (c.ndim == 3 or c.shape[0] == 1):
        return c.reshape(-1).astype(np.float64)
    return None


def uniform(v: Array) -> float | None:
    """The number that all entries of `v` equal, or None."""
    flat = np.reshape(v, -1)
    return float(flat[0]) if flat.size and (flat == flat[0]).all() else None


def operand_array(v: Array) -> Array:
    """`per_channel`'s result as a float32 constant: shape () or (1, C, 1, 1)."""
    v = np.asarray(v, np.float32)
    return v if v.ndim == 0 else v.reshape(1, -1, 1, 1)


def split_operands(graph: Graph, node: Node) -> tuple[str, Array, bool] | None:
    """For a two-operand node with one constant: (name of the other operand, the constant, whether the constant is the left one)."""
    if node.op not in BINARY or len(node.inputs) != 2:
        return None
    x, y = node.inputs
    left, right = graph.constants.get(x), graph.constants.get(y)
    if left is None and right is not None:
        return x, right, False
    if right is None and left is not None:
        return y, left, True
    return None


def split_vector(graph: Graph, node: Node) -> tuple[str, Array, bool] | None:
    """`split_operands` with the constant as `per_channel` gives it; None when it varies with position."""
    found = split_operands(graph, node)
    if found is None:
        return None
    v = per_channel(found[1])
    return None if v is None else (found[0], v, found[2])


def pad_amounts(graph: Graph, node: Node) -> tuple[tuple[int, int, int, int], str, float] | None:
    """(top, left, bottom, right), mode and fill value of a Pad of H and W; None when it also pads N or C, or is not constant."""
    pads = graph.const(node.inputs[1]) if len(node.inputs) > 1 else None
    if pads is None or pads.size != 8 or (len(node.inputs) > 3 and node.inputs[3]):
        return None
    p = [int(v) for v in pads.reshape(-1)]
    fill = 0.0
    if len(node.inputs) > 2 and node.inputs[2]:
        value = graph.const(node.inputs[2])
        if value is None:
            return None
        fill = float(value.reshape(-1)[0])
    if p[0] or p[1] or p[4] or p[5]:
        return None
    return (p[2], p[3], p[6], p[7]), str(node.attrs.get("mode", "constant")), fill


def split_sizes(graph: Graph, node: Node, channels: int | None) -> list[int] | None:
    """Channels of each output of a Split along the channel axis; None for another axis or when they are not known."""
    if channels is None or node.attrs.get("axis", 0) not in (1, -3):
        return None
    if len(node.inputs) > 1 and node.inputs[1]:
        given = graph.const(node.inputs[1])
        sizes = None if given is None else [int(v) for v in given.reshape(-1)]
    else:
        each, n = -(-channels // len(node.outputs)), len(node.outputs)
        sizes = [each] * (n - 1) + [channels - each * (n - 1)]
    return sizes if sizes is not None and len(sizes) == len(node.outputs) and sum(sizes) == channels and min(sizes) > 0 else None


class Channels:
    """Channels of every value, inferred from the graph as it is when the first one is asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[str, int] | None = None

    def infer(self) -> dict[str, int]:
        """Value -> channels; inferred now if it has not been done yet."""
        if self._known is None:
            self._known = infer_channels(self._graph)
        return self._known

    def get(self, name: str) -> int | None:
        """The value's channels, None when they are not known."""
        return self.infer().get(name)

    def fits(self, constant: Array, name: str) -> bool:
        """Whether combining the value with a constant of `per_channel` keeps its number of channels."""
        return constant.ndim == 0 or constant.size == self.get(name)


def infer_channels(graph: Graph) -> dict[str, int]:
    """Channels of every value whose operators are known; values behind an unknown operator are missing."""
    c = {i.name: i.channels for i in graph.inputs}
    for node in graph.nodes:
        if node.op == "Split":
            c.update(zip(node.outputs, split_sizes(graph, node, c.get(node.inputs[0])) or (), strict=False))
            continue
        n = _channels(graph, node, c)
        if n is not None:
            c[node.output] = n
    return c


def _channels(graph: Graph, node: Node, c: dict[str, int]) -> int | None:
    if node.op in WEIGHT:
        w = graph.const(node.inputs[WEIGHT[node.op]])
        if w is None:
            return None
        return int(w.shape[1]) * int(node.attrs.get("group", 1)) if node.op == "ConvTranspose" else int(w.shape[0])
    if node.op in BINARY or node.op == "Sum":
        known = [_const_channels(graph.constants[i]) if i in graph.constants else c.get(i) for i in node.inputs]
        return None if None in known else max(k for k in known if k is not None)
    first = c.get(node.inputs[0]) if node.inputs else None
    if first is None or len(node.outputs) != 1:
        return None
    if node.op in UNARY or node.op in ("Identity", "BatchNormalization", "Resize", "QuantizeLinear", "DequantizeLinear", *POOLS):
        return first
    if node.op == "Pad":
        return first if pad_amounts(graph, node) is not None else None
    if node.op == "Concat":
        parts = [c.get(i) for i in node.inputs]
        return None if None in parts or node.attrs.get("axis", 1) not in (1, -3) else sum(p for p in parts if p is not None)
    if node.op == "DepthToSpace":
        return first // int(node.attrs["blocksize"]) ** 2
    if node.op == "SpaceToDepth":
        return first * int(node.attrs["blocksize"]) ** 2
    return None


def _const_channels(a: Array) -> int | None:
    one = a.size == 1 and a.ndim <= 4
    spread = a.ndim in (3, 4) and a.shape[-2:] == (1, 1) and (a.ndim == 3 or a.shape[0] == 1)
    return max(a.size, 1) if one or spread else None
