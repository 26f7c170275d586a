"""`fastsr convert`: any model that fastsr reads into .fsr, the portable file that the C++ core reads by itself, or into .onnx for other runtimes."""

from __future__ import annotations

import argparse
from typing import Any

from .common import MODEL, add_command, add_feed_options, binary, check_model_name, label_of, model_output

EXAMPLES = """\
  fastsr convert ESPCN_x2.pb espcn_x2.fsr
  fastsr convert bicubic bicubic_x3.fsr -s 3
  fastsr convert espcn_x2.fsr espcn_x2.onnx
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    purpose = "write a model as .fsr, which loads fastest and needs no protobuf, or as .onnx for other runtimes"
    p = add_command(commands, "convert", run, purpose, EXAMPLES)
    p.add_argument("model", metavar="IN", help=MODEL)
    p.add_argument("output", metavar="OUT", help="file to write: .fsr or .onnx")
    add_feed_options(p)


def run(args: argparse.Namespace) -> int:
    """Read, lower, write. The file appears whole or not at all."""
    from ..model import load_program, save_program

    out = model_output(args.output)
    check_model_name(args.model)
    program = load_program(args.model, args.scale, dict(args.feed))
    save_program(program, out)
    print(f"{label_of(args.model)} -> {out}  {len(program.steps)} steps, {binary(out.stat().st_size)}")
    return 0
