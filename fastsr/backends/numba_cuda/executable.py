"""Runs a program on the GPU: the whole picture at once where memory allows, else tile by tile."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numba
import numpy as np
from numba import cuda

from ... import knobs, tiles
from ...errors import BackendError
from ...program import Program
from ...tiles import Rect, Size
from .. import Executable, Progress, gpu
from . import only_named
from .launches import Part, StepOnGpu
from .memory import place_values

# A kernel of a small picture has few blocks; numba would tell everybody.
warnings.filterwarnings("ignore", message=r".*Grid size \d+ will likely result in GPU under-utilization")


class CudaExecutable(Executable):
    """See `fastsr.backends.Executable`. Precision f32; results do not depend on tiles, bit for bit. Raises BackendError when weights do not fit."""

    backend = "numba_cuda"

    def __init__(self, program: Program, tile: int | None = None, device: int | None = None) -> None:
        """device: number of the GPU that weights and values lie on, whichever is current when it runs; None for the one that is current now."""
        self.program = program
        self._tile = tile
        self._process = os.getpid()
        self._device = current_device() if device is None else int(device)
        try:
            with self._on_device(), _understood():
                self._steps = [StepOnGpu(step) for step in program.steps]
        except _OutOfMemoryError as e:
            raise BackendError("the GPU's free memory is too small for the network's weights: free memory on it, or use the backend cpu") from e

    def describe(self) -> str:
        """See `Executable.describe`."""
        tile = f"tile {self._tile}" if self._tile else "whole pictures where memory allows"
        if only_named():
            return f"numba_cuda {numba.__version__}: CUDA simulator, {tile}"
        device = cuda.gpus[self._device]
        name = device.name.decode() if isinstance(device.name, bytes) else device.name
        return f"numba_cuda {numba.__version__}: {name}, {tile}"

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`. Inputs may have any strides. Raises BackendError when the GPU fails, lacks the memory for a single pixel and what it
        depends on, or was used by the process that this one was forked from.
        """
        gpu.check_process(self._process)
        with self._on_device():
            return self._run(inputs, outputs, progress)

    def _run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None) -> list[np.ndarray]:
        n, _, height, width = inputs[0].shape
        sizes = self.program.value_sizes(height, width)
        wanted = [self.program.outputs[i][1] for i in outputs]
        results = [np.empty((n, self.program.values[v].channels, *sizes[v]), np.float32) for v in wanted]
        with _understood():
            job = _Job(self.program, self._steps, sizes, wanted, progress, n * height * width)
        for i in range(n):
            job.run([x[i] for x in inputs], [r[i] for r in results], tiles.tile_rects((height, width), self._tile, knobs.TILE_SEED.read_int()))
        job.report()
        return results

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """The thread uses the network's GPU inside, and the one that it used before afterwards."""
        if only_named():  # the simulator has one
            yield
            return
        with contextlib.ExitStack() as stack:
            with _understood():
                stack.enter_context(cuda.gpus[self._device])
            yield


