"""A Graph as ncnn's .param text and .bin bytes, in float32, activations fused into convolutions as ncnn's own optimiser does it.

Layers and their numbered parameters: https://github.com/Tencent/ncnn/wiki/operation-param-weight-table
"""

from __future__ import annotations

import numpy as np

from fastsr.errors import ModelError
from fastsr.graph import Graph, Node
from fastsr.passes.pattern import conv_geometry, per_channel

MAGIC = 7767517
FLOAT32 = b"\0\0\0\0"
"""The mark before a convolution's weights that says how they are stored."""

BINARY = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5}
INPUT, OUTPUT = "data", "output"


def ncnn_model(graph: Graph) -> tuple[str, bytes]:
    """(.param, .bin) of a network with one input, named INPUT, and one output, named OUTPUT. Raises ModelError for operators not known here."""
    return _Writer(graph).run()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lines: list[str] = []
        self.data: list[bytes] = []
        self.blobs = 0
        self.readers = graph.consumers()
        self.waiting: dict[str, list[str]] = {}
        """Value -> blobs that hold it, one per reader still to come: a blob of ncnn has one reader."""

    def run(self) -> tuple[str, bytes]:
        g = self.graph
        self.layer("Input", [], g.inputs[0].name, INPUT)
        skip: set[str] = set()
        for node in g.nodes:
            if node.output in skip:
                continue
            follower = self.activation_of(node)
            self.node(node, follower)
            if follower is not None:
                skip.add(follower.output)
        return "\n".join([str(MAGIC), f"{len(self.lines)} {self.blobs}", *self.lines]) + "\n", b"".join(self.data)

    def activation_of(self, node: Node) -> Node | None:
        """The activation that a convolution can take up, if it is the only reader."""
        readers = self.readers.get(node.output, [])
        if node.op != "Conv" or node.output in self.graph.outputs or len(readers) != 1 or readers[0].op not in ("Relu", "LeakyRelu"):
            return None
        return readers[0]

    def layer(self, kind: str, inputs: list[str], output: str, blob: str = "", **params: str) -> None:
        """One line, and a Split when several nodes read what it makes. params: p0="64" is written 0=64."""
        sources = [self.waiting[i].pop(0) for i in inputs]
        name = blob or (OUTPUT if output in self.graph.outputs else f"b{self.blobs}")
        numbers = " ".join(f"{k[1:].replace('_', '-')}={v}" for k, v in params.items())
        self.line(kind, sources, [name], numbers)
        copies = len(self.readers.get(output, []))
        if copies > 1:
            self.line("Split", [name], [f"{name}_{k}" for k in range(copies)])
            self.waiting[output] = [f"{name}_{k}" for k in range(copies)]
        else:
            self.waiting[output] = [name]

    def line(self, kind: str, inputs: list[str], outputs: list[str], params: str = "") -> None:
        self.lines.append(" ".join([kind, f"l{len(self.lines)}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, params]))
        self.blobs += len(outputs)

    def floats(self, a: np.ndarray) -> None:
        self.data.append(np.ascontiguousarray(a, "<f4").tobytes())

    def constant(self, name: str) -> np.ndarray:
        value = self.graph.const(name)
        if value is None:
            raise ModelError(f"'{name}' is not a constant")
        return value

    def node(self, node: Node, activation: Node | None) -> None:
        output = node.output if activation is None else activation.output
        first = node.inputs[:1]
        if node.op == "Conv":
            self.convolution(node, output, activation)
        elif node.op == "PRelu":
            slope = self.constant(node.inputs[1])
            self.layer("PReLU", first, output, p0=str(slope.size))
            self.floats(slope)
        elif node.op in ("Relu", "LeakyRelu"):
            self.layer("ReLU", first, output, p0=_slope(node))
        elif node.op in ("Tanh", "Sigmoid"):
            self.layer({"Tanh": "TanH"}.get(node.op, node.op), first, output)
        elif node.op == "Concat":
            self.layer("Concat", node.inputs, output, p0="0")
        elif node.op == "DepthToSpace":
            self.layer("PixelShuffle", first, output, p0=str(node.attrs["blocksize"]), p1=str(int(node.attrs.get("mode", "DCR") == "DCR")))
        elif node.op == "Resize" and node.attrs.get("mode") == "nearest":
            scales = self.constant(node.inputs[2])
            self.layer("Interp", first, output, p0="1", p1=f"{scales[2]:.6e}", p2=f"{scales[3]:.6e}")
        elif node.op in BINARY:
            self.binary(node)
        elif node.op == "Identity":
            self.layer("Noop", first, output)
        else:
            raise ModelError(f"no ncnn layer is known for {node.op}")

    def binary(self, node: Node) -> None:
        numbers = [self.graph.const(i) for i in node.inputs]
        if numbers[0] is None and numbers[1] is None:
            self.layer("BinaryOp", node.inputs, node.output, p0=str(BINARY[node.op]))
            return
        value = None if numbers[1] is None else per_channel(numbers[1])
        if value is None or value.ndim:
            raise ModelError(f"no ncnn layer is known for {node.op} with such a constant")
        self.layer("BinaryOp", node.inputs[:1], node.output, p0=str(BINARY[node.op]), p1="1", p2=f"{float(value):.9e}")

    def convolution(self, node: Node, output: str, activation: Node | None) -> None:
        (sh, sw), (dh, dw), (top, left, bottom, right), group = conv_geometry(node)
        if node.attrs.get("auto_pad", "NOTSET") != "NOTSET" or group != 1:
            raise ModelError("no ncnn layer is known for this convolution")
        w = self.constant(node.inputs[1])
        bias = self.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        params = {"p0": w.shape[0], "p1": w.shape[3], "p11": w.shape[2], "p2": dw, "p12": dh, "p3": sw, "p13": sh}
        params |= {"p4": left, "p14": top, "p15": right, "p16": bottom, "p5": int(bias is not None), "p6": w.size}
        text = {k: str(v) for k, v in params.items()}
        if activation is not None:
            text["p9"] = "1" if activation.op == "Relu" else "2"
            if activation.op == "LeakyRelu":
                text["p_23310"] = f"1,{_slope(activation)}"
        self.layer("Convolution", node.inputs[:1], output, **text)
        self.data.append(FLOAT32)
        self.floats(w)
        if bias is not None:
            self.floats(bias)


def _slope(node: Node) -> str:
    return f"{float(node.attrs.get('alpha', 0.01)):.9e}" if node.op == "LeakyRelu" else "0.0"
