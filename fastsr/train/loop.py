"""The training loop. What a step does depends on the state after the step before and on nothing else, so a training that was killed goes on with the
same bits (on a CPU, with the same number of threads and the same PyTorch)."""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from ..errors import FastsrError
from . import measure, state
from .adversarial import Adversary
from .batches import Batch, Patches
from .networks import Network
from .pictures import Pair
from .recipes import Recipe
from .report import Report, duration
from .revive import revive
from .soap import SOAP

EPSILON = 1e-3
"""Of the Charbonnier loss, in units of white."""

MEASUREMENTS = 50
"""Of PSNR in a training, about, where it is not told how often."""

TRIAL = 6
"""Steps that are timed for `--minutes`, in each stage."""


@dataclass(frozen=True)
class Pace:
    """steps: in all; None to fit into `minutes`. save_seconds: between checkpoints. eval_steps: between measurements, 0 for a fiftieth of all."""

    steps: int | None = None
    minutes: float | None = None
    save_seconds: float = 60.0
    eval_steps: int = 0


def loss_of(kind: str, y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """"l1", "mse" or "charbonnier" of the pictures."""
    if kind == "mse":
        return F.mse_loss(y, target)
    if kind == "charbonnier":
        return torch.sqrt((y - target) ** 2 + EPSILON**2).mean()
    return F.l1_loss(y, target)


class Trainer:
    """A network, its averaged copy `shadow`, which is what counts, and the optimiser.

    settings: all that makes this training this one: compared with the checkpoint's. seed: of the patches; the network is drawn by whoever makes it.
    bf16: compute in bfloat16 but for the recipe's last steps.
    """

    def __init__(self, network: Network, recipe: Recipe, patches: Patches, device: str, bf16: bool, settings: dict[str, Any]) -> None:
        self.recipe, self.patches, self.device, self.bf16, self.settings = recipe, patches, device, bf16, settings
        self.network = network.to(device=device, memory_format=torch.channels_last).train()
        self.shadow = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.params = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer
        if recipe.optimiser == "soap":
            self.optimiser = SOAP(self.params, recipe.rate)
        else:
            self.optimiser = torch.optim.Adam(self.params, lr=recipe.rate, betas=(0.9, 0.999), fused=True)
        self._kept = list(self.shadow.parameters())
        self.adversary = Adversary(network.channels, recipe, patches.seed, device) if recipe.adversarial else None
        self.step = 0
        self.total = 0
        self.seconds = 0.0
        self.stopped_by = 0
        self.history: list[list[float]] = []

    # ---- one step ----------------------------------------------------------------------------------------------------------------------------

    def tensors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network takes and what it should make, floats 0..1 on the device."""
        small, large = torch.from_numpy(batch.small), torch.from_numpy(batch.large)
        if self.device != "cpu":
            small, large = (t.pin_memory().to(self.device, non_blocking=True) for t in (small, large))
        x = measure.given(small, self.network)
        return x.contiguous(memory_format=torch.channels_last), large.float() * (1 / 255)

    def pictures(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network makes of the batch and what it should make of it."""
        x, target = self.tensors(batch)
        exact = self.step >= round(self.total * (1 - self.recipe.exact))
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16 and not exact):
            y = self.network(x)
        if self.network.enlarged:  # a patch's border was enlarged without its surroundings
            edge = 2 * self.network.scale
            y, target = (t[..., edge:-edge, edge:-edge] for t in (y, target))
        return y.float(), target

    def advance(self, batch: Batch) -> torch.Tensor:
        """One step; returns the loss."""
        rate = self.recipe.rate_at(self.step, self.total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if self.recipe.revives_at(self.step, self.total):
            revive(self.network, self.shadow, self.tensors(batch)[0], self.step)
        self.optimiser.zero_grad(set_to_none=True)
        y, target = self.pictures(batch)
        kind = "mse" if self.step >= round(self.total * (1 - self.recipe.finish)) else self.recipe.loss
        loss = loss_of(kind, y, target)
        if self.adversary is not None:
            loss = loss + self.adversary.loss(y, target)
        loss.backward()
        if self.adversary is not None:
            self.adversary.learn(y, target, self.recipe.judge * rate / self.recipe.rate)
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.params, self.recipe.clip)
        self.optimiser.step()
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._kept, list(self.network.parameters()), 1 - decay)
            for mine, theirs in zip(self.shadow.buffers(), self.network.buffers(), strict=True):
                mine.copy_(theirs)
        self.step += 1
        return loss.detach()

    # ---- the checkpoint ----------------------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "settings": self.settings,
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds,
            "history": self.history,
            "threads": torch.get_num_threads(),
            "network": self.network.state_dict(),
            "shadow": self.shadow.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": None if self.adversary is None else self.adversary.state(),
        }

    def restore(self, saved: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint; its number of steps may be another one. Raises FastsrError when it is of another training, or further on."""
        state.check_same(self.settings, saved, path)
        try:
            self.network.load_state_dict(saved["network"])
            self.shadow.load_state_dict(saved["shadow"])
            self.optimiser.load_state_dict(saved["optimiser"])
            if self.adversary is not None:
                self.adversary.restore(saved["adversary"])
            self.step, self.total, self.seconds = int(saved["step"]), int(saved["total"]), float(saved["seconds"])
            self.history = [list(map(float, row)) for row in saved["history"]]
        except (KeyError, RuntimeError, TypeError, ValueError) as e:
            raise FastsrError(f"'{path}' does not fit this network ({' '.join(str(e).split())[:200]}): give --restart to begin anew") from None
        self.total = self.settings.get("total", self.total)

    # ---- all steps ---------------------------------------------------------------------------------------------------------------------------

    def plan(self, pace: Pace, valid: Sequence[Pair] = ()) -> None:
        """Set the number of steps: what was asked for, the recipe's, or what fits into the minutes by the time that some steps and a measurement
        take."""
        if pace.minutes is None:
            self.total = pace.steps or self.recipe.steps
            return
        kept = copy.deepcopy(self.state())
        self.total, cost = 1 << 30, 0.0
        for stage in self.recipe.stages:
            batch = self.patches.batch(0, stage.batch, stage.patch)
            for k in range(TRIAL):
                if k == TRIAL // 3:
                    start = time.perf_counter()
                self.advance(batch)
            self._wait()
            cost += stage.share * (time.perf_counter() - start) / (TRIAL - TRIAL // 3)
        self.network.load_state_dict(kept["network"])
        self.shadow.load_state_dict(kept["shadow"])
        self.optimiser.load_state_dict(kept["optimiser"])
        if self.adversary is not None:
            self.adversary.restore(kept["adversary"])
        self.step = 0
        start = time.perf_counter()
        if valid:
            measure.mean_score(self.shadow, valid, self.device)
        measuring = MEASUREMENTS * (time.perf_counter() - start)
        self.total = max(int((0.97 * 60 * pace.minutes - measuring) / cost), 10)
        if pace.steps is not None:
            self.total = min(self.total, pace.steps)

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def run(self, checkpoint: Path, pace: Pace, report: Report, valid: Sequence[Pair], bicubic: float | None) -> bool:
        """All steps that are left. True when the training is done, False when it was interrupted (Ctrl-C), with a checkpoint in both cases."""
        every = pace.eval_steps or max(self.total // MEASUREMENTS, 20)
        shape = self.recipe.shape
        began = saved = time.monotonic() - self.seconds
        saved = time.monotonic()
        losses = torch.zeros((), device=self.device)
        counted = 0
        speed, mark = 0.0, (time.monotonic(), self.step)
        with _Asked() as asked:
            for batch in self.patches.batches(self.step, self.total, lambda step: shape(step, self.total)):
                losses += self.advance(batch)
                counted += 1
                now = time.monotonic()
                self.seconds = now - began
                if now - mark[0] > 2:
                    speed = (self.step - mark[1]) / (now - mark[0])
                    mark = now, self.step
                if report.live:
                    left = f", {duration((self.total - self.step) / speed)} left" if speed else ""
                    report.status(f"step {self.step} of {self.total}, {speed:.1f} steps/s{left}")
                done = self.step == self.total
                if self.step % every == 0 or done:
                    mean = float(losses) / counted
                    losses.zero_()
                    counted = 0
                    if mean != mean or mean == float("inf"):
                        raise FastsrError(f"the loss is no number any more at step {self.step}: lower --rate, and --restart")
                    self._measure(mean, report, valid, bicubic, speed)
                if done or asked.to_stop or now - saved >= pace.save_seconds:
                    state.save(checkpoint, self.state())
                    saved = time.monotonic()
                if asked.to_stop and not done:
                    self.stopped_by = asked.to_stop
                    return False
        return True

    def _measure(self, loss: float, report: Report, valid: Sequence[Pair], bicubic: float | None, speed: float) -> None:
        psnr = measure.mean_score(self.shadow, valid, self.device) if valid else float("nan")
        self.history.append([self.step, self.seconds, self.recipe.rate_at(self.step - 1, self.total), loss, psnr])
        report.curve(self.history, bicubic)
        against = f" ({psnr - bicubic:+.2f} to bicubic)" if bicubic is not None and valid else ""
        shown = f"  {psnr:.2f} dB{against}" if valid else ""
        pace = f"  {speed:.1f} steps/s" if speed else ""
        report.line(f"step {self.step:>7} of {self.total}  loss {loss:.5f}{shown}  {duration(self.seconds)}{pace}")


class _Asked:
    """Whether Ctrl-C was pressed or the process told to end: heeded between two steps. A second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.to_stop = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Asked:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._heard)
        return self

    def _heard(self, number: int, frame: Any) -> None:
        if self.to_stop:
            raise KeyboardInterrupt
        self.to_stop = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
