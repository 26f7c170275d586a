"""MDSR, DRRN and EDSR of super-image against modules of the same structure; transformers are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch_check import Balanced, matches, refused, seeded, tensors_of, torch

from fastsr.archs import drrn, mdsr, resnet

nn = torch.nn
MEAN = (0.4488, 0.4371, 0.4040)


def conv(i: int, o: int, k: int = 3, bias: bool = True) -> Any:
    return nn.Conv2d(i, o, k, padding=k // 2, bias=bias)


class Residual(nn.Module):
    def __init__(self, c: int, k: int, balanced: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(c, c, k), nn.ReLU(), conv(c, c, k))
        self.attention = Balanced(c) if balanced else nn.Identity()

    def forward(self, x: Any) -> Any:
        return x + self.attention(self.body(x))


class Mdsr(nn.Module):
    def __init__(self, c: int, n: int, scales: tuple[int, ...], wanted: int) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for layer, sign in ((self.sub_mean, -255), (self.add_mean, 255)):
            layer.weight.data = torch.eye(3).view(3, 3, 1, 1)
            layer.bias.data = sign * torch.tensor(MEAN)
        self.pre_process = nn.ModuleList([nn.Sequential(Residual(c, 5), Residual(c, 5)) for _ in scales])
        ups = [[u for s in ((2,) * (scale // 2) if scale != 3 else (3,)) for u in (conv(c, c * s * s), nn.PixelShuffle(s))] for scale in scales]
        self.upsample = nn.ModuleList([nn.Sequential(*up) for up in ups])
        self.head, self.tail = nn.Sequential(conv(3, c)), nn.Sequential(conv(c, 3))
        self.body = nn.Sequential(*[Residual(c, 3) for _ in range(n)], conv(c, c))
        self.branch = scales.index(wanted)

    def forward(self, x: Any) -> Any:
        x = self.pre_process[self.branch](self.head(self.sub_mean(x)))
        return self.add_mean(self.tail(self.upsample[self.branch](x + self.body(x))))


@pytest.mark.parametrize(("scales", "wanted", "stem"), [((2, 3, 4), 2, "a"), ((2, 3, 4), 3, "a_x3"), ((2, 3, 4), 4, "x4_a"), ((3, 2), 2, "a")])
def test_mdsr(scales, wanted, stem):
    net = seeded(Mdsr, 8, 11, scales, wanted)
    matches(net, arch=mdsr, stem=stem, run=lambda x: net(x * 255) / 255, readings=1)


class SuperImage(nn.Module):
    """super-image's MDSR: one scale, by whose number the parts are called, and mean shifts that do not run."""

    def __init__(self, c: int, n: int, scale: int) -> None:
        super().__init__()
        self.head, self.tail = nn.Sequential(conv(3, c)), nn.Sequential(conv(c, 3))
        self.pre_process = nn.ModuleDict({str(scale): nn.Sequential(Residual(c, 3, True), Residual(c, 3, True))})
        self.body = nn.Sequential(*[Residual(c, 3, True) for _ in range(n)], conv(c, c))
        self.upsample = nn.ModuleDict({str(scale): nn.Sequential(conv(c, c * scale**2), nn.PixelShuffle(scale))})
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for layer, sign in ((self.sub_mean, -255), (self.add_mean, 255)):
            layer.bias.data = sign * torch.tensor(MEAN)

    def forward(self, x: Any) -> Any:
        x = next(iter(self.pre_process.values()))(self.head(x))
        return self.tail(next(iter(self.upsample.values()))(x + self.body(x)))


def test_mdsr_of_super_image():
    matches(seeded(SuperImage, 8, 11, 3), 1, arch=mdsr, readings=2)


