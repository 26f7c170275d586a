"""Every step kind, epilogue and kind of convolution on a simulated GPU against the reference. Run by `test_numba_cuda.py`."""

from __future__ import annotations

import numpy as np
import pytest
import step_cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import BINARY, Builder, random_programs, shuffle
from simulated import check
from step_cases import CONVS, OPERANDS, operand, picture, unary_epilogues

from fastsr.backends import numba_cuda
from fastsr.program import Epilogue, Program


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


def run_in(**options: int) -> step_cases.Run:
    return lambda program, xs, outputs: numba_cuda.compile(program, **options).run(xs, outputs)


def one_step_each(epilogues: list[Epilogue], channels: int = 2) -> Program:
    """Of one input, an output for each operation."""
    b = Builder(channels)
    return b.program(*[b.step("Pointwise", [0], channels, {}, [e]) for e in epilogues])


def test_unary_epilogues() -> None:
    epilogues = [*unary_epilogues(2), Epilogue("Quantize", a=-2.0, b=5.0)]
    program = one_step_each(epilogues)
    for factor in (3, 30):
        check(program, np.float32(factor) * picture(program, 3, 5), tuple(range(len(epilogues))))


@pytest.mark.parametrize("op", ["Tanh", "Sigmoid", "Silu", "Gelu", "Mish"])
def test_functions_are_accurate_everywhere(op: str) -> None:
    step_cases.check_function(op, run_in(), 40)


def test_what_is_not_a_number() -> None:
    """Quantize makes its lower bound of it, others keep it; ties are rounded to even; there is no -0."""
    nothing = np.array([np.nan], np.float32)
    epilogues = [Epilogue("Quantize", a=-3.0, b=4.0), Epilogue("Relu"), Epilogue("Sqrt"), Epilogue("Max", a=1.0), Epilogue("Min", a=1.0)]
    program = one_step_each([*epilogues, Epilogue("Max", tensor=nothing), Epilogue("Min", tensor=nothing)], channels=1)
    x = np.array([np.nan, -0.5, 0.5, 1.5, 2.5, -0.2, 9, -9], np.float32).reshape(1, 1, 2, 4)
    rounded, positive, root, larger, smaller, *no_numbers = (a.reshape(-1) for a in numba_cuda.compile(program).run([x], range(7)))
    np.testing.assert_array_equal(rounded, [-3, 0, 0, 2, 2, 0, 4, -3])
    assert not np.signbit(rounded[[1, 5]]).any()
    assert np.isnan([positive[0], larger[0], smaller[0], *root[[0, 1, 5, 7]]]).all()
    assert np.isnan(no_numbers).all()
    np.testing.assert_array_equal(root[[2, 6]], np.sqrt(np.float32([0.5, 9])))


@pytest.mark.parametrize("kind", OPERANDS)
def test_binary_epilogues(kind: str) -> None:
    b = Builder(3)
    given = operand(b, kind)
    one, many = operand(b, "one_channel"), operand(b, "value")
    made = [b.step("Pointwise", [0], 3, {}, [Epilogue(op, **given), Epilogue("Relu")]) for op in (*BINARY, "Div")]
    made.append(b.step("Pointwise", [many["value"]], 3, {}, [Epilogue("RDiv", **given)]))
    made.append(b.conv(0, 3, k=3, epilogue=[Epilogue("Abs"), Epilogue("Add", **given), Epilogue("Mul", **one)]))
    program = b.program(*made)
    check(program, picture(program, 2, 3), tuple(range(len(made))), tile=2 if "tensor" not in kind else None)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("block", [2, 3])
def test_shuffles(block: int, mode: int) -> None:
    program = step_cases.shuffles(block, mode, 4 - block)
    check(program, picture(program, 2, 3), (0, 1), tile=2)


def test_shuffle_of_a_shuffle() -> None:
    program = step_cases.shuffle_of_a_shuffle()
    check(program, picture(program, 1, 2), tile=1)


@pytest.mark.parametrize("mode", range(3))
def test_resize(mode: int) -> None:
    for coord, scales in enumerate(((2.0, 3.0), (0.5, 1.5), (1.0, 4.0), (2.0, 2.0), (1.5, 0.5), (3.0, 1.0))):
        program = step_cases.resize(mode, coord, *scales, channels=1)
        check(program, picture(program, 4, 3), tile=2)


@pytest.mark.parametrize("mode", range(4))
def test_pad_and_concat(mode: int) -> None:
    program = step_cases.pad_and_concat(mode)
    check(program, picture(program, 4, 5), (0, 1), tile=4)


@settings(max_examples=8, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(random_programs(5, 6), st.integers(1, 5))
def test_random_programs(drawn: tuple[Program, int, int], tile: int) -> None:
    step_cases.check_tiled(*drawn, run_in(), run_in(tile=tile), most=1000)
