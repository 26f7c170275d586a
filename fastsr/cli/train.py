"""`fastsr train`: a network of one's own, from a folder of photographs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import UsageError, add_command, between, positive

if TYPE_CHECKING:
    from ..train.recipes import Recipe
    from ..train.run import Job

EXAMPLES = """\
  fastsr train --preset fast --scale 2 --data photos/ --minutes 60
  fastsr train --arch espcn --scale 3 --data photos/ --val Set5/ --exclude Set5/ --out espcn-x3 --steps 200000
  fastsr upscale -i photo.jpg -o large.png -m fast-x2/fast_x2.fsr

The same command again goes on with a training that was interrupted, killed or unplugged."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    from ..train.recipes import LOSSES, OPTIMISERS, PRESETS, RECIPES

    p = add_command(commands, "train", run, "train a network on a folder of pictures (needs PyTorch: pip install fastsr[train])", EXAMPLES)
    p.add_argument("--arch", choices=list(RECIPES), help="architecture, with the recipe that suits it")
    what = "fast: as cheap as FSRCNN; balanced: 100 thousand weights; best: 600 thousand, on a CPU with --init best"
    p.add_argument("--preset", choices=PRESETS, help=what)
    p.add_argument("-s", "--scale", type=positive, default=2, metavar="N", help="how many times larger pictures become (default 2)")
    add_data_options(p, "NAME-xSCALE", "the recipe's", "the recipe's, 0.5 at most; 0 with --degradation photo")
    what = "begin with these: .safetensors or .fsr of the same architecture, also of another scale, or a name that 'fastsr models' lists"
    p.add_argument("--init", metavar="WEIGHTS", help=what)
    p.add_argument("--adversarial", action="store_true", help="train the network of --init on against a discriminator, as in SRGAN")
    add_recipe_options(p, LOSSES, OPTIMISERS)
    add_machine_options(p)
    p.add_argument("--half", action="store_true", help="also write the weights in 16-bit floats, for shipping")
    p.add_argument("--tensorboard", action="store_true", help="also write the curve for TensorBoard")


def add_data_options(p: argparse.ArgumentParser, out: str, steps: str, contours: str) -> None:
    """The pictures, the folder for results, how long. out, steps, contours: the defaults in words."""
    p.add_argument("--data", required=True, metavar="DIR", help="folder of pictures to train on, with all folders in it")
    p.add_argument("--val", metavar="DIR", help="folder of pictures to measure on (default: a few of those of --data, which are then not trained on)")
    p.add_argument("--exclude", action="append", default=[], metavar="DIR", help="skip training pictures that look like one in there or hold it")
    what = f"share of the pictures that are also seen with contours drawn (default: {contours})"
    p.add_argument("--contours", type=share, metavar="SHARE", help=what)
    what = "learn what this network, a file or a name that 'fastsr models' lists, makes of the small pictures, instead of the photographs"
    p.add_argument("--teacher", metavar="MODEL", help=what)
    what = "learn the mean of what the teacher makes of so many turned and mirrored views of each picture (default 1)"
    p.add_argument("--teacher-views", type=int, choices=range(1, 9), default=1, metavar="1..8", help=what)
    p.add_argument("-o", "--out", metavar="DIR", help=f"folder for everything that is written (default: {out})")
    p.add_argument("--steps", type=positive, metavar="N", help=f"steps (default: {steps}); may be another number when a training goes on")
    p.add_argument("--minutes", type=above_zero, metavar="M", help="as many steps as fit into this time, or --steps if that is fewer")
    p.add_argument("--restart", action="store_true", help="begin anew where --out holds a training")


