"""How fast does the bare network run, next to other people's engines with the same weights on the same input?

    python benchmarks/peers.py
    python benchmarks/peers.py --networks vdsr srvgg --contenders fastsr openvino:bf16 cv2@/opt/cv2-4.14
    python benchmarks/peers.py --networks vdsr --contenders fastsr fastsr+threads=1 fastsr+isa=avx2 fastsr@/opt/fastsr-0.1
    python benchmarks/peers.py --sizes                                       ours only: time per pixel and memory over picture sizes

A contender is LIBRARY[:PRECISION][+threads=N][+isa=NAME][@FOLDER]; FOLDER comes first on its PYTHONPATH. Without a precision all of the library's
take part. Every contender lives in a process of its own and gets the graph after fastsr's passes, a float32 array in and a float32 array out. For
each network all results are compared first, with the reference backend in double precision; then the contenders take turns, A B C A B C. Writes
benchmarks/results/peers-MACHINE-DATE.json. The exit code is 1 when a result of ours is not exact enough.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, header, keep, picture
from networks import NETWORKS, Network, gigaflops

from fastsr import image
from fastsr.backends.reference import run_program
from fastsr.cli.common import positive, table
from fastsr.cli.timing import summary
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.passes import optimise

WORKER = Path(__file__).with_name("peers_worker.py")

PRECISIONS = {
    "fastsr": ("f32", "fast"),
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16"),
    "ncnn": ("f32", "bf16"),
    "torch": ("f32", "bf16"),
    "torch_compiled": ("f32", "bf16"),
    "cv2": ("f32",),
}
"""Library -> the precisions it can compute in."""

TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch_compiled": "torch compiled"}

BURST, MOST = 0.15, 10
"""A turn of a quick contender is several runs, about this long in seconds, and at most so many."""

PAUSE = 0.05
"""Seconds between turns, in which the threads of the contender before stop spinning."""

LEAST_PSNR = {"f32": 90.0, "fast": 60.0, "bf16": 30.0}
"""A result that is less exact, in dB, is wrong: it is not compared for speed."""

LARGEST_ERROR = 1e-4
"""Largest relative error of ours in f32."""

MEGAPIXELS = (0.1, 0.25, 1, 4, 16, 67)


@dataclass(frozen=True)
class Spec:
    """A contender as asked for on the command line."""

    library: str
    precision: str
    threads: int
    isa: str = ""
    folder: str = ""

    def name(self, version: str, threads: int) -> str:
        """What tables call it. threads: everyone's."""
        words = [TITLES.get(self.library, self.library), self.precision]
        if self.library == "cv2":
            words.insert(1, ".".join(version.split(".")[:2]))
        words += [self.isa] if self.isa else []
        words += [f"{self.threads} thread{'s' * (self.threads > 1)}"] if self.threads != threads else []
        words += [f"({Path(self.folder).name})"] if self.folder and self.library != "cv2" else []
        return " ".join(words)


