"""SPAN: blocks whose attention has no weights of its own, of convolutions that are several when they are trained and one afterwards."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import DIV2K, fed, refed, upsampler
from .weights import Weights

NAME = "SPAN"
PAPER = "Wan et al., Swift Parameter-free Attention Network for Efficient Super-Resolution, CVPR Workshops 2024"
FED = "RGB 0..255 less DIV2K's mean, result 0..1; RGB 0..1"

MAX_WEIGHTS = 1 << 24
"""Of one convolution that was several."""


def detect(w: Weights) -> bool:
    """By the names of its blocks, with the convolutions of training or the one made of these; SPANPlus has groups of blocks."""
    return w.has(r"(feats\.1\.)?block_1\.c1_r\.(sk|eval_conv|weight)(\.weight)?") and w.has(r"(feats\.1\.)?conv_cat\.weight")


def build(w: Weights) -> list[Graph]:
    """The network, whatever its widths and scale."""
    w.used.update(w.tensors)
    names = _merged(w)
    if w.has(r"feats\.0\..*"):
        return [_plus(names)]
    colours = names.shape("conv_1.weight")[1]
    plain, centred = fed(colours), fed(colours, 255, DIV2K, out_mean=False)
    return refed(partial(_network, names, colours), *((plain,) if "no_norm" in w else (centred, plain)))


def _merged(w: Weights) -> Weights:
    """Weights in which each convolution is one: 1x1, 3x3 and 1x1 without activations beside a 1x1, added."""
    out = Weights({}, w.stem)
    for name, tensor in w.tensors.items():
        module = name.rpartition(".sk.")[0] or name.rpartition(".eval_conv.")[0]
        if not module and ".conv." not in name and name != "no_norm":
            out.tensors[name] = tensor
        elif module and f"{module}.weight" not in out.tensors:
            trained = any(f"{module}.{part}.weight" in w for part in ("sk", "conv.1"))
            out.tensors[f"{module}.weight"], out.tensors[f"{module}.bias"] = _one(w, module) if trained else _given(w, module)
    return out


def _given(w: Weights, module: str) -> tuple[np.ndarray, np.ndarray]:
    return w[f"{module}.eval_conv.weight"], w[f"{module}.eval_conv.bias"]


def _one(w: Weights, module: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [w[f"{module}.conv.{k}.weight"].astype(np.float64) for k in range(3)]
    skip = w[f"{module}.sk.weight"].astype(np.float64)
    if any(p.ndim != 4 for p in (*parts, skip)) or any(p.shape[2:] != (1, 1) for p in (parts[0], parts[2], skip)):
        raise ModelError(f"the convolutions of '{module}' are not of 1x1, 3x3 and 1x1")
    first, mid, last = parts[0][:, :, 0, 0], parts[1], parts[2][:, :, 0, 0]
    if len(last) * first.shape[1] * mid[0, 0].size > MAX_WEIGHTS:
        raise ModelError(f"the convolutions of '{module}' make {len(last)} channels of {first.shape[1]}")
    wide = {"conv.0": len(first), "conv.1": len(mid), "conv.2": len(last), "sk": len(skip)}
    b0, b1, b2, b = (_bias(w, f"{module}.{part}", c) for part, c in wide.items())
    weight = np.einsum("om,mkyx,ki->oiyx", last, mid, first, optimize=True)
    ky, kx = mid.shape[2] // 2, mid.shape[3] // 2
    weight[:, :, ky, kx] += skip[:, :, 0, 0]
    bias = last @ (mid.sum((2, 3)) @ b0 + b1) + b2 + b
    return weight.astype(np.float32), bias.astype(np.float32)


def _bias(w: Weights, module: str, channels: int) -> np.ndarray:
    bias = w.get(f"{module}.bias")
    return np.zeros(channels) if bias is None else bias.astype(np.float64)


def _network(names: Weights, colours: int) -> Graph:
    net = Net(names, colours)
    first = x = net.conv(net.input, "conv_1")
    outs, inner = [], ""
    for n in names.numbers(r"block_(\d+)\."):
        x, inner = _block(net, x, f"block_{n}")
        outs.append(x)
    x = net.conv(net.concat(first, net.conv(x, "conv_2"), outs[0], inner), "conv_cat")
    out = upsampler(net, x, [f"upsampler.{n}" for n in names.numbers(r"upsampler\.(\d+)\.")], colours)
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), NAME)


def _plus(names: Weights) -> Graph:
    """SPANPlus of the neosr project: groups of blocks, with Mish."""
    if not names.has(r"upsampler(\.0)?\.weight"):
        raise ModelError("its upsampling samples the picture at places that it computes (DySample), which fastsr does not know")
    net = Net(names, names.shape("feats.0.weight")[1])
    x = net.conv(net.input, "feats.0")
    for k in names.numbers(r"feats\.(\d+)\.")[1:]:
        name, first = f"feats.{k}", x
        x, inner = _block(net, x, f"{name}.block_1", "mish")
        begun = x
        for n in names.numbers(rf"{name}\.block_n\.(\d+)\."):
            x, inner = _block(net, x, f"{name}.block_n.{n}", "mish")
        x, inner = _block(net, x, f"{name}.block_end", "mish")
        x = net.conv(net.concat(first, net.conv(x, f"{name}.conv_2"), begun, inner), f"{name}.conv_cat")
    up = "upsampler" if "upsampler.weight" in names else "upsampler.0"
    out = upsampler(net, x, [up], net.channels[net.input])
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(net.channels[net.input]), "SPANPlus")


def _block(net: Net, x: str, name: str, act: str = "silu") -> tuple[str, str]:
    """The block's result, and what its first convolution makes, activated: the implementation activates in place, so this is what it joins."""
    inner = net.act(net.conv(x, f"{name}.c1_r"), act)
    y = net.conv(net.act(net.conv(inner, f"{name}.c2_r"), act), f"{name}.c3_r")
    return net.mul(net.add(y, x), net.plus(net.act(y, "sigmoid"), -0.5)), inner
