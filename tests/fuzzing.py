"""What the fuzzers of model files share: changed bytes, and the run that counts outcomes and watches time and memory."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limits import peak_megabytes, slowness

from fastsr import lower, passes
from fastsr.errors import ModelError
from fastsr.graph import Graph
from fastsr.importers import looks_like

MAX_SECONDS = 5.0
MAX_MEGABYTES = 1024
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    64,
    127,
    128,
    255,
    256,
    65535,
    65536,
    1 << 20,
    1 << 28,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 40,
    (1 << 63) - 1,
    -(1 << 63),
]


def mutate_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A few random changes of bytes."""
    b = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        n, kind = len(b), rng.choice((0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7))
        if n < 4:
            break
        i, j = sorted(rng.randrange(n) for _ in range(2))
        if kind == 0:
            b[i] ^= 1 << rng.randrange(8)
        elif kind == 1:
            b[i] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del b[i : min(j, i + 64)]
        elif kind == 3:
            b[i:i] = b[i : min(j, i + 64)]
        elif kind == 4:
            k = rng.randrange(len(other))
            b[i : i + 16] = other[k : k + 16]
        elif kind == 5:
            piece = b[i : i + 32]
            b[i : i + 32] = b[j : j + 32]
            b[j : j + 32] = piece
        elif kind == 6:
            b[i:i] = rng.choice((b"\xff" * 9 + b"\x01", b"\x80" * 20, bytes(8), b"\x0a\x00"))
        elif rng.randrange(4) == 0:
            del b[i:]
    return bytes(b)


def lowered(graph: Graph) -> None:
    """What becomes of a graph that a reader has made."""
    lower.lower(passes.optimise(graph))


def run(
    count: int,
    seed: int,
    files: list[bytes],
    mutated: Callable[[random.Random, list[bytes]], bytes],
    reader: Any,
    progress: bool = False,
    then: Callable[[Any], None] = lowered,
) -> Counter[str]:
    """Load `count` mutated files; returns how many were refused, loaded, lowered, or refused only by the importer's last net ("net: ...").

    reader: a module of fastsr.importers. then: what is done with what it makes. Raises AssertionError when a file takes long or much memory, and
    whatever else comes out."""
    rng, outcome = random.Random(seed), Counter[str]()
    slowest = 0.0
    for k in range(count):
        data = mutated(rng, files)
        start = time.process_time()
        try:
            looks_like(data[:4096])
            reader.probe(data[:4096], "fuzz.pb")
            made = reader.loads(data)
            outcome["loaded"] += 1
            then(made)
            outcome["lowered"] += 1
        except ModelError as e:
            net = e.__cause__
            outcome["refused" if net is None or "parse" in str(e) else f"net: {type(net).__name__}: {str(net)[:60]}"] += 1
        except BaseException:
            Path("fuzz.crash").write_bytes(data)
            print(f"file {k} of seed {seed} kept in fuzz.crash", file=sys.stderr)
            raise
        seconds = time.process_time() - start
        slowest = max(slowest, seconds)
        assert seconds < MAX_SECONDS or seconds < MAX_SECONDS * slowness(), f"file {k} of seed {seed} took {seconds:.1f} s"
        if progress and k % 5000 == 4999:
            print(f"{k + 1} files, slowest {slowest * 1e3:.0f} ms, peak {peak_megabytes():.0f} MB, {dict(outcome.most_common(3))}", flush=True)
    assert peak_megabytes() < MAX_MEGABYTES, f"{peak_megabytes():.0f} MB were needed"
    return outcome
