"""The C++ core at work: threads, progress, cancelling, fork, signals, whole pictures, and what it tells."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core import ISAS, _core, compiled
from limits import HANGS
from programs import Builder, inputs_for

from fastsr import image
from fastsr.errors import PictureError
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

# ---- threads, progress, cancelling ---------------------------------------------------------------------------------------------------------------


def slow_program(channels: int = 32, k: int = 3) -> Program:
    b = Builder([1])
    x = 0
    for _ in range(3):
        x = b.conv(x, channels, k=k, epilogue=[Epilogue("Relu")])
    b.conv(x, 1)
    return b.program()


def endless() -> tuple[Any, list[np.ndarray]]:
    """A model and a picture that take the fastest processor half a minute, in steps small enough for a slow one."""
    program = slow_program(128, k=5)
    return compiled(program, tile=64), inputs_for(program, 3000, 3000)


def test_concurrent_runs() -> None:
    program = slow_program(12)
    model = compiled(program)
    pictures = [inputs_for(program, 40 + 7 * i, 60 + 5 * i, seed=i) for i in range(6)]
    expected = [model.run(p, [0], threads=1)[0] for p in pictures]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(8):
            if model.run(pictures[i], [0], threads=1 + i % 4)[0].tobytes() != expected[i].tobytes():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(pictures))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_progress_counts_parts_of_tiles() -> None:
    program = slow_program(4)
    calls: list[tuple[int, int]] = []
    model = compiled(program, tile=16)
    model.run(inputs_for(program, 64, 48), [0], lambda done, total: calls.append((done, total)), threads=2)
    assert calls[-1] == (1200, 1200)
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {1200}


def test_progress_goes_on_within_a_tile() -> None:
    program = slow_program(48)
    calls: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) <= 4:  # longer than the time between two calls, so that the next part of the tile tells again, however fast it was
            time.sleep(0.06)

    compiled(program, tile=4000).run(inputs_for(program, 1800, 1800), [0], note, threads=1)
    assert {total for _, total in calls} == {100}
    assert sum(0 < done < 100 for done, _ in calls) >= 3, calls


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_exception_cancels(threads: int) -> None:
    model, arrays = endless()
    told = []

    def stop(done: int, total: int) -> None:
        told.append((done, total, time.process_time()))
        raise RuntimeError("enough")

    start = time.process_time()
    with pytest.raises(RuntimeError, match="enough"):
        model.run(arrays, [0], stop, threads=threads)
    end = time.process_time()
    (whole,) = model.run([arrays[0][:, :, :40, :50].copy()], [0], threads=threads)  # the model still works
    assert np.isfinite(whole).all()
    ((done, total, raised),) = told
    assert done < total / 4
    assert end - raised < 50 * max(raised - start, 0.05)  # the whole picture takes some hundred times as long


def test_core_survives_fork() -> None:
    import subprocess
    import sys

    code = """
import os, sys
import numpy as np
from fastsr import _core, fsr
from programs import Builder, inputs_for
b = Builder([1]); b.conv(0, 8); b.conv(1, 1); p = b.program()
m = _core.Model(fsr.dumps(p), tile=16)
x = inputs_for(p, 64, 64)
y = m.run(x, [0], threads=3)[0].tobytes()
pid = os.fork()
if pid == 0:
    os._exit(0 if m.run(x, [0], threads=3)[0].tobytes() == y else 3)
