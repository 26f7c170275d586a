"""The README's table and plot from the results of peers.py; report.py calls it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

OURS = {"f32": "#1a7f64", "fast": "#5cc2a3"}
THEIRS = {"f32": "#8a929c", "bf16": "#b8bec6"}
AGAINST = {"f32": "f32", "fast": "bf16"}
"""Our precision -> that of the peers it is measured against."""

TEXT, GRID = "#30363d", "#e3e6ea"


def rows_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per network: label, the fastest exact enough peer of each precision, ours of each precision, as (name, ms)."""
    rows = []
    for case in report["cases"]:
        peers: dict[str, tuple[str, float]] = {}
        ours: dict[str, tuple[str, float]] = {}
        for r in case["results"]:
            mine = r["library"] == "fastsr"
            if r["wrong"] or (mine and r["name"] != f"fastsr {r['precision']}"):
                continue
            found = ours if mine else peers
            if r["precision"] not in found or r["median_ms"] < found[r["precision"]][1]:
                found[r["precision"]] = (r["name"], r["median_ms"])
        times = {p: peers[AGAINST[p]][1] / ms for p, (_, ms) in ours.items() if AGAINST.get(p) in peers}
        rows.append({"label": case["title"], "input": case["input"], "peers": peers, "ours": ours, "times": times})
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The table: the fastest peers, ours, how many times faster ours are."""
    rows = rows_of(report)
    theirs = [p for p in THEIRS if any(p in r["peers"] for r in rows)]
    ours = [p for p in OURS if any(p in r["ours"] for r in rows)]
    columns = [f"fastest {p} peer" for p in theirs] + [c for p in ours for c in (f"fastsr {p}", f"times faster than {AGAINST[p]}")]
    lines = ["| network | input | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * len(columns)]
    for r in rows:
        cells = [f"{r['peers'][p][0].removesuffix(' ' + p)} {r['peers'][p][1]:.1f} ms" if p in r["peers"] else "-" for p in theirs]
        for p in ours:
            cells += [f"**{r['ours'][p][1]:.1f} ms**" if p in r["ours"] else "-", f"**{r['times'][p]:.2f}**" if p in r["times"] else "-"]
        lines.append(f"| {r['label']} | {r['input']} | " + " | ".join(cells) + " |")
    means = [""] * len(theirs)
    for p in ours:
        times = [r["times"][p] for r in rows if p in r["times"]]
        means += ["", f"**{statistics.geometric_mean(times):.2f}**" if times else "-"]
    lines.append("| geometric mean | | " + " | ".join(means) + " |")
    return "\n".join([*lines, "", caption(report)])


def caption(report: dict[str, Any]) -> str:
    """What was measured, on what."""
    machine = report["machine"]
    versions = {}
    for case in report["cases"]:
        for r in case["results"]:
            if r["library"] != "fastsr":
                versions[r["name"].removesuffix(" " + r["precision"])] = r["version"]
    others = ", ".join(f"{name} {'' if name.startswith('cv2') else version}".rstrip() for name, version in versions.items())
    clock = "median" if report["clock"] == "wall" else "median processor time"
    threads = f"{report['threads']} thread{'s' * (report['threads'] > 1)}"
    return (
        f"The bare network, float32 in and out, the same weights and input for all, {clock} of interleaved runs, {threads}, {machine['cpu']}, "
        f"{machine['system']}, {report['date']}. Peers: {others}; the fastest of each row is shown, as long as its result is right."
    )


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars of speed, the fastest f32 peer of each network being 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [r for r in rows_of(report)[::-1] if "f32" in r["peers"]]
    bars = [("peers", p, c) for p, c in THEIRS.items() if any(p in r["peers"] for r in rows)]
    bars += [("ours", p, c) for p, c in OURS.items() if any(p in r["ours"] for r in rows)]
    plt.rcParams.update({"font.size": 9, "text.color": TEXT, "axes.labelcolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT})
    figure, axes = plt.subplots(figsize=(7.6, 0.2 * len(rows) * (len(bars) + 0.6) + 1.1), dpi=150, facecolor="white")
    height, longest = 0.84 / len(bars), 1.0
    for k, (side, precision, colour) in enumerate(bars):
        label = f"fastest {precision} peer" if side == "peers" else f"fastsr {precision}"
        for y, r in enumerate(rows):
            if precision not in r[side]:
                continue
            name, ms = r[side][precision]
            speed, place = r["peers"]["f32"][1] / ms, y + 0.42 - height * (k + 0.5)
            axes.barh(place, speed, height * 0.92, color=colour, zorder=2)
            words = name.removesuffix(" " + precision) if side == "peers" else f"{r['times'].get(precision, speed):.2f}x {AGAINST[precision]}"
            weight = "bold" if side == "ours" else "normal"
            axes.text(speed, place, f"  {words}, {ms:.1f} ms", va="center", color=TEXT, size=7.5, weight=weight)
            longest = max(longest, speed)
        axes.barh(0, 0, color=colour, label=label)
    axes.set_yticks(range(len(rows)), [f"{r['label']}\n{r['input']}" for r in rows])
    axes.set_xlim(0, 1.35 * longest)
    threads = f"{report['threads']} thread{'s' * (report['threads'] > 1)}"
    axes.set_xlabel(f"speed of the bare network, fastest f32 peer = 1; {threads}, {report['machine']['cpu']}")
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=len(bars), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
