"""The precision `fast`: near to f32 on real pictures, the same bits for any tiling, floats where integers do not do, and how it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core import ISAS
from programs import Builder, espcn, inputs_for, pads

import fastsr
from fastsr import fsr, image
from fastsr.backends import available_backends
from fastsr.cli.info import receptive_field
from fastsr.graph import Feed
from fastsr.lower import lower
from fastsr.model import Model
from fastsr.passes import optimise
from fastsr.program import Epilogue, Program

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MODELS = ("ESPCN_x2", "ESPCN_x4", "FSRCNN_x2", "FSRCNN_x3", "FSRCNN-small_x2", "LapSRN_x2", "LapSRN_x4")
SET5 = ("baby", "bird", "butterfly", "head", "woman")
LEAST = 60.0
"""What the precision promises, in dB PSNR against f32."""
RELU = [Epilogue("Relu")]


def decibels(exact: np.ndarray, got: np.ndarray, peak: float = 1.0) -> float:
    error = np.mean((exact.astype(np.float64) - got) ** 2)
    return float(10 * np.log10(peak**2 / error)) if error else float("inf")


@cache
def models_of(path: Path) -> dict[str, Model]:
    return {p: fastsr.load(path, "cpu", p) for p in ("f32", "fast")}


def kernels(model: Model) -> list[str]:
    return model._executable._model.kernels()  # type: ignore[attr-defined]


def steps16(program: Program) -> list[bool]:
    """Of each step: whether `fast` computes it in 16-bit integers."""
    return ["16" in k for k in kernels(Model(program, "cpu", "fast"))]


def both(program: Program, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    exact, fast = (Model(program, "cpu", p).run(arrays) for p in ("f32", "fast"))
    assert isinstance(exact, np.ndarray) and isinstance(fast, np.ndarray)
    return exact, fast


# ---- near to f32 -------------------------------------------------------------------------------------------------------------------------------


def read(shared: Path, name: str) -> np.ndarray:
    cv2 = pytest.importorskip("cv2", reason="reads pictures: pip install fastsr[opencv]")
    picture = cv2.imread(str(shared / "images" / "Set5" / f"{name}.png"))
    if picture is None:
        pytest.skip(f"Set5's {name}.png is absent")
    return picture


def test_flat_pictures_have_no_marks_at_their_corners(shared: Path) -> None:
    """White corners of LapSRN_x8 reach numbers that no other place does: cut off, they are several levels away."""
    path = shared / "models" / "tensorflow" / "LapSRN_x8.pb"
    if not path.is_file():
        pytest.skip("LapSRN_x8.pb is absent")
    models = models_of(path)
    for level in (0, 128, 255):
        exact, fast = (models[p].upscale(np.full((24, 24, 3), level, np.uint8)).astype(int) for p in ("f32", "fast"))
        assert np.abs(exact - fast).max() <= 1


def luma(picture: np.ndarray) -> np.ndarray:
    return image.to_network(picture, fastsr.graph.Feed("y"))[0]


def shrunk(picture: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel the mean of those it covers."""
    h, w = picture.shape[0] // scale, picture.shape[1] // scale
    means = picture[: h * scale, : w * scale].reshape(h, scale, w, scale, -1).mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


@pytest.mark.parametrize("name", SET5)
@pytest.mark.parametrize("model", MODELS)
def test_set5(shared: Path, model: str, name: str) -> None:
    path = shared / "models" / "tensorflow" / f"{model}.pb"
    if not path.is_file():
        pytest.skip(f"{path.name} is absent")
    truth = read(shared, name)
    models = models_of(path)
    assert any(k.startswith("conv16" if "FSRCNN" in model else "winograd16") for k in kernels(models["fast"]))
    scale = int(models["f32"].scale)
    low = shrunk(truth, scale)
    outputs = {p: m.run(luma(low), outputs=m.outputs) for p, m in models.items()}
    for out in models["f32"].outputs:
        near = decibels(outputs["f32"][out], outputs["fast"][out])
        assert LEAST <= near < 110, (out, near)
    exact = luma(truth)[:, :, : low.shape[0] * scale, : low.shape[1] * scale]
    inner = np.s_[:, :, scale:-scale, scale:-scale]
    first = models["f32"].outputs[0]
    assert outputs["f32"][first].shape == exact.shape
    quality = {p: decibels(exact[inner], np.clip(outputs[p][first], 0, 1)[inner]) for p in models}
    assert quality["f32"] > 20
    assert abs(quality["f32"] - quality["fast"]) <= 0.01


