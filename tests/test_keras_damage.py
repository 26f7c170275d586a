"""Keras files that are damaged, hostile or not supported: what the error says; the HDF5 reader against h5py; a short run of the fuzzer."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the tests write HDF5 with h5py")

import h5py
from keras_files import archive, chain, conv, functional, layer, model_h5, random, reading, source, weights3_h5, weights_h5

from fastsr.errors import ModelError
from fastsr.importers import keras, load_graph
from fastsr.importers.hdf5 import File

COUNT = 800


def refused(data: bytes) -> str:
    """The error of a file, in full."""
    with pytest.raises(ModelError) as caught:
        keras.loads(data)
    return str(caught.value)


def model(*specs: Any, **settings: Any) -> bytes:
    """A chain of layers, each a config or a pair of config and weights."""
    pairs = [s if isinstance(s, tuple) else (s, []) for s in specs]
    return model_h5(chain(*(p[0] for p in pairs), **settings), {p[0]["name"]: p[1] for p in pairs})


# ---- models ------------------------------------------------------------------------------------------------------------------------------------


def test_unknown_classes_are_named() -> None:
    assert "'AttentionBlock' is not a layer that fastsr knows" in refused(model(conv("a", 3, 3, 3), layer("Mine>AttentionBlock", "z")))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (layer("PReLU", "p"), "shared_axes"),
        (layer("Activation", "p", activation="softmax"), "the activation 'softmax'"),
        (layer("Conv2D", "c", filters=3, kernel_size=[3, 3], padding="causal"), "needs the weights kernel, bias"),
        (layer("Activation", "p", activation="lrelu"), "the activation 'lrelu'"),
        (layer("Activation", "p", activation="Mine>leaky_relu"), "the activation 'Mine>leaky_relu'"),
        (layer("Activation", "p", activation={"module": "mine", "class_name": "function", "config": "leaky_relu"}), "the activation 'leaky_relu'"),
        (layer("BatchNormalization", "b", mode=2), "in a mode that is not supported"),
        (layer("Normalization", "n", mean=[1, 2, 3], variance=[1, 1, 1], axis=1), "only the channels"),
        (layer("Lambda", "l", function="phase_shift", function_type="function"), "the function 'phase_shift' of the project itself"),
        (layer("UpSampling2D", "u", interpolation="lanczos3"), "lanczos3"),
        (layer("Concatenate", "j", axis=1), "only channels can be joined"),
        (layer("Reshape", "r", target_shape=[-1, 12]), "not supported"),
        (layer("TFOpLambda", "t", function="linalg.inv"), "linalg.inv"),
        (layer("GroupNormalization", "g", groups=2, scale=False, center=False), "only a group for each channel"),
        (layer("Lambda", "l", function="normalize", function_type="function"), "whether by 255, 127.5"),
        (layer("Lambda", "l", function="helper", function_type="function"), "the function 'helper' of the project itself"),
        (layer("Lambda", "l", function=["!!", None, None], function_type="lambda"), "code"),
        (layer("DepthToSpace", "d", block_size=4), "cannot split 3 channels"),
        (layer("ReLU", "r", threshold=0.5), "threshold"),
        (layer("Rescaling", "r", scale="x"), "where a number is expected"),
        (layer("BatchNormalization", "b", axis=[1]), "only the channels are supported"),
    ],
)
def test_layers_that_cannot_be_run(spec: dict[str, Any], words: str) -> None:
    data = model_h5(chain(spec), {spec["name"]: [("p/alpha:0", random(8, 8, 3))] if spec["name"] == "p" else []})
    text = refused(data)
    assert words in text and spec["name"] in text


def test_a_shuffle_with_several_meanings_is_refused() -> None:
    a, b, c = conv("a", 3, 3, 144), conv("b", 3, 16, 3), conv("c", 3, 36, 3)
    spec = layer("PixelShuffle", "up")
    fork = [reading(spec, "a"), reading(b[0], "up"), reading(c[0], "up"), reading(layer("Add", "s"), "b", "c")]
    text = refused(model_h5(functional(source(), reading(a[0], "x"), *fork), {"a": a[1], "b": b[1], "c": c[1]}))
    assert "by a factor that the file does not say" in text and "[16, 36]" in text
    assert "no layer behind it" in refused(model(conv("a", 3, 3, 16), spec, layer("PixelShuffle", "again")))


def test_weights_that_do_not_fit() -> None:
    spec, weights = conv("a", 3, 4, 3)
    assert "for 3 channels" in refused(model((spec, weights)))
    spec, weights = conv("a", 3, 3, 3)
    assert "for a kernel of 5x5" in refused(model(({**spec, "config": {**spec["config"], "kernel_size": [5, 5]}}, weights)))
    assert "needs the weights kernel, bias, and the file has 'kernel'" in refused(model((spec, weights[:1])))
    weights[0][1][0, 0, 0, 0] = np.nan
    assert "NaN" in refused(model((spec, weights)))


def test_configs_that_refer_to_nothing_or_to_themselves() -> None:
    a, b = layer("ReLU", "a"), layer("ReLU", "b")
    assert "reads 'c'" in refused(model_h5(functional(source(), reading(a, "c")), {}))
    assert "depends on itself" in refused(model_h5(functional(source(), reading(a, "b"), reading(b, "a")), {}))
    assert "two layers are called 'a'" in refused(model_h5(functional(source(), reading(a, "x"), reading(a, "x")), {}))
    nested: dict[str, Any] = layer("ReLU", "a")
    for k in range(40):
        nested = {**functional(source(), reading(nested, "x")), "name": f"n{k}"}
    assert "nested more than" in refused(model_h5(nested, {}))


def test_nested_models_that_multiply_are_refused() -> None:
    inner = functional(source(), reading(layer("ReLU", "r"), "x"))
    for k in range(12):
        calls = [[["x" if n == 0 else f"n{k}", max(n - 1, 0), 0, {}]] for n in range(8)]
        spec = {**inner, "name": f"n{k}", "inbound_nodes": calls}
        inner = functional(source(), spec, outputs=[[f"n{k}", 7, 0]])
    assert "absurdly often" in refused(model_h5(inner, {}))


def test_names_that_no_file_can_hold_are_refused() -> None:
    assert "a name is not text" in refused(model_h5(chain(layer("ReLU", "half of a \ud83d pair")), {}))
    keras.loads(model(layer("ReLU", "a whole \U0001f600 pair")))


def test_networks_without_a_picture() -> None:
    assert "not a picture" in refused(model_h5(functional(source(batch_input_shape=[None, 10]), reading(layer("ReLU", "r"), "x")), {}))
    assert "not a picture" in refused(model(layer("GlobalAveragePooling2D", "g")))
    assert "whose network is code" in refused(model_h5({"class_name": "MyModel", "config": {"scale": 2}}, {"a": [("a/k:0", random(7, 7))]}))


@pytest.mark.parametrize("config", ["{", "[" * 100_000, "null", "[]", "1e999", "9" * 6000, '{"class_name": 3}', '{"class_name": "Sequential"}'])
def test_configs_that_are_not_configs(config: str) -> None:
    assert refused(model_h5(config, {}))
    assert refused(archive(config, weights3_h5({})))


def test_weights_of_unknown_networks_say_so() -> None:
    text = refused(weights_h5({"q": [("q/kernel:0", random(3, 3, 7, 7)), ("q/bias:0", random(7))]}))
    assert "architecture" in text and "q.weight" in text


# ---- files -------------------------------------------------------------------------------------------------------------------------------------


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    data = model(conv("a", 3, 3, 3))
    path = tmp_path / "m.h5"
    path.write_bytes(data[:-100])
    with pytest.raises(ModelError, match=r"m\.h5': the HDF5 file should have \d+ bytes but has \d+: the download was not finished"):
        load_graph(path)
    assert "is empty" in refused(b"")
    assert "not an HDF5 file" in refused(b"not HDF5 at all")
    other = io.BytesIO()
    with h5py.File(other, "w") as f:
        f["a"] = np.zeros(3)
    assert "not one that Keras writes" in refused(other.getvalue())


def test_archives_that_cannot_be_unpacked() -> None:
    data = archive(chain(layer("ReLU", "r")), weights3_h5({}), zipfile.ZIP_DEFLATED)
    assert "damaged" in refused(data[: len(data) // 2])
    assert "damaged" in refused(data[:90] + bytes(60) + data[150:])
    assert "far more than the file suggests" in refused(archive(chain(layer("ReLU", "r")), bytes(300 << 20), zipfile.ZIP_DEFLATED))
    lists = archive("[" + "[]," * 1_000_000 + "[]]", weights3_h5({}), zipfile.ZIP_DEFLATED)
    assert "'config.json' in the archive is absurdly large" in refused(lists)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "not supported: unpack the archive" in refused(archive(chain(layer("ReLU", "r")), weights3_h5({}), method))
    encrypted = data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    assert encrypted != data and "is encrypted" in refused(encrypted)
    assert "in several files" in refused(sharded())


def test_an_archive_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(archive(chain(layer("ReLU", "r")), weights3_h5({}))[:-30])
    with pytest.raises(ModelError, match="the download was not finished"):
        load_graph(path)


def sharded() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as z:
        z.writestr("config.json", "{}")
        z.writestr("metadata.json", "{}")
        z.writestr("model.weights.json", "{}")
    return data.getvalue()


def test_other_archives_are_left_to_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", b"x")
    assert not keras.probe(path.read_bytes(), path)
    assert not keras.probe(b"PK\x03\x04", tmp_path / "absent")


# ---- HDF5 --------------------------------------------------------------------------------------------------------------------------------------


def written(fill: Any, **options: Any) -> File:
    """What `fill` writes with h5py, read by our own reader."""
    data = io.BytesIO()
    with h5py.File(data, "w", **options) as f:
        fill(f)
    return File(data.getvalue())


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i1", ">i4", "<u2", "<i8", "bool"])
@pytest.mark.parametrize("storage", [{}, {"chunks": (3, 4)}, {"chunks": (4, 4), "compression": "gzip", "shuffle": True, "fletcher32": True}])
def test_arrays_of_numbers(dtype: str, storage: dict[str, Any]) -> None:
    array = (random(7, 9) * 50).astype(dtype)
    got = written(lambda f: f.create_dataset("g/a", data=array, **storage)).root.get("g/a")
    assert got is not None and got.shape() == (7, 9)
    np.testing.assert_array_equal(got.read(), array)


def test_attributes_of_all_kinds() -> None:
    values = {"text": "ä" * 70000, "bytes": np.bytes_(b"abc"), "number": 3, "floats": np.array([1.5, 2.5])}
    values |= {"names": ["a", "bcd"], "fixed": np.array([b"x", b"yz"])}

    def fill(f: Any) -> None:
        for name, value in values.items():
            f.attrs[name] = value

    got = written(fill).root.attributes()
    assert got["text"] == values["text"] and got["bytes"] == "abc" and got["number"] == 3
    assert got["names"] == ["a", "bcd"] and got["fixed"] == ["x", "yz"]
    np.testing.assert_array_equal(got["floats"], [1.5, 2.5])


def test_groups_of_very_many() -> None:
    def fill(f: Any) -> None:
        for k in range(700):
            f.create_group(f"g/layer_{k}").attrs["k"] = k

    file = written(fill)
    group = file.root.get("g")
    assert group is not None and len(group.names()) == 700
    assert all((at := group.get(f"layer_{k}")) is not None and at.attributes()["k"] == k for k in range(700))
    assert file.root.get("g/none") is None


def test_newer_files_are_read_or_refused_by_name() -> None:
    def few(f: Any) -> None:
        f["a/b"] = np.arange(3)

    at = written(few, libver="latest").root.get("a/b")
    assert at is not None and list(at.read()) == [0, 1, 2]

    def many(f: Any) -> None:
        for k in range(40):
            f[f"a/{k}"] = np.arange(3)

    with pytest.raises(ModelError, match="dense links"):
        written(many, libver="latest").root.get("a/3")
    at = written(lambda f: f.create_dataset("a", data=np.zeros(99), chunks=(9,), compression="lzf")).root.get("a")
    assert at is not None
    with pytest.raises(ModelError, match="filter"):
        at.read()


def test_one_array_under_very_many_names_is_refused() -> None:
    data = io.BytesIO()
    with h5py.File(data, "w") as f:
        f["big"] = random(3, 3, 256, 256)
        for k in range(200):
            f.create_group(f"layers/conv2d_{k}/vars")["0"] = f["big"]
    assert "far more memory" in refused(data.getvalue())


def overlapping_names(entries: int, length: int, children: int, distinct: bool) -> bytes:
    """A group of the old kind whose many names are the ends of one long text, or all of it."""
    nowhere, tree = (1 << 64) - 1, 200
    leaf = tree + 32 + 16 * children
    heap = leaf + 8 + 40 * entries
    out = bytearray(b"\x89HDF\r\n\x1a\n" + bytes((0, 0, 0, 0, 0, 8, 8, 0)) + struct.pack("<HHI", 4, 16, 0))
    out += struct.pack("<4Q", 0, nowhere, heap + 32 + length, nowhere) + struct.pack("<QQ", 0, 96) + bytes(24)
    out += struct.pack("<BBHII", 1, 0, 1, 1, 24) + bytes(4) + struct.pack("<HHB3xQQ", 0x11, 16, 0, tree, heap)
    out = out.ljust(tree, b"\0") + b"TREE" + struct.pack("<BBHQQ", 0, 0, children, nowhere, nowhere)
    out += struct.pack("<QQ", 0, leaf) * children + bytes(8)
    out += b"SNOD" + struct.pack("<BBH", 1, 0, entries)
    out += b"".join(struct.pack("<QQ", k if distinct else 0, 96) + bytes(24) for k in range(entries))
    return bytes(out + b"HEAP" + struct.pack("<B3xQQQ", 0, length, nowhere, heap + 32) + b"a" * (length - 1) + b"\0")


@pytest.mark.parametrize(("entries", "length", "children", "distinct"), [(3000, 150_000, 1, True), (1000, 400_000, 120, False)])
def test_names_that_overlap_take_neither_memory_nor_time(entries: int, length: int, children: int, distinct: bool) -> None:
    assert File(overlapping_names(10, 20, 1, True)).root.names()[0] == "a" * 19
    with pytest.raises(ModelError, match="far more memory"):
        File(overlapping_names(entries, length, children, distinct))


def test_absurd_sizes_are_refused() -> None:
    def fill(f: Any) -> None:
        f.create_dataset("a", shape=(1 << 20, 1 << 18), dtype="f4", chunks=(64, 64))

    at = written(fill).root.get("a")
    assert at is not None
    with pytest.raises(ModelError, match="far more memory"):
        at.read()


def test_mutated_files_load_or_are_refused(tmp_path: Path) -> None:
    """In a process of its own: the memory that a file may ask for is measured there."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fuzz_keras\nprint(dict(fuzz_keras.run({COUNT}, 1)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "'loaded'" in run.stdout and "'refused'" in run.stdout
    assert "net:" not in run.stdout


def test_neither_keras_nor_h5py_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(archive(chain(layer("ReLU", "r")), weights3_h5({})))
    names = ["h5py", "keras", "tensorflow", "torch", "google.protobuf"]
    code = f"import sys, json, fastsr\nfastsr.load({str(path)!r})\nprint(json.dumps([m for m in {names!r} if m in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []
