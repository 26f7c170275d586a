"""LapSRN in the spellings of its well-known implementations, against modules of the same structure."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import lapsrn

nn = torch.nn


def conv(i: int, o: int, bias: bool = False) -> Any:
    return nn.Conv2d(i, o, 3, padding=1, bias=bias)


def double(i: int, o: int, bias: bool = False) -> Any:
    return nn.ConvTranspose2d(i, o, 4, 2, 1, bias=bias)


def act() -> Any:
    return nn.LeakyReLU(0.2)


class Block(nn.Module):
    def __init__(self, c: int, depth: int) -> None:
        super().__init__()
        self.cov_block = nn.Sequential(*[layer for _ in range(depth) for layer in (conv(c, c), act())], double(c, c), act())

    def forward(self, x: Any) -> Any:
        return self.cov_block(x)


class Twtygqyy(nn.Module):
    def __init__(self, c: int, depth: int, levels: int, colours: int = 1, wanted: int = 0) -> None:
        super().__init__()
        self.conv_input = conv(colours, c)
        for k in range(1, levels + 1):
            setattr(self, f"convt_I{k}", double(colours, colours))
            setattr(self, f"convt_R{k}", conv(c, colours))
            setattr(self, f"convt_F{k}", nn.Sequential(Block(c, depth)))
        self.wanted = wanted or levels

    def forward(self, x: Any) -> Any:
        f = nn.functional.leaky_relu(self.conv_input(x), 0.2)
        for k in range(1, self.wanted + 1):
            f = getattr(self, f"convt_F{k}")(f)
            x = getattr(self, f"convt_I{k}")(x) + getattr(self, f"convt_R{k}")(f)
        return x


class Layer(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cl = nn.Sequential(conv(c, c), act())

    def forward(self, x: Any) -> Any:
        return self.cl(x)


class Lorna(nn.Module):
    def __init__(self, c: int, depth: int, levels: int) -> None:
        super().__init__()
        self.conv1, self.levels = nn.Sequential(conv(1, c, True), act()), levels
        for k in range(levels):
            parts = nn.Sequential(*[Layer(c) for _ in range(depth)], double(c, c, True), act()), double(1, 1, True), conv(c, 1, True)
            for i, part in enumerate(parts):
                setattr(self, f"laplacian_pyramid_conv{3 * k + i + 1}", part)

    def forward(self, x: Any) -> Any:
        f = self.conv1(x)
        for k in range(self.levels):
            features, picture, residual = (getattr(self, f"laplacian_pyramid_conv{3 * k + i + 1}") for i in range(3))
            f = features(f)
            x = picture(x) + residual(f)
        return x


class Features(nn.Module):
    def __init__(self, i: int, c: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        for k in range(depth):
            setattr(self, f"conv{k}", conv(c if k else i, c, True))
        self.convt_F = double(c, c, True)

    def forward(self, x: Any) -> Any:
        for k in range(self.depth):
            x = nn.functional.leaky_relu(getattr(self, f"conv{k}")(x), 0.2)
        return nn.functional.leaky_relu(self.convt_F(x), 0.2)


class Image(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv_R, self.convt_I = conv(c, 1, True), double(1, 1, True)

    def forward(self, x: Any, f: Any) -> Any:
        return self.convt_I(x) + self.conv_R(f)


class Bupt(nn.Module):
    def __init__(self, c: int, depth: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        for k in range(1, levels + 1):
            setattr(self, f"FeatureExtraction{k}", Features(c if k > 1 else 1, c, depth))
        for k in range(1, levels + 1):
            setattr(self, f"ImageReconstruction{k}", Image(c))

    def forward(self, x: Any) -> Any:
        f = x
        for k in range(1, self.levels + 1):
            f = getattr(self, f"FeatureExtraction{k}")(f)
            x = getattr(self, f"ImageReconstruction{k}")(x, f)
        return x


@pytest.mark.parametrize("make", [Twtygqyy, Lorna, Bupt])
@pytest.mark.parametrize(("c", "depth", "levels"), [(16, 10, 2), (8, 3, 1), (8, 11, 3)])
def test_lapsrn(make, c, depth, levels):
    matches(seeded(make, c, depth, levels, spread=2.0), arch=lapsrn, channels=1, scale=2**levels)


@pytest.mark.parametrize(("stem", "wanted"), [("lapsrn_x2", 1), ("lapsrn_x4", 2), ("lapsrn_x8", 3), ("lapsrn_x3", 3)])
def test_the_level_of_the_name(stem, wanted):
    matches(seeded(Twtygqyy, 8, 2, 3, wanted=wanted), arch=lapsrn, channels=1, stem=stem, scale=2**wanted)


def test_colour():
    matches(seeded(Twtygqyy, 8, 2, 2, 3), arch=lapsrn)


def test_damaged():
    tensors = tensors_of(seeded(Twtygqyy, 8, 2, 2))
    for name in ("conv_input", "convt_I2", "convt_R1", "convt_F1.0.cov_block.4"):
        refused({n: t for n, t in tensors.items() if n != f"{name}.weight"}, "architecture fastsr does not know")
