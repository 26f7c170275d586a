"""Every rewrite fires where it should, keeps the outputs, and stays away where the pattern only nearly matches: arithmetic, and the whole list."""

from __future__ import annotations

import copy
import io
import itertools

import numpy as np
import pytest
from graphs import Builder, assert_same, count, fires, optimised, outputs

from fastsr import passes
from fastsr.errors import ModelError
from fastsr.graph import Graph, Input, Node
from fastsr.passes import (
    canonical,
    explicit_pads,
    fold_affine,
    fold_constants,
    positive_factors,
    remove_noops,
)

# ---- constants and trivial nodes ---------------------------------------------------------------------------------------------------------------


def test_fold_constants_computes_constant_chains():
    b = Builder()
    c = b.op("Mul", b.op("Add", b.const(2.0), b.const(1.0)), b.const(0.5))
    g = fires(fold_constants, b.done(b.op("Mul", "x", c)), {"Mul": 1})
    assert g.constants[g.nodes[0].inputs[1]] == pytest.approx(1.5)


def test_fold_constants_leaves_pictures_and_constant_outputs():
    b = Builder()
    fires(fold_constants, b.done(b.op("Mul", "x", b.const(2.0))), None)
    b = Builder()
    fires(fold_constants, b.done(b.op("Relu", "x"), b.op("Add", b.const(2.0), b.const(1.0))), None)


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("Identity", x),
        lambda b, x: b.pad(x, 0, 0, 0, 0, "reflect"),
        lambda b, x: b.op("Mul", x, b.const(1.0)),
        lambda b, x: b.op("Div", x, b.channel(1, 1)),
        lambda b, x: b.op("Add", b.const(0.0), x),
        lambda b, x: b.op("Sub", x, b.const(0.0)),
        lambda b, x: b.op("DepthToSpace", x, blocksize=1),
        lambda b, x: b.op("SpaceToDepth", x, blocksize=1),
        lambda b, x: b.op("Concat", x, axis=1),
        lambda b, x: b.op("Clip", x),
        lambda b, x: b.op("Transpose", x, perm=[0, 1, 2, 3]),
    ],
)
def test_remove_noops(make):
    b = Builder(2)
    fires(remove_noops, b.done(b.op("Abs", make(b, b.op("Relu", "x")))), {"Relu": 1, "Abs": 1})
    b = Builder(2)
    y = make(b, b.op("Relu", "x"))
    assert fires(remove_noops, b.done(y), {"Relu": 1}).outputs == [y]


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("Mul", x, b.const(0.0)),
        lambda b, x: b.op("Sub", b.const(0.0), x),
        lambda b, x: b.op("Div", b.const(1.0), x),
        lambda b, x: b.op("Add", x, b.channel(0, 0)),
        lambda b, x: b.op("Add", x, b.const(np.zeros((1, 1, 6, 7)))),
        lambda b, x: b.pad(x, 0, 0, 0, 1),
    ],
    ids=["times 0", "0 - x", "1 / x", "widens to two channels", "fixes the size", "pads"],
)
def test_remove_noops_keeps(make):
    b = Builder(1)
    fires(remove_noops, b.done(b.op("Tanh", make(b, b.op("Exp", "x")))), None)


def test_remove_noops_keeps_outputs_that_are_equal_to_an_input_or_to_each_other():
    b = Builder()
    y = b.op("Relu", "x")
    g = fires(remove_noops, b.done(y, b.op("Mul", y, b.const(1.0)), b.op("Mul", "x", b.const(1.0))), {"Relu": 1, "Identity": 2})
    assert not remove_noops.run(g)


@pytest.mark.parametrize(("mode", "k", "d"), list(itertools.product(["SAME_UPPER", "SAME_LOWER", "VALID"], [1, 2, 4, 5], [1, 2])))
def test_explicit_pads(mode, k, d):
    b = Builder(2)
    g = b.done(b.conv("x", 2, 3, (k, 1), auto_pad=mode, dilations=[d, d]))
    new = copy.deepcopy(g)
    assert explicit_pads.run(new)
    assert "auto_pad" not in new.nodes[0].attrs
    assert_same(outputs(g, 9, 9), outputs(new, 9, 9))


def test_explicit_pads_keeps_what_depends_on_the_size():
    b = Builder()
    fires(explicit_pads, b.done(b.conv("x", 1, 1, 3, auto_pad="SAME_UPPER", strides=[2, 2])), None)
    b = Builder()
    fires(explicit_pads, b.done(b.conv("x", 1, 1, 3, pads=[1, 1, 1, 1])), None)