@pytest.fixture(scope="module")
def networks() -> Iterator[Any]:
    """benchmarks/networks.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("networks")


@pytest.mark.parametrize("network", ["vdsr", "srvgg"])
def test_deep_networks(networks: Any, shared: Path, network: str) -> None:
    program = lower(optimise(networks.NETWORKS[network].build()))
    models = {p: Model(program, "cpu", p) for p in ("f32", "fast")}
    assert sum(k.startswith("winograd16") for k in kernels(models["fast"])) >= 10
    for name in ("butterfly", "bird"):
        x, _ = image.to_network(np.ascontiguousarray(read(shared, name)[60:188, 60:188]), program.feed)
        near = decibels(models["f32"].run(x), models["fast"].run(x))
        assert LEAST <= near < 110, (name, near)


# ---- the same bits -----------------------------------------------------------------------------------------------------------------------------


def plain(layers: int = 3) -> Program:
    b = Builder(1, 3)
    x = b.conv(0, 24)
    for _ in range(layers):
        x = b.conv(x, 24, epilogue=RELU)
    b.conv(x, 4, epilogue=[Epilogue("DepthToSpace", a=2.0)])
    return b.program(feed=Feed("y"))


def picture(height: int, width: int) -> np.ndarray:
    """Blocks, shades and grain, 0..1."""
    rng = np.random.default_rng(7)
    blocks = rng.uniform(0, 1, (-(-height // 8), -(-width // 8))).repeat(8, 0).repeat(8, 1)[:height, :width]
    x = 0.7 * blocks + 0.2 * np.linspace(0, 1, width) + rng.normal(0, 0.03, (height, width))
    return np.clip(x, 0, 1).astype(np.float32)[None, None]


@pytest.fixture(params=["plain", "LapSRN_x2"])
def network(request: pytest.FixtureRequest) -> Program:
    if request.param == "plain":
        return plain()
    path = request.getfixturevalue("shared") / "models" / "tensorflow" / f"{request.param}.pb"
    if not path.is_file():
        pytest.skip(f"{path.name} is absent")
    return models_of(path)["f32"].program


def test_same_bits_for_any_tiles_and_threads(network: Program) -> None:
    x = picture(90, 133)
    whole = Model(network, "cpu", "fast", threads=1, tile=200).run(x)
    assert whole.tobytes() != Model(network, "cpu", "f32").run(x).tobytes()
    for threads, tile in ((1, None), (2, 16), (1, 33), (2, 64)):
        got = Model(network, "cpu", "fast", threads=threads, tile=tile).run(x)
        assert got.tobytes() == whole.tobytes(), (threads, tile)


def test_same_bits_in_a_larger_picture(network: Program) -> None:
    """Beyond the halo, which each layer's groups of pixels make wider."""
    scale = int(network.scale())
    layers = sum(k.startswith("winograd16") for k in kernels(Model(network, "cpu", "fast")))
    halo = -(-max(receptive_field(network)) // 24) * 12 + 12 * layers
    edge = 2 * halo + 24
    model = Model(network, "cpu", "fast", threads=2)
    x = picture(edge + 44, edge + 80)
    whole = model.run(x)
    for top, left in ((0, 0), (12, 24), (24, 36), (36, 72)):
        part = model.run(np.ascontiguousarray(x[:, :, top : top + edge, left : left + edge]))
        inner = part[:, :, halo * scale : (edge - halo) * scale, halo * scale : (edge - halo) * scale]
        assert inner.shape[2:] == (24 * scale, 24 * scale)
        y, xs = (top + halo) * scale, (left + halo) * scale
        np.testing.assert_array_equal(inner, whole[:, :, y : y + inner.shape[2], xs : xs + inner.shape[3]])


def test_same_bits_every_time() -> None:
    program, x = plain(), picture(40, 50)
    assert len({Model(program, "cpu", "fast", threads=t).run(x).tobytes() for t in (1, 2, 3, 1)}) == 1


# ---- floats where integers do not do ---------------------------------------------------------------------------------------------------------------


def with_offset(layers: int, offset: float = 100.0, stride: int = 1) -> Program:
    """The last 3x3 convolution reads numbers around `offset` and takes that away again: too little is left of what 16 bits hold."""
    b = Builder(1, 5)
    x = 0
    for k in range(layers + 1):
        s = stride if k == 0 else 1
        x = b.conv(x, 24, sh=s, sw=s, epilogue=[Epilogue("Add", a=offset)] if k == layers else RELU)
    x = b.conv(x, 24, pt=0, pl=0, pb=0, pr=0)
    b.steps[-1].bias[:] -= offset * b.steps[-1].weight.sum(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)
    b.conv(x, 1, k=1)
    return b.program(feed=Feed("y"))


def test_falls_back_from_the_result_on() -> None:
    program = with_offset(layers=6)
    assert steps16(program) == [*[True] * 7, False, False]
    exact, fast = both(program, [picture(60, 70)])
    assert LEAST <= decibels(exact, fast, max(1.0, float(np.abs(exact).max()))) < 110


def test_falls_back_altogether() -> None:
    program = with_offset(layers=0, stride=2)
    assert True in steps16(with_offset(layers=0, offset=0.0, stride=2))
    assert not any(steps16(program))
    exact, fast = both(program, [picture(60, 70)])
    assert exact.tobytes() == fast.tobytes()


def test_smaller_tiles_where_larger_ones_err_too_much() -> None:
    """Of a network whose results are louder and louder, the first layers keep the larger tiles longest."""
    sizes = {"winograd16": 0, "winograd16x6x4": 1, "winograd16x6": 2}
    before, seen = 3.0, set()
    for gain in np.geomspace(4, 24, 12):
        program = plain(8)
        program.steps[-1].weight[...] *= np.float32(gain)
        tiles = [sizes[k] for k in kernels(Model(program, "cpu", "fast")) if k in sizes]
        assert len(tiles) == 8 and tiles == sorted(tiles, reverse=True)
        assert np.mean(tiles) <= before
        before = float(np.mean(tiles))
        seen |= {tuple(sorted(set(tiles)))}
    assert seen >= {(0,), (0, 1), (1, 2), (2,)}


@pytest.mark.parametrize("joined", [False, True])
def test_numbers_too_large_for_half_floats(joined: bool) -> None:
    """They are kept as floats, and computed with in integers all the same."""
    b = Builder(1, 3)
    x = b.conv(b.conv(0, 24), 24, epilogue=RELU)
    b.steps[-1].weight[...] *= np.float32(1e6)
    if joined:
        x = b.step("Concat", [x, b.conv(x, 24, epilogue=RELU)], 48)
    x = b.conv(x, 24, epilogue=RELU)
    b.steps[-1].weight[...] *= np.float32(1e-6)
    b.conv(x, 4, epilogue=[Epilogue("DepthToSpace", a=2.0)])
    program = b.program(feed=Feed("y"))
    assert steps16(program) == [s.kind == "Conv" for s in program.steps]
    exact, fast = both(program, [picture(60, 70)])
    assert LEAST <= decibels(exact, fast, float(np.abs(exact).max())) < 110


def seventh(b: Builder) -> int:
    return b.step("SpaceToDepth", [0], 49, {"block": 7})


def mirrored(b: Builder) -> int:
    return b.step("Pad", [0], 1, {**pads(150, 2, 3, 4), "mode": 1})


@pytest.mark.parametrize("first", [seventh, mirrored])
def test_networks_that_refuse_the_calibration_picture(first: Callable[[Builder], int]) -> None:
    b = Builder(1)
    b.conv(b.conv(b.conv(first(b), 32), 32, epilogue=RELU), 1)
    program = b.program(feed=Feed("y"))
    with pytest.raises(fastsr.PictureError):
        program.value_sizes(128, 480)
    assert not any(steps16(program))
    exact, fast = both(program, [picture(161, 168)])
    assert exact.tobytes() == fast.tobytes()


def poisoned(step: int, weight: float, how: str) -> Program:
    program = plain()
    if how == "bias":
        program.steps[step].bias[3] = weight
    elif how == "one":
        program.steps[step].weight[3, 0, 1, 1] = weight
    else:
        program.steps[step].weight[...] = weight
    return program


@pytest.mark.parametrize("how", ["one", "all", "bias"])
@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf, 3e38, 1e30])
@pytest.mark.parametrize("step", [0, 1, 3, 4])
def test_weights_that_are_no_numbers(step: int, weight: float, how: str) -> None:
    program = poisoned(step, weight, how)
    x = picture(20, 27)
    exact, fast = both(program, [x])
    assert fast.shape == exact.shape
    if not any(steps16(program)):
        np.testing.assert_array_equal(fast, exact)
    else:
        peak = max(1.0, float(np.abs(exact[np.isfinite(exact)]).max(initial=0)))
        assert np.isfinite(exact).all() and decibels(exact, fast, peak) >= LEAST - 2


