"""What a network begins with: ends that are learnt in units in which pixels are white and a network's values are about 1, and channels of that size.

Neighbours in a photograph are nearly equal: most of a patch's variance is its mean. So a kernel's result is large and of one sign, detail is small
beside it, and an optimiser whose steps are equally large for every parameter soon leaves channels that are negative everywhere. Therefore a kernel
is learnt for whitened pixels without their mean (ZCA, Kessy et al., "Optimal whitening and decorrelation", The American Statistician 2018); the
kernel that is used and shipped is its product with the whitening matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

GREY = 0.4
"""Mean of the pixels 0..1."""

VARIANCE = 0.05
"""Of the pixels."""

NEAR, ALIKE = 0.97, 0.85
"""Correlation of two pixels at distance d is NEAR^d, that of two colours of a pixel ALIKE, as measured of photographs made half as large."""

LEAST = 1e-6
"""Deviation that a channel is taken to have at least."""


def whitening(channels: int, size: int) -> torch.Tensor:
    """The symmetric matrix (n, n), n = channels * size^2, float64, that makes patches of such pixels white."""
    at = torch.arange(size, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(at, at, indexing="ij"), 2).view(-1, 2)
    colours = torch.full((channels, channels), ALIKE, dtype=torch.float64).fill_diagonal_(1.0)
    values, vectors = torch.linalg.eigh(torch.kron(colours, VARIANCE * NEAR ** torch.cdist(places, places)))
    return (vectors * values.rsqrt()) @ vectors.T


def drawn(m: nn.Conv2d, gain: float) -> nn.Conv2d:
    """The convolution, its kernel drawn from a normal distribution of variance gain / fan-in (He et al., ICCV 2015: 2 before ReLU)."""
    nn.init.normal_(m.weight, std=math.sqrt(gain / m.weight[0].numel()))
    assert m.bias is not None
    nn.init.zeros_(m.bias)
    return m


class Units(nn.Module):
    """What is learnt of a convolution, and what is used: kernels (O, I, K, K) and biases (O,). pixels: those that are used read pixels 0..1, those
    that are learnt white ones. unit: what the convolution computes is learnt in this unit."""

    def __init__(self, channels: int, size: int, pixels: bool, unit: float) -> None:
        super().__init__()
        self.pixels, self.unit = pixels, unit
        self.register_buffer("matrix", whitening(channels, size).float() if pixels else None, persistent=False)

    def used(self, kernel: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of those that are learnt."""
        if self.pixels:
            kernel = (kernel.flatten(1) @ self.matrix.to(kernel.dtype)).view(kernel.shape)
            bias = bias - GREY * kernel.sum((1, 2, 3))
        return (kernel, bias) if self.unit == 1 else (kernel * self.unit, bias * self.unit)

    def learnt(self, kernel: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `used` makes these of, float64."""
        kernel, bias = kernel.double() / self.unit, bias.double() / self.unit
        if self.pixels:
            bias = bias + GREY * kernel.sum((1, 2, 3))
            kernel = (kernel.flatten(1) @ torch.linalg.inv(self.matrix.double())).view(kernel.shape)
        return kernel, bias


class EndConv2d(nn.Conv2d):
    """The first or the last convolution of a network, (O, I, K, K). pixels, unit: as in `Units`. gain: as in `drawn`."""

    def __init__(self, i: int, o: int, k: int, pixels: bool = False, unit: float = 1.0, gain: float = 2.0) -> None:
        super().__init__(i, o, k, padding=k // 2)
        self.units = Units(i, k, pixels, unit)
        drawn(self, gain)

    def plain(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The kernel and the bias as a file holds them, float32."""
        assert self.bias is not None
        with torch.no_grad():
            kernel, bias = self.units.used(self.weight.double(), self.bias.double())
        return kernel.float(), bias.float()

    def set(self, kernel: torch.Tensor, bias: torch.Tensor) -> None:
        """Make `plain` return these."""
        assert self.bias is not None
        with torch.no_grad():
            weight, shift = self.units.learnt(kernel, bias)
            self.weight.copy_(weight)
            self.bias.copy_(shift)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.bias is not None
        with torch.autocast(x.device.type, enabled=False):
            kernel, bias = self.units.used(self.weight, self.bias)
        return F.conv2d(x, kernel, bias, padding=self.padding)


class Settled(Protocol):
    """A convolution of its kernel (O, I, K, K) and its bias (O,)."""

    def plain(self) -> tuple[torch.Tensor, torch.Tensor]: ...

    def set(self, kernel: torch.Tensor, bias: torch.Tensor) -> None: ...


@torch.no_grad()
def settle(network: nn.Module, chain: Sequence[Settled], x: torch.Tensor) -> None:
    """Shift and scale what the channels of the convolutions in `chain` compute of pictures x (N, C, H, W) to mean 0 and deviation 1, each given what
    those before it compute by then (Kraehenbuehl et al., "Data-dependent initializations of convolutional neural networks", ICLR 2016)."""

    def changed(m: Any, _: Any, y: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(y, (0, 2, 3))
        deviation.clamp_(min=LEAST)
        kernel, bias = m.plain()
        m.set(kernel / deviation[:, None, None, None], (bias - mean) / deviation)
        return (y - mean[:, None, None]) / deviation[:, None, None]

    if not chain:  # a network may have more to it that a run changes, such as means for batch normalisation
        return
    hooks = [m.register_forward_hook(changed) for m in chain if isinstance(m, nn.Module)]
    try:
        network(x)
    finally:
        for h in hooks:
            h.remove()
