"""A Program as an ONNX file: the inverse of `lower`, step by step, with what says how pictures are fed in the file's metadata.

The file holds the network as it runs here: after the rewrites, with the fused operations as nodes of their own.
"""

from __future__ import annotations

import os

import numpy as np

from .atomic import write_atomically
from .errors import ModelError
from .graph import Feed, Graph, Input
from .graph import Node as GraphNode
from .onnx_file import onnx_bytes
from .program import AUTO_PAD, D2S_MODE, OVER_PICTURE, PAD_MODE, RESIZE_COORD, RESIZE_MODE, RESIZE_NEAREST, Epilogue, Program, Step

PREFIX = "fastsr."
PLAIN = frozenset({"Relu", "Tanh", "Sigmoid", "HardSwish", "Mish", "Abs", "Neg", "Sqrt"})
BINARY = {"Add": "Add", "Sub": "Sub", "Mul": "Mul", "Div": "Div", "Max": "Max", "Min": "Min", "RSub": "Sub", "RDiv": "Div"}


def save(program: Program, path: str | os.PathLike[str]) -> None:
    """Write the program to `path`, atomically. Raises ModelError for what ONNX cannot say, OSError."""
    write_atomically(path, dumps(program))


def dumps(program: Program) -> bytes:
    """The bytes of an ONNX file of free picture size. Raises ModelError for what ONNX cannot say: the Pad mode "symmetric"."""
    return onnx_bytes(graph_of(program), metadata=feed_metadata(program.feed))


def feed_metadata(feed: Feed) -> dict[str, str]:
    """A feed as the `fastsr.*` metadata that the importer reads."""
    numbers = {k: repr(float(getattr(feed, k))) for k in ("range", "out_range")}
    means = {k: ",".join(repr(float(v)) for v in getattr(feed, k)) for k in ("mean", "out_mean")}
    values = {"colour": feed.colour, **numbers, **means, "pre_scale": str(feed.pre_scale)}
    if feed.fine:
        values["fine"] = "true"
    return {PREFIX + k: v for k, v in values.items()}


def graph_of(program: Program) -> Graph:
    """A Graph of ONNX operators that computes the program's outputs."""
    return _Raising(program).run()


def _name(table: dict[str, int], code: float) -> str:
    return next(k for k, v in table.items() if v == code)


