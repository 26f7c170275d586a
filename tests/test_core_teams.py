"""Teams of threads on one tile, values that lie inside the result of a Concat, rings that share memory, the precision `fast`: bits stay the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
from core import ISAS, _core, check
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from programs import Builder, inputs_for, random_programs, shuffle

from fastsr import fsr
from fastsr.errors import PictureError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

LEAKY = Epilogue("LeakyRelu", a=0.2)


def dense(width: int = 24, growth: int = 16, seed: int = 0) -> Program:
    """Two dense blocks (Huang et al. 2017) as ESRGAN has them: every layer reads all before it in the block; then nearest enlargement."""
    b = Builder(3, seed)
    x = b.conv(0, width)
    for _ in range(2):
        parts = [x]
        for _ in range(3):
            joined = parts[0] if len(parts) == 1 else b.step("Concat", parts, sum(b.channels(p) for p in parts))
            parts.append(b.conv(joined, growth, epilogue=[LEAKY]))
        joined = b.step("Concat", parts, width + 3 * growth)
        x = b.conv(joined, width, epilogue=[Epilogue("Mul", a=0.2), Epilogue("Add", value=x)])
    x = b.step("Resize", [x], width, {"mode": 0, "coord": 2})
    b.conv(x, 3)
    return b.program(feed=Feed("rgb"))


def joins() -> Program:
    """Concats that share inputs in ways which do not nest, one twice, one that is an output, one whose result is changed in place."""
    b = Builder(2)
    x, y, z = (b.conv(0, c, epilogue=[Epilogue("Relu")]) for c in (20, 24, 28))
    first = b.step("Concat", [x, y], 44)
    second = b.step("Concat", [y, z], 52)
    twice = b.step("Concat", [x, x, 0], 42)
    nested = b.step("Concat", [first, z], 72)
    changed = b.step("Concat", [z, y], 52, epilogue=[Epilogue("Neg")])
    sums = [b.conv(v, 20) for v in (first, second, twice, nested, changed)]
    for s in sums[1:]:
        sums[0] = b.step("Pointwise", [sums[0]], 20, epilogue=[Epilogue("Add", value=s)])
    return b.program(sums[0], second)


def chain() -> Program:
    """Plain 3x3 layers with PReLU and skips, then a pixel shuffle, as EDSR and SRVGG have them; wide and narrow ones."""
    b = Builder(1)
    head = x = b.conv(0, 32)
    for c in (32, 33, 21, 64):
        t = b.conv(x, c, epilogue=[b.prelu(c)])
        x = b.conv(t, 32, epilogue=[Epilogue("Add", value=x)])
    x = b.conv(x, 32, epilogue=[Epilogue("Add", value=head)])
    x = b.conv(x, 72, epilogue=[shuffle(3)])
    b.conv(x, 1, k=5)
    return b.program(feed=Feed("y"))


NETWORKS = {"dense": dense, "joins": joins, "chain": chain}


ALGORITHMS = ("direct", "winograd", "winograd2d", "winograd6x6", "winograd16", "winograd16x6x4", "winograd16x6", "conv16", "conv16rows")


def run(
    program: Program, arrays: list[np.ndarray], isa: str = "", precision: str = "f32", tile: int = 0, algorithm: str = "", **kwargs: int
) -> list[bytes]:
    _core.set_isa(isa)
    model = _core.Model(fsr.dumps(program), tile=tile, precision=precision, algorithm=algorithm)
    return [a.tobytes() for a in model.run(arrays, list(range(len(program.outputs))), **kwargs)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETWORKS)
def test_right(name: str, isa: str) -> None:
    check(NETWORKS[name](), 37, 41, isa)


def narrow(k: int) -> Program:
    """k x k layers of all small widths, padded in every way, with all activations and a residual before or after one."""
    b = Builder(1)
    x = 0
    for c, epilogue in ((3, "Relu"), (5, "Clip"), (1, ""), (12, "PRelu"), (2, "LeakyRelu"), (17, ""), (8, "Relu")):
        acts = {"": [], "PRelu": [b.prelu(c)], "Clip": [Epilogue("Clip", a=-0.5, b=0.75)]}.get(epilogue, [Epilogue(epilogue, a=0.1)])
        x = b.conv(x, c, epilogue=acts, k=k)
        x = b.conv(x, c, epilogue=[Epilogue("Add", value=x), *acts] if c % 2 else [*acts, Epilogue("Add", value=x)], k=k)
    b.conv(x, 4, pt=2, pl=0, pb=k - 2, pr=k, epilogue=[shuffle(2)], k=k)
    return b.program()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("algorithm", ALGORITHMS[:4])
def test_algorithms(algorithm: str, isa: str) -> None:
    for program, all_same in ((narrow(3), True), (narrow(5), algorithm not in ("winograd2d", "winograd6x6")), (chain(), False)):
        kernels = {k for k in _core.Model(fsr.dumps(program), algorithm=algorithm).kernels() if k.islower()}
        assert kernels == {algorithm} if all_same else kernels - {algorithm} <= {"direct"}
        for size in ((1, 1), (4, 9), (30, 47), (17, 130)):
            check(program, *size, isa, algorithm=algorithm)


@pytest.mark.parametrize("precision", ["f32", "fast"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits(name: str, isa: str, precision: str) -> None:
    program = NETWORKS[name]()
    height, width = (23, 40) if isa == "scalar" else (61, 106)
    arrays = inputs_for(program, height, width)
    _core.set_isa(isa)
    cuts = ((1, 0, 0), (2, 0, 0), (3, 0, 5), (2, 0, 12), (8, 32, 0), (3, 50, 9), (2, 0, height))
    tiles = (0, 32, 200) if isa == "scalar" and precision == "fast" else (0, 32, 50, 200)  # a model takes seconds there
    models = {tile: _core.Model(fsr.dumps(program), tile=tile, precision=precision) for tile in tiles}

    def bits(tile: int, **kwargs: int) -> list[bytes]:
        return [a.tobytes() for a in models[tile].run(arrays, list(range(len(program.outputs))), **kwargs)]

    whole = bits(200, chunk=height, threads=1, team=0)
    for threads, tile, chunk in (c for c in cuts if c[1] in tiles):
        for team in (-1, 0, 1):
            assert bits(tile, threads=threads, chunk=chunk, team=team) == whole, (threads, tile, chunk, team)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_programs(), st.integers(1, 5), st.sampled_from([0, 0, 16, 33]), st.integers(0, 20), st.sampled_from(("", *ALGORITHMS)))
def test_random_programs(case: tuple[Program, int, int], threads: int, tile: int, chunk: int, algorithm: str) -> None:
    program, height, width = case
    arrays = inputs_for(program, height, width)
    how = {"precision": "fast" if "16" in algorithm else "f32", "algorithm": algorithm}
    try:
        whole = run(program, arrays, **how, tile=max(height, width), chunk=height, threads=1, team=0)
    except PictureError:
        reject()
    assert run(program, arrays, **how, tile=tile, threads=threads, chunk=chunk, team=1) == whole


def test_instruction_sets_agree() -> None:
    sets = [isa for isa in ISAS if isa != "scalar"]
    for name, make in NETWORKS.items():
        program = make()
        arrays = inputs_for(program, 45, 83)
        for precision in ("f32", "fast"):
            results = {isa: run(program, arrays, isa, precision) for isa in sets}
            assert len({tuple(r) for r in results.values()}) <= 1, (name, precision)


@pytest.mark.parametrize("name", ["dense", "chain"])
def test_fast_is_close(name: str) -> None:
    program = NETWORKS[name]()
    rng = np.random.default_rng(5)
    smooth = rng.uniform(0, 1, (1, program.values[0].channels, 12, 12)).astype(np.float32).repeat(8, axis=2).repeat(8, axis=3)
    arrays = [np.clip(smooth + rng.normal(0, 0.03, smooth.shape), 0, 1).astype(np.float32)]
    blob = fsr.dumps(program)
    _core.set_isa("")
    exact, fast = (_core.Model(blob, precision=p).run(arrays, [0])[0] for p in ("f32", "fast"))
    peak = max(1.0, float(np.abs(exact).max()))
    decibels = 10 * np.log10(peak**2 / np.mean((exact.astype(np.float64) - fast) ** 2))
    assert 60 <= decibels < 110, decibels  # and it does compute in integers


def choice(program: Program, capfd: pytest.CaptureFixture[str], height: int, width: int, **kwargs: int) -> tuple[str, float]:
    """What the engine says it does, and the MiB it takes."""
    model = _core.Model(fsr.dumps(program))
    capfd.readouterr()
    model.run(inputs_for(program, height, width), [0], **kwargs)
    words = capfd.readouterr().err
    return words, float(re.search(r"([\d.]+) MiB in all", words).group(1))


def deep(layers: int = 40) -> Program:
    b = Builder(1)
    x = b.conv(0, 64)
    for _ in range(layers):
        x = b.conv(x, 64, epilogue=[Epilogue("Relu")])
    b.conv(x, 1)
    return b.program()


def test_deep_networks_on_small_pictures_share_their_tile(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    _core.set_isa("")
    words, mib = choice(deep(), capfd, 96, 96, threads=2)
    assert "2 threads as a team" in words
    assert "1 strips x 1 bands" in words
    assert mib < 48


def test_rings_share_memory(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Made a whole picture at a time, a chain needs two values at once, however long it is."""
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    _core.set_isa("")
    few, many = (choice(deep(n), capfd, 96, 96, threads=1, chunk=96, team=1)[1] for n in (4, 40))
    assert many < few * 1.1
    assert many < 3 * 96 * (96 + 80) * 64 * 4 / 2**20 + 4


