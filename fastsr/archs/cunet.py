"""waifu2x's CUNet and Real-CUGAN: two U-nets, one after the other, without padding inside; and waifu2x's chains upconv_7 and vgg_7.

The picture is padded by what the network loses at its borders, and to a multiple of 2 or 4, and the result is cropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .parts import attention, fed
from .weights import Weights

NAME = "CUNet or Real-CUGAN"
PAPER = "nagadomi, waifu2x; Bilibili, Real-CUGAN"
FED = "RGB 0..1; Real-CUGAN's pro models 0.15..0.85"

CHAIN = r"net\.(\d+)\."


@dataclass(frozen=True)
class Borders:
    """Of a network: pixels of the picture that it loses on each side, and of what its height and width must be a multiple with them."""

    lost: int
    multiple: int


BORDERS = {1: Borders(28, 4), 2: Borders(18, 2), 3: Borders(14, 4)}
"""By how many times the first U-net enlarges."""


def detect(w: Weights) -> bool:
    """By the names of the U-nets' convolutions; the chains by their widths too."""
    return all(f"{n}.weight" in w for n in ("unet1.conv1.conv.0", "unet1.conv_bottom", "unet2.conv4_up", "unet2.conv_bottom")) or _is_chain(w)


def build(w: Weights) -> list[Graph]:
    """The network, whatever its widths and scale."""
    if _is_chain(w):
        return [_chain(w)]
    w.used.update(w.tensors)
    clipped = bool(re.search(r"(?i)cunet|waifu|noise\d_scale|^scale\dx|^noise\d$", w.stem)) and not re.search(r"(?i)cugan", w.stem)
    enlarges = w.shape("unet1.conv_bottom.weight")[2] != 3
    if not enlarges or "pro" in w or "conv_final.weight" in w:
        return [_network(w.renamed({}), clip=not enlarges)]
    return [_network(w.renamed({}), clip=c) for c in (clipped, not clipped)]


def _network(w: Weights, clip: bool) -> Graph:
    """clip: waifu2x keeps the first U-net's result within 0..1; Real-CUGAN does not."""
    final = "conv_final.weight" in w
    fast = final and w.shape("unet1.conv1.conv.0.weight")[1] > 4
    colours = w.shape("conv_final.weight")[0] // 4 if final else w.shape("unet2.conv_bottom.weight")[0]
    net = Net(w, colours)
    w.skip("pro$")
    by = {3: 1, 4: 2, 5: 3}.get(w.shape("unet1.conv_bottom.weight")[2], 0)
    if by not in BORDERS:
        raise ModelError("its first U-net ends with a convolution of a size that is not known")
    borders = Borders(BORDERS[by].lost + final, BORDERS[by].multiple)
    if fast:
        borders = Borders(2 * borders.lost, 2 * borders.multiple)
    x = _padded(net, borders)
    first = _unet1(net, net.unshuffle(x, 2) if fast else x, by)
    if clip:
        first = net.emit("Clip", [first, net.number(0), net.number(1)], net.channels[first])
    x = net.add(_unet2(net, first), net.pad(first, [-20] * 4))
    scale = 1 if fast else by
    if final:
        x = net.pad(net.conv(x, "conv_final", pad=0), [-1] * 4)
        x = net.shuffle(x, 2)
        scale *= 2
    x = _cropped(net, x, scale, borders.multiple)
    if final:
        x = net.add(x, net.resize(net.input, scale))
    if w.left():
        raise ModelError(f"'{w.left()[0]}' belongs to a variant that is not known")
    feed = fed(colours)
    if "pro" in w:
        feed = Feed(feed.colour, 0.7, (-0.15,) * colours, 0.7, (-0.15,) * colours)
    return net.done(x, feed, "CUNet" if clip else "Real-CUGAN")


# ---- sizes ---------------------------------------------------------------------------------------------------------------------------------------


def _padded(net: Net, borders: Borders) -> str:
    """The picture, reflected at its borders; its height and width the next multiples of a number."""
    more = borders.lost + borders.multiple - 1
    x = net.pad(net.input, [borders.lost, borders.lost, more, more], "reflect")
    m, c = borders.multiple, net.channels[x]
    pick = np.tile(np.eye(m * m, dtype=np.float32).reshape(m * m, 1, m, m), (c, 1, 1, 1))
    return net.shuffle(net.emit("Conv", [x, net.const(pick)], c * m * m, kernel_shape=[m, m], strides=[m, m], group=c), m)


