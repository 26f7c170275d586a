"""The plot of `fastsr eval`: quality against time, one panel for each data set and scale. matplotlib is imported when it is used."""

from __future__ import annotations

import importlib
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FastsrError

if TYPE_CHECKING:
    from .eval import Section

FORMATS = ("png", "svg", "pdf")

_TEXT, _GRID, _POINT, _LINE = "#30363d", "#e3e6ea", "#1a7f64", "#8a929c"


def check(path: str) -> None:
    """Raise FastsrError for a name that says no format, or when matplotlib is not there."""
    if Path(path).suffix[1:].lower() not in FORMATS:
        raise FastsrError(f"--plot {path}: end the name with {', '.join('.' + f for f in FORMATS)}")
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise FastsrError("--plot needs matplotlib: pip install matplotlib (the extra fastsr[bench] has it)") from None


def plot(sections: list[Section], kind: str) -> bytes:
    """The plot as a file's bytes; the area of a point grows with the number of parameters, filters without a time are lines."""
    matplotlib = importlib.import_module("matplotlib")
    figures = importlib.import_module("matplotlib.figure")

    scales = sorted({s.scale for s in sections})
    names = list(dict.fromkeys(s.data for s in sections))
    style = {"font.size": 9, "text.color": _TEXT, "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT, "svg.hashsalt": "fastsr"}
    with matplotlib.rc_context(style):
        figure = figures.Figure(figsize=(1 + 4 * len(names), 0.6 + 3 * len(scales)), dpi=150, facecolor="white", layout="constrained")
        panels = figure.subplots(len(scales), len(names), squeeze=False)
        for section in sections:
            _panel(panels[scales.index(section.scale)][names.index(section.data)], section)
        figure.supxlabel("milliseconds for each picture, mean (further left is faster)", fontsize=9)
        figure.supylabel("PSNR of the luma, dB" if _metric(sections) == "psnr" else _metric(sections).upper(), fontsize=9)
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={{"png": "Software", "svg": "Date", "pdf": "CreationDate"}[kind]: None})
    return out.getvalue()


def _metric(sections: list[Section]) -> str:
    """PSNR where it was measured, else the first metric that was."""
    found = [m for s in sections for _, scores in s.scores for score in scores for m in score.values]
    return "psnr" if "psnr" in found or not found else found[0]


def _panel(axes: Any, section: Section) -> None:
    from ..evaluation import means

    metric = _metric([section])
    axes.set_title(f"{section.data} x{section.scale}", fontsize=10, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, zorder=0)
    axes.set_xscale("log")
    points, lines = [], []
    for model, scores in section.scores:
        row = means(scores)
        value = row.get(metric)
        if value is None or not math.isfinite(value):
            continue
        if row["seconds"] is None:
            lines.append((value, model.name))
            continue
        points.append((1e3 * row["seconds"], value, model.name.rsplit(".", 1)[0], model.parameters or 0))
    for value, name in lines:
        axes.axhline(value, color=_LINE, linestyle="--", linewidth=1, zorder=1)
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(name, (0.99, value), (0, 3), color=_LINE, fontsize=8, **where)
    times = [p[0] for p in points] or [1.0, 10.0]
    wider = max(1.0, 8 / (max(times) / min(times))) ** 0.5 * 1.4
    axes.set_xlim(min(times) / wider, max(times) * wider)
    _time_ticks(axes)
    _name(axes, points, [p[1] for p in points] + [value for value, _ in lines])
    axes.margins(y=0.2)


def _time_ticks(axes: Any) -> None:
    """1, 2, 5, 10, ... as plain numbers."""
    tickers = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(tickers.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(tickers.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(tickers.NullFormatter())


def _name(axes: Any, points: list[tuple[float, float, str, int]], values: list[float]) -> None:
    """Points with their names (values: all that the panel shows): towards the middle, and of two that lie close together one above and one below."""
    if not points:
        return
    times = [p[0] for p in points]
    middle = math.sqrt(min(times) * max(times))
    span = max(values) - min(values) or 1.0
    above = True
    before = math.inf
    for time, value, name, parameters in sorted(points, key=lambda p: -p[1]):
        above = not above if before - value < 0.09 * span else True
        before = value
        axes.scatter([time], [value], s=20 + 6 * math.sqrt(parameters / 1e3), color=_POINT, alpha=0.75, edgecolors="none", zorder=3)
        right = time > middle * 1.001
        where = {"textcoords": "offset points", "ha": "right" if right else "left", "va": "bottom" if above else "top", "zorder": 4}
        axes.annotate(name, (time, value), (-6 if right else 6, 3 if above else -3), fontsize=8, **where)
