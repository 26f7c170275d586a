"""The hourglass of `fastsr train`: FSRCNN with a skip over its middle, to which the picture's nearest pixels are added."""

from __future__ import annotations

from ..graph import Graph
from .net import Net
from .parts import fed, shuffle_to
from .weights import Weights

NAME = "hourglass"
PAPER = "Dong et al., FSRCNN, ECCV 2016, in the shape of OpenCV's files, with skips of fastsr"
FED = "Y or RGB 0..1"

REFUSES = True
"""Nothing else has such names."""

FIRST, MIDDLE, LAST = (f"hourglass.{part}_part" for part in ("first", "mid", "last"))


def detect(w: Weights) -> bool:
    """By the names of its parts."""
    return w.has(rf"{FIRST}\.0\.weight") and all(n.startswith("hourglass.") for n in w)


def build(w: Weights) -> Graph:
    """The network, whatever its widths, depth and scale."""
    net = Net(w, w.shape(f"{FIRST}.0.weight")[1])
    first = x = net.prelu(net.conv(net.input, f"{FIRST}.0"), f"{FIRST}.1")
    numbers = w.numbers(rf"{MIDDLE}\.(\d+)\.weight")[::2]
    for n in numbers:
        x = net.conv(x, f"{MIDDLE}.{n}")
        if n == numbers[-1]:
            x = net.add(x, first)
        x = net.prelu(x, f"{MIDDLE}.{n + 1}")
    x = shuffle_to(net, net.conv(x, LAST), net.channels[net.input])
    x = net.add(x, net.resize(net.input, float(net.scale[x])))
    return net.done(x, fed(net.channels[net.input]), NAME)
