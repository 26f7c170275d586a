"""What the cases of the numba_cuda backend share: `test_numba_cuda.py` starts them in processes of their own, with a simulated GPU or a real one."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from step_cases import check_close

from fastsr.backends import numba_cuda
from fastsr.program import Program

# The simulator has a thread for every thread of a GPU, and a loop that looks what they do: it is quicker when Python switches more often.
sys.setswitchinterval(0.0002)


def allocate_shared_arrays_once() -> None:
    """The simulator's own function looks whether a block's shared array is there and then makes it, so two threads at the same time may get one each,
    and read in it what nobody wrote. Arrays are told apart by the line that asks for them, as there; their size must be known."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    lock = threading.Lock()

    def array(self: Any, shape: Any, dtype: Any) -> np.ndarray:
        assert shape != 0
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        with lock:
            if place not in self._allocations:
                self._allocations[place] = np.empty(shape, as_dtype(dtype))
            return self._allocations[place]

    FakeCUDAShared.array = array


if numba_cuda.only_named():
    allocate_shared_arrays_once()


def run(program: Program, x: np.ndarray, outputs: tuple[int, ...] = (0,), **options: Any) -> list[np.ndarray]:
    return numba_cuda.compile(program, **options).run([x], list(outputs))


def check(program: Program, x: np.ndarray, outputs: tuple[int, ...] = (0,), tile: int | None = None) -> None:
    """Like the reference; and with tiles, the same bits."""
    got = run(program, x, outputs)
    check_close(got, program, x, outputs)
    if tile:
        for g, tiled in zip(got, run(program, x, outputs, tile=tile), strict=True):
            np.testing.assert_array_equal(g, tiled)
