"""What every importer of a graph shares: the Graph being built, values so far, a budget of memory, an order in which nodes can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import ModelError
from ..graph import Graph, Node
from .values import Array, equal

P = TypeVar("P")


def register(table: dict[str, Any], *names: str) -> Callable[[Any], Any]:
    """A decorator that puts a function into `table` under these operator names."""

    def put(function: Any) -> Any:
        for name in names:
            table[name] = function
        return function

    return put


def running_order(reads: Mapping[str, Sequence[str]], sinks: Sequence[str], operator: Callable[[str], str]) -> list[str]:
    """Names of all nodes that the sinks need, each after the nodes it reads. Raises ModelError on a cycle.

    reads: node -> the nodes it reads. operator: what a node's operator is called, for the error.
    """
    order: list[str] = []
    state: dict[str, int] = {}
    for sink in sinks:
        stack = [(sink, 0)]
        while stack:
            name, k = stack.pop()
            if k == 0:
                if state.get(name) == 2:
                    continue
                state[name] = 1
            inputs = reads[name]
            if k < len(inputs):
                stack.append((name, k + 1))
                source = inputs[k]
                if state.get(source) == 1:
                    raise ModelError(f"node '{source}' ({operator(source)}) depends on itself: loops cannot be run, export the graph for inference")
                if source not in state:
                    stack.append((source, 0))
            else:
                state[name] = 2
                order.append(name)
    return order


def guarded(ctx: Any, node: Any, function: Any) -> Any:
    """`function(ctx, node)` with the node named in every error, and nothing but ModelError coming out."""
    try:
        return function(ctx, node)
    except ModelError as e:
        raise ModelError(f"node '{node.name}' ({node.op}): {e}") from e.__cause__
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as e:
        raise ModelError(f"node '{node.name}' ({node.op}) has inputs or attributes that do not fit: damaged file, or not supported ({e})") from e


class BaseContext:
    """One import. `budget`: bytes that constants and folding may take; a damaged file must not ask for more."""

    def __init__(self, budget: int, taken: set[str]) -> None:
        self.graph = Graph()
        self.values: dict[str, Any] = {}
        self.budget = budget
        self.taken = taken
        self._numbers: dict[str, int] = {}
        self._constants: dict[tuple[Any, ...], str] = {}

    def spend(self, nbytes: int) -> None:
        """Account for memory about to be used. Raises ModelError when the file asks for absurdly much."""
        self.budget -= int(nbytes)
        if self.budget < 0:
            raise ModelError("asks for far more memory than its file suggests: damaged file")

    def fresh(self, stem: str) -> str:
        """A value name that is not in use."""
        name, k = stem, self._numbers.get(stem, 0)
        while name in self.taken:
            k += 1
            name = f"{stem}_{k}"
        self.taken.add(name)
        self._numbers[stem] = k
        return name

    def constant(self, value: Array | np.ndarray, data: np.ndarray, form: str, stem: str = "") -> str:
        """Store `data`, made from `value` in a way called `form`; the same constant in the same form is stored once. Returns its name."""
        origin = value.name if isinstance(value, Array) else ""
        key = (origin, form)
        if origin and key in self._constants:
            return self._constants[key]
        free = bool(origin) and origin not in self.graph.constants
        name = origin if free else self.fresh(f"{origin or stem}/{form}" if form else origin or stem)
        self.spend(data.nbytes)
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise ModelError(f"has a constant '{origin or stem}' with infinite or undefined (NaN) numbers: damaged file, or training failed")
        self.graph.constants[name] = np.ascontiguousarray(data).reshape(data.shape)
        if origin:
            self._constants[key] = name
        return name

    def emit(self, op: str, inputs: list[str], output: str, node: Any, **attrs: Any) -> str:
        """Append a node that computes `output`; returns that name."""
        self.graph.nodes.append(Node(op, inputs, [output], attrs, node.name))
        return output

    def sized(self, height: Any, width: Any) -> str | None:
        """The name of a value of the Graph that has this height and width for every picture, the earliest that does."""
        for value in self.values.values():
            for v in value if isinstance(value, list) else [value]:
                size = getattr(v, "size", None)
                if isinstance(size, dict) and equal(size["H"], height) and equal(size["W"], width):
                    return str(v.name)
        return None

    def _at(self, args: Sequence[Any], k: int) -> Any:
        if k >= len(args):
            raise ModelError(f"has {len(args)} inputs, needs at least {k + 1}: damaged file")
        return args[k]

    def argument(self, args: Sequence[Any], k: int, picture: type[P]) -> P:
        """Argument k as a picture, of the importer's own type."""
        value = self._at(args, k)
        if not isinstance(value, picture):
            raise ModelError(f"input {k} is a constant, where a picture is expected")
        return value

    def array(self, node: Any, args: Sequence[Any], k: int) -> Array:
        """Argument k as numbers known now (which may hold sizes)."""
        value = self._at(args, k)
        if not isinstance(value, Array):
            raise ModelError(f"input {k} is computed from the picture, where a constant is expected: fastsr cannot run this")
        return value

    def numbers(self, node: Any, args: Sequence[Any], k: int) -> np.ndarray:
        """Argument k as plain numbers."""
        value = self.array(node, args, k)
        if value.symbolic:
            raise ModelError(f"input {k} depends on the size of the picture, where a constant is expected: fastsr cannot run this")
        return value.data

    def ints(self, node: Any, args: Sequence[Any], k: int) -> list[int]:
        """Argument k as a list of integers."""
        data = self.numbers(node, args, k)
        if data.dtype.kind not in "iu" or data.size > 64:
            raise ModelError(f"input {k} should be a few integers: damaged file")
        return [int(i) for i in data.reshape(-1)]
