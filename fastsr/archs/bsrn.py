"""BSRN: RFDN with separable convolutions, two attentions in a block, and an input of four equal pictures."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import contrast, fed, gate, refed, spatial_attention, upsampler
from .weights import Weights

NAME = "BSRN"
PAPER = "Li et al., Blueprint Separable Residual Network for Efficient Image Super-Resolution, CVPR Workshops 2022"
FED = "RGB 0..1 or 0..255"

COPIES = 4


def detect(w: Weights) -> bool:
    """Blocks of RFDN's names whose convolutions are separable, with both attentions."""
    return w.has(r"B1\.c1_r(\.dw)?\.weight") and "B1.cca.conv_du.0.weight" in w and "B1.esa.conv_f.weight" in w


def build(w: Weights) -> list[Graph]:
    """The network, whatever its widths, number of blocks and scale."""
    names = w.renamed({r"upsampler\.upsampleOneStep\.": "upsampler."})
    w.used.update(w.tensors)
    ups = names.numbers(r"upsampler\.(\d+)\.")
    wide = names.shape("fea_conv.pw1.weight") or names.shape("fea_conv.pw.weight") or names.shape("fea_conv.weight")
    dw = names.shape("fea_conv.dw.weight")
    depth_first = bool(dw) and "fea_conv.pw.weight" in names and len(wide) == 4 and dw[0] == wide[1] != wide[0]
    colours = wide[1] // COPIES if len(wide) == 4 else 0
    make = partial(_network, names, colours, ups, depth_first)
    return refed(make, fed(colours), fed(colours, 255))


def _network(names: Weights, colours: int, ups: list[int], depth_first: bool) -> Graph:
    net = Net(names, colours)
    conv = partial(_separable, net, depth_first)
    x = first = conv(net.concat(*[net.input] * COPIES), "fea_conv")
    outs = []
    for n in names.numbers(r"B(\d+)\."):
        x = _block(net, x, f"B{n}", depth_first)
        outs.append(x)
    x = net.act(net.conv(net.concat(*outs), "c1"), "gelu")
    out = upsampler(net, net.add(conv(x, "c2"), first), [f"upsampler.{n}" for n in ups], colours)
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    return net.done(out, fed(colours), NAME)


def _separable(net: Net, depth_first: bool, x: str, name: str, stride: int = 1, pad: int | None = None) -> str:
    """A convolution, or one of 1x1 (or two) and one of each channel, in the order that depth_first says."""
    if f"{name}.weight" in net.w:
        return net.conv(x, name, stride, pad)
    points = [p for p in ("pw", "pw1", "pw2") if f"{name}.{p}.weight" in net.w]
    if depth_first:
        x = net.conv(x, f"{name}.dw", stride, pad)
    for p in points:
        x = net.conv(x, f"{name}.{p}")
    return x if depth_first else net.conv(x, f"{name}.dw", stride, pad)


def _block(net: Net, x: str, name: str, depth_first: bool) -> str:
    conv = partial(_separable, net, depth_first)
    y, distilled = x, []
    for k in net.w.numbers(rf"{name}\.c(\d)_r\."):
        distilled.append(net.act(net.conv(y, f"{name}.c{k}_d"), "gelu"))
        y = net.act(net.add(conv(y, f"{name}.c{k}_r"), y), "gelu")
    y = net.conv(net.concat(*distilled, net.act(conv(y, f"{name}.c4"), "gelu")), f"{name}.c5")
    y = spatial_attention(net, y, f"{name}.esa", conv, "gelu")
    return net.add(gate(net, y, contrast(net, y), f"{name}.cca.conv_du.0", f"{name}.cca.conv_du.2"), x)
