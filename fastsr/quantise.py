"""Post-training quantisation: a float network as one whose convolutions are of 8-bit integers.

Each convolution reads DequantizeLinear(QuantizeLinear(x)), uint8 with one scale and zero point, and weights behind such a pair, int8 with one scale
for each output channel (`rounding.py` chooses them). Biases are then corrected, one convolution after the other, so that the mean of each channel is
the float network's (Nagel et al., ICCV 2019).

What is needed are some inputs, no originals. Nothing is drawn by chance: the same inputs on the same machine give the same network.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import lower, onnx_export, onnx_file, ops, passes
from .atomic import write_atomically
from .errors import ModelError
from .graph import Feed, Graph, Input, Node
from .model import Model, save_program
from .program import OVER_PICTURE, Program
from .rounding import LEVELS, activation_range, round_weights

Array = np.ndarray
QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "ConvInteger", "QLinearConv"})
_MOVES = frozenset({"DepthToSpace", "SpaceToDepth", "Identity", "Concat"})
_BIAS_BITS = 22
"""A bias is at most so many bits of the unit in which sums are counted, so float32 holds it."""


@dataclass(frozen=True)
class Quantised:
    """A quantised graph. `error`: the mean squared difference of its first result to the float network's, over the calibration inputs. `work`: the
    multiply-adds that each convolution of integers does there, by the name of its result.
    """

    graph: Graph
    error: float
    work: dict[str, int]


def quantise(
    graph: Graph,
    inputs: Sequence[Array],
    *,
    floats: Collection[str] = (),
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Graph:
    """The graph with its convolutions quantised; the argument stays as it is. Weights and biases are still float constants: see `program_of`.

    graph: of one input, after the passes (`onnx_export.graph_of` makes such a one of any Program). inputs: what the network is fed, float32 arrays
    (N, C, H, W) of any sizes; some hundred thousand pixels of different pictures are enough. floats: names of results of convolutions that stay in
    floats (`mixed_precision` chooses them). progress: called with (done, total) nodes.
    Convolutions whose weights are not constant, that only pick channels, or that see one pixel (channel attention) stay in floats too.
    Raises ModelError for a graph that is quantised already, has several inputs, or has no convolution that could be quantised, PictureError for an
    input that is too small for the network.
    """
    return quantised(graph, inputs, floats=floats, threads=threads, progress=progress).graph


def quantised(
    graph: Graph,
    inputs: Sequence[Array],
    *,
    floats: Collection[str] = (),
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Quantised:
    """As `quantise`, with what the rounding costs."""
    check(graph)
    channels = graph.inputs[0].channels
    if not inputs or any(a.ndim != 4 or a.shape[1] != channels or not a.size for a in inputs):
        raise ModelError(f"calibration needs arrays (N, C, H, W) that the network can be fed, C being {channels}")
    unknown = sorted(set(floats) - {node.output for node in graph.nodes if node.op == "Conv"})
    if unknown:
        raise ModelError(f"the network has no convolution that makes '{unknown[0]}'")
    new = copy.deepcopy(graph)
    walk = _Walk(new, [np.asarray(a, np.float32) for a in inputs], frozenset(floats), threads, progress)
    walk.run()
    new.validate()
    return Quantised(new, walk.error(), walk.work)


def check(graph: Graph) -> None:
    """Raise ModelError for a graph that `quantise` cannot take."""
    if any(node.op in QUANTISED for node in graph.nodes):
        raise ModelError("the network is quantised already: give the one of floats that it was made from")
    if len(graph.inputs) != 1:
        raise ModelError(f"networks of {len(graph.inputs)} inputs cannot be quantised")
    if not any(_is_quantisable(graph, node) for node in graph.nodes):
        raise ModelError("the network has no convolution with constant weights, so there is nothing to quantise")


def program_of(graph: Graph) -> Program:
    """The program of a graph that `quantise` made: weights and biases in integers, what is between convolutions fused with them."""
    return lower.lower(passes.optimise(sealed(graph)))


def save(graph: Graph, path: str | os.PathLike[str]) -> Program:
    """Write a graph that `quantise` made, atomically: as .fsr, or as .onnx with QuantizeLinear and DequantizeLinear around convolutions, which other
    runtimes compute in integers too. Returns the program. Raises ModelError for another suffix or for what ONNX cannot say, OSError.
    """
    program = program_of(graph)
    if Path(path).suffix.lower() == ".onnx":
        write_atomically(path, onnx_file.onnx_bytes(sealed(graph), metadata=onnx_export.feed_metadata(graph.feed)))
    else:
        save_program(program, path)
    return program


def sealed(graph: Graph) -> Graph:
    """A copy with weights as int8 and biases as int32 constants behind DequantizeLinear, in the unit of the sums, as ONNX has them."""
    new = copy.deepcopy(graph)
    made = new.producers()
    nodes: list[Node] = []
    for node in new.nodes:
        if node.op == "QuantizeLinear" and node.inputs[0] in new.constants:
            (new.constants[node.output],) = ops.run_node(node, [new.constants[i] for i in node.inputs])
            continue
        pair = [made.get(i) for i in node.inputs[:2]] if node.op == "Conv" else []
        bias = new.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if bias is not None and len(pair) == 2 and all(p is not None and p.op == "DequantizeLinear" for p in pair):
            unit = np.ones((), np.float32)
            for p in pair:
                assert p is not None
                unit = unit * new.constants[p.inputs[1]]
            whole = np.clip(np.rint(bias.astype(np.float64) / unit), -(2**30), 2**30).astype(np.int32)
            parameters = [new.add_const(f"{node.output}/bias_integers", whole), new.add_const(f"{node.output}/bias_unit", unit.reshape(-1))]
            out = new.fresh(f"{node.output}/bias")
            nodes.append(Node("DequantizeLinear", parameters, [out], {"axis": 0}, out))
            node.inputs[2] = out
        nodes.append(node)
    new.nodes = nodes
    new.prune()
    return new


def exact_scale(feed: Feed) -> np.float32 | None:
    """The scale with which uint8 holds the levels of 8-bit pictures exactly; None where the network is fed something else."""
    if feed.colour == "raw" or any(feed.mean) or feed.pre_scale != 1 or feed.range <= 0:
        return None
    return np.float32(feed.range / 255)


# ---- the network, node by node -----------------------------------------------------------------------------------------------------------------


def _has_constants(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution of a picture with constant weights and bias."""
    w = graph.const(node.inputs[1]) if node.op == "Conv" else None
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    return w is not None and w.ndim == 4 and node.inputs[0] not in graph.constants and (not bias or bias in graph.constants)


