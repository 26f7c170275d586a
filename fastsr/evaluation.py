"""Models measured on data sets: which pictures there are, what small ones are made of them, what each model makes of these, and how near it comes.

Three protocols are in use; all shave a border as wide as the scale and take the mean over the pictures (`metrics.py` has the luma and the rest):

| name | small picture | result | luma | whose |
|---|---|---|---|---|
| picture | colours made small by `imresize`, 8 bits | colours, 8 bits | of both, in floats | EDSR, BasicSR and most since |
| matlab | the same | the same | of both, rounded as `rgb2ycbcr` does | RCAN's and others' MATLAB scripts |
| luma | the original's rounded luma made small by `imresize`, floats | luma, rounded | as it is | SRCNN, VDSR, FSRCNN, ESPCN, LapSRN |

The famous figures of bicubic (Set5 33.66, 30.39, 28.42 dB) are those of `luma`. Small pictures that lie beside the originals are taken in place of
made ones, except in `luma`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from . import knobs, metrics
from .errors import FastsrError, PictureError
from .files import expand_inputs, read_picture
from .imresize import imresize
from .model import Model, Progress
from .program import Program, Step
from .prune import picks_channels

PROTOCOLS = ("picture", "matlab", "luma")

_ORIGINALS = ("HR", "GTmod12", "GTmod4", "GT", "original", "hr")
_SMALL = ("LR_bicubic/X{}", "LR_bicubic/x{}", "LRbicx{}", "LR/X{}", "LR/x{}", "LR_x{}", "LR_X{}", "X{}", "x{}", "LR", "lr")
_NAMES = ("{name}", "{name}x{scale}", "{name}_x{scale}", "{name}_LR", "{name}_LRBI_x{scale}")


# ---- data sets ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A picture of a data set: its name, the original's file, and that of the small picture where there is one."""

    name: str
    original: Path
    small: Path | None = None


def find_data_set(name: str, root: str | Path | None = None) -> Path:
    """The folder of a data set: `name` itself where that is one, else in `root`, else in the folder that FASTSR_DATA names.

    Raises FastsrError when there is no such folder.
    """
    if Path(name).is_dir():
        return Path(name)
    base = root or knobs.DATA.read()
    if base is None:
        raise FastsrError(f"no folder '{name}': give the folder of the data set, or the one that holds data sets with --root or FASTSR_DATA")
    if (Path(base) / name).is_dir():
        return Path(base) / name
    there = sorted(p.name for p in Path(base).iterdir() if p.is_dir()) if Path(base).is_dir() else []
    raise FastsrError(f"no data set '{name}' in '{base}'" + (f": there are {', '.join(there)}" if there else ": it is no folder with data sets"))


def items_of(folder: Path, scale: int) -> list[Item]:
    """The pictures of a data set, in natural order.

    A folder of pictures; or a folder with the folders HR (or GTmod12, ...) and, where the small pictures of this scale are there too, LR_bicubic/X2,
    LRbicx2, LR/x2, LR_x2 or LR; a small picture has the name of its original, or that name and x2.
    Raises PictureError when there are no pictures, or small pictures for some of the originals only.
    """
    base = next((folder / n for n in _ORIGINALS if (folder / n).is_dir()), folder)
    originals = expand_inputs(base)
    small, there = None, {}
    for name in _SMALL if base != folder else ():
        try:
            there = {p.stem: p for p in expand_inputs(folder / name.format(scale))}
        except (PictureError, OSError):
            continue
        small = folder / name.format(scale)
        break
    items = []
    for path in originals:
        names = [n.format(name=path.stem, scale=scale) for n in _NAMES]
        items.append(Item(path.stem, path, next((there[n] for n in names if n in there), None)))
    without = [i.name for i in items if small and i.small is None]
    if without and len(without) < len(items):
        raise PictureError(f"'{small}' lacks the small picture of {without[0]} and {len(without) - 1} more: add them or take the folder away")
    if without:
        raise PictureError(f"no file in '{small}' has the name of a picture in '{base}': name them alike, such as {names[0]}.png or {names[1]}.png")
    return items


