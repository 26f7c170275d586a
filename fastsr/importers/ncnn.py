"""ncnn models (.param or .param.bin, and the .bin of weights beside it) to `Graph`: files, the walk over the layers, inputs and outputs.

ncnn_param reads the list of layers, ncnn_weights the numbers; layers are translated by ncnn_ops, ncnn_conv and ncnn_pixels. ncnn's pictures are
(channels, height, width); the batch that ncnn lacks is added in front, and a vector of n numbers becomes n channels of one pixel.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph, Input
from . import ncnn_conv, ncnn_ops, ncnn_param, ncnn_pixels, ncnn_weights
from .context import guarded, running_order
from .feed import divided, left_open, multiplied
from .looks import looks_like
from .ncnn_context import FAR, Context, Picture, Value
from .ncnn_param import Layer
from .values import symbol

NAME = "ncnn"
SUFFIXES = (".param", ".bin")

OPS = {**ncnn_ops.OPS, **ncnn_conv.OPS, **ncnn_pixels.OPS}
DEFAULT_OUTPUTS = ("output", "out0", "out")
MAX_BYTES = (1 << 31) - 1
MAX_INPUTS = 64


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True for a .param file of either form, and for a .bin file that has one beside it."""
    if ncnn_param.is_text(head) or ncnn_param.is_binary(head):
        return True
    return Path(path).suffix.lower() == ".bin" and _param_of(Path(path)) is not None


def _param_of(path: Path) -> Path | None:
    """The layer list that belongs to weights: x.param, else x.param.bin."""
    candidates = (path.with_suffix(suffix) for suffix in (".param", ".param.bin"))
    return next((p for p in candidates if p != path and p.is_file()), None)


