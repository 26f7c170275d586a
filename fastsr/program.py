"""The program: the lowered network, portable between machines and the common input of every backend.

A `Program` is a list of fused `Step`s over numbered `Value`s. A step convolves (or resizes, pads, ...) and then applies its `epilogue`, a short list
of element-wise operations ending in the store, which may shuffle pixels. Sizes are not stored: `value_sizes` derives them from the picture's, and
`fastsr.tiles` says which part of its inputs a part of a step's output needs (the exact halo), so one Program serves every picture and tiling.

Kinds, parameters and codes are those of docs/fsr.md.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .errors import ModelError, PictureError
from .graph import EXACT, Feed, resized

KINDS = {
    "Conv": 1, "Pointwise": 2, "Concat": 3, "Resize": 4, "Pad": 5, "DepthToSpace": 6, "SpaceToDepth": 7, "GlobalAveragePool": 8, "GlobalMaxPool": 9,
    "ResizeTo": 10,
}  # fmt: skip

OVER_PICTURE = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
"""Kinds that make one pixel of a whole picture."""

PARAMS: dict[str, tuple[str, ...]] = {
    "Conv": ("kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl", "pb", "pr", "auto_pad", "group"),
    "Pointwise": (),
    "Concat": (),
    "Resize": ("mode", "coord", "nearest_mode", "cubic_a", "exclude_outside", "scale_h", "scale_w"),
    "Pad": ("pt", "pl", "pb", "pr", "mode", "value"),
    "DepthToSpace": ("block", "mode"),
    "SpaceToDepth": ("block",),
    "GlobalAveragePool": (),
    "GlobalMaxPool": (),
    "ResizeTo": ("mode", "coord", "nearest_mode", "cubic_a", "exclude_outside"),
}
FLOAT_PARAMS = {"cubic_a", "scale_h", "scale_w", "value"}

CODES = {
    "Relu": 1,
    "LeakyRelu": 2,
    "PRelu": 3,
    "Clip": 4,
    "Tanh": 5,
    "Sigmoid": 6,
    "HardSigmoid": 7,
    "HardSwish": 8,
    "Silu": 9,
    "Gelu": 10,
    "Mish": 11,
    "Abs": 12,
    "Neg": 13,
    "Add": 14,
    "Sub": 15,
    "Mul": 16,
    "Div": 17,
    "Max": 18,
    "Min": 19,
    "RSub": 20,
    "RDiv": 21,
    "DepthToSpace": 22,
    "Quantize": 23,
    "Sqrt": 24,
}

AUTO_PAD = {"NOTSET": 0, "SAME_UPPER": 1, "SAME_LOWER": 2}
RESIZE_MODE = {"nearest": 0, "linear": 1, "cubic": 2}
RESIZE_COORD = {"half_pixel": 0, "align_corners": 1, "asymmetric": 2, "pytorch_half_pixel": 3, "half_pixel_symmetric": 4, "tf_half_pixel_for_nn": 5}
RESIZE_NEAREST = {"round_prefer_floor": 0, "round_prefer_ceil": 1, "floor": 2, "ceil": 3}
PAD_MODE = {"constant": 0, "reflect": 1, "edge": 2, "symmetric": 3}
D2S_MODE = {"DCR": 0, "CRD": 1}

FLOAT_MAX = float(np.finfo(np.float32).max)

COLOURS = {"raw": 0, "y": 1, "bgr": 3, "rgb": 3}
"""Colour of a feed, in the order of their codes -> channels of the network's first input and first output, 0 for any."""

RANGES = {
    "mode": {"Resize": 2, "ResizeTo": 2, "Pad": 3, "DepthToSpace": 1},
    "coord": {"Resize": 5, "ResizeTo": 5},
    "nearest_mode": {"Resize": 3, "ResizeTo": 3},
    "exclude_outside": {"Resize": 1, "ResizeTo": 1},
    "auto_pad": {"Conv": 2},
}
"""Parameter -> kind -> largest value; the smallest is 0."""

LIMIT = 4096
"""Largest kernel, stride, dilation, pad and scale that a program may have."""

MAX_BLOCK = 256
"""Largest block of pixels: a larger one would need more than `MAX_CHANNELS`."""

MAX_CHANNELS = MAX_STEPS = MAX_VALUES = MAX_TENSORS = 65536
MAX_INPUTS, MAX_OUTPUTS, MAX_STEP_INPUTS, MAX_EPILOGUE = 64, 64, 1024, 64
MAX_PRE_SCALE = 16

MAX_LEVEL = 1 << 20
"""Largest magnitude of a Quantize's bounds."""

