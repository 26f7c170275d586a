"""`fastsr compare`: pictures enlarged by several models, side by side on a web page of one file and on a contact sheet."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import write_atomically
from ..errors import FastsrError, PictureError
from .common import MODEL, Progress, UsageError, add_command, add_engine_options, add_feed, add_tta, binary, check_model_name, positive
from .contenders import contenders

if TYPE_CHECKING:
    from ..evaluation import Contender

EXAMPLES = """\
  fastsr compare photo.jpg --models FSRCNN_x2.pb ESPCN_x2.pb --out report.html
  fastsr compare Set5/ --hr --models FSRCNN_x2.pb FSRCNN_x3.pb --out report.html --sheet sheet.png

The page needs no network and no server: open the file. It shows any two of nearest, bicubic, the models and the original over each other, with a
divider to drag, all of them next to each other, or where two of them differ. Bicubic is the literature's (a = -0.5).
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "compare", run, "show what models make of pictures side by side, on a web page of one file", EXAMPLES)
    p.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture, or folder of pictures")
    p.add_argument("-m", "--models", nargs="+", required=True, metavar="MODEL", help=MODEL)
    p.add_argument("-o", "--out", metavar="FILE", help="the page to write, .html")
    p.add_argument("--sheet", metavar="FILE", help="a contact sheet to write, .png or another picture")
    p.add_argument("--hr", action="store_true", help="the pictures are originals: small ones are made from them, results measured against them")
    scales = "for filters (default: those of the other models, else 2), networks fed enlarged pictures, weights for several scales; others have one"
    p.add_argument("-s", "--scale", nargs="+", type=positive, metavar="N", help=scales)
    add_feed(p)
    add_tta(p, "; it is then called NAME+")
    p.add_argument("--budget", type=megabytes, default=5.0, metavar="MB", help="the page has at most so many megabytes (default 5)")
    p.add_argument("--runs", type=positive, default=3, metavar="N", help="runs of each model and picture; the fastest is told (default 3)")
    p.add_argument("--title", help="the page's title (default: the pictures' and the models' names)")
    add_engine_options(p)


def megabytes(text: str) -> float:
    """argparse type: a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of megabytes, such as 5")
    return number


def run(args: argparse.Namespace) -> int:
    """Make all views, then write the page and the sheet."""
    from ..compare import page, sheet, views
    from ..files import expand_inputs, read_picture, write_picture

    check_files(args)
    paths = list(dict.fromkeys(p for given in args.pictures for p in expand_inputs(given)))
    models = named(args)
    steps = len(models) + 1 + len({m.scale for m in models})
    bar = Progress(steps * len(paths))
    subjects = []
    try:
        for n, path in enumerate(paths):
            done = [n * steps]

            def starting(model: Contender, path: Path = path, done: list[int] = done) -> Any:
                done[0] += 1
                return bar.start(f"{path.name} {model.name}", done[0] - 1)

            try:
                subjects.append(views.subject(path.stem, read_picture(path), models, original=args.hr, runs=args.runs, starting=starting))
            except PictureError as e:
                raise PictureError(str(e) if str(path) in str(e) else f"'{path}': {e}") from None
        bar.start("encoding", (len(paths) - 1) * steps + steps - 1)
        title = args.title or f"{few([s.name for s in subjects])}: {few(list(dict.fromkeys(m.name for m in models)))}"
        data = page.render(title, subjects, int(args.budget * 1e6), notes(args, models)) if args.out else b""
        drawn = sheet.draw(subjects) if args.sheet else None
    finally:
        bar.close()
    if args.out:
        write_atomically(args.out, data)
        print(f"{args.out}  {len(subjects)} picture{'s' * (len(subjects) > 1)}, {binary(len(data))}")
    if drawn is not None:
        write_picture(args.sheet, drawn)
        print(f"{args.sheet}  {drawn.shape[1]}x{drawn.shape[0]}")
    return 0


def check_files(args: argparse.Namespace) -> None:
    """Raise before the work is done what writing the results would raise after it."""
    from ..files import check_place, check_writable

    if not args.out and not args.sheet:
        raise UsageError("nothing to write: --out report.html, --sheet sheet.png or both")
    if args.out:
        if Path(args.out).suffix.lower() not in (".html", ".htm"):
            raise FastsrError(f"--out {args.out}: the page's name ends in .html; --sheet writes a picture")
        check_place(args.out)
    if args.sheet:
        check_writable(args.sheet)
    for name in args.models:
        check_model_name(name)


def named(args: argparse.Namespace) -> list[Contender]:
    """The models that --models names, without the suffixes of files; bicubic is there without being asked for."""
    names = [n for n in args.models if n != "bicubic" or Path(n).exists()]
    if not names:
        raise UsageError("--models names no model but bicubic, which is on the page anyway: name another, such as lanczos")
    found = contenders(args, names, args.scale or [])
    short = {c.name: re.sub(r"\.(pb|onnx|pth?|ckpt|fsr|param|bin|tflite|h5|keras|npz|safetensors)$", "", c.name) for c in found}
    unique = [c.name for c in found if list(short.values()).count(short[c.name]) == 1]
    return [replace(c, name=short[c.name]) if c.name in unique else c for c in found]


def few(names: list[str]) -> str:
    """The first names of a list."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def notes(args: argparse.Namespace, models: list[Contender]) -> list[str]:
    """What the page says about how it came about."""
    from .. import __version__

    scales = " and ".join(f"x{s}" for s in sorted({m.scale for m in models}))
    if args.hr:
        shave = "a border as wide as the scale left out"
        made = f"Made smaller by MATLAB's bicubic filter and enlarged again by {scales}; PSNR and SSIM of the luma, {shave}."
    else:
        made = f"Enlarged by {scales}."
    return [made, f"fastsr {__version__}; {'; '.join(dict.fromkeys(m.how for m in models))}."]
