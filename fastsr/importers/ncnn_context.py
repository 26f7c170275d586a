"""The pictures of an ncnn network, and the state of one import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Node
from .context import BaseContext
from .ncnn_param import Layer
from .values import Array, Dim

FAR = 65536


@dataclass(frozen=True)
class Picture:
    """A value that depends on the input. `rank`: ncnn's number of dimensions, 3 for (C, H, W), 1 for a vector, which is (C, 1, 1) in the Graph."""

    name: str
    channels: int
    height: Any
    width: Any
    rank: int = 3

    @property
    def single(self) -> bool:
        """Whether it has one pixel, whatever the size of the input."""
        return not isinstance(self.height, Dim) and not isinstance(self.width, Dim) and self.height == self.width == 1

    def like(self, name: str, **changes: Any) -> Picture:
        """The same with another name and perhaps another size. Raises ModelError when no channel or pixel is left."""
        out = replace(self, name=name, **changes)
        if not 1 <= out.channels <= FAR:
            raise ModelError(f"makes {out.channels} channels: damaged file")
        for n in (out.height, out.width):
            if not isinstance(n, Dim) and not 1 <= n <= 1 << 24:
                raise ModelError("leaves no pixel of the size that its input fixes: damaged file")
        return out


Value = Picture | Array
Handler = Callable[["Context", Layer, list[Value]], Any]


class Context(BaseContext):
    """One import of an ncnn model."""

    def picture(self, layer: Layer, args: list[Value], k: int = 0) -> Picture:
        """Argument k as a picture."""
        return self.argument(args, k, Picture)

    def add(self, layer: Layer, op: str, inputs: list[str], **attrs: Any) -> str:
        """Append a node that computes a value of a fresh name; returns that name."""
        name = self.fresh(layer.outputs[0])
        self.graph.nodes.append(Node(op, inputs, [name], attrs, layer.name))
        return name

    def number(self, layer: Layer, data: Any, form: str, dtype: Any = np.float32) -> str:
        """A constant of the Graph; returns its name."""
        return self.constant(np.empty(0), np.asarray(data, dtype), form, layer.outputs[0])

    def channel_numbers(self, layer: Layer, data: Any, form: str) -> str:
        """A constant of one number for each channel, or for all of them; returns its name."""
        array = np.asarray(data, np.float32)
        return self.number(layer, array.reshape(()) if array.size == 1 else array.reshape(1, -1, 1, 1), form)

    def pads(self, layer: Layer, x: Picture, amounts: list[int], mode: str = "constant", value: float = 0.0) -> Picture:
        """A border of so many pixels [top, left, bottom, right], negative to crop."""
        top, left, bottom, right = amounts
        if any(abs(p) > FAR for p in amounts):
            raise ModelError(f"pads or cuts by {amounts} pixels: damaged file")
        if not any(amounts):
            return x
        names = [x.name, self.number(layer, [0, 0, top, left, 0, 0, bottom, right], "pads", np.int64)]
        if mode == "constant" and value:
            names.append(self.number(layer, value, "value"))
        return x.like(self.add(layer, "Pad", names, mode=mode), height=x.height + (top + bottom), width=x.width + (left + right))

    def choose(self, layer: Layer, x: Picture, index: list[int]) -> Picture:
        """Channels by number, in any order: a run of them is a Slice, others a convolution by ones and zeros."""
        c = x.channels
        if not index or len(index) > FAR or not all(0 <= i < c for i in index):
            raise ModelError(f"takes the channels {index[:8]} of {c}: damaged file")
        if index == list(range(c)):
            return x
        if index == list(range(index[0], index[0] + len(index))):
            names = [self.number(layer, [v], stem, np.int64) for stem, v in (("starts", index[0]), ("ends", index[-1] + 1), ("axes", 1))]
            return x.like(self.add(layer, "Slice", [x.name, *names]), channels=len(index))
        self.spend(8 * len(index) * c)
        weight = np.zeros((len(index), c, 1, 1), np.float32)
        weight[np.arange(len(index)), index] = 1
        return x.like(self.add(layer, "Conv", [x.name, self.number(layer, weight, "channels")], kernel_shape=[1, 1]), channels=len(index))
