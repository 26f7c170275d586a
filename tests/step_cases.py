"""Cases that several backends are tested with: programs of one kind of step, sizes of which the caller says, and what holds of their results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from programs import UNARY, Builder, inputs_for, pads, shuffle

from fastsr.backends.reference import run_program
from fastsr.program import Epilogue, Program

Run = Callable[[Program, Sequence[np.ndarray], Sequence[int]], Sequence[np.ndarray]]
"""Makes outputs of those numbers."""

# ---- programs ----------------------------------------------------------------------------------------------------------------------------------

CONVS: dict[str, dict[str, Any]] = {
    "3x3": dict(),
    "5x5": dict(k=5),
    "1x1": dict(k=1),
    "even": dict(k=(4, 2), **pads(1, 0, 2, 1)),
    "large": dict(k=(11, 1)),
    "wide_pads": dict(**pads(4, 5, 3, 2)),
    "valid": dict(**pads(0, 0, 0, 0)),
    "stride2": dict(sh=2, sw=2, **pads(1, 1, 1, 1)),
    "stride3": dict(k=(2, 5), sh=3, sw=3, **pads(0, 2, 1, 2)),
    "strides": dict(sh=3, sw=2),
    "dilation": dict(dh=3, dw=2, **pads(3, 2, 3, 2)),
    "stride_dilation": dict(sh=2, sw=2, dh=3, dw=3, **pads(3, 3, 3, 3)),
    "same_upper": dict(k=4, sh=2, sw=2, auto_pad=1),
    "same_lower": dict(k=4, sh=2, sw=2, auto_pad=2),
    "no_bias": dict(bias=False),
}
"""What `Builder.conv` is given for a convolution of three channels."""

OPERANDS = ("value", "one_channel", "tensor", "one_tensor", "scalar")


def unary_epilogues(channels: int) -> list[Epilogue]:
    """Every operation without an operand that does not round, on so many channels."""
    numbers = {"LeakyRelu": (0.2, 0.0), "Clip": (-0.5, 0.75), "HardSigmoid": (0.2, 0.5)}
    found = [Epilogue(op, a=numbers.get(op, (0.0, 0.0))[0], b=numbers.get(op, (0.0, 0.0))[1]) for op in UNARY]
    return [*found, Epilogue("Gelu", a=1.0), Epilogue("PRelu", tensor=np.linspace(-0.3, 2.0, channels, dtype=np.float32))]


def operand(b: Builder, kind: str) -> dict[str, Any]:
    """One of `OPERANDS` for an operation on three channels of a program whose input has as many: what `Epilogue` is given. None is near 0."""
    positive = [Epilogue("Clip", a=0.5, b=2.0)]
    if kind == "value":
        return dict(value=b.step("Pointwise", [0], 3, {}, positive))
    if kind == "one_channel":
        return dict(value=b.conv(0, 1, k=1, epilogue=positive))
    if kind == "tensor":
        return dict(tensor=np.array([0.5, 1.5, -2.0], np.float32))
    return dict(tensor=np.float32(1.5).reshape(())) if kind == "one_tensor" else dict(a=1.5)


def shuffles(block: int, mode: int, channels: int) -> Program:
    """A shuffle as the end of a convolution, with operations on both sides; then there and back by steps of their own. Two outputs."""
    many = channels * block * block
    b = Builder(channels)
    skip = b.step("Resize", [0], channels, {"scale_h": float(block), "scale_w": float(block)})
    half = b.conv(0, many, k=1)
    b.conv(0, many, epilogue=[b.prelu(many), Epilogue("Add", value=half), shuffle(block, mode), Epilogue("Sub", value=skip), Epilogue("Tanh")])
    shuffled = b.last
    b.step("SpaceToDepth", [b.last], many, {"block": block}, [Epilogue("Relu")])
    b.step("DepthToSpace", [b.last], channels, {"block": block, "mode": mode}, [Epilogue("Neg")])
    return b.program(shuffled, b.last)


def shuffle_of_a_shuffle() -> Program:
    """A shuffle as the end of a step that shuffles."""
    b = Builder(36)
    b.conv(b.step("DepthToSpace", [0], 4, {"block": 3}, [shuffle(2)]), 1)
    return b.program()


def resize(mode: int, coord: int, scale_h: float, scale_w: float, channels: int) -> Program:
    """A Resize."""
    b = Builder(channels)
    params = {"mode": mode, "coord": coord, "nearest_mode": coord % 4, "exclude_outside": int(mode == 2), "scale_h": scale_h, "scale_w": scale_w}
    b.step("Resize", [0], channels, params, [Epilogue("Relu")])
    return b.program()


def pad_and_concat(mode: int) -> Program:
    """A Concat, a Pad in that mode of it, a convolution of that and a Pad that crops. Two outputs."""
    b = Builder(2)
    x = b.conv(0, 1)
    x = b.step("Concat", [0, x, 0], 5, {}, [Epilogue("LeakyRelu", a=0.1), Epilogue("Mul", tensor=b.normal(5))])
    x = b.step("Pad", [x], 5, {**pads(2, 3, 1, 2), "mode": mode, "value": 0.5}, [Epilogue("Add", a=1.0)])
    cropped = b.step("Pad", [x], 5, {**pads(-1, 1, -2, -3), "mode": 0, "value": -1.0})
    return b.program(b.conv(x, 1), cropped)


def small_network(channels: int, block: int, edge: int) -> Program:
    """Two outputs, a residual, a shuffle behind a kernel with that edge, and a stride."""
    b = Builder(1)
    first = b.conv(0, channels, k=5, epilogue=[b.prelu(channels)])
    second = b.conv(first, channels, epilogue=[Epilogue("Add", value=first), Epilogue("Relu")])
    third = b.conv(second, block**2, k=edge, epilogue=[shuffle(block), Epilogue("Tanh")])
    return b.program(b.conv(third, 2, k=4, sh=2, sw=2, **pads(1, 1, 2, 2)), third)


def three_outputs() -> Program:
    """One for each of its convolutions, and its input."""
    b = Builder(2)
    first = b.conv(0, 3)
    return b.program(b.conv(first, 4), first, 0)


def picture(program: Program, height: int, width: int, n: int = 1, seed: int = 0) -> np.ndarray:
    """The first input, random."""
    return inputs_for(program, height, width, n, seed)[0]


# ---- what holds --------------------------------------------------------------------------------------------------------------------------------


def check_close(got: Sequence[np.ndarray], program: Program, x: np.ndarray, outputs: Sequence[int]) -> None:
    """Within 1e-5 of the reference in float64, relative to the largest value of the output (and at least 1)."""
    for w, g in zip(run_program(program, [x], outputs, dtype=np.float64), got, strict=True):
        assert g.dtype == np.float32 and g.shape == w.shape and g.flags.c_contiguous
        assert np.abs(g - w).max() <= 1e-5 * max(1.0, float(np.abs(w).max()))


def check_function(op: str, run: Run, count: int) -> None:
    """Relative to the value, except in the vanishing tails. count: of numbers, about."""
    b = Builder(1)
    program = b.program(b.step("Pointwise", [0], 1, {}, [Epilogue(op)]))
    x = np.concatenate([np.linspace(-100, 100, count | 1), np.linspace(-1, 1, count), np.geomspace(1e-30, 1e30, 20 + count // 20), [0.0, -1e30]])
    x = x.astype(np.float32).reshape(1, 1, 1, -1)
    want = run_program(program, [x], dtype=np.float64)[0]
    got = run(program, [x], [0])[0]
    assert np.isfinite(got).all()
    assert (np.abs(got - want) <= 2e-6 * np.abs(want) + 1e-7 * np.minimum(1, np.abs(x))).all()


def check_tiled(program: Program, height: int, width: int, whole: Run, tiled: Run, most: int | None = None) -> None:
    """The same bits, and within 1e-4 of the reference. most: elements of an output, more are not tried; nor are infinite ones."""
    xs = inputs_for(program, height, width)
    outputs = range(len(program.outputs))
    with np.errstate(all="ignore"):
        want = run_program(program, xs, outputs, dtype=np.float64)
    assume(all(np.isfinite(w).all() and w.size < (most or np.inf) for w in want))
    for w, a, b in zip(want, whole(program, xs, outputs), tiled(program, xs, outputs), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - w).max() <= 1e-4 * max(1.0, float(np.abs(w).max()))


def in_threads(work: Callable[[int], None], count: int) -> None:
    """`work` with each number in a thread of its own; what one raises is raised here."""
    failures: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as e:
            failures.append(e)

    workers = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for e in failures:
        raise e
