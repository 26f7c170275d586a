"""fastsr.dnn_superres beside the real cv2.dnn_superres: pictures, arguments and errors."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import ODD_SIZES, OPENCV_MODELS, ModelCase
from cuda_emulator import Emulator, compiler
from pictures import repeat_network, shuffle_network
from tensorflow_graphs import Frozen

import fastsr
from fastsr import dnn_superres, fsr, image
from fastsr.backends import cuda
from fastsr.graph import Feed

ESPCN, LAPSRN, LAPSRN_X4 = OPENCV_MODELS[0], OPENCV_MODELS[5], OPENCV_MODELS[6]
SET5 = ("baby", "bird", "butterfly", "head", "woman")


@pytest.fixture(scope="module")
def cv2() -> Any:
    module = pytest.importorskip("cv2")
    if not hasattr(module, "dnn_superres"):
        pytest.skip("this OpenCV has no dnn_superres: pip install opencv-contrib-python")
    return module


@pytest.fixture(params=["fastsr", "cv2"])
def module(request: pytest.FixtureRequest) -> Any:
    """Each test that uses this runs once with ours and once with OpenCV's."""
    return dnn_superres if request.param == "fastsr" else request.getfixturevalue("cv2").dnn_superres


def engine(module: Any, shared: Path, case: ModelCase) -> Any:
    """A ready object of either module."""
    made = module.DnnSuperResImpl_create()
    made.readModel(str(shared / case.path))
    made.setModel(case.algorithm, case.scale)
    return made