class SuperImageEdsr(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for layer, sign in ((self.sub_mean, -255), (self.add_mean, 255)):
            layer.bias.data = sign * torch.tensor(MEAN)
        self.head, self.body = nn.Sequential(conv(3, c)), nn.Sequential(*[Residual(c, 3) for _ in range(n)], conv(c, c))
        self.tail = nn.Sequential(nn.Sequential(conv(c, 4 * c), nn.PixelShuffle(2)), conv(c, 3))

    def forward(self, x: Any) -> Any:
        x = self.head(x)
        return self.tail(x + self.body(x))


def test_edsr_of_super_image():
    net = seeded(SuperImageEdsr, 8, 4)
    matches(net, 1, arch=resnet)
    matches(net, 0, arch=resnet, run=lambda x: net.add_mean(net(net.sub_mean(x * 255))) / 255)


def test_mdsr_without_that_scale():
    refused(seeded(Mdsr, 8, 2, (2, 3), 2), "x2, x3", stem="MDSR_x8")


class Drrn(nn.Module):
    def __init__(self, c: int, runs: int, colours: int) -> None:
        super().__init__()
        self.input, self.output = conv(colours, c, bias=False), conv(c, colours, bias=False)
        self.conv1, self.conv2 = conv(c, c, bias=False), conv(c, c, bias=False)
        self.relu, self.runs = nn.ReLU(inplace=True), runs

    def forward(self, x: Any) -> Any:
        residual = x
        inputs = self.input(self.relu(x))
        out = inputs
        for _ in range(self.runs):
            out = self.conv2(self.relu(self.conv1(self.relu(out))))
            out = torch.add(out, inputs)
        return self.output(self.relu(out)) + residual


@pytest.mark.parametrize(("runs", "reading"), [(25, 0), (9, 1)])
@pytest.mark.parametrize("colours", [1, 3])
def test_drrn(runs, reading, colours):
    graph = matches(seeded(Drrn, 8, runs, colours), reading, arch=drrn, channels=colours, scale=3, stem="drrn_x3")
    assert graph.feed.pre_scale == 3


NAMES = {
    "SwinIR": ("layers.0.residual_group.blocks.0.attn.relative_position_bias_table", "layers.0.residual_group.blocks.0.attn.qkv.weight"),
    "Swin2SR": ("layers.0.residual_group.blocks.0.attn.logit_scale", "layers.0.residual_group.blocks.0.attn.cpb_mlp.0.weight"),
    "HAT": ("layers.0.residual_group.overlap_attn.qkv.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight"),
    "DAT": ("layers.0.blocks.0.attn.qkv.weight", "layers.0.blocks.0.attn.attns.0.rpe_biases"),
    "RGT": ("layers.0.blocks.0.gamma", "layers.0.blocks.0.attn.attns.0.rpe_biases", "layers.0.blocks.0.attn.qkv.weight"),
    "ATD": ("layers.0.residual_group.layers.0.attn_win.relative_position_bias_table", "layers.0.residual_group.layers.0.attn_atd.scale"),
    "DRCT": ("layers.0.swin1.attn.qkv.weight",),
    "Omni-SR": ("input.weight", "residual_layer.0.residual_layer.0.layer.0.fn.0.weight"),
    "Restormer": ("encoder_level1.0.attn.temperature", "encoder_level1.0.attn.qkv_dwconv.weight"),
    "Swin transformer": ("unet.swin1.block.0.attn.relative_position_bias_table",),
    "vision transformer": ("body.0.attn.qkv.weight",),
}


@pytest.mark.parametrize("name", NAMES)
def test_transformers(name):
    message = refused({n: np.ones((4, 4), np.float32) for n in NAMES[name]}, name, "attention")
    assert len(message) < 300


@pytest.mark.parametrize("number", ["9" * 5000, "²", "٣"])
def test_numbers_that_are_none(number):
    tensors = tensors_of(seeded(Drrn, 8, 9, 1))
    refused({f"body.{number}.{n}": t for n, t in sorted(tensors.items()) if n != "output.weight"}, "architecture fastsr does not know")
