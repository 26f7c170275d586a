"""A2N: blocks in which what an attention branch makes and what a plain one makes are weighted by the means of the whole picture."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import fed, two_or_three
from .weights import Weights

NAME = "A2N"
PAPER = "Chen et al., Attention in Attention Network for Image Super-Resolution, 2021"
FED = "RGB 0..1; a network for x2 and one for x3 have the same weights, so whichever enlarges better where the name does not tell"

SOFT = 30
"""The weights of the two branches are a softmax of their scores, each divided by this."""


def detect(w: Weights) -> bool:
    """By the names of its blocks."""
    return all(w.has(p) for p in (r"AAB_trunk\.\d+\.ADM\.0\.weight", r"AAB_trunk\.\d+\.attention\.k1\.weight", r"trunk_conv\.weight"))


def build(w: Weights) -> list[Graph]:
    """The network, whatever its depth and widths; upconv2 is there for x4."""
    if w.has(r"upconv2\..*"):
        return [_network(w, 2)]
    w.used.update(w.tensors)
    return [_network(w.renamed({}), s) for s in two_or_three(w)]


def _network(w: Weights, step: int) -> Graph:
    net = Net(w, w.shape("conv_first.weight")[1])
    x = first = net.conv(net.input, "conv_first")
    for n in w.numbers(r"AAB_trunk\.(\d+)\."):
        x = _block(net, x, f"AAB_trunk.{n}")
    x = net.add(first, net.conv(x, "trunk_conv"))
    for n in w.numbers(r"upconv(\d)\."):
        x = net.conv(net.resize(x, step), f"upconv{n}")
        x = net.act(net.mul(x, net.act(net.conv(x, f"att{n}.conv"), "sigmoid")), "leaky0.2")
        x = net.act(net.conv(x, f"HRconv{n}"), "leaky0.2")
    out = net.conv(x, "conv_last")
    out = net.add(out, net.resize(net.input, float(net.scale[out]), "linear"))
    if w.left():
        raise ModelError(f"'{w.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(net.channels[net.input]), NAME)


def _block(net: Net, x: str, name: str) -> str:
    y = net.act(net.conv(x, f"{name}.conv_first"), "leaky0.2")
    share = _linear(net, net.act(_linear(net, net.mean(y), net.w[f"{name}.ADM.0.weight"]), "relu"), _difference(net.w[f"{name}.ADM.2.weight"]))
    share = net.act(share, "sigmoid")
    gate = net.act(net.conv(net.act(net.conv(y, f"{name}.attention.k1"), "leaky0.2"), f"{name}.attention.k2"), "sigmoid")
    attended = net.conv(net.mul(net.conv(y, f"{name}.attention.k3"), gate), f"{name}.attention.k4")
    plain = net.conv(y, f"{name}.non_attention")
    y = net.act(net.add(net.mul(net.sub(attended, plain), share), plain), "leaky0.2")
    return net.add(net.conv(y, f"{name}.conv_last"), x)


def _difference(scores: np.ndarray) -> np.ndarray:
    """What the sigmoid of the first branch's share is made of: a softmax of two."""
    if scores.ndim != 2 or scores.shape[0] != 2:
        raise ModelError(f"weights of two branches were expected, shape {list(scores.shape)}")
    difference: np.ndarray = (scores[:1] - scores[1:]) / np.float32(SOFT)
    return difference


def _linear(net: Net, x: str, weight: np.ndarray) -> str:
    """A fully connected layer on one pixel."""
    if weight.ndim != 2 or weight.shape[1] != net.channels[x]:
        raise ModelError(f"weights of shape {list(weight.shape)} do not fit {net.channels[x]} channels")
    return net.emit("Conv", [x, net.const(weight[:, :, None, None])], weight.shape[0], kernel_shape=[1, 1])
