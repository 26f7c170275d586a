"""Pictures that go to a GPU, are computed and come back at the same time, under a fake CuPy that does things as late, or as early, as waits allow."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cuda_emulator import Emulator, compiler
from fake_cupy import FakeCupy
from fake_cupy_parts import Array, CudaRuntimeError
from programs import Builder, shuffle
from test_cuda_arrays import Tensor
from test_cuda_gpus import network, random_picture

from fastsr import many
from fastsr.backends.cuda import device as devices
from fastsr.backends.cuda import stream as streams
from fastsr.errors import BackendError, PictureError
from fastsr.graph import Feed
from fastsr.model import Model

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")

ORDERS = ["late", "early", 1, pytest.param(2, marks=pytest.mark.slow)]


@pytest.fixture
def cupy(emulator: Emulator, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCupy]:
    made = FakeCupy(emulator, getattr(request, "param", "late"))
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(devices, "_IDLE", {})
    yield made
    gc.collect()
    made.check()
    assert made.pinned == 0
    assert sum(map(len, devices._IDLE.values())) == len(made.devices_of) - len(made.callers) + 1 or made.lost, "streams are not given back"


all_orders = pytest.mark.parametrize("cupy", ORDERS, indirect=True)


def mixed() -> list[np.ndarray]:
    """Of all sizes, types and channels; some that the GPU does not make alone."""
    made = [random_picture(6 + 5 * k % 11, 7 + 3 * k % 8, (3, 0, 4, 3)[k % 4]) for k in range(9)]
    made += [made[0], made[0][::-1], random_picture(1, 9), made[3].astype(np.float32) / 255, made[0], made[1].astype(np.uint16), made[2], made[0]]
    return made


@all_orders
def test_the_bits_of_upscale_in_order(cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32")
    pictures = mixed()
    wanted = [model.upscale(p) for p in pictures]
    for _ in range(2):
        for got, want in zip(model.upscale_many(iter(pictures)), wanted, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


@all_orders
def test_one_size(cupy: FakeCupy) -> None:
    """The same slots again and again, the iterable's memory too, and results that are kept."""
    model = Model(network("bgr"), "cuda", "f32", device=1)
    pictures = [np.roll(random_picture(), k, axis=1) for k in range(12)]
    wanted = [model.upscale(p) for p in pictures]
    buffer = np.empty_like(pictures[0])

    def frames() -> Iterator[np.ndarray]:
        for p in pictures:
            buffer[...] = p
            yield buffer
            buffer[...] = 0

    made = list(model.upscale_many(frames()))
    for got, want in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(got, want)
    assert cupy.taken[0] == 0


