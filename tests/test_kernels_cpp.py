"""Compiles tests/cpp/kernels_test.cpp with the system's C++ compiler and runs it: every kernel of the C++ core on every instruction set here."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_programs import build, check_all, run

SOURCES = ["tests/cpp/kernels_test.cpp", "csrc/targets/cpu.cpp", *(f"csrc/targets/{isa}.cpp" for isa in ("scalar", "avx512", "avx2", "neon"))]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program."""
    return build(tmp_path_factory, SOURCES)


def test_kernels(program: Path) -> None:
    check_all(program)


@pytest.mark.slow
def test_kernels_and_the_same_again(program: Path) -> None:
    check_all(program, again=True)


def test_fastsr_isa_limits(program: Path) -> None:
    assert run(program, "--isa", isa="scalar").stdout == "scalar\n"
    best = run(program, "--isa").stdout
    assert run(program, "--isa", isa=best.strip()).stdout == best


def test_unknown_fastsr_isa_is_an_error(program: Path) -> None:
    done = run(program, "--isa", isa="avx9000")
    assert done.returncode == 2
    assert "FASTSR_ISA" in done.stderr and "avx9000" in done.stderr and "scalar" in done.stderr
