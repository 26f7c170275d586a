"""The machine, for results that are kept: processor, cores, system and versions; no names of hosts, people or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

OPENCV = ("opencv-contrib-python", "opencv-contrib-python-headless", "opencv-python", "opencv-python-headless")
PACKAGES = ("numpy", "protobuf", "numba", "numba-cuda", *OPENCV, "onnxruntime", "openvino", "pillow")


def machine() -> dict[str, object]:
    """Processor, cores, memory, system and the versions of the packages that matter here."""
    from .. import __version__

    versions = {"fastsr": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        version = package_version(package)
        if version:
            versions[package] = version
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu_model(), "cores": cores, "system": f"{platform.system()} {platform.machine()}", "versions": versions}


def package_version(package: str) -> str | None:
    """Version of an installed package, None when it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name, as its system tells it; with family and model where the name has no number."""
    if sys.platform.startswith("linux"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        facts = {key.strip().lower(): " ".join(value.split()) for key, _, value in (line.partition(":") for line in reversed(lines))}
        if name := facts.get("model name"):
            numbered = any(c.isdigit() for c in name) or "cpu family" not in facts
            return name if numbered else f"{name} family {facts['cpu family']} model {facts.get('model', '?')}"
    if sys.platform == "darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine()
