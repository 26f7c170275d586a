"""How fast does the GPU run the network, next to PyTorch with the same weights on the same input?

    python benchmarks/gpu.py
    python benchmarks/gpu.py --networks srvgg espcn --sizes 1920x1080

Needs an NVIDIA GPU, CuPy (pip install fastsr[cuda]) and a PyTorch with CUDA; without these it says so and measures nothing. Results are compared
first, with the C++ core or NumPy in float32 (PSNR over 60 dB for halfs). Then the contenders take turns, A B C A B C: device time of the network by
CUDA events, the picture already on the device; and from a NumPy picture to a NumPy picture for ours. In the same run the ceilings are measured: a
copy on the device, and a large product of half matrices. Writes benchmarks/results/gpu-MACHINE-DATE.json and prints a table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import header, keep, picture
from networks import NETWORKS, gigaflops
from peers import exactness

from fastsr import image
from fastsr.backends import backend_module
from fastsr.cli.common import positive, table
from fastsr.errors import BackendError
from fastsr.lower import lower
from fastsr.model import Model
from fastsr.passes import optimise

LEAST_PSNR = 60.0
"""Of a result of ours or of torch's to float32, in dB; a less exact one is not compared for speed."""


def torch_contenders(torch: Any, graph: Any, x: np.ndarray, compiled: bool) -> dict[str, tuple[Callable[[], Any], Callable[[], np.ndarray]]]:
    """Name -> (a run, a run whose result is fetched) of torch: channels-last halfs, eager, compiled, and as a CUDA graph."""
    from torch_graph import GraphModule

    module = GraphModule(graph).cuda().half().eval().to(memory_format=torch.channels_last)
    given = torch.from_numpy(x).cuda().half().contiguous(memory_format=torch.channels_last)
    forms = {"torch eager": module}
    if compiled:
        forms["torch compiled"] = torch.compile(module, mode="max-autotune-no-cudagraphs")
    found: dict[str, tuple[Callable[[], Any], Callable[[], np.ndarray]]] = {}
    for name, form in forms.items():

        def run(form: Any = form) -> Any:
            with torch.inference_mode():
                return form(given)

        for _ in range(3):
            run()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            result = run()
        found[name] = run, lambda run=run: run().float().cpu().numpy()
        found[f"{name}, graph"] = recorded.replay, lambda recorded=recorded, result=result: (recorded.replay(), result.float().cpu().numpy())[1]
    return found


def milliseconds(cupy: Any, run: Callable[[], Any], seconds: float) -> float:
    """Device time of one run: a batch of runs between two events, long enough to be measured."""
    stream = cupy.cuda.get_current_stream()
    count = 1
    while True:
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record(stream)
        for _ in range(count):
            run()
        end.record(stream)
        end.synchronize()
        taken = cupy.cuda.get_elapsed_time(begin, end)
        if taken >= 1e3 * seconds or count >= 1 << 16:
            return float(taken) / count
        count *= 2


def ceilings(torch: Any) -> dict[str, float]:
    """What the device can do, measured: bytes a second read and written by a copy, floating point operations a second of a product of halfs."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    large = torch.empty(1 << 31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(large)

    def seconds(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(10):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return statistics.median(times[3:])

    return {"copy_bytes_per_second": 2 * large.numel() / seconds(lambda: target.copy_(large)), "flops": 2 * 8192**3 / seconds(lambda: a @ a)}


def measure(name: str, width: int, height: int, turns: int, compiled: bool, least: float) -> dict[str, Any]:
    """One network at one size."""
    import cupy
    import torch

    graph = optimise(NETWORKS[name].build())
    program = lower(graph)
    ours = {p: Model(program, "cuda", p) for p in ("fast", "f32")}
    photo, source = picture(height, width)
    x = image.to_network(photo, program.feed)[0]
    small = np.ascontiguousarray(x[:, :, : min(height, 270), : min(width, 480)])
    exact = Model(program, "auto", "f32").run(small)
    assert isinstance(exact, np.ndarray)
    row: dict[str, Any] = {
        "network": name,
        "size": f"{width}x{height}",
        "picture": source,
        "gigaflops": gigaflops(graph, height, width),
        "contenders": {},
    }
    runs: dict[str, Callable[[], Any]] = {}
    for p, model in ours.items():
        made = model.run(small)
        assert isinstance(made, np.ndarray)
        row["contenders"][f"fastsr {p}"] = exactness(made, exact)
        runs[f"fastsr {p}"] = model._executable.steady(height, width)  # type: ignore[attr-defined]
    for form, (_, fetched) in torch_contenders(torch, graph, small, compiled).items():
        row["contenders"][form] = exactness(fetched(), exact)
    runs |= {form: run for form, (run, _) in torch_contenders(torch, graph, x, compiled).items()}
    times: dict[str, list[float]] = {k: [] for k in runs}
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), cupy.cuda.ExternalStream(stream.cuda_stream):
        for _ in range(turns):
            for k, run in runs.items():
                times[k].append(milliseconds(cupy, run, least))
    ends: list[float] = []
    for _ in range(3 + turns):
        start = time.perf_counter()
        ours["fast"].upscale(photo)
        ends.append(1e3 * (time.perf_counter() - start))
    for k, series in times.items():
        row["contenders"][k] |= {"ms": statistics.median(series), "all_ms": series}
    row["end_to_end_ms"] = statistics.median(ends[3:])
    return row


def ratios(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Lines for people: our time and how many times faster than torch's best that is exact enough."""
    lines = []
    for row in rows:
        fair = {k: v for k, v in row["contenders"].items() if v["psnr"] >= LEAST_PSNR}
        best = min((v["ms"] for k, v in fair.items() if k.startswith("torch")), default=float("nan"))
        mine = fair.get("fastsr fast", {}).get("ms", float("nan"))
        psnr = row["contenders"]["fastsr fast"]["psnr"]
        lines.append([row["network"], row["size"], f"{mine:.3f}", f"{psnr:.1f}", f"{best:.3f}", f"{best / mine:.2f}",
                      f"{row['gigaflops'] / mine:.1f}", f"{row['end_to_end_ms']:.2f}"])  # fmt: skip
    return lines


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", default=["espcn", "fsrcnn", "srvgg", "edsr-baseline", "vdsr", "rrdb"], choices=list(NETWORKS), metavar="NAME"
    )
    parser.add_argument("--sizes", nargs="+", default=["960x540", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--turns", type=positive, default=5, help="how often each contender is measured")
    parser.add_argument("--milliseconds", type=positive, default=50, help="least time of a measurement")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes a minute for each network")
    parser.add_argument("--output", help="file for the result")
    args = parser.parse_args()
    try:
        backend_module("cuda")
        import torch

        if not torch.cuda.is_available():
            raise BackendError("this PyTorch finds no GPU")
    except (BackendError, ImportError) as e:
        print(f"nothing can be measured here: {e}", file=sys.stderr)
        return 2
    report: dict[str, Any] = {**header(), "gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "ceilings": ceilings(torch), "rows": []}
    for size in args.sizes:
        width, height = map(int, size.split("x"))
        for name in args.networks:
            print(f"{name} {size}", file=sys.stderr, flush=True)
            report["rows"].append(measure(name, width, height, args.turns, not args.no_compile, args.milliseconds / 1e3))
            keep("gpu", report, args.output)
    columns = ["network", "size", "fastsr fast, ms", "PSNR, dB", "torch's best, ms", "times faster", "TFLOP/s", "end to end, ms"]
    print(table([columns, *ratios(report["rows"])], 2))
    print(f"wrote {keep('gpu', report, args.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
