"""A node of a GraphDef with its attributes at hand, and the state of one import: values so far and the Graph being built."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ModelError
from .context import BaseContext
from .tensorflow_values import Picture, Value
from .values import Dim


@dataclass
class TfNode:
    """One NodeDef: inputs as (node name, output number), control inputs left out."""

    name: str
    op: str
    inputs: list[tuple[str, int]]
    message: Any

    @staticmethod
    def of(message: Any) -> TfNode:
        inputs = []
        for raw in message.input:
            text = raw.decode("utf-8", "replace")
            if text.startswith("^"):
                continue
            source, colon, k = text.rpartition(":")
            if not colon:
                inputs.append((text, 0))
            elif k.isascii() and k.isdigit() and len(k) < 6:
                inputs.append((source, int(k)))
            else:
                raise ModelError(f"a node reads '{text}', which is not a name of a frozen graph: damaged file")
        return TfNode(message.name.decode("utf-8", "replace"), message.op.decode("utf-8", "replace"), inputs, message)

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """Attributes by name, as AttrValue messages."""
        return {a.key.decode("utf-8", "replace"): a.value for a in self.message.attr}

    def _get(self, name: str, kind: str, default: Any) -> Any:
        attr = self.attrs.get(name)
        if attr is None:
            if default is None:
                raise ModelError(f"lacks the attribute '{name}': damaged file")
            return default
        if not attr.HasField(kind):
            raise ModelError(f"has an attribute '{name}' of the wrong type: damaged file")
        return getattr(attr, kind)

    def attr_text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, "s", default)
        return value if isinstance(value, str) else value.decode("utf-8", "replace")

    def attr_int(self, name: str, default: int | None = None) -> int:
        return int(self._get(name, "i", default))

    def attr_float(self, name: str, default: float | None = None) -> float:
        return float(self._get(name, "f", default))

    def attr_flag(self, name: str, default: bool) -> bool:
        return bool(self._get(name, "b", default))

    def attr_type(self, name: str, default: int) -> int:
        return int(self._get(name, "type", default))

    def attr_ints(self, name: str, default: list[int] | None = None) -> list[int]:
        attr = self._get(name, "list", default)
        return attr if isinstance(attr, list) else [int(i) for i in attr.i]

    def attr_message(self, name: str) -> Any:
        """The tensor or shape of an attribute, None when it is absent."""
        attr = self.attrs.get(name)
        if attr is None:
            return None
        for kind in ("tensor", "shape"):
            if attr.HasField(kind):
                return getattr(attr, kind)
        return None


class Context(BaseContext):
    """One import of a TensorFlow graph."""

    def __init__(self, nodes: dict[str, TfNode], budget: int) -> None:
        super().__init__(budget, set(nodes))
        self.nodes = nodes
        self.values: dict[str, Value | list[Value]] = {}
        self.channels: dict[str, int] = {}
        """Channels of each value that some node's result is."""
        self.enlarged: dict[str, str] = {}
        """Inputs that must be a multiple of another input's size -> that other one."""

    def relate(self, p: Any, q: Any) -> None:
        """Note that two sizes must be equal: when they come from two inputs, one of these has to be a multiple of the other."""
        if isinstance(p, Dim) and isinstance(q, Dim) and isinstance(p.var, str) and isinstance(q.var, str) and p.b == q.b == 0:
            one, other = p.var.rpartition(":")[0], q.var.rpartition(":")[0]
            if one != other and p.a != q.a:
                small, large = (one, other) if p.a > q.a else (other, one)
                self.enlarged[large] = small

    def picture(self, node: TfNode, args: list[Value], k: int = 0) -> Picture:
        """Argument k as a picture with all four axes."""
        return self.argument(args, k, Picture)
