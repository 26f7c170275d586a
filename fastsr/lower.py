"""Graph to Program: every operator becomes a step or an entry of a step's epilogue.

An element-wise node joins the epilogue of the step that made its operand when nothing else reads that operand. The step then moves to the node's
place in the running order, where all operands of the epilogue exist; nothing between the two places can have read its result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import ModelError
from .graph import Graph, Node
from .ops_quantised import check_scale, quantised_type
from .passes.pattern import conv_geometry, pad_amounts, per_channel, uniform
from .program import (
    AUTO_PAD,
    D2S_MODE,
    MAX_EPILOGUE,
    OVER_PICTURE,
    PAD_MODE,
    RESIZE_COORD,
    RESIZE_MODE,
    RESIZE_NEAREST,
    Epilogue,
    Program,
    Step,
    Value,
)

BINARY = {"Add": "Add", "Sub": "RSub", "Mul": "Mul", "Div": "RDiv", "Max": "Max", "Min": "Min"}
"""Operator -> epilogue code with the operands exchanged."""

PLAIN = {"Relu": "Relu", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "HardSwish": "HardSwish", "Mish": "Mish", "Abs": "Abs", "Neg": "Neg", "Sqrt": "Sqrt"}


WHY = {
    **dict.fromkeys(("MaxPool", "AveragePool"), "it pads by an amount that depends on the picture's size"),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), "its scale and bias must be constants, one for each channel"),
}
"""Operator that the passes rewrite -> why not here."""


def lower(graph: Graph) -> Program:
    """The program that computes the graph's outputs, checked by `Program.validate`.

    Raises ModelError naming the operator and the node for anything that a Program cannot express.
    """
    return _Lowering(graph).run()


def unsupported(node: Node, why: str = "") -> ModelError:
    """The error for a node that has no place in a Program."""
    why = why or WHY.get(node.op, "")
    if not why:
        return ModelError(f"operator {node.op} (node '{node.name}') is not supported by fastsr yet")
    return ModelError(f"operator {node.op} (node '{node.name}') is not supported by fastsr yet in this form: {why}")


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: list[Value] = []
        self.index: dict[str, int] = {}
        self.steps: list[Step] = []
        self.alias: dict[str, str] = {}
        self.reads: dict[str, int] = {}
        self.outputs: set[str] = set()
        self.zeros: dict[int, np.ndarray] = {}  # of quantised values, which are kept less these zero points: () or (channels,)
        self.sums: set[int] = set()  # values made by ConvInteger
        self.small: set[int] = set()  # values of one pixel for every picture

    # ---- values ------------------------------------------------------------------------------------------------------------------------------

    def name(self, value: str) -> str:
        return self.alias.get(value, value)

    def value(self, node: Node, name: str) -> int:
        v = self.any_value(node, name)
        if v in self.zeros:
            raise unsupported(node, f"it reads '{name}', which is quantised")
        return v

    def any_value(self, node: Node, name: str) -> int:
        name = self.name(name)
        if name in self.index:
            return self.index[name]
        if name in self.graph.constants:
            raise unsupported(node, f"its operand '{name}' is a constant")
        raise unsupported(node, "it reads the result of an operator that is not a picture")

    def new_value(self, name: str, channels: int) -> int:
        self.values.append(Value(name, channels))
        self.index[name] = len(self.values) - 1
        return self.index[name]

    def append(self, step: Step) -> None:
        """Add a step at the end."""
        self.steps.append(step)
        if step.kind in OVER_PICTURE or all(v in self.small for v in step.inputs[step.kind == "ResizeTo" :]):
            self.small.add(step.output)

    def channels(self, value: int) -> int:
        return self.values[value].channels

    def run(self) -> Program:
        g = self.graph
        g.validate()
        for node in g.nodes:
            if node.op == "Identity":
                self.alias[node.output] = self.name(node.inputs[0])
        for node in g.nodes:
            if node.op != "Identity":
                for i in node.inputs:
                    self.reads[self.name(i)] = self.reads.get(self.name(i), 0) + 1
        self.outputs = {self.name(o) for o in g.outputs}
        inputs = [self.new_value(i.name, i.channels) for i in g.inputs]
        for node in g.nodes:
            if node.op != "Identity":
                self.node(node)
        outputs = []
        for o in g.outputs:
            v = self.index.get(self.name(o))
            if v is None:
                raise ModelError(f"graph output '{o}' is a constant: nothing is left to compute")
            if v in inputs:
                v = self.copy(v, o)
            if np.any(self.zeros.get(v, 0)):
                v = self.copy(v, o, (_arithmetic("Add", self.zeros[v]),))
            outputs.append((o, v))
        return self.finish(inputs, outputs)

    def copy(self, source: int, name: str, epilogue: tuple[Epilogue, ...] = ()) -> int:
        """A value equal to a graph input, or an epilogue of one: outputs are always made by a step."""
        out = self.new_value(f"{name} (copy of {self.values[source].name})", self.channels(source))
        self.append(Step("Pointwise", (source,), out, {}, epilogue=epilogue, name=name))
        return out

    def finish(self, inputs: list[int], outputs: list[tuple[str, int]]) -> Program:
        """Drop the values that fusion swallowed and number the rest in running order."""
        order = [*inputs, *(s.output for s in self.steps)]
        number = {old: new for new, old in enumerate(order)}
        steps = [
            replace(s, inputs=tuple(number[i] for i in s.inputs), output=number[s.output],
                    epilogue=tuple(e if e.value is None else replace(e, value=number[e.value]) for e in s.epilogue))
            for s in self.steps
        ]  # fmt: skip
        program = Program([self.values[i] for i in order], [number[i] for i in inputs], [(o, number[v]) for o, v in outputs], steps,
                          self.graph.feed, dict(self.graph.meta))  # fmt: skip
        program.validate()
        return program

    # ---- nodes -------------------------------------------------------------------------------------------------------------------------------

    def node(self, node: Node) -> None:
        make: Callable[[Node], None] | None = getattr(self, f"_{node.op.lower()}", None) if node.op in STEPS else None
        if make is not None:
            make(node)
            return
        if node.op in BINARY and len(node.inputs) == 2:
            self._binary(node)
            return
        entry = self._activation(node)
        if entry is None:
            raise unsupported(node)
        self.value(node, node.inputs[0])
        self.fuse_or_point(node, node.inputs[0], entry)

    def step(self, node: Node, kind: str, inputs: list[int], channels: int, params: dict[str, int | float], **extra: np.ndarray | None) -> None:
        out = self.new_value(node.output, channels)
        self.append(Step(kind, tuple(inputs), out, params, extra.get("weight"), extra.get("bias"), (), node.name or node.output))

    def fusable(self, name: str, entries: int = 1) -> int | None:
        """Position of the step that makes the value when only one reader wants it and its epilogue has room for so many, else None."""
        name = self.name(name)
        if self.reads.get(name, 0) != 1 or name in self.outputs or name not in self.index:
            return None
        v = self.index[name]
        position = next((k for k in range(len(self.steps) - 1, -1, -1) if self.steps[k].output == v), None)
        return position if position is None or len(self.steps[position].epilogue) + entries <= MAX_EPILOGUE else None

    def fuse(self, node: Node, position: int, entries: tuple[Epilogue, ...], channels: int) -> None:
        """Append `entries` to the step's epilogue and move the step to the end."""
        step = self.steps.pop(position)
        self.append(replace(step, epilogue=(*step.epilogue, *entries), output=self.new_value(node.output, channels)))

    def fuse_or_point(self, node: Node, operand: str, *entries: Epilogue) -> None:
        v = self.any_value(node, operand)
        c = self.channels(v)
        position = self.fusable(operand, len(entries))
        if position is not None:
            self.fuse(node, position, entries, c)
            return
        out = self.new_value(node.output, c)
        self.append(Step("Pointwise", (v,), out, {}, None, None, entries, node.name or node.output))

    # ---- element-wise ------------------------------------------------------------------------------------------------------------------------

    def _activation(self, node: Node) -> Epilogue | None:
        a = node.attrs
        if node.op in PLAIN:
            return Epilogue(PLAIN[node.op])
        if node.op == "LeakyRelu":
            return Epilogue("LeakyRelu", a=float(a.get("alpha", 0.01)))
        if node.op == "Reciprocal":
            return Epilogue("RDiv", a=1.0)
        if node.op == "HardSigmoid":
            return Epilogue("HardSigmoid", a=float(a.get("alpha", 0.2)), b=float(a.get("beta", 0.5)))
        if node.op == "Swish":
            if float(a.get("alpha", 1.0)) != 1.0:
                raise unsupported(node, f"alpha {a['alpha']}")
            return Epilogue("Silu")
        if node.op == "Gelu":
            return Epilogue("Gelu", a=1.0 if a.get("approximate", "none") == "tanh" else 0.0)
        if node.op == "PRelu":
            slope = self.vector(node, node.inputs[1], self.channels(self.value(node, node.inputs[0])))
            flat = uniform(slope)
            return Epilogue("LeakyRelu", a=flat) if flat is not None else Epilogue("PRelu", tensor=slope.astype(np.float32))
        return self._clip(node) if node.op == "Clip" else None

    def _clip(self, node: Node) -> Epilogue:
        bounds = []
        for k, absent in ((1, -math.inf), (2, math.inf)):
            name = node.inputs[k] if len(node.inputs) > k else ""
            c = self.graph.const(name) if name else None
            if name and (c is None or c.size != 1):
                raise unsupported(node, "its bounds are not constant numbers")
            bounds.append(absent if c is None else float(c.reshape(-1)[0]))
        low, high = bounds
        if high == math.inf:
            return Epilogue("Relu") if low == 0 else Epilogue("Max", a=low)
        return Epilogue("Min", a=high) if low == -math.inf else Epilogue("Clip", a=low, b=high)

    def vector(self, node: Node, name: str, channels: int) -> np.ndarray:
        """A constant operand as () or (channels,)."""
        c = self.graph.const(name)
        if c is None:
            raise unsupported(node, f"'{name}' is not a constant")
        v = per_channel(c)
        if v is None:
            raise unsupported(node, f"its constant of shape {list(c.shape)} differs from pixel to pixel")
        if v.ndim and v.size != channels:
            raise unsupported(node, f"its constant has {v.size} channels and the picture {channels}")
        return v

    def _binary(self, node: Node) -> None:
        left, right = node.inputs
        constant = [self.graph.const(i) is not None for i in (left, right)]
        if all(constant):
            raise unsupported(node, "both operands are constants")
        if any(constant):
            x, c, code = (right, left, BINARY[node.op]) if constant[0] else (left, right, node.op)
            v = self.vector(node, c, self.channels(self.value(node, x)))
            if code == "Add" and self._integer_bias(node, x, v):
                return
            flat = uniform(v)
            self.fuse_or_point(node, x, Epilogue(code, a=flat) if flat is not None else Epilogue(code, tensor=v.astype(np.float32)))
            return
        choices = []
        for x, other, code in ((left, right, node.op), (right, left, BINARY[node.op])):
            vx, vo = self.value(node, x), self.value(node, other)
            if self.channels(vo) in (1, self.channels(vx)) and (vx not in self.small or vo in self.small):
                position = self.fusable(x)
                choices.append((self._rank(position), x, other, code))
        if not choices:
            raise unsupported(node, f"it combines {' and '.join(str(self.channels(self.value(node, i))) for i in node.inputs)} channels")
        _, x, other, code = max(choices, key=lambda choice: choice[0])
        self.fuse_or_point(node, x, Epilogue(code, value=self.value(node, other)))

    def _rank(self, position: int | None) -> tuple[int, int, int]:
        """How good a step is for taking up another value: convolutions that have not shuffled first, then the latest."""
        if position is None:
            return (-1, 0, 0)
        s = self.steps[position]
        return (1 if s.kind == "Conv" else 0, -s.block, position)

    # ---- steps -------------------------------------------------------------------------------------------------------------------------------

    def _conv(self, node: Node) -> None:
        w = self.graph.const(node.inputs[1])
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        b = self.graph.const(bias) if bias else None
        if w is None or (bias and b is None):
            raise unsupported(node, "its weights are not constant")
        self._convolve(node, self.value(node, node.inputs[0]), w, b)

    def _convolve(self, node: Node, x: int, w: np.ndarray, b: np.ndarray | None) -> None:
        if w.ndim != 4:
            raise unsupported(node, f"weights of shape {list(w.shape)}, only two-dimensional convolution is known")
        (sh, sw), (dh, dw), pads, group = conv_geometry(node)
        mode = node.attrs.get("auto_pad", "NOTSET")
        if mode not in (*AUTO_PAD, "VALID"):
            raise unsupported(node, f"auto_pad {mode}")
        pt, pl, pb, pr = pads if mode == "NOTSET" else (0, 0, 0, 0)
        params: dict[str, int | float] = dict(kh=int(w.shape[2]), kw=int(w.shape[3]), sh=sh, sw=sw, dh=dh, dw=dw, pt=pt, pl=pl, pb=pb, pr=pr,
                                              auto_pad=AUTO_PAD.get(mode, 0), group=group)  # fmt: skip
        weight = np.ascontiguousarray(w, np.float32)
        self.step(node, "Conv", [x], int(w.shape[0]), params, weight=weight, bias=None if b is None else np.ascontiguousarray(b, np.float32))

    def _concat(self, node: Node) -> None:
        if node.attrs.get("axis", 1) not in (1, -3):
            raise unsupported(node, f"axis {node.attrs.get('axis')}, only channels can be joined")
        xs = [self.any_value(node, i) for i in node.inputs]
        zero = self.zeros.get(xs[0])
        if any(v in self.zeros for v in xs) and (zero is None or zero.ndim or any(not np.array_equal(self.zeros.get(v, np.nan), zero) for v in xs)):
            raise unsupported(node, "it joins quantised values with different zero points")
        self.step(node, "Concat", xs, sum(self.channels(v) for v in xs), {})
        self._keep_zero(node, zero)

    def _globalaveragepool(self, node: Node) -> None:
        x = self.value(node, node.inputs[0])
        self.step(node, node.op, [x], self.channels(x), {})

    _globalmaxpool = _globalaveragepool

    def _resize(self, node: Node) -> None:
        x = self.value(node, node.inputs[0])
        to = self.any_value(node, node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
        scales = self.graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        a = node.attrs
        if to is None and (scales is None or scales.size != 4 or scales[0] != 1 or scales[1] != 1):
            raise unsupported(node, "the enlargement must be a constant factor of height and width")
        mode, coord = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel")
        nearest = a.get("nearest_mode", "round_prefer_floor")
        if mode not in RESIZE_MODE or coord not in RESIZE_COORD or nearest not in RESIZE_NEAREST or a.get("antialias"):
            raise unsupported(node, f"mode {mode}, {coord}, {nearest}, antialias {a.get('antialias', 0)}")
        params: dict[str, int | float] = dict(mode=RESIZE_MODE[mode], coord=RESIZE_COORD[coord], nearest_mode=RESIZE_NEAREST[nearest],
                                              cubic_a=float(a.get("cubic_coeff_a", -0.75)),
                                              exclude_outside=int(a.get("exclude_outside", 0)))  # fmt: skip
        if to is not None:
            self.step(node, "ResizeTo", [x, to], self.channels(x), params)
            return
        assert scales is not None
        self.step(node, "Resize", [x], self.channels(x), {**params, "scale_h": float(scales[2]), "scale_w": float(scales[3])})

    def _pad(self, node: Node) -> None:
        x = self.value(node, node.inputs[0])
        amounts = pad_amounts(self.graph, node)
        if amounts is None or amounts[1] not in PAD_MODE:
            raise unsupported(node, f"mode {node.attrs.get('mode', 'constant')}; only height and width can be padded, by constant amounts")
        (pt, pl, pb, pr), mode, fill = amounts
        self.step(node, "Pad", [x], self.channels(x), dict(pt=pt, pl=pl, pb=pb, pr=pr, mode=PAD_MODE[mode], value=fill))

    def _depthtospace(self, node: Node) -> None:
        x = self.any_value(node, node.inputs[0])
        block, mode = int(node.attrs["blocksize"]), D2S_MODE[node.attrs.get("mode", "DCR")]
        c = self.channels(x)
        if block < 1 or c % (block * block):
            raise ModelError(f"node '{node.name}' (DepthToSpace) cannot split {c} channels into blocks of {block}x{block}")
        position = self.fusable(node.inputs[0])
        if position is not None and self.steps[position].block == 1:
            self.fuse(node, position, (Epilogue("DepthToSpace", a=float(block), b=float(mode)),), c // block**2)
        else:
            self.step(node, "DepthToSpace", [x], c // block**2, dict(block=block, mode=mode))
        self._keep_zero(node, self.zeros.get(x))

    def _spacetodepth(self, node: Node) -> None:
        x = self.any_value(node, node.inputs[0])
        block = int(node.attrs["blocksize"])
        self.step(node, "SpaceToDepth", [x], self.channels(x) * block**2, dict(block=block))
        self._keep_zero(node, self.zeros.get(x))

    # ---- quantised values --------------------------------------------------------------------------------------------------------------------

    def _keep_zero(self, node: Node, zero: np.ndarray | None) -> None:
        if zero is None:
            return
        if zero.ndim:
            raise unsupported(node, "it moves channels with different zero points")
        self.zeros[self.index[node.output]] = zero

    def _integer_bias(self, node: Node, operand: str, bias: np.ndarray) -> bool:
        """Give it to the ConvInteger that made the operand, if one did and has none yet."""
        position = self.fusable(operand)
        if position is None or self.index[self.name(operand)] not in self.sums:
            return False
        step = self.steps[position]
        if step.epilogue or step.bias is not None:
            return False
        del self.steps[position]
        channels = self.channels(step.output)
        out = self.new_value(node.output, channels)
        self.append(replace(step, bias=np.broadcast_to(bias, channels).astype(np.float32), output=out))
        return True

    def _parameters(self, node: Node, channels: int) -> tuple[np.ndarray, np.ndarray, np.dtype[Any] | None]:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear, () or (channels,), and the zero point's type."""
        scale = self.graph.const(node.inputs[1])
        given = node.inputs[2] if len(node.inputs) > 2 else ""
        zero = self.graph.const(given) if given else None
        if scale is None or (given and zero is None):
            raise unsupported(node, "its scale and zero point are not constant")
        check_scale(node, scale, zero, divides=node.op == "QuantizeLinear")
        if scale.size != 1 and (node.attrs.get("axis", 1) not in (1, -3) or scale.size != channels):
            raise unsupported(node, f"it has {scale.size} scales along axis {node.attrs.get('axis', 1)} for {channels} channels")
        shape = () if scale.size == 1 else (channels,)
        zeros = np.zeros(shape) if zero is None else zero.astype(np.float64).reshape(shape)
        return scale.astype(np.float32).reshape(shape), zeros, None if zero is None else zero.dtype

    def _quantizelinear(self, node: Node) -> None:
        x = node.inputs[0]
        scale, zero, _ = self._parameters(node, self.channels(self.value(node, x)))
        given = node.inputs[2] if len(node.inputs) > 2 else ""
        info = np.iinfo(quantised_type(node, self.graph.const(given) if given else None))
        low, high = info.min - zero, info.max - zero
        entries = [] if np.all(scale == 1) else [_arithmetic("Div", scale)]
        if uniform(low) is not None:
            entries.append(Epilogue("Quantize", a=float(low.flat[0]), b=float(high.flat[0])))
            zero = zero.reshape(-1)[0].reshape(())
        else:
            entries += [Epilogue("Quantize", a=float(low.min()), b=float(high.max())), _arithmetic("Max", low), _arithmetic("Min", high)]
        self.fuse_or_point(node, x, *entries)
        self.zeros[self.index[node.output]] = zero

    def _dequantizelinear(self, node: Node) -> None:
        x = node.inputs[0]
        v = self.any_value(node, x)
        scale, zero, _ = self._parameters(node, self.channels(v))
        shift = self.zeros.get(v, np.zeros(())) - zero
        self.fuse_or_point(node, x, *([_arithmetic("Add", shift)] if shift.any() else []), _arithmetic("Mul", scale))

    def _convinteger(self, node: Node) -> None:
        x = self.any_value(node, node.inputs[0])
        w = self.graph.const(node.inputs[1])
        x_zero, w_zero = (self.graph.const(i) if i else np.zeros(()) for i in [*node.inputs[2:4], "", ""][:2])
        if w is None or x_zero is None or w_zero is None:
            raise unsupported(node, "its weights and zero points are not constant")
        shift = self.zeros.get(x, np.zeros(())) - x_zero.reshape(())
        if shift.any():
            x = self.copy(x, node.output + "_shifted", (_arithmetic("Add", shift),))
        if w_zero.size not in (1, w.shape[0]):
            raise unsupported(node, f"it has {w_zero.size} zero points for {w.shape[0]} output channels")
        self._convolve(node, x, w.astype(np.float64) - w_zero.astype(np.float64).reshape(-1, *[1] * (w.ndim - 1)), None)
        self.sums.add(self.index[node.output])


def _arithmetic(code: str, v: np.ndarray) -> Epilogue:
    flat = uniform(v)
    return Epilogue(code, a=float(np.float32(flat))) if flat is not None else Epilogue(code, tensor=v.astype(np.float32))


STEPS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "ConvInteger", "Conv", "Concat", "Resize", "Pad", "DepthToSpace", "SpaceToDepth", "GlobalAveragePool",
    "GlobalMaxPool",
})  # fmt: skip
