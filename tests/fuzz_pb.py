"""Mutation fuzzer of the importer of TensorFlow files: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_pb.py [count] [seed]

Graphs that load go through the passes and are lowered too. Seeds are small graphs that between them use most operators, and OpenCV's ESPCN and
FSRCNN-small with shrunken weights where the shared folder has them.
Two fifths of the mutations change bytes (flips, cuts, swapped, repeated and inserted pieces), the others change the parsed message (names, inputs,
attributes, shapes, operators, whole nodes). The default test suite runs a few of them: test_tensorflow_fuzz.py.
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
import tensorflow_cases_pixels  # noqa: E402, F401
import tensorflow_cases_whole  # noqa: E402, F401
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from tensorflow_cases import CASES  # noqa: E402
from tensorflow_graphs import Frozen  # noqa: E402

from fastsr.importers import tensorflow  # noqa: E402
from fastsr.importers.tensorflow_schema import messages  # noqa: E402

TEXTS = [b"", b"NHWC", b"NCHW", b"SAME", b"VALID", b"EXPLICIT", b"x", b"y", b"^x", b"x:1", b"x:99999", b"\xff\xfe", b"SCALED", b"REFLECT", b"A" * 300]


def shrink(data: bytes) -> bytes:
    """A graph whose convolutions have at most four channels, so that it loads quickly."""
    graph = messages()["GraphDef"].FromString(data)
    for node in graph.node:
        for attr in node.attr:
            tensor = attr.value.tensor
            if attr.key == b"value" and tensor.dtype == 1 and len(tensor.tensor_content) > 64:
                shape = [d.size for d in tensor.shape.dim]
                array = np.frombuffer(tensor.tensor_content, np.float32).reshape(shape)
                small = array[tuple(slice(None) if len(shape) == 4 and i < 2 else slice(4) for i in range(len(shape)))]
                tensor.tensor_content = small.tobytes()
                for d, n in zip(tensor.shape.dim, small.shape, strict=True):
                    d.size = n
    return graph.SerializeToString()


def seeds(shared: Path | None) -> list[bytes]:
    """The files to mutate."""
    out = []
    for case in CASES:
        g = Frozen()
        case.build(g)
        out.append(g.data())
    for name in ("ESPCN_x2", "FSRCNN-small_x2", "LapSRN_x2"):
        path = shared / f"models/tensorflow/{name}.pb" if shared else None
        if path and path.exists():
            out.append(shrink(path.read_bytes()))
    return out


def mutate_message(rng: random.Random, graph: Any, other: Any) -> None:
    """One change that respects the schema."""
    nodes = graph.node
    node, kind = rng.choice(nodes), rng.randrange(12)
    if kind == 0:
        node.op = rng.choice(other.node).op if rng.randrange(4) else rng.choice(TEXTS)
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice((rng.choice(nodes).name, rng.choice(TEXTS), rng.choice(nodes).name + b":1"))
    elif kind == 2:
        node.input.append(rng.choice(nodes).name)
    elif kind == 3 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == 4 and node.attr:
        del node.attr[rng.randrange(len(node.attr))]
    elif kind == 5:
        copy = nodes.add()
        copy.CopyFrom(rng.choice(other.node))
        copy.name = rng.choice((copy.name, b"y2", copy.name + b"_2", copy.name + b"_3"))
    elif kind == 6 and len(nodes) > 1:
        del nodes[rng.randrange(len(nodes))]
    elif kind == 7:
        donor = rng.choice(other.node)
        if donor.attr:
            node.attr.add().CopyFrom(rng.choice(donor.attr))
    elif node.attr:
        mutate_attr(rng, rng.choice(node.attr).value)


def mutate_attr(rng: random.Random, value: Any) -> None:
    """One change of an attribute."""
    kind = value.WhichOneof("value")
    number = rng.choice(NUMBERS)
    if kind == "i":
        value.i = number
    elif kind == "type":
        value.type = rng.randrange(0, 25)
    elif kind == "b":
        value.b = not value.b
    elif kind == "f":
        value.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    elif kind == "s":
        value.s = rng.choice(TEXTS)
    elif kind == "list" and value.list.i:
        if rng.randrange(3):
            value.list.i[rng.randrange(len(value.list.i))] = number
        else:
            del value.list.i[rng.randrange(len(value.list.i))]
    elif kind in ("shape", "tensor"):
        shape = value.shape if kind == "shape" else value.tensor.shape
        if kind == "tensor" and rng.randrange(2):
            mutate_tensor(rng, value.tensor)
        elif shape.dim and rng.randrange(4):
            shape.dim[rng.randrange(len(shape.dim))].size = number
        elif shape.dim and rng.randrange(2):
            del shape.dim[rng.randrange(len(shape.dim))]
        else:
            shape.dim.add(size=number)
    else:
        value.i = number


def mutate_tensor(rng: random.Random, tensor: Any) -> None:
    """One change of a constant's type or numbers; integers (axes, pads, sizes) get interesting values."""
    kind = rng.randrange(4)
    if kind == 0:
        tensor.dtype = rng.randrange(0, 25)
    elif kind == 1:
        tensor.ClearField("tensor_content")
        getattr(tensor, "float_val" if tensor.dtype == 1 else "int_val").append(rng.randrange(-4, 100))
    elif tensor.dtype == 3 and len(tensor.tensor_content) % 4 == 0 and tensor.tensor_content:
        numbers = np.frombuffer(tensor.tensor_content, np.int32).copy()
        numbers[rng.randrange(len(numbers))] = rng.choice([n for n in NUMBERS if -(1 << 31) <= n < 1 << 31])
        tensor.tensor_content = numbers.tobytes()
    else:
        tensor.tensor_content = tensor.tensor_content[: rng.randrange(len(tensor.tensor_content) + 1)]


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One file that no exporter wrote."""
    data, other = rng.choice(files), rng.choice(files)
    if rng.randrange(5) < 2:
        return mutate_bytes(rng, data, other)
    graph, donor = (messages()["GraphDef"].FromString(d) for d in (data, other))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if graph.node:
            mutate_message(rng, graph, donor)
    data = graph.SerializeToString()
    return mutate_bytes(rng, data, other) if rng.randrange(8) == 0 else data


def run(count: int, seed: int, shared: Path | None, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this importer."""
    return fuzzing.run(count, seed, seeds(shared), mutated, tensorflow, progress)


if __name__ == "__main__":
    import os

    total, first = (int(a) for a in (*sys.argv[1:3], *("100000", "1")[len(sys.argv) - 1 :]))
    folder = Path(os.environ.get("FASTSR_SHARED") or HERE.parents[1] / "shared")
    result = run(total, first, folder, progress=True)
    for what, n in result.most_common():
        print(f"{n:8d}  {what}")
