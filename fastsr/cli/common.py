"""What several commands share: options, loading the model they name, numbers for people, a progress bar."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import knobs, shipped
from ..baselines import BASELINES, is_baseline
from ..errors import FastsrError

if TYPE_CHECKING:
    from ..graph import Graph
    from ..model import Model


class UsageError(Exception):
    """Arguments that make no sense together: shown with the command's usage, exit code 2."""


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, examples: str) -> argparse.ArgumentParser:
    """A sub-command's parser; `run` gets the parsed arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def checked(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except UsageError as e:
            parser.print_usage(sys.stderr)
            print(f"fastsr {name}: error: {e}", file=sys.stderr)
            return 2

    parser.set_defaults(run=checked)
    return parser


MODEL = "file of any format that fastsr reads; network that 'fastsr models' lists; or filter: nearest, bilinear, bicubic, lanczos, area"


def add_feed_options(parser: argparse.ArgumentParser) -> None:
    """--scale, --feed: what `load` and `load_program` need besides the model's name."""
    what = "how many times larger: filters and named networks (default 2), networks fed enlarged pictures, weights for several; others have their own"
    parser.add_argument("-s", "--scale", type=positive, metavar="N", help=what)
    add_feed(parser)


def add_feed(parser: argparse.ArgumentParser) -> None:
    """--feed alone."""
    what = "how pictures are fed, in place of what the file says or is guessed: colour=bgr, range=255, mean=0.45,0.44,0.4, pre_scale=2, ..."
    parser.add_argument("--feed", action="append", default=[], type=_setting, metavar="NAME=VALUE", help=what)


def _setting(text: str) -> tuple[str, Any]:
    """argparse type: NAME=VALUE of a field of Feed."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE, such as colour=bgr")
    return name, [v for v in value.split(",") if v] if name in ("mean", "out_mean") else value


PRECISIONS = "f32; fast: 16-bit integers where they keep 60 dB to f32; int8: quantised models, which it is the default for (else f32)"


def add_engine_options(
    parser: argparse.ArgumentParser, threads: Callable[[str], Any] | None = None, metavar: str = "N", meaning: str = "threads (default: all cores)"
) -> None:
    """--backend, --device, --precision, --threads, --tile. threads: the type of --threads, for a command that takes more than a number."""
    group = parser.add_argument_group("engine")
    what = "what computes; 'fastsr backends' lists them (default: the fastest here)"
    group.add_argument("--backend", choices=knobs.BACKEND.choices, default="auto", help=what)
    group.add_argument("--device", type=natural, metavar="N", help="number of the GPU for the backends cuda and numba_cuda (default: the current)")
    group.add_argument("--precision", choices=knobs.PRECISION.choices, help=PRECISIONS)
    group.add_argument("-j", "--threads", type=threads or positive, metavar=metavar, help=meaning)
    group.add_argument("-t", "--tile", type=natural, metavar="N", help="tile edge in input pixels, 0 for automatic; the result does not depend on it")


def add_tta(parser: argparse.ArgumentParser, named: str = "") -> None:
    """-x, --tta. named: what is said of names."""
    what = f"the mean of what a network makes of 8 turned and mirrored views of a picture: a little better, at least 8 times slower{named}"
    parser.add_argument("-x", "--tta", dest="views", action="store_const", const=8, default=1, help=what)


def positive(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    number = natural(text)
    if not number:
        raise argparse.ArgumentTypeError("a whole number of at least 1 is needed")
    return number


def natural(text: str) -> int:
    """argparse type: a whole number of at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"a whole number is needed, got '{text}'")
    return int(text)