@pytest.mark.parametrize("step", [0, 1, 3, 4, None])
@pytest.mark.parametrize("isa", ISAS)
def test_zero_weights(step: int | None, isa: str) -> None:
    """What follows sees a flat picture, with borders at every place in a group of pixels."""
    program = plain()
    for s in program.steps if step is None else [program.steps[step]]:
        s.weight[...] = 0
    sys.modules["fastsr._core"].set_isa(isa)
    models = [Model(program, "cpu", p) for p in ("f32", "fast")]
    for size in ((20, 28), (21, 27), (22, 26), (23, 25), (24, 30), (19, 29)):
        exact, fast = (m.run(picture(*size)) for m in models)
        assert np.isfinite(fast).all()
        assert decibels(exact, fast, max(1.0, float(np.abs(exact).max()))) >= LEAST
        if step is None:
            np.testing.assert_array_equal(exact, fast)


def test_pictures_unlike_any(network: Program) -> None:
    """Flat ones, far too bright ones, numbers that are none: no crash, and what is far away stays right."""
    model = Model(network, "cpu", "fast")
    for value in (0.0, 1.0, 1e4, -1e30, np.inf, np.nan):
        x = picture(40, 150)
        x[:, :, :, :4] = value
        out, clean = model.run(x), model.run(picture(40, 150))
        assert np.isfinite(out[..., -40:]).all()
        np.testing.assert_array_equal(out[..., -40:], clean[..., -40:])


