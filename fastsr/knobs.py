"""Every environment variable that fastsr reads, declared once: name, default, meaning. `fastsr backends --knobs` lists them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import FastsrError


@dataclass(frozen=True)
class Knob:
    """An environment variable; `read()` gives its checked value, None when it is unset or empty.

    integer: a whole number of at least 0. folder: a folder that exists, which is looked at only where it is used.
    """

    name: str
    default: str
    doc: str
    choices: tuple[str, ...] = ()
    integer: bool = False
    folder: bool = False

    def read(self) -> str | None:
        """The variable's text. Raises FastsrError when it is not one of `choices`, no whole number of at least 0 or no folder where one is needed."""
        text = os.environ.get(self.name, "").strip()
        if not text:
            return None
        if self.choices and text not in self.choices:
            raise FastsrError(f"{self.name}={text}: choose one of {', '.join(self.choices)}")
        if self.integer and not (text.isascii() and text.isdigit()):
            raise FastsrError(f"{self.name}={text}: a whole number of at least 0 is needed")
        if self.folder and not Path(text).is_dir():
            raise FastsrError(f"{self.name}={text}: there is no such folder")
        return text

    def read_int(self) -> int | None:
        """The variable as an int, None when unset."""
        text = self.read()
        return None if text is None else int(text)


BACKEND = Knob("FASTSR_BACKEND", "auto", "backend used by load(backend='auto')", ("auto", "cpu", "numba", "cuda", "numba_cuda", "reference"))
PRECISION = Knob(
    "FASTSR_PRECISION",
    "int8 for quantised models, else f32",
    "precision used by load() unless load(precision=...) says otherwise",
    ("f32", "fast", "int8"),
)
ISA = Knob("FASTSR_ISA", "best", "highest instruction set the C++ core may use", ("scalar", "avx2", "avx512", "neon"))
THREADS = Knob("FASTSR_THREADS", "all cores", "threads of a run unless load(threads=...) says otherwise; 0: all cores", integer=True)
TILE = Knob("FASTSR_TILE", "chosen by the engine", "tile edge in input pixels unless load(tile=...) says otherwise; 0: chosen", integer=True)
TILE_SEED = Knob("FASTSR_TILE_SEED", "off", "run the tiles in an order shuffled by this seed: results must not change", integer=True)
DEBUG = Knob(
    "FASTSR_DEBUG",
    "0",
    "1: backend, instruction set and kernels; 2: time and GFLOP/s of each step; 3: the graph before and after each pass",
    integer=True,
)
DATA = Knob("FASTSR_DATA", "none", "folder with the data sets (Set5, Set14, ...) that `fastsr eval --data` names", folder=True)

KNOBS = (BACKEND, PRECISION, ISA, THREADS, TILE, TILE_SEED, DEBUG, DATA)


def check() -> None:
    """Raise FastsrError when any of the variables that say how networks run has a value that it cannot have."""
    for knob in KNOBS:
        if not knob.folder:
            knob.read()


def debug_level() -> int:
    """FASTSR_DEBUG as a number, 0 when unset."""
    return DEBUG.read_int() or 0
