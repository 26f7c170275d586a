"""Makes a network that comes with fastsr of a finished `fastsr train`: the 16-bit .fsr file and the model card, measured on the usual data sets.

    python benchmarks/ship.py espcn-x2/ --name espcn --command "fastsr train --arch espcn --scale 2 --steps 120000 --finish 0.2 --data photos/"
    fastsr models --markdown > docs/models.md

Data sets: the folders Set5, Set14 and BSD100 of the folder images of FASTSR_SHARED, or of --images.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import json
import math
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import SHARED

from fastsr import fsr, shipped
from fastsr.atomic import write_atomically
from fastsr.cli import main as command_line
from fastsr.errors import FastsrError, ModelError
from fastsr.evaluation import items_of, multiply_adds_of, parameters_of, prepare
from fastsr.model import Model
from fastsr.program import Program
from fastsr.train.recipes import RECIPES

SETS = ("Set5", "Set14", "BSD100")
LICENCE = "Apache-2.0, that of fastsr"
WHAT = "wallpapers of Linux distributions (Debian, deepin, Budgie, Solus, elementary, Pop!_OS)"
DATA_LICENCE = "those of the collections, see the packages; of elementary CC0 and those of Unsplash and Pexels; no picture is part of fastsr"
SETTINGS = ("arch", "scale", "colour", "options", "stages", "degradation", "loss", "finish", "optimiser", "rate", "choice", "seed", "adversarial",
            "init")  # fmt: skip
ACCEPTED = 1
"""Levels of 255 by which 16 bits may change a pixel of Set5."""


def find_training(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The .fsr file and training.json of a folder that `fastsr train` has finished. Raises FastsrError."""
    programs = sorted(folder.glob("*_x*.fsr"))
    if len(programs) != 1 or not (folder / "training.json").is_file():
        raise FastsrError(f"'{folder}' holds {len(programs)} .fsr files and {'a' if (folder / 'training.json').is_file() else 'no'} training.json: "
                          "it is no finished training")  # fmt: skip
    try:
        facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        if {*SETTINGS} - {*facts["settings"]} or not {"steps", "seconds"} <= {*facts}:
            raise KeyError("settings")
    except (ValueError, KeyError, TypeError):
        raise FastsrError(f"'{folder / 'training.json'}' is not what `fastsr train` writes") from None
    return programs[0], facts


def curve_of(training: Path) -> dict[str, list[float]]:
    """What the last training's curve.csv says: {"step", "psnr"}, of the pictures that it was measured on; empty where there is none. Raises
    FastsrError for a damaged one."""
    if not (training / "curve.csv").is_file():
        return {"step": [], "psnr": []}
    try:
        with (training / "curve.csv").open(encoding="utf-8", newline="") as f:
            points = [(int(row["step"]), float(row["psnr"])) for row in csv.DictReader(f)]
    except (KeyError, TypeError, ValueError):
        raise FastsrError(f"'{training / 'curve.csv'}' is not what `fastsr train` writes: delete it to ship without a curve") from None
    measured = [(step, round(psnr, 3)) for step, psnr in points if math.isfinite(psnr)]
    return {"step": [s for s, _ in measured], "psnr": [p for _, p in measured]}


