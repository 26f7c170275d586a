"""Runs a program on a device: the whole picture at once where its memory allows, else tile by tile."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ... import image, knobs
from ...errors import BackendError, PictureError
from ...program import Program
from ...tiles import Rect, Size, halves, is_empty, tile_of, tile_rects
from .. import Executable, Progress, Stream, gpu
from . import pictures
from .device import Device, Memory, OutOfMemoryError
from .layout import TYPES, area
from .plan import Arena, Constants, Launch, Planner, kernels_of, lay_out, rounded
from .steps import Prepared, prepare
from .stream import CudaStream

SMALLEST_TILE = 16
"""Edge in input pixels below which tiles are not halved."""

AT_ONCE = 65535
"""Pictures of a batch that a launch can make: a grid's depth at most."""

KEPT = 4
"""Picture sizes whose memory and launches are kept for the next picture."""


Taken = TypeVar("Taken")


class _Tables:
    """Tables of Resize and the like on the device: each array once, for as long as this object lives."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._held: dict[bytes, Memory] = {}

    def address(self, array: np.ndarray) -> int:
        """Where the table is, when all that was begun before is done. Raises OutOfMemoryError."""
        key = array.dtype.str.encode() + array.tobytes()
        if key not in self._held:
            memory = self._device.take(array.nbytes)
            self._device.upload(memory.address, np.ascontiguousarray(array))
            self._held[key] = memory
        return self._held[key].address


@dataclass
class _Ready:
    """Memory for one tile or picture, and what launches its kernels. inputs, outputs: value -> (offset of its planes, rectangle)."""

    memory: Memory
    tables: _Tables
    launch: Callable[[], None]
    inputs: dict[int, tuple[int, Rect]]
    outputs: dict[int, tuple[int, Rect]]


@dataclass
class Frame:
    """A picture on the device, the one that is made of it, and what launches all kernels where it is made at once, with the memory for its values."""

    shape: tuple[int, ...]
    size: Size
    memory: Memory
    tables: _Tables
    target: int
    """Where the result is, from the memory's begin."""
    launch: Callable[[], None] | None = None
    arena: Memory | None = None
    arena_size: int = 0


