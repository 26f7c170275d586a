"""The drop-in: the names, arguments, defaults and errors of `cv2.dnn_superres`, over `model.py` and `image.py`. docs/drop-in.md has the differences.

Works without OpenCV. Where `cv2` can be imported, every error raised here is also a `cv2.error` with its attributes code, err, func, file, line and
msg, so that existing handlers keep working; it is always a `fastsr.FastsrError` as well.
"""

from __future__ import annotations

import functools
import importlib
import operator
import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import fsr, image, shipped
from ._version import __version__
from .backends import backend_module
from .errors import BackendError, FastsrError, ModelError, PictureError
from .graph import Feed
from .model import Model, fed, load

__all__ = ["DnnSuperResImpl", "DnnSuperResImpl_create"]

Y_ALGORITHMS = ("espcn", "fsrcnn", "lapsrn")
Y_FEED = Feed(colour="y")
_DIV2K_MEAN = (103.1545782, 111.561547, 114.35629928)
EDSR_FEED = Feed(colour="bgr", range=255.0, mean=_DIV2K_MEAN, out_range=255.0, out_mean=_DIV2K_MEAN)

_STS_ERROR, _STS_BAD_ARG, _STS_OBJECT_NOT_FOUND, _STS_NOT_IMPLEMENTED, _STS_ASSERT = -2, -5, -204, -213, -215
_CODE_TEXT = {
    _STS_ERROR: "Unspecified error",
    _STS_BAD_ARG: "Bad argument",
    _STS_OBJECT_NOT_FOUND: "Requested object was not found",
    _STS_NOT_IMPLEMENTED: "The function/feature is not implemented",
    _STS_ASSERT: "Assertion failed",
}
_DEPTHS = {"uint8": "8U", "int8": "8S", "uint16": "16U", "int16": "16S", "int32": "32S", "int64": "32S", "float16": "16F", "float32": "32F",
           "float64": "64F", "uint32": "32U", "bool": "Bool"}  # fmt: skip
_CUDA_BACKEND, _CUDA_TARGETS, _HALF_TARGET = 5, {6: "f32", 7: "fast"}, 10


@functools.cache
def _error_type(*base: type[Exception]) -> type[Exception]:
    return type("error", (*base, FastsrError), {"__module__": __name__, "__doc__": "An error of dnn_superres."})


def error_type() -> type[Exception]:
    """The class of every error raised here: a FastsrError, and a cv2.error where cv2 can be imported."""
    try:
        base = importlib.import_module("cv2").error
    except Exception:
        base = None
    usable = isinstance(base, type) and issubclass(base, Exception) and base is not Exception
    return _error_type(base) if usable else _error_type()


def _fail(code: int, err: str, func: str, cause: BaseException | None = None) -> NoReturn:
    text = f"fastsr({__version__}) dnn_superres.py: error: ({code}:{_CODE_TEXT[code]}) {err} in function '{func}'\n"
    e: Any = error_type()(text)
    e.code, e.err, e.func, e.file, e.line, e.msg = code, err, func, "dnn_superres.py", 0, text
    raise e from cause


