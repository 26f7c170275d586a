"""What the tests of the C++ core share: compiling a program for an instruction set, and comparing its results with the reference backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from programs import inputs_for

from fastsr import fsr
from fastsr.backends import reference
from fastsr.program import Program

_core = pytest.importorskip("fastsr._core", reason="the C++ extension is not built")

ISAS = _core.isas()
EPSILON = float(np.finfo(np.float32).eps)


def compiled(program: Program, isa: str = "", **kwargs: Any):
    _core.set_isa(isa)
    return _core.Model(fsr.dumps(program), **kwargs)


def tolerance(program: Program, arrays: list[np.ndarray]) -> float:
    """Rounding of a chain of steps: epsilon times the largest value anywhere, times a generous count of roundings in a row."""
    everything = Program(program.values, program.inputs, [(f"o{i}", i) for i in range(len(program.values))], program.steps)
    largest = max(float(np.abs(a).max()) for a in reference.run_program(everything, arrays, range(len(program.values)), dtype=np.float64))
    terms = sum(4 + 3 * len(s.epilogue) + (0 if s.weight is None else np.sqrt(s.weight[0].size)) for s in program.steps)
    return EPSILON * max(1.0, largest) * 4 * terms


def check(program: Program, height: int, width: int, isa: str = "", batch: int = 1, **kwargs: Any) -> None:
    """Compare with the reference backend in double precision. kwargs: of the compiled model."""
    arrays = inputs_for(program, height, width, batch)
    outputs = list(range(len(program.outputs)))
    expected = reference.run_program(program, arrays, outputs, dtype=np.float64)
    got = compiled(program, isa, **kwargs).run(arrays, outputs)
    limit = tolerance(program, arrays)
    for e, g in zip(expected, got, strict=True):
        assert g.dtype == np.float32
        assert g.shape == e.shape
        np.testing.assert_allclose(g, e, rtol=0, atol=limit)
