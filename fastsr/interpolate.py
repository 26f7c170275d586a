"""Networks between networks: the mean of the weights of several that were trained from the same beginning.

Between one trained for PSNR and one trained against a discriminator this gives any mixture of both (network interpolation: Wang et al., ESRGAN, ECCV
Workshops 2018; `-dn` of Real-ESRGAN does it to choose how much noise is taken away). Of several that were trained on in different ways the mean is
often better than each (Wortsman et al., "Model soups", ICML 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .errors import ModelError
from .program import Epilogue, Program, Step

OWN = frozenset({"name", "source"})
"""What a network's `meta` says of it alone."""


def interpolate(programs: Sequence[Program], shares: Sequence[float]) -> Program:
    """The program whose weights, biases and other numbers are the sum of the given ones' times their shares. The arguments stay as they are.

    programs: one or more of the same shape, with equal feeds. shares: one for each, which sum up to 1; below 0 or above 1 lies what is beyond them.
    Weights are those of the lowered networks, so normalisations are part of the convolutions. Raises ModelError for networks that differ in more than
    numbers or are quantised, ValueError for other shares.
    """
    if not programs or len(shares) != len(programs) or not abs(sum(shares) - 1) < 1e-6:
        raise ValueError("each network needs a share, and shares sum up to 1")
    if any(e.op == "Quantize" for p in programs for step in p.steps for e in step.epilogue):
        raise ModelError("quantised networks cannot be interpolated: interpolate those of floats that they were made from")
    first = programs[0]
    for n, other in enumerate(programs[1:], 2):
        why = _difference(first, other)
        if why:
            raise ModelError(f"network {n} is not of the same shape as the first one: {why}")
    steps = [_step(list(same), shares) for same in zip(*(p.steps for p in programs), strict=True)]
    meta = {key: value for key, value in first.meta.items() if key not in OWN and all(p.meta.get(key) == value for p in programs)}
    found = replace(first, steps=steps, meta=meta)
    found.validate()
    return found


def _difference(a: Program, b: Program) -> str:
    """What differs but numbers, for people; "" for nothing."""
    if a.feed != b.feed:
        names = [name for name, value in vars(a.feed).items() if value != getattr(b.feed, name)]
        told = ", ".join(f"{name}={getattr(b.feed, name)} for {getattr(a.feed, name)}" for name in names)
        return f"it is fed otherwise, {told}"
    if len(a.steps) != len(b.steps):
        return f"{len(b.steps)} steps for {len(a.steps)}"
    for k, (s, t) in enumerate(zip(a.steps, b.steps, strict=True)):
        mine, others = _shape(s), _shape(t)
        if mine != others:
            what = next(name for name in mine if mine[name] != others[name])
            return f"step {k} ({s.name or s.kind}): {what} {others[what]} for {mine[what]}"
    ends = [([v.channels for v in p.values], p.inputs, [index for _, index in p.outputs]) for p in (a, b)]
    return "" if ends[0] == ends[1] else "it has other inputs, outputs or channels"


def _shape(step: Step) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "inputs": step.inputs,
        "output": step.output,
        "parameters": step.params,
        "weights": None if step.weight is None else step.weight.shape,
        "operations": [(e.op, e.value, None if e.tensor is None else e.tensor.shape) for e in step.epilogue],
        "blocks": [(e.a, e.b) for e in step.epilogue if e.op == "DepthToSpace"],
        "bounds without end": [(n if math.isinf(n) else 0) for e in step.epilogue for n in (e.a, e.b)],
    }


def _step(steps: list[Step], shares: Sequence[float]) -> Step:
    return replace(
        steps[0],
        weight=_array([s.weight for s in steps], shares),
        bias=_array([s.bias for s in steps], shares),
        epilogue=tuple(_operation(list(same), shares) for same in zip(*(s.epilogue for s in steps), strict=True)),
    )


def _operation(operations: list[Epilogue], shares: Sequence[float]) -> Epilogue:
    a, b = (_number([getattr(e, name) for e in operations], shares) for name in ("a", "b"))
    return replace(operations[0], tensor=_array([e.tensor for e in operations], shares), a=a, b=b)


def _array(arrays: Sequence[np.ndarray | None], shares: Sequence[float]) -> np.ndarray | None:
    """The weighted sum; one that is not there is zero, as a missing bias is."""
    there = [(np.asarray(a, np.float64), s) for a, s in zip(arrays, shares, strict=True) if a is not None]
    return np.sum([a * s for a, s in there], axis=0).astype(np.float32) if there else None


def _number(numbers: Sequence[float], shares: Sequence[float]) -> float:
    """The weighted sum; of equal ones the same, as infinity times 0 is none."""
    if all(n == numbers[0] for n in numbers):
        return numbers[0]
    return float(np.dot(numbers, shares))
