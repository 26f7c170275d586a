"""`fastsr bench`: our backends and the installed peers on one model, in one run, results compared before anything is timed."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FastsrError
from .common import MODEL, Progress, UsageError, add_command, add_feed_options, check_model_name, label_of, load_graph, natural, positive, size, table

if TYPE_CHECKING:
    from ..model import Model

EXAMPLES = """\
  fastsr bench ESPCN_x2.pb
  fastsr bench FSRCNN_x2.pb --size 1920x1080 --threads 2 --runs 15
  fastsr bench LapSRN_x4.pb --size 320x240 --kernels
  fastsr bench LapSRN_x4.pb --size 320x240 --backend cpu --no-peers --json lapsrn.json
"""

TOLERANCE = {"network": 1e-4, "picture": 1}
FAST = "cpu fast"
TOLERANCE_FAST = {"network": 2e-2, "picture": 2}
"""Of the precision `fast`, whose promise is 60 dB."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "bench", run, "measure the backends and the installed peers on one model", EXAMPLES)
    p.add_argument("model", metavar="MODEL", help=MODEL)
    add_feed_options(p)
    p.add_argument("-i", "--input", metavar="PICTURE", help="picture to enlarge (default: a synthetic one)")
    p.add_argument("--size", type=size, default=(540, 960), metavar="WxH", help="size of the synthetic picture (default 960x540)")
    p.add_argument("--runs", type=positive, default=9, metavar="N", help="timed runs of each contender, in turns (default 9)")
    p.add_argument("-j", "--threads", type=positive, metavar="N", help="threads for everyone (default: all cores)")
    p.add_argument("-t", "--tile", type=natural, metavar="N", help="tile edge of our backends (default or 0: automatic)")
    p.add_argument("--backend", action="append", metavar="NAME", help="only this backend of ours; may be repeated (default: all but reference)")
    p.add_argument("--device", type=natural, metavar="N", help="number of the GPU for our backends that work on one (default: the current one)")
    p.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="OpenCV, ONNX Runtime, OpenVINO, if installed")
    p.add_argument("--precision", choices=("f32", "fast"), default="f32", help="fast: the cpu backend in that precision too")
    p.add_argument("--kernels", action="store_true", help="instead: each convolution by every algorithm, and which one the engine picks")
    p.add_argument("--json", metavar="FILE", help="write the results there, with the machine and versions; - for standard output")


def run(args: argparse.Namespace) -> int:
    """Compare, measure, print. 1 when a result differs by more than it may."""
    from ..files import check_place
    from ..threads import get_num_threads

    check_model_name(args.model)
    if args.json and args.json != "-":
        check_place(args.json)
    threads = args.threads or get_num_threads()
    picture = _picture(args)
    if args.kernels:
        return _kernels(args, picture, threads)
    models, absent = _models(args, threads)
    sections = []
    for kind in ("network", "picture"):
        section = _section(kind, args, models, picture, threads)
        if section:
            sections.append(section)
            for name, reason in section.pop("absent").items():
                absent.setdefault(name, reason)
    report = _report(args, models, picture, threads, sections, absent)
    if args.json == "-":
        print(json.dumps(report, indent=2))
    else:
        print(as_text(report))
        if args.json:
            from ..atomic import write_atomically

            write_atomically(args.json, (json.dumps(report, indent=2) + "\n").encode())
    return 1 if any(r.get("wrong") for s in sections for r in s["results"]) else 0


