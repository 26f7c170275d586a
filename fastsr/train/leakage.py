"""Keeps test pictures out of training: whether a picture holds, or is a part of, one that must not be trained on, mirrored left and right too,
reduced or enlarged, from a quarter of the size at which one fits into the other.

A window of a picture is described by the means of its cells. Windows of all sizes and places are compared coarsely with the excluded pictures as
wholes, and the other way around; the likeliest are moved and stretched until they fit best, and compared in fine cells of which the surroundings'
mean is taken away: these hardly correlate unless the content is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import FastsrError, PictureError
from .pictures import list_pictures, luma, read_rgb

COARSE, FINE = 8, 24
"""Cells along an edge."""

LIKELY = 0.82
SAME = 0.8
"""Correlations from which on windows are looked at closely, and are the same."""

HOPELESS = 0.3
"""Correlation below which, after the first moves, a window is given up."""

CANDIDATES = 10
EDGE = 320
"""Pixels that a picture's longer edge is reduced to."""

STEP = 0.84
SMALLEST = 0.25
"""Ratio of window sizes, and the smallest as a share of the largest that fits."""

NARROWEST = 4
"""Pixels of the reduced picture that a window needs: very long pictures have none in others."""

ALIKE = 1.03
"""Aspect ratios that differ by no more are one."""


