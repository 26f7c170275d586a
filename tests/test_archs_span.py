"""SPAN and PAN against modules of the same structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch_check import Balanced, matches, readings_of, refused, seeded, tensors_of, torch

from fastsr.archs import pan, span
from fastsr.archs.weights import Weights

nn = torch.nn
F = nn.functional
MEAN = (0.4488, 0.4371, 0.4040)


def conv(i: int, o: int, k: int = 3, bias: bool = True) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2, bias=bias)


class Several(nn.Module):
    """Three convolutions on the padded picture beside one; eval_conv holds other weights, which nothing reads."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.sk = conv(i, o, 1)
        self.conv = nn.Sequential(conv(i, 2 * i, 1), nn.Conv2d(2 * i, 2 * o, 3), conv(2 * o, o, 1))
        self.eval_conv = conv(i, o)

    def forward(self, x: Any) -> Any:
        return self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)


class Spab(nn.Module):
    def __init__(self, c: int, act: Any = nn.SiLU) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (Several(c, c) for _ in range(3))
        self.act = act(inplace=True)

    def forward(self, x: Any) -> Any:
        first = self.c1_r(x)
        y = self.c3_r(self.act(self.c2_r(self.act(first))))
        return (y + x) * (torch.sigmoid(y) - 0.5), first


