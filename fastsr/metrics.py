"""How near a picture is to the original, as the literature on super-resolution measures it. NumPy alone.

The protocol of the papers: both pictures as 8-bit pixels, of these the luma of ITU-R BT.601 with the range 16..235 (MATLAB's `rgb2ycbcr`), a border
as wide as the scale shaved off, then PSNR with peak 255 and SSIM; the mean over a data set is the mean of its pictures' values. A grey picture is
its own luma. Papers differ in whether the luma is rounded: `rgb2ycbcr` of uint8 pixels does (SRCNN, FSRCNN, VDSR and others measured in MATLAB),
the Python code of EDSR and later does not. That moves PSNR by about 0.01 to 0.03 dB; `rounded` chooses.

Pictures are NumPy arrays as everywhere in fastsr: (H, W) or (H, W, 1) grey, (H, W, 3) BGR or (H, W, 4) BGRA, whose alpha is left out; uint8, uint16
or float32 in 0..1. They are measured in levels of 8-bit pictures: 0..255.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from .errors import FastsrError, PictureError

SPACES = ("y", "rgb")

_PEAK = 255.0
_WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}
_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_STRIP = 48


def luma(picture: np.ndarray, *, rounded: bool = False) -> np.ndarray:
    """The Y of MATLAB's `rgb2ycbcr` in levels: float64 (H, W), 16..235 for colour pictures, 0..255 for grey ones, which are their own luma.

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 with R, G, B in 0..255. rounded: to whole levels, as `rgb2ycbcr` does for uint8 pixels.
    Raises PictureError for what is no picture.
    """
    p = _levels(picture)
    if p.ndim == 3:
        p = 16.0 + (p @ np.array([24.966, 128.553, 65.481])) / 255.0
    return np.floor(p + 0.5) if rounded else p


def modcrop(picture: np.ndarray, scale: int) -> np.ndarray:
    """The picture without the last rows and columns that make its sides no multiples of `scale`; a view.

    Raises PictureError for a picture smaller than `scale`, ValueError for a scale that is no whole number of at least 1.
    """
    if not isinstance(picture, np.ndarray) or picture.ndim < 2:
        raise PictureError("modcrop takes a picture of shape (H, W) or (H, W, channels)")
    scale = _whole("scale", scale, 1)
    height, width = (n - n % scale for n in picture.shape[:2])
    if not height or not width:
        raise PictureError(f"a picture of {picture.shape[1]}x{picture.shape[0]} pixels is too small for the scale {scale}")
    return picture[:height, :width]


def psnr(result: np.ndarray, original: np.ndarray, *, shave: int = 0, space: str = "y", rounded: bool = False) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures.

    result, original: pictures of the same size, type and channels. shave: width of the border that is left out, in papers the scale.
    space: "y" on the luma, "rgb" over all three channels at once. rounded: see `luma`.
    Raises PictureError for pictures that do not fit each other or are nothing but border, ValueError for a shave that is no whole number.
    """
    a, b = _pair(result, original, shave, space, rounded)
    error = float(np.mean(np.square(a - b)))
    return float("inf") if error == 0 else float(10 * np.log10(_PEAK**2 / error))


def ssim(result: np.ndarray, original: np.ndarray, *, shave: int = 0, space: str = "y", rounded: bool = False) -> float:
    """Mean structural similarity (Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13(4), 2004).

    Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, only where the whole window is inside the picture. In space "rgb" the mean of the
    three channels. Arguments and errors as of `psnr`; PictureError also for pictures under 11x11.
    """
    a, b = _pair(result, original, shave, space, rounded)
    return float(np.mean([_similarity(x, y)[0] for x, y in zip(_planes(a), _planes(b))]))


