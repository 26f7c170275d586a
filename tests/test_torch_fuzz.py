"""Short runs of the fuzzers fuzz_torch.py, fuzz_safetensors.py and fuzz_npz.py; longer ones are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [1500, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fuzzer", ["fuzz_torch", "fuzz_safetensors", "fuzz_npz"])
def test_mutated_files_load_or_are_refused(fuzzer: str, count: int, tmp_path: Path) -> None:
    """In a process of its own: the memory that a file may ask for is measured there."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {fuzzer}\nprint(dict({fuzzer}.run({count}, 1)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "'refused'" in run.stdout
    assert "net:" not in run.stdout
