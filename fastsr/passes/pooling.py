"""MaxPool and AveragePool as what a Program has.

The maximum of a window is that of two shifted windows half as long, first along rows, then along columns, until the window is one pixel; then every
stride-th pixel is taken. The border is the lowest float. A mean is a convolution of each channel by equal numbers; where windows at borders count
fewer pixels, it is the sum over the count, which the same convolution makes of a picture of ones.
"""

from __future__ import annotations

import math

import numpy as np

from ..graph import Graph, Node
from .pattern import Channels, pair

LOWEST = float(np.finfo(np.float32).min)
MOST = 1024
"""Pixels of a window, at most."""


def run(graph: Graph) -> bool:
    """Rewrite all whose channels are known and whose padding does not depend on the picture's size in ways that pads cannot say."""
    channels = Channels(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        c = channels.get(node.inputs[0]) if node.op in ("MaxPool", "AveragePool") else None
        kernel = pair(node.attrs.get("kernel_shape"))
        new = None if c is None or math.prod(kernel) > MOST else _Rewrite(graph, node, c).run()
        nodes.extend(new or [node])
    changed = len(nodes) != len(graph.nodes) or any(a is not b for a, b in zip(nodes, graph.nodes, strict=True))
    graph.nodes = nodes
    return changed


class _Rewrite:
    def __init__(self, graph: Graph, node: Node, channels: int) -> None:
        self.graph, self.node, self.c = graph, node, channels
        a = node.attrs
        self.kernel, self.strides, self.dilations = pair(a.get("kernel_shape")), pair(a.get("strides")), pair(a.get("dilations"))
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        self.pads = [int(p) for p in a.get("pads") or (0, 0, 0, 0)]
        self.beyond = [s - 1 if a.get("ceil_mode") else 0 for s in self.strides]
        self.mode = a.get("auto_pad", "NOTSET")
        self.nodes: list[Node] = []
        self.stem = graph.fresh(node.output + "_pool")

    def add(self, op: str, inputs: list[str], last: bool = False, **attrs: object) -> str:
        name = self.node.output if last else f"{self.stem}.{len(self.nodes)}"
        self.nodes.append(Node(op, inputs, [name], dict(attrs), self.node.name))
        return name

    def const(self, stem: str, data: object, dtype: type = np.float32) -> str:
        return self.graph.add_const(f"{self.stem}_{stem}", np.asarray(data, dtype))

    def pad(self, x: str, top: int, left: int, bottom: int, right: int, value: float = 0.0, mode: str = "constant") -> str:
        if not (top or left or bottom or right):
            return x
        amounts = self.const("pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
        return self.add("Pad", [x, amounts, *([self.const("value", value)] if value else [])], mode=mode)

    def run(self) -> list[Node] | None:
        if self.mode == "VALID":
            self.pads, self.mode = [0] * 4, "NOTSET"
        elif self.mode != "NOTSET" and self.strides == (1, 1):
            low = [(r - 1) // 2 if self.mode == "SAME_UPPER" else r // 2 for r in self.reach]
            self.pads, self.mode = [*low, *(r - 1 - n for r, n in zip(self.reach, low, strict=True))], "NOTSET"
        if self.node.op == "AveragePool":
            self.mean()
        elif not self.maximum():
            return None
        return self.nodes

    def maximum(self) -> bool:
        x, p = self.node.inputs[0], self.pads
        if self.mode == "NOTSET":
            x = self.pad(x, p[0], p[1], p[2] + self.beyond[0], p[3] + self.beyond[1], LOWEST)
        elif self.mode == "SAME_UPPER" and max(self.reach) <= 2:  # what is beyond the end repeats it, and changes no maximum
            x = self.pad(x, 0, 0, self.reach[0] - 1, self.reach[1] - 1, mode="edge")
        else:
            return False
        for axis in (0, 1):
            width = 1
            while width < self.kernel[axis]:
                step = min(width, self.kernel[axis] - width)
                shift = (step * self.dilations[axis], 0) if axis == 0 else (0, step * self.dilations[axis])
                x = self.add("Max", [self.pad(x, 0, 0, -shift[0], -shift[1]), self.pad(x, -shift[0], -shift[1], 0, 0)])
                width += step
            stride = self.strides[axis]
            if stride > 1:
                every = self.const("every", np.ones((self.c, 1, 1, 1)))
                x = self.add("Conv", [x, every], strides=[stride, 1] if axis == 0 else [1, stride], group=self.c, kernel_shape=[1, 1])
        self.add("Identity", [x], last=True)
        return True

    def convolution(self, x: str, channels: int, number: float, pads: list[int], last: bool = False) -> str:
        weight = self.const("mean", np.full((channels, 1, *self.kernel), number))
        geometry: dict[str, object] = {"pads": pads} if self.mode == "NOTSET" else {"auto_pad": self.mode}
        return self.add("Conv", [x, weight], last, strides=list(self.strides), dilations=list(self.dilations), group=channels,
                        kernel_shape=list(self.kernel), **geometry)  # fmt: skip

    def mean(self) -> None:
        x, p = self.node.inputs[0], self.pads
        beyond = [0, 0, *self.beyond]
        total = [a + b for a, b in zip(p, beyond, strict=True)]
        include = bool(self.node.attrs.get("count_include_pad"))
        if (include if self.mode != "NOTSET" else not any(beyond) and (include or not any(p))):
            self.convolution(x, self.c, 1 / math.prod(self.kernel), total, last=True)
            return
        one = self.const("one", 1.0)
        first = self.add("Slice", [x, *(self.const(s, [v], np.int64) for s, v in (("starts", 0), ("ends", 1), ("axes", 1)))]) if self.c > 1 else x
        ones = self.add("Clip", [first, one, one])
        if include:
            count = self.convolution(self.pad(ones, p[0], p[1], p[2], p[3], 1.0), 1, 1.0, beyond)
        else:
            count = self.convolution(ones, 1, 1.0, total)
        self.add("Div", [self.convolution(x, self.c, 1.0, total), count], last=True)
