"""How a picture is fed to a network in a TensorFlow Lite file: what its metadata or its scales say, else its first and last operators."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph, Node
from .feed import left_open
from .flatbuffers import Table, root
from .tflite_context import Grid, TfliteContext
from .tflite_schema import Model, Tensor

METADATA = "TFLITE_METADATA"
NORMALIZATION = 1
BRIGHT = 16.0
"""Pixels whose largest number is above this are 0..255 or -127.5..127.5, others 0..1 or -1..1."""
WHOLE, UNIT = (255.0, 0.0), (1.0, 0.0)
Pixels = tuple[float, float]
"""What `Feed` calls range and mean."""


def guess_feed(ctx: TfliteContext, model: Model, source: Tensor, channels: int) -> Feed:
    """One channel in and out: Y. Three: RGB. Else "raw".

    The range of an input or output that is quantised, there or by the first or last operator, follows from the numbers that it can be (`spanned`).
    Else an input is what the file's metadata says (NormalizationOptions), or 0..255 where it is of integers or the network begins by dividing by 255;
    an output is 0..255 where it was multiplied by 255 or is cut off there. What is still not known is the same on both sides where the network adds
    to its input or cuts off at 255, and 0..1 elsewhere.

    source: the tensor of the first input. channels: of the output.
    """
    graph = ctx.graph
    if len(graph.inputs) != 1 or graph.inputs[0].channels not in (1, 3) or graph.inputs[0].channels != channels:
        return Feed()
    name = graph.inputs[0].name
    readers = graph.consumers().get(name, [])
    begins = spanned(next((ctx.grids.get(n.output) for n in readers if n.op == "QuantizeLinear"), None)) or normalised(model)
    if begins is None and (source.type == "uint8" or any(divides(graph, n, name) for n in readers)):
        begins = WHOLE
    multiplied, cut, linked = last_operators(graph, name)
    ends = spanned(ctx.grids.get(graph.outputs[0])) or (WHOLE if multiplied or cut else begins if linked else None)
    left_open(graph, begins is None and not (ends and (linked or cut)), ends is None)
    begins = begins or (ends if linked or cut else None) or UNIT
    ends = ends or UNIT
    means = [(mean,) * channels if mean else () for _, mean in (begins, ends)]
    return Feed("y" if channels == 1 else "rgb", begins[0], means[0], ends[0], means[1])


def spanned(grid: Grid | None) -> Pixels | None:
    """(range, mean) of the pixels that the numbers of a grid are: around zero where the smallest is as far from it as the largest, but not of int16,
    which always is."""
    if grid is None:
        return None
    low, high = (float(n * grid.scale) for n in (grid.low, grid.high))
    around = low < -high / 2 and grid.dtype.itemsize == 1
    if high > BRIGHT:
        return (255.0, 127.5) if around else WHOLE
    return (2.0, 1.0) if around else UNIT


def _number(graph: Graph, node: Node) -> float | None:
    """The one number that a node reads besides a picture."""
    constants = [graph.constants[i] for i in node.inputs if i in graph.constants]
    return float(constants[0].reshape(())) if len(constants) == 1 and constants[0].size == 1 else None


def divides(graph: Graph, node: Node, name: str) -> bool:
    """Whether a reader of the input divides it by 255."""
    number = _number(graph, node)
    if node.op not in ("Div", "Mul") or number is None:
        return False
    return number == 255.0 and node.inputs[0] == name if node.op == "Div" else abs(255.0 * number - 1) < 1e-6


PASSED = (
    "Identity", "Clip", "Relu", "Max", "Min", "DepthToSpace", "Concat", "Resize", "Add", "Sub", "QuantizeLinear", "DequantizeLinear", "Slice", "Pad",
)  # fmt: skip
"""Operators that leave the range of pixels as it is."""


def last_operators(graph: Graph, source: str) -> tuple[bool, bool, bool]:
    """Of the parts that the result is a sum of: whether one was multiplied by 255, whether they are cut off there, and whether one is the input."""
    makers, queue, seen = graph.producers(), [graph.outputs[0]], {graph.outputs[0]}
    multiplied = cut = False
    while queue:
        node = makers.get(queue.pop())
        if node is None:
            continue
        multiplied |= node.op == "Mul" and _number(graph, node) == 255.0
        if node.op not in PASSED:
            continue
        if node.op in ("Clip", "Min"):
            cut |= any(c.size == 1 and float(c.reshape(())) == 255.0 for i in node.inputs if (c := graph.constants.get(i)) is not None)
        following = [i for i in node.inputs if i and i not in graph.constants and i not in seen]
        seen.update(following)
        queue += following
    return multiplied, cut, source in seen


def normalised(model: Model) -> Pixels | None:
    """(range, mean) by the metadata's NormalizationOptions, (pixel - mean) / std with pixels 0..255; None when there are none, or one per channel."""
    data = model.metadata.get(METADATA, b"")
    if len(data) < 8:
        return None
    try:
        options = _normalisation(root(data))
        means, stds = (None, None) if options is None else (options.numbers(0, np.float32), options.numbers(1, np.float32))
    except ModelError:
        return None
    if means is None or stds is None or not means.size or not stds.size or (means != means[0]).any() or (stds != stds[0]).any():
        return None
    if not np.isfinite(means[0]) or not 1e-3 < stds[0] < 1e6:
        return None
    return 255.0 / float(stds[0]), float(means[0]) / float(stds[0])


def _normalisation(top: Table) -> Table | None:
    """The NormalizationOptions of the first input of the first graph."""
    for graph in top.tables(3)[:1]:
        for tensor in graph.tables(2)[:1]:
            for unit in tensor.tables(4)[:16]:
                if unit.number(0, "B") == NORMALIZATION:
                    return unit.table(1)
    return None
