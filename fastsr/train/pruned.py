"""Pruning before fine-tuning: what `fastsr.prune` needs to know of a network's values, found with PyTorch on patches of the training pictures."""

from __future__ import annotations

import numpy as np
import torch

from .. import prune
from .batches import Patches
from .convert import GraphModule
from .loop import loss_of
from .measure import given
from .tuned import Tuned

PATCHES = 128
"""On which channels are judged, at most."""

WORK = 4e10
"""Multiply-adds that the network is judged with, about: deep networks see fewer patches."""

AT_ONCE = 8
"""Patches in memory at a time."""


def pruned(network: Tuned, share: float, patches: Patches, edge: int) -> Tuned:
    """The network with `share` of its multiply-adds taken away, see `prune.prune`; judged on patches with this edge of the small pictures.

    Raises FastsrError for a share that is not between 0 and 1, ModelError where there is nothing to prune or not so much.
    """
    statistics, effects = judged(network, patches, edge)
    return Tuned(GraphModule(prune.prune(network.module.graph, share, statistics, effects)), network.scale)


def judged(network: Tuned, patches: Patches, edge: int) -> tuple[prune.Statistics, prune.Effects]:
    """Statistics of what convolutions read and effects on the mean absolute error of what they make."""
    layers = [layer for layer in prune.Channels(network.module.graph).layers if not layer.alone]
    read, made = ({f(layer.node) for layer in layers} for f in (lambda n: n.inputs[0], lambda n: n.output))
    totals = {name: prune.Moments() for name in read}
    effects: dict[str, list[np.ndarray]] = {name: [] for name in made}
    values: dict[str, torch.Tensor] = {}
    affordable = int(WORK / (float(prune.multiply_adds(network.module.graph)) * edge**2))

    def watch(name: str, value: torch.Tensor) -> None:
        if name in read:
            totals[name].add(value.detach().numpy())
        if name in made:
            value.retain_grad()
            values[name] = value

    network.module.watch = watch
    try:
        for step in range(max(min(affordable, PATCHES) // AT_ONCE, 2)):
            batch = patches.batch(step, AT_ONCE, edge)
            target = torch.from_numpy(batch.large).float() * (1 / 255)
            (AT_ONCE * loss_of("l1", network(given(torch.from_numpy(batch.small), network)), target)).backward()
            for name, value in values.items():
                assert value.grad is not None
                effects[name].append((value.detach() * value.grad).sum((2, 3)).double().numpy())
            values.clear()
            network.zero_grad(set_to_none=True)
    finally:
        network.module.watch = None
    return {k: m.done() for k, m in totals.items() if m.count}, {k: np.concatenate(v) for k, v in effects.items()}
