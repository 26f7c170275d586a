"""RCAN in the spellings of its well-known implementations, against modules of the same structure."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch_check import Balanced, matches, refused, seeded, tensors_of, torch

from fastsr.archs import rcan

nn = torch.nn
MEAN = (0.4488, 0.4371, 0.4040)


def conv(i: int, o: int, k: int = 3) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2)


class Attention(nn.Module):
    """style: what the sequence is called; pooled: whether the pooling is its first entry."""

    def __init__(self, c: int, r: int, style: str, pooled: bool) -> None:
        super().__init__()
        layers = [nn.AdaptiveAvgPool2d(1)] if pooled else []
        setattr(self, style, nn.Sequential(*layers, conv(c, c // r, 1), nn.ReLU(), conv(c // r, c, 1), nn.Sigmoid()))
        self.style, self.pooled = style, pooled

    def forward(self, x: Any) -> Any:
        return x * getattr(self, self.style)(x if self.pooled else x.mean((2, 3), keepdim=True))


class Residual(nn.Module):
    """A sequence under the name `style`, added to its input; after: a convolution of its own at the end, named conv."""

    def __init__(self, style: str, *layers: Any, after: Any = None) -> None:
        super().__init__()
        setattr(self, style, nn.Sequential(*layers))
        self.style = style
        if after is not None:
            self.conv = after

    def forward(self, x: Any) -> Any:
        y = getattr(self, self.style)(x)
        return x + (self.conv(y) if hasattr(self, "conv") else y)


STYLES = {
    "edsr": ("body", "body", "conv_du"),
    "basicsr": ("residual_group", "rcab", "attention"),
    "yjn870": ("module", "module", "module"),
    "lornatang": ("residual_group", "residual_channel_attention_block", "channel_attention_layer"),
    "balanced": ("body", "body", ""),
}


def groups(style: str, c: int, r: int, n: int, blocks: int) -> list[Any]:
    group, block, ca = STYLES[style]
    made = []
    for _ in range(n):
        inner = [
            Residual(block, conv(c, c), nn.ReLU(), conv(c, c), Attention(c, r, ca, style != "edsr") if ca else Balanced(c, r)) for _ in range(blocks)
        ]
        made.append(Residual(group, *inner, after=conv(c, c)) if style == "basicsr" else Residual(group, *inner, conv(c, c)))
    return made


def ups(c: int, scale: int) -> list[Any]:
    steps = [2] * int(math.log2(scale)) if scale & (scale - 1) == 0 else [scale]
    return [layer for s in steps for layer in (conv(c, c * s * s), nn.PixelShuffle(s))]


class Edsr(nn.Module):
    """EDSR-PyTorch and the original; unshuffle: neosr's, which begins with a pixel unshuffle."""

    def __init__(self, c: int, r: int, n: int, blocks: int, scale: int, colours: int = 3, shift: bool = True, unshuffle: int = 1,
                 style: str = "edsr") -> None:  # fmt: skip
        super().__init__()
        self.shift = shift and colours == 3
        if self.shift:
            self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            for layer, sign in ((self.sub_mean, -255), (self.add_mean, 255)):
                layer.weight.data = torch.eye(3).view(3, 3, 1, 1)
                layer.bias.data = sign * torch.tensor(MEAN)
        head = [nn.PixelUnshuffle(unshuffle)] if unshuffle > 1 else []
        self.head = nn.Sequential(*head, conv(colours * unshuffle**2, c))
        self.body = nn.Sequential(*groups(style, c, r, n, blocks), conv(c, c))
        self.tail = nn.Sequential(nn.Sequential(*ups(c, scale)), conv(c, colours))

    def forward(self, x: Any) -> Any:
        x = self.head(self.sub_mean(x) if self.shift else x)
        x = self.tail(x + self.body(x))
        return self.add_mean(x) if self.shift else x


class Basic(nn.Module):
    def __init__(self, c: int, r: int, n: int, blocks: int, scale: int, top: float) -> None:
        super().__init__()
        self.mean, self.top = torch.tensor(MEAN).view(1, 3, 1, 1), top
        self.conv_first = conv(3, c)
        self.body = nn.Sequential(*groups("basicsr", c, r, n, blocks))
        self.conv_after_body = conv(c, c)
        self.upsample = nn.Sequential(*ups(c, scale))
        self.conv_last = conv(c, 3)

    def forward(self, x: Any) -> Any:
        x = self.conv_first((x - self.mean) * self.top)
        return self.conv_last(self.upsample(self.conv_after_body(self.body(x)) + x)) / self.top + self.mean


