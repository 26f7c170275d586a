"""PSNR of a network under training on whole pictures, on Y with the border shaved, as papers measure it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..imresize import imresize, taps
from ..metrics import psnr
from .networks import Network
from .pictures import Pair, white

STUDIO = 20 * math.log10(255 / 219)
"""dB by which PSNR rises when Y is squeezed from 0..255 to MATLAB's 16..235."""


@lru_cache(maxsize=32)
def _matrix(n: int, scale: int) -> Any:
    index, weight = taps(n, n * scale, float(scale))
    dense = np.zeros((n * scale, n), np.float32)
    np.add.at(dense, (np.arange(n * scale)[:, None], index), weight)
    return torch.from_numpy(dense)


def enlarged(x: torch.Tensor, scale: int) -> torch.Tensor:
    """The pictures (N, C, H, W) enlarged by the bicubic filter that comes before networks which do not enlarge."""
    rows, columns = (_matrix(n, scale).to(x.device) for n in x.shape[2:])
    return rows @ x @ columns.T


def given(small: torch.Tensor, network: Network) -> torch.Tensor:
    """What the network takes of small pictures (N, C, H, W), as in a `Pair`: floats 0..1."""
    x = small.float() * (1 / white(small))
    return enlarged(x, network.scale) if network.enlarged else x


def result(network: Network, small: np.ndarray, device: Any = "cpu") -> np.ndarray:
    """The picture (C, H * scale, W * scale) that the network makes of the small one of a `Pair`: RGB uint8, Y float32 in 0..1."""
    with torch.no_grad():
        y = network(given(torch.from_numpy(np.array(small))[None].to(device), network))
    y = y[0].float().clamp(0, 1).cpu()
    return y.numpy() if network.colour == "y" else (y * 255).round().to(torch.uint8).numpy()


def _picture(planes: np.ndarray) -> np.ndarray:
    """(H, W) Y or (H, W, 3) BGR of planes (C, H, W), RGB."""
    return planes[0] if len(planes) == 1 else planes[::-1].transpose(1, 2, 0)


def score(planes: np.ndarray, pair: Pair, scale: int) -> float:
    """PSNR in dB of planes (C, H, W), uint8 or float32 in 0..1, against the picture's."""
    large = pair.large if planes.dtype == np.uint8 else pair.large * np.float32(1 / 255)
    value = psnr(_picture(planes), _picture(large), shave=scale)
    return value + STUDIO if len(planes) == 1 else value


def mean_score(network: Network, pairs: Sequence[Pair], device: Any = "cpu") -> float:
    """Mean PSNR in dB of the network over the pictures."""
    was = network.training
    network.eval()
    try:
        return float(np.mean([score(result(network, p.small, device), p, network.scale) for p in pairs]))
    finally:
        network.train(was)


def bicubic_score(pairs: Sequence[Pair], scale: int) -> float:
    """Mean PSNR in dB of the bicubic filter over the pictures."""
    found = []
    for p in pairs:
        small = p.small if p.small.dtype == np.uint8 else p.small * np.float32(1 / white(p.small))
        large = np.atleast_3d(imresize(np.ascontiguousarray(small.transpose(1, 2, 0)), float(scale))).transpose(2, 0, 1)
        found.append(score(large if large.dtype == np.uint8 else np.clip(large, 0, 1, dtype=np.float32), p, scale))
    return float(np.mean(found))
