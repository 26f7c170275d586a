"""A Program's steps as instances of kernels: which template, with which arguments, and the numbers that they read. Nothing here depends on a
picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...program import BINARY, Epilogue, Program, Step, Value
from .layout import SLOTS, TYPES, direct_weights, mma_bytes, mma_weights, pitch_of

DIRECT_THREADS, ELEMENT_THREADS, MMA_THREADS = 128, 256, 256

TILE_WIDTH = 16
"""Columns of pixels that a block of conv_mma makes at once."""


@dataclass(frozen=True)
class Kernel:
    """name: the instance, as C++ writes it. shared: bytes of shared memory a block. outputs, rows, chunks: of conv_mma and conv_direct: channels of
    a block or thread, rows of a tile, blocks of input channels."""

    name: str
    threads: int
    shared: int = 0
    outputs: int = 1
    rows: int = 0
    chunks: int = 1

    @property
    def family(self) -> str:
        """The template's name."""
        return self.name.partition("<")[0]


@dataclass(frozen=True)
class Prepared:
    """A step, its kernel, its weights and bias as the kernel reads them, and of each slot the tensor (float32, one for each channel) and numbers."""

    step: Step
    kernel: Kernel
    weight: np.ndarray | None
    bias: np.ndarray | None
    slots: tuple[tuple[np.ndarray | None, float, float], ...]
    values: tuple[tuple[int, int], ...]
    """(slot, value) of operands that are values."""


def prepare(program: Program, precision: str, shared_limit: int) -> tuple[Program, list[Prepared]]:
    """The program with long epilogues cut, and its steps. shared_limit: bytes of shared memory that a block can have."""
    program = shortened(program)
    return program, [_prepared(program, step, precision, shared_limit) for step in program.steps]


def shortened(program: Program) -> Program:
    """The program with at most `SLOTS` operations behind each step; further ones are steps of their own."""
    values, steps = list(program.values), []
    for step in program.steps:
        left, source = step.epilogue, step
        while len(left) > SLOTS:
            head, left = left[:SLOTS], left[SLOTS:]
            channels = _channels(program, step)
            for e in step.epilogue[: len(step.epilogue) - len(left)]:
                channels = channels // int(e.a) ** 2 if e.op == "DepthToSpace" else channels
            values.append(Value(f"{step.name}/{len(left)}", channels))
            steps.append(replace(source, output=len(values) - 1, epilogue=head))
            source = Step("Pointwise", (len(values) - 1,), step.output, {}, None, None, (), step.name)
        steps.append(replace(source, epilogue=left))
    return program if len(steps) == len(program.steps) else replace(program, values=values, steps=steps)


def _channels(program: Program, step: Step) -> int:
    """Of a step's result before its epilogue."""
    shuffled = step.block**2
    return program.values[step.output].channels * shuffled


