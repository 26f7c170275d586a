"""Any network that fastsr reads as a PyTorch module, for fine-tuning: Graph to module, and back.

Constants of convolutions and PReLUs become parameters; the rest of the graph runs as it is, also convolutions that only pick channels, which cost
next to nothing as long as that is all. After the passes nearly every super-resolution network is made of the operators here; another one raises
ModelError that names it.

Of graphs that `fastsr.quantise` made, the float weights behind QuantizeLinear are the parameters. Each run rounds, and the gradient passes that as
if it were not there, but for numbers that are cut off (the straight-through estimator, Bengio et al., arXiv:1308.3432).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from ..errors import ModelError, PictureError
from ..graph import Feed, Graph, Node
from ..prune import picks_channels
from .slopes import prelu

TRAINED = {"Conv": (1, 2), "ConvTranspose": (1, 2), "PRelu": (1,)}
"""Operator -> places of the inputs that are learnt, where they are constants."""


class GraphModule(nn.Module):
    """The graph of one input; forward takes and returns the network's own numbers (N, C, H, W), see `feed`. watch: told every node's result.

    Raises ModelError for an operator that cannot be trained here.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        if len(graph.inputs) != 1:
            raise ModelError(f"networks of {len(graph.inputs)} inputs cannot be fine-tuned")
        self.graph = copy.deepcopy(graph)
        self.places: dict[str, str] = {}
        known = operators()
        for node in graph.nodes:
            if node.op not in known:
                raise ModelError(f"networks with the operator {node.op} cannot be fine-tuned: only {', '.join(sorted(known))}")
            for k in learnt(node, graph):
                name = node.inputs[k] if k < len(node.inputs) else ""
                if name in graph.constants and name not in self.places:
                    self.places[name] = f"p{len(self.places)}"
                    self.register_parameter(self.places[name], nn.Parameter(torch.from_numpy(np.array(graph.constants[name], np.float32))))
        self.watch: Callable[[str, torch.Tensor], None] | None = None
        self.quantised = any(is_weight(node, graph) for node in graph.nodes)
        self.units = dict(units(graph))
        self.fixed: dict[str, Any] = {}
        for k, (name, a) in enumerate((n, a) for n, a in graph.constants.items() if n not in self.places):
            if a.dtype.kind == "f":
                self.fixed[name] = f"c{k}"
                self.register_buffer(f"c{k}", torch.from_numpy(np.array(a, np.float32)), persistent=False)

    @property
    def feed(self) -> Feed:
        """How pictures are fed to it."""
        return self.graph.feed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: dict[str, torch.Tensor] = {self.graph.inputs[0].name: x}
        values |= {name: getattr(self, place) for name, place in (*self.places.items(), *self.fixed.items())}
        for bias, (x_scale, w_scale) in self.units.items():
            unit = values[x_scale] * values[w_scale]
            values[bias] = rounded(values[bias] / unit) * unit
        known = operators()
        for node in self.graph.nodes:
            values[node.output] = known[node.op](node, [values.get(i) for i in node.inputs], self.graph)
            if self.watch is not None:
                self.watch(node.output, values[node.output])
        return values[self.graph.outputs[0]]

    def trained(self) -> Graph:
        """The graph with the parameters as they are now."""
        graph = copy.deepcopy(self.graph)
        for name, place in self.places.items():
            graph.constants[name] = getattr(self, place).detach().cpu().numpy().astype(np.float32)
        return graph


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Whole numbers, half to even; the gradient passes."""
    return x + (x.round() - x).detach()


def units(graph: Graph) -> Iterator[tuple[str, tuple[str, str]]]:
    """Of each quantised convolution: the bias's name, and those of the scales whose product its sums are counted in."""
    made = graph.producers()
    for node in graph.nodes:
        pair = [made.get(i) for i in node.inputs[:2]] if node.op == "Conv" else []
        x_scale, w_scale = ([p.inputs[1] for p in pair if p is not None and p.op == "DequantizeLinear"] + ["", ""])[:2]
        if w_scale and len(node.inputs) > 2 and node.inputs[2] in graph.constants:
            yield node.inputs[2], (x_scale, w_scale)


