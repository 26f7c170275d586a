"""The backends: each takes the same `Program` and runs it on one kind of machine.

A backend is a module with `NAME`, `PRECISIONS` (the first is what it computes in unless told), `unavailable() -> str | None` (None, or the reason and
what to install) and `compile(program, *, precision, threads, tile) -> Executable`; where it has `only_named() -> bool` and that says so, "auto" never
chooses it. One that works on GPUs has `DEVICES = True`: `unavailable` takes the number of one, None for the one that is current in the thread, and so
does `compile`, as `device`. Modules are imported only when they are asked for.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from .. import image
from ..errors import BackendError, PictureError
from ..program import Program

BACKENDS = {"cpu": "cpu", "numba": "numba_cpu", "cuda": "cuda", "numba_cuda": "numba_cuda", "reference": "reference"}
"""Public name -> module in this package: the order in which "auto" looks."""

Progress = Callable[[int, int], None]
"""Called from the calling thread with (done, total), in parts of no fixed size; an exception it raises cancels the run and passes through."""


class Stream(Protocol):
    """Pictures computed in the background, several at once where one does not fill the threads. Used by one thread at a time. One with an attribute
    `copies` that is true has done with a picture when `add` returns."""

    def add(self, picture: np.ndarray) -> int:
        """Begin with a picture (see `Executable.upscale`; it must not change any more); returns the bytes of picture and result.

        Raises PictureError for one that does not fit the network.
        """

    def ready(self) -> bool:
        """Whether `take` would return at once."""

    def take(self, progress: Progress | None = None) -> np.ndarray:
        """The result of the picture added first that was not taken yet; waits for it. Raises what went wrong with it, and it counts as taken."""

    def close(self) -> None:
        """Stop everything; returns when nothing is computed any more."""


class Executable(ABC):
    """A program compiled for this machine. May be used from several threads at once."""

    backend: str
    program: Program
    fills = False
    """Whether `run_into` fills arrays that it is given."""
    in_flight = 2
    """Pictures, however large, that `stream` needs at the same time so that it never waits for the caller."""

    @abstractmethod
    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[int], progress: Progress | None = None) -> list[np.ndarray]:
        """The bare network.

        inputs: one array per `program.inputs`, float32, (N, C, H, W), C-contiguous, already checked for channels and equal N, H, W.
        outputs: indices into `program.outputs`. Returns new float32 arrays (N, C', H', W'), C-contiguous.
        """

    def run_into(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[int], results: Sequence[np.ndarray] | None, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """`run` for pieces of a network (`staged.py`): inputs may have any strides, and `results`, where given, are the arrays to be filled.

        Raises BackendError for `results` unless `fills`.
        """
        if results is not None:
            raise BackendError(f"the {self.backend} backend makes its results itself")
        return self.run(inputs, outputs, progress)

    def upscale(
        self, picture: np.ndarray, progress: Progress | None = None, *, white: float = 1.0, to_u8: bool = False
    ) -> np.ndarray | None:
        """A whole picture, colour conversion included, when the backend does that itself; None when it does not.

        picture: uint8, uint16 or float32; (H, W) grey or (H, W, 3) BGR; any strides. See `fastsr.image` for the meaning: the result must be
        the same, bit for bit, as `image.from_network` of this backend's own `run`. white: the value of white in a float32 picture.
        to_u8: the result is uint8 whatever the picture is.
        """
        return None

    def enlarged(self, picture: np.ndarray, progress: Progress | None = None, *, white: float = 1.0, to_u8: bool = False) -> np.ndarray:
        """A picture as in `upscale`, enlarged whether or not the backend converts colours itself."""
        made = self.upscale(picture, progress, white=white, to_u8=to_u8)
        if made is None:
            x, rest = image.to_network(picture, self.program.feed, white=white, dtype=np.uint8 if to_u8 else None)
            made = image.from_network(self.run([x], [0], progress)[0], rest)
        return made

    def upscale_on_gpu(self, picture: Any, progress: Progress | None = None) -> Any:
        """A picture for which `image.lies_on_gpu`, as a CuPy array on the same GPU, neither of them by way of the host.

        picture: uint8, (H, W) grey, (H, W, 1) or (H, W, 3) BGR, any strides; the result has the same type and channels, and the bits of `upscale`.
        Raises PictureError for another array, one on another GPU, and where this backend or network needs the host.
        """
        where = f"the backend {self.backend} computes" if self.backend != "cuda" else "this network, which runs in pieces, is computed in part"
        hint = "" if self.backend == "cuda" else ", or name the backend cuda"
        raise PictureError(f"the picture lies on a GPU, and {where} with arrays of the host: {image.TO_HOST}{hint}")

    def stream(self, threads: int | None) -> tuple[Stream, int] | None:
        """A stream that computes on that many threads (None: as many as a run) and their number; None where pictures go one after another."""
        return None

    def working_memory(self, height: int, width: int) -> dict[str, int] | None:
        """What a run of the network on inputs of that size takes beyond inputs and outputs; None where nobody knows beforehand.

        `bytes`: all but the weights. Of these `rings_bytes`: rows of values; `scratch_bytes`: what kernels need while they work,
        `scratch_bytes_per_thread` for each of the `working_threads`. `weights_bytes`: the weights, made ready for the kernels.
        """
        return None

    def describe(self) -> str:
        """One line for people: backend, instruction set, threads, tile."""
        return self.backend


def backend_module(name: str, device: int | None = None) -> ModuleType:
    """The module of backend `name`. Raises BackendError for an unknown name or a backend that cannot work here, or not on the GPU of that number."""
    if name not in BACKENDS:
        raise BackendError(f"unknown backend '{name}': choose one of {', '.join(['auto', *BACKENDS])}")
    module = importlib.import_module(f"{__name__}.{BACKENDS[name]}")
    if device is None:
        reason = module.unavailable()
    else:
        _check_device(name, module, device)
        reason = module.unavailable(device)
    if reason:
        raise BackendError(f"backend '{name}' is not available: {reason}")
    return module


def available_backends() -> list[str]:
    """Names of the backends that work on this machine, fastest first; without those that work only when they are named, as on a simulated GPU."""
    return [name for name, _ in _working()]


def pick_backend(name: str = "auto", device: int | None = None) -> ModuleType:
    """The backend module for `name`, or the fastest available one for "auto". device: as in `backend_module`."""
    if name != "auto":
        return backend_module(name, device)
    for found, module in _working():
        return module if device is None else backend_module(found, device)
    raise BackendError("no backend works on this machine")


def _check_device(name: str, module: ModuleType, device: object) -> None:
    if not getattr(module, "DEVICES", False):
        raise BackendError(f"device={device!r}: the backend {name} has no devices to choose from: leave it out, or name the backend cuda")
    if isinstance(device, bool) or not isinstance(device, (int, np.integer)) or device < 0:
        raise BackendError(f"device={device!r}: the number of a GPU is needed, such as 0, or None for the current one")


def _working() -> Iterator[tuple[str, ModuleType]]:
    for name in BACKENDS:
        try:
            module = backend_module(name)
        except BackendError:
            continue
        if not getattr(module, "only_named", bool)():
            yield name, module
