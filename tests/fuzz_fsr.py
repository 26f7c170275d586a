"""Mutation fuzzer of the two readers of .fsr files: both take or refuse a file, with ModelError, quickly and in bounded memory.

    python tests/fuzz_fsr.py [count] [seed]

What the Python reader takes is given to the core once more as `fsr.scattered` lays it out, and written again. Metadata only the Python reader looks
at. Size and checksum are put right after most mutations, which change bytes, numbers of the program, the header, or exchange pieces between files.
tests/cpp/fuzz_fsr.cpp runs the networks too. The default test suite runs a few files: test_fsr_readers.py.
"""

from __future__ import annotations

import random
import struct
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent))  # behind an installed fastsr, which has the core

import fuzzing  # noqa: E402
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from programs import espcn  # noqa: E402
from test_fsr_readers import INTEGERS, fine, mixed, quantised, sealed, verdict  # noqa: E402
from test_fsr_readers import NUMBERS as FLOATS  # noqa: E402

from fastsr import _core, fsr  # noqa: E402
from fastsr.program import Program  # noqa: E402


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One file that fastsr did not write."""
    data, other = rng.choice(files), rng.choice(files)
    if rng.randrange(4) == 0:
        made = mutate_bytes(rng, data, other)
        return sealed(made) if len(made) >= 64 and rng.randrange(8) else made
    b = bytearray(data)
    end = 64 + struct.unpack_from("<Q", data, 40)[0]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, kind = rng.randrange(64, end - 8), rng.randrange(8)
        at = at // 4 * 4 if rng.randrange(2) else at
        if kind < 4:
            struct.pack_into("<I", b, at, rng.choice((*INTEGERS, rng.randrange(16))) & 0xFFFFFFFF)
        elif kind < 6:
            struct.pack_into("<d", b, at, rng.choice((*FLOATS, float(rng.randrange(9)))))
        elif kind == 6:
            n, source = rng.randrange(1, 40), rng.randrange(64, len(other) - 40)
            b[at : at + n] = other[source : source + n]
        else:
            struct.pack_into("<Q", b, rng.choice((32, 40, 48, 56)), rng.choice((*NUMBERS, end, end - 64, len(b))) & ((1 << 64) - 1))
    return sealed(b)


def loads(data: bytes) -> Program:
    """The Python reader, in agreement with the core's."""
    python, cpp = verdict(fsr.loads, data), verdict(_core.Model, data)
    same = bool(python) == bool(cpp) or "its metadata is not" in python or "C library does not run yet" in cpp
    assert same, f"Python says {python or 'good'!r}, C++ says {cpp or 'good'!r}"
    return fsr.loads(data)


def again(program: Program) -> None:
    """By the way that the backend takes, and back into a file."""
    head, tensors = fsr.scattered(program)
    _core.Model(head, tensors=tensors)
    written = fsr.dumps(program)
    assert fsr.dumps(fsr.loads(written)) == written


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for these readers."""
    files = [fsr.dumps(program) for program in (espcn(channels=(3, 3)), mixed(), quantised(), fine())]
    reader = SimpleNamespace(probe=lambda head, path: True, loads=loads)
    return fuzzing.run(count, seed, files, mutated, reader, progress, again)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
