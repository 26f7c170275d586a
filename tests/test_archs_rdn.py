"""RDN in the spellings of its well-known implementations, against modules of the same structure."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr import archs
from fastsr.archs import rdn
from fastsr.archs.weights import Weights

nn = torch.nn


def conv(i: int, o: int, k: int = 3, bias: bool = True) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2, bias=bias)


class Dense(nn.Module):
    """wrapped: the convolution is the first of a sequence with its ReLU."""

    def __init__(self, i: int, g: int, name: str, wrapped: bool, bias: bool = True) -> None:
        super().__init__()
        layer = conv(i, g, bias=bias)
        setattr(self, name, nn.Sequential(layer, nn.ReLU()) if wrapped else layer)
        self.name = name

    def forward(self, x: Any) -> Any:
        return torch.cat([x, torch.relu(getattr(self, self.name)(x))], 1)


class Rdb(nn.Module):
    def __init__(self, i: int, g: int, n: int, layers: str, last: str, inner: tuple[str, bool], out: int = 0, bias: bool = True) -> None:
        super().__init__()
        setattr(self, layers, nn.Sequential(*[Dense(i + k * g, g, *inner, bias) for k in range(n)]))
        setattr(self, last, conv(i + n * g, out or i, 1, bias))
        self.names = layers, last

    def forward(self, x: Any) -> Any:
        layers, last = (getattr(self, n) for n in self.names)
        return x + last(layers(x))


def fuse(net: Any, first: Any, second: Any, blocks: Any, gff: Any, x: Any) -> Any:
    first_out = first(x)
    y, outs = second(first_out), []
    for block in blocks:
        y = block(y)
        outs.append(y)
    return gff(torch.cat(outs, 1)) + first_out


def ups(c: int, g: int, scale: int) -> list[Any]:
    steps = [2, 2] if scale == 4 else [scale]
    return [u for k, s in enumerate(steps) for u in (conv(g if k else c, g * s * s), nn.PixelShuffle(s))]


class Yjn(nn.Module):
    def __init__(self, scale: int, colours: int, c: int, g: int, n: int, layers: int) -> None:
        super().__init__()
        self.sfe1, self.sfe2 = conv(colours, c), conv(c, c)
        self.rdbs = nn.ModuleList([Rdb(g if k else c, g, layers, "layers", "lff", ("conv", False), g) for k in range(n)])
        self.gff = nn.Sequential(conv(g * n, c, 1), conv(c, c))
        self.upscale = nn.Sequential(*ups(c, c, scale))
        self.output = conv(c, colours)

    def forward(self, x: Any) -> Any:
        return self.output(self.upscale(fuse(self, self.sfe1, self.sfe2, self.rdbs, self.gff, x)))


class Edsr(nn.Module):
    def __init__(self, scale: int, colours: int, c: int, g: int, n: int, layers: int) -> None:
        super().__init__()
        self.SFENet1, self.SFENet2 = conv(colours, c), conv(c, c)
        self.RDBs = nn.ModuleList([Rdb(c, g, layers, "convs", "LFF", ("conv", True)) for k in range(n)])
        self.GFF = nn.Sequential(conv(c * n, c, 1), conv(c, c))
        self.UPNet = nn.Sequential(*ups(c, g, scale), conv(g, colours))

    def forward(self, x: Any) -> Any:
        return self.UPNet(fuse(self, self.SFENet1, self.SFENet2, self.RDBs, self.GFF, x))


class Up(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(conv(c, c * 4), nn.PixelShuffle(2))

    def forward(self, x: Any) -> Any:
        return self.upsample_block(x)


class Lorna(nn.Module):
    def __init__(self, scale: int, colours: int, c: int, g: int, n: int, layers: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(colours, c), conv(c, c)
        self.trunk = nn.Sequential(*[Rdb(c, g, layers, "rdb", "local_feature_fusion", ("rb", True)) for k in range(n)])
        self.global_feature_fusion = nn.Sequential(conv(c * n, c, 1), conv(c, c))
        self.upsampling = nn.Sequential(*[Up(c) for _ in range(scale // 2)])
        self.conv3 = conv(c, colours)

    def forward(self, x: Any) -> Any:
        return self.conv3(self.upsampling(fuse(self, self.conv1, self.conv2, self.trunk, self.global_feature_fusion, x)))


class Li(nn.Module):
    def __init__(self, scale: int, colours: int, c: int, g: int, n: int, layers: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(colours, c), conv(c, c)
        for k in range(n):
            setattr(self, f"RDB{k + 1}", Rdb(c, g, layers, "dense_layers", "conv_1x1", ("conv", False), bias=False))
        self.GFF_1x1, self.GFF_3x3 = conv(c * n, c, 1), conv(c, c)
        self.conv_up, self.conv3 = conv(c, c * scale**2), conv(c, colours)
        self.n, self.shuffle = n, nn.PixelShuffle(scale)

    def forward(self, x: Any) -> Any:
        blocks = [getattr(self, f"RDB{k + 1}") for k in range(self.n)]
        return self.conv3(self.shuffle(self.conv_up(fuse(self, self.conv1, self.conv2, blocks, lambda y: self.GFF_3x3(self.GFF_1x1(y)), x))))


@pytest.mark.parametrize("make", [Yjn, Edsr, Lorna, Li])
@pytest.mark.parametrize(("scale", "colours", "c", "g", "n", "layers"), [(2, 3, 16, 8, 3, 4), (4, 1, 8, 8, 2, 11), (2, 3, 8, 12, 12, 1)])
def test_rdn(make, scale, colours, c, g, n, layers):
    net = seeded(make, scale, colours, c, c if make is Yjn else g, n, layers)
    matches(net, 1 if make is Edsr else 0, arch=rdn, channels=colours, readings=2)
    matches(net, 0 if make is Edsr else 1, arch=rdn, channels=colours, run=lambda x: net(x * 255) / 255)


def test_scale_3():
    matches(seeded(Edsr, 3, 3, 8, 4, 2, 3), 1, arch=rdn)
    matches(seeded(Yjn, 3, 3, 8, 8, 2, 3), arch=rdn)


def test_unknown_names_in_order():
    tensors = tensors_of(seeded(Yjn, 2, 3, 8, 8, 2, 3))
    w = Weights({f"layer{k // 2}.{n.rpartition('.')[2]}": t for k, (n, t) in enumerate(tensors.items())})
    assert rdn.detect(w)
    assert len(rdn.build(w)) == 2


def test_damaged():
    tensors = tensors_of(seeded(Yjn, 2, 3, 8, 8, 2, 3))
    assert next(a for a in archs.ARCHS if a.detect(Weights(tensors))) is rdn
    for name in ("rdbs.1.layers.1.conv.weight", "gff.0.weight", "upscale.0.weight", "sfe2.weight"):
        refused({n: t for n, t in tensors.items() if n != name}, "architecture fastsr does not know")
