"""An operator of a TensorFlow Lite file with its options at hand, ONNX's way of saying the same, and the state of one import."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ModelError
from .onnx_context import Context, OnnxNode, Value
from .onnx_values import Picture, make
from .onnx_views import arranged
from .tflite_schema import OPTIONS, Model, Operator, Tensor, tensor_array
from .values import Array

OPSET = 22
"""The version of ONNX's operators in whose terms everything is said."""

Args = list[Value | None]


class Spelled(OnnxNode):
    """An ONNX operator that no file has: what a TensorFlow Lite operator, or a part of it, is in ONNX's terms."""

    def __init__(self, name: str, op: str, outputs: list[str], attrs: dict[str, Any]) -> None:
        super().__init__(name, op, "", [], outputs, None)
        self.given = attrs

    def _get(self, name: str, kind: str, default: Any) -> Any:
        value = self.given.get(name, default)
        if value is None:
            raise ModelError(f"lacks '{name}': damaged file")
        return value

    def has(self, name: str) -> bool:
        return name in self.given


class TfliteNode(OnnxNode):
    """One operator, called after its first output."""

    def __init__(self, operator: Operator, tensors: list[Tensor]) -> None:
        outputs = [tensors[i].name for i in operator.outputs]
        super().__init__(outputs[0], operator.op, "", [tensors[i].name if i >= 0 else "" for i in operator.inputs], outputs, operator.options)
        self.operator = operator
        self.results = [tensors[i] for i in operator.outputs]

    def _get(self, name: str, kind: str, default: Any) -> Any:
        number, form, *usual = OPTIONS[self.op][name]
        value = usual[0] if usual else 0
        value = value if self.message is None else self.message.number(number, form, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"has {name} {value}: damaged file, or training failed")
        return value

    def has(self, name: str) -> bool:
        return name in OPTIONS.get(self.op, {})

    def flag(self, name: str) -> bool:
        return bool(self._get(name, "", None))

    @property
    def result(self) -> Tensor:
        return self.results[0]


Handler = Callable[["TfliteContext", TfliteNode, Args], Any]


@dataclass(frozen=True)
class Grid:
    """The numbers that a quantised value can be: scale times the whole numbers from low to high, stored as those plus `zero` in a type."""

    scale: np.float32
    low: int
    high: int
    zero: int
    dtype: np.dtype[Any]

    @staticmethod
    def of(tensor: Tensor) -> Grid:
        """The grid of a quantised tensor that is computed. Raises ModelError for scales per channel, and for types that are not quantised."""
        if tensor.type not in ("int8", "uint8", "int16"):
            raise ModelError(f"tensor '{tensor.name}' of type {tensor.type} is quantised: fastsr knows int8, uint8 and int16")
        if tensor.scale.size != 1:
            raise ModelError(f"tensor '{tensor.name}' is computed, but has {tensor.scale.size} scales: damaged file")
        info, zero = np.iinfo(tensor.dtype), int(tensor.zero[0])
        if not info.min <= zero <= info.max:
            raise ModelError(f"tensor '{tensor.name}' has the zero point {zero}, which {tensor.type} cannot hold: damaged file")
        return Grid(np.float32(tensor.scale[0]), int(info.min) - zero, int(info.max) - zero, zero, np.dtype(tensor.dtype))

    def holds(self, other: Grid) -> bool:
        """Whether every number of another grid is one of this."""
        return self.scale == other.scale and self.low <= other.low and other.high <= self.high


class TfliteContext(Context):
    """One import of a TensorFlow Lite file.

    found: number of a tensor -> its value; quantised ones are the real numbers that they stand for. raw: constants as they are stored. grids: values
    of the Graph that are known to be on a grid. rounded: those of them that a DequantizeLinear makes: a convolution of these can be one of integers.
    """

    def __init__(self, model: Model, budget: int) -> None:
        super().__init__(budget, OPSET, None, set())
        self.model = model
        self.found: dict[int, Any] = {}
        self.grids: dict[str, Grid] = {}
        self.rounded: set[str] = set()
        self.raw: dict[int, np.ndarray] = {}

    def tensor(self, node: TfliteNode, k: int) -> Tensor:
        """The tensor of input k, which must be there."""
        inputs = node.operator.inputs
        if k >= len(inputs) or inputs[k] < 0:
            raise ModelError(f"has {len(inputs)} inputs, needs at least {k + 1}: damaged file")
        return self.model.tensors[inputs[k]]

    def stored(self, number: int) -> np.ndarray | None:
        """The numbers of a constant as the file has them; None when the tensor is computed."""
        if number not in self.raw:
            tensor = self.model.tensors[number]
            data = tensor_array(self.model, tensor)
            if data is None:
                return None
            self.spend(data.nbytes)
            self.raw[number] = data
        return self.raw[number]

    def given_at(self, node: TfliteNode, k: int) -> bool:
        """Whether the optional input k is there."""
        return k < len(node.operator.inputs) and node.operator.inputs[k] >= 0

    def spell(self, node: OnnxNode, op: str, *outputs: str, **attrs: Any) -> Spelled:
        """An ONNX operator with these attributes; without `outputs`, its result has a fresh name."""
        return Spelled(node.name, op, list(outputs) or [self.fresh(node.name)], attrs)

    def nchw(self, node: OnnxNode, x: Picture) -> Picture:
        """A picture (N, H, W, C) as (N, C, H, W)."""
        x = arranged(self, node, x, "NHWC")
        n, h, w, c = x.axes
        return x.view((n, c, h, w))


def nhwc(x: Picture) -> Picture:
    """A picture (N, C, H, W) as (N, H, W, C)."""
    n, c, h, w = x.axes
    return x.view((n, h, w, c))


def whole(name: str, x: Picture, **size: Any) -> Picture:
    """A value of that name, (N, H, W, C), of the size of `x` except for what is given."""
    return make(name, "NHWC", {**x.size, **size})


def integers(values: Any) -> Array:
    """Integers made from options, as an operator's input."""
    return Array(np.asarray(values, np.int64))
