"""Plain chains of 3x3 convolutions. The result of the chain is shuffled to pixels and added to the picture's nearest pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from .branches import Branches
from .networks import RESIDUAL, Network, check_names
from .slopes import Slopes
from .white import Settled


class Plain(Network):
    """`layers` blocks of `width` channels between the first convolution and the last. act: "prelu" or "relu". expand: width of the expanding branch.

    In colour "y" shipped under ECBSR's names, for pixels 0..255; in "rgb" under SRVGGNetCompact's, for 0..1.
    """

    def __init__(self, scale: int, colour: str = "y", layers: int = 5, width: int = 16, act: str = "prelu", expand: int = 2) -> None:
        super().__init__(scale, colour)
        self.factor = 255.0 if colour == "y" else 1.0
        self.layers = layers + 2
        for k in range(self.layers):
            i = self.channels if k == 0 else width
            o = self.channels * scale**2 if k == self.layers - 1 else width
            last = k == self.layers - 1
            self.add_module(f"block{k}", Branches(i, o, expand, k > 0 and not last, pixels=k == 0, unit=RESIDUAL if last else 1.0))
        self.slopes = nn.ModuleList([Slopes(width) if act == "prelu" else nn.ReLU(True) for _ in range(layers + 1)])
        self.act = act

    def block(self, k: int) -> Branches:
        """Convolution number k."""
        m = getattr(self, f"block{k}")
        assert isinstance(m, Branches)
        return m

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(0)(x)
        for k in range(1, self.layers):
            y = self.block(k)(self.slopes[k - 1](y))
        return F.pixel_shuffle(y, self.scale) + F.interpolate(x, scale_factor=float(self.scale))

    def chain(self) -> list[Settled]:
        """See `Network.chain`."""
        return [self.block(k) for k in range(self.layers - 1)]

    def _names(self, k: int) -> tuple[str, str]:
        """What the file calls convolution k and its slopes."""
        if self.colour == "rgb":
            return f"body.{2 * k}", f"body.{2 * k + 1}.weight"
        return f"backbone.{k}.conv3x3", f"backbone.{k}.act.weight"

    def shipped(self) -> dict[str, torch.Tensor]:
        """The merged network."""
        found: dict[str, torch.Tensor] = {}
        for k in range(self.layers):
            name, slope = self._names(k)
            found[f"{name}.weight"], bias = self.block(k).plain()
            found[f"{name}.bias"] = bias * self.factor
            if self.act == "prelu" and k < self.layers - 1:
                found[slope] = self.slopes[k].weight.detach().float()
        return found

    def adopt(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take a merged network."""
        check_names(weights, {k: tuple(v.shape) for k, v in self.shipped().items()})
        for k in range(self.layers):
            name, slope = self._names(k)
            self.block(k).set(weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float() / self.factor)
            if self.act == "prelu" and k < self.layers - 1:
                with torch.no_grad():
                    self.slopes[k].weight.copy_(weights[slope])

    @staticmethod
    def options_of(tensors: Sequence[np.ndarray]) -> dict[str, int]:
        """See `Network.options_of`."""
        kernels = [t for t in tensors if t.ndim == 4]
        return {"layers": max(len(kernels) - 2, 1), "width": max(kernels[0].shape[0], 1), "expand": 0} if kernels else {}

    def larger_than(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """See `Network.larger_than`."""
        kernels = [weights[n] for n in (f"{self._names(k)[0]}.weight" for k in range(self.layers)) if n in weights]
        whole = 3 * len(kernels) - 1 if self.act == "prelu" else 2 * len(kernels)
        first = f"{self._names(0)[0]}.weight"
        if len(kernels) < 3 or first not in weights or len(weights) != whole or any(k.ndim != 4 for k in kernels):
            return False
        narrow, wide = int(kernels[0].shape[0]), self.block(0).conv3x3.out_channels
        return 1 <= narrow <= wide and (len(kernels), narrow) != (self.layers, wide)

    def grow(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take a merged network that has fewer channels or layers, so that the result is the same (Chen et al., "Net2Net", ICLR 2016): nothing reads
        the channels that are new yet, and layers that are new hand on what they get, slopes of PReLU being 1. Raises ModelError when names or
        shapes do not fit."""
        given = sum(1 for n in weights if n.endswith(".bias"))
        narrow = int(weights[f"{self._names(0)[0]}.weight"].shape[0])
        old = Plain(self.scale, self.colour, given - 2, narrow, self.act, 0)
        old.adopt(weights)
        place = {(j * (self.layers - 2)) // (given - 2): j for j in range(1, given - 1)} | {0: 0, self.layers - 1: given - 1}
        for k in range(self.layers):
            kernel, bias = (t.detach().clone() for t in self.block(k).merged())
            last = k == self.layers - 1
            if 0 < k < self.layers - 1:
                nn.init.normal_(kernel, std=math.sqrt(1.9 / kernel[0].numel()))
            if k in place:
                seen, shift = old.block(place[k]).merged()
            else:
                seen, shift = F.pad(torch.eye(narrow)[:, :, None, None], (1, 1, 1, 1)), torch.zeros(narrow)
            o, i = seen.shape[:2]
            kernel[:o] = 0
            kernel[:o, :i] = seen.detach()
            bias[:o] = shift.detach()
            self.block(k).set(kernel, bias)
            if self.act == "prelu" and not last:
                with torch.no_grad():
                    self.slopes[k].weight[:narrow] = old.slopes[place[k]].weight if k in place else 1.0
