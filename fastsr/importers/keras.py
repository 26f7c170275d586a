"""Keras models (.h5, .hdf5, .keras) to `Graph`: full models of Keras 1, 2 and 3, and weights without a network, which `fastsr.archs` knows.

HDF5 is read by hdf5.py, the config by keras_config, the weights by keras_weights; layers are translated by keras_layers, _pixels, _lambda and _ops.
Neither TensorFlow nor Keras is needed, and no code of a file runs.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from .. import archs
from ..errors import ModelError
from ..graph import Graph, Input
from . import keras_lambda, keras_ops, keras_pixels
from .context import guarded, running_order
from .hdf5 import MAGIC, File
from .keras_config import Call, Layer, Net, NetworkMissingError, Reader, Ref, refs_in
from .keras_context import Context, Node, flat
from .keras_feed import guess_feed
from .keras_layers import LAYERS
from .keras_weights import Keras3, Legacy, store_of, to_torch
from .tensorflow_values import Picture
from .values import symbol
from .zips import Zip

NAME = "Keras"
SUFFIXES = (".h5", ".hdf5", ".keras")
ZIP = b"PK\x03\x04"
CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
MAX_JSON, SPARE_JSON = 64 << 20, 2 << 20
"""Bytes of a config, at the most and however small the archive is; lists in JSON take twenty times as much memory as their text."""
MAX_INPUTS = 16
MODULES = (keras_lambda, keras_ops, keras_pixels)
"""Modules that put layers into LAYERS."""
PASSES_ON = {
    "Activation", "ReLU", "LeakyReLU", "ELU", "Dropout", "SpatialDropout2D", "GaussianNoise", "Add", "Subtract", "Maximum", "Minimum", "Average",
    "UpSampling2D", "ZeroPadding2D", "Cropping2D", "Rescaling", "MaxPooling2D", "AveragePooling2D", "Multiply", "TFOpLambda", "Clip",
}  # fmt: skip
"""Layers whose result has as many channels as what they read."""


def probe(head: bytes, path: str | os.PathLike[str]) -> bool:
    """True for HDF5 files, and for zip archives with Keras' config or weights in them."""
    if head.startswith(MAGIC):
        return True
    if not head.startswith(ZIP):
        return False
    try:
        with open(path, "rb") as f:
            return is_keras(Zip(f).members)
    except OSError:
        return False
    except ModelError:  # cut off or damaged
        return Path(path).suffix.lower() == ".keras"


def is_keras(names: Collection[str]) -> bool:
    """Whether these are the files of a `.keras` archive."""
    return CONFIG in names and (WEIGHTS in names or METADATA in names)


def load(path: str | os.PathLike[str], scale: int = 0) -> Graph:
    """Read a Keras model, or weights of a known network.

    scale: as for `archs.graph_of`. Raises ModelError naming the layer for anything that cannot be read or run.
    """
    try:
        graph = loads(Path(path).read_bytes(), Path(path), scale)
    except ModelError as e:
        text = str(e)
        raise ModelError(text if text.startswith(f"'{os.fspath(path)}'") else f"'{os.fspath(path)}': {text}") from e.__cause__
    graph.meta["source"] = Path(path).name
    return graph


def loads(data: bytes, path: Path = Path("model.h5"), scale: int = 0) -> Graph:
    """`load` for the bytes of a file. path: its name may say how much the network enlarges."""
    if not data:
        raise ModelError("the file is empty: download it again")
    try:
        with np.errstate(all="ignore"):
            return unpacked(data, path, scale) if data.startswith(ZIP) else from_hdf5(data, path, scale)
    except ModelError:
        raise
    except (RecursionError, MemoryError) as e:
        raise ModelError(f"is nested absurdly deep or asks for too much memory: damaged file ({type(e).__name__})") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise ModelError(f"is not what Keras writes: damaged file ({e})") from e


