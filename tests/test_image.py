"""image.py against OpenCV's own primitives and against exact arithmetic; the C++ pictures (csrc/engine/picture.cpp) against image.py, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from pictures import DTYPES, FEEDS, SIZES, random_picture, shuffle_network, strange_layouts

from fastsr import fsr, image
from fastsr.errors import PictureError
from fastsr.graph import Feed

SCALES = (2, 3, 4, 8)


# ---- against OpenCV ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cv2() -> Any:
    return pytest.importorskip("cv2")


def test_luma_and_chroma_of_every_colour(cv2: Any) -> None:
    """All of the 2^24 colours, in three planes of every value."""
    g, b = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for r in range(256):
        picture = np.stack([b, g, np.full_like(b, r)], axis=-1)
        theirs = cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb)
        y, cr, cb, white = image._to_ycrcb(picture, 255.0)
        assert white == 255.0 and np.array_equal(y, theirs[..., 0])
        assert np.array_equal(np.rint(cr * 255), theirs[..., 1]) and np.array_equal(np.rint(cb * 255), theirs[..., 2])
        assert np.array_equal(image._bgr_u8(picture[..., 0], picture[..., 1], picture[..., 2]), cv2.cvtColor(picture, cv2.COLOR_YCrCb2BGR))


def test_float_colour(cv2: Any) -> None:
    """Bit for bit in the columns that OpenCV's vector units take (16 at a time at most)."""
    picture = random_picture((65, 256, 3), "float32")
    y, cr, cb, white = image._to_ycrcb(picture, 1.0)
    theirs = cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb)
    back = cv2.cvtColor(picture, cv2.COLOR_YCrCb2BGR)
    ours, ours_back = np.stack([y, cr, cb], axis=-1), np.stack(image._bgr_f32(*np.moveaxis(picture, -1, 0)), axis=-1)
    assert white == 1.0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-7)
    np.testing.assert_allclose(ours_back, back, rtol=0, atol=3e-7)
    if cv2.checkHardwareSupport(12):  # FMA3
        assert np.array_equal(ours, theirs) and np.array_equal(ours_back, back)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [*SIZES, (270, 480)])
def test_bilinear_chroma(cv2: Any, size: tuple[int, int], scale: int) -> None:
    """Bit for bit what cv2.resize gives where the wheel has IPP; for x3 its coordinates are rounded to float first."""
    plane = np.random.default_rng(1).random(size, dtype=np.float32)
    theirs = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    ours = image.enlarge_linear(plane, size[0] * scale, size[1] * scale)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * max(size) / 32 + 3e-7)
    if scale != 3 and getattr(getattr(cv2, "ipp", None), "useIPP", lambda: False)():
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("scale", SCALES)
def test_bilinear_chroma_of_bytes(cv2: Any, scale: int) -> None:
    """Rounded back to bytes, where ties are frequent, there is no difference at all."""
    for size in SIZES:
        plane = random_picture(size, "uint8", scale).astype(np.float32) * np.float32(1 / 255)
        theirs = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        ours = image.enlarge_linear(plane, size[0] * scale, size[1] * scale)
        if not getattr(getattr(cv2, "ipp", None), "useIPP", lambda: False)():
            pytest.skip("this OpenCV is built without IPP: its bilinear filter rounds differently")
        assert np.array_equal(image._round(ours, 255.0, 255, np.uint8), np.clip(np.rint(theirs * np.float32(255)), 0, 255).astype(np.uint8)), size