class DnnSuperResImpl:
    """Upscales pictures with a trained network: cv2.dnn_superres.DnnSuperResImpl, one object usable from many threads at once.

    Every method may raise `error_type()` (a cv2.error), with OpenCV's codes and words wherever OpenCV has an error for the case.
    """

    def __init__(self) -> None:
        self._setting = ("", -1)
        self._path = ""
        self._model: Model | None = None
        self._fed: dict[tuple[Feed, str, str | None], Model] = {}
        self._where: tuple[str, str | None] = "auto", None
        self._backend_id = self._target_id = 0
        self._lock = threading.Lock()

    @staticmethod
    def create() -> DnnSuperResImpl:
        """A new object without a model."""
        return DnnSuperResImpl()

    def readModel(self, path: str | bytes | os.PathLike[str]) -> None:
        """Read a model file of any format that `fastsr.load` reads. The model read before stays when this fails.

        Raises StsBadArg for an empty path, StsError for a file that is missing or no model. TypeError for anything but a path.
        """
        name = _text("path", path)
        if not name:
            _fail(_STS_BAD_ARG, "Could not load model: ", "readModel")
        try:
            model = load(Path(name).absolute()) if Path(name).exists() else None
        except OSError as e:
            _fail(_STS_ERROR, f'Can\'t open "{name}": {e.strerror or e}', "readModel", e)
        except (ModelError, BackendError) as e:
            _fail(_STS_ERROR, f"Failed to parse model file: {e}", "readModel", e)
        if model is None:
            _fail(_STS_ERROR, f'Can\'t open "{name}": no such file{_hint(name)}', "readModel")
        with self._lock:
            self._path, self._model, self._fed, self._where = name, model, {}, ("auto", None)

    def setModel(self, algo: str, scale: int) -> None:
        """Set the algorithm ("espcn", "fsrcnn", "lapsrn" or "edsr") and the factor. Nothing is checked before `upsample`.

        Raises TypeError for a scale that is not an integer, ValueError for one beyond 32 bits.
        """
        self._setting = (_text("algo", algo), _c_int("scale", scale))

    def upsample(self, img: Any, result: Any = None) -> Any:
        """The enlarged picture, uint8.

        img: uint8 or float32 (0..255), (H, W), (H, W, 1) or (H, W, 3) BGR, any strides; or a cv2.UMat, and then the result is one.
        result: filled in place and returned when it has the result's type and shape, ignored otherwise; an array that is read-only or whose
        pixels do not follow each other is an error.
        """
        as_umat = _is_umat(img) or _is_umat(result)
        img = img.get() if _is_umat(img) else img
        _check_result(result)
        algorithm, scale = self._setting
        model = self._ready(algorithm, scale, "upsample")
        picture = _check_picture(img, "upsample")
        if scale != model.scale:
            _fail(_STS_BAD_ARG, f"setModel() says scale {scale}, but the network in '{self._path}' enlarges by {model.scale}: "
                                f'call setModel("{algorithm}", {model.scale}) or read another model', "upsample")  # fmt: skip
        try:
            out = model.upscale_to_u8(picture)
        except PictureError as e:
            _fail(_STS_BAD_ARG, str(e), "upsample", e)
        except BackendError as e:
            _fail(_STS_ERROR, str(e), "upsample", e)
        if as_umat:
            return _to_umat(out, result)
        if isinstance(result, np.ndarray) and result.dtype == out.dtype and result.shape == out.shape:
            result[...] = out
            return result
        return out

    def upsampleMultioutput(
        self, img: Any, imgs_new: Sequence[np.ndarray] | None, scale_factors: Sequence[int], node_names: Sequence[str]
    ) -> list[np.ndarray]:
        """Upscale once with a LapSRN model and take several of its outputs.

        img: as for `upsample`. scale_factors: the factor of each node in node_names ("NCHW_output_2x", "NCHW_output_4x", ...).
        The uint8 pictures are appended to imgs_new, which is returned; where it is not a list, a new list with its items is.
        """
        func = "upsampleMultioutput"
        img = img.get() if _is_umat(img) else img
        if img is None or np.size(img) == 0:
            _fail(_STS_ASSERT, "!img.empty()", func)
        factors, names = [_c_int("scale_factors", s) for s in scale_factors], [str(n) for n in node_names]
        if len(factors) != len(names):
            _fail(_STS_ASSERT, "scale_factors.size() == node_names.size()", func)
        if not factors:
            _fail(_STS_ASSERT, "!scale_factors.empty()", func)
        algorithm = self._setting[0]
        if algorithm != "lapsrn":
            _fail(_STS_BAD_ARG, "Only LapSRN support multiscale upsampling for now.", func)
        model = self._ready(algorithm, self._setting[1], func)
        picture = _check_picture(img, func)
        for name, factor in zip(names, factors, strict=True):
            if name not in model.outputs:
                _fail(_STS_OBJECT_NOT_FOUND, f"the network in '{self._path}' has no output '{name}', only {', '.join(model.outputs)}", func)
            own = _whole(model.program.scale(model.outputs.index(name)) * model.feed.pre_scale)
            if factor != own:
                _fail(_STS_BAD_ARG, f"scale_factors says {factor} for '{name}', but the network in '{self._path}' enlarges it by {own}", func)
        try:
            x, rest = image.to_network(picture, model.feed, white=255.0, dtype=np.uint8)
            outputs = model.run(x, outputs=list(dict.fromkeys(names)))
            assert isinstance(outputs, dict)
            pictures = [image.from_network(outputs[name], rest) for name in names]
        except PictureError as e:
            _fail(_STS_BAD_ARG, str(e), func, e)
        except BackendError as e:
            _fail(_STS_ERROR, str(e), func, e)
        if isinstance(imgs_new, list):
            imgs_new.extend(pictures)
            return imgs_new
        return [*(imgs_new if imgs_new is not None else ()), *pictures]

    def setPreferableBackend(self, backendId: int) -> None:
        """Choose where to run, by the numbers of cv2.dnn: DNN_BACKEND_CUDA with a target of CUDA is our CUDA backend, everything else the CPU."""
        if self._model is None:
            _fail(_STS_ERROR, "Model is emtpy. Please read a model before setting the backend.", "setPreferableBackend")
        self._backend_id = _c_int("backendId", backendId)
        self._choose_backend()

    def setPreferableTarget(self, targetId: int) -> None:
        """Choose what to run on, by the numbers of cv2.dnn, until another target is set or a model is read.

        DNN_TARGET_CUDA and DNN_TARGET_CUDA_FP16 together with DNN_BACKEND_CUDA: the GPU, in the precision "f32" or "fast". Where it cannot be used a
        RuntimeWarning says why, and the CPU does the work, as with OpenCV. DNN_TARGET_CPU_FP16: the precision "fast".
        """
        model = self._model
        if model is None:
            _fail(_STS_ERROR, "Model is empty. Please read a model before setting the target.", "setPreferableTarget")
        self._target_id = _c_int("targetId", targetId)
        if self._target_id == _HALF_TARGET and model.backend != "cpu":
            warnings.warn(f"the {model.backend} backend computes in f32 only: upsample() does", RuntimeWarning, stacklevel=2)
        self._choose_backend()

    def getScale(self) -> int:
        """The factor given to setModel, -1 before."""
        return self._setting[1]

    def getAlgorithm(self) -> str:
        """The algorithm given to setModel, '' before."""
        return self._setting[0]

    def _choose_backend(self) -> None:
        assert self._model is not None
        self._where = "auto", "fast" if self._target_id == _HALF_TARGET and self._model.backend == "cpu" else None
        if self._backend_id != _CUDA_BACKEND or self._target_id not in _CUDA_TARGETS:
            return
        try:
            backend_module("cuda")
            self._where = "cuda", _CUDA_TARGETS[self._target_id]
        except BackendError as e:
            warnings.warn(f"{e}; until then upsample() runs on the CPU", RuntimeWarning, stacklevel=3)

    def _ready(self, algorithm: str, scale: int, func: str) -> Model:
        """The model, fed as cv2 feeds that algorithm. Files that cv2 cannot read know better how they are fed, and may enlarge by any factor."""
        with self._lock:
            model, path, (backend, precision) = self._model, self._path, self._where
        if model is None:
            _fail(_STS_ERROR, "Model not specified. Please set model via setModel().", func)
        if algorithm not in (*Y_ALGORITHMS, "edsr"):
            _fail(_STS_NOT_IMPLEMENTED, f"Unknown/unsupported superres algorithm: {algorithm}", func)
        feed = EDSR_FEED if algorithm == "edsr" else Y_FEED
        wanted = 3 if algorithm == "edsr" else 1
        channels = [model.program.values[i].channels for i in model.program.inputs]
        if channels != [wanted]:
            _fail(_STS_BAD_ARG, f"the algorithm '{algorithm}' feeds {wanted} channel{'s' if wanted > 1 else ''}, but the network in '{path}' "
                                f"takes {' and '.join(map(str, channels))}: call setModel() with the algorithm of that network", func)  # fmt: skip
        if model.feed != feed and model.feed.colour != "raw" and (_is_fsr(path) or "architecture" in model.program.meta):
            feed = fed(model.program, {}, max(scale, 1)).feed
        if model.feed == feed and backend in ("auto", model.backend) and precision in (None, model.precision):
            return model
        program = replace(model.program, feed=feed)
        try:
            with self._lock:
                if self._model is not model:
                    return Model(program, backend, precision)
                if (feed, backend, precision) not in self._fed:
                    self._fed[feed, backend, precision] = Model(program, backend, precision)
                return self._fed[feed, backend, precision]
        except BackendError as e:
            _fail(_STS_ERROR, str(e), func, e)


