"""The Python API: types and shapes of pictures, `run`, `save`, arguments, thread counts; each backend that works here."""

from __future__ import annotations

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import ODD_SIZES
from programs import Builder, espcn, shuffle

import fastsr
from fastsr import fsr
from fastsr.backends.reference import run_program
from fastsr.graph import Feed
from fastsr.model import Model
from fastsr.program import Program

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(3))


BACKENDS = fastsr.available_backends()


def rgb_net() -> Program:
    b = Builder(3, seed=2)
    b.conv(0, 12, epilogue=[shuffle(2)])
    return b.program(feed=Feed("rgb", 255.0, (10.0, 20.0, 30.0), 255.0, (1.0, 2.0, 3.0)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(9, 14), (9, 14, 1), (9, 14, 3), (9, 14, 4)])
@pytest.mark.parametrize("net", [espcn, rgb_net])
def test_upscale_keeps_type_and_channels(backend: str, dtype: type, shape: tuple[int, ...], net) -> None:
    picture = RNG.random(shape).astype(np.float32) if dtype == np.float32 else RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    out = Model(net(), backend).upscale(picture)
    assert out.dtype == dtype and out.shape == (18, 28, *shape[2:])
    oracle = Model(net(), "reference").upscale(picture)
    levels = {np.uint8: 1, np.uint16: 2, np.float32: 1e-5}[dtype]
    assert np.abs(out.astype(np.float64) - oracle.astype(np.float64)).max() <= levels


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", ODD_SIZES)
def test_run_equals_the_oracle(backend: str, size: tuple[int, int]) -> None:
    program = espcn()
    x = RNG.random((2, 1, *size), np.float32)
    exact = run_program(program, [x], dtype=np.float64)[0]
    np.testing.assert_allclose(Model(program, backend).run(x), exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_named_outputs(backend: str) -> None:
    b = Builder(1)
    first = b.conv(0, 3)
    last = b.conv(first, 4, epilogue=[shuffle(2)])
    model = Model(b.program(last, first), backend)
    out = model.run(RNG.random((1, 1, 8, 9), np.float32), outputs=["out1", "out0"])
    assert list(out) == ["out1", "out0"] and out["out1"].shape == (1, 3, 8, 9) and out["out0"].shape == (1, 1, 16, 18)
    with pytest.raises(fastsr.PictureError, match="no output 'nix'"):
        model.run(np.zeros((1, 1, 8, 9), np.float32), outputs=["nix"])
    with pytest.raises(fastsr.PictureError, match="no output was asked for"):
        model.run(np.zeros((1, 1, 8, 9), np.float32), outputs=[])


def test_a_network_with_an_unusual_block_loads(tmp_path) -> None:
    """Its scale is only worked out when someone asks: no picture size fits every block."""
    b = Builder(1)
    b.step("SpaceToDepth", [0], 121, {"block": 11})
    fsr.save(b.program(), tmp_path / "m.fsr")
    assert fastsr.load(tmp_path / "m.fsr", "reference").run(np.zeros((1, 1, 22, 33), np.float32)).shape == (1, 121, 2, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_are_neither_changed_nor_shared(backend: str) -> None:
    model, x = Model(espcn(), backend), RNG.random((1, 1, 12, 10), np.float32)
    before = x.copy()
    a, b = model.run(x), model.run(x)
    assert np.array_equal(x, before) and np.array_equal(a, b) and not np.shares_memory(a, b) and a.flags.writeable


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_strides(backend: str) -> None:
    model = Model(espcn(), backend)
    big = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for view in (big[::2, ::3], big[::-1, ::-1], big[:, :, ::-1], big.transpose(1, 0, 2), big[5:20, 7:30]):
        assert np.array_equal(model.upscale(view), model.upscale(np.ascontiguousarray(view)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_threads_share_one_model(backend: str) -> None:
    model = Model(espcn(channels=(8, 8)), backend)
    pictures = [RNG.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(12)]
    expected = [model.upscale(p) for p in pictures]
    with ThreadPoolExecutor(6) as pool:
        for got, want in zip(pool.map(model.upscale, pictures), expected, strict=True):
            assert np.array_equal(got, want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_and_cancelling(backend: str) -> None:
    model, calls = Model(espcn(channels=(4, 4)), backend, tile=8), []
    model.run(np.zeros((1, 1, 40, 40), np.float32), progress=lambda done, total: calls.append((done, total)))
    assert calls and calls[-1][0] == calls[-1][1] and all(a <= b for (a, _), (b, _) in itertools.pairwise(calls))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(np.zeros((1, 1, 40, 40), np.float32), progress=stop)
    model.run(np.zeros((1, 1, 4, 4), np.float32))


@pytest.mark.parametrize(
    "picture",
    [
        None,
        "picture.png",
        np.zeros((4, 4), np.float64),
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda p: str(getattr(p, "shape", p)) + str(getattr(p, "dtype", "")),
)
def test_unfit_pictures_are_refused(picture) -> None:
    with pytest.raises(fastsr.PictureError):
        Model(espcn(channels=(4, 4)), "reference").upscale(picture)


@pytest.mark.parametrize(
    "x", [np.zeros((1, 1, 4, 4)), np.zeros((1, 4, 4), np.float32), np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 1, 0, 4), np.float32), []]
)
def test_unfit_arrays_are_refused(x) -> None:
    with pytest.raises(fastsr.PictureError):
        Model(espcn(channels=(4, 4)), "reference").run(x)


def test_save_and_load(tmp_path) -> None:
    model = Model(espcn(), "reference")
    model.save(tmp_path / "m.fsr")
    again = fastsr.load(tmp_path / "m.fsr", backend="reference")
    x = RNG.random((1, 1, 7, 9), np.float32)
    assert np.array_equal(model.run(x), again.run(x)) and again.scale == 2 and again.feed == model.feed
    with pytest.raises(fastsr.ModelError, match=r"\.fsr or \.onnx"):
        model.save(tmp_path / "m.pb")
    with pytest.raises(FileNotFoundError):
        fastsr.load(tmp_path / "absent.pb")


@pytest.mark.parametrize(
    "arguments", [dict(backend="gpu"), dict(precision="f8"), dict(threads=0), dict(tile=-1), dict(threads=1.5), dict(threads=True)]
)
def test_unfit_arguments_are_refused(arguments: dict, tmp_path) -> None:
    Model(espcn(channels=(4, 4)), "reference").save(tmp_path / "m.fsr")
    with pytest.raises((fastsr.BackendError, ValueError)):
        fastsr.load(tmp_path / "m.fsr", **arguments)


def test_debug_level_2_times_each_step(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """On every backend: what was picked, then a line with milliseconds and GFLOP/s for each convolution."""
    monkeypatch.setenv("FASTSR_DEBUG", "2")
    for backend in BACKENDS:
        program = espcn()
        Model(program, backend).upscale(np.zeros((9, 9), np.uint8))
        error = capfd.readouterr().err
        assert error.startswith(f"fastsr: {backend}")
        convs = [s for s in program.steps if s.kind == "Conv"]
        assert all(any(s.name in line and " ms " in line and "GFLOP/s" in line for line in error.splitlines()) for s in convs), error


def test_thread_count() -> None:
    default = fastsr.get_num_threads()
    try:
        fastsr.set_num_threads(3)
        assert fastsr.get_num_threads() == 3
        for bad in (0, -1, 2.0, True):
            with pytest.raises(ValueError):
                fastsr.set_num_threads(bad)
    finally:
        fastsr.set_num_threads(None)
    assert fastsr.get_num_threads() == default


def test_copies_and_pickles() -> None:
    model = fastsr.load("bicubic", "reference", scale=3, threads=1, tile=16)
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    assert copy.copy(model) is copy.deepcopy(model) is model
    again = pickle.loads(pickle.dumps(model))
    assert again is not model and (again.backend, again.precision, again.scale) == ("reference", "f32", 3)
    assert np.array_equal(again.upscale(picture), model.upscale(picture))
    default = pickle.loads(pickle.dumps(fastsr.load("bicubic")))
    assert np.array_equal(default.upscale(picture), fastsr.load("bicubic").upscale(picture))
