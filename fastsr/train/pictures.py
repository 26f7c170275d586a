"""Training pictures: decoded once, made smaller once, kept as small integers in memory or in memory-mapped files.

A `Store` holds pairs of planes (C, H, W): the picture, cut to a multiple of the scale, and what the network is given. Both are uint8, but Y of the
small picture is int16, in `PARTS` of a level, for it is not rounded (`Feed.fine`); the large one's is that of OpenCV's 8-bit conversion.
The small picture is made in RGB, rounded to 8 bits, and converted then, as it would be for a user.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import explained
from ..errors import FastsrError, PictureError
from ..files import SUFFIXES, read_picture
from ..image import fine_grey, grey_u8
from ..imresize import imresize

VERSION = 5
PARTS = 128
"""Of a level that Y of small pictures is counted in."""

MAX_MEMORY = 2 << 30
"""Bytes of pictures up to which `open_store` keeps them in memory when no folder is named."""

HEADER = 128
"""Bytes before the numbers in the .npy files written here."""


def list_pictures(folder: str | os.PathLike[str], without: Sequence[Path] = ()) -> list[Path]:
    """The picture files in a folder and the folders in it, sorted by name; hidden ones and those in the folders `without` are left out.

    Raises FastsrError when there are none.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(2, "no such folder of pictures", os.fspath(folder))
    if root.is_file():
        return [root]
    files = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    found = [p for p in files if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    left_out = {w.resolve() for w in without}
    found = [p for p in found if not left_out & {*p.resolve().parents}] if left_out else found
    if not found:
        raise FastsrError(f"'{root}' holds no pictures ({', '.join(SUFFIXES)}): name a folder of photographs")
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())


def read_rgb(path: Path) -> np.ndarray:
    """The picture in the file as (H, W, 3) RGB uint8: grey is repeated, 16 bits are rounded to 8, alpha is dropped. Raises as `read_picture`."""
    picture = read_picture(path)
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if picture.ndim == 2:
        return np.repeat(picture[:, :, None], 3, axis=2)
    return np.ascontiguousarray(picture[:, :, 2::-1])


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y (H, W) uint8 of an RGB picture (H, W, 3) uint8: that of OpenCV's 8-bit BGR2YCrCb."""
    return grey_u8(rgb[:, :, 2], rgb[:, :, 1], rgb[:, :, 0])


Planes = tuple[np.ndarray, np.ndarray]
"""A picture and the small one, as in a Pair."""

Maker = Callable[[np.ndarray, str], list[Planes]]
"""Makes pairs of a picture (H, W, 3) RGB uint8 and its file's name."""


def planes(rgb: np.ndarray, colour: str) -> np.ndarray:
    """(1, H, W) Y or (3, H, W) RGB, uint8."""
    return luma(rgb)[None] if colour == "y" else np.ascontiguousarray(rgb.transpose(2, 0, 1))


def small_planes(rgb: np.ndarray, colour: str) -> np.ndarray:
    """(1, H, W) Y, int16 in `PARTS` of a level, or (3, H, W) RGB, uint8, of a picture (H, W, 3) uint8."""
    if colour != "y":
        return planes(rgb, colour)
    return np.rint(fine_grey(rgb[:, :, 2], rgb[:, :, 1], rgb[:, :, 0]) * np.float32(PARTS)).astype(np.int16)[None]


def smaller(rgb: np.ndarray, scale: int) -> np.ndarray:
    """The picture made smaller by the antialiased bicubic filter of the literature, rounded to 8 bits. H and W are multiples of scale."""
    small = imresize(rgb, 1 / scale)
    return small if small.dtype == np.uint8 else np.clip(np.rint(small), 0, 255).astype(np.uint8)


