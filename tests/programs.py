"""Programs for tests: a builder of small ones that show one thing each, a network of ESPCN's structure, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import assume, reject
from hypothesis import strategies as st

from fastsr.errors import ModelError, PictureError
from fastsr.graph import Feed
from fastsr.program import PARAMS, Epilogue, Program, Step, Value

DEFAULTS: dict[str, dict[str, Any]] = {
    "Conv": {"kh": 3, "kw": 3, "sh": 1, "sw": 1, "dh": 1, "dw": 1, "pt": 0, "pl": 0, "pb": 0, "pr": 0, "auto_pad": 1, "group": 1},
    "Pointwise": {},
    "Concat": {},
    "Resize": {"mode": 1, "coord": 0, "nearest_mode": 0, "cubic_a": -0.75, "exclude_outside": 0, "scale_h": 2.0, "scale_w": 2.0},
    "Pad": {"pt": 1, "pl": 1, "pb": 1, "pr": 1, "mode": 0, "value": 0.0},
    "DepthToSpace": {"block": 2, "mode": 0},
    "SpaceToDepth": {"block": 2},
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
    "ResizeTo": {"mode": 1, "coord": 0, "nearest_mode": 0, "cubic_a": -0.75, "exclude_outside": 0},
}


UNARY = ("Relu", "LeakyRelu", "Clip", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Silu", "Gelu", "Mish", "Abs", "Neg")
BINARY = ("Add", "Sub", "Mul", "Max", "Min", "RSub")
"""Epilogues that take an operand and make no large numbers from small ones."""


def shuffle(block: int, mode: int = 0) -> Epilogue:
    return Epilogue("DepthToSpace", a=float(block), b=float(mode))


def pads(top: int, left: int, bottom: int, right: int) -> dict[str, int]:
    return {"pt": top, "pl": left, "pb": bottom, "pr": right}


class Builder:
    """Adds steps one after another; every method that adds one returns the number of the value it makes. channels: of each input."""

    def __init__(self, channels: int | Sequence[int] = 3, seed: int = 0) -> None:
        channels = [channels] if isinstance(channels, int) else channels
        self.values = [Value(f"in{i}", c) for i, c in enumerate(channels)]
        self.inputs = list(range(len(channels)))
        self.steps: list[Step] = []
        self.rng = np.random.default_rng(seed)

    @property
    def last(self) -> int:
        """The value made last."""
        return len(self.values) - 1

    def channels(self, value: int) -> int:
        return self.values[value].channels

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def prelu(self, channels: int) -> Epilogue:
        return Epilogue("PRelu", tensor=self.rng.uniform(-0.5, 0.5, channels).astype(np.float32))

    def conv(self, value: int, cout: int, bias: bool = True, epilogue: Sequence[Epilogue] = (), k: int | tuple[int, int] = 3, **params: Any) -> int:
        """A convolution with random weights. k: kernel, (height, width) or both at once. The result is as large as the input (SAME_UPPER) unless
        `auto_pad` or pads are given."""
        kh, kw = (k, k) if isinstance(k, int) else k
        p = {**DEFAULTS["Conv"], "kh": kh, "kw": kw, **params}
        if any(name in params for name in ("pt", "pl", "pb", "pr")):
            p["auto_pad"] = 0
        cin = self.channels(value) // p["group"]
        w = self.normal(cout, cin, p["kh"], p["kw"]) / np.float32(np.sqrt(cin * p["kh"] * p["kw"]))
        return self.step("Conv", [value], cout, p, epilogue, weight=w, bias=self.normal(cout) * np.float32(0.1) if bias else None)

    def step(
        self, kind: str, inputs: Sequence[int], result: int, params: dict[str, Any] | None = None, epilogue: Sequence[Epilogue] = (), **tensors: Any
    ) -> int:
        """Any step; parameters that are not given are those of DEFAULTS. result: channels before the epilogue."""
        full = {name: {**DEFAULTS[kind], **(params or {})}[name] for name in PARAMS[kind]}
        for e in epilogue:
            if e.op == "DepthToSpace":
                result //= int(e.a) ** 2 or 1
        self.values.append(Value(f"v{len(self.values)}", result))
        self.steps.append(Step(kind, tuple(inputs), self.last, full, epilogue=tuple(epilogue), name=f"{kind.lower()}{self.last}", **tensors))
        return self.last

    def program(self, *outputs: int, feed: Feed | None = None) -> Program:
        """The program; its outputs, by default the value made last, are named out0, out1, ..."""
        program = Program(self.values, self.inputs, [(f"out{i}", v) for i, v in enumerate(outputs or [self.last])], self.steps, feed or Feed())
        program.validate()
        return program


def espcn(scale: int = 2, seed: int = 0, channels: tuple[int, int] = (64, 32)) -> Program:
    """A network of ESPCN's structure (Shi et al. 2016) with random weights."""
    b = Builder(1, seed)
    b.conv(0, channels[0], k=5, epilogue=[Epilogue("Relu")])
    b.conv(b.last, channels[1], epilogue=[Epilogue("Relu")])
    b.conv(b.last, scale * scale, epilogue=[shuffle(scale), Epilogue("Tanh")])
    return b.program(feed=Feed("y"))


