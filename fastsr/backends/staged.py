"""Runs what looks at whole pictures on a backend that works tile by tile: piece after piece (`fastsr.stages`), with means and the like in between.

The steps between are those of the reference backend, on whole arrays, means in float64: so results depend neither on tiles nor on threads.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import PictureError
from ..levels import check_quantised, is_quantised
from ..program import OVER_PICTURE, Program, Step
from ..stages import Piece, Plan, sized, split
from . import Executable, Progress
from .reference import run_step

PLANS_KEPT = 8
"""Picture sizes and choices of outputs whose plans, and the pieces compiled for them, are kept."""

PARTS = 1 << 16
"""Of a picture's work, in what a caller is told about it."""

TYPICAL = 40320
"""Edge of a picture for which pieces are compiled beforehand: divisible by all small numbers."""

_INSTEAD = {"fast": ", f32 instead of fast"}

Key = tuple[int, int, tuple[int, ...]]
Build = Callable[[Program, str], Executable]
"""Compiles a program for a precision."""


def staged(program: Program, backend: str, precision: str, build: Build) -> Executable:
    """What runs a program for which `stages.is_staged`.

    build: the backend's own way to compile. Raises ModelError for what it cannot run, or for int8 without integers. Pieces are fed with values whose
    range nobody knows, so "fast" is "f32" here, and "int8" is "int8" for the pieces that have such convolutions.
    """
    if precision == "int8":
        check_quantised(program)
    kind = Staged if any(s.kind in OVER_PICTURE for s in program.steps) else Sized
    return kind(program, backend, precision, build)