# ---- arithmetic --------------------------------------------------------------------------------------------------------------------------------


def test_canonical_spelling():
    b = Builder(2)
    y = b.op("Sub", b.op("Div", b.op("Mul", b.const(3.0), "x"), b.channel(2, 4)), b.const(0.5))
    y = b.op("Sum", b.op("Abs", y), y, b.op("Relu", y))
    g = fires(canonical, b.done(b.batch_norm(y, 2)), {"Mul": 3, "Add": 4, "Abs": 1, "Relu": 1})
    assert all(g.const(n.inputs[0]) is None for n in g.nodes)


def test_canonical_keeps_constants_that_are_divided_or_subtracted_from():
    b = Builder()
    fires(canonical, b.done(b.op("Div", b.const(1.0), b.op("Sub", b.const(9.0), "x"))), None)
    b = Builder()
    fires(canonical, b.done(b.op("Max", "x", b.op("Relu", "x"))), None)


@pytest.mark.parametrize("kind", ["conv", "deconv"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
def test_fold_affine_after_convolution(kind, bias, group):
    b = Builder(4)
    y = getattr(b, kind)("x", 4, 6, 3, bias=bias, group=group)
    y = b.op("Mul", y, b.channel(1, 2, -3, 4, 5, 6))
    y = b.op("Add", y, b.const(0.5))
    y = b.op("Neg", b.op("Sub", b.channel(1, 2, 3, 4, 5, 6), y))
    g = b.done(b.op("Relu", y))
    fires(fold_affine, g, {"Conv" if kind == "conv" else "ConvTranspose": 1, "Relu": 1})


@pytest.mark.parametrize("kind", ["conv", "deconv"])
@pytest.mark.parametrize("group", [1, 2])
def test_fold_affine_before_convolution(kind, group):
    b = Builder(4)
    y = b.op("Mul", b.op("Relu", "x"), b.channel(1, 2, 3, 4))
    g = b.done(getattr(b, kind)(y, 4, 6, 3, group=group, pads=[1, 1, 1, 1]))
    fires(fold_affine, g, {"Conv" if kind == "conv" else "ConvTranspose": 1, "Relu": 1})
    b = Builder(4)
    y = b.op("Add", b.op("Relu", "x"), b.channel(1, 2, 3, 4))
    g = b.done(getattr(b, kind)(y, 4, 6, 3, group=group))
    fires(fold_affine, g, {"Conv": 1, "Relu": 1} if kind == "conv" else None)


def test_fold_affine_merges_constants():
    b = Builder(2)
    y = b.op("Mul", b.op("Mul", b.op("Add", b.op("Add", "x", b.const(1.0)), b.channel(2, 3)), b.const(2.0)), b.channel(1, 2))
    fires(fold_affine, b.done(y), {"Mul": 1, "Add": 1})


@pytest.mark.parametrize(
    "make",
    [
        lambda b: [b.conv(b.op("Add", "x", b.const(1.0)), 1, 1, 3, pads=[1, 1, 1, 1])],
        lambda b: [b.conv(b.op("Add", "x", b.const(1.0)), 1, 1, 3, auto_pad="SAME_UPPER")],
        lambda b: [b.conv(b.op("Sub", b.const(1.0), "x"), 1, 1, 3)],
        lambda b: (lambda y: [y, b.op("Mul", y, b.const(2.0))])(b.conv("x", 1, 1)),
        lambda b: (lambda y: [b.op("Tanh", y), b.op("Mul", y, b.const(2.0))])(b.conv("x", 1, 1)),
        lambda b: (lambda y: [y, b.conv(y, 1, 1)])(b.op("Mul", "x", b.const(2.0))),
        lambda b: (lambda y: [b.op("Tanh", y), b.conv(y, 1, 1)])(b.op("Mul", "x", b.const(2.0))),
        lambda b: [b.op("Mul", b.conv("x", 1, 1), b.channel(1, 2))],
        lambda b: [b.op("Div", b.const(1.0), b.conv("x", 1, 1))],
        lambda b: [b.op("Add", b.conv("x", 1, 1, pads=[1, 1, 1, 1]), b.const(np.ones((1, 1, 6, 7))))],
    ],
    ids=["zero pads", "SAME", "c - x", "output after", "two after", "output before", "two before", "more channels", "c / x", "per pixel"],
)
def test_fold_affine_stays_away(make):
    b = Builder()
    fires(fold_affine, b.done(*make(b)), None)


def test_batch_norm_disappears_into_convolutions():
    b = Builder(2)
    y = b.op("Relu", b.batch_norm(b.conv("x", 2, 4), 4))
    y = b.op("Tanh", b.batch_norm(b.deconv(y, 4, 4, 4, strides=[2, 2]), 4))
    y = b.conv(b.batch_norm(y, 4), 4, 2)
    assert count(optimised(b.done(y))) == {"Conv": 3, "Relu": 1, "Tanh": 1, "DepthToSpace": 1}
    b = Builder(2)
    g = optimised(b.done(b.conv(b.batch_norm("x", 2), 2, 2, pads=[1, 1, 1, 1])))
    assert count(g) == {"Conv": 1, "Mul": 1, "Add": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda b, y: b.op("Relu", y),
        lambda b, y: b.op("LeakyRelu", y, alpha=0.2),
        lambda b, y: b.op("PRelu", y, b.const(np.reshape([0.1, 0.2], (2, 1, 1)))),
        lambda b, y: b.op("Clip", y, b.const(-1.0), b.const(0.5)),
        lambda b, y: b.op("Max", y, b.const(-0.5)),
    ],
)
def test_positive_factors(make):
    b = Builder(2)
    y = make(b, b.conv("x", 2, 2))
    op = b.graph.nodes[-1].op
    new = fires(positive_factors, b.done(b.op("Mul", y, b.const(3.0))), {"Conv": 1, "Mul": 1, op: 1})
    assert [n.op for n in new.nodes] == ["Conv", "Mul", op]
    assert count(optimised(b.graph)) == {"Conv": 1, op: 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda b: [b.op("Mul", b.op("Relu", b.conv("x", 2, 2)), b.const(-1.0))],
        lambda b: [b.op("Mul", b.op("Relu", b.conv("x", 2, 2)), b.channel(0, 1))],
        lambda b: [b.op("Mul", b.op("Tanh", b.conv("x", 2, 2)), b.const(2.0))],
        lambda b: [b.op("Mul", b.op("Relu", "x"), b.const(2.0))],
        lambda b: [b.op("Mul", b.op("Clip", b.conv("x", 2, 2), b.const(-1.0), b.const(1.0)), b.channel(1, 2))],
        lambda b: [b.op("Mul", b.op("Relu", b.conv("x", 2, 1)), b.channel(1, 2))],
        lambda b: (lambda y: [b.op("Mul", y, b.const(2.0)), y])(b.op("Relu", b.conv("x", 2, 2))),
        lambda b: (lambda y: [b.op("Mul", b.op("Relu", y), b.const(2.0)), y])(b.conv("x", 2, 2)),
    ],
    ids=["negative", "zero", "Tanh", "no convolution", "per channel clip", "more channels", "output between", "output before"],
)
def test_factors_that_stay(make):
    b = Builder(2)
    fires(positive_factors, b.done(*make(b)), None)


