"""Runs a program on a device: the whole picture at once where its memory allows, else tile by tile."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import BackendError
from ...program import Program
from ...tiles import Rect, Size, is_empty, tile_rects
from .. import Executable, Progress
from .device import Device, Memory, OutOfMemoryError
from .layout import TYPES, area
from .plan import Arena, Constants, Launch, Planner, kernels_of, lay_out, rounded
from .steps import Prepared, prepare

SMALLEST_TILE = 16
"""Edge in input pixels below which tiles are not halved."""

SHARE = 0.9
"""Of the free memory, what a picture may take."""

KEPT = 4
"""Picture sizes whose memory and launches are kept for the next picture."""


@dataclass
class _Ready:
    """Memory and launches for one tile. planes: of inputs and outputs, value -> (offset, rectangle)."""

    memory: Memory
    launches: list[Launch]
    inputs: dict[int, tuple[int, Rect]]
    outputs: dict[int, tuple[int, Rect]]


class CudaExecutable(Executable):
    """See `fastsr.backends.Executable`. Results do not depend on tiles. Raises BackendError when the kernels cannot be compiled."""

    def __init__(self, program: Program, device: Device, precision: str, tile: int | None = None) -> None:
        self.program, self.backend = program, "cuda"
        self._device, self._precision, self._tile = device, precision, tile
        self._steps, self._prepared = prepare(program, precision, device.shared_limit)
        kernels = kernels_of(self._prepared, precision)
        self._functions = device.functions([k.name for k in kernels], [k.threads for k in kernels], [k.shared for k in kernels])
        self._lock = threading.Lock()
        self._tables: dict[bytes, tuple[Memory, int]] = {}
        self._kept: dict[tuple[object, ...], list[_Ready]] = {}
        with device.working():
            self._weights, constants = self._upload_constants(self._prepared)
        self._planner_args = constants, [f.blocks for f in self._functions]

    def describe(self) -> str:
        """See `Executable.describe`."""
        return f"cuda: {self._device.name}, {self._precision}, {f'tiles of {self._tile}' if self._tile else 'tiles where memory is short'}"

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`. Raises BackendError when the device's memory does not hold even a small tile."""
        batch, _, *size = inputs[0].shape
        height, width = size
        sizes = self._steps.value_sizes(height, width)
        wanted = [self.program.outputs[i][1] for i in outputs]
        results = [np.empty((batch, self.program.values[v].channels, *sizes[v]), np.float32) for v in wanted]
        tile = (min(self._tile or height, height), min(self._tile or width, width))
        start = 0  # tiles that are done
        while True:
            rects = tile_rects((height, width), [sizes[v] for v in wanted], tile)
            try:
                for k in range(start, len(rects)):
                    if progress:
                        progress(k, len(rects))
                    self._run_tile(inputs, wanted, results, sizes, rects[k], whole=len(rects) == 1)
                break
            except OutOfMemoryError as e:
                start = 0
                self._forget()
                longer = int(tile[1] >= tile[0])
                if tile[longer] <= SMALLEST_TILE:
                    raise BackendError(f"{e}, not enough even for a tile of {tile[1]}x{tile[0]} pixels: close other programs that use it, "
                                       "or use the backend cpu") from None  # fmt: skip
                tile = (tile[0], -(-tile[1] // 2)) if longer else (-(-tile[0] // 2), tile[1])
        if progress:
            progress(len(rects), len(rects))
        return results

    # ---- parts -----------------------------------------------------------------------------------------------------------------------------------

    def _run_tile(self, inputs: Sequence[np.ndarray], wanted: Sequence[int], results: Sequence[np.ndarray], sizes: Sequence[Size],
                  rects: Sequence[Rect], whole: bool) -> None:  # fmt: skip
        parts = {v: r for v, r in zip(wanted, rects, strict=True) if not is_empty(r)}
        key = (len(inputs[0]), *inputs[0].shape[2:], tuple(sorted(parts)))
        with self._device.working():
            ready = self._taken(key) if whole else None
            if ready is None:
                ready = self._made_ready(sizes, parts, len(inputs[0]))
            for value, x in zip(self.program.inputs, inputs, strict=True):
                if value in ready.inputs:
                    offset, (y0, x0, y1, x1) = ready.inputs[value]
                    self._device.upload(ready.memory.address + offset, np.ascontiguousarray(x[:, :, y0:y1, x0:x1]))
            for launch in ready.launches:
                self._functions[launch.kernel].launch(launch.grid, launch.args)
            for value, result in zip(wanted, results, strict=True):
                if value not in parts:
                    continue
                offset, rect = ready.outputs[value]
                made = np.empty((*result.shape[:2], rect[2] - rect[0], rect[3] - rect[1]), np.float32)
                self._device.download(made, ready.memory.address + offset)
                y0, x0, y1, x1 = parts[value]
                result[:, :, y0:y1, x0:x1] = made[:, :, y0 - rect[0] : y1 - rect[0], x0 - rect[1] : x1 - rect[1]]
        if whole:
            self._keep(key, ready)

    def _made_ready(self, sizes: Sequence[Size], parts: dict[int, Rect], batch: int) -> _Ready:
        """Raises OutOfMemoryError."""
        arena = lay_out(self._steps, sizes, parts, batch, TYPES[self._precision][1])
        end = arena.size
        planes: list[dict[int, tuple[int, Rect]]] = [{}, {}]
        for found, values in zip(planes, ([v for v in self.program.inputs if arena.offsets[v] >= 0], parts), strict=True):
            for v in values:
                found[v] = end, arena.rects[v]
                end += rounded(4 * batch * self.program.values[v].channels * area(arena.rects[v]))
        if end > SHARE * self._device.free_bytes():
            raise OutOfMemoryError(f"{self._device.name} has not {end >> 20} MiB of memory left")
        memory = self._device.take(end)
        return _Ready(memory, self._launches(sizes, arena, batch, memory.address, *planes), *planes)

    def _launches(self, sizes: Sequence[Size], arena: Arena, batch: int, base: int, inputs: dict[int, tuple[int, Rect]],
                  outputs: dict[int, tuple[int, Rect]]) -> list[Launch]:  # fmt: skip
        constants, blocks = self._planner_args
        planner = Planner(self._steps, self._prepared, constants, self._precision, blocks, self._table)
        return planner.launches(sizes, arena, base, batch, *({v: base + at for v, (at, _) in p.items()} for p in (inputs, outputs)))

    def _upload_constants(self, prepared: Sequence[Prepared]) -> tuple[Memory, list[Constants]]:
        """Weights, biases and tensors of all steps in one piece of memory."""
        arrays: list[np.ndarray] = []
        for p in prepared:
            arrays += [a for a in (p.weight, p.bias, *(t for t, _, _ in p.slots)) if a is not None]
        try:
            memory = self._device.take(sum(rounded(a.nbytes) for a in arrays))
        except OutOfMemoryError as e:
            raise BackendError(f"{e}: it does not hold the network's weights") from None
        address, found = memory.address, []

        def put(array: np.ndarray | None) -> int:
            nonlocal address
            if array is None:
                return 0
            self._device.upload(address, np.ascontiguousarray(array))
            address += rounded(array.nbytes)
            return address - rounded(array.nbytes)

        for p in prepared:
            found.append(Constants(put(p.weight), put(p.bias), [put(t) for t, _, _ in p.slots]))
        return memory, found

    def _table(self, array: np.ndarray) -> int:
        """Address of a table, which stays on the device."""
        key = array.dtype.str.encode() + array.tobytes()
        with self._lock:
            if key not in self._tables:
                memory = self._device.take(array.nbytes)
                self._device.upload(memory.address, np.ascontiguousarray(array))
                self._tables[key] = memory, memory.address
            return self._tables[key][1]

    def _taken(self, key: tuple[object, ...]) -> _Ready | None:
        with self._lock:
            held = self._kept.get(key)
            return held.pop() if held else None

    def _keep(self, key: tuple[object, ...], ready: _Ready) -> None:
        with self._lock:
            held = self._kept.pop(key, [])
            self._kept = {**dict(list(self._kept.items())[1 - KEPT :]), key: [*held[:1], ready]}

    def _forget(self) -> None:
        with self._lock:
            self._kept = {}