class Sized(Executable):
    """A program that resizes to the sizes of other values: compiled anew for each picture size, with that size's fixed factors."""

    def __init__(self, program: Program, backend: str, precision: str, build: Build) -> None:
        self.program, self.backend = program, backend
        self._precision, self._build = "f32" if precision == "fast" else precision, build
        self._lock = threading.Lock()
        self._made: dict[tuple[int, int], Executable] = {}
        self._said = backend
        with contextlib.suppress(PictureError):  # a network that takes no squares
            self._said = f"{self._at(TYPICAL, TYPICAL).describe()}, made for each picture size{_INSTEAD.get(precision, '')}"

    def describe(self) -> str:
        """See `Executable.describe`."""
        return self._said

    def _at(self, height: int, width: int) -> Executable:
        with self._lock:
            made = self._made.get((height, width))
            if made is None:
                made = self._build(sized(self.program, height, width), self._precision)
                self._made = {**dict(list(self._made.items())[1 - PLANS_KEPT :]), (height, width): made}
            return made

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`."""
        return self._at(*inputs[0].shape[2:]).run(inputs, outputs, progress)

    def upscale(
        self, picture: np.ndarray, progress: Progress | None = None, *, white: float = 1.0, to_u8: bool = False
    ) -> np.ndarray | None:
        """See `Executable.upscale`."""
        height, width = (n * self.program.feed.pre_scale for n in picture.shape[:2])
        return self._at(height, width).upscale(picture, progress, white=white, to_u8=to_u8)

    def working_memory(self, height: int, width: int) -> dict[str, int] | None:
        """See `Executable.working_memory`."""
        return self._at(height, width).working_memory(height, width)


class Staged(Executable):
    """See the module and `fastsr.backends.Executable`. Pieces are compiled at once, or where they depend on the picture's size, when it is known."""

    def __init__(self, program: Program, backend: str, precision: str, build: Build) -> None:
        self.program, self.backend = program, backend
        self._precision, self._build = precision, build
        self._lock = threading.Lock()
        self._plans: dict[Key, tuple[Plan, list[Executable | None]]] = {}
        self._compiled: weakref.WeakValueDictionary[tuple[object, ...], Executable] = weakref.WeakValueDictionary()
        self._said = backend
        try:
            plan, executables = self._planned(TYPICAL, TYPICAL, [v for _, v in program.outputs])
        except PictureError:  # no network for squares
            return
        first = next((e for e in executables if e is not None), None)
        self._said = f"{backend if first is None else first.describe()}, in {len(plan.pieces)} pieces{_INSTEAD.get(precision, '')}"

    def describe(self) -> str:
        """See `Executable.describe`."""
        return self._said

    def _planned(self, height: int, width: int, wanted: Sequence[int]) -> tuple[Plan, list[Executable | None]]:
        """A plan, and for each of its actions the executable of a piece."""
        key = height, width, tuple(sorted(set(wanted)))
        with self._lock:
            found = self._plans.get(key)
            if found is None:
                plan = split(self.program, height, width, wanted)
                found = plan, [self._executable(a) if isinstance(a, Piece) else None for a in plan.actions]
                self._plans = {**dict(list(self._plans.items())[1 - PLANS_KEPT :]), key: found}
            return found

    def _executable(self, piece: Piece) -> Executable:
        made = self._compiled.get(piece.key)
        if made is None:
            precision = "int8" if self._precision == "int8" and is_quantised(piece.program) else "f32"
            made = self._compiled[piece.key] = self._build(piece.program, precision)
        return made

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`. Pictures of a batch are computed one after another."""
        n, _, height, width = inputs[0].shape
        wanted = [self.program.outputs[i][1] for i in outputs]
        plan, executables = self._planned(height, width, wanted)
        results: list[np.ndarray] = []
        for i in range(n):
            values = dict(zip(self.program.inputs, (x[i : i + 1] for x in inputs), strict=True))
            _run(plan, executables, values, None if progress is None else _Part(progress, i, n))
            parts = [values[v] for v in wanted]
            del values
            if n == 1:
                return [_own(p, [*inputs, *parts[:k]]) for k, p in enumerate(parts)]
            results = results or [np.empty((n, *p.shape[1:]), np.float32) for p in parts]
            for r, p in zip(results, parts, strict=True):
                r[i] = p[0]
        return results

    def working_memory(self, height: int, width: int) -> dict[str, int] | None:
        """See `Executable.working_memory`. `bytes` counts what is kept between pieces too, which is `kept_bytes`."""
        given, outputs = set(self.program.inputs), {v for _, v in self.program.outputs}
        plan, executables = self._planned(height, width, list(outputs))
        largest = ("rings_bytes", "scratch_bytes", "scratch_bytes_per_thread", "working_threads")
        total = dict.fromkeys(("bytes", *largest, "weights_bytes", "kept_bytes"), 0)
        kept: dict[int, int] = {}
        for action, executable, done in zip(plan.actions, executables, plan.done, strict=True):
            made = action.outputs if isinstance(action, Piece) else (action.output,)
            repeated = isinstance(action, Step) and action.kind == "ResizeTo"
            kept |= {v: 4 * plan.channels[v] * (1 if repeated else math.prod(plan.sizes[v])) for v in made if v not in given | outputs}
            memory = None if executable is None or not isinstance(action, Piece) else executable.working_memory(*action.size)
            if executable is not None and memory is None:
                return None
            total["kept_bytes"] = max(total["kept_bytes"], sum(kept.values()))
            if memory is not None:
                total["bytes"] = max(total["bytes"], sum(kept.values()) + memory["bytes"])
                total |= {name: max(total[name], memory[name]) for name in largest}
                total["weights_bytes"] += memory["weights_bytes"]
            for v in done:
                kept.pop(v, None)
        return total


class _Spare:
    """Arrays of values that nothing reads any more, for values of the same shape that come later: new memory costs as much as writing it."""

    def __init__(self, plan: Plan) -> None:
        self._to_come: Counter[tuple[int, ...]] = Counter(plan.shape(v) for p in plan.pieces for v in p.outputs)
        self._arrays: dict[tuple[int, ...], list[np.ndarray]] = {}

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        found = self._arrays.get(shape)
        return found.pop() if found else np.empty(shape, np.float32)

    def made(self, shapes: Iterable[tuple[int, ...]]) -> None:
        """Such results have come; what none to come needs is let go."""
        self._to_come.subtract(shapes)
        for shape, arrays in self._arrays.items():
            del arrays[self._to_come[shape] :]

    def give(self, array: np.ndarray, own: bool) -> None:
        """own: nobody else has the array."""
        arrays = self._arrays.setdefault(array.shape, [])
        if own and len(arrays) < self._to_come[array.shape]:
            arrays.append(array)


class _Part:
    """Passes on how far one picture of a batch is, and in it each action."""

    def __init__(self, progress: Progress, picture: int, pictures: int) -> None:
        self._progress, self._before, self._total = progress, picture * PARTS, pictures * PARTS

    def __call__(self, done: float) -> None:
        self._progress(min(self._before + int(done * PARTS), self._total), self._total)


def _run(plan: Plan, executables: Sequence[Executable | None], values: dict[int, np.ndarray], tell: _Part | None) -> None:
    """Compute into `values`, which holds the inputs at first and what is wanted at the end."""
    whole = max(1, sum(piece.work for piece in plan.pieces))
    so_far = 0
    own: set[int] = set()
    spare = _Spare(plan)
    if tell is not None:
        tell(0)
    for action, executable, done in zip(plan.actions, executables, plan.done, strict=True):
        if isinstance(action, Piece):
            assert executable is not None
            inputs = [_fed(values[v], action.size) for v in action.inputs]
            shapes = [plan.shape(v) for v in action.outputs]
            into = [spare.take(s) for s in shapes] if executable.fills else None
            made = executable.run_into(inputs, range(len(shapes)), into, _scaled(tell, so_far, action.work, whole))
            values.update(zip(action.outputs, made, strict=True))
            spare.made(shapes)
            own.update(action.outputs if executable.fills else ())
            del inputs, made, into
            so_far += action.work
        else:
            values[action.output] = _step(plan, action, values)
        for v in done:
            spare.give(values.pop(v), v in own)
        if tell is not None:
            tell(so_far / whole)
    if tell is not None and not plan.pieces:
        tell(1)


def _scaled(tell: _Part | None, before: int, work: int, whole: int) -> Progress | None:
    if tell is None:
        return None
    return lambda done, total: tell((before + work * done / max(total, 1)) / whole)


def _step(plan: Plan, step: Step, values: dict[int, np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        if step.kind == "ResizeTo":
            repeated = _fed(values[step.inputs[0]], plan.sizes[step.output])
            return repeated if not step.epilogue else run_step(replace(step, kind="Pointwise", params={}), {**values, step.inputs[0]: repeated})
        return run_step(step, values)


def _fed(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A value as the input of a piece whose inputs have that size: one pixel is repeated, without copies."""
    return x if x.shape[2:] == size else np.broadcast_to(x, (*x.shape[:2], *size))


def _own(x: np.ndarray, others: Sequence[Any]) -> np.ndarray:
    """The array itself when the caller may have it: contiguous, writeable, none of the others or part of one."""
    fine = x.flags.c_contiguous and x.flags.writeable and not any(np.may_share_memory(x, o) for o in others)
    return x if fine else np.array(x, order="C")
