"""Many picture files through one network, as a pipeline: files are read and decoded by some threads, computed, encoded and written by others, all at
the same time. Memory is bounded: few pictures are between reading and writing, of large ones two.
"""

from __future__ import annotations

import errno
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FastsrError
from ..threads import get_num_threads
from .common import Progress

if TYPE_CHECKING:
    from ..model import Model

BYTES = 256 << 20
"""Pictures and results from decoding to the end of writing, at most, where that is more than two pictures."""

LARGE = 16 << 20
"""Bytes of a picture from which on only one is read ahead."""

EXPECTED = (FastsrError, OSError, MemoryError)
"""What may be wrong with one picture, while the others go on."""


class Jobs(NamedTuple):
    """Threads that read, compute and write; None where the option did not say."""

    read: int | None = None
    compute: int | None = None
    write: int | None = None

    def complete(self) -> tuple[int, int, int]:
        """With defaults. Encoding PNG is more work than a small network, decoding is less."""
        n = self.compute or get_num_threads()
        return self.read or (n + 3) // 4, n, self.write or n


@dataclass(eq=False)
class _Entry:
    """A picture on its way."""

    index: int
    source: Path
    target: Path
    read: Future[Any] | None = None
    sizes: str = ""
    bytes: int = 0
    written: Future[bool] | None = None
    error: Exception | None = None


@dataclass
class Outcome:
    """How a folder ended. untried: after the disk was full."""

    failed: list[Path] = field(default_factory=list)
    untried: int = 0


class Pipeline:
    """One run over (input, output) pairs. Reports every picture in the order of the pairs, and goes on after a failure unless the disk is full."""

    def __init__(self, model: Model, pairs: list[tuple[Path, Path]], jobs: Jobs, quality: int | None, quiet: bool, views: int = 1) -> None:
        """views: as in `Model.upscale`."""
        self._model, self._scale, self._views = model, model.scale, views
        self._quality, self._quiet = quality, quiet
        self._reading, _, self._writing = jobs.complete()
        self._entries = [_Entry(k, source, target) for k, (source, target) in enumerate(pairs)]
        self._unread = deque(self._entries)
        self._ahead: deque[_Entry] = deque()  # being read, or read
        self._computing: deque[_Entry] = deque()
        self._unsettled: deque[_Entry] = deque()  # not reported yet
        self._last_bytes = 0
        self._taken = 0  # results, good or bad
        self._full = False
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Do it. On an exception, Ctrl-C included, files that are being written are finished and nothing else is."""
        self._bar = Progress(len(self._entries), not self._quiet)
        results = self._model.upscale_many(self._decoded(), views=self._views, progress=self._show)
        with ThreadPoolExecutor(self._reading) as self._reader, ThreadPoolExecutor(self._writing) as self._writer:
            try:
                while not self._full:
                    try:
                        result = next(results)
                    except StopIteration:
                        break
                    except EXPECTED as e:
                        self._fail(self._computing.popleft(), e)
                    else:
                        entry = self._computing.popleft()
                        entry.written = self._writer.submit(self._write, entry, result)
                        del result
                    self._taken += 1
                    self._wait_for_writers(2 * self._writing)
                    self._settle()
                results.close()
                self._wait_for_writers(0)
                for entry in self._computing:
                    self._unsettled.remove(entry)
                self._settle()
            finally:
                results.close()
                self._bar.close()
                self._reader.shutdown(wait=False, cancel_futures=True)
                self._writer.shutdown(wait=False, cancel_futures=True)
        self._outcome.untried += len(self._unread) + len(self._ahead) + len(self._computing)
        return self._outcome

    def _decoded(self) -> Iterator[Any]:
        """The pictures that could be read, each when there is room for it."""
        from ..files import check_writable, read_picture

        while not self._full:
            while self._unread and len(self._ahead) < (2 * self._reading if self._last_bytes < LARGE else 1):
                entry = self._unread.popleft()
                entry.read = self._reader.submit(read_picture, entry.source)
                self._ahead.append(entry)
            if not self._ahead:
                return
            entry = self._ahead[0]
            assert entry.read is not None
            try:
                picture = entry.read.result()
                height, width = int(picture.shape[0] * self._scale), int(picture.shape[1] * self._scale)
                check_writable(entry.target, (height, width))
            except EXPECTED as e:
                entry.error = e
            entry.read = None
            if entry.error is None:
                self._last_bytes = picture.nbytes
                entry.bytes = int(picture.nbytes * (1 + self._scale**2))
                entry.sizes = f"{picture.shape[1]}x{picture.shape[0]} -> {width}x{height}"
                self._wait_for_room(entry.bytes)
            self._ahead.popleft()
            self._unsettled.append(entry)
            if entry.error is None:
                self._computing.append(entry)
                box = [picture]
                del picture
                yield box.pop()

    def _write(self, entry: _Entry, result: Any) -> bool:
        """False when the disk was full before. Runs in a writer's thread."""
        from ..files import write_picture

        if self._full:
            return False
        try:
            write_picture(entry.target, result, quality=self._quality)
        except OSError as e:
            self._full = self._full or e.errno in (errno.ENOSPC, errno.EDQUOT)
            raise
        return True

    def _fail(self, entry: _Entry, e: Exception) -> None:
        """Computing failed; the error does not name the file yet."""
        cause = e.__cause__ or e
        entry.error = FastsrError(f"'{entry.source}': {'not enough memory' if isinstance(cause, MemoryError) else cause}")
        entry.bytes = 0

    def _being_written(self) -> list[Future[bool]]:
        """Of pictures that are being written."""
        return [e.written for e in self._unsettled if e.written is not None and not e.written.done()]

    def _wait_for_room(self, n: int) -> None:
        while (writing := self._being_written()) and n + sum(e.bytes for e in self._unsettled if e.written is None or not e.written.done()) > BYTES:
            wait(writing, return_when=FIRST_COMPLETED)

    def _wait_for_writers(self, most: int) -> None:
        """Until not more than so many pictures are being written or wait for that."""
        while len(writing := self._being_written()) > most:
            wait(writing, return_when=FIRST_COMPLETED)

    def _settle(self) -> None:
        """Report what is done, up to the first picture that is not."""
        from . import message_of

        while self._unsettled:
            entry = self._unsettled[0]
            if entry.error is None:
                if entry.written is None or not entry.written.done():
                    return
                done = False
                try:
                    done = entry.written.result()
                    self._outcome.untried += not done
                except EXPECTED as e:
                    entry.error = e
                if done and not self._quiet:
                    self._bar.line(f"{entry.source.name} -> {entry.target}  {entry.sizes}")
            if entry.error is not None:
                self._outcome.failed.append(entry.source)
                self._bar.line(f"fastsr: {message_of(entry.error)}", sys.stderr)
            self._unsettled.popleft()

    def _show(self, done: float) -> None:
        if self._computing:
            entry = self._computing[0]
            self._bar.name = entry.source.name
            self._bar.show(entry.index + min(1.0, done - self._taken))