def from_json(text: str | bytes) -> Any:
    """The contents of a config. Raises ModelError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ModelError(f"the model's config is not JSON ({str(e)[:80]}): damaged file") from None


def from_hdf5(data: bytes, path: Path, scale: int) -> Graph:
    """A model, or weights, in an HDF5 file."""
    file = File(data)
    attributes = file.root.attributes()
    store, config = store_of(file), attributes.get("model_config")
    if store is None:
        raise ModelError("is an HDF5 file, but not one that Keras writes: fastsr reads models and weights of Keras")
    if not isinstance(config, str):
        return of_weights(store, path, scale)
    if isinstance(store, Legacy) and "backend" in attributes:
        store.theano = attributes["backend"] == "theano"
    version = attributes.get("keras_version", getattr(store, "attributes", {}).get("keras_version", "1"))
    return of_config(from_json(config), store, str(version), path, len(data), scale)


def unpacked(data: bytes, path: Path, scale: int) -> Graph:
    """A model in a `.keras` archive."""
    archive = Zip(io.BytesIO(data))
    names = archive.members
    if not is_keras(names):
        raise ModelError("is a zip archive without a Keras model: unpack it, and load the model file in it")
    if WEIGHTS not in names:
        raise ModelError(f"has its weights in several files, or none: save it as one file ({WEIGHTS})")
    most = min(MAX_JSON, SPARE_JSON + 16 * len(data))
    for name in (CONFIG, METADATA):
        if name in names and names[name].size > most:
            raise ModelError(f"'{name}' in the archive is absurdly large: damaged file")
    config, weights = archive.read(CONFIG), archive.read(WEIGHTS)
    metadata = archive.read(METADATA) if METADATA in names else b"{}"
    file, spec, versions = File(weights), from_json(config), from_json(metadata)
    store = store_of(file) or Keras3(file.root)
    version = str(versions.get("keras_version", "3")) if isinstance(versions, dict) else "3"
    return of_config(spec, store, version, path, len(data) + len(weights), scale)


def of_weights(store: Legacy | Keras3, path: Path, scale: int) -> Graph:
    """The network that weights without one belong to."""
    tensors = to_torch(store)
    if not tensors:
        raise ModelError("has no weights in it")
    return archs.graph_of(tensors, path, keras=True, scale=scale)


def of_config(spec: Any, store: Legacy | Keras3, version: str, path: Path, size: int, scale: int) -> Graph:
    """The Graph of a model with its config. size: of the file."""
    try:
        net = Reader().net(spec)
    except NetworkMissingError as missing:
        try:
            return of_weights(store, path, scale)
        except ModelError:
            raise missing from None
    ctx = Context(store, budget=8 * size + (64 << 20))
    ctx.keras = int(version[0]) if version[:1].isdigit() else 2
    ctx.layout = layout_of(net) or "NHWC"
    walk = Walk(ctx, net, None, ())
    inputs = make_inputs(ctx, walk)
    outputs = [v for r in walk.run(inputs) for v in flat(r)]
    if not outputs or not isinstance(outputs[0], Picture) or len(outputs[0].layout) != 4:
        raise ModelError("the model's output is not a picture computed from its input")
    pictures = [p for p in outputs if isinstance(p, Picture) and len(p.layout) == 4]
    graph = ctx.graph
    for p in pictures:
        if p.layout.index("H") > p.layout.index("W"):
            raise ModelError("the model's output has its rows and columns exchanged, which is not supported")
        if p.name not in graph.outputs:
            graph.outputs.append(p.name)
    graph.prune()
    same = all(inputs[0].size[a] == pictures[0].size[a] for a in "HW")
    graph.feed = guess_feed(graph, (inputs[0].channels, pictures[0].channels))
    graph.meta |= {"format": f"{NAME} {ctx.keras}", "called": net.name, "same size": same}
    graph.validate()
    return graph


def layout_of(net: Net) -> str:
    """The layout in which the first convolution that is listed works, "" without one."""
    for layer in net.layers.values():
        if layer.net is not None:
            inner = layout_of(layer.net)
            if inner:
                return inner
        elif "data_format" in layer.config or "dim_ordering" in layer.config:
            return str(guarded(None, Node(layer.name, layer.kind, layer.config, [], {}), lambda _, node: node.form))
    return ""


# ---- the walk ----------------------------------------------------------------------------------------------------------------------------------


class Walk:
    """One use of a model: the top one, or one nested in it. path: names of the models around it.

    first: the number of the first call of nested models, which is 1 where Keras 1 and 2 count the call that made them.
    """

    def __init__(self, ctx: Context, net: Net, above: tuple[Walk, tuple[str, int]] | None, path: tuple[str, ...]) -> None:
        self.ctx, self.net, self.above, self.path = ctx, net, above, path
        ctx.count(len(net.layers) if above else 0)
        self.values: dict[tuple[str, int], list[Any]] = {}
        self.readers: dict[tuple[str, int], list[tuple[Layer, int]]] = {}
        everything = [*net.inputs, *net.outputs, *refs_in([[c.args, c.kwargs] for layer in net.layers.values() for c in layer.calls])]
        named = {(r.layer, r.node) for r in everything}
        self.first = {name: int((name, 0) not in named and (name, len(layer.calls)) in named) for name, layer in net.layers.items() if layer.net}
        for layer in net.layers.values():
            for k, call in enumerate(layer.calls):
                for r in refs_in([call.args, call.kwargs]):
                    self.readers.setdefault(self.key(r), []).append((layer, k))

    def key(self, ref: Ref) -> tuple[str, int]:
        """(layer, number of the call) of a tensor. Raises ModelError for one that does not exist."""
        layer = self.net.layers.get(ref.layer)
        if layer is None:
            raise ModelError(f"the model '{self.net.name}' reads '{ref.layer}', which the file does not have: damaged file")
        n, node = max(len(layer.calls), 1), ref.node - self.first.get(ref.layer, 0)
        if not 0 <= node < n:
            raise ModelError(f"the model '{self.net.name}' reads call {ref.node} of '{ref.layer}', which is called {n} times: damaged file")
        return ref.layer, node

    def run(self, inputs: list[Picture]) -> list[Any]:
        """The model's outputs for these inputs."""
        if len(inputs) != len(self.net.inputs):
            raise ModelError(f"the model '{self.net.name}' takes {len(self.net.inputs)} pictures and is given {len(inputs)}: damaged file")
        for ref, picture in zip(self.net.inputs, inputs, strict=True):
            self.values[self.key(ref)] = [picture]
        reads: dict[str, list[str]] = {}
        calls: dict[str, tuple[Layer, int]] = {}
        for layer in self.net.layers.values():
            for k in range(max(len(layer.calls), 1)):
                name = f"{layer.name}\0{k}"
                call = layer.calls[k] if layer.calls else Call([])
                given = (layer.name, k) in self.values
                reads[name] = [] if given else ["\0".join(map(str, self.key(r))) for r in refs_in([call.args, call.kwargs])]
                calls[name] = (layer, k)
        sinks = ["\0".join(map(str, self.key(r))) for r in self.net.outputs]
        if not sinks:
            raise ModelError(f"the model '{self.net.name}' has no output: damaged file")
        for name in running_order(reads, sinks, lambda name: calls[name][0].kind):
            layer, k = calls[name]
            if (layer.name, k) not in self.values:
                self.ctx.count()
                self.values[layer.name, k] = self.result(layer, k)
        return [self.value(r) for r in self.net.outputs]

    def value(self, ref: Ref) -> Any:
        """A tensor that has been computed."""
        found = self.values[self.key(ref)]
        if not 0 <= ref.tensor < len(found):
            raise ModelError(f"reads output {ref.tensor} of '{ref.layer}', which has {len(found)}: damaged file")
        return found[ref.tensor]

    def filled(self, value: Any) -> Any:
        """Arguments with Pictures in place of Refs."""
        if isinstance(value, Ref):
            return self.value(value)
        if isinstance(value, list):
            return [self.filled(v) for v in value]
        return {k: self.filled(v) for k, v in value.items()} if isinstance(value, dict) else value

    def result(self, layer: Layer, k: int) -> list[Any]:
        """The outputs of one call of a layer."""
        if not layer.calls:
            raise ModelError(f"the layer '{layer.name}' ({layer.kind}) is not called, but its result is used: damaged file")
        args, kwargs = self.filled(layer.calls[k].args), self.filled(layer.calls[k].kwargs)
        path = (*self.path, layer.name)
        if layer.net is not None:
            pictures = [p for p in flat([args, kwargs]) if isinstance(p, Picture)]
            return [v for r in Walk(self.ctx, layer.net, (self, (layer.name, k)), path).run(pictures) for v in flat(r)]
        node = Node("/".join(path), layer.kind, layer.config, args, kwargs, layer, path, layer.group)
        node.wanted = lambda: self.wanted((layer.name, k), set())
        value = guarded(self.ctx, node, translate)
        return value if isinstance(value, list) else [value]

    def wanted(self, key: tuple[str, int], seen: set[Any]) -> set[int]:
        """How many channels the layers that read a result need, as their weights tell."""
        if (self, key) in seen or len(seen) > 256:
            return set()
        seen.add((self, key))
        found: set[int] = set()
        for layer, k in self.readers.get(key, []):
            if layer.net is not None:
                inner = Walk(self.ctx, layer.net, (self, (layer.name, k)), (*self.path, layer.name))
                found |= {c for r in layer.net.inputs for c in inner.wanted(inner.key(r), seen)}
                continue
            shapes = self.ctx.shapes((*self.path, layer.name), layer.group)
            need = needed(layer, shapes[0][1]) if shapes else 0
            if need:
                found.add(need)
            elif not shapes and (layer.kind in PASSES_ON or layer.operation):
                found |= self.wanted((layer.name, k), seen)
        if any(self.key(r) == key for r in self.net.outputs):
            found |= self.above[0].wanted(self.above[1], seen) if self.above else self.ctx.channels_in
        return found


