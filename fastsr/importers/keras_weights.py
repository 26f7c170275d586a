"""The weights in Keras' HDF5 files: of one layer, by name or by place; and of a file without a network, as PyTorch would name and lay them out.

Three layouts exist. Keras 1 and 2: a group for each layer, named in the attribute `layer_names`, whose attribute `weight_names` lists the arrays.
Keras 0.x: `layer_0/param_0`. Keras 3 (`.weights.h5`, and `model.weights.h5` in a `.keras` archive): `layers/conv2d_1/vars/0`, where the layer is
called by its class and its number among those of that class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ModelError
from .hdf5 import File, Object

MAX_LAYERS = 65536
MAX_CHUNKS = 4096
KERAS1 = re.compile(r"(.*)_(W|b|gamma|beta|running_mean|running_std|alphas|depthwise_kernel|pointwise_kernel)")
CANONICAL = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance", "alphas": "alpha"}


@dataclass
class Entry:
    """One array. owner: the layer its name speaks of, "" when it names none. kind: "kernel", "bias", "gamma", ...; a number in Keras 3's files."""

    owner: str
    kind: str
    array: Object
    old: bool = False
    """Named as Keras 1 does."""


def texts(value: Any) -> list[str]:
    """An attribute that is a list of names."""
    return [value] if isinstance(value, str) else [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def name_list(attributes: dict[str, Any], name: str) -> list[str] | None:
    """The names in an attribute, which Keras cuts into name0, name1, ... when it is long; None when it is absent."""
    if name in attributes:
        return texts(attributes[name])
    found: list[str] = []
    for k in range(MAX_CHUNKS):
        if f"{name}{k}" not in attributes:
            return found if k else None
        found += texts(attributes[f"{name}{k}"])
    return found


def plain(entry: Entry) -> np.ndarray:
    """The array of an entry as float32. Raises ModelError for numbers that are infinite or undefined."""
    data = entry.array.read()
    if data.dtype.kind not in "fiu":
        raise ModelError(f"has weights of type {data.dtype}")
    with np.errstate(all="ignore"):
        data = data.astype(np.float32, copy=False)
    if not np.isfinite(data).all():
        raise ModelError("has weights that are infinite or undefined (NaN) numbers: damaged file, or training failed")
    return data


def entries(group: Object, names: list[str]) -> list[Entry]:
    """The arrays of a layer's group."""
    found = []
    for full in names:
        array = group.get(full)
        if array is None or not array.is_dataset:
            raise ModelError(f"the weights '{full}' are missing from the file: damaged")
        path = full.partition(":")[0].split("/")
        kind, owner = path[-1], path[-2] if len(path) > 1 else ""
        old = KERAS1.fullmatch(kind) if len(path) == 1 else None
        if old:
            owner, kind = old[1], old[2]
        found.append(Entry(owner, CANONICAL.get(kind, kind), array, old is not None))
    return found


class Legacy:
    """Weights as Keras 1 and 2 write them, and Keras 3 into `.h5`."""

    def __init__(self, root: Object) -> None:
        self.attributes = root.attributes()
        self.groups: dict[str, list[Entry]] = {}
        self.owned: dict[str, dict[str, list[Entry]]] = {}
        layers = name_list(self.attributes, "layer_names")
        if layers is None:
            layers = [n for n in sorted(root.names(), key=natural) if re.fullmatch(r"layer_\d+", n)]
        if len(layers) > MAX_LAYERS:
            raise ModelError(f"has {len(layers)} layers: damaged file")
        self.theano = self.attributes.get("backend") == "theano"
        first_names: list[str] = []
        for layer in layers:
            group = root.get(layer)
            if group is None:
                raise ModelError(f"the layer '{layer}' is missing from the file: damaged")
            names = name_list(group.attributes(), "weight_names")
            if names is None:
                names = sorted((n for n in group.names() if re.fullmatch(r"param_\d+", n)), key=natural)
            first_names += names[:1]
            self.groups[layer] = entries(group, names)
        if "backend" not in self.attributes and any(e.old for g in self.groups.values() for e in g):
            self.theano = not any(":" in n for n in first_names)

    def of(self, path: tuple[str, ...], group: str) -> list[Entry]:
        """The arrays of the layer at a path of names, the outermost model's layer first."""
        found = self.groups.get(path[0])
        if found is None:
            return []
        if len(path) == 1:
            return found
        if path[0] not in self.owned:
            parts = self.owned[path[0]] = {}
            for e in found:
                parts.setdefault(e.owner, []).append(e)
        return self.owned[path[0]].get(path[-1], [])

    def all(self) -> Iterator[tuple[str, list[Entry]]]:
        """(layer, its arrays) in the file's order; layers of nested models come one by one."""
        for layer, found in self.groups.items():
            owners = list(dict.fromkeys(e.owner for e in found))
            if len(owners) <= 1:
                yield layer, found
                continue
            for owner in owners:
                yield f"{layer}.{owner}", [e for e in found if e.owner == owner]


class Keras3:
    """Weights as Keras 3, and Keras 2 from 2.12 on, write them into `.weights.h5`."""

    theano = False

    def __init__(self, root: Object) -> None:
        self.root = root

    def of(self, path: tuple[str, ...], group: str) -> list[Entry]:
        """The arrays of the layer whose group is at `group`, as "layers/model/layers/conv2d"."""
        at = self.root.get(f"{group}/vars") or self.root.get(f"{group.replace('layers/', '_layer_checkpoint_dependencies/')}/vars")
        return numbered(at) if at else []

    def all(self) -> Iterator[tuple[str, list[Entry]]]:
        """(layer, its arrays) in the order in which they were written, which is that of the layers."""
        found: list[tuple[int, str, list[Entry]]] = []
        waiting, seen = [("", self.root)], set()
        while waiting:
            path, group = waiting.pop()
            if group.address in seen:
                raise ModelError("has groups that hold themselves: damaged file")
            seen.add(group.address)
            for name in group.names():
                below = group.get(name)
                if below is None or below.is_dataset or name in ("optimizer", "seed_generator"):
                    continue
                if name != "vars":
                    waiting.append((path if name in ("layers", "_layer_checkpoint_dependencies") else f"{path}.{name}".strip("."), below))
                elif below.names() and path:
                    found.append((min(below.links.values()), path, numbered(below)))
                if len(found) + len(waiting) > MAX_LAYERS:
                    raise ModelError("has too many layers: damaged file")
        for _, path, arrays in sorted(found, key=lambda f: f[:2]):
            yield path, arrays


def numbered(group: Object) -> list[Entry]:
    """The arrays of a `vars` group."""
    arrays = [(name, group.get(name)) for name in sorted(group.names(), key=natural)]
    return [Entry("", name, array) for name, array in arrays if array is not None and array.is_dataset]


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts "conv2d_10" behind "conv2d_9"."""
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 10 else 0 for part in re.findall(r"\d+|\D+", name)), name


def store_of(file: File) -> Legacy | Keras3 | None:
    """The weights in a file, None when it has none of the known layouts."""
    root = file.root.get("model_weights") or file.root
    attributes = root.attributes()
    if name_list(attributes, "layer_names") is not None or "nb_layers" in attributes:
        return Legacy(root)
    if any(name in root.links for name in ("layers", "_layer_checkpoint_dependencies", "vars")):
        return Keras3(root)
    return None


def chosen(found: list[Entry], wanted: list[str]) -> list[np.ndarray]:
    """The arrays of a layer in the order `wanted`, by their names where these say what they are, else by place. Raises ModelError."""
    by_kind = {e.kind: e for e in found}
    if all(w in by_kind for w in wanted) and len(by_kind) == len(found):
        return [plain(by_kind[w]) for w in wanted]
    if len(found) != len(wanted):
        has = ", ".join(f"'{e.kind}'" for e in found[:8]) or "none"
        raise ModelError(f"needs the weights {', '.join(wanted) or '(none)'}, and the file has {has}: damaged file, or not a layer of Keras itself")
    return [plain(e) for e in found]


# ---- files without a network -------------------------------------------------------------------------------------------------------------------


def to_torch(store: Legacy | Keras3) -> dict[str, np.ndarray]:
    """All weights by PyTorch's names ("LAYER.weight", ".bias", ".running_mean", ".running_var") and in its layouts, in the order of the layers.

    Convolutions become (O, I, kh, kw), transposed ones (I, O, kh, kw), Dense (O, I), depthwise (C * multiplier, 1, kh, kw), PReLU (C,).
    """
    out: dict[str, np.ndarray] = {}
    layers = [(layer, found) for layer, found in store.all() if found]
    old = any(e.old or e.kind == "param_0" for _, found in layers for e in found)
    th = old and sum(order_of(found) for _, found in layers) < 0
    for layer, found in layers:
        for name, array in torch_layer(layer, found, th, old, store.theano):
            key = f"{layer}.{name}"
            if key in out:
                raise ModelError(f"two arrays are the {name} of layer '{layer}': damaged file")
            out[key] = array
    return out


def order_of(found: list[Entry]) -> int:
    """1 for a kernel (kh, kw, I, O), -1 for (O, I, kh, kw), 0 where the shapes do not tell; `found` is a layer's kernel and bias."""
    shapes = [e.array.shape() for e in found]
    if not shapes or len(shapes[0]) != 4:
        return 0
    first, last = shapes[0][0], shapes[0][3]
    if len(shapes) > 1 and len(shapes[1]) == 1 and first != last:
        return 1 if shapes[1][0] == last else -1 if shapes[1][0] == first else 0
    return 0


def torch_layer(layer: str, found: list[Entry], th: bool, old: bool, flip: bool) -> list[tuple[str, np.ndarray]]:
    """(name below the layer's, array) of all weights of one layer.

    th: kernels are (O, I, kh, kw). old: Keras 1, whose transposed kernels are not. flip: Theano's kernels, mirrored.
    """
    arrays = [plain(e) for e in found]
    kinds = [e.kind for e in found]
    shapes = [a.shape for a in arrays]
    if len(arrays) == 4 and all(len(s) == 1 for s in shapes) and len(set(shapes)) == 1 and "kernel" not in kinds:
        return list(zip(("weight", "bias", "running_mean", "running_var"), arrays, strict=True))
    if len(arrays) in (2, 3) and kinds[-1] == "moving_variance":
        missing = [] if len(arrays) == 3 else [("bias", np.zeros_like(arrays[0]))]
        if "gamma" not in kinds:
            missing.append(("weight", np.ones_like(arrays[0])))
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        return [*missing[len(missing) - (4 - len(arrays)) :], *((names.get(k, k), a) for k, a in zip(kinds, arrays, strict=True))]
    if len(arrays) >= 2 and len(shapes[0]) == len(shapes[1]) == 4 and shapes[1][:2] == (1, 1):
        separated = [("depthwise.weight", depthwise(arrays[0])), ("pointwise.weight", arrays[1].transpose(3, 2, 0, 1))]
        return [*separated, *(("pointwise.bias", a) for a in arrays[2:])]
    named = []
    for kind, a in zip(kinds, arrays, strict=True):
        if a.ndim == 4:
            transposed = re.search("transpose|deconv", layer, re.IGNORECASE) is not None
            if kind == "depthwise_kernel" or "depthwise" in layer.lower():
                a = depthwise(a)
            elif th:
                a = a.transpose(1, 0, 2, 3) if transposed else a
            else:
                a = a.transpose(2, 3, 0, 1) if transposed and old else a.transpose(3, 2, 0, 1)
            named.append(("weight", a[:, :, ::-1, ::-1] if flip else a))
        elif a.ndim == 2:
            named.append(("weight", a.T))
        elif a.ndim == 3 or kind == "alpha":
            named.append(("weight", a.reshape(-1) if a.size == max(a.shape) else a))
        elif kind == "bias" or a.ndim == 1:
            named.append(("bias" if any(n == "weight" for n, _ in named) or kind in ("bias", "beta") else "weight", a))
        else:
            named.append((kind, a))
    return [(name, np.ascontiguousarray(a)) for name, a in named]


def depthwise(kernel: np.ndarray) -> np.ndarray:
    """(kh, kw, C, multiplier) as (C * multiplier, 1, kh, kw)."""
    kh, kw, c, m = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(c * m, 1, kh, kw)
