"""Runs a program tile by tile: threads take tiles from a common list and make each in one go (`kernels.run_tiles`), from the code that `layout.py`
wrote.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

import numba
import numpy as np

from ... import knobs
from ...errors import BackendError
from ...program import Program
from ...threads import get_num_threads
from ...tiles import Rect, Size
from .. import Executable, Progress
from . import pictures
from .constants import Constants
from .kernels import run_tiles
from .layout import Plan, plan_tiles
from .pictures import NO_SINK, Sink
from .tile_size import Cut, choose_cut, cut_picture
from .vectors import LANES

_BANDS_AT_ONCE = 512
"""Bands that are planned together, or those of one tile."""

_PLAN_BYTES = 16 << 20
"""Plans are kept for the next picture of the same size up to this size."""

_SIZES_KEPT = 4

_lock = threading.Lock()
_layer: str | None = None
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = _layer == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _threading_layer() -> str:
    """numba's threading layer, started by the first parallel call."""
    global _layer
    with _lock:
        if _layer is None:
            none, nothing = np.zeros(1, np.int64), np.zeros(0, np.float32)
            no_bands = np.zeros((0, 4), np.int64)
            run_tiles(1, none, none, no_bands, no_bands, none, nothing, nothing, np.zeros((1, 0), np.float32), nothing, nothing, *NO_SINK)
            _layer = numba.threading_layer()
        return _layer