def middle(picture: np.ndarray, pixels: int) -> np.ndarray:
    """The middle of a picture, with at most that many pixels."""
    h, w = picture.shape[:2]
    f = min(1.0, (pixels / (h * w)) ** 0.5)
    ch, cw = int(h * f), int(w * f)
    return picture[(h - ch) // 2 :][:ch, (w - cw) // 2 :][:, :cw]


def assert_same(ours: np.ndarray, theirs: np.ndarray, allowed: int = 0) -> None:
    """Every value within 1 grey level, 99.9 % of the pixels equal (or `allowed` pixels different, for tiny pictures)."""
    import cv2

    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.uint8
    if not cv2.ipp.useIPP():
        pytest.skip("this OpenCV is built without IPP and rounds chroma differently: docs/drop-in.md")
    difference = np.abs(ours.astype(int) - theirs).reshape(*ours.shape[:2], -1).max(axis=2)
    assert difference.max() <= 1
    assert (difference > 0).sum() <= max(allowed, 0.001 * difference.size)


# ---- pictures ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SET5)
@pytest.mark.parametrize("case", OPENCV_MODELS, ids=lambda c: c.id)
def test_set5(cv2: Any, shared: Path, case: ModelCase, name: str) -> None:
    picture = cv2.imread(str(shared / "images" / "Set5" / f"{name}.png"))
    picture = middle(picture, (100_000 if case.algorithm == "lapsrn" else 600_000) // case.scale**2)
    assert_same(engine(dnn_superres, shared, case).upsample(picture), engine(cv2.dnn_superres, shared, case).upsample(picture))


@pytest.mark.slow
@pytest.mark.parametrize("case", OPENCV_MODELS, ids=lambda c: c.id)
def test_set14_and_photo(cv2: Any, shared: Path, case: ModelCase) -> None:
    """OpenCV keeps whole feature maps, so what LapSRN enlarges is cut to what fits into memory."""
    ours, theirs = engine(dnn_superres, shared, case), engine(cv2.dnn_superres, shared, case)
    pictures = [cv2.imread(str(p)) for p in sorted((shared / "images" / "Set14").iterdir())]
    pictures.append(cv2.resize(cv2.imread(str(shared / "photos" / "000.jpg")), (1920, 1080), interpolation=cv2.INTER_AREA))
    for picture in pictures:
        part = middle(picture, (2_000_000 if case.algorithm == "lapsrn" else 40_000_000) // case.scale**2)
        assert_same(ours.upsample(part), theirs.upsample(part))


@pytest.mark.parametrize("case", OPENCV_MODELS, ids=lambda c: c.id)
def test_odd_sizes_grey_and_float(cv2: Any, shared: Path, case: ModelCase) -> None:
    ours, theirs = engine(dnn_superres, shared, case), engine(cv2.dnn_superres, shared, case)
    rng = np.random.default_rng(0)
    for h, w in ODD_SIZES[: 4 if case.scale == 8 else None]:
        picture = cv2.resize(rng.integers(0, 256, (h // 3 + 1, w // 3 + 1, 3)).astype(np.uint8), (w, h))
        floats = picture + rng.random(picture.shape, np.float32) - np.float32(0.5)
        for p in (picture, picture[..., 1], picture[..., :1], floats, floats[..., 2], picture.astype(np.float32)):
            assert_same(ours.upsample(p), theirs.upsample(p), allowed=2)


@pytest.mark.parametrize("channels", [1, 3])
def test_float_pictures_are_converted_in_the_core(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for bytes: in bounded memory, and with the bits of image.py."""
    if "cpu" not in fastsr.available_backends():
        pytest.skip("the C++ core is not built")
    fsr.save(shuffle_network(Feed("y"), 2), tmp_path / "m.fsr")
    made = dnn_superres.DnnSuperResImpl_create()
    made.readModel(str(tmp_path / "m.fsr"))
    made.setModel("espcn", 2)
    picture = np.random.default_rng(0).uniform(-20, 280, (19, 23, channels)).astype(np.float32)
    x, rest = image.to_network(picture[:, :, 0] if channels == 1 else picture, Feed("y"), white=255.0, dtype=np.uint8)
    expected = image.from_network(fastsr.load(tmp_path / "m.fsr", "cpu").run(x), rest)
    monkeypatch.setattr(image, "to_network", lambda *_, **__: pytest.fail("NumPy was used"))
    np.testing.assert_array_equal(made.upsample(picture), expected)


def test_layouts(cv2: Any, shared: Path) -> None:
    ours, theirs = engine(dnn_superres, shared, ESPCN), engine(cv2.dnn_superres, shared, ESPCN)
    picture = cv2.imread(str(shared / "images" / "Set5" / "bird.png"))[50:150, 40:160]
    for view in (
        picture[::-1],
        picture[:, ::-1, ::-1],
        picture[::3, 1::2],
        picture.transpose(1, 0, 2),
        np.asfortranarray(picture),
        picture[..., 1].T,
    ):
        assert_same(ours.upsample(view), theirs.upsample(view), allowed=2)


@pytest.mark.parametrize(("case", "factors"), [(LAPSRN_X4, (2, 4)), (OPENCV_MODELS[7], (8, 2, 4, 2))], ids=["x4", "x8"])
def test_multioutput(cv2: Any, shared: Path, case: ModelCase, factors: tuple[int, ...]) -> None:
    """OpenCV's binding loses its pictures, so each output is compared with cv2.dnn's and cv2's own colour steps."""
    picture = middle(cv2.imread(str(shared / "images" / "Set5" / "butterfly.png")), 40 * 50)
    names = [f"NCHW_output_{f}x" for f in factors]
    before: list[np.ndarray] = [picture]
    pictures = engine(dnn_superres, shared, case).upsampleMultioutput(picture, before, list(factors), names)
    assert pictures is before and len(pictures) == 1 + len(factors)
    path = str(shared / case.path)
    net = cv2.dnn.readNetFromTensorflow(path) if cv2.__version__ < "5" else cv2.dnn.readNetFromTensorflow(path, "", cv2.dnn.ENGINE_CLASSIC)
    ycrcb = cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb).astype(np.float32) * np.float32(1 / 255)
    net.setInput(np.ascontiguousarray(ycrcb[None, None, ..., 0]))
    for factor, out, ours in zip(factors, net.forward(names), pictures[1:], strict=True):
        chroma = [cv2.resize(np.ascontiguousarray(ycrcb[..., i]), None, fx=factor, fy=factor) for i in (1, 2)]
        merged = np.clip(np.rint(np.stack([out[0, 0], *chroma], axis=-1) * np.float32(255)), 0, 255).astype(np.uint8)
        assert_same(ours, cv2.cvtColor(merged, cv2.COLOR_YCrCb2BGR))
    assert_same(engine(dnn_superres, shared, case).upsample(picture), pictures[1 + factors.index(case.scale)])


def edsr_file(path: Path) -> Path:
    """A frozen graph with EDSR's input, output and colours."""
    rng, g = np.random.default_rng(0), Frozen()
    weight = (rng.standard_normal((3, 3, 3, 12)) * 0.1).astype(np.float32)
    weight[1, 1] += np.tile(np.eye(3, dtype=np.float32), (1, 4))
    y = g.conv(g.placeholder(name="IteratorGetNext"), weight)
    y = g.node("BiasAdd", y, g.const(rng.standard_normal(12).astype(np.float32)), data_format="NHWC")
    g.node("Transpose", g.node("DepthToSpace", y, block_size=2, data_format="NHWC"), g.ints(0, 3, 1, 2), name="NCHW_output")
    return g.save(path)


def test_edsr(cv2: Any, tmp_path: Path) -> None:
    path = str(edsr_file(tmp_path / "EDSR_x2.pb"))
    picture = np.random.default_rng(1).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    for p in (picture, picture + np.float32(0.3)):
        results = []
        for module in (dnn_superres, cv2.dnn_superres):
            made = module.DnnSuperResImpl_create()
            made.readModel(path)
            made.setModel("edsr", 2)
            results.append(made.upsample(p))
        assert_same(*results, allowed=2)


def test_fsr_files_keep_their_feed(tmp_path: Path) -> None:
    """An .fsr file says how it is fed; a raw one is fed as the algorithm's networks are."""
    picture = np.random.default_rng(1).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    for feed in (Feed("rgb"), Feed()):
        fsr.save(repeat_network(feed), tmp_path / "m.fsr")
        made = dnn_superres.DnnSuperResImpl_create()
        made.readModel(str(tmp_path / "m.fsr"))
        made.setModel("edsr", 2)
        assert np.array_equal(made.upsample(picture), np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)), feed


# ---- arguments -----------------------------------------------------------------------------------------------------------------------------


def test_result_argument(module: Any, shared: Path, cv2: Any) -> None:
    """Filled in place when it fits, left alone when it does not, refused when it cannot be written."""
    made = engine(module, shared, ESPCN)
    picture = np.full((8, 8, 3), 100, np.uint8)
    expected = made.upsample(picture)
    fitting = np.zeros((16, 16, 3), np.uint8)
    assert np.array_equal(made.upsample(picture, fitting), expected) and np.array_equal(fitting, expected)
    window = np.zeros((32, 40, 3), np.uint8)
    made.upsample(img=picture, result=window[8:24, 4:20])
    assert np.array_equal(window[8:24, 4:20], expected) and window.sum() == expected.sum()
    for other in (np.zeros((5, 5, 3), np.uint8), np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.uint8)):
        assert np.array_equal(made.upsample(picture, other), expected) and not other.any()
    fitting.flags.writeable = False
    for bad, words in ((fitting, "readonly"), (window[:16, ::2][:, :16], "incompatible"), (window[15::-1, :16], "incompatible")):
        with pytest.raises(cv2.error, match=words):
            made.upsample(picture, bad)


def test_umat(module: Any, shared: Path, cv2: Any) -> None:
    made = engine(module, shared, ESPCN)
    picture = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    expected = made.upsample(picture)
    given = cv2.UMat(np.zeros((18, 16, 3), np.uint8))
    for result in (made.upsample(cv2.UMat(picture)), made.upsample(picture, given), given):
        assert isinstance(result, cv2.UMat) and np.abs(result.get().astype(int) - expected).max() <= 1


def test_names_and_defaults(module: Any, shared: Path) -> None:
    for made in (module.DnnSuperResImpl_create(), module.DnnSuperResImpl.create()):
        assert isinstance(made, module.DnnSuperResImpl) and made.getAlgorithm() == ""
        made.setModel(algo="anything", scale=np.int64(-3))
        assert (made.getAlgorithm(), made.getScale()) == ("anything", -3)
        assert made.readModel(path=str(shared / ESPCN.path)) is None
        assert made.setPreferableBackend(backendId=0) is None and made.setPreferableTarget(targetId=0) is None
        made.setModel("fsrcnn", 2)
        assert made.upsample(img=np.zeros((4, 5, 3), np.uint8), result=None).shape == (8, 10, 3)
    assert dnn_superres.DnnSuperResImpl_create().getScale() == -1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: e.readModel(3), "Can't convert object to 'str' for 'path'"),
        (lambda e: e.readModel("a", "b"), "readModel"),
        (lambda e: e.readModel(), "path"),
        (lambda e: e.setModel("espcn"), "scale"),
        (lambda e: e.setModel("espcn", 2.0), "Argument 'scale' is required to be an integer"),
        (lambda e: e.setModel("espcn", "2"), "Argument 'scale' is required to be an integer"),
        (lambda e: e.setModel("espcn", True), "Argument 'scale' must be integer, not bool"),
    ],
)
def test_type_errors(module: Any, call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        call(module.DnnSuperResImpl_create())
    with pytest.raises(ValueError, match="C int"):
        module.DnnSuperResImpl_create().setModel("espcn", 2**40)


def test_threads_share_one_object(shared: Path) -> None:
    """Different pictures at once through one object, while its model is read again and again."""
    made = engine(dnn_superres, shared, ESPCN)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20 + 7 * i, 90 - 5 * i, 3)).astype(np.uint8) for i in range(6)]
    expected = [made.upsample(p) for p in pictures]
    failures: list[str] = []

    def work(k: int) -> None:
        try:
            for i in range(12):
                j = (i + k) % len(pictures)
                if not np.array_equal(made.upsample(pictures[j]), expected[j]):
                    failures.append(f"thread {k}, picture {j}")
                if k == 0:
                    made.readModel(str(shared / ESPCN.path))
        except Exception as e:
            failures.append(repr(e))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


