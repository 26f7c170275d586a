"""What the name of a file tells about a chain that keeps the size, where trying tells nothing; and readings that hand their picture on."""

from __future__ import annotations

import numpy as np
import pytest

from fastsr.archs import chain, choose
from fastsr.archs.weights import Weights
from fastsr.graph import Feed, Graph


def first(stem: str, norms: bool) -> str:
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(8, 3, 9, 9)), "b.weight": rng.normal(size=(8, 8, 1, 1)), "c.weight": rng.normal(size=(3, 8, 5, 5))}
    if norms:
        parts = {f"n.{part}": np.ones(8) for part in ("weight", "bias", "running_mean", "running_var")}
        tensors = {"a.weight": tensors["a.weight"], **parts, "b.weight": tensors["b.weight"], "c.weight": tensors["c.weight"]}
    found = chain.layers(Weights(tensors, stem))
    assert found
    return next(chain.readings(found, 3, 0, stem)).task


@pytest.mark.parametrize(("stem", "norms", "task"), [
    ("net", True, "denoise"), ("srcnn_best", True, "enlarge"), ("my_VDSR", True, "enlarge"), ("net", False, "enlarge"),
    ("denoiser", False, "denoise"), ("DnCNN_25", False, "denoise"),
])  # fmt: skip
def test_the_name_tells_the_task(stem: str, norms: bool, task: str) -> None:
    assert first(stem, norms) == task


@pytest.mark.parametrize(("gain", "taken"), [(0.0, False), (0.2, False), (1.0, True)])
def test_a_rare_reading_that_changes_nothing_is_no_better(gain: float, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {"usual": -0.7, "odd": gain}
    monkeypatch.setattr(choose, "judge", lambda graph: (gains[graph.meta["kind"]], 25.0, 20.0))
    graphs = [Graph(feed=Feed("y"), meta={"kind": kind, "architecture": "x", **({"rare": True} if kind == "odd" else {})}) for kind in gains]
    assert (choose.best(graphs).meta["kind"] == "odd") is taken
