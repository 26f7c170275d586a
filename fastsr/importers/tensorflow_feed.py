"""What a frozen graph does not say: how a picture is fed to the network, and which of several inputs the network itself takes."""

from __future__ import annotations

from ..graph import Feed
from .feed import divided, left_open, multiplied
from .tensorflow_context import Context

EDSR_MEAN = (103.1545782, 111.561547, 114.35629928)
"""Mean of DIV2K in BGR, which OpenCV's dnn_superres subtracts before EDSR and adds after it."""


def leave_out_enlarged_inputs(ctx: Context) -> None:
    """Cut off what mixes the network's result with a second picture that has to be enlarged already.

    FALSR (Xiaomi) takes Y and the enlarged PbPr, and ends with the conversion to RGB. All inputs of a Graph have one size, so the part that depends
    on Y alone is kept, and its results that the rest reads become the outputs. `Graph.meta["left out"]` names the inputs that went.
    """
    graph = ctx.graph
    gone = {name for name in ctx.enlarged if name in {i.name for i in graph.inputs}}
    tainted, read = set(gone), []
    for node in graph.nodes:
        if any(i in tainted for i in node.inputs):
            tainted.update(node.outputs)
            read += [i for i in node.inputs if i and i not in tainted and i not in graph.constants]
    if not gone or not read or graph.outputs[0] not in tainted:
        return
    graph.outputs = list(dict.fromkeys([*(o for o in graph.outputs if o not in tainted), *read]))
    graph.inputs = [i for i in graph.inputs if i.name not in gone]
    graph.nodes = [n for n in graph.nodes if not any(o in tainted for o in n.outputs)]
    graph.meta["left out"] = sorted(gone)


def guess_feed(ctx: Context) -> Feed:
    """How a picture is fed, deduced from channels, names and first and last operators.

    One channel: Y, as OpenCV's ESPCN, FSRCNN and LapSRN take it. Three channels between `IteratorGetNext` and `NCHW_output`: OpenCV's EDSR, BGR
    0..255 minus the mean of DIV2K. Other networks of three channels: RGB. Else "raw". Values are 0..1, but 0..255 where the placeholder is uint8 or
    the network begins by dividing by 255, and in the result where it ends by multiplying by 255.

    A network that does not enlarge (SRCNN: the frozen one of FEQE is fed RGB in 0..1, already enlarged by the bicubic filter) does not say by how
    much the picture must be enlarged before: see `tried`.
    """
    graph = ctx.graph
    if len(graph.inputs) != 1:
        return Feed()
    source = graph.inputs[0]
    if source.channels not in (1, 3) or ctx.channels.get(graph.outputs[0]) != source.channels:
        return Feed()
    if source.channels == 3 and source.name == "IteratorGetNext" and graph.outputs[0] == "NCHW_output":
        return Feed(colour="bgr", range=255.0, mean=EDSR_MEAN, out_range=255.0, out_mean=EDSR_MEAN)
    whole = ctx.nodes[source.name].attr_type("dtype", 1) == 4
    in_range = 255.0 if whole or divided(graph, source.name) else 1.0
    out_range = 255.0 if multiplied(graph, graph.outputs[0]) else 1.0
    left_open(graph, in_range == 1.0, out_range == 1.0)
    return Feed(colour="y" if source.channels == 1 else "rgb", range=in_range, out_range=out_range)
