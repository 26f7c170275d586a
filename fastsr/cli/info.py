"""`fastsr info`: what is in a model file, after the passes: steps, parameters, receptive field, arithmetic, memory."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from .. import knobs
from ..errors import ModelError
from ..levels import check_quantised, integer_convs, is_quantised
from ..program import OVER_PICTURE, Program, Step
from ..stages import is_staged, sized
from .common import MODEL, add_command, add_feed_options, binary, check_model_name, label_of, load_graph, size, table, thousands

EXAMPLES = """\
  fastsr info FSRCNN_x2.pb
  fastsr info LapSRN_x4.pb --size 1920x1080       memory for that picture
  fastsr info LapSRN_x4.pb --precision fast       the engine's memory in that precision
  fastsr info FSRCNN_x2.pb --graph                the graph before and after each pass
  fastsr info espcn.fsr --json | jq .totals
"""

TILE = 256
INTERNAL = ("scale", "task")
"""Entries of meta that say by what a reading of weights was judged."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "info", run, "show what is in a model: layers, parameters, receptive field, arithmetic, memory", EXAMPLES)
    p.add_argument("model", metavar="MODEL", help=MODEL)
    add_feed_options(p)
    p.add_argument("--size", type=size, default=(1080, 1920), metavar="WxH", help="picture for memory and arithmetic (default 1920x1080)")
    p.add_argument("--precision", choices=knobs.PRECISION.choices, help="of the engine whose memory is shown (default all)")
    p.add_argument("--json", action="store_true", help="everything as JSON")
    p.add_argument("--graph", action="store_true", help="print the graph as read, before and after each pass that changed it, and at the end")
    p.add_argument("--program", action="store_true", help="print the lowered program as text")


def run(args: argparse.Namespace) -> int:
    """Print the tables, JSON or dumps asked for."""
    from ..model import load_program

    check_model_name(args.model)
    if args.graph:
        return _graph(args)
    program = load_program(args.model, args.scale, dict(args.feed))
    if args.program:
        print(program.dump())
        return 0
    facts = describe(program, args.size)
    chosen = args.precision or knobs.PRECISION.read()
    if chosen == "int8":
        check_quantised(program)
    all_of_them = [*(["int8"] if is_quantised(program) else []), "f32", *([] if is_staged(program) else ["fast"])]
    engines = [_engine(program, args.size, precision) for precision in ([chosen] if chosen else all_of_them)]
    facts["memory"]["engine"], facts["memory"]["engines"] = engines[0], [e for e in engines if e]
    facts["model"] = label_of(args.model)
    if args.json:
        json.dump(facts, sys.stdout, indent=2)
        print()
    else:
        print(as_text(facts))
    return 0


def _graph(args: argparse.Namespace) -> int:
    from .. import passes

    graph = load_graph(args.model, args.scale)
    print(f"--- as read\n{graph.dump()}")
    passes.optimise(graph, dump=sys.stdout)
    print(f"--- final\n{graph.dump()}")
    return 0


# ---- facts -------------------------------------------------------------------------------------------------------------------------------------


def describe(program: Program, picture: tuple[int, int] = (1080, 1920)) -> dict[str, Any]:
    """Facts about a program as plain JSON values. FLOPs count a multiply-add of a convolution as two and every other element-wise operation as one.

    picture: (height, width) for which arithmetic and memory are counted. Receptive field and memory of a tile are None where steps look at the
    whole picture.
    """
    sizes = program.value_sizes(*picture)
    growth = [(b[0] - a[0]) / 2880 for a, b in zip(program.value_sizes(2880, 2880), program.value_sizes(5760, 5760), strict=True)]
    small = program.small_values()
    layers = [_layer(program, s, sizes, growth, small) for s in program.steps]
    pixels_in = picture[0] * picture[1]
    height, width = sizes[program.outputs[0][1]]
    flops = sum(row["flops"] for row in layers)
    scale = program.scale() * program.feed.pre_scale
    field = receptive_field(program)
    outputs = [
        {"name": name, "channels": program.values[v].channels, "scale": str(program.scale(k))} for k, (name, v) in enumerate(program.outputs)
    ]
    quantised = sum(integer_convs(program)) if is_quantised(program) else 0
    return {
        "quantised": {"integer_convolutions": quantised, "convolutions": sum(s.kind == "Conv" for s in program.steps)},
        "inputs": [{"name": program.values[v].name, "channels": program.values[v].channels} for v in program.inputs],
        "outputs": outputs,
        "feed": asdict(program.feed),
        "meta": {k: v if isinstance(v, (str, int, float, bool)) else str(v) for k, v in program.meta.items() if k not in INTERNAL},
        "layers": layers,
        "totals": {
            "scale": str(scale),
            "layers": len(layers),
            "parameters": sum(row["parameters"] for row in layers),
            "receptive_field": None if field is None else list(field),
            "flops": flops,
            "flops_per_input_pixel": flops / pixels_in,
            "flops_per_output_pixel": flops / (height * width),
        },
        "memory": {
            "picture": [picture[1], picture[0]],
            "result": [width, height],
            "whole_picture_bytes": _peak_bytes(program, [h * w for h, w in sizes]),
            "tile": TILE,
            "tile_bytes": _tile_bytes(program),
        },
    }


