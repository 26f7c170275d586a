"""A GPU by way of CuPy: memory, kernels compiled from `kernels/*.cuh`, launches. Tests put a processor in its place (tests/cuda_host)."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import BackendError
from .. import gpu
from . import arrays
from .arrays import Lent
from .lanes import CupyLanes

KERNELS = Path(__file__).parent / "kernels"

OPTIONS = ("-std=c++17", "--fmad=false")
"""Of the compiler: a multiplication and an addition are one operation only where the sources say so, for equal bits everywhere. CuPy adds
`CUPY_OPTIONS` and the architecture."""

CUPY_OPTIONS = ("--device-as-default-execution-space", "-ftz=true")
"""What CuPy compiles all kernels with, unasked: floats under 1e-38 become zero."""


_IDLE: dict[int, list[Any]] = {}
"""GPU -> streams that nothing works in. All networks use them in turn: CuPy's pool gives freed memory only to the stream that had it."""


class OutOfMemoryError(MemoryError):
    """The device has not as much memory left."""


class Memory(Protocol):
    """A piece of the device's memory, which goes when the object does."""

    address: int


class Function(Protocol):
    """A kernel on the device."""

    blocks: int
    """How many blocks of it are worth a launch: as many as the device can run at once."""

    def launch(self, grid: tuple[int, int, int], args: np.ndarray) -> None:
        """Begin with the kernel, in the stream of `Device.working`. args: one element of `layout.ARGS`."""


class Lanes(Protocol):
    """Streams in which pictures go to the device, are computed and come back, each of these in order, at the same time as the others. What is begun
    has to be waited for before its memory goes. Methods raise BackendError when the device fails."""

    def pinned(self, size: int) -> np.ndarray:
        """Bytes of the host that can be copied from and to while other things happen. Raises OutOfMemoryError."""

    def begin(self, picture: np.ndarray, address: int, launch: Callable[[], None], source: int, result: np.ndarray) -> Any:
        """Begin to copy a picture to an address, then to launch, then to copy a result from `source`, all pinned. Returns what `wait` takes."""

    def is_done(self, end: Any) -> bool:
        """Whether `wait` would return at once."""

    def wait(self, end: Any) -> None:
        """Until a result is there."""

    def drain(self) -> None:
        """Until nothing goes on any more."""

    def close(self) -> None:
        """The same, for good."""


