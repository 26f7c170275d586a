"""The C++ core without Python: the C interface from C, the thread pool, and mutated .fsr files. Compiles the core, so all of it is marked slow."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from limits import HANGS
from programs import Builder

from fastsr import fsr
from fastsr.graph import Feed
from fastsr.program import Epilogue, Program

ROOT = Path(__file__).resolve().parents[1]
CPP = ROOT / "tests" / "cpp"

pytestmark = pytest.mark.slow


def call(*command: str | Path, timeout: int = HANGS) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the core's object files and a small Y network."""
    cxx = shutil.which("g++") or shutil.which("clang++")
    if not cxx or not (shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("no compiler here")
    folder = tmp_path_factory.mktemp("core")
    for room in ("base", "engine", "targets"):
        for unit in (ROOT / "csrc" / room).glob("*.cpp"):
            call(cxx, "-std=c++17", "-O1", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", "-c", unit, "-o", folder / f"{room}_{unit.stem}.o")
    b = Builder([1])
    x = b.conv(0, 8, kh=5, kw=5, epilogue=[Epilogue("Relu")])
    b.conv(x, 4, epilogue=[Epilogue("DepthToSpace", a=2.0), Epilogue("Tanh")])
    program = b.program()
    program.feed = Feed("y")
    (folder / "y.fsr").write_bytes(fsr.dumps(program))
    program.feed = Feed("y", fine=True)
    (folder / "fine.fsr").write_bytes(fsr.dumps(program))
    b = Builder([1])
    b.step("SpaceToDepth", [0], 49, {"block": 7})
    (folder / "sevenths.fsr").write_bytes(fsr.dumps(b.program()))
    b = Builder([1])
    b.conv(b.conv(b.conv(0, 32), 32, epilogue=[Epilogue("Relu")]), 1)
    program = b.program()
    program.feed = Feed("y")
    (folder / "wide.fsr").write_bytes(fsr.dumps(program))
    (folder / "quantised.fsr").write_bytes(fsr.dumps(quantised()))
    return folder


def quantised() -> Program:
    """One channel to one, with values of bytes, sums and shuffles of them, a stride and a group."""
    b = Builder([1])
    x = b.step("Pointwise", [0], 1, {}, [Epilogue("Div", a=0.01), Epilogue("Quantize", a=-100.0, b=155.0)])
    x = skip = b.conv(x, 8, sh=2, sw=2, epilogue=[Epilogue("Mul", a=0.02), Epilogue("Relu"), Epilogue("Quantize", a=0.0, b=255.0)])
    x = b.conv(x, 8, group=2, epilogue=[Epilogue("Mul", a=0.02), Epilogue("Add", value=skip), Epilogue("Quantize", a=-128.0, b=127.0)])
    b.conv(x, 4, epilogue=[Epilogue("Mul", a=0.001), Epilogue("DepthToSpace", a=2.0)])
    program = b.program()
    for i, step in enumerate(program.steps):
        if step.weight is not None and step.bias is not None:
            program.steps[i] = replace(step, weight=np.clip(np.rint(100 * step.weight), -128, 127), bias=np.rint(100 * step.bias))
    return program


def link(built: Path, name: str, source: Path) -> Path:
    cxx = shutil.which("g++") or shutil.which("clang++") or ""
    call(cxx, "-std=c++17", "-O1", f"-I{ROOT / 'csrc'}", source, *sorted(built.glob("*.o")), "-o", built / name, "-pthread")
    return built / name


def test_c_interface(built: Path) -> None:
    cc, cxx = shutil.which("gcc") or shutil.which("clang") or "", shutil.which("g++") or shutil.which("clang++") or ""
    unit = built / "c_abi_test.c.obj"
    call(cc, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc' / 'include'}", "-c", CPP / "c_abi_test.c", "-o", unit)
    call(cxx, unit, *sorted(built.glob("*.o")), "-o", built / "c_abi_test", "-pthread", "-lm")
    assert call(built / "c_abi_test", built / "y.fsr", built / "sevenths.fsr", built / "wide.fsr", built / "quantised.fsr") == "ok\n"
    number = "=x: a whole number"
    for variable, message in {"FASTSR_ISA": "names the instruction set 'x'", "FASTSR_DEBUG": number, "FASTSR_TILE_SEED": number}.items():
        done = subprocess.run([built / "c_abi_test", built / "y.fsr"], capture_output=True, text=True, env={**os.environ, variable: "x"})
        assert done.returncode == 1
        assert variable in done.stderr and message in done.stderr


def test_threads(built: Path) -> None:
    assert call(link(built, "threads_test", CPP / "threads_test.cpp"), built / "y.fsr") == "ok\n"


def test_mutated_files(built: Path) -> None:
    seeds = [built / f"{name}.fsr" for name in ("y", "fine", "quantised")]
    assert "no crash" in call(link(built, "fuzz_fsr", CPP / "fuzz_fsr.cpp"), "20000", "1", *seeds)
