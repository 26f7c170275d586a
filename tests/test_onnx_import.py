"""ONNX files as a whole: the real one, feeds, types, external data, layouts; and what is refused, with which words, how fast."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import pytest
from limits import slowness
from onnx import TensorProto, helper, numpy_helper
from onnx_damage import DAMAGE, UNSUPPORTED, sound
from onnx_graphs import Net, run_onnx

import fastsr
from fastsr import importers, ops
from fastsr.backends import available_backends
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.importers import onnx

MAX_SECONDS = 2.0
REAL = "models/onnx/ESPCN_x3_pytorch_tutorial.onnx"


def espcn(n: Net, channels: int = 1, shape: tuple[Any, ...] | None = None) -> None:
    """A small network that doubles height and width."""
    x = n.node("Tanh", n.conv(n.input(shape or ("N", channels, "H", "W")), channels, 6, 5))
    n.node("DepthToSpace", n.conv(x, 6, 4 * channels), blocksize=2, mode="CRD")


def saved(tmp_path: Path, model: Any, name: str = "net.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


# ---- the real file -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available_backends())
def test_the_real_file_gives_what_onnx_runtime_gives(shared: Path, backend: str) -> None:
    path = shared / REAL
    if not path.exists():
        pytest.skip("the shared folder has no ONNX file")
    model = fastsr.load(path, backend=backend)
    assert (model.scale, model.feed.colour) == (3, "y")
    x = np.random.default_rng(0).random((1, 1, 224, 224), np.float32)
    (wanted,) = run_onnx(path.read_bytes(), x)
    assert relative_error(model.run(x), wanted) < 1e-4
    part = model.run(x[:, :, :50, :70])
    assert part.shape == (1, 1, 150, 210)
    assert relative_error(part[:, :, :120, :180], wanted[:, :, :120, :180]) < 1e-4


def test_a_picture_goes_through_the_real_file(shared: Path) -> None:
    path = shared / REAL
    if not path.exists():
        pytest.skip("the shared folder has no ONNX file")
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    assert fastsr.load(path).upscale(picture).shape == (60, 90, 3)


def test_neither_onnx_nor_a_framework_is_imported(tmp_path: Path) -> None:
    n = Net()
    espcn(n)
    path = saved(tmp_path, n.model())
    code = f"""
import sys
for name in ("onnx", "onnxruntime", "torch", "tensorflow"):
    sys.modules[name] = None
import fastsr
print(fastsr.load({str(path)!r}).scale)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["2"]


# ---- how pictures are fed ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "colour"), [(1, "y"), (3, "rgb"), (4, "raw")])
def test_colour_follows_from_the_channels(channels: int, colour: str) -> None:
    n = Net()
    espcn(n, channels)
    assert onnx.loads(n.data()).feed == Feed(colour)


def test_a_network_that_divides_and_multiplies_by_255() -> None:
    n = Net()
    x = n.conv(n.node("Div", n.input(), n.const(255.0)), 3, 3)
    n.node("Clip", n.node("Mul", x, n.const(255.0)), n.const(0.0), n.const(255.0))
    assert onnx.loads(n.data()).feed == Feed("rgb", 255.0, (), 255.0)


def test_metadata_says_how_pictures_are_fed() -> None:
    n = Net()
    espcn(n, 3)
    n.metadata = {"fastsr.colour": "bgr", "fastsr.range": "255", "fastsr.mean": "1, 2,3", "fastsr.out_range": "2", "fastsr.pre_scale": "2"}
    assert onnx.loads(n.data()).feed == Feed("bgr", 255.0, (1.0, 2.0, 3.0), 2.0, (), 2)
    n.metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_1_1"}
    assert onnx.loads(n.data()).feed == Feed("bgr", 2.0, (1.0,) * 3, 2.0, (1.0,) * 3)
    n.metadata = {"fastsr.range": "much"}
    with pytest.raises(ModelError, match="metadata"):
        onnx.loads(n.data())


# ---- types and external data -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
@pytest.mark.parametrize("raw", [True, False])
def test_other_float_types_are_computed_in_float32(dtype: int, raw: bool) -> None:
    """The constants are those of the file, rounded to its type."""
    n = Net()
    espcn(n)
    model = n.model()
    plain = onnx.loads(n.data())
    for t in model.graph.initializer:
        values = numpy_helper.to_array(t).astype(np.float64)
        t.CopyFrom(helper.make_tensor(t.name, dtype, values.shape, values.reshape(-1)))
        if raw:
            array = numpy_helper.to_array(t)
            t.CopyFrom(numpy_helper.from_array(array, t.name) if dtype != TensorProto.BFLOAT16 else t)
    model.graph.input[0].type.tensor_type.elem_type = dtype
    graph = onnx.loads(model.SerializeToString())
    x = np.random.default_rng(0).random((1, 1, 9, 8), np.float32)
    got, wanted = (ops.run_graph(g, {"x": x})[g.outputs[0]] for g in (graph, plain))
    assert got.dtype == np.float32
    assert relative_error(got, wanted) < (1e-7 if dtype == TensorProto.DOUBLE else 2e-2)
    assert (dtype == TensorProto.DOUBLE) == bool((got == wanted).all())


