"""A 3x3 convolution that is trained as several branches and shipped as one.

As in ECBSR (Zhang et al., ACM Multimedia 2021) and SESR (Bhardwaj et al., MLSys 2022): a block is a 3x3 convolution, a 1x1 one that expands followed
by a 3x3 one that squeezes, and the identity, all added. These are linear, so one 3x3 kernel is their exact sum; it is made in every step of
training, and the picture goes through that one convolution only. Zero padding then belongs to the sum and not to a branch, so training and the
shipped network agree at the borders too.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from .white import Units, drawn


class Branches(nn.Module):
    """A 3x3 convolution as the sum of branches. expand: how many times wider than the convolution the second branch's middle is, 0 for none. pixels,
    unit: as in `Units`."""

    def __init__(self, i: int, o: int, expand: int, identity: bool, pixels: bool = False, unit: float = 1.0) -> None:
        super().__init__()
        gain = 0.5 if identity else 1.0
        self.units = Units(i, 3, pixels, unit)
        self.conv3x3 = drawn(nn.Conv2d(i, o, 3, padding=1), gain)
        middle = expand * max(o, i)
        self.expand = expand
        if not expand:
            self.identity = False
            nn.init.normal_(self.conv3x3.weight, std=math.sqrt(1.9 / (9 * i)))
            return
        self.k0 = nn.Parameter(torch.randn(middle, i) * math.sqrt(1 / i))
        self.b0 = nn.Parameter(torch.zeros(middle))
        self.k1 = nn.Parameter(torch.randn(o, middle, 9) * math.sqrt(gain / (9 * middle)))
        self.b1 = nn.Parameter(torch.zeros(o))
        self.identity = identity and i == o
        eye = F.pad(torch.eye(o, i)[:, :, None, None], (1, 1, 1, 1)) if self.identity else torch.zeros(0)
        self.register_buffer("eye", eye, persistent=False)

    def merged(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The kernel (O, I, 3, 3) and the bias of the one convolution."""
        return self.units.used(*self._learnt())

    def _learnt(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.expand:
            assert self.conv3x3.bias is not None
            return self.conv3x3.weight, self.conv3x3.bias
        k1, k0, b0 = self.k1, self.k0, self.b0
        kernel = self.conv3x3.weight + torch.matmul(k0.T, k1).view(self.conv3x3.weight.shape)
        if self.identity:
            kernel = kernel + self.eye
        return kernel, self.conv3x3.bias + self.b1 + k1.sum(2) @ b0

    def plain(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The kernel and the bias as a file holds them, float32."""
        kernel, bias = copy.deepcopy(self).double().merged()
        return kernel.detach().float().contiguous(), bias.detach().float()

    def set(self, kernel: torch.Tensor, bias: torch.Tensor) -> None:
        """Make `merged` return these, the other branches contributing nothing at first."""
        with torch.no_grad():
            kernel, bias = self.units.learnt(kernel, bias)
            if self.expand:
                self.k1.zero_()
                self.b1.zero_()
            if self.identity:
                kernel = kernel - self.eye
            self.conv3x3.weight.copy_(kernel)
            self.conv3x3.bias.copy_(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            kernel, bias = self.merged()
        return F.conv2d(x, kernel, bias, padding=1)
