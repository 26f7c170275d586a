"""`fastsr interpolate`: a network between others of the same shape."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .common import MODEL, UsageError, add_command, add_feed_options, between, binary, check_model_name, label_of, model_output

EXAMPLES = """\
  fastsr interpolate psnr.pth gan.pth -o between.fsr
  fastsr interpolate realesr-general-x4v3.pth realesr-general-wdn-x4v3.pth --shares 0.3 0.7 -o less-denoised.fsr
  fastsr interpolate tuned-a.fsr tuned-b.fsr tuned-c.fsr -o mean.onnx
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    purpose = "write the network whose weights lie between those of others of the same shape: of one trained for PSNR and one against a discriminator"
    p = add_command(commands, "interpolate", run, purpose, EXAMPLES)
    p.add_argument("models", nargs="+", metavar="MODEL", help=f"two or more of: {MODEL}")
    p.add_argument("--shares", nargs="+", type=share, metavar="S", help="of each network in the result; they sum up to 1 (default: the same of each)")
    p.add_argument("-o", "--out", required=True, metavar="OUT", help="file to write: .fsr or .onnx")
    add_feed_options(p)


def run(args: argparse.Namespace) -> int:
    """Read all, mix, write. The file appears whole or not at all."""
    from ..files import check_place
    from ..interpolate import interpolate
    from ..model import load_program, save_program

    out = model_output(args.out, args.models, "one of the networks")
    count = len(args.models)
    if count < 2:
        raise UsageError("two networks or more are needed")
    shares = args.shares or [1 / count] * count
    if len(shares) != count:
        raise UsageError(f"--shares needs a number for each of the {count} networks, got {len(shares)}")
    if abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"--shares must sum up to 1, not {sum(shares):g}")
    for model in args.models:
        check_model_name(model)
    check_place(out)
    programs = [load_program(model, args.scale, dict(args.feed)) for model in args.models]
    save_program(interpolate(programs, shares), out)
    told = " + ".join(f"{s:.3g} {label_of(model)}" for s, model in zip(shares, args.models, strict=True))
    print(f"{told} -> {out}  {binary(out.stat().st_size)}")
    return 0


def share(text: str) -> float:
    """argparse type: a finite number."""
    return between(text, -sys.float_info.max, sys.float_info.max, "a number")
