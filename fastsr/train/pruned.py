"""Pruning before fine-tuning: what `fastsr.prune` needs to know of a network's values is found with PyTorch on patches of the training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .. import fsr, prune
from ..evaluation import multiply_adds_of, parameters_of
from . import tuned
from .batches import Patches
from .loop import loss_of
from .measure import given, mean_score
from .pictures import Pair
from .recipes import Recipe
from .report import Report

FILE = "pruned.fsr"
"""The network before it is trained, in the training's folder: going on begins with it."""

PATCHES = 128
"""On which channels are judged, at most."""

WORK = 4e10
"""Multiply-adds that the network is judged with, about: deep networks see fewer patches."""

EDGE = 24
"""Of these, of the small pictures, in pixels."""

AT_ONCE = 8
"""Patches in memory at a time."""

RATES = {"soap": 2e-3, "adam": 5e-4}
"""Highest learning rate after pruning."""


def recipe_for(recipe: Recipe, optimiser: str | None = None) -> Recipe:
    """A recipe for fine-tuning that wins back what pruning has cost: more steps at a higher rate."""
    chosen = optimiser or "soap"
    return replace(recipe, optimiser=chosen, rate=RATES[chosen], steps=10_000, ema=0.998)


def begin(network: tuned.Tuned, share: float, patches: Patches, path: Path, going_on: bool, valid: Sequence[Pair], report: Report) -> tuned.Tuned:
    """The network with `share` of its multiply-adds taken away, see `prune.prune`; it is written to `path`, and read from there when `going_on`.

    Raises FastsrError for a share that is not between 0 and 1, ModelError where there is nothing to prune or not so much, OSError.
    """
    if going_on and path.exists():
        return tuned.load(path)
    thinned = tuned.Tuned(tuned.GraphModule(prune.prune(network.module.graph, share, judged(network, patches))), network.scale)
    fsr.save(thinned.program(), path)
    old, new = network.program(), fsr.load(path)
    for what, of in (("multiply-adds a pixel", multiply_adds_of), ("parameters", parameters_of)):
        report.line(f"{what}: {of(old):.0f} before pruning, {of(new):.0f} after ({100 * (of(new) / of(old) - 1):+.0f} %)")
    if valid:
        report.line(f"{mean_score(network, valid):.2f} dB before pruning, {mean_score(thinned, valid):.2f} dB after")
    return tuned.load(path)


def judged(network: tuned.Tuned, patches: Patches) -> prune.Calibration:
    """What `prune.prune` needs: the moments of what convolutions read, and the gradients of the mean absolute error by what they make."""
    layers = [layer for layer in prune.Channels(network.module.graph).layers if not layer.alone]
    moments = {layer.node.inputs[0]: prune.Moments() for layer in layers}
    sensitivity: dict[str, np.ndarray] = {layer.node.output: np.zeros(len(layer.makes)) for layer in layers}
    values: dict[str, torch.Tensor] = {}
    edge = min(EDGE, max(min(p.small.shape[1:]) for p in patches.pairs))
    affordable = int(WORK / (float(prune.multiply_adds(network.module.graph)) * edge**2))
    batches = max(min(affordable, PATCHES) // AT_ONCE, 2)

    def watch(name: str, value: torch.Tensor) -> None:
        if name in moments:
            moments[name].add(value.detach().numpy())
        if name in sensitivity:
            value.retain_grad()
            values[name] = value

    network.module.watch = watch
    try:
        for step in range(batches):
            batch = patches.batch(step, AT_ONCE, edge)
            target = torch.from_numpy(batch.large).float() * (1 / 255)
            loss = AT_ONCE * loss_of("l1", network(given(torch.from_numpy(batch.small), network)), target)
            loss.backward()
            for name, value in values.items():
                assert value.grad is not None
                sensitivity[name] += value.grad.square().sum((0, 2, 3)).double().numpy() / (AT_ONCE * batches)
            network.zero_grad(set_to_none=True)
    finally:
        network.module.watch = None
    return prune.Calibration({k: m for k, m in moments.items() if m.count}, sensitivity)
