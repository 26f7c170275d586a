"""A short run of the fuzzer fuzz_ncnn.py; longer ones are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 3000


@pytest.mark.parametrize("seed", [1])
def test_mutated_models_load_or_are_refused(seed: int, tmp_path: Path) -> None:
    """In a process of its own: the memory that a model may ask for is measured there."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fuzz_ncnn\nprint(dict(fuzz_ncnn.run({COUNT}, {seed})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "'loaded'" in run.stdout and "'refused'" in run.stdout
    assert "net:" not in run.stdout
