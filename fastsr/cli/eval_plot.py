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
    style = {"font.size": 9, "text.color": _TEXT, "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT, "svg.hashsalt": "fastsr"}
    out = io.BytesIO()
    with matplotlib.rc_context(style):
        figure, _ = draw(sections)
        figure.savefig(out, format=kind, metadata={{"png": "Software", "svg": "Date", "pdf": "CreationDate"}[kind]: None})
    return out.getvalue()


def draw(sections: list[Section]) -> tuple[Any, list[tuple[Any, list[tuple[Any, float]], list[Any]]]]:
    """The figure, and of each panel its axes, the names of its points with their radius (1/72 inch), and the names of its lines."""
    figures = importlib.import_module("matplotlib.figure")
    scales = sorted({s.scale for s in sections})
    names = list(dict.fromkeys(s.data for s in sections))
    figure = figures.Figure(figsize=(1 + 4 * len(names), 0.6 + 3 * len(scales)), dpi=150, facecolor="white", layout="constrained")
    panels = figure.subplots(len(scales), len(names), squeeze=False)
    drawn = []
    for section in sections:
        axes = panels[scales.index(section.scale)][names.index(section.data)]
        drawn.append((axes, *_panel(axes, section)))
    figure.supxlabel("milliseconds for each picture, mean (further left is faster)", fontsize=9)
    figure.supylabel("PSNR of the luma, dB" if _metric(sections) == "psnr" else _metric(sections).upper(), fontsize=9)
    figure.draw_without_rendering()
    for axes, names_of_points, names_of_lines in drawn:
        _place(axes, names_of_points, names_of_lines)
    return figure, drawn


def _metric(sections: list[Section]) -> str:
    """PSNR where it was measured, else the first metric that was."""
    found = [m for s in sections for _, scores in s.scores for score in scores for m in score.values]
    return "psnr" if "psnr" in found or not found else found[0]


def _panel(axes: Any, section: Section) -> tuple[list[tuple[Any, float]], list[Any]]:
    """Draw one panel. Returns what `_mark` does, and the names of its lines."""
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
    named = []
    for value, name in lines:
        axes.axhline(value, color=_LINE, linestyle="--", linewidth=1, zorder=1)
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        named.append(axes.annotate(name, (0.99, value), (0, 3), color=_LINE, fontsize=8, **where))
    times = [p[0] for p in points] or [1.0, 10.0]
    wider = max(1.0, 8 / (max(times) / min(times))) ** 0.5 * 1.4
    axes.set_xlim(min(times) / wider, max(times) * wider)
    _time_ticks(axes)
    axes.margins(y=0.2)
    return _mark(axes, points), named


def _time_ticks(axes: Any) -> None:
    """1, 2, 5, 10, ... as plain numbers."""
    tickers = importlib.import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(tickers.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(tickers.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(tickers.NullFormatter())


def _mark(axes: Any, points: list[tuple[float, float, str, int]]) -> list[tuple[Any, float]]:
    """Draw the points. Returns their names, which `_place` puts beside them, and their radius."""
    names = []
    for time, value, name, parameters in sorted(points, key=lambda p: -p[1]):
        area = 20 + 6 * math.sqrt(parameters / 1e3)
        axes.scatter([time], [value], s=area, color=_POINT, alpha=0.75, edgecolors="none", zorder=3)
        named = axes.annotate(name, (time, value), (0, 0), textcoords="offset points", fontsize=8, zorder=4)
        named.set_in_layout(False)  # else the panel shrinks for a name that is moved then
        names.append((named, math.sqrt(area / math.pi)))
    return names


def _place(axes: Any, names: list[tuple[Any, float]], lines: list[Any]) -> None:
    """Put each name beside its point where it covers least of the other points, of the names of lines, of those before it and of what is outside the
    panel. The figure has been laid out before."""
    boxes = importlib.import_module("matplotlib.transforms")
    panel = axes.get_window_extent()
    taken = []
    for name, radius in names:
        x, y = axes.transData.transform(name.xy)
        r = radius * axes.figure.dpi / 72
        taken.append(boxes.Bbox.from_extents(x - r, y - r, x + r, y + r))
    taken += [line.get_window_extent() for line in lines]
    for k, (name, _) in enumerate(names):
        found = []
        for place in _PLACES:
            _put(name, *place)
            box = name.get_window_extent()
            covered = sum(_area(boxes.Bbox.intersection(box, other)) for i, other in enumerate(taken) if i != k)
            found.append(covered + _area(box) - _area(boxes.Bbox.intersection(box, panel)))
        _put(name, *_PLACES[found.index(min(found))])
        taken.append(name.get_window_extent())


_PLACES = [(side, up) for up in (3, -3, 0, 12, -12, 21, -21) for side in ("left", "right")] + [("center", up) for up in (7, -7)]
"""(horizontal alignment, points above the point) of a name, the preferred ones first."""


def _put(name: Any, side: str, up: float) -> None:
    name.set(ha=side, va="bottom" if up > 0 else "top" if up < 0 else "center", position=({"left": 6, "right": -6, "center": 0}[side], up))


def _area(box: Any) -> float:
    return 0.0 if box is None else float(box.width * box.height)
