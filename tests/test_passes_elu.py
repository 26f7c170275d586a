"""Elu and its kin, made of other operators, against the operators themselves and PyTorch's, in every backend."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, optimised

from fastsr.backends import pick_backend
from fastsr.errors import ModelError
from fastsr.lower import lower
from fastsr.ops import OPS
from fastsr.passes import optimise

KINDS = [
    ("Elu", {}), ("Elu", {"alpha": 0.1}), ("Elu", {"alpha": 3.0}), ("Elu", {"alpha": -1.0}), ("Selu", {}), ("Celu", {}), ("Celu", {"alpha": 0.3}),
    ("Softsign", {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attrs"), KINDS)
def test_behind_a_convolution(op: str, attrs: dict[str, float]) -> None:
    b = Builder(3)
    graph = optimised(b.done(b.op(op, b.conv("x", 3, 3), **attrs)), tolerance=1e-5)
    assert op not in {n.op for n in graph.nodes}


@pytest.mark.parametrize(("op", "attrs"), KINDS)
@pytest.mark.parametrize("backend", ["cpu", "numba", "reference"])
def test_numbers_of_all_sizes(op: str, attrs: dict[str, float], backend: str) -> None:
    b = Builder(1)
    graph = b.done(b.op(op, "x", **attrs))
    (node,) = graph.nodes
    x = np.array([-1e30, -200, -30, -5, -1, -1e-3, -1e-7, -0.0, 0, 1e-7, 1, 30, 1e30] * 3, np.float32).reshape(1, 1, 3, 13)
    want = OPS[op](node, x.astype(np.float64))
    got = pick_backend(backend).compile(lower(optimise(graph))).run([x], [0])[0]
    np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-12)


def test_as_pytorch_has_them() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the peer")
    x = np.linspace(-6, 6, 101, dtype=np.float32).reshape(1, 1, 1, -1)
    f = torch.nn.functional
    for op, attrs, peer in (
        ("Elu", {"alpha": 1.5}, lambda t: f.elu(t, 1.5)),
        ("Selu", {}, f.selu),
        ("Celu", {"alpha": 0.5}, lambda t: f.celu(t, 0.5)),
        ("Softsign", {}, f.softsign),
    ):
        b = Builder(1)
        node = b.done(b.op(op, "x", **attrs)).nodes[0]
        np.testing.assert_allclose(OPS[op](node, x), peer(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_celu_without_a_width_is_refused(alpha: float) -> None:
    b = Builder(1)
    with pytest.raises(ModelError, match="Celu"):
        optimise(b.done(b.op("Celu", "x", alpha=alpha)))
