"""Compares the Graph made of a PyTorch module's state dict with the module itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsr import archs, ops, passes
from fastsr.archs.weights import Weights
from fastsr.errors import ModelError
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.model import Model

torch = pytest.importorskip("torch", reason="PyTorch is not installed: architectures are compared with its modules")
torch.set_num_threads(1)  # such small networks wait for threads rather than gain by them


def tensors_of(module: Any) -> dict[str, np.ndarray]:
    """The state dict as arrays, in the module's order."""
    return {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}


def seeded(make: Callable[..., Any], *args: Any, spread: float = 1.0, **options: Any) -> Any:
    """A module in evaluation mode with the same random weights in every run; spread: the weights of three and more axes are that much larger."""
    torch.manual_seed(len(repr((args, options))) + 1)
    module = make(*args, **options).eval()
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 2:
                p.mul_(spread)
    return module


def readings_of(module: Any, stem: str = "net", arch: Any = None) -> list[Graph]:
    """All readings of the weights; the architecture that recognises them must be `arch`.

    The order of tensors must not matter, that of safetensors in particular.
    """
    tensors = tensors_of(module)
    orders = []
    for given in (tensors, dict(sorted(tensors.items()))):
        w = Weights(given, stem)
        found = next((a for a in archs.ARCHS if a.detect(w)), None)
        assert found is not None, "no architecture recognises the weights"
        assert arch is None or found is arch, f"taken for {found.NAME}"
        made = found.build(w)
        assert not w.left()
        orders.append(made if isinstance(made, list) else [made])
    for a, b in zip(*orders, strict=True):
        assert a.dump() == b.dump()
        assert all(np.array_equal(a.constants[k], b.constants[k]) for k in a.constants)
    return orders[0]


def picture(channels: int, height: int, width: int) -> np.ndarray:
    """A random picture (1, channels, height, width) in 0..1."""
    return np.random.default_rng(height * width).random((1, channels, height, width), np.float32)


def fed(graph: Graph, p: np.ndarray, run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What becomes of a picture in 0..1, by the graph's feed."""
    feed = graph.feed
    y = run((p * feed.range - np.reshape(feed.mean or (0,), (1, -1, 1, 1))).astype(np.float32))
    return (y + np.reshape(feed.out_mean or (0,), (1, -1, 1, 1))) / feed.out_range


def assert_near(y: np.ndarray, want: np.ndarray, what: str, bound: float = 1e-4) -> None:
    """Equal shapes, and the largest difference within `bound` of the largest number."""
    assert y.shape == want.shape, f"{what}: {y.shape} instead of {want.shape}"
    error = np.abs(y - want).max() / np.abs(want).max()
    assert error < bound, f"{what}: differs by {error:.2g} of the largest number"


def matches(
    module: Any, reading: int = 0, *, size: tuple[int, int] = (15, 18), stem: str = "net", arch: Any = None, channels: int = 3, scale: float = 0,
    run: Callable[[Any], Any] | None = None, colour: str | None = None, engine: bool = True, readings: int | None = None, bound: float = 1e-4,
) -> Graph:  # fmt: skip
    """Asserts that a reading of the module's weights computes what the module does, in NumPy and, where it can be lowered, in the C++ core.

    run: what the implementation makes of a picture in 0..1, with its range and mean; None for the module itself. Returns the reading.
    """
    all_readings = readings_of(module, stem, arch)
    if readings is not None:
        assert len(all_readings) == readings
    graph = all_readings[reading]
    p = picture(channels, *size)
    with torch.no_grad():
        want = (run or module)(torch.from_numpy(p.copy()))
    want = (want[-1] if isinstance(want, (tuple, list)) else want).numpy()
    if colour is None:
        colour = {1: "y", 3: "rgb"}.get(channels, "raw")
    assert graph.feed.colour == colour
    assert graph.meta["scale"] * graph.feed.pre_scale == (scale or want.shape[2] / size[0] * graph.feed.pre_scale)
    assert_near(fed(graph, p, lambda x: in_numpy(graph, x)), want, "NumPy", bound)
    if engine:
        run_lowered(graph, p, want, bound)
    return graph


def in_numpy(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The graph's first output, computed by the naive meaning of its operators."""
    return ops.run_graph(graph, {graph.inputs[0].name: x})[graph.outputs[0]]


def run_lowered(graph: Graph, p: np.ndarray, want: np.ndarray, bound: float) -> None:
    """The same in the C++ core."""
    model = Model(lower(passes.optimise(graph)), "cpu")
    assert_near(fed(graph, p, lambda x: np.asarray(model.run(x))), want, "C++ core", bound)


def refused(tensors: dict[str, np.ndarray] | Any, *words: str, stem: str = "net") -> str:
    """The message of the ModelError that graph_of raises, which has all the words."""
    given = tensors if isinstance(tensors, dict) else tensors_of(tensors)
    with pytest.raises(ModelError) as error:
        archs.graph_of(given, Path(f"{stem}.pth"))
    for word in words:
        assert word in str(error.value)
    return str(error.value)


class Balanced(torch.nn.Module):
    """Balanced attention as super-image has it."""

    def __init__(self, c: int, reduction: int = 4) -> None:
        super().__init__()
        nn = torch.nn
        self.ca, self.sa = nn.Module(), nn.Module()
        self.ca.fc1, self.ca.relu1, self.ca.fc2 = (
            nn.Conv2d(c, c // reduction, 1, bias=False),
            nn.PReLU(c // reduction),
            nn.Conv2d(c // reduction, c, 1, bias=False),
        )
        self.sa.conv1 = nn.Conv2d(1, 1, 7, padding=3, bias=False)

    def forward(self, x: Any) -> Any:
        channel = torch.sigmoid(self.ca.fc2(self.ca.relu1(self.ca.fc1(x.mean((2, 3), keepdim=True)))))
        return channel * torch.sigmoid(self.sa.conv1(x.max(1, keepdim=True)[0])) * x