def _weights_of(path: Path) -> Path:
    """The weights that belong to a layer list: x.bin for x.param and x.param.bin."""
    stem = path.with_suffix("") if path.name.lower().endswith(".param.bin") else path
    return stem.with_suffix(".bin")


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a model, given either of its two files.

    Raises ModelError, which names the layer or the missing file, for anything that cannot be read or run; OSError when a file cannot be opened.
    """
    param = Path(path)
    head = _bytes(param, 4096)
    if not ncnn_param.is_text(head) and not ncnn_param.is_binary(head) and param.suffix.lower() == ".bin":
        found = _param_of(param)
        if found is None:
            wanted = param.with_suffix(".param").name
            raise ModelError(f"'{param}': not a file of torch.save, and the weights of an ncnn model need its layers, '{wanted}', in the same folder")
        param = found
    weights = _weights_of(param)
    if weights == param or not weights.is_file():
        raise ModelError(f"'{param}': an ncnn model needs its weights, '{weights.name}', in the same folder")
    try:
        graph = loads(_bytes(param), _bytes(weights))
    except ModelError as e:
        for part in (param, weights):
            start = _bytes(part, 4096)
            looks = looks_like(start) if (start or part == param) and start.isascii() and b"\0" not in start else ""
            if looks:
                raise ModelError(f"'{part}': this looks like {looks}") from None
        raise ModelError(f"'{param}': {e}") from e.__cause__
    graph.meta["source"] = param.name
    return graph


def _bytes(path: Path, n: int = -1) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"'{path}': larger than 2 GiB, which no ncnn model of this kind is")
    with open(path, "rb") as f:
        return f.read(n)


def loads(param: bytes, weights: bytes) -> Graph:
    """`load` for the bytes of the two files."""
    layers = ncnn_param.read(param)
    read_weights(layers, weights)
    ctx = Context(8 * (len(param) + len(weights)) + (64 << 20), set())
    maker = {out: str(k) for k, layer in enumerate(layers) for out in layer.outputs}
    read = {name for layer in layers for name in layer.inputs}
    sinks = find_outputs(layers, read)
    ctx.taken |= {*sinks, *(out for layer in layers if layer.op == "Input" for out in layer.outputs)}
    reads = {str(k): [maker[name] for name in layer.inputs] for k, layer in enumerate(layers)}
    order = [layers[int(k)] for k in running_order(reads, [maker[s] for s in sinks], lambda k: f"{layers[int(k)].op} '{layers[int(k)].name}'")]
    with np.errstate(all="ignore"):
        make_inputs(ctx, layers, [layer for layer in order if layer.op == "Input"])
        for layer in order:
            if layer.op != "Input":
                keep(ctx, layer, guarded(ctx, layer, translate))
        make_outputs(ctx, sinks)
    graph = ctx.graph
    graph.prune()
    graph.feed = guess_feed(ctx)
    graph.meta["format"] = NAME
    graph.validate()
    return graph


def read_weights(layers: list[Layer], data: bytes) -> None:
    """Give every layer its numbers. Raises ModelError for layers that are not known, as their numbers cannot be skipped."""
    weights = ncnn_weights.Weights(data)
    for layer in layers:
        if layer.op not in OPS and layer.op != "Input":
            raise ModelError(f"layer '{layer.name}' ({layer.op}): {ncnn_ops.unsupported(layer.op)}")
        if not layer.outputs and layer.op != "Noop":
            raise ModelError(f"layer '{layer.name}' ({layer.op}) makes nothing: damaged ncnn model")
        if layer.op in ncnn_weights.READERS:
            try:
                ncnn_weights.READERS[layer.op](layer, weights)
            except ModelError as e:
                raise ModelError(f"layer '{layer.name}' ({layer.op}): {e}") from None
    if weights.left:
        raise ModelError(f"the .bin file has {weights.left} bytes too many: it belongs to another .param file, or is damaged")


def find_outputs(layers: list[Layer], read: set[str]) -> list[str]:
    """Values that no layer reads, the default output first: the one called "output" or "out0", else the last. A Split's spare copies do not count."""
    unread = [(out, layer.op) for layer in layers for out in layer.outputs if out not in read and layer.op not in ("Input", "MemoryData")]
    sinks = [out for out, made_by in unread if made_by != "Split" or out in DEFAULT_OUTPUTS] or [out for out, _ in unread]
    if not sinks:
        raise ModelError("the network has no output: damaged, cyclic, or without layers")
    default = next((name for name in DEFAULT_OUTPUTS if name in sinks), sinks[-1])
    return [default, *(s for s in sinks if s != default)]


# ---- evaluation --------------------------------------------------------------------------------------------------------------------------------


def translate(ctx: Context, layer: Layer) -> Value | list[Value]:
    """The value, or list of values, of a layer."""
    result: Value | list[Value] = OPS[layer.op](ctx, layer, [ctx.values[name] for name in layer.inputs])
    return result


def keep(ctx: Context, layer: Layer, result: Value | list[Value]) -> None:
    """Remember a layer's values under the names of its outputs."""
    values = result if isinstance(result, list) else [result]
    if len(values) != len(layer.outputs):
        raise ModelError(f"layer '{layer.name}' ({layer.op}) has {len(layer.outputs)} outputs, and makes {len(values)}: damaged ncnn model")
    ctx.values.update(zip(layer.outputs, values, strict=True))


# ---- inputs and outputs ------------------------------------------------------------------------------------------------------------------------


def make_inputs(ctx: Context, layers: list[Layer], inputs: list[Layer]) -> None:
    """Graph inputs; a size that the file fixes is used where it resizes to a constant size, the network still takes any."""
    if not inputs:
        raise ModelError("the network has no Input layer that its output depends on: damaged ncnn model")
    if len(inputs) > MAX_INPUTS:
        raise ModelError(f"the network has {len(inputs)} inputs: not a network that takes a picture")
    for layer in inputs:
        if len(layer.outputs) != 1 or layer.inputs:
            raise ModelError(f"layer '{layer.name}' (Input) makes {len(layer.outputs)} values: damaged ncnn model")
        name = layer.outputs[0]
        size = [layer.integer(k, 0) for k in (1, 0)]
        channels = layer.integer(2, 0) or channels_of(layers, name)
        if layer.integer(11, 0) or not all(0 <= n <= FAR for n in size) or not 0 <= channels <= FAR:
            raise ModelError(f"layer '{layer.name}' (Input) takes {channels} channels of {size[1]}x{size[0]}: damaged ncnn model, or not a picture")
        if not channels:
            raise ModelError(f"layer '{layer.name}' (Input) does not say how many channels its picture has, and no layer that reads it does either")
        ctx.graph.inputs.append(Input(name, channels))
        height, width = (n or symbol(f"{name}:{a}") for n, a in zip(size, "HW", strict=True))
        ctx.values[name] = Picture(name, channels, height, width)


