"""The README's tables and plots from the results of upsample.py or peers.py.

    python benchmarks/report.py benchmarks/results/upsample-*.json                        table in Markdown on standard output
    python benchmarks/report.py benchmarks/results/upsample-*.json --plot docs/assets/speed.png --readme README.md
    python benchmarks/report.py benchmarks/results/peers-*.json --plot docs/assets/peers.png --roofline docs/assets/roofline.png
    python benchmarks/report.py benchmarks/results/scaling-*.json --plot docs/assets/scaling.png
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import plots

THEIRS = (plots.THEIRS["bf16"], plots.THEIRS["f32"])


def rows_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per model: label, milliseconds by contender, the fastest contender of ours and of theirs."""
    rows = []
    for case in report["cases"]:
        ms = {r["name"]: r["median_ms"] for r in case["results"]}
        ours = min((n for n in ms if n.startswith("fastsr") and not n.endswith(" fast")), key=ms.__getitem__)
        theirs = min((n for n in ms if not n.startswith("fastsr")), key=ms.__getitem__)
        equal = min(d["equal_percent"] for r in case["results"] if r["name"] == ours for d in r["difference"].values())
        label = re.sub(r"_x(\d)", r" x\1", case["model"])
        rows.append({"label": label, "picture": case["picture"], "ms": ms, "ours": ours, "times": ms[theirs] / ms[ours], "equal": equal})
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The table: milliseconds of every contender, how many times faster ours is than the fastest OpenCV, how equal the pictures are."""
    rows = rows_of(report)
    names = list(dict.fromkeys(n for r in rows for n in r["ms"]))
    theirs, ours = [n for n in names if not n.startswith("fastsr")], [n for n in names if n.startswith("fastsr")]
    lines = ["| model | picture | " + " | ".join([*theirs, *ours]) + " | times faster | equal |", "|---|---|" + "---:|" * (len(names) + 2)]
    for r in rows:
        cells = [f"{r['ms'][n]:.1f} ms" if n != r["ours"] else f"**{r['ms'][n]:.1f} ms**" for n in [*theirs, *ours]]
        lines.append(f"| {r['label']} | {r['picture']} | " + " | ".join(cells) + f" | **{r['times']:.1f}** | {r['equal']:.3f} % |")
    return "\n".join([*lines, "", caption(report)])


def caption(report: dict[str, Any]) -> str:
    """What was measured, on what."""
    machine = report["machine"]
    return (
        f"Whole `upsample()` of an 8-bit BGR picture, median of interleaved runs, {report['threads']} threads, {machine['cpu']}, "
        f"{machine['system']}, {report['date']}. Times faster: than the fastest OpenCV of the row. Equal: samples of that one equal to OpenCV's, "
        "the others one grey level off. `cpu fast`: `precision=\"fast\"`."
    )


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars of speed, the fastest OpenCV of each model being 1."""
    rows = rows_of(report)[::-1]
    theirs = list(dict.fromkeys(n for r in rows for n in r["ms"] if not n.startswith("fastsr")))
    figure, axes = plots.figure(7.6, 0.6 * len(rows) + 1.1)
    bars = [*theirs, "fastsr"]
    height = 0.8 / len(bars)
    for k, name in enumerate(bars):
        colour = plots.OURS["f32"] if name == "fastsr" else THEIRS[k % len(THEIRS)]
        for y, r in enumerate(rows):
            best = min(r["ms"][n] for n in theirs)
            ms = r["ms"][r["ours"] if name == "fastsr" else name]
            place = y + 0.4 - height * (k + 0.5)
            axes.barh(place, best / ms, height * 0.92, color=colour, label=name if y == 0 else None, zorder=2)
            if name == "fastsr":
                axes.text(best / ms, place, f"  {best / ms:.1f}x  ({best:.0f} ms to {ms:.0f} ms)", va="center", color=colour, weight="bold")
    plots.name_rows(axes, [f"{r['label']}\n{r['picture']}" for r in rows])
    axes.set_xlim(0, 1.45 * max(r["times"] for r in rows))
    axes.set_xlabel(f"speed of a whole upsample(), fastest OpenCV = 1; {plots.threads_and_machine(report)}")
    plots.legend_above(axes, len(bars))
    plots.save(figure, path)


def with_table(text: str, table: str, kind: str = "upsample") -> str:
    """The text with what stands between the marks <!-- table:KIND --> and <!-- /table --> replaced. Ends the program without them."""
    before, mark, rest = text.partition(f"<!-- table:{kind} -->\n")
    _, end, after = rest.partition("<!-- /table -->")
    if not (mark and end):
        sys.exit(f"no <!-- table:{kind} --> and <!-- /table --> in that file")
    return f"{before}{mark}{table}\n{end}{after}"


def main() -> int:
    """Table, and the plot if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="JSON of upsample.py or peers.py; of several the last by date counts")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write a plot there")
    parser.add_argument("--roofline", type=Path, metavar="PNG", help="of peers.py: write a plot next to the processor's multiply-add rate there")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table between <!-- table:upsample --> (or peers) and <!-- /table -->")
    args = parser.parse_args()
    report = max((json.loads(p.read_text(encoding="utf-8")) for p in args.results), key=lambda r: r["date"])
    if "cases" not in report:
        if not args.plot:
            parser.error("--plot says where the plot of scaling goes")
        importlib.import_module("report_peers").scaling(report, args.plot)
        return 0
    kind = "peers" if "network" in report["cases"][0] else "upsample"
    maker = importlib.import_module("report_peers") if kind == "peers" else sys.modules[__name__]
    table = maker.markdown(report)
    print(table)
    if args.plot:
        maker.plot(report, args.plot)
    if args.roofline:
        if kind != "peers":
            parser.error("--roofline is for results of peers.py")
        maker.roofline(report, args.roofline)
    if args.readme:
        args.readme.write_text(with_table(args.readme.read_text(encoding="utf-8"), table, kind), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
