"""Runs on a simulated GPU: tiles, memory, batches, progress, threads, whole networks. Run by `test_numba_cuda.py`."""

from __future__ import annotations

import os
import time
import weakref
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import Builder, espcn, inputs_for
from simulated import check, run
from step_cases import in_threads, picture, small_network, three_outputs

import fastsr
from fastsr import backends
from fastsr.backends import numba_cuda
from fastsr.backends.numba_cuda import executable
from fastsr.backends.numba_cuda.memory import place_values
from fastsr.errors import BackendError
from fastsr.program import Epilogue, Program
from fastsr.tiles import plan_tile


def test_same_bits_for_every_tiling_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_network(3, 2, 1)
    x = picture(program, 5, 7)
    want = run(program, x, (0, 1))
    for tile, seed in ((4, "5"), (3, "")):
        monkeypatch.setenv("FASTSR_TILE_SEED", seed)
        for w, g in zip(want, run(program, x, (0, 1), tile=tile), strict=True):
            np.testing.assert_array_equal(g, w)


class Memory:
    """What a GPU with memory for so many floats allocates. made: sizes of what it has given, failed: of what it has not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, floats: int) -> None:
        self.made: list[int] = []
        self.failed: list[int] = []
        real = executable.cuda.device_array

        def device_array(size: int, dtype: Any) -> Any:
            (self.made if size <= floats else self.failed).append(size)
            if size > floats:
                raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")
            return real(size, dtype)

        monkeypatch.setattr(executable.cuda, "device_array", device_array)


def floats_needed(program: Program, height: int, width: int) -> int:
    """By the whole picture, for all outputs."""
    sizes = program.value_sizes(height, width)
    whole = {v: (0, 0, *sizes[v]) for _, v in program.outputs}
    return place_values(program, plan_tile(program, sizes, whole), whole)[1]


@pytest.mark.parametrize("tile", [None, 8])
def test_tiles_are_halved_until_they_fit(monkeypatch: pytest.MonkeyPatch, tile: int | None) -> None:
    program = small_network(3, 2, 1)
    x = picture(program, 5, 6)
    want = run(program, x, (0, 1))
    limit = floats_needed(program, 5, 6) * 2 // 3
    memory = Memory(monkeypatch, limit)
    seen: list[tuple[int, int]] = []
    got = numba_cuda.compile(program, tile=tile).run([x], [0, 1], lambda done, total: seen.append((done, total)))
    assert memory.failed and max(memory.made) <= limit
    for w, g in zip(want, got, strict=True):
        np.testing.assert_array_equal(g, w)
    check_progress(seen)


def test_tiles_fit_the_free_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_network(3, 2, 1)
    x = picture(program, 5, 6)
    want = run(program, x)[0]
    info = namedtuple("info", "free total")(3 * floats_needed(program, 5, 6), 1 << 20)
    monkeypatch.setattr(type(executable.cuda.current_context()), "get_memory_info", lambda self: info)
    memory = Memory(monkeypatch, info.free // 4)
    np.testing.assert_array_equal(run(program, x)[0], want)
    assert not memory.failed and memory.made


def test_kernels_that_lack_memory_halve_tiles_too(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_network(3, 2, 1)
    x = picture(program, 6, 8)
    want = run(program, x)[0]
    real = executable.StepOnGpu.run

    def fails_for_large_ones(self: Any, parts: Any, *rest: Any) -> None:
        if parts[1].array.size > 3 * 45:
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")
        real(self, parts, *rest)

    monkeypatch.setattr(executable.StepOnGpu, "run", fails_for_large_ones)
    np.testing.assert_array_equal(run(program, x)[0], want)


def test_too_little_memory_for_a_pixel_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_network(3, 2, 1)
    made = numba_cuda.compile(program)
    Memory(monkeypatch, 100)
    with pytest.raises(BackendError, match="a single pixel of this network needs "):
        made.run([picture(program, 7, 8)], [0])


def test_pictures_live_until_they_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy may begin as late as the stream is waited for, also where the run is broken off."""
    program = small_network(3, 2, 1)
    x = picture(program, 5, 7)
    want = run(program, x)[0]
    waiting: list[tuple[Any, weakref.ref[np.ndarray]]] = []
    array, stream = type(executable.cuda.device_array(1)), type(executable.cuda.stream())
    copy, wait = array.copy_to_device, stream.synchronize

    def synchronize(self: Any) -> None:
        while waiting:
            to, source = waiting.pop()
            alive = source()
            assert alive is not None, "freed before it is copied"
            copy(to, alive)
        wait(self)

    made = numba_cuda.compile(program, tile=3)
    monkeypatch.setattr(array, "copy_to_device", lambda self, source, stream=0: waiting.append((self, weakref.ref(source))))
    monkeypatch.setattr(stream, "synchronize", synchronize)
    np.testing.assert_array_equal(made.run([x], [0])[0], want)
    assert not waiting

    def fails(*_: Any) -> None:
        assert not waiting
        raise KeyboardInterrupt

    monkeypatch.setattr(executable.StepOnGpu, "run", fails)
    with pytest.raises(KeyboardInterrupt):
        made.run([x], [0])


