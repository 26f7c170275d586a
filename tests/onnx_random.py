"""Random ONNX graphs that look like super-resolution networks, each legal, drawn by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_graphs import Net

Draw = Any
MAX_CHANNELS = 16


class Sketch:
    """A graph under construction. Each picture is (name, channels, enlargement); pictures of equal enlargement have equal sizes."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.n = Net(opset=draw(st.sampled_from([11, 13, 17, 18, 20])), seed=draw(st.integers(0, 9)))
        self.fixed = draw(st.booleans())
        self.h, self.w = draw(st.sampled_from([(8, 12), (12, 16), (16, 8)]))
        self.channels = draw(st.sampled_from([1, 3]))
        shape = (1, self.channels, self.h, self.w) if self.fixed else ("N", self.channels, "H", "W")
        self.pictures: list[tuple[str, int, float]] = [(self.n.input(shape), self.channels, 1.0)]

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def add(self, name: str, channels: int, scale: float) -> None:
        self.pictures.append((name, channels, scale))

    def conv(self, x: str, c: int, s: float) -> None:
        k, group = self.pick(1, 3, 5), self.pick(1, 1, 1, c if c > 1 else 1)
        out = c * self.pick(1, 2) if group > 1 else self.pick(1, 3, 4, 8, 12)
        out = min(out, MAX_CHANNELS) if group == 1 or out <= MAX_CHANNELS else c
        d = self.pick(1, 1, 2)
        how = self.pick("pads", "SAME_UPPER", "SAME_LOWER") if d == 1 else "pads"  # ONNX Runtime has no dilation with the others
        attrs: dict[str, Any] = {"pads": [d * (k // 2)] * 4} if how == "pads" else {"auto_pad": how}
        weight = self.n.random(out, c // group, k, k, scale=0.3)
        bias = [self.n.random(out)] if self.draw(st.booleans()) else []
        self.add(self.n.node("Conv", x, weight, *bias, group=group, dilations=[d, d], **attrs), out, s)

    def activation(self, x: str, c: int, s: float) -> None:
        n = self.n
        simple = ["Relu", "Tanh", "Sigmoid", "Abs", "LeakyRelu", "HardSigmoid", "PRelu", "Clip", "silu", "mish", "gelu"]
        op = self.pick(*simple, *(["HardSwish"] if n.opset >= 14 else []), *(["Mish"] if n.opset >= 18 else []))
        if op == "PRelu":
            y = n.node("PRelu", x, n.random(c, 1, 1))
        elif op == "Clip":
            y = n.node("Clip", x, n.const(-0.4), n.const(0.8))
        elif op == "silu":
            y = n.node("Mul", n.node("Sigmoid", x), x)
        elif op == "mish":
            y = n.node("Mul", x, n.node("Tanh", n.node("Softplus", x)))
        elif op == "gelu":
            y = n.node("Mul", n.node("Mul", x, n.node("Add", n.node("Erf", n.node("Div", x, n.const(2**0.5))), n.const(1.0))), n.const(0.5))
        else:
            y = n.node(op, x)
        self.add(y, c, s)

    def arithmetic(self, x: str, c: int, s: float) -> None:
        n = self.n
        constant = n.random(*self.pick((), (1,), (c, 1, 1), (1, c, 1, 1)))
        op = self.pick("Add", "Sub", "Mul", "Max", "Min")
        self.add(n.node(op, *((x, constant) if self.draw(st.booleans()) else (constant, x))), c, s)

    def two(self, x: str, c: int, s: float) -> None:
        others = [p for p in self.pictures if p[2] == s]
        y, d, _ = self.pick(*others)
        if d in (c, 1) and self.draw(st.booleans()):
            self.add(self.n.node(self.pick("Add", "Sub", "Mul"), x, y), c, s)
        elif c + d <= MAX_CHANNELS:
            self.add(self.n.node("Concat", x, y, axis=self.pick(1, -3)), c + d, s)

    def shuffle(self, x: str, c: int, s: float) -> None:
        if s > 2:
            return
        n, out = self.n, self.pick(1, 2, 3)
        x = n.conv(x, c, 4 * out)
        how = self.pick("CRD", "DCR", "spelled")
        if how != "spelled":
            self.add(n.node("DepthToSpace", x, blocksize=2, mode=how), out, 2 * s)
            return
        perm, depth = self.pick(([0, 1, 4, 2, 5, 3], (out, 2, 2)), ([0, 3, 4, 1, 5, 2], (2, 2, out)), ([0, 1, 4, 3, 5, 2], (out, 2, 2)))
        if self.fixed:
            h, w = int(s * self.h), int(s * self.w)
            six, four = n.ints(1, *depth, h, w), n.ints(1, out, 2 * h, 2 * w)
        else:
            h, w, two = n.size_of(x, 2), n.size_of(x, 3), n.ints(2)
            six = n.node("Concat", n.ints(-1, *depth), h, w, axis=0)
            four = n.node("Concat", n.ints(-1, out), n.node("Mul", h, two), n.node("Mul", w, two), axis=0)
        self.add(n.node("Reshape", n.node("Transpose", n.node("Reshape", x, six), perm=perm), four), out, 2 * s)

    def unshuffle(self, x: str, c: int, s: float) -> None:
        if s >= 1 and 4 * c <= MAX_CHANNELS:
            self.add(self.n.node("SpaceToDepth", x, blocksize=2), 4 * c, s / 2)

    def transposed(self, x: str, c: int, s: float) -> None:
        if s > 2:
            return
        out = self.pick(1, 3, 4)
        k, pads, extra = self.pick((2, 0, 0), (4, 1, 0), (3, 1, 1), (6, 2, 0))
        weight = self.n.random(c, out, k, k, scale=0.3)
        self.add(self.n.node("ConvTranspose", x, weight, strides=[2, 2], pads=[pads] * 4, output_padding=[extra] * 2), out, 2 * s)

    def resize(self, x: str, c: int, s: float) -> None:
        if s > 2:
            return
        n, mode = self.n, self.pick("nearest", "linear", "cubic")
        coordinates = self.pick("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
        attrs = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": "floor"}
        if mode == "nearest":
            attrs["coordinate_transformation_mode"] = "asymmetric"
        roi = "" if n.opset >= 13 else n.const([])
        if self.draw(st.booleans()):
            y = n.node("Resize", x, roi, n.const([1, 1, 2, 2]), **attrs)
        else:
            sizes = n.node("Mul", n.node("Shape", x), n.ints(1, 1, 2, 2))
            y = n.node("Resize", x, roi, n.const([]) if n.opset < 13 else "", sizes, **attrs)
        self.add(y, c, 2 * s)

    def parts(self, x: str, c: int, s: float) -> None:
        if c < 2:
            return
        n = self.n
        if self.draw(st.booleans()):
            sizes = {"split": [1, c - 1]} if n.opset < 13 else {}
            a, b = n.many("Split", x, *([] if sizes else [n.ints(1, c - 1)]), outputs=2, axis=1, **sizes)
            self.add(a, 1, s)
            self.add(b, c - 1, s)
        else:
            self.add(n.node("Slice", x, n.ints(0), n.ints(c - 1), n.ints(1)), c - 1, s)

    def padded(self, x: str, c: int, s: float) -> None:
        n = self.n
        y = n.node("Pad", x, n.ints(0, 0, 1, 2, 0, 0, 2, 1), mode=self.pick("constant", "reflect", "edge"))
        if self.draw(st.booleans()):
            y = n.node("Slice", y, n.ints(1, 2), n.ints(-2, -1), n.ints(2, 3))
        else:
            y = n.node("Conv", y, n.random(c, c, 4, 4, scale=0.2))
        self.add(y, c, s)

    def normalised(self, x: str, c: int, s: float) -> None:
        n = self.n
        variance = n.const(np.abs(n.rng.standard_normal(c)) + 0.5)
        self.add(n.node("BatchNormalization", x, n.random(c), n.random(c), n.random(c), variance), c, s)

    def pooled(self, x: str, c: int, s: float) -> None:
        self.add(self.n.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), c, s)

    def nothing(self, x: str, c: int, s: float) -> None:
        n = self.n
        how = self.pick("Identity", "Cast", "transposed", "unsqueezed")
        if how == "transposed":
            x = n.node("Transpose", n.node("Relu", n.node("Transpose", x, perm=[0, 2, 3, 1])), perm=[0, 3, 1, 2])
        elif how == "unsqueezed" and n.opset >= 13:
            x = n.node("Squeeze", n.node("Unsqueeze", x, n.ints(2)), n.ints(2))
        else:
            x = n.node("Cast", x, to=TensorProto.FLOAT) if how == "Cast" else n.node("Identity", x)
        self.add(x, c, s)

    def whole(self, x: str, c: int, s: float) -> None:
        """What looks at the whole picture."""
        n = self.n
        if self.pick("InstanceNormalization", "attention") == "attention":
            y = n.node("Mul", x, n.node("Sigmoid", n.conv(n.node("GlobalAveragePool", x), c, c, 1)))
        else:
            y = n.node("InstanceNormalization", x, n.random(c), n.random(c))
        self.add(y, c, s)

    def refused(self, x: str, c: int, s: float) -> None:
        """What fastsr cannot run, and must say so."""
        self.add(self.n.node(self.pick(*REFUSED), x), c, s)


REFUSED = ("Sin", "Round", "Cosh")

STEPS = [Sketch.conv] * 3 + [Sketch.activation] * 2 + [Sketch.two] * 2 + [
    Sketch.arithmetic, Sketch.shuffle, Sketch.unshuffle, Sketch.transposed, Sketch.resize, Sketch.parts, Sketch.padded, Sketch.normalised,
    Sketch.pooled, Sketch.nothing, Sketch.whole,
]  # fmt: skip


@st.composite
def sketches(draw: Draw) -> Sketch:
    """A graph of some steps, of which the last makes the output; one in ten has a step that fastsr cannot run."""
    sketch = Sketch(draw)
    count = draw(st.integers(2, 10))
    bad = draw(st.integers(0, count - 1)) if draw(st.integers(0, 9)) == 0 else -1
    for k in range(count):
        recent = sketch.pictures[-3:]
        x = draw(st.sampled_from(recent))
        step = Sketch.refused if k == bad else draw(st.sampled_from(STEPS))
        step(sketch, *x)
    if len(sketch.pictures) == 1:
        sketch.conv(*sketch.pictures[0])
    return sketch