# ---- errors --------------------------------------------------------------------------------------------------------------------------------

COLOUR = np.zeros((8, 8, 3), np.uint8)


def ready(module: Any, shared: Path) -> Any:
    return engine(module, shared, ESPCN)


def multi(module: Any, shared: Path) -> Any:
    return engine(module, shared, LAPSRN_X4).upsampleMultioutput


def without_model(module: Any, algorithm: str = "espcn") -> Any:
    made = module.DnnSuperResImpl_create()
    made.setModel(algorithm, 4)
    return made


def with_algorithm(module: Any, shared: Path, algorithm: str, scale: int = 2) -> Any:
    made = ready(module, shared)
    made.setModel(algorithm, scale)
    return made


SAME_ERRORS: dict[str, Callable[[Any, Path], Any]] = {
    "no model": lambda m, s: m.DnnSuperResImpl_create().upsample(COLOUR),
    "no model, algorithm set": lambda m, s: without_model(m).upsample(COLOUR),
    "unknown algorithm": lambda m, s: with_algorithm(m, s, "foo").upsample(COLOUR),
    "algorithm in capitals": lambda m, s: with_algorithm(m, s, "ESPCN").upsample(COLOUR),
    "no algorithm": lambda m, s: with_algorithm(m, s, "").upsample(COLOUR),
    "empty path": lambda m, s: m.DnnSuperResImpl_create().readModel(""),
    "path None": lambda m, s: m.DnnSuperResImpl_create().readModel(None),
    "backend before model": lambda m, s: m.DnnSuperResImpl_create().setPreferableBackend(0),
    "target before model": lambda m, s: m.DnnSuperResImpl_create().setPreferableTarget(0),
    "multi: empty": lambda m, s: multi(m, s)(np.zeros((0, 0, 3), np.uint8), [], [2], ["NCHW_output_2x"]),
    "multi: sizes": lambda m, s: multi(m, s)(COLOUR, [], [2, 4], ["NCHW_output_2x"]),
    "multi: nothing": lambda m, s: multi(m, s)(COLOUR, [], [], []),
    "multi: not lapsrn": lambda m, s: ready(m, s).upsampleMultioutput(COLOUR, [], [2], ["NCHW_output"]),
    "multi: not lapsrn, no model": lambda m, s: without_model(m).upsampleMultioutput(COLOUR, [], [2], ["NCHW_output"]),
    "multi: no model": lambda m, s: without_model(m, "lapsrn").upsampleMultioutput(COLOUR, [], [2], ["NCHW_output_2x"]),
    "multi: type": lambda m, s: multi(m, s)(COLOUR.astype(np.uint16), [], [2], ["NCHW_output_2x"]),
}
for _shape, _dtype in (
    ((8, 8, 4), "uint8"), ((8, 8, 2), "uint8"), ((8, 8, 5), "uint8"), ((8, 8, 3), "uint16"), ((8, 8), "uint16"), ((8, 8, 3), "float64"),
    ((8, 8, 1), "float64"), ((8, 8, 3), "float16"), ((8, 8, 3), "int8"), ((8, 8, 3), "int16"), ((8, 8), "int32"), ((8, 8, 4), "float32"),
):  # fmt: skip
    SAME_ERRORS[f"{_dtype} {_shape}"] = lambda m, s, shape=_shape, dtype=_dtype: ready(m, s).upsample(np.zeros(shape, dtype))


