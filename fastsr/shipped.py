"""The trained networks that come with fastsr, by name: `fastsr.load("balanced", scale=2)`. They lie in `fastsr/weights`; docs/models.md lists them.

Each is NAME_xS.fsr, weights in 16 bits, with its model card beside it, NAME_xS.json.
"""

from __future__ import annotations

import json
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import ModelError

FOLDER = Path(__file__).resolve().parent / "weights"

PREFERENCE = ("balanced", "fast", "espcn", "fsrcnn", "best", "photo")
"""The network that is taken where none is named: the first of these that there is. `best` takes long, `photo` invents detail."""

MAX_BYTES = 12_000_000
"""Of all of them together."""

_FILE = re.compile(r"([a-z][a-z0-9-]*)_x([1-9][0-9]?)\.fsr")


def files() -> dict[tuple[str, int], Path]:
    """(name, scale) -> the file, in the order of `PREFERENCE`, others behind, small scales first. Empty where none came with this installation."""
    found = {}
    if FOLDER.is_dir():
        for path in FOLDER.iterdir():
            if match := _FILE.fullmatch(path.name):
                found[match[1], int(match[2])] = path
    return {key: found[key] for key in sorted(found, key=_order)}


def _order(key: tuple[str, int]) -> tuple[int, str, int]:
    name, scale = key
    return PREFERENCE.index(name) if name in PREFERENCE else len(PREFERENCE), name, scale


def is_name(name: str) -> bool:
    """Whether a network could have this name."""
    return _FILE.fullmatch(f"{name}_x2.fsr") is not None


def names() -> list[str]:
    """Names without scales, in the order of `PREFERENCE`."""
    return list(dict.fromkeys(name for name, _ in files()))


def scales(name: str) -> list[int]:
    """The scales at which there is a network of this name, small ones first; none for other names."""
    return [s for n, s in files() if n == name]


def is_shipped(name: str) -> bool:
    """Whether `name` is one of `names()`, or such a name and a scale as in "fast_x2"."""
    there = files()
    return any(name in (n, f"{n}_x{s}") for n, s in there)


def find(name: str, scale: float | None = None) -> Path:
    """The .fsr file of "fast" with the scale 3, or of "fast_x3". Without a scale the one of 2, else the smallest.

    Raises ModelError, which says what there is, for another name or a scale at which there is no network of this name.
    """
    there = files()
    for (n, s), path in there.items():
        if name == f"{n}_x{s}" and scale in (None, s):
            return path
    base = re.sub(r"_x[0-9]+$", "", name)
    found = scales(base)
    if not found:
        others = f"there are {', '.join(names())}" if there else "none does in this installation"
        raise ModelError(f"no network '{name}' comes with fastsr: {others}")
    if base != name:
        raise ModelError(f"'{name}' enlarges by {name.rpartition('_x')[2]}{'' if scale is None else f', not by {_number(scale)}'}: {_offer(base)}")
    if scale is None:
        return there[name, 2 if 2 in found else found[0]]
    if scale not in found:
        raise ModelError(f"'{name}' does not enlarge by {_number(scale)}: {_offer(name)}")
    return there[name, int(scale)]


def _offer(name: str) -> str:
    return f"'{name}' is there for {_list(scales(name))}"


def _list(numbers: list[int]) -> str:
    return ", ".join(f"x{n}" for n in numbers)


def _number(scale: float) -> str:
    return str(scale) if isinstance(scale, (int, Fraction)) else f"{scale:g}"


def default(scale: int = 2) -> Path:
    """The network that is taken for a scale where none is named: the first of `PREFERENCE` that there is.

    Raises ModelError, which says what there is, where none enlarges by this scale.
    """
    there = files()
    for (_, s), path in there.items():
        if s == scale:
            return path
    if not there:
        raise ModelError("no network comes with this installation of fastsr")
    found = sorted({s for _, s in there})
    raise ModelError(f"no network that comes with fastsr enlarges by {scale}, only by {', '.join(map(str, found))}")


def card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The model card of an .fsr file: what is in the .json file of the same name. Raises ModelError where there is none or it is no JSON object."""
    file = Path(path).with_suffix(".json")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise ModelError(f"'{file}': the model card cannot be read: {e.strerror or e}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"'{file}': the model card is not JSON") from None
    if not isinstance(facts, dict):
        raise ModelError(f"'{file}': the model card is not a JSON object")
    return facts
