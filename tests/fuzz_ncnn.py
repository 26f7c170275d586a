"""Mutation fuzzer of the importer of ncnn models: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_ncnn.py [count] [seed]

Models that load go through the passes and are lowered too. Seeds are small models that between them use all layers, in the text and the binary form.
A file here is both files of a model in one: the length of the layer list, the layer list, the weights. Half the mutations change bytes, the others
words: parameters, blobs, types, layers, counts. The default test suite runs a few of them: test_ncnn_fuzz.py.
"""

from __future__ import annotations

import random
import re
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
import ncnn_cases_pixels  # noqa: E402, F401
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from ncnn_cases import CASES  # noqa: E402
from ncnn_graphs import Net  # noqa: E402

from fastsr.importers import ncnn  # noqa: E402
from fastsr.importers.ncnn_param import TYPES  # noqa: E402

SMALL = [-235, -234, -233, -23300, -23301, -23310, -23400, -23409, -3, -2, 5, 6, 8, 9, 10, 11, 12, 16, 32, 100]
VALUES = ["0.5", "-1.0", "1e30", "1e-30", "1e400", "nan", "2.0", "-0.0", '"x"', '"', "word", "1,2,3", "", "-", "0x10", "3.4e38", "100.0", "A" * 300]


def joined(param: bytes, weights: bytes) -> bytes:
    """Both files of a model as one."""
    return struct.pack("<I", len(param)) + param + weights


def parted(data: bytes) -> tuple[bytes, bytes]:
    """The two files."""
    size = struct.unpack("<I", data[:4])[0] if len(data) >= 4 else 0
    return data[4 : 4 + size], data[4 + size :]


class Reader:
    """The importer as `fuzzing.run` calls it."""

    @staticmethod
    def probe(head: bytes, path: str) -> bool:
        return ncnn.probe(head[4:], path)

    @staticmethod
    def loads(data: bytes) -> Any:
        return ncnn.loads(*parted(data))


def seeds() -> list[bytes]:
    """The models to mutate."""
    out = []
    for case in CASES:
        net = Net()
        case.build(net)
        out += [joined(net.text().encode(), net.data()), joined(net.binary()[0], net.data())]
    return out


def mutate_text(rng: random.Random, param: bytes, other: bytes) -> bytes:
    """One change of a layer list's words."""
    lines = [line.split() for line in param.decode("utf-8", "replace").splitlines()]
    donors = [line.split() for line in other.decode("utf-8", "replace").splitlines()[2:]]
    if len(lines) < 3:
        return param
    line, kind = rng.choice(lines[2:]), rng.randrange(12)
    pairs = [i for i, word in enumerate(line) if "=" in word]
    blobs = [word for each in lines[2:] for word in each[4:] if "=" not in word] or ["data"]
    number = str(rng.choice(NUMBERS + SMALL))
    if kind < 4 and pairs:
        i = rng.choice(pairs)
        key, _, value = line[i].partition("=")
        value = rng.choice((number, number, rng.choice(VALUES), value + "," + number))
        line[i] = f"{key}={value}" if rng.randrange(6) else f"{rng.choice((number, '1', '9', '-23309'))}={value}"
    elif kind == 4:
        line.append(f"{rng.choice((*range(24), number))}={rng.choice((number, rng.choice(VALUES)))}")
    elif kind == 5 and pairs:
        del line[rng.choice(pairs)]
    elif kind == 6 and len(line) > 4:
        line[rng.randrange(4, len(line))] = rng.choice(blobs)
    elif kind == 7 and line:
        line[0] = rng.choice(TYPES) if rng.randrange(3) else rng.choice(donors or [line])[:1][0]
    elif kind == 8:
        lines.insert(rng.randrange(2, len(lines)), list(rng.choice(donors or [line])))
        lines[1] = [str(len(lines) - 2), "1000"]
    elif kind == 9:
        del lines[rng.randrange(2, len(lines))]
        lines[1] = [str(len(lines) - 2), "1000"]
    elif kind == 10 and len(line) > 3:
        line[rng.randrange(2, 4)] = rng.choice((number, "0", "1", "2", "3"))
    else:
        donor = [word for word in rng.choice(donors or [line]) if "=" in word]
        line += rng.sample(donor, min(2, len(donor)))
    return "\n".join(" ".join(each) for each in lines).encode() + b"\n"


def mutate_words(rng: random.Random, param: bytes) -> bytes:
    """One change of a binary layer list's 32-bit words."""
    words = list(struct.unpack(f"<{len(param) // 4}i", param[: len(param) // 4 * 4]))
    if len(words) < 4:
        return param
    i, kind = rng.randrange(1, len(words)), rng.randrange(4)
    value = rng.choice([n for n in NUMBERS if -(1 << 31) <= n < 1 << 31] + SMALL + [0x3F000000, 0x7F800000, 0x7FC00000])
    if kind < 2:
        words[i] = value
    elif kind == 2:
        words.insert(i, value)
    else:
        del words[i]
    return struct.pack(f"<{len(words)}i", *words)


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One model that no converter wrote."""
    data, other = rng.choice(files), rng.choice(files)
    (param, weights), (donor, _) = parted(data), parted(other)
    if rng.randrange(2):
        if rng.randrange(3):
            return joined(mutate_bytes(rng, param, donor or b"0"), weights)
        return joined(param, mutate_bytes(rng, weights, other))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        param = mutate_text(rng, param, donor) if re.match(rb"\s*\d", param) else mutate_words(rng, param)
    return joined(param, weights)


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on models for this importer."""
    return fuzzing.run(count, seed, seeds(), mutated, Reader, progress)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
