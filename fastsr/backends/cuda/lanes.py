"""Three streams of a GPU, in which pictures go there, are computed and come back, each while others do the other things. Uses CuPy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .. import gpu

HOST_PORTABLE = 1
"""cudaHostAllocPortable: pinned memory that is so for every GPU."""


class CupyLanes:
    """See `device.Lanes`. A result is copied back when its kernels are done, these run when its picture is there, and after those of the picture
    before; nothing else waits for anything."""

    def __init__(self, cupy: Any, number: int, idle: list[Any], understood: Callable[[str], AbstractContextManager[None]]) -> None:
        """idle: streams of that GPU in which nobody works; all three go back there. understood: makes errors of CuPy errors of ours."""
        self._cupy, self._number, self._idle, self._understood, self._process = cupy, number, idle, understood, os.getpid()
        self._streams: list[Any] = []
        with self._here():
            while len(self._streams) < 3:
                try:
                    self._streams.append(idle.pop())
                except IndexError:
                    self._streams.append(cupy.cuda.Stream(non_blocking=True))

    @contextlib.contextmanager
    def _here(self, size: str = "enough memory") -> Any:
        gpu.check_process(self._process)
        with self._understood(size), self._cupy.cuda.Device(self._number):
            yield

    def pinned(self, size: int) -> np.ndarray:
        """See `device.Lanes.pinned`. Not of CuPy's pool, which keeps what was freed for ever."""
        cuda = self._cupy.cuda
        with self._here(f"{size >> 20} MiB of pinned memory of the host"):
            return np.frombuffer(cuda.PinnedMemoryPointer(cuda.PinnedMemory(size, HOST_PORTABLE), 0), np.uint8, size)

    def begin(self, picture: np.ndarray, address: int, launch: Callable[[], None], source: int, result: np.ndarray) -> Any:
        """See `device.Lanes.begin`."""
        with self._here():
            up, compute, down = self._streams
            copy = self._cupy.cuda.runtime.memcpyAsync
            copy(address, picture.ctypes.data, picture.nbytes, 1, up.ptr)
            self._follow(compute, up)
            before = self._cupy.cuda.get_current_stream()
            try:
                with compute:
                    launch()
            finally:
                before.use()
            self._follow(down, compute)
            copy(result.ctypes.data, source, result.nbytes, 2, down.ptr)
            end = self._cupy.cuda.Event(block=True, disable_timing=True)
            end.record(down)
            return end

    def _follow(self, later: Any, earlier: Any) -> None:
        """What is begun in the one stream comes after what was begun in the other so far. CUDA keeps an event until it has happened."""
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(earlier)
        later.wait_event(event)

    def is_done(self, end: Any) -> bool:
        """See `device.Lanes.is_done`."""
        with self._here():
            return bool(end.done)

    def wait(self, end: Any) -> None:
        """See `device.Lanes.wait`."""
        with self._here():
            end.synchronize()

    def drain(self) -> None:
        """See `device.Lanes.drain`."""
        with self._here():
            for stream in self._streams:
                stream.synchronize()

    def close(self) -> None:
        """See `device.Lanes.close`. Streams that fail are not used again."""
        self.drain()
        streams, self._streams = self._streams, []
        self._idle += streams
