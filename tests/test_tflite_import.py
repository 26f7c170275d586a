"""TensorFlow Lite files as a whole: the real one, feeds, types, picture sizes; and what is refused, with which words, how fast."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import peak_megabytes, slowness
from tflite_cases import CASES, QUANTISED, halves, spelled_shuffle
from tflite_damage import DAMAGE, UNSUPPORTED, sound
from tflite_graphs import Net, Table, flatbuffer, run_litert

import fastsr
from fastsr import importers, levels, ops
from fastsr.backends import available_backends
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.importers import tflite
from fastsr.lower import lower
from fastsr.passes import optimise

MAX_SECONDS = 2.0
REAL = "models/tflite/base7_x3_int8_qat.tflite"
STEP = 0.99868745
"""What one level of the real model's result is."""


def real_model(shared: Path) -> Path:
    path = shared / REAL
    if not path.exists():
        pytest.skip("the shared folder has no TensorFlow Lite file")
    return path


def saved(tmp_path: Path, net: Net | bytes, name: str = "net.tflite") -> Path:
    path = tmp_path / name
    path.write_bytes(net if isinstance(net, bytes) else net.data())
    return path


def photo(shared: Path) -> np.ndarray:
    """Part of a photograph, (H, W, 3), RGB."""
    image = pytest.importorskip("PIL.Image", reason="pillow reads the pictures")
    paths = sorted((shared / "images" / "Set14").rglob("*.png"))
    if not paths:
        pytest.skip("the shared folder has no pictures")
    return np.asarray(image.open(paths[-1]).convert("RGB"))[40:130, 30:150]


def first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2), np.float32)


# ---- the real file -----------------------------------------------------------------------------------------------------------------------------


def test_the_real_file_needs_no_option(shared: Path) -> None:
    model = fastsr.load(real_model(shared))
    assert (model.scale, model.feed) == (3, Feed("rgb", 255.0, (), 255.0))
    convolutions = [integer for integer, s in zip(levels.integer_convs(model.program), model.program.steps, strict=True) if s.kind == "Conv"]
    assert convolutions == [True] * 7


@pytest.mark.parametrize(("backend", "precision"), [("cpu", "int8"), ("cpu", "f32"), ("numba", "f32"), ("reference", "f32"), ("reference", "int8")])
def test_the_real_file_gives_what_litert_gives(shared: Path, backend: str, precision: str) -> None:
    """Convolutions of integers are the same, bit for bit; additions are rounded by less exact factors in LiteRT. Sums of floats differ more."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT, which TensorFlow Lite files are compared with, is not installed")
    if backend not in available_backends():
        pytest.skip(f"the backend {backend} is not here")
    path, x = real_model(shared), photo(shared)[None]
    wanted = run_litert(path.read_bytes(), x).astype(int)
    got = fastsr.load(path, backend=backend, precision=precision).run(first(x))
    off = np.abs(np.rint(got / STEP) - wanted.transpose(0, 3, 1, 2))
    assert off.max() <= (1 if precision == "int8" else 8)
    assert (off > 0).mean() < (1e-3 if precision == "int8" else 1e-2)


def test_a_photo_through_the_real_file_is_closer_to_the_large_one_than_by_bicubic(shared: Path) -> None:
    large = photo(shared)
    image = pytest.importorskip("PIL.Image")
    small = np.asarray(image.fromarray(large).resize((40, 30), image.BICUBIC))

    def error(picture: np.ndarray) -> float:
        return float(((picture.astype(float) - large.astype(float))[6:-6, 6:-6] ** 2).mean())

    model = fastsr.load(real_model(shared))
    got = model.upscale(np.ascontiguousarray(small[:, :, ::-1]))[:, :, ::-1]
    plain = np.asarray(image.fromarray(small).resize((120, 90), image.BICUBIC))
    assert got.shape == large.shape
    assert error(got) < 0.95 * error(plain)


def test_neither_tensorflow_nor_flatbuffers_is_imported(tmp_path: Path) -> None:
    path = saved(tmp_path, sound())
    code = f"""