def specs(text: str, threads: int) -> list[Spec]:
    """The contenders that one argument names. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(?P<library>\w+)(:(?P<precision>\w+))?(?P<options>(\+\w+=\w+)*)(@(?P<folder>.+))?", text)
    if not found or found["library"] not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"'{text}': LIBRARY[:PRECISION][+threads=N][+isa=NAME][@FOLDER], libraries are {', '.join(PRECISIONS)}")
    options = dict(o.split("=") for o in found["options"].split("+")[1:])
    precisions = [found["precision"]] if found["precision"] else PRECISIONS[found["library"]]
    n = int(options.get("threads", threads))
    return [Spec(found["library"], p, n, options.get("isa", ""), found["folder"] or "") for p in precisions]


class Contender:
    """A worker process with one network loaded."""

    def __init__(self, spec: Spec, threads: int, scratch: Path, job: dict[str, str], clock: str) -> None:
        self.spec = spec
        self.clock = clock
        path = os.pathsep.join([p for p in (spec.folder, str(ROOT), os.environ.get("PYTHONPATH", "")) if p])
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(spec.threads), "OPENCV_LOG_LEVEL": "SILENT"}
        env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # leaves no helper processes behind
        if spec.isa:
            env["FASTSR_ISA"] = spec.isa
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, str(WORKER)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)
        result = scratch / "result.npy"
        result.unlink(missing_ok=True)
        self.first = self._ask(json.dumps({**job, "library": spec.library, "precision": spec.precision, "threads": spec.threads}))
        self.error = self.first.get("error", "")
        self.version = str(self.first.get("version", ""))
        self.name = spec.name(self.version, threads)
        self.seconds: list[float] = []

    def turn(self, runs: int, keep: bool = True) -> float:
        """Let it run so many times; the shortest in seconds."""
        answer = self._ask(str(runs))
        if "error" in answer:
            sys.exit(f"{self.name} ended while it was measured: {answer['error']}")
        if keep:
            self.seconds += answer[self.clock]
        return float(min(answer["wall"]))

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        text = self.process.stdout.readline()
        if text:
            answer: dict[str, Any] = json.loads(text)
            return answer
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return {"error": f"its process ended ({self.process.wait()}): {lines[-1] if lines else 'no message'}"}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def exactness(y: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """How near a result is: the largest error relative to the largest magnitude, and PSNR in dB, the peak being the reference's range."""
    if y.shape != reference.shape:
        return {"max_rel": math.inf, "psnr": -math.inf}
    error = y.astype(np.float64) - reference
    square = max(float((error**2).mean()), 1e-300)
    largest = float(np.abs(error).max()) / max(float(np.abs(reference).max()), 1e-300)
    return {"max_rel": float(f"{largest:.3g}"), "psnr": round(10 * math.log10(float(np.ptp(reference)) ** 2 / square), 2)}


def wrong(row: dict[str, Any]) -> bool:
    """Whether a result is not exact enough to be compared for speed."""
    ours = row["library"] == "fastsr" and row["precision"] == "f32"
    return not (row["psnr"] >= LEAST_PSNR.get(row["precision"], 0) and (not ours or row["max_rel"] < LARGEST_ERROR))


def reference_result(graph: Graph, x: np.ndarray, folder: Path) -> np.ndarray:
    """What the network gives in double precision; kept in `folder`, since it takes long."""
    digest = hashlib.sha256(x.tobytes() + graph.dump().encode())
    for constant in graph.constants.values():
        digest.update(constant.tobytes())
    path = folder / f"{digest.hexdigest()[:32]}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, run_program(lower(graph), [x], dtype=np.float64)[0])
    kept: np.ndarray = np.load(path)
    return kept


def measure(network: Network, size: tuple[int, int], wanted: Sequence[Spec], how: argparse.Namespace) -> dict[str, Any]:
    """Compare, then time, one network on a picture of that size (height, width). how: the command line's options."""
    graph = network.build()
    source, kind = picture(*size)
    x = image.to_network(source, graph.feed)[0]
    case: dict[str, Any] = {"network": network.name, "title": network.title, "input": f"{size[1]}x{size[0]}", "source": kind}
    case |= {"weights": graph.meta["weights"], "results": [], "absent": {}}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "graph").write_bytes(pickle.dumps(graph))
        np.save(scratch / "x.npy", x)
        job = {"graph": str(scratch / "graph"), "input": str(scratch / "x.npy"), "save": str(scratch / "result.npy")}
        case["gflop"] = round(gigaflops(graph, *size), 3)
        reference = reference_result(optimise(graph), x, how.references)
        contenders = []
        for spec in wanted:
            c = Contender(spec, how.threads, scratch, job, how.clock)
            if c.error:
                case["absent"][c.name] = c.error
                c.close()
                continue
            case["results"].append({"name": c.name, "library": spec.library, "precision": spec.precision, "version": c.version,
                                    **exactness(np.load(scratch / "result.npy"), reference), "rise_mib": c.first["rise_mib"]})  # fmt: skip
            contenders.append(c)
    take_turns(contenders, how.rounds)
    for c, row in zip(contenders, case["results"], strict=True):
        row |= summary(c.seconds)
        row["gflops"] = round(case["gflop"] / row["median_ms"] * 1e3, 1)
        c.close()
    compare(case)
    return case