class _Raising:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph(feed=program.feed, meta=dict(program.meta))
        self.names: dict[int, str] = {}
        self.taken = {name for name, _ in program.outputs}

    def run(self) -> Graph:
        p, g = self.program, self.graph
        for v in p.inputs:
            self.names[v] = self.fresh(p.values[v].name or "input")
            g.inputs.append(Input(self.names[v], p.values[v].channels))
        wanted = {v: name for name, v in reversed(p.outputs)}
        for number, step in enumerate(p.steps):
            self.step(step, number, wanted.get(step.output, ""))
        for name, v in p.outputs:
            if self.names[v] != name:
                g.nodes.append(GraphNode("Identity", [self.names[v]], [name]))
            g.outputs.append(name)
        g.validate()
        return g

    def fresh(self, stem: str) -> str:
        name, k = stem, 0
        while name in self.taken:
            k += 1
            name = f"{stem}_{k}"
        self.taken.add(name)
        return name

    def constant(self, stem: str, array: np.ndarray) -> str:
        name = self.fresh(stem)
        self.graph.constants[name] = array
        return name

    def add(self, op: str, inputs: list[str], stem: str, **attrs: object) -> str:
        name = self.fresh(f"{stem}/{op}")
        self.graph.nodes.append(GraphNode(op, inputs, [name], dict(attrs), name))
        return name

    def step(self, step: Step, number: int, output: str) -> None:
        stem = f"{number}"
        x = self.kind(step, [self.names[i] for i in step.inputs], stem)
        for k, e in enumerate(step.epilogue):
            x = self.epilogue(e, x, f"{stem}.{k}")
        if output and x not in (self.names[i] for i in self.program.inputs) and self.graph.nodes and self.graph.nodes[-1].outputs == [x]:
            self.graph.nodes[-1].outputs = [output]
            x = output
        self.names[step.output] = x

    def kind(self, step: Step, xs: list[str], stem: str) -> str:
        x, p = xs[0], step.params
        if step.kind == "Conv" and step.weight is not None:
            inputs = [x, self.constant(f"{stem}/weight", step.weight)]
            if step.bias is not None:
                inputs.append(self.constant(f"{stem}/bias", step.bias))
            pads: dict[str, object] = {"pads": [p["pt"], p["pl"], p["pb"], p["pr"]]}
            if p["auto_pad"]:
                pads = {"auto_pad": _name(AUTO_PAD, p["auto_pad"])}
            return self.add("Conv", inputs, stem, kernel_shape=[p["kh"], p["kw"]], strides=[p["sh"], p["sw"]], dilations=[p["dh"], p["dw"]],
                            group=p["group"], **pads)  # fmt: skip
        if step.kind == "Pointwise":
            return x
        if step.kind == "Concat":
            return self.add("Concat", xs, stem, axis=1)
        if step.kind in OVER_PICTURE:
            return self.add(step.kind, [x], stem)
        if step.kind in ("Resize", "ResizeTo"):
            if step.kind == "Resize":
                how = [self.constant(f"{stem}/scales", np.array([1, 1, p["scale_h"], p["scale_w"]], np.float32))]
            else:
                how = ["", xs[1]]
            mode = _name(RESIZE_MODE, p["mode"])
            attrs: dict[str, object] = {"mode": mode, "coordinate_transformation_mode": _name(RESIZE_COORD, p["coord"])}
            if mode == "nearest":
                attrs["nearest_mode"] = _name(RESIZE_NEAREST, p["nearest_mode"])
            if mode == "cubic":
                attrs |= {"cubic_coeff_a": float(p["cubic_a"]), "exclude_outside": p["exclude_outside"]}
            return self.add("Resize", [x, "", *how], stem, **attrs)
        if step.kind == "Pad":
            amounts = self.constant(f"{stem}/pads", np.array([0, 0, p["pt"], p["pl"], 0, 0, p["pb"], p["pr"]], np.int64))
            value = [self.constant(f"{stem}/value", np.array(p["value"], np.float32))] if p["value"] else []
            return self.add("Pad", [x, amounts, *value], stem, mode=_name(PAD_MODE, p["mode"]))
        if step.kind == "DepthToSpace":
            return self.add("DepthToSpace", [x], stem, blocksize=p["block"], mode=_name(D2S_MODE, p["mode"]))
        if step.kind == "SpaceToDepth":
            return self.add("SpaceToDepth", [x], stem, blocksize=p["block"])
        raise ModelError(f"step '{step.name}' ({step.kind}) cannot be written as ONNX yet: save the model as .fsr")

    def epilogue(self, e: Epilogue, x: str, stem: str) -> str:
        if e.op in PLAIN:
            return self.add(e.op, [x], stem)
        if e.op in BINARY:
            operands = [x, self.names[e.value] if e.value is not None else self.operand(e, stem, (1, -1, 1, 1))]
            return self.add(BINARY[e.op], operands[::-1] if e.op in ("RSub", "RDiv") else operands, stem)
        if e.op == "PRelu":
            return self.add("PRelu", [x, self.operand(e, stem, (-1, 1, 1))], stem)
        if e.op == "LeakyRelu":
            return self.add("LeakyRelu", [x], stem, alpha=e.a)
        if e.op == "HardSigmoid":
            return self.add("HardSigmoid", [x], stem, alpha=e.a, beta=e.b)
        if e.op == "Clip":
            return self.add("Clip", [x, *(self.constant(f"{stem}/bound", np.array(v, np.float32)) for v in (e.a, e.b))], stem)
        if e.op == "Quantize":
            return self.quantised(e, x, stem)
        if e.op == "Silu":
            return self.add("Mul", [x, self.add("Sigmoid", [x], stem)], stem)
        if e.op == "Gelu":
            return self.add("Gelu", [x], stem, approximate="tanh" if e.a else "none")
        if e.op == "DepthToSpace":
            return self.add("DepthToSpace", [x], stem, blocksize=int(e.a), mode=_name(D2S_MODE, e.b))
        raise ModelError(f"the operation {e.op} cannot be written as ONNX yet: save the model as .fsr")

    def quantised(self, e: Epilogue, x: str, stem: str) -> str:
        """Rounded and kept within whole numbers a..b: to 8 bits and back, with scale 1."""
        if not (-255 <= e.a <= 0 <= e.b <= e.a + 255):
            raise ModelError(f"numbers rounded to {e.a:g}..{e.b:g} cannot be written as ONNX: save the model as .fsr")
        scale, zero = self.constant(f"{stem}/scale", np.array(1, np.float32)), self.constant(f"{stem}/zero", np.array(-e.a, np.uint8))
        y = self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, scale, zero], stem), scale, zero], stem)
        return y if e.b == e.a + 255 else self.add("Min", [y, self.constant(f"{stem}/bound", np.array(e.b, np.float32))], stem)

    def operand(self, e: Epilogue, stem: str, shape: tuple[int, ...]) -> str:
        data = np.array(e.a, np.float32) if e.tensor is None else np.asarray(e.tensor, np.float32)
        return self.constant(f"{stem}/operand", data if data.ndim == 0 else data.reshape(shape))
