"""Model files to graphs: the table of formats.

A format is a module with NAME, SUFFIXES, `probe(head, path) -> bool` (is this file mine, judged by its first bytes) and `load(path) -> Graph`.
Files are recognised by content first, in table order, and by suffix only when no format claims the content.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType

from ..errors import ModelError
from ..graph import Graph
from . import keras, ncnn, npz, onnx, pytorch, safetensors, tensorflow, tflite
from .looks import looks_like
from .tried import settle

__all__ = ["FORMATS", "load_graph", "looks_like"]

FORMATS: tuple[ModuleType, ...] = (safetensors, keras, pytorch, npz, tensorflow, tflite, onnx, ncnn)
OF_WEIGHTS = (safetensors, keras, pytorch, npz)
"""Formats of weights without a network, whose `load` takes the scale that is asked for too."""
MAX_SCALE = 16

HEAD_BYTES = 4096
MAX_BYTES = (1 << 31) - 1
READS = (
    "fastsr reads TensorFlow (.pb, .tflite), ONNX (.onnx), PyTorch (.pth, .pt, .ckpt, .safetensors), Keras (.h5, .keras), ncnn (.param with .bin) "
    "and .fsr"
)


def load_graph(path: str | os.PathLike[str], scale: float | None = None) -> Graph:
    """Read a model file into a `Graph`.

    scale: which of the scales of a network whose weights are for several is meant; other files have one, which this does not change.

    Raises FileNotFoundError, IsADirectoryError (a SavedModel folder, for one), and ModelError when the file is empty, damaged, of a format that
    fastsr does not read, or a network with an unsupported operator; the message says which and what to do.
    """
    path = Path(path)
    wanted = next((n for n in range(2, MAX_SCALE + 1) if n == scale), 0)
    if path.is_dir():
        saved = (path / "saved_model.pb").exists()
        hint = "it is a TensorFlow SavedModel folder: freeze it to one .pb file" if saved else "give the model file itself"
        raise IsADirectoryError(errno.EISDIR, f"a model is one file, but this is a folder; {hint}", os.fspath(path))
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no such model file", os.fspath(path))
    if not path.is_file():
        raise ModelError(f"'{path}': a model must be an ordinary file")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"'{path}': larger than 2 GiB, which no super-resolution network is: of a checkpoint, save the network's weights alone")
    with open(path, "rb") as f:
        head = f.read(HEAD_BYTES)
    for reader in FORMATS:
        if reader.probe(head, path):
            return _loaded(reader, path, wanted)
    looks = looks_like(head)
    if looks:
        raise ModelError(f"'{path}': this looks like {looks}; {READS}")
    for reader in FORMATS:
        if path.suffix.lower() in reader.SUFFIXES:
            return _loaded(reader, path, wanted)
    raise ModelError(f"'{path}': not a model file that fastsr knows; {READS}")


def _loaded(reader: ModuleType, path: Path, scale: int) -> Graph:
    graph: Graph = reader.load(path, scale) if reader in OF_WEIGHTS else reader.load(path)
    if graph.meta.get("format") != "weights" and not graph.meta.pop("fed as said", False):
        settle(graph, path)
    graph.meta.pop("open", None)
    return graph
