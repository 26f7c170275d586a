"""MSRN: blocks of 3x3 and 5x5 convolutions side by side, all blocks' results joined."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import balanced_attention, fed, refed, shifted, shifts, upsampler
from .weights import Weights

NAME = "MSRN"
PAPER = "Li et al., Multi-scale Residual Network for Image Super-Resolution, ECCV 2018"
FED = "RGB 0..255 or 0..1, mean shifts among the weights"


def detect(w: Weights) -> bool:
    """By the names of its blocks."""
    return all(f"{n}.weight" in w for n in ("head.0", "body.0.conv_3_1", "body.0.conv_5_2", "body.0.confusion", "tail.0"))


def build(w: Weights) -> list[Graph]:
    """The network, whatever its width, number of blocks and scale."""
    names = w.renamed({})
    w.used.update(w.tensors)
    top, colours = shifts(names), names.shape("head.0.weight")[1]
    make = partial(_network, names, colours)
    if not top:
        return refed(make, fed(colours, 255), fed(colours))
    return [*refed(make, fed(colours, top)), make(shifts_run=False)]


def _network(names: Weights, colours: int, shifts_run: bool = True) -> Graph:
    """shifts_run: super-image has mean shifts that it does not run."""
    net = Net(names, colours)
    x = first = net.conv(shifted(net, net.input, "sub_mean") if shifts_run else net.input, "head.0")
    outs = []
    for n in names.numbers(r"body\.(\d+)\."):
        x = _block(net, x, f"body.{n}")
        outs.append(x)
    tail = [m.name for m in names.modules if m.name.startswith("tail.")]
    x = net.conv(net.conv(net.concat(*outs, first), tail[0]), tail[1])
    out = upsampler(net, x, tail[2:], colours)
    out = shifted(net, out, "add_mean") if shifts_run else out
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), NAME)


def _block(net: Net, x: str, name: str) -> str:
    y = x
    for k in (1, 2):
        y = net.concat(*(net.act(net.conv(y, f"{name}.conv_{size}_{k}"), "relu") for size in (3, 5)))
    y = net.conv(y, f"{name}.confusion")
    if f"{name}.attention.ca.fc1.weight" in net.w:
        y = balanced_attention(net, y, f"{name}.attention")
    return net.add(y, x)
