"""Structured pruning: whole channels are taken out of a Graph, so that it needs fewer multiply-adds on any engine.

Which channels must go together is found by union-find over single channels. A convolution makes new ones; what works element by element or on each
channel alone (activations, depthwise convolutions, Resize, Pad, pooling) passes them on; Add, Mul and the like join them pairwise, so a residual
stream is thinned everywhere at once; Concat and convolutions that only pick channels keep track of each; DepthToSpace joins the channels that become
one. All others pin what they read and make: nothing of that is taken away, nor of the graph's inputs and outputs.

What a channel is worth is how much the loss is estimated to grow when it goes. Backward elimination, layer by layer as in the optimal brain surgeon
(Hassibi et al., 1993), with a Kronecker-factored curvature for whole channels (Wang et al., "EigenDamage", ICML 2019): the variance that the other
channels do not explain, times the squares of the kernels that read it, times the mean squares of the loss's gradients by what these make. A removed
channel is replaced by its best linear estimate from those that stay, which goes into their kernels and the bias exactly. Without `Calibration` it is
the squared norm of its kernels (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017) times that of the kernels that read it, which is much
worse, and nothing is replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .errors import FastsrError, ModelError
from .graph import Graph, Node

UNARY = frozenset({"Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Softplus",
                   "Softsign", "Abs", "Neg", "Sqrt", "Exp", "Clip", "Identity", "GlobalAveragePool", "GlobalMaxPool"})  # fmt: skip
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})

PINNED = 0
"""The class of all channels that stay."""

BLOCK = 4
"""Channels are kept in multiples of this where a layer has several times as many."""

LEAST = 8
"""At least one in so many channels of a layer is kept."""

RIDGE = 1e-4
"""Of the mean variance: added to the variances before the estimate's equations are solved."""


class Moments:
    """Mean and covariance of a value's channels, added up over pictures."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Any = 0.0
        self.squares: Any = 0.0

    def add(self, x: np.ndarray) -> None:
        """Count the pixels of a value (N, C, H, W)."""
        flat = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1).astype(np.float64)
        self.count += flat.shape[1]
        self.total = self.total + flat.sum(1)
        self.squares = self.squares + flat @ flat.T

    @property
    def mean(self) -> np.ndarray:
        """(C) float64."""
        return np.asarray(self.total / self.count)

    @property
    def covariance(self) -> np.ndarray:
        """(C, C) float64."""
        return np.asarray(self.squares / self.count - np.outer(self.mean, self.mean))


@dataclass
class Calibration:
    """What the values of a network are like on pictures. moments: value that a convolution reads -> of its channels. sensitivity: result of a
    convolution -> (C), the mean over pictures of the squares of a loss's gradients by a channel, summed over its pixels."""

    moments: Mapping[str, Moments]
    sensitivity: Mapping[str, np.ndarray]


def prune(graph: Graph, share: float, calibration: Calibration | None = None) -> Graph:
    """The graph with so many channels fewer that at least `share` of its multiply-adds are gone; the given one stays as it is.

    Greedy: the block of channels that is worth least for each multiply-add that goes with it goes next. The result depends on the arguments alone.
    Raises FastsrError for a share that is not between 0 and 1, ModelError where there is nothing to prune or not so much.
    """
    return _without(*removed(graph, share, calibration), calibration)


def removed(graph: Graph, share: float, calibration: Calibration | None = None) -> tuple[Channels, set[int]]:
    """The graph's channels and the classes of them that `prune` takes away; raises as that."""
    if not 0 < share < 1:
        raise FastsrError(f"pruning {share:g} of the multiply-adds: a share between 0 and 1 is needed, such as 0.5 for half of them")
    channels = Channels(graph)
    return channels, _chosen(channels, share, _worth(channels, calibration))


def multiply_adds(graph: Graph) -> Fraction:
    """Multiply-adds of the convolutions for each pixel of the graph's input, in large pictures; none for those that only pick channels."""
    return sum((layer.cost(len(layer.reads), len(layer.makes)) for layer in Channels(graph).layers), Fraction(0))


# ---- which channels go together ----------------------------------------------------------------------------------------------------------------


