"""What the rewrites take for granted about a graph's parameters, checked once before them: shapes of weights, strides, pads, blocks, channels."""

from __future__ import annotations

from typing import Any

from ..errors import ModelError
from ..graph import Graph, Node
from .pattern import WEIGHT, infer_channels

TWO = ("Conv", "ConvTranspose", "ConvInteger", "QuantizeLinear", "DequantizeLinear", "PRelu", "Pad", "Add", "Sub", "Mul", "Div", "Reshape")
INPUTS = {**dict.fromkeys(TWO, 2), "Slice": 3, "InstanceNormalization": 3, "GroupNormalization": 3, "BatchNormalization": 5, "QLinearConv": 8}
"""Operator -> inputs that it cannot do without; one for all others."""


def check(graph: Graph) -> None:
    """Raise ModelError, naming the node, for parameters that no picture could make sense of. Unknown operators are left for `lower` to report."""
    graph.validate()
    for node in graph.nodes:
        if not node.inputs or "" in node.inputs[: INPUTS.get(node.op, 1)] or len(node.inputs) < INPUTS.get(node.op, 1):
            raise _error(node, f"it has the inputs {node.inputs}")
        if not node.outputs or (len(node.outputs) > 1 and node.op != "Split"):
            raise _error(node, f"it has {len(node.outputs)} outputs")
        if node.op in WEIGHT:
            _convolution(graph, node)
        elif node.op in ("DepthToSpace", "SpaceToDepth"):
            block: Any = node.attrs.get("blocksize")
            if not _whole(block) or int(block) < 1 or node.attrs.get("mode", "DCR") not in ("DCR", "CRD"):
                raise _error(node, f"its block is {block}, mode {node.attrs.get('mode', 'DCR')}")
        elif node.op in ("MaxPool", "AveragePool"):
            _windows(node)
        elif node.op == "GroupNormalization" and not (_whole(node.attrs.get("num_groups")) and int(node.attrs["num_groups"]) >= 1):
            raise _error(node, f"it has {node.attrs.get('num_groups')} groups")
        elif node.op == "BatchNormalization" and len({p.shape for i in node.inputs[1:] if (p := graph.const(i)) is not None}) > 1:
            raise _error(node, "its parameters have different shapes")
    _channels(graph)


def _windows(node: Node) -> None:
    for name, length, least in (("strides", 2, 1), ("dilations", 2, 1), ("pads", 4, 0), ("output_padding", 2, 0), ("kernel_shape", 2, 1)):
        value = node.attrs.get(name)
        if value is not None and (len(value) != length or not all(_whole(v) and int(v) >= least for v in value)):
            raise _error(node, f"its {name} are {list(value)}")


def _convolution(graph: Graph, node: Node) -> None:
    _windows(node)
    weight = graph.const(node.inputs[WEIGHT[node.op]])
    if weight is None:
        return
    group = node.attrs.get("group", 1)
    if weight.ndim != 4:
        raise _error(node, f"its weights have shape {list(weight.shape)}; only two-dimensional convolution is known")
    if weight.size == 0 or not _whole(group) or group < 1 or weight.shape[0] % group:
        raise _error(node, f"its weights have shape {list(weight.shape)}, in {group} groups")
    place = {"ConvInteger": 4, "QLinearConv": 8}.get(node.op, 2)
    bias = graph.const(node.inputs[place]) if len(node.inputs) > place and node.inputs[place] else None
    channels = weight.shape[1] * group if node.op == "ConvTranspose" else weight.shape[0]
    if bias is not None and bias.shape != (channels,):
        raise _error(node, f"its bias has shape {list(bias.shape)} for {channels} output channels")


def _channels(graph: Graph) -> None:
    known = infer_channels(graph)
    for node in graph.nodes:
        c = known.get(node.inputs[0])
        weight = graph.const(node.inputs[WEIGHT[node.op]]) if node.op in WEIGHT else None
        if c is None:
            continue
        if weight is not None:
            wanted = weight.shape[0] if node.op == "ConvTranspose" else weight.shape[1] * int(node.attrs.get("group", 1))
            if c != wanted:
                raise _error(node, f"its weights {list(weight.shape)} take {wanted} channels, but its input has {c}")
        if node.op == "GroupNormalization" and c % int(node.attrs["num_groups"]):
            raise _error(node, f"{c} channels do not make {node.attrs['num_groups']} groups")
        if node.op == "DepthToSpace" and c % int(node.attrs["blocksize"]) ** 2:
            raise _error(node, f"{c} channels do not split into blocks of {node.attrs['blocksize']}x{node.attrs['blocksize']}")


def _whole(value: Any) -> bool:
    try:
        return int(value) == value
    except (TypeError, ValueError, OverflowError):
        return False


def _error(node: Node, what: str) -> ModelError:
    return ModelError(f"node '{node.name}' ({node.op}) cannot work: {what}. The model file is damaged or was converted wrongly")
