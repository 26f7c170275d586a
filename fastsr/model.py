"""The straight line from a model file to a picture. Read this first."""

from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from . import fsr, knobs, shipped
from .backends import Progress, pick_backend
from .errors import ModelError, PictureError
from .graph import Feed
from .levels import is_quantised
from .program import Program
from .views import check_views, mean_of_views

if TYPE_CHECKING:
    from .many import Many


def load_program(path: str | os.PathLike[str], scale: float | None = None, feed: Mapping[str, Any] | None = None) -> Program:
    """The lowered network in a model file, or the filter, or the network that comes with fastsr, of that name; see `load` for all arguments."""
    from . import baselines, lower, passes

    _check_scale(scale)
    name = os.fspath(path)
    if baselines.is_baseline(name) and not Path(path).exists():
        graph = baselines.baseline_graph(name, 2 if scale is None else scale)
        return lower.lower(passes.optimise(graph))
    if not Path(path).is_file() and shipped.is_shipped(name):
        path = shipped.find(name, scale)
    elif not Path(path).exists() and shipped.is_name(name):
        there = shipped.names()
        others = f"those that come with fastsr are {', '.join(there)}" if there else "none comes with this installation"
        raise FileNotFoundError(errno.ENOENT, f"no such model file and no network of this name: {others}", name)
    program = fed(_read_program(path, scale), feed or {}, scale)
    if scale is not None and scale != _enlargement(program):
        raise ModelError(f"'{os.fspath(path)}' enlarges by {_enlargement(program)}, not by {scale}: leave the scale out or choose another model")
    return program


def _check_scale(scale: object) -> None:
    number = isinstance(scale, (int, float, Fraction, np.number)) and not isinstance(scale, bool)
    if scale is not None and not (number and math.isfinite(scale)):  # type: ignore[arg-type]
        raise ModelError(f"scale {scale!r}: a number is needed, such as 2")


def fed(program: Program, feed: Mapping[str, Any], scale: float | None = None) -> Program:
    """The program with these fields of its `Feed` changed; and a network that is fed enlarged pictures enlarges by `scale`, where that can be.

    Raises ModelError for a name that is none of Feed's and for values that do not go with the network.
    """
    unknown = [k for k in feed if k not in Feed.__dataclass_fields__]
    if unknown:
        raise ModelError(f"feed: there is no '{unknown[0]}', only {', '.join(Feed.__dataclass_fields__)}")
    changes: dict[str, Any] = {k: _feed_value(k, v) for k, v in feed.items()}
    if scale is not None and (program.feed.pre_scale > 1 or program.scale() == 1) and "pre_scale" not in changes:
        before = Fraction(scale) / program.scale()
        if before.denominator == 1 and before >= 1:
            changes["pre_scale"] = int(before)
    if not changes:
        return program
    program = replace(program, feed=replace(program.feed, **changes))
    program.validate()
    return program


def _feed_value(name: str, value: Any) -> Any:
    try:
        if name == "colour":
            return str(value)
        if name == "fine":
            return _truth(value)
        if name in ("mean", "out_mean"):
            return tuple(map(float, value))
        return int(value) if name == "pre_scale" else float(value)
    except (TypeError, ValueError, OverflowError) as e:
        raise ModelError(f"feed: {name}={value!r} cannot be: {e}") from None


def _truth(value: Any) -> bool:
    if str(value).lower() not in ("true", "false", "1", "0", "1.0", "0.0"):
        raise ValueError("choose true or false")
    return str(value).lower() in ("true", "1", "1.0")


def _read_program(path: str | os.PathLike[str], scale: float | None) -> Program:
    from . import importers, lower, passes

    if not os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, "no model file: the path is empty")
    if Path(path).is_file():
        with open(path, "rb") as f:
            if f.read(8) == fsr.MAGIC:
                return fsr.load(path)
    return lower.lower(passes.optimise(importers.load_graph(path, scale)))


def _enlargement(program: Program) -> int | Fraction:
    s = program.scale() * program.feed.pre_scale
    return s.numerator if s.denominator == 1 else s