@dataclass
class Layer:
    """A convolution. reads, makes: classes of its channels; alone: one input channel for each output channel (depthwise); area: pixels of its result
    for each of the graph's input."""

    node: Node
    weight: np.ndarray
    area: Fraction
    alone: bool
    reads: np.ndarray
    makes: np.ndarray

    def cost(self, inputs: int, outputs: int) -> Fraction:
        """Multiply-adds with so many channels."""
        taps = int(np.prod(self.weight.shape[2:]))
        each = 1 if self.alone else Fraction(inputs * self.weight.shape[1], max(len(self.reads), 1))
        return self.area * taps * outputs * each


class Channels:
    """The graph's channels. of: value -> the class of each of its channels, None where their number is not known, all pinned."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parent = [PINNED]
        self.of: dict[str, np.ndarray | None] = {i.name: np.zeros(i.channels, np.int64) for i in graph.inputs}
        self.areas: dict[str, Fraction] = {i.name: Fraction(1) for i in graph.inputs}
        self.layers: list[Layer] = []
        self.picked: list[np.ndarray] = []
        for node in graph.nodes:
            self._area(node)
            found = self._through(node)
            if found is None:
                for name in node.inputs:
                    self.pin(name)
            for name in node.outputs:
                self.of[name] = found
        for name in graph.outputs:
            self.pin(name)
        for layer in self.layers:
            layer.reads, layer.makes = self.found(layer.reads), self.found(layer.makes)
        self.of = {k: None if v is None else self.found(v) for k, v in self.of.items()}

    def root(self, k: int) -> int:
        """The class that channel k belongs to: the smallest number in it."""
        while self.parent[k] != k:
            self.parent[k] = self.parent[self.parent[k]]
            k = self.parent[k]
        return k

    def found(self, ids: np.ndarray) -> np.ndarray:
        """The classes of channels."""
        return np.array([self.root(int(k)) for k in ids], np.int64)

    def join(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Make channels go together, pairwise."""
        for i, j in zip(a, b, strict=True):
            low, high = sorted((self.root(int(i)), self.root(int(j))))
            self.parent[high] = low
        return a

    def pin(self, name: str) -> None:
        """Keep all channels of a value."""
        ids = self.of.get(name)
        if ids is not None:
            self.join(ids, np.zeros_like(ids))

    def fresh(self, n: int) -> np.ndarray:
        """n new channels."""
        first = len(self.parent)
        self.parent += range(first, first + n)
        return np.arange(first, first + n)

    def _area(self, node: Node) -> None:
        pictures = [self.areas[i] for i in node.inputs if i in self.areas]
        area = max(pictures, default=Fraction(1))
        if node.op == "Conv":
            sh, sw = node.attrs.get("strides", [1, 1])
            area = pictures[0] / (sh * sw)
        elif node.op == "ConvTranspose":
            sh, sw = node.attrs.get("strides", [1, 1])
            area = pictures[0] * sh * sw
        elif node.op in ("DepthToSpace", "SpaceToDepth"):
            area *= Fraction(int(node.attrs["blocksize"]) ** 2) ** (1 if node.op == "DepthToSpace" else -1)
        elif node.op.startswith("Global"):
            area = Fraction(0)
        elif node.op == "Resize":
            scales = self.graph.const(node.inputs[2]) if len(node.inputs) > 2 else None
            if scales is not None and scales.size == 4:
                area = pictures[0] * Fraction(float(scales[2])) * Fraction(float(scales[3]))
            elif len(node.inputs) > 3 and node.inputs[3] in self.areas:
                area = self.areas[node.inputs[3]]
        for name in node.outputs:
            self.areas[name] = area

    def _through(self, node: Node) -> np.ndarray | None:
        """The channels of the node's result; None for what pins all that it touches."""
        if node.op == "Concat" and node.attrs.get("axis", 1) == 1:
            parts = [self.of.get(i) for i in node.inputs]
            known = [p for p in parts if p is not None]
            return np.concatenate(known) if len(known) == len(parts) else None
        x = self.of.get(node.inputs[0]) if node.inputs else None
        if node.op == "Conv":
            return self._conv(node, x)
        if node.op in BINARY and len(node.inputs) == 2:
            return self._binary(node)
        if x is None:
            return None
        others = [i for i in node.inputs[1:] if i in self.of]
        if node.op in UNARY and not others:
            return x
        if node.op == "Resize":
            scales = self.graph.const(node.inputs[2]) if len(node.inputs) > 2 else None
            return x if others or (scales is not None and scales.size == 4 and all(scales[:2] == 1)) else None
        if node.op == "Pad" and not others and len(node.inputs) < 4:
            pads = self.graph.const(node.inputs[1]) if len(node.inputs) > 1 else None
            return x if pads is not None and pads.size == 8 and not pads[[0, 1, 4, 5]].any() else None
        if node.op == "DepthToSpace":
            return self._to_space(x, int(node.attrs["blocksize"]) ** 2, node.attrs.get("mode", "DCR"))
        if node.op == "SpaceToDepth":
            return np.tile(x, int(node.attrs["blocksize"]) ** 2)
        return None

    def _to_space(self, x: np.ndarray, block: int, mode: str) -> np.ndarray:
        rows = x.reshape(block, -1) if mode == "DCR" else x.reshape(-1, block).T
        for row in rows[1:]:
            self.join(rows[0], row)
        return rows[0]

    def _conv(self, node: Node, x: np.ndarray | None) -> np.ndarray | None:
        w = self.graph.const(node.inputs[1])
        bias = self.graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if w is None:
            return None
        if x is None:
            x = np.zeros(w.shape[1] * node.attrs.get("group", 1), np.int64)
        group, area = node.attrs.get("group", 1), self.areas[node.output]
        if group == 1 and picks_channels(w, bias):
            self.picked.append(x[w.reshape(len(w), -1).argmax(1)])
            return self.picked[-1]
        alone = group > 1 and group == len(x)
        made = np.repeat(x, len(w) // group) if alone else self.fresh(len(w))
        if group > 1 and not alone:
            self.join(x, np.zeros_like(x))
            self.join(made, np.zeros_like(made))
        self.layers.append(Layer(node, w, area, alone, x, made))
        return made

    def _binary(self, node: Node) -> np.ndarray | None:
        names = [i for i in node.inputs if i not in self.graph.constants]
        known = [self.of.get(i) for i in names]
        if any(k is None for k in known) or not names:
            return None
        a, b = known[0], known[-1]
        assert a is not None
        assert b is not None
        if len(known) == 1:
            c = self.graph.constants[next(i for i in node.inputs if i in self.graph.constants)]
            return a if c.size == 1 or _per_channel(c, len(a)) else None
        if len(a) == len(b):
            return self.join(a, b)
        few, many = sorted((a, b), key=len)
        if len(few) != 1:
            return None
        self.join(few, np.zeros_like(few))
        return many


def picks_channels(w: np.ndarray, bias: np.ndarray | None) -> bool:
    """Whether a convolution is what lowering made of a Slice: each output channel is one input channel."""
    if w.shape[-2:] != (1, 1):
        return False
    rows = w.reshape(len(w), -1)
    return bool(np.all(np.count_nonzero(rows, axis=1) == 1) and np.all(rows.max(axis=1) == 1) and (bias is None or not bias.any()))


def _per_channel(c: np.ndarray, channels: int) -> bool:
    return c.size == channels and c.ndim >= 3 and c.shape[-3] == channels


# ---- which go ----------------------------------------------------------------------------------------------------------------------------------


Worth = tuple[list[int], list[float]]
"""The classes of a set in the order in which they go, and what is lost with each."""


def _sets(channels: Channels) -> list[list[int]]:
    """The classes that can go, those together that the same convolutions make or pick: some of each set stay, so no value loses all its channels."""
    makers: dict[int, list[int]] = {}
    for k, ids in enumerate([*(layer.makes for layer in channels.layers), *map(channels.found, channels.picked)]):
        for c in dict.fromkeys(ids.tolist()):
            if c != PINNED:
                makers.setdefault(c, []).append(k)
    sets: dict[tuple[int, ...], list[int]] = {}
    for c, layers in makers.items():
        sets.setdefault(tuple(layers), []).append(c)
    return list(sets.values())


def _worth(channels: Channels, calibration: Calibration | None) -> list[Worth]:
    if calibration is not None:
        return [_eliminated(channels, found, calibration) for found in _sets(channels)]
    norms: dict[int, float] = {}
    for layer in channels.layers:
        for c, w in zip(layer.makes.tolist(), layer.weight.astype(np.float64), strict=True):
            norms[c] = norms.get(c, 0.0) + float(np.sum(w * w))
    worth: dict[int, float] = {}
    for layer in channels.layers:
        if not layer.alone:
            each = np.sum(_columns(layer) ** 2, 0) * [norms.get(c, 1.0) for c in layer.reads.tolist()]
            for c, w in zip(layer.reads.tolist(), each / max(each.sum(), 1e-30), strict=True):
                worth[c] = worth.get(c, 0.0) + float(w)
    return [_sorted({c: worth.get(c, 0.0) for c in found}) for found in _sets(channels)]


def _sorted(worth: dict[int, float]) -> Worth:
    order = sorted(worth, key=lambda c: (worth[c], c))
    return order, [worth[c] for c in order]


def _columns(layer: Layer) -> np.ndarray:
    """The kernels as (outputs * taps, inputs), float64; none of other groups."""
    if layer.weight.shape[1] != len(layer.reads):
        return np.zeros((len(layer.makes), len(layer.reads)))
    return np.moveaxis(layer.weight, 1, -1).reshape(-1, layer.weight.shape[1]).astype(np.float64)


def _eliminated(channels: Channels, found: list[int], calibration: Calibration) -> Worth:
    """Backward elimination: each time that class goes whose loss, after the readers' kernels have taken over what they can, is least."""
    inside = set(found)
    readers = []
    for layer in channels.layers:
        if not layer.alone and not inside.isdisjoint(layer.reads.tolist()):
            w = _columns(layer)
            w *= np.sqrt(np.repeat(calibration.sensitivity[layer.node.output], len(w) // len(layer.makes)))[:, None]
            inverse = np.linalg.inv(_ridged(calibration.moments[layer.node.inputs[0]].covariance))
            readers.append((w, inverse, {c: np.flatnonzero(layer.reads == c) for c in found if c in layer.reads}))
    order, losses, left = [], [], list(found)
    while left:
        loss = dict.fromkeys(left, 0.0)
        for w, inverse, places in readers:
            each = np.sum(w * w, 0) / np.maximum(np.diag(inverse), 1e-30)
            for c in left:
                if c in places:
                    loss[c] += float(each[places[c]].sum())
        worst = min(left, key=lambda c: (loss[c], c))
        for w, inverse, places in readers:
            for k in places.get(worst, ()):
                row = inverse[k] / inverse[k, k]
                w -= np.outer(w[:, k], row)
                inverse -= np.outer(inverse[:, k], row)
                w[:, k], inverse[k], inverse[:, k], inverse[k, k] = 0, 0, 0, 1
        order.append(worst)
        losses.append(loss[worst])
        left.remove(worst)
    return order, losses


def _ridged(cov: np.ndarray) -> np.ndarray:
    """The covariance, invertible."""
    return cov + RIDGE * max(float(np.trace(cov)) / len(cov), 1e-12) * np.eye(len(cov))


def _least(n: int) -> int:
    """How many of n channels are kept at least."""
    return max(-(-n // LEAST), min(BLOCK, (n + 1) // 2))


def _blocks(worth: Worth) -> list[tuple[float, list[int]]]:
    """What can go, in this order: (loss, classes). What each leaves is a multiple of BLOCK where there are many, else even, else any number."""
    order, losses = worth
    n = len(order)
    size = BLOCK if n >= 4 * BLOCK else 2 if n >= 2 * BLOCK else 1
    cuts = list(range(n % size or size, n - _least(n) + 1, size))
    return [(sum(losses[a:b]), order[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]


def _chosen(channels: Channels, share: float, worth: list[Worth]) -> set[int]:
    """The classes that go. Raises ModelError."""
    layers = channels.layers
    counts = [[len(layer.reads), len(layer.makes)] for layer in layers]
    before = sum(float(layer.cost(*n)) for layer, n in zip(layers, counts, strict=True))
    uses: dict[int, dict[int, list[int]]] = {}
    for k, layer in enumerate(layers):
        for side, ids in enumerate((layer.reads, layer.makes)):
            for c in ids.tolist():
                uses.setdefault(c, {}).setdefault(k, [0, 0])[side] += 1
    waiting = [_blocks(w) for w in worth]
    if not any(waiting):
        raise ModelError("nothing in this network can be pruned: all its channels go into its result, or through operators that need all of them")

    def with_block(block: list[int]) -> dict[int, list[int]]:
        left: dict[int, list[int]] = {}
        for c in block:
            for k, (reads, makes) in uses[c].items():
                now = left.setdefault(k, list(counts[k]))
                now[0] -= reads
                now[1] -= makes
        return left

    gone: set[int] = set()
    cost = before
    while cost > (1 - share) * before * (1 + 1e-9):
        best: tuple[float, int, float, dict[int, list[int]]] | None = None
        for number, blocks in enumerate(waiting):
            if blocks:
                left = with_block(blocks[0][1])
                saved = sum(float(layers[k].cost(*counts[k]) - layers[k].cost(*n)) for k, n in left.items())
                price = blocks[0][0] / max(saved, 1e-30)
                if best is None or price < best[0]:
                    best = price, number, saved, left
        if best is None:
            raise ModelError(f"at most {100 * (1 - cost / before):.0f} % of this network's multiply-adds can be pruned: ask for less")
        gone.update(waiting[best[1]].pop(0)[1])
        cost -= best[2]
        for k, n in best[3].items():
            counts[k] = n
    return gone


# ---- without them ------------------------------------------------------------------------------------------------------------------------------


def _without(channels: Channels, gone: set[int], calibration: Calibration | None) -> Graph:
    graph = copy.deepcopy(channels.graph)
    layers = {layer.node.output: layer for layer in channels.layers}
    kept = {name: None if ids is None else ~np.isin(ids, list(gone)) for name, ids in channels.of.items()}
    for node in graph.nodes:
        made, read = kept.get(node.outputs[0]), kept.get(node.inputs[0])
        if made is None or (all(made) and (read is None or all(read))):
            continue
        if node.op == "Conv":
            assert read is not None
            _thinned(graph, node, layers.get(node.output), read, made, calibration)
        elif node.op in BINARY:
            for k, name in enumerate(node.inputs):
                c = graph.constants.get(name)
                if c is not None and c.size > 1:
                    node.inputs[k] = graph.add_const(name, np.ascontiguousarray(c.compress(made, axis=c.ndim - 3)))
    graph.prune()
    graph.validate()
    return graph


def _thinned(graph: Graph, node: Node, layer: Layer | None, read: np.ndarray, made: np.ndarray, calibration: Calibration | None) -> None:
    w = graph.constants[node.inputs[1]]
    bias = graph.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
    if layer is not None and layer.alone:
        node.attrs["group"] = int(read.sum())
    elif not all(read):
        if layer is not None and calibration is not None:
            w, bias = _compensated(w, bias, read, calibration.moments[node.inputs[0]])
        w = w[:, read]
    node.inputs[1] = graph.add_const(node.inputs[1], np.ascontiguousarray(w[made]))
    if bias is not None:
        node.inputs[2:] = [graph.add_const(f"{node.output}/bias", np.ascontiguousarray(bias[made]))]


def _compensated(w: np.ndarray, bias: np.ndarray | None, read: np.ndarray, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Kernels and bias that make of the kept channels and the removed ones' estimates what they made of all."""
    mean, cov = moments.mean, moments.covariance
    estimate = np.linalg.solve(_ridged(cov)[np.ix_(read, read)], cov[np.ix_(read, ~read)]).T
    offset = mean[~read] - estimate @ mean[read]
    exact = w.astype(np.float64)
    moved = np.einsum("orhw,rk->okhw", exact[:, ~read], estimate)
    more = exact[:, ~read].sum((2, 3)) @ offset
    exact[:, read] += moved
    total = more if bias is None else bias + more
    return exact.astype(np.float32), total.astype(np.float32)
