"""The README's table and plot from the results of peers.py; report.py calls it."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import plots
from plots import OURS, THEIRS

AGAINST = {"f32": "f32", "fast": "bf16"}
"""Our precision -> that of the peers it is measured against."""


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
        rows.append({"label": case["title"], "input": case["input"], "gflop": case["gflop"], "peers": peers, "ours": ours, "times": times})
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
    rows = [r for r in rows_of(report)[::-1] if "f32" in r["peers"]]
    bars = [("peers", p, c) for p, c in THEIRS.items() if any(p in r["peers"] for r in rows)]
    bars += [("ours", p, c) for p, c in OURS.items() if any(p in r["ours"] for r in rows)]
    figure, axes = plots.figure(7.6, 0.2 * len(rows) * (len(bars) + 0.6) + 1.1)
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
            axes.text(speed, place, f"  {words}, {ms:.1f} ms", va="center", color=plots.TEXT, size=7.5, weight=weight)
            longest = max(longest, speed)
        axes.barh(0, 0, color=colour, label=label)
    plots.name_rows(axes, [f"{r['label']}\n{r['input']}" for r in rows])
    axes.set_xlim(0, 1.35 * longest)
    axes.set_xlabel(f"speed of the bare network, fastest f32 peer = 1; {plots.threads_and_machine(report)}")
    plots.legend_above(axes, len(bars), 0.45)
    plots.save(figure, path)


ALGORITHMS = 4.0
"""How many times fewer multiplications Winograd's F(4x4, 3x3) needs than the direct sum."""

TICKS = [m * 10**e for e in range(7) for m in (1, 2, 5)]

LINES = ("#1a7f64", "#3b6fb5", "#8c4fa3", "#b5813b", "#555b63")
"""Colours of networks."""


def roofline(report: dict[str, Any], path: Path) -> None:
    """The rates, counted as direct convolutions, next to what the processor can multiply and add, directly and by Winograd's F(4x4).

    Ends the program when the results hold no measured peak.
    """
    peak = report.get("peaks", {})
    if "f32" not in peak:
        sys.exit("the results hold no peak of the processor: peers.py measures it where it finds a C++ compiler")
    rows = rows_of(report)[::-1]
    figure, axes = plots.figure(7.6, 0.42 * (len(rows) + 1) + 1.3)
    rates = []
    for side, colours, shape in (("peers", THEIRS, "s"), ("ours", OURS, "o")):
        for precision, colour in colours.items():
            points = [(r["gflop"] / r[side][precision][1] * 1e3, y) for y, r in enumerate(rows) if precision in r[side]]
            label = f"fastest {precision} peer" if side == "peers" else f"fastsr {precision}"
            if points:
                axes.scatter(*zip(*points, strict=True), s=42, marker=shape, color=colour, zorder=3, label=label)
            rates += points
    for y in range(len(rows)):  # the place above the networks is for the names of the lines
        xs = [rate for rate, place in rates if place == y]
        axes.plot([min(xs), max(xs)], [y, y], color=plots.GRID, linewidth=3, zorder=1)
    int16 = {"int16": peak["int16"]} if peak.get("int16", 0) > peak["f32"] else {}
    for (name, rate), style in zip({"f32": peak["f32"], **int16}.items(), ("-", "--"), strict=False):
        for factor, way in ((1.0, "direct"), (ALGORITHMS, "F(4x4)")):
            axes.axvline(rate * factor, color=plots.LIMIT, linewidth=1, linestyle=style, zorder=2)
            words = f" {name} {way}\n {rate * factor:.0f}"
            axes.text(rate * factor, len(rows) + 0.1, words, color=plots.LIMIT, size=7.5, va="top")
    axes.set_xscale("log")
    largest = max(rate for rate, _ in rates)
    axes.set_xlim(0.8 * min(rate for rate, _ in rates), 1.5 * max(largest, ALGORITHMS * max(peak["f32"], *int16.values(), 0)))
    axes.set_xticks([t for t in TICKS if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    plots.name_rows(axes, [f"{r['label']}\n{r['input']}" for r in rows])
    axes.set_ylim(-0.6, len(rows) + 0.1)
    label = "GFLOP/s, counted as direct convolutions; lines: what the processor's multiply-adds allow"
    axes.set_xlabel(f"{label}\n{plots.threads_and_machine(report)}")
    plots.legend_above(axes, 4, 0.4)
    plots.save(figure, path)


def scaling(report: dict[str, Any], path: Path) -> None:
    """Time per pixel over picture sizes, and times faster by threads, whichever the results hold."""
    panels = [kind for kind in ("sizes", "by_threads") if report.get(kind)]
    figure, axes = plots.figure(7.6, 4, len(panels))
    every = [r for kind in panels for r in report[kind]]
    networks, names = (list(dict.fromkeys(r[key] for r in every)) for key in ("title", "name"))
    for kind, panel in zip(panels, [axes] if len(panels) == 1 else axes, strict=True):
        for i, title in enumerate(networks):
            for k, name in enumerate(names):
                rows = [r for r in report[kind] if r["title"] == title and r["name"] == name]
                if not rows:
                    continue
                if kind == "sizes":
                    xs, ys = [r["megapixels"] for r in rows], [r["ns_per_pixel"] for r in rows]
                else:
                    rows.sort(key=lambda r: r["threads"])
                    xs, ys = [r["threads"] for r in rows], [rows[0]["median_ms"] / r["median_ms"] for r in rows]
                style = ("-", "--", ":", "-.")[k % 4]
                panel.plot(xs, ys, style, marker="o", markersize=3.5, color=LINES[i % len(LINES)], label=f"{title}, {name}", zorder=2)
        panel.grid(color=plots.GRID, zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
        if kind == "sizes":
            panel.set(
                xscale="log", yscale="log", xlabel=f"megapixels of the input\n{plots.threads_and_machine(report)}", ylabel="ns per pixel of the input"
            )
            panel.xaxis.set_major_formatter("{x:g}")
            low, high = (f(r["ns_per_pixel"] for r in report[kind]) for f in (min, max))
            panel.set_yticks([t for t in TICKS if low / 2 <= t <= high * 2])
            panel.set_ylim(max(t for t in (0.5, *TICKS) if t <= low), min(t for t in TICKS if t >= high))
            panel.minorticks_off()
            panel.yaxis.set_major_formatter("{x:g}")
        else:
            counts = sorted({r["threads"] for r in report[kind]})
            panel.plot(counts, [n / counts[0] for n in counts], color=plots.LIMIT, linewidth=1, label="as many times as threads")
            panel.set(xlabel=f"threads\n{report['machine']['cpu']}", ylabel=f"times faster than with {counts[0]}", xticks=counts)
            panel.set_ylim(0)
    handles = {label: h for panel in figure.axes for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=3, frameon=False, fontsize=7.5)
    plots.save(figure, path, 0.17 * -(-len(handles) // 3) + 0.1)
