"""Learning from a better network: what it makes of the small pictures is what the network learns to make, in the place of the photographs.

A photograph holds detail that nothing in the small picture tells, which is noise to whoever learns; a teacher's picture holds what can be told
(Hinton et al., "Distilling the knowledge in a neural network", 2015).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from .. import fsr
from ..errors import FastsrError
from ..model import Model, load
from .pictures import Maker, Planes, white


def find(name: Path, scale: int) -> Model:
    """The teacher: a network in a file of any format, or one that comes with fastsr. Raises FastsrError when it does not enlarge by `scale` or takes
    no pictures, ModelError, OSError."""
    model = load(name, scale=scale, threads=1)
    if model.feed.colour == "raw" or len(model.program.inputs) != 1:
        raise FastsrError(f"the teacher '{name}' does not say how pictures are fed to it: choose one that takes pictures")
    if model.scale != scale:
        raise FastsrError(f"the teacher '{name}' enlarges by {model.scale}: one that enlarges by {scale} is needed")
    return model


def mark(model: Model) -> str:
    """Tells teachers apart."""
    return hashlib.sha256(fsr.dumps(model.program)).hexdigest()[:16]


def answer(model: Model, small: np.ndarray) -> np.ndarray:
    """What the teacher makes, (C, H * scale, W * scale) uint8, of a small picture of a `Pair`. Y is not rounded before it."""
    if len(small) == 1:
        made: Any = model.upscale(small[0].astype(np.float32) / np.float32(white(small)))
        return np.clip(np.rint(made * 255), 0, 255).astype(np.uint8)[None]
    return np.ascontiguousarray(model.upscale(small[::-1].transpose(1, 2, 0)).transpose(2, 0, 1)[::-1])


def taught(make: Maker, model: Model) -> Maker:
    """Makes the small pictures that `make` makes, each with the teacher's answer to it."""

    def answered(rgb: np.ndarray, name: str) -> list[Planes]:
        return [(answer(model, small), small) for _, small in make(rgb, name)]

    return answered
