"""Keras files written with h5py alone, in the layouts of Keras 1, 2 and 3, for the tests of the importer."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import h5py
import numpy as np

RNG = np.random.default_rng(5)
Weights = dict[str, list[tuple[str, np.ndarray]]]
"""Layer -> (name, array) of its weights."""


def random(*shape: int) -> np.ndarray:
    """Numbers around zero."""
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def conv(name: str, kh: int, c: int, k: int, **settings: Any) -> tuple[dict[str, Any], list[tuple[str, np.ndarray]]]:
    """A Conv2D of Keras 2: its config and its weights."""
    config = {"name": name, "filters": k, "kernel_size": [kh, kh], "padding": "same", "activation": "linear", "use_bias": True, **settings}
    return layer("Conv2D", **config), [(f"{name}/kernel:0", random(kh, kh, c, k)), (f"{name}/bias:0", random(k))]


def layer(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    """The config of a layer that reads nothing yet."""
    return {"class_name": kind, "config": {"name": name, "trainable": True, **settings}, "name": name, "inbound_nodes": []}


def reading(spec: dict[str, Any], *sources: str, **kwargs: Any) -> dict[str, Any]:
    """The layer with the layers that it reads, as Keras 2 says it."""
    return {**spec, "inbound_nodes": [[[s, 0, 0, kwargs] for s in sources]]}


def reading3(spec: dict[str, Any], *sources: str, listed: bool = False) -> dict[str, Any]:
    """The same as Keras 3 says it."""
    tensors = [{"class_name": "__keras_tensor__", "config": {"shape": [None] * 4, "dtype": "float32", "keras_history": [s, 0, 0]}} for s in sources]
    return {**spec, "module": "keras.layers", "registered_name": None, "inbound_nodes": [{"args": [tensors] if listed else tensors, "kwargs": {}}]}


def source(channels: int | None = 3, name: str = "x", **settings: Any) -> dict[str, Any]:
    """An InputLayer of Keras 2."""
    return layer("InputLayer", name, **{"batch_input_shape": [None, None, None, channels], **settings})


def functional(*layers: dict[str, Any], inputs: Any = None, outputs: Any = None) -> dict[str, Any]:
    """A functional model from the first layer to the last."""
    first, last = layers[0]["name"], layers[-1]["name"]
    config = {"name": "net", "layers": list(layers), "input_layers": inputs or [[first, 0, 0]], "output_layers": outputs or [[last, 0, 0]]}
    return {"class_name": "Functional", "config": config}


def chain(*layers: dict[str, Any], channels: int | None = 3) -> dict[str, Any]:
    """A functional model of layers that read one another in turn."""
    names = ["x", *(spec["name"] for spec in layers)]
    return functional(source(channels), *(reading(spec, before) for spec, before in zip(layers, names[:-1], strict=True)))


def write(group: Any, weights: Weights, **attributes: Any) -> None:
    """Weights as Keras 1 and 2 write them."""
    group.attrs["layer_names"] = np.array([n.encode() for n in weights])
    for name, value in attributes.items():
        group.attrs[name] = value
    for name, arrays in weights.items():
        at = group.create_group(name)
        at.attrs["weight_names"] = np.array([n.encode() for n, _ in arrays]) if arrays else np.zeros(0)
        for n, array in arrays:
            at.create_dataset(n, data=array)


def model_h5(config: Any, weights: Weights, version: str = "2.4.0", backend: str = "tensorflow") -> bytes:
    """A full model in HDF5."""
    data = io.BytesIO()
    with h5py.File(data, "w") as f:
        f.attrs["model_config"] = config if isinstance(config, (str, bytes)) else json.dumps(config)
        f.attrs["keras_version"] = version
        if backend:
            f.attrs["backend"] = backend
        write(f.create_group("model_weights"), weights)
    return data.getvalue()


def weights_h5(weights: Weights, **attributes: Any) -> bytes:
    """Weights without a network, as Keras 1 and 2 write them."""
    data = io.BytesIO()
    with h5py.File(data, "w") as f:
        write(f, weights, **attributes)
    return data.getvalue()


def weights3_h5(arrays: dict[str, list[np.ndarray]], root: str = "layers") -> bytes:
    """Weights as Keras 3 writes them, by the layer's path below `layers`."""
    data = io.BytesIO()
    with h5py.File(data, "w") as f:
        for name, listed in arrays.items():
            at = f.create_group(f"{root}/{name}/vars")
            for k, array in enumerate(listed):
                at[str(k)] = array
    return data.getvalue()


def archive(config: Any, weights: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A `.keras` archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as z:
        z.writestr("metadata.json", json.dumps({"keras_version": "3.4.1", "date_saved": "2025-01-01@00:00:00"}))
        z.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        z.writestr("model.weights.h5", weights)
    return data.getvalue()


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What Keras' Conv2D computes with padding "same": x (H, W, C), odd kernel (kh, kw, C, K) -> (H, W, K)."""
    kh, kw = kernel.shape[:2]
    padded = np.pad(x.astype(np.float64), ((kh // 2,) * 2, (kw // 2,) * 2, (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[3]))
    for i in range(kh):
        for j in range(kw):
            out += padded[i : i + x.shape[0], j : j + x.shape[1]] @ kernel[i, j]
    return out + bias
