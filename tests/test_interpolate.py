"""fastsr.interpolate: networks between networks, in Python and on the command line."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import fails, listing
from graphs import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

import fastsr
from fastsr.backends.reference import run_program
from fastsr.cli import main
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.interpolate import interpolate
from fastsr.lower import lower
from fastsr.model import load_program, save_program
from fastsr.passes import optimise
from fastsr.program import Epilogue, Program

SAME = {"pads": [1, 1, 1, 1]}


def network(seed: int, channels: int = 6, alpha: float = 0.1, activation: bool = True, block: int = 2) -> Program:
    """Y enlarged by `block`: two convolutions, a slope for each channel between them, LeakyReLU behind them."""
    rng = np.random.default_rng(seed)
    b = Builder(1)

    def conv(x: str, cin: int, cout: int) -> str:
        w, bias = rng.normal(size=(cout, cin, 3, 3)).astype(np.float32), rng.normal(size=cout).astype(np.float32)
        return b.op("Conv", x, b.const(w), b.const(bias), kernel_shape=[3, 3], **SAME)

    y = conv("x", 1, channels)
    if activation:
        y = b.op("PRelu", y, b.const(rng.uniform(0.1, 0.5, (channels, 1, 1)).astype(np.float32)))
    y = b.op("LeakyRelu", conv(y, channels, block * block), alpha=alpha)
    graph = b.done(b.op("DepthToSpace", y, blocksize=block))
    graph.feed = Feed("y")
    return lower(optimise(graph))


def numbers(program: Program) -> list[np.ndarray]:
    """All that is interpolated."""
    found = []
    for step in program.steps:
        found += [a for a in (step.weight, step.bias) if a is not None]
        for e in step.epilogue:
            found += [np.array([e.a, e.b])] if e.tensor is None else [e.tensor]
    return found


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=3))
@settings(deadline=None, max_examples=30)
def test_every_number_is_the_weighted_sum(some: list[float]) -> None:
    shares = [*some, 1 - sum(some)]
    programs = [network(seed, alpha=0.1 + 0.1 * seed) for seed in range(len(shares))]
    kept = [[a.copy() for a in numbers(p)] for p in programs]
    found = interpolate(programs, shares)
    for got, *given_ in zip(numbers(found), *(numbers(p) for p in programs), strict=True):
        np.testing.assert_allclose(got, sum(a.astype(np.float64) * s for a, s in zip(given_, shares, strict=True)), rtol=1e-5, atol=1e-5)
    assert all(same(numbers(p), before) for p, before in zip(programs, kept, strict=True)), "the arguments stay as they are"


def test_the_ends_are_the_networks() -> None:
    a, b = network(1), network(2)
    assert not same(numbers(a), numbers(b))
    assert same(numbers(interpolate([a, b], [1, 0])), numbers(a))
    assert same(numbers(interpolate([a, b], [0, 1])), numbers(b))
    assert same(numbers(interpolate([a], [1])), numbers(a))
    assert interpolate([a, b], [0, 1]).dump() == b.dump()


def test_linear_networks_make_the_mean() -> None:
    """A network of one convolution is linear in its weights, and so is its result."""
    programs = []
    for _ in range(2):
        b = Builder(3)
        weights = [b.const(np.random.default_rng(len(programs)).normal(size=shape).astype(np.float32)) for shape in ((4, 3, 3, 3), (4,))]
        programs.append(lower(optimise(b.done(b.op("Conv", "x", *weights, kernel_shape=[3, 3], **SAME)))))
    x = np.random.default_rng(3).normal(size=(1, 3, 9, 8)).astype(np.float32)
    results = [run_program(p, [x], [0])[0] for p in (*programs, interpolate(programs, [0.25, 0.75]))]
    np.testing.assert_allclose(results[2], 0.25 * results[0] + 0.75 * results[1], rtol=1e-4, atol=1e-4)


def test_equal_bounds_without_end_stay() -> None:
    a, b = network(1), network(2)

    def bounded(p: Program, most: float = math.inf) -> Program:
        last = p.steps[-1]
        epilogue = tuple(replace(e, op="Clip", a=0.0, b=most) if e.op == "LeakyRelu" else e for e in last.epilogue)
        return replace(p, steps=[*p.steps[:-1], replace(last, epilogue=epilogue)])

    found = interpolate([bounded(a), bounded(b)], [0.5, 0.5])
    assert [(e.a, e.b) for e in found.steps[-1].epilogue if e.op == "Clip"] == [(0.0, math.inf)]
    with pytest.raises(ModelError, match="bounds without end"):
        interpolate([bounded(a), bounded(b, 1.0)], [0.5, 0.5])


def test_a_bias_that_is_not_there_is_zero() -> None:
    a, b = network(1), network(2)
    none = replace(b, steps=[replace(b.steps[0], bias=None), *b.steps[1:]])
    found = interpolate([a, none], [0.25, 0.75])
    assert a.steps[0].bias is not None and found.steps[0].bias is not None
    np.testing.assert_allclose(found.steps[0].bias, a.steps[0].bias * 0.25, rtol=1e-6)
    assert interpolate([none, none], [0.25, 0.75]).steps[0].bias is None


def test_what_was_said_of_one_network_is_not_said_of_the_mean() -> None:
    metas = [{"name": "one", "source": "a.pth", "arch": "plain", "seed": seed} for seed in (1, 2)]
    programs = [replace(network(seed), meta=meta) for seed, meta in enumerate(metas)]
    assert interpolate(programs, [0.5, 0.5]).meta == {"arch": "plain"}


def test_other_orders_of_a_shuffle_are_another_shape() -> None:
    a, b = network(1), network(2)
    last = replace(b.steps[-1], epilogue=tuple(replace(e, b=1 - e.b) if e.op == "DepthToSpace" else e for e in b.steps[-1].epilogue))
    with pytest.raises(ModelError, match="blocks"):
        interpolate([a, replace(b, steps=[*b.steps[:-1], last])], [0.5, 0.5])


def test_quantised_networks() -> None:
    a = network(1)
    last = replace(a.steps[-1], epilogue=(*a.steps[-1].epilogue, Epilogue("Quantize", a=0.0, b=255.0)))
    for programs in ([a, replace(a, steps=[*a.steps[:-1], last])], [replace(a, steps=[*a.steps[:-1], last]), a]):
        with pytest.raises(ModelError, match="quantised networks cannot be interpolated"):
            interpolate(programs, [0.5, 0.5])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (network(2, channels=8), r"step 0 .*: weights \(8, 1, 3, 3\) for \(6, 1, 3, 3\)"),
        (network(2, activation=False), "operations"),
        (network(2, block=3), "step 1"),
        (replace(network(2), feed=Feed("y", fine=True)), "fed otherwise, fine=True for False"),
        (replace(network(2), steps=network(2).steps[:1]), "1 steps for 2"),
    ],
)
def test_networks_of_other_shapes(other: Program, message: str) -> None:
    with pytest.raises(ModelError, match=f"network 3 is not of the same shape as the first one: .*{message}"):
        interpolate([network(1), network(4), other], [0.5, 0.25, 0.25])


def test_other_strides_are_another_shape() -> None:
    other = copy.deepcopy(network(2))
    other.steps[0].params["sh"] = 2
    with pytest.raises(ModelError, match="parameters"):
        interpolate([network(1), other], [0.5, 0.5])


@pytest.mark.parametrize("shares", [[], [1], [0.5, 0.6], [0.5, 0.25, 0.25], [math.nan, 0.5]])
def test_shares_that_are_none(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="sum up to 1"):
        interpolate([network(1), network(2)], shares)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.fsr" for name in "abc"]
    programs = [network(seed) for seed in (1, 2, 3)]
    for program, path in zip(programs, paths, strict=True):
        save_program(program, path)
    out = tmp_path / "mean.fsr"
    assert main(["interpolate", *map(str, paths), "-o", str(out)]) == 0
    assert "0.333 a.fsr + 0.333 b.fsr + 0.333 c.fsr" in capsys.readouterr().out
    assert same(numbers(load_program(out)), numbers(interpolate(programs, [1 / 3] * 3)))
    onnx = tmp_path / "two.onnx"
    assert main(["interpolate", str(paths[0]), str(paths[1]), "--shares", "0.2", "0.8", "-o", str(onnx)]) == 0
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    want = interpolate(programs[:2], [0.2, 0.8])
    save_program(want, tmp_path / "want.fsr")
    assert np.array_equal(fastsr.load(onnx).upscale(picture), fastsr.load(tmp_path / "want.fsr").upscale(picture))


def test_named_networks_of_a_scale(tmp_path: Path) -> None:
    out = tmp_path / "same.fsr"
    assert main(["interpolate", "fast", "fast", "-s", "3", "-o", str(out), "--shares", "1.5", "-0.5"]) == 0
    got, want = load_program(out), load_program("fast", 3)
    for a, b in zip(numbers(got), numbers(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_command_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.fsr", tmp_path / "b.fsr"
    save_program(network(1), a)
    save_program(network(2, channels=8), b)
    out = tmp_path / "x.fsr"
    before = listing(tmp_path)
    fails(capsys, ["interpolate", a, b, "-o", out], "not of the same shape")
    fails(capsys, ["interpolate", a, "-o", out], "two networks or more", 2)
    fails(capsys, ["interpolate", a, a, "-o", tmp_path / "x.png"], ".fsr or .onnx", 2)
    fails(capsys, ["interpolate", a, a, "-o", out, "--shares", "1"], "a number for each of the 2 networks", 2)
    fails(capsys, ["interpolate", a, a, "-o", out, "--shares", "1", "1"], "sum up to 1, not 2", 2)
    fails(capsys, ["interpolate", a, a, "-o", out, "--shares", "1", "some"], "a number is needed", 2)
    fails(capsys, ["interpolate", a, a, "-o", a], "is one of the networks", 2)
    fails(capsys, ["interpolate", a, tmp_path / "none.pb", "-o", out], "no model file")
    fails(capsys, ["interpolate", a, a, "-o", tmp_path / "no" / "x.fsr"], "does not exist")
    assert listing(tmp_path) == before
