"""Picture files: reading, writing and naming them. Used by the command line and the benchmarks; the library itself works on arrays only.

OpenCV does the decoding and encoding when it is installed, else Pillow (which cannot read 16-bit colour). Pictures are NumPy arrays as everywhere in
fastsr: (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16. Depth and alpha stay as the file has them; the orientation noted in EXIF
is applied as `cv2.imread` does by default (though `IMREAD_UNCHANGED` would not); colour profiles and other metadata are dropped.

Every file is written whole or not at all: into a temporary file in the same folder, flushed to the disk, then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import explained, write_atomically
from .errors import FastsrError, PictureError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
"""File names that count as pictures in a folder, and the formats that can be written."""

HELD_OUT = 5
"""Pictures of a folder kept aside to measure on; at most a tenth of them, and none where there are no more than this."""

_ALPHA = {".png", ".webp", ".tif", ".tiff"}
_DEEP = {".png", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
_JPEG = {".jpg", ".jpeg", ".jpe"}
_PNM = {".ppm", ".pgm", ".pnm"}
_LIMITS = {".webp": ("WebP", 16383), ".jpg": ("JPEG", 65500), ".jpeg": ("JPEG", 65500), ".jpe": ("JPEG", 65500)}


def _codec() -> tuple[str, Any]:
    """("cv2", module) or ("pillow", PIL.Image). Raises FastsrError when neither can be imported."""
    for name, module in (("cv2", "cv2"), ("pillow", "PIL.Image")):
        try:
            return name, importlib.import_module(module)
        except ImportError:
            continue
    raise FastsrError("reading and writing pictures needs OpenCV or Pillow: pip install fastsr[opencv]   (or: pip install pillow)")


# ---- reading -----------------------------------------------------------------------------------------------------------------------------------


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """The picture in the file: (H, W), (H, W, 3) BGR or (H, W, 4) BGRA; uint8 or uint16.

    Raises FileNotFoundError / IsADirectoryError / PermissionError, PictureError (not a picture, damaged, a depth other than 8 or 16 bits), and
    FastsrError when neither OpenCV nor Pillow is installed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise explained(e, f"cannot read '{path}'") from e
    if not data:
        raise PictureError(f"'{path}' is empty")
    if _is_cut_jpeg(data):
        raise PictureError(f"'{path}' is damaged: the JPEG data ends too early (an interrupted download or copy?)")
    name, module = _codec()
    try:
        picture = _decode_cv2(module, data) if name == "cv2" else _decode_pillow(module, data)
    except MemoryError:
        raise PictureError(f"'{path}' is too large for the memory of this machine") from None
    except PictureError as e:
        raise PictureError(f"'{path}' {e}") from None
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if picture.dtype not in (np.uint8, np.uint16) or (picture.ndim == 3 and picture.shape[2] not in (3, 4)):
        raise PictureError(f"'{path}' holds {picture.dtype} pixels of shape {picture.shape}: 8 or 16 bits of grey, BGR or BGRA are needed")
    return picture


def _decode_cv2(cv2: Any, data: bytes) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as e:
        if "CV_IO_MAX_IMAGE" in str(e):
            raise PictureError("has more pixels than OpenCV reads: set OPENCV_IO_MAX_IMAGE_PIXELS to a higher number") from None
        picture = None
    if picture is None:
        raise PictureError(_not_a_picture(data))
    if data[:4] in (b"II*\0", b"MM\0*"):
        return picture  # TIFF: cv2 has turned it already
    return _oriented(picture, exif_orientation(data))


