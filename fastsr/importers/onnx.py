"""ONNX files (.onnx) to `Graph`: the walk over the nodes, inputs and outputs.

The file is parsed with onnx_schema; operators on pictures are translated by onnx_ops, _conv, _pixels and _whole, those on constants and in shape code
are evaluated by onnx_shapes. Changes of axes are tracked (onnx_values, onnx_views), so that everything in the Graph is NCHW.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Input
from . import onnx_conv, onnx_ops, onnx_pixels, onnx_quantised, onnx_shapes, onnx_whole
from .context import guarded, running_order
from .onnx_context import Context, OnnxNode, Value
from .onnx_feed import PREFIX, guess_feed
from .onnx_schema import FLOAT_TYPES, external_path, parse_model, tensor_array, type_name
from .onnx_values import Picture, make
from .values import Array, symbol

NAME = "ONNX"
SUFFIXES = (".onnx",)

PICTURE_OPS = {**onnx_ops.OPS, **onnx_conv.OPS, **onnx_pixels.OPS, **onnx_quantised.OPS, **onnx_whole.OPS}
MICROSOFT = "com.microsoft"
OPSETS = (7, 28)
"""First and last version of ONNX's operators that has been looked at; newer files are tried."""
MAX_NODES = 65536
MAX_INPUTS = 64
MAX_CONSTANTS = 65536
UINT8 = 2


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True when the file starts like a ModelProto: the fields that come before the graph, each with the right type, and then the graph."""
    at, seen = 0, False
    while at < len(head):
        key, at = _varint(head, at)
        if key in (0x08, 0x28):
            value, at = _varint(head, at)
            if key == 0x08 and not 1 <= value <= 64:
                return False
            seen = True
        elif key == 0x3A:
            size, at = _varint(head, at)
            return seen or (size > 0 and head[at : at + 1] in (b"\x0a", b"\x12", b"\x2a"))
        elif key in (0x12, 0x1A, 0x22, 0x32, 0x42, 0x72):
            size, at = _varint(head, at)
            text = head[at : at + min(size, 64)]
            if key in (0x12, 0x1A, 0x22) and not all(32 <= b < 127 for b in text):
                return False
            at += size
        else:
            return False
    return seen and at > len(head)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for k, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    return value, len(data)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read an ONNX file. Raises ModelError naming the node for anything that cannot be read or run, OSError when a file cannot be opened."""
    path = Path(path)
    try:
        graph = loads(path.read_bytes(), path.parent)
    except ModelError as e:
        raise ModelError(f"'{os.fspath(path)}': {e}") from e.__cause__
    graph.meta["source"] = path.name
    return graph


def loads(data: bytes, folder: Path | None = None) -> Graph:
    """`load` for the bytes of a file. folder: where files with external data may lie, None for nowhere."""
    if not data:
        raise ModelError("the file is empty: download it again")
    model = parse_model(data)
    message = model.graph
    nodes, makers = read_nodes(message)
    tensors = read_tensors(message, makers)
    sinks = [o.name.decode("utf-8", "replace") for o in message.output]
    if not sinks:
        raise ModelError("the graph has no output: damaged, or not a network")
    inputs = {i.name.decode("utf-8", "replace"): i for i in message.input if i.name not in tensors}
    inputs = {name: i for name, i in inputs.items() if name not in tensors}
    order = read_order(nodes, makers, tensors, inputs, sinks)
    opset = read_opset(model)
    used = {i for n in order for i in n.inputs}
    for node in order:
        if not is_known(node):
            raise ModelError(f"node '{node.name}' ({node.op}): {onnx_ops.unsupported(node)}")
    ctx = Context(8 * len(data) + (64 << 20), opset, folder, {*makers, *tensors, *inputs})
    with np.errstate(all="ignore"):
        for name, tensor in tensors.items():
            if name in used:
                ctx.values[name] = read_constant(ctx, name, tensor)
        for node in order:
            if all(not i or i in ctx.values for i in node.inputs) and node.op in onnx_shapes.OPS:
                store(ctx, node, guarded(ctx, node, fold))
        make_inputs(ctx, order, {name: i for name, i in inputs.items() if name in used or name in sinks})
        for node in order:
            if node.output not in ctx.values:
                store(ctx, node, guarded(ctx, node, translate))
        channels = make_outputs(ctx, sinks)
    graph = ctx.graph
    graph.prune()
    first = inputs[graph.inputs[0].name].type.tensor_type.elem_type
    metadata = {e.key.decode("utf-8", "replace"): e.value.decode("utf-8", "replace") for e in model.metadata_props}
    graph.feed = guess_feed(ctx, (graph.inputs[0].channels, channels), first == UINT8, metadata)
    graph.meta["format"] = NAME
    if PREFIX + "pre_scale" in metadata:
        graph.meta["fed as said"] = True
    graph.validate()
    return graph


