"""How the plots of report.py look: colours, a bare figure, and saving it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS = {"f32": "#1a7f64", "fast": "#5cc2a3"}
THEIRS = {"f32": "#8a929c", "bf16": "#b8bec6"}
TEXT, GRID, LIMIT = "#30363d", "#e3e6ea", "#c9510c"


def figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure of that size in inches and its axes (an array of them when there are several columns)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "text.color": TEXT, "axes.labelcolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT})
    return plt.subplots(1, columns, figsize=(width, height), dpi=150, facecolor="white")


def name_rows(axes: Any, labels: list[str]) -> None:
    """One label for each whole number on the vertical axis, from the bottom up; a grid for the horizontal one."""
    axes.set_yticks(range(len(labels)), labels)
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def legend_above(axes: Any, columns: int, middle: float = 0.5) -> None:
    """The legend, in rows above the axes."""
    axes.legend(loc="lower center", bbox_to_anchor=(middle, 1.0), ncols=columns, frameon=False)


def save(figure: Any, path: Path, above: float = 0.0) -> None:
    """Write the figure as PNG. above: inches at the top that are taken."""
    from matplotlib import pyplot as plt

    figure.tight_layout(rect=(0, 0, 1, 1 - above / figure.get_figheight()))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def threads_and_machine(report: dict[str, Any]) -> str:
    """For the axis' label."""
    return f"{report['threads']} thread{'s' * (report['threads'] > 1)}, {report['machine']['cpu']}"
