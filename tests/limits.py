"""Limits that hold on slow and busy machines too: processor time, memory, and how long to wait for a child process that hangs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

HANGS = 1200
"""Seconds after which a child process is taken to hang; no test measures time with it."""

_LOOP_SECONDS = 0.02


def slowness() -> float:
    """How many times slower plain Python runs here than on the machine for which limits of processor time are stated; at least 1."""
    slowest = _LOOP_SECONDS
    for _ in range(3):
        start = time.process_time()
        table: dict[int, int] = {}
        for i in range(200_000):
            table[i & 1023] = table.get(i & 511, 0) + i
        slowest = max(slowest, time.process_time() - start)
    return slowest / _LOOP_SECONDS


def peak_megabytes() -> float:
    """Largest resident memory of this process so far; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the parent's memory at the time of fork() too
        return next((int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:")), 0.0)
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)
