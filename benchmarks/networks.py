"""The networks that benchmarks measure, each built once as a fastsr Graph: what every runtime is then given (peers.py).

Weights come from third-party model files where FASTSR_SHARED has them (see common.py), else they are random with a fixed seed and of the exact
shapes; `meta["weights"]` says which. How fast a network runs does not depend on them.
"""

from __future__ import annotations

import json
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED

from fastsr.graph import Feed, Graph, Input, Node
from fastsr.importers import load_graph
from fastsr.lower import lower
from fastsr.passes import optimise

SAFETENSORS = {"F32": np.float32, "F16": np.float16}


@dataclass(frozen=True)
class Network:
    """A network and the picture size at which it is measured. `build` gives the graph as imported, before any pass, with one output."""

    name: str
    title: str
    width: int
    height: int
    build: Callable[[], Graph]

    @property
    def size(self) -> str:
        """Width x height, for people."""
        return f"{self.width}x{self.height}"


class Builder:
    """Adds nodes one after another; every method that adds one returns the name of the value it makes.

    weights: tensors by name, or None for random ones: He's initialisation, which keeps the size of activations about equal.
    """

    def __init__(self, channels: int, weights: dict[str, np.ndarray] | None = None, seed: int = 0, source: str = "") -> None:
        self.graph = Graph(inputs=[Input("x", channels)], feed=Feed("y" if channels == 1 else "rgb"))
        self.graph.meta["weights"] = source if weights is not None else f"random, seed {seed}"
        self.weights = weights
        self.rng = np.random.default_rng(seed)
        self.channels = {"x": channels}

    def conv(self, x: str, cout: int, key: str = "", k: int = 3, gain: float = 1.0, bias: bool = True) -> str:
        """A convolution with as large a result as its input. key: name of its weights. gain: factor of random weights."""
        shape = (cout, self.channels[x], k, k)
        if self.weights is not None:
            w = self.weights[f"{key}.weight"]
            b = self.weights[f"{key}.bias"] if bias else None
        else:
            w = self.rng.standard_normal(shape, np.float32) * np.float32(gain * math.sqrt(2 / math.prod(shape[1:])))
            b = self.rng.standard_normal(cout, np.float32) * np.float32(0.01) if bias else None
        if w.shape != shape:
            raise ValueError(f"{key}: weights of shape {w.shape}, not {shape}")
        return self.node("Conv", [x, w] if b is None else [x, w, b], cout, kernel_shape=[k, k], pads=[k // 2] * 4)

    def prelu(self, x: str, key: str = "") -> str:
        """One slope per channel."""
        c = self.channels[x]
        slope = self.rng.uniform(0, 0.5, c).astype(np.float32) if self.weights is None else self.weights[f"{key}.weight"]
        return self.node("PRelu", [x, slope.reshape(c, 1, 1)], c)

    def nearest(self, x: str, factor: int) -> str:
        """Every pixel repeated."""
        scales = np.array([1, 1, factor, factor], np.float32)
        attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, None, scales], self.channels[x], **attrs)

    def shuffle(self, x: str, factor: int) -> str:
        """torch's PixelShuffle."""
        return self.node("DepthToSpace", [x], self.channels[x] // factor**2, blocksize=factor, mode="CRD")

    def concat(self, xs: list[str]) -> str:
        """Channels after channels."""
        return self.node("Concat", list(xs), sum(self.channels[x] for x in xs), axis=1)

    def add(self, x: str, y: str, scale: float = 1.0) -> str:
        """`x * scale + y`."""
        if scale != 1:
            x = self.node("Mul", [x, np.array(scale, np.float32)], self.channels[x])
        return self.node("Add", [x, y], self.channels[x])

    def act(self, x: str, slope: float = 0.0) -> str:
        """Relu, or LeakyRelu of that slope."""
        return self.node("LeakyRelu", [x], self.channels[x], alpha=slope) if slope else self.node("Relu", [x], self.channels[x])

    def node(self, op: str, inputs: list[Any], channels: int, **attrs: Any) -> str:
        """Any node; arrays among the inputs become constants, None an omitted input."""
        out = f"v{len(self.graph.nodes)}"
        names = ["" if i is None else i if isinstance(i, str) else self.graph.add_const(f"{out}_{k}", i) for k, i in enumerate(inputs)]
        self.graph.nodes.append(Node(op, names, [out], attrs, out))
        self.channels[out] = channels
        return out

    def result(self, x: str, name: str) -> Graph:
        """The graph with that output."""
        self.graph.outputs = [x]
        self.graph.meta["name"] = name
        return self.graph


def tensorflow(name: str) -> Callable[[], Graph]:
    """One of OpenCV's models, its first output only. Raises FileNotFoundError."""

    def build() -> Graph:
        graph = load_graph(SHARED / "models" / "tensorflow" / f"{name}.pb")
        graph.outputs = graph.outputs[:1]
        graph.prune()
        graph.meta["weights"] = f"{name}.pb"
        return graph

    return build


def srcnn() -> Graph:
    """SRCNN 9-1-5, 64 and 32 channels (Dong et al. 2014)."""
    b = Builder(1, seed=915)
    x = b.act(b.conv("x", 64, k=9))
    x = b.act(b.conv(x, 32, k=1))
    return b.result(b.conv(x, 1, k=5, gain=0.5), "SRCNN")


def vdsr() -> Graph:
    """VDSR: 20 layers of 3x3 on the enlarged picture, 64 channels, no bias, input added (Kim et al. 2016)."""
    path = SHARED / "models" / "torch" / "VDSR_whole_module_py2.pth"
    found = pickled_tensors(path)
    if found:
        *inner, first, last = found
        found = [first, *inner, last]
    b = Builder(1, None if found is None else {f"{k}.weight": w for k, w in enumerate(found)}, 20, path.name)
    x = "x"
    for k in range(19):
        x = b.act(b.conv(x, 64, f"{k}", bias=False))
    return b.result(b.add(b.conv(x, 1, "19", gain=0.1, bias=False), "x"), "VDSR")


def srvgg() -> Graph:
    """SRVGGNetCompact, 64 channels, 16 inner convolutions, x4 (realesr-animevideov3)."""
    path = SHARED / "models" / "torch" / "realesr-animevideov3.safetensors"
    b = Builder(3, safetensors(path), 64, path.name)
    x = b.prelu(b.conv("x", 64, "body.0"), "body.1")
    for k in range(2, 34, 2):
        x = b.prelu(b.conv(x, 64, f"body.{k}"), f"body.{k + 1}")
    x = b.shuffle(b.conv(x, 48, "body.34", gain=0.1), 4)
    return b.result(b.add(x, b.nearest("x", 4)), "SRVGGNetCompact 64x16")


def edsr(blocks: int, channels: int, res_scale: float) -> Callable[[], Graph]:
    """EDSR x2 without its shift of the mean (Lim et al. 2017)."""

    def build() -> Graph:
        b = Builder(3, seed=blocks)
        head = x = b.conv("x", channels)
        for _ in range(blocks):
            inner = b.act(b.conv(x, channels))
            x = b.add(b.conv(inner, channels, gain=0.2), x, res_scale)
        x = b.add(b.conv(x, channels, gain=0.2), head)
        x = b.shuffle(b.conv(x, 4 * channels), 2)
        return b.result(b.conv(x, 3, gain=0.5), f"EDSR {blocks}x{channels}")

    return build


def rrdb(blocks: int) -> Callable[[], Graph]:
    """RRDBNet of ESRGAN: blocks of 64 channels growing by 32, x4 (Wang et al. 2018)."""

    def build() -> Graph:
        b = Builder(3, seed=blocks)
        first = x = b.conv("x", 64)
        for _ in range(blocks):
            block = x
            for _ in range(3):
                parts = [x]
                for _ in range(4):
                    parts.append(b.act(b.conv(b.concat(parts) if len(parts) > 1 else x, 32, gain=0.1), 0.2))
                x = b.add(b.conv(b.concat(parts), 64, gain=0.1), x, 0.2)
            x = b.add(x, block, 0.2)
        x = b.add(b.conv(x, 64, gain=0.1), first)
        for _ in range(2):
            x = b.act(b.conv(b.nearest(x, 2), 64), 0.2)
        x = b.act(b.conv(x, 64), 0.2)
        return b.result(b.conv(x, 3, gain=0.5), f"RRDBNet {blocks}")

    return build


NETWORKS = {
    n.name: n
    for n in (
        Network("espcn", "ESPCN x2", 960, 540, tensorflow("ESPCN_x2")),
        Network("fsrcnn", "FSRCNN x2", 960, 540, tensorflow("FSRCNN_x2")),
        Network("fsrcnn-small", "FSRCNN-small x2", 960, 540, tensorflow("FSRCNN-small_x2")),
        Network("srcnn", "SRCNN 9-1-5", 960, 540, srcnn),
        Network("vdsr", "VDSR", 640, 480, vdsr),
        Network("srvgg", "SRVGG 64x16 x4", 320, 240, srvgg),
        Network("edsr-baseline", "EDSR-baseline x2", 320, 240, edsr(16, 64, 1.0)),
        Network("lapsrn", "LapSRN x4", 320, 240, tensorflow("LapSRN_x4")),
        Network("rrdb", "RRDB 23 x4", 96, 96, rrdb(23)),
        Network("edsr", "EDSR 32x256 x2", 96, 96, edsr(32, 256, 0.1)),
    )
}


def gigaflops(graph: Graph, height: int, width: int) -> float:
    """Floating-point operations of the network's convolutions done directly, a multiplication and an addition each, in 10^9."""
    program = lower(optimise(graph))
    sizes = program.value_sizes(height, width)
    total = 0
    for step in program.steps:
        if step.weight is not None:
            h, w = sizes[step.output]
            total += 2 * step.weight.size * (h // step.block) * (w // step.block)
    return total / 1e9


def safetensors(path: Path) -> dict[str, np.ndarray] | None:
    """The tensors of such a file by name, None when it is not there."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            flat = np.frombuffer(data[start + first : start + last], SAFETENSORS[entry["dtype"]])
            tensors[name] = flat.astype(np.float32).reshape(entry["shape"])
    return tensors


def pickled_tensors(path: Path) -> list[np.ndarray] | None:
    """The float tensors of a torch file from before zip archives, as they come; None when it is not there. Nothing in the file is run."""
    if not path.is_file():
        return None
    with open(path, "rb") as f:
        for _ in range(3):  # what wrote it, and how
            _Inert(f).load()
        reader = _Inert(f)
        reader.load()
        flat = {}
        for key in _Inert(f).load():
            n = int.from_bytes(f.read(8), "little")
            flat[key] = np.frombuffer(f.read(4 * n), "<f4")
    return [flat[key][offset : offset + math.prod(size)].reshape(size) for key, offset, size in reader.tensors]


class _Inert(pickle.Unpickler):
    """Makes an empty object of every class that a pickle names and notes the tensors it describes."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self.tensors: list[tuple[str, int, tuple[int, ...]]] = []

    def find_class(self, module: str, name: str) -> Any:
        """Never a class of that name."""
        if name == "_rebuild_tensor":
            return lambda key, offset, size, stride: self.tensors.append((key, offset, size))
        return OrderedDict if name == "OrderedDict" else type(name, (_Anything,), {})

    def persistent_load(self, pid: Any) -> Any:
        """A class, or the key of a tensor's storage."""
        return pid[1] if pid[0] == "module" else pid[2]


class _Anything:
    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass
