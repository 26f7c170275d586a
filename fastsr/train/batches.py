"""Patches for training. What step k is given depends on the seed and k alone, so a training that goes on is the one that was interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import FastsrError
from .pictures import Pair, luma

AHEAD = 3
"""Batches that are made before they are needed."""


@dataclass(frozen=True)
class Batch:
    """small: uint8 (N, C, patch, patch), large: (N, C, scale * patch, scale * patch)."""

    small: np.ndarray
    large: np.ndarray


Degrade = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""Makes the small picture (C, h, w) of a large one (C, h * scale, w * scale), both uint8, from the scale and a generator of random numbers."""


class Patches:
    """Square patches of the pictures, drawn evenly over all pixels, in one of the 8 orientations that a square has.

    degrade: how small patches are made; without it they are cut from the stored small pictures. to_y: the pictures are RGB, batches are to be Y.
    """

    def __init__(self, pairs: Sequence[Pair], scale: int, seed: int, degrade: Degrade | None = None, to_y: bool = False) -> None:
        self.pairs, self.scale, self.seed, self.degrade, self.to_y = list(pairs), scale, seed, degrade, to_y
        self.heights = np.array([p.small.shape[1] for p in self.pairs])
        self.widths = np.array([p.small.shape[2] for p in self.pairs])

    def batch(self, step: int, count: int, patch: int) -> Batch:
        """`count` patches of edge `patch`. Raises FastsrError when every picture is smaller than that."""
        places = np.maximum(self.heights - patch + 1, 0) * np.maximum(self.widths - patch + 1, 0)
        total = places.cumsum()
        if not total[-1]:
            raise FastsrError(f"all pictures are smaller than a patch of {patch * self.scale} pixels")
        rng = np.random.default_rng([self.seed, step])
        draws = rng.integers(0, total[-1], count)
        turns = rng.integers(0, 8, count)
        c, s = self.pairs[0].small.shape[0], self.scale
        small = np.empty((count, c, patch, patch), np.uint8)
        large = np.empty((count, c, patch * s, patch * s), np.uint8)
        for k, (draw, turn) in enumerate(zip(draws, turns, strict=True)):
            i = int(np.searchsorted(total, draw, side="right"))
            y, x = divmod(int(draw - (total[i - 1] if i else 0)), int(self.widths[i]) - patch + 1)
            whole = self.pairs[i]
            large[k] = turned(whole.large[:, y * s : (y + patch) * s, x * s : (x + patch) * s], int(turn))
            if self.degrade is None:
                small[k] = turned(whole.small[:, y : y + patch, x : x + patch], int(turn))
            else:
                small[k] = self.degrade(large[k], s, np.random.default_rng([self.seed, step, k]))
        return Batch(y_of(small), y_of(large)) if self.to_y else Batch(small, large)

    def batches(self, first: int, last: int, shape: Callable[[int], tuple[int, int]]) -> Iterator[Batch]:
        """The batches of steps first..last - 1, made ahead by a thread. shape(step): count and patch."""
        ahead: list[Future[Batch]] = []
        with ThreadPoolExecutor(1 if self.degrade is None else 2) as pool:
            stop = threading.Event()

            def make(step: int) -> Batch:
                if stop.is_set():
                    raise RuntimeError("stopped")
                return self.batch(step, *shape(step))

            try:
                for step in range(first, last):
                    while len(ahead) < AHEAD and step + len(ahead) < last:
                        ahead.append(pool.submit(make, step + len(ahead)))
                    yield ahead.pop(0).result()
            finally:
                stop.set()
                for f in ahead:
                    f.cancel()


def y_of(rgb: np.ndarray) -> np.ndarray:
    """Y (N, 1, H, W) of pictures (N, 3, H, W), uint8."""
    return np.stack([luma(p.transpose(1, 2, 0)) for p in rgb])[:, None]


def turned(a: np.ndarray, turn: int) -> np.ndarray:
    """The picture (C, H, W) in orientation 0..7: bit 0 flips left and right, bit 1 up and down, bit 2 swaps the axes."""
    if turn & 1:
        a = a[:, :, ::-1]
    if turn & 2:
        a = a[:, ::-1]
    return a.transpose(0, 2, 1) if turn & 4 else a
