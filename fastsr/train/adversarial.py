"""Adversarial training, as in SRGAN (Ledig et al., CVPR 2017): a discriminator learns to tell enlarged pictures from real ones, and the network
learns to be taken for real.

SRGAN's feature loss compares what a classifier of photographs sees in both pictures. No such classifier comes with fastsr; in its place are the
discriminator's own features, the feature matching of pix2pixHD (Wang et al., CVPR 2018): they need no other weights and follow the pictures at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from .recipes import Recipe


class Discriminator(nn.Module):
    """SRGAN's: pairs of 3x3 convolutions with LeakyReLU, the second of a pair halving the picture, here without the dense layer that fixed its size:
    it judges every place of the smallest picture by itself. Spectral normalisation (Miyato et al., ICLR 2018) takes the place of the batch's."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        last = channels
        for k in range(4):
            wide = width * min(2**k, 8)
            parts += [_normalised(last, wide, 1), _normalised(wide, wide, 2)]
            last = wide
        self.parts = nn.ModuleList(parts)
        self.verdict = nn.Conv2d(last, 1, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Verdicts (N, 1, h, w), above 0 for real, and what each pair of convolutions sees. x: (N, C, H, W) in 0..1."""
        seen = []
        x = x * 2 - 1
        for k, part in enumerate(self.parts):
            x = F.leaky_relu(part(x), 0.2)
            if k % 2:
                seen.append(x)
        return self.verdict(x), seen


def _normalised(i: int, o: int, stride: int) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Conv2d(i, o, 3, stride, 1))


class Adversary:
    """A discriminator of pictures of so many channels, with its optimiser and the weights of the recipe."""

    def __init__(self, channels: int, recipe: Recipe, seed: int, device: str, width: int = 32) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = Discriminator(channels, width).to(device=device, memory_format=torch.channels_last).train()
        self.weight, self.features = recipe.adversarial, recipe.features
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=recipe.judge, betas=(0.9, 0.999), fused=True)

    def loss(self, y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What the network pays for pictures y (N, C, H, W) that are told from the real ones."""
        self.net.requires_grad_(False)
        verdict, seen = self.net(y)
        with torch.no_grad():
            _, wanted = self.net(target)
        matching = torch.stack([F.l1_loss(a, b) for a, b in zip(seen, wanted, strict=True)]).mean()
        return self.weight * F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict)) + self.features * matching

    def learn(self, y: torch.Tensor, target: torch.Tensor, rate: float) -> None:
        """One step of the discriminator."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.net.requires_grad_(True)
        self.optimiser.zero_grad(set_to_none=True)
        real, fake = self.net(target)[0], self.net(y.detach())[0]
        loss = F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        loss.backward()
        self.optimiser.step()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.net.load_state_dict(saved["net"])
        self.optimiser.load_state_dict(saved["optimiser"])
