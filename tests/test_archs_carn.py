"""CARN and CARN-M against modules of the same structure, for one and for several scales."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import Balanced, matches, refused, seeded, tensors_of, torch

from fastsr.archs import carn

nn = torch.nn


class Shift(nn.Module):
    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)
        self.shifter.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.shifter.bias.data = sign * torch.tensor([0.4488, 0.4371, 0.4040])

    def forward(self, x: Any) -> Any:
        return self.shifter(x)


class Body(nn.Module):
    """A sequence named body; residual: added to the input before a last ReLU."""

    def __init__(self, *layers: Any, residual: bool = False) -> None:
        super().__init__()
        self.body, self.residual = nn.Sequential(*layers), residual

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        return torch.relu(y + x) if self.residual else y


def conv(i: int, o: int, k: int = 3, g: int = 1) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2, groups=g)


class Cascade(nn.Module):
    """shared: one block for all places (CARN-M)."""

    def __init__(self, c: int, make: Any, shared: bool) -> None:
        super().__init__()
        self.b1 = make()
        if not shared:
            self.b2, self.b3 = make(), make()
        for k in (1, 2, 3):
            setattr(self, f"c{k}", Body(conv(c * (k + 1), c, 1), nn.ReLU()))

    def forward(self, x: Any) -> Any:
        seen = x
        for k in (1, 2, 3):
            seen = torch.cat([seen, getattr(self, f"b{k}", self.b1)(x)], 1)
            x = getattr(self, f"c{k}")(seen)
        return x


class Up(nn.Module):
    def __init__(self, c: int, scale: int, many: bool, g: int, nearest: bool) -> None:
        super().__init__()
        for s in (2, 3, 4) if many else (scale,):
            layers = []
            for step in (2, 2) if s == 4 else (s,):
                if nearest:
                    layers += [nn.Upsample(scale_factor=step), conv(c, c, g=g), nn.ReLU()]
                else:
                    layers += [conv(c, c * step**2, g=g), nn.ReLU(), nn.PixelShuffle(step)]
            setattr(self, f"up{s}" if many else "up", Body(*layers))
        self.name = f"up{scale}" if many else "up"

    def forward(self, x: Any) -> Any:
        return getattr(self, self.name)(x)


class Carn(nn.Module):
    def __init__(self, c: int, scale: int, many: bool = True, g: int = 0, nearest: bool = False, balanced: bool = False) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = Shift(-1), Shift(1)
        self.entry = conv(3, c)

        def block() -> Any:
            if g:
                return Body(conv(c, c, g=g), nn.ReLU(), conv(c, c, g=g), nn.ReLU(), conv(c, c, 1), residual=True)
            return Body(conv(c, c), nn.ReLU(), conv(c, c), residual=True)

        self.cascade = [Cascade(c, block, bool(g)) for _ in range(3)]
        self.b1, self.b2, self.b3 = self.cascade
        for k in (1, 2, 3):
            join = Body(conv(c * (k + 1), c, 1), nn.ReLU())
            setattr(self, f"c{k}", nn.Sequential(join, Balanced(c)) if balanced else join)
        self.upsample = Up(c, scale, many, max(g, 1), nearest)
        self.exit = conv(c, 3)

    def forward(self, x: Any) -> Any:
        x = seen = self.entry(self.sub_mean(x))
        for k in (1, 2, 3):
            seen = torch.cat([seen, self.cascade[k - 1](x)], 1)
            x = getattr(self, f"c{k}")(seen)
        return self.add_mean(self.exit(self.upsample(x)))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("many", [True, False])
def test_carn(scale, many):
    matches(seeded(Carn, 12, scale, many), arch=carn, stem=f"carn_x{scale}", readings=1)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("g", "nearest"), [(4, False), (2, True), (1, True)])
def test_carn_m(scale, g, nearest):
    matches(seeded(Carn, 16, scale, True, g, nearest), arch=carn, stem=f"{scale}x_carn_m")


def test_balanced_attention():
    matches(seeded(Carn, 12, 3, balanced=True), arch=carn, stem="pytorch_model_3x")


def test_without_a_scale_in_the_name_it_is_2():
    matches(seeded(Carn, 8, 2), arch=carn, stem="carn")


def test_scale_that_the_network_lacks():
    refused(seeded(Carn, 8, 2), "x2, x3, x4", stem="carn_x8")


def test_what_belongs_elsewhere_is_not_taken_for_groups():
    tensors = tensors_of(seeded(Carn, 8, 2))
    refused({**tensors, "c1.body.0.weight": tensors["c1.body.0.weight"][:, :8]}, "does not fit 16 channels", stem="carn_x2")
    refused({**tensors, "exit.weight": tensors["exit.weight"][:, :4]}, "exit.weight", stem="carn_x2")


def test_a_variant_is_not_taken_for_it():
    tensors = tensors_of(seeded(Carn, 8, 2))
    refused({**tensors, "b1.ba.weight": tensors["exit.weight"]}, "variant", stem="carn_x2")
