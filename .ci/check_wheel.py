"""Checks what the built wheel and source distribution contain: python check_wheel.py NAME.whl NAME.tar.gz"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

DATA = {"fastsr/compare": (".html", ".css", ".js"), "fastsr/weights": (".fsr", ".json"), "fastsr/backends/cuda/kernels": (".cuh",)}
"""Folder -> suffixes of what belongs to the package besides modules."""


def check_wheel(path: str) -> None:
    """Stop with a message unless the wheel holds every module, the extension, the type information, the licence and nothing else."""
    names = set(zipfile.ZipFile(path).namelist())
    modules = {p.as_posix() for p in Path("fastsr").rglob("*.py")}
    extension = {n for n in names if n.startswith("fastsr/_core.") and n.endswith((".so", ".pyd"))}
    info = {n for n in names if n.split("/")[0].endswith(".dist-info")}
    data = {p.as_posix() for folder, suffixes in DATA.items() for s in suffixes for p in Path(folder).glob(f"*{s}")}
    wanted = modules | data | {"fastsr/py.typed", "fastsr/_core.pyi"}
    missing, extra = wanted - names, names - wanted - extension - info
    if missing or extra or len(extension) != 1 or not any(n.endswith("/LICENSE") for n in info):
        sys.exit(f"{path}: missing {sorted(missing)}, not wanted {sorted(extra)}, extension {sorted(extension)}")
    print(f"{Path(path).name}: {len(modules)} modules, {extension.pop()}")


def check_sdist(path: str) -> None:
    """Stop with a message unless the source distribution holds all sources, tests and documents."""
    with tarfile.open(path) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    folders = ("fastsr", "csrc", "tests", "docs")
    suffixes = {".py", ".pyi", ".typed", ".h", ".cpp", ".cuh", ".md", ".png", ".sh"}
    wanted = {p.as_posix() for f in folders for p in Path(f).rglob("*") if p.suffix in suffixes and "__pycache__" not in p.parts}
    wanted |= {p.as_posix() for folder, suffixes in DATA.items() for s in suffixes for p in Path(folder).glob(f"*{s}")}
    wanted |= {"pyproject.toml", "setup.py", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    if missing := wanted - names:
        sys.exit(f"{path}: missing {sorted(missing)}")
    print(f"{Path(path).name}: {len(names)} entries")


if __name__ == "__main__":
    check_wheel(sys.argv[1])
    check_sdist(sys.argv[2])
