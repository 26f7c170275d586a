"""`fastsr backends`: what can compute here, and if not, why; instruction sets, threads, versions, environment variables."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from typing import Any

from .common import add_command, table

EXAMPLES = """\
  fastsr backends
  fastsr backends --knobs        the environment variables that fastsr reads
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "backends", run, "list the backends and whether they work here", EXAMPLES)
    p.add_argument("--knobs", action="store_true", help="list the environment variables that fastsr reads")
    p.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    if args.knobs:
        return _knobs(args.json)
    from ..backends import available_backends
    from ..threads import get_num_threads
    from .machine import machine

    states = backend_states()
    facts = {"backends": states, "threads": get_num_threads(), "isas": isas(), "machine": machine()}
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    rows = [["backend", "state"]]
    first = next(iter(available_backends()), None)
    for name, reason in states.items():
        rows.append([name, f"not available: {reason}" if reason else "available" + (" (chosen by auto)" if name == first else "")])
    info = machine()
    versions = info["versions"]
    assert isinstance(versions, dict)
    print(table(rows))
    print()
    print(f"processor         {info['cpu']}, {info['cores']} cores, {info['system']}")
    print(f"threads           {facts['threads']}")
    if facts["isas"]:
        print(f"instruction sets  {', '.join(isas())} (cpu backend, best first; FASTSR_ISA sets the highest allowed)")
    print(f"versions          {', '.join(f'{k} {v}' for k, v in versions.items())}")
    return 0


def backend_states() -> dict[str, str | None]:
    """Backend -> None when it works here, else the reason why it does not."""
    from ..backends import BACKENDS, backend_module
    from ..errors import BackendError

    states: dict[str, str | None] = {}
    for name in BACKENDS:
        try:
            backend_module(name)
            states[name] = None
        except BackendError as e:
            states[name] = str(e).partition("is not available: ")[2] or str(e)
    return states


def isas() -> list[str]:
    """Instruction sets that the C++ core can use here, best first; empty without the core."""
    try:
        core = importlib.import_module("fastsr._core")
    except ImportError:
        return []
    return list(reversed(core.isas()))


def _knobs(as_json: bool) -> int:
    from ..knobs import KNOBS

    if as_json:
        print(json.dumps([{"name": k.name, "default": k.default, "doc": k.doc, "value": os.environ.get(k.name)} for k in KNOBS], indent=2))
        return 0
    rows = [["variable", "now", "default", "meaning"]]
    rows += [[k.name, os.environ.get(k.name) or "-", k.default, k.doc + (f" ({', '.join(k.choices)})" if k.choices else "")] for k in KNOBS]
    print(table(rows, left=3))
    return 0
