"""What `fastsr train` is given: pictures and folders that get in its way, options, devices and weights that cannot be used are told or coped with."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import noise

from fastsr import fsr, shipped
from fastsr.cli import main
from fastsr.errors import FastsrError
from fastsr.files import write_picture
from fastsr.model import load_program

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from trainings import TINY, interrupt_at, job  # noqa: E402

from fastsr.train import leakage, loop, measure, pictures, recipes, run, state  # noqa: E402
from fastsr.train.export import safetensors_bytes  # noqa: E402
from fastsr.train.loop import Pace, Trainer  # noqa: E402
from fastsr.train.report import Report  # noqa: E402

TWO_STEPS = f"{TINY} --steps 2 --quiet"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        write_picture(folder / f"{k}.png", noise(k))
    return folder


# ---- pictures ----------------------------------------------------------------------------------------------------------------------------------


def test_one_cache_of_two_folders(tmp_path: Path) -> None:
    """Files of the same names and sizes."""
    found = []
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        write_picture(tmp_path / str(k) / "a.bmp", noise(k))
        found.append(pictures.open_store([tmp_path / str(k) / "a.bmp"], 2, "rgb", least=8, cache=tmp_path / "cache"))
    assert not np.array_equal(found[0][0].large, found[1][0].large)
    assert found[0].mark != found[1].mark


def test_one_cache_filled_by_several_at_once(photos: Path, tmp_path: Path) -> None:
    files = pictures.list_pictures(photos)
    stores: list[Any] = []
    together = threading.Barrier(6)

    def make() -> None:
        together.wait()
        try:
            stores.append(pictures.open_store(files, 2, "rgb", least=8, cache=tmp_path / "cache"))
        except BaseException as e:
            stores.append(e)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [len(s) for s in stores] == [3] * 6
    assert [p.name[0] for p in (tmp_path / "cache").iterdir()] == ["r"]


def test_thin_pictures_beside_pictures_to_exclude(photos: Path, tmp_path: Path) -> None:
    for h, w in ((2, 1000), (1000, 1), (1, 1)):
        write_picture(photos / f"thin{h}x{w}.png", noise(9, h, w))
        assert leakage.Sums(noise(9, h, w)).size[0] >= 1
    other = tmp_path / "excluded"
    other.mkdir()
    write_picture(other / "thin.png", noise(8, 2, 900))
    write_picture(other / "a.png", noise(7))
    assert run.train(job(photos, tmp_path / "out", exclude=(other,))).done


def test_what_a_training_writes_is_not_trained_on(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = photos / "out"
    first = run.train(job(photos, inside, keep_cache=True))
    write_picture(inside / "curve.png", noise(5))
    second = run.train(job(photos, inside, keep_cache=True, quiet=False))
    assert first.steps == second.steps == 3
    assert "3 pictures" in capsys.readouterr().err
    assert run.train(job(photos, photos.parent, pace=Pace(1))).done  # pictures inside the folder for results


def test_broken_and_flat_held_out_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "00.png").write_bytes(b"no picture")
    for k in range(1, 12):
        write_picture(folder / f"{k:02}.png", noise(k))
    outcome = run.train(job(folder, tmp_path / "out", quiet=False))
    assert "skipped: '00.png'" in (told := capsys.readouterr().err)
    assert "10 pictures" in told
    assert outcome.psnr is not None
    write_picture(folder / "00.png", np.full((64, 64, 3), 90, np.uint8))
    assert run.train(job(folder, tmp_path / "flat")).psnr is None
    assert json.loads((tmp_path / "flat" / "training.json").read_text())["psnr"] is None


# ---- the folder for results --------------------------------------------------------------------------------------------------------------------


def test_two_trainings_in_one_folder(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with state.alone(out), pytest.raises(FastsrError, match="another training writes to"):
        run.train(job(photos, out))
    assert run.train(job(photos, out)).done


# ---- options and devices -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [("--seed -1", "a number from 0"), ("--seed 5000000000", "a number from 0"), ("--device gpu", "device 'gpu': choose cpu"),
     ("--device cpu:3", "device 'cpu:3': choose cpu"), ("--device meta", "choose cpu"), ("--option width=0", "width=0: a number from 1"),
     ("--option act=foo", "act=foo: choose prelu or relu"), ("--option width=abc", "cannot be made with the options"),
     ("--option depth=3", "cannot be made with the options"), ("--save-seconds nan", "a number of seconds"),
     ("--save-seconds -1", "a number of seconds"), ("--finish 1.5", "a share from 0 to 1"), ("--choice 0", "")],
)  # fmt: skip
def test_options_that_cannot_be(photos: Path, tmp_path: Path, words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", *TWO_STEPS.split(), "--data", str(photos), "--out", str(tmp_path / "out"), *words.split()]
    try:
        code = main(arguments)
    except SystemExit as e:
        code = int(str(e.code))
    assert code in (1, 2)
    said = capsys.readouterr().err
    assert told in said
    assert "internal error" not in said


def test_options_of_several_numbers(photos: Path, tmp_path: Path) -> None:
    words = f"train --arch espcn --option widths=6,4 --finish 0.0 {TWO_STEPS.partition('layers=1')[2]}"
    assert main([*words.split(), "--data", str(photos), "--out", str(tmp_path / "out")]) == 0
    weights, facts = run.read_weights(tmp_path / "out" / "espcn_x2.safetensors")
    assert weights["conv1.weight"].shape[0] == 6
    assert facts["architecture"] == "espcn"


def test_patches_too_small_for_enlarged_pictures(photos: Path, tmp_path: Path) -> None:
    recipe = recipes.Recipe("srcnn", options={"widths": (4, 4)}, stages=recipes.fixed(4, 2))
    with pytest.raises(FastsrError, match="--patch 5"):
        run.train(job(photos, tmp_path / "out", recipe=recipe))


def test_signals_have_their_exit_codes(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    advance = Trainer.advance
    for number in (signal.SIGTERM, signal.SIGINT):

        def interrupted(trainer: Trainer, batch: Any, number: int = number) -> torch.Tensor:
            os.kill(os.getpid(), number)
            return advance(trainer, batch)

        monkeypatch.setattr(Trainer, "advance", interrupted)
        assert main(["train", *TWO_STEPS.split(), "--data", str(photos), "--out", str(tmp_path / str(int(number)))]) == 128 + number


def test_minutes_count_measurements(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes a hundredth of a second."""
    clock, each = [0.0], [0.0]
    advance, score = Trainer.advance, measure.mean_score

    def step(trainer: Trainer, batch: Any) -> torch.Tensor:
        clock[0] += 0.01
        return advance(trainer, batch)

    def measured(*given: Any) -> float:
        clock[0] += each[0]
        return score(*given)

    valid = tmp_path / "valid"
    valid.mkdir()
    write_picture(valid / "a.png", noise(20))
    totals: list[int] = []
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(Trainer, "advance", step)
    monkeypatch.setattr(measure, "mean_score", measured)
    monkeypatch.setattr(Trainer, "run", lambda trainer, *_: totals.append(trainer.total) or False)
    for each[0] in (0.0, 0.1):
        run.train(job(photos, tmp_path / f"{len(totals)}", valid=valid, pace=Pace(None, 0.5)))
    assert totals == [pytest.approx(0.97 * 30 / 0.01, abs=2), pytest.approx((0.97 * 30 - 5) / 0.01, abs=2)]


