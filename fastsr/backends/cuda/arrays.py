"""Pictures of the caller's that lie on a GPU already: arrays of PyTorch, CuPy, JAX, numba and OpenCV, by the protocols that they have in common.

These are DLPack (https://dmlc.github.io/dlpack/latest/python_spec.html) and the CUDA Array Interface (numba's documentation, version 3 and before);
OpenCV's cv2.cuda.GpuMat has neither and is asked itself. Uses CuPy, which `device.py` hands over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import PictureError

_DEFAULT_STREAMS = 1, 2
"""cudaStreamLegacy, which waits for all streams but those made to be independent of it, and cudaStreamPerThread."""


@dataclass(frozen=True)
class Lent:
    """A picture on the GPU. address: of its first pixel. strides: bytes along each axis. deep: whether the caller's shape is (H, W, 1). owner: keeps
    the memory. streams: what was begun in these, and in the caller's current stream of CuPy, has to be done before the picture is read."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    deep: bool
    owner: Any
    streams: tuple[int, ...]

    def rows(self) -> tuple[int, int, int] | None:
        """(Bytes of a row, bytes from row to row, rows) where a row is one piece of memory, else None."""
        channels = self.shape[2] if len(self.shape) == 3 else 1
        row = self.shape[1] * channels
        pixels = self.strides[1] == channels and (channels == 1 or self.strides[2] == 1)
        return (row, self.strides[0], self.shape[0]) if pixels and self.strides[0] >= row else None


def lent(cupy: Any, number: int, x: Any) -> Lent:
    """What `image.lies_on_gpu` says lies on a GPU, as a picture on GPU `number`, which must be current, in the stream of the caller.

    Raises PictureError for what is no such picture, and what CuPy raises when the GPU fails.
    """
    owner = x
    streams: tuple[int, ...] = ()
    try:
        if hasattr(x, "__dlpack_device__"):
            _check_gpu(int(x.__dlpack_device__()[1]), number)
            owner = cupy.from_dlpack(x)  # makes the current stream wait for what the array's own library has begun
            address, shape, strides, dtype = owner.data.ptr, owner.shape, owner.strides, np.dtype(owner.dtype)
        elif hasattr(x, "__cuda_array_interface__"):
            address, shape, strides, dtype, streams = _by_interface(x.__cuda_array_interface__)
        else:
            address, shape, strides, dtype, streams = _gpu_mat(x)
    except (PictureError, cupy.cuda.runtime.CUDARuntimeError):
        raise
    except Exception as e:
        raise PictureError(f"this {type(x).__name__} on the GPU cannot be read there ({type(e).__name__}: {e}): copy it to the host first") from e
    found = Lent(int(address), *_picture(tuple(map(int, shape)), tuple(map(int, strides)), dtype), owner, streams)
    if owner is x:
        memory = cupy.cuda.runtime.pointerGetAttributes(found.address)
        if memory.type not in (2, 3):  # cudaMemoryTypeDevice, cudaMemoryTypeManaged
            raise PictureError(f"this {type(x).__name__} does not lie in a GPU's memory: give the NumPy array itself")
        _check_gpu(int(memory.device), number)
    return found


def _check_gpu(where: int, number: int) -> None:
    if where != number:
        raise PictureError(f"the picture lies on GPU {where}, and the model on GPU {number}: load the model with device={where}, or copy the picture")


_Found = tuple[int, tuple[int, ...], tuple[int, ...], np.dtype[Any], tuple[int, ...]]


def _by_interface(given: dict[str, Any]) -> _Found:
    if given.get("mask") is not None:
        raise PictureError("a picture on the GPU has no mask: give the array without it")
    shape, dtype = tuple(given["shape"]), np.dtype(given["typestr"])
    strides = given.get("strides")
    if strides is None:
        strides = tuple(int(np.prod(shape[k + 1 :])) * dtype.itemsize for k in range(len(shape)))
    stream = given.get("stream", 0)  # version 2 does not know of streams
    return given["data"][0], shape, strides, dtype, () if stream is None else (int(stream),) if stream else _DEFAULT_STREAMS


def _gpu_mat(x: Any) -> _Found:
    """OpenCV's matrix types are the depth, 0 for 8 bits, and eight times the number of channels less one."""
    width, height = x.size()
    channels, depth = (x.type() >> 3) + 1, x.type() & 7
    if depth:
        raise PictureError("a GpuMat must be of 8 bits, CV_8UC1 or CV_8UC3: use convertTo")
    shape = (height, width) if channels == 1 else (height, width, channels)
    return x.cudaPtr(), shape, (int(x.step), channels, 1)[: len(shape)], np.dtype(np.uint8), _DEFAULT_STREAMS


def _picture(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """The shape, (H, W) or (H, W, 3), and strides of a picture, and whether it was (H, W, 1). Raises PictureError for another array."""
    if dtype != np.uint8:
        raise PictureError(f"a picture on the GPU is uint8, 0 to 255, got {dtype}: convert it there, or copy it to the host first")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        hint = "compute one picture after another" if len(shape) > 3 else "copy it to the host first, or compute colour and alpha apart"
        if len(shape) == 3 and shape[0] in (1, 3):
            hint = "move the channels to the end, by x.permute(1, 2, 0) or x.transpose(1, 2, 0)"
        raise PictureError(f"a picture on the GPU has shape (H, W) or (H, W, 3), got {shape}: {hint}")
    if 0 in shape:
        raise PictureError(f"the picture is empty: shape {shape}")
    return (shape[:2], strides[:2], True) if shape[2:] == (1,) else (shape, strides, False)