# ---- nodes, constants and their order ----------------------------------------------------------------------------------------------------------


def read_nodes(message: Any) -> tuple[list[OnnxNode], dict[str, OnnxNode]]:
    """The nodes of a Graph message in file order, and value -> the node that makes it."""
    if len(message.node) > MAX_NODES:
        raise ModelError(f"the graph has {len(message.node)} nodes, more than {MAX_NODES}: damaged, or not a network for pictures")
    if not message.node:
        raise ModelError("the graph has no nodes: this is not an ONNX network, or it is damaged")
    nodes, makers = [], {}
    for k, m in enumerate(message.node):
        node = OnnxNode.of(m)
        if not node.op or not any(node.outputs):
            raise ModelError("a node without operator or output: this is not an ONNX network, or it is damaged")
        if not node.outputs[0]:
            node.outputs[0] = f"{node.name}/unnamed {k}"
        for out in filter(None, node.outputs):
            if out in makers:
                raise ModelError(f"two nodes compute '{out}' (second time '{node.name}'): damaged file")
            makers[out] = node
        nodes.append(node)
    return nodes, makers


def read_tensors(message: Any, makers: dict[str, OnnxNode]) -> dict[str, Any]:
    """Initializer messages by name."""
    if len(message.initializer) > MAX_CONSTANTS:
        raise ModelError(f"the graph has {len(message.initializer)} constants, more than {MAX_CONSTANTS}: damaged")
    tensors: dict[str, Any] = {}
    for t in message.initializer:
        name = t.name.decode("utf-8", "replace")
        if name in tensors or name in makers:
            raise ModelError(f"the constant '{name}' has the name of another value: damaged file")
        tensors[name] = t
    if message.sparse_initializer:
        raise ModelError("the graph has sparse constants, which are not supported")
    return tensors


def read_constant(ctx: Context, name: str, message: Any) -> Array:
    """The array of an initializer."""
    try:
        data = tensor_array(message, ctx.folder)
    except ModelError as e:
        raise ModelError(f"constant '{name}': {e}") from e.__cause__
    if message.data_location:
        ctx.allow(external_path(message, ctx.folder))
    ctx.spend(data.nbytes)
    return Array(data, name)


def read_order(
    nodes: list[OnnxNode], makers: dict[str, OnnxNode], tensors: dict[str, Any], inputs: dict[str, Any], sinks: list[str]
) -> list[OnnxNode]:
    """The nodes that the outputs need, each after those it reads."""
    for name in sinks:
        if name not in makers and name not in inputs and name not in tensors:
            raise ModelError(f"the output '{name}' is computed by no node: damaged file")
    reads: dict[str, list[str]] = {}
    for node in nodes:
        for i in node.inputs:
            if i and i not in makers and i not in tensors and i not in inputs:
                raise ModelError(f"node '{node.name}' ({node.op}) reads '{i}', which is not in the file: damaged or cut short")
        reads[node.output] = [makers[i].output for i in node.inputs if i in makers]
    roots = list(dict.fromkeys(makers[s].output for s in sinks if s in makers))
    return [makers[name] for name in running_order(reads, roots, lambda name: makers[name].op)]


def read_opset(model: Any) -> int:
    """The version of ONNX's own operators."""
    versions = [int(o.version) for o in model.opset_import if o.domain in (b"", b"ai.onnx")]
    opset = max(versions, default=OPSETS[0])
    if not OPSETS[0] <= opset <= 1000:
        raise ModelError(f"uses version {opset} of ONNX's operators, fastsr reads {OPSETS[0]} and later: convert it with onnx.version_converter")
    return opset


def is_known(node: OnnxNode) -> bool:
    """Whether the operator is in one of the tables. ONNX Runtime's QuantizeLinear and DequantizeLinear are ONNX's."""
    if node.domain == MICROSOFT:
        return node.op in onnx_quantised.MICROSOFT or node.op in ("QuantizeLinear", "DequantizeLinear")
    return not node.domain and (node.op in PICTURE_OPS or node.op in onnx_shapes.OPS)


# ---- evaluation --------------------------------------------------------------------------------------------------------------------------------


