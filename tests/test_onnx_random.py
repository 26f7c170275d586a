"""Random graphs that look like super-resolution networks: each gives what ONNX Runtime gives, or is refused with a clear error."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from onnx_graphs import run_onnx
from onnx_random import REFUSED, Sketch, sketches

from fastsr.backends import pick_backend
from fastsr.errors import ModelError
from fastsr.importers import onnx
from fastsr.lower import lower
from fastsr.passes import optimise

TOLERANCE = 2e-5

def compare(sketch: Sketch, outcome: Counter[str]) -> None:
    net = sketch.n
    data = net.data(sketch.pictures[-1][0])
    x = np.random.default_rng(0).standard_normal((1, sketch.channels, sketch.h, sketch.w)).astype(np.float32)
    (wanted,) = run_onnx(data, x)
    try:
        program = lower(optimise(onnx.loads(data)))
    except ModelError as e:
        said = str(e)
    else:
        said = ""
    if said:
        outcome["refused"] += 1
        assert "not supported" in said
        assert any(op in said for op in REFUSED), said
        return
    got = pick_backend("cpu").compile(program).run([x], [0])[0]
    outcome["ran"] += 1
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= TOLERANCE * max(1.0, np.abs(wanted).max())


def run(count: int) -> Counter[str]:
    outcome: Counter[str] = Counter()

    @settings(max_examples=count)
    @given(sketches())
    def each(sketch: Sketch) -> None:
        compare(sketch, outcome)

    each()
    return outcome


def test_random_graphs() -> None:
    assert run(50)["ran"] >= 30


@pytest.mark.slow
def test_many_random_graphs() -> None:
    outcome = run(600)
    assert outcome["ran"] >= 400
    assert outcome["refused"] >= 5
