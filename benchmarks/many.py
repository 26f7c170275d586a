"""How fast are many pictures: a loop of `upscale()`, `upscale_many`, and others' loops?

    python benchmarks/many.py --threads 2
    python benchmarks/many.py --threads 2 --network espcn --size 96x96

Each network makes a list of pictures of one size large. All results are compared with those of `upscale` first; then the contenders take turns,
A B C A B C, in one process: a loop of `upscale` with all threads, one with one thread, `upscale_many`; `cv2.dnn_superres` and ONNX Runtime (from and
to 8-bit pictures, by our colour conversion) where installed and the network is one of theirs. Writes
benchmarks/results/many-MACHINE-DATE.json. The exit code is 1 when `upscale_many` gives other bits than `upscale`, or another contender differs by
more than one grey level anywhere or in more than 0.1 % of the samples.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import peers
from common import header, keep, model_path, picture

import fastsr
from fastsr import image
from fastsr.cli.common import positive, size, table
from fastsr.cli.peers import difference
from fastsr.cli.timing import summary
from fastsr.graph import Feed, Graph
from fastsr.importers import load_graph
from fastsr.lower import lower
from fastsr.model import Model
from fastsr.onnx_file import onnx_bytes
from fastsr.passes import optimise

Loop = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Network:
    """A network, its file and what cv2.dnn_superres calls it ("" where there is none). counts: pictures up to 96x96, and larger ones."""

    title: str
    file: str
    algorithm: str
    counts: tuple[int, int]


NETWORKS = {
    "fsrcnn-small": Network("FSRCNN-small x2", "FSRCNN-small_x2", "fsrcnn", (200, 50)),
    "espcn": Network("ESPCN x2", "ESPCN_x2", "espcn", (200, 50)),
    "edsr-baseline": Network("EDSR-baseline x2", "", "", (20, 4)),
}
SIZES = ((96, 96), (256, 256))


def graph_of(network: Network) -> Graph:
    """The network after the passes, fed with pictures."""
    if network.file:
        return optimise(load_graph(model_path(network.file)))
    graph = optimise(peers.NETWORKS["edsr-baseline"].build())
    graph.feed = Feed("rgb", 1.0)
    return graph


def pictures_of(count: int, height: int, width: int) -> list[np.ndarray]:
    """Different parts of one picture, each with memory of its own."""
    whole, _ = picture(height + 4 * count, width)
    return [np.ascontiguousarray(whole[4 * k : 4 * k + height]) for k in range(count)]


def contenders(network: Network, graph: Graph, threads: int, shape: tuple[int, int]) -> dict[str, Loop]:
    """Name -> what makes a list of pictures large."""
    program = lower(graph)
    all_threads, one_thread = Model(program, threads=threads), Model(program, threads=1)
    loops: dict[str, Loop] = {
        "upscale": lambda ps: [all_threads.upscale(p) for p in ps],
        "upscale, 1 thread": lambda ps: [one_thread.upscale(p) for p in ps],
        "upscale_many": lambda ps: list(all_threads.upscale_many(ps)),
    }
    for make in (cv2_loop, onnxruntime_loop):
        loop = make(network, graph, threads, shape)
        if loop:
            loops[loop[0]] = loop[1]
    return loops


def cv2_loop(network: Network, graph: Graph, threads: int, shape: tuple[int, int]) -> tuple[str, Loop] | None:
    """`upsample` in a loop."""
    try:
        cv2 = importlib.import_module("cv2")
        engine = cv2.dnn_superres.DnnSuperResImpl_create()
    except (ImportError, AttributeError):
        return None
    if not network.algorithm:
        return None
    cv2.setNumThreads(threads)
    engine.readModel(str(model_path(network.file)))
    engine.setModel(network.algorithm, 2)
    return f"cv2 {cv2.__version__}", lambda ps: [engine.upsample(p) for p in ps]


def onnxruntime_loop(network: Network, graph: Graph, threads: int, shape: tuple[int, int]) -> tuple[str, Loop] | None:
    """A session in a loop, colour conversion included."""
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    channels = 1 if graph.feed.colour == "y" else 3
    session = ort.InferenceSession(onnx_bytes(graph, (1, channels, *shape)), options, providers=["CPUExecutionProvider"])

    def loop(pictures: list[np.ndarray]) -> list[np.ndarray]:
        results = []
        for p in pictures:
            x, rest = image.to_network(p, graph.feed)
            results.append(image.from_network(session.run(graph.outputs[:1], {graph.inputs[0].name: x})[0], rest))
        return results

    return f"onnxruntime {ort.__version__}", loop


def measure(name: str, shape: tuple[int, int], count: int, threads: int, runs: int, budget: float) -> dict[str, Any]:
    """Compare, then time, one network with pictures of one size. `budget`: seconds to spend at most, though never fewer than 3 runs each."""
    network, graph = NETWORKS[name], graph_of(NETWORKS[name])
    pictures = pictures_of(count, *shape)
    loops = contenders(network, graph, threads, shape)
    expected = np.stack(loops["upscale"](pictures))
    differences = {c: difference(np.stack(loop(pictures)), expected) for c, loop in loops.items()}
    start = time.perf_counter()
    for loop in loops.values():
        loop(pictures)
    n = min(runs, max(3, int(budget / (time.perf_counter() - start))))
    seconds: dict[str, list[float]] = {c: [] for c in loops}
    for _ in range(n):
        for c, loop in loops.items():
            start = time.perf_counter()
            loop(pictures)
            seconds[c].append(time.perf_counter() - start)
    middle = {c: sorted(s)[n // 2] for c, s in seconds.items()}
    rows = [
        {
            "name": c,
            **summary(seconds[c]),
            "pictures_per_s": round(count / middle[c], 2),
            "times_upscale": round(middle["upscale"] / middle[c], 3),
            "difference": differences[c],
        }
        for c in loops
    ]
    return {"network": name, "title": network.title, "pictures": count, "size": f"{shape[1]}x{shape[0]}", "results": rows}


def wrong(row: dict[str, Any]) -> bool:
    """Whether the results are not those of `upscale`: bit for bit for ours, nearly for others."""
    d = row["difference"]
    if row["name"].startswith("upscale"):
        return bool(d.get("max_abs", 256) != 0)
    return not (d.get("max_abs", 256) <= 1 and d.get("equal_percent", 0) >= 99.9)


def as_text(measured: dict[str, Any]) -> str:
    """One case's rows for people."""
    rows = [[f"{measured['title']}  {measured['pictures']} pictures {measured['size']}", "median ms", "min ms", "pictures/s", "x upscale", ""]]
    for r in measured["results"]:
        numbers = [f"{r['median_ms']:.1f}", f"{r['min_ms']:.1f}", f"{r['pictures_per_s']:.1f}", f"{r['times_upscale']:.2f}"]
        rows.append([r["name"], *numbers, "DIFFERS" if wrong(r) else ""])
    return table(rows)


def main() -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=positive, default=2, help="threads for everyone (default 2)")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this network; repeatable")
    parser.add_argument("--size", action="append", type=size, metavar="WIDTHxHEIGHT", help="of the pictures; repeatable (default 96x96 and 256x256)")
    parser.add_argument("--pictures", type=positive, metavar="N", help="pictures in a list (default by network and size)")
    parser.add_argument("--runs", type=positive, default=15, help="timed runs each, at most (default 15)")
    parser.add_argument("--seconds", type=float, default=30, help="time for each case, roughly (default 30)")
    parser.add_argument("--output", metavar="FILE", help="write the JSON there")
    args = parser.parse_args()
    report = {**header(args.threads), "fastsr": fastsr.__version__, "cases": []}
    bad = False
    for name in args.network or NETWORKS:
        for shape in args.size or SIZES:
            count = args.pictures or NETWORKS[name].counts[shape[0] * shape[1] > 96 * 96]
            measured = measure(name, shape, count, args.threads, args.runs, args.seconds)
            report["cases"].append(measured)
            bad |= any(wrong(r) for r in measured["results"])
            print(as_text(measured), end="\n\n", flush=True)
    print(f"written: {keep('many', report, args.output)}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
