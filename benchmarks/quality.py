"""The quality of the networks that come with fastsr, next to OpenCV's own networks and to bicubic: PSNR and SSIM of the literature's test sets.

    python benchmarks/quality.py --readme README.md --plot docs/assets/quality.png

Measured by `fastsr eval`. Data sets and OpenCV's models: FASTSR_SHARED. The plot shows x2, quality against time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import report
from common import SHARED, header, keep

from fastsr import shipped
from fastsr.cli import main as command_line
from fastsr.cli.common import thousands

SETS = ("Set5", "Set14", "BSD100")
SHOWN = ("Set5", "BSD100")
SCALES = (2, 3, 4)
PLOTTED = 2
OPENCV = ("ESPCN", "FSRCNN", "FSRCNN-small", "LapSRN")


def contenders(scale: int) -> list[str]:
    """Ours of that scale, bicubic, and OpenCV's models that are there."""
    theirs = [SHARED / "models" / "tensorflow" / f"{name}_x{scale}.pb" for name in OPENCV]
    return [*(f"{n}_x{s}" for n, s in shipped.files() if s == scale), "bicubic", *(str(p) for p in theirs if p.is_file())]


def measure(scale: int, plot: Path | None, limit: int | None) -> list[dict[str, Any]]:
    """Rows of `fastsr eval`: model, data, scale, parameters, psnr, ssim, ms_per_picture and more."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "eval.json"
        words = ["eval", *contenders(scale), "--data", *SETS, "--root", str(SHARED / "images"), "-s", str(scale), "--json", str(result)]
        words += ["--plot", str(plot)] if plot else []
        words += ["--limit", str(limit)] if limit else []
        if command_line(words):
            raise SystemExit("not all pictures could be measured")
        rows: list[dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))["results"]
    for row in rows:
        row.pop("each", None)
    return rows


def label(model: str) -> str:
    """The network's name without scale and suffix."""
    return model.removesuffix(".pb").rpartition("_x")[0] or model


def markdown(found: dict[str, Any]) -> str:
    """The table: one row for each network, PSNR of each scale on two sets."""
    rows = found["results"]
    names = list(dict.fromkeys((label(r["model"]), r["model"].endswith(".pb")) for r in rows))
    ours = [n for n in names if not n[1] and n[0] != "bicubic"]
    theirs = [n for n in names if n[1]]
    heads = ["network", "parameters", *(f"{s} x{k}" for s in SHOWN for k in SCALES)]
    lines = [f"| {' | '.join(heads)} |", f"|---|---:|{'---:|' * (len(heads) - 2)}"]
    for name in [*ours, ("bicubic", False), *theirs]:
        mine = [r for r in rows if (label(r["model"]), r["model"].endswith(".pb")) == name]
        values = {(r["data"], r["scale"]): r["psnr"] for r in mine}
        counts = sorted({r["parameters"] for r in mine if r["parameters"] is not None})
        shown = "-" if not counts else thousands(counts[0]) if len(counts) == 1 else f"{thousands(counts[0])} to {thousands(counts[-1])}"
        cells = [f"{values[s, k]:.2f}" if (s, k) in values else "-" for s in SHOWN for k in SCALES]
        bold = [f"**{c}**" if name in ours and c != "-" else c for c in cells]
        first = f"`{name[0]}`" if name in ours else f"OpenCV's {name[0]}" if name[1] else name[0]
        lines.append(f"| {first} | {shown} | {' | '.join(bold)} |")
    return "\n".join([*lines, "", f"PSNR in dB of the luma, measured by `fastsr eval` as papers do, {found['date']}."])


def main() -> int:
    """Measure, keep the result, print the table."""
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    p.add_argument("--limit", type=int, metavar="N", help="only the first pictures of each data set, to try this out")
    p.add_argument("--plot", type=Path, metavar="PNG", help="write a plot of quality against time at x2 there")
    p.add_argument("--readme", type=Path, metavar="FILE", help="put the table between <!-- table:quality --> and <!-- /table -->")
    p.add_argument("--output", metavar="JSON", help="where the result goes (default: benchmarks/results)")
    args = p.parse_args()
    rows = [row for scale in SCALES for row in measure(scale, args.plot if scale == PLOTTED else None, args.limit)]
    found = {**header(), "protocol": "fastsr eval --protocol picture", "results": rows}
    print(keep("quality", found, args.output))
    table = markdown(found)
    print(table)
    if args.readme:
        args.readme.write_text(report.with_table(args.readme.read_text(encoding="utf-8"), table, "quality"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
