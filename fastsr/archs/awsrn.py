"""AWSRN: residual blocks whose sum has a learnt factor on either side, and a tail of several kernel sizes."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import DIV2K, fed, refed, shuffle_to
from .weights import Weights

NAME = "AWSRN"
PAPER = "Wang et al., Lightweight Image Super-Resolution with Adaptive Weighted Learning Network, 2019"
FED = "RGB -1..1 less DIV2K's mean; RGB 0..1"

def detect(w: Weights) -> bool:
    """By the names of its blocks and tails."""
    parts = (r"body\.\d+\.lfl\.\d+\.body\.0", r"body\.\d+\.reduction", r"tail\.tail_k\d", r"skip\.0")
    return all(w.has(rf"{p}\.weight") for p in parts)


def build(w: Weights) -> list[Graph]:
    """The network, whatever its depth, widths, scale and tails."""
    names = w.renamed({})
    w.used.update(w.tensors)
    colours = names.shape("head.0.weight")[1]
    return refed(lambda: _network(names, colours), fed(colours, 2, DIV2K), fed(colours), fed(colours, 255))


def _network(w: Weights, colours: int) -> Graph:
    net = Net(w, colours)
    x = net.conv(net.input, "head.0")
    for n in w.numbers(r"body\.(\d+)\."):
        x = _block(net, x, f"body.{n}")
    tails = [_factor(net, net.conv(x, f"tail.tail_k{k}"), f"tail.scale_k{k}.scale") for k in w.numbers(r"tail\.tail_k(\d)\.")]
    total = tails[0]
    for tail in tails[1:]:
        total = net.add(total, tail)
    out = shuffle_to(net, net.add(total, net.conv(net.input, "skip.0")), colours)
    if w.left():
        raise ModelError(f"'{w.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), NAME)


def _block(net: Net, x: str, name: str) -> str:
    made, y = [], x
    for n in net.w.numbers(rf"{name}\.lfl\.(\d+)\."):
        unit = f"{name}.lfl.{n}"
        inner = net.conv(net.act(net.conv(y, f"{unit}.body.0"), "relu"), f"{unit}.body.2")
        y = _sum(net, inner, y, unit)
        made.append(y)
    return _sum(net, net.conv(net.concat(*made), f"{name}.reduction"), x, name)


def _sum(net: Net, inner: str, x: str, name: str) -> str:
    return net.add(_factor(net, inner, f"{name}.res_scale.scale"), _factor(net, x, f"{name}.x_scale.scale"))


def _factor(net: Net, x: str, name: str) -> str:
    """x times one number."""
    number = net.w[name]
    if number.size != 1:
        raise ModelError(f"'{name}' has {number.size} numbers, one was expected")
    return net.emit("Mul", [x, net.const(np.float32(number.reshape(())), name)], net.channels[x])
