"""Networks that look at whole pictures, on every backend: pieces run tile by tile, with means in between."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest
from networks_over_pictures import NETWORKS, SIGMOID, cunet, esa, image, random_network, rcan
from programs import Builder, pads, shuffle

from fastsr import fsr, stages
from fastsr.backends import available_backends, pick_backend, reference, staged
from fastsr.errors import ModelError, PictureError
from fastsr.graph import Feed
from fastsr.model import Model
from fastsr.program import Epilogue, Program

BACKENDS = [name for name in available_backends() if name != "reference"]
SIZES = {"cunet": ((4, 4), (32, 20)), "esa": ((3, 5), (15, 16), (31, 50))}
ANY = ((1, 1), (5, 3), (33, 18))
EVERY = [(name, size) for name in NETWORKS for size in SIZES.get(name, ANY) if name != "cropped" or min(size) > 4]


def everything(program: Program) -> range:
    return range(len(program.outputs))


def wanted(program: Program, xs: list[np.ndarray]) -> list[np.ndarray]:
    return reference.run_program(program, xs, everything(program), dtype=np.float64)


def close(got: list[np.ndarray], expected: list[np.ndarray], tolerance: float = 2e-5) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == np.float32 and a.flags.c_contiguous and a.shape == b.shape
        assert float(np.abs(a - b).max()) <= tolerance * max(1.0, float(np.abs(b).max()))


@pytest.mark.parametrize("backend", [*BACKENDS, "reference"])
@pytest.mark.parametrize(("name", "size"), EVERY, ids=lambda v: str(v))
def test_every_backend_computes_them(name: str, size: tuple[int, int], backend: str) -> None:
    program = NETWORKS[name]()
    for batch in (1, 2):
        xs = image(program, *size, batch)
        close(pick_backend(backend).compile(program, threads=2).run(xs, everything(program)), wanted(program, xs))


@pytest.mark.parametrize("seed", range(60))
def test_random_networks(seed: int) -> None:
    """Whatever is cut, the pieces together compute what the reference does, whatever is asked for."""
    program, height, width = random_network(seed)
    xs = image(program, height, width)
    expected = wanted(program, xs)
    largest = max(1.0, *(float(np.abs(a).max()) for a in expected))
    for build in (lambda p, _: reference.Reference(p), lambda p, _: pick_backend().compile(p, threads=2, tile=8)):
        executable = staged.Staged(program, "some", "f32", build)
        for outputs in (everything(program), [0], [len(program.outputs) - 1, 0]):
            for a, i in zip(executable.run(xs, outputs), outputs, strict=True):
                assert a.shape == expected[i].shape and float(np.abs(a - expected[i]).max()) <= 1e-4 * largest


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_results_depend_neither_on_tiles_nor_on_threads(name: str, backend: str) -> None:
    program = NETWORKS[name]()
    xs = image(program, 48, 36)
    first = None
    for threads, tile in itertools.product((1, 2), (None, 7, 16)):
        got = pick_backend(backend).compile(program, threads=threads, tile=tile).run(xs, everything(program))
        first = got if first is None else first
        assert all(np.array_equal(a, b) for a, b in zip(first, got, strict=True)), (threads, tile)


@pytest.mark.parametrize("name", NETWORKS)
def test_written_and_read(name: str) -> None:
    data = fsr.dumps(NETWORKS[name]())
    again = fsr.loads(data)
    assert fsr.dumps(again) == data and data[8] == 3
    xs = image(again, 12, 8)
    close(reference.run_program(again, xs, everything(again)), wanted(NETWORKS[name](), xs))


@pytest.mark.parametrize(
    ("name", "what"), [("rcan", "means or maxima over the whole picture, which the C library does not run yet"), ("esa", "C library")]
)
def test_the_core_refuses_the_file(name: str, what: str) -> None:
    core = pytest.importorskip("fastsr._core", reason="the C++ extension is not built")
    with pytest.raises(ModelError, match=what):
        core.Model(fsr.dumps(NETWORKS[name]()))


# ---- what is cut where -------------------------------------------------------------------------------------------------------------------------


def test_a_chain_of_attentions_is_a_piece_for_each() -> None:
    """Each convolution is computed once, and a piece is fed with two values of the picture's size at most."""
    program = rcan(20)
    plan = stages.split(program, 40, 30, [program.outputs[0][1]])
    assert len(plan.pieces) == 21
    assert sum(s.kind == "Conv" for p in plan.pieces for s in p.program.steps) == 1 + 2 * 20 + 2
    small = program.small_values()
    assert max(sum(not small[v] for v in p.inputs) for p in plan.pieces[:-1]) <= 2
    assert all(v not in p.inputs for v in plan.pieces[3].outputs for p in plan.pieces[6:])


