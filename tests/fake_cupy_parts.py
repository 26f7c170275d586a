"""What the fake CuPy consists of: GPUs, streams, events, memory, kernels, arrays. See `fake_cupy.py`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda_emulator import _Function

from fastsr.backends.cuda.layout import ARGS

if TYPE_CHECKING:
    from fake_cupy import FakeCupy

NONSENSE = 0x7F
"""Fills free memory: NaN as halfs, and 3.4e38 as floats."""


class CudaRuntimeError(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError."""


class CudaDriverError(RuntimeError):
    """cupy.cuda.driver.CUDADriverError."""


class PoolError(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""


@dataclass(eq=False)
class Record:
    """That a stream has come to an event."""

    queue: tuple[int, int]
    done: bool = False


@dataclass(eq=False)
class Work:
    """Something in a stream. touches: memory that it reads or writes. waits: nothing behind it is done before that record."""

    do: Callable[[], None]
    touches: list[Block] = field(default_factory=list)
    waits: Record | None = None
    what: str = ""


@dataclass(eq=False)
class Block:
    """A piece of memory. device: -1 for pinned memory of the host. queue: the stream that it belongs to."""

    device: int
    array: np.ndarray
    queue: tuple[int, int]
    alive: bool = True

    @property
    def begin(self) -> int:
        return int(self.array.ctypes.data)

    def holds(self, address: int) -> bool:
        return self.begin <= address < self.begin + self.array.nbytes


class Device:
    """cupy.cuda.Device."""

    compute_capability = "90"

    def __init__(self, cupy: FakeCupy, number: int | None) -> None:
        self._cupy, self.id, self._before = cupy, cupy.device if number is None else number, list[int]()

    def __enter__(self) -> Device:
        self._before.append(self._cupy.device)
        self._cupy.device = self.id
        return self

    def __exit__(self, *_: object) -> None:
        self._cupy.device = self._before.pop()

    def use(self) -> None:
        self._cupy.device = self.id


class Stream:
    """cupy.cuda.Stream. number: 0 for the default one."""

    def __init__(self, cupy: FakeCupy, non_blocking: bool = True, number: int | None = None) -> None:
        assert non_blocking
        self._cupy, self.device_id = cupy, -1
        if number is None:
            cupy.next += 1
            number, self.device_id = cupy.next, cupy.device
            cupy.devices_of[number] = cupy.device
        self.ptr = number

    def _number(self) -> int:
        number = self._cupy.device
        if self.device_id not in (-1, number):
            raise RuntimeError(f"the stream is of GPU {self.device_id}, and GPU {number} is current")
        return number

    def __enter__(self) -> Stream:
        number = self._number()
        self._cupy.chosen[number].append(self)
        self._cupy.here.entered = [*getattr(self._cupy.here, "entered", []), number]
        self._cupy.here.current[number] = self
        return self

    def __exit__(self, *_: object) -> None:
        number = self._cupy.here.entered.pop()
        self._cupy.chosen[number].pop()
        self._cupy.here.current[number] = self._cupy.chosen[number][-1]

    def use(self) -> Stream:
        number = self._number()
        assert self._cupy.chosen
        self._cupy.here.current[number] = self
        return self

    def synchronize(self) -> None:
        with self._cupy.lock:
            error = self._cupy.fails("synchronize")
            self._cupy.finish(self._cupy.key(self.ptr))
            if error:
                raise error

    def wait_event(self, event: Event) -> None:
        self._cupy.wait(self.ptr, event)

    def begin_capture(self) -> None:
        captures = self._cupy.__dict__.setdefault("captures", {})
        captures[self.ptr] = []

    def end_capture(self) -> SimpleNamespace:
        works = self._cupy.__dict__["captures"].pop(self.ptr)

        def launch(stream: Stream) -> None:
            for work in works:
                self._cupy.enqueue(stream.ptr, work)

        return SimpleNamespace(launch=launch)


class Event:
    """cupy.cuda.Event."""

    def __init__(self, cupy: FakeCupy) -> None:
        cupy.next += 1
        self._cupy, self.ptr, self._device = cupy, cupy.next, cupy.device
        self.last: Record | None = None
        cupy.events[self.ptr] = self

    def record(self, stream: Any) -> None:
        key = self._cupy.key(stream.ptr)
        if key[0] != self._device:
            raise CudaRuntimeError("cudaErrorInvalidResourceHandle: the event is of another GPU")
        record = Record(key)

        def do() -> None:
            record.done = True

        self._cupy.enqueue(stream.ptr, Work(do, what="record"))
        self.last = record

    def synchronize(self) -> None:
        with self._cupy.lock:
            error = self._cupy.fails("synchronize")
            if error:
                raise error
            if self.last is not None:
                self._cupy.until(self.last)

    @property
    def done(self) -> bool:
        with self._cupy.lock:
            if isinstance(self._cupy.order, int) and self._cupy.queues:
                self._cupy.some()
            return self.last is None or self.last.done


class Pointer:
    """What cupy.cuda.alloc gives."""

    def __init__(self, cupy: FakeCupy, size: int) -> None:
        with cupy.lock:
            queue = cupy.key(cupy.current_stream().ptr)
            if cupy.taken[queue[0]] + size > cupy.memory:
                raise PoolError(f"Out of memory allocating {size} bytes")
            held = cupy.free.get((*queue, size))
            self.block = held.pop() if held else Block(queue[0], aligned(size), queue)
            if self.block not in cupy.blocks:
                cupy.blocks.append(self.block)
            self.block.alive = True
            cupy.taken[queue[0]] += size
            self._cupy, self._size, self.ptr, self.device_id = cupy, size, self.block.begin, queue[0]

    def __del__(self) -> None:
        if hasattr(self, "_cupy"):
            self._cupy.release(self.block)
            self._cupy.taken[self.device_id] -= self._size
            self._cupy.free.setdefault((*self.block.queue, self._size), []).append(self.block)


class Pinned:
    """cupy.cuda.PinnedMemory."""

    def __init__(self, cupy: FakeCupy, size: int) -> None:
        error = cupy.fails("pin")
        if error:
            raise error
        self._cupy, self.size = cupy, size
        self.block = Block(-1, aligned(size), (-1, -1))
        cupy.blocks.append(self.block)
        cupy.pinned += size

    @property
    def array(self) -> Any:
        """Something with a buffer that keeps this object."""
        view = type("Kept", (ctypes.c_uint8 * self.size,), {}).from_address(self.block.begin)
        view.owner = self
        return view

    def __del__(self) -> None:
        if hasattr(self, "block"):
            self._cupy.release(self.block)
            self._cupy.pinned -= self.size


class Module:
    """cupy.RawModule: its kernels run on the emulator, each in its turn of a stream."""

    def __init__(self, cupy: FakeCupy, code: str, options: Sequence[str], name_expressions: Sequence[str]) -> None:
        self.cupy, self.device, self.names, self.made = cupy, cupy.device, name_expressions, dict[str, Kernel]()

    def get_function(self, name: str) -> Kernel:
        assert name in self.names
        return self.made.setdefault(name, Kernel(self, name))

    def prepare(self) -> None:
        self.cupy.emulator.prepare(list(self.made), [k.shared for k in self.made.values()])


class Kernel:
    """cupy.RawKernel."""

    max_dynamic_shared_size_bytes = 0
    shared = 0

    def __init__(self, module: Module, name: str) -> None:
        self._module, self._name = module, name
        module.cupy.next += 1
        self.kernel = SimpleNamespace(ptr=module.cupy.next)
        module.cupy.kernels[module.cupy.next] = self

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[np.ndarray], shared_mem: int) -> None:
        cupy = self._module.cupy
        assert cupy.device == self._module.device, "the kernel is of another GPU"
        assert shared_mem == self.shared
        (given,) = args
        given = given.copy()
        touched = [b for address in addresses(given) if (b := cupy.block_at(address)) is not None]

        def do() -> None:
            self._module.prepare()
            _Function(cupy.emulator, self._name, block[0], shared_mem).launch((grid[0], grid[1], grid[2]), given)

        cupy.enqueue(cupy.current_stream().ptr, Work(do, touched, what="kernel"))


