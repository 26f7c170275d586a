"""Mutation fuzzer of the reader of NumPy archives: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_npz.py [count] [seed]

Seeds are weights in all forms that NumPy writes: stored and deflated, C and Fortran order, both versions of the header, both byte orders. A quarter
of the mutations change bytes of the archive; the others change a member (its header, its numbers), names or the set of members, and pack it again.
The default test suite runs a few of them: test_torch_fuzz.py.
"""

from __future__ import annotations

import io
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
from fuzz_safetensors import NAMES  # noqa: E402
from fuzz_torch import weights  # noqa: E402
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from torch_files import zipped  # noqa: E402

from fastsr.importers import npz  # noqa: E402

TYPES = ["<f4", ">f4", "<f8", "<f2", "|b1", "|u1", "<i8", ">u2", "|O", "<c8", "|S4", "<U3", "<M8[s]", "=f4", "f4", "<f16", "<f0", "|V8", "x'y", ""]


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    """An array as a member of an archive."""
    data = io.BytesIO()
    np.lib.format.write_array(data, array, version)
    return data.getvalue()


def archive(arrays: Mapping[str, np.ndarray], deflate: bool = False) -> bytes:
    """What NumPy writes."""
    data = io.BytesIO()
    (np.savez_compressed if deflate else np.savez)(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


def seeds() -> list[bytes]:
    """The files to mutate."""
    small = weights()
    floats = {name: value.astype(np.float32) for name, value in small.items()}
    return [
        archive(small),
        archive(small, deflate=True),
        archive({f"module.{name}": np.asfortranarray(value) for name, value in small.items()}),
        archive({name: value.astype(">f4" if k % 2 else "<f8") for k, (name, value) in enumerate(floats.items())}),
        archive({**{f"generator.{n}": v for n, v in floats.items()}, **{f"discriminator.{n}": v for n, v in floats.items()}}),
        zipped({f"{name}.npy": npy(value, (2, 0)) for name, value in floats.items()}),
    ]


def mutate_header(rng: random.Random, data: bytes) -> bytes:
    """Another type, order, shape, version or length of header."""
    number = str(rng.choice((*NUMBERS, rng.randrange(100)))).encode()
    kind = rng.randrange(8)
    if kind == 0:
        return re.sub(rb"'descr': '[^']*'", lambda _: f"'descr': '{rng.choice(TYPES)}'".encode(), data, count=1)
    if kind == 1:
        return data.replace(b"False", b"True ", 1) if b"False" in data else data.replace(b"True", b"False", 1)
    if kind == 2:
        return re.sub(rb"(\(|, )\d+", lambda m: m.group(1) + number, data, count=1)
    if kind == 3:
        shape = rng.choice((b"()", b"(,)", b"(" + number + b",)", b"(" + b"1, " * rng.randrange(80) + number + b")", b"(0, 3)", b"[3, 3]", b"(3L,)"))
        return re.sub(rb"\([^)]*\)", lambda _: shape, data, count=1)
    if kind == 4:
        return data[:6] + bytes(rng.choice(((1, 0), (2, 0), (3, 0), (0, 0), (255, 255)))) + data[8:]
    if kind == 5:
        return data[:8] + (rng.choice(NUMBERS) & 0xFFFF).to_bytes(2, "little") + data[10:]
    if kind == 6:
        return data[: rng.randrange(len(data) + 1)]
    return data + bytes(rng.choice((1, 4, 64)))


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One file that NumPy did not write."""
    data, other = rng.choice(files), rng.choice(files)
    if rng.randrange(4) == 0:
        return mutate_bytes(rng, data, other)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = {n: z.read(n) for n in z.namelist()}
    for _ in range(rng.choice((1, 1, 2, 4))):
        name, kind = rng.choice(list(members)), rng.randrange(8)
        if kind < 4:
            members[name] = mutate_header(rng, members[name])
        elif kind < 6:
            members[name] = mutate_bytes(rng, members[name], other)
        elif kind == 6 and len(members) > 1:
            del members[name]
        else:
            members[rng.choice(NAMES) + rng.choice((".npy", ".npy.npy", "."))] = members.pop(name)
    packed = zipped(members, deflate=rng.randrange(4) == 0)
    return mutate_bytes(rng, packed, other) if rng.randrange(8) == 0 else packed


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this reader."""
    return fuzzing.run(count, seed, seeds(), mutated, npz, progress)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
