"""How fast does the bare network run, next to other people's engines with the same weights on the same input?

    python benchmarks/peers.py
    python benchmarks/peers.py --networks vdsr srvgg --contenders fastsr openvino:bf16 cv2@/opt/cv2-4.14
    python benchmarks/peers.py --networks vdsr --contenders fastsr fastsr+threads=1 fastsr+isa=avx2 fastsr@/opt/fastsr-0.1
    python benchmarks/peers.py --sizes --threads-list 1 2 4                  time per pixel and memory over picture sizes; time by number of threads

A contender is LIBRARY[:PRECISION][+threads=N][+isa=NAME][@FOLDER]; FOLDER comes first on its PYTHONPATH. Without a precision all of the library's
take part. Every contender lives in a process of its own and gets the graph after fastsr's passes, a float32 array in and a float32 array out. For
each network all results are compared first, with the reference backend in double precision; then the contenders take turns, A B C A B C. Writes
benchmarks/results/peers-MACHINE-DATE.json (scaling-... with --sizes or --threads-list). The exit code is 1 when a result of ours is not exact enough.
Libraries that are not installed are named and left out. torch is not part of the extra "bench", since it is large: pip install torch.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scaling
from common import header, keep, picture
from contenders import PRECISIONS, Contender, Spec, job_of, specs, take_turns
from networks import NETWORKS, Network, gigaflops
from peaks import peaks

from fastsr import image
from fastsr.backends.reference import run_program
from fastsr.cli.common import positive, table
from fastsr.cli.timing import summary
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.passes import optimise

LEAST_PSNR = {"f32": 90.0, "fast": 60.0, "bf16": 30.0}
"""A result that is less exact, in dB, is wrong: it is not compared for speed."""

LARGEST_ERROR = 1e-4
"""Largest relative error of ours in f32."""


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
    with job_of(graph, x) as (scratch, job):
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
                                    **exactness(np.load(job["save"]), reference), "rise_mib": c.first["rise_mib"]})  # fmt: skip
            contenders.append(c)
    take_turns(contenders, how.rounds)
    for c, row in zip(contenders, case["results"], strict=True):
        row |= summary(c.seconds)
        row["gflops"] = round(case["gflop"] / row["median_ms"] * 1e3, 1)
        c.close()
    compare(case)
    return case


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


def main() -> int:
    """Run the networks asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--contenders", nargs="+", metavar="SPEC", help="see above (default: all libraries in all their precisions)")
    parser.add_argument("--threads", type=positive, default=2, help="threads for everyone (default 2)")
    parser.add_argument("--rounds", type=positive, help="turns of everyone (default 7)")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: for busy machines, best with one thread")
    parser.add_argument("--quick", action="store_true", help="a quarter of the pixels, 3 rounds")
    parser.add_argument("--sizes", action="store_true", help=f"over picture sizes instead (default: ours; networks {', '.join(scaling.NETWORKS)})")
    parser.add_argument("--megapixels", type=float, default=max(scaling.MEGAPIXELS), help="largest picture of --sizes (default 67)")
    parser.add_argument("--threads-list", nargs="+", type=positive, metavar="N", help="by number of threads instead, or besides (same defaults)")
    parser.add_argument("--references", type=Path, default=Path(tempfile.gettempdir()) / "fastsr-references", help="folder that keeps exact results")
    parser.add_argument("--output", metavar="FILE", help="write the JSON there")
    args = parser.parse_args()
    scales = args.sizes or args.threads_list
    try:
        wanted = [s for text in args.contenders or (["fastsr"] if scales else PRECISIONS) for s in specs(text, args.threads)]
    except argparse.ArgumentTypeError as e:
        parser.error(str(e))
    args.rounds = args.rounds or (3 if args.quick else 7)
    chosen = [NETWORKS[n] for n in args.networks or (scaling.NETWORKS if scales else NETWORKS)]
    report: dict[str, Any] = {**header(args.threads), "rounds": args.rounds, "clock": args.clock}
    if scales:
        report["sizes"] = scaling.sizes(wanted, chosen, args) if args.sizes else []
        report["by_threads"] = scaling.threads(wanted, chosen, args.threads_list, args) if args.threads_list else []
        print(f"written: {keep('scaling', report, args.output)}")
        return 0
    report["peaks"] = peaks(args.threads)
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
