"""Parts that several architectures have in common, and the order of modules where a file has lost it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .weights import Module, Weights, natural

DIV2K = (0.4488, 0.4371, 0.4040)
"""Mean colour of the data set that most networks were trained with, RGB 0..1."""


@dataclass(frozen=True)
class Spelling:
    """How one implementation calls the parts of a network.

    parts: names that begin its modules' names, in the order in which they run. late: regular expression of what runs last in its numbered part.
    """

    parts: tuple[str, ...]
    late: str = "$."


def in_order(w: Weights, spellings: Sequence[Spelling]) -> list[Module]:
    """The modules in the order in which they run: that of the first spelling in which all are named, else the file's."""
    for spelling in spellings:
        found = [_place(m.name, spelling) for m in w.modules]
        if all(place is not None for place in found):
            order = sorted(range(len(found)), key=lambda k: found[k] or ())
            return [w.modules[k] for k in order]
    return list(w.modules)


def _place(name: str, spelling: Spelling) -> tuple[object, ...] | None:
    for k, part in enumerate(spelling.parts):
        if m := re.match(rf"{part}(\d*)(?:\.(\d+))?(?:\.|$)", name):
            return k, int(m[1] or m[2] or -1), bool(re.search(spelling.late, name)), natural(name)
    return None


# ---- pieces of networks --------------------------------------------------------------------------------------------------------------------------