def take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    """A B C A B C; those that are quick run once more before, which does not count."""
    runs = {}
    for c in contenders:
        runs[c] = 1 if c.first["seconds"] > MOST * BURST else min(MOST, max(1, int(BURST / c.turn(1, keep=False))))
    for _ in range(rounds):
        for c in contenders:
            time.sleep(PAUSE)
            c.turn(runs[c])


def compare(case: dict[str, Any]) -> None:
    """Adds to each result of ours how many times faster it is than the fastest peer of each precision."""
    peers: dict[str, float] = {}
    for row in case["results"]:
        row["wrong"] = wrong(row)
        if row["library"] != "fastsr" and not row["wrong"]:
            peers[row["precision"]] = min(peers.get(row["precision"], math.inf), row["median_ms"])
    for row in case["results"]:
        if row["library"] == "fastsr":
            row["times"] = {p: round(ms / row["median_ms"], 3) for p, ms in peers.items()}


def as_text(case: dict[str, Any]) -> str:
    """One network's results for people."""
    title = f"{case['title']}  {case['input']}  {case['gflop']:.1f} GFLOP"
    rows = [[title, "median ms", "quartiles", "min ms", "GFLOP/s", "rel. error", "PSNR dB", "x f32", "x bf16", ""]]
    for r in case["results"]:
        times = [f"{r['times'][p]:.2f}" if p in r.get("times", {}) else "" for p in ("f32", "bf16")]
        quartiles = f"{r['q1_ms']:.2f}-{r['q3_ms']:.2f}"
        timing = [f"{r['median_ms']:.2f}", quartiles, f"{r['min_ms']:.2f}", f"{r['gflops']:.0f}"]
        rows.append([r["name"], *timing, f"{r['max_rel']:.1e}", f"{r['psnr']:.1f}", *times, "WRONG" if r["wrong"] else ""])
    return "\n".join([table(rows), *(f"{name}: {why}" for name, why in case["absent"].items())])


def overview(report: dict[str, Any]) -> str:
    """All networks: milliseconds of every contender, and for each of ours the ratios, their geometric mean and the effective GFLOP/s."""
    cases = report["cases"]
    names = list(dict.fromkeys(r["name"] for c in cases for r in c["results"]))
    ours = list(dict.fromkeys(r["name"] for c in cases for r in c["results"] if r["library"] == "fastsr"))
    rows = [["median ms", "input", "GFLOP", *names]]
    ratios = [["times faster than the fastest", *(f"{o}: {what}" for o in ours for what in ("f32 peer", "bf16 peer", "GFLOP/s"))]]
    collected: dict[tuple[str, str], list[float]] = {}
    for c in cases:
        by_name = {r["name"]: r for r in c["results"]}
        cells = [f"{by_name[n]['median_ms']:.1f}{'!' * by_name[n]['wrong']}" if n in by_name else "-" for n in names]
        rows.append([c["title"], c["input"], f"{c['gflop']:.1f}", *cells])
        line = [c["title"]]
        for o in ours:
            r = by_name.get(o)
            for p in ("f32", "bf16"):
                times = None if r is None else r["times"].get(p)
                line.append("-" if times is None else f"{times:.2f}")
                collected.setdefault((o, p), []).extend([] if times is None else [times])
            line.append("-" if r is None else f"{r['gflops']:.0f}")
        ratios.append(line)
    last = ["geometric mean"]
    for o in ours:
        last += [f"{statistics.geometric_mean(v):.2f}" if (v := collected[o, p]) else "-" for p in ("f32", "bf16")] + [""]
    return f"{table(rows, left=2)}\n\n{table([*ratios, last])}"


