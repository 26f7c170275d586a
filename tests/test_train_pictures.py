"""fastsr.train's pictures: degradation by seed, the order of patches, the cache, and test pictures kept out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr import image, metrics
from fastsr.errors import FastsrError
from fastsr.files import write_picture
from fastsr.graph import Feed

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from fastsr.train import batches, degrade, export, leakage, measure, pictures  # noqa: E402
from fastsr.train.batches import Patches, turned  # noqa: E402
from fastsr.train.networks import SRCNN, registry  # noqa: E402
from fastsr.train.slopes import Slopes  # noqa: E402


def noise(seed: int, h: int = 120, w: int = 150) -> np.ndarray:
    """A picture (H, W, 3) uint8 with content of all sizes."""
    rng = np.random.default_rng(seed)
    out = np.zeros((h, w, 3))
    for n in (4, 8, 16, 32):
        coarse = torch.from_numpy(rng.normal(0, 40, (1, 3, n, n)))
        out += torch.nn.functional.interpolate(coarse, size=(h, w), mode="bicubic", align_corners=False)[0].permute(1, 2, 0).numpy()
    return np.clip(out + 128, 0, 255).astype(np.uint8)


def files(folder: Path, count: int) -> list[Path]:
    for k in range(count):
        write_picture(folder / f"{k}.png", noise(k))
    return pictures.list_pictures(folder)


# ---- patches -----------------------------------------------------------------------------------------------------------------------------------


def test_patches_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    store = pictures.open_store(files(tmp_path, 3), 2, "y", least=16)
    a, b, other = (Patches(list(store), 2, seed) for seed in (1, 1, 2))
    whole = list(a.batches(0, 7, lambda step: (4, 8 + step)))
    late = list(b.batches(4, 7, lambda step: (4, 8 + step)))
    for x, y in zip(whole[4:], late, strict=True):
        assert (x.small == y.small).all()
        assert (x.large == y.large).all()
    assert [x.small.shape for x in whole] == [(4, 1, 8 + k, 8 + k) for k in range(7)]
    assert (whole[0].small != other.batch(0, 4, 8).small).any()
    with pytest.raises(FastsrError, match="smaller than a patch of 400 pixels"):
        a.batch(0, 1, 200)


def test_patches_are_of_all_orientations_and_fit_each_other(tmp_path: Path) -> None:
    store = pictures.open_store(files(tmp_path, 1), 2, "rgb", least=16)
    batch = Patches(list(store), 2, 0).batch(0, 64, 10)
    near = torch.nn.functional.avg_pool2d(torch.from_numpy(batch.large).float(), 2).numpy()
    assert np.abs(near - batch.small).mean() < 6
    square = np.arange(9).reshape(1, 3, 3)
    assert len({turned(square, k).tobytes() for k in range(8)}) == 8


def test_luma_is_opencvs() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    assert (pictures.luma(rgb) == cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[:, :, 0]).all()


@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_networks_are_given_what_models_give_them(colour: str) -> None:
    rgb = noise(1)
    pair = pictures.Pair("", *pictures.pair(rgb, 2, colour))
    network = SRCNN(2, colour)
    network.enlarged = False
    feed = Feed(colour, fine=colour == "y")
    want, _ = image.to_network(pictures.smaller(rgb, 2)[:, :, ::-1], feed)
    got = measure.given(torch.from_numpy(pair.small)[None], network).numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=0.51 / (255 * pictures.PARTS) if colour == "y" else 1e-6)
    if colour == "y":
        assert np.abs(got - np.rint(got * 255) / 255).max() > 0.4 / 255


def test_score_is_that_of_the_model(tmp_path: Path) -> None:
    rgb = np.rint(127 + 0.3 * (noise(1).astype(float) - 127)).astype(np.uint8)
    pair = pictures.Pair("", *pictures.pair(rgb, 2, "y"))
    torch.manual_seed(0)
    network = registry()["plain"](2, "y", layers=1, width=4)
    network.adopt({k: torch.zeros_like(v) if "backbone.2" in k else v for k, v in network.shipped().items()})  # repeats pixels
    path = export.export(network, tmp_path / "a_x2.safetensors")[0]
    large = fastsr.load(path).upscale(np.ascontiguousarray(pictures.smaller(rgb, 2)[:, :, ::-1]))
    want = metrics.psnr(large, np.ascontiguousarray(rgb[:, :, ::-1]), shave=2)
    assert measure.mean_score(network, [pair]) == pytest.approx(want, abs=0.05)  # the original's Y is rounded there
    rounded = np.rint(measure.result(network, pair.small) * 255).astype(np.uint8)
    assert measure.score(rounded, pair, 2) < want - 0.06


@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_cache_gives_the_same_pictures(tmp_path: Path, colour: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    found = files(folder, 2)
    write_picture(folder / "small.png", noise(9, 20, 20))
    found = pictures.list_pictures(folder)
    plain = pictures.open_store(found, 3, colour, least=16)
    for _ in range(2):
        cached = pictures.open_store(found, 3, colour, least=16, cache=tmp_path / "cache")
        assert cached.mark == plain.mark
        assert cached.skipped == plain.skipped == [("small.png", "is smaller than 48 pixels")]
        for a, b in zip(plain, cached, strict=True):
            assert (a.large == b.large).all()
            assert (a.small == b.small).all()
            assert (a.small.dtype, a.large.dtype) == (b.small.dtype, b.large.dtype) == (np.int16 if colour == "y" else np.uint8, np.uint8)
    large = next((tmp_path / "cache").glob("*/large.npy"))
    assert np.load(large).dtype == np.uint8
    large.write_bytes(large.read_bytes()[:1000])
    with pytest.raises(FastsrError, match="delete that folder"):
        pictures.open_store(found, 3, colour, least=16, cache=tmp_path / "cache")


# ---- degradation -------------------------------------------------------------------------------------------------------------------------------


def test_degradation_follows_its_seed() -> None:
    large = noise(0, 96, 96).transpose(2, 0, 1)
    pytest.importorskip("PIL")
    seen = set()
    for seed in range(6):
        a, b = (degrade.photo(large, 2, np.random.default_rng(seed)) for _ in range(2))
        assert a.dtype == np.uint8
        assert a.shape == (3, 48, 48)
        assert (a == b).all()
        seen.add(a.tobytes())
    assert len(seen) == 6


@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_parts_are_degraded_several_times_and_kept_once(tmp_path: Path, colour: str) -> None:
    pytest.importorskip("PIL")
    files = [tmp_path / f"{k}.png" for k in range(2)]
    for k, path in enumerate(files):
        write_picture(path, noise(k, 101, 62))
    make = degrade.maker(3, colour, 7, 48, 2)
    stores = [pictures.open_store(files, 3, colour, least=8, cache=c, make=make, make_mark="a") for c in (None, tmp_path / "c", tmp_path / "c")]
    for store in stores:
        assert len(store) == 8
        for p, q in zip(store, stores[0]):
            assert p.large.shape == ({"y": 1, "rgb": 3}[colour], 48, 60)
            assert p.small.shape == (p.large.shape[0], 16, 20)
            assert np.array_equal(p.large, q.large)
            assert np.array_equal(p.small, q.small)
    first, second = stores[1][0], stores[1][1]
    assert np.array_equal(first.large, second.large)
    assert not np.array_equal(first.small, second.small)
    whole = pictures.read_rgb(files[0])[:48, :60]
    assert np.array_equal(first.large, pictures.planes(whole, colour))
    kept = next((tmp_path / "c").glob("*/large.npy")).stat().st_size
    assert kept == pictures.HEADER + 4 * first.large.size
    other = pictures.open_store(files, 3, colour, least=8, make=degrade.maker(3, colour, 8, 48, 2))
    assert not np.array_equal(other[0].small, first.small)
    (one,) = degrade.maker(3, colour, 7, None, 1)(pictures.read_rgb(files[0]), "0.png")
    assert one[0].shape[1:] == (99, 60)


def test_blur_kernels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        k = degrade.kernel(rng, (0.2, 3.0))
        assert k.shape[0] == k.shape[1]
        assert k.shape[0] in range(7, 22, 2)
        assert k.sum() == pytest.approx(1)
        assert np.allclose(k, k[::-1, ::-1])
    assert degrade.sinc(21, 2.0).min() < -0.01
    assert degrade.gaussian(9, 1.5, 1.5, 0).min() > 0


# ---- test pictures kept out --------------------------------------------------------------------------------------------------------------------


def test_guard_finds_crops_and_copies(tmp_path: Path) -> None:
    files(tmp_path, 3)
    guard = leakage.Guard([tmp_path])
    inside = noise(7, 260, 300)
    inside[70:190, 90:240] = noise(1)[:, ::-1]
    smaller = pictures.smaller(noise(2), 2)
    pytest.importorskip("PIL")
    for picture in (degrade.through_jpeg(noise(0), 40), smaller, inside, noise(2)[20:100, 30:130]):
        assert "looks like the excluded" in guard.why_not(Path("x.png"), picture)
    for seed in range(20, 26):
        assert guard.why_not(Path("x.png"), noise(seed)) == ""
    store = pictures.open_store(pictures.list_pictures(tmp_path), 2, "y", least=8, refuse=leakage.Guard([]).why_not)
    assert len(store) == 3
    with pytest.raises(FastsrError, match=r"none of 3 pictures can be used for training: '0\.png' looks like"):
        pictures.open_store(pictures.list_pictures(tmp_path), 2, "y", least=8, refuse=guard.why_not)


def test_guard_keeps_photographs(shared: Path) -> None:
    guard = leakage.Guard([shared / "images" / "Set5"])
    for path in pictures.list_pictures(shared / "photos")[:60:20]:
        assert guard.likeness(pictures.read_rgb(path)) < leakage.SAME
    butterfly = pictures.read_rgb(pictures.list_pictures(shared / "images" / "Set5")[2])
    assert guard.likeness(butterfly[40:220, 30:240]) > 0.9


# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------


def test_enlarging_before_the_network_is_the_engines() -> None:
    from fastsr import image
    from fastsr.graph import Feed

    small = pictures.luma(noise(0))
    want, _ = image.to_network(small, Feed("y", pre_scale=3))
    got = measure.enlarged(torch.from_numpy(small[None, None].astype(np.float32) / 255), 3).numpy()
    assert np.abs(got - want)[..., 6:-6, 6:-6].max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_slopes_are_prelu(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    slopes = torch.tensor([0.001, -0.002, 0.25, 1.0, -1.5])
    given = torch.randn(2, 5, 7, 9).to(dtype)
    x = given.to(memory_format=torch.channels_last).requires_grad_()
    want = given.double().requires_grad_()
    ours, theirs = Slopes(5), torch.nn.PReLU(5).double()
    with torch.no_grad():
        ours.weight.copy_(slopes)
        theirs.weight.copy_(slopes)
    g = torch.randn(2, 5, 7, 9).to(dtype)
    a, b = ours(x), theirs(want)
    assert a.dtype is dtype
    fine = {"rtol": 2e-2, "atol": 1e-6} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(a.double(), b, **fine)
    got, wanted = (torch.autograd.grad(y, (z, m.weight), h) for y, z, m, h in ((a, x, ours, g), (b, want, theirs, g.double())))
    torch.testing.assert_close(got[0].double(), wanted[0], **fine)
    summed = {"rtol": 2e-2, "atol": 0.1} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(got[1].double(), wanted[1], **summed)


# ---- the choice of patches ---------------------------------------------------------------------------------------------------------------------


def test_detail_is_that_of_the_small_picture() -> None:
    for scale in (2, 3):
        planes = np.stack([noise(k, 12 * scale, 10 * scale)[:, :, 0] for k in range(4)])
        for plane, got in zip(planes, batches.detail(planes, scale)):
            small = plane.astype(int).reshape(12, scale, 10, scale).sum((1, 3))
            wanted = 0
            for y in range(1, 11):
                for x in range(1, 9):
                    wanted += abs(4 * small[y, x] - small[y - 1, x] - small[y + 1, x] - small[y, x - 1] - small[y, x + 1])
            assert got == wanted
    assert not batches.detail(np.full((1, 16, 16), 200, np.uint8), 2).any()


def test_the_most_detailed_of_some_patches_is_taken() -> None:
    """Of a picture that is flat but for a corner most patches come from there; each patch is still one of the picture's in some orientation."""
    large = np.full((1, 240, 240), 90, np.uint8)
    large[:, :80, :80] = noise(0, 80, 80)[None, :, :, 0]
    small = large[:, ::2, ::2].copy()
    pair = pictures.Pair("a", large, small)
    flat = [int((batches.Patches([pair], 2, 0, n).batch(0, 60, 8).small.std((1, 2, 3)) == 0).sum()) for n in (1, 4)]
    assert flat[0] > 45
    assert flat[1] < 40
    chosen = batches.Patches([pair], 2, 3, 4)
    a, b = chosen.batch(5, 12, 8), batches.Patches([pair], 2, 3, 4).batch(5, 12, 8)
    assert np.array_equal(a.small, b.small)
    assert np.array_equal(a.large, b.large)
    assert not np.array_equal(a.small, chosen.batch(6, 12, 8).small)
    places = {large[:, y : y + 16, x : x + 16].tobytes(): (y, x) for y in range(0, 225, 2) for x in range(0, 225, 2)}
    for k in range(12):
        back = [t for t in range(8) if batches.turned(a.large[k], t).tobytes() in places]
        assert back
        y, x = places[batches.turned(a.large[k], back[0]).tobytes()]
        assert np.array_equal(batches.turned(a.small[k], back[0]), small[:, y // 2 : y // 2 + 8, x // 2 : x // 2 + 8])
