"""What the C++ core promises to the last bit: results depend on neither tiles, their order, chunks nor threads; and that tiles bound its memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import SANITIZED
from core import ISAS, _core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import HANGS
from programs import Builder, inputs_for, programs_in_row_groups, random_programs

from fastsr import fsr
from fastsr.backends import reference
from fastsr.program import Epilogue, Program


def espcn(scale: int = 2) -> Program:
    b = Builder([1])
    x = b.conv(0, 64, kh=5, kw=5, epilogue=[Epilogue("Relu")])
    x = b.conv(x, 32, epilogue=[Epilogue("Relu")])
    b.conv(x, scale**2, epilogue=[Epilogue("DepthToSpace", a=float(scale)), Epilogue("Tanh")])
    return b.program()


def laplacian() -> Program:
    """Two levels with skips, even kernels and an output at each, as LapSRN has."""
    b = Builder([1])
    leaky, up = Epilogue("LeakyRelu", a=0.2), Epilogue("DepthToSpace", a=2.0)
    x, picture, outputs = 0, 0, []
    for _ in range(2):
        x = b.conv(x, 12, epilogue=[leaky])
        skip = x
        for _ in range(2):
            x = b.conv(x, 12, epilogue=[leaky])
        x = b.conv(x, 12, epilogue=[Epilogue("Add", value=skip)])
        x = b.conv(x, 48, kh=4, kw=4, epilogue=[leaky, up])
        picture = b.conv(picture, 4, kh=4, kw=4, epilogue=[up])
        picture = b.conv(x, 1, epilogue=[Epilogue("Add", value=picture)])
        outputs.append(picture)
    return b.program(*reversed(outputs))


def mixed() -> Program:
    """Odd scales, mirrored borders, strides and a resized skip."""
    b = Builder([2])
    x = b.step("Pad", [0], 2, {"pt": 3, "pl": 2, "pb": 1, "pr": 4, "mode": 1})
    x = b.conv(x, 6, auto_pad=0, kh=5, kw=7)
    down = b.conv(x, 8, sh=2, sw=2, pt=1, pl=1, pb=1, pr=1)
    up = b.step("Resize", [down], 8, {"mode": 2, "scale_h": 3.0, "scale_w": 1.5, "coord": 1})
    b.conv(up, 36, dh=2, dw=3, epilogue=[Epilogue("DepthToSpace", a=3.0, b=1.0), Epilogue("Gelu")])
    return b.program()


NETWORKS = {"espcn": espcn, "laplacian": laplacian, "mixed": mixed}


def run(program: Program, arrays: list[np.ndarray], isa: str, threads: int = 1, tile: int = 0, chunk: int = 0) -> list[bytes]:
    _core.set_isa(isa)
    outputs = list(range(len(program.outputs)))
    return [a.tobytes() for a in _core.Model(fsr.dumps(program), threads, tile).run(arrays, outputs, None, threads, chunk)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_order_threads_and_chunks(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = NETWORKS[name]()
    height, width = (70, 101) if isa == "scalar" else (130, 157)
    arrays = inputs_for(program, height, width)
    whole = run(program, arrays, isa, tile=max(height, width), chunk=height)
    assert run(program, arrays, isa) == whole
    for tile in (32, 33, 48, 64, 100, 0):
        for threads in (1, 2, 8):
            monkeypatch.setenv("FASTSR_TILE_SEED", str(tile + threads))
            assert run(program, arrays, isa, threads, tile, chunk=1 + threads) == whole, (tile, threads)


@pytest.mark.parametrize("cut", [4, 8, 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_part_of_a_picture(name: str, cut: int) -> None:
    """Pixels far from the cut do not see it: the halo is exact. Winograd's tiles begin at every fourth column, so pictures move by such steps."""
    program = NETWORKS[name]()
    arrays = inputs_for(program, 90, 120)
    (full,) = _core.Model(fsr.dumps(program)).run(arrays, [0])
    (part,) = _core.Model(fsr.dumps(program)).run([np.ascontiguousarray(a[:, :, :, cut:]) for a in arrays], [0])
    scale = full.shape[3] // 120 if full.shape[3] % 120 == 0 else 0
    if not scale or name == "mixed":
        pytest.skip("this network's columns do not move with the picture")
    far = 24 * scale
    np.testing.assert_array_equal(full[..., cut * scale + far :], part[..., far:])


