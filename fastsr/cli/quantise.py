"""`fastsr quantise`: a network whose convolutions are of 8-bit integers, made of a float one and some pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .common import MODEL, Progress, UsageError, add_command, add_feed_options, binary, check_model_name, label_of, positive

EXAMPLES = """\
  fastsr quantise ESPCN_x2.pb --data photos/
  fastsr quantise fast -s 3 --data photos/ -o fast_x3-int8.fsr
  fastsr quantise ESPCN_x2.pb --data photos/ -o espcn_x2-int8.onnx   for other runtimes
"""


PICTURES = 32
"""To calibrate on, unless told."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    purpose = "write a network with its convolutions in 8-bit integers, and tell what that costs ('finetune --int8' trains such networks)"
    p = add_command(commands, "quantise", run, purpose, EXAMPLES)
    p.add_argument("model", metavar="MODEL", help=MODEL)
    p.add_argument("--data", required=True, metavar="DIR", help="folder of photographs, with all folders in it; some are measured on")
    p.add_argument("-o", "--out", metavar="OUT", help="file to write: .fsr or .onnx (default: NAME-int8.fsr, NAME_x2-int8.fsr for named ones)")
    p.add_argument("-n", "--pictures", type=positive, default=PICTURES, metavar="N", help=f"pictures to calibrate on (default {PICTURES})")
    add_feed_options(p)
    p.add_argument("-j", "--threads", type=positive, metavar="N", help="threads (default: all cores)")
    p.add_argument("-q", "--quiet", action="store_true", help="print nothing")


def run(args: argparse.Namespace) -> int:
    """Calibrate, quantise, measure, write. The file appears whole or not at all."""
    from .. import calibration, levels, onnx_export, quantise
    from ..files import check_place, expand_inputs
    from ..model import load_program

    out = Path(args.out or default_name(args.model, args.scale))
    if out.suffix.lower() not in (".fsr", ".onnx"):
        raise UsageError(f"the output's name must end in .fsr or .onnx, got '{args.out}'")
    check_model_name(args.model)
    check_place(out)
    if out.exists() and Path(args.model).exists() and out.samefile(args.model):
        raise UsageError(f"'{out}' is the network itself: choose another name with -o")
    program = load_program(args.model, args.scale, dict(args.feed))
    graph = onnx_export.graph_of(program)
    quantise.check(graph)
    fits = calibration.measurable(program)
    fitting, kept = calibration.split(expand_inputs(args.data, recursive=True), args.pictures, fits)
    inputs, skipped = calibration.inputs_of(program, fitting)
    say = _silent if args.quiet else print
    for _, why in skipped[:5]:
        say(f"skipped: {why}")
    bar = Progress(len(graph.nodes), not args.quiet)
    try:
        told = bar.start("quantising", 0)
        made = quantise.quantise(graph, inputs, threads=args.threads, progress=lambda done, _: told(done, 1))
    finally:
        bar.close()
    new = quantise.program_of(made)
    convolutions = sum(step.kind == "Conv" for step in new.steps)
    say(f"{label_of(args.model)}: {sum(levels.integer_convs(new))} of {convolutions} convolutions in 8-bit integers, "
        f"calibrated on {len(fitting) - len(skipped)} pictures")  # fmt: skip
    if not args.quiet:
        _tell(list(calibration.losses(program, new, kept, args.threads)), set(kept) <= set(fitting))
    quantise.save(made, out)
    say(f"wrote {out}  {binary(out.stat().st_size)}")
    return 0


def default_name(model: str, scale: int | None) -> str:
    """Of the file that is written; a network known by name has its scale there."""
    from .. import shipped

    name = model
    if not Path(model).exists() and shipped.is_shipped(model):
        name = shipped.find(model, scale).name
    return f"{Path(name).stem}-int8.fsr"


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
