"""`fastsr finetune`: go on training a network of any format on pictures of one's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from .common import UsageError, add_command, check_model_name, positive
from .train import above_zero, add_data_options, add_machine_options, inner_share, job_of, seed

EXAMPLES = """\
  fastsr finetune ESPCN_x2.pb --data scans/ --out espcn-scans
  fastsr finetune FSRCNN_x2.pb --data photos/ --prune 0.5 --minutes 30
  fastsr finetune ESPCN_x2.pb --data photos/ --int8 --minutes 10
  fastsr finetune RealESRGAN_x4plus_anime_6B.pth --data drawings/ --minutes 30"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    from ..train.recipes import OPTIMISERS

    purpose = "train a network of any format further on a folder of pictures (needs PyTorch: pip install fastsr[train])"
    p = add_command(commands, "finetune", run, purpose, EXAMPLES)
    p.add_argument("model", metavar="WEIGHTS", help="model file of any format that fastsr reads, or network that 'fastsr models' lists")
    what = "of the networks of this name that come with fastsr, or for networks that are fed enlarged pictures (default: their own)"
    p.add_argument("-s", "--scale", type=positive, metavar="N", help=what)
    add_data_options(p, "NAME-tuned, NAME-pruned, NAME-int8", "3000; 10000 with --prune", "0")
    p.add_argument("--rate", type=above_zero, metavar="R", help="highest learning rate (default 1e-4; with --prune 2e-3 for soap, 5e-4 for adam)")
    p.add_argument("--optimiser", choices=OPTIMISERS, help="(default adam; soap with --prune)")
    p.add_argument("--prune", type=inner_share, metavar="SHARE", help="first take channels away until this share of the multiply-adds is gone: 0.5")
    p.add_argument("--int8", action="store_true", help="quantise all convolutions that can be first, and train with the rounding in place")
    p.add_argument("--degradation", choices=("bicubic", "photo"), default="bicubic", help="how small pictures are made (default bicubic)")
    p.add_argument("--seed", type=seed, default=0, metavar="N", help="of the patches (default 0)")
    add_machine_options(p)


def run(args: argparse.Namespace) -> int:
    """Train; 128 and the signal's number when interrupted."""
    from ..train import need_torch

    if args.int8 and args.prune is not None:
        raise UsageError("--prune and --int8 are two trainings: prune first, then quantise the result")
    check_model_name(args.model)
    need_torch()
    from ..train import pruned, tuned
    from ..train.run import train

    path = Path(args.model)
    network = tuned.load(path, args.scale)
    recipe = tuned.recipe_for(network, network.scale, args.int8)
    if args.optimiser is not None:
        recipe = replace(recipe, optimiser=args.optimiser)
    if args.prune is not None:
        recipe = pruned.recipe_for(recipe, args.optimiser)
    recipe = replace(recipe, **{k: getattr(args, k) for k in ("rate", "contours") if getattr(args, k) is not None})
    name = f"{path.stem}-{'int8' if args.int8 else 'tuned' if args.prune is None else 'pruned'}"
    job = job_of(args, recipe, network.scale, name, init=path, name=name, network=network, prune=args.prune, int8=args.int8)
    return train(job).exit_code
