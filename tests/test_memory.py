"""Working memory of the C++ core: at most 64 MiB beyond input and output for every network up to EDSR-baseline, whatever the size and the threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from core import _core
from limits import HANGS
from programs import Builder, espcn, shuffle

from fastsr import fsr
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

RELU = Epilogue("Relu")
MOST = 64 << 20


def fsrcnn() -> Program:
    b = Builder(1)
    v = b.conv(0, 56, k=5, epilogue=[b.prelu(56)])
    v = b.conv(v, 12, k=1, epilogue=[b.prelu(12)])
    for _ in range(4):
        v = b.conv(v, 12, epilogue=[b.prelu(12)])
    v = b.conv(v, 56, k=1, epilogue=[b.prelu(56)])
    b.conv(v, 4, k=5, epilogue=[shuffle(2)])
    return b.program(feed=Feed("y"))


def vdsr() -> Program:
    b = Builder(1)
    v = b.conv(0, 64, epilogue=[RELU])
    for _ in range(18):
        v = b.conv(v, 64, epilogue=[RELU])
    b.conv(v, 1, epilogue=[Epilogue("Add", value=0)])
    return b.program(feed=Feed("y"))


def srvgg() -> Program:
    b = Builder(3)
    v = b.conv(0, 64, epilogue=[b.prelu(64)])
    for _ in range(32):
        v = b.conv(v, 64, epilogue=[b.prelu(64)])
    b.conv(v, 48, epilogue=[shuffle(4)])
    return b.program(feed=Feed("rgb"))


def lapsrn() -> Program:
    """Two of its levels: ten layers and one that doubles the size, beside them the picture enlarged."""
    b = Builder(1)
    leaky = Epilogue("LeakyRelu", a=0.2)
    picture, v = 0, b.conv(0, 64, epilogue=[leaky])
    for _ in range(2):
        for _ in range(10):
            v = b.conv(v, 64, epilogue=[leaky])
        v = b.conv(v, 256, epilogue=[shuffle(2), leaky])
        picture = b.step("Resize", [picture], 1)
        picture = b.conv(v, 1, epilogue=[Epilogue("Add", value=picture)])
    return b.program(feed=Feed("y"))


def edsr() -> Program:
    b = Builder(3)
    head = v = b.conv(0, 64)
    for _ in range(16):
        t = b.conv(v, 64, epilogue=[RELU])
        v = b.conv(t, 64, epilogue=[Epilogue("Add", value=v)])
    v = b.conv(v, 64, epilogue=[Epilogue("Add", value=head)])
    v = b.conv(v, 256, epilogue=[shuffle(2)])
    b.conv(v, 3)
    return b.program(feed=Feed("rgb"))


NETWORKS = {"espcn": espcn, "fsrcnn": fsrcnn, "vdsr": vdsr, "srvgg": srvgg, "lapsrn": lapsrn, "edsr": edsr}


@pytest.mark.parametrize("precision", ["f32", "fast"])
@pytest.mark.parametrize("name", NETWORKS)
def test_plans_keep_to_the_limit(name: str, precision: str) -> None:
    _core.set_isa("")
    model = _core.Model(fsr.dumps(NETWORKS[name]()), precision=precision)
    for width, height in ((64, 48), (320, 240), (1920, 1080), (1080, 1920), (3840, 2160), (8192, 8192), (20000, 300)):
        for threads in (1, 2, 3, 4, 8, 16, 64, 256):
            assert model.working_bytes(height, width, threads) <= MOST, (width, height, threads)


CODE = """
import sys
import numpy as np
from fastsr import _core

def status(field):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field + ":"))

path, precision, threads, height, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
with open(path, "rb") as f:
    model = _core.Model(f.read(), precision=precision)
x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
model.run([x[:, :, :8, :8].copy()], [0], threads=threads)
baseline = status("VmRSS")
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
result = model.run([x], [0], threads=threads)[0]
print(status("VmHWM") - baseline - result.nbytes, int(model.working_bytes(height, width, threads)))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize(
    ("precision", "threads", "width", "height"),
    [
        ("f32", 2, 480, 270),
        ("fast", 16, 480, 270),
        pytest.param("f32", 2, 1920, 1080, marks=pytest.mark.slow),
        pytest.param("f32", 64, 1920, 1080, marks=pytest.mark.slow),
        pytest.param("fast", 8, 1920, 1080, marks=pytest.mark.slow),
    ],
)
def test_peak_of_a_run(tmp_path: Path, precision: str, threads: int, width: int, height: int) -> None:
    """What the system says that EDSR-baseline took, in a process of its own, keeps to the limit and to what the plan says."""
    path = tmp_path / "edsr.fsr"
    path.write_bytes(fsr.dumps(edsr()))
    command = [sys.executable, "-c", CODE, str(path), precision, *map(str, (threads, height, width))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=HANGS)
    peak, planned = map(int, done.stdout.split())
    assert peak <= MOST
    assert 0.5 * planned <= peak <= 1.05 * planned + (3 << 20)
