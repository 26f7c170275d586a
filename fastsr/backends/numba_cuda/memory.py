"""Where the parts of values lie in one block of the GPU's memory: what is not needed any more makes room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ... import tiles
from ...program import Program
from ...tiles import Rect

_ALIGNED = 64
"""Floats; parts begin at multiples of it, so that threads that read neighbouring pixels read whole lines of memory."""


def place_values(program: Program, need: Sequence[Rect], wanted: Iterable[int]) -> tuple[list[int], int]:
    """Where each value begins, and how many floats there are in all.

    need: the part of every value that is made. wanted: values that must be there at the end. Values that nothing needs begin at 0.
    """
    sizes = [v.channels * (r[2] - r[0]) * (r[3] - r[1]) for v, r in zip(program.values, need, strict=True)]
    steps = [s for s in program.steps if not tiles.is_empty(need[s.output])]
    last = {v: number for number, step in enumerate(steps) for v in step.reads()}
    last |= dict.fromkeys(wanted, len(steps))
    places = [0] * len(sizes)
    taken: list[tuple[int, int, int]] = []  # begin, end, value; in order
    total = 0

    def take(value: int) -> None:
        nonlocal total
        length = -(-sizes[value] // _ALIGNED) * _ALIGNED
        begin = 0
        for other_begin, end, _ in taken:
            if begin + length <= other_begin:
                break
            begin = max(begin, end)
        places[value] = begin
        taken.append((begin, begin + length, value))
        taken.sort()
        total = max(total, begin + length)

    for value in program.inputs:
        if not tiles.is_empty(need[value]):
            take(value)
    for number, step in enumerate(steps):
        take(step.output)
        taken[:] = [t for t in taken if last.get(t[2], -1) > number]
    return places, total