MAX_EXTENT = 1 << 28
"""Largest height and width of a value, in pixels."""


def _bounds(kind: str, name: str) -> tuple[float, float, bool]:
    top = RANGES.get(name, {}).get(kind)
    most = {"value": FLOAT_MAX, "group": MAX_CHANNELS, "block": MAX_BLOCK}.get(name, LIMIT)
    return (-most, most, name not in FLOAT_PARAMS) if top is None else (0, top, name not in FLOAT_PARAMS)


BOUNDS = {kind: {name: _bounds(kind, name) for name in names} for kind, names in PARAMS.items()}
"""Kind -> parameter -> smallest value, largest value, whether it is whole."""

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "RSub", "RDiv"})
"""Epilogues that take an operand: a value, a tensor, or the number `a`."""


@dataclass(frozen=True)
class Value:
    """A picture tensor (channels, H, W), float32, H and W known only at run time."""

    name: str
    channels: int


@dataclass(frozen=True)
class Epilogue:
    """One element-wise operation on a step's result. At most one of `value` (index of a value) and `tensor` is set; a, b are scalars."""

    op: str
    value: int | None = None
    tensor: np.ndarray | None = None
    a: float = 0.0
    b: float = 0.0


@dataclass(frozen=True)
class Step:
    """`output = epilogue(kind(inputs))`. `params` has exactly the names of PARAMS[kind]; `weight`, `bias` belong to Conv only."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    params: dict[str, int | float] = field(default_factory=dict)
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    epilogue: tuple[Epilogue, ...] = ()
    name: str = ""

    def __getitem__(self, param: str) -> Any:
        return self.params[param]

    @property
    def block(self) -> int:
        """Factor by which the epilogue's DepthToSpace enlarges the result; 1 without one."""
        return next((int(e.a) for e in self.epilogue if e.op == "DepthToSpace"), 1)

    def reads(self) -> list[int]:
        """All values the step reads: its inputs, then its epilogue's operands."""
        return [*self.inputs, *(e.value for e in self.epilogue if e.value is not None)]