def add_recipe_options(p: argparse.ArgumentParser, losses: tuple[str, ...], optimisers: tuple[str, ...]) -> None:
    """What changes a recipe."""
    g = p.add_argument_group("recipe")
    g.add_argument("--colour", choices=("y", "rgb"), help="what the network sees (default: the recipe's)")
    g.add_argument("--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="of the architecture: width=24, act=relu, ...")
    what = "bicubic: small pictures as in papers; photo: blurred, noisy, JPEG, as in Real-ESRGAN (default bicubic)"
    g.add_argument("--degradation", choices=("bicubic", "photo"), default="bicubic", help=what)
    g.add_argument("--loss", choices=losses, help="(default: the recipe's)")
    g.add_argument("--finish", type=share, metavar="SHARE", help="share of the steps at the end with the mean squared error")
    g.add_argument("--optimiser", choices=optimisers, help="(default: the recipe's)")
    g.add_argument("--rate", type=above_zero, metavar="R", help="highest learning rate")
    g.add_argument("--patch", type=positive, metavar="N", help="edge of the small patches in pixels, the same throughout")
    g.add_argument("--batch", type=positive, metavar="N", help="patches in a step")
    g.add_argument("--choice", type=positive, metavar="N", help="of each N patches that are drawn take the most detailed (default: the recipe's, 4)")
    g.add_argument("--seed", type=seed, default=0, metavar="N", help="of the first weights and of the patches (default 0)")


def add_machine_options(p: argparse.ArgumentParser) -> None:
    """What does not change what is learnt."""
    g = p.add_argument_group("machine")
    g.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    g.add_argument("-j", "--threads", type=positive, metavar="N", help="threads of PyTorch (default: all cores)")
    g.add_argument("--bf16", choices=("auto", "on", "off"), default="auto", help="compute in bfloat16 but at the end (auto: where it is fast)")
    g.add_argument("--cache", metavar="DIR", help="folder for decoded pictures, to be shared by trainings; 'ram': in memory (default: OUT/cache)")
    g.add_argument("--save-seconds", type=seconds, default=60.0, metavar="S", help="time between checkpoints (default 60)")
    g.add_argument("--eval-steps", type=positive, default=0, metavar="N", help="steps between measurements (default: a fiftieth of all)")
    g.add_argument("-q", "--quiet", action="store_true", help="print nothing")


def above_zero(text: str) -> float:
    """argparse type: a number above 0."""
    return between(text, 0, 1e9, "a number above 0", ends=False)


def inner_share(text: str) -> float:
    """argparse type: a number between 0 and 1, which is neither."""
    return between(text, 0, 1, "a share between 0 and 1", ends=False)


def seed(text: str) -> int:
    """argparse type: a whole number of 32 bits."""
    if not text.isdecimal() or len(text) > 10 or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"a number from 0 to {(1 << 32) - 1} is needed, got '{text}'")
    return int(text)


def seconds(text: str) -> float:
    """argparse type: 0 or more."""
    return between(text, 0, 1e9, "a number of seconds")


def share(text: str) -> float:
    """argparse type: 0..1."""
    return between(text, 0, 1, "a share from 0 to 1")


def _option(text: str) -> tuple[str, Any]:
    """argparse type: NAME=VALUE, whole numbers as such, several with commas between as a tuple."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE, such as width=24")
    parts = value.split(",")
    if all(p.isdecimal() and len(p) < 10 for p in parts):
        return name, int(value) if len(parts) == 1 else tuple(map(int, parts))
    return name, value


def run(args: argparse.Namespace) -> int:
    """Train; 128 and the signal's number when interrupted."""
    from ..train import need_torch
    from ..train.recipes import against, fixed, recipe_of

    if (args.arch is None) == (args.preset is None):
        raise UsageError("one of --arch and --preset is needed")
    recipe = recipe_of(args.arch, args.preset, args.scale)
    if args.adversarial:
        if args.init is None:
            raise UsageError("--adversarial needs --init: train the network without it first, then on from its weights")
        recipe = against(recipe)
    changes = {k: getattr(args, k) for k in ("colour", "loss", "finish", "optimiser", "rate", "choice", "contours") if getattr(args, k) is not None}
    if args.degradation == "photo":
        changes.setdefault("contours", 0.0)
    if args.patch or args.batch:
        changes["stages"] = fixed(args.patch or recipe.largest, args.batch or recipe.stages[0].batch)
    recipe = replace(recipe, **changes, options={**recipe.options, **dict(args.option)})
    need_torch()
    from ..train.run import train

    name = args.preset or args.arch
    more = {"init": None if args.init is None else Path(args.init), "half": args.half, "tensorboard": args.tensorboard}
    return train(job_of(args, recipe, args.scale, f"{name}-x{args.scale}", name=f"{name}_x{args.scale}", **more)).exit_code


def job_of(args: argparse.Namespace, recipe: Recipe, scale: int, out: str, **more: Any) -> Job:
    """What `add_data_options` and `add_machine_options` were given, but for `--contours`, which is in the recipe, as a training. out: the folder for
    results where none was given."""
    if args.teacher_views > 1 and args.teacher is None:
        raise UsageError("--teacher-views says how a teacher is asked: name one with --teacher")
    from ..train.loop import Pace
    from ..train.run import Job

    return Job(
        recipe, scale, Path(args.data), Path(args.out or out), valid=None if args.val is None else Path(args.val),
        exclude=tuple(map(Path, args.exclude)), pace=Pace(args.steps, args.minutes, args.save_seconds, args.eval_steps), seed=args.seed,
        bf16={"on": True, "off": False}.get(args.bf16), device=args.device, threads=args.threads,
        cache=None if args.cache in (None, "ram") else Path(args.cache), keep_cache=args.cache != "ram", degradation=args.degradation,
        restart=args.restart, quiet=args.quiet, teacher=None if args.teacher is None else Path(args.teacher),
        teacher_views=args.teacher_views, **more,
    )  # fmt: skip
