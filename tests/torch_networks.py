"""Small PyTorch networks in the shapes and with the key names of well-known implementations, for the tests of fastsr.archs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


def conv(i: int, o: int, k: int = 3, bias: bool = True, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, bias=bias, groups=groups)


class Apply(nn.Module):
    """Modules by name and what is done with them."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], torch.Tensor], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def seq(**modules: nn.Module) -> nn.Sequential:
    """A Sequential whose members have names."""
    out = nn.Sequential()
    for name, module in modules.items():
        out.add_module(name, module)
    return out


# ---- chains ------------------------------------------------------------------------------------------------------------------------------------


def srcnn(c: int, kernels: tuple[int, int, int]) -> nn.Module:
    a, b, d = kernels
    return Apply(lambda s, x: s.conv3(F.relu(s.conv2(F.relu(s.conv1(x))))), conv1=conv(c, 24, a), conv2=conv(24, 12, b), conv3=conv(12, c, d))


def vdsr(layers: int, width: int) -> nn.Module:
    """The inner layers are defined before the first and the last, as in a well-known implementation."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(width, width, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.conv(x))

    return Apply(lambda s, x: s.output(s.residual_layer(F.relu(s.input(x)))) + x,
                 residual_layer=nn.Sequential(*[Block() for _ in range(layers - 2)]), input=conv(1, width, bias=False),
                 output=conv(width, 1, bias=False))  # fmt: skip


def dncnn(layers: int, width: int) -> nn.Module:
    inner: list[nn.Module] = [conv(1, width), nn.ReLU()]
    for _ in range(layers - 2):
        inner += [conv(width, width, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return Apply(lambda s, x: x - s.dncnn(x), dncnn=nn.Sequential(*inner, conv(width, 1)))


def espcn(c: int, scale: int, act: type[nn.Module]) -> nn.Module:
    first = nn.Sequential(conv(c, 16, 5), act(), conv(16, 8), act())
    last = nn.Sequential(conv(8, c * scale**2), nn.PixelShuffle(scale))
    return Apply(lambda s, x: s.last_part(s.first_part(x)), first_part=first, last_part=last)


def fsrcnn(scale: int, d: int, s: int, m: int) -> nn.Module:
    middle: list[nn.Module] = [conv(d, s, 1), nn.PReLU(s)]
    for _ in range(m):
        middle += [conv(s, s), nn.PReLU(s)]
    middle += [conv(s, d, 1), nn.PReLU(d)]
    return Apply(lambda n, x: n.last_part(n.mid_part(n.first_part(x))), first_part=nn.Sequential(conv(1, d, 5), nn.PReLU(d)),
                 mid_part=nn.Sequential(*middle),
                 last_part=nn.ConvTranspose2d(d, 1, 9, stride=scale, padding=4, output_padding=scale - 1))  # fmt: skip


def plain_with_nearest(c: int, scale: int) -> nn.Module:
    inner = nn.Sequential(conv(c, 12), nn.ReLU(), conv(12, 12), nn.ReLU(), conv(12, c * scale**2))
    return Apply(lambda s, x: F.pixel_shuffle(s.net(x), scale) + F.interpolate(x, scale_factor=scale), net=inner)


def autoencoder(width: int) -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(s.conv1(x))
        b = F.relu(s.conv2(a))
        c = F.relu(s.deconv1(b)) + b
        return s.conv3(F.relu(s.deconv2(c)) + a)

    return Apply(forward, conv1=conv(3, width), conv2=conv(width, width), deconv1=nn.ConvTranspose2d(width, width, 3, padding=1),
                 deconv2=nn.ConvTranspose2d(width, width, 3, padding=1), conv3=conv(width, 3, 5))  # fmt: skip


def pooled(width: int, joined: bool) -> nn.Module:
    """Maxima behind the first two convolutions, transposed ones of 2x2 after them; joined: skips are added behind these."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(s.conv1(x))
        b = F.relu(s.conv2(s.pool(a)))
        c = F.relu(s.up1(F.relu(s.conv3(s.pool(b))))) + (b if joined else 0)
        return s.conv4(F.relu(s.up2(c)) + (a if joined else 0))

    return Apply(forward, conv1=conv(3, width), conv2=conv(width, width), conv3=conv(width, width), up1=nn.ConvTranspose2d(width, width, 2, 2),
                 up2=nn.ConvTranspose2d(width, width, 2, 2), conv4=conv(width, 3), pool=nn.MaxPool2d(2))  # fmt: skip