def test_strips_without_output() -> None:
    """Tiles so narrow that outputs smaller than the input have no column in most of them."""
    b = Builder([1])
    x = b.conv(b.conv(0, 8), 8)
    y = b.conv(x, 8, sh=4, sw=4)
    z = b.step("Resize", [b.conv(y, 8)], 8, {"mode": 1, "scale_h": 0.5, "scale_w": 0.5}, [Epilogue("Tanh")])
    for outputs in ((z,), (y, z), (z, x)):
        program = b.program(*outputs)
        arrays = inputs_for(program, 16, 24)
        assert run(program, arrays, "", 2, 1) == run(program, arrays, "", 1, 1000)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_programs(), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_random_programs_by_any_tiles(case: tuple[Program, int, int], tile: int, chunk: int, threads: int) -> None:
    program, height, width = case
    arrays = inputs_for(program, height, width)
    whole = run(program, arrays, "", 1, 1000, 1000)
    assert run(program, arrays, "", threads, tile, chunk) == whole
    assert run(program, arrays, "", threads) == whole


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs_in_row_groups(), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_groups_of_rows_by_any_tiles(case: tuple[Program, int, int], tile: int, chunk: int, threads: int) -> None:
    program, height, width = case
    arrays = inputs_for(program, height, width)
    whole = run(program, arrays, "", 1, 1000, 1000)
    assert run(program, arrays, "", threads, tile, chunk) == whole
    assert run(program, arrays, "", threads) == whole
    for i, want in enumerate(reference.run_program(program, arrays, range(len(program.outputs)), dtype=np.float64)):
        got = np.frombuffer(whole[i], np.float32).reshape(want.shape)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max())))


@pytest.mark.skipif(len(ISAS) < 3, reason="fewer than two vector instruction sets here")
def test_vector_sets_agree() -> None:
    """AVX2 and AVX-512 run the same chains of operations."""
    for name in ("espcn", "laplacian"):
        program = NETWORKS[name]()
        arrays = inputs_for(program, 40, 61)
        assert run(program, arrays, ISAS[1]) == run(program, arrays, ISAS[2])


PEAK = """
import re, sys
import numpy as np
from fastsr import _core, fsr
from test_core_exact import espcn

def status(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024

model = _core.Model(fsr.dumps(espcn()))
side = int(sys.argv[1])
picture = np.full((1, 1, side, side), 0.5, np.float32)
model.run([picture[:, :, :64, :64].copy()], [0])
before = status("VmRSS")
(out,) = model.run([picture], [0], threads=2)
print(status("VmHWM") - before - out.nbytes)
"""


def peak(side: int) -> int:
    """Bytes of resident memory that a run took beyond input and output."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(side)], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux" or SANITIZED, reason="reads /proc; sanitizers take memory of their own")
def test_memory_is_bounded_by_tiles() -> None:
    assert peak(1024) <= 64 << 20


def test_picture_whose_rows_take_more_than_a_tile_may() -> None:
    b = Builder([1])
    b.conv(b.conv(0, 4096, kh=1, kw=1, bias=False), 1, kh=1, kw=1)
    program = b.program()
    assert 4096 * 131072 * 4 >= 2 << 30  # in one strip
    (x,) = inputs_for(program, 1, 131072)
    (got,) = _core.Model(fsr.dumps(program)).run([x], [0])
    (part,) = _core.Model(fsr.dumps(program)).run([np.ascontiguousarray(x[..., 131000:])], [0])
    np.testing.assert_array_equal(got[..., 131000:], part)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or SANITIZED, reason="reads /proc; sanitizers take memory of their own")
def test_memory_of_a_huge_picture() -> None:
    assert peak(8192) <= 64 << 20


def test_deep_networks_are_not_cut_to_pieces(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Strips so narrow that most of their work is halo would save memory, but take several times as long; rings hold what readers still need."""
    b = Builder([1])
    x = b.conv(0, 64)
    for _ in range(64):
        x = b.conv(x, 64, epilogue=[Epilogue("Relu")])
    b.conv(x, 1)
    program = b.program()
    model = _core.Model(fsr.dumps(program))
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    model.run(inputs_for(program, 60, 320), [0], threads=1)
    strips, mib = re.search(r"(\d+) strips x .*, ([\d.]+) MiB in all", capfd.readouterr().err).groups()
    assert int(strips) <= 2
    assert float(mib) * 2**20 <= 64 * 64 * 4 * (320 + 144) * 10 * 1.1  # ten rows of each value
