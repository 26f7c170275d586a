"""TensorFlow Lite files (.tflite) to `Graph`: the walk over the operators, inputs and outputs.

The file is parsed with flatbuffers and tflite_schema. Operators are said in ONNX's terms: those on pictures by tflite_ops, _conv and _pixels, which
hand them to the importer of ONNX files with the axes in its order, those on constants and in shape code by tflite_shapes. What the file rounds
because it is quantised is rounded by tflite_quantised.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Input
from . import tflite_conv, tflite_ops, tflite_pixels, tflite_shapes, tflite_transposed
from .context import guarded, running_order
from .onnx import is_upright
from .onnx_values import Picture, make
from .onnx_views import settled
from .tflite_context import Args, Grid, Spelled, TfliteContext, TfliteNode
from .tflite_feed import guess_feed
from .tflite_quantised import on_grid, real
from .tflite_schema import MAGIC, Model, Tensor, parse_model
from .values import Array, symbol

NAME = "TensorFlow Lite"
SUFFIXES = (".tflite",)

PICTURE_OPS = {**tflite_ops.OPS, **tflite_conv.OPS, **tflite_transposed.OPS, **tflite_pixels.OPS}
SIZE_OPS = ("SHAPE", "RANK", "ZEROS_LIKE")
"""Operators whose result is known although their input is a picture."""
MAX_INPUTS = 64
MAX_NAME = 128


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True when the file carries TensorFlow Lite's mark."""
    return head[4:8] == MAGIC


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a TensorFlow Lite file. Raises ModelError naming the operator for what cannot be read or run, OSError when it cannot be opened."""
    path = Path(path)
    try:
        graph = loads(path.read_bytes())
    except ModelError as e:
        raise ModelError(f"'{os.fspath(path)}': {e}") from e.__cause__
    graph.meta["source"] = path.name
    return graph


def loads(data: bytes) -> Graph:
    """`load` for the bytes of a file."""
    if not data:
        raise ModelError("the file is empty: download it again")
    model = parse_model(data)
    rename(model.tensors)
    order = read_order(model)
    ctx = TfliteContext(model, 8 * len(data) + (64 << 20))
    ctx.taken.update(model.tensors[i].name for i in model.outputs)
    with np.errstate(all="ignore"):
        make_inputs(ctx, order)
        for node in order:
            store(ctx, node, guarded(ctx, node, translate))
        channels = make_outputs(ctx)
    graph = ctx.graph
    graph.prune()
    source = next(t for i in model.inputs if (t := model.tensors[i]).name == graph.inputs[0].name)
    graph.feed = guess_feed(ctx, model, source, channels)
    graph.meta["format"] = NAME
    graph.validate()
    return graph


# ---- tensors and the order of operators --------------------------------------------------------------------------------------------------------


def rename(tensors: list[Tensor]) -> None:
    """Give tensors short names, each its own: converters join the names of all that one tensor stands for."""
    taken: set[str] = set()
    for k, tensor in enumerate(tensors):
        tensor.name = tensor.name.partition(";")[0][-MAX_NAME:]
        if tensor.name in taken:
            tensor.name = f"{tensor.name}:{k}"
            while tensor.name in taken:
                tensor.name += "'"
        taken.add(tensor.name)


def read_order(model: Model) -> list[TfliteNode]:
    """The operators that the outputs need, each after those it reads."""
    if not model.outputs or not model.operators:
        raise ModelError("the graph has no operators or no output: damaged, or not a network")
    makers: dict[int, int] = {}
    given = set(model.inputs)
    if not given.isdisjoint(model.outputs):
        raise ModelError("the graph gives back its input: not a network")
    for k, operator in enumerate(model.operators):
        for i in operator.outputs:
            if i in makers or i in given:
                raise ModelError(f"tensor '{model.tensors[i].name}' is computed twice: damaged file")
            makers[i] = k
    nodes = [TfliteNode(o, model.tensors) for o in model.operators]
    reads = {str(k): [str(makers[i]) for i in o.inputs if i in makers] for k, o in enumerate(model.operators)}
    roots = list(dict.fromkeys(str(makers[i]) for i in model.outputs if i in makers))
    order = [nodes[int(k)] for k in running_order(reads, roots, lambda k: nodes[int(k)].op)]
    for node in order:
        if node.op not in PICTURE_OPS and node.op not in tflite_shapes.OPS:
            raise ModelError(f"operator '{node.name}' ({node.op}): {tflite_ops.unsupported(node.op)}")
    return order


# ---- evaluation --------------------------------------------------------------------------------------------------------------------------------


def value_of(ctx: TfliteContext, number: int) -> Any:
    """The value of a tensor: a picture, or numbers."""
    if number not in ctx.found:
        tensor, data = ctx.model.tensors[number], ctx.stored(number)
        if data is None:
            raise ModelError(f"reads '{tensor.name}', which nothing computes: damaged file, or a variable")
        ctx.spend(8 * data.size)
        ctx.found[number] = Array(real(tensor, data), tensor.name)
    return ctx.found[number]


LAZY = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "TRANSPOSE_CONV": (1, 3), "FULLY_CONNECTED": (1, 2)}
"""Operators -> inputs that are read as the file has them."""


def arguments(ctx: TfliteContext, node: TfliteNode) -> Args:
    """The values that an operator reads, None for those left out, without those at the end."""
    args: Args = []
    for k, number in enumerate(node.operator.inputs):
        if number >= 0 and k in LAZY.get(node.op, ()) and number not in ctx.found and ctx.stored(number) is not None:
            args.append(None)
        else:
            args.append(value_of(ctx, number) if number >= 0 else None)
    while args and args[-1] is None:
        args.pop()
    return args


def translate(ctx: TfliteContext, node: TfliteNode) -> Any:
    """The value of an operator, or the list of its values."""
    args = arguments(ctx, node)
    known = all(a is None or isinstance(a, Array) for a in args) or node.op in SIZE_OPS
    if known and node.op in tflite_shapes.OPS:
        return tflite_shapes.evaluate(ctx, node, args)
    handler = PICTURE_OPS.get(node.op)
    if handler is None:
        raise ModelError("is known for constants only, and here it works on pixels: not supported")
    return handler(ctx, node, args)


def store(ctx: TfliteContext, node: TfliteNode, value: Any) -> None:
    """Remember an operator's results."""
    for number, result in zip(node.operator.outputs, value if isinstance(value, list) else [value], strict=False):
        ctx.found[number] = result


