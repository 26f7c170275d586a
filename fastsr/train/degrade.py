"""Small pictures as cameras, editors and the web make them: the second-order degradation of Real-ESRGAN (Wang et al., ICCV Workshops 2021).

Twice in a row: blur, resize, noise, JPEG; in the end a filter that rings (sinc) and the resize to the final size. Probabilities and ranges are the
paper's. All draws come from the generator that is passed in, so the same generator state gives the same picture.
"""

from __future__ import annotations

import importlib
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from ..errors import FastsrError
from .pictures import Maker, Planes, planes, small_planes

TILE = 384
"""Edge in pixels, about, of the parts of a picture that are degraded each for itself."""

DRAWS = 3
"""Small pictures that are made of each part."""


@dataclass(frozen=True)
class Order:
    """One of the two rounds. blur: its probability. sigma: of Gaussians. resize: probabilities of larger, smaller, neither; span: of the factors.
    noise: deviation in 8-bit levels; poisson: its scale."""

    blur: float
    sigma: tuple[float, float]
    resize: tuple[float, float, float]
    span: tuple[float, float]
    noise: tuple[float, float]
    poisson: tuple[float, float]
    jpeg: tuple[float, float] = (30.0, 95.0)


ORDERS = (
    Order(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0)),
    Order(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5)),
)

KINDS = ("gaussian", "generalised", "plateau")
KIND_SHARES = (0.7, 0.15, 0.15)
ANISOTROPIC = (0.36, 0.2, 0.2)
"""Share of kernels that are not round, of each kind."""

SHAPES = {"gaussian": (1.0, 1.0), "generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}
SINC_FIRST, SINC_LAST = 0.1, 0.8
GAUSSIAN_NOISE, GREY_NOISE = 0.5, 0.4
LUMA = (0.299, 0.587, 0.114)


def kernel(rng: np.random.Generator, sigma: tuple[float, float]) -> np.ndarray:
    """A blur (k, k) of sum 1, k odd, 7 to 21: Gaussian, generalised Gaussian or plateau-shaped, round or not."""
    size = 2 * int(rng.integers(3, 11)) + 1
    if rng.random() < SINC_FIRST:
        return sinc(size, rng.uniform(math.pi / 3 if size < 13 else math.pi / 5, math.pi))
    which = int(rng.choice(3, p=KIND_SHARES))
    a = b = rng.uniform(*sigma)
    angle = 0.0
    if rng.random() < ANISOTROPIC[which]:
        b, angle = rng.uniform(*sigma), rng.uniform(-math.pi, math.pi)
    low, high = SHAPES[KINDS[which]]
    shape = rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high)
    return gaussian(size, a, b, angle, shape, plateau=KINDS[which] == "plateau")


def gaussian(size: int, a: float, b: float, angle: float, shape: float = 1.0, plateau: bool = False) -> np.ndarray:
    """exp(-d^shape / 2), or 1 / (1 + d^shape) as a plateau, of the squared distance d in units of the deviations a and b along turned axes."""
    axis = np.arange(size) - size // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    d = (u / a) ** 2 + (v / b) ** 2
    k = 1 / (1 + d**shape) if plateau else np.exp(-0.5 * d**shape)
    return k / k.sum()


