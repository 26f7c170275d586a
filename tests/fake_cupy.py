"""A CuPy whose GPUs are memory of the host and whose streams are queues, for tests of what is done at the same time where there is no GPU.

What is begun in a stream is done when somebody waits for it and not before (`late`), at once (`early`), or now or later by chance (a seed). So a wait
that is missing shows as wrong numbers in one of these. Memory that is free holds nonsense, and new work on it, or freeing it while another stream
still works on it, is a fault; so are kernels and copies that touch the memory of another GPU. `check` tells faults and what was not given back.
Memory that is freed goes to the next who asks for as much in the same stream, as in CuPy's pool.
"""

from __future__ import annotations

import ctypes
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from cuda_emulator import Emulator
from fake_cupy_parts import (
    NONSENSE,
    Array,
    Block,
    CudaDriverError,
    CudaRuntimeError,
    Device,
    Event,
    Module,
    Pinned,
    Pointer,
    PoolError,
    Record,
    Stream,
    Work,
)


class FakeCupy:
    """Stands for the module cupy."""

    uint8 = np.uint8

    def __init__(self, emulator: Emulator, order: str | int = "late", gpus: int = 2, memory: int = 1 << 30) -> None:
        self.emulator, self.order, self.gpus, self.memory = emulator, order, gpus, memory
        self.chance = random.Random(order if isinstance(order, int) else 0)
        self.lock = threading.RLock()
        self.here = threading.local()
        self.queues: dict[tuple[int, int], deque[Work]] = {}
        self.devices_of: dict[int, int] = {}  # stream -> GPU
        self.blocks: list[Block] = []
        self.free: dict[tuple[int, int, int], list[Block]] = {}  # GPU, stream, bytes
        self.events: dict[int, Any] = {}
        self.kernels: dict[int, Any] = {}
        self.taken = [0] * gpus
        self.pinned = 0
        self.faults: list[str] = []
        self.copies: list[tuple[int, int]] = []  # kind, bytes
        self.log: list[str] = []
        self.fails: Callable[[str], BaseException | None] = lambda what: None
        self.next = 16
        self.lost = False  # whether the GPU failed for good, so that streams are not used again
        self.callers = {0}  # streams of the tests, in which something may go on
        self.ndarray = lambda *a, **k: Array(self, *a, **k)
        self.empty = lambda shape, dtype: Array(self, shape, dtype)
        self.from_dlpack = self._from_dlpack
        self.RawModule = lambda **given: Module(self, **given)
        self.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 0)
        null = Stream(self, number=0)
        self.null = null
        self.cuda = SimpleNamespace(
            Stream=lambda non_blocking: Stream(self, non_blocking),
            Event=lambda block=False, disable_timing=False: Event(self),
            Device=lambda number=None: Device(self, number),
            UnownedMemory=lambda address, size, owner, device: SimpleNamespace(ptr=address, owner=owner, device_id=device),
            MemoryPointer=lambda memory, offset: SimpleNamespace(ptr=memory.ptr + offset, mem=memory, device_id=memory.device_id),
            PinnedMemory=lambda size, flags=0: Pinned(self, size),
            PinnedMemoryPointer=lambda memory, offset: memory.array,
            get_current_stream=self.current_stream,
            alloc=lambda size: Pointer(self, size),
            memory=SimpleNamespace(OutOfMemoryError=PoolError),
            driver=SimpleNamespace(CUDADriverError=CudaDriverError, occupancyMaxActiveBlocksPerMultiprocessor=self._occupancy),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            runtime=SimpleNamespace(
                CUDARuntimeError=CudaRuntimeError,
                getDeviceCount=lambda: self.gpus,
                getDevice=lambda: self.device,
                getDeviceProperties=lambda n: {"name": b"GPU", "sharedMemPerBlockOptin": emulator.shared_limit, "multiProcessorCount": 2},
                memcpyAsync=self._copy,
                memcpy2DAsync=self._copy_rows,
                memGetInfo=lambda: (self.memory - self.taken[self.device], self.memory),
                pointerGetAttributes=self._attributes,
                eventRecord=lambda event, stream: self.events[event].record(SimpleNamespace(ptr=stream)),
                streamWaitEvent=lambda stream, event: self.wait(stream, self.events[event]),
            ),
        )

    # ---- what is current -------------------------------------------------------------------------------------------------------------------------

    @property
    def device(self) -> int:
        return getattr(self.here, "device", 0)

    @device.setter
    def device(self, number: int) -> None:
        assert 0 <= number < self.gpus
        self.here.device = number

    @property
    def chosen(self) -> list[list[Stream]]:
        """Of each GPU: the streams of `with`, the last one current unless another one was chosen by `use`."""
        if not hasattr(self.here, "chosen"):
            self.here.chosen = [[self.null] for _ in range(self.gpus)]
            self.here.current = [self.null] * self.gpus
        return self.here.chosen

    def current_stream(self) -> Stream:
        assert self.chosen
        return self.here.current[self.device]

    # ---- work ------------------------------------------------------------------------------------------------------------------------------------

    def key(self, stream: int) -> tuple[int, int]:
        return (self.device, 0) if stream in (0, 1, 2) else (self.devices_of[stream], stream)

    def enqueue(self, stream: int, work: Work) -> None:
        with self.lock:
            error = self.fails(work.what)
            if error:
                raise error
            key = self.key(stream)
            self.log.append(f"{work.what} {key[1]}")
            for block in work.touches:
                if not block.alive:
                    self.faults.append(f"{work.what} on memory that is free")
                if block.device not in (-1, key[0]):
                    self.faults.append(f"{work.what} of GPU {key[0]} on memory of GPU {block.device}")
            capture = self.capturing(stream)
            if capture is not None:
                capture.append(work)
                return
            self.queues.setdefault(key, deque()).append(work)
            if self.order == "early":
                for one in list(self.queues):
                    self.finish(one)
            elif self.order != "late":
                self.some()

    def some(self) -> None:
        """By chance, go on with this or that."""
        for _ in range(self.chance.randrange(4)):
            self.step(self.chance.choice(list(self.queues)))

    def capturing(self, stream: int) -> list[Work] | None:
        return getattr(self, "captures", {}).get(stream)

    def step(self, key: tuple[int, int]) -> bool:
        """Do the stream's next work; False where it waits for another stream."""
        queue = self.queues.get(key)
        if not queue:
            return True
        if queue[0].waits is not None and not queue[0].waits.done:
            return False
        queue.popleft().do()
        return True

    def finish(self, key: tuple[int, int]) -> None:
        while self.queues.get(key):
            if not self.step(key):
                waits = self.queues[key][0].waits
                assert waits is not None
                self.until(waits)

    def until(self, record: Record) -> None:
        while not record.done:
            if not self.step(record.queue):
                waits = self.queues[record.queue][0].waits
                assert waits is not None
                self.until(waits)

    def wait(self, stream: int, event: Event) -> None:
        if event.last is not None:
            self.enqueue(stream, Work(lambda: None, waits=event.last, what="wait"))

    # ---- memory ----------------------------------------------------------------------------------------------------------------------------------

    def block_at(self, address: int) -> Block | None:
        return next((b for b in self.blocks if b.holds(address)), None)

    def release(self, block: Block) -> None:
        with self.lock:
            pending = {key for key, queue in self.queues.items() if any(block in w.touches for w in queue)}
            if pending - {block.queue}:
                self.faults.append(f"memory of {'the host' if block.device < 0 else f'GPU {block.device}'} is freed while a stream works on it")
            block.alive = False
            if not pending:
                block.array[:] = NONSENSE

    def _attributes(self, address: int) -> SimpleNamespace:
        block = self.block_at(address)
        return SimpleNamespace(device=-2 if block is None else max(block.device, 0), type=0 if block is None else 2 if block.device >= 0 else 1)

    def _copy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        self._copy_rows(to, size, source, size, size, 1, kind, stream)

    def _copy_rows(self, to: int, to_pitch: int, source: int, pitch: int, width: int, height: int, kind: int, stream: int) -> None:
        assert pitch >= width
        assert to_pitch >= width
        ends = self.block_at(to), self.block_at(source)
        on_gpu = [b is not None and b.device >= 0 for b in ends]
        assert on_gpu == [kind != 2, kind != 1], f"no copy of kind {kind}"

        def do() -> None:
            for y in range(height):
                ctypes.memmove(to + y * to_pitch, source + y * pitch, width)

        self.copies.append((kind, width * height))
        self.enqueue(stream, Work(do, [b for b in ends if b is not None], what=("", "upload", "download", "move")[kind]))

    def _occupancy(self, kernel: int, threads: int, shared: int) -> int:
        self.kernels[kernel].shared = shared
        return 1

    def _from_dlpack(self, x: Any) -> Any:
        kind, number = x.__dlpack_device__()
        assert kind in (2, 13)
        with Device(self, number):
            return x.__dlpack__(stream=self.current_stream().ptr or 1, max_version=(1, 0), copy=None)

    # ---- tests -----------------------------------------------------------------------------------------------------------------------------------

    def caller_stream(self) -> Stream:
        """A stream of the test."""
        made = Stream(self)
        self.callers.add(made.ptr)
        return made

    def check(self) -> None:
        """No fault, and nothing is begun that nobody waited for."""
        assert not self.faults, self.faults
        assert not any(queue for key, queue in self.queues.items() if key[1] not in self.callers), "something goes on"


@contextmanager
def on(cupy: FakeCupy, number: int) -> Iterator[None]:
    """The thread's current GPU is that one."""
    with Device(cupy, number):
        yield
