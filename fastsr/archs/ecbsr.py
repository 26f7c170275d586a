"""ECBSR and its plain form: a chain of 3x3 convolutions, each made of several that were trained beside each other, some of them of edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import fed, shuffle_to
from .weights import Weights

NAME = "ECBSR"
PAPER = "Zhang et al., Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices, ACM Multimedia 2021"
FED = "Y 0..255 or 0..1; whether a block adds its input is tried too"

EDGES = ("conv1x1_sbx", "conv1x1_sby", "conv1x1_lpl")


def detect(w: Weights) -> bool:
    """By the names of the chain's convolutions."""
    return w.has(r"backbone\.0\.conv3x3\.weight") and all(n.startswith("backbone.") for n in w)


def build(w: Weights) -> list[Graph]:
    """The network, whatever its depth, width and scale."""
    trained = w.has(r"backbone\.\d+\.conv1x1_3x3\.k0")
    adds = (False, True) if trained else (False,)
    graphs = [_network(w, a) for a in adds]
    return [replace(g, feed=replace(g.feed, range=top, out_range=top)) for top in (255, 1) for g in graphs]


def _network(w: Weights, adds: bool) -> Graph:
    numbers = w.numbers(r"backbone\.(\d+)\.")
    merged = Weights({}, w.stem)
    for n in numbers:
        name = f"backbone.{n}"
        kernel, bias = _kernel(w, name, adds)
        merged.tensors |= {f"{name}.weight": kernel.astype(np.float32), f"{name}.bias": bias.astype(np.float32)}
        slopes = w.get(f"{name}.act.weight")
        if slopes is not None:
            merged.tensors[f"{name}.act.weight"] = slopes
    w.skip(r"backbone\.\d+\.conv1x1_\w+\.mask")
    if w.left():
        raise ModelError(f"'{w.left()[0]}' belongs to a variant that is not known")
    net = Net(merged, merged.shape("backbone.0.weight")[1])
    x = net.input
    for n in numbers:
        x = net.conv(x, f"backbone.{n}")
        if f"backbone.{n}.act.weight" in merged:
            x = net.prelu(x, f"backbone.{n}.act")
        elif n != numbers[-1]:
            x = net.act(x, "relu")
    x = shuffle_to(net, x, net.channels[net.input])
    if net.channels[x] == 1:
        x = net.add(x, net.resize(net.input, float(net.scale[x])))  # the picture is added to each channel before the shuffle
    return net.done(x, fed(net.channels[net.input]), NAME)


def _kernel(w: Weights, name: str, adds: bool) -> tuple[np.ndarray, np.ndarray]:
    """The 3x3 convolution that all branches of a block make together, in float64."""
    kernel, bias = w[f"{name}.conv3x3.weight"].astype(np.float64), w[f"{name}.conv3x3.bias"].astype(np.float64)
    if kernel.ndim != 4 or kernel.shape[2:] != (3, 3) or bias.shape != kernel.shape[:1]:
        raise ModelError(f"'{name}.conv3x3' has weights of shape {list(kernel.shape)}")
    for k, b in _branches(w, name, kernel.shape):
        if k.shape != kernel.shape or b.shape != bias.shape:
            raise ModelError(f"the convolutions of '{name}' do not fit each other")
        kernel, bias = kernel + k, bias + b
    if adds and kernel.shape[0] == kernel.shape[1]:
        kernel[:, :, 1, 1] += np.eye(len(kernel))
    return kernel, bias


def _branches(w: Weights, name: str, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A convolution of 1x1 and one of 3x3, or one of 1x1 and the edges of each channel."""
    if f"{name}.conv1x1_3x3.k0" in w:
        k0, b0, k1, b1 = (w[f"{name}.conv1x1_3x3.{p}"].astype(np.float64) for p in ("k0", "b0", "k1", "b1"))
        if k1.shape[:1] + k0.shape[1:2] != shape[:2]:
            raise ModelError(f"the convolutions of '{name}' do not fit each other")
        yield np.einsum("omyx,mi->oiyx", k1, k0[:, :, 0, 0]), k1.sum((2, 3)) @ b0 + b1
    for edge in EDGES:
        if f"{name}.{edge}.k0" not in w:
            continue
        k0, b0, scale, bias, mask = (w[f"{name}.{edge}.{p}"].astype(np.float64) for p in ("k0", "b0", "scale", "bias", "mask"))
        each = (scale * mask)[:, 0]
        yield np.einsum("oyx,oi->oiyx", each, k0[:, :, 0, 0]), each.sum((1, 2)) * b0 + bias
