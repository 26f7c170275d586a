"""The numba backend: our own kernels compiled by numba on first use, for platforms without the C++ core. `kernels.py` has the kernels, with
`winograd.py` and `pictures.py`; `bands.py` says which rows a band of a tile makes, `layout.py` writes the code for it, `executable.py` runs it.
"""

from __future__ import annotations

import os

from ...errors import BackendError
from ...program import Program
from ...stages import is_staged
from .. import Executable
from ..staged import staged

NAME = "numba"
PRECISIONS = ("f32",)


def unavailable() -> str | None:
    """None when numba can be imported and may compile."""
    try:
        import numba
    except Exception as e:  # a numba that does not fit the installed numpy or llvmlite fails with errors of all kinds
        return f"numba cannot be imported ({type(e).__name__}: {e}); install it with: pip install fastsr[numba]"
    if numba.config.DISABLE_JIT:
        return f"NUMBA_DISABLE_JIT={os.environ.get('NUMBA_DISABLE_JIT', '1')} switches compilation off; unset it"
    return None


def compile(program: Program, *, precision: str = "f32", threads: int | None = None, tile: int | None = None) -> Executable:
    """See `fastsr.backends`. The first call on a machine compiles the kernels (some 10 s), later ones load them from numba's cache.

    Raises BackendError for a precision other than "f32".
    """
    if precision not in PRECISIONS:
        raise BackendError(f"the numba backend computes in f32 only, not '{precision}': use the backend cpu for it")
    from .executable import NumbaExecutable

    if is_staged(program):
        return staged(program, NAME, precision, lambda piece, _: NumbaExecutable(piece, threads, tile))
    return NumbaExecutable(program, threads, tile)
