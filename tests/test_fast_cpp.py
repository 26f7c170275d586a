"""Compiles tests/cpp/fast_test.cpp with the system's C++ compiler and runs it: the kernels of the tier `fast` on every instruction set here."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_programs import build, check_all

ISAS = ("scalar", "avx512", "avx2", "neon")
SOURCES = ["tests/cpp/fast_test.cpp", *(f"csrc/targets/{unit}.cpp" for unit in (*(f"fast_{isa}" for isa in ISAS), *ISAS, "fast", "cpu"))]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program."""
    return build(tmp_path_factory, SOURCES)


def test_fast_kernels(program: Path) -> None:
    check_all(program)


@pytest.mark.slow
def test_fast_kernels_and_the_same_again(program: Path) -> None:
    check_all(program, again=True)
