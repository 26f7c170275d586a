"""Patches for training. What step k is given depends on the seed and k alone, so a training that goes on is the one that was interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import FastsrError
from .pictures import Pair

AHEAD = 3
"""Batches that are made before they are needed."""


@dataclass(frozen=True)
class Batch:
    """small: (N, C, patch, patch), large: (N, C, scale * patch, scale * patch), of the types that they have in a `Pair`."""

    small: np.ndarray
    large: np.ndarray


class Patches:
    """Square patches of the pictures in one of the 8 orientations that a square has: of each `choice` patches, drawn evenly over all pixels, the one
    with most detail. Skies and walls teach a network little, and most of a photograph is that."""

    def __init__(self, pairs: Sequence[Pair], scale: int, seed: int, choice: int = 1) -> None:
        self.pairs, self.scale, self.seed, self.choice = list(pairs), scale, seed, choice
        self.heights = np.array([p.small.shape[1] for p in self.pairs])
        self.widths = np.array([p.small.shape[2] for p in self.pairs])

    def batch(self, step: int, count: int, patch: int) -> Batch:
        """`count` patches of edge `patch`. Raises FastsrError when every picture is smaller than that."""
        places = np.maximum(self.heights - patch + 1, 0) * np.maximum(self.widths - patch + 1, 0)
        total = places.cumsum()
        if not total[-1]:
            raise FastsrError(f"all pictures are smaller than a patch of {patch * self.scale} pixels")
        rng = np.random.default_rng([self.seed, step])
        draws = rng.integers(0, total[-1], (count, self.choice))
        turns = rng.integers(0, 8, count)
        c, s = self.pairs[0].small.shape[0], self.scale
        small = np.empty((count, c, patch, patch), self.pairs[0].small.dtype)
        large = np.empty((count, c, patch * s, patch * s), np.uint8)
        found = [self._place(int(d), total, patch) for d in draws.flat]
        parts = [self.pairs[i].large[:, y * s : (y + patch) * s, x * s : (x + patch) * s] for i, y, x in found]
        best = np.arange(count) * self.choice
        if self.choice > 1:
            best += detail(np.stack([p[c // 2] for p in parts]), s).reshape(count, self.choice).argmax(1)
        for k, (which, turn) in enumerate(zip(best, turns, strict=True)):
            i, y, x = found[which]
            large[k] = turned(parts[which], int(turn))
            small[k] = turned(self.pairs[i].small[:, y : y + patch, x : x + patch], int(turn))
        return Batch(small, large)

    def _place(self, draw: int, total: np.ndarray, patch: int) -> tuple[int, int, int]:
        """Picture, y and x of one of the places of a patch in all pictures; total: the number of places in this picture and those before it."""
        i = int(np.searchsorted(total, draw, side="right"))
        return i, *divmod(draw - (int(total[i - 1]) if i else 0), int(self.widths[i]) - patch + 1)

    def batches(self, first: int, last: int, shape: Callable[[int], tuple[int, int]]) -> Iterator[Batch]:
        """The batches of steps first..last - 1, made ahead by a thread. shape(step): count and patch."""
        ahead: list[Future[Batch]] = []
        with ThreadPoolExecutor(1) as pool:
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


def detail(large: np.ndarray, scale: int) -> np.ndarray:
    """How much goes on in each of the planes (N, H, W), uint8, at the size of the small picture: the sum of its Laplacian's magnitude, (N,)."""
    x = sum((large[:, i::scale, j::scale].astype(np.int32) for i in range(scale) for j in range(scale)), np.zeros((), np.int32))
    return np.abs(4 * x[:, 1:-1, 1:-1] - x[:, :-2, 1:-1] - x[:, 2:, 1:-1] - x[:, 1:-1, :-2] - x[:, 1:-1, 2:]).sum((1, 2))


def turned(a: np.ndarray, turn: int) -> np.ndarray:
    """The picture (C, H, W) in orientation 0..7: bit 0 flips left and right, bit 1 up and down, bit 2 swaps the axes."""
    if turn & 1:
        a = a[:, :, ::-1]
    if turn & 2:
        a = a[:, ::-1]
    return a.transpose(0, 2, 1) if turn & 4 else a
