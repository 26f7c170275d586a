"""MDSR: one chain of residual blocks for several scales, with a beginning and an end for each."""

from __future__ import annotations

import math
from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import balanced_attention, fed, refed, several, shifted, shifts, upsampler
from .weights import Weights

NAME = "MDSR"
PAPER = "Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPR Workshops 2017"
FED = "RGB 0..255, mean shifts among the weights; the scale of `load(scale=)`, else that in the file's name, else the smallest"


def detect(w: Weights) -> bool:
    """EDSR's names, and residual blocks before its body."""
    return "head.0.weight" in w and all(w.has(p) for p in (r"pre_process\.\d+\.0\.body\.0\.weight", r"upsample\.\d+\.0\.weight"))


def build(w: Weights) -> list[Graph]:
    """The network for one of its scales, whatever its depth and width."""
    w.used.update(w.tensors)
    names = w.renamed({})
    colours = names.shape("tail.0.weight")[0]
    scales = {_scale(names, n): n for n in names.numbers(r"upsample\.(\d+)\.")}
    branch, top = scales[w.one_of(sorted(scales), min(scales))], shifts(w)
    make = partial(_network, names, colours, branch, sorted(scales))
    if not top:
        return refed(make, fed(colours, 255), fed(colours))
    return [*refed(make, fed(colours, top)), *([make(shifts_run=False)] if len(scales) == 1 else [])]


def _network(names: Weights, colours: int, branch: int, scales: list[int], shifts_run: bool = True) -> Graph:
    """shifts_run: super-image, which has one branch, has mean shifts that it does not run."""
    net = Net(names, colours)
    x = net.conv(shifted(net, net.input, "sub_mean") if shifts_run else net.input, "head.0")
    for n in names.numbers(rf"pre_process\.{branch}\.(\d+)\."):
        x = _block(net, x, f"pre_process.{branch}.{n}")
    y, (*blocks, last) = x, names.numbers(r"body\.(\d+)\.")
    for n in blocks:
        y = _block(net, y, f"body.{n}")
    x = net.add(net.conv(y, f"body.{last}"), x)
    x = upsampler(net, x, [f"upsample.{branch}.{n}" for n in names.numbers(rf"upsample\.{branch}\.(\d+)\.")], net.channels[x])
    out = net.conv(x, "tail.0")
    out = shifted(net, out, "add_mean") if shifts_run else out
    names.skip(r"(pre_process|upsample)\.")
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), NAME, **several(scales))


def _scale(w: Weights, branch: int) -> int:
    """How many times a branch's upsampling enlarges."""
    scale = 1
    for n in w.numbers(rf"upsample\.{branch}\.(\d+)\."):
        shape = w.shape(f"upsample.{branch}.{n}.weight")
        scale *= math.isqrt(shape[0] // max(shape[1], 1)) if len(shape) == 4 else 1
    return scale


def _block(net: Net, x: str, name: str) -> str:
    y = x
    for k, n in enumerate(net.w.numbers(rf"{name}\.body\.(\d+)\.")):
        y = net.conv(net.act(y, "relu") if k else y, f"{name}.body.{n}")
    if f"{name}.attention.ca.fc1.weight" in net.w:
        y = balanced_attention(net, y, f"{name}.attention")
    return net.add(y, x)
