"""ncnn models as a whole: the real ones, files and their partners, feeds; and what is refused, with which words, how fast."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import slowness
from ncnn_damage import BINARY_DAMAGE, DAMAGE, UNSUPPORTED, sound, words
from ncnn_graphs import Net, run_ncnn

import fastsr
from fastsr import importers
from fastsr.backends import available_backends
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.importers import looks_like, ncnn_param, onnx, tensorflow
from fastsr.importers import ncnn as importer

MAX_SECONDS = 2.0
REAL = [("RealESRGAN_General_x4_v3", 4), ("realesr-animevideov3-x2", 2), ("realesr-animevideov3-x4", 4)]


def crop(shared: Path) -> np.ndarray:
    """A piece of a real picture, (1, 3, 48, 64) in 0..1."""
    from fastsr.files import read_picture

    path = sorted((shared / "images").rglob("*.png"))[0]
    picture = read_picture(path)[:48, :64, :3]
    return np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)[None], np.float32) / np.float32(255)


# ---- the real files ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize(("name", "scale"), REAL)
def test_real_models_give_what_ncnn_gives(shared: Path, backend: str, name: str, scale: int) -> None:
    pytest.importorskip("ncnn", reason="ncnn is not installed (pip install ncnn)")
    path = shared / "models" / "ncnn" / f"{name}.param"
    if not path.exists():
        pytest.skip("the shared folder has no ncnn models")
    if backend == "reference" and name != REAL[-1][0]:
        pytest.skip("NumPy takes long for this one")
    model = fastsr.load(path, backend=backend)
    assert (model.scale, model.feed) == (scale, Feed("rgb"))
    x = crop(shared)
    if backend != "cpu":
        x = x[:, :, :16, :20]
    wanted = run_ncnn(path, path.with_suffix(".bin"), x, "output")
    got = model.run(x)
    assert isinstance(got, np.ndarray)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4


def test_a_picture_goes_through_a_real_model(shared: Path) -> None:
    path = shared / "models" / "ncnn" / "realesr-animevideov3-x2.bin"
    if not path.exists():
        pytest.skip("the shared folder has no ncnn models")
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    assert fastsr.load(path).upscale(picture).shape == (40, 60, 3)


def test_ncnn_itself_is_not_imported(tmp_path: Path) -> None:
    path = sound().save(tmp_path / "net.param")
    code = f'import sys\nsys.modules["ncnn"] = None\nimport fastsr\nprint(fastsr.load({str(path)!r}).scale)'
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["2"]


# ---- files and their partners ------------------------------------------------------------------------------------------------------------------


def saved(folder: Path, *names: str) -> Path:
    """The sound network under these names: text, binary and weights by their endings."""
    net = sound()
    for name in names:
        data = net.data() if not name.endswith((".param", ".param.bin")) else net.text().encode() if name.endswith(".param") else net.binary()[0]
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("files", "given"),
    [
        (("x.param", "x.bin"), "x.param"),
        (("x.param", "x.bin"), "x.bin"),
        (("x.param.bin", "x.bin"), "x.param.bin"),
        (("x.param.bin", "x.bin"), "x.bin"),
        (("x.ncnn.param", "x.ncnn.bin"), "x.ncnn.param"),
        (("x.ncnn.param", "x.ncnn.bin"), "x.ncnn.bin"),
        (("x-v2.1.param.bin", "x-v2.1.bin"), "x-v2.1.param.bin"),
    ],
)
def test_both_files_lead_to_the_model(tmp_path: Path, files: tuple[str, ...], given: str) -> None:
    graph = importers.load_graph(saved(tmp_path, *files) / given)
    assert graph.meta["format"] == "ncnn"
    assert graph.meta["source"] == files[0]
    assert fastsr.load(tmp_path / given).scale == 2


def test_the_text_form_has_precedence(tmp_path: Path) -> None:
    saved(tmp_path, "x.param", "x.param.bin", "x.bin")
    assert importers.load_graph(tmp_path / "x.bin").meta["source"] == "x.param"


@pytest.mark.parametrize(
    ("files", "given", "says"),
    [
        (("x.param",), "x.param", "'x.bin'"),
        (("x.param.bin",), "x.param.bin", "'x.bin'"),
        (("x.bin",), "x.bin", "'x.param'"),
        (("x.bin", "y.param"), "x.bin", "'x.param'"),
        (("x.param", "y.bin"), "x.param", "'x.bin'"),
    ],
)
def test_a_missing_partner_is_named(tmp_path: Path, files: tuple[str, ...], given: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        fastsr.load(saved(tmp_path, *files) / given)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.bin", POINTER, r"x\.bin': this looks like a git-lfs pointer.*git lfs pull"),
        ("x.param", POINTER, r"x\.param': this looks like a git-lfs pointer"),
        ("x.bin", b"<!DOCTYPE html><html>404</html>", r"x\.bin': this looks like an HTML"),
        ("x.param", b"<html>404</html>", r"x\.param': this looks like an HTML"),
        ("x.param", b"", r"x\.param': this looks like an empty file"),
        ("x.bin", b"", r"x\.param': layer 'convolution_1'.*cut short"),
        ("x.bin", bytes(8), r"x\.param': layer 'convolution_1'.*cut short"),
    ],
)
@pytest.mark.parametrize("given", ["x.param", "x.bin"])
def test_a_part_that_was_not_downloaded_is_named(tmp_path: Path, name: str, data: bytes, says: str, given: str) -> None:
    saved(tmp_path, "x.param", "x.bin")
    (tmp_path / name).write_bytes(data)
    if given != name or name == "x.bin":
        with pytest.raises(ModelError, match=says):
            importers.load_graph(tmp_path / given)


def test_very_many_inputs_are_refused_before_they_are_followed() -> None:
    names = [f"i{k}" for k in range(65)]
    lines = [*(f"Input {n} 0 1 {n}" for n in names), f"Eltwise e 65 1 {' '.join(names)} e 0=1", "PReLU p 1 1 e out 0=3"]
    with pytest.raises(ModelError, match="has 65 inputs"):
        importer.loads(f"7767517\n{len(lines)} 99\n".encode() + "\n".join(lines).encode(), bytes(12))


def test_carriage_returns_and_a_byte_order_mark(tmp_path: Path) -> None:
    saved(tmp_path, "x.param", "x.bin")
    text = (tmp_path / "x.param").read_bytes()
    (tmp_path / "x.param").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert fastsr.load(tmp_path / "x.param").scale == 2


def test_probe_takes_ncnn_models_only(shared: Path) -> None:
    for path in sorted((shared / "models").rglob("*")):
        if path.is_file():
            head = path.read_bytes()[:4096]
            assert importer.probe(head, path) == (path.parent.name == "ncnn"), path
            assert not (path.parent.name == "ncnn" and (onnx.probe(head, path) or tensorflow.probe(head, path)))
            assert path.parent.name != "ncnn" or not looks_like(head)


def test_layer_types_have_the_numbers_of_ncnn() -> None:
    package = pytest.importorskip("ncnn", reason="ncnn is not installed (pip install ncnn)")
    assert [package.layer_to_index(name) for name in ncnn_param.TYPES] == list(range(len(ncnn_param.TYPES)))


def test_parameters_keep_their_values() -> None:
    line = b'7767517\n1 1\nInput i 0 1 data 0=-3 1=2.5e-1 2=+7 -23303=3,1,-2,3 4="a b" 5=word 6=1,2,3 -23307=2,1.5,2 8=-.5\n'
    (layer,) = ncnn_param.read(line)
    assert layer.params == {0: -3, 1: 0.25, 2: 7, 3: [1, -2, 3], 4: "a b", 5: "word", 6: [1, 2, 3], 7: [1.5, 2], 8: -0.5}
    assert (layer.real(2, 0.0), layer.integers(3), layer.reals(7), layer.integer(9, 5)) == (7.0, [1, -2, 3], [1.5, 2.0], 5)


# ---- how pictures are fed ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "colour"), [(1, "y"), (3, "rgb"), (4, "raw")])
def test_colour_follows_from_the_channels(channels: int, colour: str) -> None:
    n = Net()
    n.layer("PixelShuffle", n.conv(n.input(), channels, 4 * channels), p={0: 2})
    assert importer.loads(n.text().encode(), n.data()).feed == Feed(colour)


def test_a_network_that_divides_and_multiplies_by_255() -> None:
    n = Net()
    x = n.conv(n.layer("BinaryOp", n.input(), p={0: 3, 1: 1, 2: 255.0}), 3, 3)
    n.layer("Clip", n.layer("BinaryOp", x, p={0: 2, 1: 1, 2: 255.0}), p={0: 0.0, 1: 255.0})
    assert importer.loads(n.text().encode(), n.data()).feed == Feed("rgb", 255.0, (), 255.0)


def test_the_output_called_output_is_the_default_one() -> None:
    n = Net()
    x = n.conv(n.input(), 3, 3)
    n.layer("ReLU", x)
    n.layer("Sigmoid", x)
    text = n.text().replace(" b2", " output")
    assert importer.loads(text.encode(), n.data()).outputs == ["output", "b3"]
    assert importer.loads(n.text().encode(), n.data()).outputs == ["b3", "b2"]


def test_a_spare_copy_is_no_output() -> None:
    n = Net()
    n.layer("ReLU", n.layer("Split", n.conv(n.input(), 3, 3), n=2)[0])
    assert importer.loads(n.text().encode(), n.data()).outputs == ["b3"]
    n.layers.pop()
    assert importer.loads(n.text().encode(), n.data()).outputs == ["b2_1", "b2"]


def test_a_declared_size_makes_a_scale_of_a_constant_size() -> None:
    n = Net()
    n.layer("Interp", n.conv(n.input(), 3, 3), p={0: 1, 3: 64, 4: 48})
    text = n.text().replace("0 1 data", "0 1 data 0=24 1=32 2=3")
    graph = importer.loads(text.encode(), n.data())
    scales = graph.constants[next(node for node in graph.nodes if node.op == "Resize").inputs[2]]
    assert scales.tolist() == [1, 1, 2, 2]


def test_quantised_models_run_in_integers(tmp_path: Path) -> None:
    from ncnn_cases_pixels import int8_conv

    pytest.importorskip("ncnn", reason="ncnn is not installed (pip install ncnn)")
    n = Net()
    x = int8_conv(n, int8_conv(n, n.input(), 3, 16, term=101, more={9: 1}), 16, 16, more={9: 1})
    n.layer("PixelShuffle", int8_conv(n, x, 16, 12), p={0: 2})
    path = n.save(tmp_path / "net.param")
    picture = np.random.default_rng(0).random((1, 3, 40, 50), np.float32)
    wanted = run_ncnn(path, path.with_suffix(".bin"), picture, n.output)
    model = fastsr.load(path)
    if model.backend == "cpu":
        assert model.precision == "int8"
    got = model.run(picture)
    assert isinstance(got, np.ndarray)
    assert np.mean(np.abs(got - wanted) > 1e-5 * np.abs(wanted).max()) < 0.01


# ---- what is refused ---------------------------------------------------------------------------------------------------------------------------


def timed_refusal(load: Callable[[], Any], says: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelError, match=says):
        load()
    assert time.process_time() - start < MAX_SECONDS * max(1.0, slowness())


@pytest.mark.parametrize(("name", "build", "says"), UNSUPPORTED, ids=[u[0] for u in UNSUPPORTED])
def test_what_is_not_supported_is_said(name: str, build: Callable[[Net], Any], says: str) -> None:
    n = Net()
    build(n)
    timed_refusal(lambda: importer.loads(n.text().encode(), n.data()), says)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(name: str) -> None:
    change, says = DAMAGE[name]
    n = sound()
    before = (n.text().encode(), n.data())
    importer.loads(*before)
    param, weights = change(*before)
    assert (param, weights) != before
    timed_refusal(lambda: importer.loads(param, weights), says)


@pytest.mark.parametrize("name", BINARY_DAMAGE)
def test_damage_of_the_binary_form_is_refused(name: str) -> None:
    change, says = BINARY_DAMAGE[name]
    n = sound()
    before = words(n.binary()[0])
    after = change(before)
    timed_refusal(lambda: importer.loads(struct.pack(f"<{len(after)}i", *after), n.data()), says)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, "x.param", "x.bin") / "x.param"
    path.write_text(path.read_text().replace("b3 0=2", "b3 0=5"))
    with pytest.raises(ModelError, match=r"x\.param.*pixelshuffle_3"):
        fastsr.load(path)


MEMORY = """
import sys
sys.path.insert(0, {tests!r})
from limits import peak_megabytes
from ncnn_damage import DAMAGE, sound
from fastsr.errors import ModelError
from fastsr.importers import ncnn
n = sound()
for change, _ in DAMAGE.values():
    try:
        ncnn.loads(*change(n.text().encode(), n.data()))
    except ModelError:
        pass
print(peak_megabytes())
"""


def test_damage_takes_no_memory() -> None:
    code = MEMORY.format(tests=str(Path(__file__).parent))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert float(out[0]) < 250