def load(
    path: str | os.PathLike[str],
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    tile: int | None = None,
    *,
    scale: float | None = None,
    feed: Mapping[str, Any] | None = None,
    device: int | None = None,
) -> Model:
    """Load a trained network and make it ready to run on this machine.

    path: a model file of any format that fastsr reads (docs/formats.md lists them), recognised by its content; or the name of an interpolation filter
        ("nearest", "bilinear", "bicubic", "lanczos", "area"), or of a network that comes with fastsr ("balanced", "balanced_x2": docs/models.md).
    backend: "cpu" (the C++ core), "numba", "cuda" and "numba_cuda" (NVIDIA GPUs), "reference", or "auto" for the first of these that is available.
    precision: "f32"; "fast": 3x3 convolutions in 16-bit integers, wherever that keeps the result within 60 dB PSNR of f32's (backend "cpu"), or half
        floats on tensor cores ("cuda"); "int8" (backends "cpu", "reference"; quantised models only): the convolutions of 8-bit integers that the
        model consists of, exactly. In f32 a quantised model is computed in floats, rounded to integers where the file says so, so some are one off.
        None for FASTSR_PRECISION, or "int8" for a quantised model where the backend has it, else "f32", with the backend "cuda" "fast".
    threads: threads of each run; None for FASTSR_THREADS, `set_num_threads`, or all cores.
    tile: edge in input pixels of the pieces a picture is cut into; None lets the engine choose. Results do not depend on it.
    scale: how many times a filter enlarges, 2 when not given; which of the networks of one name that come with fastsr is taken, that of 2 when not
        given, where there is one; how many times a network enlarges that keeps the size and is fed pictures enlarged before (SRCNN, VDSR), 1 to 16;
        or which scale of weights for several (CARN, MDSR, LapSRN). Other networks have their own scale, and another number is an error.
    feed: fields of `fastsr.graph.Feed` by name, in place of what is known or guessed about how pictures are fed: {"colour": "bgr", "range": 255}.
    device: with "cuda" and "numba_cuda" the number of the GPU that the model lies and runs on, whichever GPU is current in the threads that use it;
        None for the one that is current now. Other backends have no devices, and a number is an error.
    Raises FileNotFoundError, IsADirectoryError, ModelError (unreadable or unsupported model), BackendError.
    """
    _check_number("threads", threads)
    _check_number("tile", tile)
    return Model(load_program(path, scale, feed), backend, precision, threads, tile, device)