class NumbaExecutable(Executable):
    """See `fastsr.backends.Executable`. Precision f32; results do not depend on tiles or threads, bit for bit."""

    backend = "numba"

    def __init__(self, program: Program, threads: int | None = None, tile: int | None = None) -> None:
        self.program = program
        self._threads, self._tile = threads, tile
        self._constants = Constants(program)
        self._arenas: deque[np.ndarray] = deque()
        self._plans: dict[tuple[object, ...], list[Plan]] = {}
        self._cuts: dict[tuple[object, ...], Cut] = {}
        # The workqueue layer may be entered by one thread at a time only.
        self._guard: contextlib.AbstractContextManager[object] = _lock if _threading_layer() == "workqueue" else contextlib.nullcontext()

    def describe(self) -> str:
        """See `Executable.describe`."""
        tile = f"tile {self._tile}" if self._tile else "tiles to fit the caches"
        return f"numba {numba.__version__}: {LANES} lanes of float32, {self._thread_count()} threads ({_threading_layer()}), {tile}"

    def _thread_count(self) -> int:
        return max(1, min(self._threads or get_num_threads(), numba.config.NUMBA_NUM_THREADS))

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`. Raises BackendError in a forked process whose parent ran numba on GNU OpenMP."""
        n, _, height, width = inputs[0].shape
        sizes = self.program.value_sizes(height, width)
        wanted = [self.program.outputs[i][1] for i in outputs]
        shapes = [(self.program.values[v].channels, *sizes[v]) for v in wanted]
        places = np.cumsum([0] + [c * h * w for c, h, w in shapes])
        results: list[np.ndarray] = []
        for image_number in range(n):
            source = inputs[0][image_number].reshape(-1) if len(inputs) == 1 else np.concatenate([x[image_number].reshape(-1) for x in inputs])
            target = np.empty(places[-1], np.float32)
            self._run_image((height, width), sizes, wanted, source, target, NO_SINK, progress, (image_number, n))
            parts = [target[a:b].reshape(1, *s) for a, b, s in zip(places, places[1:], shapes, strict=False)]
            if not results:
                results = parts if n == 1 else [np.empty((n, *s), np.float32) for s in shapes]
            if n > 1:
                for r, p in zip(results, parts, strict=True):
                    r[image_number] = p
        return results

    def upscale(self, picture: np.ndarray, progress: Progress | None = None, *, white: float = 1.0, to_u8: bool = False) -> np.ndarray | None:
        """See `Executable.upscale`: what is to become an 8-bit picture by a Y network."""
        feed, (_, wanted) = self.program.feed, self.program.outputs[0]
        if self.program.values[wanted].channels != 1 or not pictures.suits(picture, feed, to_u8):
            return None
        x, rest = pictures.read(picture, feed, white)
        size: Size = (x.shape[2], x.shape[3])
        sizes = self.program.value_sizes(*size)
        sink = pictures.make_sink(rest, *sizes[wanted])
        self._run_image(size, sizes, [wanted], x.reshape(-1), np.empty(0, np.float32), sink, progress, (0, 1))
        return sink.pixels[:, :, 0] if rest.grey else sink.pixels

    def _run_image(self, size: Size, sizes: list[Size], wanted: list[int], source: np.ndarray, target: np.ndarray, sink: Sink,
                   progress: Progress | None, batch: tuple[int, int]) -> None:  # fmt: skip
        """Run one picture, the `batch[0]`th of `batch[1]`: all inputs in `source`, all outputs to `target`, or the only one to the sink."""
        if _forked:
            raise BackendError("numba's OpenMP threads do not survive fork(): start processes with 'spawn', or set NUMBA_THREADING_LAYER=workqueue")
        threads = self._thread_count()
        cut = self._cut(size, sizes, wanted, threads)
        seed = knobs.TILE_SEED.read_int()
        rects = cut_picture(size, [sizes[v] for v in wanted], cut, seed)
        timer = _StepTimer(self.program) if knobs.debug_level() >= 2 else None
        done, total = batch[0] * len(rects), batch[1] * len(rects)
        before = numba.get_num_threads()
        try:
            for plan in self._planned((*size, tuple(wanted), cut, seed), sizes, wanted, rects):
                count = len(plan.starts) - 1
                step = min(8 * threads, count) if progress else count
                for i in range(0, count, step):
                    if progress:
                        progress(done, total)
                    starts = plan.starts[i : i + step + 1]
                    self._run_tiles(plan, starts, threads, source, target, sink, timer)
                    done += len(starts) - 1
        finally:
            numba.set_num_threads(before)
        if progress and done == total:
            progress(total, total)
        if timer:
            timer.report(sizes)

    def _run_tiles(self, plan: Plan, starts: np.ndarray, threads: int, source: np.ndarray, target: np.ndarray, sink: Sink,
                   timer: _StepTimer | None) -> None:  # fmt: skip
        workers = 1 if timer else min(threads, len(starts) - 1)
        size = -(-plan.arena // 16) * 16
        try:
            memory = self._arenas.pop()
        except IndexError:  # none left, or another thread was quicker
            memory = np.empty(0, np.float32)
        if memory.size < workers * size:
            memory = _aligned(workers * size)
        arenas = memory[: workers * size].reshape(workers, size)
        numba.set_num_threads(workers)
        try:
            if timer is None:
                self._call(workers, starts, plan.bands, plan, arenas, source, target, sink)
                return
            for band in range(starts[0], starts[-1]):
                bands = plan.bands.copy()
                calls = plan.calls[int(bands[band, 0])]
                for (step, begin), (_, end) in zip(calls, [*calls[1:], (-1, int(bands[band, 1]))], strict=True):
                    bands[band, :2] = begin, end
                    start = time.perf_counter()
                    self._call(1, np.array([band, band + 1]), bands, plan, arenas, source, target, sink)
                    timer.add(step, time.perf_counter() - start)
        finally:
            self._arenas.append(memory)

    def _call(self, workers: int, starts: np.ndarray, bands: np.ndarray, plan: Plan, arenas: np.ndarray, source: np.ndarray, target: np.ndarray,
              sink: Sink) -> None:  # fmt: skip
        constants, counter = self._constants.array, np.zeros(1, np.int64)
        with self._guard:
            run_tiles(workers, counter, starts, bands, plan.shifts, plan.code, plan.floats, constants, arenas, source, target, *sink)

    def _planned(self, key: tuple[object, ...], sizes: list[Size], wanted: list[int], rects: list[list[list[Rect]]]) -> Iterator[Plan]:
        """All tiles, some at a time. Plans that are small are kept for the next picture of this size."""
        plans = self._plans.get(key)
        if plans is not None:
            yield from plans
            return
        plans = []
        size = 0
        step = max(1, _BANDS_AT_ONCE // len(rects[0]))
        for i in range(0, len(rects), step):
            plan = plan_tiles(self.program, self._constants, sizes, wanted, rects[i : i + step])
            size += plan.code.nbytes + plan.bands.nbytes + plan.shifts.nbytes
            if size <= _PLAN_BYTES:
                plans.append(plan)
            yield plan
        if size <= _PLAN_BYTES:
            self._plans = {**dict(list(self._plans.items())[1 - _SIZES_KEPT :]), key: plans}

    def _cut(self, size: Size, sizes: list[Size], wanted: list[int], threads: int) -> Cut:
        key = (size, tuple(wanted), threads)
        cut = self._cuts.get(key)
        if cut is None:
            cut = choose_cut(self.program, size, sizes, wanted, threads, self._constants.grouped, self._tile)
            self._cuts = {**dict(list(self._cuts.items())[1 - _SIZES_KEPT :]), key: cut}
        return cut


class _StepTimer:
    """FASTSR_DEBUG=2: time and GFLOP/s of every step, run on one thread, printed after a run."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._seconds = [0.0] * (len(program.steps) + 1)

    def add(self, step: int, seconds: float) -> None:
        self._seconds[step] += seconds

    def report(self, sizes: Sequence[Size]) -> None:
        for step, seconds in zip(self._program.steps, self._seconds, strict=False):
            h, w = sizes[step.output]
            flops = 2 * step.weight.size * h * w // step.block**2 if step.weight is not None else 0
            rate = f"{flops / max(seconds, 1e-9) / 1e9:8.1f} GFLOP/s" if flops else ""
            print(f"fastsr: {seconds * 1e3:9.3f} ms {rate:>17}  {step.kind} {step.name}", file=sys.stderr)
        print(f"fastsr: {self._seconds[-1] * 1e3:9.3f} ms {'':17}  inputs", file=sys.stderr)


def _aligned(size: int) -> np.ndarray:
    """An uninitialised float32 array that starts at a cache line."""
    raw = np.empty(size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + size]
