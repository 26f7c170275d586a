"""ESRGAN and Real-ESRGAN: residual in residual dense blocks."""

from __future__ import annotations

import numpy as np

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

LORNATANG = {
    r"conv1\.": "conv_first.",
    r"trunk\.(\d+)\.rdb(\d)\.": r"body.\1.rdb\2.",
    r"conv2\.": "conv_body.",
    r"upsampling(\d)\.0\.": r"conv_up\1.",
    r"conv3\.0\.": "conv_hr.",
    r"conv4\.": "conv_last.",
}

LINDERNOREN = {
    r"conv1\.": "conv_first.",
    r"res_blocks\.(\d+)\.dense_blocks\.(\d)\.b(\d)\.0\.": r"body.\1.rdb\2.conv\3.",
    r"conv2\.": "conv_body.",
    r"upsampling\.(\d+)\.": r"conv_up\1.",
    r"conv3\.0\.": "conv_hr.",
    r"conv3\.2\.": "conv_last.",
}
"""PyTorch-GAN's, which takes and makes pictures normalised by ImageNet's mean and deviation."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def detect(w: Weights) -> bool:
    """By its blocks' names."""
    return w.has(r"(model\.1\.sub|RRDB_trunk|body)\.0\.(RDB|rdb)1\.conv1(\.0)?\.weight") or _rules(w) != RULES


def _rules(w: Weights) -> dict[str, str]:
    if "trunk.0.rdb1.conv1.weight" in w:
        return LORNATANG
    return LINDERNOREN if "res_blocks.0.dense_blocks.0.b1.0.weight" in w else RULES


def build(w: Weights) -> Graph | list[Graph]:
    """The network, whatever its depth, widths and scale. A single enlarging convolution may stand for x2 or x3."""
    rules = _rules(w)
    if rules is LINDERNOREN:
        return [_network(w, rules, 2, "leaky0.01", normalised) for normalised in (True, False)]
    names = w.renamed({**rules, **_sequential(w)})
    one = names.numbers(r"conv_up(\d+)\.") == [1] and names.shape("conv_up1.weight")[0] == names.shape("conv_hr.weight")[1]
    if not one or names.shape("conv_first.weight")[1] > 3 or w.scale_hint() == 2:
        return _network(w, rules, 2)
    return _network(w, rules, 3) if w.scale_hint() == 3 else [_network(w, rules, by) for by in (2, 3)]


def _network(w: Weights, rules: dict[str, str], by: int, act: str = "leaky0.2", normalised: bool = False) -> Graph:
    names = w.renamed({**rules, **(_sequential(w) if rules is RULES else {})})
    w.used.update(w.tensors)
    c = names.shape("conv_first.weight")[1]
    unshuffle = {3: 1, 1: 1, 12: 2, 48: 4, 4: 2 if names.shape("conv_last.weight")[0] == 1 else 1, 16: 4}.get(c, 1)
    net = Net(names, c // unshuffle**2)
    given = net.input
    mean, deviation = (net.const(np.array(values, np.float32).reshape(1, -1, 1, 1)) for values in IMAGENET)
    if normalised:
        given = net.emit("Div", [net.emit("Sub", [given, mean], 3), deviation], 3)
    x = first = net.conv(net.unshuffle(given, unshuffle), "conv_first")
    for n in names.numbers(r"body\.(\d+)\.rdb\d\."):
        x = _block(net, x, f"body.{n}", act)
    x = net.add(first, _conv(net, x, "conv_body"))
    for n in names.numbers(r"conv_up(\d+)\."):
        shuffled = names.shape(f"conv_up{n}.weight")[0] == 4 * net.channels[x]
        x = net.act(_conv(net, x if shuffled else net.resize(x, by), f"conv_up{n}"), act)
        x = net.shuffle(x, 2 if shuffled else 1)
    out = _conv(net, net.act(_conv(net, x, "conv_hr"), act), "conv_last")
    if normalised:
        out = net.emit("Add", [net.emit("Mul", [out, deviation], 3), mean], 3)
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, Feed("rgb" if net.channels["picture"] == 3 else "y"), NAME)


def _conv(net: Net, x: str, name: str) -> str:
    """A convolution of all channels: fewer would be groups, which these networks do not have."""
    takes = net.w.shape(f"{name}.weight")[1:2]
    if takes and takes[0] != net.channels[x]:
        raise ModelError(f"'{name}' takes {takes[0]} channels of {net.channels[x]}: a variant that is not known")
    return net.conv(x, name)


def _sequential(w: Weights) -> dict[str, str]:
    """Names of what follows the blocks in a plain sequence: upsampling, convolution, activation for each doubling, then two convolutions."""
    numbers = [n for n in w.numbers(r"model\.(\d+)\.weight") if n > 1]
    rules = {rf"model\.{n}\.": f"conv_up{k + 1}." for k, n in enumerate(numbers[:-2])}
    return rules | {rf"model\.{n}\.": f"{name}." for n, name in zip(numbers[-2:], ("conv_hr", "conv_last"), strict=False)}


def _block(net: Net, x: str, name: str, act: str) -> str:
    y = x
    for k in net.w.numbers(rf"{name}\.rdb(\d+)\."):
        y = _dense(net, y, f"{name}.rdb{k}", act)
    return net.add(net.times(y, 0.2), x)


def _dense(net: Net, x: str, name: str, act: str) -> str:
    """Each convolution reads all before it; the last one makes the residual."""
    *inner, last = net.w.numbers(rf"{name}\.conv(\d+)\.")
    seen = [x]
    for k in inner:
        seen.append(net.act(_conv(net, net.concat(*seen), f"{name}.conv{k}"), act))
    return net.add(net.times(_conv(net, net.concat(*seen), f"{name}.conv{last}"), 0.2), x)
