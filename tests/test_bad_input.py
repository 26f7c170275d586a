"""Bad input through the whole product, with a network of our own: each a clear error, nothing half-written, and what was there before still there.

Files that are no models or pictures: test_cli.py and test_tensorflow_errors.py. Errors next to those of the real cv2: test_dnn_superres.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import listing, picture, process
from limits import HANGS
from pictures import shuffle_network
from programs import Builder, shuffle

import fastsr
from fastsr import dnn_superres, files, fsr, knobs
from fastsr.graph import Feed

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
COLOUR = np.zeros((8, 9, 3), np.uint8)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A network of Y that enlarges twice."""
    path = tmp_path / "model.fsr"
    fsr.save(shuffle_network(Feed("y"), 2), path)
    return path


# ---- the drop-in -------------------------------------------------------------------------------------------------------------------------------

DROP_IN: dict[str, tuple[str, int, Any, str]] = {
    "unknown algorithm": ("waifu2x", 2, COLOUR, "Unknown/unsupported superres algorithm: waifu2x"),
    "algorithm of another network": ("edsr", 2, COLOUR, "'edsr' feeds 3 channels, but the network in .* takes 1"),
    "scale of another network": ("fsrcnn", 3, COLOUR, r"scale 3, but the network in '.*model\.fsr' enlarges by 2: call setModel\(\"fsrcnn\", 2\)"),
    "negative scale": ("fsrcnn", -2, COLOUR, "enlarges by 2"),
    "picture not read": ("fsrcnn", 2, None, "None, cv2.imread gives that"),
    "float64": ("fsrcnn", 2, COLOUR.astype(np.float64), "Not supported image type: CV_64FC3"),
    "uint16": ("fsrcnn", 2, COLOUR.astype(np.uint16), "Not supported image type: CV_16UC3"),
    "alpha": ("fsrcnn", 2, np.zeros((8, 9, 4), np.uint8), "Not supported image type: CV_8UC4"),
    "five channels": ("fsrcnn", 2, np.zeros((8, 9, 5), np.uint8), "Not supported image type: CV_8UC5"),
    "zero height": ("fsrcnn", 2, np.zeros((0, 9, 3), np.uint8), r"empty.*\(0, 9, 3\)"),
    "zero width": ("fsrcnn", 2, np.zeros((8, 0), np.uint8), r"empty.*\(8, 0\)"),
    "a batch": ("fsrcnn", 2, COLOUR[None], r"\(1, 8, 9, 3\)"),
    "a list": ("fsrcnn", 2, COLOUR.tolist(), "not a numpy array"),
}


@pytest.mark.parametrize("case", DROP_IN)
def test_drop_in(case: str, model_file: Path) -> None:
    algorithm, scale, img, words = DROP_IN[case]
    engine = dnn_superres.DnnSuperResImpl_create()
    engine.readModel(str(model_file))
    engine.setModel(algorithm, scale)
    with pytest.raises(fastsr.FastsrError, match=words):
        engine.upsample(img)
    engine.setModel("fsrcnn", 2)
    assert engine.upsample(COLOUR).shape == (16, 18, 3)


def damage(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "truncated": whole[:-9],
        "header only": whole[:64],
        "one bit flipped": whole[:-5] + bytes([whole[-5] ^ 4]) + whole[-4:],
        "of a later version": whole[:8] + b"\x63" + whole[9:],
        "web page": b"<!DOCTYPE html><title>404</title>",
        "random": np.random.default_rng(0).bytes(5000),
    }


@pytest.mark.parametrize("kind", damage(bytes(100)))
def test_damaged_model_keeps_the_one_before(kind: str, model_file: Path) -> None:
    engine = dnn_superres.DnnSuperResImpl_create()
    engine.readModel(str(model_file))
    engine.setModel("espcn", 2)
    bad = model_file.with_name("bad.pb")
    bad.write_bytes(damage(model_file.read_bytes())[kind])
    with pytest.raises(fastsr.ModelError, match=re.escape(str(bad))):
        fastsr.load(bad)
    with pytest.raises(fastsr.FastsrError, match=re.escape(str(bad))):
        engine.readModel(str(bad))
    assert engine.upsample(COLOUR).shape == (16, 18, 3)


# ---- arguments and environment -----------------------------------------------------------------------------------------------------------------

