"""The contenders of peers.py: what the command line calls them, their processes, and how they take turns."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastsr
from fastsr.graph import Graph

WORKER = Path(__file__).with_name("peers_worker.py")

PRECISIONS = {
    "fastsr": ("f32", "fast"),
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16"),
    "ncnn": ("f32", "bf16"),
    "torch": ("f32", "bf16"),
    "torch_compiled": ("f32", "bf16"),
    "cv2": ("f32",),
}
"""Library -> the precisions it can compute in."""

TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch_compiled": "torch compiled"}

BURST, MOST = 0.15, 10
"""A turn of a quick contender is several runs, about this long in seconds, and at most so many."""

PAUSE = 0.05
"""Seconds between turns, in which the threads of the contender before stop spinning."""


@dataclass(frozen=True)
class Spec:
    """A contender as asked for on the command line."""

    library: str
    precision: str
    threads: int
    isa: str = ""
    folder: str = ""

    def name(self, version: str, threads: int) -> str:
        """What tables call it. threads: everyone's."""
        words = [TITLES.get(self.library, self.library), self.precision]
        if self.library == "cv2":
            words.insert(1, ".".join(version.split(".")[:2]))
        words += [self.isa] if self.isa else []
        words += [f"{self.threads} thread{'s' * (self.threads > 1)}"] if self.threads != threads else []
        words += [f"({Path(self.folder).name})"] if self.folder and self.library != "cv2" else []
        return " ".join(words)


def specs(text: str, threads: int) -> list[Spec]:
    """The contenders that one argument names. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(?P<library>\w+)(:(?P<precision>\w+))?(?P<options>(\+\w+=\w+)*)(@(?P<folder>.+))?", text)
    if not found or found["library"] not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"'{text}': LIBRARY[:PRECISION][+threads=N][+isa=NAME][@FOLDER], libraries are {', '.join(PRECISIONS)}")
    if found["folder"] and not Path(found["folder"]).is_dir():  # or the installed library would stand in for it
        raise argparse.ArgumentTypeError(f"'{text}': there is no folder {found['folder']}")
    options = dict(o.split("=") for o in found["options"].split("+")[1:])
    precisions = [found["precision"]] if found["precision"] else PRECISIONS[found["library"]]
    n = int(options.get("threads", threads))
    return [Spec(found["library"], p, n, options.get("isa", ""), found["folder"] or "") for p in precisions]


class Contender:
    """A worker process with one network loaded."""

    def __init__(self, spec: Spec, threads: int, scratch: Path, job: dict[str, str], clock: str) -> None:
        self.spec = spec
        self.clock = clock
        path = os.pathsep.join([p for p in (spec.folder, str(Path(fastsr.__file__).parents[1]), os.environ.get("PYTHONPATH", "")) if p])
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(spec.threads), "OPENCV_LOG_LEVEL": "SILENT"}
        env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # leaves no helper processes behind
        if spec.isa:
            env["FASTSR_ISA"] = spec.isa
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, str(WORKER)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)
        result = scratch / "result.npy"
        result.unlink(missing_ok=True)
        self.first = self._ask(json.dumps({**job, "library": spec.library, "precision": spec.precision, "threads": spec.threads}))
        self.error = self.first.get("error", "")
        self.version = str(self.first.get("version", ""))
        self.name = spec.name(self.version, threads)
        self.seconds: list[float] = []

    def turn(self, runs: int, keep: bool = True) -> float:
        """Let it run so many times; the shortest in seconds."""
        answer = self._ask(str(runs))
        if "error" in answer:
            sys.exit(f"{self.name} ended while it was measured: {answer['error']}")
        if keep:
            self.seconds += answer[self.clock]
        return float(min(answer["wall"]))

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        text = self.process.stdout.readline()
        if text:
            answer: dict[str, Any] = json.loads(text)
            return answer
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return {"error": f"its process ended ({self.process.wait()}): {lines[-1] if lines else 'no message'}"}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    """A B C A B C; those that are quick run once more before, which does not count."""
    runs = {}
    for c in contenders:
        runs[c] = 1 if c.first["seconds"] > MOST * BURST else min(MOST, max(1, int(BURST / c.turn(1, keep=False))))
    for _ in range(rounds):
        for c in contenders:
            time.sleep(PAUSE)
            c.turn(runs[c])


@contextmanager
def job_of(graph: Graph, x: np.ndarray) -> Iterator[tuple[Path, dict[str, str]]]:
    """A scratch folder and the job for contenders that are started while it exists; results can be read from job["save"]."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "graph").write_bytes(pickle.dumps(graph))
        np.save(scratch / "x.npy", x)
        yield scratch, {"graph": str(scratch / "graph"), "input": str(scratch / "x.npy"), "save": str(scratch / "result.npy")}