import sys
for name in ("tensorflow", "flatbuffers", "ai_edge_litert", "tflite_runtime", "google"):
    sys.modules[name] = None
import fastsr
print(fastsr.load({str(path)!r}).scale)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["2"]


# ---- how pictures are fed ----------------------------------------------------------------------------------------------------------------------


def upscaler(n: Net, x: int, channels: int = 3) -> int:
    return n.op("DEPTH_TO_SPACE", n.conv(x, channels, 4 * channels), block_size=2)


def feed_of(n: Net) -> Feed:
    return tflite.loads(n.data()).feed


@pytest.mark.parametrize(("channels", "colour"), [(1, "y"), (3, "rgb"), (4, "raw")])
def test_colour_follows_from_the_channels(channels: int, colour: str) -> None:
    n = Net()
    upscaler(n, n.input((1, 8, 8, channels)), channels)
    assert feed_of(n) == Feed(colour)


@pytest.mark.parametrize(
    ("of", "pixels"),
    [
        (("uint8", 1.0, 0), (255.0, ())),
        (("int8", 1.0, -128), (255.0, ())),
        (("int8", 1 / 255, -128), (1.0, ())),
        (("uint8", 1 / 255, 0), (1.0, ())),
        (("uint8", 1 / 127.5, 128), (2.0, (1.0,) * 3)),
        (("int8", 1.0, 0), (255.0, (127.5,) * 3)),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_ranges_follow_from_scales(of: Any, pixels: Any, inside: bool) -> None:
    """Of quantised inputs and outputs, and of floats that the first operator quantises."""
    n = Net()
    x = n.op("QUANTIZE", n.input(), q=of) if inside else n.input((1, 12, 16, 3), *of)
    to = ("int8", 1.1, -120)
    y = n.op("DEPTH_TO_SPACE", n.conv_q(x, of, 3, 12, to, per_channel=False), block_size=2, q=to)
    if inside:
        n.op("DEQUANTIZE", y)
    assert feed_of(n) == Feed("rgb", pixels[0], pixels[1], 255.0)


def test_a_network_that_divides_by_255_and_multiplies() -> None:
    n = Net()
    n.op("MUL", upscaler(n, n.op("MUL", n.input(), n.const(1 / 255))), n.const(255.0))
    assert feed_of(n) == Feed("rgb", 255.0, (), 255.0)


def test_a_network_that_is_cut_off_at_255() -> None:
    n = Net()
    n.op("MINIMUM", n.op("RELU", upscaler(n, n.input())), n.const(255.0))
    assert feed_of(n) == Feed("rgb", 255.0, (), 255.0)


def test_a_network_that_adds_255_times_something_to_its_input() -> None:
    n = Net()
    details = n.op("MUL", upscaler(n, n.input()), n.const(255.0))
    n.op("ADD", details, n.op("RESIZE_BILINEAR", 0, n.ints(24, 32)))
    assert feed_of(n) == Feed("rgb", 255.0, (), 255.0)


def test_an_input_of_bytes_without_a_scale() -> None:
    n = Net()
    upscaler(n, n.op("CAST", n.input(kind="uint8"), source=3, target=0))
    assert feed_of(n).range == 255.0


def test_metadata_says_how_pictures_are_normalised() -> None:
    n = Net()
    upscaler(n, n.input())
    options = Table({0: np.array([127.5], np.float32), 1: np.array([127.5], np.float32)})
    tensor = Table({4: [Table({0: ("B", 1), 1: options})]})
    n.metadata["TFLITE_METADATA"] = flatbuffer(Table({3: [Table({2: [tensor]})]}), b"M001")
    assert feed_of(n) == Feed("rgb", 2.0, (1.0,) * 3)
    n.metadata["TFLITE_METADATA"] = b"\xff" * 40
    assert feed_of(n) == Feed("rgb")


# ---- sizes and types ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pixel shuffle spelled out", "pixel shuffle of channels first", "TRANSPOSE_CONV 9 3 SAME", "RESIZE_BILINEAR  36"])
def test_sizes_that_the_file_fixes_do_not_bind(name: str) -> None:
    case = next(c for c in CASES if c.name == name)
    n = Net()
    case.build(n)
    graph = tflite.loads(n.data())
    scale = ops.run_graph(graph, {graph.inputs[0].name: np.zeros((1, 3, 12, 16), np.float32)})[graph.outputs[0]].shape[2] // 12
    x = np.random.default_rng(0).random((1, 3, 7, 9), np.float32)
    got = ops.run_graph(graph, {graph.inputs[0].name: x})[graph.outputs[0]]
    assert got.shape[2:] == (7 * scale, 9 * scale)


def test_one_file_for_a_size_equals_that_for_another() -> None:
    """Pixel shuffles that were spelled out for two sizes."""
    results = []
    for size in ((12, 16), (5, 9)):
        n = Net()
        block = 2
        x = n.op("RESHAPE", n.conv(n.input((1, *size, 3)), 3, 12), n.ints(1, *size, block, block, 3))
        n.op("RESHAPE", n.op("TRANSPOSE", x, n.ints(0, 1, 3, 2, 4, 5)), n.ints(1, size[0] * block, size[1] * block, 3))
        graph = tflite.loads(n.data())
        given = {graph.inputs[0].name: np.random.default_rng(0).random((1, 3, 6, 7), np.float32)}
        results.append(ops.run_graph(graph, given)[graph.outputs[0]])
    np.testing.assert_array_equal(*results)


def test_weights_of_dynamic_range_are_their_numbers() -> None:
    """int8 weights for pictures of floats: LiteRT rounds the picture too, fastsr does not."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT, which TensorFlow Lite files are compared with, is not installed")
    n = Net()
    w = n.rng.integers(-127, 128, (8, 3, 3, 3))
    n.op("CONV_2D", n.input(), n.const(w, "int8", n.rng.uniform(0.001, 0.003, 8)), n.random(8), stride_w=1, stride_h=1)
    data = n.shaped((1, 12, 16, 3))
    x = np.random.default_rng(0).random((1, 12, 16, 3), np.float32)
    graph = tflite.loads(data)
    assert not any(node.op == "QuantizeLinear" for node in graph.nodes)
    got, wanted = ops.run_graph(graph, {graph.inputs[0].name: first(x)})[graph.outputs[0]], first(run_litert(data, x))
    assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()


def test_constants_behind_the_tables() -> None:
    """Large files keep them outside the FlatBuffer, at a place that their buffer says."""
    n = Net()
    n.conv(n.input(), 3, 4)
    wanted = tflite.loads(n.data()).constants
    stored = n.buffers[1].pop(0)
    n.buffers[1].update({1: ("Q", 2), 2: ("Q", stored.size)})
    at = len(n.data())
    n.buffers[1][1] = ("Q", at)
    for name, array in tflite.loads(n.data() + stored.tobytes()).constants.items():
        np.testing.assert_array_equal(array, wanted[name])
    with pytest.raises(ModelError, match="a constant lies outside the file"):
        tflite.loads(n.data() + stored.tobytes()[:-1])


def test_weights_of_4_bits() -> None:
    n = Net()
    w = n.rng.integers(-8, 8, (4, 3, 3, 3))
    flat = (w.reshape(-1, 2) & 15).astype(np.uint8)
    filters = n.const(flat[:, 0] | flat[:, 1] << 4, "int4", 0.1)
    n.tensors[filters][0] = np.array(w.shape, np.int32)
    n.op("CONV_2D", n.input(), filters, n.const(np.zeros(4)), stride_w=1, stride_h=1)
    graph = tflite.loads(n.data())
    stored = next(c for c in graph.constants.values() if c.shape == (4, 3, 3, 3))
    np.testing.assert_array_equal(stored, (w.transpose(0, 3, 1, 2) * np.float32(0.1)).astype(np.float32))


def test_float16_weights_are_computed_in_float32() -> None:
    n = Net()
    halves(n)
    assert {c.dtype for c in tflite.loads(n.data()).constants.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["int8 two convolutions", "uint8 two convolutions", "int8 TRANSPOSE_CONV", "int8 convolution behind RESHAPE"])
def test_convolutions_of_integers_stay_so(name: str) -> None:
    case = next(c for c in QUANTISED if c.name == name)
    n = Net()
    case.build(n)
    program = lower(optimise(tflite.loads(n.data())))
    found = levels.integer_convs(program)
    assert [integer for integer, step in zip(found, program.steps, strict=True) if step.kind == "Conv"] == [True] * (2 if "two" in name else 1)


# ---- recognition -------------------------------------------------------------------------------------------------------------------------------


def test_files_are_recognised_by_content(tmp_path: Path) -> None:
    n = Net()
    spelled_shuffle(n)
    graph = importers.load_graph(saved(tmp_path, n, "model.bin"))
    assert (graph.meta["format"], graph.meta["source"]) == ("TensorFlow Lite", "model.bin")
    assert importers.looks_like(b"\x1c\0\0\0TFL2") != ""
    with pytest.raises(ModelError, match="does not begin like"):
        fastsr.load(saved(tmp_path, b"something else entirely", "net.tflite"))


# ---- what is refused ---------------------------------------------------------------------------------------------------------------------------


def refusal(data: bytes) -> str:
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        lower(optimise(tflite.loads(data)))
    seconds = time.process_time() - start
    assert seconds < MAX_SECONDS or seconds < MAX_SECONDS * slowness()
    return str(caught.value)


@pytest.mark.parametrize(("name", "build", "says"), UNSUPPORTED, ids=[u[0] for u in UNSUPPORTED])
def test_unsupported(name: str, build: Any, says: str) -> None:
    n = Net()
    build(n)
    text = refusal(n.data())
    assert re.search(says, text), text


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged(name: str) -> None:
    change, says = DAMAGE[name]
    n = sound()
    tflite.loads(n.data())
    change(n, n.model())
    text = refusal(n.data())
    assert re.search(says, text), text


def test_every_cut_of_a_file_is_refused_or_loads() -> None:
    data = sound().data()
    for n in range(0, len(data), 7):
        with pytest.raises(ModelError):
            tflite.loads(data[:n])


def test_a_kilobyte_that_declares_gigabytes(tmp_path: Path) -> None:
    before = peak_megabytes()
    n = Net()
    n.conv(n.input(), 3, 4)
    n.tensors[1][0] = np.array([4, 50000, 50000, 3], np.int32)
    assert len(n.data()) < 4096
    assert "bytes for the shape" in refusal(n.data())
    n = Net()
    n.op("ADD", n.input(), n.op("TILE", n.const([1.0]), n.ints(2_000_000_000)))
    refusal(n.data())
    assert peak_megabytes() < before + 200


def test_vectors_that_all_lie_in_one_place() -> None:
    """A table of operators that are one table, with a long vector: a file of 600 KB that would be 30 GB."""
    n = sound()
    data = bytearray(n.data())
    many = np.zeros(60000, np.int32)
    n.operators[0][1] = many
    top = n.model()
    top[2][0][3] = n.operators[:1] * 2000
    data = bytearray(flatbuffer(top, b"TFL3"))
    assert "damaged" in refusal(bytes(data[:480000]) + bytes(data[-1000:]))


def test_errors_name_the_file(tmp_path: Path) -> None:
    n = Net()
    n.op("SOFTMAX", n.input())
    path = saved(tmp_path, n)
    with pytest.raises(ModelError, match=re.escape(str(path))):
        fastsr.load(path)