@dataclass
class Program:
    """Values, inputs (value indices), outputs (name, value index; the first is the default) and steps in running order."""

    values: list[Value]
    inputs: list[int]
    outputs: list[tuple[str, int]]
    steps: list[Step]
    feed: Feed = field(default_factory=Feed)
    meta: dict[str, Any] = field(default_factory=dict)

    # ---- sizes -------------------------------------------------------------------------------------------------------------------------------

    def value_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(H, W) of every value for inputs of `height` x `width`. Raises PictureError when the picture does not fit the network."""
        if not (1 <= height <= MAX_EXTENT and 1 <= width <= MAX_EXTENT):
            raise PictureError(f"a {width}x{height} picture is empty or too large")
        sizes: list[tuple[int, int]] = [(0, 0)] * len(self.values)
        for i in self.inputs:
            sizes[i] = (height, width)
        small = self.small_values()
        for step in self.steps:
            sizes[step.output] = _output_size(step, [sizes[i] for i in step.inputs], sizes, f"{width}x{height}", small)
        return sizes

    def small_values(self) -> list[bool]:
        """Of each value, whether it is one pixel for every picture: made by a step `OVER_PICTURE`, or from nothing but such values."""
        small = [False] * len(self.values)
        for step in self.steps:
            sources = step.inputs[1:] if step.kind == "ResizeTo" else step.inputs
            small[step.output] = step.kind in OVER_PICTURE or all(small[i] for i in sources)
        return small

    def scale(self, output: int = 0) -> Fraction:
        """Enlargement of output number `output`: its height over the input's, in the limit of big pictures. 2 for an x2 network."""
        edge = 40320  # divisible by every block up to 10
        h = [self.value_sizes(n, n)[self.outputs[output][1]][0] for n in (edge, 2 * edge)]
        return Fraction(h[1] - h[0], edge)

    # ---- checks ------------------------------------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check every rule of docs/fsr.md that a reader relies on; the C++ core's reader has the same. Raises ModelError naming the step."""
        for what, n, most in (("inputs", len(self.inputs), MAX_INPUTS), ("outputs", len(self.outputs), MAX_OUTPUTS),
                              ("steps", len(self.steps), MAX_STEPS), ("values", len(self.values), MAX_VALUES)):  # fmt: skip
            if n > most or (n < 1 and what != "steps"):
                raise ModelError(f"the model has {n} {what}: 1 to {most} are possible")
        for v in self.values:
            if not 1 <= v.channels <= MAX_CHANNELS:
                raise ModelError(f"value '{v.name}' has {v.channels} channels: 1 to {MAX_CHANNELS} are possible")
        small = [False] * len(self.values)
        ready = set(self.inputs)
        if len(ready) != len(self.inputs) or not all(0 <= v < len(self.values) for v in ready):
            raise ModelError("the model's inputs are not distinct values")
        for step in self.steps:
            where = f"step '{step.name}' ({step.kind})"
            if step.kind not in KINDS:
                raise ModelError(f"{where}: unknown kind")
            if tuple(step.params) != PARAMS[step.kind]:
                raise ModelError(f"{where}: parameters {tuple(step.params)}, expected {PARAMS[step.kind]}")
            if any(v not in ready for v in step.reads()):
                raise ModelError(f"{where} reads a value that nothing before it computes")
            if not 0 <= step.output < len(self.values) or step.output in ready:
                raise ModelError(f"{where} writes a value that does not exist or is made elsewhere")
            ready.add(step.output)
            channels = _check_step(step, [self.values[i].channels for i in step.inputs], where)
            channels = _check_epilogue(step, channels, self.values, where)
            small[step.output] = _check_small(step, small, where)
            if channels != self.values[step.output].channels:
                raise ModelError(f"{where} makes {channels} channels, but its output has {self.values[step.output].channels}")
        if len(ready) != len(self.values):
            raise ModelError("the model has values that nothing computes")
        for name, number in self.outputs:
            if number not in ready:
                raise ModelError(f"output '{name}' is not computed")
        self._validate_feed()

    def _validate_feed(self) -> None:
        f = self.feed
        if f.colour not in COLOURS:
            raise ModelError(f"the feed's colour is {f.colour!r}: choose one of {', '.join(COLOURS)}")
        if f.fine and f.colour != "y":
            raise ModelError(f"only Y can be fed without rounding it to 8 bits, not '{f.colour}': leave feed.fine out")
        if not 1 <= f.pre_scale <= MAX_PRE_SCALE:
            raise ModelError(f"pictures are enlarged by 1 to {MAX_PRE_SCALE} before a network that keeps their size, not by {f.pre_scale:.4g}")
        if not all(map(math.isfinite, (f.range, f.out_range, *f.mean, *f.out_mean))) or f.range == 0 or f.out_range == 0:
            raise ModelError("the feed's ranges and means must be finite, its ranges not 0")
        for mean, v in ((f.mean, self.inputs[0]), (f.out_mean, self.outputs[0][1])):
            channels = self.values[v].channels
            if COLOURS[f.colour] not in (0, channels):
                raise ModelError(f"pictures are fed as '{f.colour}', but the network has {channels} channels there")
            if len(mean) not in (0, channels):
                raise ModelError(f"the feed has {len(mean)} means for {channels} channels")

    def dump(self) -> str:
        """The program as text, one step a line."""
        lines = [f"program feed={self.feed} outputs={self.outputs} meta={json.dumps(self.meta, default=str)}"]
        for s in self.steps:
            ins = ", ".join(f"%{i}" for i in s.inputs)
            params = " ".join(f"{k}={v}" for k, v in s.params.items())
            epi = "".join(
                f" >{e.op}" + (f" %{e.value}" if e.value is not None else f"({e.a:g},{e.b:g})" if e.tensor is None else "[c]") for e in s.epilogue
            )
            shape = "" if s.weight is None else f" w{list(s.weight.shape)}{'+b' if s.bias is not None else ''}"
            lines.append(f"  %{s.output}[{self.values[s.output].channels}] = {s.kind}({ins}){shape} {params}{epi}   # {s.name}")
        return "\n".join(lines)


# ---- the geometry of one step ------------------------------------------------------------------------------------------------------------------


