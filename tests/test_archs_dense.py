"""DBPN, MSRN and SRDenseNet against modules of the same structure."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import Balanced, matches, refused, seeded, tensors_of, torch

from fastsr.archs import dbpn, msrn, srdensenet

nn = torch.nn
F = nn.functional


def conv(i: int, o: int, k: int = 3) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2)


class Act(nn.Module):
    """A convolution named conv or deconv, and one slope."""

    def __init__(self, layer: Any, act: bool = True) -> None:
        super().__init__()
        self.name = "deconv" if isinstance(layer, nn.ConvTranspose2d) else "conv"
        setattr(self, self.name, layer)
        self.act = nn.PReLU() if act else nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.act(getattr(self, self.name)(x))


def step(i: int, o: int, scale: int, up: bool) -> Any:
    return (nn.ConvTranspose2d if up else nn.Conv2d)(i, o, scale + 4, scale, 2)


class Projection(nn.Module):
    """many: of how many values it reads, by a convolution when more than one."""

    def __init__(self, c: int, scale: int, up: bool, many: int) -> None:
        super().__init__()
        self.prefix = "up" if up else "down"
        self.conv = Act(conv(c * many, c, 1)) if many > 1 else nn.Identity()
        for k in (1, 2, 3):
            setattr(self, f"{self.prefix}_conv{k}", Act(step(c, c, scale, up == (k != 2))))

    def forward(self, x: Any) -> Any:
        a, b, c = (getattr(self, f"{self.prefix}_conv{k}") for k in (1, 2, 3))
        x = self.conv(x)
        first = a(x)
        return c(b(first) - x) + first


class Dbpn(nn.Module):
    def __init__(self, c: int, stages: int, scale: int, colours: int = 3) -> None:
        super().__init__()
        self.feat0, self.feat1 = Act(conv(colours, 2 * c)), Act(conv(2 * c, c, 1))
        self.stages = stages
        for k in range(1, stages + 1):
            setattr(self, f"up{k}", Projection(c, scale, True, max(k - 1, 1)))
            if k < stages:
                setattr(self, f"down{k}", Projection(c, scale, False, k))
        self.output_conv = Act(conv(stages * c, colours), False)

    def forward(self, x: Any) -> Any:
        low = self.feat1(self.feat0(x))
        high = None
        for k in range(1, self.stages + 1):
            h = getattr(self, f"up{k}")(low)
            high = h if high is None else torch.cat([h, high], 1)
            if k < self.stages:
                new = getattr(self, f"down{k}")(high)
                low = new if k == 1 else torch.cat([new, low], 1)
        return self.output_conv(high)


class Dense(nn.Module):
    def __init__(self, i: int, c: int, scale: int, up: bool, bottleneck: bool) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(nn.Conv2d(i, c, 1), nn.PReLU(c)) if bottleneck else None
        inner = c if bottleneck else i
        self.conv_1 = nn.Sequential(step(inner, c, scale, up), nn.PReLU(c))
        self.conv_2 = nn.Sequential(step(c, inner, scale, not up), nn.PReLU(inner))
        self.conv_3 = nn.Sequential(step(inner, c, scale, up), nn.PReLU(c))

    def forward(self, x: Any) -> Any:
        x = x if self.bottleneck is None else self.bottleneck(x)
        first = self.conv_1(x)
        return first + self.conv_3(self.conv_2(first) - x)


class Ddbpn(nn.Module):
    def __init__(self, n: int, c: int, depth: int, scale: int) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for layer, sign in ((self.sub_mean, -255), (self.add_mean, 255)):
            layer.weight.data = torch.eye(3).view(3, 3, 1, 1)
            layer.bias.data = sign * torch.tensor([0.4488, 0.4371, 0.4040])
        self.initial = nn.Sequential(conv(3, n), nn.PReLU(n), conv(n, c, 1), nn.PReLU(c))
        self.upmodules = nn.ModuleList([Dense(c * max(k, 1), c, scale, True, k > 1) for k in range(depth)])
        self.downmodules = nn.ModuleList([Dense(c * (k + 1), c, scale, False, k != 0) for k in range(depth - 1)])
        self.reconstruction = nn.Sequential(conv(depth * c, 3))

    def forward(self, x: Any) -> Any:
        x = self.initial(self.sub_mean(x))
        highs, lows = [], []
        for k, up in enumerate(self.upmodules):
            highs.append(up(torch.cat(lows, 1) if k else x))
            if k < len(self.downmodules):
                lows.append(self.downmodules[k](torch.cat(highs, 1)))
        return self.add_mean(self.reconstruction(torch.cat(highs, 1)))


@pytest.mark.parametrize(("c", "stages", "scale"), [(8, 7, 4), (6, 3, 2), (4, 11, 2), (4, 2, 8)])
def test_dbpn(c, stages, scale):
    matches(seeded(Dbpn, c, stages, scale), arch=dbpn, size=(8, 10), readings=2)


def test_dbpn_added_to_the_interpolated_picture():
    net = seeded(Dbpn, 6, 4, 2)
    run = lambda x: net(x) + F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)  # noqa: E731
    matches(net, 1, arch=dbpn, size=(8, 10), run=run)


@pytest.mark.parametrize(("n", "c", "depth", "scale"), [(12, 6, 6, 2), (8, 4, 3, 4), (8, 4, 2, 8)])
def test_ddbpn(n, c, depth, scale):
    net = seeded(Ddbpn, n, c, depth, scale)
    matches(net, arch=dbpn, size=(8, 10), run=lambda x: net(x * 255) / 255, readings=1)


class Msrb(nn.Module):
    def __init__(self, c: int, balanced: bool) -> None:
        super().__init__()
        self.conv_3_1, self.conv_3_2 = conv(c, c), conv(2 * c, 2 * c)
        self.conv_5_1, self.conv_5_2 = conv(c, c, 5), conv(2 * c, 2 * c, 5)
        self.confusion = conv(4 * c, c, 1)
        self.attention = Balanced(c, 2) if balanced else nn.Identity()

    def forward(self, x: Any) -> Any:
        y = torch.cat([torch.relu(self.conv_3_1(x)), torch.relu(self.conv_5_1(x))], 1)
        return x + self.attention(self.confusion(torch.cat([torch.relu(self.conv_3_2(y)), torch.relu(self.conv_5_2(y))], 1)))


class Msrn(nn.Module):
    def __init__(self, c: int, n: int, scale: int, top: float, balanced: bool = False) -> None:
        """balanced: super-image's, which does not run its mean shifts either."""
        super().__init__()
        self.balanced = balanced
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for layer, sign in ((self.sub_mean, -top), (self.add_mean, top)):
            layer.weight.data = torch.eye(3).view(3, 3, 1, 1)
            layer.bias.data = sign * torch.tensor([0.4488, 0.4371, 0.4040])
        self.head, self.body = nn.Sequential(conv(3, c)), nn.Sequential(*[Msrb(c, balanced) for _ in range(n)])
        ups = [u for s in ((2, 2) if scale == 4 else (scale,)) for u in (conv(c, c * s * s), nn.PixelShuffle(s))]
        self.tail = nn.Sequential(conv(c * (n + 1), c, 1), conv(c, c), nn.Sequential(*ups), conv(c, 3))

    def forward(self, x: Any) -> Any:
        x = first = self.head(x if self.balanced else self.sub_mean(x))
        outs = []
        for block in self.body:
            x = block(x)
            outs.append(x)
        x = self.tail(torch.cat([*outs, first], 1))
        return x if self.balanced else self.add_mean(x)