def _engine(program: Program, picture: tuple[int, int], precision: str) -> dict[str, Any] | None:
    """What the C++ core takes beyond inputs, outputs and weights; None where it cannot run the program."""
    from ..backends import available_backends, backend_module
    from ..threads import get_num_threads

    if "cpu" not in available_backends():
        return None
    try:
        executable = backend_module("cpu").compile(program, precision=precision, tile=knobs.TILE.read_int())
    except ModelError:
        return None
    return {"precision": precision, "threads": get_num_threads(), **executable.working_memory(*picture)}


def _layer(program: Program, step: Step, sizes: list[tuple[int, int]], growth: list[float], small: list[bool]) -> dict[str, Any]:
    parameters = sum(a.size for a in (step.weight, step.bias) if a is not None) + sum(e.tensor.size for e in step.epilogue if e.tensor is not None)
    h, w = sizes[step.output]
    before = h * w // step.block**2
    channels = program.values[step.output].channels * step.block**2 if step.block > 1 else program.values[step.output].channels
    flops = 0
    if step.weight is not None:
        flops += 2 * step.weight.size * before
    elif step.kind == "Resize" or (step.kind == "ResizeTo" and not small[step.inputs[0]]):
        flops += (0, 8, 16)[int(step["mode"])] * channels * before
    elif step.kind in OVER_PICTURE:
        flops += channels * sizes[step.inputs[0]][0] * sizes[step.inputs[0]][1]
    flops += sum(channels * before for e in step.epilogue if e.op != "DepthToSpace")
    return {
        "name": step.name,
        "op": step.kind,
        "kernel": _kernel(step),
        "channels_in": [program.values[i].channels for i in step.inputs],
        "channels_out": program.values[step.output].channels,
        "size": "1 px" if small[step.output] else f"{growth[step.output]:.4g}x",
        "parameters": int(parameters),
        "flops": int(flops),
        "epilogue": [_epilogue(program, e) for e in step.epilogue],
    }


def _kernel(step: Step) -> str:
    if step.kind == "Conv":
        text = f"{step['kh']}x{step['kw']}"
        text += f" /{step['sh']}" if step["sh"] > 1 or step["sw"] > 1 else ""
        text += f" dilated {step['dh']}" if step["dh"] > 1 or step["dw"] > 1 else ""
        return text + (f" groups {step['group']}" if step["group"] > 1 else "")
    if step.kind == "Resize":
        return f"{('nearest', 'linear', 'cubic')[int(step['mode'])]} x{step['scale_h']:g}"
    if step.kind == "ResizeTo":
        return ("nearest", "linear", "cubic")[int(step["mode"])]
    if step.kind in ("DepthToSpace", "SpaceToDepth"):
        return f"{step['block']}x{step['block']}"
    return ""


def _epilogue(program: Program, e: Any) -> str:
    if e.op == "DepthToSpace":
        return f"DepthToSpace {int(e.a)}"
    if e.value is not None:
        return f"{e.op} {program.values[e.value].name}"
    if e.tensor is not None:
        return f"{e.op} [{e.tensor.size}]"
    numbers = {"LeakyRelu": f" {e.a:g}", "Clip": f" {e.a:g}..{e.b:g}"}
    return e.op + numbers.get(e.op, f" {e.a:g}" if e.op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "RSub", "RDiv") else "")


