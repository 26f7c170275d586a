"""fastsr.quantise: what it makes of float networks, computed again in float64, by every backend and by ONNX Runtime; and the command."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fails
from graphs import Builder
from pictures import drawn

import fastsr
from fastsr import calibration, fsr, levels, onnx_export, ops, quantise, rounding
from fastsr.backends.reference import run_program
from fastsr.cli import main
from fastsr.cli.quantise import default_name
from fastsr.errors import FastsrError, ModelError, PictureError
from fastsr.files import write_picture
from fastsr.graph import Feed, Graph, Node
from fastsr.lower import lower
from fastsr.model import load_program, save_program
from fastsr.passes import optimise

SAME = {"pads": [1, 1, 1, 1]}


def luma(seed: int, h: int = 40, w: int = 48) -> np.ndarray:
    """The same as a network of Y is fed it, (1, 1, H, W)."""
    return (drawn(seed, h, w)[:, :, 1][None, None] / 255).astype(np.float32)


def chain() -> Graph:
    """Y enlarged by 2: PReLU, ReLU, a skip connection, a depthwise convolution, and a shuffle in the middle and at the end."""
    b = Builder(1)
    y = b.op("PRelu", b.conv("x", 1, 8, 3, **SAME), b.const(np.linspace(-0.2, 0.5, 8).reshape(-1, 1, 1)))
    z = b.op("Relu", b.conv(y, 8, 8, 3, group=8, **SAME))
    z = b.op("Add", b.conv(z, 8, 8, 1), y)
    z = b.op("DepthToSpace", b.conv(z, 8, 8, 3, bias=False, **SAME), blocksize=2)
    z = b.op("DepthToSpace", b.conv(z, 2, 4, 3, strides=[2, 2], pads=[1, 1, 1, 1]), blocksize=2)
    graph = b.done(z)
    graph.feed = Feed("y")
    return graph


def plain() -> Graph:
    """Convolutions and ReLU alone, whose integers every backend and ONNX Runtime agree on; fed bytes."""
    b = Builder(3)
    y = b.op("Relu", b.conv("x", 3, 8, 3, **SAME))
    y = b.op("LeakyRelu", b.conv(y, 8, 6, 3, **SAME), alpha=0.2)
    graph = b.done(b.op("DepthToSpace", b.conv(y, 6, 12, 3, **SAME), blocksize=2))
    graph.feed = Feed("bgr", range=255, out_range=255)
    return graph


def calibration_of(graph: Graph) -> list[np.ndarray]:
    if graph.inputs[0].channels == 1:
        return [luma(1), luma(2), luma(3, 32, 40)]
    return [drawn(k).transpose(2, 0, 1)[None].astype(np.float32) for k in range(3)]


def made(graph: Graph) -> Graph:
    return quantise.quantise(optimise(graph), calibration_of(graph), threads=1)


# ---- rounding ----------------------------------------------------------------------------------------------------------------------------------


def test_range_clips_outliers_and_keeps_zero() -> None:
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.normal(0.3, 1, 1_000_000), [12.0]]).astype(np.float32)
    scale, zero = rounding.activation_range([a])

    def error(s: float, z: int) -> float:
        return float(np.mean((np.clip(np.rint(a / s), -z, 255 - z) * s - a) ** 2))

    least, most = float(a.min()), float(a.max())
    wide = (most - least) / 255
    assert error(float(scale), zero) < 0.8 * error(wide, round(-least / wide))
    assert 0 < zero < 255
    assert rounding.activation_range([np.abs(a)])[1] == 0
    assert rounding.activation_range([np.zeros(5, np.float32)]) == (1, 0)
    assert rounding.activation_range([np.array([-1e-42, 3e-41], np.float32)]) == (1, 0)
    with pytest.raises(ModelError, match="not finite"):
        rounding.activation_range([np.array([1, np.inf], np.float32)])


@pytest.mark.parametrize(
    "attrs", [{"pads": [1, 1, 1, 1]}, {"group": 4, "pads": [1, 0, 2, 1]}, {"strides": [2, 1], "dilations": [1, 2]}, {"auto_pad": "SAME_UPPER"}]
)
def test_windows_are_what_a_convolution_multiplies(attrs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    group = attrs.get("group", 1)
    w, xs = rng.normal(size=(8, 4 // group, 3, 3)), [rng.normal(size=(2, 4, 9, 8)), rng.normal(size=(1, 4, 7, 11))]
    node = Node("Conv", ["x", "w"], ["y"], attrs)
    for g in range(group):
        mine = slice(g * 8 // group, (g + 1) * 8 // group)
        got = rounding.windows(node, w.shape, xs, g) @ w[mine].reshape(8 // group, -1).T
        want = [ops.Conv(node, x, w)[:, mine].transpose(0, 2, 3, 1).reshape(-1, 8 // group) for x in xs]
        np.testing.assert_allclose(got, np.concatenate(want), atol=1e-12)
    monkeypatch.setattr(rounding, "SAMPLES", 20)
    assert 20 <= len(rounding.windows(node, w.shape, xs, 0)) < 45


def test_weights_make_up_for_each_other() -> None:
    """Where inputs go together, the error of the result is far below that of rounding each weight by itself."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1, 1, 60, 60)) + 0.05 * rng.normal(size=(1, 6, 60, 60))).astype(np.float32)
    node, w = Node("Conv", ["x", "w"], ["y"], dict(SAME)), rng.normal(size=(4, 6, 3, 3)).astype(np.float32)
    integers, scales = rounding.round_weights(node, w, [x], np.zeros(4))
    assert np.array_equal(integers, np.rint(integers)) and np.abs(integers).max() <= 127
    s = scales.reshape(-1, 1, 1, 1)
    nearest = np.clip(np.rint(w / s), -127, 127)
    off = [np.var(ops.Conv(node, x, q * s - w), axis=(0, 2, 3)).max() for q in (integers, nearest)]
    assert off[0] < 0.3 * off[1]


