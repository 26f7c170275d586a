"""RDN: residual dense blocks, whose convolutions read all before them, and a fusion of the blocks' results."""

from __future__ import annotations

from functools import partial

from ..errors import ModelError
from ..graph import Graph
from .net import Net
from .parts import Spelling, fed, in_order, refed, upsampler
from .weights import Module, Weights

NAME = "RDN"
PAPER = "Zhang et al., Residual Dense Network for Image Super-Resolution, CVPR 2018"
FED = "RGB or Y 0..1; RGB 0..255"

SPELLINGS = (
    Spelling(("sfe1", "sfe2", "rdbs", "gff", "upscale", "output")),
    Spelling(("SFENet1", "SFENet2", "RDBs", "GFF", "UPNet"), late=r"\.LFF$"),
    Spelling(("conv1", "conv2", "trunk", "global_feature_fusion", "upsampling", "conv3"), late=r"\.local_feature_fusion$"),
    Spelling(("conv1", "conv2", "RDB", "GFF_1x1", "GFF_3x3", "conv_up", "conv3"), late=r"\.conv_1x1$"),
)
"""yjn870 and MMEditing; EDSR-PyTorch and BasicSR; Lornatang; lizhengwei1992. Others must be in order."""


def detect(w: Weights) -> bool:
    """Two convolutions, then some that each read more channels than the one before, then one of 1x1."""
    modules = _modules(w)
    if len(modules) < 7 or any(len(m.shape) != 4 for m in modules):
        return False
    try:
        blocks, rest = _blocks(modules)
    except ModelError:
        return False
    return bool(blocks) and len(rest) >= 2


def build(w: Weights) -> list[Graph]:
    """The network, whatever its blocks, widths and scale."""
    colours = _modules(w)[-1].shape[0]
    small, large = fed(colours), fed(colours, 255)
    return refed(partial(_network, w), *((large, small) if "SFENet1.weight" in w else (small, large)))


def _modules(w: Weights) -> list[Module]:
    return in_order(w, SPELLINGS)


def _blocks(modules: list[Module]) -> tuple[list[list[Module]], list[Module]]:
    """The convolutions of each block, the last of 1x1, and what follows the blocks. Raises ModelError where they are none."""
    start = modules[1].shape[0]
    if modules[0].shape[0] != modules[1].shape[1]:
        raise ModelError("its second convolution does not read what the first makes")
    blocks: list[list[Module]] = []
    rest, wide = modules[2:], start
    while rest:
        block, seen = [], wide
        while rest and rest[0].shape[2] > 1 and rest[0].shape[1] == seen:
            seen += rest[0].shape[0]
            block.append(rest[0])
            rest = rest[1:]
        if not block or not rest or rest[0].shape[1:] != (seen, 1, 1):
            rest = [*block, *rest]
            break
        blocks.append([*block, rest[0]])
        wide, rest = rest[0].shape[0], rest[1:]
    return blocks, rest


def _network(w: Weights) -> Graph:
    names = w.renamed({})
    modules = _modules(w)
    blocks, rest = _blocks(modules)
    net = Net(names, modules[0].shape[1])
    first = net.conv(net.input, modules[0].name)
    x = net.conv(first, modules[1].name)
    outs = []
    for block in blocks:
        x = _block(net, x, block)
        outs.append(x)
    x = net.concat(*outs) if len(outs) > 1 else x
    for m in rest[:2]:
        x = net.conv(x, m.name)
    out = upsampler(net, net.add(x, first), [m.name for m in rest[2:]], net.channels[net.input])
    if names.left():
        raise ModelError(f"'{names.left()[0]}' belongs to a variant that is not known")
    w.used.update(w.tensors)
    return net.done(out, fed(net.channels[net.input]), NAME)


def _block(net: Net, x: str, block: list[Module]) -> str:
    seen = [x]
    for m in block[:-1]:
        seen.append(net.act(net.conv(net.concat(*seen) if len(seen) > 1 else x, m.name), "relu"))
    return net.add(net.conv(net.concat(*seen), block[-1].name), x)
