"""The state of one import of a Keras model, one call of a layer with its settings at hand, and what layers of every kind need."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import BaseContext
from .keras_config import Layer
from .keras_weights import Keras3, Legacy, chosen
from .tensorflow_values import Picture
from .values import Array, Dim, ceil_div, differ

MAX_CALLS = 65536
NEW = Array(np.zeros(0, np.float32))
"""Stands for a constant that is not in the file."""


@dataclass
class Node:
    """One call of a layer. args, kwargs: Pictures in place of tensors. name: of its result in the Graph."""

    name: str
    op: str
    config: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]
    layer: Layer | None = None
    path: tuple[str, ...] = ()
    group: str = ""
    wanted: Callable[[], set[int]] = field(default=set)
    """How many channels the layers that read the result need, as far as they tell."""

    def setting(self, *names: str, default: Any = None) -> Any:
        """A setting of the layer, by the names that versions of Keras gave it."""
        for name in names:
            if self.config.get(name) is not None:
                return self.config[name]
        return default

    def number(self, *names: str, default: float | None = None) -> float:
        """A setting that is a finite number."""
        value = self.setting(*names, default=default)
        return plain_number(value, names[0])

    def whole(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A setting that is a whole number."""
        value = self.number(*names, default=default)
        if value != int(value) or not least <= value <= 65536:
            raise ModelError(f"has {names[0]} {value}: damaged file")
        return int(value)

    def pair(self, *names: str, default: Any = (1, 1), least: int = 1) -> list[int]:
        """A setting for height and width: two whole numbers, or one for both."""
        value = self.setting(*names, default=default)
        items = list(value) if isinstance(value, (list, tuple)) else [value, value]
        if len(items) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and least <= v <= 65536 for v in items):
            raise ModelError(f"has {names[0]} {str(value)[:80]}: damaged file")
        return items

    def text(self, *names: str, default: str = "") -> str:
        """A setting that is a word."""
        value = self.setting(*names, default=default)
        if not isinstance(value, str):
            raise ModelError(f"has {names[0]} {str(value)[:80]}: damaged file")
        return value

    def flag(self, *names: str, default: bool) -> bool:
        """A setting that is true or false."""
        return bool(self.setting(*names, default=default))

    @property
    def pictures(self) -> list[Picture]:
        """All tensors that the call reads, in order."""
        return [p for p in flat([self.args, self.kwargs]) if isinstance(p, Picture)]

    @property
    def form(self) -> str:
        """The layout that the layer works in: "NHWC" or "NCHW"."""
        value = self.text("data_format", "dim_ordering", default="channels_last")
        if value in ("channels_last", "tf", "NHWC", "default"):
            return "NHWC"
        if value in ("channels_first", "th", "NCHW"):
            return "NCHW"
        raise ModelError(f"has the data format '{value[:40]}': damaged file")


def plain_number(value: Any, name: str) -> float:
    """A number of a config, also as Keras writes NumPy's."""
    if isinstance(value, dict):
        value = value.get("value", value.get("config"))
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 3e38:
        raise ModelError(f"has {name} {str(value)[:80]}, where a number is expected: damaged file")
    return float(value)


def flat(value: Any) -> list[Any]:
    """Everything in nested lists and dicts, in order."""
    found, stack = [], [value]
    while stack:
        v = stack.pop()
        if isinstance(v, dict):
            stack += list(v.values())[::-1]
        elif isinstance(v, (list, tuple)):
            stack += list(v)[::-1]
        else:
            found.append(v)
    return found


