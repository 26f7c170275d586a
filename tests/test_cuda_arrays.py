"""Pictures that lie on a GPU already, through the CUDA backend under a fake CuPy: no way by the host, the right order, clear errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_emulator import Emulator, compiler
from fake_cupy import FakeCupy, on
from fake_cupy_parts import Array, Event
from programs import Builder
from test_cuda_gpus import network, random_picture

import fastsr
from fastsr.backends.cuda import device as devices
from fastsr.errors import BackendError, PictureError
from fastsr.graph import Feed
from fastsr.model import Model

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")


@pytest.fixture(params=["late", "early", 1, 2])
def cupy(emulator: Emulator, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCupy]:
    made = FakeCupy(emulator, request.param)
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(devices, "_IDLE", {})
    yield made
    made.check()


class Tensor:
    """An array of a library with streams of its own, that speaks DLPack as PyTorch does; its numbers come when its stream has got so far."""

    def __init__(self, cupy: FakeCupy, picture: np.ndarray, number: int = 0, kind: int = 2) -> None:
        self._cupy, self._kind = cupy, kind
        with on(cupy, number):
            self._stream = cupy.caller_stream()
            with self._stream:
                self.array = on_gpu(cupy, picture)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, self.array.data.device_id

    def __dlpack__(self, *, stream: int, max_version: object = None, copy: object = None) -> Array:
        event = Event(self._cupy)
        event.record(self._stream)
        self._cupy.wait(stream, event)
        return self.array


def on_gpu(cupy: FakeCupy, picture: np.ndarray) -> Array:
    """The picture on the current GPU, with the same strides, written in the current stream."""
    offset = sum(-s * (n - 1) for n, s in zip(picture.shape, picture.strides, strict=True) if s < 0)
    size = offset + sum(s * (n - 1) for n, s in zip(picture.shape, picture.strides, strict=True) if s > 0) + picture.itemsize
    memory = cupy.cuda.alloc(size)
    pointer = SimpleNamespace(ptr=memory.ptr + offset, device_id=memory.device_id, mem=memory)
    made = Array(cupy, picture.shape, picture.dtype, pointer, picture.strides)
    made[...] = picture
    return made


class ByInterface:
    """An array that has only `__cuda_array_interface__`; changes: what that says otherwise, None for what it does not say."""

    def __init__(self, array: Array, stream: int | None = 1, **changes: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": stream, **changes}


class GpuMat:
    """cv2.cuda.GpuMat."""

    def __init__(self, array: Array, kind: int | None = None) -> None:
        self.array, self.step = array, array.strides[0]
        self._kind = (8 * (array.shape[2] - 1) if array.ndim == 3 else 0) if kind is None else kind

    def size(self) -> tuple[int, int]:
        return self.array.shape[1], self.array.shape[0]

    def type(self) -> int:
        return self._kind

    def cudaPtr(self) -> int:
        return self.array.data.ptr


def pitched(height: int, width: int, channels: int) -> np.ndarray:
    """A picture with gaps between its rows."""
    return random_picture(height, width + 3, channels)[:, :width]


PICTURES = {
    "colour": random_picture(), "grey": random_picture(9, 8, 0), "pitched": pitched(12, 17, 3), "pitched grey": pitched(9, 8, 0),
    "turned": random_picture(12, 17)[::-1], "mirrored": random_picture(12, 17)[:, ::-1], "rgb": random_picture(12, 17)[:, :, ::-1],
    "planes": np.moveaxis(random_picture(3, 12, 17), 0, -1), "every other": random_picture(12, 34)[:, ::2],
    "of four": random_picture(12, 17, 4)[:, :, :3],
    "deep": random_picture(9, 8, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_the_bits_of_upscale(name: str, cupy: FakeCupy) -> None:
    """First and again, with the memory that is kept; nothing passes the host."""
    picture = PICTURES[name]
    model = Model(network(), "cuda", "f32", device=1)
    want = model.upscale(picture)
    tensor = Tensor(cupy, picture, 1)
    cupy.copies.clear()
    for _ in range(2):
        result = model.upscale(tensor)
        assert isinstance(result, Array)
        assert result.device.id == 1
        np.testing.assert_array_equal(result.now(), want)  # complete: nobody waits
    assert all(kind == 3 for kind, _ in cupy.copies)
    np.testing.assert_array_equal(tensor.array.now(), picture)


def test_every_protocol(cupy: FakeCupy) -> None:
    model = Model(network("bgr"), "cuda", "f32")
    colour, grey = pitched(12, 17, 3), random_picture(9, 8, 0)
    for picture in (colour, grey):
        want = model.upscale(picture)
        stream = cupy.caller_stream()
        with stream:
            array = on_gpu(cupy, picture)
        np.testing.assert_array_equal(model.upscale(ByInterface(array, stream.ptr)).now(), want)
        for given in ({"version": 2}, {"version": 3, "stream": 2}, {"stream": 0}):
            made = ByInterface(on_gpu(cupy, picture), **given)
            if given.get("version") == 2:
                del made.__cuda_array_interface__["stream"]
            np.testing.assert_array_equal(model.upscale(made).now(), want)
        np.testing.assert_array_equal(model.upscale(GpuMat(on_gpu(cupy, picture))).now(), want)
        array = on_gpu(cupy, np.ascontiguousarray(picture))
        cupy.null.synchronize()
        np.testing.assert_array_equal(model.upscale(ByInterface(array, None, strides=None)).now(), want)
        np.testing.assert_array_equal(model.upscale(Tensor(cupy, picture, kind=13)).now(), want)


def test_tiles_too(cupy: FakeCupy) -> None:
    picture = random_picture(30, 22)
    want = Model(network(), "cuda", "f32").upscale(picture)
    told: list[tuple[int, int]] = []
    result = Model(network(), "cuda", "f32", tile=9).upscale(Tensor(cupy, picture), progress=lambda *t: told.append(t))
    np.testing.assert_array_equal(result.now(), want)
    assert told[-1][0] == told[-1][1] and len(told) > 12


def test_results_come_after_what_the_caller_does_with_the_memory(cupy: FakeCupy) -> None:
    """The caller's stream still reads memory that it has given back, and CuPy gives it for the result."""
    model = Model(network(), "cuda", "f32")
    picture = random_picture()
    want = model.upscale(picture)
    tensor = Tensor(cupy, picture)
    seen: list[Array] = []
    with cupy.caller_stream() as own:
        for _ in range(2):
            result = model.upscale(tensor)
            other = cupy.empty(want.shape, np.uint8)
            other[...] = result  # as yet in the stream only
            seen.append(other)
            del result
        own.synchronize()
    for other in seen:
        np.testing.assert_array_equal(other.now(), want)