def sizes(wanted: Sequence[Spec], networks: Sequence[Network], how: argparse.Namespace) -> list[dict[str, Any]]:
    """Time per pixel and memory over picture sizes of three to two. how: the command line's options."""
    rows = []
    lines = [["network", "contender", "megapixels", "ms", "ns per pixel", "rise MiB", "result MiB"]]
    for network in networks:
        graph = network.build()
        for wished in (m for m in MEGAPIXELS if m <= how.megapixels):
            height = round(math.sqrt(wished * 1e6 / 1.5) / 4) * 4
            size = height, height * 3 // 2
            source, _ = picture(min(height, 1024), min(size[1], 1536))
            source = np.tile(source, (-(-height // source.shape[0]), -(-size[1] // source.shape[1]), 1))[:height, : size[1]]
            with tempfile.TemporaryDirectory() as folder:
                scratch = Path(folder)
                (scratch / "graph").write_bytes(pickle.dumps(graph))
                np.save(scratch / "x.npy", image.to_network(np.ascontiguousarray(source), graph.feed)[0])
                job = {"graph": str(scratch / "graph"), "input": str(scratch / "x.npy"), "save": ""}
                contenders = [Contender(s, how.threads, scratch, job, how.clock) for s in wanted]
            failed = next((c for c in contenders if c.error), None)
            if failed:
                sys.exit(f"{failed.name}: {failed.error}")
            take_turns(contenders, how.rounds if wished < 10 else 1)
            for c in contenders:
                megapixels, ms = height * size[1] / 1e6, statistics.median(c.seconds) * 1e3
                result = math.prod(c.first["shape"]) * 4 / 2**20
                rows.append({"network": network.name, "name": c.name, "megapixels": megapixels, **summary(c.seconds),
                             "ns_per_pixel": round(ms / megapixels, 3), "rise_mib": c.first["rise_mib"], "result_mib": round(result, 1)})  # fmt: skip
                numbers = (megapixels, ms, ms / megapixels, c.first["rise_mib"], result)
                lines.append([network.title, c.name, *(f"{n:.2f}" for n in numbers)])
                c.close()
    print(table(lines, left=2))
    return rows


def main() -> int:
    """Run the networks asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--contenders", nargs="+", metavar="SPEC", help="see above (default: all libraries in all their precisions)")
    parser.add_argument("--threads", type=positive, default=2, help="threads for everyone (default 2)")
    parser.add_argument("--rounds", type=positive, help="turns of everyone (default 7)")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: for busy machines, best with one thread")
    parser.add_argument("--quick", action="store_true", help="a quarter of the pixels, 3 rounds")
    parser.add_argument("--sizes", action="store_true", help="ours over picture sizes instead (default networks: espcn, fsrcnn, vdsr)")
    parser.add_argument("--megapixels", type=float, default=max(MEGAPIXELS), help="largest picture of --sizes (default 67)")
    parser.add_argument("--references", type=Path, default=Path(tempfile.gettempdir()) / "fastsr-references", help="folder that keeps exact results")
    parser.add_argument("--output", metavar="FILE", help="write the JSON there")
    args = parser.parse_args()
    try:
        wanted = [s for text in args.contenders or (["fastsr"] if args.sizes else PRECISIONS) for s in specs(text, args.threads)]
    except argparse.ArgumentTypeError as e:
        parser.error(str(e))
    args.rounds = args.rounds or (3 if args.quick else 7)
    chosen = [NETWORKS[n] for n in args.networks or (["espcn", "fsrcnn", "vdsr"] if args.sizes else NETWORKS)]
    report: dict[str, Any] = {**header(args.threads), "rounds": args.rounds, "clock": args.clock}
    if args.sizes:
        report["sizes"] = sizes(wanted, chosen, args)
        print(f"written: {keep('sizes', report, args.output)}")
        return 0
    report["cases"] = []
    for network in chosen:
        size = (network.height // 2, network.width // 2) if args.quick else (network.height, network.width)
        report["cases"].append(measure(network, size, wanted, args))
        print(as_text(report["cases"][-1]), end="\n\n", flush=True)
    print(overview(report))
    print(f"written: {keep('peers', report, args.output)}")
    return int(any(r["wrong"] for c in report["cases"] for r in c["results"] if r["library"] == "fastsr"))


if __name__ == "__main__":
    sys.exit(main())