# ---- against exact arithmetic --------------------------------------------------------------------------------------------------------------


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(0)
    a, b, c = ((rng.standard_normal(4000) * 10.0 ** rng.integers(-6, 6, 4000)).astype(np.float32) for _ in range(3))
    # Sums that lie just beside a tie of float32, by too little for float64 to show.
    below, above = (8 * (1 + 2.0**-23), 8 * (1 - 2.0**-23), 2.0**30 + 128), (8 * (1 + 2.0**-12), 8 * (1 - 2.0**-12 + 2.0**-24), 2.0**30)
    hard = np.array([below, above], np.float32).T
    assert (hard[0].astype(float) * hard[1] + hard[2]).astype(np.float32).tolist() == [2.0**30 + 256, 2.0**30]
    assert image._fma(*hard).tolist() == [2.0**30 + 128, 2.0**30 + 128]
    ours = image._fma(a, b, c)
    for x, y, z, got in zip(a.tolist(), b.tolist(), c.tolist(), ours.tolist(), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        near = [np.nextafter(np.float32(got), np.float32(s), dtype=np.float32) for s in (-np.inf, np.inf)]
        error = abs(Fraction(got) - exact)
        assert all(error <= abs(Fraction(float(n)) - exact) for n in near), (x, y, z)


def test_cubic_filter_is_keys() -> None:
    """Phase 0 of x2 as printed in the paper's form, weights that sum to 1, and symmetry."""
    assert image.cubic_taps(1).tolist() == [[0, 1, 0, 0]]
    assert image.cubic_taps(2).tolist() == [[-0.0234375, 0.2265625, 0.8671875, -0.0703125], [-0.0703125, 0.8671875, 0.2265625, -0.0234375]]
    for scale in range(1, 17):
        taps = image.cubic_taps(scale)
        np.testing.assert_allclose(taps.sum(axis=1), 1, atol=2e-7)
        for j in range(scale):
            if (2 * j + 1 - scale) % (2 * scale):
                assert np.array_equal(taps[j], taps[scale - 1 - j][::-1])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cubic_enlargement_keeps_parabolas(scale: int) -> None:
    """Keys' filter with a = -0.5 reproduces polynomials up to degree two, away from the edges; this fails for a = -0.75."""
    y, x = np.mgrid[0:12, 0:15]
    f = lambda y, x: 0.001 * (2 * x * x - 3 * y * y + x * y) + 0.01 * x + 0.2  # noqa: E731
    feed = Feed("y", pre_scale=scale)
    fed, _ = image.to_network(f(y, x).astype(np.float32), feed)
    yy, xx = np.mgrid[0 : 12 * scale, 0 : 15 * scale]
    expected = f((yy + 0.5) / scale - 0.5, (xx + 0.5) / scale - 0.5)
    inside = np.s_[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    np.testing.assert_allclose(fed[0, 0][inside], expected[inside], rtol=0, atol=2e-6)


# ---- meaning -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", FEEDS[1:4], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_feed_follows_its_formula(feed: Feed, dtype: str, channels: int) -> None:
    """input = p / 255 * range - mean, and back: pixel = (output + out_mean) / out_range * 255, in the network's channel order."""
    shape = (6, 7) if channels == 1 else (6, 7, 3)
    picture = random_picture(shape, dtype)
    unit = picture / image.WHITE[dtype]
    x, rest = image.to_network(picture, feed)
    planes = [unit] * 3 if channels == 1 else [unit[..., i] for i in range(3)]
    if feed.colour == "y":
        planes = [planes[0] if channels == 1 else planes[0] * 0.114 + planes[1] * 0.587 + planes[2] * 0.299]
    if feed.colour == "rgb":
        planes = planes[::-1]
    expected = np.stack(planes) * feed.range - np.reshape(feed.mean, (-1, 1, 1))
    tolerance = (0.5 / 255 if dtype == "uint8" and channels == 3 and feed.colour == "y" else 1e-6) * feed.range + 1e-6 * feed.range
    assert x.dtype == np.float32 and x.shape == (1, *expected.shape) and x.flags.c_contiguous
    np.testing.assert_allclose(x[0], expected, rtol=0, atol=tolerance)
    # The identity as a network gives the picture back.
    out = (np.stack(planes) * feed.out_range - np.reshape(feed.out_mean, (-1, 1, 1))).astype(np.float32)[None]
    back = image.from_network(out, rest)
    assert back.dtype == picture.dtype and back.shape == picture.shape
    slack = {"uint8": 3 if channels == 3 else 1, "uint16": 100, "float32": 2e-3}[dtype]
    np.testing.assert_allclose(back.astype(float), picture.astype(float), rtol=0, atol=slack)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_layout_does_not_matter(dtype: str, channels: int) -> None:
    picture = random_picture((9, 11) if channels == 1 else (9, 11, 3), dtype)
    for feed in FEEDS:
        x, rest = image.to_network(picture, feed)
        out = random_picture((1, x.shape[1], 18, 22), "float32")
        expected = image.from_network(out, rest)
        for name, other in strange_layouts(picture).items():
            x2, rest2 = image.to_network(other, feed)
            assert np.array_equal(x, x2) and np.array_equal(expected, image.from_network(out, rest2)), name


def test_fine_luma_is_not_rounded() -> None:
    """What an exact network would make of a picture's Y is off by less than a level, in Y and in the pixels that it is made into."""
    picture = random_picture((40, 50, 3), "uint8") // 2 + 64
    y = picture.astype(float) @ [0.114, 0.587, 0.299]
    means = {}
    for fine in (False, True):
        x, rest = image.to_network(picture, Feed("y", fine=fine))
        means[fine] = np.abs(x[0, 0] * 255 - y).mean()
        back = image.from_network((y / 255).astype(np.float32)[None, None], rest)
        means["back", fine] = ((back.astype(float) @ [0.114, 0.587, 0.299] - y) ** 2).mean()
    assert means[True] < 1e-4 < 0.1 < means[False]
    assert means["back", True] < 0.75 * means["back", False]
    grey = picture[:, :, 0]
    a, b = (image.to_network(grey, Feed("y", fine=fine)) for fine in (False, True))
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(image.from_network(a[0], a[1]), image.from_network(b[0], b[1]))


def test_rounding_and_saturation() -> None:
    grey = np.zeros((1, 8), np.uint8)
    feed = Feed("y", out_range=255.0)
    y = np.array([-1, 0.5, 1.5, 2.5, 254.5, 300, np.inf, np.nan], np.float32).reshape(1, 1, 1, 8)
    assert image.from_network(y, image.to_network(grey, feed)[1]).tolist() == [[0, 0, 2, 2, 254, 255, 255, 0]]
    feed = Feed("y", out_range=65535.0)
    y = np.array([-1, 0.5, 1.5, 2.5, 65534.5, 70000, np.inf, np.nan], np.float32).reshape(1, 1, 1, 8)
    assert image.from_network(y, image.to_network(grey.astype(np.uint16), feed)[1]).tolist() == [[0, 0, 2, 2, 65534, 65535, 65535, 0]]
    values = np.array([[-0.5, 1.5]], np.float32)
    assert image.from_network(values[None, None], image.to_network(values, Feed("y"))[1]).tolist() == values.tolist()


@pytest.mark.parametrize("scale", SCALES)
def test_cv2_float_mode(cv2: Any, scale: int) -> None:
    """White is 255 and the result uint8, by cv2.dnn_superres's own steps."""
    picture = random_picture((24, 40, 3), "float32") * np.float32(255)
    x, rest = image.to_network(picture, Feed("y"), white=255.0, dtype=np.uint8)
    ycrcb = cv2.cvtColor(picture * np.float32(1 / 255), cv2.COLOR_BGR2YCrCb)
    np.testing.assert_allclose(x[0, 0], ycrcb[..., 0], rtol=0, atol=2e-7)
    out = random_picture((24 * scale, 40 * scale), "float32")
    chroma = [cv2.resize(ycrcb[..., i], None, fx=scale, fy=scale) for i in (1, 2)]
    merged = np.clip(np.rint(np.stack([out, *chroma], axis=-1) * np.float32(255)), 0, 255).astype(np.uint8)
    result = image.from_network(out[None, None], rest)
    assert result.dtype == np.uint8 and np.array_equal(result, cv2.cvtColor(merged, cv2.COLOR_YCrCb2BGR))
    with pytest.raises(PictureError, match="uint16"):
        image.to_network(picture, Feed("y"), dtype=np.uint16)


def test_alpha() -> None:
    picture = random_picture((3, 4, 4), "uint16")
    colour, alpha = image.split_alpha(picture)
    assert alpha is not None and colour.shape == (3, 4, 3) and np.array_equal(image.merge_alpha(colour, alpha), picture)
    for shape in ((3, 4), (3, 4, 1), (3, 4, 3)):
        opaque = random_picture(shape, "uint8")
        colour, alpha = image.split_alpha(opaque)
        assert alpha is None and colour.shape == (shape if shape[-1] != 1 else (3, 4)) and np.array_equal(image.like(colour, opaque), opaque)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (None, "imread"),
        ([[1, 2]], "NumPy array, got list"),
        (np.zeros((4, 4), np.float64), "float32"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), ">u2" if np.little_endian else "<u2"), "not supported"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), "got 2"),
        (np.zeros((4, 4, 5), np.uint8), "got 5"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0), np.uint8), "empty"),
    ],
)
def test_bad_pictures(picture: Any, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        image.check_picture(picture)


def test_bad_feeds_and_outputs() -> None:
    grey = np.zeros((4, 4), np.uint8)
    with pytest.raises(PictureError, match="use Model"):
        image.to_network(grey, Feed())
    with pytest.raises(PictureError, match="2 means for 3 channels"):
        image.to_network(grey, Feed("rgb", mean=(1.0, 2.0)))
    with pytest.raises(PictureError, match="not a picture"):
        image.from_network(np.zeros((1, 2, 8, 8), np.float32), image.to_network(grey, Feed("y"))[1])


# ---- the C++ pictures ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["scalar", "avx2", "avx512", "neon"])
def core(request: pytest.FixtureRequest) -> Any:
    core = pytest.importorskip("fastsr._core", reason="the C++ core is not built")
    if request.param not in core.isas():
        pytest.skip(f"this machine has no {request.param}")
    core.set_isa(request.param)
    yield core
    core.set_isa("")


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "bgr"])
@pytest.mark.parametrize("dtype", [*DTYPES, "cv2 float"])
def test_core_pictures(core: Any, dtype: str, channels: int) -> None:
    """The core's upscale() has the bits of image.py around the core's own run(), for all feeds, sizes, layouts and tiles."""
    options = {"white": 255.0, "dtype": np.uint8} if dtype == "cv2 float" else {}
    core_options = {"white": 255.0, "to_u8": True} if options else {}
    for feed in FEEDS:
        for scale in (1, 2, 3, 8) if feed == FEEDS[0] else (2,):
            program = fsr.dumps(shuffle_network(feed, scale))
            models = [core.Model(program, tile=tile) for tile in (0, 16)]
            for size in SIZES:
                picture = random_picture(size if channels == 1 else (*size, 3), "float32" if options else dtype, scale)
                if options:
                    picture *= np.float32(255)
                x, rest = image.to_network(picture, feed, **options)
                expected = image.from_network(models[0].run([x], [0])[0], rest)
                for model in models:
                    got = model.upscale(picture, **core_options)
                    assert got.dtype == expected.dtype and np.array_equal(got, expected), (feed, scale, size)
            for name, other in strange_layouts(picture).items():
                assert np.array_equal(models[1].upscale(other, **core_options), expected), (feed, scale, name)
