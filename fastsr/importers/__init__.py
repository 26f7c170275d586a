"""Model files to graphs: the table of formats, and what is said about files that are none of them.

A format is a module with NAME, SUFFIXES, `probe(head, path) -> bool` (is this file mine, judged by its first bytes) and `load(path) -> Graph`.
Files are recognised by content first, in table order, and by suffix only when no format claims the content.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import ModuleType

from ..errors import ModelError
from ..graph import Graph
from . import keras, ncnn, npz, onnx, pytorch, safetensors, tensorflow, tflite
from .enlarged import set_pre_scale

FORMATS: tuple[ModuleType, ...] = (safetensors, keras, pytorch, npz, tensorflow, tflite, onnx, ncnn)

HEAD_BYTES = 4096
MAX_BYTES = (1 << 31) - 1
READS = (
    "fastsr reads TensorFlow (.pb, .tflite), ONNX (.onnx), PyTorch (.pth, .pt, .ckpt, .safetensors), Keras (.h5, .keras), ncnn (.param with .bin) "
    "and .fsr"
)


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a model file into a `Graph`.

    Raises FileNotFoundError, IsADirectoryError (a SavedModel folder, for one), and ModelError when the file is empty, damaged, of a format that
    fastsr does not read, or a network with an unsupported operator; the message says which and what to do.
    """
    path = Path(path)
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
            return _loaded(reader, path)
    looks = looks_like(head)
    if looks:
        raise ModelError(f"'{path}': this looks like {looks}; {READS}")
    for reader in FORMATS:
        if path.suffix.lower() in reader.SUFFIXES:
            return _loaded(reader, path)
    raise ModelError(f"'{path}': not a model file that fastsr knows; {READS}")


def _loaded(reader: ModuleType, path: Path) -> Graph:
    graph: Graph = reader.load(path)
    if graph.meta.get("format") != "weights" and not graph.meta.pop("fed as said", False):
        set_pre_scale(graph, path)
    return graph


MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89FSR\r\n\x1a\n", "an .fsr file, which fastsr.load opens"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture, not a model"),
    (b"\xff\xd8\xff", "a JPEG picture, not a model"),
    (b"GIF8", "a GIF picture, not a model"),
    (b"BM", "a BMP picture, not a model"),
    (b"RIFF", "a RIFF file (WebP, AVI), not a model"),
    (b"version https://git-lfs", "a git-lfs pointer, not the model itself: run 'git lfs pull' or download the file"),
    (b"PK\x03\x04", "a zip archive without a model that fastsr knows: unpack it and give the model file that is inside"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive: unpack it first"),
    (b"%PDF", "a PDF document, not a model"),
)


def looks_like(head: bytes) -> str:
    """What a file that starts with `head` probably is, in words; "" when nothing is recognised."""
    if not head:
        return "an empty file (0 bytes): download the model again"
    for magic, what in MAGIC:
        if head.startswith(magic):
            return what
    if head[4:7] == b"TFL" and head[7:8].isdigit():
        return "a TensorFlow Lite model of another version of the format: convert it again"
    if head[4:8] == b"ORTM":
        return "a model in ONNX Runtime's own format (.ort): give the .onnx file that it was made from"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"(?i)<(!doctype|html|head|body|\?xml|script)", text):
        return "an HTML or XML page, not a model: probably a web page was saved in place of the download (use the 'raw' link)"
    if re.match(rb"(node|versions|library)\s*:?\s*\{", text):
        return "a TensorFlow graph in text form (.pbtxt): write it in binary form with tf.io.write_graph(..., as_text=False)"
    if re.match(rb"(layer|name|input)\s*:?\s*[{\"]", text):
        return "a Caffe .prototxt"
    if re.match(rb"\x08\x01\x12", head) and (b"serve" in head or b"MetaGraph" in head or b"\x0a" in head[3:10]):
        return "a TensorFlow SavedModel (saved_model.pb): its weights lie in other files, freeze it to one .pb first"
    if not head.strip(b"\x00"):
        return "a file of zeros: the download was not finished"
    return ""
