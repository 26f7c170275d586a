"""ECBSR against a module of the same structure as it is trained, and its plain form."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import ecbsr

nn = torch.nn
F = nn.functional

MASKS = {
    "sbx": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "sby": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    "lpl": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}


class Two(nn.Module):
    """A 1x1 convolution, whose bias is also outside the picture, and one of 3x3."""

    def __init__(self, i: int, o: int, mask: list[list[int]] | None) -> None:
        super().__init__()
        m = o if mask else 2 * o
        first = nn.Conv2d(i, m, 1)
        self.k0, self.b0 = first.weight, first.bias
        if mask:
            self.scale, self.bias = nn.Parameter(torch.randn(o, 1, 1, 1)), nn.Parameter(torch.randn(o))
            self.mask = nn.Parameter(torch.tensor(mask, dtype=torch.float32).expand(o, 1, 3, 3).clone(), requires_grad=False)
        else:
            second = nn.Conv2d(m, o, 3)
            self.k1, self.b1 = second.weight, second.bias
        self.edges = bool(mask)

    def forward(self, x: Any) -> Any:
        y = F.conv2d(F.pad(x, (1, 1, 1, 1)), self.k0, self.b0)
        return F.conv2d(y, self.scale * self.mask, self.bias, groups=y.shape[1]) if self.edges else F.conv2d(y, self.k1, self.b1)


class Ecb(nn.Module):
    def __init__(self, i: int, o: int, act: str, adds: bool, plain: bool) -> None:
        super().__init__()
        self.conv3x3, self.adds, self.plain = nn.Conv2d(i, o, 3, padding=1), adds and i == o, plain
        if not plain:
            self.conv1x1_3x3 = Two(i, o, None)
            for edge, mask in MASKS.items():
                setattr(self, f"conv1x1_{edge}", Two(i, o, mask))
        if act:
            self.act = nn.PReLU(o) if act == "prelu" else nn.ReLU()

    def forward(self, x: Any) -> Any:
        y = self.conv3x3(x)
        if not self.plain:
            y = y + sum(getattr(self, f"conv1x1_{name}")(x) for name in ("3x3", *MASKS))
        y = y + x if self.adds else y
        return self.act(y) if hasattr(self, "act") else y


class Ecbsr(nn.Module):
    def __init__(self, c: int, n: int, scale: int, act: str, adds: bool, plain: bool = False) -> None:
        super().__init__()
        blocks = [Ecb(1, c, act, adds, plain), *[Ecb(c, c, act, adds, plain) for _ in range(n)], Ecb(c, scale**2, "", adds, plain)]
        self.backbone, self.scale = nn.Sequential(*blocks), scale

    def forward(self, x: Any) -> Any:
        return F.pixel_shuffle(self.backbone(x) + x, self.scale)


@pytest.mark.parametrize(("c", "n", "scale", "act"), [(8, 4, 2, "prelu"), (6, 11, 3, "relu"), (16, 2, 4, "prelu")])
@pytest.mark.parametrize("adds", [False, True])
def test_ecbsr(c, n, scale, act, adds):
    net = seeded(Ecbsr, c, n, scale, act, adds, spread=0.3)
    matches(net, 1 if adds else 0, arch=ecbsr, channels=1, run=lambda x: net(x * 255) / 255, readings=4)
    matches(net, 3 if adds else 2, arch=ecbsr, channels=1)


@pytest.mark.parametrize("act", ["relu", "prelu"])
def test_plain(act):
    net = seeded(Ecbsr, 8, 3, 2, act, False, True)
    matches(net, 1, arch=ecbsr, channels=1, readings=2)


def test_damaged():
    tensors = tensors_of(seeded(Ecbsr, 8, 3, 2, "relu", False))
    for name in ("conv1x1_3x3.b1", "conv1x1_lpl.scale", "conv3x3.bias", "conv1x1_sbx.mask"):
        refused({n: t for n, t in tensors.items() if n != f"backbone.2.{name}"}, "ECBSR")
    refused({**tensors, "backbone.1.conv1x1_sby.k0": tensors["backbone.1.conv1x1_sby.k0"][:, :3]}, "ECBSR")