@pytest.mark.parametrize(("c", "n", "scale", "top"), [(8, 3, 2, 255), (6, 11, 3, 1), (6, 2, 4, 255)])
def test_msrn(c, n, scale, top):
    net = seeded(Msrn, c, n, scale, top)
    matches(net, arch=msrn, run=lambda x: net(x * top) / top, readings=2)


def test_msrn_of_super_image():
    matches(seeded(Msrn, 8, 3, 2, 255, True), 1, arch=msrn)


class Layer(nn.Module):
    def __init__(self, i: int, o: int, joins: bool) -> None:
        super().__init__()
        self.conv, self.joins = conv(i, o), joins

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.conv(x))
        return torch.cat([x, y], 1) if self.joins else y


class Block(nn.Module):
    def __init__(self, i: int, g: int, n: int) -> None:
        super().__init__()
        self.block = nn.Sequential(Layer(i, g, False), *[Layer(g * (k + 1), g, True) for k in range(n - 1)])

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.block(x)], 1)


class SrDenseNet(nn.Module):
    def __init__(self, g: int, blocks: int, layers: int, ups: int, colours: int = 1) -> None:
        super().__init__()
        c = g * layers
        self.conv = Layer(colours, c, False)
        self.dense_blocks = nn.Sequential(*[Block(c * (k + 1), g, layers) for k in range(blocks)])
        self.bottleneck = nn.Sequential(conv(c * (blocks + 1), 16, 1), nn.ReLU())
        self.deconv = nn.Sequential(*[u for _ in range(ups) for u in (nn.ConvTranspose2d(16, 16, 3, 2, 1, 1), nn.ReLU())])
        self.reconstruction = conv(16, colours)

    def forward(self, x: Any) -> Any:
        return self.reconstruction(self.deconv(self.bottleneck(self.dense_blocks(self.conv(x)))))


@pytest.mark.parametrize(("g", "blocks", "layers", "ups", "colours"), [(4, 3, 3, 2, 1), (3, 11, 2, 1, 3), (2, 2, 11, 2, 1)])
def test_srdensenet(g, blocks, layers, ups, colours):
    matches(seeded(SrDenseNet, g, blocks, layers, ups, colours), arch=srdensenet, channels=colours, scale=2**ups)


def test_damaged():
    for net, names in (
        (seeded(Dbpn, 6, 3, 2), ("down2.conv.conv.weight", "up2.up_conv2.conv.weight", "feat1.act.weight")),
        (seeded(Msrn, 8, 3, 2, 255), ("body.1.conv_5_1.weight", "tail.1.weight")),
        (seeded(SrDenseNet, 4, 3, 3, 2), ("dense_blocks.1.block.0.conv.weight", "bottleneck.0.weight")),
    ):
        tensors = tensors_of(net)
        for name in names:
            refused({n: t for n, t in tensors.items() if n != name}, "architecture fastsr does not know")
