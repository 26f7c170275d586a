"""What is launched for a picture or a tile of it: where every value lies, and the arguments of every kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...program import Program, Step, conv_pads
from ...tiles import Rect, Size, before_shuffle, is_empty, pad_table, plan_tile, resize_table
from .layout import ARGS, TYPES, area, pitch_of, set_view
from .steps import ELEMENT_THREADS, TILE_WIDTH, Kernel, Prepared

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


def lay_out(program: Program, sizes: Sequence[Size], out_rects: Mapping[int, Rect], batch: int, element: int) -> Arena:
    """Places for the parts of all values that the parts `out_rects` of some need. element: bytes of one element."""
    rects = plan_tile(program, sizes, out_rects)
    last = dict.fromkeys(program.inputs, -1)
    for k, step in enumerate(program.steps):
        if not is_empty(rects[step.output]):
            last[step.output] = k
            last.update((v, k) for v in step.reads())
    last.update((v, len(program.steps)) for v in out_rects if not is_empty(rects[v]))
    offsets, held, size = [-1] * len(program.values), dict[int, int](), 0

    def place(value: int) -> None:
        nonlocal size
        count = rounded(batch * area(rects[value]) * pitch_of(program.values[value].channels) * element)
        at = 0
        for other, end in sorted(((offsets[v], offsets[v] + n) for v, n in held.items())):
            if at + count <= other:
                break
            at = max(at, end)
        offsets[value], held[value], size = at, count, max(size, at + count)

    for v in program.inputs:
        if last[v] >= 0:
            place(v)
    for k, step in enumerate(program.steps):
        if is_empty(rects[step.output]):
            continue
        place(step.output)
        for v in [v for v in held if last[v] <= k]:
            del held[v]
    return Arena(rects, offsets, size)


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
    """All kernels of a program: those of its steps, then pack, unpack and clear."""
    kind = TYPES[precision][0]
    return [*(p.kernel for p in prepared), *(Kernel(f"{n}<{kind}>", ELEMENT_THREADS) for n in ("pack", "unpack", "clear"))]


class Planner:
    """Writes launches. blocks: of each kernel, how many blocks of it run at once. table: gives a table's address on the device."""

    def __init__(self, program: Program, prepared: Sequence[Prepared], constants: Sequence[Constants], precision: str, blocks: Sequence[int],
                 table: Callable[[np.ndarray], int]) -> None:  # fmt: skip
        self._program, self._prepared, self._constants = program, prepared, constants
        self._element, self._blocks, self._table = TYPES[precision][1], blocks, table

    def launches(self, sizes: Sequence[Size], arena: Arena, base: int, batch: int, planes: Mapping[int, int],
                 results: Mapping[int, int]) -> list[Launch]:  # fmt: skip
        """All that is launched for an arena at address `base`. planes, results: value -> address of float planes, what is in its rectangle, that
        an input is read from or an output written to."""
        self._sizes, self._arena, self._base, self._batch = sizes, arena, base, batch
        n = len(self._prepared)
        found = [self._planes(n, v, planes[v], False) for v in self._program.inputs if arena.offsets[v] >= 0]
        for k, p in enumerate(self._prepared):
            if not is_empty(arena.rects[p.step.output]):
                found += self._step(k, p)
        return found + [self._planes(n + 1, v, address, True) for v, address in results.items()]

    def _view(self, view: np.ndarray, value: int) -> None:
        channels = self._program.values[value].channels
        rect, pitch = self._arena.rects[value], pitch_of(channels)
        set_view(view, self._base + self._arena.offsets[value], channels, pitch, rect, self._sizes[value], area(rect) * pitch)

    def _planes(self, kernel: int, value: int, address: int, out: bool) -> Launch:
        """Between float planes and a value's rectangle."""
        args, channels, rect = np.zeros(1, ARGS), self._program.values[value].channels, self._arena.rects[value]
        self._view(args[0]["in" if out else "out"], value)
        set_view(args[0]["out" if out else "in"], address, channels, 0, rect, self._sizes[value], area(rect) * channels)
        _set_rect(args, rect)
        return Launch(kernel, (_parts(area(rect) * (channels if out else pitch_of(channels)), ELEMENT_THREADS), 1, self._batch), args)

    def _step(self, k: int, p: Prepared) -> list[Launch]:
        step, args = p.step, np.zeros(1, ARGS)
        a, constants = args[0], self._constants[k]
        out = self._arena.rects[step.output]
        rect = before_shuffle(step, out)
        self._view(a["out"], step.output)
        _set_rect(args, rect)
        value = self._program.values[step.output]
        a["batch"], a["cout"] = self._batch, value.channels * step.block**2
        for i, ((_, x, y), address) in enumerate(zip(p.slots, constants.tensors, strict=True)):
            slot = a["slots"][i]
            slot["a"], slot["b"], slot["tensor"] = x, y, address
        for i, v in p.values:
            self._view(a["slots"][i]["value"], v)
        if step.kind == "Conv":
            self._view(a["in"], step.inputs[0])
            found = [self._convolution(k, p, args, rect)]
        else:
            found = self._elements(k, p, args, rect)
        writes_all = p.kernel.family != "conv_direct" and step.block == 1
        if pitch_of(value.channels) > value.channels and not writes_all:
            found.insert(0, self._clear(step.output))
        return found

    def _convolution(self, k: int, p: Prepared, args: np.ndarray, rect: Rect) -> Launch:
        step, a, constants = p.step, args[0], self._constants[k]
        assert step.weight is not None
        a["weight"], a["bias"] = constants.weight, constants.bias
        a["cin"], a["group"] = step.weight.shape[1], step["group"]
        for name in ("kh", "kw", "sh", "sw", "dh", "dw"):
            a[name] = step[name]
        a["pt"], a["pl"], _, _ = conv_pads(step, self._sizes[step.inputs[0]])
        cout, height, width = step.weight.shape[0], rect[2] - rect[0], rect[3] - rect[1]
        if p.kernel.family == "conv_direct":
            blocks = step["group"] * _parts(cout // step["group"], p.kernel.outputs)
            return Launch(k, (_parts(height * width, p.kernel.threads), blocks, self._batch), args)
        a["chunks"], a["tiles_x"] = p.kernel.chunks, _parts(width, TILE_WIDTH)
        a["tiles"] = int(a["tiles_x"]) * _parts(height, p.kernel.rows)
        blocks = _parts(cout, p.kernel.outputs)
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
        return Launch(len(self._prepared) + 2, (_parts(int(args[0]["vectors"]), ELEMENT_THREADS), 1, 1), args)


def _set_rect(args: np.ndarray, rect: Rect) -> None:
    args[0]["y0"], args[0]["x0"], args[0]["y1"], args[0]["x1"] = rect


def _parts(count: int, size: int) -> int:
    return -(-count // size)