def test_joined_values_take_no_room_of_their_own(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    _core.set_isa("")
    b = Builder(1)
    x = b.conv(0, 64)
    parts = [x, *(b.conv(x, 64) for _ in range(3))]
    b.conv(b.step("Concat", parts, 256), 1, k=1)
    joined = choice(b.program(), capfd, 64, 64, threads=1, chunk=64, team=1)[1]
    assert joined < 1.15 * (256 * 64 * 144 * 4 / 2**20) + 2.5


def test_a_strip_without_columns_of_a_step() -> None:
    """A team shares what there is nothing of."""
    b = Builder(3)
    b.conv(b.conv(0, 16, sw=8, sh=8), 16)
    program = b.program()
    arrays = inputs_for(program, 64, 64)
    assert run(program, arrays, tile=4, algorithm="winograd2d", threads=2, team=1) == run(program, arrays, algorithm="winograd2d", threads=1, team=0)


def test_a_concat_of_one_value() -> None:
    b = Builder(1)
    x = b.conv(0, 3)
    joined = b.step("Concat", [x, x], 6)
    same = b.step("Concat", [joined], 6)
    b.conv(same, 2, dw=30)
    check(b.program(), 50, 90)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
def test_margins_in_used_memory(threads: int) -> None:
    """The left margin of rows whose first part is empty is zero too: memory of an earlier run with huge numbers shows when it is not."""
    b = Builder(1)
    x = b.conv(0, 24)
    x = b.conv(x, 96, epilogue=[shuffle(2)])
    b.conv(x, 3)
    program = b.program()
    arrays = inputs_for(program, 8, 200)
    expected = run(program, arrays, threads=1, team=0)
    _core.set_isa("")
    model = _core.Model(fsr.dumps(program))
    for team in (-1, 0, 1):
        model.run([a * np.float32(1e6) for a in inputs_for(program, 19, 237)], [0], threads=threads, team=team)
        assert model.run(arrays, [0], threads=threads, team=team)[0].tobytes() == expected[0], team


def test_an_output_joined_in_place_is_not_changed_by_its_sink() -> None:
    """Sinks may overwrite rows; not those in which other values lie."""
    picture = np.random.default_rng(0).random((20, 30, 3), np.float32)
    results = []
    for epilogue in ([], [Epilogue("Clip", a=-1e30, b=1e30)]):  # the second is not joined in place
        b = Builder(3)
        v = b.conv(0, 1)
        w = b.conv(v, 2)
        b.step("Concat", [v, w], 3, epilogue=epilogue)
        _core.set_isa("")
        model = _core.Model(fsr.dumps(b.program(feed=Feed("bgr", out_mean=(0.3, 0.2, 0.1)))))
        results.append(model.upscale(picture, threads=1))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("team", [0, 1])
def test_cancelling(team: int) -> None:
    program = deep(10)
    model = _core.Model(fsr.dumps(program), tile=64)
    arrays = inputs_for(program, 300, 300)

    def stop(done: int, total: int) -> None:
        assert 0 <= done <= total
        if done * 4 > total:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        model.run(arrays, [0], stop, threads=3, team=team)
    told: list[tuple[int, int]] = []
    model.run([a[:, :, :70, :70].copy() for a in arrays], [0], lambda done, total: told.append((done, total)), threads=3, team=team)
    assert told[-1][0] == told[-1][1]