class Device(Protocol):
    """What the backend needs of a device."""

    name: str
    shared_limit: int
    """Bytes of shared memory that a block can have."""

    def functions(self, names: Sequence[str], threads: Sequence[int], shared: Sequence[int]) -> list[Function]:
        """Compile the instances of kernels with these names, threads a block and bytes of shared memory. Raises BackendError when that fails."""

    def working(self) -> contextlib.AbstractContextManager[None]:
        """What is begun inside is done in order, apart from what other threads begin; at the end all of it is done. Raises BackendError when the
        device fails."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """For code of the caller inside `working`: the GPU and the stream that it chooses are chosen as long as this lasts."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What launches, in the stream of `working`, all that `work` launches, at less cost each time. `work` must do nothing else. Raises
        OutOfMemoryError."""

    def take(self, size: int) -> Memory:
        """So many bytes. Raises OutOfMemoryError."""

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy a C-contiguous array to the device. It must not change before `working` ends; the device keeps it alive so long."""

    def download(self, array: np.ndarray, address: int) -> None:
        """Fill a C-contiguous array from the device, when all that was begun before is done."""

    def lent(self, array: Any) -> Lent:
        """A picture of the caller's on the device. Raises PictureError."""

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Bytes for the caller: a CuPy array. Raises OutOfMemoryError. To be filled inside `working` after `bring`."""

    def bring(self, address: int, lent: Lent) -> None:
        """Copy a picture of the caller's to an address, without gaps. It, and all that is begun behind it, comes after what the caller has begun
        before."""

    def move(self, address: int, source: int, size: int) -> None:
        """Copy bytes from one place on the device to another."""

    def lanes(self) -> Lanes:
        """New ones."""

    def free_bytes(self) -> int:
        """About how much memory can be taken."""


def unavailable(number: int | None = None) -> str | None:
    """None, or why there is no GPU to work with and what to do. number: of the GPU; None for the one that is current in this thread."""
    try:
        import cupy
    except Exception as e:  # a cupy that does not fit the driver or numpy fails with errors of all kinds
        return f"CuPy cannot be imported ({type(e).__name__}: {e}); install it with: pip install fastsr[cuda] (CUDA 12: fastsr[cuda12])"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        if number is None:
            number = int(cupy.cuda.runtime.getDevice()) if count else 0
    except Exception as e:
        return f"CuPy finds no CUDA driver ({_line(e, 200)}): install NVIDIA's driver, or use the backend cpu"
    if number >= count:
        which = "" if not count else f": number{' 0' if count == 1 else f's 0 to {count - 1}'}"
        return f"there is no GPU number {number}, CuPy finds {count}{which}"
    try:
        if int(cupy.cuda.Device(number).compute_capability) < 80:
            return f"GPU number {number} is older than the Ampere generation (compute capability 8.0): use the backend numba_cuda or cpu"
    except Exception as e:
        return f"GPU number {number} does not answer ({_line(e, 200)}): use the backend cpu"
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as e:  # CuPy comes without the compiler, and looks for it when it is first needed
        return f"CuPy finds no compiler, NVRTC ({_line(e, 200)}); install it with: pip install fastsr[cuda] (CUDA 12: fastsr[cuda12])"
    return None


class CupyDevice:
    """GPU number `number`, or without one the GPU that is current in this thread. All is done on that GPU, whichever is current in the thread that
    calls."""

    def __init__(self, number: int | None = None) -> None:
        import cupy

        self._cupy, self._process = cupy, os.getpid()
        self.name = "the current GPU" if number is None else f"GPU number {number}"
        with self._understood():
            self._number = number = int(cupy.cuda.runtime.getDevice()) if number is None else int(number)
            self.name = f"GPU number {number}"
            properties = cupy.cuda.runtime.getDeviceProperties(number)
            count = cupy.cuda.runtime.getDeviceCount()
        self.name = properties["name"].decode() + (f" (number {number})" if count > 1 else "")
        self.shared_limit = int(properties["sharedMemPerBlockOptin"])
        self._processors = int(properties["multiProcessorCount"])
        self._idle = _IDLE.setdefault(number, [])
        self._here = threading.local()  # arrays: those that the thread's stream may still read; before: the caller's stream

    def functions(self, names: Sequence[str], threads: Sequence[int], shared: Sequence[int]) -> list[Function]:
        """See `Device.functions`. CuPy keeps what it has compiled on disk."""
        gpu.check_process(self._process)
        try:
            with self._cupy.cuda.Device(self._number):
                module = self._cupy.RawModule(code='#include "all.cuh"\n', options=(*OPTIONS, f"-I{KERNELS}", f"-DFASTSR_SOURCE={_mark()}"),
                                              name_expressions=tuple(dict.fromkeys(names)))  # fmt: skip
                return [
                    _CupyFunction(self._cupy, module.get_function(n), t, s, self._processors) for n, t, s in zip(names, threads, shared, strict=True)
                ]
        except Exception as e:  # of the compiler, of the driver that loads what it made, or of CuPy, which does not find the compiler
            raise BackendError(f"the kernels cannot be compiled for {self.name} ({type(e).__name__}): {_line(e, 400)}") from e

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """See `Device.working`."""
        gpu.check_process(self._process)
        with self._understood(), self._cupy.cuda.Device(self._number):
            try:
                stream = self._idle.pop()
            except IndexError:
                stream = self._cupy.cuda.Stream(non_blocking=True)
            before, outer = self._cupy.cuda.get_current_stream(), vars(self._here).copy()
            self._here.before, self._here.arrays = before, []
            try:
                with stream:
                    try:
                        yield
                    finally:
                        stream.synchronize()
                        self._idle.append(stream)
            finally:
                vars(self._here).update(outer or {"before": None, "arrays": None})
                before.use()  # the end of `with` forgets a stream that was chosen by `use`

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """See `Device.aside`."""
        with self._cupy.cuda.Device(self._number), self._cupy.cuda.get_current_stream():
            yield

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Device.record`: a CUDA graph."""
        with self._understood():
            stream = self._cupy.cuda.get_current_stream()
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with contextlib.suppress(Exception):  # what was captured so far may be no graph
                    stream.end_capture()
                raise
            graph = stream.end_capture()
        return lambda: graph.launch(self._cupy.cuda.get_current_stream())

    def take(self, size: int) -> Memory:
        """See `Device.take`."""
        with self._understood(f"{size >> 20} MiB of memory"):
            return _CupyMemory(self._cupy.cuda.alloc(max(size, 1)))

    def upload(self, address: int, array: np.ndarray) -> None:
        """See `Device.upload`."""
        self._here.arrays.append(array)  # where GPUs read pageable memory themselves, the copy may come after the call
        self._cupy.cuda.runtime.memcpyAsync(address, array.ctypes.data, array.nbytes, 1, self._cupy.cuda.get_current_stream().ptr)

    def download(self, array: np.ndarray, address: int) -> None:
        """See `Device.download`."""
        stream = self._cupy.cuda.get_current_stream()
        self._cupy.cuda.runtime.memcpyAsync(array.ctypes.data, address, array.nbytes, 2, stream.ptr)
        stream.synchronize()

    def lent(self, array: Any) -> Lent:
        """See `Device.lent`."""
        gpu.check_process(self._process)
        with self._understood(), self._cupy.cuda.Device(self._number):
            return arrays.lent(self._cupy, self._number, array)

    def empty(self, shape: tuple[int, ...]) -> Any:
        """See `Device.empty`. The memory is of the caller's stream: once it is free, CuPy gives it away in the order of that stream."""
        with self._understood(f"{math.prod(shape) >> 20} MiB of memory"), self._cupy.cuda.Device(self._number):
            return self._cupy.empty(shape, self._cupy.uint8)

    def bring(self, address: int, lent: Lent) -> None:
        """See `Device.bring`."""
        cuda = self._cupy.cuda
        stream = cuda.get_current_stream()
        for before in dict.fromkeys((self._here.before.ptr, *lent.streams)):
            event = cuda.Event(disable_timing=True)
            cuda.runtime.eventRecord(event.ptr, before)
            stream.wait_event(event)
        rows = lent.rows()
        if rows is not None:
            width, pitch, height = rows
            cuda.runtime.memcpy2DAsync(address, width, lent.address, pitch, width, height, 3, stream.ptr)
        else:
            self._array(address, lent.shape)[...] = self._array(lent.address, lent.shape, lent.strides)

    def _array(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Any:
        """Bytes on the device as a CuPy array, which does not keep them."""
        memory = self._cupy.cuda.UnownedMemory(address, math.prod(shape), None, self._number)
        return self._cupy.ndarray(shape, self._cupy.uint8, self._cupy.cuda.MemoryPointer(memory, 0), strides)

    def move(self, address: int, source: int, size: int) -> None:
        """See `Device.move`."""
        self._cupy.cuda.runtime.memcpyAsync(address, source, size, 3, self._cupy.cuda.get_current_stream().ptr)

    def lanes(self) -> Lanes:
        """See `Device.lanes`."""
        return CupyLanes(self._cupy, self._number, self._idle, self._understood)

    def free_bytes(self) -> int:
        """See `Device.free_bytes`."""
        with self._understood(), self._cupy.cuda.Device(self._number):
            return int(self._cupy.cuda.runtime.memGetInfo()[0]) + int(self._cupy.get_default_memory_pool().free_bytes())

    @contextlib.contextmanager
    def _understood(self, size: str = "enough memory") -> Iterator[None]:
        """What CuPy and CUDA raise, as OutOfMemoryError or BackendError."""
        cuda = self._cupy.cuda
        try:
            yield
        except cuda.memory.OutOfMemoryError:
            raise OutOfMemoryError(f"{self.name} has not {size} left") from None
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as e:
            if any(name in str(e) for name in ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")):
                raise OutOfMemoryError(f"{self.name} has not {size} left") from None
            raise BackendError(f"{self.name} fails: {_line(e, 400)}; start anew, or use the backend cpu") from e


class _CupyMemory:
    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self.address = int(pointer.ptr)


class _CupyFunction:
    def __init__(self, cupy: Any, kernel: Any, threads: int, shared: int, processors: int) -> None:
        self._kernel, self._threads, self._shared = kernel, threads, shared
        if shared > 48 << 10:
            kernel.max_dynamic_shared_size_bytes = shared
        each = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, threads, shared)
        self.blocks = max(int(each), 1) * processors

    def launch(self, grid: tuple[int, int, int], args: np.ndarray) -> None:
        self._kernel(grid, (self._threads, 1, 1), (args,), shared_mem=self._shared)


def _line(e: Exception, most: int) -> str:
    return " ".join(str(e).split())[:most]


def _mark() -> str:
    """A number that changes with the kernels' sources: CuPy looks at headers that are included only where the options differ."""
    import zlib

    return str(zlib.crc32(b"".join(p.read_bytes() for p in sorted(KERNELS.glob("*.cuh")))))