def ms_ssim(result: np.ndarray, original: np.ndarray, *, shave: int = 0, space: str = "y", rounded: bool = False) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik, Asilomar 2003): five scales, each the means of 2x2 pixels of the one before.

    Arguments and errors as of `psnr`; PictureError also for pictures whose shorter side is under 176 pixels.
    """
    a, b = _pair(result, original, shave, space, rounded)
    least = _WINDOW << (len(_MS_WEIGHTS) - 1)
    if min(a.shape[:2]) < least:
        raise PictureError(f"{a.shape[1]}x{a.shape[0]} pixels (without the border) are too few for MS-SSIM: each side needs {least}")
    found = []
    for x, y in zip(_planes(a), _planes(b)):
        product = 1.0
        for k, weight in enumerate(_MS_WEIGHTS):
            whole, contrast = _similarity(x, y)
            product *= max(whole if k == len(_MS_WEIGHTS) - 1 else contrast, 0.0) ** weight
            x, y = _halved(x), _halved(y)
        found.append(product)
    return float(np.mean(found))


def lpips(result: np.ndarray, original: np.ndarray, *, shave: int = 0, net: str = "alex") -> float:
    """Learned perceptual distance (Zhang et al., CVPR 2018), less is better; needs the package lpips, which brings PyTorch.

    Pictures as for `psnr`; grey ones are repeated in three channels. net: "alex", "vgg" or "squeeze", whose weights torchvision fetches on first use.
    Raises FastsrError when the package or the weights are missing, PictureError as `psnr`.
    """
    a, b = _pair(result, original, shave, "rgb", False)
    distance = _lpips_network(net)
    torch = importlib.import_module("torch")
    tensors = []
    for x in (a, b):
        rgb = np.repeat(x[None], 3, axis=0) if x.ndim == 2 else x[:, :, ::-1].transpose(2, 0, 1)
        tensors.append(torch.from_numpy(np.ascontiguousarray(rgb[None] / 127.5 - 1, np.float32)))
    with torch.no_grad():
        return float(distance(*tensors))


@lru_cache(maxsize=3)
def _lpips_network(net: str) -> Any:
    if net not in ("alex", "vgg", "squeeze"):
        raise FastsrError(f"LPIPS has no network '{net}': choose alex, vgg or squeeze")
    try:
        package = importlib.import_module("lpips")
    except ImportError as e:
        raise FastsrError(f"LPIPS needs the package lpips and PyTorch: pip install lpips ({e})") from None
    try:
        return package.LPIPS(net=net, verbose=False).eval()
    except Exception as e:
        why = " ".join(str(e).split())
        raise FastsrError(f"LPIPS: the weights of '{net}' cannot be loaded ({why}): torchvision fetches them once, which needs a network") from None


METRICS: dict[str, Callable[..., float]] = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "lpips": lpips}


# ---- parts -------------------------------------------------------------------------------------------------------------------------------------


def _levels(picture: np.ndarray) -> np.ndarray:
    """float64 (H, W) or (H, W, 3) BGR in 0..255, without alpha."""
    if not isinstance(picture, np.ndarray) or picture.dtype.name not in _WHITE:
        what = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        raise PictureError(f"metrics take pictures of uint8, uint16 or float32 in 0..1, not {what}")
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3, 4)) or 0 in picture.shape:
        raise PictureError(f"a picture has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {picture.shape}")
    if picture.ndim == 3:
        picture = picture[:, :, 0] if picture.shape[2] == 1 else picture[:, :, :3]
    p = picture.astype(np.float64)
    return p if picture.dtype == np.uint8 else p * (_PEAK / _WHITE[picture.dtype.name])


def _pair(result: np.ndarray, original: np.ndarray, shave: int, space: str, rounded: bool) -> tuple[np.ndarray, np.ndarray]:
    if space not in SPACES:
        raise PictureError(f"space '{space}': choose one of {', '.join(SPACES)}")
    shave = _whole("shave", shave, 0)
    pictures = []
    for picture in (result, original):
        p = luma(picture, rounded=rounded) if space == "y" else _levels(picture)
        pictures.append(p[shave : p.shape[0] - shave, shave : p.shape[1] - shave])
    if result.dtype != original.dtype or result.shape != original.shape:
        raise PictureError(f"pictures to compare differ: {result.dtype} {result.shape} and {original.dtype} {original.shape}")
    if not pictures[0].size:
        raise PictureError(f"a picture of {result.shape[1]}x{result.shape[0]} pixels is nothing but border when {shave} are shaved off")
    return pictures[0], pictures[1]


def _whole(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}={value!r}: a whole number of at least {least} is needed")
    return number


def _planes(p: np.ndarray) -> list[np.ndarray]:
    return [p] if p.ndim == 2 else [p[:, :, i] for i in range(p.shape[2])]


def _halved(p: np.ndarray) -> np.ndarray:
    p = p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2]
    return (p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Means of SSIM and of its contrast and structure part over a plane, in strips that stay in the cache."""
    if min(x.shape) < _WINDOW:
        raise PictureError(f"{x.shape[1]}x{x.shape[0]} pixels (without the border) are too few for SSIM: its window has {_WINDOW}x{_WINDOW}")
    whole = part = 0.0
    height = x.shape[0] - _WINDOW + 1
    for top in range(0, height, _STRIP):
        a, b = (p[top : min(top + _STRIP, height) + _WINDOW - 1] for p in (x, y))
        mean_a, mean_b = _blurred(a), _blurred(b)
        product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
        covariance = _blurred(a * b) - product
        variances = _blurred(a * a + b * b) - squares
        contrast = (2 * covariance + _C2) / (variances + _C2)
        part += float(contrast.sum())
        whole += float((contrast * ((2 * product + _C1) / (squares + _C1))).sum())
    n = height * (x.shape[1] - _WINDOW + 1)
    return whole / n, part / n


def _blurred(p: np.ndarray) -> np.ndarray:
    """The Gaussian window over p where it lies inside, separably and by its symmetry."""
    weights = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    half = _WINDOW // 2
    for axis in (0, 1):
        n = p.shape[axis] - 2 * half
        q = p if axis == 0 else p.T
        total = q[half : half + n] * weights[half]
        for k in range(half):
            total += (q[k : k + n] + q[2 * half - k : 2 * half - k + n]) * weights[k]
        p = total if axis == 0 else total.T
    return p