def code_and_words(error: BaseException) -> tuple[int, str]:
    """From the text, which is the same in form for both."""
    found = re.search(r"error: \((-\d+):[^)]*\) (.*) in function '\w+'", str(error), re.DOTALL)
    assert found, str(error)
    return int(found[1]), found[2]


@pytest.mark.parametrize("name", SAME_ERRORS)
def test_same_errors(cv2: Any, shared: Path, name: str) -> None:
    """Same moment, same code, same words, and caught by `except cv2.error`."""
    with pytest.raises(cv2.error) as theirs:
        SAME_ERRORS[name](cv2.dnn_superres, shared)
    with pytest.raises(cv2.error) as ours:
        SAME_ERRORS[name](dnn_superres, shared)
    assert code_and_words(ours.value) == code_and_words(theirs.value)
    assert isinstance(ours.value, fastsr.FastsrError)
    e: Any = ours.value
    assert (e.code, e.err) == code_and_words(e) and e.msg == str(e) and e.func in str(e) and e.file and e.line == 0


def damaged_files(folder: Path, good: bytes) -> dict[str, Path]:
    """Files that are no models."""
    files = {"empty.pb": b"", "html.pb": b"<!DOCTYPE html><html>404</html>", "cut.pb": good[: len(good) // 2], "cut.fsr": fsr.MAGIC + good[:40],
             "random.pb": np.random.default_rng(0).bytes(5000)}  # fmt: skip
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {**{n: folder / n for n in files}, "missing": folder / "missing.pb", "folder": folder}


def test_unreadable_models(cv2: Any, shared: Path, tmp_path: Path) -> None:
    """cv2.error in both, StsError and the file's name in ours; the model read before stays."""
    for name, path in damaged_files(tmp_path, (shared / ESPCN.path).read_bytes()).items():
        with pytest.raises(cv2.error):
            cv2.dnn_superres.DnnSuperResImpl_create().readModel(str(path))
        made = ready(dnn_superres, shared)
        with pytest.raises(cv2.error) as ours:
            made.readModel(str(path))
        code, words = code_and_words(ours.value)
        assert code == -2 and str(path) in words, name
        assert made.upsample(COLOUR).shape == (16, 16, 3)


BETTER_ERRORS: dict[str, tuple[Callable[[Any, Path], Any], int, str]] = {
    "None": (lambda m, s: ready(m, s).upsample(None), -215, "imread"),
    "zero height": (lambda m, s: ready(m, s).upsample(np.zeros((0, 5, 3), np.uint8)), -215, r"empty.*\(0, 5, 3\)"),
    "four dimensions": (lambda m, s: ready(m, s).upsample(np.zeros((1, 8, 8, 3), np.uint8)), -215, r"\(1, 8, 8, 3\)"),
    "a list": (lambda m, s: ready(m, s).upsample([[1, 2], [3, 4]]), -5, "not a numpy array"),
    "complex": (lambda m, s: ready(m, s).upsample(COLOUR.astype(complex)), -5, "complex128 is not supported"),
    "wrong scale": (lambda m, s: with_algorithm(m, s, "espcn", 3).upsample(COLOUR), -5, "scale 3.*ESPCN_x2.pb.* enlarges by 2"),
    "edsr with a Y network": (lambda m, s: with_algorithm(m, s, "edsr").upsample(COLOUR), -5, "'edsr' feeds 3 channels.*takes 1"),
    "multi: no such output": (lambda m, s: multi(m, s)(COLOUR, [], [2], ["foo"]), -204, "no output 'foo', only NCHW_output"),
    "multi: wrong scale": (lambda m, s: multi(m, s)(COLOUR, [], [3], ["NCHW_output_2x"]), -5, "says 3 .*enlarges it by 2"),
    "multi: None": (lambda m, s: multi(m, s)(None, [], [2], ["NCHW_output_2x"]), -215, "empty"),
}


@pytest.mark.parametrize("name", BETTER_ERRORS)
def test_errors_that_say_more(cv2: Any, shared: Path, name: str) -> None:
    """OpenCV fails too, in words about its insides (or, for a grey picture and a wrong scale, gives another size than asked for)."""
    call, code, words = BETTER_ERRORS[name]
    with pytest.raises(cv2.error):
        call(cv2.dnn_superres, shared)
    with pytest.raises(cv2.error, match=words) as ours:
        call(dnn_superres, shared)
    assert code_and_words(ours.value)[0] == code


def test_failed_multioutput_leaves_the_list(shared: Path) -> None:
    pictures: list[np.ndarray] = []
    with pytest.raises(fastsr.FastsrError):
        multi(dnn_superres, shared)(COLOUR, pictures, [2, 4], ["NCHW_output_2x", "foo"])
    assert pictures == []
    assert len(multi(dnn_superres, shared)(COLOUR, None, [2], ["NCHW_output_2x"])) == 1


def test_network_of_fractions(tmp_path: Path) -> None:
    """A scale that setModel cannot express is named."""
    fsr.save(shuffle_network(Feed("y"), 3, stride=2), tmp_path / "m.fsr")
    made = dnn_superres.DnnSuperResImpl_create()
    made.readModel(str(tmp_path / "m.fsr"))
    made.setModel("espcn", 2)
    with pytest.raises(fastsr.FastsrError, match="enlarges by 3/2"):
        made.upsample(COLOUR)


def test_cuda_is_asked_for(cv2: Any, shared: Path) -> None:
    made = ready(dnn_superres, shared)
    if "cuda" in fastsr.available_backends():
        pytest.skip("there is a GPU")
    made.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
    with pytest.warns(RuntimeWarning, match="'cuda' is not available: .*CPU"):
        made.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
    assert made.upsample(COLOUR).shape == (16, 16, 3)


def test_cuda_does_the_work_where_it_can(cv2: Any, shared: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiler() is None:
        pytest.skip("needs a C++ compiler")
    gpu = Emulator(kernels)
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(cuda.devices, "CupyDevice", lambda number: gpu)
    made = ready(dnn_superres, shared)
    expected = made.upsample(COLOUR).astype(int)
    for target, kind in ((cv2.dnn.DNN_TARGET_CUDA, "float"), (cv2.dnn.DNN_TARGET_CUDA_FP16, "half")):
        made.setPreferableTarget(target)
        made.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
        gpu.launches.clear()
        assert np.abs(made.upsample(COLOUR).astype(int) - expected).max() <= 1
        assert f"read_picture<{kind}>" in gpu.launches
        made.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        gpu.launches.clear()
        np.testing.assert_array_equal(made.upsample(COLOUR), expected)
        assert not gpu.launches


def test_half_floats_on_the_cpu_are_fast(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastsr._core", reason="the C++ extension is not built")
    half, cpu, opencl = 10, 0, 1  # cv2.dnn.DNN_TARGET_*
    picture = np.random.default_rng(3).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    for name in ("FASTSR_BACKEND", "FASTSR_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    exact, fast = (fastsr.load(shared / LAPSRN.path, precision=p) for p in ("f32", "fast"))
    expected = {p: m.run(image.to_network(picture, m.feed)[0]).tobytes() for p, m in (("f32", exact), ("fast", fast))}
    assert expected["f32"] != expected["fast"]
    made = engine(dnn_superres, shared, LAPSRN)

    def precision() -> str:
        model = made._ready("lapsrn", 2, "upsample")
        assert model is made._ready("lapsrn", 2, "upsample")
        assert model.run(image.to_network(picture, model.feed)[0]).tobytes() == expected[model.precision]
        np.testing.assert_array_equal(made.upsample(picture), model.upscale(picture))
        return model.precision

    assert precision() == "f32"
    for target in (half, cpu, half, opencl, half):
        made.setPreferableTarget(target)
        assert precision() == ("fast" if target == half else "f32")
    made.setPreferableBackend(3)
    assert precision() == "fast"
    made.readModel(str(shared / LAPSRN.path))
    assert precision() == "f32"
    monkeypatch.setenv("FASTSR_PRECISION", "fast")
    made.readModel(str(shared / LAPSRN.path))
    assert precision() == "fast"


def test_half_floats_without_the_core(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSR_BACKEND", "reference")
    made = ready(dnn_superres, shared)
    with pytest.warns(RuntimeWarning, match="reference backend computes in f32"):
        made.setPreferableTarget(10)
    assert made.upsample(COLOUR).shape == (16, 16, 3)


def test_without_cv2(shared: Path) -> None:
    """Everything works where cv2 cannot be imported; errors are FastsrErrors with the same attributes."""
    script = f"""
import sys
sys.modules["cv2"] = None
import numpy as np, fastsr
from fastsr.dnn_superres import DnnSuperResImpl_create
e = DnnSuperResImpl_create()
try:
    e.upsample(np.zeros((4, 4), np.uint8))
except fastsr.FastsrError as error:
    assert error.code == -2 and type(error).__name__ == "error"
e.readModel({str(shared / ESPCN.path)!r})
e.setModel("espcn", 2)
print(e.upsample(np.zeros((4, 5, 3), np.uint8)).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(8, 10, 3)\n"), done.stderr
