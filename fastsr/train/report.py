"""What a training tells: lines on the terminal, the curve as CSV, a plot, TensorBoard when it is asked for."""

from __future__ import annotations

import csv
import importlib
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..errors import FastsrError

COLUMNS = ("step", "seconds", "rate", "loss", "psnr")


def duration(seconds: float) -> str:
    """"95 s", "12 min", "3.4 h"."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Report:
    """Lines for people on stderr; the live one only on a terminal. quiet: nothing at all."""

    def __init__(self, out: Path, quiet: bool = False, tensorboard: bool = False) -> None:
        self.out, self.quiet = out, quiet
        self.live = sys.stderr.isatty() and not quiet
        self.shown = 0.0
        self.writer = _tensorboard(out) if tensorboard else None

    def line(self, text: str) -> None:
        """A line that stays."""
        if not self.quiet:
            print(("\r\x1b[K" if self.live else "") + text, file=sys.stderr, flush=True)

    def status(self, text: str) -> None:
        """The live line, at most five times a second."""
        now = time.monotonic()
        if self.live and now - self.shown > 0.2:
            self.shown = now
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def curve(self, history: Sequence[Sequence[float]], bicubic: float | None) -> None:
        """Rewrite curve.csv; rows as COLUMNS say."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for step, seconds, rate, loss, psnr in history:
            writer.writerow([int(step), f"{seconds:.1f}", f"{rate:.3g}", f"{loss:.6f}", f"{psnr:.4f}"])
        write_atomically(self.out / "curve.csv", text.getvalue().encode())
        if self.writer is not None and history:
            step, _, rate, loss, psnr = history[-1]
            for name, value in (("loss", loss), ("psnr", psnr), ("rate", rate)):
                self.writer.add_scalar(name, value, int(step))

    def plot(self, history: Sequence[Sequence[float]], bicubic: float | None, title: str) -> None:
        """Draw curve.png where matplotlib is installed."""
        try:
            figures = importlib.import_module("matplotlib.figure")
        except ImportError:
            return
        if len(history) < 2:
            return
        figure: Any = figures.Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot([row[0] for row in history], [row[4] for row in history], label=title)
        if bicubic is not None:
            axes.axhline(bicubic, color="gray", linestyle="--", label="bicubic")
        axes.set_xlabel("step")
        axes.set_ylabel("PSNR of Y, dB")
        axes.legend(loc="lower right")
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=120)
        write_atomically(self.out / "curve.png", data.getvalue())

    def close(self) -> None:
        """End the live line."""
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if self.writer is not None:
            self.writer.close()


def _tensorboard(out: Path) -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(out / "tensorboard"))
    except ImportError:
        raise FastsrError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