class CudaExecutable(Executable):
    """See `fastsr.backends.Executable`. Results do not depend on tiles. Raises BackendError when the kernels cannot be compiled."""

    in_flight = 3

    def __init__(self, program: Program, device: Device, precision: str, tile: int | None = None) -> None:
        self.program, self.backend = program, "cuda"
        self._device, self._precision, self._tile = device, precision, tile
        self._steps, self._prepared = prepare(program, precision, device.shared_limit)
        kernels = {k: kernel for k, kernel in enumerate(kernels_of(self._prepared, precision)) if kernel.name}
        made = device.functions(*([getattr(k, n) for k in kernels.values()] for n in ("name", "threads", "shared")))
        self._functions = dict(zip(kernels, made, strict=True))
        self._lock = threading.Lock()
        self._kept: dict[tuple[object, ...], list[_Ready | Frame]] = {}
        with device.working():
            self._weights, self._constants = self._upload_constants(self._prepared)

    def describe(self) -> str:
        """See `Executable.describe`."""
        return f"cuda: {self._device.name}, {self._precision}, {f'tiles of {self._tile}' if self._tile else 'tiles where memory is short'}"

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`. Raises BackendError when the device's memory does not hold even a small tile."""
        batch, _, height, width = inputs[0].shape
        sizes = self._steps.value_sizes(height, width)
        wanted = [self.program.outputs[i][1] for i in outputs]
        results = [np.empty((batch, self.program.values[v].channels, *sizes[v]), np.float32) for v in wanted]
        tables = _Tables(self._device)

        def work(rects: Sequence[Rect], part: slice, whole: bool) -> None:
            self._run_tile([x[part] for x in inputs], wanted, [r[part] for r in results], sizes, rects, tables, whole)

        self._by_tiles(batch, (height, width), [sizes[v] for v in wanted], progress, work)
        return results

    def upscale(self, picture: np.ndarray, progress: Progress | None = None, *, white: float = 1.0, to_u8: bool = False) -> np.ndarray | None:
        """See `Executable.upscale`: 8-bit pictures. Raises BackendError as `run` does."""
        if picture.dtype != np.uint8 or not self._takes_pictures(picture.shape):
            return None
        result = np.empty(self._result_shape(picture.shape), np.uint8)
        given = np.ascontiguousarray(picture)
        self._through(picture.shape, progress, lambda to: self._device.upload(to, given), lambda made: self._device.download(result, made))
        return result

    def upscale_on_gpu(self, picture: Any, progress: Progress | None = None) -> Any:
        """See `Executable.upscale_on_gpu`. Raises BackendError as `run` does."""
        lent = self._device.lent(picture)
        if not self._takes_pictures(lent.shape):
            what = "lines of one pixel are" if 1 in lent.shape[:2] else "what this network is fed is"
            raise PictureError(f"{what} made on the host, and the picture lies on a GPU: {image.TO_HOST}")
        shape = self._result_shape(lent.shape)
        result = self._for_picture(lambda: self._device.empty(shape))
        address = int(result.data.ptr)
        self._through(lent.shape, progress, lambda to: self._device.bring(to, lent), lambda made: self._device.move(address, made, math.prod(shape)))
        return result[:, :, None] if lent.deep else result

    def _takes_pictures(self, shape: tuple[int, ...]) -> bool:
        """Whether a picture of 8 bits becomes its result on the device alone."""
        feed = self.program.feed
        channels = 1 if feed.colour == "y" else 3
        ends = self.program.inputs[0], self.program.outputs[0][1]
        return pictures.suits(shape, feed) and all(self.program.values[v].channels == channels for v in ends)

    def _result_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *self._steps.value_sizes(*shape[:2])[self.program.outputs[0][1]], *shape[2:]

    def _through(self, shape: tuple[int, ...], progress: Progress | None, bring: Callable[[int], None], fetch: Callable[[int], None]) -> None:
        """One picture of 8 bits through the network: `bring` begins to put it at an address, `fetch` to take the result from one."""
        height, width = shape[:2]
        sizes, wanted = self._steps.value_sizes(height, width), self.program.outputs[0][1]
        key = ("picture", shape)

        def tell(done: int, total: int) -> None:
            with self._device.aside():
                progress(done, total)  # type: ignore[misc]

        told = tell if progress else None
        with self._device.working():
            frame = self._taken(key) or self._made_frame(shape)
            assert isinstance(frame, Frame)
            bring(frame.memory.address)
            launch = frame.launch
            if launch is not None:
                if told:
                    told(0, 1)
                launch()
                if told:
                    told(1, 1)
            else:
                self._by_tiles(
                    1, (height, width), [sizes[wanted]], told, lambda r, _, whole: self._upscale_tile(frame, sizes, wanted, r[0], whole)
                )
            fetch(frame.memory.address + frame.target)
        if frame.launch is not None:
            self._keep(key, frame)

    def stream(self, threads: int | None) -> tuple[Stream, int]:
        """See `Executable.stream`: copies to and from the device and kernels of different pictures at the same time."""
        return CudaStream(self, self._device.lanes()), 1

    def is_made_at_once(self, picture: np.ndarray) -> bool:
        """Whether the device alone makes the result, and no tiles were asked for that are smaller than the picture."""
        fits = self._tile is None or max(picture.shape[:2]) <= self._tile
        return fits and picture.dtype == np.uint8 and self._takes_pictures(picture.shape)

    def result_size(self, picture: np.ndarray) -> int:
        """Bytes of the result for a checked picture. Raises PictureError for one that does not fit the network."""
        height, width = (n * self.program.feed.pre_scale for n in picture.shape[:2])
        return math.prod((*self._steps.value_sizes(height, width)[self.program.outputs[0][1]], *picture.shape[2:])) * picture.itemsize

    def steady(self, height: int, width: int) -> Callable[[], None]:
        """What launches the kernels for one picture of that size again and again, without copies to and from the device: for benchmarks. Call it
        inside `device.working()`."""
        sizes = self._steps.value_sizes(height, width)
        value = self.program.outputs[0][1]
        with self._device.working():
            ready = self._made_ready(_Tables(self._device), sizes, {value: (0, 0, *sizes[value])}, 1)

        def again() -> None:
            ready.launch()

        return again

    # ---- parts -----------------------------------------------------------------------------------------------------------------------------------

    def _by_tiles(self, batch: int, size: Size, out_sizes: Sequence[Size], progress: Progress | None,
                  work: Callable[[Sequence[Rect], slice, bool], None]) -> None:  # fmt: skip
        """Have all tiles of a batch made: `work` is given a tile's parts of the outputs, of which pictures, and whether these are whole. Where memory
        is short, what was kept goes, then fewer pictures are made at once, then the tile is halved."""
        batches = [slice(i, min(i + AT_ONCE, batch)) for i in range(0, batch, AT_ONCE)]
        to_do = [(rect, part) for part in batches for rect in tile_rects(size, self._tile, knobs.TILE_SEED.read_int())][::-1]
        done, total = 0, batch * size[0] * size[1]
        if progress:
            progress(done, total)
        while to_do:
            rect, part = to_do.pop()
            rects = [tile_of(rect, size, s) for s in out_sizes]
            try:
                if not all(is_empty(r) for r in rects):
                    work(rects, part, rect == (0, 0, *size))
            except OutOfMemoryError as e:
                to_do += [(rect, part)] if self.forget() else _smaller(rect, part, e)
                continue
            done += area(rect) * (part.stop - part.start)
            if progress:
                progress(done, total)

    def _made_frame(self, shape: tuple[int, ...]) -> Frame:
        result = self._result_shape(shape)
        source = rounded(math.prod(shape))
        memory = self._for_picture(lambda: self._device.take(source + math.prod(result)))
        return Frame(shape, (result[0], result[1]), memory, _Tables(self._device), source)

    def _for_picture(self, take: Callable[[], Taken]) -> Taken:
        """What `take` gives, once there is memory for it. Raises BackendError."""
        try:
            return take()
        except OutOfMemoryError:
            self.forget()
        try:
            return take()
        except OutOfMemoryError as e:
            raise BackendError(f"{e}, not enough for the picture and its result: close other programs, or use the backend cpu") from None

    def _upscale_tile(self, frame: Frame, sizes: Sequence[Size], wanted: int, rect: Rect, whole: bool) -> None:
        arena = self._arena(sizes, wanted, rect)
        memory = self._take(arena.size)
        launches = self._launches(frame, sizes, wanted, rect, arena, memory.address)
        self._launch(launches)
        if whole:
            frame.arena, frame.arena_size, frame.launch = memory, arena.size, self._device.record(lambda: self._launch(launches))

    def frame_at_once(self, shape: tuple[int, ...], others: Sequence[Frame]) -> Frame:
        """Memory and launches for a picture that is made at once. The values lie where those of one of the others do, where there is room: kernels of
        both must not run at the same time. Raises OutOfMemoryError."""
        result, source = self._result_shape(shape), rounded(math.prod(shape))
        sizes, wanted = self._steps.value_sizes(*shape[:2]), self.program.outputs[0][1]
        rect = (0, 0, *sizes[wanted])
        arena = self._arena(sizes, wanted, rect)
        with self._device.working():
            held = next((f for f in others if f.arena_size >= arena.size), None)
            memory, size = (held.arena, held.arena_size) if held else (self._take(arena.size), arena.size)
            assert memory is not None
            frame = Frame(shape, rect[2:], self._device.take(source + math.prod(result)), _Tables(self._device), source, None, memory, size)
            launches = self._launches(frame, sizes, wanted, rect, arena, memory.address)
            frame.launch = self._device.record(lambda: self._launch(launches))
        return frame

    def _arena(self, sizes: Sequence[Size], wanted: int, rect: Rect) -> Arena:
        return lay_out(self._steps, self._prepared, sizes, {wanted: rect}, 1, TYPES[self._precision][1])

    def _launches(self, frame: Frame, sizes: Sequence[Size], wanted: int, rect: Rect, arena: Arena, address: int) -> list[Launch]:
        """A part of a picture's result, its values at that address. Tables are there when all that was begun before is done."""
        feed, value = self.program.feed, self.program.inputs[0]
        planner = self._planner(frame.tables, sizes, arena, address, 1)
        start = frame.memory.address
        launches = [planner.picture("read_picture", value, pictures.read_args(feed, frame.shape, start, arena.rects[value]))]
        launches += planner.steps()
        written = pictures.write_args(feed, frame.shape, start + frame.target, rect, frame.size, start, frame.tables.address)
        return [*launches, planner.picture("write_picture", wanted, written)]

    def _launch(self, launches: Sequence[Launch]) -> None:
        for one in launches:
            self._functions[one.kernel].launch(one.grid, one.args)

    def _take(self, size: int) -> Memory:
        """Raises OutOfMemoryError."""
        if size > gpu.SHARE * self._device.free_bytes():
            raise OutOfMemoryError(f"{self._device.name} has not {size >> 20} MiB of memory left")
        return self._device.take(size)

    def _planner(self, tables: _Tables, sizes: Sequence[Size], arena: Arena, base: int, batch: int) -> Planner:
        blocks = {k: f.blocks for k, f in self._functions.items()}
        return Planner(self._steps, self._prepared, self._constants, self._precision, blocks, tables.address, sizes, arena, base, batch)

    def _run_tile(self, inputs: Sequence[np.ndarray], wanted: Sequence[int], results: Sequence[np.ndarray], sizes: Sequence[Size],
                  rects: Sequence[Rect], tables: _Tables, whole: bool) -> None:  # fmt: skip
        parts = {v: r for v, r in zip(wanted, rects, strict=True) if not is_empty(r)}
        key = (len(inputs[0]), *inputs[0].shape[2:], tuple(sorted(parts)))
        with self._device.working():
            ready = self._taken(key) if whole else None
            if ready is None:
                ready = self._made_ready(tables, sizes, parts, len(inputs[0]))
            assert isinstance(ready, _Ready)
            for value, x in zip(self.program.inputs, inputs, strict=True):
                if value in ready.inputs:
                    offset, (y0, x0, y1, x1) = ready.inputs[value]
                    self._device.upload(ready.memory.address + offset, np.ascontiguousarray(x[:, :, y0:y1, x0:x1]))
            ready.launch()
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

    def _made_ready(self, tables: _Tables, sizes: Sequence[Size], parts: dict[int, Rect], batch: int) -> _Ready:
        """Raises OutOfMemoryError."""
        arena = lay_out(self._steps, self._prepared, sizes, parts, batch, TYPES[self._precision][1])
        end = arena.size
        planes: list[dict[int, tuple[int, Rect]]] = [{}, {}]
        for found, values in zip(planes, ([v for v in self.program.inputs if arena.offsets[v] >= 0], parts), strict=True):
            for v in values:
                found[v] = end, arena.rects[v]
                end += rounded(4 * batch * self.program.values[v].channels * area(arena.rects[v]))
        memory = self._take(end)
        planner = self._planner(tables, sizes, arena, memory.address, batch)
        before, after = ([call(v, memory.address + at) for v, (at, _) in p.items()] for call, p in zip((planner.pack, planner.unpack), planes))
        launches = [*before, *planner.steps(), *after]
        return _Ready(memory, tables, self._device.record(lambda: self._launch(launches)), *planes)

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

    def _taken(self, key: tuple[object, ...]) -> _Ready | Frame | None:
        with self._lock:
            held = self._kept.get(key)
            return held.pop() if held else None

    def _keep(self, key: tuple[object, ...], ready: _Ready | Frame) -> None:
        with self._lock:
            held = self._kept.pop(key, [])
            self._kept = {**dict(list(self._kept.items())[1 - KEPT :]), key: [*held[:1], ready]}

    def forget(self) -> bool:
        """Whether there was anything to let go."""
        with self._lock:
            kept, self._kept = self._kept, {}
        return any(kept.values())


def _smaller(rect: Rect, part: slice, e: OutOfMemoryError) -> list[tuple[Rect, slice]]:
    """Both halves of a tile's pictures, or of the tile of one, the first one last. Raises BackendError for tiles that are small enough."""
    if part.stop - part.start > 1:
        middle = (part.start + part.stop) // 2
        return [(rect, slice(middle, part.stop)), (rect, slice(part.start, middle))]
    height, width = rect[2] - rect[0], rect[3] - rect[1]
    if max(height, width) <= SMALLEST_TILE:
        raise BackendError(f"{e}, not enough even for a tile of {width}x{height} pixels: close other programs that use it, "
                           "or use the backend cpu") from None  # fmt: skip
    return [(half, part) for half in halves(rect)]