def test_channels_of_zeros_and_large_biases() -> None:
    b = Builder(1)
    graph = b.done(b.conv("x", 1, 3, 3, **SAME))
    graph.feed = Feed("raw")
    w, bias = (graph.constants[n] for n in graph.nodes[0].inputs[1:])
    w[0], bias[0] = 0, 5.25
    w[1], bias[1] = w[1] * 1e-9, -3
    w[2], bias[2] = 0, 0
    x = luma(0)
    got = run_program(quantise.program_of(quantise.quantise(graph, [x], threads=1)), [x])[0]
    np.testing.assert_allclose(got, np.broadcast_to(np.reshape([5.25, -3, 0], (1, 3, 1, 1)), got.shape), atol=1e-5)


# ---- networks ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [chain, plain])
def test_every_convolution_is_of_integers(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTSR_PRECISION", raising=False)
    before = make()
    kept = copy.deepcopy(before).dump()
    graph = made(before)
    program = quantise.program_of(graph)
    assert sum(levels.integer_convs(program)) == sum(s.kind == "Conv" for s in program.steps) == len([n for n in graph.nodes if n.op == "Conv"])
    path = tmp_path / "q.fsr"
    save_program(program, path)
    model = fastsr.load(path, "reference")
    assert model.precision == "int8"
    assert quantise.program_of(graph).dump() == program.dump(), "program_of leaves the graph as it is"
    assert make().dump() == kept
    weights = [graph.constants[n.inputs[0]] for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] in graph.constants]
    assert len(weights) == sum(levels.integer_convs(program)) and all(w.dtype == np.float32 for w in weights), "they can be trained further"


