"""One contender of peers.py in a process of its own: loads one network into one runtime and runs it when told to.

The job comes as JSON in the first line of standard input, then commands, one a line; answers are JSON lines on standard output. Run by peers.py, not
by people.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.cli.machine import package_version
from fastsr.cli.peers import reason_of
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.onnx_file import onnx_bytes
from fastsr.passes import optimise

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass(frozen=True)
class Job:
    """The network after fastsr's passes, its input (1, C, H, W), and how it is to be computed."""

    graph: Graph
    x: np.ndarray
    precision: str
    threads: int


@dataclass(frozen=True)
class Loaded:
    """`run` is what is timed; `fetch` makes an array (1, C, H, W) of what it returned; `warm` runs a small picture."""

    version: str
    run: Callable[[], Any]
    fetch: Callable[[Any], np.ndarray] = np.asarray
    warm: Callable[[], Any] = tuple


def fastsr(job: Job) -> Loaded:
    """Ours, the C++ core."""
    from fastsr import __version__
    from fastsr.backends import pick_backend

    engine = pick_backend("cpu").compile(lower(job.graph), precision=job.precision, threads=job.threads, tile=None)
    small = np.ascontiguousarray(job.x[:, :, :64, :64])
    return Loaded(__version__, lambda: engine.run([job.x], [0])[0], warm=lambda: engine.run([small], [0]))


def onnxruntime(job: Job) -> Loaded:
    """ONNX Runtime, CPU provider, all optimisations, input and output bound."""
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = job.threads, 1, 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(onnx_bytes(job.graph, job.x.shape), options, providers=["CPUExecutionProvider"])
    source, target = job.graph.inputs[0].name, job.graph.outputs[0]
    like = session.run([target], {source: job.x})[0]
    result = ort.OrtValue.ortvalue_from_numpy(np.zeros_like(like))
    binding = session.io_binding()
    binding.bind_ortvalue_input(source, ort.OrtValue.ortvalue_from_numpy(job.x))
    binding.bind_ortvalue_output(target, result)
    return Loaded(ort.__version__, lambda: session.run_with_iobinding(binding), lambda _: result.numpy())


def openvino(job: Job) -> Loaded:
    """OpenVINO for the input's exact shape, tuned for latency."""
    ov = importlib.import_module("openvino")
    core = ov.Core()
    hints = {"INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": job.precision}
    request = core.compile_model(core.read_model(model=onnx_bytes(job.graph, job.x.shape)), "CPU", hints).create_infer_request()
    request.set_input_tensor(ov.Tensor(job.x, shared_memory=True))
    return Loaded(package_version("openvino") or "?", request.infer, lambda _: np.array(request.get_output_tensor(0).data))


def cv2(job: Job) -> Loaded:
    """OpenCV's own inference."""
    cv = importlib.import_module("cv2")
    cv.setNumThreads(job.threads)
    net = cv.dnn.readNetFromONNX(np.frombuffer(onnx_bytes(job.graph, job.x.shape), np.uint8))

    def run() -> np.ndarray:
        net.setInput(job.x)
        result: np.ndarray = net.forward()
        return result

    return Loaded(cv.__version__, run)


def ncnn(job: Job) -> Loaded:
    """ncnn on the CPU: all its convolutions, packed layouts, and either plain f32 or bf16 storage."""
    from ncnn_file import INPUT, OUTPUT, ncnn_model

    lib = importlib.import_module("ncnn")
    net = lib.Net()
    o = net.opt
    o.num_threads, o.use_vulkan_compute = job.threads, False
    o.use_fp16_packed = o.use_fp16_storage = o.use_fp16_arithmetic = False
    o.use_bf16_storage = o.use_bf16_packed = job.precision == "bf16"
    param, data = ncnn_model(job.graph)
    if net.load_param_mem(param) or net.load_model_mem(data):
        raise ValueError("ncnn does not take the network")
    source = lib.Mat(np.ascontiguousarray(job.x[0])).clone()

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(INPUT, source)
        code, result = extractor.extract(OUTPUT)
        if code:
            raise ValueError(f"ncnn failed with {code}")
        return result

    return Loaded(package_version("ncnn") or "?", run, lambda result: np.array(result)[None])


def torch(job: Job) -> Loaded:
    """torch, eager, in inference mode, channels last."""
    return _torch(job, compiled=False)


def torch_compiled(job: Job) -> Loaded:
    """torch.compile with weights frozen, channels last. Needs a C++ compiler."""
    importlib.import_module("torch._inductor.config").freezing = True
    return _torch(job, compiled=True)


def _torch(job: Job, compiled: bool) -> Loaded:
    from torch_graph import GraphModule

    lib = importlib.import_module("torch")
    lib.set_num_threads(job.threads)
    kind = {"f32": lib.float32, "bf16": lib.bfloat16}[job.precision]
    module = GraphModule(job.graph).eval().to(kind)
    network = lib.compile(module) if compiled else module
    no_gradients = lib.no_grad if compiled else lib.inference_mode
    x = lib.from_numpy(job.x).contiguous(memory_format=lib.channels_last)

    def run() -> Any:
        with no_gradients():
            return network(x.to(kind)).float()

    return Loaded(lib.__version__, run, lambda y: y.contiguous().numpy())


LIBRARIES: dict[str, Callable[[Job], Loaded]] = {f.__name__: f for f in (fastsr, onnxruntime, openvino, cv2, ncnn, torch, torch_compiled)}


def memory_kib(field: str) -> int:
    """VmHWM (the peak) or VmRSS of this process; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    text = status.read_text(encoding="ascii") if status.exists() else ""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:")), 0)


def first_run(loaded: Loaded, save: str) -> dict[str, Any]:
    """Run once and save the result; says how far memory rose above what was in use before, result included.

    Libraries that cannot run a small picture before allocate here whatever they will ever use.
    """
    loaded.warm()
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5", encoding="ascii")
    before = memory_kib("VmRSS")
    start = time.perf_counter()
    result = loaded.run()
    seconds = time.perf_counter() - start
    peak = memory_kib("VmHWM")
    y = np.ascontiguousarray(loaded.fetch(result), np.float32)
    if save:
        np.save(save, y)
    return {"version": loaded.version, "seconds": seconds, "shape": list(y.shape), "rise_mib": round((peak - before) / 1024, 1)}


def timed(loaded: Loaded, runs: int) -> dict[str, list[float]]:
    """Seconds of each of so many runs by every clock; the processor's adds up all threads."""
    seconds: dict[str, list[float]] = {name: [] for name in CLOCKS}
    for _ in range(runs):
        start = {name: now() for name, now in CLOCKS.items()}
        loaded.run()
        for name, now in CLOCKS.items():
            seconds[name].append(now() - start[name])
    return seconds


def main() -> None:
    """Answer commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    command = json.loads(sys.stdin.readline())
    try:
        with open(command["graph"], "rb") as f:
            graph = optimise(pickle.load(f))
        job = Job(graph, np.load(command["input"]), command["precision"], command["threads"])
        loaded = LIBRARIES[command["library"]](job)
        print(json.dumps(first_run(loaded, command["save"])), file=answers)
    except ModuleNotFoundError as e:
        print(json.dumps({"error": f"{e.name} is not installed"}), file=answers)
        return
    except Exception as e:
        print(json.dumps({"error": f"{type(e).__name__}: {reason_of(e)}"}), file=answers)
        return
    for line in sys.stdin:
        print(json.dumps(timed(loaded, int(line))), file=answers)


if __name__ == "__main__":
    main()
