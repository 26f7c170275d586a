"""tiles.py against brute force: what a part of the outputs needs, and cutting outputs into tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Builder, inputs_for, pads, random_programs, shuffle

from fastsr import ops, tiles
from fastsr.backends.reference import run_program
from fastsr.program import Epilogue, Program, Step


def draw_rect(data: st.DataObject, size: tuple[int, int]) -> tiles.Rect:
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in size)
    return y0, x0, data.draw(st.integers(y0 + 1, size[0])), data.draw(st.integers(x0 + 1, size[1]))


def part(array: np.ndarray, rect: tiles.Rect) -> np.ndarray:
    return array[:, :, rect[0] : rect[2], rect[1] : rect[3]]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(random_programs(), st.data())
def test_nothing_outside_the_demand_matters(drawn: tuple[Program, int, int], data: st.DataObject) -> None:
    program, height, width = drawn
    sizes = program.value_sizes(height, width)
    value = program.outputs[0][1]
    rect = draw_rect(data, sizes[value])
    need = tiles.plan_tile(program, sizes, {value: rect})
    xs, others = (inputs_for(program, height, width, seed=seed) for seed in (0, 1))
    for v, x, other in zip(program.inputs, xs, others, strict=True):
        if not tiles.is_empty(need[v]):
            part(other, need[v])[:] = part(x, need[v])
    with np.errstate(all="ignore"):
        want, got = (run_program(program, arrays)[0] for arrays in (xs, others))
    np.testing.assert_array_equal(part(got, rect), part(want, rect))


def one_step(kind: str) -> Step:
    b = Builder(1)
    if kind == "conv":
        b.conv(0, 1, k=(3, 2), **pads(1, 0, 2, 1))
    elif kind == "strided":
        b.conv(0, 1, sh=2, sw=2, **pads(1, 1, 1, 1))
    elif kind == "dilated":
        b.conv(0, 1, dh=2, dw=2, **pads(2, 2, 2, 2))
    elif kind == "same_upper":
        b.conv(0, 1, k=4, auto_pad=1)
    elif kind == "same_lower":
        b.conv(0, 1, k=4, sh=2, sw=2, auto_pad=2)
    elif kind == "shuffled":
        b.conv(0, 4, epilogue=[shuffle(2)])
    elif kind in ("linear", "cubic"):
        b.step("Resize", [0], 1, {"mode": 1 if kind == "linear" else 2})
    elif kind == "shrunk":
        b.step("Resize", [0], 1, {"scale_h": 0.5})
    elif kind in ("constant", "reflect", "edge", "symmetric"):
        b.step("Pad", [0], 1, {**pads(2, 3, 1, 2), "mode": ("constant", "reflect", "edge", "symmetric").index(kind), "value": 1.0})
    elif kind == "crop":
        b.step("Pad", [0], 1, pads(-2, 1, 1, -3))
    elif kind == "space_to_depth":
        b.step("SpaceToDepth", [0], 4)
    return b.program().steps[0]


@pytest.mark.parametrize(
    "kind",
    ["conv", "strided", "dilated", "same_upper", "same_lower", "shuffled", "linear", "cubic", "shrunk", "constant", "reflect", "edge", "symmetric",
     "crop", "space_to_depth"],
)  # fmt: skip
@pytest.mark.parametrize("size", [(8, 6), (4, 10)])
def test_demand_is_the_bounding_box_of_what_matters(kind: str, size: tuple[int, int]) -> None:
    step = one_step(kind)
    b = Builder(1)
    b.values.append(type(b.values[0])("y", 4 if kind == "space_to_depth" else 1))
    program = Program(b.values, [0], [("y", 1)], [step])
    out_size = program.value_sizes(*size)[1]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 1, *size))
    base = run_program(program, [x], dtype=np.float64)[0]
    moved = np.zeros((*size, *out_size), bool)
    for y, c in np.ndindex(size):
        bumped = x.copy()
        bumped[0, 0, y, c] += 1
        moved[y, c] = (run_program(program, [bumped], dtype=np.float64)[0] != base).any((0, 1))
    for _ in range(60):
        y0, x0 = (int(rng.integers(0, n)) for n in out_size)
        rect = (y0, x0, int(rng.integers(y0 + 1, out_size[0] + 1)), int(rng.integers(x0 + 1, out_size[1] + 1)))
        ys, xs = np.nonzero(moved[:, :, rect[0] : rect[2], rect[1] : rect[3]].any((2, 3)))
        got = tiles.demand(step, rect, size, out_size)
        if len(ys) == 0:
            assert got[2] - got[0] >= 1 and got[3] - got[1] >= 1
            continue
        box = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
        assert tiles.union(got, box) == got
        # Whole blocks are made, so an odd rectangle needs a little more; dilated taps may straddle the edge.
        if kind not in ("shuffled", "dilated"):
            assert got == box


@pytest.mark.parametrize("coord", range(6))
@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("exclude_outside", [0, 1])
@pytest.mark.parametrize(("n_in", "scale"), [(1, 2.0), (1, 3.0), (5, 2.0), (5, 0.5), (7, 1.3), (9, 0.4), (4, 4.0)])
def test_resize_tables_are_the_operator(coord: int, mode: int, exclude_outside: int, n_in: int, scale: float) -> None:
    names = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn")
    for nearest_mode, nearest in enumerate(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")):
        if int(n_in * scale) < 1 or (mode == 0 and exclude_outside):
            continue
        attrs = {"mode": ("nearest", "linear", "cubic")[mode], "coordinate_transformation_mode": names[coord], "nearest_mode": nearest,
                 "cubic_coeff_a": -0.6, "exclude_outside": exclude_outside}  # fmt: skip
        with np.errstate(all="ignore"):
            try:
                want = ops.resize_matrix(n_in, scale, attrs)
            except ZeroDivisionError:
                continue
            index, coef = tiles.axis_table(mode, coord, nearest_mode, -0.6, exclude_outside, scale, n_in, want.shape[0])
        got = np.zeros_like(want)
        for i in range(want.shape[0]):
            np.add.at(got[i], index[i], coef[i])
        np.testing.assert_allclose(got, want, atol=1e-6)


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.tuples(st.integers(1, 130), st.integers(1, 130)), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(1, 45)),
    st.one_of(st.none(), st.integers(0, 9)),
    st.integers(0, 3),
)
def test_tiles_hold_each_pixel_once(
    in_size: tuple[int, int], out_sizes: list[tuple[int, int]], edge: int | None, seed: int | None, cuts: int
) -> None:
    rects = tiles.tile_rects(in_size, edge, seed)
    for _ in range(cuts):
        rects = [part for r in rects for part in (tiles.halves(r) if (r[2] - r[0], r[3] - r[1]) != (1, 1) else [r])]
    for size in (in_size, *out_sizes):
        seen = np.zeros(size, int)
        for rect in rects:
            assert not tiles.is_empty(rect)
            y0, x0, y1, x1 = tiles.tile_of(rect, in_size, size)
            seen[y0:y1, x0:x1] += 1
        assert (seen == 1).all()


def test_tiles_and_their_halves() -> None:
    assert tiles.tile_rects((50, 40), 32) == [(0, 0, 32, 32), (0, 32, 32, 40), (32, 0, 50, 32), (32, 32, 50, 40)]
    assert tiles.tile_rects((50, 40)) == [(0, 0, 50, 40)]
    assert tiles.halves((0, 3, 5, 7)) == [(2, 3, 5, 7), (0, 3, 2, 7)]
    assert tiles.halves((0, 3, 3, 7)) == [(0, 5, 3, 7), (0, 3, 3, 5)]


def test_seed_shuffles_the_order_and_nothing_else() -> None:
    plain, one, same, two = (tiles.tile_rects((64, 64), 8, s) for s in (None, 1, 1, 2))
    assert one == same and one != plain and one != two
    assert sorted(one) == sorted(plain)


def test_operands_are_needed_where_the_result_is() -> None:
    b = Builder(4)
    b.conv(0, 4, k=1, epilogue=[Epilogue("Add", value=0), shuffle(2), Epilogue("Relu")])
    step = b.program().steps[0]
    assert tiles.operand_demand(step, (3, 4, 6, 8)) == {0: (1, 2, 3, 4)}


def test_values_that_nothing_needs_are_empty() -> None:
    b = Builder(1)
    first = b.conv(0, 1)
    program = b.program(first, b.conv(first, 1))
    need = tiles.plan_tile(program, program.value_sizes(8, 8), {first: (0, 0, 2, 2)})
    assert need == [(0, 0, 3, 3), (0, 0, 2, 2), tiles.EMPTY]
