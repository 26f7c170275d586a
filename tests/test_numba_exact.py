"""The numba backend's bands and groups of rows: the same bits however a picture is cut, and right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from programs import Builder, inputs_for, programs_in_row_groups, random_programs, shuffle

from fastsr.backends import numba_cpu
from fastsr.backends.reference import run_program
from fastsr.program import Epilogue, Program

reason = numba_cpu.unavailable()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))
if reason is None:
    from fastsr.backends.numba_cpu import constants, winograd
    from fastsr.backends.numba_cpu.tile_size import Cut


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(random_programs(), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_bands_do_not_change_a_bit(drawn: tuple[Program, int, int], tile_height: int, tile_width: int, band: int) -> None:
    program, height, width = drawn
    xs = inputs_for(program, height, width)
    outputs = tuple(range(len(program.outputs)))
    with np.errstate(all="ignore"):
        assume(all(np.isfinite(w).all() for w in run_program(program, xs, outputs, dtype=np.float64)))
    whole = numba_cpu.compile(program, threads=1, tile=1000).run(xs, outputs)
    executable = numba_cpu.compile(program, threads=2)
    executable._cut = lambda *_: Cut(tile_height, tile_width, band)  # type: ignore[attr-defined]
    for _ in range(2):  # the second time memory holds what the first one left
        for a, b in zip(whole, executable.run(xs, outputs), strict=True):
            np.testing.assert_array_equal(a, b)


def test_bands_read_nothing_that_they_have_not_made() -> None:
    """Memory is full of NaN before a run."""
    b = Builder(1)
    x = b.conv(0, 6, k=5, epilogue=[Epilogue("Relu")])
    y = b.conv(b.conv(x, 6), 6, epilogue=[Epilogue("Add", value=x)])
    program = b.program(b.conv(y, 9, epilogue=[shuffle(3)]), y)
    source = np.random.default_rng(0).standard_normal((1, 1, 61, 45)).astype(np.float32)
    whole = numba_cpu.compile(program, threads=1, tile=1000).run([source], [0, 1])
    for cut in (Cut(61, 45, 1), Cut(61, 17, 3), Cut(20, 45, 4), Cut(7, 9, 2)):
        executable = numba_cpu.compile(program, threads=1)
        executable._cut = lambda *_, cut=cut: cut  # type: ignore[attr-defined]
        executable._arenas.append(np.full(1 << 22, np.nan, np.float32))  # type: ignore[attr-defined]
        for a, g in zip(whole, executable.run([source], (0, 1)), strict=True):
            np.testing.assert_array_equal(a, g)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs_in_row_groups(), st.integers(1, 40), st.integers(1, 60), st.integers(1, 9), st.integers(1, 3))
def test_groups_of_rows_by_any_cut(case: tuple[Program, int, int], tile_height: int, tile_width: int, band: int, threads: int) -> None:
    program, height, width = case
    xs = inputs_for(program, height, width)
    outputs = tuple(range(len(program.outputs)))
    whole = numba_cpu.compile(program, threads=1, tile=1000).run(xs, outputs)
    executable = numba_cpu.compile(program, threads=threads)
    executable._cut = lambda *_: Cut(tile_height, tile_width, band)  # type: ignore[attr-defined]
    executable._arenas.append(np.full(1 << 21, np.nan, np.float32))  # type: ignore[attr-defined]
    for a, b in zip(whole, executable.run(xs, outputs), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, want in zip(whole, run_program(program, xs, outputs, dtype=np.float64), strict=True):
        assert np.abs(a - want).max() <= 1e-5 * max(1.0, float(np.abs(want).max()))


def test_convolutions_are_grouped_where_it_pays() -> None:
    b = Builder(8)
    b.conv(b.conv(b.conv(b.conv(b.conv(0, 8), 16, k=5), 16, sh=2), 16, dh=2), 4)
    assert constants.Constants(b.program()).grouped == {0}


def test_transformed_weights_multiply_like_the_filter() -> None:
    """A^T ((G w) * (B^T d)) is the direct sum."""
    rng = np.random.default_rng(0)
    w, d = rng.standard_normal((1, 1, 3, 3)).astype(np.float32), rng.standard_normal(6)
    points = np.array([0, 0.625, -0.625, 1.5, -1.5])
    transformed = winograd.transform_weights(w)[:, 0, 0, 0].astype(np.float64)
    # B^T d at a finite point: d under the product of (x - other points), by its coefficients.
    rows = [np.poly(np.delete(points, i))[::-1] for i in range(5)]
    t = np.array([r @ d[:5] for r in rows] + [np.poly(points)[::-1] @ d])
    m = transformed * t
    for k in range(4):
        got = sum(m[i] * points[i] ** k for i in range(5)) + (m[5] if k == 3 else 0)
        assert abs(got - w[0, 0, :, 0].astype(np.float64) @ d[k : k + 3]) < 1e-5


@pytest.mark.parametrize("channels", [(8, 8), (12, 9), (64, 32), (33, 70)])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 95, 96, 97, 200, 300])
def test_every_width_and_channel_count_of_groups(channels: tuple[int, int], width: int) -> None:
    b = Builder(channels[0])
    b.conv(0, channels[1], epilogue=[b.prelu(channels[1]), Epilogue("Add", value=b.conv(0, channels[1], k=1))])
    program = b.program()
    x = np.random.default_rng(1).standard_normal((1, channels[0], 7, width)).astype(np.float32)
    want = run_program(program, [x], (0,), dtype=np.float64)[0]
    got = numba_cpu.compile(program).run([x], [0])[0]
    assert np.abs(got - want).max() <= 1e-5 * max(1.0, float(np.abs(want).max()))
