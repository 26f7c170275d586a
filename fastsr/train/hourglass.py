"""FSRCNN with two skips."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812

from .networks import FSRCNN, RESIDUAL
from .white import EndConv2d


class Hourglass(FSRCNN):
    """FSRCNN(width, narrow, maps) in the shape of OpenCV's files, with two skips that cost no multiply-adds: what the first convolution finds is
    added to what the expanding one makes, before its slopes, and the picture's nearest pixels to the result. expand: as in `Branches`, of the maps.
    """

    prefix = "hourglass."

    def __init__(self, scale: int, colour: str = "y", width: int = 56, narrow: int = 12, maps: int = 4, expand: int = 2) -> None:
        super().__init__(scale, colour, width, narrow, maps, "shuffle", expand)
        self.last_part = EndConv2d(width, self.channels * scale**2, 1, False, RESIDUAL, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first_part(x)
        y = self.mid_part[-1](self.mid_part[:-1](first) + first)
        return F.pixel_shuffle(self.last_part(y), self.scale) + F.interpolate(x, scale_factor=float(self.scale))

    def with_maps(self, maps: int) -> FSRCNN:
        """See `FSRCNN.with_maps`."""
        return Hourglass(self.scale, self.colour, self.mid_part[0].in_channels, self.mid_part[0].out_channels, maps)