def receptive_field(program: Program) -> tuple[int, int] | None:
    """(height, width) in input pixels that the output pixels over one input pixel depend on; None for the whole picture."""
    from ..tiles import plan_tile

    if any(s.kind in OVER_PICTURE for s in program.steps):
        return None
    edge = 5760
    program = sized(program, edge, edge)
    sizes = program.value_sizes(edge, edge)
    value = program.outputs[0][1]
    h, w = sizes[value]
    y, x = h // edge or 1, w // edge or 1
    middle = (edge // 2 * h // edge, edge // 2 * w // edge)
    need = plan_tile(program, sizes, {value: (middle[0], middle[1], middle[0] + y, middle[1] + x)})
    y0, x0, y1, x1 = need[program.inputs[0]]
    return y1 - y0, x1 - x0


def _peak_bytes(program: Program, areas: list[int]) -> int:
    """The most float32 that is alive at once when every value of that many pixels is kept from its making to its last use."""
    last = {v: k for k, s in enumerate(program.steps) for v in s.reads()}
    last |= {v: len(program.steps) for _, v in program.outputs}
    bytes_of = [4 * v.channels * a for v, a in zip(program.values, areas, strict=True)]
    alive = sum(bytes_of[v] for v in program.inputs)
    peak = alive
    for k, s in enumerate(program.steps):
        alive += bytes_of[s.output]
        peak = max(peak, alive)
        alive -= sum(bytes_of[v] for v in {*s.reads(), s.output} if last.get(v, k) == k)
    return peak


def _tile_bytes(program: Program) -> int | None:
    from ..tiles import plan_tile

    if any(s.kind in OVER_PICTURE for s in program.steps):
        return None
    edge = 2880
    program = sized(program, edge, edge)
    sizes = program.value_sizes(edge, edge)
    value = program.outputs[0][1]
    h, w = sizes[value]
    a, b = edge // 2, edge // 2 + TILE
    need = plan_tile(program, sizes, {value: (a * h // edge, a * w // edge, b * h // edge, b * w // edge)})
    return _peak_bytes(program, [(r[2] - r[0]) * (r[3] - r[1]) for r in need])


def as_text(facts: dict[str, Any]) -> str:
    """The facts as tables for people."""
    rows = [["layer", "op", "kernel", "in", "out", "size", "parameters", "FLOPs/px", "then"]]
    pixels = facts["memory"]["picture"][0] * facts["memory"]["picture"][1]
    for k, row in enumerate(facts["layers"]):
        rows.append(
            [
                f"{k} {_short(row['name'])}",
                row["op"],
                row["kernel"],
                "+".join(map(str, row["channels_in"])),
                str(row["channels_out"]),
                row["size"],
                str(row["parameters"] or "-"),
                thousands(row["flops"] / pixels),
                ", ".join(row["epilogue"]),
            ]
        )
    totals, memory, feed = facts["totals"], facts["memory"], facts["feed"]
    quantised, convolutions = facts["quantised"].values()
    inputs = ", ".join(f"{i['name']} ({i['channels']} channel{'s' if i['channels'] > 1 else ''})" for i in facts["inputs"])
    outputs = ", ".join(f"{o['name']} x{o['scale']} ({o['channels']})" for o in facts["outputs"])
    fed = f"{feed['colour']}, 0..{feed['range']:g}" + (f", mean {tuple(feed['mean'])}" if feed["mean"] else "")
    fed += ", not rounded to 8 bits" if feed["fine"] else ""
    fed += f", enlarged x{feed['pre_scale']} before" if feed["pre_scale"] > 1 else ""
    width, height = memory["picture"]
    field = "{1}x{0} input pixels".format(*totals["receptive_field"]) if totals["receptive_field"] else "the whole picture"
    per_pixel = f"{thousands(totals['flops_per_input_pixel'])} FLOPs per input pixel, {thousands(totals['flops_per_output_pixel'])} per output pixel"
    lines = [
        f"{facts['model']}   scale x{totals['scale']}",
        *([f"  {k}: {v}" for k, v in facts["meta"].items()]),
        f"  inputs: {inputs}",
        f"  outputs: {outputs}",
        f"  fed with: {fed}",
        *([f"  quantised: {quantised} of {convolutions} convolutions in 8-bit integers"] if quantised else []),
        "",
        table(rows, left=3),
        "",
        f"parameters        {totals['parameters']:,}",
        f"receptive field   {field}",
        f"arithmetic        {per_pixel}",
        f"                  {thousands(totals['flops'])} FLOPs for {width}x{height} -> {memory['result'][0]}x{memory['result'][1]}",
        f"memory            {binary(memory['whole_picture_bytes'])} if {width}x{height} were computed in one piece",
    ]
    if memory["tile_bytes"] is not None:
        lines[-1] += ","
        lines.append(f"                  {binary(memory['tile_bytes'])} for a tile of {memory['tile']}x{memory['tile']}, were it held whole")
    for engine in memory.get("engines", []):
        threads = f"{engine['threads']} thread{'s' if engine['threads'] > 1 else ''}"
        scratch = f"{binary(engine['scratch_bytes_per_thread'])} for each of {engine['working_threads']}"
        lines[-1] += ","
        core = f"for the C++ core in {engine['precision']} with {threads}, beyond input and output"
        lines.append(f"                  {binary(engine['bytes'])} {core}:")
        kept = f"kept whole between pieces {binary(engine['kept_bytes'])}, " if "kept_bytes" in engine else ""
        lines.append(f"                  {kept}rows {binary(engine['rings_bytes'])}, kernel scratch {binary(engine['scratch_bytes'])} ({scratch});")
        lines.append(f"                  packed weights beside it {binary(engine['weights_bytes'])}")
    return "\n".join(lines)


def _short(name: str) -> str:
    return name if len(name) <= 28 else "..." + name[-25:]