# ---- the whole list ----------------------------------------------------------------------------------------------------------------------------


def test_dead_code_goes():
    b = Builder()
    b.op("Unheard", "x")
    assert count(passes.optimise(b.done(b.op("Relu", "x")))) == {"Relu": 1}


def test_optimise_stops_when_each_pass_has_seen_the_final_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorded:
        def __init__(self, rewrite):
            self.__name__, self.run = rewrite.__name__, lambda g: runs.append(rewrite) or rewrite.run(g)

    runs: list = []
    b = Builder()
    g = optimised(b.done(b.op("Relu", b.op("Add", b.conv("x", 1, 2), b.const(np.ones((1, 2, 1, 1)))))))
    once = list(passes.PASSES)
    monkeypatch.setattr(passes, "PASSES", tuple(Recorded(p) for p in once))
    passes.optimise(g)
    assert runs == once


def test_trace_and_dump(monkeypatch):
    b = Builder()
    g = b.done(b.op("Identity", b.op("Mul", b.conv("x", 1, 1), b.const(2.0))))
    calls: list[tuple[str, str, str]] = []
    text = io.StringIO()
    passes.optimise(copy.deepcopy(g), dump=text, trace=lambda *a: calls.append(a))
    assert [c[0] for c in calls] == ["remove_noops", "fold_affine"]
    assert all(c[1] != c[2] for c in calls)
    assert calls[0][1] == g.dump()
    assert "before fold_affine" in text.getvalue()
    assert "after fold_affine" in text.getvalue()


