"""A node of an ONNX file with its attributes at hand, and the state of one import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import ModelError
from ..graph import Node
from .context import BaseContext
from .onnx_values import Picture
from .values import Array, Filled

Value: TypeAlias = Picture | Array | Filled
Handler = Callable[["Context", "OnnxNode", list["Value | None"]], Any]

TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}
"""AttributeProto.AttributeType -> field."""


@dataclass
class OnnxNode:
    """One NodeProto. `inputs` and `outputs` are names of values, "" where an optional one is left out."""

    name: str
    op: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    message: Any = field(repr=False)

    @staticmethod
    def of(message: Any) -> OnnxNode:
        """The node of a message; without a name it is called after its first output."""
        inputs, outputs = ([raw.decode("utf-8", "replace") for raw in part] for part in (message.input, message.output))
        name, op, domain = (raw.decode("utf-8", "replace") for raw in (message.name, message.op_type, message.domain))
        return OnnxNode(name or next(filter(None, outputs), ""), op, "" if domain == "ai.onnx" else domain, inputs, outputs, message)

    @property
    def output(self) -> str:
        return self.outputs[0]

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """Attributes by name, as messages."""
        return {a.name.decode("utf-8", "replace"): a for a in self.message.attribute}

    def _get(self, name: str, kind: str, default: Any) -> Any:
        attr = self.attrs.get(name)
        if attr is None:
            if default is None:
                raise ModelError(f"lacks the attribute '{name}': damaged file")
            return default
        if TYPES.get(attr.type, kind) != kind or (len(kind) == 1 and not attr.HasField(kind)):
            raise ModelError(f"has an attribute '{name}' of the wrong type: damaged file")
        return getattr(attr, kind)

    def has(self, name: str) -> bool:
        return name in self.attrs

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, "s", default)
        return value if isinstance(value, str) else value.decode("utf-8", "replace")

    def int(self, name: str, default: int | None = None) -> int:
        return int(self._get(name, "i", default))

    def float(self, name: str, default: float | None = None) -> float:
        value = float(self._get(name, "f", default))
        if not np.isfinite(value):
            raise ModelError(f"has {name} {value}: damaged file, or training failed")
        return value

    def ints(self, name: str, default: list[Any] | None = None) -> list[Any]:
        value = self._get(name, "ints", default)
        if len(value) > 4096:
            raise ModelError(f"has {len(value)} {name}: damaged file")
        return [int(i) for i in value]

    def floats(self, name: str, default: list[Any] | None = None) -> list[Any]:
        return [float(i) for i in self._get(name, "floats", default)]

    def tensor(self, name: str) -> Any:
        return self._get(name, "t", None)


class Context(BaseContext):
    """One import of an ONNX file."""

    def __init__(self, budget: int, opset: int, folder: Path | None, names: set[str]) -> None:
        super().__init__(budget, names)
        self._files: set[Path] = set()
        self.opset = opset
        self.folder = folder
        self.settled: dict[tuple[Any, ...], Picture] = {}
        """(value, axes) -> the picture that was emitted for that view of the value."""
        self.dequantised: dict[str, tuple[list[tuple[str, np.ndarray]], int]] = {}
        """Results of DequantizeLinear of constants -> the names and arrays of its inputs, and its axis."""
        self.quantised: dict[str, list[str]] = {}
        """Values of integers -> their scale and zero point."""
        self.emitted: set[str] = set()
        """Those of `dequantised` that are nodes of the Graph already."""

    def allow(self, path: Path) -> None:
        """Constants lie in this file too: its size counts like that of the model file, once."""
        if path not in self._files:
            self._files.add(path)
            self.budget += 8 * path.stat().st_size

    def picture(self, node: OnnxNode, args: list[Value | None], k: int = 0) -> Picture:
        """Argument k as a picture of any axes."""
        value = args[k] if k < len(args) else None
        if value is None:
            raise ModelError(f"has {len(args)} inputs, needs at least {k + 1}: damaged file")
        if not isinstance(value, (Picture, Array, Filled)):
            raise ModelError(f"input {k} is a sum or a mean over rows or columns of the whole picture, with which this is not supported")
        if not isinstance(value, Picture):
            raise ModelError(f"input {k} is a constant, where a picture is expected")
        return value

    def given(self, args: list[Value | None], k: int) -> bool:
        """Whether the optional argument k is there."""
        return k < len(args) and args[k] is not None

    def single(self, node: OnnxNode, args: list[Value | None], k: int) -> float:
        """Argument k as one number."""
        data = self.numbers(node, args, k)
        if data.size != 1 or data.dtype.kind not in "fiu" or not np.isfinite(data).all():
            raise ModelError(f"input {k} should be one number: damaged file")
        return float(data.reshape(()))

    def axes(self, node: OnnxNode, args: list[Value | None], k: int, since: int, default: list[Any] | None = None) -> list[Any]:
        """Axes that are an attribute before opset `since` and input k from then on."""
        if self.opset >= since and not node.has("axes"):
            if self.given(args, k):
                return self.ints(node, args, k)
            if default is None:
                raise ModelError("has no axes: damaged file")
            return default
        return node.ints("axes", default)

    def add(self, node: OnnxNode, op: str, inputs: list[str], output: str = "", **attrs: Any) -> str:
        """Append a node that computes `output`, or a value of a fresh name; returns that name."""
        output = output or self.fresh(f"{node.output}/{op}")
        self.graph.nodes.append(Node(op, inputs, [output], attrs, node.name))
        if op in ("QuantizeLinear", "QLinearConv"):
            self.quantised[output] = inputs[1:] if op == "QuantizeLinear" else inputs[6:8]
        return output

    def number(self, node: OnnxNode, data: Any, form: str, dtype: Any = np.float32) -> str:
        """A constant of the Graph made from attributes; returns its name."""
        return self.constant(np.empty(0), np.asarray(data, dtype), form, node.output)
