"""RFDN, RLFN and BSRN against modules of the same structure."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import bsrn, rfdn

nn = torch.nn
F = nn.functional


def conv(i: int, o: int, k: int = 3) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2)


def act(x: Any) -> Any:
    return F.leaky_relu(x, 0.05)


class Esa(nn.Module):
    """full: RFDN's, with three convolutions on the small picture; RLFN has one."""

    def __init__(self, c: int, f: int, full: bool) -> None:
        super().__init__()
        self.conv1, self.conv_f = conv(c, f, 1), conv(f, f, 1)
        self.full = full
        if full:
            self.conv_max = conv(f, f)
        self.conv2, self.conv3 = nn.Conv2d(f, f, 3, 2, 0), conv(f, f)
        if full:
            self.conv3_ = conv(f, f)
        self.conv4 = conv(f, c, 1)

    def forward(self, x: Any) -> Any:
        first = self.conv1(x)
        y = F.max_pool2d(self.conv2(first), 7, 3)
        if self.full:
            y = self.conv3_(torch.relu(self.conv3(torch.relu(self.conv_max(y)))))
        else:
            y = self.conv3(y)
        y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(y + self.conv_f(first)))


class Rfdb(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        d = c // 2
        for k in (1, 2, 3):
            setattr(self, f"c{k}_d", conv(c, d, 1))
            setattr(self, f"c{k}_r", conv(c, c))
        self.c4, self.c5, self.esa = conv(c, d), conv(4 * d, c, 1), Esa(c, c // 4, True)

    def forward(self, x: Any) -> Any:
        parts = []
        for k in (1, 2, 3):
            parts.append(act(getattr(self, f"c{k}_d")(x)))
            x = act(getattr(self, f"c{k}_r")(x) + x)
        return self.esa(self.c5(torch.cat([*parts, act(self.c4(x))], 1)))


class Rfdn(nn.Module):
    def __init__(self, c: int, n: int, scale: int) -> None:
        super().__init__()
        self.fea_conv, self.n = conv(3, c), n
        for k in range(n):
            setattr(self, f"B{k + 1}", Rfdb(c))
        self.c = nn.Sequential(conv(c * n, c, 1), nn.LeakyReLU(0.05))
        self.LR_conv = conv(c, c)
        self.upsampler = nn.Sequential(conv(c, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        x = first = self.fea_conv(x)
        outs = []
        for k in range(self.n):
            x = getattr(self, f"B{k + 1}")(x)
            outs.append(x)
        return self.upsampler(self.LR_conv(self.c(torch.cat(outs, 1))) + first)


class Rlfb(nn.Module):
    def __init__(self, c: int, mid: int, f: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = conv(c, mid), conv(mid, mid), conv(mid, c)
        self.c5, self.esa = conv(c, c, 1), Esa(c, f, False)

    def forward(self, x: Any) -> Any:
        return self.esa(self.c5(act(self.c3_r(act(self.c2_r(act(self.c1_r(x)))))) + x))


class Rlfn(nn.Module):
    def __init__(self, c: int, mid: int, f: int, n: int, scale: int) -> None:
        super().__init__()
        self.conv_1, self.n = conv(3, c), n
        for k in range(n):
            setattr(self, f"block_{k + 1}", Rlfb(c, mid, f))
        self.conv_2 = conv(c, c)
        self.upsampler = nn.Sequential(conv(c, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        x = first = self.conv_1(x)
        for k in range(self.n):
            x = getattr(self, f"block_{k + 1}")(x)
        return self.upsampler(self.conv_2(x) + first)


@pytest.mark.parametrize(("c", "n", "scale"), [(12, 4, 4), (16, 11, 2), (20, 2, 3)])
@pytest.mark.parametrize("size", [(23, 31), (18, 40)])
def test_rfdn(c, n, scale, size):
    net = seeded(Rfdn, c, n, scale, spread=2.0)
    graph = matches(net, arch=rfdn, size=size, readings=2)
    assert graph.meta["architecture"] == "RFDN"


@pytest.mark.parametrize(("c", "mid", "f", "n", "scale"), [(14, 16, 8, 4, 4), (12, 12, 16, 6, 2)])
@pytest.mark.parametrize("size", [(23, 31), (18, 40)])
def test_rlfn(c, mid, f, n, scale, size):
    graph = matches(seeded(Rlfn, c, mid, f, n, scale, spread=2.0), arch=rfdn, size=size)
    assert graph.meta["architecture"] == "RLFN"


def test_range_of_255():
    net = seeded(Rlfn, 14, 16, 8, 4, 4)
    matches(net, 1, arch=rfdn, size=(20, 30), run=lambda x: net(x * 255) / 255)


class Separable(nn.Module):
    """kind: "u", one of 1x1 and one of each channel; "s", two of 1x1 before it; "d", that of each channel first."""

    def __init__(self, i: int, o: int, kind: str, stride: int = 1, pad: int = 1) -> None:
        super().__init__()
        self.kind = kind
        if kind == "s":
            self.pw1, self.pw2 = nn.Conv2d(i, max(i // 4, 2), 1, bias=False), nn.Conv2d(max(i // 4, 2), o, 1, bias=False)
        else:
            self.pw = nn.Conv2d(i, o, 1, bias=False)
        c = i if kind == "d" else o
        self.dw = nn.Conv2d(c, c, 3, stride, pad, groups=c)

    def forward(self, x: Any) -> Any:
        if self.kind == "d":
            return self.pw(self.dw(x))
        return self.dw(self.pw(x) if self.kind == "u" else self.pw2(self.pw1(x)))


class Contrast(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(conv(c, c // 4, 1), nn.ReLU(), conv(c // 4, c, 1), nn.Sigmoid())

    def forward(self, x: Any) -> Any:
        return x * self.conv_du(x.std((2, 3), unbiased=False, keepdim=True) + x.mean((2, 3), keepdim=True))


class SeparableEsa(nn.Module):
    def __init__(self, c: int, kind: str) -> None:
        super().__init__()
        f = c // 4
        self.conv1, self.conv_f, self.conv4 = conv(c, f, 1), conv(f, f, 1), conv(f, c, 1)
        self.conv2 = Separable(f, f, kind, 2, 0)
        self.conv_max, self.conv3, self.conv3_ = (Separable(f, f, kind) for _ in range(3))

    def forward(self, x: Any) -> Any:
        first = self.conv1(x)
        y = F.gelu(self.conv_max(F.max_pool2d(self.conv2(first), 7, 3)))
        y = self.conv3_(F.gelu(self.conv3(y)))
        y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(y + self.conv_f(first)))


class Esdb(nn.Module):
    def __init__(self, c: int, kind: str) -> None:
        super().__init__()
        for k in (1, 2, 3):
            setattr(self, f"c{k}_d", conv(c, c // 2, 1))
            setattr(self, f"c{k}_r", Separable(c, c, kind))
        self.c4, self.c5 = Separable(c, c // 2, kind), conv(c // 2 * 4, c, 1)
        self.esa, self.cca = SeparableEsa(c, kind), Contrast(c)

    def forward(self, x: Any) -> Any:
        parts, y = [], x
        for k in (1, 2, 3):
            parts.append(F.gelu(getattr(self, f"c{k}_d")(y)))
            y = F.gelu(getattr(self, f"c{k}_r")(y) + y)
        return x + self.cca(self.esa(self.c5(torch.cat([*parts, F.gelu(self.c4(y))], 1))))


class Up(nn.Module):
    def __init__(self, c: int, scale: int) -> None:
        super().__init__()
        self.upsampleOneStep = nn.Sequential(conv(c, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        return self.upsampleOneStep(x)


class Bsrn(nn.Module):
    def __init__(self, c: int, n: int, scale: int, kind: str) -> None:
        super().__init__()
        self.fea_conv, self.n = Separable(12, c, kind), n
        for k in range(n):
            setattr(self, f"B{k + 1}", Esdb(c, kind))
        self.c1, self.c2, self.upsampler = conv(c * n, c, 1), Separable(c, c, kind), Up(c, scale)

    def forward(self, x: Any) -> Any:
        x = first = self.fea_conv(torch.cat([x] * 4, 1))
        outs = []
        for k in range(self.n):
            x = getattr(self, f"B{k + 1}")(x)
            outs.append(x)
        return self.upsampler(self.c2(F.gelu(self.c1(torch.cat(outs, 1)))) + first)


@pytest.mark.parametrize("kind", ["u", "s", "d"])
@pytest.mark.parametrize(("c", "n", "scale"), [(16, 3, 4), (8, 11, 2)])
def test_bsrn(c, n, scale, kind):
    matches(seeded(Bsrn, c, n, scale, kind, spread=2.0), arch=bsrn, size=(20, 27), readings=2)


def test_damaged():
    tensors = tensors_of(seeded(Rfdn, 12, 2, 2))
    for name in ("B1.c4.weight", "B2.esa.conv2.weight", "c.0.weight", "upsampler.0.weight", "B1.c2_d.weight"):
        refused({n: t for n, t in tensors.items() if n != name}, "RFDN")
