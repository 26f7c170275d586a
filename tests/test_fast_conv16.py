"""Convolutions of pairs in 16-bit integers in the C++ core, and values kept as pairs between them: the same bits for any tiling, near to f32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from core import ISAS, _core
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from programs import Builder, inputs_for, random_programs, shuffle

from fastsr import fsr
from fastsr.errors import PictureError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

LEAST = 60.0
"""What the precision promises, in dB PSNR against f32."""
LEAKY, RELU = Epilogue("LeakyRelu", a=0.2), Epilogue("Relu")


def chain() -> Program:
    """As FSRCNN: a large kernel, 1x1, 3x3, 1x1 and a large kernel before a shuffle, with odd numbers of channels."""
    b = Builder(1)
    x = b.conv(0, 29, k=5, epilogue=[b.prelu(29)])
    x = b.conv(x, 11, k=1, epilogue=[b.prelu(11)])
    for c in (11, 5, 7):
        x = b.conv(x, c, epilogue=[b.prelu(c)])
    x = b.conv(x, 24, k=1, epilogue=[LEAKY])
    b.conv(x, 9, k=(5, 7), epilogue=[shuffle(3)])
    return b.program(feed=Feed("y"))


def between() -> Program:
    """Between convolutions by Winograd's algorithm, before one and after one."""
    b = Builder(3)
    x = b.conv(0, 31, k=(3, 5), epilogue=[RELU])
    x = b.conv(x, 33, k=1, epilogue=[RELU])
    x = b.conv(x, 32, epilogue=[RELU])
    x = b.conv(x, 47, epilogue=[b.prelu(47)])
    y = b.conv(x, 9, k=2, dw=3, dh=2, epilogue=[RELU])
    x = b.conv(x, 32, epilogue=[Epilogue("Clip", a=-1.0, b=1.0)])
    x = b.conv(x, 9, k=4, epilogue=[Epilogue("Add", value=y)])
    b.conv(x, 3, k=1)
    return b.program(feed=Feed("rgb", mean=(0.4, 0.5, 0.6)))


def writers() -> Program:
    """Pairs written by all kinds of steps: strides, groups, shuffles, pads, enlargements, row passes, clips and residuals."""
    b = Builder(1)
    x = b.conv(0, 12, k=5, sh=2, sw=2, epilogue=[RELU])
    x = b.conv(x, 12, k=1, epilogue=[Epilogue("Clip", a=0.0, b=2.0)])
    x = b.conv(x, 20, k=3, group=2, epilogue=[RELU])
    x = b.conv(x, 44, k=1, epilogue=[shuffle(2), LEAKY, Epilogue("Mul", a=0.7)])
    x = b.conv(x, 12, k=2, epilogue=[Epilogue("Sigmoid")])
    skip = x = b.step("Pad", [x], 12, {"mode": 1})
    x = b.conv(x, 12, k=(1, 3), pt=1, pb=1, pl=2, pr=2)
    x = b.step("Resize", [x], 12, {"mode": 2, "scale_h": 2.0, "scale_w": 1.0}, [b.prelu(12)])
    x = b.step("SpaceToDepth", [b.conv(x, 3, k=2)], 12, {"block": 2})
    x = b.step("DepthToSpace", [b.conv(x, 12, k=1)], 3, {"block": 2})
    b.conv(x, 1, k=5, epilogue=[RELU])
    return b.program(b.last, skip, feed=Feed("y"))


def readers() -> Program:
    """Values not kept as pairs: outputs, residuals of other convolutions, operands, parts of a Concat, inputs of convolutions with stride."""
    b = Builder(1)
    out = b.conv(0, 16, k=5, epilogue=[RELU])
    residual = b.conv(out, 16, k=1, epilogue=[RELU])
    operand = b.conv(residual, 16, k=1, epilogue=[Epilogue("Add", value=residual), RELU])
    other = b.conv(out, 16, k=1, epilogue=[Epilogue("Add", value=residual)])
    part = b.conv(operand, 16, k=1, epilogue=[Epilogue("Sigmoid"), Epilogue("Mul", value=operand)])
    joined = b.step("Concat", [part, other], 32)
    strided = b.conv(part, 16, k=1)
    x = b.conv(joined, 16, k=1)
    b.conv(strided, 8, k=1, sh=2, sw=2)
    y = b.conv(strided, 16, k=1)
    b.conv(b.step("Pointwise", [x], 16, epilogue=[Epilogue("Add", value=y)]), 1, k=1)
    return b.program(b.last, out, feed=Feed("y"))


def skips() -> Program:
    """Residuals of pairs, before and behind an activation, to pairs and half floats, to pairs that are made of floats; of half floats to pairs."""
    b = Builder(1)
    x = first = b.conv(0, 29, k=5, epilogue=[b.prelu(29)])
    for k in (1, 3):
        x = b.conv(x, 11, k=k, epilogue=[b.prelu(11)])
    x = second = b.conv(x, 29, k=1, epilogue=[Epilogue("Add", value=first), b.prelu(29)])
    x = b.conv(x, 29, k=(2, 1), epilogue=[b.prelu(29), Epilogue("Add", value=second)])
    x = b.conv(x, 29, k=(3, 1), epilogue=[Epilogue("Add", value=second), Epilogue("Clip", a=-3.0, b=3.0)])
    x = b.conv(x, 29, k=1, epilogue=[Epilogue("Add", value=first), Epilogue("Mul", a=0.7)])
    half = x = b.conv(x, 29, k=1, epilogue=[RELU, Epilogue("Add", value=first)])
    x = b.conv(x, 29, epilogue=[RELU])
    x = b.conv(x, 29, k=1, epilogue=[Epilogue("Add", value=half)])
    b.conv(x, 4, epilogue=[shuffle(2)])
    return b.program(feed=Feed("y"))