def test_each_step_is_computed_once_in_networks_of_several_scales() -> None:
    program = cunet()
    plan = stages.split(program, 64, 64, [program.outputs[0][1]])
    assert sum(s.kind == "Conv" for p in plan.pieces for s in p.program.steps) == sum(
        s.kind == "Conv" and not program.small_values()[s.output] for s in program.steps
    )
    assert {p.size for p in plan.pieces} == {(64, 64), (32, 32), (16, 16)}


def test_cheap_values_are_computed_where_they_are_read() -> None:
    """An enlarged input that only the last sum reads is not kept."""
    b = Builder(3)
    base = b.step("Resize", [0], 3)
    x = b.conv(0, 3)
    s = b.step("GlobalAveragePool", [x], 3)
    y = b.step("Pointwise", [x], 3, {}, [Epilogue("Mul", value=s)])
    b.step("Resize", [y], 3, {}, [Epilogue("Add", value=base)])
    program = b.program()
    plan = stages.split(program, 20, 20, [b.last])
    assert all(base not in p.outputs for p in plan.pieces)


def test_only_what_is_wanted_is_computed() -> None:
    program = NETWORKS["two_inputs"]()
    one, every = ([v for _, v in program.outputs][:n] for n in (1, 3))
    assert len(stages.split(program, 9, 9, one).actions) < len(stages.split(program, 9, 9, every).actions)
    assert stages.split(program, 9, 9, [program.outputs[2][1]]).pieces == []


def test_pieces_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Program] = []

    def build(program: Program, precision: str) -> reference.Reference:
        made.append(program)
        return reference.Reference(program, precision)

    program = rcan()
    executable = staged.Staged(program, "some", "f32", build)
    assert len(made) == 4
    for size in ((9, 9), (30, 20), (9, 9)):
        close(executable.run(image(program, *size), [0]), wanted(program, image(program, *size)))
    assert len(made) == 4
    several = staged.Staged(esa(), "some", "f32", build)
    for edge in range(3, 3 + 2 * staged.PLANS_KEPT):
        several.run(image(several.program, edge, edge), [0])
    assert len(several._compiled) <= 2 * (staged.PLANS_KEPT + 1)


# ---- memory, progress, cancelling --------------------------------------------------------------------------------------------------------------


class Watched(reference.Reference):
    """Remembers which of its results live."""

    alive: list[weakref.ref[np.ndarray]]
    most = 0

    def run(self, *args, **kwargs):
        results = super().run(*args, **kwargs)
        Watched.alive += [weakref.ref(r) for r in results]
        Watched.most = max(Watched.most, sum(r() is not None for r in Watched.alive))
        return results


def test_what_is_kept_is_given_back() -> None:
    Watched.alive, Watched.most = [], 0
    program = rcan(12)
    executable = staged.Staged(program, "some", "f32", lambda p, _: Watched(p))
    result = executable.run(image(program, 8, 8), [0])
    assert Watched.most <= 5  # two of a piece, two of the one before, and the long skip
    assert sum(r() is not None for r in Watched.alive) == len(result) == 1


def test_inputs_stay_and_results_are_the_callers() -> None:
    program = NETWORKS["two_inputs"]()
    xs = image(program, 6, 7)
    before = [x.copy() for x in xs]
    executable = pick_backend("auto").compile(program)
    a, b, c = executable.run(xs, [0, 0, 1])
    assert not any(np.may_share_memory(p, q) for p, q in itertools.combinations([a, b, c, *xs], 2))
    assert all(np.array_equal(p, q) for p, q in zip(xs, before, strict=True)) and np.array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_and_cancelling(backend: str) -> None:
    program = rcan()
    executable = pick_backend(backend).compile(program, threads=2, tile=16)
    xs = image(program, 60, 50, 2)
    told: list[tuple[int, int]] = []
    first = executable.run(xs, [0], lambda *t: told.append(t))
    assert told[0][0] == 0 and told[-1][0] == told[-1][1] and len({t for _, t in told}) == 1
    assert [d for d, _ in told] == sorted(d for d, _ in told) and len({d for d, _ in told}) > 6

    def stop(done: int, total: int) -> None:
        if done > total * 0.3:
            raise KeyError(done)

    with pytest.raises(KeyError):
        executable.run(xs, [0], stop)
    assert np.array_equal(executable.run(xs, [0])[0], first[0])


def test_working_memory_counts_what_is_kept() -> None:
    if "cpu" not in BACKENDS:
        pytest.skip("the C++ extension is not built")
    memory = pick_backend("cpu").compile(rcan(3, 8), threads=2).working_memory(100, 80)
    assert 2 * 4 * 8 * 8000 <= memory["kept_bytes"] <= 6 * 4 * 8 * 8000 < memory["bytes"] < memory["kept_bytes"] + (64 << 20)


# ---- pictures ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_come_out_like_those_of_the_reference(backend: str) -> None:
    program = rcan()
    picture = np.random.default_rng(3).integers(0, 256, (21, 34, 3), np.uint8)
    got, expected = (Model(program, b).upscale(picture) for b in (backend, "reference"))
    assert got.shape == (42, 68, 3) and int(np.abs(got.astype(int) - expected).max()) <= 1
    many = list(Model(program, backend).upscale_many([picture, picture[:10]]))
    assert np.array_equal(many[0], got) and many[1].shape == (20, 68, 3)