# ---- weights to begin with ---------------------------------------------------------------------------------------------------------------------


def test_weights_that_cannot_be_begun_with(photos: Path, tmp_path: Path) -> None:
    done = run.train(job(photos, tmp_path / "out"))
    assert done.weights is not None
    tensors, facts = run.read_weights(done.weights)
    arrays = {k: v.numpy() for k, v in tensors.items()}

    def begun(data: bytes) -> Any:
        path = tmp_path / "w.safetensors"
        path.write_bytes(data)
        return run.train(job(photos, tmp_path / "second", init=path, restart=True))

    assert begun(safetensors_bytes(arrays, facts)).done
    with pytest.raises(FastsrError, match="not finite"):
        begun(safetensors_bytes({k: np.full_like(v, np.nan) for k, v in arrays.items()}, facts))
    with pytest.raises(FastsrError, match=r"w\.safetensors'.*header"):
        begun(safetensors_bytes(arrays, facts)[:40])
    with pytest.raises(FastsrError, match="of the architecture espcn, not of plain"):
        begun(safetensors_bytes(arrays, {**facts, "architecture": "espcn"}))
    with pytest.raises(FastsrError, match=r"w\.safetensors'.*no tensor"):
        begun(safetensors_bytes({"a": arrays[next(iter(arrays))]}, facts))
    with pytest.raises(FastsrError, match="no tensor that fits"):
        begun(safetensors_bytes({"a": np.zeros(3, np.float32)}, {**facts, "scale": "3"}))


