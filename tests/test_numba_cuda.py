"""The numba_cuda backend: its kernels in numba's CUDA simulator, in processes of their own, for numba reads its variable once; what needs no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from limits import HANGS
from programs import random_programs

from fastsr import tiles
from fastsr.backends import backend_module, numba_cuda
from fastsr.backends.numba_cuda.memory import place_values
from fastsr.errors import BackendError
from fastsr.program import Program

TESTS = Path(__file__).resolve().parent


def can_simulate() -> bool:
    try:
        from numba import cuda  # noqa: F401
    except Exception:
        return False
    return True


@pytest.mark.skipif(not can_simulate(), reason="numba.cuda cannot be imported: pip install fastsr[numba-cuda]")
@pytest.mark.parametrize(
    ("file", "chosen", "least"),
    [
        ("simulated_steps.py", "convolutions or sizes", 20),
        ("simulated_steps.py", "not convolutions and not sizes", 20),
        ("simulated_runs.py", "test", 15),
    ],
)
def test_on_a_simulated_gpu(file: str, chosen: str, least: int) -> None:
    """At least so many cases pass, and none is left out."""
    summary = pass_cases(file, chosen, {"NUMBA_ENABLE_CUDASIM": "1"})
    passed = re.search(r"(\d+) passed", summary)
    assert passed and int(passed[1]) >= least and "skipped" not in summary, summary


def pass_cases(file: str, chosen: str, variables: dict[str, str]) -> str:
    """A pytest of its own for cases of that file; returns its last line."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "NUMBA_ENABLE_CUDASIM"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, str(TESTS / file)]
    done = subprocess.run(command, env=inherited | variables, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["simulated_steps.py", "simulated_runs.py"])
def test_on_a_real_gpu(file: str) -> None:
    """The same cases, each kernel compiled."""
    if (reason := numba_cuda.unavailable()) is not None:
        pytest.skip(reason)
    assert "passed" in pass_cases(file, "test", {})


# ---- without a GPU, and without the simulator --------------------------------------------------------------------------------------------------


def state_with(monkeypatch: pytest.MonkeyPatch, cuda: object) -> str | None:
    """What `unavailable` says when `numba.cuda` is that object."""
    numba: Any = ModuleType("numba")
    numba.cuda = cuda
    monkeypatch.setitem(sys.modules, "numba", None if cuda is None else numba)  # importing None fails
    return numba_cuda.unavailable()


def fails(*_: object) -> Any:
    raise RuntimeError("the driver is\n broken")


def test_why_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(is_available=lambda: True, cuda_error=lambda: None, gpus=[0])
    assert state_with(monkeypatch, gpu) is None
    assert "pip install fastsr[numba-cuda]" in str(state_with(monkeypatch, None))
    assert "NVVM" in str(state_with(monkeypatch, SimpleNamespace(**vars(gpu) | {"is_available": lambda: False})))
    no_driver = SimpleNamespace(is_available=lambda: False, cuda_error=lambda: "no\ndriver", gpus=[])
    assert str(state_with(monkeypatch, no_driver)).startswith("no NVIDIA GPU that CUDA can use (no driver)")
    for name in ("is_available", "cuda_error"):
        broken = SimpleNamespace(**vars(no_driver) | {name: fails})
        assert "RuntimeError: the driver is broken" in str(state_with(monkeypatch, broken))
    with pytest.raises(BackendError, match="backend 'numba_cuda' is not available: no NVIDIA GPU"):
        backend_module("numba_cuda")


@settings(max_examples=30, deadline=None)
@given(random_programs())
def test_values_that_are_needed_at_once_share_no_memory(drawn: tuple[Program, int, int]) -> None:
    program, height, width = drawn
    sizes = program.value_sizes(height, width)
    wanted = {v: (0, 0, *sizes[v]) for _, v in program.outputs}
    need = tiles.plan_tile(program, sizes, wanted)
    places, total = place_values(program, need, wanted)

    def floats(v: int) -> range:
        y0, x0, y1, x1 = need[v]
        return range(places[v], places[v] + program.values[v].channels * (y1 - y0) * (x1 - x0))

    owner = np.full(total, -1)
    for v in program.inputs:
        owner[floats(v)] = v
    for step in program.steps:
        if not tiles.is_empty(need[step.output]):
            assert all((owner[floats(v)] == v).all() for v in step.reads()), "written over before it is read"
            owner[floats(step.output)] = step.output
            assert all((owner[floats(v)] == v).all() for v in step.reads()), "written over while it is read"
    assert all((owner[floats(v)] == v).all() for v in wanted)
    assert total <= sum(-(-len(floats(v)) // 64) * 64 for v in range(len(places)))


COMPILE = """
import sys, types
import numba.cuda.dispatcher as dispatcher
from numba import boolean, cuda, float32, int32, int64
from numba.core.types import Array, UniTuple, void
from fastsr.backends.numba_cuda import kernels
try:
    from numba.cuda.cudadrv.nvvm import NVVM
    NVVM()
    dispatcher.get_current_device
except Exception as e:
    print("absent", e)
    sys.exit()
dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=(8, 0))
values, pair = Array(float32, 3, "C"), UniTuple(int64, 2)
save = kernels.store((("PRelu", 0.0, 0.0), ("Silu", 0.0, 0.0)), 2, True, (("Add", 0.0, 0.0), ("Clip", 0.0, 1.0)))
rest = values, int64, int64, UniTuple(values, 2), UniTuple(pair, 2)
rows, weights = Array(int32, 2, "C"), Array(float32, 2, "C")
packed = Array(float32, 5, "C"), weights, int64
for kernel, *arguments in (
    (kernels.tiled_conv(3, 3, 8, save), *packed, pair),
    (kernels.direct_conv(4, save), *packed, pair, pair, pair),
    (kernels.moved(save), int64, pair),
    (kernels.padded(save), rows.copy(ndim=1), rows.copy(ndim=1), pair, pair, float32),
    (kernels.resized(save), rows, weights, rows, weights, pair, pair),
    (kernels.depth_to_space(save), int64, boolean, pair),
    (kernels.space_to_depth(save), int64, pair),
):
    code, _ = cuda.compile_ptx(kernel.py_func, void(values, *arguments, *rest), cc=(8, 0))
    sums = [line for line in code.splitlines() if "fma.rn.f32" in line]
    print(len(sums), "double" if ".f64" in code else "float", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not can_simulate(), reason="numba.cuda cannot be imported: pip install fastsr[numba-cuda]")
def test_kernels_compile_for_a_gpu() -> None:
    """By NVIDIA's compiler, where it is: types that the simulator does not mind; no double; sums of a convolution unrolled, so kept in registers."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("absent"):
        pytest.skip(f"numba finds no CUDA compiler: {done.stdout[7:].strip()[:100]}")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 7 and all(kind == "float" for _, kind in lines)
    assert int(lines[0][0]) >= 32 and int(lines[1][0]) >= 4
