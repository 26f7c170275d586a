"""`fastsr finetune --prune`: channels are judged by PyTorch, what is written is smaller and was trained, a training goes on with the same network."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from graphs import Builder

import fastsr
from fastsr import evaluation, fsr, passes, prune
from fastsr.cli import main
from fastsr.errors import ModelError
from fastsr.files import write_picture
from fastsr.graph import Feed
from fastsr.lower import lower

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from trainings import noisy_patches  # noqa: E402

from fastsr.train import pruned, recipes, tuned  # noqa: E402


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network that makes each pixel four, with 32 channels; half of them count little."""
    b = Builder(1, 2)
    x = b.op("Relu", b.conv("x", 1, 32, pads=[1] * 4))
    x = b.op("PRelu", b.conv(x, 32, 16, 1), b.const(np.full((16, 1, 1), 0.25)))
    graph = b.done(b.op("DepthToSpace", b.conv(x, 16, 4, pads=[1] * 4), blocksize=2))
    first, last = (graph.constants[graph.nodes[k].inputs[1]] for k in (2, 4))
    first[:, ::2] *= 1e-3
    last *= 0.05
    graph.feed = Feed("y")
    fsr.save(lower(passes.optimise(graph)), tmp_path / "net.fsr")
    return tmp_path / "net.fsr"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(7):
        rough = np.random.default_rng(k).uniform(0, 255, (9, 9, 3))
        write_picture(folder / f"{k}.png", np.kron(rough, np.ones((8, 8, 1))).astype(np.uint8))
    return folder


def test_judged_is_what_the_values_are(model: Path) -> None:
    network = tuned.load(model)
    found = pruned.judged(network, noisy_patches())
    again = pruned.judged(network, noisy_patches())
    for layer in prune.Channels(network.module.graph).layers:
        assert (found.sensitivity[layer.node.output] > 0).any()
        assert (found.sensitivity[layer.node.output] == again.sensitivity[layer.node.output]).all()
    seen: dict[str, torch.Tensor] = {}
    network.module.watch = lambda name, value: seen.update({name: value.detach()})
    batches = pruned.PATCHES // pruned.AT_ONCE
    x = torch.from_numpy(np.concatenate([noisy_patches().batch(k, pruned.AT_ONCE, pruned.EDGE).small for k in range(batches)]))
    network(x.float() / 255)
    for name, moments in found.moments.items():
        flat = seen[name].transpose(0, 1).flatten(1).double().numpy()
        assert np.allclose(moments.mean, flat.mean(1), atol=1e-5)
        assert np.allclose(moments.covariance, np.cov(flat, bias=True), atol=1e-4)
        assert moments.count == flat.shape[1]


def test_channels_that_count_little_go_first(model: Path) -> None:
    network = tuned.load(model)
    channels, gone = prune.removed(network.module.graph, 0.2, pruned.judged(network, noisy_patches()))
    layer = channels.layers[0]
    assert {k % 2 for k, c in enumerate(layer.makes.tolist()) if c in gone} == {0}


def command(model: Path, photos: Path, out: Path, *more: str) -> list[str]:
    options = ["--prune", "0.5", "--steps", "40", "--cache", "ram", "-j", "1", "--bf16", "off"]
    return ["finetune", str(model), "--data", str(photos), "--out", str(out), *options, *more]


def test_the_command(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(command(model, photos, out)) == 0
    text = capsys.readouterr().err
    old, new = fsr.load(model), fsr.load(out / "net-pruned.fsr")
    assert evaluation.multiply_adds_of(new) <= 0.5 * evaluation.multiply_adds_of(old)
    for of, what in ((evaluation.multiply_adds_of, "multiply-adds a pixel"), (evaluation.parameters_of, "parameters")):
        assert f"{what}: {of(old):.0f} before pruning, {of(new):.0f} after" in text
    assert "dB before pruning," in text
    assert "on held-out pictures" in text
    curve = [line.split(",") for line in (out / "curve.csv").read_text().splitlines()[1:]]
    assert float(curve[-1][4]) > float(curve[0][4])
    results = [fastsr.load(out / f"net-pruned.{s}").upscale(np.zeros((16, 20), np.uint8)) for s in ("fsr", "onnx")]
    assert results[0].shape == (32, 40)
    assert (results[0] == results[1]).all()


def test_going_on_keeps_the_network(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(model, photos, out)) == 0
    first = (out / "net-pruned.fsr").read_bytes()
    with monkeypatch.context() as m:
        m.setattr(pruned, "judged", lambda network, patches: pytest.fail("judged again"))
        assert main(command(model, photos, out)) == 0
    assert (out / "net-pruned.fsr").read_bytes() == first
    capsys.readouterr()
    assert main(command(model, photos, out, "--prune", "0.3")) == 1
    assert "other settings (prune)" in capsys.readouterr().err
    assert main(command(model, photos, out, "--restart")) == 0
    assert (out / "net-pruned.fsr").read_bytes() == first


@pytest.mark.parametrize("share", ["0", "1", "-1", "half", "nan"])
def test_shares_out_of_range_are_told(model: Path, photos: Path, tmp_path: Path, share: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(model, photos, tmp_path / "out", "--prune", share)) == 2
    assert "a share between 0 and 1 is needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_share_that_cannot_be_is_told(model: Path) -> None:
    network = tuned.load(model)
    with pytest.raises(ModelError, match="can be pruned: ask for less"):
        prune.prune(network.module.graph, 0.99, pruned.judged(network, noisy_patches()))


def test_recipes(model: Path) -> None:
    plain = tuned.recipe_for(tuned.load(model), 2)
    assert plain.optimiser == "adam"
    for name in (None, *recipes.OPTIMISERS):
        recipe = pruned.recipe_for(copy.deepcopy(plain), name)
        assert recipe.optimiser == (name or "soap")
        assert recipe.rate == pruned.RATES[recipe.optimiser] > plain.rate
        assert recipe.steps > plain.steps


def test_the_optimiser_can_be_chosen(model: Path, photos: Path, tmp_path: Path) -> None:
    steps = ["--steps", "20", "--cache", "ram", "-j", "1", "--bf16", "off"]
    curves = []
    for name in recipes.OPTIMISERS:
        out = tmp_path / name
        assert main(["finetune", str(model), "--data", str(photos), "--out", str(out), *steps, "--optimiser", name]) == 0
        curves.append((out / "curve.csv").read_text().splitlines()[-1].split(",")[3])
    assert curves[0] != curves[1]
    assert not json.dumps(curves).count("nan")