def pooled_and_nearest(width: int, norms: bool) -> nn.Module:
    """Maxima behind the first two convolutions, nearest pixels before the last two."""

    def unit(i: int) -> list[nn.Module]:
        return [conv(i, width), *([nn.BatchNorm2d(width)] if norms else []), nn.ReLU()]

    up = nn.Upsample(scale_factor=2)
    return nn.Sequential(*unit(3), nn.MaxPool2d(2), *unit(width), nn.MaxPool2d(2), *unit(width), up, *unit(width), up, conv(width, 3))


# ---- residual networks -------------------------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """body: the branch; factor: of its result."""

    def __init__(self, body: nn.Module, factor: float = 1.0) -> None:
        super().__init__()
        self.body = body
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.factor * self.body(x)


def shift(sign: int) -> nn.Conv2d:
    m = nn.Conv2d(3, 3, 1)
    m.weight.data = torch.eye(3).reshape(3, 3, 1, 1)
    m.bias.data = sign * 255 * torch.tensor([0.4488, 0.4371, 0.4040])
    return m


def edsr(blocks: int, width: int, scale: int, factor: float, shifts: bool) -> nn.Module:
    """The names of the authors' PyTorch code."""
    steps: list[nn.Module] = []
    for r in {2: [2], 3: [3], 4: [2, 2]}[scale]:
        steps += [conv(width, width * r * r), nn.PixelShuffle(r)]
    body = nn.Sequential(*[Residual(nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)), factor) for _ in range(blocks)],
                         conv(width, width))  # fmt: skip
    extra = {"sub_mean": shift(-1), "add_mean": shift(1)} if shifts else {}

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        x = s.head(s.sub_mean(x) if shifts else x)
        x = s.tail(x + s.body(x))
        return s.add_mean(x) if shifts else x

    return Apply(forward, **extra, head=nn.Sequential(conv(3, width)), body=body, tail=nn.Sequential(nn.Sequential(*steps), conv(width, 3)))


def srresnet(blocks: int, width: int, ups: int, end: str) -> nn.Module:
    """Batch normalisation and one slope for each PReLU."""

    def block() -> nn.Module:
        parts = seq(conv1=conv(width, width), bn1=nn.BatchNorm2d(width), prelu=nn.PReLU(), conv2=conv(width, width), bn2=nn.BatchNorm2d(width))
        return Apply(lambda s, x: x + s.bn2(s.conv2(s.prelu(s.bn1(s.conv1(x))))), **dict(parts.named_children()))

    def up() -> nn.Module:
        return seq(conv=conv(width, 4 * width), pixel_shuffle=nn.PixelShuffle(2), prelu=nn.PReLU())

    names: dict[str, nn.Module] = {"block1": nn.Sequential(conv(3, width, 9), nn.PReLU())}
    names |= {f"block{k + 2}": block() for k in range(blocks)}
    names[f"block{blocks + 2}"] = nn.Sequential(conv(width, width), nn.PReLU())
    names[f"block{blocks + 3}"] = nn.Sequential(*[up() for _ in range(ups)], conv(width, 3, 9))

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        first = y = s.block1(x)
        for k in range(blocks + 1):
            y = getattr(s, f"block{k + 2}")(y)
        y = getattr(s, f"block{blocks + 3}")(first + y)
        return torch.tanh(y) if end == "tanh" else y

    return Apply(forward, **names)


def srresnet_trunk(blocks: int, width: int, ups: int) -> nn.Module:
    """Other names, slopes for each channel, normalisation behind the middle convolution, no bias."""

    def block() -> nn.Module:
        rcb = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width), nn.PReLU(width), conv(width, width, bias=False),
                            nn.BatchNorm2d(width))  # fmt: skip
        return Apply(lambda s, x: x + s.rcb(x), rcb=rcb)

    def up() -> nn.Module:
        return Apply(lambda s, x: s.upsample_block(x),
                     upsample_block=nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU(width)))  # fmt: skip

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        first = s.conv1(x)
        return s.conv3(s.upsampling(first + s.conv2(s.trunk(first))))

    return Apply(forward, conv1=nn.Sequential(conv(3, width, 9), nn.PReLU(width)), trunk=nn.Sequential(*[block() for _ in range(blocks)]),
                 conv2=nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width)),
                 upsampling=nn.Sequential(*[up() for _ in range(ups)]), conv3=conv(width, 3, 9))  # fmt: skip


def msrresnet(blocks: int, width: int) -> nn.Module:
    def block() -> nn.Module:
        return Apply(lambda s, x: x + s.conv2(F.relu(s.conv1(x))), conv1=conv(width, width), conv2=conv(width, width))

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.body(F.leaky_relu(s.conv_first(x), 0.1))
        for up in (s.upconv1, s.upconv2):
            y = F.leaky_relu(F.pixel_shuffle(up(y), 2), 0.1)
        y = s.conv_last(F.leaky_relu(s.conv_hr(y), 0.1))
        return y + F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

    return Apply(forward, conv_first=conv(3, width), body=nn.Sequential(*[block() for _ in range(blocks)]), upconv1=conv(width, 4 * width),
                 upconv2=conv(width, 4 * width), conv_hr=conv(width, width), conv_last=conv(width, 3))  # fmt: skip


