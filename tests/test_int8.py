"""Quantised networks: what ONNX Runtime makes of them, the precision int8 of the backends, and what cannot be."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantised_graphs
from core import ISAS, _core
from graphs import Builder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantised_graphs import Q, Quantised

import fastsr
from fastsr import fsr, levels, ops
from fastsr.backends import numba_cpu
from fastsr.backends.reference import run_program
from fastsr.cli import main
from fastsr.errors import BackendError, ModelError
from fastsr.graph import Graph
from fastsr.lower import lower
from fastsr.passes import optimise
from fastsr.program import Program

onnx = pytest.importorskip("onnx", reason="onnx builds the models for ONNX Runtime")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the peer")


def relu(b: Builder, y: str) -> str:
    return b.op("Relu", y)


def leaky(b: Builder, y: str) -> str:
    return b.op("LeakyRelu", y, alpha=0.2)


def prelu(b: Builder, y: str) -> str:
    return b.op("PRelu", y, b.const(np.linspace(-0.1, 0.4, 9).reshape(-1, 1, 1)))


def clip(b: Builder, y: str) -> str:
    return b.op("Clip", y, b.const(-0.75), b.const(1.5))


SAME = {"pads": [1, 1, 1, 1]}


def linear() -> tuple[Graph, float]:
    """QLinearConv of every form, with unsigned and signed values, strides, dilations and groups."""
    b = Quantised(3)
    q = b.quantize("x", 0.02, 120)
    q = b.conv_q(q, 3, 8, out=(0.03, 7, np.uint8), linear=True, **SAME)
    q = b.conv_q(q, 8, 12, out=(0.02, 0, np.uint8), linear=True, group=4, per_channel=False, bias=False, pads=[0, 1, 2, 1])
    q = b.conv_q(q, 12, 5, (2, 3), out=(0.02, 130, np.uint8), linear=True, strides=[2, 1], w_type=np.uint8)
    q = b.conv_q(q, 5, 9, out=(0.02, 9, np.uint8), linear=True, dilations=[2, 2], pads=[2, 2, 2, 2])
    q = b.conv_q(q, 9, 4, 1, out=(0.03, 100, np.uint8), linear=True)
    y = b.op("DepthToSpace", b.real(q), blocksize=2, mode="CRD")
    return b.done(y), 0.03


def signed() -> tuple[Graph, float]:
    """The same of int8."""
    b = Quantised(3)
    q = b.quantize("x", 0.02, -3, np.int8)
    q = b.conv_q(q, 3, 9, out=(0.03, -128, np.int8), linear=True, **SAME)
    q = b.conv_q(q, 9, 6, out=(0.02, 11, np.int8), linear=True, **SAME)
    q = b.conv_q(q, 6, 3, 1, out=(0.03, 0, np.int8), linear=True)
    return b.done(b.real(q)), 0.03


def qdq() -> tuple[Graph, float]:
    """Q and DQ around convolutions, which ONNX Runtime makes QLinearConv of."""
    b = Quantised(3)
    q = b.quantize("x", 0.02, 120)
    q = b.conv_q(q, 3, 9, out=(0.03, 0, np.uint8), act=relu, **SAME)
    q = b.conv_q(q, 9, 16, out=(0.02, 131, np.uint8), per_channel=False, **SAME)
    q = b.conv_q(q, 16, 4, out=(0.03, 120, np.uint8), bias=False, **SAME)
    return b.done(b.op("DepthToSpace", b.real(q), blocksize=2, mode="DCR")), 0.03


def residual() -> tuple[Graph, float]:
    """Values with several readers, quantised sums, integers joined and shuffled before they are read."""
    b = Quantised(3)
    q = b.quantize("x", 0.02, 120)
    first = q = b.conv_q(q, 3, 8, out=(0.03, 128, np.uint8), linear=True, **SAME)
    q = b.conv_q(q, 8, 8, out=(0.04, 100, np.uint8), linear=True, **SAME)
    q = b.quantize(b.op("Add", b.real(q), b.real(first)), 0.05, 20, np.uint8)
    joined = b.op("Concat", q[0], b.quantize(b.op("Relu", b.real(first)), 0.05, 20)[0], axis=1)
    q = b.conv_q((joined, *q[1:]), 16, 12, out=(0.03, 100, np.uint8), linear=True, **SAME)
    q = b.op("DepthToSpace", q[0], blocksize=2, mode="CRD"), *q[1:]
    q = b.conv_q(q, 3, 5, out=(0.02, 90, np.uint8), linear=True, **SAME)
    return b.done(b.real(q), b.real(first)), 0.02


def in_floats() -> tuple[Graph, float]:
    """Activations that other runtimes compute in floats; a bias of floats; a float convolution; weights quantised in the graph."""
    b = Quantised(3)
    q = b.quantize("x", 0.02, 120)
    q = b.conv_q(q, 3, 9, out=(0.03, 99, np.uint8), act=prelu, **SAME)
    q = b.conv_q(q, 9, 7, out=(0.03, 20, np.uint8), act=leaky, **SAME)
    q = b.conv_q(q, 7, 8, out=(0.02, 40, np.uint8), act=clip, **SAME)
    w = b.op("QuantizeLinear", b.weights(6, 8, 1, 1), b.const(0.004), b.const(0, np.int8))
    y = b.op("Conv", b.real(q), b.op("DequantizeLinear", w, b.const(0.004), b.const(0, np.int8)), b.const(np.linspace(-1, 1, 6)))
    y = b.op("Tanh", b.conv(y, 6, 6))
    q = b.conv_q(b.quantize(y, 0.01, -1, np.int8), 6, 3, out=None, **SAME)
    return b.done(q), 1.0


NETWORKS = [linear, signed, qdq, residual, in_floats]
Make = Callable[[], tuple[Graph, float]]


def to_onnx(graph: Graph) -> bytes:
    h = onnx.helper
    nodes = [h.make_node(n.op, n.inputs, n.outputs, **n.attrs) for n in graph.nodes]
    ins = [h.make_tensor_value_info(i.name, onnx.TensorProto.FLOAT, ["N", i.channels, "H", "W"]) for i in graph.inputs]
    outs = [h.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in graph.outputs]
    constants = [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in graph.constants.items()]
    model = h.make_model(h.make_graph(nodes, "g", ins, outs, constants), opset_imports=[h.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


def runtime(graph: Graph, x: np.ndarray, optimised: bool) -> list[np.ndarray]:
    """What ONNX Runtime computes; not optimised: operator by operator."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(to_onnx(graph), options, providers=["CPUExecutionProvider"])
    return session.run(graph.outputs, {"x": x})


