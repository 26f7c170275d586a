"""How time grows with the picture, and how it falls with threads: peers.py calls it (--sizes, --threads-list)."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import picture
from contenders import Contender, Spec, job_of, take_turns
from networks import Network

from fastsr import image
from fastsr.cli.common import table
from fastsr.cli.timing import summary
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.passes import optimise

MEGAPIXELS = (0.1, 0.25, 1, 4, 16, 67)

NETWORKS = ("espcn", "fsrcnn", "vdsr")
"""Measured unless others are asked for."""


def extent(megapixels: float) -> tuple[int, int]:
    """Height and width of about so many pixels, three to two, multiples of four."""
    height = max(1, round(math.sqrt(megapixels * 1e6 / 1.5) / 4)) * 4
    return height, height * 3 // 2


def large_picture(height: int, width: int) -> np.ndarray:
    """A picture of any size: a smaller one repeated."""
    source, _ = picture(min(height, 1024), min(width, 1536))
    repeated = np.tile(source, (-(-height // source.shape[0]), -(-width // source.shape[1]), 1))
    return np.ascontiguousarray(repeated[:height, :width])


def too_large(graph: Graph, size: tuple[int, int]) -> str:
    """Why a library that keeps whole values in memory should not be given that picture; "" if it may."""
    program = lower(optimise(graph))
    need = 8 * max(v.channels * h * w for v, (h, w) in zip(program.values, program.value_sizes(*size), strict=True))
    meminfo = Path("/proc/meminfo")
    text = meminfo.read_text(encoding="ascii") if meminfo.exists() else ""
    free = next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("MemAvailable:")), need * 4)
    return f"a value and the next take {need / 2**30:.1f} GiB of {free / 2**30:.1f} GiB" if need * 4 > free else ""


def started(wanted: Sequence[Spec], threads: int, scratch: Path, job: dict[str, str], clock: str) -> list[Contender]:
    """Those of the contenders that take the network and the picture; says why others do not."""
    contenders = []
    for spec in wanted:
        c = Contender(spec, threads, scratch, job, clock)
        if c.error:
            print(f"{c.name}: {c.error}")
            c.close()
        else:
            contenders.append(c)
    return contenders


def sizes(wanted: Sequence[Spec], networks: Sequence[Network], how: argparse.Namespace) -> list[dict[str, Any]]:
    """Time per pixel and memory over picture sizes. how: the command line's options."""
    rows = []
    lines = [["network", "contender", "megapixels", "ms", "ns per pixel", "rise MiB", "result MiB"]]
    for network in networks:
        graph = network.build()
        for wished in (m for m in MEGAPIXELS if m <= how.megapixels):
            size = extent(wished)
            megapixels = size[0] * size[1] / 1e6
            why = too_large(graph, size)
            able = [s for s in wanted if s.library == "fastsr" or not why]
            if len(able) < len(wanted):
                print(f"{network.title}, {megapixels:.0f} megapixels: ours only, {why}")
            x = image.to_network(large_picture(*size), graph.feed)[0]
            with job_of(graph, x) as (scratch, job):
                contenders = started(able, how.threads, scratch, {**job, "save": ""}, how.clock)
            take_turns(contenders, how.rounds if wished < 10 else min(how.rounds, 3))
            for c in contenders:
                ms, result = statistics.median(c.seconds) * 1e3, math.prod(c.first["shape"]) * 4 / 2**20
                rows.append({"network": network.name, "title": network.title, "name": c.name, "megapixels": megapixels, **summary(c.seconds),
                             "ns_per_pixel": round(ms / megapixels, 3), "rise_mib": c.first["rise_mib"], "result_mib": round(result, 1)})  # fmt: skip
                lines.append([network.title, c.name, *(f"{n:.2f}" for n in (megapixels, ms, ms / megapixels, c.first["rise_mib"], result))])
                c.close()
    print(table(lines, left=2))
    return rows


def threads(wanted: Sequence[Spec], networks: Sequence[Network], counts: Sequence[int], how: argparse.Namespace) -> list[dict[str, Any]]:
    """Time by number of threads, at each network's own picture size. how: the command line's options."""
    rows: list[dict[str, Any]] = []
    for network in networks:
        graph = network.build()
        source, _ = picture(network.height, network.width)
        with job_of(graph, image.to_network(source, graph.feed)[0]) as (scratch, job):
            contenders = []
            for n in counts:
                contenders += started([replace(s, threads=n) for s in wanted], n, scratch, {**job, "save": ""}, how.clock)
        take_turns(contenders, how.rounds)
        for c in contenders:
            rows.append({"network": network.name, "title": network.title, "input": network.size, "name": c.name, "threads": c.spec.threads,
                         **summary(c.seconds)})  # fmt: skip
            c.close()
    print(table([["network", "contender", "threads", "ms", "times faster than the fewest"], *speedups(rows)], left=2))
    return rows


def speedups(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Lines of the table: how many times faster each contender is than itself with the fewest threads."""
    fewest: dict[tuple[str, str], dict[str, Any]] = {}
    for r in rows:
        key = r["network"], r["name"]
        if key not in fewest or r["threads"] < fewest[key]["threads"]:
            fewest[key] = r
    return [
        [r["title"], r["name"], str(r["threads"]), f"{r['median_ms']:.2f}", f"{fewest[r['network'], r['name']]['median_ms'] / r['median_ms']:.2f}"]
        for r in rows
    ]