def _decode_pillow(image_module: Any, data: bytes) -> np.ndarray:
    deep = _is_16_bit_colour(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            img = image_module.open(io.BytesIO(data))
            deep = deep or (img.format == "TIFF" and img.mode in ("RGB", "RGBA", "RGBX", "CMYK") and max(img.tag_v2.get(258, (8,))) > 8)
            img.load()
            img = importlib.import_module("PIL.ImageOps").exif_transpose(img)
        except image_module.DecompressionBombError:
            raise PictureError("has more pixels than Pillow reads: pip install fastsr[opencv]") from None
        except (OSError, SyntaxError, ValueError, EOFError, struct.error):
            raise PictureError(_not_a_picture(data)) from None
    if deep:
        raise PictureError("has 16-bit colours, which Pillow would cut to 8 bits: pip install fastsr[opencv]")
    if img.mode.startswith("I;16") or img.mode == "I":
        return np.asarray(img).astype(np.uint16)
    alpha = "A" in img.mode or "transparency" in img.info
    mode = "RGBA" if alpha else "L" if img.mode in ("1", "L") else "RGB"
    a = np.asarray(img if img.mode == mode else img.convert(mode))
    if mode == "L":
        return a.copy()
    return np.ascontiguousarray(a[..., [2, 1, 0, 3]] if alpha else a[..., ::-1])


def _is_16_bit_colour(data: bytes) -> bool:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")
    header = re.match(rb"P[36]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+(\d+)", data[:512])
    return bool(header and int(header[1]) > 255)


def _not_a_picture(data: bytes) -> str:
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is a web page, not a picture: download the picture itself"
    known = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WebP", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    for magic, kind in known.items():
        if data.startswith(magic):
            return f"is damaged: it begins as a {kind} file but cannot be decoded (an interrupted download or copy?)"
    return f"is not a picture that can be read (formats: {', '.join(s[1:] for s in SUFFIXES)})"


def _is_cut_jpeg(data: bytes) -> bool:
    """True for a JPEG file without an end mark after its first scan. (Some decoders fill such pictures with grey and say nothing.)"""
    if data[:2] != b"\xff\xd8":
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return data.rfind(b"\xff\xd9", at) < 0
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at >= len(data)


# ---- orientation -------------------------------------------------------------------------------------------------------------------------------


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation (1..8) noted in a JPEG, PNG or WebP file's bytes; 1 when there is none or it is damaged."""
    with contextlib.suppress(struct.error, IndexError):
        block = _exif_block(data)
        if block[:2] in (b"II", b"MM"):
            order = "<" if block[:2] == b"II" else ">"
            (at,) = struct.unpack_from(order + "I", block, 4)
            (entries,) = struct.unpack_from(order + "H", block, at)
            for k in range(entries):
                tag, kind, count, value = struct.unpack_from(order + "HHIH", block, at + 2 + 12 * k)
                if tag == 0x0112 and kind == 3 and count == 1:
                    return value if 1 <= value <= 8 else 1
    return 1


def _exif_block(data: bytes) -> bytes:
    """The TIFF structure inside a picture file's EXIF block, or b""."""
    if data[:2] == b"\xff\xd8":
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                return data[at + 10 : at + 2 + size]
            at += 2 + size
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if data[at + 4 : at + 8] == b"eXIf":
                return data[at + 8 : at + 8 + size]
            at += 12 + size
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] == b"EXIF":
                return data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0")
            at += 8 + size + size % 2
    return b""


