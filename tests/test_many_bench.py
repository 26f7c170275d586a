"""benchmarks/many.py in small: its contenders give the same pictures, and what it makes of their times."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("many")


@pytest.mark.parametrize("name", ["fsrcnn-small", "espcn", "edsr-baseline"])
def test_a_case(bench: Any, shared: Path, name: str) -> None:
    case = bench.measure(name, (20, 24), 3, 2, 1, 0)
    assert (case["pictures"], case["size"]) == (3, "24x20")
    assert [r["name"] for r in case["results"][:3]] == ["upscale", "upscale, 1 thread", "upscale_many"]
    for row in case["results"]:
        assert not bench.wrong(row), row
        assert row["runs"] == 1 and row["pictures_per_s"] > 0
    assert case["results"][0]["times_upscale"] == 1
    assert "pictures/s" in bench.as_text(case)


def test_every_network_is_tested(bench: Any) -> None:
    assert list(bench.NETWORKS) == ["fsrcnn-small", "espcn", "edsr-baseline"]


def test_pictures_differ(bench: Any) -> None:
    first, second, third = bench.pictures_of(3, 12, 16)
    assert first.shape == (12, 16, 3) and first.flags.c_contiguous
    assert not np.array_equal(first, second) and not np.array_equal(second, third)


def test_wrong_results_are_seen(bench: Any) -> None:
    def row(name: str, max_abs: float, equal: float) -> dict[str, Any]:
        return {"name": name, "difference": {"max_abs": max_abs, "equal_percent": equal}}

    assert bench.wrong(row("upscale_many", 1, 99.99)) and not bench.wrong(row("upscale_many", 0, 100))
    assert not bench.wrong(row("cv2 5.0.0", 1, 99.95))
    assert bench.wrong(row("cv2 5.0.0", 2, 99.99)) and bench.wrong(row("cv2 5.0.0", 1, 99))
    assert bench.wrong({"name": "onnxruntime 1", "difference": {"shapes": [[1], [2]]}})


def test_the_script(bench: Any, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--network", "fsrcnn-small", "--size", "20x10", "--pictures", "2", "--runs", "1", "--seconds", "0"]
    monkeypatch.setattr(sys, "argv", ["many.py", *arguments, "--output", str(tmp_path / "many.json")])
    assert bench.main() == 0
    report = json.loads((tmp_path / "many.json").read_text())
    assert report["threads"] == 2 and report["date"] and report["machine"]["cpu"]
    assert [c["size"] for c in report["cases"]] == ["20x10"]
    assert "upscale_many" in capsys.readouterr().out