def inputs_for(program: Program, height: int, width: int, batch: int = 1, seed: int = 1) -> list[np.ndarray]:
    """Random float32 arrays (batch, C, height, width), one per input."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((batch, program.values[v].channels, height, width)).astype(np.float32) for v in program.inputs]


def _fits(b: Builder, size: tuple[int, int]) -> list[tuple[int, int]] | None:
    try:
        return b.program().value_sizes(*size)
    except (PictureError, ModelError):
        return None


@st.composite
def random_programs(draw: st.DrawFn, height: int = 40, width: int = 70) -> tuple[Program, int, int]:
    """A valid program of a few random steps with random epilogues, and a picture size (height, width) that it accepts, at most so large."""
    b = Builder([draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 2)))], draw(st.integers(0, 2**16)))
    size = draw(st.integers(1, height)), draw(st.integers(1, width))
    sizes = [size] * len(b.inputs)
    for _ in range(draw(st.integers(1, 6))):
        source = draw(st.integers(0, len(b.values) - 1))
        values, steps = list(b.values), list(b.steps)
        _random_step(draw, b, source, sizes)
        now = _fits(b, size)
        if now is None or max(now[-1]) > 160 or b.values[-1].channels > 40:
            b.values, b.steps = values, steps
            continue
        sizes = now
    if not b.steps:
        b.step("Pointwise", [0], b.channels(0))
    made = [s.output for s in b.steps]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
    return b.program(*outputs), *size


def _random_step(draw: st.DrawFn, b: Builder, source: int, sizes: list[tuple[int, int]]) -> None:
    kind = draw(st.sampled_from(["Conv", "Conv", "Conv", "Pointwise", "Concat", "Resize", "Pad", "DepthToSpace", "SpaceToDepth"]))
    c = b.channels(source)
    h, w = sizes[source]
    if kind == "Conv":
        group = draw(st.sampled_from([g for g in (1, 1, c, 2) if c % g == 0]))
        cout = group * draw(st.integers(1, max(1, 12 // group)))
        p = {k: draw(st.integers(1, 5 if k[0] == "k" else 3 if k[0] == "d" else 2)) for k in ("kh", "kw", "sh", "sw", "dh", "dw")}
        if draw(st.booleans()):
            p.update({k: draw(st.integers(0, 3)) for k in ("pt", "pl", "pb", "pr")})
        else:
            p["auto_pad"] = draw(st.integers(1, 2))
        probe = Builder([c])
        probe.conv(0, cout, group=group, **p)
        made = _fits(probe, sizes[source])
        out = sizes[source] if made is None else made[-1]
        b.conv(source, cout, draw(st.booleans()), _random_epilogue(draw, b, cout, out, sizes), group=group, **p)
        return
    inputs, params = [source], {}
    if kind == "Concat":
        same = [v for v in range(len(b.values)) if sizes[v] == sizes[source]]
        inputs = draw(st.lists(st.sampled_from(same), min_size=1, max_size=3))
        c = sum(b.channels(v) for v in inputs)
    elif kind == "Resize":
        params = {"mode": draw(st.integers(0, 2)), "coord": draw(st.integers(0, 5)), "nearest_mode": draw(st.integers(0, 3)),
                  "exclude_outside": draw(st.integers(0, 1)), "scale_h": draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])),
                  "scale_w": draw(st.sampled_from([0.5, 1.0, 1.25, 2.0, 4.0])), "cubic_a": draw(st.sampled_from([-0.5, -0.75]))}  # fmt: skip
        h, w = int(h * params["scale_h"]), int(w * params["scale_w"])
    elif kind == "Pad":
        mode = draw(st.integers(0, 3))
        params = {k: draw(st.integers(0 if mode else max(-2, 1 - n), 4)) for k, n in (("pt", h), ("pl", w), ("pb", h), ("pr", w))}
        params |= {"mode": mode, "value": 0.25}
        h, w = h + params["pt"] + params["pb"], w + params["pl"] + params["pr"]
    elif kind == "DepthToSpace":
        block = draw(st.integers(1, 3))
        if c % block**2:
            block = 1
        params, c, h, w = {"block": block, "mode": draw(st.integers(0, 1))}, c // block**2, h * block, w * block
    elif kind == "SpaceToDepth":
        block = draw(st.sampled_from([b for b in (1, 2, 3) if h % b == 0 and w % b == 0]))
        params, c, h, w = {"block": block}, c * block**2, h // block, w // block
    b.step(kind, inputs, c, params, _random_epilogue(draw, b, c, (h, w), sizes))


def _random_epilogue(draw: st.DrawFn, b: Builder, c: int, size: tuple[int, int], sizes: list[tuple[int, int]]) -> list[Epilogue]:
    entries: list[Epilogue] = []
    shuffled = False
    for _ in range(draw(st.integers(0, 3))):
        choice = draw(st.integers(0, 3))
        if choice == 0:
            op = draw(st.sampled_from([*UNARY, "PRelu"]))
            slope = b.normal(draw(st.sampled_from([1, c]))) * np.float32(0.3) if op == "PRelu" else None
            numbers = {"LeakyRelu": (0.1, 0.0), "Clip": (-0.5, 0.75), "HardSigmoid": (0.2, 0.5), "Gelu": (float(draw(st.integers(0, 1))), 0.0)}
            a, bb = numbers.get(op, (0.0, 0.0))
            entries.append(Epilogue(op, tensor=slope, a=a, b=bb))
        elif choice == 1:
            fit = [v for v in range(len(b.values)) if sizes[v] == size and b.channels(v) in (1, c)]
            if fit:
                entries.append(Epilogue(draw(st.sampled_from(BINARY)), value=draw(st.sampled_from(fit))))
        elif choice == 2:
            tensor = draw(st.sampled_from([None, (), (c,)]))
            op = draw(st.sampled_from([*BINARY, "Div"]))
            number = np.abs(b.normal(*(tensor or ()))) + np.float32(0.5)
            entries.append(Epilogue(op, tensor=None if tensor is None else np.asarray(number, np.float32), a=0.75 if tensor is None else 0.0))
        elif not shuffled:
            blocks = [k for k in (2, 3, 5) if c % k**2 == 0]
            if blocks:
                k = draw(st.sampled_from(blocks))
                entries.append(Epilogue("DepthToSpace", a=float(k), b=float(draw(st.integers(0, 1)))))
                shuffled, c, size = True, c // k**2, (size[0] * k, size[1] * k)
    return entries


@st.composite
def programs_in_row_groups(draw: st.DrawFn) -> tuple[Program, int, int]:
    """Convolutions that Winograd's algorithm takes, their groups of rows cut by pads, shuffles, residuals and steps that need other rows."""
    b = Builder([draw(st.sampled_from([1, 8]))])
    size = draw(st.integers(1, 30)), draw(st.integers(1, 50))
    x = b.conv(0, 8, k=draw(st.sampled_from([3, 5])))
    for _ in range(draw(st.integers(1, 4))):
        block = draw(st.sampled_from([1, 1, 2, 3]))
        channels = draw(st.sampled_from([8, 9, 16])) * block**2
        margins = pads(*(draw(st.integers(0, 3)) for _ in range(4))) if draw(st.booleans()) else {}
        sizes = b.program().value_sizes(*size)
        same = [v for v in range(len(b.values)) if b.channels(v) == channels and sizes[v] == sizes[x] and not margins]
        epilogue = [Epilogue("Add", value=draw(st.sampled_from(same)))] if same and draw(st.booleans()) else []
        activation = draw(st.sampled_from([Epilogue("LeakyRelu", a=0.2), Epilogue("Clip", a=-1.0, b=1.0), b.prelu(channels)]))
        epilogue.insert(draw(st.integers(0, len(epilogue))), activation)
        epilogue += [shuffle(block), Epilogue("Tanh")] if block > 1 else []
        x = b.conv(x, channels, epilogue=epilogue, k=draw(st.sampled_from([3, 3, 5])), **margins)
        if draw(st.integers(0, 3)) == 0:
            x = b.conv(x, 8, sh=draw(st.integers(1, 3)), sw=draw(st.integers(1, 3)), dh=2)
        try:
            assume(max(b.program().value_sizes(*size)[x]) <= 200)
        except PictureError:
            reject()
    outputs = draw(st.lists(st.integers(1, x), min_size=1, max_size=2, unique=True))
    return b.program(*outputs), *size
