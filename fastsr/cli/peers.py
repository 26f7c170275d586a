"""Other people's runtimes as contenders of `fastsr bench` and benchmarks/: each is given the same network and the same number of threads.

OpenCV reads the .pb itself; ONNX Runtime and OpenVINO get the graph after fastsr's passes (activations recognised, no leftovers of training) as ONNX,
which is their fastest form too.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Feed, Graph
from ..onnx_file import onnx_bytes
from .machine import package_version

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Peer:
    """A runtime with the network loaded. `run` takes what it takes: a picture, or a float32 (1, C, H, W) array."""

    name: str
    version: str
    run: Run


class AbsentError(Exception):
    """Why a peer cannot take part."""


def network_peers(graph: Graph, shape: tuple[int, int, int, int], threads: int) -> tuple[list[Peer], dict[str, str]]:
    """The runtimes that take the bare network, and name -> reason for those that cannot. The shape of x may be fixed for them."""
    return _gather({"ONNX Runtime": lambda: onnxruntime_peer(graph, threads), "OpenVINO": lambda: openvino_peer(graph, shape, threads)})


def picture_peers(path: str, feed: Feed, scale: int, threads: int) -> tuple[list[Peer], dict[str, str]]:
    """The libraries that enlarge whole pictures with the model file itself: OpenCV."""
    return _gather({"cv2.dnn_superres": lambda: opencv_peer(path, feed, scale, threads)})


def _gather(makers: dict[str, Callable[[], Peer]]) -> tuple[list[Peer], dict[str, str]]:
    peers, absent = [], {}
    for name, make in makers.items():
        try:
            peers.append(make())
        except ImportError as e:
            absent[name] = f"not installed (pip install fastsr[bench]): {e}"
        except Exception as e:
            absent[name] = reason_of(e)
    return peers, absent


def reason_of(e: Exception) -> str:
    """One short line that says why a peer failed."""
    return " ".join(str(e).split())[:200] or type(e).__name__


def onnxruntime_peer(graph: Graph, threads: int) -> Peer:
    """ONNX Runtime on the CPU."""
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = ort.InferenceSession(onnx_bytes(graph), options, providers=["CPUExecutionProvider"])
    source, target = graph.inputs[0].name, graph.outputs[0]
    return Peer("ONNX Runtime", ort.__version__, lambda x: session.run([target], {source: x})[0])


def openvino_peer(graph: Graph, shape: tuple[int, int, int, int], threads: int) -> Peer:
    """OpenVINO on the CPU, computing in f32, the picture's size fixed."""
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    model = core.read_model(model=onnx_bytes(graph))
    model.reshape(list(shape))
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()

    def run(x: np.ndarray) -> np.ndarray:
        request.infer([x], share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    return Peer("OpenVINO", package_version("openvino") or "?", run)


def opencv_peer(path: str, feed: Feed, scale: int, threads: int) -> Peer:
    """The real cv2.dnn_superres. Its algorithm names choose the colour handling only: "espcn" for networks of Y, "edsr" for those of BGR."""
    cv2 = importlib.import_module("cv2")
    if not hasattr(cv2, "dnn_superres"):
        raise AbsentError("this OpenCV has no dnn_superres: pip install opencv-contrib-python")
    if feed.colour not in ("y", "bgr"):
        raise AbsentError("OpenCV feeds networks Y or BGR only")
    cv2.setNumThreads(threads)
    engine = cv2.dnn_superres.DnnSuperResImpl_create()
    with quiet():
        engine.readModel(path)
    engine.setModel("espcn" if feed.colour == "y" else "edsr", scale)
    return Peer("cv2.dnn_superres", cv2.__version__, engine.upsample)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Standard error silenced, also what native code writes there."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """How far two results differ: the largest absolute and relative difference, and the share of equal elements in percent.

    The relative difference is taken of the largest magnitude in `theirs`, as is usual for networks' outputs near 0.
    """
    if ours.shape != theirs.shape:
        return {"shapes": [list(ours.shape), list(theirs.shape)]}
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    largest = float(np.abs(a - b).max())
    return {"max_abs": largest, "max_rel": largest / max(float(np.abs(b).max()), 1e-30), "equal_percent": round(100 * float((a == b).mean()), 4)}