KEEPS_CHANNELS = frozenset({
    "Split", "Noop", "DeepCopy", "Cast", "Packing", "Dropout", "Interp", "Padding", "Clip", "ReLU", "Sigmoid", "TanH", "AbsVal", "UnaryOp", "Power",
    "BinaryOp", "Eltwise", "Swish", "HardSwish", "HardSigmoid", "Mish", "GELU", "ShuffleChannel", "Pooling",
})  # fmt: skip


def channels_of(layers: list[Layer], name: str) -> int:
    """Channels of a value, from the nearest layers that read it and say so; 0 when none does."""
    known = {name: 1}  # value -> how many of its channels are one channel of the input
    for layer in layers:
        factors = [known[i] for i in layer.inputs if i in known]
        if not factors:
            continue
        factor, found = factors[0], _channels_read(layer)
        if found > 0:
            return found // factor if found % factor == 0 else 0
        if layer.op == "Reorg":
            factor *= min(max(layer.integer(0, 1), 1), 256) ** 2
        elif layer.op not in KEEPS_CHANNELS or (layer.op == "BinaryOp" and len(layer.inputs) > 1 and len(factors) < 2):
            continue
        for out in layer.outputs:
            known.setdefault(out, factor)
    return 0


def _channels_read(layer: Layer) -> int:
    """Channels that a layer takes, 0 when it does not say."""
    if "weight" in layer.weights and layer.op != "InnerProduct":
        wide, n = layer.integer(1, 0), layer.integer(0, 0)
        taps = wide * layer.integer(11, wide) * n
        group = layer.integer(7, 1) if layer.op.endswith("DepthWise") else 1
        return int(layer.weights["weight"].size) * group // taps if taps > 0 else 0
    if layer.op in ("BatchNorm", "InstanceNorm", "Bias", "Scale"):
        return max(layer.integer(0, 0), 0)
    return layer.integer(0, 0) if layer.op == "PReLU" and layer.integer(0, 0) > 1 else 0


def make_outputs(ctx: Context, sinks: list[str]) -> None:
    """Graph outputs for all pictures that no layer reads, under their own names."""
    for name in sinks:
        value = ctx.values[name]
        if not isinstance(value, Picture):
            raise ModelError(f"the output '{name}' is a constant, not a picture computed from the input")
        if value.name != name:
            ctx.emit("Identity", [value.name], name, _Place(name))
        ctx.graph.outputs.append(name)


class _Place:
    def __init__(self, name: str) -> None:
        self.name = name


def guess_feed(ctx: Context) -> Feed:
    """One channel in and out: Y. Three: RGB, as the ncnn-vulkan programs feed it. Else "raw".

    Values are 0..1, or 0..255 where the network begins by dividing by 255, and in the result where it ends by multiplying by 255.
    """
    graph = ctx.graph
    out = ctx.values[graph.outputs[0]]
    source = graph.inputs[0]
    if len(graph.inputs) != 1 or source.channels not in (1, 3) or out.channels != source.channels or out.single:
        return Feed()
    in_range = 255.0 if divided(graph, source.name) else 1.0
    out_range = 255.0 if multiplied(graph, graph.outputs[0]) else 1.0
    left_open(graph, in_range == 1.0, out_range == 1.0)
    return Feed(colour="y" if source.channels == 1 else "rgb", range=in_range, out_range=out_range)