def test_precisions() -> None:
    program = rcan()
    xs = image(program, 20, 20)
    if "cpu" not in BACKENDS:
        pytest.skip("the C++ extension is not built")
    plain = Model(program, "cpu").run(xs)
    fast = Model(program, "cpu", "fast")
    assert np.array_equal(fast.run(xs), plain) and "f32 instead of fast" in fast.describe()
    with pytest.raises(ModelError, match="not quantised"):
        Model(program, "cpu", "int8")
    assert "4 pieces" in Model(program, "cpu").describe()


def spatial() -> Program:
    """A network for pictures that resizes to the picture's size and takes no means."""
    b = Builder(3)
    small = b.conv(b.conv(0, 4, sh=2, sw=2, **pads(0, 0, 0, 0)), 4, sh=3, sw=3)
    y = b.step("ResizeTo", [small, 0], 4, {"coord": 1})
    b.conv(b.step("Concat", [0, y], 7), 12, epilogue=[shuffle(2), SIGMOID])
    return b.program(feed=Feed("bgr"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_resizing_alone_needs_no_pieces(backend: str) -> None:
    program, rng = spatial(), np.random.default_rng(5)
    executable = pick_backend(backend).compile(program, threads=2, tile=16)
    assert isinstance(executable, staged.Sized) and "each picture size" in executable.describe()
    for size in ((30, 44), (17, 23), (30, 44)):
        picture = rng.integers(0, 256, (*size, 3), np.uint8)
        got, expected = (Model(program, b, tile=16).upscale(picture) for b in (backend, "reference"))
        assert int(np.abs(got.astype(int) - expected).max()) <= 1
        x = image(program, *size, 2)
        whole = pick_backend(backend).compile(program, threads=1, tile=1000).run(x, [0])
        assert np.array_equal(executable.run(x, [0])[0], whole[0])
    with pytest.raises(PictureError, match="too small"):
        executable.run(image(program, 1, 9), [0])


# ---- what is refused ---------------------------------------------------------------------------------------------------------------------------


def broken(case: str) -> Program:
    b = Builder(4)
    x = b.conv(0, 4)
    s = b.step("GlobalAveragePool", [x], 4)
    if case == "joins":
        b.step("Concat", [x, s], 8)
    elif case == "one pixel, as what":
        b.step("Pointwise", [s], 4, {}, [Epilogue("Mul", value=x)])
    elif case == "of one pixel":
        b.step("DepthToSpace", [s], 1)
    elif case == "one pixel of a picture":
        b.step("ResizeTo", [x, s], 4)
    elif case == "combines 4 channels":
        b.step("Pointwise", [x], 4, {}, [Epilogue("Mul", value=b.conv(s, 2, k=1))])
    else:
        b.step("ResizeTo", [x], 4)
    return Program(b.values, b.inputs, [("y", b.last)], b.steps)


@pytest.mark.parametrize(
    "case", ["joins", "one pixel, as what", "of one pixel", "one pixel of a picture", "combines 4 channels", "1 inputs"]
)
def test_refused(case: str) -> None:
    with pytest.raises(ModelError, match=case):
        broken(case).validate()


def test_pictures_that_do_not_fit() -> None:
    model = Model(cunet())
    with pytest.raises(PictureError, match=r"combines .* for a|joins pictures"):
        model.run(image(model.program, 13, 11)[0])
    far = Builder(1)
    x = far.conv(0, 1, k=1, sh=4096, sw=4096, **dict.fromkeys(("pt", "pl", "pb", "pr"), 0))
    far.step("ResizeTo", [far.step("Resize", [x], 1, {"scale_h": 0.5, "scale_w": 0.5}), 0], 1)
    with pytest.raises(PictureError, match="more than 4096 times"):
        far.program().value_sizes(4097, 4097)


def test_damaged_files_never_do_worse_than_an_error() -> None:
    """Random bytes in the program section of a file, its checksum made right."""
    import zlib

    for name in ("imdn", "esa"):
        data, rng = fsr.dumps(NETWORKS[name]()), np.random.default_rng(5)
        size = int.from_bytes(data[40:48], "little")
        for _ in range(600):
            d = bytearray(data)
            for _ in range(rng.integers(1, 3)):
                d[64 + rng.integers(size)] = rng.choice([0, 1, 2, 8, 9, 10, 24, 0x7F, 0xFF, rng.integers(256)])
            d[24:28] = zlib.crc32(bytes(d[64:])).to_bytes(4, "little")
            try:
                program = fsr.loads(bytes(d))
                if max(max(s) for s in program.value_sizes(8, 8)) > 64:
                    continue
                stages.split(program, 8, 8, [v for _, v in program.outputs])
            except (ModelError, PictureError):
                continue
