"""Mutation fuzzer of the reader of PyTorch files: only ModelError may come out, quickly and in bounded memory, and nothing may run.

    python tests/fuzz_torch.py [count] [seed]

Seeds are small files in all forms: zip archives, the older form, plain pickles, whole modules, scripted ones. A third of the mutations change bytes
of the file; the others change the pickle inside (bytes, whole opcodes, numbers, names) or the members, and pack it again. Weights that are found go
to fastsr.archs. The default test suite runs a few of them: test_torch_fuzz.py.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from torch_files import Call, Global, Storages, dumps, legacy_file, zip_file, zipped  # noqa: E402

from fastsr.importers import pytorch  # noqa: E402

NAMES = [
    b"torch._utils\n_rebuild_tensor_v2\n", b"torch._utils\n_rebuild_parameter\n", b"torch\nFloatStorage\n", b"torch\nHalfStorage\n",
    b"torch.storage\n_load_from_bytes\n", b"collections\nOrderedDict\n", b"numpy.core.multiarray\n_reconstruct\n", b"numpy\ndtype\n", b"os\nsystem\n",
    b"builtins\nset\n", b"builtins\neval\n", b"_codecs\nencode\n", b"torch._tensor\n_rebuild_from_type_v2\n", b"torch\nSize\n", b"__torch__\nNet\n",
]  # fmt: skip
OPCODES = b"(.012FIJKLMNPQRSTUVX\x8a\x8b\x88\x89]}a)bcdeghijlopqrstu\x80\x81\x82\x85\x86\x87\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98BCG"


def weights() -> dict[str, np.ndarray]:
    """A small SRVGGNetCompact, one of its weights normalised."""
    rng = np.random.default_rng(1)

    def some(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "body.0.weight": some(4, 3, 3, 3),
        "body.0.bias": some(4).astype(np.float16),
        "body.1.weight": np.full(4, 0.25, np.float32),
        "body.2.weight": some(4, 4, 3, 3),
        "body.3.weight": np.full(4, 0.25, np.float32),
        "body.4.weight_v": some(12, 4, 3, 3),
        "body.4.weight_g": np.ones((12, 1, 1, 1), np.float32),
        "body.4.bias": some(12),
        "body.2.num_batches_tracked": np.arange(3),
    }


def module(storages: Storages, scripted: bool) -> Any:
    """A whole module in a module."""

    def one(own: dict[str, Any], inner: dict[str, Any]) -> Call:
        state = {**own, **inner, "training": False} if scripted else {"_parameters": own, "_buffers": {}, "_modules": inner, "training": False}
        return Call(Global("__torch__" if scripted else "made_up", "Net"), (), state, by="newobj")

    tensors = storages.tree(weights())
    layers: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        _, layer, part = name.split(".")
        layers.setdefault(layer, {})[part] = tensor
    return one({}, {"body": one({}, {layer: one(own, {}) for layer, own in layers.items()})})


def seeds() -> list[bytes]:
    """The files to mutate."""
    out = []
    for protocol in range(6):
        for form in (zip_file, legacy_file):
            storages = Storages()
            trees = {"params": storages.tree(weights()), "params_ema": storages.tree(weights())}
            root = {"epoch": 3, **trees, "args": Call(Global("argparse", "Namespace"))}
            out.append(form(root, storages, protocol))
        out.append(pickle.dumps(weights(), protocol))
    for scripted in (False, True):
        storages = Storages()
        out.append(zip_file(module(storages, scripted), storages, deflate=scripted))
    storages = Storages()
    gan = {**{f"generator.{k}": v for k, v in weights().items()}, **{f"discriminator.{k}": v for k, v in weights().items()}}
    out.append(zip_file({"state_dict": storages.tree(gan), "optimizer": {"state": {0: storages.tree(weights())}}}, storages))
    storages = Storages()
    inner = legacy_file(storages.add(np.arange(12, dtype=np.float32)), storages)
    nested = Storages().view(Call(Global("torch.storage", "_load_from_bytes"), (inner,)), 0, (3, 4), (4, 1))
    out.append(dumps({"a.weight": nested}, 4))
    return out


def mutate_pickle(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A few changes that know of opcodes."""
    b = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(b) < 8:
            break
        i, kind = rng.randrange(len(b)), rng.randrange(9)
        if kind == 0:
            b[i] = rng.choice(OPCODES)
        elif kind == 1:
            b[i:i] = bytes([rng.choice(OPCODES)]) * rng.choice((1, 1, 2, 50))
        elif kind == 2:
            number = rng.choice(NUMBERS)
            b[i:i] = b"\x8a\x08" + struct.pack("<q", number) if abs(number) >> 31 else b"J" + struct.pack("<i", number)
        elif kind == 3:
            b[i:i] = b"c" + rng.choice(NAMES)
        elif kind == 4 and b"c" in b:
            at = [k for k in range(len(b)) if b[k] == 99]
            k = rng.choice(at)
            end = b.find(b"\n", b.find(b"\n", k) + 1)
            if end > 0:
                b[k + 1 : end + 1] = rng.choice(NAMES)
        elif kind == 5:
            b[i:i] = b"h" + bytes([rng.randrange(40)])
        elif kind == 6:
            at = [k for k in range(len(b) - 1) if b[k] in b"KMJ"]
            if at:
                b[rng.choice(at) + 1] = rng.choice((0, 1, 2, 3, 4, 127, 128, 255))
        elif kind == 7:
            j = rng.randrange(len(b))
            piece = b[j : j + rng.choice((2, 8, 30, 90))]
            b[i:i] = piece
        else:
            return mutate_bytes(rng, bytes(b), other)
    return bytes(b)


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """One file that torch did not write."""
    data, other = rng.choice(files), rng.choice(files)
    kind = rng.randrange(3)
    if kind == 0:
        return mutate_bytes(rng, data, other)
    if not data.startswith(b"PK"):
        return mutate_pickle(rng, data, other)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = {n: z.read(n) for n in z.namelist()}
    pickled = next(n for n in members if n.endswith("data.pkl"))
    members[pickled] = mutate_pickle(rng, members[pickled], other)
    if rng.randrange(4) == 0:
        name = rng.choice(list(members))
        change = rng.randrange(4)
        if change == 0:
            del members[name]
        elif change == 1:
            members[rng.choice(("data.pkl", "/data.pkl", "../data.pkl", "archive/byteorder", "archive/data/0", "x" * 300))] = members[name]
        else:
            members[name] = mutate_bytes(rng, members[name], other)
    packed = zipped(members, deflate=rng.randrange(4) == 0)
    return mutate_bytes(rng, packed, other) if rng.randrange(8) == 0 else packed


class Guard:
    """Raises AssertionError when a module is imported, a program started or a text run."""

    def __enter__(self) -> None:
        self.kept = (os.system, subprocess.Popen, builtins.eval, builtins.exec)

        def forbidden(*args: Any, **_: Any) -> Any:
            raise AssertionError(f"called with {args!r:.100}")

        os.system = subprocess.Popen = builtins.eval = builtins.exec = forbidden  # type: ignore[assignment, misc]

    def __exit__(self, *_: Any) -> None:
        os.system, subprocess.Popen, builtins.eval, builtins.exec = self.kept  # type: ignore[misc]


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this reader."""
    files = seeds()
    fuzzing.run(200, seed, files, mutated, pytorch).most_common(1)  # imports what the program itself needs
    with Guard():
        return fuzzing.run(count, seed, files, mutated, pytorch, progress)


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
