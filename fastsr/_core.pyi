"""Types of the C++ core, built from csrc/. `fastsr.backends.cpu` is its user; everyone else goes through `fastsr.load`."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_Progress = Callable[[int, int], object] | None

class Model:
    """An .fsr file ready to run with the instruction set in use when it was made. May be used from several threads at once.

    fsr: the bytes of the file. threads: threads of each run, 0 for `get_num_threads()`. tile: edge of the tiles in input pixels, 0 for the
    engine's choice. precision: "f32", "fast" or "int8". algorithm: of all convolutions that it can compute ("direct", "winograd", "winograd2d",
    "winograd6x6", "winograd16", "winograd16x6x4", "winograd16x6", "conv16", "conv16rows"), "" for the fastest of each. tensors: where `fsr` is a
    file as far as its tensors only (`fastsr.fsr.scattered`), these; they are kept, and weights of convolutions read there until they are packed. The
    first run packs them, or in the precision "fast" the making of the model. Raises ModelError.
    """

    def __init__(
        self,
        fsr: bytes,
        threads: int = 0,
        tile: int = 0,
        precision: str = "f32",
        algorithm: str = "",
        tensors: Sequence[NDArray[np.float32]] | None = None,
    ) -> None: ...
    def profile(self, inputs: Sequence[NDArray[np.float32]], threads: int = 0) -> list[tuple[float, float]]:
        """Of each step of a run: seconds of processor time of all threads, and the operations that it takes as a direct convolution."""

    def kernels(self) -> list[str]:
        """Of each step: the algorithm that computes it if it is a convolution, else its kind."""

    def run(
        self,
        inputs: Sequence[NDArray[np.float32]],
        outputs: Sequence[int],
        progress: _Progress = None,
        threads: int = 0,
        chunk: int = 0,
        team: int = -1,
        into: Sequence[NDArray[np.float32]] = (),
    ) -> list[NDArray[np.float32]]:
        """The network: C-contiguous float32 arrays (N, C, H, W), one per input, to arrays of that kind, one per index in `outputs`.

        progress(parts done, parts in all) is called on this thread; an exception it raises cancels the run. chunk: input rows that a tile advances
        by, 0 for the engine's choice. team: 1 lets all threads work together on each tile, 0 gives them tiles of their own, -1 leaves it to the
        engine. Results depend on none of threads, tile, chunk and team. Raises PictureError, MemoryError.
        """

    def upscale(
        self,
        picture: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32],
        progress: _Progress = None,
        white: float = 1.0,
        to_u8: bool = False,
        threads: int = 0,
    ) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]:
        """The enlarged picture, (H, W) grey or (H, W, 3) BGR with any strides; the result has the same type and channels.

        white: the value of white in a float32 picture. to_u8: give uint8 whatever the type of `picture`. Raises PictureError, MemoryError.
        """

    def describe(self, threads: int = 0) -> str:
        """Instruction set, threads and tiles, for people."""

    def working_bytes(self, height: int, width: int, threads: int = 0) -> float:
        """Memory of a run for all outputs beyond inputs, outputs and weights: rows and what kernels need while they work. Raises PictureError."""

    def working_memory(self, height: int, width: int, threads: int = 0) -> dict[str, int]:
        """The same in parts, see `fastsr.backends.Executable.working_memory`."""

    @property
    def isa(self) -> str:
        """The instruction set that this model was made for."""

class Many:
    """Pictures upscaled in the background by pool threads, `threads` at once; one that is enough work for all of them has them to itself.

    See `fastsr.backends.Stream`. `add` takes what `Model.upscale` takes. In a forked child, `add` and `take` raise
    ValueError; so does any call in the middle of another one.
    """

    def __init__(self, model: Model, threads: int) -> None: ...
    def add(self, picture: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32], white: float = 1.0, to_u8: bool = False) -> int: ...
    def ready(self) -> bool: ...
    def take(self, progress: _Progress = None) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]: ...
    def close(self) -> None: ...

def isas() -> list[str]:
    """Instruction sets that run here, from the slowest to the fastest."""

def isa() -> str:
    """The instruction set that models made now will use. Raises BackendError when FASTSR_ISA names none."""

def set_isa(name: str = "") -> None:
    """Highest instruction set for models made from now on; "" goes back to FASTSR_ISA. Raises BackendError for an unknown name."""

def set_num_threads(n: int) -> None:
    """Threads of runs that do not say; 0 goes back to all cores this process may use."""

def get_num_threads() -> int:
    """Threads of runs that do not say."""
