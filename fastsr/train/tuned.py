"""A network of any format that fastsr reads, to be trained on: `fastsr finetune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .. import fsr, lower, onnx_export, passes, quantise
from ..errors import FastsrError, ModelError, PictureError
from ..model import load_program, save_program
from ..program import Program
from . import measure
from .batches import Patches
from .convert import GraphModule
from .export import TOLERANCE, difference, probe_picture
from .networks import Network
from .recipes import Recipe, fixed

CALIBRATION_PATCHES, CALIBRATION_EDGE = 48, 64
"""How many patches of which edge in pixels a network is calibrated on."""

LEVELS_TOLERANCE = 1e-3
"""Largest root of the mean squared difference between the engine's result and PyTorch's of a quantised network, white being 1: sums that lie nearly
half-way between two levels go to either one."""


def load(path: Path, scale: int | None = None) -> Tuned:
    """The network in a model file, or that comes with fastsr; one of Y is fed with unrounded Y from here on (`Feed.fine`).

    Raises ModelError for one that cannot be trained, does not enlarge by a whole number, or of which PyTorch's result is another than the engine's.
    """
    program = load_program(path, scale)
    by = program.scale() * program.feed.pre_scale
    if by.denominator != 1 or by < 2:
        raise ModelError(f"'{path}' enlarges by {by}: only networks that enlarge by 2, 3, ... can be fine-tuned")
    if program.feed.colour == "raw":
        raise ModelError(f"'{path}' does not say how pictures are fed to it: convert it with --feed first")
    if any(e.op == "Quantize" for step in program.steps for e in step.epilogue):
        raise ModelError(f"'{path}' is quantised (QuantizeLinear): fine-tune the float network that it was made from, with --int8")
    program.outputs = program.outputs[:1]
    program.feed = replace(program.feed, fine=program.feed.colour == "y")
    graph = onnx_export.graph_of(program)
    graph.prune()
    try:
        network = Tuned(GraphModule(graph), int(by))
        if not network.module.places:
            raise ModelError("there are no weights in it that could be trained: give a network, a file or a name that 'fastsr models' lists")
        error = disagreement(network, program)
    except (ModelError, PictureError) as e:
        raise ModelError(f"'{path}': {e}") from None
    if error > TOLERANCE:
        raise ModelError(f"'{path}' cannot be fine-tuned: PyTorch's result differs from the engine's by {error:.2g} (white is 1)")
    return network


def disagreement(network: Tuned, program: Program) -> float:
    """Largest difference of the program's result to PyTorch's, white being 1; of a quantised network the root of the mean squared one."""
    x = np.rint(probe_picture(network, 32, 40) * np.float32(255)) / np.float32(255)
    with torch.no_grad():
        want = network(torch.from_numpy(x)).numpy()
    if network.module.feed.colour == "bgr":
        x, want = x[:, ::-1].copy(), want[:, ::-1]
    return difference(program, x, want, mean=network.quantised)


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
        y = (self.module(self.fed(x)) + self.out_mean) / feed.out_range
        return y.flip(1) if feed.colour == "bgr" else y

    def fed(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures in 0..1 as the graph takes them."""
        feed = self.module.feed
        return (x.flip(1) if feed.colour == "bgr" else x) * feed.range - self.mean

    @property
    def quantised(self) -> bool:
        """Whether its convolutions are of 8-bit integers."""
        return self.module.quantised

    def program(self) -> Program:
        """The network as it is now, lowered."""
        graph = self.module.trained()
        return quantise.program_of(graph) if self.quantised else lower.lower(passes.optimise(graph))


def quantised(network: Tuned, patches: Patches, threads: int | None = None) -> Tuned:
    """The network with its convolutions in 8-bit integers, calibrated on patches; its weights stay floats that are rounded in each run.

    Raises ModelError for a network that cannot be quantised.
    """
    least = min(CALIBRATION_EDGE, max(min(p.small.shape[1:]) for p in patches.pairs))
    small = torch.from_numpy(patches.batch(0, CALIBRATION_PATCHES, least).small)
    given = network.fed(measure.given(small, network)).contiguous().numpy()
    return Tuned(GraphModule(quantise.quantise(network.module.graph, [given], threads=threads)), network.scale)


def recipe_for(network: Network, scale: int, int8: bool = False) -> Recipe:
    """Few steps at a low rate, all in float32."""
    patch = 32 if scale < 4 else 24
    arch = "finetune-int8" if int8 else "finetune"
    return Recipe(arch, network.colour, optimiser="adam", rate=1e-4, warmup=100, exact=1.0, steps=3000, stages=fixed(patch, 16), ema=0.995)


def save(network: Tuned, stem: Path) -> tuple[Path, Path, float]:
    """Write the network as .fsr and .onnx. Returns both paths and the largest difference of the engine's result to PyTorch's, white being 1; of a
    quantised network the root of the mean squared one.

    Raises FastsrError when they differ, OSError.
    """
    network = network.eval().float().cpu()
    program = network.program()
    error = disagreement(network, program)
    if error > (LEVELS_TOLERANCE if network.quantised else TOLERANCE):
        raise FastsrError(f"the engine's result differs from PyTorch's by {error:.2g} (white is 1): nothing was written")
    paths = stem.with_name(f"{stem.name}.fsr"), stem.with_name(f"{stem.name}.onnx")
    fsr.save(program, paths[0])
    if network.quantised:
        quantise.save(network.module.trained(), paths[1])
    else:
        save_program(program, paths[1])
    return *paths, error
