"""From a step of the program to kernels: which ones, with how many threads, and their arguments."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from ... import tiles
from ...program import Step
from ...tiles import Rect, Size
from . import kernels
from .operations import OPERANDS

MAX_TILED = 9
"""Largest kernel edge for `kernels.tiled_conv`: its shared memory holds a block's pixels with the halo around them."""

_SIZES_KEPT = 4

GUARD: contextlib.AbstractContextManager[object] = threading.RLock() if kernels.SIMULATED else contextlib.nullcontext()
"""numba's simulator runs one kernel at a time, and none while kernels are made."""

_KERNELS: dict[str, Callable[[Any], Any]] = {
    "Pointwise": kernels.moved,
    "Concat": kernels.moved,
    "Resize": kernels.resized,
    "Pad": kernels.padded,
    "DepthToSpace": kernels.depth_to_space,
    "SpaceToDepth": kernels.space_to_depth,
}

_NO_OPERAND = np.zeros((1, 1, 1), np.float32)


class Part(NamedTuple):
    """A value, or a part of it, on the GPU. array: (channels, height, width) float32; rect: where in the value it lies."""

    array: Any
    rect: Rect


def outputs_per_thread(channels: int) -> int:
    """Output channels that a thread makes of so many in a group: more reuse what was read, but the last ones of a group may be for nothing."""
    return min((8, 4, 2, 1), key=lambda n: -(-channels // n) * (n + 2))


def blocked(weights: np.ndarray, group: int, outputs: int) -> np.ndarray:
    """(channels, ...) as (blocks, ..., outputs), each group of channels filled up with zeros."""
    per_group = weights.shape[0] // group
    grouped = weights.reshape(group, per_group, *weights.shape[1:])
    padding = [(0, 0), (0, -per_group % outputs)] + [(0, 0)] * (weights.ndim - 1)
    blocks = np.pad(grouped, padding).reshape(-1, outputs, *weights.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocks, 1, -1), np.float32)


class StepOnGpu:
    """A step with what it needs on the GPU whatever the picture: kernel, weights, operands. Made once, used by any thread."""

    def __init__(self, step: Step) -> None:
        self.step = step
        names = [e.op for e in step.epilogue]
        at = names.index("DepthToSpace") if "DepthToSpace" in names else len(names)
        before, after = step.epilogue[:at], step.epilogue[at + 1 :]
        crd = at < len(names) and step.epilogue[at].b == 1
        with GUARD:
            save = kernels.store(_operations(before), step.block if at < len(names) else 0, crd, _operations(after))
            self._operands = [(_constant(e), e.value, n > at) for n, e in enumerate(step.epilogue) if e.op in OPERANDS]
            self._nothing = cuda.to_device(_NO_OPERAND)
            self._kernel = self._conv_kernel(save) if step.kind == "Conv" else _KERNELS[step.kind](save)
        self._launch_kind = {
            "Conv": self._conv,
            "Pointwise": self._moved,
            "Concat": self._moved,
            "Resize": self._from_tables,
            "Pad": self._from_tables,
            "DepthToSpace": self._depth_to_space,
            "SpaceToDepth": self._space_to_depth,
        }[step.kind]
        self._tables: dict[tuple[Size, Size], list[Any]] = {}

    def run(self, parts: Sequence[Part | None], sizes: Sequence[Size], stream: Any) -> None:
        """Make the part of the output that `parts` has, from those of the inputs; returns when the work is queued. sizes: of all values."""
        out = parts[self.step.output]
        sources = [part for v in self.step.inputs if (part := parts[v]) is not None]
        assert out is not None
        made = tiles.before_shuffle(self.step, out.rect)
        operands, shifts = [], []
        for constant, value, after in self._operands:
            rect = out.rect if after else made
            part = None if value is None else parts[value]
            operands.append(constant if part is None else part.array)
            shifts.append((0, 0) if part is None else (rect[0] - part.rect[0], rect[1] - part.rect[1]))
        rest = out.array, made[2] - made[0], made[3] - made[1], tuple(operands) or (self._nothing,), tuple(shifts) or ((0, 0),)
        self._launch_kind(sources, made, sizes, rest, stream)

    def _conv_kernel(self, save: Any) -> Any:
        """The kernel; uploads weights and biases."""
        step, weight = self.step, self.step.weight
        assert weight is not None
        self._per_group = weight.shape[0] // step["group"]
        outputs = outputs_per_thread(self._per_group)
        bias = np.zeros(weight.shape[0], np.float32) if step.bias is None else step.bias
        self._weights = cuda.to_device(blocked(weight, step["group"], outputs))
        self._bias = cuda.to_device(blocked(bias, step["group"], outputs))
        self._tiled = all(step[n] == 1 for n in ("sh", "sw", "dh", "dw")) and 1 < max(step["kh"], step["kw"]) <= MAX_TILED
        return kernels.tiled_conv(step["kh"], step["kw"], outputs, save) if self._tiled else kernels.direct_conv(outputs, save)

    def _conv(self, sources: Sequence[Part], made: Rect, sizes: Sequence[Size], rest: tuple[Any, ...], stream: Any) -> None:
        step, source = self.step, sources[0]
        window = tiles.conv_window(step, made, sizes[step.inputs[0]])
        corner = window[0] - source.rect[0], window[1] - source.rect[1]
        height, width = rest[1:3]
        blocks = self._weights.shape[0]
        if self._tiled:
            across, down = -(-width // kernels.BLOCK_W), -(-height // (kernels.BLOCK_H * kernels.ROWS))
            shape = blocks * across * down, (kernels.BLOCK_W, kernels.BLOCK_H)
            _launch(self._kernel, shape, stream, source.array, self._weights, self._bias, self._per_group, corner, *rest)
            return
        steps = (step["sh"], step["sw"]), (step["dh"], step["dw"])
        _launch(self._kernel, _flat(blocks * height * width), stream, source.array, self._weights, self._bias, self._per_group, *steps, corner, *rest)

    def _moved(self, sources: Sequence[Part], made: Rect, sizes: Sequence[Size], rest: tuple[Any, ...], stream: Any) -> None:
        first = 0
        for source in sources:
            shift = made[0] - source.rect[0], made[1] - source.rect[1]
            channels = source.array.shape[0]
            _launch(self._kernel, _flat(channels * rest[1] * rest[2]), stream, source.array, first, shift, *rest)
            first += channels

    def _depth_to_space(self, sources: Sequence[Part], made: Rect, sizes: Sequence[Size], rest: tuple[Any, ...], stream: Any) -> None:
        source, block = sources[0], self.step["block"]
        out, height, width, *others = rest
        shift = made[0] // block - source.rect[0], made[1] // block - source.rect[1]
        height, width = height // block, width // block
        shape = _flat(source.array.shape[0] * height * width)
        _launch(self._kernel, shape, stream, source.array, block, self.step["mode"] == 1, shift, out, height, width, *others)

    def _space_to_depth(self, sources: Sequence[Part], made: Rect, sizes: Sequence[Size], rest: tuple[Any, ...], stream: Any) -> None:
        source, block = sources[0], self.step["block"]
        corner = made[0] * block - source.rect[0], made[1] * block - source.rect[1]
        _launch(self._kernel, _flat(source.array.shape[0] * block**2 * rest[1] * rest[2]), stream, source.array, block, corner, *rest)

    def _from_tables(self, sources: Sequence[Part], made: Rect, sizes: Sequence[Size], rest: tuple[Any, ...], stream: Any) -> None:
        source = sources[0]
        fill = (np.float32(self.step["value"]),) if self.step.kind == "Pad" else ()
        shape = _flat(source.array.shape[0] * rest[1] * rest[2])
        _launch(self._kernel, shape, stream, source.array, *self._tables_for(sizes), made[:2], source.rect[:2], *fill, *rest)

    def _tables_for(self, sizes: Sequence[Size]) -> list[Any]:
        """The step's tables of rows and of columns on the GPU; those of the last few picture sizes are kept."""
        step = self.step
        in_size, (height, width) = sizes[step.inputs[0]], sizes[step.output]
        out_size = height // step.block, width // step.block
        found = self._tables.get((in_size, out_size))
        if found is None:
            tables: list[np.ndarray] = []
            for axis in (0, 1):
                if step.kind == "Pad":
                    tables.append(tiles.pad_table(step, axis, in_size[axis], out_size[axis]))
                else:
                    tables += tiles.resize_table(step, axis, in_size[axis], out_size[axis])
            found = [cuda.to_device(t if t.dtype == np.float32 else t.astype(np.int32)) for t in tables]
            self._tables = {**dict(list(self._tables.items())[1 - _SIZES_KEPT :]), (in_size, out_size): found}
        return found


def _operations(epilogue: Sequence[Any]) -> tuple[tuple[str, float, float], ...]:
    """As `kernels.store` has them. Numbers of operations with an operand are not among them: that is an array, and kernels are shared."""
    found = []
    for e in epilogue:
        if e.op == "Gelu":
            found.append(("GeluTanh" if e.a else "Gelu", 0.0, 0.0))
        else:
            found.append((e.op, 0.0, 0.0) if e.op in OPERANDS else (e.op, e.a, e.b))
    return tuple(found)


def _constant(e: Any) -> Any:
    """An operand that is no value: (channels or 1, 1, 1) on the GPU."""
    if e.value is not None:
        return None
    with np.errstate(over="ignore"):
        numbers = np.asarray(e.a if e.tensor is None else e.tensor, np.float32)
    return cuda.to_device(np.ascontiguousarray(numbers.reshape(-1, 1, 1)))


def _flat(count: int) -> tuple[int, int]:
    """Blocks, and threads of each, for at least `count` threads."""
    return -(-count // kernels.THREADS), kernels.THREADS


def _launch(kernel: Any, shape: tuple[int, Any], stream: Any, *arguments: Any) -> None:
    with GUARD:
        kernel[shape[0], shape[1], stream](*arguments)
