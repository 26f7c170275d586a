"""How fast are the kernels of the C++ core, next to the processor's own multiply-add rate?

Compiles tests/cpp/kernels_test.cpp and fast_test.cpp (which also check what they measure) with the system's C++ compiler, runs their `--bench` and
keeps the result:
    python benchmarks/kernels.py [--runs 3] [--output FILE]
Rates are the best of all runs; single core, a few rows, data in the caches. Convolutions count as the direct sum, by whatever algorithm.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, header, keep
from peaks import NoCompilerError, build

PROGRAMS = ("kernels_test", "fast_test")
CONVOLUTION = re.compile(r"(?P<isa>\S.*?)?\s+(?P<kernel>\w+) +(?P<cin>\d+)-> *(?P<cout>\d+),? *(?P<how>.*?) +(?P<gflops>[\d.]+) GFLOP/s(?P<more>.*)")
MORE = {"peak": re.compile(r"% of ([\d.]+)"), "direct": re.compile(r"times conv's ([\d.]+)")}
OTHER = re.compile(r"(\w+(?: \d)?) +([\d.]+) Gelement/s")


def parse(text: str, kernels: dict[str, dict[str, Any]]) -> None:
    """Add one run's output to `kernels` ("avx2 conv 64->64 3x3": {"gflops", "peak" or "direct"} or {"gelements"}), keeping the better figures."""
    heading = ""
    for line in text.splitlines():
        if m := CONVOLUTION.fullmatch(line):
            name = f"{m['isa'] or heading} {m['kernel']} {m['cin']}->{m['cout']} {re.sub(' +', ' ', m['how'])}".strip()
            new = {"gflops": float(m["gflops"])} | {key: float(found[1]) for key, what in MORE.items() if (found := what.search(m["more"]))}
        elif m := OTHER.search(line):
            name, new = f"{heading} {m[1]}", {"gelements": float(m[2])}
        else:
            heading = line.split(",")[0]
            continue
        old = kernels.get(name, new)
        kernels[name] = {key: max(old.get(key, value), value) for key, value in new.items()}


def main() -> None:
    """Build, measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output")
    args = parser.parse_args()
    kernels: dict[str, dict[str, Any]] = {}
    targets = sorted((ROOT / "csrc" / "targets").glob("*.cpp"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            programs = [build([ROOT / "tests" / "cpp" / f"{name}.cpp", *targets], Path(folder) / name) for name in PROGRAMS]
        except NoCompilerError as e:
            sys.exit(str(e))
        for _ in range(args.runs):
            for program in programs:
                parse(subprocess.run([program, "--bench"], capture_output=True, text=True, check=True).stdout, kernels)
    for name, figures in kernels.items():
        if "gflops" in figures:
            share = f"  {100 * figures['gflops'] / figures['peak']:5.1f} % of {figures['peak']:.0f}" if "peak" in figures else ""
            share = f"  {figures['gflops'] / figures['direct']:5.2f} times conv's {figures['direct']:.0f}" if "direct" in figures else share
            print(f"{name:44s} {figures['gflops']:7.1f} GFLOP/s{share}")
        else:
            print(f"{name:44s} {figures['gelements']:7.2f} Gelement/s")
    print("kept in", keep("kernels", {**header(threads=1), "runs": args.runs, "kernels": kernels}, args.output))


if __name__ == "__main__":
    main()
