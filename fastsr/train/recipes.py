"""How each architecture is trained: what `fastsr train` does when it is told no more than a name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import FastsrError

LOSSES = ("l1", "mse", "charbonnier")
COLOURS = ("y", "rgb")
OPTIMISERS = ("soap", "adam")
MAX_SCALE = 8


@dataclass(frozen=True)
class Stage:
    """share: of all steps. patch: edge of the small patches in pixels. batch: how many."""

    share: float
    patch: int
    batch: int


@dataclass(frozen=True)
class Recipe:
    """arch, options: of `networks.registry`. finish: share of the steps at the end with the mean squared error, which PSNR is made of, as the loss.
    optimiser: "soap" or "adam". warmup: steps in which the learning rate rises to `rate`; it then falls along a cosine to `floor` times that. clip:
    largest norm of the gradient. ema: decay of the averaged weights, which are the ones that count. exact: share of the steps at the end that are not
    computed in bfloat16. revive: steps, in the first two thirds of all, from which on to the next a channel that is zero everywhere is
    drawn anew, 0 for never; srcnn and espcn heed it. adversarial, features: weights of these losses, see `adversarial`, beside 1 for the
    pixels; 0 for a training without a discriminator. judge: its learning rate. choice: the most detailed of so many patches is taken. contours:
    share of the pictures that are seen a second time with drawn contours, see `contours`."""

    arch: str
    colour: str = "y"
    options: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "l1"
    finish: float = 0.0
    optimiser: str = "soap"
    rate: float = 1e-3
    floor: float = 0.005
    warmup: int = 200
    clip: float = 1.0
    ema: float = 0.999
    exact: float = 0.2
    revive: int = 0
    steps: int = 200_000
    adversarial: float = 0.0
    features: float = 0.0
    judge: float = 1e-4
    choice: int = 4
    contours: float = 0.0
    stages: tuple[Stage, ...] = (Stage(0.5, 24, 16), Stage(0.35, 32, 16), Stage(0.15, 48, 16))

    def shape(self, step: int, total: int) -> tuple[int, int]:
        """(count, patch) of the patches of a step."""
        done = 0.0
        for stage in self.stages:
            done += stage.share
            if step < round(done * total):
                return stage.batch, stage.patch
        return self.stages[-1].batch, self.stages[-1].patch

    def rate_at(self, step: int, total: int) -> float:
        """Learning rate of a step."""
        warm = min(self.warmup, max(total // 10, 1))
        if step < warm:
            return self.rate * (step + 1) / warm
        part = (step - warm) / max(total - warm, 1)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))))

    def revives_at(self, step: int, total: int) -> bool:
        """Whether channels that are zero everywhere are drawn anew before a step."""
        return self.revive > 0 and step % self.revive == 0 and step <= total * 2 // 3

    @property
    def largest(self) -> int:
        """Edge of the largest small patches."""
        return max(s.patch for s in self.stages)


def fixed(patch: int, batch: int) -> tuple[Stage, ...]:
    """One stage for all steps."""
    return (Stage(1.0, patch, batch),)


_SMALL = (Stage(0.5, 24, 16), Stage(0.5, 40, 8))
_DEEP = (Stage(0.6, 24, 16), Stage(0.4, 48, 16))

RECIPES: dict[str, Recipe] = {
    "srcnn": Recipe("srcnn", rate=5e-4),
    "vdsr": Recipe("vdsr", rate=3e-4, clip=0.4, steps=150_000, stages=(Stage(0.7, 16, 16), Stage(0.3, 24, 16))),
    "espcn": Recipe("espcn", rate=4e-3, revive=250, steps=25_000, stages=(Stage(0.8, 24, 16), Stage(0.2, 40, 8))),
    **{k: Recipe(k, rate=6e-3, steps=30_000, stages=_SMALL) for k in ("fsrcnn", "fsrcnn-small", "fsrcnn-cv2", "fsrcnn-small-cv2")},
    "hourglass": Recipe("hourglass", rate=6e-3, steps=30_000, stages=_SMALL, contours=0.2),
    "plain": Recipe("plain", rate=3e-3, steps=30_000, stages=_SMALL, contours=0.2),
    "autoencoder": Recipe("autoencoder", "rgb", rate=5e-4, steps=100_000),
    "edsr": Recipe("edsr", "rgb", rate=3e-4, steps=300_000, stages=_DEEP, ema=0.9995),
    "srresnet": Recipe("srresnet", "rgb", rate=2e-4, steps=300_000, stages=_DEEP),
    "srvgg": Recipe("srvgg", "rgb", rate=4e-4, steps=300_000, stages=_DEEP),
    "rrdb": Recipe("rrdb", "rgb", rate=2e-4, steps=400_000, stages=_DEEP),
}
"""Architecture -> its recipe."""


HOURGLASS_WIDTH = 32
"""Of `fast`: less than FSRCNN's 56, which is faster and leaves multiply-adds for a map more."""


def preset(name: str, scale: int) -> Recipe:
    """The recipe of a preset. Raises FastsrError for an unknown one.

    fast: at most the 12464 multiply-adds for a pixel of luma of the paper's FSRCNN(56, 12, 4); balanced: an hourglass of about 100 thousand
    parameters; best: a plain network of about 600 thousand, which on a CPU should begin with trained weights, of `best` for another scale or of a
    smaller plain network.
    """
    if name == "fast":
        maps = (12464 - HOURGLASS_WIDTH * (25 + 2 * 12 + scale**2)) // (9 * 12**2)
        return replace(RECIPES["hourglass"], options={"width": HOURGLASS_WIDTH, "maps": maps})
    if name == "balanced":
        return replace(RECIPES["hourglass"], options={"width": 48, "narrow": 32, "maps": 10}, rate=3e-3, steps=60_000, contours=0.5)
    if name == "best":
        return replace(RECIPES["plain"], options={"width": 64, "layers": 16}, rate=1e-3, steps=100_000, contours=0.5)
    raise FastsrError(f"no preset '{name}': choose fast, balanced or best")


def against(recipe: Recipe) -> Recipe:
    """The recipe for a network that has been trained by `recipe` and is now trained on against a discriminator."""
    stages = fixed(max(32, recipe.stages[0].patch), 8)
    return replace(recipe, adversarial=5e-3, features=0.1, optimiser="adam", rate=2e-4, exact=1.0, finish=0.0, steps=20_000, stages=stages)


PRESETS = ("fast", "balanced", "best")


def recipe_of(arch: str | None, preset_name: str | None, scale: int) -> Recipe:
    """The recipe of an architecture or preset, of which one is named. Raises FastsrError for unknown names and scales."""
    if not 2 <= scale <= MAX_SCALE:
        raise FastsrError(f"scale {scale}: networks are trained to enlarge by 2 to {MAX_SCALE}")
    if (arch is None) == (preset_name is None):
        raise FastsrError(f"name either an architecture with --arch ({', '.join(RECIPES)}) or a preset with --preset ({', '.join(PRESETS)})")
    if preset_name is not None:
        return preset(preset_name, scale)
    if arch not in RECIPES:
        raise FastsrError(f"no architecture '{arch}': choose one of {', '.join(RECIPES)}")
    return RECIPES[arch]