def _prepared(program: Program, step: Step, precision: str, shared_limit: int) -> Prepared:
    kernel_type = TYPES[precision][0]
    cut = next((k for k, e in enumerate(step.epilogue) if e.op == "DepthToSpace"), len(step.epilogue))
    before, after = list(step.epilogue[:cut]), list(step.epilogue[cut + 1 :])
    channels = _channels(program, step)
    order = None
    make = _convolution(program, step, precision, shared_limit) if step.kind == "Conv" else None
    crd = step.block > 1 and step.epilogue[cut].b == 1
    if make is not None and make.family == "conv_mma" and crd and all(e.value is None for e in before):
        order, crd = np.arange(channels).reshape(-1, step.block**2).T.reshape(-1), False  # so that channels which stay together are neighbours

    slots: list[tuple[np.ndarray | None, float, float]] = []
    values: list[tuple[int, int]] = []

    def chain(epilogue: Sequence[Epilogue], count: int, moved: np.ndarray | None) -> str:
        names = []
        for e in epilogue:
            tensor = None
            if e.tensor is not None:
                tensor = np.ascontiguousarray(np.broadcast_to(e.tensor.reshape(-1).astype(np.float32), (count,)))
                tensor = tensor if moved is None else tensor[moved]
            if e.value is not None:
                values.append((len(slots), e.value))
            names.append(_operation(e, len(slots), kernel_type))
            slots.append((tensor, e.a, e.b))
        return f"Chain<{', '.join(names)}>"

    ends = f"{chain(before, channels, order)}, Shuffle<{step.block}, {_bool(crd)}>, {chain(after, channels // step.block**2, None)}"
    if make is None:
        kernel = Kernel(f"elements<{kernel_type}, {_source(step)}, {ends}>", ELEMENT_THREADS)
        return Prepared(step, kernel, None, None, tuple(slots), tuple(values))
    assert step.weight is not None
    weight, bias = step.weight.astype(np.float32), None if step.bias is None else step.bias.astype(np.float32)
    if order is not None:
        weight, bias = weight[order], None if bias is None else bias[order]
    kernel = replace(make, name=f"{make.name}, {ends}>")
    return Prepared(step, kernel, _packed(weight, step["group"], kernel), bias, tuple(slots), tuple(values))


def _packed(weight: np.ndarray, group: int, kernel: Kernel) -> np.ndarray:
    if kernel.family == "conv_direct":
        return direct_weights(weight, group, kernel.outputs)
    return mma_weights(weight, _block(pitch_of(weight.shape[1]), kernel.chunks), kernel.outputs)


def _block(pitch: int, chunks: int) -> int:
    """Input channels that conv_mma takes at a time."""
    return 32 if chunks > 1 else -(-pitch // 16) * 16


def _convolution(program: Program, step: Step, precision: str, shared_limit: int) -> Kernel:
    """The kernel without its epilogue."""
    assert step.weight is not None
    cout, cin, kh, kw = step.weight.shape
    plain = step["group"] == 1 and all(step[p] == 1 for p in ("sh", "sw", "dh", "dw"))
    if precision == "fast" and plain and cin >= 8 and np.abs(step.weight).max() <= np.finfo(np.float16).max:
        whole = _block(pitch_of(cin), 1)
        choices = [(whole, True, rows) for rows in (16, 8)] if whole <= 64 else []
        choices += [(32, False, rows) for rows in (16, 8) if pitch_of(cin) > 32]
        for most in (64, 32, 16):
            outputs = -(-cout // (16 * -(-cout // most))) * 16
            for channels, resident, rows in choices:
                size = mma_bytes(kh, kw, channels, outputs, rows, resident)
                if size <= shared_limit:
                    name = f"conv_mma<{kh}, {kw}, {channels}, {outputs}, {rows}, {_bool(resident)}"
                    return Kernel(name, MMA_THREADS, size, outputs, rows, -(-pitch_of(cin) // channels))
    each = cout // step["group"]
    outputs = 8 if each > 4 else 4 if each > 1 else 1
    return Kernel(f"conv_direct<{TYPES[precision][0]}, {outputs}", DIRECT_THREADS, 0, outputs)


def _source(step: Step) -> str:
    if step.kind == "DepthToSpace":
        return f"DepthToSpace<{_bool(step['mode'] == 1)}>"
    return {"Pointwise": "Same", "Concat": "Same", "Resize": "Resized", "Pad": "Padded", "SpaceToDepth": "SpaceToDepth"}[step.kind]


def _operation(e: Epilogue, slot: int, kernel_type: str) -> str:
    if e.op not in BINARY:
        return f"{e.op}<{slot}>"
    if e.value is not None:
        return f"{e.op}<Value<{kernel_type}, {slot}>>"
    return f"{e.op}<{'Number' if e.tensor is None else 'Tensor'}<{kernel_type}, {slot}>>"


def _bool(value: bool) -> str:
    return "true" if value else "false"
