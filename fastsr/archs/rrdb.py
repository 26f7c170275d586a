"""ESRGAN and Real-ESRGAN: residual in residual dense blocks."""

from __future__ import annotations

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .weights import Weights

NAME = "RRDBNet"
PAPER = "Wang et al., ESRGAN, ECCV Workshops 2018; Wang et al., Real-ESRGAN, ICCV Workshops 2021"
FED = "RGB 0..1; x2 and x1 networks begin with a pixel unshuffle"

RULES = {
    r"model\.0\.": "conv_first.",
    r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d+)\.0\.": r"body.\1.rdb\2.conv\3.",
    r"model\.1\.sub\.(\d+)\.": "conv_body.",
    r"RRDB_trunk\.(\d+)\.RDB(\d)\.": r"body.\1.rdb\2.",
    r"body\.(\d+)\.RDB(\d)\.": r"body.\1.rdb\2.",
    r"trunk_conv\.": "conv_body.",
    r"upconv(\d)\.": r"conv_up\1.",
    r"HRconv\.": "conv_hr.",
}
"""Names of the original code, of its successors and of Real-ESRGAN."""


def detect(w: Weights) -> bool:
    """By its blocks' names."""
    return w.has(r"(model\.1\.sub|RRDB_trunk|body)\.0\.(RDB|rdb)1\.conv1(\.0)?\.weight")


def build(w: Weights) -> Graph:
    """The network, whatever its depth, widths and scale."""
    names = w.renamed({**RULES, **_sequential(w)})
    w.used.update(w.tensors)
    c = names.shape("conv_first.weight")[1]
    unshuffle = {3: 1, 1: 1, 12: 2, 48: 4, 4: 2 if names.shape("conv_last.weight")[0] == 1 else 1, 16: 4}.get(c, 1)
    net = Net(names, c // unshuffle**2)
    x = first = net.conv(net.unshuffle(net.input, unshuffle), "conv_first")
    for n in names.numbers(r"body\.(\d+)\.rdb1\."):
        x = _block(net, x, f"body.{n}")
    x = net.add(first, net.conv(x, "conv_body"))
    for n in names.numbers(r"conv_up(\d+)\."):
        x = net.act(net.conv(net.resize(x, 2), f"conv_up{n}"), "leaky0.2")
    out = net.conv(net.act(net.conv(x, "conv_hr"), "leaky0.2"), "conv_last")
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, Feed("rgb" if net.channels["picture"] == 3 else "y"), NAME)


def _sequential(w: Weights) -> dict[str, str]:
    """Names of what follows the blocks in a plain sequence: upsampling, convolution, activation for each doubling, then two convolutions."""
    numbers = [n for n in w.numbers(r"model\.(\d+)\.weight") if n > 1]
    rules = {rf"model\.{n}\.": f"conv_up{k + 1}." for k, n in enumerate(numbers[:-2])}
    return rules | {rf"model\.{n}\.": f"{name}." for n, name in zip(numbers[-2:], ("conv_hr", "conv_last"), strict=False)}


def _block(net: Net, x: str, name: str) -> str:
    y = x
    for k in net.w.numbers(rf"{name}\.rdb(\d+)\."):
        y = _dense(net, y, f"{name}.rdb{k}")
    return net.add(net.times(y, 0.2), x)


def _dense(net: Net, x: str, name: str) -> str:
    """Each convolution reads all before it; the last one makes the residual."""
    *inner, last = net.w.numbers(rf"{name}\.conv(\d+)\.")
    seen = [x]
    for k in inner:
        seen.append(net.act(net.conv(net.concat(*seen), f"{name}.conv{k}"), "leaky0.2"))
    return net.add(net.times(net.conv(net.concat(*seen), f"{name}.conv{last}"), 0.2), x)