# ---- asking for it -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    (tmp_path / "a.fsr").write_bytes(fsr.dumps(espcn()))
    return tmp_path / "a.fsr"


def test_environment(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = picture(24, 36)
    monkeypatch.delenv("FASTSR_BACKEND", raising=False)
    monkeypatch.delenv("FASTSR_PRECISION", raising=False)
    expected = {p: fastsr.load(model_file, precision=p).run(x).tobytes() for p in ("f32", "fast")}
    assert expected["f32"] != expected["fast"]

    def loaded(**kwargs: Any) -> str:
        model = fastsr.load(model_file, **kwargs)
        assert model.run(x).tobytes() == expected[model.precision]
        return model.precision

    assert loaded() == "f32"
    monkeypatch.setenv("FASTSR_PRECISION", "fast")
    assert loaded() == loaded(backend="cpu") == loaded(precision="fast") == "fast"
    assert loaded(precision="f32") == "f32"
    monkeypatch.setenv("FASTSR_PRECISION", "f32")
    assert loaded() == "f32"
    assert loaded(precision="fast") == "fast"


@pytest.mark.parametrize("backend", [name for name in available_backends() if name != "cpu"])
def test_backends_that_cannot(backend: str, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSR_PRECISION", "fast")
    with pytest.raises(fastsr.BackendError, match=f"{backend} backend computes in f32"):
        fastsr.load(model_file, backend)
    assert fastsr.load(model_file, backend, "f32").precision == "f32"
    monkeypatch.setenv("FASTSR_BACKEND", backend)
    with pytest.raises(fastsr.BackendError, match=f"{backend} backend computes in f32"):
        fastsr.load(model_file)


def test_random_inputs_run(model_file: Path) -> None:
    model = fastsr.load(model_file, "cpu", "fast")
    for size in ((1, 1), (1, 9), (3, 70), (129, 5)):
        out = model.run(inputs_for(model.program, *size))
        assert np.isfinite(out).all()


def test_arrays_of_unknown_meaning_stay_in_floats() -> None:
    """A network that is fed arrays does not say what they hold: no calibration picture can stand for them."""
    raw = plain()
    raw.feed = Feed()
    assert True not in steps16(raw)
    assert True in steps16(plain())