def naive(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The quantised graph in float64, scales multiplied one after another."""
    return ops.run_graph(quantise.sealed(graph), {"x": x.astype(np.float64)})[graph.outputs[0]]


@pytest.mark.parametrize("make", [chain, plain])
def test_against_a_naive_computation(make: Any) -> None:
    graph = made(make())
    x = calibration_of(graph)[0][:, :, :20, :24]
    want = naive(graph, x)
    got = run_program(quantise.program_of(graph), [x], integers=True)[0]
    off = np.abs(got - want)
    assert np.mean(off > 1e-5 * np.abs(want).max()) < 0.02, "numbers half-way between two levels may go to either"
    assert off.max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize("make", [chain, plain])
def test_near_the_float_network_and_without_bias(make: Any) -> None:
    before = optimise(make())
    graph = made(make())
    for x in calibration_of(graph):
        want, got = ops.run_graph(before, {"x": x})[before.outputs[0]], run_program(quantise.program_of(graph), [x], integers=True)[0]
        assert 20 * np.log10(np.std(want) / np.std(got - want)) > 28
        assert np.abs((got - want).mean()) < 0.02 * np.std(want)


def test_bias_correction_keeps_means() -> None:
    before, graph = optimise(plain()), made(plain())
    convs = [n.output for n in before.nodes if n.op == "Conv"]
    xs = calibration_of(graph)
    plainly = copy.deepcopy(quantise.sealed(graph))
    for k, name in enumerate(convs):
        floats = np.concatenate([ops.run_graph(before, {"x": x}, [name])[name] for x in xs]).mean(axis=(0, 2, 3))
        mine = np.concatenate([ops.run_graph(plainly, {"x": x}, [name])[name] for x in xs]).mean(axis=(0, 2, 3))
        spread = np.concatenate([ops.run_graph(before, {"x": x}, [name])[name] for x in xs]).std()
        assert np.abs(floats - mine).max() < 2e-4 * spread, f"convolution {k}"


def test_levels_of_pictures_are_exact() -> None:
    """The first convolution sees all 256 levels, whatever the calibration pictures hold."""
    for make, step in ((chain, 1 / 255), (plain, 1.0)):
        graph = optimise(make())
        dark = [a * np.float32(0.25) for a in calibration_of(graph)]
        new = quantise.quantise(graph, dark, threads=1)
        first = next(n for n in new.nodes if n.op == "QuantizeLinear")
        assert first.inputs[0] == "x"
        scale, zero = (new.constants[i] for i in first.inputs[1:])
        assert zero == 0
        x = (np.arange(256, dtype=np.float32) * np.float32(step)).reshape(1, 1, 16, 16)
        np.testing.assert_array_equal(ops.run_node(first, [x, scale, zero])[0].reshape(-1), np.arange(256))
    graph = optimise(chain())
    for feed in (Feed("y", mean=(0.5,)), Feed("y", pre_scale=2), Feed("raw")):
        graph.feed = feed
        new = quantise.quantise(graph, [luma(1) * np.float32(0.25)], threads=1)
        assert new.constants[next(n for n in new.nodes if n.op == "QuantizeLinear").inputs[1]] < 0.5 / 255


def test_deterministic() -> None:
    programs = [fsr.dumps(quantise.program_of(quantise.quantise(optimise(chain()), calibration_of(chain()), threads=t))) for t in (1, 2)]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("make", [chain, plain])
def test_the_same_bits_in_the_core(make: Any) -> None:
    core = pytest.importorskip("fastsr._core", reason="the C++ core is not built")
    graph = made(make())
    program = quantise.program_of(graph)
    data = fsr.dumps(program)
    x = calibration_of(graph)[0]
    want = run_program(program, [x], integers=True)[0]
    for tile in (0, 9):
        model = core.Model(data, threads=1, tile=tile, precision="int8")
        assert model.kernels().count("conv8") == sum(levels.integer_convs(program))
        got = model.run([x], [0])[0]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("make", [chain, plain])
def test_the_same_in_onnx_runtime(make: Any, tmp_path: Path) -> None:
    """And the file is read back as it was. Operator by operator: where the processor lacks VNNI, ONNX Runtime's integer kernels saturate."""
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the peer")
    graph = made(make())
    path = tmp_path / "q.onnx"
    program = quantise.save(graph, path)
    x = calibration_of(graph)[0]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    (theirs,) = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    ours = run_program(program, [x], integers=True)[0]
    read = load_program(path)
    assert read.feed == program.feed and sum(levels.integer_convs(read)) == sum(levels.integer_convs(program))
    np.testing.assert_array_equal(run_program(read, [x], integers=True)[0], ours)
    off = np.abs(theirs - ours)
    assert np.mean(off > 1e-5 * np.abs(ours).max()) < 0.02, "numbers half-way between two levels may go to either"
    assert off.max() < 0.05 * np.abs(ours).max()


def test_what_stays_in_floats() -> None:
    """Convolutions that pick channels, and those of channel attention, which see one pixel."""
    b = Builder(1)
    y = b.op("Relu", b.conv("x", 1, 4, 3, **SAME))
    gate = b.op("Sigmoid", b.conv(b.op("GlobalAveragePool", y), 4, 4, 1))
    picks = b.op("Conv", b.op("Mul", y, gate), b.const(np.eye(4, dtype=np.float32)[:2].reshape(2, 4, 1, 1)))
    graph = b.done(b.conv(picks, 2, 1, 3, **SAME))
    new = quantise.quantise(graph, [luma(1)], threads=1)
    made_by = new.producers()
    kinds = [made_by[n.inputs[1]].op if n.inputs[1] in made_by else "constant" for n in new.nodes if n.op == "Conv"]
    assert kinds == ["DequantizeLinear", "constant", "constant", "DequantizeLinear"]
    program = quantise.program_of(new)
    assert sum(levels.integer_convs(program)) == 2
    model = fastsr.Model(program)
    np.testing.assert_allclose(model.run(luma(1)), naive(new, luma(1)), atol=0.05)


def test_convolutions_of_constants_stay_in_floats() -> None:
    b = Builder(1)
    graph = b.done(b.op("Add", b.conv("x", 1, 2, 3, **SAME), b.conv(b.const(luma(2)), 1, 2, 3, **SAME)))
    new = quantise.quantise(graph, [luma(1)], threads=1)
    want, got = (ops.run_graph(g, {"x": luma(1)})[g.outputs[0]] for g in (graph, new))
    assert 20 * np.log10(np.std(want) / np.std(got - want)) > 28


def test_what_cannot_be_quantised() -> None:
    graph = made(chain())
    with pytest.raises(ModelError, match="quantised already"):
        quantise.quantise(graph, [luma(1)])
    with pytest.raises(ModelError, match="quantised already"):
        quantise.quantise(onnx_export.graph_of(quantise.program_of(graph)), [luma(1)])
    b = Builder(1)
    with pytest.raises(ModelError, match="no convolution"):
        quantise.quantise(b.done(b.op("Relu", "x")), [luma(1)])
    with pytest.raises(ModelError, match="calibration"):
        quantise.quantise(optimise(chain()), [])
    with pytest.raises(ModelError, match="C being 3"):
        quantise.quantise(optimise(plain()), [luma(1)])
    b = Builder(1)
    with pytest.raises(PictureError, match="too small"):
        quantise.quantise(b.done(b.conv("x", 1, 4, 9)), [luma(1), luma(1, 6, 8)])
    b = Builder(1)
    with pytest.raises(ModelError, match="over pictures"):
        quantise.quantise(b.done(b.op("Mul", "x", b.conv(b.op("GlobalAveragePool", "x"), 1, 1, 1))), [luma(1)])


# ---- pictures and the command ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for k in range(8):
        write_picture(tmp_path / "photos" / ("more" if k > 5 else "") / f"{k}.png", drawn(k))
    return tmp_path / "photos"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    program = lower(optimise(plain()))
    save_program(program, tmp_path / "net.fsr")
    return tmp_path / "net.fsr"


def test_split() -> None:
    files = [Path(f"{k:03d}") for k in range(100)]
    fitting, kept = calibration.split(files, 10)
    assert len(fitting) == 10 and len(kept) == 5 and not set(fitting) & set(kept) and fitting == sorted(fitting) and fitting[-1] > files[80]
    assert calibration.split(files[:3], 32) == (files[:3], files[:3])
    fitting, kept = calibration.split(files[:7], 32)
    assert len(fitting) == 6 and len(kept) == 1


def test_pictures_are_kept_aside_that_can_be_measured_on(photos: Path, network: Path) -> None:
    fits = calibration.measurable(load_program(network))
    files = sorted(photos.rglob("*.png"))
    flat, tiny, broken, good = files[:4]
    write_picture(flat, np.full((40, 40, 3), 90, np.uint8))
    write_picture(tiny, drawn(1, 5, 60))
    broken.write_bytes(b"nothing")
    assert [fits(p) for p in files[:4]] == [False, False, False, True]
    fitting, kept = calibration.split(files, 32, fits)
    assert kept == [good]
    assert fitting == [*files[:3], *files[4:]]
    assert calibration.split(files[:4], 2, fits) == ([files[0], files[2]], [good])
    assert calibration.split(files[:3] * 3, 32, fits)[1] == []


def test_pictures_that_the_network_cannot_be_fed_are_skipped(photos: Path, tmp_path: Path) -> None:
    b = Builder(1)
    graph = b.done(b.op("DepthToSpace", b.conv("x", 1, 4, 9), blocksize=2))
    graph.feed = Feed("y")
    program = lower(optimise(graph))
    write_picture(photos / "0.png", drawn(0, 14, 60))
    inputs, skipped = calibration.inputs_of(program, sorted(photos.glob("*.png")))
    assert [p.name for p, _ in skipped] == ["0.png"] and "too small" in skipped[0][1]
    assert sum(len(a) for a in inputs) == 5
    assert [one.picture for one in calibration.Losses(program, sorted(photos.glob("*.png"))[:2], threads=1).of(program)] == ["1.png"]


def test_the_float_network_is_computed_once(photos: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load_program(network)
    made: list[Any] = []
    upscale = calibration.Model.upscale

    def counted(self: Any, *args: Any) -> Any:
        made.append(self)
        return upscale(self, *args)

    monkeypatch.setattr(calibration.Model, "upscale", counted)
    losses = calibration.Losses(program, sorted(photos.glob("*.png"))[:3], threads=1)
    first, second = losses.of(program), losses.of(program)
    assert first == second
    assert len(first) == 3
    assert all(one.before == one.after and one.between == float("inf") for one in first)
    assert len(made) == 9
    assert len(set(map(id, made))) == 3


def test_inputs(photos: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load_program(network)
    write_picture(photos / "large.png", drawn(9, 300, 400))
    (photos / "broken.png").write_bytes(b"nothing")
    files = sorted(photos.rglob("*.png"))
    inputs, skipped = calibration.inputs_of(program, files)
    assert sorted(a.shape for a in inputs) == [(1, 3, 96, 96), (8, 3, 32, 40)]
    assert [p.name for p, _ in skipped] == ["broken.png"]
    assert all(a.max() > 200 for a in inputs)
    monkeypatch.setattr(calibration, "MEMORY", 1 << 20)
    inputs, _ = calibration.inputs_of(program, files)
    assert max(a.shape[2] for a in inputs) == calibration.LEAST
    with pytest.raises(FastsrError, match="none of 1 pictures"):
        calibration.inputs_of(program, [photos / "broken.png"])


@pytest.mark.parametrize("suffix", [".fsr", ".onnx"])
def test_command(photos: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = tmp_path / f"small{suffix}"
    assert main(["quantise", str(network), "--data", str(photos), "-o", str(out), "-n", "4", "-j", "1"]) == 0
    told = capsys.readouterr().out
    assert "3 of 3 convolutions in 8-bit integers, calibrated on 4 pictures" in told
    assert "int8 against float" in told and "lost" in told and "1 pictures kept aside" in told
    picture = drawn(20)
    before, after = (fastsr.load(p, threads=1).upscale(picture).astype(float) for p in (network, out))
    assert np.sqrt(np.mean((before - after) ** 2)) < 0.1 * before.std()
    capsys.readouterr()
    fails(capsys, ["quantise", out, "--data", photos, "-o", tmp_path / "again.fsr"], "quantised already")
    assert not (tmp_path / "again.fsr").exists()


def test_command_of_few_pictures_and_quiet(photos: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["quantise", str(network), "--data", str(photos / "more"), "-j", "1"]) == 0
    assert "2 pictures calibrated on" in capsys.readouterr().out
    assert (tmp_path / "net-int8.fsr").exists()
    assert main(["quantise", str(network), "--data", str(photos / "more"), "-j", "1", "-q"]) == 0
    assert capsys.readouterr().out == ""
    write_picture(tmp_path / "tiny.png", drawn(0, 5, 4))
    assert main(["quantise", str(network), "--data", "tiny.png", "-j", "1", "-o", "tiny.fsr"]) == 0
    assert "no picture is there to measure on" in capsys.readouterr().out
    assert (tmp_path / "tiny.fsr").exists()


def test_command_errors(photos: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.fsr"
    (tmp_path / "empty").mkdir()
    fails(capsys, ["quantise", network, "--data", tmp_path / "empty", "-o", out], "no picture in the folder")
    fails(capsys, ["quantise", network, "--data", tmp_path / "nowhere", "-o", out], "no such file or folder")
    fails(capsys, ["quantise", tmp_path / "none.pb", "--data", photos, "-o", out], "no model file")
    fails(capsys, ["quantise", network, "--data", photos, "-o", tmp_path / "x.png"], ".fsr or .onnx", 2)
    fails(capsys, ["quantise", network, "--data", photos, "-o", tmp_path / "no" / "x.fsr"], "does not exist")
    fails(capsys, ["quantise", network, "--data", photos, "--feed", "colour=raw", "-o", out], "--feed")
    fails(capsys, ["quantise", "nearest", "--data", photos, "-o", out], "no convolution")
    assert not out.exists()
    before = network.read_bytes()
    fails(capsys, ["quantise", network, "--data", photos, "-o", network], "is the network itself", 2)
    assert network.read_bytes() == before


def test_names_of_named_networks_have_their_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [default_name("fast", s) for s in (None, 3)] == ["fast_x2-int8.fsr", "fast_x3-int8.fsr"]
    assert default_name("fast_x4", None) == "fast_x4-int8.fsr"
    (tmp_path / "fast").write_bytes(b"")
    assert default_name("fast", 3) == default_name("models/fast.onnx", None) == "fast-int8.fsr"


@pytest.mark.parametrize(("name", "most"), [("ESPCN_x2", 0.15), ("FSRCNN_x2", 0.25)])
def test_trained_networks_lose_little(name: str, most: float, shared: Path) -> None:
    pytest.importorskip("fastsr._core", reason="the C++ core is not built")
    path = shared / "models" / "tensorflow" / f"{name}.pb"
    data, originals = shared / "photos", sorted((shared / "images" / "Set5").glob("*.png"))
    if not path.exists() or not originals or not data.is_dir():
        pytest.skip(f"{name}.pb, Set5 or the photographs are absent")
    program = load_program(path)
    inputs, _ = calibration.inputs_of(program, calibration.split(sorted(data.glob("*.jpg")), 12)[0])
    new = quantise.program_of(quantise.quantise(onnx_export.graph_of(program), inputs, threads=1))
    losses = calibration.Losses(program, originals, threads=1).of(new)
    assert np.mean([one.before - one.after for one in losses if one.before is not None and one.after is not None]) < most
