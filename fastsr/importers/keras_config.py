"""Keras' model configs: Sequential and functional models of Keras 1, 2 and 3, nested ones too, as layers and the calls that join them.

The configs say the same in different words. Keras 1 and 2: `inbound_nodes` is a list of calls, each a list of [layer, call, output] or
[layer, call, output, arguments]. Keras 3: {"args": ..., "kwargs": ...} with tensors spelled {"class_name": "__keras_tensor__"}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError

MAX_NESTING = 16
MAX_LAYERS = 16384
MODELS = ("Sequential", "Functional", "Model", "Container", "Network", "Graph")
DAMAGED = "damaged file"


class NetworkMissingError(ModelError):
    """A model whose config does not say which layers it has."""


@dataclass(frozen=True)
class Ref:
    """Output `tensor` of call number `node` of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass
class Call:
    """One use of a layer; Refs stand for tensors, anywhere among the arguments."""

    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Layer:
    """A layer. kind: its class. group: where Keras 3's weight files keep its arrays. net: the model that it is, if it is one."""

    name: str
    kind: str
    config: dict[str, Any]
    calls: list[Call]
    group: str
    net: Net | None = None
    operation: bool = False
    """An operation of Keras 3 (`keras.ops`), not a layer."""


@dataclass
class Net:
    """A model: layers by name, the tensors it takes and gives. `shape`: of what a Sequential takes, where the config says it."""

    name: str
    layers: dict[str, Layer]
    inputs: list[Ref]
    outputs: list[Ref]
    shape: Any = None


class Reader:
    """Reads one file's config; counts layers over all nested models."""

    def __init__(self) -> None:
        self.count = 0

    def net(self, spec: Any, group: str = "", depth: int = 0) -> Net:
        """The model of a config {"class_name": ..., "config": ...}. Raises ModelError."""
        if depth > MAX_NESTING:
            raise ModelError(f"the model is nested more than {MAX_NESTING} deep: {DAMAGED}")
        if not isinstance(spec, dict):
            raise ModelError(f"the model's config is not what Keras writes: {DAMAGED}")
        kind, config = class_name(spec), spec.get("config")
        name = str(config.get("name", kind)) if isinstance(config, dict) else kind
        listed = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
        if not isinstance(listed, list) or not all(isinstance(c, dict) for c in listed):
            raise NetworkMissingError(
                f"the model is of the class '{kind}', whose network is code that is not in the file: save a functional model, or export it to ONNX"
            )
        self.count += len(listed)
        if self.count > MAX_LAYERS:
            raise ModelError(f"the model has more than {MAX_LAYERS} layers: {DAMAGED}")
        if not listed:
            raise ModelError(f"the model '{name}' has no layers")
        layers = self.layers(listed, group, depth, sequential=kind == "Sequential")
        if kind == "Sequential":
            return sequential(name, layers, listed, config)
        if not isinstance(config, dict):
            raise ModelError(f"the model's config is not what Keras writes: {DAMAGED}")
        names = {layer.name for layer in layers}
        for layer, c in zip(layers, listed, strict=True):
            layer.calls = [call(n, names) for n in as_list(c.get("inbound_nodes"))]
        return Net(name, {layer.name: layer for layer in layers}, refs(config.get("input_layers")), refs(config.get("output_layers")))

    def layers(self, listed: list[Any], group: str, depth: int, sequential: bool) -> list[Layer]:
        """The layers of one model, without their calls."""
        found: list[Layer] = []
        used: dict[str, int] = {}
        names: set[str] = set()
        for c in listed:
            kind, config = class_name(c), c.get("config")
            if kind in ("TimeDistributed", "Bidirectional", "Wrapper"):
                raise ModelError(f"layer '{c.get('name')}' ({kind}) is not supported")
            name = c.get("name") or (config.get("name") if isinstance(config, dict) else None) or f"layer_{len(found)}"
            if not isinstance(name, str) or name in names or re.search("[\ud800-\udfff]", name):
                raise ModelError(f"two layers are called '{name}', or a name is not text: {DAMAGED}")
            names.add(name)
            operation = is_operation(c, config)
            short = snake_case(kind)
            if not operation and not (sequential and kind == "InputLayer"):
                used[short] = used.get(short, -1) + 1
                short = f"{short}_{used[short]}" if used[short] else short
            path = f"{group}layers/{short}"
            nested = kind in MODELS or (isinstance(config, dict) and isinstance(config.get("layers"), list) and kind not in ("Merge",))
            net = self.net(c, f"{path}/", depth + 1) if nested else None
            found.append(Layer(name, kind, config if isinstance(config, dict) else {}, [], path, net, operation))
        return found


