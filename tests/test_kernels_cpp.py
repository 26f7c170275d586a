"""Compiles tests/cpp/kernels_test.cpp with the system's C++ compiler and runs it: every kernel of the C++ core on every instruction set here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits import HANGS

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
SOURCES = ["tests/cpp/kernels_test.cpp", "csrc/targets/cpu.cpp", *(f"csrc/targets/{isa}.cpp" for isa in ("avx512", "scalar", "avx2", "neon"))]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program, built from the sources of this checkout."""
    if sys.platform == "win32":
        pytest.skip("the test program guards its memory with mmap, which Windows lacks")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler: install one or set CXX")
    if not (ROOT / SOURCES[0]).is_file():
        pytest.skip("the C++ sources are not part of this installation")
    folder = tmp_path_factory.mktemp("kernels")

    def build(source: str) -> Path:
        target = folder / (Path(source).stem + ".o")
        level = "-O1" if source.startswith("tests") else "-O3"  # -O3 is what the package is built with
        done = subprocess.run([compiler, *FLAGS, level, "-c", str(ROOT / source), "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(build, SOURCES))
    subprocess.run([compiler, *map(str, objects), "-o", str(folder / "kernels_test")], check=True)
    return folder / "kernels_test"


def run(program: Path, *args: str, isa: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "FASTSR_ISA"}
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=HANGS, env=env | ({"FASTSR_ISA": isa} if isa else {}))


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
