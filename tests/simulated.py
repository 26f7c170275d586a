"""What the cases of the numba_cuda backend share: `test_numba_cuda.py` starts them in processes of their own, with a simulated GPU or a real one."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastsr.backends import numba_cuda
from fastsr.backends.reference import run_program
from fastsr.program import Program

# The simulator has a thread for every thread of a GPU, and a loop that looks what they do: it is quicker when Python switches more often.
sys.setswitchinterval(0.0002)


def picture(program: Program, height: int, width: int, n: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, program.values[0].channels, height, width)).astype(np.float32)


def run(program: Program, x: np.ndarray, outputs: tuple[int, ...] = (0,), **options: Any) -> list[np.ndarray]:
    return numba_cuda.compile(program, **options).run([x], list(outputs))


def check(program: Program, x: np.ndarray, outputs: tuple[int, ...] = (0,), tile: int | None = None) -> None:
    """Within 1e-5 of the reference in float64, relative to the largest value of the output (and at least 1); and with tiles, the same bits."""
    want = run_program(program, [x], outputs, dtype=np.float64)
    got = run(program, x, outputs)
    for w, g in zip(want, got, strict=True):
        assert g.dtype == np.float32 and g.shape == w.shape and g.flags.c_contiguous
        assert np.abs(g - w).max() <= 1e-5 * max(1.0, float(np.abs(w).max()))
    if tile:
        for g, tiled in zip(got, run(program, x, outputs, tile=tile), strict=True):
            np.testing.assert_array_equal(g, tiled)
