"""Compiles tests/cpp/fast_test.cpp with the system's C++ compiler and runs it: the kernels of the tier `fast` on every instruction set here."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_programs import build, run

ISAS = ("avx512", "scalar", "avx2", "neon")
SOURCES = ["tests/cpp/fast_test.cpp", *(f"csrc/targets/{unit}.cpp" for unit in (*(f"fast_{isa}" for isa in ISAS), *ISAS, "fast", "cpu"))]
TESTED = "csrc/targets/fast_"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program."""
    return build(tmp_path_factory.mktemp("fast"), SOURCES, TESTED)


def test_fast_kernels(program: Path) -> None:
    done = run(program)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 failures" in done.stdout


def test_same_seed_same_results(program: Path) -> None:
    first, second = run(program, "--seed", "7"), run(program, "--seed", "7")
    assert "digest" in first.stdout
    assert first.stdout == second.stdout
