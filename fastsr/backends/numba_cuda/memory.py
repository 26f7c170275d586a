"""Where the parts of values lie in one block of the GPU's memory: what is not needed any more makes room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ... import tiles
from ...program import Program
from ...tiles import Rect
from .. import gpu

_ALIGNED = 64
"""Floats; parts begin at multiples of it, so that threads that read neighbouring pixels read whole lines of memory."""


def place_values(program: Program, need: Sequence[Rect], wanted: Iterable[int]) -> tuple[list[int], int]:
    """Where each value begins, and how many floats there are in all.

    need: the part of every value that is made. wanted: values that must be there at the end. Values that nothing needs begin at 0.
    """
    sizes = [v.channels * (r[2] - r[0]) * (r[3] - r[1]) for v, r in zip(program.values, need, strict=True)]
    lengths = [-(-n // _ALIGNED) * _ALIGNED for n in sizes]
    made = [(s.output, s.reads()) for s in program.steps if not tiles.is_empty(need[s.output])]
    places, total = gpu.places_of(lengths, [v for v in program.inputs if not tiles.is_empty(need[v])], made, wanted)
    return [places.get(v, 0) for v in range(len(sizes))], total
