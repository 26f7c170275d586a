"""Many pictures on the GPU: the next one goes there while this one is computed and the one before comes back. What `CudaExecutable.stream` gives.

Every picture in flight has a slot: pinned memory of the host and memory of the GPU for picture and result, and launches recorded for these. The host
writes a slot's picture only when it has waited for the slot's last result, so nothing is written over that is still read. Kernels run in one stream,
one picture after another, so slots share the memory for the network's values. Slots live in one list until their work is known to be done.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendError
from .. import Progress
from .device import Lanes, OutOfMemoryError
from .plan import rounded

if TYPE_CHECKING:
    from .executable import CudaExecutable, Frame

SLOTS = 4
"""Slots that are kept for pictures to come, with those in flight. More than that are in flight only where the caller begins with more."""


@dataclass(eq=False)
class _Slot:
    """host: pinned, the picture and behind it the result. busy: something may still happen in it."""

    host: np.ndarray
    frame: Frame
    busy: bool = False

    def picture(self) -> np.ndarray:
        return self.host[: math.prod(self.frame.shape)].reshape(self.frame.shape)

    def result(self) -> np.ndarray:
        """A view."""
        begin, shape = rounded(math.prod(self.frame.shape)), (*self.frame.size, *self.frame.shape[2:])
        return self.host[begin : begin + math.prod(shape)].reshape(shape)


@dataclass(eq=False)
class _Begun:
    """A picture that was not taken yet: in a slot, whose result is there after `end`; or, without one, the picture itself, an error or the result."""

    slot: _Slot | None = None
    end: Any = None
    picture: np.ndarray | None = None
    error: Exception | None = None
    result: np.ndarray | None = None


class CudaStream:
    """See `fastsr.backends.Stream`. Pictures that the GPU does not make alone and at once are computed when they are taken, as `upscale` does it."""

    copies = True
    """`add` has done with the picture when it returns."""

    def __init__(self, executable: CudaExecutable, lanes: Lanes) -> None:
        self._executable = executable
        self._lanes: Lanes | None = lanes
        self._begun: deque[_Begun] = deque()
        self._slots: list[_Slot] = []  # the one that was used longest ago first

    def add(self, picture: np.ndarray) -> int:
        """See `Stream.add`."""
        if self._lanes is None:
            raise ValueError("the stream is closed")
        size = self._executable.result_size(picture)
        begun = _Begun()
        self._begun.append(begun)
        try:
            begun.slot = self._slot(picture) if self._executable.is_made_at_once(picture) else None
            if begun.slot is None:
                begun.picture = np.array(picture, order="C")
            else:
                slot, frame = begun.slot, begun.slot.frame
                slot.picture()[...] = picture
                assert frame.launch is not None
                address = frame.memory.address
                begun.end = self._lanes.begin(slot.picture(), address, frame.launch, address + frame.target, slot.result())
        except Exception as e:  # of the GPU, or of memory: told at its turn
            begun.error = e
        except BaseException:  # the slot stays busy
            self._begun.pop()
            raise
        return picture.nbytes + size

    def ready(self) -> bool:
        """See `Stream.ready`."""
        if not self._begun or self._lanes is None:
            return False
        first = self._begun[0]
        return first.error is not None or first.result is not None or (first.end is not None and self._lanes.is_done(first.end))

    def take(self, progress: Progress | None = None) -> np.ndarray:
        """See `Stream.take`."""
        if self._lanes is None:
            raise ValueError("the stream is closed")
        begun = self._begun.popleft()
        if begun.result is not None:
            return begun.result
        if begun.picture is not None:
            return self._alone(begun.picture, progress)
        try:
            if begun.error is not None:
                raise begun.error
            if progress:
                progress(0, 1)
            return self._fetched(begun)
        except BaseException:
            if begun.slot is not None and begun.slot.busy:
                with contextlib.suppress(BackendError):  # then the slot stays busy
                    self._lanes.drain()
                    begun.slot.busy = False
            raise

    def close(self) -> None:
        """See `Stream.close`. A GPU that fails does nothing any more either."""
        if self._lanes is None:
            return
        with contextlib.suppress(BackendError, MemoryError):
            self._lanes.close()
        self._lanes = None
        self._begun.clear()
        self._slots.clear()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of the process, CuPy may have ended before
            self.close()

    # ---- parts -----------------------------------------------------------------------------------------------------------------------------------

    def _fetched(self, begun: _Begun) -> np.ndarray:
        """The result, for which this waits."""
        assert begun.slot is not None and self._lanes is not None
        self._lanes.wait(begun.end)
        result = begun.slot.result().copy()
        begun.slot.busy = False
        return result

    def _slot(self, picture: np.ndarray) -> _Slot | None:
        """A slot for that picture, marked as busy; None where memory is short."""
        found = next((s for s in self._slots if not s.busy and s.frame.shape == picture.shape), None)
        if found is not None:
            self._slots.remove(found)
        else:
            found = self._made_slot(picture.shape)
        if found is not None:
            found.busy = True
            self._slots.append(found)
        return found

    def _made_slot(self, shape: tuple[int, ...]) -> _Slot | None:
        host = None
        if len(self._slots) >= SLOTS:
            oldest = next((s for s in self._slots if not s.busy), None)
            if oldest is not None:
                self._slots.remove(oldest)
                host = oldest.host
                del oldest
        for kept in (True, False):
            frame = None  # that of the first try goes
            try:
                frame = self._executable.frame_at_once(shape, [s.frame for s in self._slots])
                size = rounded(math.prod(shape)) + math.prod((*frame.size, *shape[2:]))
                if host is None or host.nbytes < size:
                    assert self._lanes is not None
                    host = None
                    host = self._lanes.pinned(1 << (size - 1).bit_length())
                return _Slot(host, frame)
            except OutOfMemoryError:
                if kept:
                    self._slots = [s for s in self._slots if s.busy]
                    self._executable.forget()
        return None

    def _alone(self, picture: np.ndarray, progress: Progress | None) -> np.ndarray:
        try:
            return self._executable.enlarged(picture, progress)
        except BackendError:
            if not self._slots:
                raise
        for begun in self._begun:  # what they hold may be all that there is
            if begun.end is not None:
                begun.result, begun.slot, begun.end = self._fetched(begun), None, None
        self._slots = [s for s in self._slots if s.busy]
        return self._executable.enlarged(picture, progress)
