"""Registers, spills and shared memory of the CUDA backend's kernels, compiled for several GPUs without one: python benchmarks/cuda_registers.py

Compiles, by NVRTC as the backend does, every kernel that the benchmark networks (networks.py) need, and prints a table. Ends with 1 when a kernel on
tensor cores keeps numbers in memory for lack of registers. Needs the package nvidia-cuda-nvrtc (13).
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from networks import NETWORKS

from fastsr.backends.cuda.device import CUPY_OPTIONS, KERNELS, OPTIONS
from fastsr.backends.cuda.plan import kernels_of
from fastsr.backends.cuda.steps import Kernel, prepare
from fastsr.lower import lower
from fastsr.passes import optimise
from fastsr.program import Program

ARCHITECTURES = {"sm_80": 163 << 10, "sm_89": 99 << 10, "sm_90a": 227 << 10}
"""Architecture -> shared memory that a block can have (CUDA C++ Programming Guide, compute capabilities)."""


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers a thread, bytes spilled a thread, shared memory a block."""

    kernel: Kernel
    registers: int
    spilled: int


class NvrtcError(Exception):
    """NVRTC is not there, or refuses the kernels."""


def library() -> ctypes.CDLL:
    """NVRTC as the package nvidia-cuda-nvrtc has it. Raises NvrtcError."""
    spec = importlib.util.find_spec("nvidia")
    found = [p for place in (spec.submodule_search_locations or [] if spec else []) for p in Path(place).glob("**/libnvrtc.so.13")]
    if not found:
        raise NvrtcError("NVRTC is not installed: pip install 'nvidia-cuda-nvrtc>=13,<14'")
    for builtins in sorted(found[0].parent.glob("libnvrtc-builtins.so.13.*")):  # older ones look for it by name, which is found once it is loaded
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(found[0]))


def compiled(kernels: Sequence[Kernel], architecture: str) -> list[Usage]:
    """Compile the kernels; warnings are errors. Raises NvrtcError with the compiler's words."""
    nvrtc = library()
    program = ctypes.c_void_p()
    names = list(dict.fromkeys(k.name for k in kernels))
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), b'#include "all.cuh"\n', b"fastsr.cu", 0, None, None)
    try:
        for name in names:
            nvrtc.nvrtcAddNameExpression(program, name.encode())
        options = [*OPTIONS, *CUPY_OPTIONS, f"-I{KERNELS}", f"-arch={architecture}", "--ptxas-options=-v"]
        result = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*(o.encode() for o in options)))
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        text = log.value.decode()
        if result or "warning" in text:
            raise NvrtcError(f"{architecture}: {text[:4000]}")
        lowered = {}
        for name in names:
            found = ctypes.c_char_p()
            nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(found))
            lowered[(found.value or b"").decode()] = name
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    by_name = {k.name: k for k in kernels}
    return [Usage(by_name[lowered[n]], registers, spilled) for n, registers, spilled in usages(text)]


def usages(log: str) -> list[tuple[str, int, int]]:
    """(kernel, registers, bytes spilled) from what ptxas -v says."""
    found, name, spilled = [], "", 0
    for line in log.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)'", line):
            name = m[1]
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            spilled = max(int(m[1]), int(m[2]))
        elif m := re.search(r"Used (\d+) registers", line):
            found.append((name, int(m[1]), spilled))
    return found


def kernels_for(programs: Iterable[Program], shared_limit: int) -> list[Kernel]:
    """All kernels that these need in both precisions."""
    found = {
        k.name: k for p in programs for precision in ("fast", "f32") for k in kernels_of(prepare(p, precision, shared_limit)[1], precision) if k.name
    }
    return list(found.values())


def programs(names: Sequence[str]) -> list[Program]:
    """The benchmark networks of these names, all without names, lowered."""
    return [lower(optimise(n.build())) for n in NETWORKS.values() if not names or n.name in names]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--network", action="append", default=[], choices=list(NETWORKS), help="only this one (again for more)")
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, help="only for this GPU (again for more)")
    args = parser.parse_args()
    spilling = 0
    print("| GPU | kernel | registers | spilled bytes | shared memory, KiB |\n|---|---|---|---|---|")
    for architecture in args.arch or ARCHITECTURES:
        try:
            found = compiled(kernels_for(programs(args.network), ARCHITECTURES[architecture]), architecture)
        except NvrtcError as e:
            print(e, file=sys.stderr)
            return 2
        for u in sorted(found, key=lambda u: u.kernel.name):
            print(f"| {architecture} | `{u.kernel.name}` | {u.registers} | {u.spilled} | {u.kernel.shared / 1024:.0f} |")
        spilling += sum(u.spilled > 0 and u.kernel.family in ("conv_mma", "fused") for u in found)
    if spilling:
        print(f"{spilling} kernels on tensor cores spill registers", file=sys.stderr)
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