def test_weights_of_another_scale_begin_with_what_fits(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run.train(job(photos, tmp_path / "x2", half=True))
    assert first.weights is not None
    half = first.weights.with_name(f"{first.weights.stem}_fp16.safetensors")
    for path in (first.weights, half):
        recipe = replace(job(photos, tmp_path).recipe, rate=1e-12, warmup=0)
        second = run.train(job(photos, tmp_path / path.stem, recipe=recipe, scale=3, init=path, quiet=False))
        assert "begins with" in capsys.readouterr().err
        assert second.weights is not None
        a, b = (run.read_weights(p)[0] for p in (first.weights, second.weights))
        same = [k for k in a if k in b and a[k].shape == b[k].shape]
        assert len(same) >= 5
        assert len(same) < len(a)
        for k in same:
            torch.testing.assert_close(a[k], b[k], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("arch", ["plain", "espcn", "fsrcnn-cv2", "hourglass", "edsr"])
def test_a_network_as_fsr_is_begun_with(arch: str, photos: Path, tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "plain": {"width": 6, "layers": 2}, "espcn": {"widths": (8, 4)}, "fsrcnn-cv2": {"width": 8, "maps": 2},
        "hourglass": {"width": 8, "maps": 2}, "edsr": {"blocks": 2, "width": 8}
    }  # fmt: skip
    recipe = replace(recipes.RECIPES[arch], options=options[arch], stages=recipes.fixed(8, 2))
    first = run.train(job(photos, tmp_path / "first", recipe=recipe))
    assert first.program is not None
    network, again = run.make(recipe, 2, 1), run.make(recipe, 2, 2)
    quiet = Report(tmp_path, quiet=True)
    run.begin(network, first.program, recipe, quiet)
    assert first.weights is not None
    run.begin(again, first.weights, recipe, quiet)
    for a, b in zip(network.shipped().values(), again.shipped().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
    other = run.make(recipe, 3, 1)
    run.begin(other, first.program, recipe, quiet)
    name = next(iter(other.shipped()))
    torch.testing.assert_close(other.shipped()[name], network.shipped()[name], rtol=0, atol=2e-5)
    with pytest.raises(FastsrError):
        run.begin(run.make(recipes.Recipe("srcnn"), 2, 0), first.program, recipes.Recipe("srcnn"), quiet)


def test_a_network_that_fsr_holds_in_another_form_is_not_begun_with(photos: Path, tmp_path: Path) -> None:
    recipe = replace(recipes.RECIPES["fsrcnn"], options={"width": 8, "maps": 2}, stages=recipes.fixed(8, 2))
    first = run.train(job(photos, tmp_path / "first", recipe=recipe))
    assert first.program is not None
    with pytest.raises(FastsrError, match="take its"):
        run.begin(run.make(recipe, 2, 1), first.program, recipe, Report(tmp_path, quiet=True))


@pytest.mark.skipif(not shipped.names(), reason="no network comes with this installation")
def test_a_network_that_comes_with_fastsr_is_begun_with(tmp_path: Path) -> None:
    for name, scale in list(shipped.files()):
        settings = shipped.card(shipped.find(name, scale))["settings"]
        arch = settings["arch"]
        recipe = replace(recipes.RECIPES[arch], colour=settings["colour"], options=settings["options"])
        if name in recipes.PRESETS:
            assert recipes.recipe_of(None, name, scale).options == recipe.options
        network = run.make(recipe, scale, 0)
        run.begin(network, Path(name), recipe, Report(tmp_path, quiet=True))
        with pytest.raises(FastsrError, match=f"of the architecture {arch}, not of srresnet"):
            run.begin(run.make(recipes.RECIPES["srresnet"], scale, 0), Path(name), recipes.RECIPES["srresnet"], Report(tmp_path, quiet=True))


def grown(small: recipes.Recipe, large: recipes.Recipe, photos: Path, tmp_path: Path, program: bool = True) -> tuple[Path, list[tuple[Any, Any]]]:
    """The weights of a training of `small`, and the networks of `large` that begin with them and with its .fsr file: one for the same scale, which
    computes the same, and one for another."""
    first = run.train(job(photos, tmp_path / "small", recipe=small))
    assert first.weights is not None
    assert first.program is not None
    quiet = Report(tmp_path, quiet=True)
    old = run.make(small, 2, 0)
    run.begin(old, first.weights, small, quiet)
    x = torch.rand(2, old.channels, 13, 11)
    found = []
    for path in (first.weights, first.program) if program else (first.weights,):
        network, other = run.make(large, 2, 5), run.make(large, 3, 6)
        run.begin(network, path, large, quiet)
        run.begin(other, path, large, quiet)
        with torch.no_grad():
            torch.testing.assert_close(network(x), old(x), rtol=0, atol=1e-5)
        found.append((network, other))
    return first.weights, found


@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize("act", ["prelu", "relu"])
@pytest.mark.parametrize(("width", "layers"), [(12, 3), (6, 5), (9, 7)])
def test_a_plain_network_grows_from_a_smaller_one(width: int, layers: int, act: str, colour: str, photos: Path, tmp_path: Path) -> None:
    options = {"width": 6, "layers": 3, "act": act, "expand": 0}
    small = replace(recipes.RECIPES["plain"], colour=colour, options=options, stages=recipes.fixed(8, 2))
    large = replace(small, options={**options, "width": width, "layers": layers}, rate=1e-2)
    weights, networks = grown(small, large, photos, tmp_path)
    for network, other in networks:
        for (name, a), b in zip(list(other.shipped().items())[:-2], network.shipped().values(), strict=False):
            assert a.shape == b.shape
            if ".0." in name or width == 6:
                torch.testing.assert_close(a[:6], b[:6], rtol=0, atol=2e-4)
    before = network.shipped()
    trained = run.train(job(photos, tmp_path / "large", recipe=large, init=weights, pace=Pace(8)))
    assert trained.weights is not None
    tensors, _ = run.read_weights(trained.weights)
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in before.items()}
    if width > 6:
        kernels = [v for v in tensors.values() if v.ndim == 4]
        assert all(float(k[:6, 6:].abs().max()) > 1e-4 for k in kernels[1:]), "nothing has learnt to read the new channels"
        assert all(len({float(row.sum()) for row in k[6:]}) == len(k[6:]) for k in kernels[:-1]), "new channels are alike"


@pytest.mark.parametrize("arch", ["fsrcnn", "fsrcnn-cv2", "hourglass"])
@pytest.mark.parametrize("maps", [1, 2, 5])
def test_fsrcnn_grows_from_one_of_fewer_maps(maps: int, arch: str, photos: Path, tmp_path: Path) -> None:
    options = {"width": 7, "narrow": 5, "maps": 1}
    small = replace(recipes.RECIPES[arch], options=options, stages=recipes.fixed(8, 2))
    large = replace(small, options={**options, "maps": maps}, rate=1e-2)
    weights, networks = grown(small, large, photos, tmp_path, arch != "fsrcnn")  # .fsr holds a transposed convolution in another form
    for network, other in networks:
        for (name, a), b in zip(other.shipped().items(), network.shipped().values(), strict=True):
            if "last_part" not in name:
                torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
    before = network.shipped()
    trained = run.train(job(photos, tmp_path / "large", recipe=large, init=weights, pace=Pace(8)))
    assert trained.weights is not None
    after, _ = run.read_weights(trained.weights)
    middle = f"{networks[0][0].prefix}mid_part"
    for k in range(1, maps):
        name = f"{middle}.{2 * k + 2}.weight"
        assert float((after[name] - before[name]).abs().max()) > 1e-4, "a new map has learnt nothing"
    tensors, facts = run.read_weights(weights)
    arrays = {k: v.numpy() for k, v in tensors.items()}
    broken = tmp_path / "broken.safetensors"
    for changed in (
        {**arrays, f"{middle}.0.weight": arrays[f"{middle}.0.weight"][:-1]},
        {**arrays, f"{middle}.0.weight": np.zeros((), np.float32)},
        {k: v for k, v in arrays.items() if k != f"{middle}.4.bias"},
        {**arrays, f"{middle}.9.weight": arrays[f"{middle}.0.weight"]},
    ):
        broken.write_bytes(safetensors_bytes(changed, facts))
        with pytest.raises(FastsrError, match=r"broken\.safetensors'.*(shape|no tensor|lacks)"):
            run.begin(run.make(large, 2, 0), broken, large, Report(tmp_path, quiet=True))


@pytest.mark.parametrize("arch", ["fsrcnn-cv2", "hourglass"])
def test_fsrcnn_of_fewer_maps_begins_as_one_for_another_scale(arch: str, photos: Path, tmp_path: Path) -> None:
    """With its first maps, and the convolution behind them."""
    options = {"width": 7, "narrow": 5, "maps": 4}
    recipe = replace(recipes.RECIPES[arch], options=options, stages=recipes.fixed(8, 2))
    first = run.train(job(photos, tmp_path / "out", recipe=recipe))
    assert first.weights is not None
    assert first.program is not None
    tensors, _ = run.read_weights(first.weights)
    short = replace(recipe, options={**options, "maps": 2})
    for path in (first.weights, first.program):
        network = run.make(short, 3, 1)
        run.begin(network, path, short, Report(tmp_path, quiet=True))
        for name, mine in network.shipped().items():
            if "last_part" not in name:
                theirs = tensors[name.replace("_part.6.", "_part.10.").replace("_part.7.", "_part.11.")]
                torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5)
        with pytest.raises(FastsrError, match="mid_part\\.6\\.weight"):
            run.begin(run.make(short, 2, 1), path, short, Report(tmp_path, quiet=True))


def test_a_training_that_began_as_a_smaller_network_goes_on_without_it(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(recipes.RECIPES["plain"], options={"width": 4, "layers": 1}, stages=recipes.fixed(8, 2))
    large = replace(small, options={"width": 7, "layers": 3})
    first = run.train(job(photos, tmp_path / "small", recipe=small))
    assert first.weights is not None
    whole = run.train(job(photos, tmp_path / "whole", recipe=large, init=first.weights, pace=Pace(6)))
    with monkeypatch.context() as m:
        interrupt_at(3, m)
        assert not run.train(job(photos, tmp_path / "parts", recipe=large, init=first.weights, pace=Pace(6))).done
    assert whole.weights is not None
    first.weights.rename(first.weights.with_suffix(".moved"))
    parts = run.train(job(photos, tmp_path / "parts", recipe=large, init=first.weights, pace=Pace(6)))
    assert parts.done
    assert parts.weights is not None
    assert parts.weights.read_bytes() == whole.weights.read_bytes()


def test_what_a_plain_network_cannot_grow_from(photos: Path, tmp_path: Path) -> None:
    recipe = replace(recipes.RECIPES["plain"], options={"width": 8, "layers": 3}, stages=recipes.fixed(8, 2))
    done = run.train(job(photos, tmp_path / "out", recipe=recipe))
    assert done.weights is not None
    assert done.program is not None
    quiet = Report(tmp_path, quiet=True)
    for options in ({"width": 4, "layers": 5}, {"width": 12, "layers": 2}, {"width": 12, "layers": 3, "act": "relu"}):
        for path in (done.weights, done.program):
            network = run.make(replace(recipe, options=options), 2, 0)
            before = {k: v.clone() for k, v in network.state_dict().items()}
            with pytest.raises(FastsrError, match=r"shape|lacks|no tensor|needed"):
                run.begin(network, path, replace(recipe, options=options), quiet)
            assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    tensors, facts = run.read_weights(done.weights)
    arrays = {k: v.numpy() for k, v in tensors.items()}
    first, second = [k for k, v in arrays.items() if v.ndim == 4][:2]
    wide = replace(recipe, options={"width": 12, "layers": 4})
    broken = tmp_path / "broken.safetensors"
    for changed in (
        {**arrays, second: arrays[second][:-1]},
        {**arrays, first: np.zeros((), np.float32)},
        {**arrays, first: arrays[first][:0]},
        {k.replace(".2.", ".3.").replace(".1.", ".2.").replace(".0.", ".1."): v for k, v in arrays.items()},
    ):
        broken.write_bytes(safetensors_bytes(changed, facts))
        with pytest.raises(FastsrError, match=r"broken\.safetensors'.*(shape|no tensor)"):
            run.begin(run.make(wide, 2, 0), broken, wide, quiet)


@pytest.mark.skipif(not {("fast", 2), ("balanced", 2), ("best", 2)} <= set(shipped.files()), reason="no network comes with this installation")
def test_a_network_that_comes_with_fastsr_begins_one_of_another_scale(tmp_path: Path) -> None:
    report = Report(tmp_path, quiet=True)
    for name, scale, known_scale in (("fast", 5, 2), ("balanced", 6, 2), ("best", 6, 2)):
        recipe = recipes.recipe_of(None, name, scale)
        network = run.make(recipe, scale, 0)
        run.begin(network, Path(name), recipe, report)
        own = recipes.recipe_of(None, name, known_scale)
        source = run.make(own, known_scale, 0)
        run.begin(source, Path(name), own, report)
        known = [*source.shipped().values()]
        new = [n for n, t in network.shipped().items() if not any(t.shape == k.shape and torch.allclose(t, k, rtol=0, atol=2e-4) for k in known)]
        assert new == [*network.shipped()][-2:], "all but the last convolution is taken"
        with pytest.raises(FastsrError, match="enlarges y pictures"):
            run.begin(run.make(replace(recipe, colour="rgb"), scale, 0), shipped.find(name, known_scale), replace(recipe, colour="rgb"), report)
    best = recipes.preset("best", 2)
    with pytest.raises(FastsrError, match="holds weights of the architecture hourglass, not of plain"):
        run.begin(run.make(best, 2, 0), Path("balanced"), best, report)


def test_weights_in_fsr_that_are_not_finite_are_not_begun_with(photos: Path, tmp_path: Path) -> None:
    recipe = replace(recipes.RECIPES["plain"], options={"width": 4, "layers": 1}, stages=recipes.fixed(8, 2))
    done = run.train(job(photos, tmp_path / "out", recipe=recipe))
    assert done.program is not None
    program = load_program(done.program)
    step = next(s for s in program.steps if s.weight is not None)
    assert step.weight is not None
    broken = replace(step, weight=np.where(np.arange(9).reshape(3, 3) == 4, np.float32(np.nan), step.weight))
    fsr.save(replace(program, steps=[broken if s is step else s for s in program.steps]), done.program)
    with pytest.raises(FastsrError, match="take the"):
        run.begin(run.make(recipe, 2, 0), done.program, recipe, Report(tmp_path, quiet=True))
