"""Trainings of a second for tests; they need PyTorch."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastsr.train import recipes, run
from fastsr.train.batches import Batch, Patches
from fastsr.train.loop import Pace, Trainer
from fastsr.train.pictures import Pair

TINY = "--arch plain --option width=4 --option layers=1 --patch 8 --batch 2 --cache ram -j 1 --bf16 off"
"""Options of `fastsr train` for the network of `job`."""


def job(photos: Path, out: Path, **changes: Any) -> run.Job:
    """A training of three steps."""
    recipe = recipes.Recipe("plain", options={"width": 4, "layers": 1}, stages=recipes.fixed(8, 2))
    known: dict[str, Any] = dict(recipe=recipe, scale=2, data=photos, out=out, pace=Pace(3), threads=1, bf16=False, keep_cache=False, quiet=True)
    return run.Job(**{**known, **changes})


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before that step of every training, until `monkeypatch` is undone."""
    advance = Trainer.advance

    def interrupted(trainer: Trainer, batch: Batch) -> torch.Tensor:
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(trainer, batch)

    monkeypatch.setattr(Trainer, "advance", interrupted)


def noisy_patches() -> Patches:
    """Of one picture of Y, for a network that enlarges by 2."""
    rng = np.random.default_rng(0)
    return Patches([Pair("a", rng.integers(0, 256, (1, 64, 64), np.uint8), rng.integers(0, 256, (1, 32, 32), np.uint8))], 2, 0)
