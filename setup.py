"""Builds the C++ core as fastsr._core; everything else about the package is in pyproject.toml.

Environment: FASTSR_WERROR=1 makes warnings errors; FASTSR_SANITIZE=address,undefined (or thread) builds with those sanitizers; FASTSR_NO_EXTENSION=1
leaves the core out; FASTSR_BUILD_JOBS says how many files to compile at a time (2). Where the core cannot be compiled the installation goes on
without it.
"""

import os
import sys
import warnings
from pathlib import Path

from setuptools import setup

try:
    from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
except ImportError:  # metadata only
    setup()
    raise SystemExit from None

ROOT = Path(__file__).parent
MSVC = sys.platform == "win32"


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags of all units. No instruction set is asked for: the target units choose theirs themselves."""
    if MSVC:
        return ["/O2", "/EHsc", "/fp:precise", "/utf-8", *(["/W3", "/WX"] if os.environ.get("FASTSR_WERROR") == "1" else [])], []
    compile_flags = ["-O3", "-g0", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-ffp-contract=off", "-fno-math-errno"]
    link_flags = []
    if os.environ.get("FASTSR_WERROR") == "1":
        compile_flags += ["-Wall", "-Wextra", "-Werror"]
    sanitizers = os.environ.get("FASTSR_SANITIZE")
    if sanitizers:
        compile_flags += ["-O1", "-g1", f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
        link_flags += [f"-fsanitize={sanitizers}"]
    elif sys.platform.startswith("linux"):
        link_flags += ["-Wl,--strip-debug", "-Wl,--version-script=csrc/python/exports.map"]
    return compile_flags, link_flags


def sources() -> list[str]:
    """Every unit of the core; those for another architecture compile to an empty table."""
    rooms = ["base", "engine", "targets", "python"]
    return sorted(p.relative_to(ROOT).as_posix() for room in rooms for p in (ROOT / "csrc" / room).glob("*.cpp"))


class BuildCore(build_ext):
    """Says plainly what is missing when the core cannot be compiled."""

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as e:
            if os.environ.get("FASTSR_WERROR") == "1" or os.environ.get("FASTSR_SANITIZE"):
                raise SystemExit(f"the C++ core did not compile: {e}") from e
            warnings.warn(
                f"\n\n*** The C++ core of fastsr could not be compiled ({e}).\n*** fastsr is installed without its fastest backend. "
                "Install a C++17 compiler (gcc 9, clang 10, Visual Studio 2019 or newer) and reinstall, or use the numba backend: "
                "pip install numba.\n",
                stacklevel=1,
            )
            raise  # the extension is optional: setuptools goes on without it


compile_flags, link_flags = flags()
extension = Pybind11Extension(
    "fastsr._core",
    sources(),
    include_dirs=["csrc"],
    depends=[p.relative_to(ROOT).as_posix() for s in ("*.h", "*.map") for p in (ROOT / "csrc").rglob(s)],
    cxx_std=17,
    extra_compile_args=compile_flags,
    extra_link_args=link_flags,
    optional=True,
)
ParallelCompile("FASTSR_BUILD_JOBS", default=2).install()
setup(ext_modules=[] if os.environ.get("FASTSR_NO_EXTENSION") == "1" else [extension], cmdclass={"build_ext": BuildCore})