def colour(picture: np.ndarray) -> np.ndarray:
    """The picture without its alpha."""
    return np.ascontiguousarray(picture[:, :, :3]) if picture.ndim == 3 and picture.shape[2] == 4 else picture


def prepare(item: Item, scale: int, protocol: str = "picture") -> tuple[np.ndarray, np.ndarray]:
    """(small picture, original cut to a multiple of the scale), as the model and the metrics take them.

    In the protocol "luma" a float32 grey picture in 0..1 and a uint8 grey one. Raises PictureError, OSError.
    """
    original = colour(read_picture(item.original))
    if protocol == "luma":
        luma = metrics.luma(metrics.modcrop(original, scale), rounded=True)
        return (imresize(luma, 1 / scale) / 255).astype(np.float32), luma.astype(np.uint8)
    if item.small is None:
        original = metrics.modcrop(original, scale)
        return imresize(original, 1 / scale), original
    small = colour(read_picture(item.small))
    height, width = (n * scale for n in small.shape[:2])
    if not (0 <= original.shape[0] - height < scale and 0 <= original.shape[1] - width < scale):
        sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (small, original)]
        raise PictureError(f"'{item.small}' has {sizes[0]} pixels and its original {sizes[1]}, which is not {scale} times as much")
    if small.ndim != original.ndim or small.dtype != original.dtype:
        what = f"{small.dtype} {small.shape} and its original {original.dtype} {original.shape}"
        raise PictureError(f"'{item.small}' is {what}: both must be grey or both in colours, of one depth")
    return small, original[:height, :width]


# ---- models ------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """What is measured: `enlarge(small picture, progress)` and facts. parameters and multiply_adds (of one pixel of the result) are None where
    nothing was trained; timed is False where the time would say nothing."""

    name: str
    scale: int
    enlarge: Callable[[np.ndarray, Progress | None], np.ndarray]
    parameters: int | None = None
    multiply_adds: float | None = None
    timed: bool = True
    how: str = ""


def contender(name: str, model: Model, filter: bool = False, views: int = 1) -> Contender:
    """A model as a contender. views: as in `Model.upscale`. Raises FastsrError when it does not enlarge by a whole number above 1."""
    if model.scale < 2 or Fraction(model.scale).denominator != 1:
        raise FastsrError(f"'{name}' enlarges by {model.scale}: only whole numbers from 2 on can be measured")
    parameters, multiply_adds = (None, None) if filter else (parameters_of(model.program), views * multiply_adds_of(model.program))

    def enlarge(small: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        return model.upscale(small, views=views, progress=progress)

    return Contender(name, int(model.scale), enlarge, parameters, multiply_adds, how=model.describe() + (f", {views} views" if views > 1 else ""))


def bicubic(scale: int) -> Contender:
    """The bicubic filter of the literature, `imresize`; not a program of the engine, so it is not timed."""

    def enlarge(small: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        return imresize(small, scale)

    return Contender("bicubic", scale, enlarge, timed=False, how="imresize, a = -0.5, NumPy")


def parameters_of(program: Program) -> int:
    """How many numbers were trained: weights, biases, and tensors in epilogues; not those of convolutions that only pick channels."""
    tensors = [a for s in program.steps if not _picks_channels(s) for a in (s.weight, s.bias, *(e.tensor for e in s.epilogue)) if a is not None]
    return sum(a.size for a in tensors)


def multiply_adds_of(program: Program) -> float:
    """Multiply-adds of the convolutions for each pixel of the result, in the limit of large pictures; none for those that only pick channels."""
    sizes = program.value_sizes(720, 1280)
    total = 0
    for step in program.steps:
        if step.weight is not None and not _picks_channels(step):
            h, w = sizes[step.output]
            total += step.weight.size * h * w // step.block**2
    result = sizes[program.outputs[0][1]]
    return total / (result[0] * result[1])


def _picks_channels(step: Step) -> bool:
    return step.weight is not None and picks_channels(step.weight, step.bias)


# ---- measuring ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One model on one picture: size of the original (height, width), seconds, and the metrics; or why there is none."""

    picture: str
    size: tuple[int, int] = (0, 0)
    seconds: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def timed(model: Contender, small: np.ndarray, runs: int = 1, progress: Progress | None = None) -> tuple[np.ndarray, float | None]:
    """What the model makes of a small picture, and the seconds of the fastest of `runs` runs; None where they say nothing."""
    seconds = []
    for _ in range(runs if model.timed else 1):
        start = time.perf_counter()
        result = model.enlarge(small, progress)
        seconds.append(time.perf_counter() - start)
    return result, min(seconds) if model.timed else None


