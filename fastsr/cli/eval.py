"""`fastsr eval`: models on the data sets of the literature; the table that papers print, as text, CSV, JSON and a plot."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import write_atomically
from .common import MODEL, Progress, UsageError, add_command, add_engine_options, add_feed, add_tta, check_model_name, positive, table, thousands
from .contenders import contenders

if TYPE_CHECKING:
    from ..evaluation import Contender, Score

EXAMPLES = """\
  fastsr eval bicubic FSRCNN_x2.pb --data images/Set5
  fastsr eval *_x2.pb bicubic --data Set5 Set14 BSD100 --root images --plot x2.png --csv x2.csv
  fastsr eval bicubic lanczos --data Set5 --scale 2 3 4
  fastsr eval bicubic FSRCNN_x3.pb --data Set5 --protocol luma     as SRCNN, VDSR and FSRCNN were measured

A data set is a folder of pictures, which are the originals: small ones are made with MATLAB's bicubic filter, antialiased. Or it is a folder with the
folders HR and LR_bicubic/X2 (or GTmod12 and LRbicx2, HR and LR/x2, ...). PSNR and SSIM are those of the luma, without a border as wide as the scale,
means over the pictures. 'bicubic' is the literature's (a = -0.5); the other filters are OpenCV's. docs/metrics.md says more.
"""

HEADINGS = {"psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}
DIGITS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "lpips": 4}
HD = 1280 * 720


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "eval", run, "measure models on data sets as papers do: PSNR, SSIM, time, size", EXAMPLES)
    p.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    p.add_argument("-d", "--data", nargs="+", required=True, metavar="SET", help="folders of pictures, or names of folders in --root")
    p.add_argument("--root", metavar="FOLDER", help="where the data sets are that --data names (default: FASTSR_DATA)")
    scales = "for filters (default: those of the other models, else 2), networks fed enlarged pictures, weights for several scales; others have one"
    p.add_argument("-s", "--scale", nargs="+", type=positive, metavar="N", help=scales)
    add_feed(p)
    add_tta(p, "; it is then called NAME+")
    what = "what is made small and what is rounded, see docs/metrics.md (default picture)"
    p.add_argument("--protocol", choices=("picture", "matlab", "luma"), default="picture", help=what)
    p.add_argument("--metrics", nargs="+", choices=tuple(HEADINGS), default=["psnr", "ssim"], help="what is measured (default: psnr ssim)")
    p.add_argument("--runs", type=positive, default=1, metavar="N", help="runs of each picture; the fastest counts (default 1)")
    p.add_argument("--limit", type=positive, metavar="N", help="only the first pictures of each data set")
    p.add_argument("--csv", metavar="FILE", help="write the means there")
    p.add_argument("--json", metavar="FILE", help="write everything there, each picture and the machine too; - for standard output")
    p.add_argument("--plot", metavar="FILE", help="write a plot of quality against time there: .png, .svg or .pdf (needs matplotlib)")
    add_engine_options(p)


@dataclass
class Section:
    """All models on one data set at one scale."""

    data: str
    scale: int
    scores: list[tuple[Contender, list[Score]]] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Measure and print. 1 when a picture could not be measured."""
    from ..evaluation import find_data_set, items_of

    check_files(args)
    for name in args.models:
        check_model_name(name)
    folders = [find_data_set(name, args.root) for name in args.data]
    models = contenders(args, args.models, args.scale or [])
    scales = sorted({m.scale for m in models})
    pairs = [(folder, scale, [m for m in models if m.scale == scale]) for scale in scales for folder in folders]
    plan = [(Section(folder.resolve().name, scale), models, items_of(folder, scale)[: args.limit]) for folder, scale, models in pairs]
    bar = Progress(sum(len(models) * len(items) for _, models, items in plan))
    done = 0
    try:
        for section, models, items in plan:
            measured(section, models, items, args, bar, done)
            done += len(models) * len(items)
    finally:
        bar.close()
    sections = [section for section, _, _ in plan]
    report = report_of(sections, args)
    if args.json == "-":
        print(json.dumps(report, indent=2))
    else:
        print(as_text(sections, args.metrics))
        if args.json:
            write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
    if args.csv:
        write_atomically(args.csv, as_csv(sections, args).encode())
    if args.plot:
        from .eval_plot import plot

        write_atomically(args.plot, plot(sections, Path(args.plot).suffix[1:].lower()))
    return 1 if any(s.error for section in sections for _, scores in section.scores for s in scores) else 0


def check_files(args: argparse.Namespace) -> None:
    """Raise before the work is done what writing the results would raise after it."""
    from ..files import check_place

    if len({*args.metrics}) < len(args.metrics):
        raise UsageError("--metrics names one twice")
    for path in filter(None, (args.csv, args.json if args.json != "-" else None, args.plot)):
        check_place(path)
    if args.plot:
        from .eval_plot import check

        check(args.plot)


