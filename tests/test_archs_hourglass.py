"""The hourglass against a module written down again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import hourglass

nn = torch.nn
F = nn.functional


class Hourglass(nn.Module):
    def __init__(self, channels: int, width: int, narrow: int, maps: int, scale: int) -> None:
        super().__init__()
        middle: list[Any] = [nn.Conv2d(width, narrow, 1), nn.PReLU(narrow)]
        for _ in range(maps):
            middle += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow)]
        self.hourglass = nn.ModuleDict({
            "first_part": nn.Sequential(nn.Conv2d(channels, width, 5, padding=2), nn.PReLU(width)),
            "mid_part": nn.Sequential(*middle, nn.Conv2d(narrow, width, 1), nn.PReLU(width)),
            "last_part": nn.Conv2d(width, channels * scale**2, 1),
        })  # fmt: skip
        self.scale = scale

    def forward(self, x: Any) -> Any:
        first = self.hourglass["first_part"](x)
        *middle, slopes = self.hourglass["mid_part"]
        y = first
        for m in middle:
            y = m(y)
        missing = F.pixel_shuffle(self.hourglass["last_part"](slopes(first + y)), self.scale)
        return missing + x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


@pytest.mark.parametrize(("channels", "width", "narrow", "maps", "scale"), [(1, 9, 4, 1, 2), (1, 16, 5, 11, 3), (3, 8, 4, 2, 4)])
def test_hourglass(channels: int, width: int, narrow: int, maps: int, scale: int) -> None:
    matches(seeded(Hourglass, channels, width, narrow, maps, scale, spread=0.3), arch=hourglass, channels=channels)


def test_what_is_no_hourglass() -> None:
    tensors = tensors_of(seeded(Hourglass, 1, 8, 4, 2, 2))
    for part in ("first_part.0.bias", "mid_part.4.bias", "last_part.bias", "mid_part.4.weight", "mid_part.5.weight", "first_part.1.weight"):
        refused({n: t for n, t in tensors.items() if n != f"hourglass.{part}"})
    for gone in (("mid_part.4.", "mid_part.5."), ("mid_part.6.", "mid_part.7."), ("mid_part.",)):
        refused({n: t for n, t in tensors.items() if not n.startswith(tuple(f"hourglass.{part}" for part in gone))})
    refused(tensors | {"hourglass.more.weight": np.ones((2, 2), np.float32)}, "more")
    three = {"hourglass.last_part.weight": np.ones((3, 8, 1, 1), np.float32), "hourglass.last_part.bias": np.ones(3, np.float32)}
    refused(tensors | three, "shuffled")