def arguments(ctx: Context, node: OnnxNode) -> list[Value | None]:
    """The values that a node reads, None for those left out, without those at the end."""
    args: list[Value | None] = []
    for name in node.inputs:
        if name and ctx.values.get(name) is None:
            raise ModelError(f"reads '{name}', which fastsr does not compute")
        args.append(ctx.values[name] if name else None)
    while args and args[-1] is None:
        args.pop()
    return args


def fold(ctx: Context, node: OnnxNode) -> Any:
    """The value of a node whose inputs are all known numbers."""
    args = arguments(ctx, node)
    value = onnx_shapes.evaluate(ctx, node, args)
    if node.op == "DequantizeLinear" and isinstance(args[0], Array) and args[0].data.ndim in (1, 4):
        parts = [(a.name or ctx.fresh(f"{node.output}/{k}"), a.data) for k, a in enumerate(args) if isinstance(a, Array)]
        ctx.dequantised[node.output] = parts, node.int("axis", 1)
    return value


def translate(ctx: Context, node: OnnxNode) -> Any:
    """The value of a node that reads pictures, or numbers computed from their sizes."""
    args = arguments(ctx, node)
    known = all(a is None or isinstance(a, Array) for a in args) or node.op in ("Shape", "Size")
    if known and node.op in onnx_shapes.OPS:
        return onnx_shapes.evaluate(ctx, node, args)
    handler = PICTURE_OPS.get(node.op) or (onnx_quantised.MICROSOFT.get(node.op) if node.domain == MICROSOFT else None)
    if handler is None:
        raise ModelError("is known for constants only, and here it works on pixels: not supported")
    return onnx_quantised.translate(ctx, node, args, handler)


def store(ctx: Context, node: OnnxNode, value: Any) -> None:
    """Remember a node's results; those without a value stand for what fastsr does not compute."""
    results = value if isinstance(value, list) else [value]
    for name, result in zip(node.outputs, results, strict=False):
        if isinstance(result, Array) and not result.name:
            result.name = name
        ctx.values[name] = result


# ---- inputs and outputs ------------------------------------------------------------------------------------------------------------------------


def make_inputs(ctx: Context, order: list[OnnxNode], inputs: dict[str, Any]) -> None:
    """Turn the inputs into pictures."""
    if len(inputs) > MAX_INPUTS:
        raise ModelError(f"the graph has {len(inputs)} inputs: not a network that takes a picture")
    if not inputs:
        raise ModelError("the graph has no input: not a network that takes a picture")
    readers: dict[str, list[OnnxNode]] = {}
    for node in order:
        for name in node.inputs[:8]:
            readers.setdefault(name, []).append(node)
    for name, message in inputs.items():
        try:
            ctx.values[name] = make_input(ctx, readers, name, message)
        except ModelError as e:
            raise ModelError(f"input '{name}': {e}") from e.__cause__


def make_input(ctx: Context, readers: dict[str, list[OnnxNode]], name: str, message: Any) -> Picture:
    """The picture of an input; sizes that the file fixes are used in shape code only, the network still takes any size."""
    if not message.type.HasField("tensor_type"):
        raise ModelError("is no tensor, only pictures can be fed")
    tensor = message.type.tensor_type
    if tensor.elem_type not in (*FLOAT_TYPES, UINT8):
        raise ModelError(f"takes {type_name(tensor.elem_type)}: only pictures of floating-point or uint8 type can be fed")
    shape = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in tensor.shape.dim] if tensor.HasField("shape") else [0] * 4
    if not 2 <= len(shape) <= 4:
        raise ModelError(f"takes an array of shape {shape[:16]}, not a picture: export the network with one picture as its input")
    if not all(-1 <= n <= 65536 for n in shape):
        raise ModelError(f"takes pictures of absurd size {shape}: damaged file")
    layout, channels = first_reader(ctx, readers, name, len(shape)) or guess_layout(shape)
    given = shape[layout.index("C")] if "C" in layout else 1
    channels = given if given > 0 else channels
    if not 0 < channels <= 65536:
        raise ModelError("does not say how many channels its picture has, and no convolution that reads it does either")
    ctx.graph.inputs.append(Input(name, channels))
    size: dict[str, Any] = {"C": channels}
    for letter in "NHW":
        n = shape[layout.index(letter)] if letter in layout else 1
        size[letter] = n if n > 0 else symbol(f"{name}:{letter}")
    return make(name, layout, size)


def is_upright(layout: str) -> bool:
    """Whether a tensor of these axes is a batch of pictures with rows before columns, the channels where they may be."""
    return layout.replace("C", "") in ("NHW", "HW") and not layout.startswith("CN")


