"""Every step kind, epilogue and kind of convolution on a simulated GPU against the reference. Run by `test_numba_cuda.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from programs import BINARY, UNARY, Builder, inputs_for, pads, random_programs, shuffle
from simulated import check, picture

from fastsr.backends import numba_cuda
from fastsr.backends.reference import run_program
from fastsr.program import Epilogue, Program

CONVS: dict[str, dict[str, Any]] = {
    "3x3": dict(),
    "5x5": dict(k=5),
    "1x1": dict(k=1),
    "even": dict(k=(4, 2), **pads(1, 0, 2, 1)),
    "large": dict(k=(11, 1)),
    "wide_pads": dict(**pads(4, 5, 3, 2)),
    "valid": dict(**pads(0, 0, 0, 0)),
    "strides": dict(k=(2, 5), sh=3, sw=2, **pads(0, 2, 1, 2)),
    "dilation": dict(dh=3, dw=2, **pads(3, 2, 3, 2)),
    "stride_dilation": dict(sh=2, sw=2, dh=3, dw=3, **pads(3, 3, 3, 3)),
    "same_upper": dict(k=4, sh=2, sw=2, auto_pad=1),
    "same_lower": dict(k=4, sh=2, sw=2, auto_pad=2),
    "no_bias": dict(bias=False),
}


@pytest.mark.parametrize("name", CONVS)
def test_convolutions(name: str) -> None:
    b = Builder(3)
    b.conv(0, 5, epilogue=[Epilogue("Relu")], **CONVS[name])
    program = b.program()
    check(program, picture(program, 5, 7), tile=3)


@pytest.mark.parametrize(("group", "cout", "stride"), [(2, 6, 1), (6, 6, 1), (3, 15, 2), (2, 18, 1)])
def test_grouped_convolutions(group: int, cout: int, stride: int) -> None:
    b = Builder(6)
    b.conv(0, cout, group=group, sh=stride, sw=stride)
    program = b.program()
    check(program, picture(program, 4, 5))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_sizes_around_the_blocks(size: tuple[int, int]) -> None:
    b = Builder(1)
    b.conv(b.conv(0, 2, epilogue=[b.prelu(2)]), 4, epilogue=[shuffle(2)])
    program = b.program()
    check(program, picture(program, *size), tile=4)


def one_step_each(epilogues: list[Epilogue], channels: int = 2) -> Program:
    """Of one input, an output for each operation."""
    b = Builder(channels)
    return b.program(*[b.step("Pointwise", [0], channels, {}, [e]) for e in epilogues])


def test_unary_epilogues() -> None:
    numbers = {"LeakyRelu": (0.2, 0.0), "Clip": (-0.5, 0.75), "HardSigmoid": (0.2, 0.5), "Quantize": (-2.0, 5.0)}
    epilogues = [Epilogue(op, a=numbers.get(op, (0, 0))[0], b=numbers.get(op, (0, 0))[1]) for op in (*UNARY, "Quantize")]
    epilogues += [Epilogue("Gelu", a=1.0), Epilogue("PRelu", tensor=np.array([0.1, -0.3], np.float32))]
    program = one_step_each(epilogues)
    for factor in (3, 30):
        check(program, np.float32(factor) * picture(program, 3, 5), tuple(range(len(epilogues))))


@pytest.mark.parametrize("op", ["Tanh", "Sigmoid", "Silu", "Gelu", "Mish"])
def test_functions_are_accurate_everywhere(op: str) -> None:
    program = one_step_each([Epilogue(op)], channels=1)
    x = np.concatenate([np.linspace(-100, 100, 41), np.linspace(-1, 1, 40), np.geomspace(1e-30, 1e30, 20), [0.0, -1e30]])
    x = x.astype(np.float32).reshape(1, 1, 1, -1)
    want = run_program(program, [x], dtype=np.float64)[0]
    got = numba_cuda.compile(program).run([x], [0])[0]
    assert (np.abs(got - want) <= 2e-6 * np.abs(want) + 1e-7 * np.minimum(1, np.abs(x))).all()


def test_what_is_not_a_number() -> None:
    """Quantize makes its lower bound of it, others keep it; ties are rounded to even; there is no -0."""
    program = one_step_each([Epilogue("Quantize", a=-3.0, b=4.0), Epilogue("Relu"), Epilogue("Sqrt"), Epilogue("Max", a=1.0)], channels=1)
    x = np.array([np.nan, -0.5, 0.5, 1.5, 2.5, -0.2, 9, -9], np.float32).reshape(1, 1, 2, 4)
    rounded, positive, root, larger = (a.reshape(-1) for a in numba_cuda.compile(program).run([x], [0, 1, 2, 3]))
    np.testing.assert_array_equal(rounded, [-3, 0, 0, 2, 2, 0, 4, -3])
    assert not np.signbit(rounded[[1, 5]]).any()
    assert np.isnan([positive[0], larger[0], *root[[0, 1, 5, 7]]]).all()
    np.testing.assert_array_equal(root[[2, 6]], np.sqrt(np.float32([0.5, 9])))


@pytest.mark.parametrize("operand", ["value", "one_channel", "tensor", "one_tensor", "scalar"])
def test_binary_epilogues(operand: str) -> None:
    b = Builder(3)
    one = b.conv(0, 1, k=1, epilogue=[Epilogue("Clip", a=0.5, b=2.0)])
    many = b.step("Pointwise", [0], 3, {}, [Epilogue("Clip", a=0.5, b=2.0)])
    kinds: dict[str, dict[str, Any]] = {
        "value": dict(value=many),
        "one_channel": dict(value=one),
        "tensor": dict(tensor=np.array([0.5, 1.5, -2.0], np.float32)),
        "one_tensor": dict(tensor=np.float32(1.5).reshape(())),
        "scalar": dict(a=1.5),
    }
    made = []
    for op in (*BINARY, "Div"):
        made.append(b.step("Pointwise", [0], 3, {}, [Epilogue(op, **kinds[operand]), Epilogue("Relu")]))
    made.append(b.step("Pointwise", [many], 3, {}, [Epilogue("RDiv", **kinds[operand])]))
    made.append(b.conv(0, 3, k=3, epilogue=[Epilogue("Abs"), Epilogue("Add", **kinds[operand]), Epilogue("Mul", value=one)]))
    program = b.program(*made)
    check(program, picture(program, 2, 3), tuple(range(len(made))), tile=2 if "tensor" not in operand else None)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("block", [2, 3])
def test_shuffles(block: int, mode: int) -> None:
    channels = 4 - block
    b = Builder(channels)
    skip = b.step("Resize", [0], channels, {"scale_h": float(block), "scale_w": float(block)})
    many = channels * block * block
    half = b.conv(0, many, k=1)
    b.conv(0, many, epilogue=[b.prelu(many), Epilogue("Add", value=half), shuffle(block, mode), Epilogue("Sub", value=skip), Epilogue("Tanh")])
    shuffled = b.last
    b.step("SpaceToDepth", [b.last], many, {"block": block}, [Epilogue("Relu")])
    b.step("DepthToSpace", [b.last], channels, {"block": block, "mode": mode}, [Epilogue("Neg")])
    program = b.program(shuffled, b.last)
    check(program, picture(program, 2, 3), (0, 1), tile=2)


def test_shuffle_of_a_shuffle() -> None:
    b = Builder(36)
    b.conv(b.step("DepthToSpace", [0], 4, {"block": 3}, [shuffle(2)]), 1)
    program = b.program()
    check(program, picture(program, 1, 2), tile=1)


@pytest.mark.parametrize("mode", range(3))
def test_resize(mode: int) -> None:
    for coord, (scale_h, scale_w) in enumerate(((2.0, 3.0), (0.5, 1.5), (1.0, 4.0), (2.0, 2.0), (1.5, 0.5), (3.0, 1.0))):
        b = Builder(1)
        params = {"mode": mode, "coord": coord, "nearest_mode": coord % 4, "exclude_outside": int(mode == 2), "scale_h": scale_h, "scale_w": scale_w}
        b.step("Resize", [0], 1, params, [Epilogue("Relu")])
        program = b.program()
        check(program, picture(program, 4, 3), tile=2)


@pytest.mark.parametrize("mode", range(4))
def test_pad_and_concat(mode: int) -> None:
    b = Builder(2)
    x = b.conv(0, 1, k=1)
    x = b.step("Concat", [x, 0], 3, {}, [Epilogue("LeakyRelu", a=0.1), Epilogue("Mul", tensor=b.normal(3))])
    x = b.step("Pad", [x], 3, {**pads(2, 3, 1, 2), "mode": mode, "value": 0.5}, [Epilogue("Add", a=1.0)])
    cropped = b.step("Pad", [x], 3, {**pads(-1, 1, -2, -3), "mode": 0, "value": -1.0})
    program = b.program(x, cropped)
    check(program, picture(program, 4, 5), (0, 1), tile=2)


@settings(max_examples=8, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(random_programs(5, 6), st.integers(1, 5))
def test_random_programs(drawn: tuple[Program, int, int], tile: int) -> None:
    program, height, width = drawn
    xs = inputs_for(program, height, width)
    outputs = tuple(range(len(program.outputs)))
    with np.errstate(all="ignore"):
        want = run_program(program, xs, outputs, dtype=np.float64)
    assume(all(np.isfinite(w).all() and w.size < 1000 for w in want))
    whole = numba_cuda.compile(program).run(xs, outputs)
    tiled = numba_cuda.compile(program, tile=tile).run(xs, outputs)
    for w, a, b in zip(want, whole, tiled, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - w).max() <= 1e-4 * max(1.0, float(np.abs(w).max()))
