"""How many multiply-adds can the processor do at most? The yardstick of the other benchmarks.

    python benchmarks/peaks.py [--threads 2]

Compiles peaks.cpp with the system's C++ compiler ($CXX, else c++): chains of multiply-adds in registers, on all threads at once, in f32 and, where
the processor has instructions for them, in pairs of 16-bit integers and in bf16.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-pthread"]


class NoCompilerError(Exception):
    """Nothing here compiles C++."""


def build(sources: Sequence[Path], program: Path) -> Path:
    """The program made of these sources. Raises NoCompilerError, CalledProcessError."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise NoCompilerError("no C++ compiler: install one or set CXX")
    subprocess.run([compiler, *FLAGS, *map(str, sources), "-o", str(program)], check=True)
    return program


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s by type of number: "f32", "int16", "bf16"; a multiplication and an addition each. Empty where it cannot be measured; says why."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            program = build([Path(__file__).with_suffix(".cpp")], Path(folder) / "peaks")
            text = subprocess.run([program, str(threads)], capture_output=True, text=True, check=True).stdout
    except (NoCompilerError, subprocess.CalledProcessError, OSError) as e:
        print(f"the processor's peak is not measured: {e}")
        return {}
    return {name: float(rate) for name, rate in map(str.split, text.splitlines())}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for name, rate in peaks(args.threads).items():
        print(f"{name:6} {rate:8.1f} GFLOP/s on {args.threads} threads")


if __name__ == "__main__":
    main()
