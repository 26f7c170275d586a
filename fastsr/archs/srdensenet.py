"""SRDenseNet: dense blocks, each of which reads all before it, and transposed convolutions."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import fed
from .weights import Weights

NAME = "SRDenseNet"
PAPER = "Tong et al., Image Super-Resolution Using Dense Skip Connections, ICCV 2017"
FED = "Y or RGB 0..1"


def detect(w: Weights) -> bool:
    """By the names of its blocks and what follows them."""
    return all(f"{n}.weight" in w for n in ("conv.conv", "dense_blocks.0.block.0.conv", "bottleneck.0", "deconv.0", "reconstruction"))


def build(w: Weights) -> Graph:
    """The network, whatever its growth, number of blocks and scale."""
    net = Net(w, w.shape("conv.conv.weight")[1])
    conv = partial(_conv, net)
    x = conv(net.input, "conv.conv")
    for n in w.numbers(r"dense_blocks\.(\d+)\."):
        seen: list[str] = []
        for k in w.numbers(rf"dense_blocks\.{n}\.block\.(\d+)\."):
            seen.append(conv(net.concat(*seen) if len(seen) > 1 else (seen or [x])[0], f"dense_blocks.{n}.block.{k}.conv"))
        x = net.concat(x, *seen)
    x = conv(x, "bottleneck.0")
    for n in w.numbers(r"deconv\.(\d+)\."):
        x = net.act(net.conv_transpose(x, f"deconv.{n}", 2), "relu")
    out = net.conv(x, "reconstruction")
    if w.left():
        raise ModelError(f"'{w.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(net.channels[net.input]), NAME)


def _conv(net: Net, x: str, name: str) -> str:
    return net.act(net.conv(x, name), "relu")
