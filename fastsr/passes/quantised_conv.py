"""Convolutions of quantised numbers as convolutions of integers.

    Conv(DequantizeLinear(x), DequantizeLinear(w), b) -> DequantizeLinear(ConvInteger(x, w) + b), scale: that of x times those of w
    QLinearConv                                       -> QuantizeLinear(DequantizeLinear(ConvInteger(x, w) + b)), scales: all in one, and 1
    QuantizeLinear(f(DequantizeLinear(sums), s), t)   -> QuantizeLinear(f(DequantizeLinear(sums), s / t), 1) for f with f(c x) = c f(x), c > 0

So a sum is multiplied once and rounded, as ONNX Runtime does it. A bias that is not of integers of that scale is added behind the first
DequantizeLinear. Runs before `fold_constants`, which would make floats of the weights.
"""

from __future__ import annotations

import numpy as np

from .. import ops, ops_quantised
from ..errors import ModelError
from ..graph import Graph, Node
from .clip import bounds
from .pattern import Uses, split_vector

Array = np.ndarray
BYTES = (np.dtype(np.uint8), np.dtype(np.int8))
HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")


def run(graph: Graph) -> bool:
    """Rewrite every such convolution, then move scales."""
    changed = _quantise_constants(graph)
    uses = Uses(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        new = _conv(graph, uses, node) if node.op == "Conv" else _linear_conv(graph, node) if node.op == "QLinearConv" else None
        changed |= new is not None
        nodes.extend(new or [node])
    graph.nodes = nodes
    return _move_scales(graph) or changed


def _quantise_constants(graph: Graph) -> bool:
    keep = []
    for node in graph.nodes:
        arrays = [graph.const(i) if i else None for i in node.inputs]
        if node.op == "QuantizeLinear" and node.output not in graph.outputs and all(i in graph.constants for i in node.inputs if i):
            (graph.constants[node.output],) = ops.run_node(node, arrays)
        else:
            keep.append(node)
    changed = len(keep) < len(graph.nodes)
    graph.nodes = keep
    return changed


def _dequantised(graph: Graph, uses: Uses, name: str) -> tuple[Node, Array, Array | None] | None:
    """The DequantizeLinear that makes a value, its scale and zero point, when these are constants that go with each other."""
    node = uses.made.get(name)
    if node is None or node.op != "DequantizeLinear" or len(node.inputs) < 2 or node.attrs.get("block_size"):
        return None
    scale, zero = (graph.const(i) if i else None for i in [*node.inputs[1:3], ""][:2])
    if scale is None or (zero is None and len(node.inputs) > 2 and node.inputs[2]):
        return None
    ops_quantised.check_scale(node, scale, zero)
    return node, scale.astype(np.float32), zero


def _is_bytes(graph: Graph, uses: Uses, name: str, zero: Array | None) -> bool:
    if zero is not None:
        return zero.dtype in BYTES
    constant, maker = graph.const(name), uses.made.get(name)
    if constant is not None:
        return constant.dtype in BYTES
    if maker is None or maker.op != "QuantizeLinear":
        return False
    given = maker.inputs[2] if len(maker.inputs) > 2 else ""
    return (not given or given in graph.constants) and ops_quantised.quantised_type(maker, graph.const(given) if given else None) in BYTES


def _conv(graph: Graph, uses: Uses, node: Node) -> list[Node] | None:
    x, w = (_dequantised(graph, uses, i) for i in node.inputs[:2])
    weight = graph.const(w[0].inputs[0]) if w is not None else None
    if x is None or w is None or weight is None or x[1].size != 1 or weight.ndim != 4:
        return None
    axis = int(w[0].attrs.get("axis", 1))
    if w[1].size != 1 and (axis not in (0, -4) or w[1].size != weight.shape[0]):
        return None
    if not _is_bytes(graph, uses, x[0].inputs[0], x[2]) or weight.dtype not in BYTES:
        return None
    with np.errstate(over="ignore"):
        scale = x[1].reshape(()) * w[1].reshape(-1)
    if np.isinf(scale).any():
        return None
    scale = ops_quantised.representable(scale)
    sums, added = _sums(graph, uses, node, scale, weight, x[0].inputs[0], x[0].inputs[2:3], w[0].inputs[0], w[0].inputs[2:3])
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    out = graph.fresh(node.output + "_unbiased") if bias and not added else node.output
    nodes = [*sums, _scaled(graph, node, sums[-1].output, scale, out)]
    if out != node.output:
        b = graph.const(bias)
        if b is None:
            d = _dequantised(graph, uses, bias)
            b = graph.const(d[0].inputs[0]) if d is not None else None
            if d is None or b is None:
                return None
            (b,) = ops.run_node(d[0], [b, d[1], d[2]])
        shift = graph.add_const(node.output + "_shift", np.asarray(b, np.float32).reshape(1, -1, 1, 1))
        nodes.append(Node("Add", [out, shift], [node.output], {}, node.name))
    return nodes


def _scaled(graph: Graph, node: Node, sums: str, scale: Array, out: str) -> Node:
    name = graph.add_const(node.output + "_scale", scale.reshape(()) if scale.size == 1 else scale)
    return Node("DequantizeLinear", [sums, name], [out], {"axis": 1}, node.name)


def _sums(
    graph: Graph, uses: Uses | None, node: Node, scale: Array, weight: Array, x: str, x_zero: list[str], w: str, w_zero: list[str]
) -> tuple[list[Node], bool]:
    """The nodes that make the integer sums, and whether the bias, the last input, is in them."""
    out = graph.fresh(node.output + "_sums")
    nodes = [Node("ConvInteger", [x, w, *(x_zero or [""]), *(w_zero or [""])], [out], dict(node.attrs), node.name)]
    place = 8 if node.op == "QLinearConv" else 2
    bias = node.inputs[place] if len(node.inputs) > place else ""
    b = graph.const(bias) if bias else None
    if bias and uses is not None:
        d = _dequantised(graph, uses, bias)
        b = graph.const(d[0].inputs[0]) if d is not None and not (d[2] is not None and d[2].any()) else None
        if d is None or b is None or not np.allclose(d[1].reshape(-1), scale, rtol=1e-5, atol=0):
            return nodes, False
    if b is None:
        return nodes, not bias
    if not np.can_cast(b.dtype, np.int32):
        raise ModelError(f"node '{node.name}' ({node.op}) has a bias of {b.dtype}: integer convolutions have int32")
    shifted = graph.fresh(node.output + "_biased")
    constant = graph.add_const(node.output + "_bias", b.astype(np.int32).reshape(1, -1, 1, 1))
    return [*nodes, Node("Add", [out, constant], [shifted], {}, node.name)], True


def _linear_conv(graph: Graph, node: Node) -> list[Node] | None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.inputs[:8]
    arrays = [graph.const(i) for i in (x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero)]
    xs, xz, weight, ws, wz, ys, yz = arrays
    bias = graph.const(node.inputs[8]) if len(node.inputs) > 8 and node.inputs[8] else None
    if xs is None or xz is None or weight is None or ws is None or wz is None or ys is None or yz is None:
        return None
    ops_quantised.check_linear_conv(node, xs, xz, weight, ws, ys, yz, bias)
    with np.errstate(over="ignore"):
        factor = ops_quantised.representable(ops_quantised.factors(xs.astype(np.float32), ws.astype(np.float32), ys.astype(np.float32)))
    sums, _ = _sums(graph, None, node, factor, weight, x, [x_zero], w, [w_zero])
    real = graph.fresh(node.output + "_real")
    one = graph.add_const(node.output + "_one", np.array(1, np.float32))
    return [*sums, _scaled(graph, node, sums[-1].output, factor, real), Node("QuantizeLinear", [real, one, y_zero], [node.output], {}, node.name)]


# ---- scales ------------------------------------------------------------------------------------------------------------------------------------


def _move_scales(graph: Graph) -> bool:
    uses = Uses(graph)
    changed = False
    for node in graph.nodes:
        scale = graph.const(node.inputs[1]) if node.op == "QuantizeLinear" and len(node.inputs) > 1 else None
        if scale is None or scale.size != 1 or scale == 1:
            continue
        ops_quantised.check_scale(node, scale, None, divides=True)
        chain = _chain(graph, uses, node.inputs[0])
        if chain is None:
            continue
        factor = scale.astype(np.float32).reshape(())
        divided = _divided(graph, chain, factor)
        if divided is None:
            continue
        for member, k, constant in divided:
            member.inputs[k] = graph.add_const(member.output + "_part", constant)
        node.inputs[1] = graph.add_const(node.output + "_one", np.array(1, np.float32))
        changed = True
    return changed


def _chain(graph: Graph, uses: Uses, name: str) -> list[Node] | None:
    """The nodes from `name` back to the DequantizeLinear of a convolution's sums, when each can be scaled and has no other reader."""
    chain = []
    while True:
        node = uses.maker(name, *HOMOGENEOUS, "Clip", "Max", "Min", "Add", "DequantizeLinear")
        if node is None:
            return None
        chain.append(node)
        if node.op == "DequantizeLinear":
            return chain if _is_sum(graph, uses, node.inputs[0]) and graph.const(node.inputs[1]) is not None else None
        if node.op == "Add":
            found = split_vector(graph, node)
            if found is None:
                return None
            name = found[0]
        elif node.op in HOMOGENEOUS:
            name = node.inputs[0]
        else:
            limits = bounds(graph, node)
            if limits is None:
                return None
            name = limits[0]


def _is_sum(graph: Graph, uses: Uses, name: str) -> bool:
    maker = uses.made.get(name)
    if maker is not None and maker.op == "Add":
        found = split_vector(graph, maker)
        maker = uses.made.get(found[0]) if found is not None else None
    return maker is not None and maker.op == "ConvInteger"


def _divided(graph: Graph, chain: list[Node], factor: Array) -> list[tuple[Node, int, Array]] | None:
    """Constants, by node and input, with which the chain computes what it did, divided by the factor. None: one of them would leave float32."""
    found = []
    for node in chain:
        for k, name in enumerate(node.inputs if node.op not in HOMOGENEOUS else ()):
            constant = graph.const(name) if name else None
            if constant is None or (node.op == "DequantizeLinear" and k != 1):
                continue
            with np.errstate(over="ignore"):
                quotient = constant.astype(np.float32) / factor
            if (np.isinf(quotient) & np.isfinite(constant)).any():
                return None
            found.append((node, k, ops_quantised.representable(quotient) if node.op == "DequantizeLinear" else quotient))
    return found
