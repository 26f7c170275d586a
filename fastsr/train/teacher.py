"""Learning from a better network: what it makes of the small pictures is what the network learns to make, in the place of the photographs.

A photograph holds detail that nothing in the small picture tells, which is noise to whoever learns; a teacher's picture holds what can be told
(Hinton et al., "Distilling the knowledge in a neural network", 2015).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from .. import fsr
from ..errors import FastsrError
from ..model import Model, load
from ..views import mean_of_views
from .pictures import Maker, Planes, white


def find(name: Path, scale: int, colour: str) -> Model:
    """The teacher of a network of that colour ("y" or "rgb"): a network in a file of any format, or one that comes with fastsr, computed in float32.

    Raises ModelError when it does not enlarge by `scale` or cannot be read, FastsrError when it takes no pictures, or knows luma only and is to teach
    colours, OSError.
    """
    model = load(name, scale=scale, precision="f32", threads=1)
    if model.feed.colour == "raw" or len(model.program.inputs) != 1:
        raise FastsrError(f"the teacher '{name}' does not say how pictures are fed to it: choose one that takes pictures")
    if colour != "y" and model.feed.colour == "y":
        raise FastsrError(f"the teacher '{name}' knows luma only, and a network of colours is to learn from it: choose one of colours")
    return model


def mark(model: Model) -> str:
    """Tells teachers apart, and what computes them."""
    return f"{model.backend} {hashlib.sha256(fsr.dumps(model.program)).hexdigest()[:16]}"


def answer(model: Model, small: np.ndarray, scale: int, views: int = 1) -> np.ndarray:
    """What the teacher makes, (C, H * scale, W * scale) uint8, of a small picture (C, H, W) of a `Pair`, as the mean of so many views of it. Y is not
    rounded before it.

    Raises FastsrError when that is of another size or holds what is no number.
    """
    if len(small) == 1:
        made = mean_of_views(model.upscale, small[0].astype(np.float32) / np.float32(white(small)), views)[None] * np.float32(255)
        if not np.isfinite(made).all():
            raise FastsrError("the teacher's pictures hold numbers that are not finite: choose another one")
    else:
        made = mean_of_views(model.upscale, small[::-1].transpose(1, 2, 0), views).transpose(2, 0, 1)[::-1]
    made = np.ascontiguousarray(np.clip(np.rint(made), 0, 255).astype(np.uint8))
    wanted = tuple(scale * n for n in small.shape[1:])
    if made.shape[1:] != wanted:
        sizes = " of ".join("x".join(map(str, size)) for size in (made.shape[1:], small.shape[1:]))
        raise FastsrError(f"the teacher makes a picture of {sizes} pixels, not {scale} times as many each way: choose one that cuts no border off")
    return made


def taught(make: Maker, model: Model, scale: int, views: int) -> Maker:
    """Makes the small pictures that `make` makes, each with the teacher's answer to it. views: as in `answer`."""

    def answered(rgb: np.ndarray, name: str) -> list[Planes]:
        return [(answer(model, small, scale, views), small) for _, small in make(rgb, name)]

    return answered
