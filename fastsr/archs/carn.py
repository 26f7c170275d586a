"""CARN and CARN-M: cascades of residual blocks, joined by 1x1 convolutions of all that was before."""

from __future__ import annotations

import math

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import SHIFTED, balanced_attention, fed, several, shifted, shifts
from .weights import Weights

NAME = "CARN"
PAPER = "Ahn et al., Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network, ECCV 2018"
FED = "RGB 0..1, mean shifts among the weights; of a network for several scales the one of `load(scale=)`, else that in the file's name, else x2"

RULES = {
    **SHIFTED,
    r"(b\d\.)?(b|c|r)(\d)\.body\.(\d)\.": r"\1\2\3.\4.",
    r"upsample\.up(\d?)\.body\.(\d)\.": r"upsample.up\1.\2.",
    r"(c\d)\.0\.body\.(\d)\.": r"\1.\2.",
    r"(c\d)\.1\.(ca|sa)\.": r"\1.attention.\2.",
    r"(.*)\.(c\d)\.(weight|bias)$": r"\1.\2.0.\3",
    r"(c\d)\.(weight|bias)$": r"\1.0.\2",
}


def detect(w: Weights) -> bool:
    """By the names of its blocks, the same everywhere."""
    return all(w.has(p) for p in (r"entry\.weight", r"b1\.b1\.body\.0\.weight", r"b1\.c1(\.body\.0)?\.weight", r"exit\.weight"))


def build(w: Weights) -> Graph:
    """The network, whatever its widths, groups and scale."""
    names = w.renamed(RULES)
    top = shifts(names)
    colours = names.shape("exit.weight")[0]
    net = Net(names, colours)
    x = net.conv(shifted(net, net.input, "sub_mean"), "entry")
    x = _cascade(net, x, "")
    scales = [n for n in names.numbers(r"upsample\.up(\d)\.") if n > 1]
    x = net.conv(_upsample(net, x, w.one_of(scales, scales[0]) if scales else 0, w.scale_hint()), "exit")
    out = shifted(net, x, "add_mean")
    w.used.update(w.tensors)
    left = names.left()
    if left:
        raise ModelError(f"'{left[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours, top or 1), NAME, **several(scales))


def _cascade(net: Net, x: str, name: str) -> str:
    """Blocks b1, b2, ..., each followed by a 1x1 convolution c1, c2, ... of all that was before; without a b2 the first serves again."""
    seen = x
    for k in net.w.numbers(rf"{name}c(\d)\."):
        block = f"{name}b{k}" if net.w.has(rf"{name}b{k}\..*") else f"{name}b1"
        y = _block(net, x, block) if name else _cascade(net, x, f"{block}.")
        seen = net.concat(seen, y)
        x = net.act(net.conv(seen, f"{name}c{k}.0"), "relu")
        if f"{name}c{k}.attention.ca.fc1.weight" in net.w:
            x = balanced_attention(net, x, f"{name}c{k}.attention")
    return x


def _block(net: Net, x: str, name: str) -> str:
    """Convolutions with ReLUs between them, added to x, and a ReLU."""
    y = x
    for k, n in enumerate(net.w.numbers(rf"{name}\.(\d)\.")):
        y = net.conv(net.act(y, "relu") if k else y, f"{name}.{n}", grouped=True)
    return net.act(net.add(y, x), "relu")


def _upsample(net: Net, x: str, scale: int, hint: int) -> str:
    """The branch for one scale, 0 where there is one branch: convolution, ReLU, pixel shuffle; or nearest pixels, convolution, ReLU."""
    name = f"upsample.up{scale or ''}"
    numbers, c = net.w.numbers(rf"{name}\.(\d)\."), net.channels[x]
    for n in numbers:
        wide = net.w.shape(f"{name}.{n}.weight")[0]
        if wide == c:
            x = net.resize(x, 3 if (scale or hint) == 3 and len(numbers) == 1 else 2)
        x = net.act(net.conv(x, f"{name}.{n}", grouped=True), "relu")
        x = net.shuffle(x, math.isqrt(wide // c))
        if net.channels[x] != c:
            raise ModelError(f"'{name}.{n}.weight' makes {wide} channels of {c}")
    net.w.skip(r"upsample\.up[0-9]\.")
    return x