def between(text: str, low: float, high: float, what: str, ends: bool = True) -> float:
    """For argparse types: a number from `low` to `high`; these themselves only with `ends`. what: said of what is needed."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high or (not ends and value in (low, high)):
        raise argparse.ArgumentTypeError(f"{what} is needed, got '{text}'")
    return value


def size(text: str) -> tuple[int, int]:
    """argparse type: WIDTHxHEIGHT; returns (height, width)."""
    width, x, height = text.lower().partition("x")
    if not (x and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size: write WIDTHxHEIGHT, such as 960x540")
    return int(height), int(width)


def check_model_name(name: str) -> None:
    """Raise FastsrError for a name that is neither a file, nor a filter, nor a network that comes with fastsr."""
    if not Path(name).exists() and not is_baseline(name) and not shipped.is_shipped(name):
        ours = f"the networks that come with fastsr are {', '.join(shipped.names())}; " if shipped.names() else ""
        raise FastsrError(f"no model file '{name}' ({ours}the filters are {', '.join(BASELINES)})")


def model_output(name: str, models: Sequence[str] = (), told: str = "the network itself") -> Path:
    """The path of a model file that is to be written. Raises UsageError for one that is neither .fsr nor .onnx, or that is one of the files `models`;
    told: what it is then."""
    out = Path(name)
    if out.suffix.lower() not in (".fsr", ".onnx"):
        raise UsageError(f"the output's name must end in .fsr or .onnx, got '{name}'")
    if any(out.exists() and Path(model).exists() and out.samefile(model) for model in models):
        raise UsageError(f"'{out}' is {told}: choose another name with -o")
    return out


def is_shipped(name: str) -> bool:
    """Whether `name` means a network that comes with fastsr: no file has it, and no filter."""
    return not Path(name).is_file() and not is_baseline(name) and shipped.is_shipped(name)


def load_model(args: argparse.Namespace, scale: int | None = None) -> Model:
    """The model that `args.model` names with the engine options in `args`. Raises FastsrError when its scale is not `scale`."""
    import fastsr

    check_model_name(args.model)
    engine = args.backend, args.precision, args.threads, args.tile or None
    return fastsr.load(args.model, *engine, scale=scale, feed=dict(args.feed), device=args.device)


def load_graph(name: str, scale: int | None = None) -> Graph:
    """The graph in a model file, or that of a filter. Raises FastsrError for an .fsr file, which holds no graph."""
    from .. import baselines, fsr, importers

    if is_shipped(name):
        name = str(shipped.find(name, scale))
    if not Path(name).exists():
        return baselines.baseline_graph(name, scale or 2)
    if Path(name).is_file():
        with Path(name).open("rb") as f:
            if f.read(len(fsr.MAGIC)) == fsr.MAGIC:
                raise FastsrError(f"'{name}': an .fsr file holds a lowered program and no graph any more; give the original model file")
    return importers.load_graph(name, scale)


def label_of(name: str) -> str:
    """A model's name without folders, as results may be published."""
    return name if is_baseline(name) and not Path(name).exists() else Path(name).name


def table(rows: list[list[str]], left: int = 1) -> str:
    """Columns aligned, the first row a heading; the first `left` columns and the last start at the left, numbers at the right."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = []
    for r in rows:
        cells = [c.ljust(w) if i < left or i == len(r) - 1 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def thousands(n: float) -> str:
    """12345678 -> "12.3 M"."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= max(factor, 1e4):
            return f"{_three_digits(n / factor)} {unit}"
    return f"{n:.4g}"


def binary(n: float) -> str:
    """Bytes for people: 123456789 -> "118 MiB"."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >= 1 << shift:
            return f"{_three_digits(n / (1 << shift))} {unit}"
    return f"{n:.0f} B"


def _three_digits(n: float) -> str:
    return f"{n:.0f}" if n >= 100 else f"{n:.3g}"


class Progress:
    """A progress bar on stderr, nothing when that is no terminal: with rich when it is installed, else plain text."""

    def __init__(self, total: int, wanted: bool = True) -> None:
        self.total, self.done, self.shown = max(total, 1), 0.0, 0.0
        self.name = ""
        self.on = wanted and sys.stderr.isatty()
        self.bar: Any = None
        if self.on:
            try:
                from rich.console import Console
                from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
                from rich.progress import Progress as RichBar

                columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
                self.bar = RichBar(*columns, console=Console(stderr=True), transient=True)
                self.task = self.bar.add_task("", total=self.total)
                self.bar.start()
            except ImportError:
                self.bar = None

    def start(self, name: str, index: int) -> Callable[[int, int], None]:
        """The next piece of work, number `index`; returns the `progress` callback of Model.upscale."""
        self.name = name

        def tile(done: int, total: int) -> None:
            self.show(index + done / max(total, 1))

        self.show(index, force=True)
        return tile

    def show(self, done: float, force: bool = False) -> None:
        """Set the bar to `done` of the total."""
        now = time.monotonic()
        if not self.on or (not force and now - self.shown < 0.1):
            return
        self.shown = now
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=self.name)
        else:
            share = min(done / self.total, 1.0)
            full = int(share * 30)
            sys.stderr.write(f"\r[{'#' * full}{' ' * (30 - full)}] {share:4.0%} {self.name[-40:]:<40}")
            sys.stderr.flush()

    def line(self, text: str, file: Any = None) -> None:
        """A line of output that does not disturb the bar."""
        if self.bar is not None:
            self.bar.stop()
        elif self.on:
            sys.stderr.write("\r" + " " * 78 + "\r")
            sys.stderr.flush()
        print(text, file=file or sys.stdout, flush=True)
        if self.bar is not None:
            self.bar.start()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()
        elif self.on:
            sys.stderr.write("\r" + " " * 78 + "\r")
            sys.stderr.flush()
        self.on, self.bar = False, None