class Span(nn.Module):
    def __init__(self, c: int, scale: int, top: float, norm: bool = True) -> None:
        super().__init__()
        self.top, self.mean = top, torch.tensor(MEAN).view(1, 3, 1, 1) if norm else 0
        if not norm:
            self.register_buffer("no_norm", torch.zeros(1))
        self.conv_1 = Several(3, c)
        for k in range(1, 7):
            setattr(self, f"block_{k}", Spab(c))
        self.conv_cat, self.conv_2 = conv(4 * c, c, 1), Several(c, c)
        self.upsampler = nn.Sequential(conv(c, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Any) -> Any:
        x = first = self.conv_1((x - self.mean) * self.top)
        outs, inner = [], None
        for k in range(1, 7):
            x, inner = getattr(self, f"block_{k}")(x)
            outs.append(x)
        return self.upsampler(self.conv_cat(torch.cat([first, self.conv_2(x), outs[0], inner], 1)))


@pytest.mark.parametrize(("c", "scale"), [(12, 4), (8, 2), (8, 3), (8, 1)])
def test_span(c, scale):
    matches(seeded(Span, c, scale, 255), arch=span, readings=2)


def test_span_of_other_ranges():
    matches(seeded(Span, 8, 2, 1, False), 0, arch=span, readings=1)
    net = seeded(Span, 8, 2, 1)
    net.mean = 0
    matches(net, 1, arch=span)


def test_span_after_training():
    """Only the convolutions that were made of the several ones are in the file, under either name."""
    net = seeded(Span, 8, 2, 255)
    tensors = tensors_of(net)
    merged = {n: t for n, t in tensors.items() if ".sk." not in n and ".conv." not in n}
    for given in (merged, {n.replace(".eval_conv", ""): t for n, t in merged.items()}):
        w = Weights(given)
        assert span.detect(w)
        graph = span.build(w)[0]
        names = [n for n in graph.constants if n.startswith("block_3.c2_r#")]
        assert any(np.array_equal(graph.constants[n], tensors["block_3.c2_r.eval_conv.weight"]) for n in names)


class Spabs(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.block_1, self.block_end = Spab(c, nn.Mish), Spab(c, nn.Mish)
        self.block_n = nn.ModuleList([Spab(c, nn.Mish) for _ in range(n)])
        self.conv_2, self.conv_cat = Several(c, c), conv(4 * c, c, 1)

    def forward(self, x: Any) -> Any:
        y = begun = self.block_1(x)[0]
        for block in self.block_n:
            y = block(y)[0]
        y, inner = self.block_end(y)
        return self.conv_cat(torch.cat([x, self.conv_2(y), begun, inner], 1))


class SpanPlus(nn.Module):
    def __init__(self, c: int, blocks: tuple[int, ...], scale: int) -> None:
        super().__init__()
        self.feats = nn.Sequential(Several(3, c), *[Spabs(c, n) for n in blocks])
        self.upsampler = nn.Sequential(conv(c, 3 * scale**2), nn.PixelShuffle(scale)) if scale > 1 else conv(c, 3)

    def forward(self, x: Any) -> Any:
        return self.upsampler(self.feats(x))


@pytest.mark.parametrize(("c", "blocks", "scale"), [(8, (4,), 4), (6, (11, 1), 2), (8, (2,), 1)])
def test_span_plus(c, blocks, scale):
    assert matches(seeded(SpanPlus, c, blocks, scale), arch=span, readings=1, scale=scale).meta["architecture"] == "SPANPlus"


def test_span_plus_with_dysample():
    tensors = {n.replace("upsampler.0", "upsampler.offset"): t for n, t in tensors_of(seeded(SpanPlus, 8, (2,), 2)).items()}
    refused(tensors, "DySample")


class PaConv(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.k2, self.k3, self.k4 = conv(c, c, 1), conv(c, c, bias=False), conv(c, c, bias=False)

    def forward(self, x: Any) -> Any:
        return self.k4(self.k3(x) * torch.sigmoid(self.k2(x)))


class Scpa(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1_a, self.conv1_b = conv(c, c // 2, 1, False), conv(c, c // 2, 1, False)
        self.k1, self.PAConv = nn.Sequential(conv(c // 2, c // 2, bias=False)), PaConv(c // 2)
        self.conv3 = conv(c // 2 * 2, c, 1, False)

    def forward(self, x: Any) -> Any:
        a, b = (F.leaky_relu(layer(x), 0.2) for layer in (self.conv1_a, self.conv1_b))
        a, b = F.leaky_relu(self.k1(a), 0.2), F.leaky_relu(self.PAConv(b), 0.2)
        return x + self.conv3(torch.cat([a, b], 1))


class Attention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = conv(c, c, 1)

    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(self.conv(x))


class Pan(nn.Module):
    def __init__(self, c: int, u: int, n: int, scale: int, balanced: bool = False) -> None:
        super().__init__()
        self.conv_first, self.SCPA_trunk, self.trunk_conv = conv(3, c), nn.Sequential(*[Scpa(c) for _ in range(n)]), conv(c, c)
        self.steps = (2, 2) if scale == 4 else (scale,)
        for k in range(1, len(self.steps) + 1):
            setattr(self, f"upconv{k}", conv(u if k > 1 else c, u))
            setattr(self, f"att{k}", Balanced(u, 2) if balanced else Attention(u))
            setattr(self, f"HRconv{k}", conv(u, u))
        self.conv_last, self.scale = conv(u, 3), scale

    def forward(self, x: Any) -> Any:
        f = self.conv_first(x)
        f = f + self.trunk_conv(self.SCPA_trunk(f))
        for k, step in enumerate(self.steps, 1):
            f = getattr(self, f"att{k}")(getattr(self, f"upconv{k}")(F.interpolate(f, scale_factor=step, mode="nearest")))
            f = F.leaky_relu(getattr(self, f"HRconv{k}")(F.leaky_relu(f, 0.2)), 0.2)
        return self.conv_last(f) + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("c", "u", "n", "scale"), [(12, 8, 11, 4), (10, 6, 2, 2)])
def test_pan(c, u, n, scale):
    matches(seeded(Pan, c, u, n, scale), arch=pan)


def test_pan_with_balanced_attention():
    matches(seeded(Pan, 8, 6, 2, 4, True), arch=pan)


def test_pan_x3():
    net = seeded(Pan, 8, 6, 2, 3)
    matches(net, 1, arch=pan, stem="pan")
    matches(net, 0, arch=pan, stem="PANx3_DF2K")


def test_damaged():
    tensors = tensors_of(seeded(Span, 8, 2, 255))
    for name in ("block_2.c1_r.conv.0.weight", "block_4.c3_r.sk.weight", "conv_2.conv.2.weight", "upsampler.0.weight"):
        refused({n: t for n, t in tensors.items() if n != name}, "SPAN")
    refused({**tensors, "block_1.c1_r.conv.1.weight": np.zeros((3, 3), np.float32)}, "SPAN")
    tensors = tensors_of(seeded(Pan, 8, 6, 2, 2))
    for name in ("SCPA_trunk.1.k1.0.weight", "att1.conv.weight", "trunk_conv.weight"):
        refused({n: t for n, t in tensors.items() if n != name}, "PAN")
    assert len(readings_of(seeded(Pan, 8, 6, 2, 2))) == 2