def command_of(settings: dict[str, Any], steps: int) -> str:
    """A command that trains with these settings. Raises FastsrError for patches that no command gives; --command tells it then."""
    words = ["fastsr train", "--arch", settings["arch"], "--scale", settings["scale"], "--data photos/", "--colour", settings["colour"]]
    for name, value in settings.get("options", {}).items():
        words += ["--option", f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"]
    stages = settings["stages"]
    if len(stages) == 1:
        words += ["--patch", stages[0]["patch"], "--batch", stages[0]["batch"]]
    elif stages != json.loads(json.dumps(asdict(RECIPES[settings["arch"]])))["stages"]:
        raise FastsrError("no command gives these stages of patches: say with --command how it was trained")
    for key in ("degradation", "loss", "finish", "optimiser", "rate", "choice", "seed"):
        words += [f"--{key}", settings[key]]
    contours = settings.get("contours", 0.0)
    usual = 0.0 if settings["degradation"] == "photo" else RECIPES[settings["arch"]].contours
    words += ["--contours", contours] if contours != usual else []
    words += ["--adversarial"] if settings["adversarial"] else []
    words += ["--init", settings["init"]] if settings["init"] else []
    words += ["--teacher", settings["teacher"]] if settings.get("teacher") else []
    words += ["--teacher-views", settings["teacher_views"]] if settings.get("teacher_views") else []
    return " ".join(map(str, [*words, "--steps", steps]))


def levels_apart(a: Program, b: Program, pictures: Path) -> int:
    """The largest difference of the results of two programs on the pictures of a data set."""
    models = Model(a, precision="f32"), Model(b, precision="f32")
    worst = 0
    for item in items_of(pictures, int(models[0].scale)):
        small, _ = prepare(item, int(models[0].scale))
        large = [m.upscale(small).astype(int) for m in models]
        worst = max(worst, int(np.abs(large[0] - large[1]).max()))
    return worst


def evaluated(path: Path, images: Path, sets: list[str], limit: int | None) -> dict[str, Any]:
    """What `fastsr eval` says of a file and of bicubic: {"command", "protocol", "sets": {set: {psnr, ssim}}, "bicubic": the same}."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "eval.json"
        words = ["eval", str(path), "bicubic", "--data", *sets, "--root", str(images), "--json", str(result)]
        if command_line(words + (["--limit", str(limit)] if limit else [])):
            raise FastsrError("not all pictures could be measured")
        report = json.loads(result.read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {"sets": {}, "bicubic": {}}
    for row in report["results"]:
        scores = {"pictures": row["pictures"], "psnr": round(row["psnr"], 4), "ssim": round(row["ssim"], 6)}
        found["bicubic" if row["model"] == "bicubic" else "sets"][row["data"]] = scores
    shown = " ".join(["fastsr eval", path.stem, "bicubic --data", *sets])
    return {"command": shown, "protocol": report["protocol"], **found}


def card_of(name: str, program: Program, data: bytes, facts: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The model card without its evaluation."""
    settings = dict(facts["settings"])
    scale = settings.pop("scale")
    command = args.command or command_of({**settings, "scale": scale}, facts["steps"])
    options = ", ".join(f"{k} {v}" for k, v in settings.get("options", {}).items())
    return {
        "name": name,
        "scale": scale,
        "architecture": settings["arch"] + (f" ({options})" if options else ""),
        "colour": program.feed.colour,
        "parameters": parameters_of(program),
        "multiply_adds": round(multiply_adds_of(program), 1),
        "command": command,
        "steps": facts["steps"],
        "seed": settings["seed"],
        "settings": settings,
        "hours": round(facts["seconds"] / 3600, 2),
        "curve": curve_of(args.training),
        "date": args.date,
        "data": {"what": f"{args.pictures} pictures: {args.data}" if args.pictures else args.data, "licence": args.data_licence},
        "licence": LICENCE,
        "weights": "16-bit floats; biases and slopes 32-bit",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }


def ship(args: argparse.Namespace) -> Path:
    """Write both files. Returns the .fsr's path. Raises FastsrError."""
    source, facts = find_training(args.training)
    original = fsr.load(source)
    scale = original.scale() * original.feed.pre_scale
    if scale != facts["settings"]["scale"]:
        raise FastsrError(f"'{source}' enlarges by {scale}, and training.json says {facts['settings']['scale']}")
    stem = f"{args.name}_x{scale}"
    meta = {"name": f"{args.name} x{scale}", "trained with": "fastsr train", "architecture": facts["settings"]["arch"], "licence": LICENCE}
    program = replace(original, meta=meta)
    data = fsr.dumps(program, half=True)
    apart = levels_apart(original, fsr.loads(data), args.images / args.sets[0])
    if apart > ACCEPTED:
        raise ModelError(f"weights of 16 bits change pixels of {args.sets[0]} by up to {apart} levels, more than {ACCEPTED}")
    card = card_of(args.name, program, data, facts, args)
    card["levels_changed_by_16_bits"] = apart
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{stem}.fsr"
        file.write_bytes(data)
        card["evaluation"] = evaluated(file, args.images, args.sets, args.limit)
    text = (json.dumps(card, indent=1) + "\n").encode()
    target = args.out / f"{stem}.fsr"
    others = sum(p.stat().st_size for p in args.out.glob("*_x*.*") if p.stem != stem)
    if others + len(data) + len(text) > shipped.MAX_BYTES:
        raise FastsrError(f"with {stem} the weights would take {others + len(data) + len(text)} bytes, more than {shipped.MAX_BYTES}")
    write_atomically(target.with_suffix(".json"), text)
    write_atomically(target, data)
    return target


def main(argv: list[str] | None = None) -> int:
    """Ship one training. Exit code 1 with a line that says why it cannot be."""
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("training", type=Path, help="folder that `fastsr train` wrote")
    p.add_argument("--name", required=True, help="what it is called: fast, balanced, best, photo, espcn, fsrcnn, ...")
    p.add_argument("--command", help="the command that trained it, without paths (default: made from training.json)")
    p.add_argument("--pictures", type=int, metavar="N", help="how many pictures it was trained on")
    p.add_argument("--data", default=WHAT, help="what they are")
    p.add_argument("--data-licence", default=DATA_LICENCE, help="their licence")
    p.add_argument("--date", default=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), help="of the training (default: today)")
    p.add_argument("--images", type=Path, default=SHARED / "images", help="folder of the data sets")
    p.add_argument("--sets", nargs="+", default=list(SETS), help="data sets (default: all three)")
    p.add_argument("--limit", type=int, metavar="N", help="only the first pictures of each, to try this out")
    p.add_argument("--out", type=Path, default=shipped.FOLDER, help="where both files go (default: the package)")
    args = p.parse_args(argv)
    if args.limit and args.out == shipped.FOLDER:
        p.error("--limit is for trying: say with --out where to write")
    if not shipped.is_name(args.name):
        p.error(f"--name {args.name}: small letters, digits and hyphens are needed")
    try:
        print(f"wrote {ship(args)} and its card")
    except (FastsrError, OSError) as e:
        print(f"ship.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