def save_program(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program as .fsr or .onnx, see `Model.save`."""
    suffix = Path(path).suffix.lower()
    program = replace(program, meta={k: v for k, v in program.meta.items() if k != "scales"})  # the file holds one of them
    if suffix == ".onnx":
        from . import onnx_export

        onnx_export.save(program, path)
    elif suffix == ".fsr":
        fsr.save(program, path)
    else:
        raise ModelError(f"'{os.fspath(path)}': models are saved as .fsr or .onnx, choose a name ending in one of these")


def _check_number(name: str, number: int | None) -> None:
    if number is not None and (not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 1):
        raise ValueError(f"{name}={number!r}: a whole number of at least 1 is needed, or None")


class Model:
    """A network ready to run. One object may be used from many threads at once.

    Nothing of it changes, so `copy` gives the object itself. Pickled it is the program and the arguments: made ready anew where it is unpickled.
    """

    def __init__(
        self,
        program: Program,
        backend: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        tile: int | None = None,
        device: int | None = None,
    ) -> None:
        knobs.check()
        self._arguments = backend, precision, threads, tile, device
        if backend == "auto":
            backend = knobs.BACKEND.read() or "auto"
        if precision is None:
            precision = knobs.PRECISION.read()
        module = pick_backend(backend, device)
        if precision is None:
            precision = "int8" if "int8" in module.PRECISIONS and is_quantised(program) else module.PRECISIONS[0]
        self.program = program
        where = {} if device is None else {"device": int(device)}
        self._executable = module.compile(program, precision=precision, threads=threads, tile=tile or knobs.TILE.read_int(), **where)
        self.precision = precision
        if knobs.debug_level() >= 1:
            import sys

            print(f"fastsr: {self._executable.describe()}", file=sys.stderr)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.program, *self._arguments)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: object) -> Model:
        return self

    @property
    def backend(self) -> str:
        """Name of the backend that runs the network."""
        return self._executable.backend

    @property
    def feed(self) -> Any:
        """How pictures are fed to the network: a `fastsr.graph.Feed`."""
        return self.program.feed

    @property
    def scale(self) -> int | Fraction:
        """How many times larger the picture becomes; an int whenever it is whole."""
        return _enlargement(self.program)

    @property
    def outputs(self) -> list[str]:
        """Names of the network's outputs, the default one first."""
        return [name for name, _ in self.program.outputs]

    def describe(self) -> str:
        """One line: backend, instruction set, threads, tile."""
        return self._executable.describe()

    def __repr__(self) -> str:
        return f"<fastsr.Model x{self.scale}, {self.describe()}>"

    @overload
    def upscale(self, picture: np.ndarray, *, views: int = 1, progress: Progress | None = None) -> np.ndarray: ...

    @overload
    def upscale(self, picture: object, *, views: int = 1, progress: Progress | None = None) -> Any: ...

    def upscale(self, picture: Any, *, views: int = 1, progress: Progress | None = None) -> Any:
        """The enlarged picture.

        picture: uint8, uint16 or float32 (0..1); (H, W) or (H, W, 1) grey, (H, W, 3) BGR or (H, W, 4) BGRA, any strides. The result has the same
        type and channels; alpha is upscaled too. uint8 pictures of Y networks give what cv2.dnn_superres gives.
        With the backend "cuda" also a uint8 picture, (H, W), (H, W, 1) or (H, W, 3) with any strides, that lies on the model's GPU: anything with
        `__dlpack__` or `__cuda_array_interface__` (PyTorch, CuPy, JAX, numba), or a cv2.cuda.GpuMat. The result is a CuPy array on that GPU, complete
        when this returns; neither is copied to the host.
        views: 1 to 8; the mean of what the network makes of so many turned and mirrored views of the picture (`fastsr.views`), as many times slower.
        Not of pictures on a GPU.
        progress: called with (done, total), how much of the work is done, in parts of no fixed size; an exception raised in it cancels the run.
        Raises PictureError for anything else, or for a picture that does not fit the network; ValueError for another number of views.
        """
        from . import image

        check_views(views)
        if views > 1:
            return self._mean_of_views(picture, views, progress)
        if image.lies_on_gpu(picture):
            self._check_feed()
            return self._executable.upscale_on_gpu(picture, progress)
        picture = image.check_picture(picture)
        self._check_feed()
        colour, alpha = image.split_alpha(picture)
        out = self._executable.enlarged(colour, progress)
        if alpha is None:
            return image.like(out, picture)
        return image.merge_alpha(out, self._executable.enlarged(alpha))

    def _mean_of_views(self, picture: Any, views: int, progress: Progress | None) -> np.ndarray:
        from . import image

        if image.lies_on_gpu(picture):
            raise PictureError(f"views are made on the host, and the picture lies on a GPU: {image.TO_HOST}")
        picture = image.check_picture(picture)
        number = itertools.count()

        def enlarge(view: np.ndarray) -> np.ndarray:
            before = next(number)
            return self.upscale(view, progress=None if progress is None else lambda k, n: progress(before * n + k, views * n))

        mean = mean_of_views(enlarge, picture, views)
        return mean if picture.dtype == np.float32 else np.rint(mean, out=mean).astype(picture.dtype)

    def upscale_many(
        self, pictures: Iterable[np.ndarray], *, views: int = 1, threads: int | None = None, progress: Callable[[float], object] | None = None
    ) -> Many:
        """The enlarged pictures, one after another in the order of `pictures`, with the same bits as `upscale` gives.

        An iterator. With the C++ core, pictures are computed in the background while the caller reads the next and uses the last: small ones several
        at once on one thread each, large ones one after another on all threads. With "cuda", while one 8-bit picture is computed the next goes to the
        GPU and the one before comes back. Other backends, and "cuda" for other pictures, compute a picture when it is asked for.

        pictures: any iterable of what `upscale` takes, all sizes and types. It is pulled as results are asked for, and not more than 4 pictures for
        each thread ahead, with "cuda" 4 in all; of large pictures one, or two. Pictures are copied, so the iterable may use its memory again.
        views: as in `upscale`; with more than 1 a picture is computed when it is asked for, on the model's threads.
        threads: as in `load`; None for the model's. Only the C++ core heeds it, and not for several views.
        progress: called while a result is waited for, with how many pictures are done (3.25: a quarter of the fourth); an exception raised in it ends
        everything.
        Raises PictureError and MemoryError for a picture that `upscale` would raise them for, at its turn, with its number as in `pictures[3]`;
        next() then goes on with the one behind it. What the iterable raises comes after the results of the pictures before. close(), Ctrl-C and
        dropping the iterator stop the work.
        """
        from . import image
        from .many import Many

        _check_number("threads", threads)
        self._check_feed()
        if isinstance(pictures, np.ndarray) or image.lies_on_gpu(pictures):
            shape = tuple(getattr(pictures, "shape", ()))
            if len(shape) < 3 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
                raise PictureError("upscale_many takes a list or another iterable of pictures, and this is one picture: use upscale")
        check_views(views)
        stream, n = (self._executable.stream(threads) if views == 1 else None) or (None, 1)
        least = self._executable.in_flight
        return Many(pictures, lambda picture, tell: self.upscale(picture, views=views, progress=tell), stream, n, progress, least)

    def _check_feed(self) -> None:
        if self.feed.colour == "raw" or len(self.program.inputs) != 1:
            raise PictureError("this network does not say how pictures are fed to it: use Model.run with arrays")

    def upscale_to_u8(self, picture: np.ndarray) -> np.ndarray:
        """What `cv2.dnn_superres` makes of a picture: uint8 or float32 (0..255); (H, W) or (H, W, 3) BGR, any strides; the result is uint8."""
        return self._executable.enlarged(picture, white=255.0, to_u8=True)

    def run(
        self, x: np.ndarray | Sequence[np.ndarray], outputs: Sequence[str] | None = None, *, progress: Progress | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """The bare network: no colour conversion, no rounding.

        x: float32 (N, C, H, W), or a sequence of them for a network with several inputs. Returns the default output, a float32 (N, C', H', W')
        array, or with `outputs` a dict from those names to their arrays. Raises PictureError for arrays that do not fit.
        """
        arrays = [np.asarray(a) for a in (x if isinstance(x, (list, tuple)) else [x])]
        expected = [self.program.values[i].channels for i in self.program.inputs]
        if len(arrays) != len(expected):
            raise PictureError(f"the network has {len(expected)} inputs, {len(arrays)} arrays were given")
        for a, c in zip(arrays, expected, strict=True):
            if a.dtype != np.float32 or a.ndim != 4 or a.shape[1] != c or 0 in a.shape:
                raise PictureError(f"the network takes a float32 array of shape (N, {c}, H, W), got {a.dtype} {a.shape}")
            if (a.shape[0], *a.shape[2:]) != (arrays[0].shape[0], *arrays[0].shape[2:]):
                raise PictureError(f"all inputs must have the same N, H and W, got {[b.shape for b in arrays]}")
        names = self.outputs if outputs is None else list(outputs)
        if not names:
            raise PictureError("no output was asked for: leave `outputs` out for the default one")
        for name in names:
            if name not in self.outputs:
                raise PictureError(f"the network has no output '{name}', only {', '.join(self.outputs)}")
        self.program.value_sizes(*arrays[0].shape[2:])
        wanted = [0] if outputs is None else [self.outputs.index(n) for n in names]
        results = self._executable.run([np.ascontiguousarray(a) for a in arrays], wanted, progress)
        return results[0] if outputs is None else dict(zip(names, results, strict=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as .fsr (docs/fsr.md) or .onnx (docs/onnx.md), atomically.

        Raises ModelError for another suffix or for what ONNX cannot say, OSError when the file cannot be written.
        """
        save_program(self.program, path)
