"""`Model.upscale_many`: the results of `upscale`, order, laziness, errors, the end of it before its end, and bounds; each backend that works here."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from limits import HANGS
from programs import Builder, espcn, shuffle

import fastsr
from fastsr import many
from fastsr.graph import Feed
from fastsr.model import Model
from fastsr.program import Epilogue, Program

RNG = np.random.default_rng(5)
BACKENDS = fastsr.available_backends()
HAS_CORE = "cpu" in BACKENDS
needs_core = pytest.mark.skipif(not HAS_CORE, reason="the C++ extension is not built")


def small(height: int = 12, width: int = 17, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    shape = (height, width, channels) if channels else (height, width)
    return RNG.random(shape, np.float32) if dtype == np.float32 else RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def heavy(channels: int = 128) -> Program:
    """So much work that all threads do one picture of 400 x 400 pixels together; its tiles can be done by a team too."""
    b = Builder(1)
    x = b.conv(0, channels, epilogue=[Epilogue("Relu")])
    x = b.conv(x, channels, epilogue=[Epilogue("Relu")])
    b.conv(x, 4, epilogue=[shuffle(2)])
    return b.program(feed=Feed("y"))


def counted(pictures: list[np.ndarray], pulled: list[int]) -> Iterator[np.ndarray]:
    for k, p in enumerate(pictures):
        pulled.append(k)
        yield p


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_the_results_of_upscale(backend: str, threads: int | None) -> None:
    model = Model(espcn(channels=(8, 8)), backend)
    pictures = [small(5 + 7 * k % 40, 9 + 11 * k % 50, (3, 0, 1, 4)[k % 4], (np.uint8, np.uint16, np.float32)[k % 3]) for k in range(24)]
    pictures += [p[::-1, ::2] for p in pictures[:4]]
    results = list(model.upscale_many(iter(pictures), threads=threads))
    assert len(results) == len(pictures)
    for got, picture in zip(results, pictures, strict=True):
        want = model.upscale(picture)
        assert got.dtype == want.dtype and got.shape == want.shape and np.array_equal(got, want)


@needs_core
@pytest.mark.parametrize("precision", ["f32", "fast"])
def test_large_pictures_between_small_ones(precision: str) -> None:
    """Large enough for all threads to work on one: 2 * 128 * 128 * 9 * 400 * 400 operations."""
    model = Model(heavy(), "cpu", precision, threads=3)
    pictures = [small(400, 400) if k % 3 == 1 else small(40, 30 + k) for k in range(7)]
    for got, picture in zip(model.upscale_many(pictures), pictures, strict=True):
        assert np.array_equal(got, model.upscale(picture))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_pictures(backend: str) -> None:
    results = Model(espcn(channels=(4, 4)), backend).upscale_many([])
    assert list(results) == [] and list(results) == []
    assert next(results, None) is None


@needs_core
@pytest.mark.parametrize("threads", [1, 2])
def test_not_many_pictures_are_pulled_ahead(threads: int) -> None:
    pulled: list[int] = []
    model = Model(espcn(channels=(64, 32)), "cpu")
    results = model.upscale_many(counted([small(96, 96)] * 60, pulled), threads=threads)
    time.sleep(0.01)
    assert pulled == []
    for k, _ in enumerate(results):
        assert k < len(pulled) <= min(60, k + many.PER_THREAD * threads)
    assert len(pulled) == 60


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "cpu"])
def test_other_backends_pull_when_asked(backend: str) -> None:
    pulled: list[int] = []
    for k, _ in enumerate(Model(espcn(channels=(4, 4)), backend).upscale_many(counted([small()] * 5, pulled))):
        assert pulled == list(range(k + 1))


@needs_core
def test_of_large_pictures_one_is_pulled_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "BYTES", 100_000)
    pulled: list[int] = []
    for k, _ in enumerate(Model(espcn(channels=(64, 32)), "cpu").upscale_many(counted([small(130, 120)] * 12, pulled), threads=4)):
        assert len(pulled) <= k + 2


@needs_core
def test_a_slow_iterable_does_not_hold_results_back() -> None:
    """A result that is there is handed out after one more picture was pulled, not when everything ahead was."""
    model, pulled, out = Model(espcn(channels=(4, 4)), "cpu"), [], []

    def slow() -> Iterator[np.ndarray]:
        for k in range(6):
            time.sleep(2 if k and not out else 0)  # long enough for the result before, on any machine
            pulled.append(k)
            yield small()

    results = model.upscale_many(slow(), threads=2)
    out.append(next(results))
    assert len(pulled) < 6
    assert len(list(results)) == 5


@needs_core
def test_the_iterable_may_use_its_memory_again() -> None:
    model, pictures, buffer = Model(espcn(channels=(64, 32)), "cpu"), [small(60, 60, 4) for _ in range(12)], np.empty((60, 60, 4), np.uint8)

    def frames() -> Iterator[np.ndarray]:
        for p in pictures:
            buffer[:] = p
            yield buffer
            buffer[:] = 0

    for got, picture in zip(model.upscale_many(frames(), threads=2), pictures, strict=True):
        assert np.array_equal(got, model.upscale(picture))


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_come_at_their_turn_and_the_rest_can_be_had(backend: str) -> None:
    model = Model(espcn(channels=(8, 8)), backend)
    good = [small(9, 10 + k) for k in range(5)]
    results = model.upscale_many([good[0], None, good[1], "picture.png", np.zeros((4, 4)), good[2]], threads=2)
    assert np.array_equal(next(results), model.upscale(good[0]))
    with pytest.raises(fastsr.PictureError, match=r"pictures\[1\]: the picture is None"):
        next(results)
    assert np.array_equal(next(results), model.upscale(good[1]))
    with pytest.raises(fastsr.PictureError, match=r"pictures\[3\]: a picture is a NumPy array, got str"):
        next(results)
    with pytest.raises(fastsr.PictureError, match=r"pictures\[4\]: pictures of type float64"):
        next(results)
    assert np.array_equal(next(results), model.upscale(good[2]))
    assert next(results, None) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_picture_that_does_not_fit_the_network(backend: str) -> None:
    """Also one with alpha, which is computed in two parts."""
    b = Builder(1)
    b.step("SpaceToDepth", [0], 4, {"block": 2}, [shuffle(2)])
    model = Model(b.program(feed=Feed("y")), backend)
    pictures = [small(8, 8), small(8, 7, 4), small(6, 4, 4), small(7, 8), small(4, 4)]
    results = model.upscale_many(pictures)
    for k, shape in enumerate([(8, 8, 3), None, (6, 4, 4), None, (4, 4, 3)]):
        if shape:
            assert next(results).shape == shape
            continue
        with pytest.raises(fastsr.PictureError, match=rf"pictures\[{k}\]: "):
            next(results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_of_the_iterable_comes_after_the_results_before_it(backend: str) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield small()
        yield small()
        raise OSError("the camera is gone")

    results = Model(espcn(channels=(4, 4)), backend).upscale_many(broken())
    assert next(results).shape == next(results).shape == (24, 34, 3)
    with pytest.raises(OSError, match="camera"):
        next(results)
    assert next(results, None) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_closed_early(backend: str) -> None:
    model, pulled = Model(espcn(), backend), []
    results = model.upscale_many(counted([small(50, 50)] * 40, pulled))
    next(results)
    results.close()
    assert next(results, None) is None and len(pulled) < 40
    results.close()
    assert model.upscale(small()).shape == (24, 34, 3)


@needs_core
def test_close_stops_what_was_begun() -> None:
    """In the middle of pictures that would take many seconds, some with one thread and some with all."""
    model = Model(heavy(64), "cpu")
    start = time.process_time()
    for size in (380, 3000):
        results = model.upscale_many([small(size, size)] * 40, threads=2)
        results._pull()
        results.close()
    cpu = time.process_time() - start
    time.sleep(0.2)
    assert time.process_time() - start - cpu < 0.15  # nothing goes on
    assert next(results, None) is None


@needs_core
def test_dropped_and_collected() -> None:
    model = Model(espcn(), "cpu")
    results = model.upscale_many([small(200, 200)] * 30)
    next(results)
    gone = weakref.ref(results)
    del results
    gc.collect()
    assert gone() is None
    results = model.upscale_many([small(200, 200)] * 30)
    next(results)
    del model  # the iterator keeps what it needs
    assert len(list(results)) == 29


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_and_cancelling(backend: str) -> None:
    model, seen = Model(espcn(channels=(4, 4)), backend), []
    for k, _ in enumerate(model.upscale_many([small()] * 4, progress=seen.append)):
        assert seen[-1] == k + 1
    assert seen == sorted(seen)

    def stop(done: float) -> None:
        if done > 1:
            raise RuntimeError("enough")

    results = model.upscale_many([small()] * 4, progress=stop)
    next(results)
    with pytest.raises(RuntimeError, match="enough"):
        next(results)
    assert next(results, None) is None


@needs_core
def test_progress_within_a_large_picture() -> None:
    seen: list[float] = []
    list(Model(heavy(), "cpu").upscale_many([small(8, 8), small(1200, 900)], threads=2, progress=seen.append))
    assert seen == sorted(seen) and seen[-1] == 2 and any(1 < s < 2 for s in seen)


def test_bad_arguments() -> None:
    model = Model(espcn(channels=(4, 4)), "reference")
    for threads in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="threads"):
            model.upscale_many([], threads=threads)
    for one in (small(), small(channels=0), small(channels=4)):
        with pytest.raises(fastsr.PictureError, match="one picture: use upscale"):
            model.upscale_many(one)
    assert len(list(model.upscale_many(RNG.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)))) == 3
    for nothing in (None, 7):
        with pytest.raises(TypeError):
            model.upscale_many(nothing)
    raw = Builder(1)
    raw.conv(0, 1)
    with pytest.raises(fastsr.PictureError, match=r"Model\.run"):
        Model(raw.program(), "reference").upscale_many([])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_iterator_within_itself_is_refused(backend: str) -> None:
    def pictures() -> Iterator[np.ndarray]:
        yield small()
        next(results)

    results = Model(espcn(channels=(4, 4)), backend).upscale_many(pictures())
    next(results)
    with pytest.raises(ValueError, match="in the middle of this iterator"):
        next(results)


@needs_core
def test_several_at_once_and_upscale_beside_them() -> None:
    """All share one pool; each gets on."""
    model = Model(espcn(channels=(16, 8)), "cpu", threads=2)
    pictures = [small(40, 41 + k) for k in range(10)]
    expected = [model.upscale(p) for p in pictures]
    both = zip(model.upscale_many(pictures), model.upscale_many(pictures, threads=3), strict=True)
    for k, (a, b) in enumerate(both):
        assert np.array_equal(a, expected[k]) and np.array_equal(b, expected[k]) and np.array_equal(model.upscale(pictures[k]), expected[k])


@needs_core
def test_the_core_refuses_a_call_in_the_middle_of_another() -> None:
    """From the progress callback and from another thread: either would take away what the first call waits for."""
    from fastsr.backends import cpu

    picture = small(1200, 900, 0)
    executable = cpu.Cpu(heavy(64), threads=2)
    stream, _ = executable.stream(2)
    stream.add(picture)
    refused: list[str] = []

    def call_all() -> None:
        for call in (stream.close, stream.ready, stream.take, lambda: stream.add(picture)):
            with pytest.raises(ValueError, match="in the middle"):
                call()
            refused.append("")

    def progress(done: int, total: int) -> None:
        call_all()
        other = threading.Thread(target=call_all)
        other.start()
        other.join()

    result = stream.take(progress)
    assert len(refused) >= 8 and len(refused) % 8 == 0
    assert np.array_equal(result, executable.upscale(picture))
    stream.close()


PROLOGUE = """
import os, signal, sys, threading, time
import numpy as np
from programs import espcn
from fastsr.model import Model
model = Model(espcn(), "cpu", threads=2)
picture = np.zeros((150, 150, 3), np.uint8)
"""


def script(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", PROLOGUE + code]
    return subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@needs_core
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("size", [150, 6000], ids=["small pictures", "in the middle of a large one"])
def test_ctrl_c(size: int) -> None:
    child = script(f"""