class Yjn(nn.Module):
    def __init__(self, c: int, r: int, n: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.sf = conv(3, c)
        self.rgs = nn.Sequential(*groups("yjn870", c, r, n, blocks))
        self.conv1 = conv(c, c)
        self.upscale = nn.Sequential(conv(c, c * scale**2), nn.PixelShuffle(scale))
        self.conv2 = conv(c, 3)

    def forward(self, x: Any) -> Any:
        x = self.sf(x)
        return self.conv2(self.upscale(self.conv1(self.rgs(x)) + x))


class Up(nn.Module):
    def __init__(self, c: int, scale: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(*ups(c, scale))

    def forward(self, x: Any) -> Any:
        return self.upsample_block(x)


class Lorna(nn.Module):
    def __init__(self, c: int, r: int, n: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.conv1 = conv(3, c)
        self.trunk = nn.Sequential(*groups("lornatang", c, r, n, blocks))
        self.conv2 = conv(c, c)
        self.upsampling = nn.Sequential(*[Up(c, 2) for _ in range(int(math.log2(scale)))])
        self.conv3 = conv(c, 3)

    def forward(self, x: Any) -> Any:
        x = self.conv1(x - self.mean)
        return self.conv3(self.upsampling(self.conv2(self.trunk(x)) + x)) + self.mean


@pytest.mark.parametrize(("c", "r", "n", "blocks", "scale"), [(16, 4, 2, 3, 2), (12, 2, 3, 1, 3), (8, 8, 1, 12, 4), (8, 4, 1, 1, 8)])
def test_edsr_style(c, r, n, blocks, scale):
    net = seeded(Edsr, c, r, n, blocks, scale)
    matches(net, arch=rcan, run=lambda x: net(x * 255) / 255, readings=1)


def test_without_mean_shifts():
    net = seeded(Edsr, 8, 4, 2, 2, 2, shift=False)
    matches(net, 0, arch=rcan, run=net)
    matches(net, 1, arch=rcan, run=lambda x: net(x * 255) / 255)


def test_one_colour_and_no_upsampling():
    matches(seeded(Edsr, 8, 4, 1, 2, 2, colours=1), arch=rcan, channels=1)
    matches(seeded(Edsr, 8, 4, 1, 2, 1, shift=False), arch=rcan, scale=1)


def test_balanced_attention():
    net = seeded(Edsr, 9, 3, 2, 11, 2, style="balanced")
    matches(net, 0, arch=rcan, run=lambda x: net(x * 255) / 255, readings=2)
    matches(net, 1, arch=rcan)


def test_unshuffle_at_the_beginning():
    matches(seeded(Edsr, 8, 4, 1, 2, 4, shift=False, unshuffle=2), arch=rcan, size=(16, 12), scale=2)


@pytest.mark.parametrize(("top", "reading"), [(255, 0), (1, 1)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_basicsr_style(scale, top, reading):
    matches(seeded(Basic, 8, 4, 2, 11, scale, top), reading, arch=rcan)


@pytest.mark.parametrize("make", [Yjn, Lorna])
@pytest.mark.parametrize("scale", [2, 4])
def test_other_styles(make, scale):
    matches(seeded(make, 8, 4, 2, 11, scale), arch=rcan)


def test_unknown_names_in_order():
    net = seeded(Edsr, 8, 4, 2, 2, 2, shift=False)
    tensors = {f"layer{k // 2}.{n.rpartition('.')[2]}": t for k, (n, t) in enumerate(tensors_of(net).items())}
    from fastsr.archs.weights import Weights

    w = Weights(tensors)
    assert rcan.detect(w)
    assert len(rcan.build(w)) == 3


def test_damaged():
    tensors = tensors_of(seeded(Edsr, 8, 4, 2, 2, 2))
    del tensors["body.1.body.1.body.3.conv_du.2.weight"]
    refused(tensors, "architecture fastsr does not know")
    tensors = tensors_of(seeded(Edsr, 8, 4, 2, 2, 2))
    tensors["tail.1.weight"] = tensors["tail.1.weight"][:, :5]
    refused(tensors, "RCAN", "channels")
    refused({**tensors_of(seeded(Edsr, 8, 4, 2, 2, 2)), "extra.weight": tensors["head.0.weight"]}, "architecture fastsr does not know")
