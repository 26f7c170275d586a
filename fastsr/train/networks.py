"""Networks as PyTorch modules, under the parameter names that `fastsr.archs` knows.

Every network takes pictures (N, C, H, W) in 0..1, C = 1 for colour "y" and 3 for "rgb", and returns them `scale` times larger. Networks with
`enlarged` take pictures that the bicubic filter has enlarged before. `shipped()` gives the weights as a file holds them and `adopt()` takes such
weights back, both exact up to rounding. A network whose file stands for pictures in 0..255 (EDSR) is trained in 0..1 all the same: convolutions, ReLU
and PReLU commute with a positive factor, so only biases are multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from ..errors import ModelError
from .branches import Branches
from .slopes import Slopes
from .white import EndConv2d, Settled, drawn, settle

DIV2K = (0.4488, 0.4371, 0.4040)

COLOURS = {"y": 1, "rgb": 3}

UNIT, RESIDUAL = 0.2, 0.05
"""In which a last convolution is learnt that makes a picture, or what a picture's nearest pixels lack: about their deviation."""


class Network(nn.Module):
    """What all networks here have. factor: of pixels in the shipped file, 1 or 255. prefix: of the names of tensors there."""

    enlarged = False
    factor = 1.0
    prefix = ""

    def __init__(self, scale: int, colour: str) -> None:
        super().__init__()
        self.scale = scale
        self.colour = colour
        self.channels = COLOURS[colour]

    def shipped(self) -> dict[str, torch.Tensor]:
        """The weights as the exported file has them, float32, contiguous."""
        found: dict[str, torch.Tensor] = {}
        parts = {f"{name}.{key}": (name, m) for name, m in self._merged() for key in m.state_dict()}
        for key, value in self.state_dict().items():
            if key in parts:
                name, m = parts[key]
                if f"{name}.weight" not in found:
                    found[f"{name}.weight"], found[f"{name}.bias"] = m.plain()
            elif "num_batches" not in key:
                found[key] = value.detach().float()
        return {self.prefix + k: self._times(k, v, self.factor).contiguous() for k, v in found.items()}

    def adopt(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take weights named and scaled as by `shipped`. Raises ModelError when a tensor is missing, left over, or has another shape."""
        mine = {k: tuple(v.shape) for k, v in self.shipped().items()}
        check_names(weights, mine)
        given = {k.removeprefix(self.prefix): self._times(k, weights[k].float(), 1 / self.factor) for k in mine}
        self.load_state_dict(given, strict=False)
        for name, m in self._merged():
            m.set(given[f"{name}.weight"], given[f"{name}.bias"])

    @staticmethod
    def options_of(tensors: Sequence[np.ndarray]) -> dict[str, int]:
        """Options of the network of this architecture that has these tensors, as far as a smaller one can begin a larger one."""
        return {}

    def larger_than(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Whether `grow` can take these weights, if all have the right shapes, and `adopt` cannot."""
        return False

    def grow(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take the weights of a smaller network, as `shipped` has them, so that the result is the same at first. Raises ModelError."""
        raise ModelError("a network of this architecture cannot begin as a smaller one")

    def parts_for(self, weights: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The weights of a network for another scale under the names that their layers have in this one."""
        return weights

    def _merged(self) -> list[tuple[str, EndConv2d | Branches]]:
        """The convolutions that are not learnt as they are shipped, and their names."""
        return [(name, m) for name, m in self.named_modules() if isinstance(m, EndConv2d | Branches)]

    def chain(self) -> list[Settled]:
        """The convolutions that `settle` works on, as a training runs them: those with an activation behind them of a network that is a chain."""
        return []

    def settle(self, x: torch.Tensor) -> None:
        """Make a fresh network fit for pictures like x (N, C, H, W), see `white.settle`."""
        settle(self, self.chain(), x)

    def rectified(self) -> list[nn.Conv2d]:
        """The convolutions, first to last, of a chain with nothing but ReLU between them; empty for other networks."""
        return []

    @staticmethod
    def _times(name: str, tensor: torch.Tensor, factor: float) -> torch.Tensor:
        return tensor * factor if factor != 1 and name.endswith("bias") else tensor


def check_names(weights: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelError unless `weights` has exactly these names and shapes."""
    for name, shape in shapes.items():
        if name not in weights:
            raise ModelError(f"the weights to begin with have no tensor '{name}': they belong to another architecture")
        if tuple(weights[name].shape) != shape:
            raise ModelError(f"the weights to begin with have '{name}' of shape {list(weights[name].shape)}, this network's is {list(shape)}")
    left = [n for n in weights if n not in shapes and "num_batches" not in n]
    if left:
        raise ModelError(f"the weights to begin with have '{left[0]}', which this network lacks: they belong to another architecture")


def conv(i: int, o: int, k: int = 3, gain: float = 2.0) -> nn.Conv2d:
    """A convolution that keeps the size. gain: as in `drawn`."""
    return drawn(nn.Conv2d(i, o, k, padding=k // 2), gain)


class SRCNN(Network):
    """Dong et al., TPAMI 2016: 9-1-5 or 9-5-5."""

    enlarged = True

    def __init__(self, scale: int, colour: str = "y", kernels: tuple[int, int, int] = (9, 5, 5), widths: tuple[int, int] = (64, 32)) -> None:
        super().__init__(scale, colour)
        (a, b, c), (d, e) = kernels, widths
        self.conv1, self.conv2, self.conv3 = conv(self.channels, d, a), conv(d, e, b), conv(e, self.channels, c, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))

    def rectified(self) -> list[nn.Conv2d]:
        """See `Network.rectified`."""
        return [self.conv1, self.conv2, self.conv3]


class VDSR(Network):
    """Kim et al., CVPR 2016: 20 convolutions of 64 channels compute what the enlarged picture lacks."""

    enlarged = True

    def __init__(self, scale: int, colour: str = "y", layers: int = 20, width: int = 64) -> None:
        super().__init__(scale, colour)
        ends = [self.channels, *[width] * (layers - 1), self.channels]
        self.conv = nn.ModuleList([conv(i, o, 3, 2.0 if k < layers - 1 else 0.01) for k, (i, o) in enumerate(pairwise(ends))])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for k, m in enumerate(self.conv):
            y = m(y) if k == len(self.conv) - 1 else F.relu_(m(y))
        return x + y


class ESPCN(Network):
    """Shi et al., CVPR 2016, with ReLU as OpenCV's file has it."""

    def __init__(self, scale: int, colour: str = "y", widths: tuple[int, int] = (64, 32)) -> None:
        super().__init__(scale, colour)
        c, (a, b) = self.channels, widths
        self.conv1, self.conv2, self.conv3 = EndConv2d(c, a, 5, True), EndConv2d(a, b, 3), EndConv2d(b, c * scale**2, 3, False, UNIT, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x))))), self.scale)

    def chain(self) -> list[Settled]:
        """See `Network.chain`."""
        return [self.conv1, self.conv2]

    def rectified(self) -> list[nn.Conv2d]:
        """See `Network.rectified`."""
        return [self.conv1, self.conv2, self.conv3]


