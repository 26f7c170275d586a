"""A network of any format that fastsr reads, to be trained on: `fastsr finetune`."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import fsr, lower, onnx_export, passes
from ..errors import FastsrError, ModelError
from ..model import load_program, save_program
from ..program import Program
from .convert import GraphModule
from .export import TOLERANCE, difference, probe_picture
from .networks import Network
from .recipes import Recipe, fixed


def load(path: Path, scale: int | None = None) -> Tuned:
    """The network in a model file. Raises ModelError for one that cannot be trained, or does not enlarge by a whole number."""
    program = load_program(path, scale)
    by = program.scale() * program.feed.pre_scale
    if by.denominator != 1 or by < 2:
        raise ModelError(f"'{path}' enlarges by {by}: only networks that enlarge by 2, 3, ... can be fine-tuned")
    if program.feed.colour == "raw":
        raise ModelError(f"'{path}' does not say how pictures are fed to it: convert it with --feed first")
    if len(program.outputs) > 1:
        program.outputs = program.outputs[:1]
    try:
        return Tuned(GraphModule(onnx_export.graph_of(program)), int(by))
    except ModelError as e:
        raise ModelError(f"'{path}': {e}") from None


class Tuned(Network):
    """A graph as a network of pictures in 0..1."""

    def __init__(self, module: GraphModule, scale: int) -> None:
        feed = module.feed
        super().__init__(scale, "y" if feed.colour == "y" else "rgb")
        self.module = module
        self.enlarged = feed.pre_scale > 1
        for name, mean in (("mean", feed.mean), ("out_mean", feed.out_mean)):
            self.register_buffer(name, torch.tensor(mean or (0.0,)).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        feed = self.module.feed
        if feed.colour == "bgr":
            x = x.flip(1)
        y = (self.module(x * feed.range - self.mean) + self.out_mean) / feed.out_range
        return y.flip(1) if feed.colour == "bgr" else y

    def program(self) -> Program:
        """The network as it is now, lowered."""
        return lower.lower(passes.optimise(self.module.trained()))


def recipe_for(network: Network, scale: int) -> Recipe:
    """Few steps at a low rate, all in float32."""
    patch = 32 if scale < 4 else 24
    return Recipe("finetune", network.colour, optimiser="adam", rate=1e-4, warmup=100, exact=1.0, steps=3000, stages=fixed(patch, 16), ema=0.995)


def save(network: Tuned, stem: Path) -> tuple[Path, Path, float]:
    """Write the network as .fsr and .onnx. Returns both paths and the largest difference of the engine's result to PyTorch's, white being 1.

    Raises FastsrError when they differ, OSError.
    """
    network = network.eval().float().cpu()
    program = network.program()
    x = probe_picture(network)
    with torch.no_grad():
        given = torch.from_numpy(x)
        want = network(given).numpy()
    if network.module.feed.colour == "bgr":
        x, want = x[:, ::-1].copy(), want[:, ::-1]
    error = difference(program, x, want)
    if error > TOLERANCE:
        raise FastsrError(f"the engine's result differs from PyTorch's by {error:.2g} (white is 1): nothing was written")
    paths = stem.with_name(f"{stem.name}.fsr"), stem.with_name(f"{stem.name}.onnx")
    fsr.save(program, paths[0])
    save_program(program, paths[1])
    return *paths, error