def learnt(node: Node, graph: Graph) -> tuple[int, ...]:
    """Places of the node's inputs that are learnt, where they are constants."""
    if is_weight(node, graph):
        return (0,)
    w, bias = ([graph.const(i) for i in node.inputs[1:3]] + [None, None])[:2]
    if node.op == "Conv" and w is not None and picks_channels(w, bias):
        return ()
    return TRAINED.get(node.op, ())


def is_weight(node: Node, graph: Graph) -> bool:
    """Whether a node quantises float weights, one scale for each output channel."""
    w = graph.constants.get(node.inputs[0]) if node.op == "QuantizeLinear" else None
    return w is not None and w.ndim == 4 and w.dtype.kind == "f" and _attr(node, "axis", 1) == 0


Operator = Callable[[Node, list[Any], Graph], torch.Tensor]


def _attr(node: Node, name: str, default: Any) -> Any:
    return node.attrs.get(name, default)


def _padded(x: torch.Tensor, pads: list[int]) -> tuple[torch.Tensor, tuple[int, int]]:
    """Zero padding top, left, bottom, right; what is equal on both sides is left to the convolution."""
    top, left, bottom, right = pads
    if top == bottom and left == right:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def _conv(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    if _attr(node, "auto_pad", "NOTSET") != "NOTSET":
        raise ModelError("convolutions with auto_pad cannot be fine-tuned")
    a, pad = _padded(x[0], list(_attr(node, "pads", [0, 0, 0, 0])))
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(a, x[1], bias, tuple(_attr(node, "strides", [1, 1])), pad, tuple(_attr(node, "dilations", [1, 1])), _attr(node, "group", 1))


def _conv_transpose(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    top, left, bottom, right = _attr(node, "pads", [0, 0, 0, 0])
    more_y, more_x = _attr(node, "output_padding", [0, 0])
    bias = x[2] if len(x) > 2 else None
    strides, dilations = (tuple(_attr(node, name, [1, 1])) for name in ("strides", "dilations"))
    y = F.conv_transpose2d(x[0], x[1], bias, strides, 0, 0, _attr(node, "group", 1), dilations)
    if more_y > bottom or more_x > right:
        extra = F.pad(y, (0, max(more_x - right, 0), 0, max(more_y - bottom, 0)))
        if bias is not None:
            extra[:, :, y.shape[2] :] = bias.view(1, -1, 1, 1)
            extra[:, :, :, y.shape[3] :] = bias.view(1, -1, 1, 1)
        y, bottom, right = extra, bottom + max(more_y - bottom, 0), right + max(more_x - right, 0)
    return y[:, :, top : y.shape[2] - (bottom - more_y), left : y.shape[3] - (right - more_x)]


def _prelu(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    return prelu(x[0], x[1].reshape(-1))


def _clip(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    low, high = (float(graph.constants[i].reshape(-1)[0]) if i else None for i in (node.inputs[1:] + ["", ""])[:2])
    return x[0].clamp(low, high)


def _depth_to_space(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    block = int(node.attrs["blocksize"])
    if _attr(node, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x[0], block)
    n, c, h, w = x[0].shape
    deep = x[0].view(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return deep.reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    block = int(node.attrs["blocksize"])
    n, c, h, w = x[0].shape
    if h % block or w % block:
        raise PictureError(f"the network needs edges divisible by {block}, but a picture to measure on gives {w}x{h}: choose others with --val")
    deep = x[0].view(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return deep.reshape(n, c * block**2, h // block, w // block)


def _pad(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    mode = _attr(node, "mode", "constant")
    p = [int(v) for v in graph.constants[node.inputs[1]].reshape(-1)] if len(node.inputs) > 1 else list(node.attrs["pads"])
    if len(p) != 8 or any(p[k] for k in (0, 1, 4, 5)) or mode not in ("constant", "edge", "reflect"):
        raise ModelError(f"a Pad of mode '{mode}' like this cannot be fine-tuned")
    amounts = (p[3], p[7], p[2], p[6])
    if mode == "constant":
        value = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        return F.pad(x[0], amounts, value=0.0 if value is None else float(value.reshape(-1)[0]))
    return F.pad(x[0], amounts, mode="replicate" if mode == "edge" else mode)


def _resize(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    scales = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    mode, where = _attr(node, "mode", "nearest"), _attr(node, "coordinate_transformation_mode", "half_pixel")
    if scales is None or scales.size != 4:
        raise ModelError("a Resize without fixed scales cannot be fine-tuned")
    factor = tuple(float(s) for s in scales[2:])
    whole = all(f == int(f) >= 1 for f in factor)
    if mode == "nearest" and whole:
        return x[0].repeat_interleave(int(factor[0]), 2).repeat_interleave(int(factor[1]), 3)
    usual = where in ("half_pixel", "pytorch_half_pixel")
    cubic = mode == "cubic" and abs(_attr(node, "cubic_coeff_a", -0.75) + 0.75) < 1e-6
    if usual and (cubic or mode == "linear") and not _attr(node, "antialias", 0) and not _attr(node, "exclude_outside", 0):
        return F.interpolate(x[0], scale_factor=factor, mode="bicubic" if cubic else "bilinear", align_corners=False)
    raise ModelError(f"a Resize of mode '{mode}', {where}, cannot be fine-tuned")


def _parameter(node: Node, value: Any, like: torch.Tensor) -> Any:
    """A scale, shaped to go with the numbers."""
    if value.numel() == 1:
        return value.reshape(())
    shape = [1] * like.ndim
    shape[_attr(node, "axis", 1)] = -1
    return value.reshape(shape)


def _zero(node: Node, graph: Graph) -> tuple[int, int, int]:
    """Zero point, smallest and largest number of a quantised value."""
    zero = graph.constants[node.inputs[2]]
    info = np.iinfo(zero.dtype)
    if zero.min() != zero.max():
        raise ModelError("zero points that differ from channel to channel cannot be fine-tuned")
    return int(zero.reshape(-1)[0]), int(info.min), int(info.max)


def _quantise(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    zero, low, high = _zero(node, graph)
    kept = (x[0] / _parameter(node, x[1], x[0])).clamp(low - zero, high - zero)
    return rounded(kept) + zero


def _dequantise(node: Node, x: list[Any], graph: Graph) -> torch.Tensor:
    return (x[0] - _zero(node, graph)[0]) * _parameter(node, x[1], x[0])


def operators() -> dict[str, Operator]:
    """ONNX operator -> what computes it."""
    return {
        "QuantizeLinear": _quantise,
        "DequantizeLinear": _dequantise,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "PRelu": _prelu,
        "DepthToSpace": _depth_to_space,
        "SpaceToDepth": _space_to_depth,
        "Pad": _pad,
        "Resize": _resize,
        "Clip": _clip,
        "Relu": lambda node, x, graph: F.relu(x[0]),
        "LeakyRelu": lambda node, x, graph: F.leaky_relu(x[0], _attr(node, "alpha", 0.01)),
        "Elu": lambda node, x, graph: F.elu(x[0], _attr(node, "alpha", 1.0)),
        "Tanh": lambda node, x, graph: torch.tanh(x[0]),
        "Sigmoid": lambda node, x, graph: torch.sigmoid(x[0]),
        "HardSwish": lambda node, x, graph: F.hardswish(x[0]),
        "Mish": lambda node, x, graph: F.mish(x[0]),
        "Abs": lambda node, x, graph: x[0].abs(),
        "Neg": lambda node, x, graph: -x[0],
        "Sqrt": lambda node, x, graph: x[0].clamp(min=1e-12).sqrt(),
        "Max": lambda node, x, graph: torch.maximum(x[0], x[1]),
        "Min": lambda node, x, graph: torch.minimum(x[0], x[1]),
        "Add": lambda node, x, graph: x[0] + x[1],
        "Sub": lambda node, x, graph: x[0] - x[1],
        "Mul": lambda node, x, graph: x[0] * x[1],
        "Div": lambda node, x, graph: x[0] / x[1],
        "Concat": lambda node, x, graph: torch.cat(x, _attr(node, "axis", 1)),
        "Identity": lambda node, x, graph: x[0],
        "GlobalAveragePool": lambda node, x, graph: x[0].mean((2, 3), keepdim=True),
    }