def DnnSuperResImpl_create() -> DnnSuperResImpl:
    """A new DnnSuperResImpl without a model."""
    return DnnSuperResImpl()


# ---- arguments ---------------------------------------------------------------------------------------------------------------------------------


def _hint(name: str) -> str:
    """Of a path that does not exist: which file a name means that `fastsr.load` knows, and cv2 would not."""
    return f"; the network of that name that comes with fastsr is '{shipped.find(name)}'" if shipped.is_shipped(name) else ""


def _text(name: str, value: Any) -> str:
    """As cv2 takes strings: None is the empty one."""
    if value is None:
        return ""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"Can't convert object to 'str' for '{name}'")
    return os.fsdecode(value)


def _c_int(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"Argument '{name}' must be integer, not bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"Argument '{name}' is required to be an integer") from None
    if not -(2**31) <= number < 2**31:
        raise ValueError("integer won't fit into a C int")
    return number


def _whole(scale: Fraction) -> int | Fraction:
    return scale.numerator if scale.denominator == 1 else scale


def _is_fsr(path: str) -> bool:
    try:
        with Path(path).open("rb") as f:
            return f.read(len(fsr.MAGIC)) == fsr.MAGIC
    except OSError:
        return False


def _check_picture(img: Any, func: str) -> np.ndarray:
    """The picture as (H, W) or (H, W, 3), uint8 or float32."""
    if img is None:
        _fail(_STS_ASSERT, "!img.empty(): the picture is None, cv2.imread gives that for a file it cannot read", func)
    if not isinstance(img, np.ndarray):
        _fail(_STS_BAD_ARG, f"img is not a numpy array, but {type(img).__name__}", func)
    if img.dtype.name not in _DEPTHS or not img.dtype.isnative:
        _fail(_STS_BAD_ARG, f"img data type = {img.dtype} is not supported", func)
    if img.ndim not in (2, 3):
        _fail(_STS_ASSERT, f"img.dims() == 2: a picture has shape (H, W) or (H, W, channels), not {img.shape}", func)
    if img.size == 0:
        _fail(_STS_ASSERT, f"!img.empty(): the picture has shape {img.shape}", func)
    channels = 1 if img.ndim == 2 else img.shape[2]
    if img.dtype not in (np.uint8, np.float32) or channels not in (1, 3):
        _fail(_STS_BAD_ARG, f"Not supported image type: CV_{_DEPTHS[img.dtype.name]}C{channels}", func)
    return img[:, :, 0] if img.ndim == 3 and channels == 1 else img


def _check_result(result: Any) -> None:
    if result is None or _is_umat(result):
        return
    if not isinstance(result, np.ndarray):
        _fail(_STS_BAD_ARG, f"result is not a numpy array, but {type(result).__name__}", "upsample")
    if not result.flags.writeable:
        _fail(_STS_BAD_ARG, "result marked as output argument, but provided NumPy array marked as readonly", "upsample")
    row = result[:1] if result.ndim else result
    if not row.flags.c_contiguous or (result.ndim and result.strides[0] < 0):
        _fail(_STS_BAD_ARG, "Layout of the output array result is incompatible with cv::Mat: its rows must be contiguous", "upsample")


def _is_umat(value: Any) -> bool:
    return type(value).__name__ == "UMat" and type(value).__module__.partition(".")[0] == "cv2"


def _to_umat(out: np.ndarray, result: Any) -> Any:
    umat = importlib.import_module("cv2").UMat(out)
    if _is_umat(result):
        importlib.import_module("cv2").copyTo(umat, None, result)
        return result
    return umat
