"""Building and running the test programs in tests/cpp with the system's C++ compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits import HANGS

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that all worker processes of this test session share."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


def build(factory: pytest.TempPathFactory, sources: Sequence[str]) -> Path:
    """A program from sources of this checkout, named after the first. The core's objects are those that building the package has left, where they are
    up to date and link; else they are optimised as in the package, and compiled once a session.

    Skips the test where that cannot be.
    """
    if sys.platform == "win32":
        pytest.skip("the test program guards its memory with mmap, which Windows lacks")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler: install one or set CXX")
    if not (ROOT / sources[0]).is_file():
        pytest.skip("the C++ sources are not part of this installation")
    import fcntl  # Windows lacks it too

    folder = shared_folder(factory, "cpp_objects")

    def compiled(source: str) -> Path:
        """The object file, made by whichever process asks first; others wait for it."""
        target = folder / (source.replace("/", "_") + ".o")
        level = "-O3" if source.startswith("csrc/") else "-O2"
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                part = target.with_suffix(".part")
                done = subprocess.run([compiler, *FLAGS, level, "-c", str(ROOT / source), "-o", str(part)], capture_output=True, text=True)
                assert done.returncode == 0, done.stderr[-4000:]
                part.replace(target)
        return target

    program = factory.mktemp("program") / Path(sources[0]).stem
    built = _built(sources)
    if built:
        objects = [built.get(s) or compiled(s) for s in sources]
        if not subprocess.run([compiler, *map(str, objects), "-o", str(program)], capture_output=True).returncode:
            return program
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    subprocess.run([compiler, *map(str, objects), "-o", str(program)], check=True)
    return program


def _built(sources: Sequence[str]) -> dict[str, Path]:
    """The object files that building the package has left, by source: those newer than all that they could depend on."""
    newest = max(p.stat().st_mtime for p in (ROOT / "setup.py", *(ROOT / "csrc").rglob("*")))
    found = {s: p for s in sources for p in ROOT.glob(f"build/temp*/{s.removesuffix('.cpp')}.o")}
    return {s: p for s, p in found.items() if p.stat().st_mtime > newest}


def run(program: Path, *args: str, isa: str | None = None) -> subprocess.CompletedProcess[str]:
    """The program's end. isa: of FASTSR_ISA, which is not set otherwise."""
    env = {k: v for k, v in os.environ.items() if k != "FASTSR_ISA"}
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=HANGS, env=env | ({"FASTSR_ISA": isa} if isa else {}))


def check_all(program: Path, again: bool = False) -> None:
    """The program finds no failure; with `again`, the seed that it prints gives all of what it prints once more, with the digest of all results."""
    done = run(program)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 failures" in done.stdout
    assert "digest" in done.stdout
    if again:
        seed = done.stdout.split()[1].rstrip(",")
        assert run(program, "--seed", seed).stdout == done.stdout
