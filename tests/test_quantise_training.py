"""finetune --int8: training with the rounding of a quantised network in place."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import drawn
from test_quantise import calibration_of, chain, luma, made, naive

import fastsr
from fastsr import levels, quantise
from fastsr.cli import main
from fastsr.files import write_picture
from fastsr.model import load_program, save_program

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from fastsr.train import measure, recipes, tuned  # noqa: E402
from fastsr.train.batches import Patches  # noqa: E402
from fastsr.train.convert import GraphModule  # noqa: E402
from fastsr.train.loop import Pace, Trainer  # noqa: E402
from fastsr.train.networks import registry  # noqa: E402
from fastsr.train.pictures import Pair, pair, smaller  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def pairs(first: int, count: int) -> list[Pair]:
    return [Pair(str(k), *pair(drawn(k, 96, 112), 2, "y")) for k in range(first, first + count)]


def trained_espcn(steps: int = 100) -> Any:
    """A small ESPCN that has learnt a little."""
    torch.manual_seed(0)
    network = registry()["espcn"](2, "y", widths=(12, 8))
    recipe = recipes.Recipe("espcn", optimiser="adam", rate=3e-3, exact=1.0, ema=0.9, stages=recipes.fixed(16, 8))
    trainer = Trainer(network, recipe, Patches(pairs(0, 4), 2, 0), "cpu", False, {})
    run(trainer, steps)
    return trainer.shadow


def run(trainer: Trainer, steps: int) -> None:
    trainer.plan(Pace(steps))
    for batch in trainer.patches.batches(0, steps, lambda step: trainer.recipe.shape(step, steps)):
        trainer.advance(batch)


@pytest.fixture(scope="module")
def espcn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fastsr.train.export import export

    path, *_ = export(trained_espcn(), tmp_path_factory.mktemp("espcn") / "espcn_x2.safetensors")
    return path


def test_module_computes_what_the_graph_does() -> None:
    graph = made(chain())
    module = GraphModule(graph)
    x = calibration_of(graph)[0]
    with torch.no_grad():
        got = module(torch.from_numpy(x)).numpy()
    want = naive(graph, x)
    off = np.abs(got - want)
    assert np.mean(off > 1e-5 * np.abs(want).max()) < 0.1 and off.max() < 0.05 * np.abs(want).max()
    weights = [n.inputs[0] for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] in graph.constants]
    assert set(weights) <= set(module.places)
    assert module.trained().dump() == graph.dump()


def test_gradient_passes_the_rounding_but_not_the_cut() -> None:
    graph = made(chain())
    scale = float(graph.constants[next(n for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] == "x").inputs[1]])
    node = next(n for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] == "x")
    from fastsr.train.convert import operators

    x = torch.tensor([-0.5, 0.3 * scale, 100.4 * scale, 2.0], requires_grad=True)
    y = operators()["QuantizeLinear"](node, [x, torch.tensor(scale)], graph)
    assert y.tolist() == [0, 0, 100, 255]
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy() * scale, [0, 1, 1, 0], rtol=1e-6)


def test_training_gains_and_stays_quantised(espcn: Path, tmp_path: Path) -> None:
    """Coarse rounding (activations of the hidden layers at a few levels) loses much, and training wins most of it back."""
    network = tuned.load(espcn)
    patches = Patches(pairs(0, 4), 2, 0)
    rounded = tuned.quantised(network, patches, 1)
    assert rounded.quantised and not network.quantised
    graph = rounded.module.graph
    for node in graph.nodes:
        if node.op == "QuantizeLinear" and node.inputs[0] not in graph.constants and node.inputs[0] != graph.inputs[0].name:
            graph.constants[node.inputs[1]] = graph.constants[node.inputs[1]] * np.float32(24)
    coarse = tuned.Tuned(GraphModule(graph), 2)
    valid = pairs(10, 2)
    floats, before = measure.mean_score(network, valid), measure.mean_score(coarse, valid)
    assert before < floats - 0.1
    recipe = replace(tuned.recipe_for(coarse, 2, int8=True), rate=1e-3, warmup=10, ema=0.9, stages=recipes.fixed(16, 8))
    trainer = Trainer(copy.deepcopy(coarse), recipe, patches, "cpu", False, {})
    run(trainer, 80)
    after = measure.mean_score(trainer.shadow, valid)
    assert after > before + 0.4 * (floats - before)
    program, onnx, error = tuned.save(trainer.shadow, tmp_path / "q")
    assert error < tuned.LEVELS_TOLERANCE
    for path in (program, onnx):
        read = load_program(path)
        assert sum(levels.integer_convs(read)) == 3
    small = smaller(drawn(12, 96, 112), 2)
    results = [fastsr.load(p, "reference").upscale(small) for p in (program, onnx)]
    np.testing.assert_array_equal(results[0], results[1])


def test_quantised_on_patches_is_what_quantise_makes(espcn: Path) -> None:
    network = tuned.load(espcn)
    patches = Patches(pairs(0, 3), 2, 0)
    a, b = (tuned.quantised(network, patches, 1).module.graph for _ in range(2))
    assert a.dump() == b.dump() and all(np.array_equal(a.constants[k], b.constants[k]) for k in a.constants)
    given = measure.given(torch.from_numpy(patches.batch(0, tuned.CALIBRATION_PATCHES, 48).small), network).numpy()
    want = quantise.quantise(network.module.graph, [given], threads=1)
    assert a.dump() == want.dump() and all(np.array_equal(a.constants[k], want.constants[k]) for k in want.constants)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastsr.train.export import export

    espcn, *_ = export(trained_espcn(200), tmp_path / "espcn_x2.safetensors")  # so far that 20 steps change little
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(8):
        write_picture(photos / f"{k}.png", drawn(k, 96, 112))
    out = tmp_path / "out"
    command = ["finetune", str(espcn), "--data", str(photos), "--int8", "--steps", "20", "-o", str(out), "-j", "1"]
    assert main(command) == 0
    told = "".join(capsys.readouterr())
    assert "in floats:" in told and "rounded to 8 bits, before:" in told and "the network in floats" in told
    program = load_program(out / "espcn_x2-int8.fsr")
    assert sum(levels.integer_convs(program)) == 3
    x = luma(0)
    near = fastsr.Model(program, "reference").run(x), fastsr.load(espcn, "reference").run(x)
    assert np.sqrt(np.mean((near[0] - near[1]) ** 2)) < 0.06
    assert main(["finetune", str(out / "espcn_x2-int8.fsr"), "--data", str(photos), "--int8", "-o", str(tmp_path / "b"), "-j", "1"]) == 1
    assert "is quantised" in capsys.readouterr().err


def test_what_was_exported_can_be_saved_again(espcn: Path, tmp_path: Path) -> None:
    program = quantise.program_of(quantise.quantise(tuned.load(espcn).module.graph, [luma(1)], threads=1))
    save_program(program, tmp_path / "a.fsr")
    assert load_program(tmp_path / "a.fsr").dump() == program.dump()
