"""SRGAN's generator in blocks with a slope that does not run, and Swift-SRGAN, which is one of separable convolutions, against such modules."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import swift_srgan

nn = torch.nn


class Separable(nn.Module):
    def __init__(self, i: int, o: int, k: int, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(i, i, k, padding=k // 2, groups=i, bias=bias)
        self.pointwise = nn.Conv2d(i, o, 1, bias=bias)

    def forward(self, x: Any) -> Any:
        return self.pointwise(self.depthwise(x))


def plain(i: int, o: int, k: int, bias: bool = True) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2, bias=bias)


class Unit(nn.Module):
    """The slopes are there, run or not."""

    def __init__(self, make: Any, i: int, o: int, k: int, act: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.runs = act
        self.cnn = make(i, o, k, not norm)
        self.bn = nn.BatchNorm2d(o) if norm else nn.Identity()
        self.act = nn.PReLU(o)
        nn.init.uniform_(self.act.weight, 0, 0.5)
        if norm:
            nn.init.uniform_(self.bn.running_mean, -0.2, 0.2)
            nn.init.uniform_(self.bn.running_var, 0.5, 2)

    def forward(self, x: Any) -> Any:
        x = self.bn(self.cnn(x))
        return self.act(x) if self.runs else x


class Block(nn.Module):
    def __init__(self, make: Any, c: int) -> None:
        super().__init__()
        self.block1, self.block2 = Unit(make, c, c, 3), Unit(make, c, c, 3, act=False)

    def forward(self, x: Any) -> Any:
        return x + self.block2(self.block1(x))


class Up(nn.Module):
    def __init__(self, make: Any, c: int) -> None:
        super().__init__()
        self.conv, self.ps, self.act = make(c, 4 * c, 3), nn.PixelShuffle(2), nn.PReLU(c)

    def forward(self, x: Any) -> Any:
        return self.act(self.ps(self.conv(x)))


class Generator(nn.Module):
    def __init__(self, swift: bool, c: int, n: int, ups: int) -> None:
        super().__init__()
        make = Separable if swift else plain
        self.initial = Unit(make, 3, c, 9, norm=False)
        blocks, ends = nn.Sequential(*[Block(make, c) for _ in range(n)]), nn.Sequential(*[Up(make, c) for _ in range(ups)])
        setattr(self, "residual" if swift else "residuals", blocks)
        self.convblock = Unit(make, c, c, 3, act=False)
        setattr(self, "upsampler" if swift else "upsamples", ends)
        setattr(self, "final_conv" if swift else "final", make(c, 3, 9))
        self.parts = [blocks, ends, make]
        self.end = [getattr(self, "final_conv" if swift else "final")]

    def forward(self, x: Any) -> Any:
        first = self.initial(x)
        y = self.parts[1](self.convblock(self.parts[0](first)) + first)
        return torch.tanh(self.end[0](y))


@pytest.mark.parametrize(("c", "n", "ups"), [(16, 3, 2), (12, 11, 1)])
def test_swift_srgan(c, n, ups):
    net = seeded(Generator, True, c, n, ups, spread=2.0)
    matches(net, arch=swift_srgan, run=lambda x: (net(x) + 1) / 2)


@pytest.mark.parametrize(("c", "n", "ups"), [(16, 3, 2), (12, 11, 1)])
def test_srgan_of_blocks(c, n, ups):
    net = seeded(Generator, False, c, n, ups, spread=2.0)
    matches(net, arch=swift_srgan, run=lambda x: (net(x) + 1) / 2)
    matches(net, 1, arch=swift_srgan, run=lambda x: (net(2 * x - 1) + 1) / 2)


def test_variants_and_damage():
    tensors = tensors_of(seeded(Generator, True, 8, 2, 1))
    refused({**tensors, "residual.1.gate.weight": tensors["final_conv.pointwise.weight"]}, "gate")
    refused({n: t for n, t in tensors.items() if n != "initial.cnn.pointwise.weight"}, "initial.cnn")