# ---- dense networks ----------------------------------------------------------------------------------------------------------------------------


def rrdb(blocks: int, width: int, growth: int, scale: int, unshuffle: int = 1) -> nn.Module:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for k in range(5):
                self.add_module(f"conv{k + 1}", conv(width + k * growth, width if k == 4 else growth))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = [x]
            for k in range(4):
                seen.append(F.leaky_relu(getattr(self, f"conv{k + 1}")(torch.cat(seen, 1)), 0.2))
            return x + 0.2 * self.conv5(torch.cat(seen, 1))

    def block() -> nn.Module:
        return Apply(lambda s, x: x + 0.2 * s.rdb3(s.rdb2(s.rdb1(x))), rdb1=Dense(), rdb2=Dense(), rdb3=Dense())

    ups = {1: 2, 2: 1, 4: 2}[scale] if unshuffle == 1 else 2

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = first = s.conv_first(F.pixel_unshuffle(x, unshuffle) if unshuffle > 1 else x)
        y = first + s.conv_body(s.body(y))
        for k in range(ups):
            y = F.leaky_relu(getattr(s, f"conv_up{k + 1}")(F.interpolate(y, scale_factor=2)), 0.2)
        return s.conv_last(F.leaky_relu(s.conv_hr(y), 0.2))

    upward = {f"conv_up{k + 1}": conv(width, width) for k in range(ups)}
    return Apply(forward, conv_first=conv(3 * unshuffle**2, width), body=nn.Sequential(*[block() for _ in range(blocks)]),
                 conv_body=conv(width, width), **upward, conv_hr=conv(width, width), conv_last=conv(width, 3))  # fmt: skip


def srvgg(convs: int, width: int, scale: int, slopes: bool) -> nn.Module:
    def act() -> nn.Module:
        return nn.PReLU(width) if slopes else nn.ReLU()

    inner: list[nn.Module] = [conv(3, width), act()]
    for _ in range(convs):
        inner += [conv(width, width), act()]
    inner.append(conv(width, 3 * scale**2))
    return Apply(lambda s, x: F.pixel_shuffle(s.body(x), scale) + F.interpolate(x, scale_factor=scale), body=nn.Sequential(*inner))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "SRCNN 9-1-5": lambda: srcnn(1, (9, 1, 5)),
    "SRCNN RGB 9-5-5": lambda: srcnn(3, (9, 5, 5)),
    "VDSR": lambda: vdsr(8, 16),
    "DnCNN": lambda: dncnn(7, 12),
    "ESPCN tanh x3": lambda: espcn(1, 3, nn.Tanh),
    "ESPCN ReLU x2 RGB": lambda: espcn(3, 2, nn.ReLU),
    "FSRCNN x2": lambda: fsrcnn(2, 20, 6, 3),
    "FSRCNN x3": lambda: fsrcnn(3, 16, 5, 1),
    "FSRCNN x4": lambda: fsrcnn(4, 16, 5, 2),
    "plain, nearest x2": lambda: plain_with_nearest(3, 2),
    "autoencoder": lambda: autoencoder(8),
    "autoencoder with maxima": lambda: pooled(8, False),
    "autoencoder with maxima and skips": lambda: pooled(8, True),
    "autoencoder with nearest pixels": lambda: pooled_and_nearest(8, False),
    "autoencoder with nearest pixels and norms": lambda: pooled_and_nearest(8, True),
    "EDSR x2": lambda: edsr(3, 16, 2, 1.0, False),
    "EDSR x3 with shifts": lambda: edsr(2, 12, 3, 1.0, True),
    "EDSR x4 of 17 blocks, factor 0.1": lambda: edsr(17, 8, 4, 0.1, True),
    "SRGAN x4": lambda: srresnet(2, 12, 2, "tanh"),
    "SRResNet x2": lambda: srresnet(3, 8, 1, ""),
    "SRResNet x4, other names": lambda: srresnet_trunk(2, 12, 2),
    "MSRResNet": lambda: msrresnet(2, 12),
    "RRDB x4": lambda: rrdb(2, 12, 6, 4),
    "RRDB x2, unshuffled": lambda: rrdb(1, 12, 6, 2, 2),
    "RRDB x1, unshuffled": lambda: rrdb(1, 12, 6, 1, 4),
    "SRVGG x4": lambda: srvgg(3, 12, 4, True),
    "SRVGG x2, ReLU": lambda: srvgg(2, 12, 2, False),
}
"""Name -> makes the network, with random weights."""
