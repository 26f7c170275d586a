"""SRVGGNetCompact of Real-ESRGAN: a plain chain with one pixel shuffle, added to the nearest pixels."""

from __future__ import annotations

import math

from ..graph import Feed, Graph
from .net import Net
from .weights import Weights

NAME = "SRVGGNetCompact"
PAPER = "Wang et al., Real-ESRGAN, ICCV Workshops 2021"
FED = "RGB 0..1"


def detect(w: Weights) -> bool:
    """One numbered list of convolutions with or without slopes between them, the last one with a square number of times as many channels."""
    if not all(n.startswith("body.") and n.count(".") == 2 for n in w):
        return False
    convs = [m for m in w.modules if m.kind == "conv"]
    if len(convs) < 3 or convs[0].shape[1:] != (3, 3, 3):
        return False
    return convs[-1].shape[0] == 3 * math.isqrt(convs[-1].shape[0] // 3) ** 2


def build(w: Weights) -> Graph:
    """The network, whatever its depth, width and scale; without slopes its activation is ReLU or, with a slope of 0.1, LeakyReLU."""
    net = Net(w, 3)
    x = net.input
    numbers = w.numbers(r"body\.(\d+)\.")
    last = numbers[-1]
    slopes = any(len(w.shape(f"body.{n}.weight")) == 1 for n in numbers)
    for n in numbers:
        if len(w.shape(f"body.{n}.weight")) == 1:
            x = net.prelu(x, f"body.{n}")
        else:
            x = net.conv(x, f"body.{n}")
            x = x if slopes or n == last else net.act(x, "relu")
    scale = math.isqrt(net.channels[x] // 3)
    out = net.add(net.shuffle(x, scale), net.resize(net.input, scale))
    return net.done(out, Feed("rgb"), NAME)
