"""RCAN: residual groups of residual blocks with channel attention."""

from __future__ import annotations

import math
from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import DIV2K, SHIFTED, Spelling, attention, balanced_attention, fed, in_order, refed, shifted, shifts, upsampler
from .weights import Module, Weights

NAME = "RCAN"
PAPER = "Zhang et al., Image Super-Resolution Using Very Deep Residual Channel Attention Networks, ECCV 2018"
FED = "RGB 0..255 with mean shifts among the weights, or less DIV2K's mean; RGB 0..1"

SPELLINGS = (
    Spelling(("head", "body", "tail")),
    Spelling(("conv_first", "body", "conv_after_body", "upsample", "conv_last"), late=r"^body\.\d+\.conv$"),
    Spelling(("sf", "rgs", "conv1", "upscale", "conv2")),
    Spelling(("conv1", "trunk", "conv2", "upsampling", "conv3")),
)
"""EDSR-PyTorch and the original; BasicSR; yjn870; Lornatang. Others must be in order."""


def detect(w: Weights) -> bool:
    """A plain convolution, then two of 3x3 and two of 1x1, which make channels fewer and many again."""
    modules = _modules(w.renamed(SHIFTED))
    return len(modules) > 7 and _length(modules[1:]) > 0


def build(w: Weights) -> Graph | list[Graph]:
    """The network, whatever its groups, blocks, widths and scale."""
    names = w.renamed(SHIFTED)
    top = shifts(names)
    w.used.update(w.tensors)
    colours = 3 if top else _modules(names)[-1].shape[0]
    make = partial(_network, names, colours)
    if top:
        others = [fed(colours)] if top > 1 and w.has(r".*\.sa\.conv1\.weight") else []
        return refed(make, fed(colours, top), *others)
    mean = names.tensors.get("mean")
    if mean is not None and mean.size == colours:
        return refed(make, fed(colours, 1, [float(m) for m in mean.reshape(-1)]))
    if "conv_first.weight" in w:
        return refed(make, fed(colours, 255, DIV2K), fed(colours, 1, DIV2K), fed(colours))
    return refed(make, fed(colours), fed(colours, 255), fed(colours, 255, DIV2K))


def _modules(names: Weights) -> list[Module]:
    return [m for m in in_order(_without_shifts(names), SPELLINGS) if m.kind in ("conv", "vector")]


def _without_shifts(names: Weights) -> Weights:
    kept = names.renamed({})
    kept.tensors = {n: t for n, t in names.tensors.items() if not n.startswith(("sub_mean.", "add_mean.")) and n != "mean"}
    return kept


def _length(modules: list[Module]) -> int:
    """How many modules are a block: two convolutions, then two of 1x1, in balanced attention with slopes and one of one channel. 0 for none."""
    kinds = "".join(m.kind[0] for m in modules[:6])
    balanced = kinds in ("cccvcc", "ccccvc") and modules[5].shape[:2] == (1, 1)
    if not balanced and kinds[:4] != "cccc":
        return 0
    a, b, down, up = [m.shape for m in modules[:6] if m.kind == "conv"][:4]
    c = a[0]
    found = a == b == (c, c, *a[2:]) and a[2] > 1 and down[1:] == (c, 1, 1) and up == (c, down[0], 1, 1)
    return (6 if balanced else 4) if found else 0


def _network(names: Weights, colours: int) -> Graph:
    modules = _modules(names)
    first, rest = modules[0], modules[1:]
    net = Net(names, colours)
    x = shifted(net, net.input, "sub_mean")
    block = math.isqrt(max(first.shape[1] // colours, 1))
    if block not in (1, 2, 4):
        raise ModelError(f"its first convolution takes {first.shape[1]} channels")
    x = head = net.conv(net.unshuffle(x, block), first.name)
    groups, tail = _groups(rest)
    for blocks, last in groups:
        x = _group(net, x, blocks, last)
    if not tail or tail[0].shape[:2] != (first.shape[0], first.shape[0]):
        raise ModelError("its groups of blocks do not end with a convolution")
    x = net.add(net.conv(x, tail[0].name), head)
    x = shifted(net, upsampler(net, x, [m.name for m in tail[1:]], colours), "add_mean")
    left = [n for n in names.left() if n != "mean"]
    if left:
        raise ModelError(f"'{left[0]}' belongs to a variant that is not known")
    return net.done(x, fed(colours), NAME)


def _groups(modules: list[Module]) -> tuple[list[tuple[list[list[Module]], Module]], list[Module]]:
    """Groups of blocks, each with the convolution that ends it, and what follows them."""
    groups: list[tuple[list[list[Module]], Module]] = []
    while _length(modules):
        blocks = []
        while n := _length(modules):
            blocks.append(modules[:n])
            modules = modules[n:]
        if not modules:
            raise ModelError("its last group of blocks does not end with a convolution")
        groups.append((blocks, modules[0]))
        modules = modules[1:]
    return groups, modules


def _group(net: Net, x: str, blocks: list[list[Module]], last: Module) -> str:
    y = x
    for block in blocks:
        a, b, down, *rest = (m.name for m in block)
        z = net.conv(net.act(net.conv(y, a), "relu"), b)
        if len(block) == 4:
            z = attention(net, z, down, rest[0])
        else:
            z = balanced_attention(net, z, down.rpartition(".ca.")[0])
        y = net.add(z, y)
    return net.add(net.conv(y, last.name), x)
