"""What the backends for GPUs have in common."""

from __future__ import annotations

import os

from ..errors import BackendError

SHARE = 0.9
"""Of the GPU's free memory, what a picture or tile may take."""


def check_process(process: int) -> None:
    """Raises BackendError when this is not the process of that number, the one that CUDA began in, but one forked from it."""
    if os.getpid() != process:
        raise BackendError("CUDA does not survive fork(): start processes with 'spawn', or load the model in the new process")
