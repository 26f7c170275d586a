"""Mutation fuzzer of the importer of TensorFlow Lite files: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_tflite.py [count] [seed]

Graphs that load go through the passes and are lowered too. Seeds are small graphs that between them use all operators. A third of the mutations
change bytes, the others fields of tables (numbers, shapes, types, inputs, operators, scales, whole operators). The default test suite runs a few of
them: test_tflite_fuzz.py.
"""

from __future__ import annotations

import copy
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from tflite_cases import CASES, QUANTISED  # noqa: E402
from tflite_graphs import Net, Table, flatbuffer  # noqa: E402

from fastsr.importers import tflite  # noqa: E402

BITS = {"b": 8, "B": 8, "i": 32, "I": 32, "q": 64, "Q": 64}
FLOATS = (0.0, -1.0, 1e-38, 1e30, float("inf"), float("nan"), 0.5)
MARK = b"TFL3"
GRAPHS, OPERATORS, TENSORS, CODES = 2, 3, 0, 1


def seeds() -> list[Table]:
    """The files to mutate, as tables."""
    out = []
    for case in (*CASES, *QUANTISED):
        net = Net()
        case.build(net)
        out.append(net.model())
    return out


def fitted(form: str, value: int) -> int:
    """A number cut to the bits of a field."""
    bits = BITS[form]
    value &= (1 << bits) - 1
    return value - (1 << bits) if form.islower() and value >> (bits - 1) else value


def mutate_table(rng: random.Random, table: Table) -> None:
    """One change of one field."""
    if not table:
        table[rng.randrange(8)] = ("i", rng.choice((0, 1, 2, -1)))
        return
    number = rng.choice(list(table))
    value = table[number]
    if rng.randrange(12) == 0:
        del table[number]
    elif rng.randrange(16) == 0:
        table[rng.randrange(12)] = value
    elif isinstance(value, tuple):
        form = value[0]
        if form == "?":
            table[number] = (form, not value[1])
        elif form == "f":
            table[number] = (form, rng.choice(FLOATS))
        else:
            table[number] = (form, fitted(form, rng.choice((rng.choice(NUMBERS), rng.randrange(24), value[1] + rng.choice((-1, 1))))))
    elif isinstance(value, np.ndarray):
        table[number] = mutated_array(rng, value)
    elif isinstance(value, str):
        table[number] = rng.choice(("", "x", "a" * 300, "v0_0"))
    elif isinstance(value, Table):
        mutate_table(rng, value)
    elif value:
        mutate_list(rng, value)


def mutate_list(rng: random.Random, tables: list[Table]) -> None:
    """One change of a vector of tables."""
    kind, k = rng.randrange(8), rng.randrange(len(tables))
    if kind == 0:
        del tables[k]
    elif kind == 1:
        tables.append(tables[k])
    elif kind == 2:
        tables[k] = copy.deepcopy(rng.choice(tables))
    else:
        mutate_table(rng, tables[k])


def mutated_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """An array with another number, length or order."""
    kind, out = rng.randrange(6), array.copy()
    if kind == 0:
        return out[: rng.randrange(len(out) + 1)]
    if kind == 1:
        return np.concatenate([out, out[:1]]) if len(out) < 64 else out[::2].copy()
    if kind == 2:
        return out[::-1].copy()
    if len(out):
        k = rng.randrange(len(out))
        if out.dtype.kind == "f":
            out[k] = rng.choice(FLOATS)
        else:
            value = rng.choice((rng.choice(NUMBERS), rng.randrange(24), rng.randrange(8)))
            info = np.iinfo(out.dtype)
            out[k] = value if info.min <= value <= info.max else rng.choice((info.min, info.max))
    return out


def mutate_model(rng: random.Random, top: Table, other: Table) -> None:
    """One change that keeps the file a FlatBuffer."""
    graph, donor = top[GRAPHS][0], other[GRAPHS][0]
    kind = rng.randrange(10)
    if kind < 4 and graph.get(OPERATORS):
        mutate_table(rng, rng.choice(graph[OPERATORS]))
    elif kind < 6 and graph.get(TENSORS):
        mutate_table(rng, rng.choice(graph[TENSORS]))
    elif kind == 6 and top.get(CODES):
        rng.choice(top[CODES])[3] = ("i", rng.randrange(160))
        rng.choice(top[CODES])[0] = ("b", 0)
    elif kind == 7 and donor.get(OPERATORS) and isinstance(graph.get(OPERATORS), list):
        graph[OPERATORS].insert(rng.randrange(len(graph[OPERATORS]) + 1), copy.deepcopy(rng.choice(donor[OPERATORS])))
    elif kind == 8 and top.get(4):
        mutate_table(rng, rng.choice(top[4]))
    else:
        mutate_table(rng, rng.choice((top, graph, graph)))


def mutated(rng: random.Random, files: list[Any]) -> bytes:
    """One file that no converter wrote."""
    top, other = copy.deepcopy(rng.choice(files)), rng.choice(files)
    if rng.randrange(3) == 0:
        return mutate_bytes(rng, flatbuffer(top, MARK), flatbuffer(other, MARK))
    try:
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            if top.get(GRAPHS) and isinstance(top[GRAPHS], list):
                mutate_model(rng, top, other)
        data = flatbuffer(top, MARK)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        data = flatbuffer(other, MARK)  # a field moved to where the writer cannot put it
    return mutate_bytes(rng, data, data) if rng.randrange(8) == 0 else data


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this importer."""
    files: Any = seeds()
    return fuzzing.run(count, seed, files, mutated, tflite, progress)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
