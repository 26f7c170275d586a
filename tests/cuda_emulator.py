"""A processor in the place of a GPU: the CUDA backend's kernels compiled by the C++ compiler against tests/cuda_host/emulator.h."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fastsr.backends import reference
from fastsr.backends.cuda.device import KERNELS, OutOfMemoryError
from fastsr.backends.cuda.layout import ARGS
from fastsr.program import Program

HERE = Path(__file__).parent / "cuda_host"

GRID = (1 << 31) - 1, 65535, 65535
"""Blocks along each axis at most."""

SOURCE = """#include "all.cuh"
namespace emulator { void launch(const std::function<void()>&, Dimensions, Dimensions, std::size_t, bool); }
extern "C" std::size_t size_of_args() { return sizeof(fastsr::Args); }
"""

WRAPPER = """extern "C" void kernel%d(const void* a, const int* g, int threads, long shared, int backwards) {
  const Args& args = *static_cast<const Args*>(a);
  emulator::launch([&] { %s(args); }, {g[0], g[1], g[2]}, {threads, 1, 1}, static_cast<std::size_t>(shared), backwards);
}
"""


def compiler() -> str | None:
    """A C++ compiler, None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


class Emulator:
    """See `fastsr.backends.cuda.device.Device`. memory: bytes that can be taken in all. Freed memory and fresh memory hold NaN. What is uploaded is
    read as late as it may be."""

    name = "emulator"

    def __init__(self, folder: Path, shared_limit: int = 227 << 10, memory: int = 1 << 30) -> None:
        self.folder, self.shared_limit, self.memory = folder, shared_limit, memory
        self.taken = 0
        self.backwards = False
        self.blocks = 2
        self.launches: list[str] = []
        self._found: dict[str, ctypes._CFuncPtr] = {}
        self._lock = threading.Lock()
        self._here = threading.local()  # uploads: those that are yet to be done, of this thread

    def prepare(self, names: Sequence[str], shared: Sequence[int]) -> None:
        """Compile these kernels, those that are not there yet, and check the bytes of shared memory that they are said to need."""
        sizes = {n: s for n, s in zip(names, shared, strict=True) if n not in self._found}
        names = list(sizes)
        if not names:
            return
        code = SOURCE + "".join(WRAPPER % (k, n) for k, n in enumerate(names))
        for name in names:
            if name.startswith("conv_mma"):
                code += f"static_assert(MmaLayout<{name[name.index('<') + 1 : name.index(', Chain')]}>::BYTES == {sizes[name]});\n"
            if name.startswith("fused"):
                tile, layers = ", ".join(name.split("<")[1].split(", ")[:2]), name[name.index("Layer<") :]
                code += f"static_assert(FusedLayout<{tile}, {layers}::BYTES == {sizes[name]});\n"
        stem = hashlib.sha256(code.encode()).hexdigest()[:16]
        library = self.folder / f"{stem}.so"
        if not library.exists():
            part = self.folder / f"{stem}.{os.getpid()}.so"
            source = part.with_suffix(".cpp")
            source.write_text(code)
            self._compile("-shared", source, self._processor(), to=part)
            part.replace(library)
        loaded = ctypes.CDLL(str(library))
        loaded.size_of_args.restype = ctypes.c_size_t
        assert loaded.size_of_args() == ARGS.itemsize
        for k, n in enumerate(names):
            self._found[n] = getattr(loaded, f"kernel{k}")

    def _processor(self) -> Path:
        """The object file of what kernels run on, compiled once."""
        path = self.folder / "emulator.o"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}.o")
            self._compile("-c", HERE / "emulator.cpp", to=part)
            part.replace(path)
        return path

    @staticmethod
    def _compile(what: str, *sources: Path, to: Path) -> None:
        command = [compiler() or "", "-std=c++17", "-O1", "-fPIC", what, "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE",
                   f"-I{HERE}", f"-I{KERNELS}", *map(str, sources), "-o", str(to)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]

    def functions(self, names: Sequence[str], threads: Sequence[int], shared: Sequence[int]) -> list[_Function]:
        self.prepare(names, shared)
        return [_Function(self, n, t, s) for n, t, s in zip(names, threads, shared, strict=True)]

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self._here.uploads = []
        yield
        self.catch_up()

    def catch_up(self) -> None:
        """Do the thread's uploads."""
        for address, array in getattr(self._here, "uploads", ()):
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self._here.uploads = []

    def aside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def take(self, size: int) -> _Memory:
        if self.taken + size > self.memory:
            raise OutOfMemoryError(f"{self.name} has not {size} bytes of memory left")
        return _Memory(self, size)

    def upload(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        self._here.uploads.append((address, array))

    def download(self, array: np.ndarray, address: int) -> None:
        assert array.flags.c_contiguous
        self.catch_up()
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def free_bytes(self) -> int:
        return self.memory - self.taken


class _Memory:
    def __init__(self, device: Emulator, size: int) -> None:
        self._device, self._size = device, size
        self._array = np.full(-(-size // 4) * 4 + 256, 0x7F, np.uint8)  # NaN as halfs, and 3.4e38 as floats
        self._array.view(np.uint32)[: size // 4] = 0x7FFFFFFF
        self.address = -(-self._array.ctypes.data // 256) * 256
        device.taken += size

    def __del__(self) -> None:
        self._device.taken -= self._size


class _Function:
    def __init__(self, device: Emulator, name: str, threads: int, shared: int) -> None:
        self._device, self._name, self._threads, self._shared = device, name, threads, shared
        self.blocks = device.blocks

    def launch(self, grid: tuple[int, int, int], args: np.ndarray) -> None:
        assert args.dtype == ARGS
        assert args.shape == (1,)
        assert all(1 <= n <= most for n, most in zip(grid, GRID, strict=True)), grid
        assert self._threads <= 1024
        assert self._shared <= self._device.shared_limit
        self._device.catch_up()
        blocks, shared, backwards = (ctypes.c_int * 3)(*grid), ctypes.c_long(self._shared), int(self._device.backwards)
        with self._device._lock:  # the emulator has one state
            self._device.launches.append(self._name)
            self._device._found[self._name](args.ctypes.data_as(ctypes.c_void_p), blocks, self._threads, shared, backwards)


def taken(gpu: Emulator) -> int:
    """Memory in use, once what earlier tests left behind is gone."""
    gc.collect()
    return gpu.taken


def tolerance(precision: str) -> float:
    return 2e-5 if precision == "f32" else 1e-2


def assert_like_reference(got: Sequence[np.ndarray], program: Program, inputs: Sequence[np.ndarray], precision: str) -> None:
    numbers = range(len(program.outputs))
    want = reference.run_program(program, inputs, list(numbers), dtype=np.float64)
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.dtype == np.float32
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance(precision), atol=tolerance(precision) * max(1.0, np.abs(b).max()), err_msg=f"output {k}")