def test_memory_is_given_back(cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32")
    tensor = Tensor(cupy, random_picture())
    before: list[int] = []
    for _ in range(3):
        result = model.upscale(tensor)
        before.append(cupy.taken[0])
        del result

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    left = cupy.taken[0]
    with pytest.raises(KeyboardInterrupt):
        model.upscale(tensor, progress=stop)
    assert before[0] == before[-1]
    assert cupy.taken[0] <= left
    cupy.memory = cupy.taken[0]
    with pytest.raises(BackendError, match="not enough for the picture and its result"):
        model.upscale(tensor)
    cupy.memory = 1 << 30
    del model, tensor
    assert cupy.taken == [0, 0]


def test_what_is_no_picture(cupy: FakeCupy) -> None:
    model = Model(network(), "cuda", "f32")
    for picture, words in (
        (random_picture().astype(np.float32), r"is uint8, 0 to 255, got float32: convert it there"),
        (random_picture(12, 17, 4), r"shape \(H, W\) or \(H, W, 3\), got \(12, 17, 4\): copy it to the host first, or compute colour and"),
        (np.moveaxis(random_picture(), -1, 0), r"got \(3, 12, 17\): move the channels to the end, by x.permute\(1, 2, 0\)"),
        (random_picture()[None], r"got \(1, 12, 17, 3\): compute one picture after another"),
        (random_picture()[0, :, 0], r"got \(17,\)"),
        (random_picture()[:1], "lines of one pixel are made on the host, and the picture lies on a GPU: copy it to the host first, by x.get"),
    ):
        with pytest.raises(PictureError, match=words):
            model.upscale(Tensor(cupy, picture))
    with pytest.raises(PictureError, match="the picture is empty"):
        model.upscale(ByInterface(on_gpu(cupy, random_picture()), shape=(0, 4, 3), data=(0, False), strides=None))
    with pytest.raises(PictureError, match="lies on GPU 1, and the model on GPU 0: load the model with device=1, or copy the picture"):
        model.upscale(Tensor(cupy, random_picture(), 1))
    with on(cupy, 1):
        other = on_gpu(cupy, random_picture())
    for one in (Tensor(cupy, random_picture(), 1, kind=13), ByInterface(other), GpuMat(other)):
        with pytest.raises(PictureError, match="lies on GPU 1, and the model on GPU 0"):
            model.upscale(one)
    here = on_gpu(cupy, random_picture())
    for one in (here, Tensor(cupy, random_picture(9, 8, 0)).array, GpuMat(here)):
        with pytest.raises(PictureError, match="this is one picture: use upscale"):
            model.upscale_many(one)
    with pytest.raises(PictureError, match="no mask"):
        model.upscale(ByInterface(here, mask=here))
    with pytest.raises(PictureError, match="8 bits"):
        model.upscale(GpuMat(here, 21))
    host = random_picture()
    with pytest.raises(PictureError, match="does not lie in a GPU's memory"):
        model.upscale(ByInterface(here, data=(host.ctypes.data, False)))
    broken: Any = Tensor(cupy, random_picture())
    broken.__class__ = type("Grad", (Tensor,), {"__dlpack__": lambda *_, **__: (_ for _ in ()).throw(BufferError("requires grad"))})
    with pytest.raises(PictureError, match=r"this Grad on the GPU cannot be read there \(BufferError: requires grad\): copy it to the host"):
        model.upscale(broken)


def test_networks_that_need_the_host(cupy: FakeCupy) -> None:
    b = Builder(1)
    b.conv(0, 1, k=1)
    tensor = Tensor(cupy, random_picture())
    with pytest.raises(PictureError, match=r"what this network is fed is made on the host.*copy it to the host first"):
        Model(b.program(feed=Feed("y", pre_scale=2)), "cuda", "f32").upscale(tensor)
    b.step("Pointwise", [b.step("GlobalAveragePool", [1], 1)], 1)
    with pytest.raises(PictureError, match=r"this network, which runs in pieces, .* copy it to the host first"):
        Model(b.program(feed=Feed("y")), "cuda", "f32").upscale(tensor)


@pytest.mark.parametrize("backend", [b for b in fastsr.available_backends() if b in ("cpu", "reference")])
def test_other_backends_say_what_to_do(backend: str) -> None:
    model = Model(network(), backend)
    kinds = [type("A", (), {"__dlpack_device__": lambda self: (2, 0)})(), SimpleNamespace(__cuda_array_interface__={}), SimpleNamespace(cudaPtr=0)]
    for one in kinds:
        with pytest.raises(PictureError, match=f"the backend {backend} computes with arrays of the host: copy it .* name the backend cuda"):
            model.upscale(one)
        with pytest.raises(PictureError, match=r"pictures\[0\]: the picture lies on a GPU.*copy it to the host first"):
            next(model.upscale_many([one]))


@pytest.mark.parametrize("where", [(1, 0), (3, 0), None])
def test_arrays_of_other_libraries_on_the_host_are_refused_as_before(where: tuple[int, int] | None) -> None:
    def device(_: object) -> tuple[int, int]:
        if where is None:
            raise ValueError("nowhere")
        return where

    with pytest.raises(PictureError, match="a picture is a NumPy array, got A"):
        Model(network(), "reference").upscale(type("A", (), {"__dlpack_device__": device})())
