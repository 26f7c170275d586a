"""Files that are no frozen graph, or a damaged one: each gets an error that says what it is and what to do."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from limits import slowness
from tensorflow_damage import DAMAGE, small
from tensorflow_graphs import Frozen

from fastsr.errors import ModelError
from fastsr.importers import FORMATS, load_graph
from fastsr.importers.tensorflow import probe
from fastsr.importers.tensorflow_schema import messages

# ---- what a file is ----------------------------------------------------------------------------------------------------------------------------


def zipped(member: str = "notes.txt") -> bytes:
    """A small zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(member, b"x")
    return out.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "html": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML"),
    "html_lower": (b"\n\n  <html lang=en>", "HTML"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(40), "JPEG"),
    "zip": (zipped(), "zip"),
    "torch zip": (zipped("archive/data.pkl"), "pickle"),
    "pickle": (pickle.dumps({"a": 1}, protocol=2), "no named weights"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x051.9.0:\x10" + bytes(20), "ONNX"),
    "saved_model": (b"\x08\x01\x12\xf5\x4d\x0a\xf2\x01\x12\x07serve" + bytes(20), "SavedModel"),
    "ncnn": (b"7767517\n3 3\nInput data 0 1 data\n", "ncnn"),
    "tflite": (b"\x1c\x00\x00\x00TFL2" + bytes(40), "Lite"),
    "safetensors": ((60).to_bytes(8, "little") + b'{"__metadata__":{"format":"pt"}}', "header"),
    "gzip": (gzip.compress(b"x"), "unpack"),
    "pbtxt": (b'node {\n  name: "x"\n  op: "Placeholder"\n}\n', "text form"),
    "fsr": (b"\x89FSR\r\n\x1a\n" + bytes(60), "fastsr.load"),
    "zeros": (bytes(4096), "zeros"),
    "random": (np.random.default_rng(0).bytes(4096), "not a TensorFlow graph|not a model file|not a file of torch"),
    "text": (b"hello, world\n" * 10, "not a TensorFlow graph|not a model file|not a file of torch"),
}


@pytest.mark.parametrize("suffix", [".pb", ".bin", ""])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_file_is_named(name: str, suffix: str, tmp_path: Path) -> None:
    data, says = FOREIGN[name]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=says) as error:
        load_graph(path)
    assert str(path) in str(error.value)


def test_missing_file_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pb"):
        load_graph(tmp_path / "missing.pb")
    with pytest.raises(IsADirectoryError, match="one file"):
        load_graph(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(IsADirectoryError, match="SavedModel"):
        load_graph(str(tmp_path))


def test_huge_and_special_files_are_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.pb"
    with open(huge, "wb") as f:
        f.truncate(1 << 31)
    with pytest.raises(ModelError, match="2 GiB"):
        load_graph(huge)
    if Path("/dev/zero").exists():
        with pytest.raises(ModelError, match="ordinary file"):
            load_graph("/dev/zero")


def test_content_counts_more_than_the_suffix(tmp_path: Path) -> None:
    for name in ("model", "model.pb", "model.onnx", "model.png"):
        assert load_graph(small().save(tmp_path / name)).outputs == ["y"]


def test_real_files_of_other_formats_are_named(shared: Path) -> None:
    for pattern, says in (
        ("keras/*.h5", "HDF5"),
    ):
        files = sorted((shared / "models").glob(pattern))
        assert files
        for path in files:
            with pytest.raises(ModelError, match=says):
                load_graph(path)


def test_probe_takes_frozen_graphs_only(shared: Path) -> None:
    for path in sorted((shared / "models").rglob("*")):
        if path.is_file():
            assert probe(path.read_bytes()[:4096], path) == (path.suffix == ".pb"), path
    assert all(f.NAME and f.SUFFIXES for f in FORMATS)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    g = small()
    data, path = g.data(), tmp_path / "cut.pb"
    # a file cut between two nodes is a graph of fewer nodes
    whole = {len(messages()["GraphDef"](node=g.message.node[:k]).SerializeToString()) for k in range(1, len(g.message.node) + 1)}
    for n in range(len(data)):
        path.write_bytes(data[:n])
        if n in whole:
            continue
        with pytest.raises(ModelError):
            load_graph(path)
    assert len(data) in whole


# ---- damaged graphs ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_graph_is_refused(name: str, tmp_path: Path) -> None:
    build, says = DAMAGE[name]
    g = Frozen()
    build(g)
    path = g.save(tmp_path / "model.pb")
    start = time.thread_time()
    with pytest.raises(ModelError, match=says) as error:
        load_graph(path)
    assert str(path) in str(error.value)
    assert error.value.__cause__ is None or "parse" in str(error.value), "caught by the net, not by a check"
    assert time.thread_time() - start < 5 * slowness()


def test_error_names_node_and_operator(tmp_path: Path) -> None:
    g = Frozen()
    g.node("Relu", g.node("Softplus", g.placeholder([1, -1, -1, 1]), name="generator/softplus"), name="y")
    with pytest.raises(ModelError, match=r"node 'generator/softplus' \(Softplus\): operator Softplus is not supported"):
        load_graph(g.save(tmp_path / "m.pb"))


def test_long_chain_does_not_recurse(tmp_path: Path) -> None:
    g = Frozen()
    x = g.placeholder([1, -1, -1, 1])
    for _ in range(20000):
        x = g.node("Relu", x)
    graph = load_graph(g.save(tmp_path / "chain.pb"))
    assert len(graph.nodes) == 20000


def test_sum_of_many_is_not_quadratic(tmp_path: Path) -> None:
    g = Frozen()
    g.node("AddN", *[g.placeholder([1, -1, -1, 1])] * 20000, name="y", N=20000)
    start = time.thread_time()
    assert len(load_graph(g.save(tmp_path / "sum.pb")).nodes) == 19999
    assert time.thread_time() - start < 5 * slowness()


def test_control_inputs_and_unused_nodes_do_not_matter(tmp_path: Path) -> None:
    g = small()
    g.node("NoOp", name="init")
    g.message.node[-2].input.append(b"^init")
    g.message.node[-2].input[0] = b"conv:0"
    assert [n.op for n in load_graph(g.save(tmp_path / "m.pb")).nodes] == ["Conv", "Relu"]


def test_names_that_are_not_text_do_not_fail(tmp_path: Path) -> None:
    g = small()
    g.message.node[-1].name = b"\xff\xfe\x00y"
    assert load_graph(g.save(tmp_path / "m.pb")).outputs


# ---- the protobuf library ----------------------------------------------------------------------------------------------------------------------


def test_pure_python_protobuf_reads_the_same(tmp_path: Path) -> None:
    path = small().save(tmp_path / "m.pb")
    code = (
        "import sys; from google.protobuf.internal import api_implementation; print(api_implementation.Type())\n"
        "from fastsr.importers import load_graph; print(load_graph(sys.argv[1]).dump())"
    )
    root = Path(__file__).resolve().parents[1]
    texts = []
    for kind in ("python", "upb"):
        env = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": kind, "PYTHONPATH": str(root)}
        run = subprocess.run([sys.executable, "-c", code, str(path)], env=env, capture_output=True, text=True, check=True)
        texts.append(run.stdout.split("\n", 1))
    assert texts[0][0] == "python"
    assert texts[0][1] == texts[1][1]


def test_protobuf_is_imported_only_when_loading() -> None:
    code = "import sys, fastsr, fastsr.importers; print('google.protobuf' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
