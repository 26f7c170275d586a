"""fastsr: trained super-resolution networks run by our own kernels; a drop-in replacement of cv2.dnn_superres.

    import fastsr
    model = fastsr.load("ESPCN_x2.pb")
    big = model.upscale(picture)          # BGR uint8, as cv2.imread gives it

    import fastsr; fastsr.install()       # now cv2.dnn_superres is fastsr, existing code runs unchanged

Importing fastsr loads numpy and nothing else; everything below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import BackendError, FastsrError, ModelError, PictureError

if TYPE_CHECKING:
    from . import dnn_superres, metrics, shipped
    from .backends import available_backends
    from .drop_in import install, uninstall
    from .model import Model, load
    from .threads import get_num_threads, set_num_threads

_LAZY = {
    "Model": "model",
    "available_backends": "backends",
    "get_num_threads": "threads",
    "install": "drop_in",
    "load": "model",
    "set_num_threads": "threads",
    "uninstall": "drop_in",
}

__all__ = [
    "BackendError",
    "FastsrError",
    "Model",
    "ModelError",
    "PictureError",
    "__version__",
    "available_backends",
    "dnn_superres",
    "get_num_threads",
    "install",
    "load",
    "metrics",
    "set_num_threads",
    "shipped",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    if name in ("dnn_superres", "metrics", "shipped"):
        return importlib.import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
