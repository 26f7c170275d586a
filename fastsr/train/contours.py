"""Photographs with drawn contours: long, clean, high edges, of which most photographs hold few, and pictures that people enlarge hold many (wings,
leaves, lettering). Networks that have seen them draw such edges better.

The level lines of a blurred copy of the photograph part it into regions, each of which gets a brightness of its own, and the photograph's detail
stays on top: shapes as they are in nature, no drawing's. Related: pictures of dead leaves as training data (Achddou et al., "Synthetic images as a
regularity prior for image restoration neural networks", SSVM 2021).
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from .pictures import Maker, Planes, luma

VERSION = 1
"""Of what `contoured` draws: pictures that are kept are drawn anew when it grows."""

FINER = 2
"""Times the photograph's resolution at which contours are drawn."""

LEVELS = (3, 10)
"""How many level lines."""

BLUR = (0.7, 3.0)
"""Deviation in pixels of the Gaussian before levels are taken: larger ones make smoother contours."""

EDGE = (0.3, 0.5)
"""Deviation in pixels of the Gaussian that makes edges as soft as a lens does."""

DETAIL, SHADE = (0.7, 1.0), (0.2, 0.6)
"""How much of what the blur takes away, and of what it leaves, is added to the regions."""

TINT = 15.0
"""Deviation of a region's red, green and blue from its grey, in levels."""

LARGEST = 1024
"""Edge in pixels to which a photograph is cut, for the drawing takes some hundred bytes a pixel."""


def contoured(rgb: np.ndarray, rng: np.random.Generator, largest: int = LARGEST) -> np.ndarray:
    """A picture (H, W, 3) uint8 with contours, of a photograph of the same shape or, where that is larger, of a part of at most largest x largest
    pixels. The same generator state gives the same picture, with any number of threads."""
    top, left = (int(rng.integers(0, n - largest + 1)) if n > largest else 0 for n in rgb.shape[:2])
    rgb = rgb[top : top + largest, left : left + largest]
    sigma = rng.uniform(*BLUR)
    grey = torch.from_numpy(luma(rgb).astype(np.float32))[None, None]
    fine = F.interpolate(grey, scale_factor=FINER, mode="bicubic", align_corners=False)
    field = blurred(fine, sigma * FINER)[0, 0].numpy()
    count = int(rng.integers(LEVELS[0], LEVELS[1] + 1))
    levels = np.sort(np.quantile(field[::4, ::4], rng.uniform(0.02, 0.98, count)))
    shades = _shades(rng, count + 1)
    regions = torch.from_numpy(shades[np.searchsorted(levels, field)].transpose(2, 0, 1))[:, None]
    drawn = F.avg_pool2d(blurred(regions, rng.uniform(*EDGE) * FINER), FINER)[:, 0]
    photograph = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)
    soft = blurred(photograph[:, None], sigma)[:, 0]
    mean = float(soft.numpy().mean(dtype=np.float64))  # PyTorch's depends on the number of threads
    made = drawn + rng.uniform(*DETAIL) * (photograph - soft) + rng.uniform(*SHADE) * (soft - mean)
    return made.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _shades(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours (count, 3), float32: of any brightness, or dark and bright in turn."""
    if rng.random() < 0.5:
        grey = np.where(np.arange(count) % 2, rng.uniform(0, 100, count), rng.uniform(130, 255, count))
    else:
        grey = rng.uniform(0, 255, count)
    return (grey[:, None] + rng.normal(0, TINT, (count, 3))).astype(np.float32)


def blurred(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Planes (N, 1, H, W) float32 under a Gaussian of that deviation in pixels; at the borders pixels are repeated."""
    reach = max(1, math.ceil(3 * sigma))
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (place / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None])
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])


def also_contoured(make: Maker, share: float, seed: int, least: int = 1) -> Maker:
    """Makes what `make` makes, and of a share (0..1) of the pictures, by the seed and their names, the same of the picture with contours. least: edge
    in pixels to which no picture is cut."""

    def both(rgb: np.ndarray, name: str) -> list[Planes]:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 0, 1 << 16])  # no stream of `degrade`
        found = make(rgb, name)
        if rng.random() < share:
            found = found + make(contoured(rgb, rng, max(LARGEST, least)), f"{name} contours")
        return found

    return both
