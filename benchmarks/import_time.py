"""How long does `import fastsr` take beyond numpy, and loading each model?

    python benchmarks/import_time.py

Each figure is the minimum of several fresh processes. "first" includes importing what loading needs (protobuf, the backend), "again" does not;
both are wall times. "processor" is the processor time of a load, which other programs disturb less, and behind it stand its parts. Weights are packed
by the first run, which is no part of this.
Writes benchmarks/results/import_time-MACHINE-DATE.json. The exit code is 1 when importing takes 100 ms or a load after the first 20 ms or more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from common import ROOT, SHARED, header, keep

from fastsr.cli.common import positive, table

IMPORT = """
import json, time, numpy
start = time.perf_counter()
import fastsr
middle = time.perf_counter()
fastsr.load
print(json.dumps({"import": middle - start, "import_with_load": time.perf_counter() - start}))
"""

LOAD = """
import json, sys, time, numpy, fastsr
seconds = []
processor = []
for _ in range(15):
    start = time.perf_counter(), time.process_time()
    fastsr.load(sys.argv[1], sys.argv[2])
    seconds.append(time.perf_counter() - start[0])
    processor.append(time.process_time() - start[1])
figures = {"first": seconds[0], "again": min(seconds[1:]), "processor": min(processor[1:])}
if not sys.argv[1].endswith(".fsr"):
    from fastsr import importers, lower, passes
    rounds = []
    for _ in range(15):
        at, model = [time.process_time()], sys.argv[1]
        for stage in (importers.load_graph, passes.optimise, lower.lower, lambda program: fastsr.Model(program, sys.argv[2])):
            model = stage(model)
            at.append(time.process_time())
        rounds.append([b - a for a, b in zip(at, at[1:])])
    figures.update(zip(("importer", "passes", "lower", "compile"), map(min, zip(*rounds))))
print(json.dumps(figures))
"""


def fresh(code: str, *arguments: str, processes: int) -> dict[str, float]:
    """The smallest milliseconds of each figure that `code` prints, over several new interpreters."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = []
    for _ in range(processes):
        out = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=env).stdout
        runs.append(json.loads(out))
    return {k: round(1e3 * min(r[k] for r in runs), 3) for k in runs[0]}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="model files (default: OpenCV's, where FASTSR_SHARED has them)")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--processes", type=positive, default=5, help="new interpreters for each figure (default 5)")
    parser.add_argument("--output", metavar="FILE", help="write the JSON there")
    args = parser.parse_args()
    imports = fresh(IMPORT, processes=args.processes)
    models = args.models or sorted((SHARED / "models" / "tensorflow").glob("*.pb"))
    loads = {m.name: fresh(LOAD, str(m), args.backend, processes=args.processes) for m in models}
    print(f"import fastsr            {imports['import']:.1f} ms beyond numpy ({imports['import_with_load']:.1f} ms with fastsr.load)\n")
    columns = ["first", "again", "processor", "importer", "passes", "lower", "compile"]
    rows = [[n, *(f"{t[c]:.1f}" if c in t else "-" for c in columns), ""] for n, t in loads.items()]
    print(table([["model, ms", *columns, ""], *rows]))
    print(f"written: {keep('import_time', {**header(), 'import_ms': imports, 'load_ms': loads}, args.output)}")
    return int(imports["import_with_load"] >= 100 or any(t["again"] >= 20 for t in loads.values()))


if __name__ == "__main__":
    sys.exit(main())
