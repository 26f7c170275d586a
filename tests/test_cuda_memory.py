"""What the CUDA backend keeps and lets go, on an emulated GPU whose memory is short; several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import GRID, Emulator, assert_like_reference, compiler, taken
from programs import Builder, inputs_for

from fastsr.backends.cuda.executable import AT_ONCE, CudaExecutable
from fastsr.backends.cuda.plan import lay_out, rounded
from fastsr.backends.cuda.steps import prepare
from fastsr.backends.gpu import SHARE
from fastsr.errors import BackendError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")


def wanted_memory(program: Program, height: int, width: int, batch: int = 1) -> int:
    """Bytes that a run in f32 takes for its first output."""
    value = program.outputs[0][1]
    sizes = program.value_sizes(height, width)
    arena = lay_out(program, prepare(program, "f32", 0)[1], sizes, {value: (0, 0, *sizes[value])}, batch, 4)
    return arena.size + sum(rounded(4 * batch * program.values[v].channels * height * width) for v in (*program.inputs, value))


def halves() -> Program:
    """A network whose one input and output have as many channels."""
    b = Builder(3)
    b.step("Pointwise", [0], 3, epilogue=[Epilogue("Mul", a=0.5)])
    return b.program()


def test_what_is_kept_goes_before_pictures_are_cut(kernels: Path) -> None:
    program = halves()
    gpu = Emulator(kernels)
    executable = CudaExecutable(program, gpu, "f32")
    gpu.memory = gpu.taken + int(wanted_memory(program, 30, 20) / SHARE) + 1024
    sizes = ((30, 20), (20, 30), (30, 20))
    told: list[tuple[int, int]] = []
    for size in sizes:
        inputs = inputs_for(program, *size)
        assert_like_reference(executable.run(inputs, [0], lambda *t: told.append(t)), program, inputs, "f32")
    assert told == [(0, 600), (600, 600)] * len(sizes)


def test_pictures_take_the_place_of_what_is_kept(kernels: Path) -> None:
    b = Builder(3)
    b.step("Pointwise", [0], 3)
    gpu = Emulator(kernels)
    executable = CudaExecutable(b.program(feed=Feed("bgr", range=255.0, out_range=255.0)), gpu, "f32")
    before = taken(gpu)
    told: list[tuple[int, int]] = []
    for height, width in ((40, 50), (50, 40), (41, 50)):
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        for _ in range(2):
            np.testing.assert_array_equal(executable.upscale(picture, lambda *t: told.append(t)), picture)
        gpu.memory = gpu.taken + 8000
    assert told == [t for n in (2000, 2000, 2050) for t in ((0, n), (n, n), (0, 1), (1, 1))]
    executable.forget()
    assert taken(gpu) == before
    gpu.memory = before + 1000
    with pytest.raises(BackendError, match="not enough for the picture and its result"):
        executable.upscale(picture)


@pytest.mark.parametrize("most", [2, 3])
def test_batches_are_cut(most: int, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert GRID[2] >= AT_ONCE
    program = halves()
    inputs = inputs_for(program, 5, 6, batch=5)
    told: list[tuple[int, int]] = []
    gpu = Emulator(kernels)
    executable = CudaExecutable(program, gpu, "f32")
    with monkeypatch.context() as m:
        m.setattr("fastsr.backends.cuda.executable.AT_ONCE", most)
        assert_like_reference(executable.run(inputs, [0], lambda *t: told.append(t)), program, inputs, "f32")
    done = [0, 60, 120, 150] if most == 2 else [0, 90, 150]
    assert told == [(d, 150) for d in done]
    executable.forget()
    told.clear()
    gpu.memory = gpu.taken + int(wanted_memory(program, 5, 6, most) / SHARE) + 1
    assert_like_reference(executable.run(inputs, [0], lambda *t: told.append(t)), program, inputs, "f32")
    assert told == [(d, 150) for d in ([0, 60, 90, 150] if most == 2 else [0, 60, 150])]


def test_tables_go_with_the_sizes_that_need_them(kernels: Path) -> None:
    b = Builder(3)
    b.step("Resize", [0], 3, {"mode": 1, "coord": 0, "scale_h": 2.0, "scale_w": 1.5})
    program = b.program()
    gpu = Emulator(kernels)
    executable = CudaExecutable(program, gpu, "f32")
    before = taken(gpu)
    for width in (10, 12, 14):
        executable.run(inputs_for(program, 50, width), [0])
    executable.forget()
    assert taken(gpu) == before


def test_several_threads_at_once(kernels: Path) -> None:
    b = Builder(3)
    b.step("Resize", [0], 3, {"mode": 1, "coord": 0, "scale_h": 2.0, "scale_w": 2.0})
    program = b.program()
    executable = CudaExecutable(program, Emulator(kernels), "f32")
    inputs = [inputs_for(program, 9, 8 + k % 2, seed=k) for k in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for x, made in zip(inputs, pool.map(lambda x: executable.run(x, [0]), inputs), strict=True):
            assert_like_reference(made, program, x, "f32")
