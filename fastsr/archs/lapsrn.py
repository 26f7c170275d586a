"""LapSRN: a pyramid of levels that each double features and picture and add what a convolution makes of the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import Spelling, fed, in_order, several
from .weights import Module, Weights

NAME = "LapSRN"
PAPER = "Lai et al., Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution, CVPR 2017"
FED = "Y or RGB 0..1; the level of `load(scale=)`, else that in the file's name, else the largest"

SPELLINGS = (
    Spelling(("FeatureExtraction", "ImageReconstruction"), late=r"\.convt_F$"),
    Spelling(("conv_input", "convt_I", "convt_R", "convt_F")),
    Spelling(("conv1", r"laplacian_pyramid_conv")),
)
"""BUPTLdy; twtygqyy; Lornatang. Others must be in order within features, pictures and residuals."""


@dataclass
class Level:
    """Convolutions of the features, the last one transposed; what doubles the picture; what makes the residual."""

    features: list[Module] = field(default_factory=list)
    picture: Module | None = None
    residual: Module | None = None


def detect(w: Weights) -> bool:
    """As many transposed convolutions of the picture as of the features, and as many that make a picture of features."""
    return bool(_levels(in_order(w, SPELLINGS)))


def build(w: Weights) -> Graph:
    """The network, whatever its depth, width and number of levels."""
    levels = _levels(in_order(w, SPELLINGS))
    scales = [2 ** (k + 1) for k in range(len(levels))]
    wanted = scales.index(w.one_of(scales, scales[-1], strict=False)) + 1
    w.used.update(w.tensors)
    net = Net(w.renamed({}), levels[0].features[0].shape[1])
    x, out = net.input, net.input
    for level in levels[:wanted]:
        if level.picture is None or level.residual is None:
            raise ModelError("a level lacks one of its convolutions")
        for m in level.features[:-1]:
            x = net.act(net.conv(x, m.name), "leaky0.2")
        x = net.act(net.conv_transpose(x, level.features[-1].name, 2), "leaky0.2")
        out = net.add(net.conv_transpose(out, level.picture.name, 2), net.conv(x, level.residual.name))
    return net.done(out, fed(net.channels[net.input]), NAME, **several(scales))


def _levels(modules: Sequence[Module]) -> list[Level]:
    """Sorted by what they read and make; [] where they are not a pyramid's."""
    if len(modules) < 5 or any(m.kind != "conv" for m in modules):
        return []
    first = next((m.shape for m in modules if m.shape[1] < m.shape[0] and m.shape[2] % 2), ())
    if not first:
        return []
    c, colours = first[0], first[1]
    levels = [Level()]
    pictures, residuals = [], []
    for m in modules:
        if m.shape[0] == m.shape[1] == colours and m.shape[2] % 2 == 0:
            pictures.append(m)
        elif m.shape[:2] == (colours, c):
            residuals.append(m)
        elif m.shape[:2] in ((c, c), (c, colours)):
            levels[-1].features.append(m)
            if m.shape[2] % 2 == 0:
                levels.append(Level())
        else:
            return []
    if levels.pop().features or not len(pictures) == len(residuals) == len(levels) or levels[0].features[0].shape != first:
        return []
    for level, picture, residual in zip(levels, pictures, residuals, strict=True):
        level.picture, level.residual = picture, residual
    return levels
