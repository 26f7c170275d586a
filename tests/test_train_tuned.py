"""Networks of others as PyTorch modules: all that cannot be trained is told before the training, and what the engine computes is what is trained."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Builder
from pictures import drawn

from fastsr import evaluation, fsr, passes, prune
from fastsr.cli import main
from fastsr.errors import ModelError, PictureError
from fastsr.files import write_picture
from fastsr.graph import Feed, Graph
from fastsr.lower import lower

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from trainings import interrupt_at, job, noisy_patches  # noqa: E402

from fastsr.train import measure, pruned, recipes, run, tuned  # noqa: E402
from fastsr.train.loop import Pace  # noqa: E402

SAME = {"pads": [1, 1, 1, 1]}


def saved(graph: Graph, path: Path, feed: Feed | None = None) -> Path:
    graph.feed = feed or Feed("y")
    fsr.save(lower(passes.optimise(graph)), path)
    return path


def shuffled(b: Builder, x: str, channels: int, block: int = 2, **attrs: Any) -> str:
    """The end of a network: a convolution and a pixel shuffle."""
    return b.op("DepthToSpace", b.conv(x, channels, block * block, 3, **attrs), blocksize=block)


@pytest.mark.parametrize("more", [[], ["--prune", "0.5"], ["--int8"]])
def test_filters_have_nothing_to_train(more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no folder of pictures is needed to be told so, nor is one made for results."""
    assert main(["finetune", "bicubic", "--data", str(tmp_path), "-o", str(tmp_path / "out"), *more]) == 1
    assert "'bicubic': there are no weights in it that could be trained" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_constant_pads_have_their_value(value: float, tmp_path: Path) -> None:
    b = Builder(1)
    graph = b.done(shuffled(b, b.pad("x", 1, 1, 1, 1, value=value), 1))
    network = tuned.load(saved(graph, tmp_path / "net.fsr"))
    assert tuned.disagreement(network, fsr.load(tmp_path / "net.fsr")) < 1e-5


@pytest.mark.parametrize(
    ("attrs", "told"),
    [({"mode": "cubic"}, ""), ({"mode": "linear"}, ""), ({"mode": "nearest"}, ""), ({"mode": "cubic", "exclude_outside": 1}, "mode 'cubic'"),
     ({"mode": "cubic", "cubic_coeff_a": -0.5}, "mode 'cubic'"),
     ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, "align_corners"),
     ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"}, "differs from the engine's")],
)  # fmt: skip
def test_resizing_that_pytorch_does_otherwise_is_told(attrs: dict[str, Any], told: str, tmp_path: Path) -> None:
    b = Builder(1)
    large = b.op("Resize", b.conv("x", 1, 4, **SAME), "", b.const(np.array([1, 1, 2, 2], np.float32)), **attrs)
    path = saved(b.done(b.conv(large, 4, 1, **SAME)), tmp_path / "net.fsr")
    if not told:
        assert tuned.load(path).scale == 2
        return
    with pytest.raises(ModelError, match=told) as e:
        tuned.load(path)
    assert "net.fsr" in str(e.value)


def test_pads_that_pytorch_lacks_are_told(tmp_path: Path) -> None:
    b = Builder(1)
    path = saved(b.done(shuffled(b, b.pad("x", 1, 1, 1, 1, "symmetric"), 1)), tmp_path / "net.fsr")
    with pytest.raises(ModelError, match=r"net\.fsr'.*Pad of mode 'symmetric'"):
        tuned.load(path)


def test_only_what_makes_the_first_result_is_trained(tmp_path: Path) -> None:
    b = Builder(1, 4)
    x = b.op("Relu", b.conv("x", 1, 8, **SAME))
    first = shuffled(b, x, 8, **SAME)
    second = shuffled(b, b.op("Relu", b.conv(x, 8, 8, **SAME)), 8, **SAME)
    network = tuned.load(saved(b.done(first, second), tmp_path / "net.fsr"))
    assert [tuple(p.shape) for p in network.parameters()] == [(8, 1, 3, 3), (8,), (4, 8, 3, 3), (4,)]
    found = prune.prune(network.module.graph, 0.3, pruned.judged(network, noisy_patches()))
    assert len(found.outputs) == 1


def test_picked_channels_stay_picked(tmp_path: Path) -> None:
    """The convolutions that lowering makes of slices cost nothing; with weights near 0 and 1 they would."""
    b = Builder(1, 3)
    x = b.op("Relu", b.conv("x", 1, 8, **SAME))
    halves = [b.op("Conv", x, b.const(w)) for w in np.eye(8)[:, :, None, None].reshape(2, 4, 8, 1, 1)]
    x = b.op("Concat", b.op("Relu", b.conv(halves[0], 4, 4, **SAME)), halves[1], axis=1)
    path = saved(b.done(shuffled(b, x, 8, **SAME)), tmp_path / "net.fsr")
    before = evaluation.multiply_adds_of(fsr.load(path))
    network = tuned.load(path)
    x = torch.rand(1, 1, 12, 14, generator=torch.Generator().manual_seed(0))
    network(x).square().mean().backward()
    with torch.no_grad():
        for p in network.parameters():
            assert p.grad is not None
            p -= 1e-3 * p.grad
    assert len(list(network.parameters())) == 6
    assert evaluation.multiply_adds_of(network.program()) == before


def test_pictures_of_other_edges_than_the_network_takes_are_told(tmp_path: Path) -> None:
    b = Builder(1)
    network = tuned.load(saved(b.done(shuffled(b, b.op("SpaceToDepth", "x", blocksize=4), 16, 8, **SAME)), tmp_path / "net.fsr"))
    assert measure.result(network, np.zeros((1, 20, 24), np.uint8)).shape == (1, 40, 48)
    with pytest.raises(PictureError, match=r"edges divisible by 4.* 23x20"):
        measure.result(network, np.zeros((1, 20, 23), np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(7):
        write_picture(folder / f"{k}.png", drawn(k))
    return folder


def tuning(path: Path, photos: Path, out: Path, **changes: Any) -> run.Job:
    network = tuned.load(path)
    recipe = replace(tuned.recipe_for(network, 2, bool(changes.get("int8"))), stages=recipes.fixed(8, 2))
    return job(photos, out, **{"recipe": recipe, "network": network, "init": path, "pace": Pace(6), **changes})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    b = Builder(1, 7)
    return saved(b.done(shuffled(b, b.op("Relu", b.conv("x", 1, 16, **SAME)), 16, **SAME)), tmp_path / "net.fsr")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", [{}, {"int8": True}, {"prune": 0.4}], ids=["floats", "int8", "pruned"])
def test_interrupted_tuning_ends_with_the_same_bits(how: dict[str, Any], model: Path, photos: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    whole = run.train(tuning(model, photos, tmp_path / "whole", **how))
    interrupt_at(3, monkeypatch)
    assert not run.train(tuning(model, photos, tmp_path / "parts", **how)).done
    monkeypatch.undo()
    second = run.train(tuning(model, photos, tmp_path / "parts", **how))
    assert second.done
    assert whole.psnr is not None
    for a, b in ((whole.program, second.program), (whole.weights, second.weights)):
        assert a is not None
        assert b is not None
        assert a.read_bytes() == b.read_bytes()


def test_with_nothing_to_measure_on_there_is_no_psnr(model: Path, photos: Path, tmp_path: Path) -> None:
    for k in range(3, 7):
        (photos / f"{k}.png").unlink()
    outcome = run.train(tuning(model, photos, tmp_path / "out"))
    assert outcome.done
    assert outcome.psnr is outcome.bicubic is None
