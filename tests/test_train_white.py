"""fastsr.train.white: patches become white, what is shipped computes what is learnt, and few channels begin silent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import noise

from fastsr.files import read_picture, write_picture

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from torch.nn import functional as F  # noqa: E402, N812
from trainings import job  # noqa: E402

from fastsr.train import recipes, run, white  # noqa: E402
from fastsr.train.branches import Branches  # noqa: E402
from fastsr.train.plain import Plain  # noqa: E402


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


def planes(shared: Path, name: str, colour: str = "y") -> torch.Tensor:
    picture = read_picture(shared / "images" / "Set5" / f"{name}.png")
    assert picture.shape[2] == 3
    rgb = torch.from_numpy(picture[::2, ::2, ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None]
    return rgb if colour == "rgb" else (rgb * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


@pytest.mark.parametrize(("name", "colour", "least", "worst"), [("baby", "y", 1000, 8), ("head", "y", 500, 8), ("head", "rgb", 500, 40)])
def test_photographs_become_nearly_white(name: str, colour: str, least: float, worst: float, shared: Path) -> None:
    patches = F.unfold(planes(shared, name, colour), 3)[0].double() - white.GREY
    changed = white.whitening(patches.shape[0] // 9, 3) @ patches
    raw, done = (torch.linalg.eigvalsh(p @ p.T / p.shape[1]) for p in (patches, changed))
    assert raw[-1] / raw[0] > least
    assert done[-1] / done[0] < worst
    assert 0.5 < float(done.mean()) < 2


@pytest.mark.parametrize(("channels", "k"), [(1, 5), (3, 3)])
def test_grey_pixels_are_the_mean(channels: int, k: int) -> None:
    torch.manual_seed(k)
    m = white.EndConv2d(channels, 6, k, True)
    assert m.bias is not None
    with torch.no_grad():
        m.bias += torch.randn(6)
        y = m(torch.full((1, channels, 11, 11), white.GREY))
    torch.testing.assert_close(y[0, :, 5, 5], m.bias.detach(), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("options", [{"width": 16, "layers": 5}, {"width": 32, "layers": 10}])
def test_channels_begin_with_both_signs(options: dict[str, int], shared: Path) -> None:
    network = run.make(replace(recipes.RECIPES["plain"], options=options), 2, 0)
    network.settle(F.unfold(planes(shared, "baby"), 24, stride=24)[0].T.reshape(-1, 1, 24, 24))
    x = planes(shared, "butterfly")
    with torch.no_grad():
        for k in range(network.layers - 1):
            y = network.block(k)(x)
            positive = (y > 0).float().mean((0, 2, 3))
            assert bool(((positive > 0.02) & (positive < 0.98)).all()), k
            assert 0.2 < float(y.std((0, 2, 3)).mean()) < 4, k
            x = network.slopes[k](y)


def test_a_settled_channel_has_mean_0_and_deviation_1() -> None:
    recipe = recipes.RECIPES["plain"]
    for options in ({}, {"act": "relu"}, {"expand": 0}):
        network = run.make(replace(recipe, options={"width": 8, "layers": 4, **options}), 3, 1)
        x = torch.rand(4, 1, 20, 20)
        network.settle(x)
        for k in range(network.layers - 1):
            y = network.block(k)(x)
            torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(8), rtol=0, atol=2e-3)
            torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(8), rtol=0, atol=2e-3)
            x = network.slopes[k](y)
    flat = torch.full((2, 1, 9, 9), 0.4)
    network.settle(flat)
    assert bool(torch.isfinite(network(flat)).all())


@pytest.mark.parametrize("arch", ["espcn", "fsrcnn", "fsrcnn-cv2", "hourglass"])
def test_chains_of_other_networks_are_settled(arch: str) -> None:
    network = run.make(recipes.RECIPES[arch], 2, 1)
    before = network.shipped()
    x = torch.rand(4, 1, 20, 20)
    network.settle(x)
    found: list[torch.Tensor] = []
    convolutions = [m for m in network.modules() if isinstance(m, white.EndConv2d | Branches)]
    hooks = [m.register_forward_hook(lambda _, __, y: found.append(y.clone())) for m in convolutions]
    with torch.no_grad():
        network(x)
    for h in hooks:
        h.remove()
    assert len(found) == {"espcn": 3, "fsrcnn": 7, "fsrcnn-cv2": 8, "hourglass": 8}[arch]
    for y in found[: len(network.chain())]:
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(y.shape[1]), rtol=0, atol=2e-3)
        torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(y.shape[1]), rtol=0, atol=2e-3)
    assert [k for k, v in network.shipped().items() if torch.equal(v, before[k])] == [k for k in before if not k.startswith(CHAINS[arch])]


CHAINS: dict[str, tuple[str, ...]] = {
    "espcn": ("conv1.", "conv2."),
    "fsrcnn": tuple(f"{part}.{k}.{what}" for part, n in (("first_part", 1), ("mid_part", 12)) for k in range(0, n, 2) for what in ("weight", "bias")),
}
CHAINS["fsrcnn-cv2"] = CHAINS["fsrcnn"]
CHAINS["hourglass"] = tuple(f"hourglass.{name}" for name in CHAINS["fsrcnn"])


def test_a_network_without_a_chain_stays_as_it_is() -> None:
    network = run.make(replace(recipes.RECIPES["srresnet"], options={"blocks": 1, "width": 4}), 2, 0)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.settle(torch.rand(2, 3, 12, 12))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_training_begins_settled_and_only_a_fresh_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_picture(photos / "a.png", noise(0))
    write_picture(photos / "b.png", noise(1))
    settled: list[torch.Size] = []
    monkeypatch.setattr(Plain, "settle", lambda network, x: settled.append(x.shape))
    first = run.train(job(photos, tmp_path / "a"))
    assert settled == [torch.Size((run.SETTLING, 1, 8, 8))]
    assert first.weights is not None
    run.train(job(photos, tmp_path / "b", init=first.weights))
    run.train(job(photos, tmp_path / "a"))
    assert len(settled) == 1
