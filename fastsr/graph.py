"""The graph: a network in ONNX operator names and semantics, NCHW, float32.

Importers and `fastsr.baselines` build a `Graph`; `fastsr.passes` rewrite it; `fastsr.lower` turns it into a `Program`. There is no private
vocabulary: every `Node.op` is an operator of the ONNX standard (https://onnx.ai/onnx/operators/) and means what that standard says, with these
conventions:

- every value that flows between nodes is a float32 picture tensor of shape (N, C, H, W); H and W are unknown until run time;
- parameters (weights, slopes, pads, scales) are entries of `Graph.constants`, referenced by name among a node's inputs;
- attributes use ONNX names and spelling; a missing attribute has ONNX's default;
- `Resize` by scales makes as many pixels as `resized` says;
- `Resize` may have a picture as its fourth input, `sizes`: the result has that picture's H and W, N and C stay;
- `Pad` additionally knows mode "symmetric" (TensorFlow's MirrorPad SYMMETRIC, the edge pixel repeated), which ONNX lacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import ModelError

EXACT = 1 << 24
"""Below it float32 holds every whole number."""


def resized(n: int, scale: float) -> int:
    """How many pixels a Resize by a scale makes of n: rounded down after a product in float32, as ONNX Runtime and ncnn have it.

    From 2^24 on, where float32 does not count pixels any more, the product is in float64.
    """
    size = float(np.float32(n) * np.float32(scale))
    return math.floor(size if size < EXACT else n * scale)


@dataclass
class Node:
    """One operator. `inputs` may contain "" for an omitted optional input; `outputs` has one name, except for Split."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def output(self) -> str:
        return self.outputs[0]


@dataclass(frozen=True)
class Input:
    """A graph input: shape (N, channels, H, W), float32."""

    name: str
    channels: int


@dataclass(frozen=True)
class Feed:
    """How a picture is fed to the network and read from it.

    For pixel values p in 0..255:  network input = p / 255 * range - mean  (per channel, in the network's channel order);
    pixel = (network output + out_mean) / out_range * 255.

    colour: "y" (one channel, Y of cv2's BGR2YCrCb; chroma is resized bilinearly), "bgr" or "rgb" (three channels),
    "raw" (neither: only `Model.run` works).
    pre_scale: the picture is enlarged by this factor with the bicubic filter before it is fed (SRCNN, VDSR); 1 for none.
    fine: Y of an 8-bit colour picture is not rounded to 8 bits, neither before the network nor behind it, where pixels are rounded once. Without it
    the picture is cv2.dnn_superres's. For colour "y" only. Y of pictures of other types is never rounded before the network.
    """

    colour: str = "raw"
    range: float = 1.0
    mean: tuple[float, ...] = ()
    out_range: float = 1.0
    out_mean: tuple[float, ...] = ()
    pre_scale: int = 1
    fine: bool = False


@dataclass
class Graph:
    """Nodes in an order in which they can run, constants by name. `outputs[0]` is the output that `Model.run` returns."""

    inputs: list[Input] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    feed: Feed = field(default_factory=Feed)
    meta: dict[str, Any] = field(default_factory=dict)

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that computes it."""
        return {out: node for node in self.nodes for out in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, one entry per use. Graph outputs are not counted."""
        uses: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name in uses:
                    uses[name].append(node)
                elif name:
                    uses[name] = [node]
        return uses

    def const(self, name: str) -> np.ndarray | None:
        """The constant of that name, or None when the value is computed at run time."""
        return self.constants.get(name)

    def fresh(self, stem: str) -> str:
        """A value name that is not in use yet."""
        if not self._has(stem):
            return stem
        taken = set(self.constants) | {i.name for i in self.inputs} | {o for n in self.nodes for o in n.outputs}
        k = 1
        while f"{stem}_{k}" in taken:
            k += 1
        return f"{stem}_{k}"

    def _has(self, name: str) -> bool:
        if name in self.constants or any(name == i.name for i in self.inputs):
            return True
        for node in self.nodes:  # noqa: SIM110, a loop is several times faster than any()
            if name in node.outputs:
                return True
        return False

    def add_const(self, stem: str, array: np.ndarray) -> str:
        """Store `array` under a fresh name made from `stem`; returns the name."""
        name = self.fresh(stem)
        self.constants[name] = array
        return name

    def prune(self) -> None:
        """Drop nodes whose results reach no output, and constants that no node reads."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
                needed.discard("")
        self.nodes = kept[::-1]
        self.constants = {k: v for k, v in self.constants.items() if k in needed}

    def sort(self) -> None:
        """Order the nodes topologically, stable with respect to the present order. Raises ModelError on a cycle."""
        have = set(self.constants) | {i.name for i in self.inputs}
        waiting, done = list(self.nodes), []
        while waiting:
            later = []
            for node in waiting:
                if all(not i or i in have for i in node.inputs):
                    done.append(node)
                    have.update(node.outputs)
                else:
                    later.append(node)
            if len(later) == len(waiting):
                bad = later[0]
                missing = [i for i in bad.inputs if i and i not in have]
                raise ModelError(f"node '{bad.name}' ({bad.op}) reads {missing}, which nothing computes: the model file is damaged or cyclic")
            waiting = later
        self.nodes = done

    def validate(self) -> None:
        """Check that names are unique and that every input and output is defined before use. Raises ModelError."""
        have = set(self.constants)
        for i in self.inputs:
            if i.name in have:
                raise ModelError(f"the name of input '{i.name}' is used twice")
            have.add(i.name)
        for node in self.nodes:
            for name in node.inputs:
                if name and name not in have:
                    raise ModelError(f"node '{node.name}' ({node.op}) reads '{name}', which nothing before it computes")
            for out in node.outputs:
                if out in have:
                    raise ModelError(f"value '{out}' is computed twice (second time by node '{node.name}')")
                have.add(out)
        for out in self.outputs:
            if out not in have:
                raise ModelError(f"graph output '{out}' is not computed by any node")

    def dump(self) -> str:
        """The graph as text, one node a line: what FASTSR_DEBUG=3 prints before and after each pass."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"graph ({', '.join(f'{i.name}:[N,{i.channels},H,W]' for i in self.inputs)}) -> ({', '.join(self.outputs)})"
        for node in self.nodes:
            args = []
            for name in node.inputs:
                c = self.constants.get(name)
                args.append(name or "-" if c is None else f"{name}{_brief(c)}")
            attrs = ", ".join(f"{k}={v}" for k, v in sorted(node.attrs.items()))
            yield f"  {', '.join(node.outputs)} = {node.op}({', '.join(args)}){' {' + attrs + '}' if attrs else ''}"


def _brief(c: np.ndarray) -> str:
    if c.size == 1:
        return f"<{c.reshape(-1)[0]:.6g}>"
    return f"<{c.dtype}{list(c.shape)}>"