def compared(
    result: np.ndarray, original: np.ndarray, scale: int, which: Sequence[str] = ("psnr", "ssim"), protocol: str = "picture"
) -> dict[str, float]:
    """These metrics of a result of `timed`. Raises PictureError when result, original and metrics do not go together."""
    result = as_original(result, original)
    values = {}
    for metric in which:
        options: dict[str, Any] = {} if metric == "lpips" else {"rounded": protocol == "matlab"}
        values[metric] = metrics.METRICS[metric](result, original, shave=scale, **options)
    return values


def as_original(result: np.ndarray, original: np.ndarray) -> np.ndarray:
    """A float32 luma as whole levels like the original's. Raises PictureError when the result has another size than the original."""
    if result.shape[:2] != original.shape[:2]:
        sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (result, original)]
        raise PictureError(f"the model makes {sizes[0]} pixels where the original has {sizes[1]}: they cannot be compared")
    if result.dtype == np.float32 and original.dtype == np.uint8:
        return np.floor(np.clip(result, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return result


def evaluate(
    models: Sequence[Contender],
    items: Iterable[Item],
    *,
    protocol: str = "picture",
    which: Sequence[str] = ("psnr", "ssim"),
    runs: int = 1,
    starting: Callable[[Contender, Item], Progress | None] = lambda model, item: None,
) -> Iterator[tuple[Contender, Score]]:
    """Each model, all of one scale, on each picture. Each is run once, untimed, before its first picture counts.

    A picture that does not fit, cannot be read, or that the model cannot take gives a Score with `error`; everything else is raised.
    starting: called before each, gives the `progress` callback of `Model.upscale`.
    """
    warm: set[int] = set()
    for item in items:
        try:
            small, original = prepare(item, models[0].scale, protocol)
        except (PictureError, OSError) as e:
            for model in models:
                yield model, Score(item.name, error=reason(e))
            continue
        for k, model in enumerate(models):
            progress = starting(model, item)
            try:
                if model.timed and k not in warm:
                    model.enlarge(small, progress)
                    warm.add(k)
                result, seconds = timed(model, small, runs, progress)
                values = compared(result, original, model.scale, which, protocol)
                score = Score(item.name, (original.shape[0], original.shape[1]), seconds, values)
            except PictureError as e:
                score = Score(item.name, error=reason(e))
            yield model, score


def reason(e: Exception) -> str:
    """An error as one line."""
    text = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
    return " ".join(text.split())


def means(scores: Sequence[Score]) -> dict[str, Any]:
    """Means over the pictures that could be measured: {"pictures", "failed", "seconds", metric: ...}; seconds are None where nothing was timed."""
    good = [s for s in scores if s.error is None]
    times = [s.seconds for s in good if s.seconds is not None]
    row: dict[str, Any] = {"pictures": len(good), "failed": len(scores) - len(good), "seconds": sum(times) / len(times) if times else None}
    for metric in {m: None for s in good for m in s.values}:
        row[metric] = float(np.mean([s.values[metric] for s in good]))
    return row
