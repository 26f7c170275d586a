"""benchmarks/cuda_registers.py: kernels compile for GPUs without one, and what the compiler says of them is read right."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from fastsr.backends.cuda.steps import Kernel

LOG = """ptxas info    : 55 bytes gmem
ptxas info    : Compiling entry function '_Z1a' for 'sm_90a'
ptxas info    : Function properties for _Z1a
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 26 registers, used 0 barriers
ptxas info    : Compiling entry function '_Z1b' for 'sm_90a'
ptxas info    : Function properties for _Z1b
    16 bytes stack frame, 24 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 1360 bytes cmem[0]
"""


@pytest.fixture
def registers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("cuda_registers")


def test_what_the_compiler_says_is_read(registers: ModuleType) -> None:
    assert registers.usages(LOG) == [("_Z1a", 26, 0), ("_Z1b", 255, 24)]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_89", "sm_90a"])
def test_kernels_compile_without_spills(architecture: str, registers: ModuleType) -> None:
    try:
        registers.library()
    except registers.NvrtcError as e:
        pytest.skip(str(e))
    ends = "Chain<PRelu<0>, Add<Value<half, 1>>>, Shuffle<1, false>, Chain<>>"
    kernels = [Kernel(f"conv_mma<3, 3, 64, 64, 16, true, {ends}", 256, 1), Kernel(f"conv_direct<half, 8, {ends}", 128)]
    found = registers.compiled(kernels, architecture)
    assert {u.kernel for u in found} == set(kernels)
    assert all(0 < u.registers < 255 and u.spilled == 0 for u in found)


def test_faulty_kernels_are_told(registers: ModuleType) -> None:
    try:
        registers.library()
    except registers.NvrtcError as e:
        pytest.skip(str(e))
    with pytest.raises(registers.NvrtcError, match="sm_80: .*static assertion failed"):
        registers.compiled([Kernel("conv_mma<3, 3, 24, 16, 16, true, Chain<>, Shuffle<1, false>, Chain<>>", 256)], "sm_80")
