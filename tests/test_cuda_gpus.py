"""The CUDA backend on one of several GPUs, which are emulated under a fake CuPy: all of a model stays on its GPU."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_emulator import Emulator, compiler
from fake_cupy import FakeCupy, on
from programs import Builder, shuffle

import fastsr
from fastsr import fsr
from fastsr.backends import pick_backend
from fastsr.backends.cuda import device as devices
from fastsr.cli import main
from fastsr.errors import BackendError
from fastsr.graph import Feed
from fastsr.model import Model
from fastsr.program import Epilogue, Program

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")


def network(colour: str = "y") -> Program:
    """Enlarges twice."""
    channels = 1 if colour == "y" else 3
    b = Builder(channels)
    b.conv(0, channels * 4, k=1, epilogue=[Epilogue("Relu"), shuffle(2)])
    return b.program(feed=Feed(colour))


def random_picture(height: int = 12, width: int = 17, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels) if channels else (height, width), np.uint8)


@pytest.fixture
def cupy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCupy]:
    made = FakeCupy(emulator)
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(devices, "_IDLE", {})
    yield made
    made.check()


def wanted(program: Program, picture: np.ndarray) -> np.ndarray:
    return Model(program, "reference").upscale(picture)


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 1


def test_all_of_a_model_stays_on_its_gpu(cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32", device=1)
    assert "GPU (number 1)" in model.describe()
    pictures = [random_picture(), random_picture(9, 8, 0), random_picture(12, 17, 4)]
    made: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: made.extend(map(model.upscale, pictures)))
    thread.start()
    thread.join()
    with on(cupy, 1):
        made += map(model.upscale, pictures)
    made += [*map(model.upscale, pictures), *model.upscale_many(pictures)]
    for got, picture in zip(made, pictures * 4, strict=True):
        assert_close(got, wanted(network(), picture))
    x = np.ones((2, 1, 5, 6), np.float32)
    np.testing.assert_allclose(model.run(x), Model(network(), "reference").run(x), rtol=1e-5)
    assert cupy.taken[0] == 0 < cupy.taken[1]
    assert cupy.device == 0


def test_nothing_is_left_of_a_model(cupy: FakeCupy) -> None:
    for picture in (random_picture(), random_picture(9, 8, 0)):
        Model(network(), "cuda", "f32", device=1).upscale(picture)
    assert cupy.taken == [0, 0]


def test_the_current_gpu_is_the_default(cupy: FakeCupy) -> None:
    with on(cupy, 1):
        model = Model(network(), "cuda", "f32")
    other = Model(network(), "cuda", "f32")
    picture = random_picture()
    before = list(cupy.taken)
    assert all(before)
    np.testing.assert_array_equal(model.upscale(picture), other.upscale(picture))
    assert all(a > b for a, b in zip(cupy.taken, before, strict=True))
    assert pickle.loads(pickle.dumps(Model(network(), "cuda", "f32", device=1)))._arguments == ("cuda", "f32", None, None, 1)


def test_pieces_are_on_the_gpu_too(cupy: FakeCupy) -> None:
    b = Builder(3)
    x = b.conv(0, 4, k=1)
    b.conv(x, 3, k=1, epilogue=[Epilogue("Mul", value=b.conv(b.step("GlobalAveragePool", [x], 4), 3, k=1))])
    program = b.program(feed=Feed("bgr"))
    picture = random_picture()
    assert_close(Model(program, "cuda", device=1).upscale(picture), wanted(program, picture))
    assert cupy.taken[0] == 0 < len(cupy.log)


@pytest.mark.parametrize("tile", [None, 8])
def test_callers_may_choose_other_gpus_and_streams_meanwhile(tile: int | None, cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32", device=1, tile=tile)
    with on(cupy, 1):
        own, other = cupy.cuda.Stream(True), cupy.cuda.Stream(True)
        own.use()
    told: list[tuple[int, int]] = []

    def choose(done: int, total: int) -> None:
        told.append((done, total))
        assert cupy.device == 1
        other.use()
        with other:
            pass
        other.use()
        cupy.device = 0

    picture = random_picture()
    assert_close(model.upscale(picture, progress=choose), wanted(network(), picture))
    assert told[0][0] == 0 and told[-1][0] == told[-1][1]
    assert not any(line.endswith(f" {other.ptr}") for line in cupy.log)
    assert cupy.device == 0
    with on(cupy, 1):
        assert cupy.current_stream() is own


def test_numbers_that_are_not_there(cupy: FakeCupy) -> None:
    with pytest.raises(BackendError, match="backend 'cuda' is not available: there is no GPU number 2, CuPy finds 2: numbers 0 to 1"):
        fastsr.load("bicubic", backend="cuda", device=2)
    for number in (-1, True, 1.0, "1"):
        with pytest.raises(BackendError, match="the number of a GPU is needed, such as 0"):
            fastsr.load("bicubic", backend="cuda", device=number)  # type: ignore[arg-type]
    assert fastsr.load("bicubic", backend="cuda", device=np.int64(1)).backend == "cuda"


@pytest.mark.parametrize("backend", ["reference", "auto", *(b for b in fastsr.available_backends() if b in ("cpu", "numba"))])
def test_backends_without_devices_say_so(backend: str) -> None:
    with pytest.raises(BackendError, match=r"device=0: the backend \w+ has no devices to choose from: leave it out, or name the backend cuda"):
        fastsr.load("bicubic", backend=backend, device=0)


def test_the_command_line_has_it(cupy: FakeCupy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.fsr").write_bytes(fsr.dumps(network()))
    command = ["upscale", "-m", str(tmp_path / "m.fsr"), "-i", str(tmp_path / "a.ppm"), "-o", str(tmp_path / "b.ppm"), "--precision", "f32",
               "--backend", "cuda"]  # fmt: skip
    (tmp_path / "a.ppm").write_bytes(b"P6 17 12 255\n" + random_picture()[:, :, ::-1].tobytes())
    assert main([*command, "--device", "1"]) == 0
    assert (tmp_path / "b.ppm").exists()
    assert {line.split()[1] for line in cupy.log} <= {str(k) for k, v in cupy.devices_of.items() if v == 1}
    assert main([*command, "--device", "7"]) != 0
    assert "there is no GPU number 7" in capsys.readouterr().err
    assert main([*command[:-1], "reference", "--device", "0"]) != 0
    assert "the backend reference has no devices" in capsys.readouterr().err


def test_numba_cuda_works_on_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU and without the simulator: numba is asked for that GPU each time, and left as it was."""
    executable: Any = pytest.importorskip("fastsr.backends.numba_cuda.executable")
    from fastsr.backends import numba_cuda

    entered: list[str] = []

    class Gpu:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            entered.append(f"+{self.number}")

        def __exit__(self, *_: object) -> None:
            entered.append(f"-{self.number}")

    monkeypatch.setattr(executable, "only_named", lambda: False)
    monkeypatch.setattr(executable.cuda, "gpus", [Gpu(0), Gpu(1)])
    monkeypatch.setattr(executable.CudaExecutable, "_run", lambda *_: entered.append("run") or [])
    monkeypatch.setattr(executable, "StepOnGpu", lambda step: entered.append("step"))
    made = numba_cuda.compile(network(), device=1)
    made.run([np.zeros((1, 1, 4, 4), np.float32)], [0])
    assert entered == ["+1", "step", "-1", "+1", "run", "-1"]
    monkeypatch.setattr(executable.cuda, "is_available", lambda: True)
    assert numba_cuda.unavailable(1) is None
    with pytest.raises(BackendError, match="there is no GPU number 2, numba finds 2"):
        pick_backend("numba_cuda", 2)