def test_a_float16_graph_of_its_own() -> None:
    n = Net()
    x = n.node("Cast", n.input(), to=TensorProto.FLOAT16)
    y = n.node("Conv", x, n.const(n.rng.standard_normal((4, 3, 3, 3)) / 8, np.float16), n.const([1, 2, 3, 4], np.float16))
    n.node("Cast", n.node("Relu", y), to=TensorProto.FLOAT)
    x = np.random.default_rng(0).random((1, 3, 9, 8), np.float32)
    graph = onnx.loads(n.data())
    assert relative_error(ops.run_graph(graph, {"x": x})[graph.outputs[0]], run_onnx(n.data(), x)[0]) < 5e-3


def external(tmp_path: Path, location: str = "weights.bin") -> tuple[Path, Any]:
    """A model whose constants lie in another file, and its message."""
    n = Net()
    espcn(n)
    path = tmp_path / "net.onnx"
    onnx_package.save(n.model(), path, save_as_external_data=True, location=location, size_threshold=0)
    return path, onnx_package.load(path, load_external_data=False)


def test_external_data(tmp_path: Path) -> None:
    n = Net()
    espcn(n)
    path, _ = external(tmp_path)
    x = np.random.default_rng(0).random((1, 1, 9, 8), np.float32)
    assert relative_error(fastsr.load(path).run(x), run_onnx(n.data(), x)[0]) < 1e-5


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "..\\secret", "sub/../../secret", ".", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(10000))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    path, model = external(folder)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    saved(folder, model)
    with pytest.raises(ModelError, match="outside the model's folder"):
        fastsr.load(path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("location", "gone", "missing"), ("location", "", "location"), ("offset", "99999", "too short"), ("length", "3", "damaged"),
     ("offset", "-1", "offset")],
)  # fmt: skip
def test_external_data_that_does_not_fit(tmp_path: Path, key: str, value: str, says: str) -> None:
    path, model = external(tmp_path)
    entries = model.graph.initializer[0].external_data
    next(e for e in entries if e.key == key).value = value
    saved(tmp_path, model)
    with pytest.raises(ModelError, match=says):
        fastsr.load(path)


def test_external_data_that_is_named_very_often(tmp_path: Path) -> None:
    """Sixty constants that are the same 4 MiB of one file."""
    helper, channels = onnx_package.helper, 1024
    (tmp_path / "weights.bin").write_bytes(bytes(4 * channels * channels))
    nodes, constants = [], []
    for i in range(60):
        w = onnx_package.TensorProto(name=f"w{i}", data_type=onnx_package.TensorProto.FLOAT, dims=[channels, channels, 1, 1], data_location=1)
        w.external_data.add(key="location", value="weights.bin")
        constants.append(w)
        nodes.append(helper.make_node("Conv", [f"v{i}", w.name], [f"v{i + 1}"]))
    ends = [helper.make_tensor_value_info(name, 1, [1, channels, None, None]) for name in ("v0", "v60")]
    saved(tmp_path, helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)))
    with pytest.raises(ModelError, match="far more memory"):
        fastsr.load(tmp_path / "net.onnx")


# ---- inputs and outputs ------------------------------------------------------------------------------------------------------------------------


def test_a_fixed_size_stands_for_any() -> None:
    n = Net()
    espcn(n, shape=(1, 1, 24, 32))
    free = Net()
    espcn(free)
    x = np.random.default_rng(0).random((2, 1, 9, 8), np.float32)
    graph = onnx.loads(n.data())
    assert relative_error(ops.run_graph(graph, {"x": x})[graph.outputs[0]], run_onnx(free.data(), x)[0]) < 1e-5


def test_all_outputs_are_kept_the_first_is_the_default() -> None:
    n = Net()
    a = n.conv(n.input(), 3, 4)
    b = n.node("Relu", a)
    graph = onnx.loads(n.data(b, a))
    assert graph.outputs == [b, a]
    x = np.random.default_rng(0).random((1, 3, 9, 8), np.float32)
    got = ops.run_graph(graph, {"x": x})
    for name, wanted in zip((b, a), run_onnx(n.data(b, a), x), strict=True):
        assert relative_error(got[name], wanted) < 1e-5


def test_an_input_may_be_an_output_and_two_outputs_one_value() -> None:
    n = Net()
    a = n.conv(n.input(), 3, 4)
    b = n.node("Identity", a)
    graph = onnx.loads(n.data(a, b, "x"))
    x = np.random.default_rng(0).random((1, 3, 9, 8), np.float32)
    got = ops.run_graph(graph, {"x": x})
    assert (got[a] == got[b]).all()
    assert (got["x"] == x).all()