def _kernels(args: argparse.Namespace, picture: np.ndarray, threads: int) -> int:
    from .. import image
    from ..backends import cpu_kernels
    from ..model import load_program
    from . import kernels

    program = load_program(args.model, args.scale, dict(args.feed))
    h, w = picture.shape[:2]
    if program.feed.colour != "raw" and len(program.inputs) == 1:
        inputs = [image.to_network(picture, program.feed)[0]]
    else:
        inputs = [np.random.default_rng(i).random((1, program.values[v].channels, h, w), np.float32) for i, v in enumerate(program.inputs)]
    rows = cpu_kernels.measure(program, inputs, args.precision, threads, args.runs)
    if args.json:
        text = json.dumps(rows, indent=2) + "\n"
        if args.json == "-":
            print(text, end="")
            return 0
        from ..atomic import write_atomically

        write_atomically(args.json, text.encode())
    print(kernels.as_text(rows))
    return 0


def synthetic(height: int, width: int) -> np.ndarray:
    """A BGR picture with edges, gradients and noise, the same on every machine."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [127 + 90 * np.sin(x / (7 + 5 * c)) * np.cos(y / (11 + 3 * c)) + 30 * ((x // 40 + y // 30 + c) % 2) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(np.rint(np.dstack(waves) + noise), 0, 255).astype(np.uint8)


def _picture(args: argparse.Namespace) -> np.ndarray:
    if not args.input:
        return synthetic(*args.size)
    from ..files import read_picture

    picture = read_picture(args.input)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise FastsrError(f"'{args.input}': a colour picture with 8 bits and without alpha is needed, got {picture.dtype} {picture.shape}")
    return picture


def _models(args: argparse.Namespace, threads: int) -> tuple[dict[str, Model], dict[str, str]]:
    """Our contenders by backend name, and name -> reason for those that do not work here."""
    import fastsr

    from ..backends import backend_module
    from .backends import backend_states

    def device(name: str) -> int | None:
        return args.device if getattr(backend_module(name), "DEVICES", False) else None

    states = backend_states()
    wanted = args.backend or [name for name in states if name != "reference"]
    unknown = [name for name in wanted if name not in states]
    if unknown:
        raise UsageError(f"unknown backend {unknown[0]}: choose from {', '.join(states)}")
    absent = {f"fastsr {name}": str(states[name]) for name in wanted if states[name]}
    usable = [name for name in wanted if not states[name]] or ([] if args.backend else ["reference"])
    if not usable:
        raise FastsrError("; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    given: dict[str, Any] = {"threads": threads, "tile": args.tile or None, "scale": args.scale, "feed": dict(args.feed)}
    models = {name: fastsr.load(args.model, name, "f32", device=device(name), **given) for name in usable}
    if args.precision == "fast" and "cpu" in models:
        models[FAST] = fastsr.load(args.model, "cpu", "fast", **given)
    return models, absent


def _section(kind: str, args: argparse.Namespace, models: dict[str, Model], picture: np.ndarray, threads: int) -> dict[str, Any] | None:
    """One kind of work measured: the bare network, or a whole picture. None when the model cannot be asked for it."""
    from .. import image, passes
    from .peers import network_peers, picture_peers

    first = next(iter(models.values()))
    feed = first.feed
    if kind == "picture":
        if feed.colour == "raw":
            return None
        x = picture
        calls: dict[str, Callable[[Any], Any]] = {name: m.upscale for name, m in models.items()}
    else:
        if len(first.program.inputs) != 1:
            return None
        channels = first.program.values[first.program.inputs[0]].channels
        fed = feed.colour != "raw"
        x = image.to_network(picture, feed)[0] if fed else np.random.default_rng(0).random((1, channels, *picture.shape[:2]), np.float32)
        calls = {name: m.run for name, m in models.items()}
    contenders: dict[str, tuple[str, Callable[[Any], Any]]] = {f"fastsr {name}": (models[name].describe(), call) for name, call in calls.items()}
    absent: dict[str, str] = {}
    if args.peers:
        try:
            if kind == "network":
                peers, absent = network_peers(passes.optimise(load_graph(args.model, args.scale)), x.shape, threads)
            elif Path(args.model).exists():
                peers, absent = picture_peers(args.model, feed, int(first.scale), threads)
            else:
                peers = []
            contenders |= {p.name: (p.version, p.run) for p in peers}
        except FastsrError as e:
            absent = {"peers": str(e)}
    return {"kind": kind, "results": _measure(kind, contenders, x, args.runs, absent), "absent": absent}


def _measure(
    kind: str, contenders: dict[str, tuple[str, Callable[[Any], Any]]], x: np.ndarray, runs: int, absent: dict[str, str]
) -> list[dict[str, Any]]:
    """A row for each contender. A peer that fails is left out, and `absent` says why."""
    from .peers import difference, reason_of
    from .timing import interleaved, summary

    rows: list[dict[str, Any]] = []
    reference: np.ndarray | None = None
    for name, (version, call) in list(contenders.items()):
        try:
            out = call(x)
        except Exception as e:
            if name.startswith("fastsr "):
                raise
            absent[name] = reason_of(e)
            del contenders[name]
            continue
        row: dict[str, Any] = {"name": name, "version": version}
        if reference is None:
            reference = out
        else:
            row["difference"] = difference(reference, out)
            tolerance = (TOLERANCE_FAST if name == f"fastsr {FAST}" else TOLERANCE)[kind]
            row["wrong"] = not row["difference"].get("max_rel" if kind == "network" else "max_abs", np.inf) <= tolerance
        rows.append(row)
    bar = Progress(runs)
    try:
        bar.start(kind, 0)
        seconds = interleaved({name: functools.partial(call, x) for name, (_, call) in contenders.items()}, runs, bar.show)
    finally:
        bar.close()
    for row in rows:
        row |= summary(seconds[row["name"]])
    peers = [r["median_ms"] for r in rows if not r["name"].startswith("fastsr ") and not r["wrong"]]
    for row in rows:
        row["times_best_peer"] = round(min(peers) / row["median_ms"], 3) if peers else None
    return rows


def _report(
    args: argparse.Namespace, models: dict[str, Model], picture: np.ndarray, threads: int, sections: list[dict[str, Any]], absent: dict[str, str]
) -> dict[str, Any]:
    from .machine import machine

    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine(),
        "model": label_of(args.model),
        "scale": str(next(iter(models.values())).scale),
        "picture": f"{picture.shape[1]}x{picture.shape[0]}",
        "threads": threads,
        "sections": sections,
        "absent": absent,
    }


def as_text(report: dict[str, Any]) -> str:
    """The results as tables for people."""
    machine = report["machine"]
    lines = [
        f"{report['model']}  x{report['scale']}  {report['picture']}  {report['threads']} threads",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, {report['date']}",
    ]
    titles = {"network": "bare network (float32 array in and out)", "picture": "whole picture (8-bit BGR in and out, colour conversion included)"}
    for section in report["sections"]:
        rows = [["contender", "median ms", "quartiles", "min ms", "x best peer", "max diff", "equal %", ""]]
        for r in section["results"]:
            d = r.get("difference", {})
            ratio = r["times_best_peer"]
            rows.append(
                [
                    r["name"],
                    f"{r['median_ms']:.2f}",
                    f"{r['q1_ms']:.2f}-{r['q3_ms']:.2f}",
                    f"{r['min_ms']:.2f}",
                    "-" if ratio is None else f"{ratio:.2f}",
                    f"{d['max_abs']:.2g}" if "max_abs" in d else "-",
                    f"{d['equal_percent']:.2f}" if "equal_percent" in d else "-",
                    "DIFFERS: not comparable" if r.get("wrong") else r["version"],
                ]
            )
        lines += ["", titles[section["kind"]], table(rows)]
    if report["absent"]:
        lines += ["", *[f"left out: {name}: {reason}" for name, reason in report["absent"].items()]]
    lines += ["", "Each contender in turns, A B C A B C. 'x best peer': how many times faster than the fastest contender that is not fastsr.",
              "Differences are to the first row."]  # fmt: skip
    return "\n".join(lines)