NETWORKS: dict[str, Callable[[], Program]] = {"chain": chain, "between": between, "writers": writers, "readers": readers, "skips": skips}


def compiled(program: Program, precision: str = "fast", algorithm: str = "conv16", isa: str = "", tile: int = 0) -> _core.Model:
    _core.set_isa(isa)
    return _core.Model(fsr.dumps(program), tile=tile, precision=precision, algorithm=algorithm)


def run(model: _core.Model, program: Program, arrays: list[np.ndarray], **kwargs: int) -> list[np.ndarray]:
    return model.run(arrays, list(range(len(program.outputs))), **kwargs)


def pictures(program: Program, height: int, width: int) -> list[np.ndarray]:
    """Blocks and grain, 0..1, less the feed's mean."""
    rng = np.random.default_rng(7)
    arrays = []
    for v in program.inputs:
        c = program.values[v].channels
        blocks = rng.uniform(0.05, 0.95, (c, -(-height // 8), -(-width // 8))).repeat(8, 1).repeat(8, 2)[:, :height, :width]
        mean = np.asarray(program.feed.mean or 0.0, np.float32).reshape(-1, 1, 1)
        arrays.append((np.clip(blocks + rng.normal(0, 0.02, blocks.shape), 0, 1) - mean).astype(np.float32)[None])
    return arrays


def test_which_convolutions_take_it() -> None:
    used = {name: compiled(make()).kernels() for name, make in NETWORKS.items()}
    rows = {name: compiled(make(), algorithm="conv16rows").kernels() for name, make in NETWORKS.items()}
    assert rows["chain"] == ["conv16rows", "direct", *["conv16rows"] * 3, "direct", "conv16rows"]
    assert rows["between"].count("conv16rows") == 4  # not 1x1 kernels, nor dilation along y and what reads the same value
    assert used["chain"] == ["conv16"] * 7
    assert used["between"] == ["conv16"] * 8
    assert [i for i, k in enumerate(used["writers"]) if k == "direct"] == [0, 2, 6]
    assert used["writers"].count("conv16") == 6
    assert [i for i, k in enumerate(used["readers"]) if k == "conv16"] == [0, 11]
    assert used["skips"] == ["conv16"] * 11
    mixed = compiled(between(), algorithm="").kernels()
    used = [k.removesuffix("rows").removesuffix("x6") for k in mixed[:-1]]
    assert used == ["conv16", "conv16", "winograd16", "winograd16", "conv16", "winograd16", "conv16"]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("algorithm", ["conv16", "conv16rows", ""])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits(name: str, algorithm: str, isa: str) -> None:
    program = NETWORKS[name]()
    height, width = (22, 42) if isa == "scalar" else (60, 206)
    arrays = pictures(program, height, width)
    cuts = ((1, 0, 0), (2, 0, 0), (3, 0, 5), (2, 0, 12), (8, 32, 0), (3, 50, 9), (2, 0, height))
    tiles = (0, 32, 300) if isa == "scalar" else (0, 32, 50, 300)  # a model takes seconds without vectors
    models = {tile: compiled(program, algorithm=algorithm, isa=isa, tile=tile) for tile in tiles}
    whole = [a.tobytes() for a in run(models[300], program, arrays, chunk=height, threads=1, team=0)]
    for threads, tile, chunk in (c for c in cuts if c[1] in tiles):
        for team in (-1, 0, 1):
            got = [a.tobytes() for a in run(models[tile], program, arrays, threads=threads, chunk=chunk, team=team)]
            assert got == whole, (threads, tile, chunk, team)


@pytest.mark.parametrize("algorithm", ["conv16", "conv16rows", ""])
@pytest.mark.parametrize("name", NETWORKS)
def test_instruction_sets_agree(name: str, algorithm: str) -> None:
    program = NETWORKS[name]()
    arrays = pictures(program, 46, 84)
    results = {isa: [a.tobytes() for a in run(compiled(program, algorithm=algorithm, isa=isa), program, arrays)] for isa in ISAS if isa != "scalar"}
    assert len({tuple(r) for r in results.values()}) <= 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("algorithm", ["conv16", "conv16rows", ""])
@pytest.mark.parametrize("name", NETWORKS)
def test_close(name: str, algorithm: str, isa: str) -> None:
    program = NETWORKS[name]()
    models = [compiled(program, "f32", "", isa), compiled(program, "fast", algorithm, isa)]
    for size in ((2, 2), (38, 46), (18, 132)):
        for e, f in zip(*(run(m, program, pictures(program, *size)) for m in models), strict=True):
            peak = max(1.0, float(np.abs(e).max()))
            decibels = 10 * np.log10(peak**2 / max(float(np.mean((e.astype(np.float64) - f) ** 2)), 1e-30))
            assert decibels >= LEAST, decibels
            if algorithm == "conv16":
                assert name == "readers" or decibels < 130, decibels  # and it does compute in integers


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    random_programs(),
    st.integers(1, 5),
    st.sampled_from([0, 0, 16, 33]),
    st.integers(0, 20),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from(["conv16", "conv16rows"]),
)
def test_random_programs(case: tuple[Program, int, int], threads: int, tile: int, chunk: int, team: int, algorithm: str) -> None:
    program, height, width = case
    arrays = inputs_for(program, height, width)
    try:
        whole = run(compiled(program, algorithm=algorithm, tile=max(height, width)), program, arrays, chunk=height, threads=1, team=0)
    except PictureError:
        reject()
    for isa in ISAS[1:]:
        got = run(compiled(program, algorithm=algorithm, isa=isa, tile=tile), program, arrays, threads=threads, chunk=chunk, team=team)
        for a, b in zip(whole, got, strict=True):
            assert a.tobytes() == b.tobytes()