def measured(section: Section, models: list[Contender], items: list[Any], args: argparse.Namespace, bar: Progress, done: int) -> None:
    """Fill the section; pictures that fail are told at once."""
    import sys

    from ..evaluation import evaluate

    scores: dict[int, list[Score]] = {id(m): [] for m in models}
    count = done

    def starting(model: Contender, item: Any) -> Any:
        return bar.start(f"{section.data} x{section.scale} {item.name} {model.name}", count)

    for model, score in evaluate(models, items, protocol=args.protocol, which=args.metrics, runs=args.runs, starting=starting):
        count += 1
        scores[id(model)].append(score)
        if score.error:
            bar.line(f"fastsr: {section.data} x{section.scale}, {score.picture}, {model.name}: {score.error}", sys.stderr)
    section.scores = [(m, scores[id(m)]) for m in models]


# ---- results -----------------------------------------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int) -> str:
    """A mean as papers print it."""
    if value is None:
        return "-"
    return "inf" if math.isinf(value) else f"{value:.{digits}f}"


def as_text(sections: list[Section], which: list[str]) -> str:
    """One table for each scale: a row for each model, a column for each data set."""
    from ..evaluation import means

    blocks = []
    for scale in sorted({s.scale for s in sections}):
        here = [s for s in sections if s.scale == scale]
        heads = [f"{s.data} {'/'.join(HEADINGS[m] for m in which)}" for s in here]
        rows = [[f"x{scale}", *heads, "ms/picture", "parameters", "mult-adds"]]
        for k, (model, _) in enumerate(here[0].scores):
            facts = [means(s.scores[k][1]) for s in here]
            cells = [" / ".join(number(f.get(m), DIGITS[m]) for m in which) + f" ({f['pictures']})" * bool(f["failed"]) for f in facts]
            timed = [(f["seconds"], f["pictures"]) for f in facts if f["seconds"] is not None]
            time = 1e3 * sum(t * n for t, n in timed) / sum(n for _, n in timed) if timed else None
            work = "-" if model.multiply_adds is None else thousands(model.multiply_adds * HD)
            parameters = "-" if model.parameters is None else thousands(model.parameters)
            rows.append([model.name, *cells, "-" if time is None else f"{time:.3g}" if time < 1000 else f"{time:.0f}", parameters, work])
        width = max(len(r[-1]) for r in rows)
        rows = [[*r[:-1], r[-1].rjust(width)] for r in rows]
        pictures = ", ".join(f"{s.data} {len(s.scores[0][1])} pictures" for s in here)
        blocks.append(f"{table(rows)}\n{pictures}; mult-adds: of the convolutions, for a result of 1280x720")
        if any(score.error for s in here for _, scores in s.scores for score in scores):
            blocks[-1] += "; in brackets: how many pictures could be measured, where not all"
    return "\n\n".join(blocks)


def rows_of(sections: list[Section]) -> list[dict[str, Any]]:
    """One row of plain values for each model, scale and data set."""
    from ..evaluation import means

    rows = []
    for section in sections:
        for model, scores in section.scores:
            m = means(scores)
            seconds = m.pop("seconds")
            work = None if model.multiply_adds is None else round(model.multiply_adds * HD)
            facts = {"model": model.name, "data": section.data, "scale": section.scale, "parameters": model.parameters}
            time = None if seconds is None else 1e3 * seconds
            rows.append({**facts, "multiply_adds_1280x720": work, "ms_per_picture": time, **m})
    return rows


def as_csv(sections: list[Section], args: argparse.Namespace) -> str:
    """The means as comma-separated values, with a heading."""
    out = io.StringIO()
    columns = ["model", "data", "scale", "parameters", "multiply_adds_1280x720", "ms_per_picture", "pictures", "failed", *args.metrics]
    writer = csv.DictWriter(out, [*columns, "protocol"], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows_of(sections):
        rounded = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        writer.writerow({**{k: "" if v is None else v for k, v in rounded.items()}, "protocol": args.protocol})
    return out.getvalue()


def report_of(sections: list[Section], args: argparse.Namespace) -> dict[str, Any]:
    """Everything as plain JSON values; equal pictures have the PSNR null."""
    from ..threads import get_num_threads
    from .machine import machine

    def finite(values: dict[str, Any]) -> dict[str, Any]:
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    rows = [finite(r) for r in rows_of(sections)]
    for row, (model, scores) in zip(rows, [pair for s in sections for pair in s.scores]):
        row["engine"] = model.how
        row["each"] = [
            finite({"picture": s.picture, "width": s.size[1], "height": s.size[0], "ms": None if s.seconds is None else 1e3 * s.seconds, **s.values})
            if s.error is None
            else {"picture": s.picture, "error": s.error}
            for s in scores
        ]
    threads = args.threads or get_num_threads()
    return {"protocol": args.protocol, "runs": args.runs, "threads": threads, "machine": machine(), "results": rows}