def _cropped(net: Net, x: str, scale: int, multiple: int) -> str:
    """The result less the rows and columns that are not the picture's: first those that are not of a picture of half the multiple, and so on."""
    c = net.channels[x]
    every = np.ones((c, 1, 1, 1), np.float32)
    step = multiple // 2
    while step:
        like, block = net.input, scale * step
        if step > 1:
            like = net.emit("Conv", [like, net.const(every)], c, kernel_shape=[1, 1], strides=[step, step], group=c)
        if block > 1:
            x = net.emit("SpaceToDepth", [x], c * block**2, blocksize=block)
        x = net.resize_to(x, like, "nearest")
        if block > 1:
            x = net.emit("DepthToSpace", [x], c, blocksize=block, mode="DCR")
        net.scale[x] = Fraction(scale)
        step //= 2
    return x


# ---- U-nets --------------------------------------------------------------------------------------------------------------------------------------


def _act(net: Net, x: str) -> str:
    return net.act(x, "leaky0.1")


def _convs(net: Net, x: str, name: str) -> str:
    """Two convolutions; with channel attention where there is any."""
    for n in ("0", "2"):
        x = _act(net, net.conv(x, f"{name}.conv.{n}", pad=0))
    if f"{name}.seblock.conv1.weight" in net.w:
        x = attention(net, x, f"{name}.seblock.conv1", f"{name}.seblock.conv2")
    return x


def _down(net: Net, x: str, name: str) -> str:
    return _act(net, net.conv(x, name, stride=2, pad=0))


def _up(net: Net, x: str, name: str, beside: str, crop: int) -> str:
    """x enlarged, and what is beside it cropped and added."""
    return net.add(net.pad(beside, [-crop] * 4), _act(net, net.conv_transpose(x, name, 2, pad=0)))


def _unet1(net: Net, x: str, by: int) -> str:
    x1 = _convs(net, x, "unet1.conv1")
    x2 = _convs(net, _down(net, x1, "unet1.conv1_down"), "unet1.conv2")
    x3 = _act(net, net.conv(_up(net, x2, "unet1.conv2_up", x1, 4), "unet1.conv3", pad=0))
    if by == 1:
        return net.conv(x3, "unet1.conv_bottom", pad=0)
    return net.conv_transpose(x3, "unet1.conv_bottom", by, pad=3 if by == 2 else 2, extra=0)


def _unet2(net: Net, x: str) -> str:
    x1 = _convs(net, x, "unet2.conv1")
    x2 = _convs(net, _down(net, x1, "unet2.conv1_down"), "unet2.conv2")
    x3 = _convs(net, _down(net, x2, "unet2.conv2_down"), "unet2.conv3")
    x4 = _convs(net, _up(net, x3, "unet2.conv3_up", x2, 4), "unet2.conv4")
    x5 = _act(net, net.conv(_up(net, x4, "unet2.conv4_up", x1, 16), "unet2.conv5", pad=0))
    return net.conv(x5, "unet2.conv_bottom", pad=0)


# ---- chains --------------------------------------------------------------------------------------------------------------------------------------

WIDTHS: dict[tuple[int, ...], int] = {(16, 32, 64, 128, 128, 256): 4, (32, 32, 64, 64, 128, 128): 3}
"""Channels of the first six convolutions -> size of the last one, which is transposed when it is of 4x4."""


def _is_chain(w: Weights) -> bool:
    modules = w.modules
    if len(modules) != 7 or not all(re.match(CHAIN, n) for n in w) or any(m.kind != "conv" for m in modules):
        return False
    return WIDTHS.get(tuple(m.shape[0] for m in modules[:6])) == modules[6].shape[2] and all(m.shape[2] == 3 for m in modules[:6])


def _chain(w: Weights) -> Graph:
    net = Net(w, w.modules[0].shape[1])
    x = net.pad(net.input, [7] * 4, "edge")
    for m in w.modules[:6]:
        x = _act(net, net.conv(x, m.name, pad=0))
    last = w.modules[6]
    if last.shape[2] == 4:
        return net.done(net.conv_transpose(x, last.name, 2, pad=3, extra=0), fed(net.channels[net.input]), "upconv_7")
    return net.done(net.conv(x, last.name, pad=0), fed(net.channels[net.input]), "vgg_7")
