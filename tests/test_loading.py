"""Loading needs little more memory than the file, and the first run packs the weights: once, on all callers' behalf, or not at all."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import HANGS
from programs import Builder, shuffle

import fastsr
from fastsr import fsr
from fastsr.backends import cpu
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

if cpu.unavailable():
    pytest.skip("the C++ core is not built", allow_module_level=True)

HERE = Path(__file__).parent
MODELS = {"anime": "torch/RealESRGAN_x4plus_anime_6B.safetensors"}
RELU = Epilogue("Relu")


def deep(layers: int) -> Program:
    """3x3 convolutions of 64 channels: Winograd's weights are seven times theirs."""
    b = Builder(3)
    v = b.conv(0, 64, epilogue=[RELU])
    for _ in range(layers):
        v = b.conv(v, 64, epilogue=[RELU])
    b.conv(v, 12, epilogue=[shuffle(2)])
    return b.program(feed=Feed("rgb"))


def child(code: str, *arguments: object) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


PEAK = """
import os, sys
import numpy as np
import fastsr
fastsr.load

def status(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field + ":"))

baseline = status("VmRSS")
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
model = fastsr.load(sys.argv[1], "cpu", "f32")
print(status("VmHWM") - baseline)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize("name", ["fsr", *MODELS])
def test_peak_of_loading(name: str, shared: Path, tmp_path: Path) -> None:
    """Under three times the file, with all modules that loading imports, and without it less than twice."""
    path = shared / "models" / MODELS[name] if name in MODELS else tmp_path / "deep.fsr"
    if name == "fsr":
        path.write_bytes(fsr.dumps(deep(120)))
    if not path.exists():
        pytest.skip(f"{path.name} is not in the shared folder")
    size, peak = path.stat().st_size, int(child(PEAK, path))
    assert size > 16e6
    assert peak < 3 * size
    assert peak < 2 * size + 16e6  # modules


def first_runs(model: Any, x: np.ndarray, n: int) -> list[bytes]:
    """The results of n threads whose runs begin at once."""
    results, start = [b""] * n, threading.Barrier(n)

    def run(i: int) -> None:
        start.wait()
        results[i] = model.run([x], [0])[0].tobytes()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def picture(size: int = 20) -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, size, size), np.float32)


@pytest.mark.parametrize("threads", [1, 3])
def test_first_runs_at_once_give_equal_bits(threads: int) -> None:
    program, x = deep(24), picture()
    expected = cpu.compile(program, threads=threads).run([x], [0])[0].tobytes()
    for _ in range(4):
        assert first_runs(cpu.compile(program, threads=threads), x, 5) == [expected] * 5


def test_first_pictures_in_the_background() -> None:
    program, picture = deep(24), np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    expected = fastsr.Model(program, "cpu").upscale(picture)
    for result in fastsr.Model(program, "cpu").upscale_many([picture] * 5, threads=3):
        assert np.array_equal(result, expected)


def test_arrays_of_the_program_stay_as_they_are_and_are_not_needed_later() -> None:
    program, x = deep(3), picture()
    before = fsr.dumps(program)
    model = cpu.compile(program)
    expected = model.run([x], [0])[0].tobytes()
    assert fsr.dumps(program) == before
    for step in program.steps:
        for array in (step.weight, step.bias):
            assert array is not None
            array[:] = 0
    assert model.run([x], [0])[0].tobytes() == expected


def test_odd_arrays() -> None:
    """Weights that are not aligned, not contiguous or of another type."""
    program, x = deep(3), picture()
    expected = cpu.compile(program).run([x], [0])[0].tobytes()
    for k, step in enumerate(program.steps):
        assert step.weight is not None
        w = step.weight
        raw = np.empty(w.nbytes + 1, np.uint8)
        unaligned = raw[1:].view(np.float32).reshape(w.shape)
        unaligned[:] = w
        odd = (unaligned, np.asfortranarray(w), w.astype(np.float64), np.repeat(w, 2, axis=3)[..., ::2], w.astype(">f4"))[k % 5]
        object.__setattr__(step, "weight", odd)
    model = cpu.compile(program)
    del program, odd, unaligned, raw, w
    assert model.run([x], [0])[0].tobytes() == expected


def test_tensors_that_do_not_fit_the_file() -> None:
    from fastsr import _core
    from fastsr.errors import ModelError

    head, tensors = fsr.scattered(deep(2))
    _core.Model(head, tensors=tensors)
    for wrong in ([], tensors[1:], [*tensors, tensors[0]], tensors[::-1]):
        with pytest.raises(ModelError):
            _core.Model(head, tensors=wrong)
    for cut in range(0, len(head), 9):
        with pytest.raises(ModelError):
            _core.Model(head[:cut], tensors=tensors)
    with pytest.raises(ModelError):
        _core.Model(head)
    with pytest.raises(ModelError):
        _core.Model(fsr.dumps(deep(2))[:-64], tensors=tensors)


def test_a_first_run_that_is_cancelled_leaves_nothing_behind() -> None:
    program, x = deep(24), picture()
    expected = cpu.compile(program).run([x], [0])[0].tobytes()
    model = cpu.compile(program)

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    for _ in range(3):
        with pytest.raises(InterruptedError):
            model.run([x], [0], stop)
        assert first_runs(model, x, 2) == [expected] * 2


SHORT = """
import resource, sys
import numpy as np
from fastsr.backends import cpu
from test_loading import deep, picture

program, x = deep(60), picture()
expected = cpu.compile(program, threads=1).run([x], [0])[0].tobytes()
model = cpu.compile(program, threads=1)
with open("/proc/self/statm") as f:
    used = int(f.read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), hard))
for _ in range(3):
    try:
        model.run([x], [0])
    except MemoryError as e:
        print("short")
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(model.run([x], [0])[0].tobytes() == expected)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the address space")
def test_too_little_memory_for_the_packed_weights() -> None:
    assert child(SHORT).split() == ["short"] * 3 + ["True"]


FORK = """
import os, threading
from fastsr.backends import cpu
from test_loading import deep, picture

program, x = deep(60), picture()
expected = cpu.compile(program, threads=2).run([x], [0])[0].tobytes()
for _ in range(6):
    model = cpu.compile(program, threads=2)
    results = []
    other = threading.Thread(target=lambda: results.append(model.run([x], [0])[0].tobytes()))
    other.start()
    pid = os.fork()  # mostly while the other thread packs
    if pid == 0:
        os._exit(0 if model.run([x], [0])[0].tobytes() == expected else 3)
    print(os.waitpid(pid, 0)[1] == 0)
    other.join()
    print(results == [expected])
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_fork_while_weights_are_packed() -> None:
    assert child(FORK).split() == ["True"] * 12