class Context(BaseContext):
    """One import of a Keras model. store: its weights. layout: of the pictures that it takes. keras: the version that wrote it."""

    def __init__(self, store: Legacy | Keras3, budget: int) -> None:
        super().__init__(budget, set())
        self.store = store
        self.layout = "NHWC"
        self.keras = 2
        self.calls = 0
        self.channels_in: set[int] = set()

    def count(self, n: int = 1) -> None:
        """Account for calls of layers. Raises ModelError when a file asks for absurdly many."""
        self.calls += n
        if self.calls > MAX_CALLS:
            raise ModelError("calls its layers absurdly often: damaged file")

    def weights(self, node: Node, *wanted: str) -> list[np.ndarray]:
        """The layer's weights of these names, in this order."""
        found = self.store.of(node.path, node.group) if node.path else []
        return chosen(found, list(wanted))

    def shapes(self, path: tuple[str, ...], group: str) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape) of all weights of a layer."""
        return [(e.kind, e.array.shape()) for e in self.store.of(path, group)]

    def number(self, node: Node, value: float | np.ndarray, stem: str, channels: int = 0) -> str:
        """The name of a constant: one number, or one for each channel."""
        data = np.asarray(value, np.float32)
        if data.size > 1 and data.size != channels:
            raise ModelError(f"has {data.size} numbers for {channels} channels: damaged file")
        return self.constant(NEW, data.reshape(()) if data.size == 1 else data.reshape(1, -1, 1, 1), "", f"{node.name}/{stem}")

    def picture(self, node: Node, k: int = 0) -> Picture:
        """Tensor number k that the call reads."""
        found = node.pictures
        if k >= len(found):
            raise ModelError(f"reads {len(found)} tensors, needs at least {k + 1}: damaged file")
        return found[k]

    def spatial(self, node: Node) -> Picture:
        """The first tensor that the call reads, which must have rows and columns in the layout that the layer works in."""
        x = self.picture(node)
        if x.layout != node.form:
            if len(x.layout) != 4:
                raise ModelError("reads numbers without rows and columns, where a picture is expected: not supported")
            raise ModelError(f"works on {node.form}, but its input is {x.layout}: not supported")
        return x

    def put(self, node: Node, op: str, x: Picture, *more: str, **attrs: Any) -> Picture:
        """Append an operator on one picture that keeps its shape."""
        return x.like(self.emit(op, [x.name, *more], self.fresh(node.name), node, **attrs))


def padding(node: Node, kernel: list[int], strides: list[int], dilations: list[int], size: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """ONNX attributes for a layer's padding, and the height and width of its result."""
    mode = node.text("padding", "border_mode", default="valid").lower()
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if mode in ("same", "half"):
        out = {a: ceil_div(size[a], s) for a, s in zip("HW", strides, strict=True)}
        if strides == [1, 1]:
            total = [r - 1 for r in reach]
            return {"pads": [t // 2 for t in total] + [t - t // 2 for t in total]}, out
        return {"auto_pad": "SAME_UPPER"}, out
    if mode != "valid":
        raise ModelError(f"has the padding '{mode[:40]}', which is not supported")
    return {"pads": [0, 0, 0, 0]}, {a: positive((size[a] - reach[i]) // strides[i] + 1) for i, a in enumerate("HW")}


def positive(size: Any) -> Any:
    """A size, which must be at least one pixel if it is known. Raises ModelError."""
    if not isinstance(size, Dim) and not 1 <= size <= 1 << 24:
        raise ModelError(f"makes pictures of {size} rows or columns from the size that its input has: damaged file, or made for larger pictures")
    return size


def combined(first: Picture, other: Picture) -> dict[str, Any]:
    """The size of two pictures combined element by element; one may be a single pixel or have a single channel. Raises ModelError."""
    if first.layout != other.layout:
        raise ModelError(f"combines {first.layout} with {other.layout}, which is not supported")
    size = dict(first.size)
    for a in "CHW":
        p, q = first.size[a], other.size[a]
        if not isinstance(p, Dim) and p == 1:
            size[a] = q
        elif (isinstance(q, Dim) or q != 1) and differ(p, q):
            what = {"C": "channels", "H": "rows", "W": "columns"}[a]
            raise ModelError(f"combines {p} {what} with {q}: damaged file, or made for pictures of another size")
    return size


def square_root(n: float) -> int:
    """The whole number of which n is the square, 0 when there is none."""
    if n != int(n) or n < 1:
        return 0
    root = math.isqrt(int(n))
    return root if root * root == n else 0