# ---- inputs and outputs ------------------------------------------------------------------------------------------------------------------------


def make_inputs(ctx: TfliteContext, order: list[TfliteNode]) -> None:
    """Turn the inputs into pictures."""
    used = {i for node in order for i in node.operator.inputs} | set(ctx.model.outputs)
    inputs = [i for i in dict.fromkeys(ctx.model.inputs) if i in used]
    if not inputs:
        raise ModelError("the graph has no input: not a network that takes a picture")
    if len(inputs) > MAX_INPUTS:
        raise ModelError(f"the graph has {len(inputs)} inputs: not a network that takes a picture")
    for i in inputs:
        tensor = ctx.model.tensors[i]
        try:
            ctx.found[i] = make_input(ctx, order, i, tensor)
        except ModelError as e:
            raise ModelError(f"input '{tensor.name}': {e}") from e.__cause__


def make_input(ctx: TfliteContext, order: list[TfliteNode], number: int, tensor: Tensor) -> Picture:
    """The picture of an input; sizes that the file fixes are used in shape code only, the network still takes any size."""
    if tensor.type not in ("float32", "float16", "uint8", "int8", "int16") or (tensor.type in ("int8", "int16") and not tensor.quantised):
        raise ModelError(f"takes {tensor.type}: only pictures of floating-point, uint8 or quantised type can be fed")
    shape, signature = tensor.shape, tensor.signature
    if not 2 <= len(shape) <= 4:
        raise ModelError(f"takes an array of shape {shape}, not a picture: convert the network with one picture as its input")
    if not all(-1 <= n <= 65536 for n in signature):
        raise ModelError(f"takes pictures of absurd size {signature}: damaged file")
    layout = layout_of(ctx, order, number, shape)
    channels = shape[layout.index("C")] if "C" in layout else 1
    if not 0 < channels <= 65536:
        raise ModelError("does not say how many channels its picture has")
    name = ctx.fresh(tensor.name)
    ctx.graph.inputs.append(Input(name, channels))
    size: dict[str, Any] = {"C": channels}
    for letter in "NHW":
        n = signature[layout.index(letter)] if letter in layout else 1
        free = n < 1 or (letter != "N" and n == 1)
        size[letter] = symbol(f"{name}:{letter}") if free else n
    x = make(name, layout, size)
    return on_grid(ctx, Spelled(name, "QuantizeLinear", [name], {}), x, Grid.of(tensor)) if tensor.quantised else x