def guess_layout(shape: list[int]) -> tuple[str, int]:
    """The layout of a shape that no operator explains, and 0 for unknown channels."""
    if len(shape) == 4:
        return ("NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"), 0
    return {2: "HW", 3: "HWC" if shape[-1] in (1, 3) else "CHW"}[len(shape)], 0


SAME_AXES = {
    "Identity", "Relu", "LeakyRelu", "Clip", "Tanh", "Sigmoid", "Cast", "Add", "Sub", "Mul", "Div", "Pad", "Abs", "Neg", "Dropout", "QuantizeLinear",
    "DequantizeLinear",
}  # fmt: skip
TELLS_LAYOUT = {
    "Conv": 1, "ConvTranspose": 1, "QLinearConv": 3, "BatchNormalization": 1, "DepthToSpace": 0, "SpaceToDepth": 0, "MaxPool": 0, "AveragePool": 0,
    "GlobalAveragePool": 0, "GlobalMaxPool": 0, "InstanceNormalization": 1, "GroupNormalization": 0,
}  # fmt: skip
"""Operators that take NCHW -> the input whose size tells the channels, 0 for none."""


def first_reader(ctx: Context, readers: dict[str, list[OnnxNode]], name: str, rank: int) -> tuple[str, int] | None:
    """(layout, channels or 0) of an input, from the nearest reader that takes NCHW."""
    queue: deque[tuple[str, tuple[int, ...]]] = deque([(name, tuple(range(rank)))])
    seen, layout = {name}, ""
    while queue:
        value, axes = queue.popleft()
        for node in readers.get(value, []):
            if node.op in TELLS_LAYOUT and node.inputs[0] == value and len(axes) == 4:
                here = "".join("NCHW"[axes.index(i)] for i in range(rank))
                if not is_upright(here):
                    continue
                layout = layout or here
                k = TELLS_LAYOUT[node.op]
                weight = ctx.values.get(node.inputs[k]) if 0 < k < len(node.inputs) else None
                if here == layout and isinstance(weight, Array) and weight.data.ndim in (1, 4):
                    axis = 1 if node.op in ("Conv", "QLinearConv") and weight.data.ndim == 4 else 0
                    group = node.int("group", 1) if axis else 1
                    return layout, weight.data.shape[axis] * group
            following = _followed(ctx, node, axes)
            if following is not None and node.output not in seen:
                seen.add(node.output)
                queue.append((node.output, following))
    return (layout, 0) if layout else None


def _followed(ctx: Context, node: OnnxNode, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The input's axes after a node, -1 for new ones; None when the node does more than move them."""
    if node.op in SAME_AXES:
        return axes
    if node.op == "Transpose" and node.has("perm"):
        perm = node.ints("perm")
        return tuple(axes[p] for p in perm) if sorted(perm) == list(range(len(axes))) else None
    if node.op == "Unsqueeze":
        given = ctx.values.get(node.inputs[1]) if len(node.inputs) > 1 else None
        new = [int(i) for i in given.data.reshape(-1)[:8]] if isinstance(given, Array) and given.data.dtype.kind == "i" else node.ints("axes", [])
        rank = len(axes) + len(new)
        at = {a % rank for a in new}
        if rank <= 4 and len(at) == len(new):
            old = iter(axes)
            return tuple(-1 if i in at else next(old) for i in range(rank))
    return None


def make_outputs(ctx: Context, sinks: list[str]) -> int:
    """Graph outputs for all outputs that are pictures; returns the channels of the first."""
    channels = 0
    for name in dict.fromkeys(sinks):
        value = ctx.values.get(name)
        if not isinstance(value, Picture):
            if isinstance(value, onnx_whole.Reduced):
                raise ModelError(f"the output '{name}' is a sum or a mean over rows or columns of the whole picture: not supported")
            if name == sinks[0]:
                raise ModelError(f"the output '{name}' is not a picture computed from the input")
            continue
        maker = OnnxNode(name, "Identity", "", [], [name], None)
        picture = guarded(ctx, maker, lambda c, n, value=value: onnx_ops.settled(c, n, value))
        if len(picture.layout) > 2 and not is_upright(picture.layout):
            raise ModelError(f"the output '{name}' has the axes {picture.layout}: only pictures with rows before columns can be given back")
        if picture.name != name:
            ctx.add(maker, "Identity", [picture.name], name)
        channels = channels or picture.channels
        ctx.graph.outputs.append(name)
    return channels