@pytest.fixture
def exact_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with which ONNX Runtime is exact on this processor."""
    if quantised_graphs.runtime_cuts_off():
        monkeypatch.setattr(quantised_graphs, "MOST", 63)


def picture(channels: int = 3, h: int = 17, w: int = 41, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, (1, channels, h, w)).astype(np.float32)


def program_of(make: Make) -> Program:
    return lower(optimise(make()[0]))


def integers(program: Program, x: np.ndarray) -> list[np.ndarray]:
    """The oracle."""
    return run_program(program, [x], range(len(program.outputs)), integers=True)


# ---- meaning -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("exact_runtime")
@pytest.mark.parametrize(("make", "optimised"), [(linear, True), (linear, False), (signed, True), (signed, False), (qdq, True), (residual, False)])
def test_the_same_integers_as_onnx_runtime(make: Make, optimised: bool) -> None:
    """Not optimised where QLinearConv is given and sums are of floats: optimised, ONNX Runtime adds quantised values with other roundings."""
    graph, _ = make()
    for seed in range(3):
        x = picture(seed=seed)
        theirs = runtime(graph, x, optimised)
        for ours, other in zip(integers(program_of(make), x), theirs, strict=True):
            assert len(np.unique(other)) > 40
            np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("make", NETWORKS)
def test_the_oracle_of_the_graph(make: Make) -> None:
    """The graph in float64. Where it multiplies by scales one after another, a number half-way between two levels may go to the other one."""
    graph, step = make()
    x = picture()
    want = list(ops.run_graph(graph, {"x": x.astype(np.float64)}).values())
    for ours, exact in zip(integers(program_of(make), x), want, strict=True):
        off = np.abs(ours - exact)
        assert np.max(off) <= 1.01 * step * (2 if make is residual else 1) if step < 1 else np.max(off) < 0.08
        assert np.mean(off > 1e-5 * np.abs(exact).max()) < 0.003


@pytest.mark.parametrize("make", NETWORKS)
def test_integer_convolutions_are_found(make: Make) -> None:
    program = program_of(make)
    convs = [s for s in program.steps if s.kind == "Conv"]
    found = [s for s, exact in zip(program.steps, levels.integer_convs(program), strict=True) if exact]
    assert len(found) == len(convs) - (make is in_floats)
    assert all(np.array_equal(np.rint(s.weight), s.weight) for s in found if s.weight is not None)
    again = fsr.loads(fsr.dumps(program))
    assert again.dump() == program.dump()
    x = picture()
    for a, b in zip(integers(program, x), integers(again, x), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- backends ----------------------------------------------------------------------------------------------------------------------------------


def assert_same_everywhere(program: Program, x: np.ndarray, tiles: tuple[int, ...] = (0, 7)) -> None:
    """The C++ core with every instruction set, tiling and number of threads against the oracle, bit for bit."""
    want = integers(program, x)
    data = fsr.dumps(program)
    try:
        for isa in ISAS:
            _core.set_isa(isa)
            for tile in tiles:
                model = _core.Model(data, threads=1 + tile % 3, tile=tile, precision="int8")
                assert model.kernels().count("conv8") == sum(levels.integer_convs(program))
                for ours, exact in zip(model.run([x], list(range(len(want)))), want, strict=True):
                    np.testing.assert_array_equal(ours, exact, err_msg=f"{isa}, tiles of {tile}: {model.kernels()}")
    finally:
        _core.set_isa("")


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (17, 41), (40, 130)])
def test_core(make: Make, size: tuple[int, int]) -> None:
    if make in (linear, in_floats) and size[0] < 5:
        size = (6, 7)
    program = program_of(make)
    if make is in_floats:  # a float convolution and tanh: only as near as floats are
        model = _core.Model(fsr.dumps(program), precision="int8")
        (ours,), (want,) = model.run([picture(3, *size)], [0]), integers(program, picture(3, *size))
        assert np.abs(ours - want).max() < 0.08 and np.mean(np.abs(ours - want) > 1e-5) < 0.01
    else:
        assert_same_everywhere(program, picture(3, *size))
    kernels = _core.Model(fsr.dumps(program), precision="int8").kernels()
    assert kernels.count("conv8") == sum(levels.integer_convs(program))


def test_batches_threads_teams_and_chunks() -> None:
    program = program_of(residual)
    x = np.concatenate([picture(seed=i, h=33, w=70) for i in range(2)])
    want = integers(program, x)
    model = _core.Model(fsr.dumps(program), precision="int8")
    for threads in (1, 2, 3):
        for chunk in (0, 1, 5):
            for team in (0, 1):
                for ours, exact in zip(model.run([x], [0, 1], threads=threads, chunk=chunk, team=team), want, strict=True):
                    np.testing.assert_array_equal(ours, exact)


@st.composite
def random_networks(draw: st.DrawFn) -> tuple[Graph, int, int]:
    b = Quantised(draw(st.integers(1, 5)), draw(st.integers(0, 2**16)))
    c = b.graph.inputs[0].channels

    def form() -> tuple[float, int, Any]:
        dtype = draw(st.sampled_from([np.uint8, np.int8]))
        zero = draw(st.sampled_from([0, 5, 127])) if dtype is np.int8 else draw(st.sampled_from([0, 128, 255, 30]))
        return draw(st.sampled_from([0.02, 0.05, 0.125])), zero, dtype

    q: Q = b.quantize("x", *form())
    old: list[tuple[Q, int]] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "conv", "conv", "add", "shuffle", "join"]))
        if kind == "conv":
            group = draw(st.sampled_from([g for g in (1, 1, c, 2) if c % g == 0]))
            cout = group * draw(st.integers(1, max(1, 20 // group)))
            k = draw(st.integers(1, 4)), draw(st.integers(1, 4))
            act = draw(st.sampled_from([None, relu, leaky, clip]))
            d = draw(st.integers(1, 2))
            how = {"group": group, "dilations": [d, d], "pads": [d * (n // 2) for n in (*k, *k)]}
            old.append((q, c))
            q, c = b.conv_q(q, c, cout, k, out=form(), act=act, per_channel=draw(st.booleans()), bias=draw(st.booleans()), **how), cout
            if any(n % 2 == 0 for n in k):
                old = []
            else:
                old.append((q, c))
        elif kind == "add" and (alike := [o for o, n in old if n == c]):
            q = b.quantize(b.op("Add", b.real(q), b.real(draw(st.sampled_from(alike)))), *form())
        elif kind == "join" and old and old[-1][1] + c < 40:
            q, c = b.quantize(b.op("Concat", b.real(q), b.real(old[-1][0]), axis=1), *form()), c + old[-1][1]
        elif kind == "shuffle" and c % 4 == 0 and not any(n.op == "DepthToSpace" for n in b.graph.nodes):
            q, c, old = (b.op("DepthToSpace", q[0], blocksize=2), *q[1:]), c // 4, []
    return b.done(b.real(q)), draw(st.integers(4, 24)), draw(st.integers(4, 90))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_networks())
def test_random_networks(case: tuple[Graph, int, int]) -> None:
    graph, h, w = case
    program = lower(optimise(copy.deepcopy(graph)))
    x = picture(graph.inputs[0].channels, h, w)
    exact = ops.run_graph(graph, {"x": x.astype(np.float64)})[graph.outputs[0]]
    ours = integers(program, x)[0]
    assert ours.shape == exact.shape
    assert np.mean(np.abs(ours - exact) > 1e-4 * max(1.0, float(np.abs(exact).max()))) < 0.05
    if any(levels.integer_convs(program)):
        assert_same_everywhere(program, x)


@pytest.mark.parametrize("make", [linear, qdq, residual])
def test_in_floats(make: Make) -> None:
    """f32 computes the same network in floats and rounds where the file says so: all but a few are the same integers."""
    program = program_of(make)
    x = picture()
    want = integers(program, x)
    for backend in ("cpu", "numba", "reference"):
        if backend == "numba" and numba_cpu.unavailable():
            continue
        model = fastsr.Model(program, backend, "f32")
        for name, exact in zip(model.outputs, want, strict=True):
            assert np.mean(model.run(x, [name])[name] != exact) < 0.02


# ---- what users see ----------------------------------------------------------------------------------------------------------------------------


def test_default_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTSR_PRECISION", raising=False)
    program = program_of(linear)
    assert fastsr.Model(program, "cpu").precision == "int8" and "int8" in fastsr.Model(program, "cpu").describe()
    assert fastsr.Model(program, "reference").precision == "int8"
    assert fastsr.Model(program, "cpu", "f32").precision == "f32"
    if not numba_cpu.unavailable():
        assert fastsr.Model(program, "numba").precision == "f32"
        with pytest.raises(BackendError, match="f32 only"):
            fastsr.Model(program, "numba", "int8")
    monkeypatch.setenv("FASTSR_PRECISION", "f32")
    assert fastsr.Model(program, "cpu").precision == "f32"


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_network_that_is_not_quantised(backend: str) -> None:
    b = Builder(1)
    program = lower(b.done(b.conv("x", 1, 4)))
    assert fastsr.Model(program, backend).precision in ("f32", "fast")
    with pytest.raises(ModelError, match="not quantised"):
        fastsr.Model(program, backend, "int8")


def test_the_core_says_so_too() -> None:
    b = Builder(1)
    with pytest.raises(ModelError, match="not quantised"):
        _core.Model(fsr.dumps(lower(b.done(b.conv("x", 1, 4)))), precision="int8")


def test_a_bias_wider_than_int32() -> None:
    graph, _ = qdq()
    wide = [name for name, value in graph.constants.items() if value.dtype == np.int32 and value.ndim == 1]
    assert wide
    for name in wide:
        graph.constants[name] = graph.constants[name].astype(np.int64) + 2**33
    with pytest.raises(ModelError, match="bias of int64"):
        optimise(graph)


def test_a_scale_too_small_to_divide_by() -> None:
    b = Quantised(3)
    y = b.conv_q(b.quantize("x", 1 / 255, 0), 3, 4, out=(2e-38, 0, np.uint8), act=lambda b, y: b.op("Clip", y, b.const(0), b.const(8)))
    graph = optimise(b.done(b.real(y)))
    assert all(np.isfinite(c).all() for c in graph.constants.values())
    assert any(n.op == "QuantizeLinear" and graph.const(n.inputs[1]) == np.float32(2e-38) for n in graph.nodes)


def test_a_scale_with_no_reciprocal() -> None:
    b = Quantised(3)
    with pytest.raises(ModelError, match=r"divides by the scale 1.*e-42, which is too small"):
        optimise(b.done(b.real(b.conv_q(b.quantize("x", 1 / 255, 0), 3, 4, out=(1e-42, 0, np.uint8), linear=True))))


@pytest.mark.usefixtures("exact_runtime")
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("tiny", "x_scale", "out"), [(1e-42, 1 / 255, 0.02), (1e-44, 1 / 255, 0.02), (1e-42, 1 / 255, 1e4)])
def test_a_channel_of_weights_that_are_nearly_zero(tiny: float, x_scale: float, out: float, linear: bool) -> None:
    """Its products with other scales leave float32; the integers are ONNX Runtime's all the same."""
    b = Quantised(3)
    graph = b.done(b.real(b.conv_q(b.quantize("x", x_scale, 0), 3, 4, out=(out, 128, np.uint8), linear=linear)))
    (scale,) = [name for name, value in graph.constants.items() if value.dtype == np.float32 and value.size == 4 and value.max() > 1e-4]
    graph.constants[scale][2] = tiny
    x = picture() * np.float32(x_scale * 255)
    (theirs,) = runtime(graph, x, False)
    program = lower(optimise(graph))
    (ours,) = integers(program, x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert_same_everywhere(program, x)


def test_not_a_number_becomes_the_smallest_level() -> None:
    program = program_of(linear)
    x = picture()
    x[0, 1, 4, 7], x[0, 0, 9, 30], x[0, 0, 2, 2] = np.nan, np.inf, -np.inf
    assert np.isfinite(integers(program, x)[0]).all()
    assert_same_everywhere(program, x)


def test_what_a_program_cannot_express() -> None:
    def refused(build: Callable[[Quantised], str], message: str) -> None:
        b = Quantised(4)
        with pytest.raises(ModelError, match=message):
            lower(optimise(b.done(build(b))))

    refused(lambda b: b.op("Relu", b.quantize("x", 0.1, 3)[0]), "quantised")
    refused(lambda b: b.op("QuantizeLinear", "x", b.const(0.0), b.const(0, np.uint8)), "positive")
    refused(lambda b: b.op("QuantizeLinear", "x", b.const([0.1, 0.2]), b.const([0, 0], np.uint8)), "scales along axis")
    refused(lambda b: b.op("QuantizeLinear", "x", b.op("Relu", "x")), "not constant")
    refused(lambda b: b.op("Concat", b.quantize("x", 0.1, 3)[0], b.quantize("x", 0.1, 4)[0], axis=1), "zero points")
    refused(lambda b: b.op("DequantizeLinear", b.quantize("x", 0.1, 3)[0], b.const([0.1] * 3)), "scales along axis")


def test_scales_for_each_channel_of_a_value() -> None:
    b = Quantised(4)
    scale, zero = b.const([0.1, 0.2, 0.05, 0.03]), b.const([0, 255, 128, 7], np.uint8)
    y = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", scale, zero), scale, zero)
    graph = b.done(b.conv(y, 4, 2))
    x = picture(4)
    want = ops.run_graph(graph, {"x": x})[graph.outputs[0]]
    np.testing.assert_allclose(run_program(lower(optimise(graph)), [x])[0], want, atol=1e-4)


def test_a_quantised_output_is_the_integers_themselves() -> None:
    b = Quantised(2)
    graph = b.done(b.quantize("x", 0.05, 100)[0])
    x = picture(2)
    want = ops.run_graph(graph, {"x": x})[graph.outputs[0]]
    np.testing.assert_array_equal(run_program(lower(optimise(graph)), [x])[0], want)


def test_saved_and_loaded_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTSR_PRECISION", raising=False)
    program = program_of(qdq)
    path = tmp_path / "q.fsr"
    fsr.save(program, path)
    model = fastsr.load(path, "cpu")
    x = picture()
    assert model.precision == "int8"
    np.testing.assert_array_equal(model.run(x), integers(program, x)[0])
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "quantised: 3 of 3 convolutions" in told and "in int8" in told
    assert main(["info", str(path), "--precision", "int8", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["quantised"] == {"integer_convolutions": 3, "convolutions": 3} and facts["memory"]["engine"]["precision"] == "int8"