def conv_pads(step: Step, in_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) zero padding of a Conv step for an input of that (H, W)."""
    if not step["auto_pad"]:
        return step["pt"], step["pl"], step["pb"], step["pr"]
    out = []
    for n, k, s, d in ((in_size[0], step["kh"], step["sh"], step["dh"]), (in_size[1], step["kw"], step["sw"], step["dw"])):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, big = total // 2, total - total // 2
        out.append((small, big) if step["auto_pad"] == 1 else (big, small))
    return out[0][0], out[1][0], out[0][1], out[1][1]


def size_scale(n_in: int, n_out: int) -> float:
    """The scale of a Resize that makes n_out pixels of n_in."""
    scale = n_out / n_in
    while resized(n_in, scale) < n_out:
        scale = float(np.nextafter(np.float32(scale), np.float32(np.inf))) if n_out < EXACT else math.nextafter(scale, math.inf)
    return scale


def _output_size(step: Step, ins: list[tuple[int, int]], sizes: list[tuple[int, int]], picture: str, small: list[bool]) -> tuple[int, int]:
    h, w = ins[0]
    if step.kind == "Conv":
        pt, pl, pb, pr = conv_pads(step, (h, w))
        h = (h + pt + pb - step["dh"] * (step["kh"] - 1) - 1) // step["sh"] + 1
        w = (w + pl + pr - step["dw"] * (step["kw"] - 1) - 1) // step["sw"] + 1
    elif step.kind == "Concat":
        if any(i != ins[0] for i in ins):
            raise PictureError(
                f"step '{step.name}' joins pictures of different sizes {ins} for a {picture} picture: this network needs another picture size"
            )
    elif step.kind == "Resize":
        h, w = resized(h, step["scale_h"]), resized(w, step["scale_w"])
    elif step.kind == "Pad":
        if (step["mode"] == 1 and max(step["pt"], step["pb"]) >= h) or (step["mode"] == 1 and max(step["pl"], step["pr"]) >= w):
            raise PictureError(f"step '{step.name}' mirrors more pixels than a {picture} picture has: use a larger picture")
        if step["mode"] == 3 and (max(step["pt"], step["pb"]) > h or max(step["pl"], step["pr"]) > w):
            raise PictureError(f"step '{step.name}' mirrors more pixels than a {picture} picture has: use a larger picture")
        h, w = h + step["pt"] + step["pb"], w + step["pl"] + step["pr"]
    elif step.kind == "DepthToSpace":
        h, w = h * step["block"], w * step["block"]
    elif step.kind in OVER_PICTURE:
        h, w = 1, 1
    elif step.kind == "ResizeTo":
        if not small[step.inputs[0]] and max(-(-ins[1][0] // h), -(-ins[1][1] // w)) > LIMIT:
            raise PictureError(f"step '{step.name}' resizes {w}x{h} to {ins[1][1]}x{ins[1][0]} for a {picture} picture, more than {LIMIT} times")
        h, w = ins[1]
    elif step.kind == "SpaceToDepth":
        if h % step["block"] or w % step["block"]:
            raise PictureError(f"step '{step.name}' needs a height and width divisible by {step['block']}, but a {picture} picture gives {w}x{h}")
        h, w = h // step["block"], w // step["block"]
    if h < 1 or w < 1:
        raise PictureError(f"a {picture} picture is too small for this network: step '{step.name}' would have no output pixel")
    for e in step.epilogue:
        if e.op == "DepthToSpace":
            h, w = h * int(e.a), w * int(e.a)
        elif e.value is not None and sizes[e.value] != (h, w) and not small[e.value]:
            raise PictureError(
                f"step '{step.name}' combines {w}x{h} with {sizes[e.value][1]}x{sizes[e.value][0]} for a {picture} picture: "
                "this network needs another picture size"
            )
    if h > MAX_EXTENT or w > MAX_EXTENT:
        raise PictureError(f"step '{step.name}' would make a picture of {w}x{h} from one of {picture}, which is too large")
    return h, w


def _check_step(step: Step, channels: list[int], where: str) -> int:
    """Channels of the step's result before its epilogue."""
    least, most = {"Concat": (1, MAX_STEP_INPUTS), "ResizeTo": (2, 2)}.get(step.kind, (1, 1))
    if not least <= len(channels) <= most:
        raise ModelError(f"{where}: {len(channels)} inputs")
    for name, v in step.params.items():
        low, high, whole = BOUNDS[step.kind][name]
        if not low <= v <= high or (whole and v != int(v)):
            raise ModelError(f"{where}: {name}={v} is out of range")
    c = _result_channels(step, channels, where)
    if c > MAX_CHANNELS:
        raise ModelError(f"{where}: {c} channels, more than {MAX_CHANNELS}")
    return c


