"""Training of super-resolution networks: `fastsr train`. Needs PyTorch (pip install fastsr[train]), which is imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import FastsrError

if TYPE_CHECKING:
    from .loop import Pace
    from .run import Job, Outcome, train

_LAZY = {"Job": "run", "Outcome": "run", "Pace": "loop", "train": "run"}

__all__ = ["Job", "Outcome", "Pace", "train"]


def need_torch() -> None:
    """Raise FastsrError where PyTorch is missing."""
    try:
        importlib.import_module("torch")
    except ImportError as e:
        raise FastsrError(f"training needs PyTorch: pip install fastsr[train] ({e})") from None


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        need_torch()
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
