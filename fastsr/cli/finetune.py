"""`fastsr finetune`: go on training a network of any format on pictures of one's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from .common import add_command, check_model_name, positive
from .train import above_zero, add_machine_options

EXAMPLES = """\
  fastsr finetune ESPCN_x2.pb --data scans/ --out espcn-scans
  fastsr finetune ESPCN_x2.pb --data photos/ --int8 --minutes 10
  fastsr finetune RealESRGAN_x4plus_anime_6B.pth --data drawings/ --minutes 30"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    purpose = "train a network of any format further on a folder of pictures (needs PyTorch: pip install fastsr[train])"
    p = add_command(commands, "finetune", run, purpose, EXAMPLES)
    p.add_argument("model", metavar="WEIGHTS", help="model file of any format that fastsr reads")
    p.add_argument("--data", required=True, metavar="DIR", help="folder of pictures, with all folders in it")
    p.add_argument("--val", metavar="DIR", help="folder of pictures to measure on (default: a few of those of --data, which are then not trained on)")
    p.add_argument("--exclude", action="append", default=[], metavar="DIR", help="skip training pictures that look like one in there or hold it")
    p.add_argument("-o", "--out", metavar="DIR", help="folder for everything that is written (default: NAME-tuned, NAME-int8)")
    p.add_argument("-s", "--scale", type=positive, metavar="N", help="for networks that are fed enlarged pictures (default: their own)")
    p.add_argument("--steps", type=positive, metavar="N", help="steps (default 3000)")
    p.add_argument("--minutes", type=above_zero, metavar="M", help="as many steps as fit into this time, or --steps if that is fewer")
    p.add_argument("--rate", type=above_zero, metavar="R", help="highest learning rate (default 1e-4)")
    p.add_argument("--int8", action="store_true", help="quantise the network first, as 'fastsr quantise' does, and train with the rounding in place")
    p.add_argument("--degradation", choices=("bicubic", "photo"), default="bicubic", help="how small pictures are made (default bicubic)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of the patches (default 0)")
    p.add_argument("--restart", action="store_true", help="begin anew where --out holds a training")
    add_machine_options(p)


def run(args: argparse.Namespace) -> int:
    """Train; 130 when interrupted."""
    from ..train import need_torch

    check_model_name(args.model)
    need_torch()
    from ..train import tuned
    from ..train.loop import Pace
    from ..train.run import Job, train

    path = Path(args.model)
    network = tuned.load(path, args.scale)
    recipe = tuned.recipe_for(network, network.scale, args.int8)
    if args.rate is not None:
        recipe = replace(recipe, rate=args.rate)
    name = f"{path.stem}-{'int8' if args.int8 else 'tuned'}"
    job = Job(
        recipe, network.scale, Path(args.data), Path(args.out or name), None if args.val is None else Path(args.val), tuple(map(Path, args.exclude)),
        path, Pace(args.steps, args.minutes, args.save_seconds, args.eval_steps), args.seed, {"on": True, "off": False}.get(args.bf16), args.device,
        args.threads, None if args.cache in (None, "ram") else Path(args.cache), args.cache != "ram", args.degradation, restart=args.restart,
        quiet=args.quiet, name=name, network=network, int8=args.int8,
    )  # fmt: skip
    return 0 if train(job).done else 130