def _result_channels(step: Step, channels: list[int], where: str) -> int:
    c = channels[0]
    if step.kind == "Conv":
        w, group = step.weight, step["group"]
        if w is None or w.ndim != 4 or w.shape[2:] != (step["kh"], step["kw"]):
            raise ModelError(f"{where}: weight shape {None if w is None else w.shape} does not fit the kernel {step['kh']}x{step['kw']}")
        if group < 1 or w.shape[1] * group != c or w.shape[0] % group:
            raise ModelError(f"{where}: weight {w.shape} with {group} groups does not fit {c} input channels")
        if step.bias is not None and step.bias.shape != (w.shape[0],):
            raise ModelError(f"{where}: bias shape {step.bias.shape}, expected ({w.shape[0]},)")
        if min(step[p] for p in ("kh", "kw", "sh", "sw", "dh", "dw")) < 1 or min(step[p] for p in ("pt", "pl", "pb", "pr")) < 0:
            raise ModelError(f"{where}: kernel, strides and dilations must be at least 1, pads at least 0")
        if step["auto_pad"] and any(step[p] for p in ("pt", "pl", "pb", "pr")):
            raise ModelError(f"{where}: pads given beside auto_pad")
        return int(w.shape[0])
    if step.kind == "Concat":
        return sum(channels)
    if step.kind == "Pad" and step["mode"] and min(step[p] for p in ("pt", "pl", "pb", "pr")) < 0:
        raise ModelError(f"{where}: negative pads crop only in mode constant")
    if step.kind == "Resize" and not (step["scale_h"] > 0 and step["scale_w"] > 0):
        raise ModelError(f"{where}: scales must be positive")
    if step.kind == "DepthToSpace":
        b = step["block"]
        if b < 1 or c % (b * b):
            raise ModelError(f"{where}: {c} channels do not split into blocks of {b}x{b}")
        return int(c // (b * b))
    if step.kind == "SpaceToDepth":
        if step["block"] < 1:
            raise ModelError(f"{where}: block must be at least 1")
        return int(c * step["block"] ** 2)
    return c


def _check_epilogue(step: Step, c: int, values: list[Value], where: str) -> int:
    if len(step.epilogue) > MAX_EPILOGUE:
        raise ModelError(f"{where}: {len(step.epilogue)} epilogue entries, more than {MAX_EPILOGUE}")
    shuffles = 0
    for e in step.epilogue:
        if e.op not in CODES:
            raise ModelError(f"{where}: unknown epilogue '{e.op}'")
        if e.value is not None and e.tensor is not None:
            raise ModelError(f"{where}: {e.op} has two operands")
        if e.op not in BINARY and (e.value is not None or (e.tensor is not None and e.op != "PRelu")):
            raise ModelError(f"{where}: {e.op} has an operand that it cannot take")
        if math.isnan(e.a) or math.isnan(e.b):
            raise ModelError(f"{where}: a number of {e.op} is not a number")
        if e.value is not None and values[e.value].channels not in (1, c):
            raise ModelError(f"{where}: {e.op} combines {c} channels with {values[e.value].channels}")
        if e.tensor is not None and e.tensor.shape not in ((), (1,), (c,)):
            raise ModelError(f"{where}: {e.op} has a tensor of shape {e.tensor.shape} for {c} channels")
        if e.op == "PRelu" and e.tensor is None:
            raise ModelError(f"{where}: PRelu without slopes")
        if e.op == "Quantize" and not (-MAX_LEVEL <= e.a <= e.b <= MAX_LEVEL and e.a == int(e.a) and e.b == int(e.b)):
            raise ModelError(f"{where}: Quantize to {e.a}..{e.b}, whole numbers of at most {MAX_LEVEL} are needed")
        if e.op == "DepthToSpace":
            b = int(e.a) if math.isfinite(e.a) else 0
            shuffles += 1
            if shuffles > 1 or b != e.a or not 1 <= b <= MAX_BLOCK or e.b not in (0, 1) or c % (b * b):
                raise ModelError(f"{where}: {c} channels do not shuffle by {b}")
            c //= b * b
    return c


def _check_small(step: Step, small: list[bool], where: str) -> bool:
    """Whether the step's result is one pixel for every picture (`Program.small_values`); what its operands may be for that."""
    if step.kind in OVER_PICTURE:
        result = True
    elif step.kind == "ResizeTo":
        result = small[step.inputs[1]]
        if result and not small[step.inputs[0]]:
            raise ModelError(f"{where}: makes one pixel of a picture, which only a mean or a maximum can")
    else:
        result = all(small[i] for i in step.inputs)
        if not result and any(small[i] for i in step.inputs):
            raise ModelError(f"{where}: joins a picture and one pixel")
        if result and _output_size(step, [(1, 1)] * len(step.inputs), [(1, 1)] * len(small), "1x1", small) != (1, 1):
            raise ModelError(f"{where}: makes a picture of one pixel")
    if result and step.block > 1:
        raise ModelError(f"{where}: makes a picture of one pixel")
    if result and any(e.value is not None and not small[e.value] for e in step.epilogue):
        raise ModelError(f"{where}: combines one pixel, as what is computed, with a picture, as operand")
    return result
