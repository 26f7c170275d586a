"""PLKSR and RealPLKSR: blocks with one very large kernel on a part of the channels; RealPLKSR normalises over the whole picture."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from .net import MAX_CHANNELS, Net
from .parts import fed, shuffle_to
from .weights import Weights

NAME = "PLKSR"
PAPER = "Lee et al., Partial Large Kernel CNNs for Efficient Super-Resolution, 2024; RealPLKSR of the neosr project"
FED = "RGB 0..1"

RULES = {r"feats\.(\d+)\.channe_mixer\.": r"feats.\1.channel_mixer."}
"""PLKSR's own spelling."""

GROUPS = 4


def detect(w: Weights) -> bool:
    """By the names of its first block."""
    return "feats.0.weight" in w and "feats.1.lk.conv.weight" in w and "feats.1.refine.weight" in w


def build(w: Weights) -> Graph:
    """The network, whatever its widths, depth, kernels and scale."""
    names = w.renamed(RULES)
    w.used.update(w.tensors)
    net = Net(names, names.shape("feats.0.weight")[1])
    x = net.conv(net.input, "feats.0")
    act = "mish" if names.has(r"feats\.\d+\.norm\.weight") or w.has(r"feats\.\d+\.channel_mixer\..*") else "gelu"
    *blocks, last = names.numbers(r"feats\.(\d+)\.")[1:]
    for n in blocks:
        x = _block(net, x, f"feats.{n}", act)
    if names.has(r"to_img\..*"):
        raise ModelError("its upsampling samples the picture at places that it computes (DySample), which fastsr does not know")
    x = shuffle_to(net, net.conv(x, f"feats.{last}"), net.channels[net.input])
    out = net.add(x, net.resize(net.input, float(net.scale[x])))
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(net.channels[net.input]), "RealPLKSR" if act == "mish" else NAME)


def _block(net: Net, x: str, name: str, act: str) -> str:
    y = net.conv(net.act(net.conv(x, f"{name}.channel_mixer.0"), act), f"{name}.channel_mixer.2")
    wide = net.w.shape(f"{name}.lk.conv.weight")
    if len(wide) != 4 or wide[0] != wide[1]:
        raise ModelError(f"'{name}.lk.conv.weight' has shape {list(wide)}")
    if wide[0] == net.channels[y]:
        y = net.conv(y, f"{name}.lk.conv")
    else:
        part, rest = net.split(y, wide[0])
        y = net.concat(net.conv(part, f"{name}.lk.conv"), rest)
    if f"{name}.attn.f.0.weight" in net.w:
        y = net.mul(y, net.act(net.conv(y, f"{name}.attn.f.0"), "sigmoid"))
    y = net.conv(y, f"{name}.refine")
    if f"{name}.norm.weight" in net.w:
        y = group_norm(net, y, f"{name}.norm", GROUPS)
    return net.add(y, x)


def group_norm(net: Net, x: str, name: str, groups: int, eps: float = 1e-5) -> str:
    """Group normalisation (Wu and He, ECCV 2018): mean and variance of each group of channels over the whole picture."""
    c = net.channels[x]
    gamma, beta = net.w[f"{name}.weight"], net.w[f"{name}.bias"]
    if c > MAX_CHANNELS or c % groups or gamma.shape != (c,) or beta.shape != (c,):
        raise ModelError(f"the normalisation '{name}' does not have {c} channels in {groups} groups")
    size = c // groups
    together = np.kron(np.eye(groups), np.full((size, size), 1 / size)).astype(np.float32).reshape(c, c, 1, 1)
    mean = partial(_mean_of_groups, net, together)
    d = net.sub(x, mean(x))
    scale = net.emit("Sqrt", [net.plus(mean(net.mul(d, d)), eps)], c)
    y = net.emit("Div", [d, scale], c)
    y = net.emit("Mul", [y, net.const(gamma.reshape(1, -1, 1, 1))], c)
    return net.emit("Add", [y, net.const(beta.reshape(1, -1, 1, 1))], c)


def _mean_of_groups(net: Net, together: np.ndarray, x: str) -> str:
    return net.emit("Conv", [net.mean(x), net.const(together)], net.channels[x], kernel_shape=[1, 1])
