"""How fast is a whole `upsample()` of each of OpenCV's models, next to OpenCV itself?

    python benchmarks/upsample.py --threads 2
    python benchmarks/upsample.py --threads 2 --cv2 /opt/cv2-4.14 --cv2 installed     several OpenCVs: folders to put first on PYTHONPATH

Every contender lives in a process of its own. For each model all results are compared first; then the contenders take turns, A B C A B C. Writes
benchmarks/results/upsample-MACHINE-DATE.json, from which report.py makes the README's table and plot. The exit code is 1 when a picture differs from
OpenCV's by more than one grey level anywhere or in more than 0.1 % of its samples.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, header, keep, model_path, picture

from fastsr.backends import available_backends
from fastsr.cli.common import positive, table
from fastsr.cli.peers import difference
from fastsr.cli.timing import summary

WORKER = Path(__file__).with_name("upsample_worker.py")


@dataclass(frozen=True)
class Case:
    """One model and the size of the picture it enlarges."""

    model: str
    algorithm: str
    scale: int
    width: int
    height: int


CASES = (
    Case("ESPCN_x2", "espcn", 2, 960, 540),
    Case("ESPCN_x4", "espcn", 4, 960, 540),
    Case("FSRCNN-small_x2", "fsrcnn", 2, 960, 540),
    Case("FSRCNN_x2", "fsrcnn", 2, 960, 540),
    Case("FSRCNN_x3", "fsrcnn", 3, 960, 540),
    Case("LapSRN_x2", "lapsrn", 2, 320, 240),
    Case("LapSRN_x4", "lapsrn", 4, 320, 240),
    Case("LapSRN_x8", "lapsrn", 8, 320, 240),
)


class Contender:
    """A worker process and what it is."""

    def __init__(self, library: str, threads: int, backend: str = "", path: str = "") -> None:
        self.fast = backend.endswith(" fast")
        env = {**os.environ, "FASTSR_BACKEND": backend.removesuffix(" fast") or "auto", "OPENCV_LOG_LEVEL": "SILENT"}
        env["FASTSR_PRECISION"] = "fast" if self.fast else "f32"
        env["PYTHONPATH"] = os.pathsep.join([p for p in (path, str(ROOT), os.environ.get("PYTHONPATH", "")) if p])
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, str(WORKER), library, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)
        self.version = self._answer()["version"]
        self.ours = library == "fastsr"
        self.name = f"fastsr {backend}" if self.ours else f"cv2 {self.version}"

    def ask(self, **command: object) -> float:
        """Let it run once; returns seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            sys.exit(f"a contender ended: {self.errors.read().strip() or 'no message'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def measure(case: Case, contenders: list[Contender], runs: int, budget: float, scratch: Path) -> dict[str, Any]:
    """Compare, then time, one model. `budget`: seconds to spend at most, though never fewer than 3 runs each."""
    source, kind = picture(case.height, case.width)
    np.save(scratch / "in.npy", source)
    load = {"model": str(model_path(case.model)), "algorithm": case.algorithm, "scale": case.scale, "picture": str(scratch / "in.npy")}
    results = {}
    for c in contenders:
        c.ask(**load, save=str(scratch / "out.npy"))
        results[c.name] = np.load(scratch / "out.npy")
    warm = sum(c.ask() for c in contenders)
    n = min(runs, max(3, int(budget / warm)))
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    for _ in range(n):
        for c in contenders:
            seconds[c.name].append(c.ask())
    rows = []
    theirs = [c for c in contenders if not c.ours]
    best = min((sorted(seconds[c.name])[n // 2] for c in theirs), default=None)
    for c in contenders:
        row: dict[str, Any] = {"name": c.name, "version": c.version, **summary(seconds[c.name])}
        if c.ours:
            row["difference"] = {t.name: difference(results[c.name], results[t.name]) for t in theirs}
            row["times_best_cv2"] = None if best is None else round(1e3 * best / row["median_ms"], 3)
        rows.append(row)
    return {"model": case.model, "scale": case.scale, "picture": f"{case.width}x{case.height}", "source": kind, "results": rows}


def wrong(row: dict[str, Any]) -> bool:
    """Whether a result of ours is not OpenCV's: more than one level off anywhere, or fewer than 99.9 % equal; of `fast` two levels, and 95 %."""
    levels, equal = (2, 95) if row["name"].endswith(" fast") else (1, 99.9)
    return any(not (d.get("max_abs", 256) <= levels and d.get("equal_percent", 0) >= equal) for d in row.get("difference", {}).values())


def as_text(measured: dict[str, Any]) -> str:
    """One model's rows for people."""
    rows = [[f"{measured['model']}  {measured['picture']}", "median ms", "quartiles", "min ms", "x best cv2", "equal %", ""]]
    for r in measured["results"]:
        equal = [d.get("equal_percent", 0) for d in r.get("difference", {}).values()]
        ratio = r.get("times_best_cv2")
        rows.append(
            [
                r["name"],
                f"{r['median_ms']:.1f}",
                f"{r['q1_ms']:.1f}-{r['q3_ms']:.1f}",
                f"{r['min_ms']:.1f}",
                f"{ratio:.2f}" if ratio else "-",
                f"{min(equal):.3f}" if equal else "-",
                "DIFFERS" if wrong(r) else "",
            ]
        )
    return table(rows)


def main() -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=positive, default=2, help="threads for everyone (default 2)")
    parser.add_argument("--cv2", action="append", metavar="FOLDER", help="an OpenCV: a folder for PYTHONPATH, or 'installed' (default); repeatable")
    parser.add_argument("--backend", action="append", metavar="NAME", help="ours, also 'cpu fast'; repeatable (default: all that work here)")
    parser.add_argument("--model", action="append", choices=[c.model for c in CASES], help="only this model; repeatable")
    parser.add_argument("--runs", type=positive, default=15, help="timed runs each, at most (default 15)")
    parser.add_argument("--seconds", type=float, default=30, help="time for each model, roughly (default 30)")
    parser.add_argument("--output", metavar="FILE", help="write the JSON there")
    args = parser.parse_args()
    backends = args.backend or [b for b in available_backends() if b != "reference"]
    if not args.backend and "cpu" in backends:
        backends.insert(1, "cpu fast")
    contenders = [Contender("fastsr", args.threads, backend=b) for b in backends]
    contenders += [Contender("cv2", args.threads, path="" if p == "installed" else p) for p in args.cv2 or ["installed"]]
    report = {**header(args.threads), "cases": []}
    report["machine"]["versions"] = {k: v for k, v in report["machine"]["versions"].items() if not k.startswith("opencv")}
    bad = False
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            if args.model and case.model not in args.model:
                continue
            measured = measure(case, contenders, args.runs, args.seconds, Path(scratch))
            report["cases"].append(measured)
            bad |= any(wrong(r) for r in measured["results"])
            print(as_text(measured), end="\n\n", flush=True)
    for c in contenders:
        c.close()
    print(f"written: {keep('upsample', report, args.output)}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
