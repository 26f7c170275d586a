"""How a picture is fed to a network in a TensorFlow Lite file: what its metadata or its scales say, else its first and last operators."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph
from .feed import divides, multiplied
from .flatbuffers import Table, root
from .tflite_schema import Model, Tensor

METADATA = "TFLITE_METADATA"
NORMALIZATION = 1
RANGES = ((1.0, 0.0), (255.0, 0.0), (2.0, 1.0), (255.0, 127.5))
"""(range, mean) of pixels 0..1, 0..255, -1..1 and -127.5..127.5."""


def guess_feed(graph: Graph, model: Model, source: Tensor, result: Tensor, channels: int) -> Feed:
    """One channel in and out: Y. Three: RGB. Else "raw".

    The range of a quantised input or output is the nearest of RANGES to what its 256 numbers span; of an input of integers without scale 0..255. For
    floats the file's metadata (NormalizationOptions) has precedence; then 0..255 where the network begins by dividing by 255 or ends by multiplying,
    or by cutting off at 255; else 0..1.

    source, result: the tensors of the first input and output. channels: of the output.
    """
    if len(graph.inputs) != 1 or graph.inputs[0].channels not in (1, 3) or graph.inputs[0].channels != channels:
        return Feed()
    ends_at_255 = multiplied(graph, graph.outputs[0]) or cut_at_255(graph, graph.outputs[0])
    out, out_mean = spanned(result) or ((255.0, 0.0) if ends_at_255 else (1.0, 0.0))
    begins = spanned(source) or normalised(model)
    if begins is None:
        byte = source.type == "uint8" or divides(graph, graph.inputs[0].name) or cut_at_255(graph, graph.outputs[0])
        begins = (255.0, 0.0) if byte else (1.0, 0.0)
        if begins == (1.0, 0.0) and spanned(result) is not None:
            begins = out, out_mean
    colour = "y" if channels == 1 else "rgb"
    return Feed(colour, begins[0], (begins[1],) * channels if begins[1] else (), out, (out_mean,) * channels if out_mean else ())


def spanned(tensor: Tensor) -> tuple[float, float] | None:
    """(range, mean) of the pixels that a quantised tensor holds, None for one that is not quantised."""
    if not tensor.quantised or tensor.type not in ("int8", "uint8", "int16"):
        return None
    info, scale, zero = np.iinfo(tensor.dtype), float(tensor.scale[0]), float(tensor.zero[0])
    if tensor.type == "int16":
        return None
    low, high = (info.min - zero) * scale, (info.max - zero) * scale

    def distance(pixels: tuple[float, float]) -> float:
        size, mean = pixels
        return (abs(low + mean) + abs(high - size + mean)) / size

    return min(RANGES, key=distance)


def cut_at_255(graph: Graph, name: str) -> bool:
    """Whether the last operators of a value cut it off at 255."""
    makers = graph.producers()
    for _ in range(8):
        node = makers.get(name)
        if node is None or node.op not in ("Clip", "Max", "Min", "Relu", "Identity", "DepthToSpace"):
            return False
        bounds = [graph.constants[i] for i in node.inputs if i in graph.constants]
        if node.op in ("Clip", "Min") and any(b.size == 1 and float(b.reshape(())) == 255.0 for b in bounds):
            return True
        name = next((i for i in node.inputs if i and i not in graph.constants), "")
    return False


def normalised(model: Model) -> tuple[float, float] | None:
    """(range, mean) by the metadata's NormalizationOptions, (pixel - mean) / std with pixels 0..255; None when there are none."""
    data = model.metadata.get(METADATA, b"")
    if len(data) < 8:
        return None
    try:
        options = _normalisation(root(data))
    except ModelError:
        return None
    if options is None:
        return None
    means, stds = options.numbers(0, np.float32), options.numbers(1, np.float32)
    same = means.size and stds.size and (means == means[0]).all() and (stds == stds[0]).all()
    if not same or not np.isfinite(means[0]) or not np.isfinite(stds[0]) or not 1e-3 < stds[0] < 1e6:
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
