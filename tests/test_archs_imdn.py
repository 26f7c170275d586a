"""IMDN and its variants against modules of the same structure, and the published weights on a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch_check import fed, in_numpy, matches, refused, seeded, tensors_of, torch

from fastsr import archs
from fastsr.archs import imdn
from fastsr.archs.choose import psnr, resample

nn = torch.nn


def conv(i: int, o: int, k: int = 3, s: int = 1) -> Any:
    return nn.Conv2d(i, o, k, s, k // 2)


class Contrast(nn.Module):
    def __init__(self, c: int, r: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(conv(c, c // r, 1), nn.ReLU(), conv(c // r, c, 1), nn.Sigmoid())

    def forward(self, x: Any) -> Any:
        return x * self.conv_du(x.std((2, 3), unbiased=False, keepdim=True) + x.mean((2, 3), keepdim=True))


class Block(nn.Module):
    def __init__(self, c: int, attention: int = 4) -> None:
        super().__init__()
        self.d = d = c // 4
        self.c1, self.c2, self.c3, self.c4 = conv(c, c), conv(c - d, c), conv(c - d, c), conv(c - d, d)
        self.c5 = conv(4 * d, c, 1)
        self.cca = Contrast(4 * d, attention) if attention else nn.Identity()

    def forward(self, x: Any) -> Any:
        parts, y = [], x
        for layer in (self.c1, self.c2, self.c3):
            part, y = nn.functional.leaky_relu(layer(y), 0.05).split([self.d, layer.out_channels - self.d], 1)
            parts.append(part)
        return x + self.c5(self.cca(torch.cat([*parts, self.c4(y)], 1)))


class Imdn(nn.Module):
    """strided: IMDN_AS."""

    def __init__(self, c: int, n: int, scale: int, colours: int = 3, strided: bool = False) -> None:
        super().__init__()
        self.fea_conv = nn.Sequential(conv(colours, c, s=2), nn.LeakyReLU(0.05), conv(c, c, s=2)) if strided else conv(colours, c)
        self.n = n
        for k in range(n):
            setattr(self, f"IMDB{k + 1}", Block(c, 16 if c == 64 else 4))
        self.c = nn.Sequential(conv(c * n, c, 1), nn.LeakyReLU(0.05))
        self.LR_conv = conv(c, c)
        self.upsampler = nn.Sequential(conv(c, colours * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        x = first = self.fea_conv(x)
        outs = []
        for k in range(self.n):
            x = getattr(self, f"IMDB{k + 1}")(x)
            outs.append(x)
        return self.upsampler(self.LR_conv(self.c(torch.cat(outs, 1))) + first)


class KairBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.d = d = c // 4
        self.conv1, self.conv2, self.conv3 = (nn.Sequential(conv(i, c), nn.LeakyReLU(0.05)) for i in (c, c - d, c - d))
        self.conv4, self.conv1x1 = conv(c - d, d), conv(4 * d, c, 1)

    def forward(self, x: Any) -> Any:
        parts, y = [], x
        for layer in (self.conv1, self.conv2, self.conv3):
            part, y = _cut(layer(y), self.d)
            parts.append(part)
        return x + self.conv1x1(torch.cat([*parts, self.conv4(y)], 1))


def _cut(y: Any, d: int) -> Any:
    return y.split([d, y.shape[1] - d], 1)


class Shortcut(nn.Module):
    def __init__(self, sub: Any) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: Any) -> Any:
        return x + self.sub(x)


class Kair(nn.Module):
    """KAIR's; plain: IMDN_RTC, with c1 to c5 without attention and a 1x1 convolution after the blocks."""

    def __init__(self, c: int, n: int, scale: int, plain: bool = False) -> None:
        super().__init__()
        blocks = [Block(c, 0) if plain else KairBlock(c) for _ in range(n)]
        self.model = nn.Sequential(
            conv(3, c), Shortcut(nn.Sequential(*blocks, conv(c, c, 1 if plain else 3))), conv(c, 3 * scale**2), nn.PixelShuffle(scale)
        )

    def forward(self, x: Any) -> Any:
        return self.model(x)


