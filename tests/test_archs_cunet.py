"""CUNet, Real-CUGAN and waifu2x's chains against modules of the same structure, on pictures of even and odd sizes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import cunet

nn = torch.nn
F = nn.functional


def act(x: Any) -> Any:
    return F.leaky_relu(x, 0.1)


class Squeeze(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(self.conv2(torch.relu(self.conv1(x.mean((2, 3), keepdim=True)))))


class Convs(nn.Module):
    def __init__(self, i: int, m: int, o: int, squeeze: bool = True) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(i, m, 3), nn.LeakyReLU(0.1), nn.Conv2d(m, o, 3), nn.LeakyReLU(0.1))
        self.seblock = Squeeze(o) if squeeze else None

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        return x if self.seblock is None else self.seblock(x)


class Unet1(nn.Module):
    def __init__(self, i: int, o: int, by: int) -> None:
        super().__init__()
        self.conv1, self.conv1_down = Convs(i, 4, 8, False), nn.Conv2d(8, 8, 2, 2)
        self.conv2, self.conv2_up, self.conv3 = Convs(8, 12, 8), nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, 8, 3)
        if by == 1:
            self.conv_bottom = nn.Conv2d(8, o, 3)
        else:
            self.conv_bottom = nn.ConvTranspose2d(8, o, 4, 2, 3) if by == 2 else nn.ConvTranspose2d(8, o, 5, 3, 2)

    def forward(self, x: Any) -> Any:
        x1 = self.conv1(x)
        x2 = act(self.conv2_up(self.conv2(act(self.conv1_down(x1)))))
        return self.conv_bottom(act(self.conv3(F.pad(x1, (-4,) * 4) + x2)))


class Unet2(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv1, self.conv1_down = Convs(i, 4, 8, False), nn.Conv2d(8, 8, 2, 2)
        self.conv2, self.conv2_down = Convs(8, 8, 12), nn.Conv2d(12, 12, 2, 2)
        self.conv3, self.conv3_up = Convs(12, 16, 12), nn.ConvTranspose2d(12, 12, 2, 2)
        self.conv4, self.conv4_up = Convs(12, 8, 8), nn.ConvTranspose2d(8, 8, 2, 2)
        self.conv5, self.conv_bottom = nn.Conv2d(8, 8, 3), nn.Conv2d(8, o, 3)

    def forward(self, x: Any) -> Any:
        x1 = self.conv1(x)
        x2 = self.conv2(act(self.conv1_down(x1)))
        x3 = act(self.conv3_up(self.conv3(act(self.conv2_down(x2)))))
        x4 = act(self.conv4_up(self.conv4(F.pad(x2, (-4,) * 4) + x3)))
        return self.conv_bottom(act(self.conv5(F.pad(x1, (-16,) * 4) + x4)))


class Cunet(nn.Module):
    """scale 1 and clip: waifu2x; scale 4 and fast (which is x2): with a last convolution that all is shuffled of."""

    def __init__(self, scale: int, clip: bool = False, fast: bool = False, pro: bool = False) -> None:
        super().__init__()
        self.scale, self.clip, self.fast, self.pro_model = scale, clip, fast, pro
        self.final = scale == 4 or fast
        by = 2 if self.final else scale
        self.unet1, self.unet2 = Unet1(12 if fast else 3, 8 if self.final else 3, by), Unet2(8 if self.final else 3, 8 if self.final else 3)
        if self.final:
            self.conv_final = nn.Conv2d(8, 12, 3)
        if pro:
            self.register_buffer("pro", torch.zeros(1))
        self.lost, self.multiple = (38, 4) if fast else {1: (28, 4), 2: (18, 2), 3: (14, 4), 4: (19, 2)}[scale]

    def forward(self, x: Any) -> Any:
        if self.pro_model:
            x = x * 0.7 + 0.15
        h, w = x.shape[2:]
        down, right = (-n % self.multiple for n in (h, w))
        y = F.pad(x, (self.lost, self.lost + right, self.lost, self.lost + down), "reflect")
        y = self.unet1(F.pixel_unshuffle(y, 2) if self.fast else y)
        y = y.clamp(0, 1) if self.clip else y
        y = self.unet2(y) + F.pad(y, (-20,) * 4)
        if self.final:
            y = F.pixel_shuffle(F.pad(self.conv_final(y), (-1,) * 4), 2)
        y = y[:, :, : h * self.scale, : w * self.scale]
        if self.final:
            y = y + F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return (y - 0.15) / 0.7 if self.pro_model else y


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(24, 28), (23, 29), (26, 25)])
def test_real_cugan(scale, size):
    matches(seeded(Cunet, scale), arch=cunet, size=size, stem=f"up{scale}x-latest-denoise3x")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pro(scale):
    matches(seeded(Cunet, scale, pro=True), arch=cunet, size=(23, 26), readings=1)


def test_fast():
    matches(seeded(Cunet, 2, fast=True), arch=cunet, size=(44, 48), readings=1)
    matches(seeded(Cunet, 2, fast=True), arch=cunet, size=(45, 46))


@pytest.mark.parametrize("size", [(32, 40), (33, 35), (34, 38)])
def test_waifu2x(size):
    graph = matches(seeded(Cunet, 1, True, spread=2.0), arch=cunet, size=size, readings=1, scale=1)
    assert graph.meta["architecture"] == "CUNet"
    matches(seeded(Cunet, 2, True, spread=2.0), 1, arch=cunet, size=size)
    matches(seeded(Cunet, 2, True, spread=2.0), 0, arch=cunet, size=size, stem="noise1_scale2x")


class Chain(nn.Module):
    def __init__(self, up: bool, colours: int) -> None:
        super().__init__()
        widths = (colours, 16, 32, 64, 128, 128, 256) if up else (colours, 32, 32, 64, 64, 128, 128)
        layers = [layer for i, o in itertools.pairwise(widths) for layer in (nn.Conv2d(i, o, 3), nn.LeakyReLU(0.1))]
        self.net = nn.Sequential(*layers, nn.ConvTranspose2d(256, colours, 4, 2, 3) if up else nn.Conv2d(128, colours, 3))

    def forward(self, x: Any) -> Any:
        return self.net(F.pad(x, (7,) * 4, "replicate"))


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("colours", [3, 1])
def test_chains(up, colours):
    matches(seeded(Chain, up, colours), arch=cunet, channels=colours, scale=2 if up else 1)


def test_damaged():
    tensors = tensors_of(seeded(Cunet, 2, pro=True))
    for name in ("unet1.conv2.seblock.conv2.weight", "unet2.conv3_up.weight", "unet1.conv3.weight"):
        refused({n: t for n, t in tensors.items() if n != name}, "CUNet")
