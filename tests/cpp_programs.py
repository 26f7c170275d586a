"""Building and running the test programs in tests/cpp with the system's C++ compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits import HANGS

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]


def build(folder: Path, sources: Sequence[str], tested: str) -> Path:
    """A program from sources of this checkout, named after the first. Those whose names begin with `tested` are optimised as in the package.

    Skips the test where that cannot be.
    """
    if sys.platform == "win32":
        pytest.skip("the test program guards its memory with mmap, which Windows lacks")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler: install one or set CXX")
    if not (ROOT / sources[0]).is_file():
        pytest.skip("the C++ sources are not part of this installation")

    def compiled(source: str) -> Path:
        target = folder / (Path(source).stem + ".o")
        level = "-O3" if source.startswith(tested) else "-O1"
        done = subprocess.run([compiler, *FLAGS, level, "-c", str(ROOT / source), "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    program = folder / Path(sources[0]).stem
    subprocess.run([compiler, *map(str, objects), "-o", str(program)], check=True)
    return program


def run(program: Path, *args: str, isa: str | None = None) -> subprocess.CompletedProcess[str]:
    """The program's end. isa: of FASTSR_ISA, which is not set otherwise."""
    env = {k: v for k, v in os.environ.items() if k != "FASTSR_ISA"}
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=HANGS, env=env | ({"FASTSR_ISA": isa} if isa else {}))
