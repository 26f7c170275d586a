"""Mutation fuzzer of the reader of safetensors files: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_safetensors.py [count] [seed]

Half of the mutations change bytes, the others the header (names, types, shapes, places). The default test suite runs a few: test_torch_fuzz.py.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
from fuzz_torch import weights  # noqa: E402
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from torch_files import safetensors_file  # noqa: E402

from fastsr.importers import safetensors  # noqa: E402

NAMES = ["", "generator.a", "discriminator.a", "a.weight_g", "a.weight_v", "a.weight_orig", "a.weight_u", "module", ".", "x" * 600, "\u0442", "ema.x"]
TYPES = ["F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "", None, 3]


def seeds() -> list[bytes]:
    """The files to mutate."""
    small = weights()
    return [
        safetensors_file(small, metadata={"format": "pt"}),
        safetensors_file({f"module.{k}": v for k, v in small.items()}),
        safetensors_file({**{f"generator.{k}": v for k, v in small.items()}, **{f"discriminator.{k}": v for k, v in small.items()}}),
        safetensors_file({"a.weight_orig": np.ones((4, 3), np.float32), "a.weight_u": np.ones(4, np.float32), "a.weight_v": np.ones(3, np.float32)}),
        safetensors_file({"h": np.arange(9, dtype=np.uint16)}, ["BF16"]),
    ]


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One file that no writer wrote."""
    data, other = rng.choice(files), rng.choice(files)
    if rng.randrange(2) == 0:
        return mutate_bytes(rng, data, other)
    n = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + n]), data[8 + n :]
    for _ in range(rng.choice((1, 1, 2, 4))):
        name, kind, number = rng.choice(list(header)), rng.randrange(10), rng.choice(NUMBERS)
        entry = header[name]
        if kind == 0:
            header[rng.choice(NAMES)] = header.pop(name)
        elif kind == 1 and len(header) > 1:
            del header[name]
        elif kind == 2:
            header[name] = rng.choice((None, 3, [], {}, "x", entry))
        elif isinstance(entry, dict) and isinstance(entry.get("shape"), list) and isinstance(entry.get("data_offsets"), list):
            shape, span = entry["shape"], entry["data_offsets"]
            if kind == 3:
                entry["dtype"] = rng.choice(TYPES)
            elif kind == 4 and shape:
                shape[rng.randrange(len(shape))] = number
            elif kind == 5:
                entry["shape"] = [1] * rng.randrange(40) + shape
            elif kind == 6 and span:
                span[rng.randrange(len(span))] = number
            elif kind == 7:
                entry["data_offsets"] = [a + 4 if isinstance(a, int) else a for a in span]
            elif kind == 8:
                rng.shuffle(shape)
            else:
                entry[rng.choice(("shape", "dtype", "data_offsets"))] = rng.choice((None, number, "x", [None], [number] * 2, 0.5))
    text = json.dumps(header).encode()
    length = len(text) if rng.randrange(8) else max(0, rng.choice(NUMBERS))
    return length.to_bytes(8, "little") + text + body[: rng.choice((None, None, None, rng.randrange(len(body) + 1)))]


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this reader."""
    return fuzzing.run(count, seed, seeds(), mutated, safetensors, progress)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