assert os.waitpid(pid, 0)[1] == 0
assert m.run(x, [0], threads=3)[0].tobytes() == y
"""
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("this system has no fork")
    from pathlib import Path

    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=here, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr


# ---- whole pictures ------------------------------------------------------------------------------------------------------------------------------


def picture_program(colour: str, scale: int = 2) -> Program:
    b = Builder([1 if colour == "y" else 3])
    c = b.channels(0)
    b.conv(0, c * scale**2, kh=5, kw=5, epilogue=[Epilogue("DepthToSpace", a=float(scale)), Epilogue("Mul", a=0.4), Epilogue("Add", a=0.4)])
    program = b.program()
    program.feed = Feed(colour)
    return program


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("colour", ["y", "bgr", "rgb"])
def test_upscale_is_the_image_pipeline(colour: str, dtype: type, isa: str) -> None:
    program = picture_program(colour)
    model = compiled(program, isa)
    rng = np.random.default_rng(5)
    for shape in ((1, 1, 3), (7, 5, 3), (17, 31, 3), (40, 70, 3), (23, 29)):
        picture = (rng.random(shape) * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)
        x, rest = image.to_network(picture, program.feed)
        expected = image.from_network(model.run([x], [0])[0], rest)
        got = model.upscale(picture, threads=2)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)
        wide = np.zeros((shape[0] * 2, shape[1] * 3, *shape[2:]), dtype)
        view = wide[::-2, 1::3]
        view[...] = picture
        np.testing.assert_array_equal(model.upscale(view), expected)


def test_upscale_refuses_other_arrays() -> None:
    model = compiled(picture_program("y"))
    for bad in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8), np.zeros((4, 4), np.int32),
                np.zeros((4, 4), np.float64), np.zeros((4, 4), ">u2"), np.zeros((1, 4, 4, 3), np.uint8)):  # fmt: skip
        with pytest.raises(PictureError):
            model.upscale(bad)


# ---- what it tells -------------------------------------------------------------------------------------------------------------------------------


def test_debug_levels(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    program = slow_program(4)
    arrays = inputs_for(program, 40, 40)
    model = compiled(program)
    told = []
    for level in ("0", "1", "2"):
        monkeypatch.setenv("FASTSR_DEBUG", level)
        model.run(arrays, [0])
        told.append(capfd.readouterr().err)
    assert told[0] == ""
    assert _core.isa() in told[1]
    assert told[1].count("Conv 3x3") == 4
    assert "strips" in told[1]
    assert "GFLOP/s" not in told[1]
    assert told[2].count("GFLOP/s") == 7  # four steps, input, output, all


@pytest.mark.parametrize(("width", "layers", "size"), [(12, 9, (540, 960)), (16, 5, (1080, 1920))])
def test_rows_of_narrow_layers_stay_in_the_cache(
    width: int, layers: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither does a team hand them from core to core, nor is a picture made layer by layer."""
    b = Builder(1)
    for _ in range(layers + 1):
        b.conv(b.last, width, epilogue=[b.prelu(width)])
    b.conv(b.last, 4)
    model = compiled(b.program())
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    model.run(inputs_for(b.program(), *size), [0], threads=2)
    told = capfd.readouterr().err
    assert "as a team" not in told
    rows = re.search(r"(\d+) rows a turn", told)
    assert rows is not None
    assert int(rows[1]) <= 8


def test_signals_interrupt() -> None:
    import signal

    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no interval timer")
    model, arrays = endless()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.run(arrays, [0], threads=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["FASTSR_DEBUG", "FASTSR_TILE_SEED"])
def test_variables_that_are_no_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = slow_program(1)
    model, arrays = compiled(program), inputs_for(program, 4, 4)
    for good in ("", " ", "0", " 0 "):
        monkeypatch.setenv(name, good)
        model.run(arrays, [0])
    for bad in ("abc", "-1", "1.5", "0x1", "1 2"):
        monkeypatch.setenv(name, bad)
        with pytest.raises(ValueError, match=f"{name}={bad}: a whole number"):
            model.run(arrays, [0])


AT_EXIT = """
import sys, threading
from test_core_runs import endless

model, arrays = endless()
started = threading.Event()
progress = (lambda done, total: started.set()) if sys.argv[1] == "progress" else None
threading.Thread(target=lambda: model.run(arrays, [0], progress, threads=2), daemon=True).start()
started.wait(None if progress else 0.3)
print("end")
"""


@pytest.mark.parametrize("progress", ["progress", "silent"])
def test_program_ends_while_a_daemon_thread_runs(progress: str) -> None:
    command = [sys.executable, "-c", AT_EXIT, progress]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