def needed(layer: Layer, shape: tuple[int, ...]) -> int:
    """How many channels a layer reads whose first weights have this shape; 0 when they do not tell."""
    if len(shape) == 4:
        old = "nb_filter" in layer.config
        if old and layer.config.get("dim_ordering") == "th":
            return shape[1]
        if "Transpose" in layer.kind and not old:
            return shape[3]
        groups = layer.config.get("groups", 1)
        return shape[2] * groups if type(groups) is int else 0
    return shape[0] if len(shape) in (1, 2) else max(shape, default=0)


def translate(ctx: Context, node: Node) -> Any:
    """The value, or list of values, of one call of a layer."""
    assert node.layer is not None
    if node.layer.operation:
        return keras_ops.operation(ctx, node)
    handler = LAYERS.get(node.op)
    if handler is None:
        raise ModelError(
            f"the class '{node.op}' is not a layer that fastsr knows: if it is the project's own, its code is not in the file; "
            "export the network to ONNX or a frozen .pb"
        )
    return handler(ctx, node)


# ---- inputs ------------------------------------------------------------------------------------------------------------------------------------


def make_inputs(ctx: Context, walk: Walk) -> list[Picture]:
    """The graph's inputs."""
    if not 1 <= len(walk.net.inputs) <= MAX_INPUTS:
        raise ModelError(f"the model has {len(walk.net.inputs)} inputs: damaged file, or not a network that takes a picture")
    pictures = []
    for ref in walk.net.inputs:
        key = walk.key(ref)
        layer = walk.net.layers[ref.layer]
        node = Node(layer.name, layer.kind, layer.config, [], {}, layer)
        pictures.append(guarded(ctx, node, lambda c, n, key=key: make_input(c, n, walk.wanted(key, set()))))
    return pictures


def make_input(ctx: Context, node: Node, wanted: set[int]) -> Picture:
    """The picture that an InputLayer takes. wanted: the channels that its readers need."""
    shape = node.setting("batch_input_shape", "batch_shape")
    if isinstance(shape, dict):
        shape = next(iter(shape.values()), None)
    if not isinstance(shape, list):
        shape = [None] * 4
    if len(shape) != 4 or not all(n is None or (type(n) is int and 0 < n <= 65536) for n in shape):
        raise ModelError(f"takes an array of shape {str(shape)[:80]}, not a picture: only networks of pictures can be run")
    by = dict(zip(ctx.layout, shape, strict=True))
    channels = by["C"] or (next(iter(wanted)) if len(wanted) == 1 else 0)
    if not channels:
        raise ModelError("does not say how many channels its picture has")
    ctx.channels_in = {channels} if not ctx.graph.inputs else ctx.channels_in
    name = ctx.fresh(node.name)
    ctx.graph.inputs.append(Input(name, channels))
    size = {a: symbol(f"{name}:{a}") for a in "NHW"} | {"C": channels} | {a: by[a] for a in "HW" if by[a]}
    return Picture(name, ctx.layout, size)