def pair(rgb: np.ndarray, scale: int, colour: str) -> Planes:
    """The planes of a picture cut to a multiple of the scale, and of the small one. Raises PictureError when nothing is left."""
    h, w = (n // scale * scale for n in rgb.shape[:2])
    if not h or not w:
        raise PictureError(f"is smaller than {scale} pixels")
    rgb = rgb[:h, :w]
    return planes(rgb, colour), small_planes(smaller(rgb, scale), colour)


def maker(scale: int, colour: str) -> Maker:
    """Makes one pair of each picture, by `pair`."""
    return lambda rgb, name: [pair(rgb, scale, colour)]


@dataclass(frozen=True)
class Pair:
    """A picture `large` (C, H, W) uint8 and `small` (C, H / scale, W / scale), uint8 or, as Y, int16 in `PARTS` of a level."""

    name: str
    large: np.ndarray
    small: np.ndarray


def white(small: Any) -> int:
    """The value of white in the small picture of a Pair, an array or a tensor."""
    return 255 if small.dtype.itemsize == 1 else 255 * PARTS


class Store(Sequence[Pair]):
    """Pairs of pictures. skipped: (file, reason) of those that could not be used. mark: tells pictures and settings apart from others."""

    def __init__(self, pairs: list[Pair], skipped: list[tuple[str, str]], mark: str) -> None:
        self.pairs, self.skipped, self.mark = pairs, skipped, mark

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: Any) -> Any:
        return self.pairs[k]


Reason = Callable[[Path, np.ndarray], str]
"""Says why a picture (H, W, 3) RGB of this file is not to be used; "" when it is."""


