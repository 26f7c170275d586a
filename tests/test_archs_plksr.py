"""PLKSR and RealPLKSR against modules of the same structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import plksr

nn = torch.nn


def conv(i: int, o: int, k: int = 3) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2)


class Large(nn.Module):
    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.conv, self.c = conv(c, c, k), c

    def forward(self, x: Any) -> Any:
        return torch.cat([self.conv(x[:, : self.c]), x[:, self.c :]], 1)


class Attention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.f = nn.Sequential(conv(c, c), nn.Sigmoid())

    def forward(self, x: Any) -> Any:
        return x * self.f(x)


class Block(nn.Module):
    """kernels: of the mixer's two convolutions; None for RealPLKSR's, with Mish."""

    def __init__(self, c: int, part: int, k: int, kernels: tuple[int, int] | None, attention: bool) -> None:
        super().__init__()
        self.real = kernels is None
        a, b = kernels or (3, 3)
        mixer = nn.Sequential(conv(c, 2 * c, a), nn.Mish() if self.real else nn.GELU(), conv(2 * c, c, b))
        setattr(self, "channel_mixer" if self.real else "channe_mixer", mixer)
        self.lk, self.refine = Large(part, k), conv(c, c, 1)
        self.attn = Attention(c) if attention else nn.Identity()
        if self.real:
            self.norm = nn.GroupNorm(4, c)
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)

    def forward(self, x: Any) -> Any:
        y = self.refine(self.attn(self.lk((self.channel_mixer if self.real else self.channe_mixer)(x))))
        return x + (self.norm(y) if self.real else y)


class Plksr(nn.Module):
    def __init__(self, c: int, part: int, k: int, n: int, scale: int, kernels: tuple[int, int] | None = None, attention: bool = True) -> None:
        super().__init__()
        dropout = [nn.Dropout2d(0)] if kernels is None else []
        self.feats = nn.Sequential(conv(3, c), *[Block(c, part, k, kernels, attention) for _ in range(n)], *dropout, conv(c, 3 * scale**2))
        self.to_img, self.scale = nn.PixelShuffle(scale), scale

    def forward(self, x: Any) -> Any:
        return self.to_img(self.feats(x) + torch.repeat_interleave(x, self.scale**2, 1))


@pytest.mark.parametrize(("c", "part", "k", "n", "scale", "attention"), [(16, 4, 17, 3, 4, True), (12, 3, 13, 11, 2, False), (8, 8, 5, 2, 1, True)])
def test_real_plksr(c, part, k, n, scale, attention):
    net = seeded(Plksr, c, part, k, n, scale, attention=attention, spread=2.0)
    assert matches(net, arch=plksr, readings=1, scale=scale).meta["architecture"] == "RealPLKSR"


@pytest.mark.parametrize("kernels", [(3, 1), (1, 3), (3, 3)])
def test_plksr(kernels):
    assert matches(seeded(Plksr, 16, 4, 17, 3, 3, kernels, spread=2.0), arch=plksr).meta["architecture"] == "PLKSR"


def test_variants_and_damage():
    tensors = tensors_of(seeded(Plksr, 16, 4, 17, 2, 4))
    refused({**tensors, "to_img.offset.weight": np.ones((64, 48, 1, 1), np.float32)}, "DySample")
    refused({**tensors, "feats.1.lk.conv.weight": np.ones((16, 4, 3, 3), np.float32)}, "lk.conv")
    refused({n: t for n, t in tensors.items() if n != "feats.2.norm.bias"}, "feats.2.norm.bias")
