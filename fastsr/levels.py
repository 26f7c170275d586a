"""Which convolutions of a Program are convolutions of integers, as docs/fsr.md defines it: those that the precision `int8` computes in integers."""

from __future__ import annotations

import numpy as np

from .errors import ModelError
from .program import Program, Step

Levels = tuple[float, float]
"""The smallest and the largest of the whole numbers that a value can hold."""

MOST_LEVELS = 256
MOST_SUM = 2.0**31


def _behind_epilogue(step: Step, levels: Levels | None) -> Levels | None:
    for e in step.epilogue:
        if e.op == "Quantize":
            levels = e.a, e.b
        elif e.op == "Relu" and levels is not None:
            levels = max(levels[0], 0.0), max(levels[1], 0.0)
        elif e.op != "DepthToSpace":
            levels = None
    return levels


def value_levels(program: Program) -> list[Levels | None]:
    """The levels of every value, None where they are not known."""
    found: list[Levels | None] = [None] * len(program.values)
    for step in program.steps:
        levels = None
        if step.kind in ("Pointwise", "Concat", "DepthToSpace", "SpaceToDepth"):
            ins = [found[i] for i in step.inputs]
            known = [i for i in ins if i is not None]
            if len(known) == len(ins):
                levels = min(low for low, _ in known), max(high for _, high in known)
        found[step.output] = _behind_epilogue(step, levels)
    return found


def _whole(a: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(a)) and np.array_equal(np.rint(a), a))


def _is_integer_conv(step: Step, levels: Levels | None) -> bool:
    if step.weight is None or levels is None or not levels[0] <= 0 <= levels[1] or levels[1] - levels[0] >= MOST_LEVELS:
        return False
    w, b = step.weight, step.bias
    if not _whole(w) or np.any((w < -128) | (w > 127)) or (b is not None and not _whole(b)):
        return False
    sums = np.abs(w.astype(np.float64)).sum(axis=(1, 2, 3)) * max(-levels[0], levels[1])
    return bool(np.all(sums + (0 if b is None else np.abs(b.astype(np.float64))) < MOST_SUM))


def integer_convs(program: Program) -> list[bool]:
    """Of each step: whether it is an integer convolution."""
    levels = value_levels(program)
    return [step.kind == "Conv" and _is_integer_conv(step, levels[step.inputs[0]]) for step in program.steps]


def is_quantised(program: Program) -> bool:
    """Whether the precision `int8` has anything to do."""
    return any(integer_convs(program))


def check_quantised(program: Program) -> None:
    """Raise ModelError for a program without integer convolutions."""
    if not is_quantised(program):
        raise ModelError(
            "this model is not quantised to 8 bits, so the precision int8 has no integers to compute with: "
            "use the precision fast or f32, or quantise the model with fastsr quantise"
        )