def test_copies_and_kernels_are_begun_without_waiting(cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32")
    stream, _ = model._executable.stream(None)
    pictures = [np.roll(random_picture(), k, axis=1) for k in range(6)]
    wanted = [model.upscale(p) for p in pictures]
    for p in pictures[:3]:
        assert stream.add(p) == 5 * p.nbytes
    cupy.log.clear()
    for k, want in enumerate(wanted):
        waiting = {key: len(queue) for key, queue in cupy.queues.items() if queue}
        assert len(waiting) == 3, "a stream each for copies there, kernels and copies back"
        assert not stream.ready()
        np.testing.assert_array_equal(stream.take(), want)
        if k == 0:
            assert any(cupy.queues.values()), "only what the result needs is waited for"
        if k + 3 < len(pictures):
            stream.add(pictures[k + 3])
    used = [{line.split()[1] for line in cupy.log if line.startswith(what)} for what in ("upload", "kernel", "download")]
    assert [len(u) for u in used] == [1, 1, 1] and len(set.union(*used)) == 3
    stream.close()


def test_memory_is_bounded_and_shared(cupy: FakeCupy) -> None:
    b = Builder(1)
    b.conv(b.conv(0, 24, k=1), 4, k=1, epilogue=[shuffle(2)])
    model = Model(b.program(feed=Feed("y")), "cuda", "f32")
    weights = cupy.taken[0]
    model.upscale(random_picture(40, 30))
    alone = cupy.taken[0] - weights
    most, pinned = [], []
    for _ in model.upscale_many(np.roll(random_picture(40, 30), k, axis=1) for k in range(20)):
        most.append(cupy.taken[0] - weights - alone)
        pinned.append(cupy.pinned)
    assert len(set(most[4:])) == 1
    picture_and_result = 40 * 30 * 3 * 5
    assert most[-1] < alone + streams.SLOTS * (picture_and_result + 4096)
    assert max(pinned) <= streams.SLOTS * 2 * picture_and_result
    for k, _ in enumerate(model.upscale_many(random_picture(40 - k, 30) for k in range(20))):
        assert cupy.pinned <= streams.SLOTS * 2 * picture_and_result
        assert cupy.taken[0] - weights <= (4 + 4) * alone, k
    model._executable.forget()  # type: ignore[attr-defined]
    assert cupy.taken[0] == weights


def counted(pulled: list[int], count: int = 12) -> Iterator[np.ndarray]:
    for k in range(count):
        pulled.append(k)
        yield np.roll(random_picture(), k, axis=1)


@pytest.mark.parametrize(("size", "ahead"), [(many.BYTES, 4), (1, 3)])
def test_how_many_are_in_flight(size: int, ahead: int, cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that copies there, kernels and copies back go on at the same time, even of large pictures."""
    monkeypatch.setattr(many, "BYTES", size)
    pulled: list[int] = []
    for k, _ in enumerate(Model(network(), "cuda", "f32").upscale_many(counted(pulled))):
        assert len(pulled) == min(12, k + ahead)


@pytest.mark.parametrize("cupy", ["late", 1], indirect=True)
@pytest.mark.parametrize("how", ["close", "drop", "progress", "iterable", "interrupt", "interrupt the wait"])
def test_an_end_in_the_middle(how: str, cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture checks that nothing goes on and that memory and streams are given back."""
    model = Model(network(), "cuda", "f32")
    taken = cupy.taken[0]
    want = [model.upscale(p) for p in counted([], 3)]
    model._executable.forget()  # type: ignore[attr-defined]
    stops = [2]

    def progress(done: float) -> None:
        if done > 1 and how == "progress":
            raise RuntimeError("enough")

    def pictures() -> Iterator[np.ndarray]:
        yield from counted([], 3)
        if how == "iterable":
            raise OSError("gone")
        yield from counted([])

    results = model.upscale_many(pictures(), progress=progress)
    np.testing.assert_array_equal(next(results), want[0])
    if how == "close":
        results.close()
    elif how == "progress":
        with pytest.raises(RuntimeError, match="enough"):
            next(results)
    elif how == "iterable":
        np.testing.assert_array_equal(next(results), want[1])
        np.testing.assert_array_equal(next(results), want[2])
        with pytest.raises(OSError, match="gone"):
            next(results)
    elif how.startswith("interrupt"):
        word = "synchronize" if how.endswith("wait") else "download"

        def fails(what: str) -> BaseException | None:
            if what == word and stops:
                stops.pop()
                return KeyboardInterrupt()
            return None

        monkeypatch.setattr(cupy, "fails", fails)
        with pytest.raises(KeyboardInterrupt):
            list(results)
        assert not stops
    if how != "drop":
        assert next(results, None) is None
    del results
    gc.collect()
    assert not any(cupy.queues.values())
    assert (cupy.taken[0], cupy.pinned) == (taken, 0)
    np.testing.assert_array_equal(model.upscale(random_picture()), want[0])


@pytest.mark.parametrize("cupy", ["late", 1], indirect=True)
@pytest.mark.parametrize("word", ["upload", "kernel", "download", "record", "wait", "synchronize"])
def test_a_gpu_that_fails_once(word: str, cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture in question has the error, the others their results; all sizes differ, so memory goes as soon as it may."""
    model = Model(network(), "cuda", "f32")
    pictures = [random_picture(12 - k % 6, 17) for k in range(8)]
    wanted = [model.upscale(p) for p in pictures]
    results = model.upscale_many(pictures)
    np.testing.assert_array_equal(next(results), wanted[0])
    stops = [CudaRuntimeError("cudaErrorUnknown: for a test")]
    monkeypatch.setattr(cupy, "fails", lambda what: stops.pop() if what == word and stops else None)
    errors: list[str] = []
    for k in range(1, 8):
        try:
            got = next(results)
        except BackendError as e:
            errors.append(str(e).replace(f"pictures[{k}]", "this one"))
        else:
            np.testing.assert_array_equal(got, wanted[k])
    assert errors == ["this one: GPU (number 0) fails: cudaErrorUnknown: for a test; start anew, or use the backend cpu"]
    assert next(results, None) is None
    cupy.lost = word == "synchronize"


def test_what_failed_is_waited_for(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slot is used for other pictures, of other sizes."""
    stream, _ = Model(network(), "cuda", "f32")._executable.stream(None)
    stops = [CudaRuntimeError("cudaErrorUnknown: for a test")]
    monkeypatch.setattr(cupy, "fails", lambda what: stops.pop() if what == "download" and stops else None)
    stream.add(random_picture())
    with pytest.raises(BackendError, match="cudaErrorUnknown"):
        stream.take()
    assert not any(cupy.queues.values())
    stream.close()


def test_a_gpu_that_fails_for_good(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(network(), "cuda", "f32")
    results = model.upscale_many(counted([], 4))
    next(results)
    monkeypatch.setattr(cupy, "fails", lambda what: CudaRuntimeError("cudaErrorIllegalAddress: for a test"))
    for _ in range(3):
        with pytest.raises(BackendError, match="fails: cudaErrorIllegalAddress"):
            next(results)
    assert next(results, None) is None
    cupy.lost = True
    monkeypatch.undo()
    for queue in list(cupy.queues):
        cupy.finish(queue)


@pytest.mark.parametrize("cupy", ["late", 1], indirect=True)
@pytest.mark.parametrize("room", [6000, 9000, 15000, 40000])
def test_memory_that_is_short(room: int, cupy: FakeCupy) -> None:
    """Fewer slots, tiles, or what is in flight makes room."""
    model = Model(network(), "cuda", "f32")
    pictures = [random_picture(30, 22), random_picture(12, 9), random_picture(30, 22), random_picture(24, 24)] * 2
    wanted = [model.upscale(p) for p in pictures]
    model._executable.forget()  # type: ignore[attr-defined]
    cupy.memory = cupy.taken[0] + 30 * 22 * 3 * 5 + 2000 + room
    model.upscale(pictures[0])
    model._executable.forget()  # type: ignore[attr-defined]
    for got, want in zip(model.upscale_many(pictures), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_pinned_memory_that_is_short(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(network(), "cuda", "f32")
    monkeypatch.setattr(cupy, "fails", lambda what: CudaRuntimeError("cudaErrorMemoryAllocation: out") if what == "pin" and cupy.pinned else None)
    for got, picture in zip(model.upscale_many(counted([])), counted([]), strict=True):
        np.testing.assert_array_equal(got, model.upscale(picture))


def test_what_was_made_in_vain_goes_first(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for one slot, and pinned memory only when it is asked for again."""
    executable: Any = Model(network(), "cuda", "f32")._executable
    picture = random_picture(40, 30)
    stream, _ = executable.stream(None)
    before = cupy.taken[0]
    stream.add(picture)
    cupy.memory = before + (cupy.taken[0] - before) * 3 // 2
    want = stream.take()
    stream.close()
    assert cupy.taken[0] == before
    stops = [CudaRuntimeError("cudaErrorMemoryAllocation: out")]
    monkeypatch.setattr(cupy, "fails", lambda what: stops.pop() if what == "pin" and stops else None)
    stream, _ = executable.stream(None)
    stream.add(picture)
    assert not stops
    assert cupy.pinned
    np.testing.assert_array_equal(stream.take(), want)
    stream.close()


def test_tiles_and_pictures_on_the_gpu(cupy: FakeCupy) -> None:
    plain, tiled = Model(network(), "cuda", "f32"), Model(network(), "cuda", "f32", tile=9)
    pictures = [random_picture(20, 22), random_picture(8, 9), random_picture(20, 22)]
    for got, picture in zip(tiled.upscale_many(pictures), pictures, strict=True):
        np.testing.assert_array_equal(got, plain.upscale(picture))
    given = [pictures[0], Tensor(cupy, pictures[1]), pictures[2], Tensor(cupy, pictures[0].astype(np.float32)), pictures[1]]
    results = plain.upscale_many(given)
    for k, picture in enumerate((*pictures, None, pictures[1])):
        if picture is None:
            with pytest.raises(PictureError, match=r"pictures\[3\]: .*uint8"):
                next(results)
            continue
        got = next(results)
        assert isinstance(got, Array) == (k == 1)
        np.testing.assert_array_equal(got.now() if k == 1 else got, plain.upscale(picture))


def test_a_picture_that_does_not_fit_the_network(cupy: FakeCupy) -> None:
    b = Builder(1)
    b.step("SpaceToDepth", [0], 4, {"block": 2}, [shuffle(2)])
    results = Model(b.program(feed=Feed("y")), "cuda", "f32").upscale_many([random_picture(8, 8), random_picture(8, 7, 4), random_picture(6, 4, 4)])
    assert next(results).shape == (8, 8, 3)
    with pytest.raises(PictureError, match=r"pictures\[1\]: "):
        next(results)
    assert next(results).shape == (6, 4, 4)


@pytest.mark.parametrize("cupy", ["late", 1], indirect=True)
def test_several_at_once(cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32")
    wanted = [model.upscale(p) for p in counted([])]

    def work(number: int) -> list[np.ndarray]:
        return list(model.upscale_many(counted([]))) if number % 2 else [model.upscale(p) for p in counted([])]

    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(work, range(4)):
            for got, want in zip(made, wanted, strict=True):
                np.testing.assert_array_equal(got, want)
    for a, b, want in zip(model.upscale_many(counted([])), model.upscale_many(counted([])), wanted, strict=True):
        np.testing.assert_array_equal(a, want)
        np.testing.assert_array_equal(b, want)
