"""A2N and AWSRN, networks that weight their branches, against modules of the same structure."""

from __future__ import annotations

from typing import Any

import pytest
from torch_check import matches, refused, seeded, tensors_of, torch

from fastsr.archs import a2n, awsrn
from fastsr.archs.weights import Weights

nn, F = torch.nn, torch.nn.functional
MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


def conv(i: int, o: int, k: int = 3, bias: bool = True) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2, bias=bias)


class Branch(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.k1, self.k2, self.k3, self.k4 = conv(c, c, bias=False), conv(c, c, 1), conv(c, c, bias=False), conv(c, c, bias=False)

    def forward(self, x: Any) -> Any:
        return self.k4(self.k3(x) * torch.sigmoid(self.k2(F.leaky_relu(self.k1(x), 0.2))))


class Two(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv_first, self.conv_last = conv(c, c, 1, False), conv(c, c, 1, False)
        self.ADM = nn.Sequential(nn.Linear(c, c // 4, bias=False), nn.ReLU(), nn.Linear(c // 4, 2, bias=False))
        nn.init.normal_(self.ADM[2].weight, 0, 60)
        self.attention, self.non_attention = Branch(c), conv(c, c, bias=False)

    def forward(self, x: Any) -> Any:
        y = F.leaky_relu(self.conv_first(x), 0.2)
        share = torch.softmax(self.ADM(y.mean((2, 3))) / 30, 1)[:, :, None, None, None]
        y = self.attention(y) * share[:, 0] + self.non_attention(y) * share[:, 1]
        return x + self.conv_last(F.leaky_relu(y, 0.2))


class Pixels(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = conv(c, c, 1)

    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(self.conv(x))


class A2n(nn.Module):
    def __init__(self, c: int, u: int, n: int, scale: int) -> None:
        super().__init__()
        self.conv_first, self.trunk_conv, self.conv_last = conv(3, c), conv(c, c), conv(u, 3)
        self.AAB_trunk = nn.Sequential(*[Two(c) for _ in range(n)])
        self.steps = (2, 2) if scale == 4 else (scale,)
        for k in range(1, len(self.steps) + 1):
            setattr(self, f"upconv{k}", conv(c if k == 1 else u, u))
            setattr(self, f"att{k}", Pixels(u))
            setattr(self, f"HRconv{k}", conv(u, u))

    def forward(self, x: Any) -> Any:
        y = self.conv_first(x)
        y = y + self.trunk_conv(self.AAB_trunk(y))
        for k, by in enumerate(self.steps, 1):
            y = getattr(self, f"upconv{k}")(F.interpolate(y, scale_factor=by))
            y = F.leaky_relu(getattr(self, f"HRconv{k}")(F.leaky_relu(getattr(self, f"att{k}")(y), 0.2)), 0.2)
        base = F.interpolate(x, scale_factor=y.shape[2] // x.shape[2], mode="bilinear", align_corners=False)
        return self.conv_last(y) + base


@pytest.mark.parametrize(("scale", "stem"), [(2, "a2n"), (3, "a2n_x3"), (4, "a2n")])
def test_a2n(scale, stem):
    matches(seeded(A2n, 16, 12, 2, scale, spread=2.0), arch=a2n, stem=stem, readings=1 if scale == 4 else 2)


def test_a2n_without_a_name():
    matches(seeded(A2n, 16, 12, 2, 3, spread=2.0), 1, arch=a2n, engine=False)


def test_the_scale_that_is_asked_for():
    tensors = tensors_of(seeded(A2n, 16, 12, 2, 2, spread=2.0))
    for scale in (2, 3):
        (graph,) = a2n.build(Weights(tensors, "a2n", scale=scale))
        assert graph.meta["scale"] == scale


class Factor(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Any) -> Any:
        return x * self.scale


class Unit(nn.Module):
    def __init__(self, c: int, wide: int, wn: Any) -> None:
        super().__init__()
        self.res_scale, self.x_scale = Factor(0.7), Factor(1.2)
        self.body = nn.Sequential(wn(conv(c, wide)), nn.ReLU(), wn(conv(wide, c)))

    def forward(self, x: Any) -> Any:
        return self.res_scale(self.body(x)) + self.x_scale(x)


class Fusion(nn.Module):
    def __init__(self, c: int, wide: int, n: int, wn: Any) -> None:
        super().__init__()
        self.lfl = nn.ModuleList(Unit(c, wide, wn) for _ in range(n))
        self.reduction = wn(conv(n * c, c))
        self.res_scale, self.x_scale = Factor(0.9), Factor(1.1)

    def forward(self, x: Any) -> Any:
        made, y = [], x
        for unit in self.lfl:
            y = unit(y)
            made.append(y)
        return self.res_scale(self.reduction(torch.cat(made, 1))) + self.x_scale(x)


class Tails(nn.Module):
    def __init__(self, c: int, scale: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.kernels, self.shuffle = kernels, nn.PixelShuffle(scale)
        for k in kernels:
            setattr(self, f"tail_k{k}", conv(c, 3 * scale**2, k))
            setattr(self, f"scale_k{k}", Factor(0.1 * k))

    def forward(self, x: Any) -> Any:
        return sum(self.shuffle(getattr(self, f"scale_k{k}")(getattr(self, f"tail_k{k}")(x))) for k in self.kernels)


class Awsrn(nn.Module):
    def __init__(self, c: int, n: int, units: int, scale: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(3, c))
        self.body = nn.Sequential(*[Fusion(c, 2 * c, units, lambda m: m) for _ in range(n)])
        self.tail = Tails(c, scale, kernels)
        self.skip = nn.Sequential(conv(3, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        x = (x - MEAN) * 2
        return (self.tail(self.body(self.head(x))) + self.skip(x)) / 2 + MEAN


@pytest.mark.parametrize(("n", "units", "scale", "kernels"), [(2, 3, 2, (3, 5, 7, 9)), (1, 2, 4, (3,))])
def test_awsrn(n, units, scale, kernels):
    matches(seeded(Awsrn, 12, n, units, scale, kernels), arch=awsrn, readings=3)


def test_variants_and_damage():
    tensors = tensors_of(seeded(A2n, 8, 8, 1, 2))
    refused({**tensors, "AAB_trunk.0.more.weight": tensors["conv_first.weight"]}, "more")
    refused({**tensors, "AAB_trunk.0.ADM.2.weight": tensors["AAB_trunk.0.ADM.0.weight"][:1]}, "two branches")
    tensors = tensors_of(seeded(Awsrn, 8, 1, 2, 2, (3, 5)))
    refused({**tensors, "body.0.x_scale.scale": tensors["head.0.bias"]}, "x_scale")
