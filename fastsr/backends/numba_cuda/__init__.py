"""The numba_cuda backend: networks on an NVIDIA GPU by kernels in plain Python, compiled by numba on first use. Read it to see how a GPU does this.

`operations.py` has the element-wise operations, `kernels.py` the kernels, `launches.py` says which kernel makes a step and with what, `memory.py`
where values lie, and `executable.py` runs all of it. numba's simulator (NUMBA_ENABLE_CUDASIM=1) runs the same kernels without a GPU, slowly.
"""

from __future__ import annotations

from ...errors import BackendError
from ...program import Program
from ...stages import is_staged
from .. import Executable
from ..staged import staged

NAME = "numba_cuda"
PRECISIONS = ("f32",)
DEVICES = True


def unavailable(number: int | None = None) -> str | None:
    """None when numba can compile for a GPU that is here, that of the number where one is given, or simulates one. Never raises."""
    try:
        from numba import cuda
    except Exception as e:  # numba without numba.cuda, or one that does not fit the installed numpy, llvmlite or CUDA libraries
        return f"numba.cuda cannot be imported ({type(e).__name__}: {e}); install it with: pip install fastsr[numba-cuda]"
    try:
        count = len(cuda.gpus) if cuda.is_available() else 0
        if count and number is not None and number >= count:
            return f"there is no GPU number {number}, numba finds {count}"
        if count:
            return None
        trouble = cuda.cuda_error()
    except Exception as e:  # a driver that is broken, or older than the CUDA libraries
        trouble = f"{type(e).__name__}: {e}"
    if trouble:
        return f"no NVIDIA GPU that CUDA can use ({' '.join(str(trouble).split())}); NUMBA_ENABLE_CUDASIM=1 simulates one, slowly"
    return "the CUDA driver works, but numba finds no CUDA compiler (NVVM); install it with: pip install fastsr[numba-cuda]"


def only_named() -> bool:
    """Whether numba simulates the GPU (NUMBA_ENABLE_CUDASIM=1): that is for tests, so "auto" must not choose it."""
    from numba import cuda

    return "simulator" in str(cuda.jit.__module__)


def compile(
    program: Program, *, precision: str = "f32", threads: int | None = None, tile: int | None = None, device: int | None = None
) -> Executable:
    """See `fastsr.backends`. `threads` has no effect here; `tile` None means the whole picture, or as much of it as the GPU's memory holds.
    The first run in a process compiles the kernels, some seconds each; steps with the same operations share one.

    device: number of the GPU that all of it lies and runs on; None for the one that is current in this thread now.

    Raises BackendError for a precision other than "f32", or when weights do not fit into the GPU's memory.
    """
    if precision not in PRECISIONS:
        raise BackendError(f"the numba_cuda backend computes in f32 only, not '{precision}': use the backend cpu for it")
    from .executable import CudaExecutable, current_device

    if is_staged(program):
        number = current_device() if device is None else device
        return staged(program, NAME, precision, lambda piece, _: CudaExecutable(piece, tile, number))
    return CudaExecutable(program, tile, device)
