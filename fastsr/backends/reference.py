"""The reference backend: a Program run step by step over the whole picture in naive NumPy. The oracle of every other backend.

`dtype=numpy.float64` in `run_program` gives an oracle sharper than float32.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import knobs, ops
from ..errors import BackendError
from ..graph import Node
from ..levels import check_quantised, integer_convs
from ..program import AUTO_PAD, D2S_MODE, OVER_PICTURE, PAD_MODE, RESIZE_COORD, RESIZE_MODE, RESIZE_NEAREST, Epilogue, Program, Step, size_scale
from . import Executable, Progress

NAME = "reference"
PRECISIONS = ("f32", "int8")


def unavailable() -> str | None:
    """Always available."""
    return None


def compile(program: Program, *, precision: str = "f32", threads: int | None = None, tile: int | None = None) -> Executable:
    """Threads and tile have no effect here. Raises BackendError for a precision other than `PRECISIONS`, ModelError for int8 without integers."""
    if precision not in PRECISIONS:
        raise BackendError(f"the reference backend computes in {' or '.join(PRECISIONS)}, not '{precision}'")
    if precision == "int8":
        check_quantised(program)
    return Reference(program, precision)


class Reference(Executable):
    """See the module."""

    backend = NAME

    def __init__(self, program: Program, precision: str = "f32") -> None:
        self.program = program
        self._integers = precision == "int8"

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`."""
        return run_program(self.program, inputs, outputs, progress, integers=self._integers)


def run_program(
    program: Program,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[int] = (0,),
    progress: Progress | None = None,
    dtype: Any = np.float32,
    integers: bool = False,
) -> list[np.ndarray]:
    """Run the program on (N, C, H, W) arrays; returns arrays of `dtype`, one per requested output index.

    integers: the sums of integer convolutions (docs/fsr.md) are exact before they become `dtype`.
    """
    sizes = program.value_sizes(*inputs[0].shape[2:])
    values: dict[int, np.ndarray] = {v: np.asarray(x, dtype) for v, x in zip(program.inputs, inputs, strict=True)}
    timed = knobs.debug_level() >= 2
    exact = integer_convs(program) if integers else [False] * len(program.steps)
    for done, step in enumerate(program.steps):
        if progress:
            progress(done, len(program.steps))
        start = time.perf_counter()
        x = values[step.output] = run_step(step, values, dtype, exact[done])
        assert x.shape[1:] == (program.values[step.output].channels, *sizes[step.output]), step.name
        if timed:
            pixels = x.size // x.shape[1] // step.block**2
            flops = 0 if step.weight is None else 2 * step.weight.size * pixels
            seconds = time.perf_counter() - start
            rate = f"{flops / seconds / 1e9:9.1f} GFLOP/s" if flops else " " * 17
            print(f"fastsr: {1e3 * seconds:9.3f} ms {rate}  {step.kind} {step.name}", file=sys.stderr)
    if progress:
        progress(len(program.steps), len(program.steps))
    return [np.ascontiguousarray(values[program.outputs[i][1]]).copy() for i in outputs]


def run_step(step: Step, values: Mapping[int, np.ndarray], dtype: Any = np.float32, exact: bool = False) -> np.ndarray:
    """The result of one step; values: those that it reads, (N, C, H, W). exact: an integer convolution, whose sums are exact."""
    if exact:
        x = _kind(step, [values[i].astype(np.float64) for i in step.inputs], np.float64).astype(dtype)  # whole numbers: exact
    else:
        x = _kind(step, [values[i] for i in step.inputs], dtype)
    for e in step.epilogue:
        x = _epilogue(e, x, values, dtype)
    return np.asarray(x, dtype)


def _name(table: dict[str, int], code: int) -> str:
    return next(k for k, v in table.items() if v == code)


def _kind(step: Step, xs: list[np.ndarray], dtype: Any) -> np.ndarray:
    x = xs[0]
    if step.kind == "Conv":
        pads = [step["pt"], step["pl"], step["pb"], step["pr"]]
        node = _node(
            "Conv",
            strides=[step["sh"], step["sw"]],
            dilations=[step["dh"], step["dw"]],
            group=step["group"],
            pads=pads,
            auto_pad=_name(AUTO_PAD, step["auto_pad"]),
        )
        assert step.weight is not None
        return ops.Conv(node, x, step.weight.astype(dtype), None if step.bias is None else step.bias.astype(dtype))
    if step.kind == "Pointwise":
        return x
    if step.kind == "Concat":
        return ops.Concat(_node("Concat", axis=1), *xs)
    if step.kind in ("Resize", "ResizeTo"):
        node = _node(
            "Resize",
            mode=_name(RESIZE_MODE, step["mode"]),
            coordinate_transformation_mode=_name(RESIZE_COORD, step["coord"]),
            nearest_mode=_name(RESIZE_NEAREST, step["nearest_mode"]),
            cubic_coeff_a=step["cubic_a"],
            exclude_outside=step["exclude_outside"],
        )
        scales = step.params.get("scale_h", 0), step.params.get("scale_w", 0)
        if step.kind == "ResizeTo":
            scales = size_scale(x.shape[2], xs[1].shape[2]), size_scale(x.shape[3], xs[1].shape[3])
        return ops.Resize(node, x, None, np.array([1, 1, *scales]))
    if step.kind in OVER_PICTURE:
        return np.asarray(ops.OPS[step.kind](_node(step.kind), x))
    if step.kind == "Pad":
        amounts = np.array([0, 0, step["pt"], step["pl"], 0, 0, step["pb"], step["pr"]])
        return ops.Pad(_node("Pad", mode=_name(PAD_MODE, step["mode"])), x, amounts, np.array(step["value"], dtype))
    if step.kind == "DepthToSpace":
        return ops.DepthToSpace(_node("DepthToSpace", blocksize=step["block"], mode=_name(D2S_MODE, step["mode"])), x)
    assert step.kind == "SpaceToDepth"
    return ops.SpaceToDepth(_node("SpaceToDepth", blocksize=step["block"]), x)


def _node(op: str, **attrs: Any) -> Node:
    return Node(op, [], [], attrs)


def _epilogue(e: Epilogue, x: np.ndarray, values: Mapping[int, np.ndarray], dtype: Any) -> np.ndarray:
    if e.op == "DepthToSpace":
        return ops.DepthToSpace(_node("DepthToSpace", blocksize=int(e.a), mode=_name(D2S_MODE, int(e.b))), x)
    a, b = dtype(e.a), dtype(e.b)
    operand: Any = a
    if e.value is not None:
        operand = values[e.value]
    elif e.tensor is not None:
        operand = e.tensor.astype(dtype).reshape(-1, 1, 1)
    if e.op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"):
        return ops.OPS[e.op](_node(e.op), x, operand)
    if e.op in ("RSub", "RDiv"):
        return ops.OPS[e.op[1:]](_node(e.op), operand, x)
    if e.op == "Quantize":
        return np.fmin(np.fmax(np.rint(x), a), b) + dtype(0)  # no -0
    if e.op == "Clip":
        return ops.Clip(_node("Clip"), x, a, b)
    if e.op == "Silu":
        return ops.Swish(_node("Swish"), x)
    if e.op == "Gelu":
        return ops.Gelu(_node("Gelu", approximate="tanh" if e.a else "none"), x)
    return ops.OPS[e.op](_node(e.op, alpha=e.a, beta=e.b), x)