def sinc(size: int, cutoff: float) -> np.ndarray:
    """The round low-pass filter of that cutoff in radians a pixel, cut off to size x size: it rings around edges."""
    axis = np.arange(size) - size // 2
    r = np.hypot(*np.meshgrid(axis, axis))
    r[size // 2, size // 2] = 1
    k = cutoff * _bessel1(cutoff * r) / (2 * math.pi * r)
    k[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return k / k.sum()


def _bessel1(x: np.ndarray) -> np.ndarray:
    """J1 by its integral, (1 / pi) of cos(t - x sin t) over 0..pi, with Simpson's rule."""
    n = 256
    t = np.linspace(0, math.pi, n + 1)
    weight = np.where(np.arange(n + 1) % 2, 4.0, 2.0)
    weight[[0, -1]] = 1
    return np.cos(t - x[..., None] * np.sin(t)) @ weight / (3 * n)


def photo(large: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """The small picture (3, H / scale, W / scale) of a large one (3, H, W), RGB uint8."""
    h, w = large.shape[1:]
    x = torch.from_numpy(large.astype(np.float32) / 255)[None]
    for k, order in enumerate(ORDERS):
        if rng.random() < order.blur:
            x = _filtered(x, kernel(rng, order.sigma))
        x = _resized(x, _factor(rng, order), h if k == 0 else h / scale, w if k == 0 else w / scale, rng)
        x = _noisy(x, order, rng)
        if k == 0:
            x = _jpeg(x, rng.uniform(*order.jpeg))
    last = sinc(2 * int(rng.integers(3, 11)) + 1, rng.uniform(math.pi / 3, math.pi)) if rng.random() < SINC_LAST else None
    early = rng.random() < 0.5
    quality = rng.uniform(*ORDERS[1].jpeg)
    if not early:
        x = _jpeg(x, quality)
    x = _interpolated(x, (h // scale, w // scale), rng)
    if last is not None:
        x = _filtered(x, last)
    if early:
        x = _jpeg(x, quality)
    return np.rint(np.clip(x[0].numpy(), 0, 1) * 255).astype(np.uint8)


def maker(scale: int, colour: str, seed: int, tile: int | None = TILE, draws: int = DRAWS) -> Maker:
    """Makes pairs by `photo` of parts of about tile x tile pixels, or of whole pictures: `draws` of each, which depend on the seed and the file's
    name."""

    def make(rgb: np.ndarray, name: str) -> list[Planes]:
        found: list[Planes] = []
        for k, part in enumerate(parts(rgb, tile, scale)):
            shown = planes(part, colour)
            for draw in range(draws):
                small = photo(part.transpose(2, 0, 1), scale, np.random.default_rng([seed, zlib.crc32(name.encode()), k, draw]))
                found.append((shown, small_planes(small.transpose(1, 2, 0), colour)))
        return found

    return make


def parts(rgb: np.ndarray, tile: int | None, scale: int) -> Iterator[np.ndarray]:
    """The picture (H, W, 3) in equal parts with edges near `tile`, whole for None, their height and width multiples of scale."""
    rows, columns = (1 if tile is None else max(round(n / tile), 1) for n in rgb.shape[:2])
    h, w = (n // m // scale * scale for n, m in zip(rgb.shape, (rows, columns)))
    for y in range(rows):
        for x in range(columns):
            yield rgb[y * h : (y + 1) * h, x * w : (x + 1) * w]


def _filtered(x: torch.Tensor, k: np.ndarray) -> torch.Tensor:
    pad = len(k) // 2
    padded = F.pad(x, (pad,) * 4, mode="reflect" if min(x.shape[2:]) > pad else "replicate")
    weight = torch.from_numpy(k.astype(np.float32))[None, None].expand(x.shape[1], 1, -1, -1)
    return F.conv2d(padded, weight, groups=x.shape[1])


def _factor(rng: np.random.Generator, order: Order) -> float:
    which = int(rng.choice(3, p=order.resize))
    return float((rng.uniform(1, order.span[1]), rng.uniform(order.span[0], 1), 1.0)[which])


def _resized(x: torch.Tensor, factor: float, h: float, w: float, rng: np.random.Generator) -> torch.Tensor:
    return _interpolated(x, (max(int(h * factor), 4), max(int(w * factor), 4)), rng)


def _interpolated(x: torch.Tensor, size: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
    mode = ("area", "bilinear", "bicubic")[int(rng.integers(3))]
    if size == tuple(x.shape[2:]):
        return x
    return F.interpolate(x, size=size, mode=mode, **({} if mode == "area" else {"align_corners": False})).clamp(0, 1)


def _noisy(x: torch.Tensor, order: Order, rng: np.random.Generator) -> torch.Tensor:
    a = x[0].numpy()
    grey = rng.random() < GREY_NOISE
    if rng.random() < GAUSSIAN_NOISE:
        noise = rng.standard_normal((1 if grey else len(a), *a.shape[1:])) * rng.uniform(*order.noise) / 255
    else:
        seen = np.tensordot(LUMA, a, 1)[None] if grey and len(a) == 3 else a
        levels = 255.0
        noise = (rng.poisson(np.clip(seen, 0, 1) * levels) / levels - seen) * rng.uniform(*order.poisson)
    return torch.from_numpy(np.clip(a + noise, 0, 1).astype(np.float32))[None]


def _jpeg(x: torch.Tensor, quality: float) -> torch.Tensor:
    rgb = np.rint(np.clip(x[0].numpy(), 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return torch.from_numpy(through_jpeg(rgb, round(quality)).transpose(2, 0, 1).astype(np.float32) / 255)[None]


def through_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    """The picture (H, W, 3) RGB uint8 written as JPEG and read again, by Pillow or OpenCV. Raises FastsrError when neither is installed."""
    try:
        image: Any = importlib.import_module("PIL.Image")
    except ImportError:
        image = None
    if image is not None:
        data = io.BytesIO()
        image.fromarray(np.ascontiguousarray(rgb)).save(data, "JPEG", quality=quality)
        return np.asarray(image.open(data).convert("RGB"))
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError:
        raise FastsrError("the degradation 'photo' needs Pillow or OpenCV: pip install pillow") from None
    data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])
