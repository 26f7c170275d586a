"""RFDN and RLFN: blocks of residual 3x3 convolutions that end with enhanced spatial attention; RFDN distils features before each of them."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import fed, refed, spatial_attention, upsampler
from .weights import Weights

NAME = "RFDN or RLFN"
PAPER = "Liu et al., Residual Feature Distillation Network, ECCV Workshops 2020; Kong et al., Residual Local Feature Network, CVPR Workshops 2022"
FED = "RGB 0..1 or 0..255"

RULES = {
    r"B(\d+)\.": r"blocks.\1.",
    r"block_?(\d+)\.": r"blocks.\1.",
    r"conv_(1|first)\.": "fea_conv.",
    r"conv_2\.": "LR_conv.",
}


def detect(w: Weights) -> bool:
    """Blocks of convolutions c1_r, c2_r, ... that end with attention."""
    names = w.renamed(RULES)
    return names.has(r"fea_conv\.weight") and names.has(r"blocks\.1\.c1_r\.weight") and names.has(r"blocks\.1\.esa\.conv_f\.weight")


def build(w: Weights) -> list[Graph]:
    """The network, whatever its widths, number of blocks and scale."""
    names = w.renamed(RULES)
    w.used.update(w.tensors)
    colours = names.shape("fea_conv.weight")[1]
    return refed(partial(_network, names, colours), fed(colours), fed(colours, 255))


def _network(names: Weights, colours: int) -> Graph:
    net = Net(names, colours)
    x = first = net.conv(net.input, "fea_conv")
    outs = []
    for n in names.numbers(r"blocks\.(\d+)\."):
        x = _block(net, x, f"blocks.{n}")
        outs.append(x)
    distils = names.has(r"blocks\.\d+\.c\d_d\.weight")
    if distils:
        x = net.act(net.conv(net.concat(*outs), "c.0"), "leaky0.05")
    x = net.add(net.conv(x, "LR_conv"), first)
    out = upsampler(net, x, [f"upsampler.{n}" for n in names.numbers(r"upsampler\.(\d+)\.")], colours)
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), "RFDN" if distils else "RLFN")


def _block(net: Net, x: str, name: str) -> str:
    y, distilled = x, []
    for k in net.w.numbers(rf"{name}\.c(\d)_r\."):
        if f"{name}.c{k}_d.weight" in net.w:
            distilled.append(net.act(net.conv(y, f"{name}.c{k}_d"), "leaky0.05"))
            y = net.act(net.add(net.conv(y, f"{name}.c{k}_r"), y), "leaky0.05")
        else:
            y = net.act(net.conv(y, f"{name}.c{k}_r"), "leaky0.05")
    if distilled:
        y = net.concat(*distilled, net.act(net.conv(y, f"{name}.c4"), "leaky0.05"))
    else:
        y = net.add(y, x)
    return spatial_attention(net, net.conv(y, f"{name}.c5"), f"{name}.esa")