class Array:
    """cupy.ndarray."""

    def __init__(self, cupy: FakeCupy, shape: Sequence[int], dtype: Any, memptr: Any = None, strides: Sequence[int] | None = None) -> None:
        self._cupy, self.shape, self.dtype = cupy, tuple(shape), np.dtype(dtype)
        self.strides = tuple(strides or np.zeros(shape, dtype).strides)
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self.data = memptr if memptr is not None else Pointer(cupy, max(self.nbytes, 1))
        self.ndim = len(self.shape)
        self.device = SimpleNamespace(id=self.data.device_id)

    def numpy(self) -> np.ndarray:
        """A view of the memory, which does not keep it."""
        byte = np.ctypeslib.as_array((ctypes.c_uint8 * 1).from_address(self.data.ptr))
        return np.lib.stride_tricks.as_strided(byte.view(np.uint8) if self.dtype.itemsize == 1 else _wide(self.data.ptr, self.dtype),
                                               self.shape, self.strides)  # fmt: skip

    def now(self) -> np.ndarray:
        """What is in the memory, without waiting for anything."""
        return np.array(self.numpy())

    def __getitem__(self, key: Any) -> Array:
        part = self.numpy()[key]
        memory = SimpleNamespace(ptr=part.ctypes.data, device_id=self.data.device_id, mem=self.data)
        return Array(self._cupy, part.shape, self.dtype, memory, part.strides)

    def __setitem__(self, key: Any, value: Array | np.ndarray) -> None:
        """Done in the current stream."""
        assert key is Ellipsis
        blocks = [self._cupy.block_at(x.data.ptr) for x in (self, value) if isinstance(x, Array)]
        source = value if isinstance(value, Array) else np.array(value)

        def do() -> None:
            self.numpy()[...] = source.numpy() if isinstance(source, Array) else source

        self._cupy.enqueue(self._cupy.current_stream().ptr, Work(do, [b for b in blocks if b is not None], what="fill"))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        found = {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3, "strides": self.strides}
        return {**found, "stream": self._cupy.current_stream().ptr or 1}


def _wide(address: int, dtype: np.dtype[Any]) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * dtype.itemsize).from_address(address)).view(dtype)


def aligned(size: int) -> np.ndarray:
    """Memory that begins at a multiple of 512 bytes, full of nonsense."""
    whole = np.full(size + 1024, NONSENSE, np.uint8)
    begin = -int(whole.ctypes.data) % 512
    return whole[begin : begin + max(size, 1)]


def addresses(args: np.ndarray) -> Iterator[int]:
    """All that a kernel is told."""
    assert args.dtype == ARGS
    a = args[0]
    yield from (int(a["in"]["data"]), int(a["out"]["data"]))
    yield from (int(a[n]) for n in ("weight", "bias", "rows", "columns", "row_factors", "column_factors"))
    for slot in a["slots"]:
        yield from (int(slot["value"]["data"]), int(slot["tensor"]))
