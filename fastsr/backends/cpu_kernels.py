"""The convolutions of a program, each by every algorithm of the C++ core that can compute it, measured inside the running network."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import fsr
from ..errors import BackendError
from ..program import Program
from . import cpu

ALGORITHMS = ("direct", "winograd", "winograd2d", "winograd6x6", "winograd16", "winograd16x6x4", "winograd16x6", "conv16", "conv16rows")


def measure(program: Program, inputs: list[np.ndarray], precision: str, threads: int, runs: int) -> list[dict[str, Any]]:
    """A row for each convolution: name, shape, the pick, and milliseconds of processor time (minimum of `runs`, in turns) by algorithm.

    inputs: float32 (1, C, H, W), one per input. Raises BackendError without the C++ core.
    """
    reason = cpu.unavailable()
    if reason:
        raise BackendError(reason)
    from .. import _core

    blob = fsr.dumps(program)
    algorithms = ALGORITHMS if precision == "fast" else ALGORITHMS[:4]
    precisions = dict.fromkeys(("", *ALGORITHMS[4:]), precision)
    models = {a: _core.Model(blob, threads=threads, precision=precisions.get(a, "f32"), algorithm=a) for a in ("", *algorithms)}
    picked = models[""].kernels()
    kernels = {a: models[a].kernels() for a in algorithms}
    best: dict[str, list[tuple[float, float]]] = {}
    for _ in range(runs):
        for a in algorithms:
            now = models[a].profile(inputs, threads)
            best[a] = [min(pair) for pair in zip(best.get(a, now), now, strict=True)]
    rows = []
    for i, step in enumerate(program.steps):
        if step.kind != "Conv" or step.weight is None:
            continue
        cout, cin, kh, kw = step.weight.shape
        ms = {kernels[a][i]: 1e3 * best[a][i][0] for a in algorithms}
        gflop = best["direct"][i][1] / 1e9
        shape = {"kernel": f"{kh}x{kw}", "cin": cin * step.params["group"], "cout": cout}
        rows.append({"step": step.name, **shape, "pick": picked[i], "gflop": gflop, "ms": ms})
    return rows