def test_two_inputs() -> None:
    n = Net()
    n.node("Concat", n.conv(n.input(), 3, 4), n.input(("N", 2, "H", "W"), "z"), axis=1)
    x, z = (np.random.default_rng(0).random((1, c, 9, 8), np.float32) for c in (3, 2))
    graph = onnx.loads(n.data())
    assert graph.feed.colour == "raw"
    assert relative_error(ops.run_graph(graph, {"x": x, "z": z})[graph.outputs[0]], run_onnx(n.data(), x, z)[0]) < 1e-5


def test_constants_among_the_inputs_as_old_files_have_them() -> None:
    n = Net(opset=8)
    espcn(n)
    model = n.model()
    model.ir_version = 3
    for t in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    assert [i.name for i in onnx.loads(model.SerializeToString()).inputs] == ["x"]


def test_what_no_output_needs_is_not_looked_at() -> None:
    n = Net()
    a = n.conv(n.input(), 3, 4)
    n.node("Whatever", a)
    assert [node.op for node in onnx.loads(n.data(a)).nodes] == ["Conv"]


# ---- the document ------------------------------------------------------------------------------------------------------------------------------


def test_document_lists_the_operators() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs/onnx.md").read_text(encoding="utf-8")
    table = text.split("## Operators on pictures", 1)[1].split("\n\n", 1)[0]
    known = set(onnx.PICTURE_OPS) | set(onnx.onnx_quantised.MICROSOFT)
    assert known - set(re.findall(r"\w+", table)) == set()
    assert "LayerNormalization" not in known


# ---- files -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.onnx", "net", "net.pb", "net.bin"])
def test_files_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    n = Net()
    espcn(n)
    path = saved(tmp_path, n.model(), name)
    assert onnx.probe(path.read_bytes()[:4096], path)
    assert importers.load_graph(path).meta["format"] == "ONNX"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git-lfs"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\x08\x07", "no nodes"),
        (bytes(1000), "zeros"),
        (b"\x10\0\0\0ORTM" + bytes(99), "ONNX Runtime's own"),
        (np.random.default_rng(0).bytes(5000), "not an? |damaged"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        fastsr.load(saved(tmp_path, content))


def test_probe_takes_onnx_files_only(shared: Path) -> None:
    for path in sorted((shared / "models").rglob("*")):
        if path.is_file():
            assert onnx.probe(path.read_bytes()[:4096], path) == (path.suffix == ".onnx"), path


def timed_refusal(load: Any, says: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelError, match=says):
        load()
    assert time.process_time() - start < MAX_SECONDS * max(1.0, slowness())


@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.99])
def test_files_that_are_cut_short(tmp_path: Path, part: float) -> None:
    n = Net()
    espcn(n)
    data = n.data()
    path = saved(tmp_path, data[: int(part * len(data))])
    timed_refusal(lambda: fastsr.load(path), "damaged|cut short|not in the file|no nodes|no output")


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(name: str) -> None:
    function, says = DAMAGE[name]
    model = sound()
    function(model)
    data = model.SerializeToString()
    timed_refusal(lambda: onnx.loads(data), says)


@pytest.mark.parametrize(("name", "build", "says"), UNSUPPORTED, ids=[u[0] for u in UNSUPPORTED])
def test_what_is_not_supported_is_said(name: str, build: Any, says: str) -> None:
    n = Net()
    build(n)
    data = n.data()
    timed_refusal(lambda: onnx.loads(data), says)


def test_deep_nesting_is_refused() -> None:
    def field(number: int, data: bytes) -> bytes:
        size, out = len(data), bytearray([number << 3 | 2])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes(out) + bytes([size]) + data

    data = b""
    for _ in range(3000):
        data = field(6, field(1, field(5, data)))  # graph of an attribute of a node
    timed_refusal(lambda: onnx.loads(b"\x08\x08" + field(7, field(1, field(5, data)))), "damaged")


MEMORY = """
import sys
sys.path.insert(0, {tests!r})
from limits import peak_megabytes
from fastsr.errors import ModelError
from fastsr.importers import onnx
before = peak_megabytes()
try:
    onnx.load({path!r})
except ModelError as e:
    print(peak_megabytes() - before, peak_megabytes())
"""


@pytest.mark.parametrize("name", ["ten_gigabytes_declared", "huge_constant", "huge_node_count", "thousands_of_inputs"])
def test_damage_takes_no_memory(tmp_path: Path, name: str) -> None:
    model = sound()
    DAMAGE[name][0](model)
    code = MEMORY.format(tests=os.path.dirname(__file__), path=str(saved(tmp_path, model)))  # noqa: PTH120
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(out) == 2
    assert float(out[1]) < 200