LOADS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "another scale": ({"scale": 4}, fastsr.ModelError, "enlarges by 2, not by 4"),
    "scale 0": ({"scale": 0}, fastsr.ModelError, "enlarges by 2, not by 0"),
    "backend": ({"backend": "gpu"}, fastsr.BackendError, "choose one of auto, cpu"),
    "precision": ({"precision": "int4"}, fastsr.BackendError, "f32, fast or int8"),
}


@pytest.mark.parametrize("case", LOADS)
def test_load(case: str, model_file: Path) -> None:
    arguments, error, words = LOADS[case]
    with pytest.raises(error, match=words):
        fastsr.load(model_file, **arguments)


def test_load_of_nothing_and_filters_of_scale_0() -> None:
    with pytest.raises(FileNotFoundError, match="path is empty"):
        fastsr.load("")
    with pytest.raises(fastsr.ModelError, match="by 1 to 16"):
        fastsr.load("bicubic", scale=0)


@pytest.mark.parametrize("knob", [k for k in knobs.KNOBS if not k.folder], ids=lambda k: k.name)
def test_environment(knob: knobs.Knob, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("nonsense", "-1", "1.5"):
        monkeypatch.setenv(knob.name, bad)
        with pytest.raises(fastsr.FastsrError, match=f"{knob.name}={bad}"):
            fastsr.load(model_file)
    monkeypatch.setenv(knob.name, "")
    assert fastsr.load(model_file).scale == 2


# ---- disks and interruption --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_a_disk(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line with a real file system of its own, made with these mount options, at tmp_path/disk; then lists what is on it."""
    unshare = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o {{}} tmpfs '{tmp_path}/disk'"
    if not shutil.which("unshare") or subprocess.run([*unshare, mount.format("size=64k")], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system in a name space of their own")

    def run(options: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        script = f"{mount.format(options)} && {{ \"$@\"; code=$?; find '{tmp_path}/disk' -type f; exit $code; }}"
        command = [*unshare, script, "sh", sys.executable, "-m", "fastsr", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=HANGS)

    return run


@pytest.mark.parametrize(("options", "words"), [("size=64k", "the disk is full"), ("ro", "no permission|read-only")])
def test_disk(options: str, words: str, on_a_disk: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, model_file: Path) -> None:
    """Full and read-only: pictures, folders of pictures and models."""
    (tmp_path / "album").mkdir()
    files.write_picture(tmp_path / "album" / "in.png", picture(200, 200))
    large = Builder(1)
    large.conv(0, 400, k=5)
    large.conv(large.last, 4, epilogue=[shuffle(2)])
    fsr.save(large.program(feed=Feed("y")), tmp_path / "large.fsr")
    for arguments in (
        ["upscale", tmp_path / "album" / "in.png", tmp_path / "disk" / "out.png", "-m", model_file],
        ["upscale", "-i", tmp_path / "album", "-o", tmp_path / "disk" / "out", "-m", model_file],
        ["convert", tmp_path / "large.fsr", tmp_path / "disk" / "out.fsr"],
    ):
        done = on_a_disk(options, *arguments)
        assert done.returncode == 1, done.stderr
        assert re.search(words, done.stderr) and "Traceback" not in done.stderr, done.stderr
        assert not [line for line in done.stdout.splitlines() if line.startswith(f"{tmp_path}/disk/")], done.stdout


@posix
def test_interrupted_in_the_middle_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the core computes: quick, the old output intact, nothing else left."""
    if "cpu" not in fastsr.available_backends():
        pytest.skip("the C++ core is not built")
    slow = Builder(1)
    for _ in range(4):
        slow.conv(slow.last, 128, k=5)
    slow.conv(slow.last, 4, epilogue=[shuffle(2)])
    fsr.save(slow.program(feed=Feed("y")), tmp_path / "slow.fsr")
    files.write_picture(tmp_path / "in.png", picture(1500, 1500))
    (tmp_path / "out.png").write_bytes(b"the old one")
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    p = process("upscale", tmp_path / "in.png", tmp_path / "out.png", "-m", tmp_path / "slow.fsr", "--backend", "cpu", "--threads", "1")
    assert p.stderr is not None
    for line in p.stderr:
        if "picture 1500x1500" in line:
            break
    p.send_signal(signal.SIGINT)
    _, error = p.communicate(timeout=HANGS)
    assert p.returncode == 130
    assert error.endswith("fastsr: interrupted\n") and "Traceback" not in error
    assert (tmp_path / "out.png").read_bytes() == b"the old one"
    assert listing(tmp_path) == ["in.png", "out.png", "slow.fsr"]
