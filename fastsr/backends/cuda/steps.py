"""A Program's steps as instances of kernels: which template, with which arguments, and the numbers that they read. Nothing here depends on a
picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...program import BINARY, Epilogue, Program, Step, Value
from .fuse import Chain, chains_of, fused_weights
from .layout import SLOTS, TYPES, are_halfs, direct_weights, mma_bytes, mma_weights, pitch_of

DIRECT_THREADS, ELEMENT_THREADS, MMA_THREADS = 128, 256, 256

TILE_WIDTH = 16
"""Columns of pixels that a block of conv_mma makes at once."""


@dataclass(frozen=True)
class Kernel:
    """name: the instance, as C++ writes it. shared: bytes of shared memory a block. outputs, rows, columns, chunks: of convolutions: channels of a
    block or thread, pixels of a tile, blocks of input channels."""

    name: str
    threads: int
    shared: int = 0
    outputs: int = 1
    rows: int = 0
    chunks: int = 1
    columns: int = TILE_WIDTH

    @property
    def family(self) -> str:
        """The template's name."""
        return self.name.partition("<")[0]


@dataclass(frozen=True)
class Prepared:
    """A step, its kernel, its weights and bias as the kernel reads them, and of each slot the tensor (float32, one for each channel) and numbers.

    A chain of convolutions is one kernel, that of its last step; the steps before have none, and their values are nowhere in memory.
    """

    step: Step
    kernel: Kernel | None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    slots: tuple[tuple[np.ndarray | None, float, float], ...] = ()
    values: tuple[tuple[int, int], ...] = ()
    """(slot, value) of operands that are values."""
    source: int = 0
    """The value that the kernel of a convolution reads."""

    def reads(self) -> list[int]:
        """All values that the kernel reads."""
        if self.step.kind != "Conv":
            return self.step.reads()
        return [self.source, *(v for _, v in self.values)]


def prepare(program: Program, precision: str, shared_limit: int) -> tuple[Program, list[Prepared]]:
    """The program with long epilogues cut, and its steps. shared_limit: bytes of shared memory that a block can have."""
    program = shortened(program)
    found: dict[int, Prepared] = {}
    for chain in chains_of(program, shared_limit) if precision == "fast" else []:
        found |= {k: Prepared(program.steps[k], None) for k in range(chain.first, chain.last)}
        found[chain.last] = _fused(program, chain)
    return program, [found.get(k) or _prepared(program, step, precision, shared_limit) for k, step in enumerate(program.steps)]


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


class _Slots:
    """The slots of a kernel, filled while the types of its epilogues are named."""

    def __init__(self, kernel_type: str) -> None:
        self._type = kernel_type
        self.slots: list[tuple[np.ndarray | None, float, float]] = []
        self.values: list[tuple[int, int]] = []

    def chain(self, epilogue: Sequence[Epilogue], channels: int, order: np.ndarray | None = None) -> str:
        """The type of some operations on so many channels, which lie in that order."""
        names = []
        for e in epilogue:
            tensor = None
            if e.tensor is not None:
                tensor = np.ascontiguousarray(np.broadcast_to(e.tensor.reshape(-1).astype(np.float32), (channels,)))
                tensor = tensor if order is None else tensor[order]
            if e.value is not None:
                self.values.append((len(self.slots), e.value))
            names.append(_operation(e, len(self.slots), self._type))
            self.slots.append((tensor, e.a, e.b))
        return f"Chain<{', '.join(names)}>"

    def ends(self, step: Step, channels: int, reorder: bool) -> tuple[str, str, str, np.ndarray | None]:
        """Types of what is before the shuffle, of the shuffle and of what is behind it. reorder: output channels may lie in another order, which is
        the last result, so that those which stay together in mode CRD are neighbours."""
        cut = next((k for k, e in enumerate(step.epilogue) if e.op == "DepthToSpace"), len(step.epilogue))
        before, after, count = step.epilogue[:cut], step.epilogue[cut + 1 :], step.block**2
        crd, order = step.block > 1 and step.epilogue[cut].b == 1, None
        if reorder and crd and all(e.value is None for e in before):
            order, crd = np.arange(channels).reshape(-1, count).T.reshape(-1), False
        return self.chain(before, channels, order), f"Shuffle<{step.block}, {_bool(crd)}>", self.chain(after, channels // count), order


def _prepared(program: Program, step: Step, precision: str, shared_limit: int) -> Prepared:
    found = _Slots(TYPES[precision][0])
    make = _convolution(step, precision, shared_limit) if step.kind == "Conv" else None
    before, shuffle, after, order = found.ends(step, _channels(program, step), make is not None and make.family == "conv_mma")
    if make is None:
        kernel = Kernel(f"elements<{TYPES[precision][0]}, {_source(step)}, {before}, {shuffle}, {after}>", ELEMENT_THREADS)
        return Prepared(step, kernel, None, None, tuple(found.slots), tuple(found.values))
    assert step.weight is not None
    weight, bias = step.weight.astype(np.float32), None if step.bias is None else step.bias.astype(np.float32)
    if order is not None:
        weight, bias = weight[order], None if bias is None else bias[order]
    kernel = replace(make, name=f"{make.name}, {before}, {shuffle}, {after}>")
    return Prepared(step, kernel, _packed(weight, step["group"], kernel), bias, tuple(found.slots), tuple(found.values), step.inputs[0])


def _fused(program: Program, chain: Chain) -> Prepared:
    found = _Slots(TYPES["fast"][0])
    steps = program.steps[chain.first : chain.last + 1]
    names = [found.chain(step.epilogue, program.values[step.output].channels) for step in steps[:-1]]
    before, shuffle, after, order = found.ends(steps[-1], _channels(program, steps[-1]), True)
    types = [f"Layer<{n.edge}, {n.inputs}, {n.outputs}, {n.real}, {n.wide}, {ops}>" for n, ops in zip(chain.layers, [*names, before], strict=True)]
    kernel = Kernel(f"fused<{chain.rows}, {chain.columns}, {shuffle}, {after}, {', '.join(types)}>", MMA_THREADS, chain.shared,
                    chain.layers[-1].outputs, chain.rows, columns=chain.columns)  # fmt: skip
    return Prepared(steps[-1], kernel, *fused_weights(steps, chain.layers, order), tuple(found.slots), tuple(found.values), steps[0].inputs[0])


def _packed(weight: np.ndarray, group: int, kernel: Kernel) -> np.ndarray:
    if kernel.family == "conv_direct":
        return direct_weights(weight, group, kernel.outputs)
    return mma_weights(weight, _block(pitch_of(weight.shape[1]), kernel.chunks), kernel.outputs)


def _block(pitch: int, chunks: int) -> int:
    """Input channels that conv_mma takes at a time."""
    return 32 if chunks > 1 else -(-pitch // 16) * 16


def _convolution(step: Step, precision: str, shared_limit: int) -> Kernel:
    """The kernel without its epilogue."""
    assert step.weight is not None
    cout, cin, kh, kw = step.weight.shape
    plain = step["group"] == 1 and all(step[p] == 1 for p in ("sh", "sw", "dh", "dw"))
    if precision == "fast" and plain and cin >= 8 and are_halfs(step.weight):
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