def is_operation(spec: dict[str, Any], config: Any) -> bool:
    """Whether a layer is an operation of Keras 3. Its `.h5` files do not say the module, but operations have no `trainable`."""
    if "module" in spec:
        return re.match(r"keras\.(src\.)?ops\b", str(spec["module"])) is not None
    nodes = spec.get("inbound_nodes")
    return isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], dict) and isinstance(config, dict) and "trainable" not in config


def class_name(spec: dict[str, Any]) -> str:
    """The class in a config, without the package that it is registered under and without TensorFlow's version of it."""
    name = spec.get("class_name")
    if not isinstance(name, str) or not name:
        raise ModelError(f"a layer without a class: {DAMAGED}")
    return re.sub(r"(?<=[a-z])V[12]$", "", name.rpartition(">")[2])


def snake_case(name: str) -> str:
    """Keras' own spelling of a class in names."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def as_list(value: Any) -> list[Any]:
    """A list, or nothing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ModelError(f"a list is expected where the config has {type(value).__name__}: {DAMAGED}")
    return value


def sequential(name: str, layers: list[Layer], listed: list[Any], config: Any) -> Net:
    """A chain of layers as a functional model."""
    shape = config.get("build_input_shape") if isinstance(config, dict) else None
    chain = []
    for layer, c in zip(layers, listed, strict=True):
        if layer.kind == "InputLayer":
            shape = layer.config.get("batch_input_shape", layer.config.get("batch_shape", shape))
        else:
            chain.append(layer)
            if len(chain) == 1:
                built = c.get("build_config")
                shape = layer.config.get("batch_input_shape", layer.config.get("batch_shape", shape))
                shape = shape or (built.get("input_shape") if isinstance(built, dict) else None)
    if not chain:
        raise ModelError(f"the model '{name}' has no layers but its input")
    source = "input"
    while any(layer.name == source for layer in chain):
        source += "_"
    first = Layer(source, "InputLayer", {"batch_shape": shape}, [], "")
    last = source
    for layer in chain:
        layer.calls = [Call([Ref(last, 0, 0)])]
        last = layer.name
    return Net(name, {layer.name: layer for layer in [first, *chain]}, [Ref(source, 0, 0)], [Ref(last, 0, 0)], shape)


# ---- calls -------------------------------------------------------------------------------------------------------------------------------------


def is_ref(value: Any, names: set[str] | None = None) -> bool:
    """Whether a list of a config is a tensor: [layer, call, output] or with arguments behind."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value[1:3])
        and (names is None or value[0] in names)
    )


def ref(value: Any) -> Ref:
    """The tensor that a list names."""
    return Ref(value[0], int(value[1]), int(value[2]))


def refs(value: Any) -> list[Ref]:
    """All tensors in `input_layers` or `output_layers`."""
    if is_ref(value):
        return [ref(value)]
    if isinstance(value, dict):
        value = list(value.values())
    return [r for v in as_list(value) for r in (refs(v) if isinstance(v, (list, dict)) else [])]


def call(node: Any, names: set[str]) -> Call:
    """One entry of `inbound_nodes`."""
    if isinstance(node, dict):
        if not isinstance(node.get("args", []), list) or not isinstance(node.get("kwargs", {}), dict):
            raise ModelError(f"the arguments of a layer are not what Keras writes: {DAMAGED}")
        return Call(convert(node.get("args", []), names), convert(node.get("kwargs", {}), names))
    if not isinstance(node, list):
        raise ModelError(f"the inputs of a layer are not what Keras writes: {DAMAGED}")
    items = [node] if node and isinstance(node[0], str) else node
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, list) or len(item) < 3 or not isinstance(item[0], str):
            raise ModelError(f"the inputs of a layer are not what Keras writes: {DAMAGED}")
        if len(item) > 3 and isinstance(item[3], dict):
            kwargs.update(convert(item[3], names))
        if item[0] == "_CONSTANT_VALUE":
            args.append(item[2])
        elif is_ref(item[:3], names):
            args.append(ref(item))
        else:
            raise ModelError(f"a layer reads '{item[0]}', which the file does not have: {DAMAGED}")
    return Call(args if len(args) == 1 else [args], kwargs)


def convert(value: Any, names: set[str]) -> Any:
    """Arguments with Refs in place of tensors."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            config = value.get("config")
            history = config.get("keras_history") if isinstance(config, dict) else None
            if not is_ref(history, names):
                raise ModelError(f"a layer reads {history}, which the file does not have: {DAMAGED}")
            return ref(history)
        return {k: convert(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return ref(value) if is_ref(value, names) and len(value) == 3 else [convert(v, names) for v in value]
    return value


def refs_in(value: Any) -> list[Ref]:
    """All tensors among arguments, in order."""
    found: list[Ref] = []
    stack = [value]
    while stack:
        v = stack.pop()
        if isinstance(v, Ref):
            found.append(v)
        elif isinstance(v, dict):
            stack += list(v.values())[::-1]
        elif isinstance(v, list):
            stack += v[::-1]
    return found
