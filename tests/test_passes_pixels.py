"""Rewrites of what moves pixels and channels: shuffles, transposed convolutions, pads, splits; where they fire and where they must not."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, count, fires, optimised

from fastsr.errors import ModelError
from fastsr.graph import Node
from fastsr.passes import (
    cancel_shuffles,
    channel_slices,
    common_subexpressions,
    conv_transpose,
    hoist,
    join_shuffles,
    merge_pads,
    pixel_shuffle,
)


def reshape_shuffle(b: Builder, x: str, c: int, s: int, mode: str, h: int, w: int, **broken) -> str:
    six = [1, s, s, c, h, w] if mode == "DCR" else [1, c, s, s, h, w]
    perm = [0, 3, 4, 1, 5, 2] if mode == "DCR" else [0, 1, 4, 2, 5, 3]
    y = b.op("Transpose", b.op("Reshape", x, b.const(broken.get("six", six), np.int64)), perm=broken.get("perm", perm))
    return b.op("Reshape", y, b.const(broken.get("four", [1, c, h * s, w * s]), np.int64))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(("c", "s"), [(1, 2), (3, 2), (2, 3)])
def test_pixel_shuffle(mode, c, s):
    b = Builder(c * s * s)
    g = fires(pixel_shuffle, b.done(reshape_shuffle(b, b.op("Relu", "x"), c, s, mode, 6, 7)), {"Relu": 1, "DepthToSpace": 1})
    assert g.nodes[-1].attrs == {"blocksize": s, "mode": mode}


def test_not_a_pixel_shuffle():
    b = Builder(8)
    y = reshape_shuffle(b, "x", 2, 2, "CRD", 6, 7)
    fires(pixel_shuffle, b.done(y, b.graph.nodes[1].output), None)
    b = Builder(8)
    fires(pixel_shuffle, b.done(reshape_shuffle(b, "x", 2, 2, "CRD", 6, 7, perm=[0, 1, 5, 2, 4, 3], four=[1, 2, 14, 12])), None)
    b = Builder(8)
    fires(pixel_shuffle, b.done(reshape_shuffle(b, "x", 2, 2, "CRD", 6, 7, four=[1, 1, 24, 14])), None)
    b = Builder(6)
    fires(pixel_shuffle, b.done(reshape_shuffle(b, "x", 1, 2, "CRD", 6, 7, six=[1, 1, 2, 3, 6, 7], four=[1, 1, 12, 21])), None)


def test_cancel_shuffles():
    b = Builder(4)
    y = b.op("DepthToSpace", b.op("SpaceToDepth", b.op("Relu", "x"), blocksize=2), blocksize=2)
    g = b.done(b.op("Tanh", y))
    new = optimised(g, 6, 8)
    assert count(new) == {"Relu": 1, "Tanh": 1}
    for c, mode in ((4, "DCR"), (1, "CRD")):
        b = Builder(c * 4)
        y = b.op("SpaceToDepth", b.op("DepthToSpace", b.op("Relu", "x"), blocksize=2, mode=mode), blocksize=2)
        fires(cancel_shuffles, b.done(b.op("Tanh", y)), {"Relu": 1, "Identity": 1, "Tanh": 1})


def test_shuffles_that_do_not_cancel():
    b = Builder(16)
    fires(cancel_shuffles, b.done(b.op("SpaceToDepth", b.op("DepthToSpace", "x", blocksize=2, mode="CRD"), blocksize=2)), None)
    b = Builder(16)
    fires(cancel_shuffles, b.done(b.op("SpaceToDepth", b.op("DepthToSpace", "x", blocksize=4), blocksize=2)), None)
    b = Builder(16)
    fires(cancel_shuffles, b.done(b.op("DepthToSpace", b.op("DepthToSpace", "x", blocksize=2), blocksize=2)), None)


@pytest.mark.parametrize("s", [1, 2, 3, 4])
@pytest.mark.parametrize("k", range(1, 10))
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(k, s, group):
    for before, after, extra in {(0, 0, 0), (k // 2, k // 2, s - 1), ((k - 1) // 2, k // 2, 0), (k - 1, 0, 0), (0, k - 1, min(1, s - 1))}:
        b = Builder(4)
        y = b.deconv("x", 4, 2, (k, 3), group=group, strides=[s, s], pads=[before, 1, after, 0], output_padding=[extra, 0], bias=k % 2 == 0)
        g = b.done(y)
        for h, w in ((1, 1), (2, 3), (5, 4)):
            if s * (h - 1) + k + extra > before + after:
                new = optimised(g, h, w)
                assert "ConvTranspose" not in count(new)
                assert count(new)["Conv"] == 1


def test_conv_transpose_dilated_and_depthwise():
    b = Builder(4)
    g = b.done(b.deconv("x", 4, 4, 3, group=4, strides=[2, 2], dilations=[2, 3], pads=[2, 2, 1, 1], output_padding=[1, 1]))
    assert count(optimised(g))["Conv"] == 1


def test_conv_transpose_counts_phases_from_where_taps_are_fewest():
    """k = 4, s = 2, p = 1: 2 x 2 taps and a crop instead of 3 x 3 taps, unless there is too little arithmetic to save."""
    for channels, taps in ((16, 2), (2, 3)):
        b = Builder(channels)
        new = optimised(b.done(b.deconv("x", channels, 2, 4, strides=[2, 2], pads=[1, 1, 1, 1])))
        assert new.constants[new.nodes[0].inputs[1]].shape == (8, channels, taps, taps)
        assert count(new).get("Pad", 0) == (1 if taps == 2 else 0)


@pytest.mark.parametrize("attrs", [{"strides": [2, 3]}, {"strides": [2, 2], "output_shape": [12, 14]}])
def test_conv_transpose_that_has_no_sub_pixel_form(attrs):
    b = Builder()
    g = b.done(b.deconv("x", 1, 1, 3, **attrs))
    assert not conv_transpose.run(g)
    assert count(g) == {"ConvTranspose": 1}


def test_merge_pads():
    b = Builder(2)
    y = b.pad(b.op("Relu", "x"), 1, 2, 0, 3)
    g = fires(merge_pads, b.done(b.conv(y, 2, 2, pads=[1, 0, 1, 0])), {"Relu": 1, "Conv": 1})
    assert g.nodes[-1].attrs["pads"] == [2, 2, 1, 3]
    b = Builder(2)
    fires(merge_pads, b.done(b.pad(b.pad("x", 1, 1, 0, 2, value=3.0), 0, 1, 1, 1, value=3.0)), {"Pad": 1})
    b = Builder(2)
    fires(merge_pads, b.done(b.pad(b.pad("x", -1, 0, 0, -1), 0, -1, -1, -1)), {"Pad": 1})
    b = Builder(2)
    fires(merge_pads, b.done(b.conv(b.pad(b.pad("x", 1, 0, 0, 0), 0, 1, 1, 1), 2, 2, auto_pad="VALID")), {"Conv": 1})


@pytest.mark.parametrize(
    "make",
    [
        lambda b: [b.conv(b.pad("x", 1, 1, 1, 1, value=0.5), 1, 1)],
        lambda b: [b.conv(b.pad("x", 1, 1, 1, 1, "reflect"), 1, 1)],
        lambda b: [b.conv(b.pad("x", 1, 1, 1, -1), 1, 1)],
        lambda b: [b.conv(b.pad("x", 1, 1, 1, 1), 1, 1, auto_pad="SAME_UPPER", strides=[2, 2])],
        lambda b: (lambda y: [b.conv(y, 1, 1), b.op("Relu", y)])(b.pad("x", 1, 1, 1, 1)),
        lambda b: (lambda y: [b.conv(y, 1, 1), y])(b.pad("x", 1, 1, 1, 1)),
        lambda b: [b.pad(b.pad("x", 1, 1, 1, 1), 1, 1, 1, 1, value=1.0)],
        lambda b: [b.pad(b.pad("x", -1, -1, -1, -1), 1, 1, 1, 1)],
        lambda b: [b.pad(b.pad("x", 1, 1, 1, 1, "reflect"), 1, 1, 1, 1)],
        lambda b: [b.pad(b.pad("x", 1, 1, 1, 1), 1, 1, 1, 1, "edge")],
        lambda b: [b.deconv(b.pad("x", 1, 1, 1, 1), 1, 1)],
    ],
    ids=["filled", "mirrored", "crops", "SAME", "two readers", "output", "other fill", "crop then pad", "mirror first", "mirror last", "transposed"],
)
def test_pads_that_stay(make):
    b = Builder()
    fires(merge_pads, b.done(*make(b)), None)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("Tanh", x),
        lambda b, x: b.op("Add", x, b.const([[[[0.5]]]])),
        lambda b, x: b.op("Div", b.channel(3, 2), x),
        lambda b, x: b.op("PRelu", x, b.const(np.reshape([0.1, 0.2], (2, 1, 1)))),
        lambda b, x: b.op("Clip", x, b.const(-1.0), b.const(1.0)),
        lambda b, x: b.op("LeakyRelu", x, alpha=0.2),
    ],
)
def test_hoist_over_depth_to_space(mode, make):
    b = Builder(8)
    y = b.op("DepthToSpace", b.op("Exp", "x"), blocksize=2, mode=mode)
    g = b.done(make(b, y))
    new = fires(hoist, g, count(g))
    assert new.nodes[-1].op == "DepthToSpace"


def test_hoist_over_crops_mirrors_and_nearest_resize():
    b = Builder(2)
    y = b.pad(b.pad(b.op("Exp", "x"), -1, -1, 0, 0), 1, 1, 1, 1, "reflect")
    y = b.op("Resize", y, "", b.const([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    new = optimised(b.done(b.op("Tanh", b.op("Mul", y, b.channel(2, 3)))))
    assert [n.op for n in new.nodes] == ["Exp", "Mul", "Tanh", "Pad", "Pad", "Resize"]


@pytest.mark.parametrize(
    "make",
    [
        lambda b: [b.op("Sigmoid", b.pad("x", 1, 1, 1, 1))],
        lambda b: [b.op("Tanh", b.op("Resize", "x", "", b.const([1, 1, 2, 2]), mode="linear"))],
        lambda b: (lambda y: [b.op("Tanh", y), y])(b.op("DepthToSpace", "x", blocksize=2)),
        lambda b: (lambda y: [b.op("Tanh", y), b.op("Abs", y)])(b.op("DepthToSpace", "x", blocksize=2)),
        lambda b: [b.op("Add", b.op("DepthToSpace", "x", blocksize=2), b.const(np.zeros((1, 1, 12, 14))))],
        lambda b: [b.op("Add", b.op("DepthToSpace", "x", blocksize=2), b.channel(1, 2))],
        lambda b: (lambda y: [b.op("Add", b.op("DepthToSpace", y, blocksize=2), b.op("DepthToSpace", b.op("Exp", y), blocksize=2))])("x"),
    ],
    ids=["zero padding", "linear resize", "output", "two readers", "per pixel", "more channels", "two pictures"],
)
def test_hoist_stays_away(make):
    b = Builder(4)
    fires(hoist, b.done(*make(b)), None)


def split(b: Builder, x: str, *sizes: int) -> list[str]:
    outs = [b.graph.fresh(f"part{k}") for k in range(len(sizes))]
    b.graph.nodes.append(Node("Split", [x, b.const(sizes, np.int64)], outs, {"axis": 1}, "n_split"))
    return outs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [2, 3])
def test_split_convolutions_become_a_group(group, bias):
    b = Builder(6)
    parts = split(b, b.op("Relu", "x"), *[6 // group] * group)
    y = b.op("Concat", *(b.conv(p, 6 // group, 2, bias=bias, pads=[1, 1, 1, 1]) for p in parts), axis=1)
    new = fires(channel_slices, b.done(y), {"Relu": 1, "Conv": 1})
    assert new.nodes[-1].attrs["group"] == group


@pytest.mark.parametrize(
    "make",
    [
        lambda b, p: [b.op("Concat", b.conv(p[1], 3, 2), b.conv(p[0], 3, 2), axis=1)],
        lambda b, p: (lambda y: [b.op("Concat", y, b.conv(p[1], 3, 2), axis=1), y])(b.conv(p[0], 3, 2)),
        lambda b, p: [b.op("Concat", b.conv(p[0], 3, 2, pads=[1, 1, 1, 1]), b.conv(p[1], 3, 2, 1), axis=1)],
        lambda b, p: [b.op("Concat", b.conv(p[0], 3, 2, bias=False), b.conv(p[1], 3, 2), axis=1)],
        lambda b, p: [b.op("Concat", b.conv(p[0], 3, 2), b.conv(p[1], 3, 2), axis=1), p[0]],
        lambda b, p: [b.op("Concat", b.conv(p[0], 3, 3, group=3), b.conv(p[1], 3, 3, group=3), axis=1)],
    ],
    ids=["other order", "output of a part", "other kernel", "one bias", "output of the Split", "groups already"],
)
def test_other_splits_select_channels(make):
    b = Builder(6)
    g = b.done(*make(b, split(b, "x", 3, 3)))
    fires(channel_slices, g, {"Conv": 4, "Concat": 1})


def test_slices_select_channels():
    b = Builder(5)
    a, c = split(b, "x", 2, 3)
    ints = [b.const([v], np.int64) for v in (1, 3, -1, -10, 1, -2)]
    slices = b.op("Slice", "x", ints[0], ints[1], ints[4]), b.op("Slice", "x", ints[2], ints[3], ints[4], ints[5])
    fires(channel_slices, b.done(a, c, *slices), {"Conv": 4})
    b = Builder(5)
    one, seven, axis = (b.const([v], np.int64) for v in (1, 7, 2))
    fires(channel_slices, b.done(b.op("Slice", "x", one, seven, axis)), None)


def shuffled(b: Builder, op: str, mode: str = "DCR", block: int = 2) -> str:
    return b.op("DepthToSpace", b.op(op, "x"), blocksize=block, mode=mode)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_join_shuffles(mode):
    b = Builder(8)
    y = b.op("Max", b.op("Sub", shuffled(b, "Relu", mode), shuffled(b, "Tanh", mode)), shuffled(b, "Exp", mode))
    new = fires(join_shuffles, b.done(y), {"Relu": 1, "Tanh": 1, "Exp": 1, "Sub": 1, "Max": 1, "DepthToSpace": 1})
    assert new.nodes[-1].op == "DepthToSpace"


@pytest.mark.parametrize(
    "make",
    [
        lambda b: [b.op("Add", shuffled(b, "Relu"), shuffled(b, "Exp", "CRD"))],
        lambda b: [b.op("Add", shuffled(b, "Relu"), b.op("Resize", "x", "", b.const([1, 1, 2, 2])))],
        lambda b: (lambda y: [b.op("Add", y, shuffled(b, "Exp")), y])(shuffled(b, "Relu")),
        lambda b: (lambda y: [b.op("Add", y, shuffled(b, "Exp")), b.op("Abs", y)])(shuffled(b, "Relu")),
        lambda b: (lambda y: [b.op("Add", y, y)])(shuffled(b, "Relu")),
        lambda b: [b.op("Mul", b.op("DepthToSpace", b.conv("x", 4, 8, 1), blocksize=2), shuffled(b, "Exp"))],
    ],
    ids=["other mode", "not a shuffle", "output", "two readers", "with itself", "other channels"],
)
def test_shuffles_that_stay_apart(make):
    b = Builder(4)
    fires(join_shuffles, b.done(*make(b)), None)


def test_common_subexpressions():
    b = Builder(2)
    ys = [b.op("Mul", b.op("LeakyRelu", "x", alpha=0.1), b.const(2.0)) for _ in range(3)]
    fires(common_subexpressions, b.done(b.op("Concat", *ys, axis=1)), {"LeakyRelu": 1, "Mul": 1, "Concat": 1})
    b = Builder(2)
    g = fires(common_subexpressions, b.done(b.op("Relu", "x"), b.op("Relu", "x")), {"Relu": 1, "Identity": 1})
    assert not common_subexpressions.run(g)
    b = Builder(2)
    fires(common_subexpressions, b.done(b.op("LeakyRelu", "x", alpha=0.1), b.op("LeakyRelu", "x", alpha=0.2), b.op("Abs", "x")), None)
    b = Builder(2)
    fires(common_subexpressions, b.done(b.op("Sub", "x", b.op("Abs", "x")), b.op("Mul", "x", b.const(2.0)), b.op("Mul", "x", b.const(3.0))), None)


def test_parts_of_absurdly_many_channels_are_refused() -> None:
    b = Builder(1 << 16)
    b.graph.nodes.append(Node("Split", ["x", b.const([1 << 15, 1 << 15], np.int64)], ["p", "q"], {"axis": 1}, "n_split"))
    with pytest.raises(ModelError, match=r"n_split.*65536 channels.*damaged"):
        channel_slices.run(b.done(b.op("Sub", "p", "q")))