def shuffle_to(net: Net, x: str, channels: int) -> str:
    """Pixel shuffle by the block that leaves so many channels. Raises ModelError when none does."""
    have = net.channels[x]
    block = math.isqrt(max(have // max(channels, 1), 1))
    if channels * block**2 != have:
        raise ModelError(f"{have} channels cannot be shuffled into {channels}")
    return net.shuffle(x, block)


def upsampler(net: Net, x: str, names: Sequence[str], channels: int) -> str:
    """Convolutions and PReLUs by their names, each after the pixel shuffle that gives it the channels it takes; in the end `channels` are left.

    A normalisation of so many channels as x has takes no shuffle, as its place between two convolutions is the same.
    """
    for name in names:
        shape = net.w.shape(f"{name}.weight")
        if len(shape) == 4:
            x = net.conv(shuffle_to(net, x, taken(net, x, shape)), name)
        elif f"{name}.running_mean" in net.w:
            x = net.norm(shuffle_to(net, x, shape[0]), name)
        else:
            x = net.prelu(x if shape == (1,) else shuffle_to(net, x, shape[0]), name)
    return shuffle_to(net, x, channels)


def taken(net: Net, x: str, shape: tuple[int, ...]) -> int:
    """Channels that a convolution of that shape takes when it reads x after a pixel shuffle: groups make it take several times its second axis."""
    have = net.channels[x]
    for groups in (1, 2, 3, 4, 8, 16):
        block = math.isqrt(have // max(shape[1] * groups, 1))
        if block and block**2 * shape[1] * groups == have and shape[0] % groups == 0:
            return shape[1] * groups
    return shape[1]


def attention(net: Net, x: str, down: str, up: str) -> str:
    """Channel attention (Hu et al., Squeeze-and-Excitation, CVPR 2018): x times a factor for each channel, made from the channels' means."""
    return gate(net, x, net.mean(x), down, up)


def gate(net: Net, x: str, statistics: str, down: str, up: str) -> str:
    """x times the sigmoid of what two convolutions make of the channels' statistics."""
    return net.mul(x, net.act(net.conv(net.act(net.conv(statistics, down), "relu"), up), "sigmoid"))


def contrast(net: Net, x: str) -> str:
    """Standard deviation plus mean of each channel (IMDN's contrast-aware attention)."""
    mean = net.mean(x)
    d = net.sub(x, mean)
    deviation = net.emit("Sqrt", [net.mean(net.mul(d, d))], net.channels[x])
    return net.add(deviation, mean)


def balanced_attention(net: Net, x: str, name: str) -> str:
    """Balanced attention (Wang et al., 2021) as super-image has it: x times a factor for each channel and one for each pixel.

    The first is made from the channels' means, the second from the largest channel of each pixel.
    """
    channel = net.conv(net.prelu(net.conv(net.mean(x), f"{name}.ca.fc1"), f"{name}.ca.relu1"), f"{name}.ca.fc2")
    pixel = net.conv(_largest_channel(net, x), f"{name}.sa.conv1")
    return net.mul(net.mul(x, net.act(channel, "sigmoid")), net.act(pixel, "sigmoid"))


def _largest_channel(net: Net, x: str) -> str:
    while (c := net.channels[x]) > 1:
        half = (c + 1) // 2
        parts = [net.emit("Slice", [x, *(net.const(np.array([n], np.int64)) for n in (a, a + half, 1))], half) for a in (0, c - half)]
        x = net.emit("Max", parts, half)
    return x


Convolve = Callable[..., str]
"""`Net.conv`, or what stands for it: (value, name, stride=1, pad=None)."""


def spatial_attention(net: Net, x: str, name: str, conv: Convolve | None = None, act: str = "relu") -> str:
    """Enhanced spatial attention (Liu et al., Residual Feature Aggregation Network, CVPR 2020) as RFDN, RLFN and BSRN have it.

    x times a factor for each pixel, made on a picture that a stride and a maximum over 7x7 make smaller. conv: the 3x3 convolutions.
    """
    conv = conv or net.conv
    first = net.conv(x, f"{name}.conv1")
    y = net.max_pool(conv(first, f"{name}.conv2", stride=2, pad=0), 7, 3)
    if net.w.has(rf"{re.escape(name)}\.conv_max\..*"):
        y = net.act(conv(y, f"{name}.conv_max"), act)
    y = conv(y, f"{name}.conv3")
    if net.w.has(rf"{re.escape(name)}\.conv3_\..*"):
        y = conv(net.act(y, act), f"{name}.conv3_")
    y = net.add(net.resize_to(y, x), net.conv(first, f"{name}.conv_f"))
    return net.mul(x, net.act(net.conv(y, f"{name}.conv4"), "sigmoid"))


# ---- how pictures are fed ------------------------------------------------------------------------------------------------------------------------


def fed(channels: int, top: float = 1, mean: Sequence[float] = (), out_mean: bool = True) -> Feed:
    """Feed of a picture of 3 (RGB) or 1 (Y) channels in 0..top less `mean` (RGB 0..1); out_mean: the result lacks it too, in the same range."""
    shift = tuple(m * top for m in mean) if channels == 3 else ()
    return Feed("rgb" if channels == 3 else "y", top, shift, top if out_mean else 1, shift if out_mean else ())


def refed(make: Callable[[], Graph], *feeds: Feed) -> list[Graph]:
    """The network once for each way to feed it."""
    graph = make()
    return [replace(graph, feed=feed if graph.feed.colour != "raw" else graph.feed) for feed in feeds]


def shifts(w: Weights) -> float:
    """The range of pixels that layers "sub_mean" and "add_mean" among the weights tell: 255 or 1; 0 when there are none."""
    bias = w.tensors.get("sub_mean.bias")
    if bias is None or bias.ndim != 1:
        return 0
    return 255 if float(abs(bias).max(initial=0)) > 1.5 else 1


def several(scales: Sequence[int]) -> dict[str, str]:
    """meta of a network whose weights are for more than one scale."""
    return {"scales": ", ".join(f"x{n}" for n in scales) + ": choose with scale="} if len(scales) > 1 else {}


def two_or_three(w: Weights) -> tuple[int, ...]:
    """Scales to try of a network whose weights are alike for x2 and x3: the one that is asked for, else both, that of the file's name first."""
    if w.scale in (2, 3):
        return (w.scale,)
    return (3, 2) if w.scale_hint() == 3 else (2, 3)


SHIFTED = {r"(sub|add)_mean\.shifter\.": r"\1_mean."}
"""Rule for the names of mean shifts in CARN and what follows it."""


def shifted(net: Net, x: str, name: str) -> str:
    """A mean shift, where the weights have one."""
    return net.conv(x, name) if f"{name}.weight" in net.w else x