class Sums:
    """The integral of a grey picture, and its windows' cells. Windows are rows of top, left, height, width in pixels of the reduced picture."""

    def __init__(self, rgb: np.ndarray) -> None:
        grey = luma(rgb).astype(np.float64)
        by = max(1, min(max(grey.shape) // EDGE, min(grey.shape)))
        h, w = (n // by for n in grey.shape)
        grey = grey[: h * by, : w * by].reshape(h, by, w, by).mean((1, 3))
        self.size = h, w
        self.integral = np.zeros((h + 1, w + 1))
        self.integral[1:, 1:] = grey.cumsum(0).cumsum(1)

    def cells(self, windows: np.ndarray, n: int) -> np.ndarray:
        """(windows, n, n) means."""
        steps = np.arange(n + 1) / n
        ys = np.clip(windows[:, 0:1] + windows[:, 2:3] * steps, 0, self.size[0])
        xs = np.clip(windows[:, 1:2] + windows[:, 3:4] * steps, 0, self.size[1])
        y0, x0 = (np.minimum(a.astype(np.int64), top - 1) for a, top in ((ys, self.size[0]), (xs, self.size[1])))
        fy, fx = (ys - y0)[:, :, None], (xs - x0)[:, None, :]
        y0, x0 = y0[:, :, None], x0[:, None, :]
        i = self.integral
        top = i[y0, x0] * (1 - fx) + i[y0, x0 + 1] * fx
        bottom = i[y0 + 1, x0] * (1 - fx) + i[y0 + 1, x0 + 1] * fx
        at = top * (1 - fy) + bottom * fy
        total = at[:, 1:, 1:] - at[:, :-1, 1:] - at[:, 1:, :-1] + at[:, :-1, :-1]
        return total * (n * n) / (windows[:, 2] * windows[:, 3])[:, None, None]

    def whole(self) -> np.ndarray:
        """The one window that is all of it."""
        return np.array([[0.0, 0.0, *self.size]])

    def windows(self, aspect: float) -> np.ndarray:
        """Windows of width / height `aspect`, an eighth of their size apart."""
        h, w = self.size
        largest = min(h, w / aspect)
        found = []
        share = 1.0
        while share >= SMALLEST:
            wh, ww = largest * share, largest * share * aspect
            if min(wh, ww) < NARROWEST:
                break
            tops, lefts = (np.linspace(0, room, int(np.ceil(room / (size / COARSE) - 1e-9)) + 1) for room, size in ((h - wh, wh), (w - ww, ww)))
            grid = np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2)
            found.append(np.concatenate([grid, np.tile([wh, ww], (len(grid), 1))], axis=1))
            share *= STEP
        return np.concatenate(found) if found else np.zeros((0, 4))

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.size[1] / self.size[0]


def _unit(cells: np.ndarray) -> np.ndarray:
    """Descriptions (n, cells) of length 1 and mean 0; 0 where all cells are equal."""
    flat = cells.reshape(len(cells), cells.shape[1] * cells.shape[2])
    flat = flat - flat.mean(1, keepdims=True)
    length = np.sqrt((flat * flat).sum(1, keepdims=True))
    return (flat / np.where(length < 1e-6 * flat.shape[1], np.inf, length)).astype(np.float32)


def _detail(cells: np.ndarray) -> np.ndarray:
    """`_unit` of cells less the mean of the 5x5 around."""
    p = np.pad(cells, ((0, 0), (3, 2), (3, 2)), mode="edge").cumsum(1).cumsum(2)
    around = (p[:, 5:, 5:] - p[:, :-5, 5:] - p[:, 5:, :-5] + p[:, :-5, :-5]) / 25
    return _unit(cells - around)


def _likeness(a: Sums, windows: np.ndarray, whole: np.ndarray) -> float:
    """Highest correlation of windows near one of these with a whole picture's detail."""
    best, window = -1.0, windows
    reach = 1 / COARSE / 2
    for _ in range(4):
        moves = np.stack(np.meshgrid(*[(-1, 0, 1)] * 4, indexing="ij"), -1).reshape(-1, 4) * reach
        size = window[0, 2:]
        tried = np.concatenate([window[:, :2] + moves[:, :2] * size - moves[:, 2:] * size / 4, size * (1 + moves[:, 2:] / 2)], axis=1)
        likeness = _detail(a.cells(tried, FINE)) @ whole
        k = int(np.argmax(likeness))
        if likeness[k] > best:
            best, window = float(likeness[k]), tried[k : k + 1]
        if best < HOPELESS:
            break
        reach /= 2
    return best


class Guard:
    """Tells whether a training picture is one of those in the folders or of these files.

    Raises FastsrError when a folder holds no pictures or they cannot be read.
    """

    def __init__(self, folders: Sequence[Path], files: Sequence[Path] = ()) -> None:
        self.names: list[str] = []
        self.sums: list[Sums] = []
        mark = hashlib.sha256()
        for path in [*(p for folder in folders for p in list_pictures(folder)), *files]:
            try:
                rgb = read_rgb(path)
            except PictureError as e:
                raise FastsrError(f"a picture to be excluded cannot be read: {e}") from None
            mark.update(rgb.tobytes())
            self.names.append(f"{path.parent.name}/{path.name}")
            self.sums.append(Sums(rgb))
        self.mark = mark.hexdigest() if self.sums else ""
        flips = [(s.cells(s.whole(), COARSE), s.cells(s.whole(), FINE)) for s in self.sums]
        self.coarse = np.concatenate([_unit(c) for c, _ in flips] + [_unit(c[:, :, ::-1]) for c, _ in flips]) if flips else np.zeros((0, COARSE**2))
        self.detail = np.concatenate([_detail(f) for _, f in flips] + [_detail(f[:, :, ::-1]) for _, f in flips]) if flips else np.zeros((0, FINE**2))
        self._parts: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def why_not(self, path: Path, rgb: np.ndarray) -> str:
        """"" or why a picture (H, W, 3) RGB must not be trained on."""
        if not self.sums:
            return ""
        mine = Sums(rgb)
        likeness, k = max(self._inside(mine), self._around(mine))
        return f"looks like the excluded '{self.names[k]}' ({likeness:.2f})" if likeness >= SAME else ""

    def likeness(self, rgb: np.ndarray) -> float:
        """How much the picture (H, W, 3) RGB is like the nearest excluded one, -1..1."""
        mine = Sums(rgb)
        return max(self._inside(mine), self._around(mine))[0]

    def _inside(self, mine: Sums) -> tuple[float, int]:
        """An excluded picture in mine."""
        n = len(self.sums)
        found: list[tuple[float, np.ndarray, int]] = []
        logs = np.log([s.aspect for s in self.sums])
        for aspect in sorted({round(float(a) / np.log(ALIKE)) for a in logs}):
            members = [k for k in range(n) if round(float(logs[k]) / np.log(ALIKE)) == aspect]
            both = np.array(members + [k + n for k in members])
            windows = mine.windows(ALIKE**aspect)
            likeness = _unit(mine.cells(windows, COARSE)) @ self.coarse[both].T
            found += [(float(likeness[w, e]), windows[w : w + 1], int(both[e])) for w, e in _likeliest(likeness)]
        found.sort(key=lambda f: -f[0])
        return max(((_likeness(mine, window, self.detail[e]), e % n) for _, window, e in found[:CANDIDATES]), default=(-1.0, 0))

    def _around(self, mine: Sums) -> tuple[float, int]:
        """Mine in an excluded picture."""
        aspect = round(float(np.log(mine.aspect)) / np.log(ALIKE))
        if aspect not in self._parts:
            each = [s.windows(ALIKE**aspect) for s in self.sums]
            owners = np.concatenate([np.full(len(w), k) for k, w in enumerate(each)])
            units = np.concatenate([_unit(s.cells(w, COARSE)) for s, w in zip(self.sums, each, strict=True)])
            self._parts[aspect] = np.concatenate(each), owners, units
        windows, owners, units = self._parts[aspect]
        best = -1.0, 0
        for flip in (False, True):
            coarse, fine = (mine.cells(mine.whole(), n)[:, :, :: -1 if flip else 1] for n in (COARSE, FINE))
            for w, _ in _likeliest(units @ _unit(coarse).T):
                k = int(owners[w])
                best = max(best, (_likeness(self.sums[k], windows[w : w + 1], _detail(fine)[0]), k))
        return best


def _likeliest(likeness: np.ndarray) -> list[tuple[int, int]]:
    """(row, column) of the highest numbers above LIKELY."""
    flat = likeness.ravel()
    if not len(flat):
        return []
    count = min(CANDIDATES, len(flat))
    top = np.argpartition(flat, len(flat) - count)[-count:]
    return [(int(t) // likeness.shape[1], int(t) % likeness.shape[1]) for t in top if flat[t] > LIKELY]
