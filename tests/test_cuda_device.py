"""fastsr/backends/cuda/device.py on a CuPy that only writes down what it is asked for: streams, graphs, errors, how long arrays live."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastsr.backends.cuda import device
from fastsr.backends.cuda.device import CupyDevice, OutOfMemoryError
from fastsr.errors import BackendError


class CudaRuntimeError(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError."""


class CudaDriverError(RuntimeError):
    """cupy.cuda.driver.CUDADriverError."""


class PoolError(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""


class Stream:
    """cupy.cuda.Stream."""

    made: list[Stream]
    current: list[Stream]

    def __init__(self, non_blocking: bool) -> None:
        assert non_blocking
        self.made.append(self)
        self.ptr, self.capturing, self.waits, self.fault = len(self.made), False, 0, ""

    def __enter__(self) -> Stream:
        self.current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.current.pop() is self

    def use(self) -> None:
        assert self.current[-1:] == [self]

    def synchronize(self) -> None:
        self.waits += 1
        if self.capturing:
            raise CudaRuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        if self.fault:
            raise CudaRuntimeError(self.fault)

    def begin_capture(self) -> None:
        self.capturing = True

    def end_capture(self) -> SimpleNamespace:
        self.capturing = False
        if self.fault:
            raise CudaRuntimeError(self.fault)
        return SimpleNamespace(launch=lambda stream: stream.launched.append(self.ptr))


class Gpu:
    """What of cupy is used. Attributes that are callables may be replaced by tests."""

    def __init__(self) -> None:
        Stream.made, Stream.current = [], []
        self.RawModule = self.fails_with(KeyError("no kernels"))
        self.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 5)
        self.cuda = SimpleNamespace(
            Stream=Stream,
            Device=self.device,
            get_current_stream=lambda: Stream.current[-1] if Stream.current else SimpleNamespace(use=lambda: None),
            alloc=lambda size: SimpleNamespace(ptr=512, size=size),
            memory=SimpleNamespace(OutOfMemoryError=PoolError),
            driver=SimpleNamespace(CUDADriverError=CudaDriverError),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            runtime=SimpleNamespace(
                CUDARuntimeError=CudaRuntimeError,
                getDeviceCount=lambda: 1,
                getDevice=lambda: 0,
                getDeviceProperties=lambda _: {"name": b"GPU", "sharedMemPerBlockOptin": 232448, "multiProcessorCount": 132},
                memcpyAsync=lambda *_: None,
                memGetInfo=lambda: (7, 9),
            ),
        )
        self.capability = "90"

    def device(self, number: int) -> Any:
        class Device:
            compute_capability = self.capability

            def __enter__(self) -> None:
                assert number == 0

            def __exit__(self, *_: object) -> None:
                pass

        return Device()

    @staticmethod
    def fails_with(error: Exception) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        return fail


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = Gpu()
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(device, "_IDLE", {})
    yield made
    assert not Stream.current


def test_streams_are_used_again_each_by_one_at_a_time(cupy: Any) -> None:
    gpu = CupyDevice()
    for one in (gpu, gpu, CupyDevice()):
        with one.working():
            pass
    with gpu.working(), gpu.working():
        assert Stream.current[0] is not Stream.current[1]
    with pytest.raises(KeyboardInterrupt), gpu.working():
        raise KeyboardInterrupt
    assert len(Stream.made) == 2
    assert sum(s.waits for s in Stream.made) == 6


def test_arrays_live_until_their_copies_are_done(cupy: Any) -> None:
    gpu = CupyDevice()
    x = np.zeros(3)
    seen = weakref.ref(x)
    with gpu.working():
        gpu.upload(512, x)
        del x
        with gpu.working():
            pass
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert seen() is None


def test_a_capture_ends_whatever_happens(cupy: Any) -> None:
    gpu = CupyDevice()

    def fail() -> None:
        raise KeyboardInterrupt

    for fault in ("", "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"):
        with gpu.working():
            stream = Stream.current[-1]
            stream.fault = fault
            with pytest.raises(KeyboardInterrupt):
                gpu.record(fail)
            assert not stream.capturing
            stream.fault = ""


@pytest.mark.parametrize("error", [PoolError("Out of memory allocating 9 bytes"), CudaRuntimeError("cudaErrorMemoryAllocation: out of memory"),
                                   CudaDriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")])  # fmt: skip
def test_memory_that_is_short_is_told_as_such(error: Exception, cupy: Any) -> None:
    gpu = CupyDevice()
    cupy.cuda.alloc = cupy.fails_with(error)
    with pytest.raises(OutOfMemoryError, match="GPU has not 3 MiB of memory left"):
        gpu.take(3 << 20)
    with pytest.raises(OutOfMemoryError, match="GPU has not enough memory left"), gpu.working():
        gpu.record(cupy.fails_with(error))


def test_gpus_that_fail_are_told(cupy: Any) -> None:
    gpu = CupyDevice()
    with pytest.raises(BackendError, match=r"GPU fails: cudaErrorIllegalAddress: .*use the backend cpu"), gpu.working():
        Stream.current[-1].fault = "cudaErrorIllegalAddress: an illegal memory access was encountered"
    with gpu.working():  # in another stream
        pass
    with pytest.raises(BackendError, match=r"kernels cannot be compiled for GPU \(KeyError\): 'no kernels'"):
        gpu.functions(["pack<float>"], [256], [0])
    assert gpu.free_bytes() == 12
    cupy.cuda.runtime.getDeviceProperties = cupy.fails_with(CudaRuntimeError("cudaErrorDevicesUnavailable: busy"))
    with pytest.raises(BackendError, match="GPU number 0 fails: cudaErrorDevicesUnavailable"):
        CupyDevice()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is not there")
def test_forked_processes_are_told(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = CupyDevice()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(BackendError, match=r"does not survive fork\(\)"), gpu.working():
        pass


def test_why_there_is_no_gpu(cupy: Any) -> None:
    assert device.unavailable() is None
    assert device.unavailable(1) == "there is no GPU number 1, CuPy finds 1: number 0"
    cupy.cuda.nvrtc.getVersion = cupy.fails_with(RuntimeError('Failure finding "libnvrtc.so.13"'))
    assert "finds no compiler, NVRTC (Failure finding" in (device.unavailable() or "")
    cupy.capability = "75"
    assert "older than the Ampere generation" in (device.unavailable() or "")
    cupy.cuda.Device = cupy.fails_with(CudaRuntimeError("cudaErrorDevicesUnavailable: busy"))
    assert "GPU number 0 does not answer (cudaErrorDevicesUnavailable: busy)" in (device.unavailable() or "")
    cupy.cuda.runtime.getDeviceCount = cupy.fails_with(CudaRuntimeError("cudaErrorNoDevice: none"))
    assert "finds no CUDA driver (cudaErrorNoDevice: none)" in (device.unavailable() or "")
