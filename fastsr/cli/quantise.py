"""`fastsr quantise`: a network whose convolutions are of 8-bit integers, made of a float one and some pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .common import MODEL, Progress, add_command, add_feed_options, between, binary, check_model_name, label_of, model_output, positive

if TYPE_CHECKING:
    from ..graph import Graph

EXAMPLES = """\
  fastsr quantise ESPCN_x2.pb --data photos/
  fastsr quantise fast -s 3 --data photos/ -o fast_x3-int8.fsr
  fastsr quantise ESPCN_x2.pb --data photos/ -o espcn_x2-int8.onnx   for other runtimes
  fastsr quantise fast -s 3 --data photos/ --most-loss 1             all convolutions, unless that costs more than 1 dB
"""


PICTURES = 32
"""To calibrate on, unless told."""

MOST_LOSS = 0.08
"""dB that may be lost, unless told."""

BAR = 1000
"""Parts of the progress bar."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    purpose = "write a network with its convolutions in 8-bit integers, and tell what that costs ('finetune --int8' trains such networks)"
    p = add_command(commands, "quantise", run, purpose, EXAMPLES)
    p.add_argument("model", metavar="MODEL", help=MODEL)
    p.add_argument("--data", required=True, metavar="DIR", help="folder of photographs, with all folders in it; some are measured on")
    p.add_argument("-o", "--out", metavar="OUT", help="file to write: .fsr or .onnx (default: NAME-int8.fsr, NAME_x2-int8.fsr for named ones)")
    p.add_argument("-n", "--pictures", type=positive, default=PICTURES, metavar="N", help=f"pictures to calibrate on (default {PICTURES})")
    p.add_argument(
        "--most-loss",
        type=decibels,
        default=MOST_LOSS,
        metavar="DB",
        help=f"leave some convolutions in floats where otherwise more than this is lost on the pictures measured on (default {MOST_LOSS})",
    )
    add_feed_options(p)
    p.add_argument("-j", "--threads", type=positive, metavar="N", help="threads (default: all cores)")
    p.add_argument("-q", "--quiet", action="store_true", help="print nothing")


def run(args: argparse.Namespace) -> int:
    """Calibrate, quantise, measure, write. The file appears whole or not at all."""
    from .. import calibration, levels, mixed_precision, onnx_export, quantise
    from ..files import check_place, expand_inputs
    from ..model import load_program

    out = model_output(args.out or default_name(args.model, args.scale), [args.model])
    check_model_name(args.model)
    check_place(out)
    program = load_program(args.model, args.scale, dict(args.feed))
    graph = onnx_export.graph_of(program)
    quantise.check(graph)
    fits = calibration.measurable(program)
    fitting, kept = calibration.split(expand_inputs(args.data, recursive=True), args.pictures, fits)
    inputs, skipped = calibration.inputs_of(program, fitting)
    say = _silent if args.quiet else print
    for _, why in skipped[:5]:
        say(f"skipped: {why}")
    losses = calibration.Losses(program, kept, args.threads)
    measured: list[tuple[Graph, list[calibration.Loss]]] = []

    def lost(graph: Graph) -> float | None:
        measured.append((graph, losses.of(quantise.program_of(graph))))
        return calibration.mean_loss(measured[-1][1])

    bar = Progress(BAR, not args.quiet)

    def show(what: str, done: int, total: int) -> None:
        bar.name = what
        bar.show(BAR * done / max(total, 1))

    try:
        found = mixed_precision.quantise_within(graph, inputs, lost, args.most_loss, threads=args.threads, progress=show)
    finally:
        bar.close()
    if not args.quiet:
        new = quantise.program_of(found.graph)
        integers, convolutions = sum(levels.integer_convs(new)), sum(step.kind == "Conv" for step in new.steps)
        pictures = len(fitting) - len(skipped)
        print(f"{label_of(args.model)}: {integers} of {convolutions} convolutions in 8-bit integers, calibrated on {pictures} pictures")
        if found.floats:
            stay = f"{len(found.floats)} with {100 * found.float_work:.0f} % of the multiply-adds stay in floats"
            print(f"{stay}: all in integers lose {found.all_lost:.2f} dB (--most-loss)")
        if found.lost is None:
            print("what is lost against originals cannot be measured here, so all that can be is in integers, whatever --most-loss says")
        elif found.lost > args.most_loss:
            print(f"--most-loss {args.most_loss:g} cannot be kept")
        _tell(next(told for graph, told in measured if graph is found.graph), set(kept) <= set(fitting))
    quantise.save(found.graph, out)
    say(f"wrote {out}  {binary(out.stat().st_size)}")
    return 0


def default_name(model: str, scale: int | None) -> str:
    """Of the file that is written; a network known by name has its scale there."""
    from .. import shipped

    name = model
    if not Path(model).exists() and shipped.is_shipped(model):
        name = shipped.find(model, scale).name
    return f"{Path(name).stem}-int8.fsr"


def decibels(text: str) -> float:
    """argparse type: a finite number of at least 0."""
    return between(text, 0, sys.float_info.max, "a number of dB from 0 on")


def _silent(text: str) -> None:
    pass


def _tell(losses: list[Any], same: bool) -> None:
    if not losses:
        print("no picture is there to measure on")
        return
    where = f"{len(losses)} pictures {'calibrated on: give more than five to measure on others' if same else 'kept aside'}"
    print(f"int8 against float: {np.mean([one.between for one in losses]):.2f} dB on {where}")
    if losses[0].before is not None:
        before, after = (float(np.mean([getattr(one, name) for one in losses])) for name in ("before", "after"))
        print(f"against the originals: float {before:.2f} dB, int8 {after:.2f} dB: lost {before - after:.2f} dB")
