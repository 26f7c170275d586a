"""A Graph as a torch module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from fastsr.errors import ModelError
from fastsr.graph import Graph, Node
from fastsr.passes.pattern import conv_geometry

BINARY: dict[str, Callable[..., torch.Tensor]] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}
IN_PLACE = frozenset({"Conv", "Add", "Sub", "Mul"})
"""Operators whose result an activation may overwrite."""


class GraphModule(torch.nn.Module):
    """Runs the nodes one after another; one input, one output. Values are dropped after their last reader.

    Raises ModelError for operators not known here.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.source, self.target = graph.inputs[0].name, graph.outputs[0]
        readers = graph.consumers()
        made = graph.producers()
        last = {i: node.output for node in graph.nodes for i in node.inputs}
        self.steps: list[tuple[Callable[..., torch.Tensor], list[str], str, list[str]]] = []
        for k, node in enumerate(graph.nodes):
            values = [i for i in node.inputs if i and i not in graph.constants]
            constants = {i: c for i, c in enumerate(graph.const(n) for n in node.inputs) if c is not None}
            maker = made.get(values[0])
            overwrite = maker is not None and maker.op in IN_PLACE and len(readers[values[0]]) == 1 and values[0] != self.target
            gone = [v for v in dict.fromkeys(values) if last[v] == node.output and v != self.target]
            self.steps.append((self._step(node, k, constants, overwrite), values, node.output, gone))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network."""
        values = {self.source: x}
        for run, inputs, output, gone in self.steps:
            values[output] = run(*(values[i] for i in inputs))
            for name in gone:
                del values[name]
        return values[self.target]

    def _tensor(self, name: str, value: np.ndarray) -> str:
        tensor = torch.from_numpy(np.array(value, np.float32))
        self.register_buffer(name, tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor)
        return name

    def _step(self, node: Node, k: int, constants: dict[int, np.ndarray], overwrite: bool) -> Callable[..., torch.Tensor]:
        a = node.attrs
        if node.op == "Conv":
            return self._conv(node, k, constants)
        if node.op == "PRelu":
            slope = self._tensor(f"slope{k}", constants[1].reshape(-1))
            return lambda x: F.prelu(x, getattr(self, slope))
        if node.op == "Relu":
            return lambda x: F.relu(x, inplace=overwrite)
        if node.op == "LeakyRelu":
            return lambda x: F.leaky_relu(x, float(a.get("alpha", 0.01)), inplace=overwrite)
        if node.op == "Tanh":
            return torch.tanh
        if node.op == "Concat":
            return lambda *xs: torch.cat(xs, 1)
        if node.op == "DepthToSpace":
            return _shuffle(int(a["blocksize"]), a.get("mode", "DCR") == "DCR")
        if node.op == "Resize" and a.get("mode") == "nearest":
            factor = (float(constants[2][2]), float(constants[2][3]))
            return lambda x: F.interpolate(x, scale_factor=factor, mode="nearest")
        if node.op == "Identity":
            return lambda x: x
        if node.op in BINARY and not constants:
            return BINARY[node.op]
        if node.op in BINARY and list(constants) == [1] and constants[1].size == 1:
            number = float(constants[1].reshape(-1)[0])
            return lambda x: BINARY[node.op](x, number)
        raise ModelError(f"no torch function is known for {node.op}")

    def _conv(self, node: Node, k: int, constants: dict[int, Any]) -> Callable[..., torch.Tensor]:
        stride, dilation, (top, left, bottom, right), group = conv_geometry(node)
        if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            raise ModelError("no torch function is known for this convolution")
        weight = self._tensor(f"weight{k}", constants[1])
        bias = self._tensor(f"bias{k}", constants[2]) if 2 in constants else ""
        even = (top, left) == (bottom, right)

        def run(x: torch.Tensor) -> torch.Tensor:
            if not even:
                x = F.pad(x, (left, right, top, bottom))
            b = getattr(self, bias) if bias else None
            return F.conv2d(x, getattr(self, weight), b, stride, (top, left) if even else 0, dilation, group)

        return run


def _shuffle(block: int, dcr: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(x: torch.Tensor) -> torch.Tensor:
        c = x.shape[1] // block**2
        if dcr and c > 1:
            x = x.reshape(x.shape[0], block**2, c, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        return F.pixel_shuffle(x, block)

    return run