def _oriented(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The picture turned and mirrored so that EXIF `orientation` (1..8) is undone."""
    if orientation >= 5:
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


# ---- writing -----------------------------------------------------------------------------------------------------------------------------------


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise IsADirectoryError, FileNotFoundError or PermissionError where no file of that name can be written, before the work is done."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"cannot write '{path}': it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"cannot write '{path}': the folder '{path.parent}' does not exist")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, f"cannot write '{path}': no permission to write in '{path.parent}'")


def check_writable(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> None:
    """Raise what `write_picture` would raise for this name (and (height, width), if given), before the work is done."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PictureError(f"'{path}' does not name a picture format: end it with one of {', '.join(SUFFIXES)}")
    check_place(path)
    if size is not None and suffix in _LIMITS and max(size) > _LIMITS[suffix][1]:
        kind, limit = _LIMITS[suffix]
        raise PictureError(f"cannot write '{path}': {size[1]}x{size[0]} pixels, and {kind} holds at most {limit} a side: write .png or .tiff")


def write_picture(path: str | os.PathLike[str], picture: np.ndarray, *, quality: int | None = None) -> None:
    """Write a picture, whole or not at all; the format follows the name.

    picture: uint8 or uint16; (H, W), (H, W, 3) BGR or (H, W, 4) BGRA. Formats without 16 bits (JPEG, WebP, BMP) get it rounded to 8. Alpha that
    is opaque everywhere is dropped where the format has none.
    quality: 1..100, JPEG (95 when None) and WebP (lossless when None).
    Raises PictureError (no such format, too large for it, transparency in a format without) and OSError (folder missing, read-only, disk full).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3, 4)):
        raise PictureError(f"cannot write a {picture.dtype} picture of shape {picture.shape}: use uint8 or uint16; (H, W), (H, W, 3) or (H, W, 4)")
    if not picture.size:
        raise PictureError(f"cannot write '{path}': the picture has no pixels")
    check_writable(path, picture.shape[:2])
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if picture.ndim == 3 and picture.shape[2] == 4 and suffix not in _ALPHA:
        if picture[:, :, 3].min() < np.iinfo(picture.dtype).max:
            raise PictureError(f"cannot write '{path}': the picture has transparency, which {suffix} files cannot store: write .png, .webp or .tiff")
        picture = picture[:, :, :3]
    if picture.dtype == np.uint16 and suffix not in _DEEP:
        picture = ((picture + np.uint32(128)) // 257).astype(np.uint8)
    try:
        data = _encode(suffix, np.ascontiguousarray(picture), quality)
    except MemoryError:
        raise PictureError(f"cannot write '{path}': not enough memory to encode {picture.shape[1]}x{picture.shape[0]} pixels as {suffix}") from None
    except PictureError as e:
        raise PictureError(f"cannot write '{path}': {e}") from None
    write_atomically(path, data)


def encode_picture(suffix: str, picture: np.ndarray, quality: int | None = None) -> bytes:
    """A picture as the bytes of a file with that suffix (".png"); picture and quality as `write_picture` takes them, in a depth the format has.

    Raises PictureError when it cannot be encoded, FastsrError when neither OpenCV nor Pillow is installed.
    """
    return bytes(_encode(suffix, np.ascontiguousarray(picture), quality))


def _encode(suffix: str, picture: np.ndarray, quality: int | None) -> bytes | memoryview:
    if suffix in _PNM:
        return _encode_pnm(suffix, picture)
    name, module = _codec()
    if name == "cv2":
        numbers: list[int] = []
        if suffix in _JPEG:
            numbers = [module.IMWRITE_JPEG_QUALITY, quality or 95]
        elif suffix == ".webp":
            numbers = [module.IMWRITE_WEBP_QUALITY, quality or 101]
        try:
            done, data = module.imencode(suffix, picture, numbers)
        except module.error as e:
            raise PictureError(f"OpenCV cannot encode it ({e.err})") from None
        if not done:
            raise PictureError("OpenCV cannot encode it")
        return memoryview(data.reshape(-1))
    if picture.dtype == np.uint16 and picture.ndim == 3:
        raise PictureError("Pillow cannot write 16-bit colours: pip install fastsr[opencv], or write .ppm")
    out = io.BytesIO()
    options: dict[str, Any] = {}
    if suffix in _JPEG:
        options = {"quality": quality or 95}
    elif suffix == ".webp":
        options = {"quality": quality} if quality else {"lossless": True}
    rgb = picture if picture.ndim == 2 else picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    kind = {".jpe": "JPEG", ".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    try:
        module.fromarray(np.ascontiguousarray(rgb)).save(out, kind, **options)
    except (OSError, ValueError, struct.error) as e:
        raise PictureError(f"Pillow cannot encode it ({e})") from None
    return out.getbuffer()


def _encode_pnm(suffix: str, picture: np.ndarray) -> bytes:
    """Netpbm, binary: P5 for grey, P6 for colour; two bytes a sample, big-endian, for uint16."""
    if suffix == ".pgm" and picture.ndim == 3:
        raise PictureError(".pgm files hold grey pictures only: write .ppm")
    if suffix == ".ppm" and picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    height, width = picture.shape[:2]
    magic = "P5" if picture.ndim == 2 else "P6"
    header = f"{magic}\n{width} {height}\n{np.iinfo(picture.dtype).max}\n".encode()
    samples = picture if picture.ndim == 2 else picture[:, :, ::-1]
    return header + samples.astype(samples.dtype.newbyteorder(">"), copy=False).tobytes()


# ---- names -------------------------------------------------------------------------------------------------------------------------------------


def natural_key(path: str | os.PathLike[str]) -> list[tuple[int, int, str]]:
    """Sort key that puts "img2.png" before "img10.png"."""
    return [(1, int(t), "") if t.isdigit() else (0, 0, t.casefold()) for t in re.split(r"([0-9]+)", str(path)) if t]


def expand_inputs(path: str | os.PathLike[str], *, recursive: bool = False, skip: str | os.PathLike[str] | None = None) -> list[Path]:
    """The pictures that `path` names: itself, or for a folder the files in it whose suffix is one of `SUFFIXES`, in natural order.

    skip: a folder to leave out, such as the output folder inside the input folder. Hidden files are left out.
    Raises FileNotFoundError when there is no such path, PictureError for a folder without pictures.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, f"no such file or folder: '{path}'")
    if not path.is_dir():
        return [path]
    skipped = None if skip is None else Path(os.path.realpath(skip))
    if skipped == Path(os.path.realpath(path)):
        skipped = None
    found = []
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        folders[:] = [d for d in folders if recursive and not d.startswith(".") and Path(os.path.realpath(here / d)) != skipped]
        found += [here / n for n in names if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES]
    if not found:
        deeper = "" if recursive else " (its subfolders are not searched; upscale --recursive does)"
        raise PictureError(f"no picture in the folder '{path}'{deeper}: looked for {', '.join(SUFFIXES)}")
    return sorted(found, key=natural_key)


