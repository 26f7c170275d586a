"""The checkpoint: everything that the next step depends on, in one file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..atomic import explained, write_atomically
from ..errors import FastsrError

VERSION = 2
"""Grows when parameters come to mean something else."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """As long as this lasts no other training writes to the folder. Raises FastsrError when one does, OSError."""
    path = folder / ".lock"
    try:
        file = path.open("a+b")
    except OSError as e:
        raise explained(e, f"cannot write '{path}'") from e
    with file:
        try:
            _lock(file.fileno())
        except OSError:
            raise FastsrError(f"another training writes to '{folder}': wait for it, or choose another --out") from None
        yield


def _lock(number: int) -> None:
    """Lock an open file until it is closed; OSError when another process or file object has."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        windows: Any = importlib.import_module("msvcrt")
        windows.locking(number, windows.LK_NBLCK, 1)
        return
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically. Raises OSError with a text that says what to do."""
    buffer = io.BytesIO()
    torch.save({"fastsr checkpoint": VERSION, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; no code in it can run. Raises FastsrError for another file, OSError."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise explained(e, f"cannot read '{path}'") from e
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as e:
        raise FastsrError(f"'{path}' is no checkpoint of a training, or damaged ({type(e).__name__}): delete it, or choose another --out") from None
    if not isinstance(state, dict) or state.get("fastsr checkpoint") != VERSION:
        raise FastsrError(f"'{path}' is no checkpoint that this version of fastsr goes on from: choose another --out")
    return state


def check_same(settings: dict[str, Any], saved: dict[str, Any], path: Path) -> None:
    """Raise FastsrError unless the checkpoint `path`, from which `saved` was read, is of a training with these settings. The number of steps may be
    another one, but not less than those done.
    """
    asked, done = settings.get("total"), saved.get("step")
    other = [k for k in differing(settings, saved.get("settings", {})) if k != "total" or asked is None]
    if other:
        raise FastsrError(
            f"'{path}' is of a training with other settings ({', '.join(other)}): run the command that began it, choose another --out, or give "
            "--restart to begin anew"
        )
    if asked is not None and isinstance(done, int) and asked < done:
        raise FastsrError(f"'{path}' is of a training that has done {done} steps: --steps {asked} is less, give --restart to begin anew")


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Names of the settings that are not equal."""
    return [k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k)]
