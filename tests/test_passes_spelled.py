"""Gelu and Mish that are spelled out are recognised in any order of their factors, and nothing else is."""

from __future__ import annotations

import itertools
import math

import pytest
from graphs import Builder, optimised


def product(b: Builder, factors: list[str], from_the_right: bool) -> str:
    """The factors multiplied one by one, from the left or from the right."""
    total, *rest = factors[::-1] if from_the_right else factors
    for f in rest:
        total = b.op("Mul", f, total) if from_the_right else b.op("Mul", total, f)
    return total


def gate(b: Builder, x: str, kind: str, slope: float, cubic: float = 0.044715, one: float = 1.0) -> str:
    """1 + erf(slope x), or 1 + tanh(slope (x + cubic x^3))."""
    if kind == "tanh":
        cube = b.op("Mul", b.op("Mul", x, x), x)
        inner = b.op("Tanh", b.op("Mul", b.op("Add", x, b.op("Mul", cube, b.const(cubic))), b.const(slope)))
    else:
        inner = b.op("Erf", b.op("Mul", x, b.const(slope)))
    return b.op("Add", inner, b.const(one))


SLOPE = {"none": math.sqrt(0.5), "tanh": math.sqrt(2 / math.pi)}


@pytest.mark.parametrize("from_the_right", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu_in_any_order(kind: str, order: tuple[int, ...], from_the_right: bool) -> None:
    b = Builder(2)
    x = b.conv("x", 2, 3)
    factors = [x, gate(b, x, kind, SLOPE[kind]), b.const(0.5)]
    graph = optimised(b.done(product(b, [factors[i] for i in order], from_the_right)), tolerance=1e-5)
    assert [n.op for n in graph.nodes] == ["Conv", "Gelu"]
    assert graph.nodes[-1].attrs["approximate"] == kind


@pytest.mark.parametrize("left", [False, True])
def test_mish(left: bool) -> None:
    b = Builder(2)
    x = b.conv("x", 2, 3)
    g = b.op("Tanh", b.op("Softplus", x))
    graph = optimised(b.done(b.op("Mul", g, x) if left else b.op("Mul", x, g)), tolerance=1e-5)
    assert [n.op for n in graph.nodes] == ["Conv", "Mish"]


@pytest.mark.parametrize(
    ("kind", "slope", "cubic", "one", "half"),
    [("none", 0.71, 0.0, 1.0, 0.5), ("none", math.sqrt(0.5), 0.0, 1.01, 0.5),
     ("tanh", math.sqrt(2 / math.pi), 0.05, 1.0, 0.5), ("tanh", 0.8, 0.044715, 1.0, 0.5)],
)  # fmt: skip
def test_what_is_almost_a_gelu_stays(kind: str, slope: float, cubic: float, one: float, half: float) -> None:
    b = Builder(2)
    x = b.conv("x", 2, 3)
    y = b.op("Mul", b.op("Mul", x, gate(b, x, kind, slope, cubic, one)), b.const(half))
    assert "Gelu" not in [n.op for n in optimised(b.done(y), tolerance=1e-5).nodes]


@pytest.mark.parametrize("factor", [0.51, 1.0, -0.03])
@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu_times_a_number(kind: str, factor: float) -> None:
    b = Builder(2)
    x = b.conv("x", 2, 3)
    y = b.op("Relu", b.op("Mul", b.op("Mul", x, gate(b, x, kind, SLOPE[kind])), b.const(factor)))
    assert [n.op for n in optimised(b.done(y), tolerance=1e-5).nodes][:3] == ["Conv", "Gelu", "Mul"]


def test_a_gate_of_another_value_stays() -> None:
    b = Builder(2)
    x, z = b.conv("x", 2, 3), b.conv("x", 2, 3)
    y = b.op("Mul", b.op("Mul", x, gate(b, z, "none", SLOPE["none"])), b.const(0.5))
    m = b.op("Mul", x, b.op("Tanh", b.op("Softplus", z)))
    ops = [n.op for n in optimised(b.done(y, m), tolerance=1e-5).nodes]
    assert "Gelu" not in ops
    assert "Mish" not in ops


def test_insides_that_others_read_are_kept() -> None:
    b = Builder(2)
    x = b.conv("x", 2, 3)
    inner = gate(b, x, "none", SLOPE["none"])
    y = b.op("Mul", b.op("Mul", x, inner), b.const(0.5))
    ops = [n.op for n in optimised(b.done(y, inner), tolerance=1e-5).nodes]
    assert "Gelu" in ops
    assert "Erf" in ops


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu_of_a_product(kind: str) -> None:
    """The argument is itself a product: by a number, of two pictures, a Mish, another Gelu."""
    b = Builder(2)
    x = b.op("Mul", b.conv("x", 2, 3), b.const(0.7))
    for _ in range(2):
        x = b.op("Mul", b.op("Mul", x, gate(b, x, kind, SLOPE[kind])), b.const(0.5))
    x = b.op("Mul", x, b.op("Tanh", b.op("Softplus", x)))
    x = b.op("Mul", b.op("Mul", x, b.const(0.5)), gate(b, x, kind, SLOPE[kind]))
    y = b.op("Mul", x, b.conv("x", 2, 3))
    y = b.op("Mul", b.op("Mul", y, gate(b, y, kind, SLOPE[kind])), b.const(0.5))
    ops = [n.op for n in optimised(b.done(y), tolerance=1e-5).nodes]
    assert ops.count("Gelu") == 4
    assert ops.count("Mish") == 1
    assert not {"Erf", "Tanh", "Softplus"} & set(ops)