picture = np.zeros(({size}, {size}, 3), np.uint8)
results = model.upscale_many(picture for _ in iter(int, 1))
print("ready", flush=True)
try:
    for _ in results:
        pass
except KeyboardInterrupt:
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.2, "something goes on"
    assert next(results, None) is None
    assert model.upscale(np.zeros((9, 9), np.uint8)).shape == (18, 18)
    print("interrupted", flush=True)
""")
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=HANGS)
    assert (child.returncode, out) == (0, "interrupted\n"), error


@needs_core
@pytest.mark.parametrize("how", ["pass", "sys.exit(0)", "keep = [results]; keep.append(keep)"])
def test_a_process_that_ends_in_the_middle(how: str) -> None:
    child = script(f"results = model.upscale_many(picture for _ in iter(int, 1)); next(results); {how}")
    _, error = child.communicate(timeout=HANGS)
    assert (child.returncode, error) == (0, "")


@needs_core
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_its_own() -> None:
    child = script("""
results = model.upscale_many([picture] * 20)
first = next(results)
pid = os.fork()
if pid == 0:
    try:
        next(results)
    except ValueError as e:
        del results
        again = list(model.upscale_many([picture] * 5))
        os._exit(0 if "fork" in str(e) and len(again) == 5 and np.array_equal(again[4], first) else 3)
    os._exit(4)
code = os.waitpid(pid, 0)[1]
assert code == 0, code
assert len(list(results)) == 19
""")
    _, error = child.communicate(timeout=HANGS)
    assert (child.returncode, error) == (0, "")


@needs_core
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded() -> None:
    child = script("""
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
list(model.upscale_many([picture] * 8))
before = peak()
picture = np.zeros((700, 700, 3), np.uint8)
for _ in model.upscale_many((picture for _ in range(40)), threads=2):
    pass
print((peak() - before) // 1024)
""")
    out, error = child.communicate(timeout=HANGS)
    assert child.returncode == 0, error
    assert int(out) < 200  # MiB; all results together are 224, pictures 56
