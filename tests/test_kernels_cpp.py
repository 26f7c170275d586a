"""Compiles tests/cpp/kernels_test.cpp with the system's C++ compiler and runs it: every kernel of the C++ core on every instruction set here."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_programs import build, run

SOURCES = ["tests/cpp/kernels_test.cpp", "csrc/targets/cpu.cpp", *(f"csrc/targets/{isa}.cpp" for isa in ("avx512", "scalar", "avx2", "neon"))]
TESTED = "csrc/targets/"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program."""
    return build(tmp_path_factory.mktemp("kernels"), SOURCES, TESTED)


def test_kernels(program: Path) -> None:
    done = run(program)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 failures" in done.stdout


def test_same_seed_same_results(program: Path) -> None:
    first, second = run(program, "--seed", "7"), run(program, "--seed", "7")
    assert "digest" in first.stdout
    assert first.stdout == second.stdout


def test_fastsr_isa_limits(program: Path) -> None:
    assert run(program, "--isa", isa="scalar").stdout == "scalar\n"
    best = run(program, "--isa").stdout
    assert run(program, "--isa", isa=best.strip()).stdout == best


def test_unknown_fastsr_isa_is_an_error(program: Path) -> None:
    done = run(program, "--isa", isa="avx9000")
    assert done.returncode == 2
    assert "FASTSR_ISA" in done.stderr and "avx9000" in done.stderr and "scalar" in done.stderr
