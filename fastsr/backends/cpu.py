"""The C++ core as a backend: compiles a Program to the core's own form by way of .fsr bytes. The engine is csrc/engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import fsr
from ..errors import BackendError
from ..program import Program
from ..stages import is_staged
from ..threads import get_num_threads
from . import Executable, Progress, Stream
from .staged import staged

try:
    from .. import _core
except ImportError as e:
    _core = None  # type: ignore[assignment]
    _reason = f"the C++ extension fastsr._core cannot be imported ({e}): install a wheel, or a C++17 compiler and reinstall fastsr"

NAME = "cpu"
PRECISIONS = ("f32", "fast", "int8")


def unavailable() -> str | None:
    """None, or why the extension cannot be used."""
    return None if _core is not None else _reason


def compile(program: Program, *, precision: str = "f32", threads: int | None = None, tile: int | None = None) -> Executable:
    """Raises BackendError for a precision other than `PRECISIONS`, ModelError for a program beyond the core's limits, or not quantised for int8."""
    if precision not in PRECISIONS:
        raise BackendError(f"the cpu backend computes in {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, not '{precision}'")
    if is_staged(program):
        return staged(program, NAME, precision, lambda piece, p: Cpu(piece, p, threads, tile))
    return Cpu(program, precision, threads, tile)


class Cpu(Executable):
    """See the module. The first run packs the weights; until then they are read from the program's arrays, which must not change."""

    backend = NAME
    fills = True

    def __init__(self, program: Program, precision: str = "f32", threads: int | None = None, tile: int | None = None) -> None:
        self.program = program
        self._threads = threads
        self._precision = ", int8" if precision == "int8" else ""
        head, tensors = fsr.scattered(program)
        self._model = _core.Model(head, threads=threads or 0, tile=tile or 0, precision=precision, tensors=tensors)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """See `Executable.run`."""
        return self._model.run(list(inputs), list(outputs), progress, threads=self._threads or get_num_threads())

    def run_into(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[int], results: Sequence[np.ndarray] | None, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """See `Executable.run_into`."""
        return self._model.run(list(inputs), list(outputs), progress, threads=self._threads or get_num_threads(), into=results or ())

    def upscale(
        self, picture: np.ndarray, progress: Progress | None = None, *, white: float = 1.0, to_u8: bool = False
    ) -> np.ndarray | None:
        """See `Executable.upscale`."""
        return self._model.upscale(picture, progress, white, to_u8, threads=self._threads or get_num_threads())

    def stream(self, threads: int | None) -> tuple[Stream, int]:
        """See `Executable.stream`."""
        n = threads or self._threads or get_num_threads()
        return _core.Many(self._model, n), n

    def working_memory(self, height: int, width: int) -> dict[str, int]:
        """See `Executable.working_memory`."""
        return self._model.working_memory(height, width, threads=self._threads or get_num_threads())

    def describe(self) -> str:
        """Backend, instruction set, threads and tiles."""
        return f"{NAME}: {self._model.describe(self._threads or get_num_threads())}{self._precision}"