class _Job:
    """One run: what is the same for all its tiles. Everything that it has on the GPU goes with it."""

    def __init__(self, program: Program, steps: Sequence[StepOnGpu], sizes: list[Size], wanted: Sequence[int], progress: Progress | None,
                 pixels: int) -> None:  # fmt: skip
        self._program, self._steps, self._sizes, self._wanted = program, steps, sizes, wanted
        self._size = sizes[program.inputs[0]]
        self._progress, self._done, self._told, self._total = progress, 0, -1, pixels * max(1, len(steps))
        self._arena: Any = None  # the values of a tile
        self._seconds = [0.0] * len(steps) if knobs.debug_level() >= 2 else None
        self._stream = cuda.stream()
        self._floats = math.inf  # how many a tile may take
        with contextlib.suppress(NotImplementedError):  # memory managers of others do not always tell
            self._floats = cuda.current_context().get_memory_info().free * gpu.SHARE / 4

    def run(self, inputs: Sequence[np.ndarray], results: Sequence[np.ndarray], rects: list[Rect]) -> None:
        """One picture (C, H, W) of each input, into one array of each wanted output. A tile that needs too much memory is halved, again and again."""
        to_do = rects[::-1]
        while to_do:
            rect = to_do.pop()
            wanted = {v: tiles.tile_of(rect, self._size, self._sizes[v]) for v in self._wanted}
            need = tiles.plan_tile(self._program, self._sizes, wanted)
            places, floats = place_values(self._program, need, self._wanted)
            if floats > self._floats or not self._allocate(floats):
                to_do += _halves(rect, floats)
                continue
            self._tell()
            pixels = (rect[2] - rect[0]) * (rect[3] - rect[1])
            if not self._run_tile(inputs, results, need, places, wanted, pixels):
                self._arena = None
                self._floats = min(self._floats, floats - 1)
                to_do += _halves(rect, floats)
        self._tell()

    def _allocate(self, floats: int) -> bool:
        """Memory for a tile; False when there is not enough."""
        if self._arena is not None and self._arena.shape[0] >= floats:
            return True
        self._arena = None
        try:
            with _understood():
                self._arena = cuda.device_array(max(floats, 1), np.float32)
        except _OutOfMemoryError:
            self._floats = floats - 1
            return False
        return True

    def _run_tile(self, inputs: Sequence[np.ndarray], results: Sequence[np.ndarray], need: Sequence[Rect], places: Sequence[int],
                  wanted: dict[int, Rect], pixels: int) -> bool:  # fmt: skip
        """False when memory that kernels need beside the values is not there."""
        before = self._done
        try:
            with _understood():
                parts = [self._part(v, rect, place) for v, (rect, place) in enumerate(zip(need, places, strict=True))]
                given = []  # the driver may read them after the calls
                for v, x in zip(self._program.inputs, inputs, strict=True):
                    part = parts[v]
                    if part is not None:
                        y0, x0, y1, x1 = part.rect
                        given.append(np.ascontiguousarray(x[:, y0:y1, x0:x1]))
                        part.array.copy_to_device(given[-1], stream=self._stream)
                self._stream.synchronize()
            for number, step in enumerate(self._steps):
                if parts[step.step.output] is not None:
                    self._run_step(number, step, parts)
                self._done += pixels
                self._tell()
            if not self._steps:
                self._done += pixels
            with _understood():
                for v, result in zip(self._wanted, results, strict=True):
                    part = parts[v]
                    if part is None or tiles.is_empty(wanted[v]):
                        continue
                    made = part.array.copy_to_host(stream=self._stream)
                    self._stream.synchronize()
                    (y0, x0, y1, x1), (top, left, _, _) = wanted[v], part.rect
                    result[:, y0:y1, x0:x1] = made[:, y0 - top : y1 - top, x0 - left : x1 - left]
        except _OutOfMemoryError:
            self._done = before
            return False
        return True

    def _part(self, value: int, rect: Rect, place: int) -> Part | None:
        if tiles.is_empty(rect):
            return None
        shape = self._program.values[value].channels, rect[2] - rect[0], rect[3] - rect[1]
        return Part(self._arena[place : place + shape[0] * shape[1] * shape[2]].reshape(*shape), rect)

    def _run_step(self, number: int, step: StepOnGpu, parts: Sequence[Part | None]) -> None:
        start = time.perf_counter()
        with _understood():
            step.run(parts, self._sizes, self._stream)
            if self._progress is not None or self._seconds is not None:
                self._stream.synchronize()
        if self._seconds is not None:
            self._seconds[number] += time.perf_counter() - start

    def _tell(self) -> None:
        if self._progress is not None and self._done > self._told:
            self._told = self._done
            self._progress(self._done, self._total)

    def report(self) -> None:
        """FASTSR_DEBUG=2: the time of every step; the first run's has the kernels' compilation in it."""
        for step, seconds in zip(self._program.steps, self._seconds or (), strict=False):
            print(f"fastsr: {seconds * 1e3:9.3f} ms  {step.kind} {step.name}", file=sys.stderr)


def _halves(rect: Rect, floats: int) -> list[Rect]:
    """See `tiles.halves`. Raises BackendError for a single pixel."""
    if rect[2] - rect[0] <= 1 and rect[3] - rect[1] <= 1:
        raise BackendError(
            f"the GPU's free memory is too small: a single pixel of this network needs {floats * 4 / 2**20:.1f} MiB with all that it depends on; "
            "free memory on the GPU, or use the backend cpu"
        )
    return tiles.halves(rect)


def current_device() -> int:
    """Number of the GPU that this thread uses. Raises BackendError when the GPU fails."""
    with _understood():
        return 0 if only_named() else int(cuda.current_context().device.id)


class _OutOfMemoryError(BackendError):
    """The GPU's memory is too small."""


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """What numba and CUDA raise, as _OutOfMemoryError or BackendError."""
    try:
        yield
    except Exception as e:
        if isinstance(e, MemoryError) or "OUT_OF_MEMORY" in str(e):
            raise _OutOfMemoryError(f"the GPU has too little free memory ({e}): free some, or use the backend cpu") from e
        if not type(e).__module__.startswith(("numba", "cuda")):
            raise
        text = " ".join(str(e).split())[:500]
        raise BackendError(f"the GPU or numba's compiler for it fails: {type(e).__name__}: {text}; use another backend, such as cpu") from e