def _is_quantisable(graph: Graph, node: Node) -> bool:
    if not _has_constants(graph, node):
        return False
    w = graph.constants[node.inputs[1]]
    picks = w.shape[2:] == (1, 1) and np.all(np.count_nonzero(w, axis=(1, 2, 3)) == 1) and np.all(w[w != 0] == 1)
    return not picks


@dataclass
class _Value:
    """What a value is in the float network and in the quantised one, one array for each of the inputs; the same object where they are equal."""

    float: list[Array]
    rounded: list[Array]
    exact: bool = False
    """Made of the 8-bit picture's levels by moving pixels alone."""

    one_pixel: bool = False

    @property
    def equal(self) -> bool:
        return self.float is self.rounded


@dataclass
class _Walk:
    """Runs both networks side by side and rewrites the graph as it goes."""

    graph: Graph
    inputs: list[Array]
    floats: frozenset[str]
    threads: int | None
    progress: Callable[[int, int], None] | None
    work: dict[str, int] = field(default_factory=dict)
    values: dict[str, _Value] = field(default_factory=dict)
    ready: dict[str, tuple[str, np.float32, list[Array]]] = field(default_factory=dict)
    """Of values that are quantised: the DequantizeLinear's result, the scale, and the numbers."""

    def run(self) -> None:
        graph = self.graph
        last = {name: k for k, node in enumerate(graph.nodes) for name in node.inputs if name}
        self.values[graph.inputs[0].name] = _Value(self.inputs, self.inputs, exact_scale(graph.feed) is not None)
        nodes: list[Node] = []
        for k, node in enumerate(list(graph.nodes)):
            if self.progress is not None:
                self.progress(k, len(graph.nodes))
            names = list(node.inputs)
            if _is_quantisable(graph, node) and node.output not in self.floats and not self.values[node.inputs[0]].one_pixel:
                nodes.extend(self.quantised(node))
            else:
                self.values.update(zip(node.outputs, self.plain(node), strict=True))
                nodes.append(node)
            for name in names:
                if last.get(name) == k and name not in graph.outputs:
                    self.values.pop(name, None)
                    self.ready.pop(name, None)
        if not any(node.op == "QuantizeLinear" for node in nodes):
            left = " that may be rounded" if self.floats else ""
            raise ModelError(f"the network has no convolution over pictures with constant weights{left}, so there is nothing to quantise")
        graph.nodes = nodes
        graph.prune()

    def error(self) -> float:
        """The mean squared difference of the first result."""
        result = self.values[self.graph.outputs[0]]
        squares = sum(float(np.square(r - f, dtype=np.float64).sum()) for f, r in zip(result.float, result.rounded, strict=True))
        return squares / sum(f.size for f in result.float)

    def plain(self, node: Node) -> list[_Value]:
        """The results of a node that stays as it is."""
        given = [self.values[i] for i in node.inputs if i in self.values]

        def results(rounded: bool) -> list[list[Array]]:
            found: list[list[Array]] = []
            for n in range(len(self.inputs)):
                arrays = []
                for name in node.inputs:
                    value = self.values.get(name)
                    arrays.append(self.graph.const(name) if value is None else (value.rounded if rounded else value.float)[n])
                found.append(ops.run_node(node, arrays))
            return [list(r) for r in zip(*found, strict=True)]

        if _has_constants(self.graph, node):
            return [self.convolved(node)]
        exact = node.op in _MOVES and all(v.exact for v in given)
        small = node.op in OVER_PICTURE or (bool(given) and all(v.one_pixel for v in given))
        floats = results(False)
        rounded = floats if all(v.equal for v in given) else results(True)
        return [_Value(f, f if rounded is floats else r, exact, small) for f, r in zip(floats, rounded, strict=True)]

    def convolved(self, node: Node) -> _Value:
        """The result of a convolution that stays in floats."""
        x = self.values[node.inputs[0]]
        w = self.graph.constants[node.inputs[1]]
        b = self.graph.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
        run = _convolution(node, w, b, self.threads)
        floats = [run(a) for a in x.float]
        return _Value(floats, floats if x.equal else [run(a) for a in x.rounded], False, x.one_pixel)

    def quantised(self, node: Node) -> Iterator[Node]:
        """The nodes in place of a convolution."""
        graph, x = self.graph, self.values[node.inputs[0]]
        if node.inputs[0] not in self.ready:
            yield from self.activation(node.inputs[0], x)
        source, x_scale, numbers = self.ready[node.inputs[0]]
        w = graph.constants[node.inputs[1]].astype(np.float32)
        bias = graph.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else np.zeros(len(w))
        was = _convolution(node, w, bias, self.threads)
        floats = [was(a) for a in x.float]
        whole, scales = round_weights(node, w, numbers, np.abs(bias) / (float(x_scale) * 2**_BIAS_BITS))
        rounded = whole * scales.reshape(-1, 1, 1, 1)
        now = _convolution(node, rounded, bias, self.threads)
        results = [now(a) for a in numbers]
        count = sum(a.size // a.shape[1] for a in floats)
        self.work[node.output] = count * w.size
        off = [(f - r).sum(axis=(0, 2, 3), dtype=np.float64) for f, r in zip(floats, results, strict=True)]
        shift = (np.sum(off, axis=0) / count).astype(np.float32)
        for r in results:
            r += shift.reshape(-1, 1, 1)
        self.values[node.output] = _Value(floats, results)
        stem = node.output
        parameters = [graph.add_const(f"{stem}/weight_scale", scales), graph.add_const(f"{stem}/weight_zero", np.zeros(len(w), np.int8))]
        integers, weight = graph.fresh(f"{stem}/weight_integers"), graph.fresh(f"{stem}/weight_rounded")
        yield Node("QuantizeLinear", [graph.add_const(f"{stem}/weight_trained", rounded), *parameters], [integers], {"axis": 0}, integers)
        yield Node("DequantizeLinear", [integers, *parameters], [weight], {"axis": 0}, weight)
        corrected = graph.add_const(f"{stem}/bias_corrected", (bias.astype(np.float64) + shift).astype(np.float32))
        yield Node("Conv", [source, weight, corrected], list(node.outputs), dict(node.attrs), node.name)

    def activation(self, name: str, x: _Value) -> Iterator[Node]:
        """The pair of nodes that quantises a value."""
        exact = exact_scale(self.graph.feed) if x.exact else None
        scale, zero = activation_range(x.float) if exact is None else (exact, 0)
        parameters = [self.graph.add_const(f"{name}/scale", np.asarray(scale)), self.graph.add_const(f"{name}/zero", np.array(zero, np.uint8))]
        integers, rounded = self.graph.fresh(f"{name}/integers"), self.graph.fresh(f"{name}/rounded")
        numbers = [np.clip(np.rint(a / scale), -zero, LEVELS - zero).astype(np.float32) * scale for a in x.rounded]
        self.ready[name] = rounded, scale, numbers
        yield Node("QuantizeLinear", [name, *parameters], [integers], {}, integers)
        yield Node("DequantizeLinear", [integers, *parameters], [rounded], {}, rounded)


def _convolution(node: Node, w: Array, b: Array | None, threads: int | None) -> Callable[[Array], Array]:
    """The convolution on the fastest backend."""
    channels = w.shape[1] * int(node.attrs.get("group", 1))
    constants = {"w": np.asarray(w, np.float32), **({} if b is None else {"b": np.asarray(b, np.float32)})}
    conv = Node("Conv", ["x", *constants], ["y"], dict(node.attrs), node.name)
    model = Model(lower.lower(Graph([Input("x", channels)], ["y"], [conv], constants)), precision="f32", threads=threads)

    def run(x: Array) -> Array:
        y = model.run(np.ascontiguousarray(x, np.float32))
        assert isinstance(y, np.ndarray)
        return np.array(y)

    return run
