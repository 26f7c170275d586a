"""fastsr.train: a training that is killed goes on with the same bits; what is exported computes what was trained; what cannot be trained is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import HANGS
from pictures import drawn

import fastsr
from fastsr.cli import main
from fastsr.errors import FastsrError, ModelError
from fastsr.files import write_picture

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from torch.nn import functional as F  # noqa: E402, N812
from trainings import TINY, interrupt_at, job  # noqa: E402

from fastsr.train import export, measure, recipes, run, state, tuned  # noqa: E402
from fastsr.train.adversarial import Adversary  # noqa: E402
from fastsr.train.convert import GraphModule  # noqa: E402
from fastsr.train.loop import Pace  # noqa: E402
from fastsr.train.networks import registry  # noqa: E402
from fastsr.train.revive import revive  # noqa: E402

SMALL: dict[str, dict[str, Any]] = {
    "srcnn": {"widths": (8, 4)},
    "vdsr": {"layers": 7, "width": 8},
    "espcn": {"widths": (8, 4)},
    "fsrcnn": {"width": 10, "narrow": 4, "maps": 2},
    "fsrcnn-small": {},
    "fsrcnn-cv2": {},
    "fsrcnn-small-cv2": {},
    "hourglass": {"width": 8, "narrow": 4, "maps": 2},
    "plain": {"layers": 2, "width": 6},
    "autoencoder": {"width": 6},
    "edsr": {"blocks": 3, "width": 8},
    "srresnet": {"blocks": 2, "width": 8},
    "srvgg": {"layers": 2, "width": 8},
    "rrdb": {"blocks": 1, "width": 8, "growth": 4},
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        write_picture(folder / f"{k}.png", drawn(k))
    return folder


# ---- going on ----------------------------------------------------------------------------------------------------------------------------------


def arguments(photos: Path, out: Path, *more: str) -> list[str]:
    return ["train", *TINY.split(), "--data", str(photos), "--out", str(out), *more]


def command(photos: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fastsr", *arguments(photos, out, *more)]


def when_there(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + HANGS
    while not path.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupted_training_ends_with_the_same_bits(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.train(job(photos, tmp_path / "whole", pace=Pace(9)))
    interrupt_at(4, monkeypatch)
    first = run.train(job(photos, tmp_path / "parts", pace=Pace(9)))
    assert not first.done
    assert 4 <= first.steps < 9
    monkeypatch.undo()
    second = run.train(job(photos, tmp_path / "parts", pace=Pace(9)))
    assert second.done
    assert whole.weights is not None
    assert second.weights is not None
    assert whole.weights.read_bytes() == second.weights.read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_and_interrupted_training_ends_with_the_same_bits(photos: Path, tmp_path: Path) -> None:
    steps = ("--steps", "400", "--eval-steps", "400")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(photos, whole, *steps)) == 0
    first = subprocess.Popen(command(photos, parts, *steps, "--save-seconds", "0"))
    when_there(parts / "checkpoint.pt", first)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    reached = state.load(parts / "checkpoint.pt")["step"]
    second = subprocess.Popen(command(photos, parts, *steps, "--save-seconds", "0"), stderr=subprocess.PIPE)
    until = time.monotonic() + HANGS
    while state.load(parts / "checkpoint.pt")["step"] == reached and time.monotonic() < until:
        time.sleep(0.02)
    second.send_signal(signal.SIGINT)
    told = second.communicate()[1].decode()
    assert second.returncode == 130
    assert "the same command goes on from there" in told
    assert reached < state.load(parts / "checkpoint.pt")["step"] < 400
    assert main(arguments(photos, parts, *steps)) == 0
    assert (whole / "plain_x2.safetensors").read_bytes() == (parts / "plain_x2.safetensors").read_bytes()
    assert (whole / "plain_x2.fsr").read_bytes() == (parts / "plain_x2.fsr").read_bytes()


def test_training_of_other_settings_is_not_gone_on_with(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run.train(job(photos, tmp_path / "out"))
    assert done.done
    assert done.program is not None
    assert (tmp_path / "out" / "curve.csv").read_text().startswith("step,seconds,rate,loss,psnr\n3,")
    assert run.train(job(photos, tmp_path / "out")).steps == 3
    with pytest.raises(FastsrError, match=r"other settings \(seed\).*--restart"):
        run.train(job(photos, tmp_path / "out", seed=1))
    assert run.train(job(photos, tmp_path / "out", pace=Pace(steps=5), quiet=False)).steps == 5
    assert "going on at step 3 of 5, which were 3 before" in "".join(capsys.readouterr())
    with monkeypatch.context() as m:
        m.setattr(run, "_pictures", lambda job, report: pytest.fail("pictures were prepared before that was told"))
        with pytest.raises(FastsrError, match=r"other settings \(loss, scale\).*--restart"):
            run.train(job(photos, tmp_path / "out", scale=3, recipe=replace(job(photos, tmp_path).recipe, loss="mse"), pace=Pace(6)))
        with pytest.raises(FastsrError, match=r"has done 5 steps: --steps 4 is less"):
            run.train(job(photos, tmp_path / "out", pace=Pace(steps=4)))
    write_picture(photos / "3.png", drawn(3))
    with pytest.raises(FastsrError, match=r"other settings \(pictures\).*--restart"):
        run.train(job(photos, tmp_path / "out", pace=Pace(5)))
    assert run.train(job(photos, tmp_path / "out", seed=1, restart=True)).done
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(FastsrError, match="no checkpoint of a training, or damaged"):
        run.train(job(photos, tmp_path / "out"))


def test_minutes_become_steps(photos: Path, tmp_path: Path) -> None:
    outcome = run.train(job(photos, tmp_path / "out", pace=Pace(minutes=0.02)))
    assert outcome.done
    assert outcome.steps >= 10


@pytest.mark.parametrize(("arch", "colour", "degradation"), [("srresnet", "rgb", "photo"), ("espcn", "y", "photo"), ("srcnn", "y", "bicubic")])
def test_other_recipes_train(arch: str, colour: str, degradation: str, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    recipe = replace(recipes.RECIPES[arch], colour=colour, options=SMALL[arch], stages=recipes.fixed(16, 2), finish=0.5, loss="charbonnier")
    for k in range(3, 7):
        write_picture(photos / f"{k}.png", drawn(k))
    outcome = run.train(job(photos, tmp_path / "out", recipe=recipe, degradation=degradation, bf16=True, half=True))
    assert outcome.done
    assert outcome.psnr is not None
    assert np.isfinite(outcome.psnr)
    assert {p.name for p in (tmp_path / "out").glob("*_x2*")} == {f"{arch}_x2.safetensors", f"{arch}_x2_fp16.safetensors", f"{arch}_x2.fsr"}


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_fast_is_as_cheap_as_fsrcnn(scale: int) -> None:
    recipe = recipes.preset("fast", scale)
    assert recipe.arch == "hourglass"
    kernels = [v for v in run.make(recipe, scale, 0).shipped().values() if v.ndim == 4]
    assert 11000 < sum(k.numel() for k in kernels) <= 12464
    assert recipe.shape(0, 100) == (16, 24)
    assert recipe.shape(99, 100) == (8, 40)
    assert recipe.rate_at(0, 10000) < recipe.rate_at(300, 10000) > recipe.rate_at(9000, 10000) > 0


@pytest.mark.parametrize(("name", "least", "most"), [("balanced", 90_000, 100_000), ("best", 550_000, 650_000)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sizes_of_presets(name: str, least: int, most: int, scale: int) -> None:
    """And each can begin as one that is not larger."""
    recipe = recipes.preset(name, scale)
    assert recipe.arch == {"balanced": "hourglass", "best": "plain"}[name]
    network = run.make(recipe, scale, 0)
    assert least <= sum(t.numel() for t in network.shipped().values()) <= most
    smaller = run.make(recipe if name == "balanced" else replace(recipe, options={"width": 32, "layers": 10}), scale, 1)
    x = torch.rand(1, 1, 9, 11)
    network.adopt(smaller.shipped()) if name == "balanced" else network.grow(smaller.shipped())
    with torch.no_grad():
        torch.testing.assert_close(network(x), smaller(x), rtol=0, atol=1e-4)


def test_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"fastsr checkpoint": 1, "step": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(FastsrError, match="no checkpoint"):
        state.load(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()


# ---- networks and export -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("arch", list(SMALL))
def test_exported_network_computes_what_was_trained(arch: str, scale: int, tmp_path: Path) -> None:
    torch.manual_seed(scale)
    if arch == "rrdb" and scale == 3:
        with pytest.raises(ModelError, match="2 or 4"):
            registry()[arch](scale)
        return
    network = registry()[arch](scale, recipes.RECIPES[arch].colour, **SMALL[arch])
    with torch.no_grad():
        for p in network.parameters():
            p += 0.02 * torch.randn_like(p)
    path = tmp_path / f"{arch}_x{scale}.safetensors"
    program, error, _ = export.export(network, path)
    assert error <= export.TOLERANCE
    model = fastsr.load(program)
    assert (model.scale, model.feed.colour, model.feed.fine) == (scale, network.colour, network.colour == "y")
    picture = drawn(5, 20, 24)
    assert model.upscale(picture).shape == (20 * scale, 24 * scale, 3)


@pytest.mark.parametrize(("arch", "colour"), [("plain", "y"), ("plain", "rgb"), ("edsr", "rgb"), ("fsrcnn-cv2", "y"), ("espcn", "y")])
def test_shipped_weights_are_taken_back_and_load_alone(arch: str, colour: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, other = (registry()[arch](2, colour, **SMALL[arch]) for _ in range(2))
    x = torch.rand(1, network.channels, 12, 14)
    other.adopt(network.shipped())
    with torch.no_grad():
        assert float((network(x) - other(x)).abs().max()) < 1e-5
    if arch in ("plain", "edsr"):
        with torch.no_grad():
            assert float(sum(v.abs().sum() for v in network.shipped().values())) > 0
        path = tmp_path / "network_x2.npz"
        export.save_weights(network, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            program = fastsr.load(path).program
        p = export.probe_picture(network)
        with torch.no_grad():
            assert export.difference(program, p, network(torch.from_numpy(p)).numpy()) < export.TOLERANCE
    with pytest.raises(ModelError, match="another architecture"):
        other.adopt({"conv.weight": torch.zeros(1)})


def test_channels_that_are_zero_are_drawn_anew() -> None:
    torch.manual_seed(0)
    network, shadow = registry()["espcn"](2, "y"), registry()["espcn"](2, "y")
    for one in (network, shadow):
        with torch.no_grad():
            one.conv1.bias[3], one.conv2.bias[7] = -100.0, -100.0
    x = torch.rand(2, 1, 9, 10)
    before = network(x), shadow(x)
    assert revive(network, shadow, x, 5) == 2
    for now, was in zip((network(x), shadow(x)), before, strict=True):
        torch.testing.assert_close(now, was)
    assert F.relu(network.conv1(x))[:, 3].max() > 0
    assert torch.equal(network.conv1.weight[3], shadow.conv1.weight[3])
    assert revive(network, shadow, x, 6) == 0
    network(x).square().mean().backward()
    assert network.conv2.weight.grad[:, 3].abs().max() > 0
    recipe = replace(recipes.RECIPES["espcn"], revive=10)
    assert [s for s in range(60) if recipe.revives_at(s, 60)] == [0, 10, 20, 30, 40]
    assert not recipes.RECIPES["plain"].revives_at(0, 60)


def test_branches_collapse_exactly() -> None:
    from fastsr.train.branches import Branches

    torch.manual_seed(0)
    block = Branches(4, 4, 2, identity=True).double()
    with torch.no_grad():
        for p in block.parameters():
            p.copy_(torch.randn_like(p))
    x = torch.rand(1, 4, 9, 10, dtype=torch.float64)
    block.requires_grad_(False)
    kernel, bias = block.merged()
    inside = torch.nn.functional.conv2d(x, kernel, bias)
    wide = torch.einsum("mi,niyx->nmyx", block.k0, x) + block.b0[:, None, None]
    squeezed = torch.nn.functional.conv2d(wide, block.k1.view(4, -1, 3, 3), block.b1)
    want = torch.nn.functional.conv2d(x, block.conv3x3.weight, block.conv3x3.bias) + squeezed + x[:, :, 1:-1, 1:-1]
    assert float((inside - want).abs().max()) < 1e-12


def test_half_weights_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = registry()["plain"](2, "y", **SMALL["plain"])
    export.save_weights(network, tmp_path / "plain_x2.safetensors", half=True)
    export.save_weights(network, tmp_path / "whole_x2.safetensors")
    assert (tmp_path / "plain_x2.safetensors").stat().st_size < (tmp_path / "whole_x2.safetensors").stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        a, b = (fastsr.load(tmp_path / f"{n}_x2.safetensors").upscale(drawn(3)) for n in ("plain", "whole"))
    assert np.abs(a.astype(int) - b).max() <= 1


# ---- fine-tuning -------------------------------------------------------------------------------------------------------------------------------

MODELS = ("tensorflow/FSRCNN_x3.pb", "tensorflow/LapSRN_x2.pb", "keras/SRCNN_915_weights.h5", "torch/realesr-animevideov3.safetensors",
          "onnx/ESPCN_x3_pytorch_tutorial.onnx", "torch/SRGAN_leftthomas_x4.pth", "keras/RDN_x2_full_model.h5")  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_graph_as_module_computes_the_same(name: str, shared: Path) -> None:
    from fastsr import importers, passes

    path = shared / "models" / name
    if not path.exists():
        pytest.skip(f"{name} is absent")
    graph = passes.optimise(importers.load_graph(path))
    module = GraphModule(graph)
    x = (np.random.default_rng(0).random((1, graph.inputs[0].channels, 18, 20)) * graph.feed.range).astype(np.float32)
    want = fastsr.load(path).run(x)
    with torch.no_grad():
        got = module(torch.from_numpy(x)).numpy()
    assert isinstance(want, np.ndarray)
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
    assert len(module.places) == len(list(module.parameters())) > 0


def test_finetune_writes_a_better_model(photos: Path, shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / "tensorflow" / "ESPCN_x2.pb"
    if not path.exists():
        pytest.skip("ESPCN_x2.pb is absent")
    for k in range(3, 9):
        write_picture(photos / f"{k}.png", drawn(k))
    network = tuned.load(path)
    recipe = replace(tuned.recipe_for(network, 2), stages=recipes.fixed(16, 8), rate=5e-4)
    out = tmp_path / "out"
    outcome = run.train(job(photos, out, recipe=recipe, network=network, init=path, pace=Pace(60)))
    before = float((out / "curve.csv").read_text().splitlines()[1].split(",")[4])
    assert outcome.psnr is not None
    assert outcome.psnr > before + 0.05
    facts = json.loads((out / "training.json").read_text())
    assert (facts["steps"], facts["psnr"], facts["settings"]["init"]) == (60, outcome.psnr, path.name)
    assert facts["before"] == pytest.approx(before, abs=0.01)
    assert outcome.program is not None
    assert outcome.weights is not None
    results = [fastsr.load(p).upscale(drawn(0)) for p in (outcome.program, outcome.weights)]
    assert results[0].shape == (144, 160, 3)
    assert (results[0] == results[1]).all()
    assert fastsr.load(outcome.program).feed.fine and fastsr.load(outcome.weights).feed.fine


def test_quantised_networks_are_refused(shared: Path) -> None:
    path = shared / "models" / "tflite" / "base7_x3_int8_qat.tflite"
    if not path.exists():
        pytest.skip("base7_x3_int8_qat.tflite is absent")
    with pytest.raises(ModelError, match="QuantizeLinear"):
        tuned.load(path)


# ---- bad input ---------------------------------------------------------------------------------------------------------------------------------


def test_bad_input_is_told(photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run.train(job(tmp_path / "nowhere", out))
    with pytest.raises(FastsrError, match="holds no pictures"):
        run.train(job(empty, out))
    write_picture(empty / "small.png", drawn(0, 9, 9))
    (empty / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(FastsrError, match="none of 2 pictures can be used for training"):
        run.train(job(empty, out))
    with pytest.raises(FastsrError, match="scale 9"):
        recipes.recipe_of("espcn", None, 9)
    with pytest.raises(FastsrError, match="choose one of srcnn"):
        recipes.recipe_of("resnet", None, 2)
    with pytest.raises(FastsrError, match="unexpected keyword argument 'depth'"):
        run.train(job(photos, out, recipe=recipes.Recipe("espcn", options={"depth": 3}, stages=recipes.fixed(8, 2))))
    with pytest.raises(FastsrError, match="safetensors"):
        run.train(job(photos, out, init=photos / "0.png"))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit of file sizes")
def test_full_disk_is_told(photos: Path, tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    out = tmp_path / "out"
    done = subprocess.run(command(photos, out, "--steps", "3"), capture_output=True, timeout=HANGS, preexec_fn=limit)
    assert done.returncode == 1
    assert b"error: cannot write" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not list(out.glob("*.part"))


# ---- quality -----------------------------------------------------------------------------------------------------------------------------------


def test_bicubic_is_that_of_the_papers(shared: Path) -> None:
    from fastsr.train.pictures import list_pictures, open_store

    pairs = open_store(list_pictures(shared / "images" / "Set5"), 2, "y", least=8).pairs
    assert measure.bicubic_score(pairs, 2) == pytest.approx(33.66, abs=0.03)


@pytest.mark.slow
def test_twenty_pictures_and_ten_minutes_beat_bicubic(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twenty"
    folder.mkdir()
    for path in sorted((shared / "photos").glob("*.jpg"))[::12][:20]:
        (folder / path.name).symlink_to(path)
    recipe = recipes.preset("fast", 2)
    outcome = run.train(job(folder, tmp_path / "out", recipe=recipe, valid=shared / "images" / "Set5", pace=Pace(2500, 8.0)))
    assert outcome.psnr is not None
    assert outcome.bicubic is not None
    assert outcome.psnr > outcome.bicubic + 1.5


# ---- against a discriminator -------------------------------------------------------------------------------------------------------------------


def adversarial_job(photos: Path, out: Path, **changes: Any) -> run.Job:
    recipe = replace(recipes.against(recipes.Recipe("plain", options={"width": 4, "layers": 1})), stages=recipes.fixed(16, 2))
    return job(photos, out, recipe=recipe, **changes)


def test_adversarial_training_goes_on_with_the_same_bits(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.train(adversarial_job(photos, tmp_path / "whole", pace=Pace(5)))
    interrupt_at(2, monkeypatch)
    assert not run.train(adversarial_job(photos, tmp_path / "parts", pace=Pace(5))).done
    monkeypatch.undo()
    second = run.train(adversarial_job(photos, tmp_path / "parts", pace=Pace(5)))
    assert whole.weights is not None
    assert second.weights is not None
    assert whole.weights.read_bytes() == second.weights.read_bytes()
    plain = run.train(job(photos, tmp_path / "plain", recipe=replace(adversarial_job(photos, tmp_path).recipe, adversarial=0.0), pace=Pace(5)))
    assert plain.weights is not None
    assert plain.weights.read_bytes() != whole.weights.read_bytes()


def test_the_discriminator_learns_to_tell(photos: Path) -> None:
    """Blurred pictures from sharp ones; and the network's loss has a gradient that leaves the discriminator alone."""
    adversary = Adversary(1, replace(recipes.against(recipes.RECIPES["plain"]), judge=1e-3), 0, "cpu", width=8)
    sharp = torch.rand(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    for _ in range(40):
        adversary.learn(blurred, sharp, 1e-3)
    with torch.no_grad():
        assert float(adversary.net(sharp)[0].mean()) > 0.5 + float(adversary.net(blurred)[0].mean())
    y = blurred.clone().requires_grad_()
    loss = adversary.loss(y, sharp)
    loss.backward()
    assert y.grad is not None
    assert float(y.grad.abs().max()) > 0
    before = [p.detach().clone() for p in adversary.net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, adversary.net.parameters(), strict=True))
    assert float(adversary.loss(sharp.clone(), sharp)) < float(loss.detach())


def test_adversarial_training_needs_weights_to_begin_with(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(photos, tmp_path / "out"), "--adversarial"]) == 2
    assert "--init" in capsys.readouterr().err
