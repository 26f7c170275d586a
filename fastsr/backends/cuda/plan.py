"""What is launched for a picture or a tile of it: where every value lies, and the arguments of every kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...program import Program, Step, conv_pads
from ...tiles import Rect, Size, before_shuffle, is_empty, pad_table, plan_tile, resize_table
from .. import gpu
from .layout import ARGS, TYPES, area, pitch_of, set_view
from .steps import ELEMENT_THREADS, Kernel, Prepared

OTHERS = ("pack", "unpack", "clear", "read_picture", "write_picture")
"""Kernels that every program has besides those of its steps."""

ALIGNED = 256
"""Values and weights begin at multiples of this."""


def rounded(size: int) -> int:
    """Bytes up to the next place where something may begin."""
    return -(-size // ALIGNED) * ALIGNED


@dataclass
class Arena:
    """Where values lie: offsets in bytes, -1 for those that are not made; `size` of all. Values whose time does not overlap share memory."""

    rects: list[Rect]
    offsets: list[int]
    size: int


def lay_out(program: Program, prepared: Sequence[Prepared], sizes: Sequence[Size], out_rects: Mapping[int, Rect], batch: int, element: int) -> Arena:
    """Places for the parts of all values that the parts `out_rects` of some need, but of those inside a chain. element: bytes of one element."""
    rects = plan_tile(program, sizes, out_rects)
    lengths = [rounded(batch * area(r) * pitch_of(v.channels) * element) for v, r in zip(program.values, rects, strict=True)]
    made = [(p.step.output, p.reads()) for p in prepared if p.kernel is not None and not is_empty(rects[p.step.output])]
    there, wanted = ([v for v in values if not is_empty(rects[v])] for values in (program.inputs, out_rects))
    places, size = gpu.places_of(lengths, there, made, wanted)
    return Arena(rects, [places.get(v, -1) for v in range(len(rects))], size)


@dataclass(frozen=True)
class Launch:
    """A kernel (its number, see `kernels_of`), its grid, and one element of ARGS."""

    kernel: int
    grid: tuple[int, int, int]
    args: np.ndarray


@dataclass
class Constants:
    """Addresses of a step's weights, bias and slots' tensors on the device."""

    weight: int = 0
    bias: int = 0
    tensors: list[int] = field(default_factory=list)


def kernels_of(prepared: Sequence[Prepared], precision: str) -> list[Kernel]:
    """All kernels of a program: those of its steps, without a name for steps that have none, then `OTHERS`."""
    kind = TYPES[precision][0]
    return [*(p.kernel or Kernel("", 0) for p in prepared), *(Kernel(f"{n}<{kind}>", ELEMENT_THREADS) for n in OTHERS)]


class Planner:
    """Writes launches for an arena at address `base`. blocks: of each kernel, how many blocks of it run at once. table: gives a table's address on
    the device."""

    def __init__(self, program: Program, prepared: Sequence[Prepared], constants: Sequence[Constants], precision: str, blocks: Mapping[int, int],
                 table: Callable[[np.ndarray], int], sizes: Sequence[Size], arena: Arena, base: int, batch: int) -> None:  # fmt: skip
        self._program, self._prepared, self._constants = program, prepared, constants
        self._element, self._blocks, self._table = TYPES[precision][1], blocks, table
        self._sizes, self._arena, self._base, self._batch = sizes, arena, base, batch

    def steps(self) -> list[Launch]:
        """All steps that make something."""
        found = []
        for k, p in enumerate(self._prepared):
            if p.kernel is not None and not is_empty(self._arena.rects[p.step.output]):
                found += self._step(k, p, p.kernel)
        return found

    def pack(self, value: int, address: int) -> Launch:
        """An input from float planes of its rectangle."""
        return self._planes("pack", value, address)

    def unpack(self, value: int, address: int) -> Launch:
        """An output to float planes of its rectangle."""
        return self._planes("unpack", value, address)

    def picture(self, kernel: str, value: int, args: np.ndarray) -> Launch:
        """read_picture or write_picture with the arguments of `pictures.py`, between a picture and the value."""
        self._view(args[0]["out" if kernel == "read_picture" else "in"], value)
        y0, x0, y1, x1 = (int(args[0][n]) for n in ("y0", "x0", "y1", "x1"))
        return Launch(self._other(kernel), (_parts((y1 - y0) * (x1 - x0), ELEMENT_THREADS), 1, 1), args)

    def _other(self, kernel: str) -> int:
        return len(self._prepared) + OTHERS.index(kernel)

    def _view(self, view: np.ndarray, value: int) -> None:
        channels = self._program.values[value].channels
        rect, pitch = self._arena.rects[value], pitch_of(channels)
        set_view(view, self._base + self._arena.offsets[value], channels, pitch, rect, self._sizes[value], area(rect) * pitch)

    def _planes(self, kernel: str, value: int, address: int) -> Launch:
        args, channels, rect = np.zeros(1, ARGS), self._program.values[value].channels, self._arena.rects[value]
        mine, planes = ("in", "out") if kernel == "unpack" else ("out", "in")
        self._view(args[0][mine], value)
        set_view(args[0][planes], address, channels, 0, rect, self._sizes[value], area(rect) * channels)
        _set_rect(args, rect)
        count = area(rect) * (channels if kernel == "unpack" else pitch_of(channels))
        return Launch(self._other(kernel), (_parts(count, ELEMENT_THREADS), 1, self._batch), args)

    def _step(self, k: int, p: Prepared, kernel: Kernel) -> list[Launch]:
        step, args = p.step, np.zeros(1, ARGS)
        a, constants = args[0], self._constants[k]
        out = self._arena.rects[step.output]
        rect = before_shuffle(step, out)
        self._view(a["out"], step.output)
        _set_rect(args, rect)
        value = self._program.values[step.output]
        a["cout"] = value.channels * step.block**2
        for i, ((_, x, y), address) in enumerate(zip(p.slots, constants.tensors, strict=True)):
            slot = a["slots"][i]
            slot["a"], slot["b"], slot["tensor"] = x, y, address
        for i, v in p.values:
            self._view(a["slots"][i]["value"], v)
        if step.kind == "Conv":
            self._view(a["in"], p.source)
            found = [self._convolution(k, p, kernel, args, rect)]
        else:
            found = self._elements(k, p, args, rect)
        writes_all = kernel.family != "conv_direct" and step.block == 1
        if pitch_of(value.channels) > value.channels and not writes_all:
            found.insert(0, self._clear(step.output))
        return found

    def _convolution(self, k: int, p: Prepared, kernel: Kernel, args: np.ndarray, rect: Rect) -> Launch:
        step, a, constants = p.step, args[0], self._constants[k]
        assert step.weight is not None
        a["weight"], a["bias"] = constants.weight, constants.bias
        a["cin"], a["group"] = step.weight.shape[1], step["group"]
        for name in ("kh", "kw", "sh", "sw", "dh", "dw"):
            a[name] = step[name]
        a["pt"], a["pl"], _, _ = conv_pads(step, self._sizes[step.inputs[0]])
        cout, height, width = step.weight.shape[0], rect[2] - rect[0], rect[3] - rect[1]
        if kernel.family == "conv_direct":
            blocks = step["group"] * _parts(cout // step["group"], kernel.outputs)
            return Launch(k, (_parts(height * width, kernel.threads), blocks, self._batch), args)
        a["chunks"], a["tiles_x"] = kernel.chunks, _parts(width, kernel.columns)
        a["tiles"] = int(a["tiles_x"]) * _parts(height, kernel.rows)
        blocks = _parts(cout, kernel.outputs)
        at_once = max(self._blocks[k] // (blocks * self._batch), 1)
        return Launch(k, (min(int(a["tiles"]), at_once), blocks, self._batch), args)

    def _elements(self, k: int, p: Prepared, args: np.ndarray, rect: Rect) -> list[Launch]:
        step, a = p.step, args[0]
        value = self._program.values[step.output]
        size = self._sizes[step.output]
        before = size[0] // step.block, size[1] // step.block
        if step.kind in ("Resize", "Pad"):
            self._tables(step, a, self._sizes[step.inputs[0]], before)
        if step.kind in ("DepthToSpace", "SpaceToDepth"):
            a["block"] = step["block"]
        found, first = [], 0
        for number, i in enumerate(step.inputs):
            one = args.copy()
            self._view(one[0]["in"], i)
            channels = self._program.values[i].channels
            one[0]["cin"], one[0]["first"] = channels, first
            count = channels if step.kind == "Concat" else int(a["cout"])
            first += count
            if number == len(step.inputs) - 1 and step.block == 1:
                count += pitch_of(value.channels) - value.channels
            one[0]["count"] = count
            found.append(Launch(k, (_parts(area(rect) * count, ELEMENT_THREADS), 1, self._batch), one))
        return found

    def _tables(self, step: Step, a: np.ndarray, in_size: Size, out_size: Size) -> None:
        for axis, name in enumerate(("rows", "columns")):
            if step.kind == "Pad":
                a[name] = self._table(pad_table(step, axis, in_size[axis], out_size[axis]).astype(np.int32))
                a["constant"] = step["value"]
            else:
                index, factors = resize_table(step, axis, in_size[axis], out_size[axis])
                a["taps"] = index.shape[1]
                a[name], a[name[:-1] + "_factors"] = self._table(index.astype(np.int32)), self._table(factors)

    def _clear(self, value: int) -> Launch:
        args, rect = np.zeros(1, ARGS), self._arena.rects[value]
        self._view(args[0]["out"], value)
        args[0]["vectors"] = -(-self._batch * area(rect) * pitch_of(self._program.values[value].channels) * self._element // 16)
        return Launch(self._other("clear"), (_parts(int(args[0]["vectors"]), ELEMENT_THREADS), 1, 1), args)


def _set_rect(args: np.ndarray, rect: Rect) -> None:
    args[0]["y0"], args[0]["x0"], args[0]["y1"], args[0]["x1"] = rect


def _parts(count: int, size: int) -> int:
    return -(-count // size)