TELLS_LAYOUT = {
    "CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "TRANSPOSE_CONV": 2, "AVERAGE_POOL_2D": 0, "MAX_POOL_2D": 0, "DEPTH_TO_SPACE": 0, "SPACE_TO_DEPTH": 0,
    "RESIZE_BILINEAR": 0, "RESIZE_NEAREST_NEIGHBOR": 0,
}  # fmt: skip
"""Operators that take (N, H, W, C) -> which of their inputs is the picture."""
SAME_AXES = (
    "QUANTIZE", "DEQUANTIZE", "CAST", "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "PAD", "PADV2", "MIRROR_PAD", "RELU", "LEAKY_RELU", "PRELU",
    "CONCATENATION",
)  # fmt: skip


def layout_of(ctx: TfliteContext, order: list[TfliteNode], number: int, shape: list[int]) -> str:
    """Which of N, C, H, W each axis of an input is: by the first operators that take (N, H, W, C), else by its shape."""
    if len(shape) < 4:
        return {2: "HW", 3: "HWC" if shape[-1] in (1, 3) else "CHW"}[len(shape)]
    seen = {number: (0, 1, 2, 3)}
    for node in order:
        inputs = node.operator.inputs
        k = TELLS_LAYOUT.get(node.op, len(inputs))
        if k < len(inputs) and inputs[k] in seen:
            layout = "".join("NHWC"[seen[inputs[k]].index(i)] for i in range(4))
            if is_upright(layout):
                return layout
        source = next((i for i in inputs if i in seen), None)
        if source is not None and node.op in SAME_AXES:
            seen.setdefault(node.operator.outputs[0], seen[source])
        if source is not None and node.op == "TRANSPOSE" and len(inputs) == 2 and inputs[1] >= 0:
            perm = ctx.stored(inputs[1])
            if perm is not None and perm.dtype.kind in "iu" and sorted(perm.reshape(-1).tolist()) == [0, 1, 2, 3]:
                seen.setdefault(node.operator.outputs[0], tuple(seen[source][int(p)] for p in perm.reshape(-1)))  # type: ignore[arg-type]
    return "NCHW" if shape[1] in (1, 3) and shape[3] not in (1, 3) else "NHWC"


def make_outputs(ctx: TfliteContext) -> int:
    """Graph outputs for all outputs that are pictures; returns the channels of the first."""
    channels = 0
    for i in dict.fromkeys(ctx.model.outputs):
        tensor, value = ctx.model.tensors[i], ctx.found.get(i)
        if not isinstance(value, Picture):
            if i == ctx.model.outputs[0]:
                raise ModelError(f"the output '{tensor.name}' is not a picture computed from the input")
            continue
        core = Spelled(tensor.name, "Identity", [tensor.name], {})
        picture = guarded(ctx, core, lambda c, n, value=value: settled(c, n, value))
        if len(picture.layout) > 2 and not is_upright(picture.layout):
            raise ModelError(f"the output '{tensor.name}' has the axes {picture.layout}: only pictures with rows before columns can be given back")
        ctx.add(core, "Identity", [picture.name], tensor.name)
        if picture.name in ctx.grids:
            ctx.grids[tensor.name] = ctx.grids[picture.name]
        channels = channels or picture.channels
        ctx.graph.outputs.append(tensor.name)
    return channels
