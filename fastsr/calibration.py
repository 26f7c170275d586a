"""Pictures for `quantise`: what the network is fed of a folder of photographs, and others that are kept aside to measure on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .errors import FastsrError, ModelError, PictureError
from .evaluation import colour
from .files import HELD_OUT, held_out, read_picture
from .image import to_network
from .imresize import imresize
from .metrics import modcrop, psnr
from .model import Model
from .program import Program

EDGE = 96
LEAST = 48
"""Edges in pixels of the middle of a small picture that is used: at most, and where values would take too much memory."""

MEMORY = 1 << 26
"""Bytes of the largest value of all pictures together, by which the edge is chosen."""


def scale_of(program: Program) -> int:
    """How many times larger the result is than the picture; 1 where that is no whole number from 2 on, and pictures are taken as they are.

    Raises ModelError for a network that does not say how pictures are fed to it.
    """
    if program.feed.colour == "raw" or len(program.inputs) != 1:
        raise ModelError("the network does not say how pictures are fed to it: say so with --feed, such as --feed colour=y")
    by = program.scale() * program.feed.pre_scale
    return int(by) if by >= 2 and Fraction(by).denominator == 1 else 1


def split(files: Sequence[Path], wanted: int, fits: Callable[[Path], bool] = lambda path: True) -> tuple[list[Path], list[Path]]:
    """Files to calibrate on, at most `wanted`, and others that fit to measure on, each spread over all; of few files the same ones for both."""
    kept = held_out(files, fits)
    rest = [f for f in files if f not in kept]
    if len(files) <= HELD_OUT:
        kept = [f for f in files if fits(f)]
    return [rest[k * len(rest) // wanted] for k in range(wanted)] if len(rest) > wanted else rest, kept


def measurable(program: Program) -> Callable[[Path], bool]:
    """Whether a file is a picture that the network can be measured on: one of more than border and more than one colour."""
    scale = scale_of(program)

    def fits(path: Path) -> bool:
        try:
            small, original = pair(path, scale)
            _check_size(program, small)
        except (PictureError, OSError):
            return False
        return min(small.shape[:2]) > 2 and bool(original.min() < original.max())

    return fits


def _check_size(program: Program, small: np.ndarray) -> None:
    """Raise PictureError for a picture that the network cannot be fed."""
    program.value_sizes(*(n * program.feed.pre_scale for n in small.shape[:2]))


def pair(path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """(small picture, original cut to a multiple of the scale). Raises PictureError, OSError."""
    original = modcrop(colour(read_picture(path)), scale)
    if not original.size:
        raise PictureError(f"'{path}' is smaller than {scale} pixels")
    return (original if scale == 1 else imresize(original, 1 / scale)), original


def inputs_of(program: Program, files: Sequence[Path]) -> tuple[list[np.ndarray], list[tuple[Path, str]]]:
    """What the network is fed of the middle of each picture, made small, and (file, reason) of those that cannot be used.

    Arrays (N, C, H, W), of pictures of one size together. Raises FastsrError when no picture is left.
    """
    scale = scale_of(program)
    edge = _edge(program, len(files))
    found: dict[tuple[int, ...], list[np.ndarray]] = {}
    skipped = []
    for path in files:
        try:
            small = _middle(pair(path, scale)[0], edge)
            _check_size(program, small)
        except (PictureError, OSError) as e:
            skipped.append((path, " ".join(str(e).split())))
            continue
        array, _ = to_network(small, program.feed)
        found.setdefault(array.shape, []).append(array)
    if not found:
        why = f": {skipped[0][1]}" if skipped else ""
        raise FastsrError(f"none of {len(files)} pictures can be used{why}")
    return [np.concatenate(group) for group in found.values()], skipped


def _middle(picture: np.ndarray, edge: int) -> np.ndarray:
    """The middle of a picture, sides multiples of 8 where it is not smaller than that."""
    h, w = (min(n // 8 * 8 or n, edge) for n in picture.shape[:2])
    y, x = (picture.shape[0] - h) // 2, (picture.shape[1] - w) // 2
    return np.ascontiguousarray(picture[y : y + h, x : x + w])


def _edge(program: Program, count: int) -> int:
    edge = EDGE * program.feed.pre_scale
    sizes = program.value_sizes(edge, edge)
    floats = max(v.channels * h * w for v, (h, w) in zip(program.values, sizes, strict=True)) / EDGE**2
    return int(np.clip((MEMORY / 4 / floats / max(count, 1)) ** 0.5, LEAST, EDGE)) // 8 * 8


@dataclass(frozen=True)
class Loss:
    """dB on one picture, the border shaved as papers do: of the float network and of the quantised one against the original, None where the network
    does not enlarge, and of the two results against each other."""

    picture: str
    before: float | None
    after: float | None
    between: float


class Losses:
    """What quantised networks lose on some pictures, those that can be read and are more than border. What the float network makes is computed once
    and kept, with the pictures: about 7 bytes for each pixel of a colour picture."""

    def __init__(self, before: Program, files: Sequence[Path], threads: int | None = None) -> None:
        self.scale, self.threads = scale_of(before), threads
        model = Model(before, precision="f32", threads=threads)
        self._pictures: list[_Picture] = []
        for path in files:
            try:
                small, original = pair(path, self.scale)
                result = model.upscale(small)
                fits = self.scale > 1 and result.shape == original.shape
                score = psnr(result, original if fits else result, shave=self.scale)  # PictureError where the border is all
            except (PictureError, OSError):
                continue
            self._pictures.append(_Picture(path.name, small, original if fits else None, result, score if fits else None))

    def of(self, after: Program) -> list[Loss]:
        """Those of a network, picture by picture. Raises PictureError when it makes pictures of another size than the float network."""
        model = Model(after, threads=self.threads)
        found = []
        for p in self._pictures:
            result = model.upscale(p.small)
            score = psnr(result, p.original, shave=self.scale) if p.original is not None else None
            found.append(Loss(p.name, p.before, score, psnr(result, p.result, shave=self.scale)))
        return found


@dataclass(frozen=True)
class _Picture:
    """original: None where the float network's result, `result`, has another size. before: its PSNR."""

    name: str
    small: np.ndarray
    original: np.ndarray | None
    result: np.ndarray
    before: float | None


def mean_loss(losses: Sequence[Loss]) -> float | None:
    """dB that the quantised network loses against the originals, the mean over the pictures; None where that is unknown."""
    known = [one.before - one.after for one in losses if one.before is not None and one.after is not None]
    return float(np.mean(known)) if known else None
