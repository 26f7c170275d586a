"""The hourglass of `fastsr train`: FSRCNN with a skip over its middle, to which the picture's nearest pixels are added."""

from __future__ import annotations

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import fed, shuffle_to
from .weights import Weights

NAME = "hourglass"
PAPER = "Dong et al., FSRCNN, ECCV 2016, in the shape of OpenCV's files, with skips of fastsr; not the stacked hourglass of Newell et al."
FED = "Y or RGB 0..1"

REFUSES = True
"""Nothing else has such names."""

FIRST, MIDDLE, LAST = (f"hourglass.{part}_part" for part in ("first", "mid", "last"))


def detect(w: Weights) -> bool:
    """By the names of its parts."""
    return w.has(rf"{FIRST}\.0\.weight") and all(n.startswith("hourglass.") for n in w)


def build(w: Weights) -> Graph:
    """The network, whatever its widths, depth and scale. Raises ModelError where a part of it is missing."""
    numbers = w.numbers(rf"{MIDDLE}\.(\d+)\.weight")
    convolutions = numbers[::2]
    if len(convolutions) < 2 or numbers != list(range(2 * len(convolutions))):
        raise ModelError(f"of the parts '{MIDDLE}.N' with weights there are {numbers}: some are missing")
    for name in (f"{FIRST}.0", *(f"{MIDDLE}.{n}" for n in convolutions), LAST):
        if f"{name}.bias" not in w:
            raise ModelError(f"'{name}.bias' is missing")
    net = Net(w, w.shape(f"{FIRST}.0.weight")[1])
    first = x = net.prelu(net.conv(net.input, f"{FIRST}.0"), f"{FIRST}.1")
    for n in convolutions:
        x = net.conv(x, f"{MIDDLE}.{n}")
        if n == convolutions[-1]:
            x = net.add(x, first)
        x = net.prelu(x, f"{MIDDLE}.{n + 1}")
    x = shuffle_to(net, net.conv(x, LAST), net.channels[net.input])
    x = net.add(x, net.resize(net.input, float(net.scale[x])))
    return net.done(x, fed(net.channels[net.input]), NAME)
