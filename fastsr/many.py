"""Many pictures through one network: what `Model.upscale_many` returns. The backend computes in the background while results are used."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import image
from .backends import Progress, Stream
from .errors import FastsrError

PER_THREAD = 4
"""Pictures in flight for each thread, at most."""

BYTES = 64 << 20
"""Pictures and results in flight, at most, where that is more than two pictures."""


@dataclass
class _Started:
    """A picture that was pulled: handed to the stream (`alpha`: in two parts), or waiting itself where there is no stream. result: made at once."""

    picture: Any
    bytes: int = 0
    grey: bool = False
    alpha: bool = False
    error: Exception | None = None
    result: Any = None


class Many(Iterator[np.ndarray]):
    """The enlarged pictures, in order. See `Model.upscale_many`. Used by one thread at a time."""

    def __init__(
        self,
        pictures: Iterable[np.ndarray],
        one: Callable[[np.ndarray, Progress | None], np.ndarray],
        stream: Stream | None,
        threads: int,
        progress: Callable[[float], object] | None = None,
        least: int = 2,
    ) -> None:
        """one: enlarges a picture; used where there is no stream, and for pictures that lie on a GPU. least: pictures in flight, however large."""
        self._source: Iterator[np.ndarray] | None = iter(pictures)
        self._one, self._stream, self._most, self._progress, self._least = one, stream, PER_THREAD * threads, progress, least
        self._started: deque[_Started] = deque()
        self._failure: Exception | None = None  # of the iterable
        self._number = 0
        self._cancelled = False
        self._lock = threading.Lock()

    def __next__(self) -> np.ndarray:
        """The next result. Raises the picture's error, after which the one behind it can be had; StopIteration at the end."""
        with self._alone():
            try:
                self._pull()
                if self._started:
                    return self._take()
                failure, self._failure = self._failure, None
                self._end()
                raise failure or StopIteration
            except BaseException as e:
                if self._cancelled or not isinstance(e, Exception):
                    self._end()
                raise

    def close(self) -> None:
        """Forget what was not begun, stop what was and wait for that: nothing goes on afterwards. The iterator is at its end."""
        with self._alone():
            self._failure = None
            self._end()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise ValueError("upscale_many: another thread, or the iterable itself, is in the middle of this iterator")
        try:
            yield
        finally:
            self._lock.release()

    def _end(self) -> None:
        self._source = None
        self._started.clear()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _pull(self) -> None:
        """Get on with as many pictures as there is room for: at least with one, with more only while the next result is not there yet."""
        pulled = False
        while self._source is not None and self._has_room() and not (pulled and self._is_ready()):
            pulled = True
            try:
                picture = next(self._source)
            except StopIteration:
                self._source = None
            except Exception as e:
                self._source, self._failure = None, e
            else:
                self._started.append(self._start(picture))

    def _has_room(self) -> bool:
        n = len(self._started)
        if self._stream is None or n < self._least:
            return n < (1 if self._stream is None else self._least)
        return n < self._most and sum(s.bytes for s in self._started) < BYTES

    def _is_ready(self) -> bool:
        first = self._started[0]
        return self._stream is None or first.error is not None or first.result is not None or self._stream.ready()

    def _start(self, picture: Any) -> _Started:
        if self._stream is None:
            return _Started(picture)
        try:
            if image.lies_on_gpu(picture):
                return _Started(None, result=self._one(picture, None))  # now, as the iterable may use its memory again
            colour, alpha = image.split_alpha(image.check_picture(picture))
            parts = [colour] if alpha is None else [colour, alpha]
            if not getattr(self._stream, "copies", False):
                parts = [np.array(p, order="C") for p in parts]  # copies, for the same reason
            n = sum(self._stream.add(p) for p in parts)
        except Exception as e:
            return _Started(None, error=e)
        return _Started(None, n, picture.ndim == 3 and picture.shape[2] == 1, alpha is not None)

    def _take(self) -> np.ndarray:
        started, number = self._started.popleft(), self._number
        self._number += 1
        try:
            result = self._result(started)
        except (FastsrError, MemoryError) as e:
            if self._cancelled:
                raise
            raise type(e)(f"pictures[{number}]: {e}") from e
        if self._progress:
            self._tell(1, 1)
        return result

    def _result(self, started: _Started) -> np.ndarray:
        progress = self._tell if self._progress else None
        if started.error is not None:
            raise started.error
        if started.result is not None:
            return started.result
        if self._stream is None:
            return self._one(started.picture, progress)
        try:
            colour = self._stream.take(progress)
        except Exception:
            if started.alpha and not self._cancelled:
                self._stream.take()
            raise
        if started.alpha:
            return image.merge_alpha(colour, self._stream.take())
        return colour[:, :, None] if started.grey else colour

    def _tell(self, done: int, total: int) -> None:
        assert self._progress is not None
        try:
            self._progress(self._number - 1 + done / max(total, 1))
        except BaseException:
            self._cancelled = True
            raise