def open_store(
    files: Sequence[Path],
    scale: int,
    colour: str,
    *,
    least: int,
    cache: Path | None = None,
    refuse: Reason | None = None,
    refuse_mark: str = "",
    make: Maker | None = None,
    make_mark: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Store:
    """Decode the files, or find them decoded in the folder `cache`, which is made when it is missing.

    least: pixels that both edges of the small picture must have; smaller pictures are skipped, as are files that cannot be read. refuse: see
    `Reason`. make: how pairs are made of a picture, as by `maker` where it is missing. refuse_mark, make_mark: tell different ones apart. Without
    `cache` the pictures must fit into MAX_MEMORY. Raises FastsrError when no picture is left, OSError when the cache cannot be written.
    """
    mark = _mark(files, scale, colour, least, refuse_mark + make_mark)
    work = _pairs(files, scale, least, refuse, make or maker(scale, colour))
    if cache is None:
        store = _in_memory(_counted(work, len(files), progress), mark)
    else:
        folder = cache / f"{colour}-x{scale}-{mark[:16]}"
        if not _is_of(folder, mark):
            _write(folder, _counted(work, len(files), progress), mark)
        store = _mapped(folder)
    if not len(store):
        why = f": '{store.skipped[0][0]}' {store.skipped[0][1]}" if store.skipped else ""
        raise FastsrError(f"none of {len(files)} pictures can be used for training{why}")
    return store


def _mark(files: Sequence[Path], scale: int, colour: str, least: int, refuse_mark: str) -> str:
    """Of the settings and of the files' contents."""
    total = hashlib.sha256(json.dumps([VERSION, sys.byteorder, scale, colour, least, refuse_mark]).encode())
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb") as f:
            while block := f.read(1 << 20):
                digest.update(block)
        total.update(json.dumps([path.name, digest.hexdigest()]).encode())
    return total.hexdigest()


def _is_of(folder: Path, mark: str) -> bool:
    """Whether the folder holds the pictures of that mark. Raises FastsrError for a damaged index."""
    try:
        return bool(json.loads((folder / "index.json").read_text(encoding="utf-8"))["mark"] == mark)
    except FileNotFoundError:
        return False
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise FastsrError(f"the pictures' cache '{folder}' is damaged ({e}): delete that folder") from None


def _counted(work: Iterable[Any], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Any]:
    for k, one in enumerate(work):
        if progress is not None:
            progress(k + 1, total)
        yield one


def _pairs(files: Sequence[Path], scale: int, least: int, refuse: Reason | None, make: Maker) -> Iterator[list[Pair] | tuple[str, str]]:
    """In the order of the files, a few of them decoded ahead."""

    def one(path: Path) -> list[Pair] | tuple[str, str]:
        try:
            rgb = read_rgb(path)
            if min(rgb.shape[:2]) // scale < least:
                return path.name, f"is smaller than {least * scale} pixels"
            why = refuse(path, rgb) if refuse is not None else ""
            if why:
                return path.name, why
            return [Pair(path.name, large, small) for large, small in make(rgb, path.name)]
        except PictureError as e:
            return path.name, str(e)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ahead = 2 * (os.cpu_count() or 1)
        waiting = [pool.submit(one, p) for p in files[:ahead]]
        try:
            for k in range(len(files)):
                found = waiting.pop(0).result()
                if k + ahead < len(files):
                    waiting.append(pool.submit(one, files[k + ahead]))
                yield found
        finally:
            for w in waiting:
                w.cancel()


def _in_memory(work: Iterable[Any], mark: str) -> Store:
    pairs: list[Pair] = []
    skipped: list[tuple[str, str]] = []
    total = 0
    for one in work:
        if isinstance(one, list):
            pairs += one
            total += sum(a.nbytes for a in _distinct(one).values()) + sum(p.small.nbytes for p in one)
            if total > MAX_MEMORY:
                raise FastsrError(f"the pictures take more than {MAX_MEMORY >> 30} GiB of memory: name a folder for them with --cache")
        else:
            skipped.append(one)
    return Store(pairs, skipped, mark)


def _distinct(pairs: list[Pair]) -> dict[int, np.ndarray]:
    """The large pictures of pairs, of which several may share one, by identity."""
    return {id(p.large): p.large for p in pairs}


# ---- the cache ---------------------------------------------------------------------------------------------------------------------------------


def _header(count: int, dtype: np.dtype[Any]) -> bytes:
    """The head of a .npy file of `count` numbers, HEADER bytes long (NumPy enhancement proposal 1)."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({count},), }}"
    body = text.ljust(HEADER - 10 - 1).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def _write(folder: Path, work: Iterable[Any], mark: str) -> None:
    """All pictures in two files and an index, in a folder that appears whole or not at all."""
    part = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}.part"
    entries: list[Any] = []
    skipped: list[Any] = []
    try:
        part.mkdir(parents=True)
        sizes = {"large": 0, "small": 0}
        types = dict.fromkeys(sizes, np.dtype(np.uint8))
        with (part / "large.npy").open("wb") as large, (part / "small.npy").open("wb") as small:
            outs = {"large": large, "small": small}
            for f in outs.values():
                f.write(_header(0, types["large"]))
            for one in work:
                if not isinstance(one, list):
                    skipped.append(one)
                    continue
                places: dict[int, int] = {}
                for p in one:
                    entry: dict[str, Any] = {"name": p.name}
                    for key, f in outs.items():
                        a = getattr(p, key)
                        if id(a) not in places:
                            places[id(a)] = sizes[key]
                            f.write(a.tobytes())
                            sizes[key] += a.size
                            types[key] = a.dtype
                        entry[key] = [places[id(a)], *a.shape]
                    entries.append(entry)
            for key, f in outs.items():
                f.seek(0)
                f.write(_header(sizes[key], types[key]))
        (part / "index.json").write_text(json.dumps({"mark": mark, "pictures": entries, "skipped": skipped}))
        try:
            part.replace(folder)
        except OSError:
            if not _is_of(folder, mark):  # else another training that began at the same time was faster
                raise
            shutil.rmtree(part, ignore_errors=True)
    except BaseException as e:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(e, OSError) and not isinstance(e, FileNotFoundError):
            raise explained(e, f"cannot write the pictures' cache '{folder.parent}'") from e
        raise


def _mapped(folder: Path) -> Store:
    try:
        index = json.loads((folder / "index.json").read_text())
        flat = {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in ("large", "small")}
        pairs = []
        for entry in index["pictures"]:
            views = []
            for key in ("large", "small"):
                start, c, h, w = entry[key]
                views.append(flat[key][start : start + c * h * w].reshape(c, h, w))
            pairs.append(Pair(entry["name"], *views))
        return Store(pairs, [(a, b) for a, b in index["skipped"]], index["mark"])
    except (KeyError, TypeError, ValueError, OSError) as e:
        raise FastsrError(f"the pictures' cache '{folder}' is damaged ({e}): delete that folder") from None