def test_what_the_gpu_says_becomes_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_network(3, 2, 1)
    made = numba_cuda.compile(program)
    trouble = type("CudaAPIError", (Exception,), {"__module__": "numba.cuda.cudadrv.driver"})

    def fails(*_: Any) -> None:
        raise trouble("[700] Call to cuLaunchKernel results in\n CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setattr(executable.StepOnGpu, "run", fails)
    with pytest.raises(BackendError, match=r"the GPU or numba's compiler for it fails: CudaAPIError: \[700\] .* results in CUDA_ERROR_ILLEGAL"):
        made.run([picture(program, 3, 3)], [0])


def test_batches_and_a_subset_of_outputs() -> None:
    program = three_outputs()
    x = picture(program, 3, 4, n=3)
    check(program, x, (0, 1, 2), tile=2)
    check(program, x, (1,))
    check(program, x, (2, 0, 2))


def test_several_inputs() -> None:
    b = Builder([1, 2])
    program = b.program(b.step("Concat", [1, 0, 1], 5), b.step("Pointwise", [0], 1, {}, [Epilogue("Abs")]))
    xs = inputs_for(program, 3, 4, batch=2)
    wide = np.broadcast_to(xs[1][:, :, :1, :1], xs[1].shape)
    for inputs in (xs, [xs[0][:, :, :, ::-1], wide]):
        joined, magnitude = numba_cuda.compile(program, tile=2).run(inputs, [0, 1])
        np.testing.assert_array_equal(joined, np.concatenate([inputs[1], inputs[0], inputs[1]], 1))
        np.testing.assert_array_equal(magnitude, np.abs(inputs[0]))


def test_a_program_without_steps() -> None:
    program = Program(Builder(2).values, [0], [("out", 0)], [])
    x = picture(program, 3, 4)
    seen: list[tuple[int, int]] = []
    np.testing.assert_array_equal(numba_cuda.compile(program, tile=2).run([x], [0], lambda *p: seen.append(p))[0], x)
    check_progress(seen)


def check_progress(seen: list[tuple[int, int]]) -> None:
    done = [d for d, _ in seen]
    assert done[0] == 0 and done[-1] == seen[-1][1] and done == sorted(set(done)) and len({t for _, t in seen}) == 1


def test_progress_counts_steps_of_tiles_and_may_cancel() -> None:
    program = small_network(3, 2, 1)
    made = numba_cuda.compile(program, tile=4)
    x = picture(program, 4, 7, n=2)
    seen: list[tuple[int, int]] = []
    want = made.run([x], [0], lambda done, total: seen.append((done, total)))[0]
    check_progress(seen)
    assert len(seen) == 1 + 2 * 2 * 4

    for exception in (KeyboardInterrupt, MemoryError):

        def cancel(done: int, total: int, exception: type[BaseException] = exception) -> None:
            if done > total // 3:
                raise exception

        with pytest.raises(exception):
            made.run([x], [0], cancel)
    np.testing.assert_array_equal(made.run([x], [0])[0], want)


def test_several_threads_use_one_executable() -> None:
    program = small_network(3, 2, 1)
    made = numba_cuda.compile(program, tile=4)
    pictures = [picture(program, 3 + i, 5 - i, seed=i) for i in range(3)]
    want = [made.run([x], [0])[0] for x in pictures]

    def work(i: int) -> None:
        np.testing.assert_array_equal(made.run([pictures[i]], [0])[0], want[i])
        np.testing.assert_array_equal(run(program, pictures[i])[0], want[i])

    in_threads(work, 3)


def test_threads_of_a_block_share_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when another thread asks for them while they are made."""
    empty = np.empty

    def slow(*arguments: Any, **options: Any) -> np.ndarray:
        time.sleep(0.002)
        return empty(*arguments, **options)

    b = Builder(2)
    program = b.program(b.conv(0, 3))
    monkeypatch.setattr(np, "empty", slow)
    check(program, picture(program, 4, 5))


def test_a_forked_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_network(3, 2, 1)
    made = numba_cuda.compile(program)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(BackendError, match=r"fork\(\)"):
        made.run([picture(program, 3, 3)], [0])


def test_channel_attention() -> None:
    """A mean over the whole picture."""
    b = Builder(2)
    x = b.conv(0, 3, k=1)
    mean = b.step("GlobalAveragePool", [x], 3)
    factor = b.conv(mean, 3, k=1, epilogue=[Epilogue("Sigmoid")])
    y = b.step("Pointwise", [x], 3, {}, [Epilogue("Mul", value=factor)])
    half = b.conv(y, 3, sh=2, sw=2)
    large = b.step("ResizeTo", [half, y], 3, {}, [Epilogue("Add", value=y)])
    program = b.program(large)
    check(program, picture(program, 5, 6, n=2), tile=3)
    assert "in 2 pieces" in numba_cuda.compile(program).describe()


def test_a_network_that_comes_with_fastsr() -> None:
    """A colour picture from end to end."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 7, 3), np.uint8)
    made = fastsr.load("fast", "numba_cuda", scale=2)
    assert made.backend == "numba_cuda" and made.precision == "f32"
    got, want = made.upscale(pixels), fastsr.load("fast", "reference", scale=2).upscale(pixels)
    assert got.shape == (16, 14, 3) and np.abs(got.astype(int) - want).max() <= 1


def test_debug_prints_every_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FASTSR_DEBUG", "2")
    program = small_network(3, 2, 1)
    run(program, picture(program, 2, 2))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(program.steps) and all(" ms  Conv conv" in line for line in lines)


def test_only_f32() -> None:
    with pytest.raises(BackendError, match="computes in f32 only, not 'fast'"):
        numba_cuda.compile(espcn(), precision="fast")


@pytest.mark.skipif(not numba_cuda.only_named(), reason="a real GPU")
def test_auto_never_chooses_the_simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert numba_cuda.unavailable() is None and numba_cuda.only_named()
    assert "numba_cuda" not in fastsr.available_backends()
    monkeypatch.setattr(backends, "BACKENDS", {"numba_cuda": "numba_cuda", "reference": "reference"})
    assert backends.pick_backend("auto").NAME == "reference"
    assert backends.pick_backend("numba_cuda").NAME == "numba_cuda"
    assert "CUDA simulator" in numba_cuda.compile(espcn()).describe()
