"""Mutation fuzzer of the importer of ONNX files: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_onnx.py [count] [seed]

Graphs that load go through the passes and are lowered too. Seeds are small graphs that between them use all operators. Two fifths of the mutations
change bytes, the others the parsed message (names, inputs, attributes, shapes, operators, whole nodes). The default test suite runs a few of them:
test_onnx_fuzz.py.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
import onnx_cases_pixels  # noqa: E402, F401
import onnx_cases_whole  # noqa: E402, F401
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from onnx_cases import CASES  # noqa: E402
from onnx_graphs import Net  # noqa: E402

from fastsr.importers import onnx  # noqa: E402
from fastsr.importers.onnx_schema import messages  # noqa: E402

TEXTS = [
    b"",
    b"NOTSET",
    b"SAME_UPPER",
    b"VALID",
    b"CRD",
    b"DCR",
    b"x",
    b"c0",
    b"v0_0",
    b"\xff\xfe",
    b"linear",
    b"reflect",
    b"cubic",
    b"A" * 300,
    b"If",
]


def seeds() -> list[bytes]:
    """The files to mutate."""
    out = []
    for case in CASES:
        net = Net(case.opset)
        case.build(net)
        out.append(net.data())
    return out


def mutate_message(rng: random.Random, model: Any, other: Any) -> None:
    """One change that respects the schema."""
    graph, donors = model.graph, other.graph
    nodes = graph.node
    node, kind = rng.choice(nodes), rng.randrange(16)
    values = [n.output[0] for n in nodes if n.output] + [t.name for t in graph.initializer] + [b"x", b""]
    if kind == 0:
        node.op_type = rng.choice(donors.node).op_type if rng.randrange(4) else rng.choice(TEXTS)
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice((rng.choice(values), rng.choice(values), rng.choice(TEXTS)))
    elif kind == 2:
        node.input.append(rng.choice(values))
    elif kind == 3 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == 4 and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif kind == 5:
        copy = nodes.add()
        copy.CopyFrom(rng.choice(donors.node))
        if copy.output and rng.randrange(8):
            copy.output[0] += b"_2"
        if copy.input and rng.randrange(2):
            copy.input[0] = rng.choice(values)
            graph.output[0].name = copy.output[0] if copy.output else b"x"
    elif kind == 6 and len(nodes) > 1:
        del nodes[rng.randrange(len(nodes))]
    elif kind == 7:
        donor = rng.choice(donors.node)
        if donor.attribute:
            node.attribute.add().CopyFrom(rng.choice(donor.attribute))
    elif kind == 8 and model.opset_import:
        model.opset_import[0].version = rng.choice((7, 9, 10, 11, 12, 13, 17, 18, 19, 23, 0, -1, 1 << 40))
    elif kind == 9 and graph.input:
        mutate_input(rng, rng.choice(graph.input))
    elif kind in (10, 11, 12) and graph.initializer:
        mutate_tensor(rng, rng.choice(graph.initializer))
    elif node.attribute:
        mutate_attribute(rng, rng.choice(node.attribute))


def mutate_input(rng: random.Random, value: Any) -> None:
    """One change of an input's type or shape."""
    tensor = value.type.tensor_type
    if rng.randrange(3) == 0:
        tensor.elem_type = rng.randrange(24)
    elif tensor.shape.dim and rng.randrange(3):
        dim = rng.choice(tensor.shape.dim)
        dim.ClearField("dim_param")
        dim.dim_value = rng.choice((*NUMBERS, 1, 3, 12, 16))
    elif tensor.shape.dim and rng.randrange(2):
        del tensor.shape.dim[rng.randrange(len(tensor.shape.dim))]
    else:
        tensor.shape.dim.add(dim_value=rng.choice(NUMBERS))


def mutate_attribute(rng: random.Random, attr: Any) -> None:
    """One change of an attribute."""
    number = rng.choice(NUMBERS)
    kind = rng.randrange(8)
    if kind == 0:
        attr.type = rng.randrange(12)
    elif attr.HasField("t"):
        mutate_tensor(rng, attr.t)
    elif attr.ints:
        if kind < 6:
            attr.ints[rng.randrange(len(attr.ints))] = number
        elif kind == 6:
            attr.ints.append(number)
        else:
            del attr.ints[rng.randrange(len(attr.ints))]
    elif attr.HasField("i"):
        attr.i = number
    elif attr.HasField("f"):
        attr.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    elif attr.HasField("s"):
        attr.s = rng.choice(TEXTS)
    else:
        attr.i = number


def mutate_tensor(rng: random.Random, tensor: Any) -> None:
    """One change of a constant's type, shape or numbers; integers (axes, pads, sizes) get interesting values."""
    kind = rng.randrange(6)
    if kind == 0:
        tensor.data_type = rng.randrange(24)
    elif kind == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif kind == 2:
        tensor.dims.append(rng.choice((1, 1, 1, *NUMBERS)))
    elif kind == 3 and tensor.dims:
        del tensor.dims[rng.randrange(len(tensor.dims))]
    elif tensor.data_type == 7 and len(tensor.raw_data) % 8 == 0 and tensor.raw_data:
        numbers = np.frombuffer(tensor.raw_data, np.int64).copy()
        numbers[rng.randrange(len(numbers))] = rng.choice(NUMBERS)
        tensor.raw_data = numbers.tobytes()
    elif kind == 4:
        tensor.data_location = 1
        tensor.external_data.add(key=b"location", value=rng.choice((b"../x", b"/etc/passwd", b"x", b"")))
    else:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One file that no exporter wrote."""
    data, other = rng.choice(files), rng.choice(files)
    if rng.randrange(5) < 2:
        return mutate_bytes(rng, data, other)
    model, donor = (messages()["Model"].FromString(d) for d in (data, other))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if model.graph.node:
            mutate_message(rng, model, donor)
    data = model.SerializeToString()
    return mutate_bytes(rng, data, other) if rng.randrange(8) == 0 else data


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this importer."""
    return fuzzing.run(count, seed, seeds(), mutated, onnx, progress)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
