"""IMDN: blocks that split off a quarter of the channels after each convolution and join these with contrast-aware channel attention."""

from __future__ import annotations

from ..errors import ModelError
from ..graph import Feed, Graph
from .net import Net
from .parts import contrast, fed, gate, shuffle_to, upsampler
from .weights import Weights

NAME = "IMDN"
PAPER = "Hui et al., Lightweight Image Super-Resolution with Information Multi-distillation Network, ACM Multimedia 2019"
FED = "RGB 0..1; IMDN_AS: the enlarged picture"

RULES = {
    r"IMDB(\d+)\.": r"blocks.\1.",
    r"block_?(\d+)\.": r"blocks.\1.",
    r"model\.0\.": "fea_conv.",
    r"model\.1\.sub\.(\d+)\.conv(\d)\.0\.": r"blocks.\1.c\2.",
    r"model\.1\.sub\.(\d+)\.conv(\d)\.": r"blocks.\1.c\2.",
    r"model\.1\.sub\.(\d+)\.conv1x1\.": r"blocks.\1.c5.",
    r"model\.1\.sub\.(\d+)\.(c\d)\.": r"blocks.\1.\2.",
    r"model\.1\.sub\.(\d+)\.(weight|bias)": r"LR_conv.\2",
    r"model\.(\d+)\.": r"upsampler.\1.",
    r"upsample\.": "upsampler.0.",
}
"""The original; KAIR's, which is also IMDN_RTC."""


def detect(w: Weights) -> bool:
    """Blocks of convolutions c1 to c4 and more, of which c2 reads fewer channels than c1 makes."""
    names = w.renamed(RULES)
    first = next(iter(names.numbers(r"blocks\.(\d+)\.c1\.")), 0)
    c1, c2 = (names.shape(f"blocks.{first}.{n}.weight") for n in ("c1", "c2"))
    return len(c1) == len(c2) == 4 and c2[1] < c1[0] == c1[1] and names.has(r"(fea_conv|conv_first)(\.0)?\.weight")


def build(w: Weights) -> Graph:
    """The network, whatever its widths, number of blocks and scale."""
    names = w.renamed({**RULES, r"conv_first\.": "fea_conv."})
    w.used.update(w.tensors)
    strided = names.has(r"fea_conv\.0\.weight")
    net = Net(names, names.shape("fea_conv.0.weight" if strided else "fea_conv.weight")[1])
    x, scale = _first(net)
    first = x
    outs = []
    for n in names.numbers(r"blocks\.(\d+)\."):
        x = _block(net, x, f"blocks.{n}")
        outs.append(x)
    if "c.0.weight" in names:
        x = net.act(net.conv(net.concat(*outs), "c.0"), "leaky0.05")
    x = net.add(net.conv(x, "LR_conv"), first)
    up = [f"upsampler.{n}" for n in names.numbers(r"upsampler\.(\d+)\.")]
    colours = net.channels[net.input]
    out = upsampler(net, x, up, colours) if up else shuffle_to(net, x, colours)
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    feed = fed(colours)
    if scale == 4 and net.scale[out] == 1:
        feed = Feed(feed.colour, pre_scale=w.scale_hint() or 4)
    return net.done(out, feed, NAME)


def _first(net: Net) -> tuple[str, int]:
    """What comes before the blocks, and how much smaller it makes the picture: IMDN_AS 4 times, IMDN_RTE, which knows no attention, twice."""
    if "fea_conv.weight" in net.w:
        return net.conv(net.input, "fea_conv"), 1
    if net.w.has(r"blocks\.\d+\.cca\..*"):
        x = net.act(net.conv(net.input, "fea_conv.0", stride=2, pad=1), "leaky0.05")
        return net.conv(x, "fea_conv.2", stride=2, pad=1), 4
    return net.conv(net.act(net.conv(net.input, "fea_conv.0"), "relu"), "fea_conv.2", stride=2, pad=1), 2


def _block(net: Net, x: str, name: str) -> str:
    """3x3 convolutions, each of what the one before it kept; what they split off is joined by the last one, of 1x1."""
    *inner, last = (f"{name}.c{n}" for n in net.w.numbers(rf"{name}\.c(\d)\."))
    deep = len(inner) > 4
    kind = "relu" if deep else "leaky0.05"
    rest, split = x, []
    for k, conv in enumerate(inner):
        y = net.conv(rest, conv)
        if k + 1 == len(inner):
            split.append(net.act(y, kind if deep else ""))
            break
        keep = net.w.shape(f"{inner[k + 1]}.weight")
        part, rest = net.split(net.act(y, kind), net.channels[y] - (keep[1] if keep else 0))
        split.append(part)
    y = net.concat(*split)
    if f"{name}.cca.conv_du.0.weight" in net.w:
        y = gate(net, y, contrast(net, y), f"{name}.cca.conv_du.0", f"{name}.cca.conv_du.2")
    return net.add(net.conv(y, last), x)
