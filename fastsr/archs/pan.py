"""PAN: self-calibrated blocks with pixel attention, which is also in the upsampling."""

from __future__ import annotations

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import balanced_attention, fed, two_or_three
from .weights import Weights

NAME = "PAN"
PAPER = "Zhao et al., Efficient Image Super-Resolution Using Pixel Attention, ECCV Workshops 2020"
FED = "RGB 0..1"


def detect(w: Weights) -> bool:
    """By the names of its blocks and of the attention in the upsampling."""
    return w.has(r"SCPA_trunk\.0\.PAConv\.k2\.weight") and "conv_last.weight" in w


def build(w: Weights) -> list[Graph]:
    """The network, whatever its widths and depth; with one upsampling it is x2 or x3, as the file's name tells."""
    steps = w.numbers(r"upconv(\d+)\.")
    w.used.update(w.tensors)
    if len(steps) != 1:
        return [_network(w.renamed({}), 2)]
    return [_network(w.renamed({}), s) for s in two_or_three(w)]


def _network(w: Weights, step: int) -> Graph:
    net = Net(w, w.shape("conv_last.weight")[0])
    x = first = net.conv(net.input, "conv_first")
    for n in w.numbers(r"SCPA_trunk\.(\d+)\."):
        x = _block(net, x, f"SCPA_trunk.{n}")
    x = net.add(first, net.conv(x, "trunk_conv"))
    scale = 1
    for n in w.numbers(r"upconv(\d+)\."):
        x = net.conv(net.resize(x, step), f"upconv{n}")
        balanced = f"att{n}.ca.fc1.weight" in w
        x = net.act(balanced_attention(net, x, f"att{n}") if balanced else _attended(net, x, net.conv(x, f"att{n}.conv")), "leaky0.2")
        x = net.act(net.conv(x, f"HRconv{n}"), "leaky0.2")
        scale *= step
    out = net.add(net.conv(x, "conv_last"), net.resize(net.input, scale, "linear"))
    if w.left():
        raise ModelError(f"'{w.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(net.channels[net.input]), NAME)


def _attended(net: Net, x: str, by: str) -> str:
    return net.mul(x, net.act(by, "sigmoid"))


def _block(net: Net, x: str, name: str) -> str:
    a, b = (net.act(net.conv(x, f"{name}.conv1_{k}"), "leaky0.2") for k in "ab")
    a = net.conv(a, f"{name}.k1.0")
    b = net.conv(_attended(net, net.conv(b, f"{name}.PAConv.k3"), net.conv(b, f"{name}.PAConv.k2")), f"{name}.PAConv.k4")
    y = net.concat(net.act(a, "leaky0.2"), net.act(b, "leaky0.2"))
    return net.add(net.conv(y, f"{name}.conv3"), x)
