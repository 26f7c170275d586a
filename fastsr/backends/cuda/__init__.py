"""The CUDA backend: hand-written kernels for NVIDIA GPUs, compiled for a network on first use by way of CuPy.

`kernels/*.cuh` has the kernels, `steps.py` says which of them make a Program's steps, `layout.py` how values and weights lie, `plan.py` what is
launched for a picture, `executable.py` runs it, `stream.py` many of them. All that touches CuPy is `device.py`, `lanes.py` for streams that work at
the same time, and `arrays.py` for pictures that lie on the GPU already.
"""

from __future__ import annotations

from ...errors import BackendError
from ...program import Program
from ...stages import is_staged
from .. import Executable
from ..staged import staged
from . import device as devices

NAME = "cuda"
PRECISIONS = ("fast", "f32")
DEVICES = True


def unavailable(number: int | None = None) -> str | None:
    """None when CuPy finds that GPU, or without a number the current one, and it has compute capability 8.0 or more."""
    return devices.unavailable(number)


def compile(
    program: Program, *, precision: str = "fast", threads: int | None = None, tile: int | None = None, device: int | None = None
) -> Executable:
    """See `fastsr.backends`. "fast": halfs on tensor cores, sums in float32; "f32": float32 throughout. Threads have no effect.
    Halfs end at 65504: larger values between the steps of a network become infinite in "fast".

    device: number of the GPU that all of it lies and runs on; None for the one that is current in this thread now.
    Raises BackendError for another precision.
    """
    if precision not in PRECISIONS:
        raise BackendError(f"the cuda backend computes in {' or '.join(PRECISIONS)}, not '{precision}'")
    from .executable import CudaExecutable

    gpu = devices.CupyDevice(device)
    if is_staged(program):
        return staged(program, NAME, precision, lambda piece, p: CudaExecutable(piece, gpu, p, tile))
    return CudaExecutable(program, gpu, precision, tile)
