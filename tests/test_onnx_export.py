"""Networks written as ONNX: ONNX Runtime gives what fastsr gives, and fastsr reads its own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_cases_pixels  # noqa: F401
import onnx_cases_whole  # noqa: F401
import pytest
from hypothesis import assume, given, settings
from networks_over_pictures import NETWORKS
from onnx_cases import CASES, Case
from onnx_graphs import Net, run_onnx
from programs import Builder, random_programs

import fastsr
from fastsr import onnx_export
from fastsr.backends import pick_backend
from fastsr.errors import ModelError
from fastsr.graph import Feed
from fastsr.importers.onnx import loads
from fastsr.lower import lower
from fastsr.passes import optimise
from fastsr.program import PAD_MODE, RESIZE_COORD, Program

RUNNING = [c for c in CASES if c.runs]


def compare(program: Program, height: int = 12, width: int = 16, tolerance: float = 1e-4) -> None:
    """Run the program, its ONNX file in ONNX Runtime, and its ONNX file read again."""
    data = onnx_export.dumps(program)
    onnx.checker.check_model(onnx.load_from_string(data))
    rng = np.random.default_rng(0)
    inputs = [rng.random((1, program.values[v].channels, height, width), np.float32) for v in program.inputs]
    numbers = list(range(len(program.outputs)))
    wanted = pick_backend("cpu").compile(program).run(inputs, numbers)
    again = lower(optimise(loads(data)))
    assert again.feed == program.feed
    named = {program.values[v].name: x for v, x in zip(program.inputs, inputs, strict=True)}
    needed = [named[again.values[v].name] for v in again.inputs]
    for results in (run_onnx(data, *inputs), pick_backend("cpu").compile(again).run(needed, numbers)):
        for got, w in zip(results, wanted, strict=True):
            assert got.shape == w.shape
            assert np.abs(got - w).max() <= tolerance * max(1.0, np.abs(w).max())


@pytest.mark.parametrize("case", RUNNING, ids=[c.name for c in RUNNING])
def test_what_was_read_can_be_written(case: Case) -> None:
    net = Net(case.opset)
    case.build(net)
    compare(lower(optimise(loads(net.data()))), *((21, 26) if case.name.startswith("spatial") else (12, 16)))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_over_whole_pictures(name: str) -> None:
    compare(NETWORKS[name](), 24, 20)
    if name == "esa":
        compare(NETWORKS[name](), 17, 23)


@pytest.mark.parametrize("folder", ["tensorflow", "onnx"])
def test_models_of_third_parties(shared: Path, folder: str) -> None:
    paths = [p for p in sorted((shared / "models" / folder).glob("*.*")) if p.suffix in (".pb", ".onnx") and p.stat().st_size < 3_000_000]
    if not paths:
        pytest.skip("no such models in the shared folder")
    for path in paths:
        compare(fastsr.load(path).program, 24, 20)


def test_model_save_and_load(tmp_path: Path) -> None:
    net = Net()
    net.node("DepthToSpace", net.conv(net.input(), 3, 12), blocksize=2)
    net.metadata = {"fastsr.colour": "bgr", "fastsr.range": "255", "fastsr.out_range": "255", "fastsr.mean": "1,2,3", "fastsr.out_mean": "1,2,3"}
    (tmp_path / "a.onnx").write_bytes(net.data())
    model = fastsr.load(tmp_path / "a.onnx")
    model.save(tmp_path / "b.onnx")
    again = fastsr.load(tmp_path / "b.onnx")
    assert again.feed == model.feed == Feed("bgr", 255.0, (1.0, 2.0, 3.0), 255.0, (1.0, 2.0, 3.0))
    picture = np.random.default_rng(0).integers(0, 255, (9, 8, 3), np.uint8)
    assert (again.upscale(picture) == model.upscale(picture)).all()


def test_fine_luma_is_kept_in_metadata(tmp_path: Path) -> None:
    net = Net()
    net.node("DepthToSpace", net.conv(net.input(("N", 1, "H", "W")), 1, 4), blocksize=2)
    net.metadata = {"fastsr.fine": "true"}
    (tmp_path / "a.onnx").write_bytes(net.data())
    model = fastsr.load(tmp_path / "a.onnx")
    assert model.feed == Feed("y", fine=True)
    model.save(tmp_path / "b.onnx")
    assert fastsr.load(tmp_path / "b.onnx").feed == model.feed
    assert fastsr.load(tmp_path / "b.onnx", feed={"fine": False}).feed == Feed("y")
    net.metadata = {"fastsr.fine": "perhaps"}
    (tmp_path / "c.onnx").write_bytes(net.data())
    with pytest.raises(ModelError, match="true or false"):
        fastsr.load(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="true or false"):
        fastsr.load(tmp_path / "b.onnx", feed={"fine": "perhaps"})


def test_what_onnx_cannot_say() -> None:
    b = Builder(2)
    b.step("Pad", [0], 2, {"mode": PAD_MODE["symmetric"]})
    with pytest.raises(ModelError, match="symmetric"):
        onnx_export.dumps(b.program())


def of_onnx_runtime(program: Program) -> bool:
    """Whether ONNX Runtime does the whole of what the program needs as ONNX defines it."""
    for s in program.steps:
        if s.kind == "Pad" and (s["mode"] == PAD_MODE["symmetric"] or min(s["pt"], s["pl"], s["pb"], s["pr"]) < 0):
            return False
        if s.kind == "Conv" and s["auto_pad"] and max(s["dh"], s["dw"]) > 1:
            return False
        if s.kind == "Resize" and (s["coord"] == RESIZE_COORD["tf_half_pixel_for_nn"] or s["scale_h"] < 1 or s["scale_w"] < 1):
            return False
    return True


@given(random_programs())
@settings(max_examples=60)
def test_random_programs(drawn: tuple[Program, int, int]) -> None:
    program, height, width = drawn
    assume(of_onnx_runtime(program))
    compare(program, height, width, 1e-3)
