"""Swift-SRGAN, SRGAN of separable convolutions, and the plain SRGAN of the same blocks, in which slopes stand that do not run."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .parts import fed
from .weights import Weights

NAME = "Swift-SRGAN"
PAPER = "Krishnan et al., SwiftSRGAN, ICSSIT 2021; Ledig et al., SRGAN, CVPR 2017, in the form of aladdinpersson"
FED = "RGB 0..1 in, or -1..1, and -1..1 out, as the network ends in tanh; whichever enlarges better"

RULES = {r"residuals\.": "residual.", r"upsamples\.": "upsampler.", r"final_conv\.": "final."}


def detect(w: Weights) -> bool:
    """By the names of its blocks."""
    names = w.renamed(RULES)
    parts = (r"initial\.cnn", r"residual\.\d+\.block2\.cnn", r"convblock\.cnn", r"upsampler\.\d+\.conv", r"final")
    return all(names.has(rf"{p}\..*") for p in parts)


def build(w: Weights) -> list[Graph]:
    """The network, whatever its width, depth and scale; with tanh at the end, which is what both have, or without."""
    names = w.renamed(RULES)
    w.used.update(w.tensors)
    make = partial(_network, names)
    return [make(1), make(2), make(1, tanh=False)]


def _network(names: Weights, top: int, tanh: bool = True) -> Graph:
    """top: pixels of the input are 0..1 for 1 and -1..1 for 2."""
    end = "final.pointwise" if "final.pointwise.weight" in names else "final"
    net = Net(names, names.shape(f"{end}.weight")[0])
    x = first = _unit(net, net.input, "initial")
    for n in names.numbers(r"residual\.(\d+)\."):
        y = _unit(net, _unit(net, x, f"residual.{n}.block1"), f"residual.{n}.block2", act=False)
        x = net.add(y, x)
    x = net.add(_unit(net, x, "convblock", act=False), first)
    for n in names.numbers(r"upsampler\.(\d+)\."):
        x = net.prelu(net.shuffle(_conv(net, x, f"upsampler.{n}.conv"), 2), f"upsampler.{n}.act")
    out = _conv(net, x, "final")
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    if not tanh:
        return net.done(out, fed(net.channels[net.input]), NAME)
    n = net.channels[net.input]
    mean = (1.0,) * n
    return net.done(net.act(out, "tanh"), Feed("rgb" if n == 3 else "y", top, mean if top == 2 else (), 2, mean), NAME)


def _unit(net: Net, x: str, name: str, act: bool = True) -> str:
    """Convolution, normalisation where there is one, slopes where they run."""
    x = _conv(net, x, f"{name}.cnn")
    if f"{name}.bn.running_mean" in net.w:
        x = net.norm(x, f"{name}.bn")
    if not act:
        net.w.get(f"{name}.act.weight")
    return net.prelu(x, f"{name}.act") if act else x


def _conv(net: Net, x: str, name: str) -> str:
    if f"{name}.depthwise.weight" in net.w:
        return net.conv(net.conv(x, f"{name}.depthwise"), f"{name}.pointwise")
    return net.conv(x, name)
