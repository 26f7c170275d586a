"""`fastsr formats`: the model files that are read, the architectures that weights alone are recognised as, and how each is fed."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ..baselines import BASELINES
from .common import add_command, table

EXAMPLES = """\
  fastsr formats
  fastsr formats --markdown        docs/formats.md
"""

HEAD = """\
# Model files, architectures, and how each is fed

Written by `fastsr formats --markdown` from the tables that the code itself uses.
"""

ARCHITECTURES = """\
Found by the names and shapes of tensors, which also give every size, depth and scale. Weights for several scales (CARN, MDSR, LapSRN) are one network
for each: `load(scale=)` and `--scale` choose, before the file's name, and `fastsr info` lists them."""

FEED = """\
## How pictures are fed
`fastsr info MODEL` shows how a model is fed. What the file says comes first, then what its first and last operators say, then the architecture's own
way. Where weights leave several readings open, each is tried on a small drawing, and the one whose result is best is taken; where none improves the
drawing, soft shades tell them apart. So are other ranges tried, and enlargement before a network that keeps the size, where a file with the network
in it leaves them open and the network is not large (8 M weights). `load(feed={...})` and `--feed NAME=VALUE` override it:

| name | meaning |
|---|---|
| `colour` | `y` (brightness only, colour is enlarged by the bilinear filter), `rgb`, `bgr`, or `raw` (only `Model.run`) |
| `range`, `mean` | the network's input is pixel / 255 * range - mean |
| `out_range`, `out_mean` | a pixel is (result + out_mean) / out_range * 255 |
| `pre_scale` | the picture is enlarged by the bicubic filter as many times before; `load(scale=)` sets it for networks that keep the size |
| `fine` | `true`: Y of an 8-bit colour picture is not rounded to 8 bits before and behind the network; without it pictures are OpenCV's to the bit |
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "formats", run, "list the model files and architectures that are read, and how each is fed", EXAMPLES)
    p.add_argument("--markdown", action="store_true", help="as the page docs/formats.md")
    p.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the lists."""
    facts = registries()
    if args.json:
        json.dump(facts, sys.stdout, indent=2)
        print()
    elif args.markdown:
        print(markdown(facts), end="")
    else:
        print(table([["format", "suffixes"], *[[f["name"], " ".join(f["suffixes"])] for f in facts["formats"]]]))
        print()
        print(table([["architecture of weights alone", "how pictures are fed"], *[[a["name"], a["fed"]] for a in facts["architectures"]]]))
        print(f"\nfilters: {', '.join(facts['filters'])}")
    return 0


def registries() -> dict[str, Any]:
    """What `fastsr.importers` and `fastsr.archs` have registered, as plain JSON values."""
    from .. import archs, importers

    formats = [{"name": f.NAME, "suffixes": list(f.SUFFIXES), "what": _first_sentence(f.__doc__)} for f in importers.FORMATS]
    formats.append({"name": "fastsr", "suffixes": [".fsr"], "what": "Lowered programs, written by `Model.save` and `fastsr convert`."})
    architectures = [{"name": a.NAME, "paper": a.PAPER, "fed": a.FED, "what": _first_sentence(a.__doc__)} for a in archs.ARCHS]
    return {"formats": formats, "architectures": architectures, "filters": list(BASELINES)}


def _first_sentence(text: str | None) -> str:
    first = " ".join((text or "").split("\n\n")[0].split())
    return first if first.endswith(".") else first + "."


def markdown(facts: dict[str, Any]) -> str:
    """The page."""
    lines = [HEAD, "## Formats", "Recognised by content; the suffix only decides where no format claims the content.", ""]
    lines += ["| format | suffixes | |", "|---|---|---|"]
    lines += [f"| {f['name']} | {' '.join(f'`{s}`' for s in f['suffixes'])} | {f['what']} |" for f in facts["formats"]]
    lines += ["", "## Architectures of weights alone", ARCHITECTURES, ""]
    lines += ["| architecture | fed | from |", "|---|---|---|"]
    lines += [f"| **{a['name']}**: {a['what']} | {a['fed']} | {a['paper']} |" for a in facts["architectures"]]
    lines += ["", FEED, "## Filters", f"`fastsr.load(name, scale=)`: {', '.join(facts['filters'])}.", ""]
    return "\n".join(lines)
