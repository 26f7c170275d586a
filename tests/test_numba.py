"""The numba backend against the reference, and its promise: the same bits for every tile size, tile order and number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import step_cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import HANGS
from programs import BINARY, Builder, espcn, random_programs
from step_cases import CONVS, OPERANDS, operand, picture

from fastsr import image
from fastsr.backends import numba_cpu
from fastsr.errors import BackendError, PictureError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

reason = numba_cpu.unavailable()
if reason is None:
    from fastsr.backends.numba_cpu import vectors
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((1, 1), (1, 9), (9, 1), (7, 5), (17, 31), (20, 33), (5, 100))


def run(program: Program, x: np.ndarray, outputs: Sequence[int] = (0,), **options: Any) -> list[np.ndarray]:
    return numba_cpu.compile(program, **options).run([x], list(outputs))


def check(program: Program, x: np.ndarray, outputs: Sequence[int] = (0,), **options: Any) -> None:
    step_cases.check_close(run(program, x, outputs, **options), program, x, outputs)


def fits(program: Program, height: int, width: int) -> bool:
    try:
        program.value_sizes(height, width)
    except PictureError:
        return False
    return True


@pytest.mark.parametrize("size", SIZES)
def test_espcn(size: tuple[int, int]) -> None:
    program = espcn(3)
    check(program, picture(program, *size))


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("cout", [1, 3, 15])
def test_convolutions(name: str, cout: int) -> None:
    b = Builder(3)
    b.conv(0, cout, **CONVS[name])
    program = b.program()
    for size in SIZES:
        if fits(program, *size):
            check(program, picture(program, *size))


@pytest.mark.parametrize(("group", "cout"), [(2, 6), (6, 6), (3, 15), (6, 12)])
def test_grouped_convolutions(group: int, cout: int) -> None:
    b = Builder(6)
    b.conv(0, cout, group=group)
    program = b.program()
    check(program, picture(program, 7, 37))


@pytest.mark.parametrize("width", [*range(1, 36), 47, 48, 49, 95, 96, 97, 111])
def test_every_width_around_the_vectors(width: int) -> None:
    b = Builder(2)
    b.conv(0, 8 + 4 + 2 + 1, epilogue=[b.prelu(15)])
    program = b.program()
    check(program, picture(program, 3, width))


@pytest.mark.parametrize("kind", ["Conv", "Pointwise"])
@pytest.mark.parametrize("epilogue", step_cases.unary_epilogues(4), ids=lambda e: f"{e.op}-{e.a:g}")
def test_unary_epilogues(epilogue: Epilogue, kind: str) -> None:
    b = Builder(4)
    program = b.program(b.conv(0, 4, epilogue=[epilogue]) if kind == "Conv" else b.step(kind, [0], 4, {}, [epilogue]))
    check(program, 3 * picture(program, 5, 37))
    check(program, 30 * picture(program, 5, 37))


@pytest.mark.parametrize("op", ["Tanh", "Sigmoid", "Silu", "Gelu", "Mish"])
def test_functions_are_accurate_everywhere(op: str) -> None:
    step_cases.check_function(op, lambda program, xs, outputs: run(program, xs[0], outputs), 4000)


@pytest.mark.parametrize("op", [*BINARY, "Div", "RDiv"])
@pytest.mark.parametrize("kind", OPERANDS)
def test_binary_epilogues(op: str, kind: str) -> None:
    b = Builder(3)
    e = Epilogue(op, **operand(b, kind))
    after = Epilogue("Clip", a=0.5, b=4.0) if op == "RDiv" else Epilogue("Relu")
    first = b.conv(0, 3, epilogue=[after, e] if op == "RDiv" else [e, after])
    second = b.conv(0, 3, k=1, epilogue=[Epilogue("Clip", a=0.5, b=4.0), e, Epilogue("Abs")])
    program = b.program(first, second)
    check(program, picture(program, 6, 35), (0, 1))


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("block", [2, 3])
def test_shuffles(block: int, mode: int) -> None:
    program = step_cases.shuffles(block, mode, 2)
    for size in ((1, 1), (7, 5), (17, 31)):
        check(program, picture(program, *size), (0, 1))
        check(program, picture(program, *size), (1,), tile=5)


def test_shuffle_of_a_shuffle() -> None:
    program = step_cases.shuffle_of_a_shuffle()
    check(program, picture(program, 7, 9), tile=2)


@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("coord", range(6))
def test_resize(mode: int, coord: int) -> None:
    for scales in ((2.0, 3.0), (0.5, 1.5), (1.0, 4.0)):
        program = step_cases.resize(mode, coord, *scales, channels=3)
        for size in ((2, 2), (7, 5), (17, 31)):
            check(program, picture(program, *size), tile=4)


@pytest.mark.parametrize("mode", range(4))
def test_pad_and_concat(mode: int) -> None:
    program = step_cases.pad_and_concat(mode)
    for size in ((4, 4), (7, 5), (17, 31)):
        check(program, picture(program, *size), (0, 1))
        check(program, picture(program, *size), (0, 1), tile=3)


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(random_programs(), st.integers(1, 40), st.integers(1, 3))
def test_random_programs(drawn: tuple[Program, int, int], tile: int, threads: int) -> None:
    def run_in(**options: int) -> step_cases.Run:
        return lambda program, xs, outputs: numba_cpu.compile(program, **options).run(xs, outputs)

    step_cases.check_tiled(*drawn, run_in(threads=1, tile=1000), run_in(threads=threads, tile=tile))


def test_same_bits_for_every_tiling_order_and_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    program = step_cases.small_network(13, 3, 3)
    x = picture(program, 67, 91)
    want = run(program, x, (0, 1), threads=1, tile=10000)
    for tile in (None, 5, 8, 33, 64, 90):
        for threads in (1, 2, 8):
            for seed in ("", "5") if tile == 8 else ("",):
                monkeypatch.setenv("FASTSR_TILE_SEED", seed)
                for w, g in zip(want, run(program, x, (0, 1), threads=threads, tile=tile), strict=True):
                    np.testing.assert_array_equal(g, w)


def test_batches_and_a_subset_of_outputs() -> None:
    program = step_cases.three_outputs()
    x = picture(program, 9, 12, n=3)
    check(program, x, (0, 1, 2), tile=4)
    check(program, x, (1,))
    check(program, x, (2, 0, 2))


def views(picture: np.ndarray) -> list[np.ndarray]:
    """The picture, and the same in other memory: strided, mirrored, read-only."""
    wide = np.repeat(picture, 2, axis=1)
    fixed = picture.copy()
    fixed.setflags(write=False)
    return [picture, wide[:, ::2], np.ascontiguousarray(picture[::-1, ::-1])[::-1, ::-1], fixed]


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (7, 5), (17, 31), (20, 49), (5, 100)])
@pytest.mark.parametrize("block", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "feed", [Feed("y", range=255.0, out_range=255.0), Feed("y", mean=(0.25,), out_mean=(0.5,)), Feed("y", range=2.0, pre_scale=2),
             Feed("y", mean=(0.25,), out_mean=(0.5,), fine=True), Feed("y", range=2.0, pre_scale=2, fine=True)],
)
def test_pictures_are_made_with_the_arithmetic_of_image(size: tuple[int, int], block: int, feed: Feed) -> None:
    program = replace(espcn(block, channels=(4, 4)), feed=feed)
    rng = np.random.default_rng(3)
    colour = rng.integers(0, 256, (*size, 3), np.uint8)
    pictures: list[tuple[np.ndarray, dict[str, Any]]] = [(p, {}) for p in (*views(colour), colour[:, :, 1])]
    pictures.append((rng.uniform(-20, 280, (*size, 3)).astype(np.float32), {"white": 255.0, "to_u8": True}))
    for tile in (None, 4, 9):
        executable = numba_cpu.compile(program, threads=2, tile=tile)
        for p, options in pictures:
            x, rest = image.to_network(p, feed, white=options.get("white", 1.0), dtype=np.uint8)
            want = image.from_network(executable.run([x], [0])[0], rest)
            got = executable.upscale(p, **options)
            if got is None:
                assert 1 in size or not vectors.FMA
                continue
            assert got.dtype == np.uint8 and got.shape == want.shape
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("fine", [False, True])
def test_saturated_and_undefined_results_are_rounded_like_image_does(fine: bool) -> None:
    b = Builder(1)
    program = replace(b.program(b.step("Pointwise", [0], 1, {}, [Epilogue("Sub", a=0.5), Epilogue("Div", a=0.0)])), feed=Feed("y", fine=fine))
    executable = numba_cpu.compile(program)
    picture = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]], [[0, 255, 0], [0, 0, 255], [128, 128, 128]]], np.float32)
    options: dict[str, Any] = {"white": 255.0, "to_u8": True}
    for p in (picture, np.where(picture == 128, np.float32("nan"), picture), picture[:, :, 0]):
        x, rest = image.to_network(p, program.feed, white=255.0, dtype=np.uint8)
        with np.errstate(all="ignore"):
            want = image.from_network(executable.run([x], [0])[0], rest)
        got = executable.upscale(p, **options)
        assert got is None or np.array_equal(got, want)


def test_arrays_that_cannot_be_written() -> None:
    program = espcn(2, channels=(4, 4))
    x = picture(program, 8, 8)
    x.setflags(write=False)
    check(program, x)


class Emptied(deque[np.ndarray]):
    """Another thread takes the last one between the look and the pop."""

    def __len__(self) -> int:
        return 1


def test_another_thread_may_take_the_last_memory() -> None:
    program = espcn(2, channels=(4, 4))
    executable = numba_cpu.compile(program, threads=1)
    x = picture(program, 9, 9)
    want = executable.run([x], [0])[0]
    executable._arenas = Emptied()
    np.testing.assert_array_equal(executable.run([x], [0])[0], want)


def test_several_threads_use_one_executable() -> None:
    program = espcn(2, channels=(16, 8))
    executable = numba_cpu.compile(program, threads=2, tile=16)
    pictures = [picture(program, 20 + i, 50 - i, seed=i) for i in range(6)]
    want = [executable.run([x], [0])[0] for x in pictures]

    def work(i: int) -> None:
        for _ in range(5):
            np.testing.assert_array_equal(executable.run([pictures[i]], [0])[0], want[i])

    step_cases.in_threads(work, 6)


def test_progress_counts_tiles_and_may_cancel() -> None:
    program = espcn(2, channels=(4, 4))
    executable = numba_cpu.compile(program, tile=8, threads=1)
    seen: list[tuple[int, int]] = []
    executable.run([picture(program, 40, 40)], [0], lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done[0] == 0 and done[-1] == 25 and len(done) > 3 and done == sorted(set(done)) and {t for _, t in seen} == {25}

    def cancel(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executable.run([picture(program, 40, 40)], [0], cancel)
    assert len(executable.run([picture(program, 40, 40)], [0])) == 1


def test_the_callers_numba_threads_are_left_alone() -> None:
    import numba

    before = numba.get_num_threads()
    run(espcn(2, channels=(4, 4)), picture(espcn(2), 8, 8), threads=1)
    assert numba.get_num_threads() == before


def test_other_precisions_are_refused() -> None:
    with pytest.raises(BackendError, match="f32 only"):
        numba_cpu.compile(espcn(), precision="bf16")


def test_debug_level_2_names_every_step(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FASTSR_DEBUG", "2")
    run(espcn(2, channels=(4, 4)), picture(espcn(2), 8, 8))
    err = capfd.readouterr().err
    assert err.count("GFLOP/s") == 3 and "conv3" in err


SCRIPT = """
import numpy as np, sys
sys.path.insert(0, {tests!r})
from programs import espcn
from fastsr.backends import numba_cpu
m = numba_cpu.compile(espcn(2, channels=(4, 4)), threads=2)
x = np.ones((1, 1, 8, 8), np.float32)
y = m.run([x], [0])[0]
{more}
print("layer", m.describe())
"""


def run_script(more: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    code = SCRIPT.format(tests=str(ROOT / "tests"), more=more)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=HANGS)


def test_the_workqueue_layer_is_guarded() -> None:
    more = """
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    assert all((r[0] == y).all() for r in pool.map(lambda i: m.run([x], [0]), range(200)))
"""
    done = run_script(more, NUMBA_THREADING_LAYER="workqueue")
    assert done.returncode == 0, done.stderr
    assert "workqueue" in done.stdout


def test_eight_threads_give_the_same_bits() -> None:
    more = """
each = [numba_cpu.compile(espcn(2, channels=(4, 4)), threads=t, tile=4) for t in (1, 3, 8)]
assert [int(e.describe().split(" threads")[0].split()[-1]) for e in each] == [1, 3, 8]
x = np.random.default_rng(0).standard_normal((1, 1, 33, 21)).astype(np.float32)
a, b, c = (e.run([x], [0])[0] for e in each)
assert (a == b).all() and (a == c).all()
"""
    done = run_script(more, NUMBA_NUM_THREADS="8")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")
def test_a_forked_process_gets_an_error_not_a_crash() -> None:
    more = """
import os
pid = os.fork()
if pid == 0:
    try:
        m.run([x], [0])
    except Exception as e:
        os._exit(0 if "spawn" in str(e) else 3)
    os._exit(4)
status = os.waitpid(pid, 0)[1]
expected = 0 if "omp" in m.describe() else 4
assert os.WEXITSTATUS(status) == expected and not os.WIFSIGNALED(status), status
"""
    done = run_script(more)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_without_a_writable_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run_script(NUMBA_CACHE_DIR=str(blocked / "below"))
    assert done.returncode == 0, done.stderr
