"""fastsr.mixed_precision: which convolutions of a quantised network stay in floats, and what that gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fails
from graphs import Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import drawn

import fastsr
from fastsr import calibration, levels, mixed_precision, onnx_export, ops, quantise
from fastsr.cli import main
from fastsr.errors import ModelError
from fastsr.files import write_picture
from fastsr.graph import Feed, Graph
from fastsr.lower import lower
from fastsr.mixed_precision import Cost
from fastsr.model import load_program, save_program
from fastsr.passes import optimise

SAME = {"pads": [1, 1, 1, 1]}


def coarse(factor: float = 1.0, offset: float = 0.0) -> Graph:
    """Y enlarged by 2. The middle convolution reads one channel 300 times as large as the others, so that rounding makes zeros of these."""
    b = Builder(1)
    y = b.op("Relu", b.conv("x", 1, 8, 3, **SAME))
    factors = np.ones((1, 8, 1, 1), np.float32)
    factors[0, 0] = 300
    z = b.op("Mul", y, b.const(factors))
    z = b.op("Relu", b.conv(z, 8, 8, 3, **SAME))
    z = b.op("Mul", b.conv(z, 8, 4, 3, **SAME), b.const(np.float32(factor)))
    graph = b.done(b.op("DepthToSpace", b.op("Add", z, b.const(np.float32(offset))), blocksize=2))
    graph.feed = Feed("y")
    return optimise(graph)


def in_range() -> Graph:
    """The same, with results in the range of pictures."""
    results = [ops.run_graph(coarse(), {"x": x}) for x in inputs()]
    values = np.concatenate([y.ravel() for r in results for y in r.values()])
    low, high = float(values.min()), float(values.max())
    return coarse(0.8 / (high - low), 0.1 - 0.8 * low / (high - low))


def inputs() -> list[np.ndarray]:
    return [(drawn(seed, 40, 48)[:, :, 1][None, None] / 255).astype(np.float32) for seed in (1, 2)]


def error(graph: Graph, against: Graph) -> float:
    """The mean squared difference of the results, computed node by node."""
    squares = []
    for x in inputs():
        got, want = (ops.run_graph(g, {"x": x})[g.outputs[0]].astype(np.float64) for g in (quantise.sealed(graph), against))
        squares.append((got - want) ** 2)
    return float(np.mean(squares))


def test_the_error_is_what_the_graph_makes() -> None:
    graph = coarse()
    found = quantise.quantised(graph, inputs(), threads=1)
    assert found.error == pytest.approx(error(found.graph, graph), rel=0.02)
    pixels = 2 * 40 * 48
    assert list(found.work.values()) == [pixels * n for n in (8 * 9, 8 * 8 * 9, 8 * 4 * 9)]


def test_convolutions_named_stay_in_floats() -> None:
    graph = coarse()
    whole = quantise.quantised(graph, inputs(), threads=1)
    first, middle, last = whole.work
    mixed = quantise.quantised(graph, inputs(), floats=[middle], threads=1)
    assert list(mixed.work) == [first, last]
    program = quantise.program_of(mixed.graph)
    assert [bool(i) for i, step in zip(levels.integer_convs(program), program.steps, strict=True) if step.kind == "Conv"] == [True, False, True]
    same = [n for n in mixed.graph.nodes if n.op == "Conv" and n.output == middle]
    assert np.array_equal(mixed.graph.constants[same[0].inputs[1]], graph.constants[same[0].inputs[1]]), "its weights are not touched"


def test_costs_are_of_one_convolution_at_a_time() -> None:
    graph = coarse()
    work = quantise.quantised(graph, inputs(), threads=1).work
    found = mixed_precision.costs(graph, inputs(), work, threads=1)
    assert {c.name: c.work for c in found} == work and len(found) == len(work)
    for c in found:
        alone = quantise.quantise(graph, inputs(), floats=[n for n in work if n != c.name], threads=1)
        assert c.error == pytest.approx(error(alone, graph), rel=0.02)


def test_few_pictures_and_the_cheapest_convolutions_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = coarse()
    work = quantise.quantised(graph, inputs(), threads=1).work
    seen: list[list[int]] = []
    whole = quantise.quantised

    def spy(graph: Graph, inputs: list[np.ndarray], **options: Any) -> quantise.Quantised:
        seen.append([len(a) for a in inputs])
        return whole(graph, inputs, **options)

    monkeypatch.setattr(mixed_precision.quantise, "quantised", spy)
    monkeypatch.setattr(mixed_precision, "CANDIDATES", 2)
    some = [np.repeat(inputs()[0][:, :, : 40 - 8 * k], 3, axis=0) for k in range(4)]
    found = mixed_precision.costs(graph, some, work, threads=1)
    assert [c.work for c in found] == sorted(work.values())[:2]
    assert seen == [[3, 3, 2]] * 2, "8 pictures of all sizes together"


COSTS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=8).map(
    lambda pairs: [Cost(str(k), e, w) for k, (e, w) in enumerate(pairs)]
)


@given(COSTS, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2))
@settings(deadline=None)
def test_what_is_kept_is_enough_and_needed(costs: list[Cost], share: float, more: float, others: int) -> None:
    total = sum(c.error for c in costs)
    whole = total + (more if others else 0)
    kept = mixed_precision.to_keep(costs, share, whole, len(costs) + others)
    assert len(set(kept)) == len(kept) <= len(costs)
    left = whole - sum(c.error for c in costs if c.name in kept)
    rounded = [c for c in costs if c.name not in kept]
    assert rounded or others, "one at least is of integers"
    enough = left <= share * whole * (1 + 1e-9) + 1e-12
    assert enough or not rounded or rounded == [min(costs, key=lambda c: c.error)], "no more could be kept"
    for c in costs:
        assert not enough or c.name not in kept or left + c.error > share * whole * (1 - 1e-9) - 1e-12, "one could be of integers"


def test_the_largest_error_for_the_least_work_goes_first() -> None:
    costs = [Cost("first", 5, 10), Cost("large", 4, 1000), Cost("small", 1, 10)]
    assert mixed_precision.to_keep(costs, 1.0, 10, 3) == ()
    assert mixed_precision.to_keep(costs, 0.5, 10, 3) == ("first",)
    assert mixed_precision.to_keep(costs, 0.4, 10, 3) == ("first", "small")
    assert set(mixed_precision.to_keep(costs, 0.0, 10, 3)) == {"first", "large"}, "not all of them"
    assert set(mixed_precision.to_keep(costs, 0.0, 20, 4)) == {"first", "large", "small"}, "a fourth one is not measured"


class Lost:
    """Counts how often it is asked; dB that an error costs, of results that already are off by `noise`."""

    def __init__(self, graph: Graph, noise: float) -> None:
        self.graph, self.noise, self.asked = graph, noise, 0

    def __call__(self, graph: Graph) -> float:
        self.asked += 1
        return 10 * float(np.log10(1 + error(graph, self.graph) / self.noise))


def test_within_the_limit() -> None:
    graph = coarse()
    whole = quantise.quantised(graph, inputs(), threads=1)
    worst = max(mixed_precision.costs(graph, inputs(), whole.work, threads=1), key=lambda c: c.error)
    lost = Lost(graph, whole.error)
    assert lost(whole.graph) == pytest.approx(3.01, abs=0.1)
    told: list[tuple[str, int, int]] = []
    found = mixed_precision.quantise_within(graph, inputs(), lost, 1.0, threads=1, progress=lambda *what: told.append(what))
    assert worst.name in found.floats and found.lost is not None and found.lost <= 1.0 and found.all_lost == pytest.approx(3.01, abs=0.1)
    assert found.float_work == pytest.approx(sum(whole.work[n] for n in found.floats) / sum(whole.work.values()))
    assert lost(found.graph) == found.lost
    assert {what for what, _, _ in told} == {"quantising", "rounding one at a time"} and all(0 <= done <= total for _, done, total in told)


@pytest.mark.parametrize("known", [None, float("nan")])
def test_all_are_rounded_where_nothing_is_known(known: float | None) -> None:
    graph = coarse()
    found = mixed_precision.quantise_within(graph, inputs(), lambda _: known, 0.0, threads=1)
    assert not found.floats and found.lost is known


def test_all_are_rounded_where_that_is_good_enough() -> None:
    graph = coarse()
    lost = Lost(graph, 1.0)
    found = mixed_precision.quantise_within(graph, inputs(), lost, 0.5, threads=1)
    assert not found.floats and lost.asked == 1 and found.lost == found.all_lost
    want = quantise.quantise(graph, inputs(), threads=1)
    assert found.graph.dump() == want.dump()
    assert all(np.array_equal(a, want.constants[name]) for name, a in found.graph.constants.items())


def test_a_stricter_limit_loses_less() -> None:
    graph = coarse()
    whole = quantise.quantised(graph, inputs(), threads=1)
    before = 4.0
    for most in (2.9, 0.5, 0.05, 0.0):
        lost = Lost(graph, whole.error)
        found = mixed_precision.quantise_within(graph, inputs(), lost, most, threads=1)
        assert found.lost is not None and found.all_lost is not None and found.floats and 1 < lost.asked <= 1 + mixed_precision.TRIES
        assert found.lost < found.all_lost and found.lost <= before
        assert any(levels.integer_convs(quantise.program_of(found.graph))), "one at least is of integers"
        before = found.lost
    assert before > 0, "the last limit cannot be kept"


def test_of_several_results_the_first_counts() -> None:
    graph = coarse()
    work = quantise.quantised(graph, inputs(), threads=1).work
    several = coarse()
    several.outputs.append(list(work)[1])
    want, got = (mixed_precision.costs(g, inputs(), work, threads=1) for g in (graph, several))
    assert got == want


def test_names_of_no_convolution() -> None:
    graph = coarse()
    with pytest.raises(ModelError, match="no convolution that makes 'nothing'"):
        quantise.quantise(graph, inputs(), floats=["nothing"])
    with pytest.raises(ModelError, match="that may be rounded"):
        quantise.quantise(graph, inputs(), floats=list(quantise.quantised(graph, inputs(), threads=1).work))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for k in range(8):
        write_picture(tmp_path / "photos" / f"{k}.png", drawn(k))
    return tmp_path / "photos"


@pytest.mark.parametrize("suffix", [".fsr", ".onnx"])
def test_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "mean_loss", lambda losses: 60 - losses[0].between)
    network, out = tmp_path / "net.fsr", tmp_path / f"mixed{suffix}"
    save_program(lower(in_range()), network)

    def run(most: float) -> tuple[str, int]:
        assert main(["quantise", str(network), "--data", str(photos), "-o", str(out), "-j", "1", "--most-loss", str(most)]) == 0
        return capsys.readouterr().out, sum(levels.integer_convs(load_program(out)))

    told, integers = run(1000)
    assert integers == 3 and "3 of 3 convolutions in 8-bit integers" in told and "floats" not in told
    whole = fastsr.load(out, threads=1).upscale(drawn(20)).astype(float)
    told, integers = run(60 - calibration_between(told) - 1)
    assert integers < 3 and f"{integers} of 3 convolutions in 8-bit integers" in told
    assert f"{3 - integers} with" in told and "stay in floats" in told and "cannot be kept" not in told
    want, mixed = (fastsr.load(p, threads=1).upscale(drawn(20)).astype(float) for p in (network, out))
    assert np.mean((mixed - want) ** 2) < np.mean((whole - want) ** 2)


def test_command_tells_where_the_limit_cannot_be_kept(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    network, out = tmp_path / "net.fsr", tmp_path / "mixed.fsr"
    save_program(lower(in_range()), network)
    command = ["quantise", str(network), "--data", str(photos), "-o", str(out), "-j", "1", "--most-loss", "0"]
    monkeypatch.setattr(calibration, "mean_loss", lambda losses: 1.0)
    assert main(command) == 0
    assert "--most-loss 0 cannot be kept" in capsys.readouterr().out
    monkeypatch.setattr(calibration, "mean_loss", lambda losses: None)
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "3 of 3" in told and "cannot be measured here" in told


def calibration_between(told: str) -> float:
    """dB between the two networks, as the command tells it."""
    return float(told.split("int8 against float: ")[1].split(" dB")[0])


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "some"])
def test_limits_that_are_none(value: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["quantise", "fast", "--data", photos, f"--most-loss={value}"], "a number of dB from 0 on", 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fast_loses_little_on_set5(scale: int, shared: Path) -> None:
    pytest.importorskip("fastsr._core", reason="the C++ core is not built")
    data, originals = shared / "photos", sorted((shared / "images" / "Set5").glob("*.png"))
    if not originals or not data.is_dir():
        pytest.skip("Set5 or the photographs are absent")
    program = fastsr.load("fast", scale=scale).program
    fitting, kept = calibration.split(sorted(data.glob("*.jpg"))[::4], 16)

    losses = calibration.Losses(program, kept, threads=1)

    def lost(graph: Graph, losses: calibration.Losses = losses) -> float:
        loss = calibration.mean_loss(losses.of(quantise.program_of(graph)))
        assert loss is not None
        return loss

    graph = onnx_export.graph_of(program)
    found = mixed_precision.quantise_within(graph, calibration.inputs_of(program, fitting)[0], lost, 0.08, threads=1)
    assert found.lost is not None and found.lost <= 0.08
    assert lost(found.graph, calibration.Losses(program, originals, threads=1)) <= 0.15
