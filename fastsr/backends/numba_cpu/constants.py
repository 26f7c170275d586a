"""What the kernels take of a program whatever the picture: weights, biases, slopes and operands, packed once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...program import Epilogue, Program, Step
from . import kernels as k
from . import winograd
from .vectors import LANES

_INF = float("inf")


class ConvConstants(NamedTuple):
    """What `kernels.conv` needs of one step; places are indices into `Constants.array`."""

    blocks: np.ndarray
    bias: int
    weights_row: int
    act: tuple[int, int, float, float]
    residual: int | None
    residual_first: bool
    fused: int


def _is_winograd(step: Step) -> bool:
    """Whether the step is made in groups of rows by `winograd`."""
    if step.weight is None or (step["kh"], step["kw"]) != (3, 3) or any(step[n] != 1 for n in ("sh", "sw", "dh", "dw", "group")):
        return False
    return winograd.pays(step.weight.shape[1], step.weight.shape[0])


class Constants:
    """Weights, biases, slopes and tensor operands of a program in one float32 array."""

    def __init__(self, program: Program) -> None:
        self._parts: list[np.ndarray] = []
        self._length = 0
        self.convs: dict[int, ConvConstants] = {}
        self.tensors: dict[tuple[int, int], int] = {}
        self.grouped = frozenset(s for s, step in enumerate(program.steps) if _is_winograd(step))
        for s, step in enumerate(program.steps):
            if step.kind == "Conv":
                self.convs[s] = self._conv(program, step, s in self.grouped)
            for j, e in enumerate(step.epilogue):
                if e.tensor is not None:
                    self.tensors[s, j] = self._put(e.tensor)
        # Kernels read a few constants past the last one of a block.
        self._put(np.zeros(LANES))
        self.array = np.concatenate(self._parts)

    def _put(self, array: np.ndarray) -> int:
        place = self._length
        self._parts.append(np.ascontiguousarray(array, np.float32).reshape(-1))
        self._length += array.size
        return place

    def _conv(self, program: Program, step: Step, grouped: bool) -> ConvConstants:
        weight = step.weight
        assert weight is not None
        cout, per_group = weight.shape[0], weight.shape[0] // step["group"]
        bias = self._put(np.zeros(cout) if step.bias is None else step.bias)
        flat, block_bias = weight.reshape(1, cout, -1), bias
        if grouped:
            flat, block_bias = winograd.transform_weights(weight).reshape(winograd.POINTS, cout, -1), self._put(np.zeros(cout))
        blocks = []
        for g in range(step["group"]):
            o, end = g * per_group, (g + 1) * per_group
            while o < end:
                n = next(n for n in k.CONV_BLOCKS if n <= end - o)
                blocks.append((n, o, g * weight.shape[1], self._length + o * flat.shape[2], block_bias + o))
                o += n
        for point in flat:
            for n, o, *_ in blocks:
                self._put(point[o : o + n].T)
        act, residual, first, fused = self._store(program, step, cout)
        return ConvConstants(np.array(blocks, np.int64).reshape(-1, 5), bias, flat[0].size if grouped else 0, act, residual, first, fused)

    def _store(self, program: Program, step: Step, cout: int) -> tuple[tuple[int, int, float, float], int | None, bool, int]:
        """The leading epilogues that the convolution's store does: one activation and one residual, in either order."""
        act, residual, first, fused = (k.ACT_NONE, 0, 0.0, 0.0), None, False, 0
        for e in step.epilogue:
            if e.op == "Add" and e.value is not None and residual is None and program.values[e.value].channels == cout:
                residual, first = e.value, act[0] == k.ACT_NONE
            elif act[0] == k.ACT_NONE and e.op in ("Relu", "Clip", "LeakyRelu", "PRelu"):
                act = self._activation(e, cout)
            else:
                break
            fused += 1
        return act, residual, first, fused

    def _activation(self, e: Epilogue, cout: int) -> tuple[int, int, float, float]:
        if e.op == "Relu":
            return k.ACT_CLIP, 0, 0.0, _INF
        if e.op == "Clip":
            return k.ACT_CLIP, 0, e.a, e.b
        slopes = np.full(cout, e.a) if e.tensor is None else np.broadcast_to(e.tensor.reshape(-1), cout)
        return k.ACT_SLOPE, self._put(slopes), 0.0, 0.0
