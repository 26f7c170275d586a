"""The web page of `fastsr compare`: one file that needs no other; its pictures are data URIs, lossless, cut where they are too large."""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FastsrError
from ..files import encode_picture
from .views import Subject, details, interest, windows

BUDGET = 5_000_000
"""Bytes of a page."""

_LEAST = 32


def render(title: str, subjects: Sequence[Subject], budget: int = BUDGET, notes: Sequence[str] = ()) -> bytes:
    """The page as UTF-8 bytes, at most `budget` of them.

    Views are WebP without loss. Where the whole pictures would take more than the budget, of the larger ones only
    the part is kept in which the views differ most; the page says so. notes: sentences below the title.
    Raises FastsrError when the budget is too small for parts of 32 pixels.
    """
    parts = {name: _resource(name) for name in ("page.html", "page.css", "page.js")}
    empty = _data(title, notes, [(s, [""] * len(s.views)) for s in subjects])
    fixed = sum(len(p.encode()) for p in parts.values()) + len(empty) + 2 * len(html.escape(title).encode()) + 200 * len(subjects)
    text = _data(title, notes, fit(subjects, budget - fixed))
    contents = {"title": html.escape(title), "css": parts["page.css"], "js": parts["page.js"], "data": text}
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: contents[mark[1]], parts["page.html"]).encode()


def _data(title: str, notes: Sequence[str], pictures: Sequence[tuple[Subject, Sequence[str]]]) -> str:
    """What the page's script reads, as JSON in ASCII that cannot end the element it lies in."""
    data = {"title": title, "notes": list(notes), "subjects": [_facts(s, uris) for s, uris in pictures]}
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for mark, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(mark, escape)
    return text


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _facts(s: Subject, uris: Sequence[str]) -> dict[str, Any]:
    views = []
    for v, uri in zip(s.views, uris, strict=True):
        values = {k: x if math.isfinite(x) else None for k, x in v.values.items()}
        ms = None if v.seconds is None else 1e3 * v.seconds
        views.append({"name": v.name, "kind": v.kind, "scale": v.scale, "size": v.pixels.shape[1::-1], **values, "ms": ms, "src": uri})
    return {
        "name": s.name,
        "width": s.frame[1],
        "height": s.frame[0],
        "whole": [s.whole[1], s.whole[0]],
        "at": [s.at[1], s.at[0]],
        "unit": max(v.pixels.shape[0] for v in s.views) / s.frame[0],
        "details": [[x, y, w, h] for y, x, h, w in s.details],
        "views": views,
    }


def data_uri(pixels: np.ndarray) -> str:
    """A picture without loss as a data URI: WebP, or PNG where a side is too long for that."""
    kind = "webp" if max(pixels.shape[:2]) <= 16383 else "png"
    return f"data:image/{kind};base64," + base64.b64encode(encode_picture(f".{kind}", pixels)).decode()


# ---- within the budget -------------------------------------------------------------------------------------------------------------------------


def fit(subjects: Sequence[Subject], budget: int) -> list[tuple[Subject, list[str]]]:
    """Each subject, cut where need be, with its views' data URIs: together at most `budget` bytes."""
    whole = [[data_uri(v.pixels) for v in s.views] if _estimate(s) < 2 * budget else None for s in subjects]
    sizes = [budget + 1 if uris is None else sum(map(len, uris)) for uris in whole]
    done: dict[int, tuple[Subject, list[str]]] = {}
    left = budget
    # From the smallest on: what fits into an equal share of what is left is taken whole, which leaves more for the others.
    for n, k in enumerate(sorted(range(len(subjects)), key=lambda k: sizes[k])):
        share = left // (len(subjects) - n)
        uris = whole[k]
        done[k] = (subjects[k], uris) if uris is not None and sizes[k] <= share else _cut(subjects[k], share)
        left -= sum(map(len, done[k][1]))
    return [done[k] for k in range(len(subjects))]


def _estimate(s: Subject) -> float:
    """Bytes that all views may take, from the middle of the largest; little for small pictures, which are tried anyway."""
    if s.frame[0] * s.frame[1] < 1 << 20:
        return 0.0
    largest = max((v.pixels for v in s.views), key=lambda p: p.size)
    height, width = (n // 8 for n in largest.shape[:2])
    middle = largest[3 * height : 5 * height, 3 * width : 5 * width]
    return len(data_uri(middle)) / middle.size * sum(v.pixels.size for v in s.views)


def _cut(s: Subject, share: int) -> tuple[Subject, list[str]]:
    """The part of the picture where the views differ most, as large as the share allows."""
    step = s.step
    weight = interest(s)
    k = s.frame[0] // weight.shape[0]
    bytes_each = sum(v.pixels.size for v in s.views) / (s.frame[0] * s.frame[1])
    fraction = min(0.95, share / (0.6 * bytes_each * s.frame[0] * s.frame[1]))
    while True:
        height, width = (max(step, int(n * math.sqrt(fraction)) // step * step) for n in s.frame)
        if min(height, width) < min(_LEAST, *s.frame):
            raise FastsrError("the page is allowed too few bytes for its pictures: raise --budget, or compare fewer pictures or models")
        sums = windows(weight, height // k, width // k)
        y, x = (int(i) * k // step * step for i in np.unravel_index(int(np.argmax(sums)), sums.shape))
        part = s.cut(y, x, height, width)
        uris = [data_uri(v.pixels) for v in part.views]
        size = sum(map(len, uris))
        if size <= share:
            part.details = details(part)
            return part, uris
        fraction *= min(0.95, 0.98 * share / size)