class DeepBlock(nn.Module):
    """Of IMDN_RTE."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.d = d = c // 4
        r = c - d
        self.c1, self.c2, self.c3, self.c4 = conv(c, c), conv(r, c), conv(r, c), conv(r, r)
        self.c5, self.c6, self.c7 = conv(r - d, r - d), conv(d, d), conv(6 * d, c, 1)

    def forward(self, x: Any) -> Any:
        parts, y = [], x
        for layer in (self.c1, self.c2, self.c3, self.c4, self.c5):
            part, y = _cut(torch.relu(layer(y)), self.d)
            parts.append(part)
        return x + self.c7(torch.cat([*parts, torch.relu(self.c6(y))], 1))


class Rte(nn.Module):
    def __init__(self, c: int, scale: int) -> None:
        super().__init__()
        self.fea_conv = nn.Sequential(conv(3, c), nn.ReLU(), nn.Conv2d(c, c, 3, 2, 1, bias=False))
        for k in range(6):
            setattr(self, f"block{k + 1}", DeepBlock(c))
        self.LR_conv = nn.Conv2d(c, c, 1, bias=False)
        self.upsampler = nn.Sequential(conv(c, 3 * (2 * scale) ** 2), nn.PixelShuffle(2 * scale))

    def forward(self, x: Any) -> Any:
        x = first = self.fea_conv(x)
        for k in range(6):
            x = getattr(self, f"block{k + 1}")(x)
        return self.upsampler(self.LR_conv(x) + first)


@pytest.mark.parametrize(("c", "n", "scale", "colours"), [(16, 6, 2, 3), (24, 3, 3, 3), (32, 2, 4, 3), (12, 11, 2, 1)])
def test_imdn(c, n, scale, colours):
    matches(seeded(Imdn, c, n, scale, colours), arch=imdn, channels=colours)


def test_imdn_for_any_scale():
    net = seeded(Imdn, 16, 6, 4, strided=True)
    graph = matches(net, arch=imdn, size=(16, 20), stem="IMDN_AS_x3", scale=3)
    assert graph.feed.pre_scale == 3


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("plain", [True, False])
def test_rtc_and_kair(scale, plain):
    matches(seeded(Kair, 12, 11, scale, plain), arch=imdn)


def test_rte():
    matches(seeded(Rte, 20, 2), arch=imdn, size=(14, 18))


def test_damaged():
    tensors = tensors_of(seeded(Imdn, 16, 6, 2))
    refused({n: t for n, t in tensors.items() if n != "IMDB3.c4.weight"}, "IMDN")
    refused({**tensors, "IMDB3.c2.weight": np.zeros((16, 30, 3, 3), np.float32)}, "IMDN")


def test_published_weights(shared: Path):
    """The published x2 weights on a crop of Set5: as PyTorch computes them, and far better than bicubic interpolation."""
    path = shared / "models" / "torch" / "IMDN_x2.pth"
    state = {k.removeprefix("module."): v for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}
    net = Imdn(64, 6, 2)
    net.load_state_dict(state)
    graph = archs.graph_of({k: v.numpy() for k, v in state.items()}, path)
    assert graph.meta["architecture"] == "IMDN"
    assert graph.meta["scale"] == 2
    file = shared / "images" / "Set5" / "butterfly.png"
    whole = np.asarray(Image.open(file).convert("RGB").crop((60, 60, 156, 156)), np.float64).transpose(2, 0, 1)[None] / 255
    small = np.clip(np.round(resample(whole, 0.5) * 255) / 255, 0, 1).astype(np.float32)
    y = fed(graph, small, lambda x: in_numpy(graph, x))
    with torch.no_grad():
        want = net.eval()(torch.from_numpy(small)).numpy()
    assert np.abs(y - want).max() < 1e-4
    assert psnr(np.clip(y, 0, 1), whole) > psnr(np.clip(resample(small, 2), 0, 1), whole) + 3