def test_debug_level_3_prints_the_graph(monkeypatch, capsys):
    b = Builder()
    g = b.done(b.op("Identity", b.op("Relu", "x")))
    for level, printed in (("2", False), ("3", True)):
        monkeypatch.setenv("FASTSR_DEBUG", level)
        passes.optimise(copy.deepcopy(g))
        assert ("remove_noops" in capsys.readouterr().err) == printed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b: b.conv("x", 3, 2), "take 3 channels, but its input has 2"),
        (lambda b: b.deconv("x", 3, 2), "take 3 channels, but its input has 2"),
        (lambda b: b.op("Conv", "x"), "inputs"),
        (lambda b: b.op("Add", "x"), "inputs"),
        (lambda b: b.op("Add", "x", ""), "inputs"),
        (lambda b: b.op("Relu"), "inputs"),
        (lambda b: b.op("Conv", "x", b.const(np.zeros((2, 2, 3)))), "two-dimensional"),
        (lambda b: b.op("Conv", "x", b.const(np.zeros((0, 2, 3, 3)))), r"shape \[0, 2, 3, 3\]"),
        (lambda b: b.op("Conv", "x", b.const(np.zeros((3, 1, 3, 3))), group=2), "in 2 groups"),
        (lambda b: b.op("Conv", "x", b.const(np.zeros((3, 2, 3, 3))), group=0), "in 0 groups"),
        (lambda b: b.op("Conv", "x", b.const(np.zeros((3, 2, 3, 3))), b.const(np.zeros(2))), "bias"),
        (lambda b: b.conv("x", 2, 2, strides=[0, 1]), "strides"),
        (lambda b: b.conv("x", 2, 2, dilations=[1]), "dilations"),
        (lambda b: b.conv("x", 2, 2, pads=[1, 1, 1, -1]), "pads"),
        (lambda b: b.deconv("x", 2, 2, output_padding=[0.5, 0]), "output_padding"),
        (lambda b: b.op("DepthToSpace", "x", blocksize=2), "do not split"),
        (lambda b: b.op("DepthToSpace", "x"), "block is None"),
        (lambda b: b.op("SpaceToDepth", "x", blocksize=0), "block is 0"),
        (lambda b: b.op("DepthToSpace", "x", blocksize=1, mode="ABC"), "mode ABC"),
        (lambda b: b.op("BatchNormalization", "x", *(b.const(np.ones(n)) for n in (2, 2, 3, 2))), "different shapes"),
        (lambda b: b.op("Add", "x", b.op("Add", b.const([1.0, 2.0]), b.const([1.0, 2.0, 3.0]))), "cannot be computed from its constants"),
    ],
)
def test_senseless_parameters_are_refused(make, message):
    b = Builder(2)
    with pytest.raises(ModelError, match=message):
        passes.optimise(b.done(make(b)))


def test_constants_that_are_not_numbers_pass_through_quietly():
    b = Builder(1)
    g = passes.optimise(b.done(b.op("Mul", b.conv("x", 1, 1), b.const(np.float32("inf")))))
    assert count(g) == {"Conv": 1}


def test_a_malformed_graph_is_refused():
    g = Graph([Input("x", 1)], ["y"], [Node("Relu", ["nothing"], ["y"], name="r")])
    with pytest.raises(ModelError, match="'r' \\(Relu\\) reads 'nothing'"):
        passes.optimise(g)


@pytest.mark.parametrize(
    ("stride", "dilation", "pads"), [(256, 1, [0, 0, 0, 0]), (2, 5000, [0, 0, 0, 0]), (2, 1, [4000000, 0, 4000000, 0]), (40, 1, [50000, 50000, 0, 0])]
)
def test_transposed_convolutions_that_ask_for_absurd_memory(stride: int, dilation: int, pads: list[int]) -> None:
    g = Graph(inputs=[Input("x", 64)], outputs=["y"], constants={"w": np.ones((64, 64, 3, 3), np.float32)})
    g.nodes.append(Node("ConvTranspose", ["x", "w"], ["y"], {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": pads}, "up"))
    with pytest.raises(ModelError, match=r"'up'.*absurd memory"):
        passes.optimise(g)
