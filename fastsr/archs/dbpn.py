"""DBPN: features go up and down between the scales by projections that correct themselves; the picture is made of all that were up."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import fed, refed, shifted, shifts
from .weights import Weights

NAME = "DBPN"
PAPER = "Haris et al., Deep Back-Projection Networks for Super-Resolution, CVPR 2018"
FED = "RGB 0..1; EDSR-PyTorch's 0..255, mean shifts among the weights"

RULES = {
    r"feat0\.conv\.": "first.0.",
    r"feat0\.act\.": "first.1.",
    r"feat1\.conv\.": "first.2.",
    r"feat1\.act\.": "first.3.",
    r"initial\.": "first.",
    r"(up|down)(\d+)\.conv\.conv\.": r"\1.\2.before.0.",
    r"(up|down)(\d+)\.conv\.act\.": r"\1.\2.before.1.",
    r"(up|down)(\d+)\.(?:up|down)_conv(\d)\.(?:conv|deconv)\.": r"\1.\2.conv\3.0.",
    r"(up|down)(\d+)\.(?:up|down)_conv(\d)\.act\.": r"\1.\2.conv\3.1.",
    r"(up|down)modules\.(\d+)\.bottleneck\.": r"\1.\2.before.",
    r"(up|down)modules\.(\d+)\.conv_(\d)\.": r"\1.\2.conv\3.",
    r"(output_conv\.conv|reconstruction\.0)\.": "last.",
}
"""The original; EDSR-PyTorch's."""

PAD = 2


def detect(w: Weights) -> bool:
    """By the names of its projections."""
    names = w.renamed(RULES)
    return all(names.has(p) for p in (r"up\.\d+\.conv3\.0\.weight", r"down\.\d+\.conv2\.0\.weight", r"last\.weight", r"first\.2\.weight"))


def build(w: Weights) -> list[Graph]:
    """The network, whatever its width and number of projections; the original may add the interpolated picture to the result."""
    names = w.renamed(RULES)
    w.used.update(w.tensors)
    top, colours = shifts(names), names.shape("last.weight")[0]
    newest_first = w.has(r"feat0\..*")
    plain = partial(_network, names, colours, newest_first)
    if top or not newest_first:
        return refed(plain, *([fed(colours, top)] if top else [fed(colours, 255), fed(colours)]))
    return [plain(), plain(residual=True)]


def _network(names: Weights, colours: int, newest_first: bool, residual: bool = False) -> Graph:
    net = Net(names, colours)
    x = shifted(net, net.input, "sub_mean")
    for k in (0, 2):
        x = net.prelu(net.conv(x, f"first.{k}"), f"first.{k + 1}")
    highs: list[str] = []
    lows = [x]
    downs = names.numbers(r"down\.(\d+)\.")
    for k, n in enumerate(names.numbers(r"up\.(\d+)\.")):
        highs.append(_projection(net, _read(net, lows if k else [x], f"up.{n}", newest_first), f"up.{n}", up=True))
        if k < len(downs):
            low = _projection(net, _read(net, highs, f"down.{downs[k]}", newest_first), f"down.{downs[k]}", up=False)
            lows = [*lows, low] if k else [low]
    out = net.conv(net.concat(*_ordered(highs, newest_first)), "last")
    out = shifted(net, out, "add_mean")
    if residual:
        out = net.add(out, net.resize(net.input, float(net.scale[out]), "cubic"))
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), NAME)


def _ordered(values: list[str], newest_first: bool) -> list[str]:
    return values[::-1] if newest_first else values


def _read(net: Net, values: list[str], name: str, newest_first: bool) -> str:
    """All values so far, by a convolution of 1x1; as many of them as the first convolution reads where there is none."""
    if f"{name}.before.0.weight" in net.w:
        return net.prelu(net.conv(net.concat(*_ordered(values, newest_first)), f"{name}.before.0"), f"{name}.before.1")
    wide = net.w.shape(f"{name}.conv1.0.weight")
    taken = wide[0 if name.startswith("up") else 1] if len(wide) == 4 else 0
    if len(values) > 1 and taken > net.channels[values[-1]]:
        return net.concat(*_ordered(values, newest_first))
    return values[-1]


def _projection(net: Net, x: str, name: str, up: bool) -> str:
    """There, back, and there again with what got lost."""
    first = _step(net, x, f"{name}.conv1", up)
    back = _step(net, first, f"{name}.conv2", not up)
    return net.add(_step(net, net.sub(back, x), f"{name}.conv3", up), first)


def _step(net: Net, x: str, name: str, up: bool) -> str:
    shape = net.w.shape(f"{name}.0.weight")
    if len(shape) != 4 or shape[2] not in (6, 8, 12):
        raise ModelError(f"'{name}.0.weight' has shape {list(shape)}, a kernel of 6, 8 or 12 was expected")
    stride = shape[2] - 2 * PAD
    y = net.conv_transpose(x, f"{name}.0", stride, pad=PAD, extra=0) if up else net.conv(x, f"{name}.0", stride=stride, pad=PAD)
    return net.prelu(y, f"{name}.1")
