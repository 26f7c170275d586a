"""What the backends for GPUs have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ..errors import BackendError

SHARE = 0.9
"""Of the GPU's free memory, what a picture or tile may take."""


def check_process(process: int) -> None:
    """Raises BackendError when this is not the process of that number, the one that CUDA began in, but one forked from it."""
    if os.getpid() != process:
        raise BackendError("CUDA does not survive fork(): start processes with 'spawn', or load the model in the new process")


def places_of(
    lengths: Sequence[int], inputs: Iterable[int], made: Sequence[tuple[int, Iterable[int]]], wanted: Iterable[int]
) -> tuple[dict[int, int], int]:
    """Where values begin in one block of memory, and how long that is. Values whose time does not overlap share memory: the first gap is taken.

    lengths: of all values, with what rounds them up. inputs: values that are there from the beginning. made: one after another a value and those that
    it is made of. wanted: values that must be there at the end.
    """
    last = {v: number for number, (_, reads) in enumerate(made) for v in reads}
    last |= dict.fromkeys(wanted, len(made))
    places: dict[int, int] = {}
    taken: list[tuple[int, int, int]] = []  # begin, end, value; in order
    total = 0

    def take(value: int) -> None:
        nonlocal total
        begin = 0
        for other_begin, end, _ in taken:
            if begin + lengths[value] <= other_begin:
                break
            begin = max(begin, end)
        places[value] = begin
        taken.append((begin, begin + lengths[value], value))
        taken.sort()
        total = max(total, begin + lengths[value])

    for value in inputs:
        take(value)
    for number, (value, _) in enumerate(made):
        take(value)
        taken[:] = [t for t in taken if last.get(t[2], -1) > number]
    return places, total