def held_out(files: Sequence[Path], fits: Callable[[Path], bool]) -> list[Path]:
    """Some of the pictures, spread evenly, to measure on: the first that fits of each of as many parts as are wanted, see `HELD_OUT`."""
    if len(files) <= HELD_OUT:
        return []
    count = min(HELD_OUT, max(len(files) // 10, 1))
    size = len(files) // count
    found = (next(filter(fits, files[k * size : (k + 1) * size]), None) for k in range(count))
    return [f for f in found if f is not None]


def output_names(pictures: Iterable[Path], root: Path | None, out: Path, suffix: str | None = None) -> list[Path]:
    """Where each picture of the folder `root` goes in the folder `out`: the same relative path, with `suffix` (".png") if given. root None: the name.

    A picture in a format that cannot be written becomes .png. Names that would fall together keep their first suffix: a.jpg.png and a.bmp.png.
    Raises PictureError when two are still the same.
    """
    pictures = list(pictures)
    names = []
    for p in pictures:
        ending = suffix or (p.suffix if p.suffix.lower() in SUFFIXES else ".png")
        names.append((p.relative_to(root) if root else Path(p.name)).with_suffix(ending))
    seen: dict[str, int] = {}
    for n in names:
        seen[str(n).casefold()] = seen.get(str(n).casefold(), 0) + 1
    unique = [n if seen[str(n).casefold()] == 1 else n.with_name(p.name + n.suffix) for p, n in zip(pictures, names, strict=True)]
    owner: dict[Path, Path] = {}
    for p, n in zip(pictures, unique, strict=True):
        if owner.setdefault(n, p) is not p:
            raise PictureError(f"'{owner[n]}' and '{p}' would both be written to '{out / n}': rename one of them")
    return [out / n for n in unique]
