"""`fastsr bench --kernels`: what `fastsr.backends.cpu_kernels` measured, as a table."""

from __future__ import annotations

from typing import Any

from ..backends.cpu_kernels import ALGORITHMS
from .common import table

SLACK = 1.05
"""An algorithm counts as faster than the one picked when it takes less than the pick's time divided by this."""


def as_text(rows: list[dict[str, Any]]) -> str:
    """The table: GFLOP/s of a core as a direct convolution counts them, `*` at the pick, and where another algorithm would have won."""
    names = [a for a in ALGORITHMS if any(a in r["ms"] for r in rows)]
    lines = [["step", "convolution", *names, "another would have won"]]
    for r in rows:
        own = r["ms"].get(r["pick"])
        cells = [f"{r['gflop'] / r['ms'][a] * 1e3:.0f}{'*' if a == r['pick'] else ''}" if r["ms"].get(a) else "" for a in names]
        rival = min(r["ms"], key=r["ms"].__getitem__)
        lost = own is not None and r["ms"][rival] * SLACK < own
        verdict = f"{rival} takes {r['ms'][rival] / own:.2f} of the time" if lost else ""
        lines.append([r["step"], f"{r['kernel']} {r['cin']}->{r['cout']}", *cells, verdict])
    return table(lines, left=2) + "\n\nGFLOP/s of one core as a direct convolution counts them; * is the engine's choice"