class FSRCNN(Network):
    """Dong et al., ECCV 2016: FSRCNN(width, narrow, maps). tail: "deconv", a 9x9 transposed convolution as in the paper, or "shuffle", a 1x1
    convolution and a pixel shuffle as OpenCV's files have it. expand: as in `Branches`, of the maps."""

    def __init__(
        self, scale: int, colour: str = "y", width: int = 56, narrow: int = 12, maps: int = 4, tail: str = "deconv", expand: int = 2
    ) -> None:
        super().__init__(scale, colour)
        c = self.channels
        self.maps = maps
        self.first_part = nn.Sequential(EndConv2d(c, width, 5, True), Slopes(width))
        middle: list[nn.Module] = [EndConv2d(width, narrow, 1), Slopes(narrow)]
        for _ in range(maps):
            middle += [Branches(narrow, narrow, expand, True), Slopes(narrow)]
        self.mid_part = nn.Sequential(*middle, EndConv2d(narrow, width, 1), Slopes(width))
        if tail == "shuffle":
            self.last_part: nn.Module = EndConv2d(width, c * scale**2, 1, False, UNIT, 1.0)
        else:
            self.last_part = nn.ConvTranspose2d(width, c, 9, scale, 4, output_padding=scale - 1)
            nn.init.normal_(self.last_part.weight, std=UNIT * math.sqrt(scale**2 / (width * 81)))
            nn.init.zeros_(self.last_part.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last_part(self.mid_part(self.first_part(x)))
        return F.pixel_shuffle(y, self.scale) if y.shape[2] == x.shape[2] and self.scale > 1 else y

    def chain(self) -> list[Settled]:
        """See `Network.chain`."""
        return [m for m in [*self.first_part, *self.mid_part] if not isinstance(m, Slopes)]

    @staticmethod
    def options_of(tensors: Sequence[np.ndarray]) -> dict[str, int]:
        """See `Network.options_of`."""
        kernels = [t for t in tensors if t.ndim == 4]
        return {"width": len(kernels[0]), "narrow": len(kernels[1]), "maps": len(kernels) - 4, "expand": 0} if len(kernels) > 3 else {}

    def with_maps(self, maps: int) -> FSRCNN:
        """A network like this one with so many maps."""
        tail = "deconv" if isinstance(self.last_part, nn.ConvTranspose2d) else "shuffle"
        return FSRCNN(self.scale, self.colour, self.mid_part[0].in_channels, self.mid_part[0].out_channels, maps, tail)

    def _maps_of(self, weights: Mapping[str, torch.Tensor]) -> int:
        """How many maps the network with these weights has, -1 for other weights."""
        maps = sum(1 for n in weights if n.startswith(f"{self.prefix}mid_part.") and n.endswith(".bias")) - 2
        return maps if maps >= 0 and len(weights) == 3 * (maps + 3) + 2 else -1

    def _moved(self, weights: Mapping[str, torch.Tensor], theirs: int, maps: int) -> dict[str, torch.Tensor]:
        """With the expanding convolution behind `theirs` maps where it is behind so many others; those that are too many are left out."""
        middle = f"{self.prefix}mid_part"
        names = {f"{middle}.{2 * theirs + k}.{what}": f"{middle}.{2 * maps + k}.{what}" for k, what in ((2, "weight"), (2, "bias"), (3, "weight"))}
        last = {new: weights[old] for old, new in names.items() if old in weights}
        many = [f"{middle}.{2 * maps + 2 + k}." for k in range(2 * (theirs - maps))]
        return {n: w for n, w in weights.items() if n not in names and not n.startswith(tuple(many))} | last

    def parts_for(self, weights: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """See `Network.parts_for`: those of a network of more maps without the last of them."""
        theirs = self._maps_of(weights)
        return self._moved(weights, theirs, self.maps) if theirs > self.maps else weights

    def larger_than(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """See `Network.larger_than`."""
        return 0 <= self._maps_of(weights) < self.maps

    def grow(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take a network of fewer maps: the new ones, behind its own, hand on what they get. Raises ModelError when names or shapes do not fit."""
        theirs = self._maps_of(weights)
        check_names(weights, {k: tuple(v.shape) for k, v in self.with_maps(theirs).shipped().items()})
        given = self._moved(weights, theirs, self.maps)
        narrow, middle = self.mid_part[0].out_channels, f"{self.prefix}mid_part"
        for k in range(theirs + 1, self.maps + 1):
            given[f"{middle}.{2 * k}.weight"] = F.pad(torch.eye(narrow)[:, :, None, None], (1, 1, 1, 1))
            given[f"{middle}.{2 * k}.bias"], given[f"{middle}.{2 * k + 1}.weight"] = torch.zeros(narrow), torch.ones(narrow)
        self.adopt(given)


class Autoencoder(Network):
    """Mao et al., NIPS 2016, in the small form of two convolutions and two transposed ones, each with a skip to what it reads."""

    enlarged = True

    def __init__(self, scale: int, colour: str = "rgb", width: int = 64) -> None:
        super().__init__(scale, colour)
        c = self.channels
        self.conv1, self.conv2 = conv(c, width), conv(width, width)
        self.deconv1, self.deconv2 = (nn.ConvTranspose2d(width, width, 3, padding=1) for _ in range(2))
        self.conv3 = conv(width, c, 5, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu_(self.conv1(x))
        b = F.relu_(self.conv2(a))
        y = F.relu_(self.deconv1(b)) + b
        return self.conv3(F.relu_(self.deconv2(y)) + a)


class _Residual(nn.Module):
    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.ReLU(True), conv(width, width, 3, 0.1))
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.factor * self.body(x)


def _doublings(scale: int) -> list[int]:
    """The pixel shuffles that enlarge by `scale` together."""
    return {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}.get(scale, [scale])


class EDSR(Network):
    """Lim et al., CVPR Workshops 2017; 16 blocks of 64 channels are the baseline. Residuals of 256 channels are multiplied by 0.1."""

    factor = 255.0

    def __init__(self, scale: int, colour: str = "rgb", blocks: int = 16, width: int = 64) -> None:
        super().__init__(scale, colour)
        c = self.channels
        self.head = nn.Sequential(conv(c, width, 3, 1.0))
        self.body = nn.Sequential(*[_Residual(width, 0.1 if width >= 256 else 1.0) for _ in range(blocks)], conv(width, width, 3, 1.0))
        steps: list[nn.Module] = []
        for r in _doublings(scale):
            steps += [conv(width, width * r * r, 3, 1.0), nn.PixelShuffle(r)]
        self.tail = nn.Sequential(nn.Sequential(*steps), conv(width, c, 3, 1.0))
        mean = torch.tensor(DIV2K if c == 3 else [0.0]).reshape(1, -1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x - self.mean)
        return self.tail(x + self.body(x)) + self.mean


class _Normalised(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(width, width), nn.BatchNorm2d(width), nn.PReLU()
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class _Up(nn.Module):
    def __init__(self, width: int, by: int) -> None:
        super().__init__()
        self.conv, self.by, self.prelu = conv(width, by * by * width), by, nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.prelu(F.pixel_shuffle(self.conv(x), self.by))


class SRResNet(Network):
    """Ledig et al., CVPR 2017: blocks with batch normalisation and one slope."""

    def __init__(self, scale: int, colour: str = "rgb", blocks: int = 16, width: int = 64) -> None:
        super().__init__(scale, colour)
        c = self.channels
        self.block1 = nn.Sequential(conv(c, width, 9), nn.PReLU())
        for k in range(blocks):
            self.add_module(f"block{k + 2}", _Normalised(width))
        self.add_module(f"block{blocks + 2}", nn.Sequential(conv(width, width), nn.PReLU()))
        self.add_module(f"block{blocks + 3}", nn.Sequential(*[_Up(width, r) for r in _doublings(scale)], conv(width, c, 9, 1.0)))
        self.blocks = blocks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = y = self.block1(x)
        for k in range(self.blocks + 1):
            y = getattr(self, f"block{k + 2}")(y)
        return getattr(self, f"block{self.blocks + 3}")(first + y)


class _Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for k in range(5):
            self.add_module(f"conv{k + 1}", conv(width + k * growth, width if k == 4 else growth, 3, 0.2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for k in range(4):
            seen.append(F.leaky_relu(getattr(self, f"conv{k + 1}")(torch.cat(seen, 1)), 0.2))
        return x + 0.2 * self.conv5(torch.cat(seen, 1))


class _InDense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_Dense(width, growth) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDB(Network):
    """Wang et al., ESRGAN, 2018; x2 begins with a pixel unshuffle, as in Real-ESRGAN, 2021."""

    def __init__(self, scale: int, colour: str = "rgb", blocks: int = 23, width: int = 64, growth: int = 32) -> None:
        super().__init__(scale, colour)
        if scale not in (2, 4):
            raise ModelError(f"rrdb: scale {scale}: these networks enlarge by 2 or 4")
        c, self.unshuffle = self.channels, 4 // scale
        self.conv_first = conv(c * self.unshuffle**2, width, 3, 1.0)
        self.body = nn.Sequential(*[_InDense(width, growth) for _ in range(blocks)])
        self.conv_body = conv(width, width, 3, 1.0)
        self.conv_up1, self.conv_up2 = conv(width, width), conv(width, width)
        self.conv_hr, self.conv_last = conv(width, width), conv(width, c, 3, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = x.shape[2:]
        odd = (0, w % self.unshuffle, 0, h % self.unshuffle)
        if any(odd):
            return self.forward(F.pad(x, odd, mode="replicate"))[:, :, : h * self.scale, : w * self.scale]
        y = first = self.conv_first(F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x)
        y = first + self.conv_body(self.body(y))
        for up in (self.conv_up1, self.conv_up2):
            y = F.leaky_relu(up(F.interpolate(y, scale_factor=2.0)), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))


class SRVGG(Network):
    """SRVGGNetCompact of Real-ESRGAN (Wang et al., 2021): `layers` convolutions after the first, the picture's nearest pixels added."""

    def __init__(self, scale: int, colour: str = "rgb", layers: int = 16, width: int = 64) -> None:
        super().__init__(scale, colour)
        if colour != "rgb":
            raise ModelError("srvgg takes colour pictures only: choose --colour rgb, or --arch plain for Y")
        inner: list[nn.Module] = [EndConv2d(3, width, 3, True), Slopes(width)]
        for _ in range(layers):
            inner += [conv(width, width, 3, 1.8), Slopes(width)]
        self.body = nn.Sequential(*inner, EndConv2d(width, 3 * scale**2, 3, False, RESIDUAL, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.body(x), self.scale) + F.interpolate(x, scale_factor=float(self.scale))


def registry() -> dict[str, Callable[..., Network]]:
    """Architecture's name -> makes it from `scale`, `colour` and the options that its class has."""
    from .hourglass import Hourglass
    from .plain import Plain

    def fsrcnn(**fixed: Any) -> Callable[..., Network]:
        return lambda scale, colour="y", **options: FSRCNN(scale, colour, **(fixed | options))

    return {
        "srcnn": SRCNN,
        "vdsr": VDSR,
        "espcn": ESPCN,
        "fsrcnn": fsrcnn(),
        "fsrcnn-small": fsrcnn(width=32, narrow=5, maps=1),
        "fsrcnn-cv2": fsrcnn(tail="shuffle"),
        "fsrcnn-small-cv2": fsrcnn(width=32, narrow=5, maps=1, tail="shuffle"),
        "hourglass": Hourglass,
        "plain": Plain,
        "autoencoder": Autoencoder,
        "edsr": EDSR,
        "srresnet": SRResNet,
        "srvgg": SRVGG,
        "rrdb": RRDB,
    }
