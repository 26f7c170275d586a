"""Compiles tests/cpp/fast_test.cpp with the system's C++ compiler and runs it: the kernels of the tier `fast` on every instruction set here."""

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
ISAS = ("avx512", "scalar", "avx2", "neon")
SOURCES = ["tests/cpp/fast_test.cpp", *(f"csrc/targets/{unit}.cpp" for unit in (*(f"fast_{isa}" for isa in ISAS), *ISAS, "fast", "cpu"))]


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
    folder = tmp_path_factory.mktemp("fast")

    def build(source: str) -> Path:
        target = folder / (Path(source).stem + ".o")
        level = "-O3" if "targets/fast_" in source else "-O1"  # -O3 is what the package is built with
        done = subprocess.run([compiler, *FLAGS, level, "-c", str(ROOT / source), "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(build, SOURCES))
    subprocess.run([compiler, *map(str, objects), "-o", str(folder / "fast_test")], check=True)
    return folder / "fast_test"


def run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "FASTSR_ISA"}
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=HANGS, env=env)


def test_fast_kernels(program: Path) -> None:
    done = run(program)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 failures" in done.stdout


def test_same_seed_same_results(program: Path) -> None:
    first, second = run(program, "--seed", "7"), run(program, "--seed", "7")
    assert "digest" in first.stdout
    assert first.stdout == second.stdout
