"""Channels that are zero everywhere, drawn anew (Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023).

At high learning rates a ReLU can come to be zero for all pictures: no gradient passes it any more, and the network is smaller than it need be. Such a
channel's weights are drawn as at the beginning, and what reads it begins with zeros, so the network computes the same as before.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch.nn import functional as F  # noqa: N812

from .networks import Network


@torch.no_grad()
def revive(network: Network, shadow: Network, x: torch.Tensor, seed: int) -> int:
    """Draw the channels anew that are zero for all of x (N, C, H, W), in the network and in its average. Returns how many there are."""
    generator = torch.Generator().manual_seed(seed)
    count = 0
    for (a, b), (mean_a, mean_b) in zip(pairwise(network.rectified()), pairwise(shadow.rectified()), strict=True):
        given, x = x, F.relu(a(x))
        for c in torch.nonzero(x.amax((0, 2, 3)) <= 0).flatten().tolist():
            fan_in = a.weight[c].numel()
            a.weight[c] = (torch.randn(a.weight[c].shape, generator=generator) * math.sqrt(2 / fan_in)).to(a.weight)
            for bias in (a.bias, mean_a.bias):
                assert bias is not None
                bias[c] = 0
            if a(given)[:, c].amax() <= 0:
                a.weight[c].neg_()  # not zero again
            mean_a.weight[c] = a.weight[c]
            b.weight[:, c] = 0
            mean_b.weight[:, c] = 0
            count += 1
    return count
