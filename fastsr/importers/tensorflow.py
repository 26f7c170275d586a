"""TensorFlow frozen graphs (.pb, binary GraphDef) to `Graph`: the walk over the nodes, inputs and outputs, and how pictures are fed.

The file is parsed with tensorflow_schema; operators on pictures are translated by tensorflow_ops, _conv and _rearrange, those on constants and in
shape code are evaluated by tensorflow_shapes. TensorFlow's layout is tracked, so that everything in the Graph is NCHW and a Transpose between layouts
is a change of label only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Input
from . import tensorflow_conv, tensorflow_ops, tensorflow_rearrange, tensorflow_shapes, tensorflow_whole
from .context import guarded, running_order
from .tensorflow_context import Context, TfNode
from .tensorflow_feed import guess_feed, leave_out_enlarged_inputs
from .tensorflow_schema import FLOAT_TYPES, parse_graph, tensor_array, tensor_shape, type_name
from .tensorflow_values import Picture, Value
from .values import Array, symbol

NAME = "TensorFlow frozen graph"
SUFFIXES = (".pb",)

PICTURE_OPS = {**tensorflow_ops.OPS, **tensorflow_conv.OPS, **tensorflow_rearrange.OPS, **tensorflow_whole.OPS}
PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault")
MAX_PLACEHOLDERS = 64
IGNORED_SINKS = {"NoOp", "Const", "Assert", "Placeholder", "SaveV2", "RestoreV2", "MergeSummary", "ScalarSummary", "HistogramSummary", "ImageSummary"}


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True when the file starts like a GraphDef: a node message with a printable name and an operator."""
    if head[:1] != b"\x0a":
        return False
    _, at = _varint(head, 1)
    if head[at : at + 1] != b"\x0a":
        return False
    length, at = _varint(head, at + 1)
    name, rest = head[at : at + length], head[at + length :]
    return 0 < length < 1024 and re.fullmatch(rb"[\x20-\x7e]+", name) is not None and rest[:1] == b"\x12"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for k, byte in enumerate(data[at : at + 5]):
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    return value, len(data)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a frozen graph. Raises ModelError naming the node for anything that cannot be read or run, OSError when the file cannot be opened."""
    try:
        graph = loads(Path(path).read_bytes())
    except ModelError as e:
        raise ModelError(f"'{os.fspath(path)}': {e}") from e.__cause__
    graph.meta["source"] = Path(path).name
    return graph


def loads(data: bytes) -> Graph:
    """`load` for the bytes of a file."""
    if not data:
        raise ModelError("the file is empty: download it again")
    nodes = read_nodes(parse_graph(data))
    ctx = Context(nodes, budget=8 * len(data) + (64 << 20))
    sinks = find_sinks(nodes)
    order = running_order({n.name: [s for s, _ in n.inputs] for n in nodes.values()}, sinks, lambda name: nodes[name].op)
    for name in order:
        op = nodes[name].op
        if op not in PICTURE_OPS and op not in tensorflow_shapes.OPS and op not in PLACEHOLDERS:
            raise ModelError(f"node '{name}' ({op}): {tensorflow_ops.unsupported(op)}")
    with np.errstate(all="ignore"):
        for name in order:
            if nodes[name].op not in PLACEHOLDERS:
                fold(ctx, nodes[name])
        needed = set(order)
        make_inputs(ctx, [n for n in nodes.values() if n.op in PLACEHOLDERS and n.name in needed])
        for name in order:
            if name not in ctx.values:
                ctx.values[name] = translate(ctx, nodes[name])
                note_channels(ctx, name)
        make_outputs(ctx, sinks)
    graph = ctx.graph
    leave_out_enlarged_inputs(ctx)
    graph.prune()
    graph.feed = guess_feed(ctx)
    graph.meta["format"] = NAME
    graph.validate()
    return graph


# ---- nodes and their order ---------------------------------------------------------------------------------------------------------------------


def read_nodes(message: Any) -> dict[str, TfNode]:
    """The nodes of a GraphDef message by name, in file order."""
    if not message.node:
        raise ModelError("the graph has no nodes: this is not a TensorFlow frozen graph, or it is damaged")
    nodes: dict[str, TfNode] = {}
    for m in message.node:
        node = TfNode.of(m)
        if not node.name or not node.op:
            raise ModelError("a node without name or operator: this is not a TensorFlow frozen graph, or it is damaged")
        if node.name in nodes:
            raise ModelError(f"two nodes have the name '{node.name}': damaged file")
        nodes[node.name] = node
    for node in nodes.values():
        for source, _ in node.inputs:
            if source not in nodes:
                raise ModelError(f"node '{node.name}' ({node.op}) reads '{source}', which is not in the file: damaged or not a complete frozen graph")
    return nodes


def find_sinks(nodes: dict[str, TfNode]) -> list[str]:
    """Names of the nodes that no other node reads, the default output first.

    That is NCHW_output in OpenCV's files, Identity in functions frozen by TensorFlow 2 (whose first result it is), else the last one in the file, as
    cv2.dnn takes it.
    """
    read = {source for node in nodes.values() for source, _ in node.inputs}
    sinks = [n.name for n in nodes.values() if n.name not in read and n.op not in IGNORED_SINKS]
    if not sinks:
        raise ModelError("the graph has no output node: damaged, cyclic, or without a network")
    default = next((s for s in ("NCHW_output", "Identity") if s in sinks), sinks[-1])
    return [default, *(s for s in sinks if s != default)]


# ---- evaluation --------------------------------------------------------------------------------------------------------------------------------


def arguments(ctx: Context, node: TfNode) -> list[Value]:
    """The values that a node reads."""
    args = []
    for source, k in node.inputs:
        value = ctx.values[source]
        if isinstance(value, list):
            if k >= len(value):
                raise ModelError(f"reads output {k} of '{source}', which has {len(value)}: damaged file")
            value = value[k]
        elif k:
            raise ModelError(f"reads output {k} of '{source}' ({ctx.nodes[source].op}), which fastsr does not compute")
        args.append(value)
    return args


def fold(ctx: Context, node: TfNode) -> None:
    """Evaluate a node whose inputs are all known numbers."""
    if any(source not in ctx.values for source, _ in node.inputs) or node.op not in tensorflow_shapes.OPS:
        return
    ctx.values[node.name] = guarded(ctx, node, fold_node)


def fold_node(ctx: Context, node: TfNode) -> Any:
    """The constant or shape value of a node."""
    if node.op == "Const":
        tensor = node.attr_message("value")
        if tensor is None:
            raise ModelError("has no value: damaged file")
        if tensor.dtype == 7:
            return Array(np.zeros(0, np.float32))
        data = tensor_array(tensor)
        ctx.spend(data.nbytes)
        return Array(data, node.name)
    return tensorflow_shapes.evaluate(ctx, node, arguments(ctx, node))


def translate(ctx: Context, node: TfNode) -> Any:
    """The value, or list of values, of a node that may read pictures."""
    return guarded(ctx, node, translate_node)


def translate_node(ctx: Context, node: TfNode) -> Any:
    """The value of a node that reads pictures, or numbers computed from their sizes."""
    args = arguments(ctx, node)
    if node.op == "Const":
        raise ModelError("is a constant, but has inputs: damaged file")
    known = all(isinstance(a, Array) for a in args) or (node.op in ("Shape", "Size", "Rank"))
    if known and args and node.op in tensorflow_shapes.OPS:
        return tensorflow_shapes.evaluate(ctx, node, args)
    handler = PICTURE_OPS.get(node.op)
    if handler is None:
        raise ModelError(tensorflow_ops.unsupported(node.op))
    return handler(ctx, node, args)


def note_channels(ctx: Context, name: str) -> None:
    """Remember how many channels the values of a node have."""
    value = ctx.values[name]
    for v in value if isinstance(value, list) else [value]:
        if isinstance(v, Picture):
            ctx.channels[v.name] = v.channels


# ---- inputs ------------------------------------------------------------------------------------------------------------------------------------


def make_inputs(ctx: Context, placeholders: list[TfNode]) -> None:
    """Turn placeholders that hold pictures into graph inputs."""
    if len(placeholders) > MAX_PLACEHOLDERS:
        raise ModelError(f"the graph has {len(placeholders)} placeholders: not a network that takes a picture")
    for node in placeholders:
        ctx.values[node.name] = guarded(ctx, node, make_input)
    if not ctx.graph.inputs:
        raise ModelError("the graph has no placeholder for a picture: freeze the inference graph, with its input as a Placeholder")


def make_input(ctx: Context, node: TfNode) -> Picture | Array:
    """The picture of a placeholder; sizes that the file fixes are used in shape code only, the network still takes any size."""
    dtype = node.attr_type("dtype", 1)
    default = ctx.values.get(node.inputs[0][0]) if node.op == "PlaceholderWithDefault" and node.inputs else None
    if isinstance(default, Array) and (default.data.ndim < 2 or dtype == 10):
        return default
    if dtype not in (*FLOAT_TYPES, 4):
        raise ModelError(f"takes {type_name(dtype)}: only pictures of floating-point or uint8 type can be fed")
    if isinstance(default, Array):
        shape: tuple[int, ...] | None = (-1, -1, -1, default.data.shape[-1]) if default.data.ndim == 4 else None
    else:
        message = node.attr_message("shape")
        shape = tensor_shape(message) if message is not None and (message.dim or message.unknown_rank) else None
    if shape is not None and not 2 <= len(shape) <= 4:
        raise ModelError(f"takes an array of shape {list(shape)}, not a picture: freeze the inference graph with one picture as its input")
    layout, channels = deduce_layout(ctx, node, shape)
    ctx.graph.inputs.append(Input(node.name, channels))
    size: dict[str, Any] = {letter: symbol(f"{node.name}:{letter}") for letter in "NHW"}
    size["C"] = channels
    for letter, n in zip(layout, shape or (), strict=False):
        if n > 65536:
            raise ModelError(f"takes pictures of absurd size {list(shape or ())}: damaged file")
        if n > 0 and letter != "C":
            size[letter] = n
    for letter in set("NHW") - set(layout):
        size[letter] = 1
    return Picture(node.name, layout, size)


def deduce_layout(ctx: Context, node: TfNode, shape: tuple[int, ...] | None) -> tuple[str, int]:
    """Layout and channels of a placeholder, from the first operators that read it and say so, else from its shape."""
    rank = 4 if shape is None else len(shape)
    if rank == 2:
        return "HW", 1
    layout, channels = ("NHWC", 0) if rank == 4 else ("HWC", 0)
    if rank == 4:
        found = tensorflow_ops.first_reader(ctx, node)
        if found is not None:
            layout, channels = found
        elif shape is not None and shape[1] in (1, 3) and shape[3] not in (1, 3):
            layout = "NCHW"
    if shape is not None and shape[layout.index("C")] > 0:
        channels = shape[layout.index("C")]
    if not 0 < channels <= 65536:
        raise ModelError("does not say how many channels its picture has, and no convolution that reads it does either")
    return layout, channels


# ---- outputs -----------------------------------------------------------------------------------------------------------------------------------


def make_outputs(ctx: Context, sinks: list[str]) -> None:
    """Graph outputs for all sinks that are pictures, under the names of their nodes."""
    for name in sinks:
        value = ctx.values[name]
        pictures = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, Picture)]
        if not pictures and name == sinks[0]:
            raise ModelError(f"the output '{name}' ({ctx.nodes[name].op}) is not a picture computed from the input")
        for k, picture in enumerate(pictures):
            label = name if k == 0 else f"{name}:{k}"
            if picture.name != label:
                ctx.emit("Identity", [picture.name], label, ctx.nodes[name])
            ctx.channels[label] = picture.channels
            ctx.graph.outputs.append(label)
