"""fastsr.train.white: patches become white, what is shipped computes what is learnt, and few channels begin silent."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fastsr.files import read_picture

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from torch.nn import functional as F  # noqa: E402, N812

from fastsr.train import recipes, run, white  # noqa: E402


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_as_they_are_taken_to_be_become_white(channels: int, size: int) -> None:
    n = channels * size * size
    matrix = white.whitening(channels, size)
    seen = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            (ca, pa), (cb, pb) = divmod(a, size * size), divmod(b, size * size)
            distance = math.hypot(pa // size - pb // size, pa % size - pb % size)
            seen[a, b] = white.VARIANCE * white.NEAR**distance * (1 if ca == cb else white.ALIKE)
    m = matrix.numpy()
    np.testing.assert_allclose(m, m.T, atol=1e-10)
    np.testing.assert_allclose(m @ seen @ m.T, np.eye(n), atol=1e-9)


def luma(shared: Path, name: str) -> torch.Tensor:
    picture = read_picture(shared / "images" / "Set5" / f"{name}.png")
    assert picture.shape[2] == 3
    return torch.from_numpy(picture[::2, ::2].astype(np.float32) @ np.float32([0.114, 0.587, 0.299]) / 255)[None, None]


def test_photographs_become_nearly_white(shared: Path) -> None:
    patches = F.unfold(luma(shared, "baby"), 3)[0].double() - white.GREY
    changed = white.whitening(1, 3) @ patches
    raw, done = (torch.linalg.eigvalsh(p @ p.T / p.shape[1]) for p in (patches, changed))
    assert raw[-1] / raw[0] > 1000
    assert done[-1] / done[0] < 30
    assert 0.1 < float(done[-1]) < 3


@pytest.mark.parametrize(("i", "k", "pixels", "unit"), [(1, 5, True, 1.0), (3, 3, True, 1.0), (4, 3, False, 0.05), (3, 1, True, 0.2)])
def test_a_convolution_computes_what_it_ships(i: int, k: int, pixels: bool, unit: float) -> None:
    torch.manual_seed(k)
    m, again = (white.EndConv2d(i, 6, k, pixels, unit) for _ in range(2))
    with torch.no_grad():
        m.bias += torch.randn(6)
        x = torch.rand(2, i, 9, 7)
        kernel, bias = m.plain()
        torch.testing.assert_close(m(x), F.conv2d(x, kernel, bias, padding=k // 2))
        again.set(kernel, bias)
        torch.testing.assert_close(again(x), m(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again.weight, m.weight, rtol=1e-4, atol=1e-4)
    m(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in m.parameters())


@pytest.mark.parametrize("name", ["fast", "balanced"])
def test_few_channels_begin_silent(name: str, shared: Path) -> None:
    network = run.make(recipes.preset(name, 2), 2, 0)
    x = luma(shared, "butterfly")
    with torch.no_grad():
        for k in range(network.layers - 1):
            y = network.block(k)(x)
            positive = (y > 0).float().mean((0, 2, 3))
            assert float(((positive > 0.01) & (positive < 0.99)).float().mean()) > 0.8, k
            x = network.slopes[k](y)
