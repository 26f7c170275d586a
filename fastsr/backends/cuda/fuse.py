"""Which convolutions one launch of `kernels/fused.cuh` makes together: chains that are small enough to go through shared memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...program import Program, Step
from .layout import SLOTS, are_halfs

TILES = ((32, 32), (16, 32), (16, 16), (8, 16))
"""Rows and columns of pixels that a block makes at once, the first that has room being taken."""

LARGE = TILES[:2]
"""Those by which a chain is cut that has no room as a whole."""

MOST_CHANNELS = 64

MOST_WORK = 2.0
"""Multiplications of a tile with its halo, over those without, beyond which convolutions are launched one by one."""


@dataclass(frozen=True)
class Layer:
    """A convolution of a chain: the kernel's edge, input and output channels rounded up, output channels, input channels with im2col (else 0)."""

    edge: int
    inputs: int
    outputs: int
    real: int
    wide: int

    @property
    def taps(self) -> int:
        """Shifts of its input."""
        return 1 if self.wide else self.edge**2

    @property
    def weights(self) -> int:
        """Halfs of its weights in shared memory."""
        return self.taps * self.outputs * (self.inputs + 8)


@dataclass(frozen=True)
class Chain:
    """Steps first..last of a program as layers, for tiles of rows x columns pixels, in so many bytes of shared memory."""

    first: int
    last: int
    layers: tuple[Layer, ...]
    rows: int
    columns: int
    shared: int


def chains_of(program: Program, shared_limit: int) -> list[Chain]:
    """The chains of a program, none overlapping another: the longest one from a step on that there is room for."""
    readers = Counter(v for s in program.steps for v in s.reads())
    readers.update(v for _, v in program.outputs)
    found, k = [], 0
    while k < len(program.steps):
        end = _end(program, k, readers)
        chain = _fitted(program, k, end, shared_limit) if end > k else None
        for shorter in range(end - 1, k, -1):
            chain = chain or _fitted(program, k, shorter, shared_limit, LARGE)
        if chain is not None:
            found.append(chain)
        k = chain.last + 1 if chain is not None else max(end, k) + 1
    return found


def _end(program: Program, first: int, readers: Counter[int]) -> int:
    """The last step of the chain that begins at a step; a smaller number where none does."""
    if not _suits(program.steps[first], first=True):
        return first - 1
    last = first
    while last + 1 < len(program.steps):
        here, after = program.steps[last], program.steps[last + 1]
        simple = here.block == 1 and readers[here.output] == 1 and all(e.value is None for e in here.epilogue)
        if not simple or after.inputs != (here.output,) or not _suits(after, first=False):
            break
        last += 1
    while sum(len(s.epilogue) for s in program.steps[first : last + 1]) > SLOTS:
        last -= 1
    return last


def _suits(step: Step, first: bool) -> bool:
    if step.kind != "Conv" or step.weight is None or step["group"] != 1 or any(step[p] != 1 for p in ("sh", "sw", "dh", "dw")):
        return False
    cout, cin, kh, kw = step.weight.shape
    same = kh == kw and kh % 2 == 1 and (step["auto_pad"] != 0 or all(step[p] == kh // 2 for p in ("pt", "pl", "pb", "pr")))
    return same and cout <= MOST_CHANNELS and cin <= MOST_CHANNELS and (first or cin >= 2) and are_halfs(step.weight)


def _up(count: int, size: int = 16) -> int:
    return -(-count // size) * size


def layers_of(steps: Sequence[Step]) -> tuple[Layer, ...]:
    """The steps as layers."""
    found = []
    for k, step in enumerate(steps):
        assert step.weight is not None
        cout, cin, edge, _ = step.weight.shape
        wide = cin if k == 0 and cin < 8 else 0
        found.append(Layer(edge, _up(edge**2 * cin if wide else cin), _up(cout), cout, wide))
    return tuple(found)


def fused_bytes(layers: Sequence[Layer], rows: int, columns: int) -> int:
    """Shared memory: FusedLayout::BYTES."""
    halo, read, written, weights = 0, 0, 0, 0
    for layer in reversed(layers):
        out = (rows + halo) * (columns + halo)
        halo += layer.edge - 1
        into = out if layer.wide else (rows + halo) * (columns + halo)
        read, written = max(into * (layer.inputs + 8), written), max(out * (layer.outputs + 8), read)
        weights += layer.weights
    return 2 * (read + written + weights)


def work(layers: Sequence[Layer], rows: int, columns: int) -> float:
    """Multiplications of a tile with its halo over those without."""
    halo, done, least = 0, 0, 0
    for layer in reversed(layers):
        each = layer.taps * layer.inputs * layer.outputs
        done += each * (rows + halo) * (columns + halo)
        least += each * rows * columns
        halo += layer.edge - 1
    return done / least


def _fitted(program: Program, first: int, last: int, shared_limit: int, tiles: Sequence[tuple[int, int]] = TILES) -> Chain | None:
    """The chain with the largest tiles that there is room for; None where it is not worth it, or has no room, as deep or wide networks have not."""
    layers = layers_of(program.steps[first : last + 1])
    for rows, columns in tiles:
        size = fused_bytes(layers, rows, columns)
        if size <= shared_limit and work(layers, rows, columns) <= MOST_WORK:
            return Chain(first, last, layers, rows, columns, size)
    return None


def fused_weights(steps: Sequence[Step], layers: Sequence[Layer], order: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights, float16, and biases, float32, of all layers one after another as the kernel reads them. order: of the last one's output channels."""
    weights, biases = [], []
    for step, layer in zip(steps, layers, strict=True):
        assert step.weight is not None
        w = step.weight.astype(np.float32)
        b = np.zeros(layer.real, np.float32) if step.bias is None else step.bias.astype(np.float32)
        if order is not None and step is steps[-1]:
            w, b = w[order], b[order]
        cout, cin, kh, kw = w.shape
        taps = w.transpose(2, 3, 0, 1).reshape(kh * kw, cout, cin)
        if layer.wide:
            taps = taps.transpose(1, 0, 2).reshape(1, cout, kh * kw * cin)
        held = np.zeros((layer.taps, layer.outputs, layer.inputs), np.float16)
        held[:, :cout, : taps.shape[2]] = taps
        weights.append(held.reshape(-1))
        biases.append(np.pad(b, (0, layer.outputs - cout)))
    return np.concatenate(weights), np.concatenate(biases)
