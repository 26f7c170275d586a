"""The CUDA backend on an emulated GPU against the NumPy reference: every kernel, whole networks, tiles, memory that is short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import Emulator, assert_like_reference, compiler, taken
from programs import BINARY, UNARY, Builder, inputs_for, pads, shuffle

import fastsr
from fastsr import dnn_superres, fsr, image
from fastsr.backends import cuda, reference
from fastsr.backends.cuda import device
from fastsr.backends.cuda.executable import CudaExecutable
from fastsr.backends.cuda.fuse import chains_of
from fastsr.backends.cuda.plan import kernels_of, lay_out
from fastsr.backends.cuda.steps import prepare, shortened
from fastsr.backends.staged import staged
from fastsr.errors import BackendError
from fastsr.files import read_picture
from fastsr.graph import Feed
from fastsr.model import load_program
from fastsr.program import Epilogue, Program

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")

SMALL = 99 << 10
"""Shared memory of a block on small GPUs (compute capability 8.6 and 8.9), with which kernels need their smaller forms."""


# ---- programs ----------------------------------------------------------------------------------------------------------------------------------


def operations() -> Program:
    """Every operation of an epilogue, one a step, all of them outputs."""
    b = Builder([3, 3, 1])
    tensor = b.normal(3)
    found = [b.step("Pointwise", [0], 3, epilogue=[Epilogue(op, a=0.3, b=0.8)]) for op in UNARY]
    found.append(b.step("Pointwise", [0], 3, epilogue=[Epilogue("Gelu", a=1.0)]))
    found.append(b.step("Pointwise", [0], 3, epilogue=[b.prelu(3)]))
    found.append(b.step("Pointwise", [0], 3, epilogue=[Epilogue("Abs"), Epilogue("Sqrt")]))
    found.append(b.step("Pointwise", [0], 3, epilogue=[Epilogue("Mul", a=9.0), Epilogue("Quantize", a=-7.0, b=8.0)]))
    for op in BINARY:
        operand = {"tensor": tensor} if op in ("Add", "Sub", "Mul") else {"a": 0.7}
        found.append(b.step("Pointwise", [0], 3, epilogue=[Epilogue(op, value=1), Epilogue(op, value=2), Epilogue(op, **operand)]))
    far = np.array([2.0, -3.0, 4.0], np.float32)
    found.append(b.step("Pointwise", [0], 3, epilogue=[Epilogue("Div", tensor=far), Epilogue("Div", a=1.5)]))
    found.append(b.step("Pointwise", [0], 3, epilogue=[Epilogue("Abs"), Epilogue("Add", a=1.0), Epilogue("RDiv", value=1), Epilogue("RDiv", a=0.1)]))
    return b.program(*found)


def moves() -> Program:
    """Every kind of step but convolutions."""
    b = Builder([3, 12])
    shuffled = [b.step("DepthToSpace", [1], 3, {"mode": m}) for m in (0, 1)]
    joined = b.step("Concat", [0, 1, 0], 18, epilogue=[b.prelu(18)])
    over = b.step("Concat", [0, 1, 0, 1, 0, 0], 36, epilogue=[Epilogue("Relu"), shuffle(3, 1), Epilogue("Add", a=0.5)])
    found = [*shuffled, joined, over]
    found += [b.step("Resize", [0], 3, {"mode": m, "coord": c, "scale_h": 2.0, "scale_w": 1.5}) for m, c in ((0, 2), (1, 0), (2, 0), (2, 1))]
    found += [b.step("Pad", [1], 12, {**pads(2, 1, 0, 3), "mode": m, "value": 0.25}) for m in range(4)]
    found.append(b.step("SpaceToDepth", [shuffled[0]], 12))
    found.append(b.step("SpaceToDepth", [joined], 18 * 9, {"block": 3}))
    return b.program(*found)


def convolutions() -> Program:
    """Convolutions that are computed directly in both precisions."""
    b = Builder([12, 3])
    found = [
        b.conv(1, 5, k=5, epilogue=[Epilogue("Relu")]),
        b.conv(0, 12, group=12, epilogue=[b.prelu(12)]),
        b.conv(0, 10, group=2, bias=False),
        b.conv(0, 9, sh=2, sw=3),
        b.conv(0, 7, k=(3, 2), dh=2, dw=3, **pads(2, 1, 3, 4)),
        b.conv(1, 1, k=(1, 4), auto_pad=2),
        b.conv(0, 48, group=3, epilogue=[Epilogue("LeakyRelu", a=0.1), shuffle(4, 1), Epilogue("Add", a=0.25)]),
        b.conv(1, 12, epilogue=[shuffle(2)]),
    ]
    return b.program(*found)


def products() -> Program:
    """Convolutions that tensor cores compute with half of the memory on a block of a small GPU and more, of all widths."""
    b = Builder([8, 64])
    found = [
        b.conv(0, 12, epilogue=[b.prelu(12)]),
        b.conv(1, 64, epilogue=[Epilogue("Relu"), Epilogue("Add", value=1), Epilogue("Mul", a=0.5)]),
        b.conv(1, 64, k=1, bias=False),
        b.conv(0, 1, k=5, epilogue=[Epilogue("Sigmoid")]),
    ]
    wide = b.conv(1, 130, k=(1, 3), epilogue=[b.prelu(130)])
    found += [
        wide,
        b.conv(wide, 20, epilogue=[Epilogue("Clip", a=-0.5, b=0.5)]),
        b.conv(found[0], 32, epilogue=[b.prelu(32), shuffle(2, 1), Epilogue("Relu")]),
        b.conv(found[0], 32, epilogue=[b.prelu(32), shuffle(2, 0)]),
        b.conv(found[0], 27, epilogue=[shuffle(3, 1), Epilogue("Add", a=1.0)]),
        b.conv(found[0], 16, epilogue=[Epilogue("Add", value=b.conv(found[0], 1)), shuffle(4, 1)]),
    ]
    return b.program(*found)


def chains() -> Program:
    """Chains of convolutions that one launch makes: of a picture of few channels, and of a value of many."""
    b = Builder([3, 8])
    first = b.conv(b.conv(0, 10, k=5, epilogue=[b.prelu(10)]), 20, k=1, bias=False, epilogue=[Epilogue("LeakyRelu", a=0.2)])
    first = b.conv(first, 48, epilogue=[b.prelu(48), shuffle(2, 1), Epilogue("Add", a=0.125), Epilogue("Relu")])
    second = b.conv(b.conv(1, 33, epilogue=[Epilogue("Sigmoid")]), 12, epilogue=[Epilogue("Add", value=b.conv(1, 12, k=1))])
    return b.program(first, second, b.conv(b.conv(second, 16, k=1), 5, k=1))


PROGRAMS = {"chains": chains, "operations": operations, "moves": moves, "convolutions": convolutions, "products": products}


@pytest.fixture(scope="module")
def gpu(kernels: Path) -> Emulator:
    """A large GPU, all kernels of `PROGRAMS` compiled at once."""
    found = Emulator(kernels)
    wanted = [k for make in PROGRAMS.values() for p in ("f32", "fast") for k in kernels_of(prepare(make(), p, found.shared_limit)[1], p) if k.name]
    found.prepare([k.name for k in wanted], [k.shared for k in wanted])
    return found


@pytest.fixture(scope="module", params=["emulator", "cupy"])
def any_gpu(request: pytest.FixtureRequest) -> device.Device:
    """The emulator, and the GPU where there is one."""
    if request.param == "emulator":
        found: device.Device = request.getfixturevalue("gpu")
        return found
    if reason := device.unavailable():
        pytest.skip(reason)
    return device.CupyDevice()


# ---- kernels -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["f32", "fast"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_kernel_is_like_the_reference(name: str, precision: str, any_gpu: device.Device) -> None:
    program = PROGRAMS[name]()
    executable = CudaExecutable(program, any_gpu, precision)
    numbers = list(range(len(program.outputs)))
    for k, (height, width, batch) in enumerate(((6, 9, 2), (18, 33, 1), (3, 6, 1))):
        inputs = [x.astype(np.float16).astype(np.float32) for x in inputs_for(program, height, width, batch, seed=k)]  # as roundings depend on it
        if isinstance(any_gpu, Emulator):
            any_gpu.backwards = k == 1
        assert_like_reference(executable.run(inputs, numbers), program, inputs, precision)
    used = {p.kernel.family for p in executable._prepared if p.kernel is not None}
    assert ("conv_mma" in used) == (name in ("products", "chains") and precision == "fast")
    assert ("fused" in used) == (name == "chains" and precision == "fast")


@pytest.mark.parametrize("precision", ["f32", "fast"])
def test_what_is_not_a_number_stays_so(precision: str, any_gpu: device.Device) -> None:
    """Quantize makes its lower bound of it, and of nothing -0."""
    program = operations()
    inputs = inputs_for(program, 4, 8)
    inputs[0][:, :, 0] = inputs[1][:, :, :, 0] = inputs[2][:, :, 3, 4:] = np.nan
    inputs[0][:, :, 1, 1] = -0.01
    numbers = range(len(program.outputs))
    got = CudaExecutable(program, any_gpu, precision).run(inputs, numbers)
    (quantised,) = (a for a, s in zip(got, program.steps, strict=True) if s.epilogue[-1].op == "Quantize")
    assert not np.signbit(quantised[quantised == 0]).any()
    with np.errstate(all="ignore"):
        want = reference.run_program(program, inputs, numbers)
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=program.steps[k].epilogue[-1].op)


def test_kernels_of_small_gpus(kernels: Path) -> None:
    program = products()
    small = Emulator(kernels, SMALL)
    executable = CudaExecutable(program, small, "fast")
    forms = {p.kernel.name.partition(", Chain")[0] for p in executable._prepared if p.kernel is not None}
    assert {"conv_mma<3, 3, 64, 32, 8, true", "conv_mma<3, 3, 32, 32, 16, false"} <= forms
    inputs = inputs_for(program, 9, 17)
    assert_like_reference(executable.run(inputs, range(len(program.outputs))), program, inputs, "fast")


def test_weights_that_are_no_halfs(any_gpu: device.Device) -> None:
    b = Builder(8)
    b.conv(0, 8)
    b.conv(b.last, 8)
    b.steps[0].weight[3, 2] = 1e5
    b.steps[1].weight[:, 3] *= 1e-5
    program = b.program()
    inputs = inputs_for(program, 5, 6)
    inputs[0] *= np.float32(0.01)
    assert_like_reference(CudaExecutable(program, any_gpu, "fast").run(inputs, [0]), program, inputs, "fast")


def test_halfs_are_rounded_like_numpys(any_gpu: device.Device) -> None:
    b = Builder(1)
    b.step("Pointwise", [0], 1)
    program = b.program()
    x = np.concatenate([np.random.default_rng(0).standard_normal(4000) * 10.0**k for k in range(-8, 6)]).astype(np.float32)
    x = np.concatenate([x, np.float32([0.0, -0.0, 65504.0, 65519.9, 65520.0, np.inf, -np.inf, 2.0**-24, 2.0**-25, 3 * 2.0**-25])])
    got = CudaExecutable(program, any_gpu, "fast").run([x.reshape(1, 1, 1, -1)], [0])[0].reshape(-1)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, x.astype(np.float16).astype(np.float32))


# ---- tiles and memory --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["f32", "fast"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_tiles_give_the_same_bits(name: str, precision: str, any_gpu: device.Device) -> None:
    program = PROGRAMS[name]()
    numbers = list(range(len(program.outputs)))
    inputs = inputs_for(program, 18, 21)
    whole = CudaExecutable(program, any_gpu, precision).run(inputs, numbers)
    for tile in (6, 15) if precision == "f32" else (9,):
        for a, b in zip(CudaExecutable(program, any_gpu, precision, tile).run(inputs, numbers), whole, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_order_of_tiles_can_be_shuffled(gpu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    program = convolutions()
    inputs = inputs_for(program, 10, 14)
    executable = CudaExecutable(program, gpu, "f32", 5)
    run_tile, orders, results = executable._run_tile, [], []
    for seed in ("", "3"):
        monkeypatch.setenv("FASTSR_TILE_SEED", seed)
        order: list[object] = []
        monkeypatch.setattr(executable, "_run_tile", lambda *a, order=order: (order.append(a[4]), run_tile(*a)))
        results.append(executable.run(inputs, [3, 0])[0])
        orders.append(order)
    assert len(orders[0]) == 6
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    np.testing.assert_array_equal(*results)


def test_short_memory_halves_tiles(gpu: Emulator) -> None:
    program = products()
    inputs = inputs_for(program, 20, 33)
    numbers = [0, 1]
    whole = CudaExecutable(program, gpu, "fast").run(inputs, numbers)
    executable = CudaExecutable(program, gpu, "fast")
    held = taken(gpu)
    gpu.memory = held + (400 << 10)
    try:
        told: list[tuple[int, int]] = []
        for a, b in zip(executable.run(inputs, numbers, lambda *t: told.append(t)), whole, strict=True):
            np.testing.assert_array_equal(a, b)
        done = [d for d, _ in told]
        assert {total for _, total in told} == {20 * 33}
        assert done[0] == 0
        assert done[-1] == 20 * 33
        assert len(done) > 2
        assert done == sorted(set(done))
        gpu.memory = gpu.taken + (20 << 10)
        with pytest.raises(BackendError, match=r"not enough even for a tile of .* use the backend cpu"):
            executable.run(inputs, numbers)
    finally:
        gpu.memory = 1 << 30
    del executable
    assert taken(gpu) < held


def test_memory_is_used_again(gpu: Emulator) -> None:
    b = Builder(8)
    for _ in range(12):
        b.conv(b.last, 8, epilogue=[Epilogue("Relu")])
    program = b.program()
    arena = lay_out(program, prepare(program, "f32", 0)[1], program.value_sizes(50, 60), {program.outputs[0][1]: (0, 0, 50, 60)}, 1, 4)
    assert arena.size < 2.2 * 4 * 8 * 50 * 60
    executable = CudaExecutable(program, gpu, "fast")
    x = inputs_for(program, 10, 11)
    first = executable.run(x, [0])[0]
    before = taken(gpu)
    for _ in range(5):
        np.testing.assert_array_equal(executable.run(x, [0])[0], first)
    assert taken(gpu) == before


def test_long_epilogues_are_cut(gpu: Emulator) -> None:
    b = Builder(3)
    many = [Epilogue("Add", a=0.125), Epilogue("Mul", a=1.125)] * 9
    b.conv(0, 12, epilogue=[*many[:7], shuffle(2, 1), *many])
    program = b.program()
    assert len(shortened(program).steps) == 3
    inputs = inputs_for(program, 7, 5)
    assert_like_reference(CudaExecutable(program, gpu, "f32").run(inputs, [0]), program, inputs, "f32")


def test_an_exception_of_the_progress_cancels(gpu: Emulator) -> None:
    program = products()
    executable = CudaExecutable(program, gpu, "fast", tile=8)

    def stop(done: int, total: int) -> None:
        if done > 64:
            raise KeyboardInterrupt

    before = taken(gpu)
    with pytest.raises(KeyboardInterrupt):
        executable.run(inputs_for(program, 20, 20), [0], stop)
    assert taken(gpu) == before


# ---- chains ------------------------------------------------------------------------------------------------------------------------------------


def test_small_networks_are_one_launch() -> None:
    for name in ("espcn", "fsrcnn"):
        program = load_program(name, 2)
        (chain,) = chains_of(program, 227 << 10)
        assert (chain.first, chain.last) == (0, len(program.steps) - 1)
        small = chains_of(program, 99 << 10)
        assert all(c.shared <= 99 << 10 for c in small)
        assert [p.kernel is None for p in prepare(program, "fast", 227 << 10)[1]] == [True] * chain.last + [False]
        assert all(p.kernel is not None for p in prepare(program, "f32", 227 << 10)[1])


def test_chains_end_where_values_are_needed() -> None:
    b = Builder(8)
    x = b.conv(b.conv(0, 16), 16)
    y = b.conv(b.conv(x, 16), 16, epilogue=[Epilogue("Add", value=x)])
    z = b.conv(b.conv(y, 16, sh=2, sw=2), 16)
    assert [(c.first, c.last) for c in chains_of(b.program(z), 227 << 10)] == [(0, 1), (2, 3)]
    assert [(c.first, c.last) for c in chains_of(b.program(z, 1), 227 << 10)] == [(2, 3)]
    deep = Builder(8)
    for _ in range(12):
        deep.conv(deep.last, 64)
    assert chains_of(deep.program(), 227 << 10) == []


def test_of_a_long_chain_as_much_is_fused_as_there_is_room_for() -> None:
    b = Builder(12)
    for _ in range(14):
        b.conv(b.last, 12)
    program = b.program()
    found = chains_of(program, 227 << 10)
    assert len(found) == 2
    assert (found[0].first, found[1].first, found[1].last) == (0, found[0].last + 1, 13)
    assert [c.shared <= 227 << 10 and (c.rows, c.columns) >= (16, 32) for c in found] == [True, True]
    assert chains_of(program, 20 << 10) == []


# ---- networks ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale"), [("espcn", 2), ("fsrcnn", 3), ("fast", 2)])
def test_shipped_networks_keep_60_db(name: str, scale: int, any_gpu: device.Device, shared: Path) -> None:
    picture = read_picture(next((shared / "images" / "Set5").glob("*butterfly*")))[60:82, 60:86]
    program = load_program(name, scale)
    x = np.ascontiguousarray(picture[:, :, 1][None, None], np.float32) * np.float32(program.feed.range / 255)
    want = reference.run_program(program, [x])[0]
    got = CudaExecutable(program, any_gpu, "fast").run([x], [0])[0]
    assert 10 * np.log10(program.feed.out_range**2 / np.mean((got - want) ** 2)) > 60


@pytest.mark.parametrize(("colour", "fine"), [("y", False), ("y", True), ("bgr", False), ("rgb", False)])
def test_pictures_are_those_of_the_definition(colour: str, fine: bool, any_gpu: device.Device) -> None:
    channels = 1 if colour == "y" else 3
    b = Builder(channels)
    b.conv(0, channels * 4, k=1, epilogue=[shuffle(2)])
    means = {} if colour == "y" else {"mean": (0.1, 0.25, 0.4), "out_mean": (0.4, 0.1, 0.2)}
    program = b.program(feed=Feed(colour, range=2.0, out_range=2.5, fine=fine, **means))
    picture = np.random.default_rng(0).integers(0, 256, (19, 34, 3)).astype(np.uint8)
    for precision, tile in (("f32", None), ("fast", None), ("f32", 8)):
        executable = CudaExecutable(program, any_gpu, precision, tile)
        for one in (picture, picture[:, ::-1, 1], picture[3:15, 4:9]):
            x, rest = image.to_network(one, program.feed)
            got = executable.upscale(one)
            assert got is not None
            np.testing.assert_array_equal(got, image.from_network(executable.run([x], [0])[0], rest))
            np.testing.assert_array_equal(executable.upscale(one), got)
    assert executable.upscale(picture.astype(np.float32)) is None
    assert executable.upscale(picture[:1]) is None


def test_networks_with_means_run_in_pieces(any_gpu: device.Device) -> None:
    b = Builder(8)
    x = b.conv(0, 16, epilogue=[Epilogue("Relu")])
    mean = b.step("GlobalAveragePool", [x], 16)
    weights = b.conv(b.conv(mean, 4, k=1, epilogue=[Epilogue("Relu")]), 16, k=1, epilogue=[Epilogue("Sigmoid")])
    b.conv(x, 16, epilogue=[Epilogue("Mul", value=weights), Epilogue("Add", value=x)])
    program = b.program()
    inputs = inputs_for(program, 9, 14)
    executable = staged(program, "cuda", "fast", lambda piece, p: CudaExecutable(piece, any_gpu, p))
    assert_like_reference(executable.run(inputs, [0]), program, inputs, "f32")


def test_the_drop_in_tells_a_gpu_that_fails(kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Emulator(kernels)
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(device, "CupyDevice", lambda number: gpu)
    b = Builder(1)
    b.conv(0, 4, epilogue=[shuffle(2)])
    fsr.save(b.program(feed=Feed("y")), tmp_path / "m.fsr")
    made = dnn_superres.DnnSuperResImpl_create()
    made.readModel(str(tmp_path / "m.fsr"))
    made.setModel("espcn", 2)
    made.setPreferableBackend(5)  # cv2.dnn.DNN_BACKEND_CUDA
    made.setPreferableTarget(6)  # cv2.dnn.DNN_TARGET_CUDA
    picture = np.zeros((9, 8), np.uint8)
    for memory, words in ((100, "does not hold the network's weights"), (1 << 30, ""), (0, "not enough for the picture and its result")):
        gpu.memory = memory
        if not words:
            assert made.upsample(picture[1:]).shape == (16, 16)
            continue
        with pytest.raises(dnn_superres.error_type(), match=rf"{words}.*in function 'upsample'"):
            made.upsample(picture)


# ---- without a GPU -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(device.unavailable() is None, reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_do() -> None:
    reasons = r"CuPy cannot be imported.*fastsr\[cuda\]|CuPy finds no CUDA driver|there is no GPU"
    with pytest.raises(BackendError, match=f"backend 'cuda' is not available: ({reasons})"):
        fastsr.load("bicubic", backend="cuda")
    assert "cuda" not in fastsr.available_backends()


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(BackendError, match="fast or f32, not 'int8'"):
        cuda.compile(products(), precision="int8")
