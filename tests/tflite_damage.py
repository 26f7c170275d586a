"""The table of damaged or unsupported TensorFlow Lite files, each with words of the error that it must give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tflite_graphs import Net, Table

Build = Callable[[Net], Any]
Damage = Callable[[Net, Table], None]
UNSUPPORTED: list[tuple[str, Build, str]] = []
DAMAGE: dict[str, tuple[Damage, str]] = {}


def refused(name: str, build: Build, says: str) -> None:
    UNSUPPORTED.append((name, build, says))


def damage(says: str) -> Callable[[Damage], Damage]:
    """Register a function that damages a sound network, given as its builder and its graph, with words of the error."""

    def put(function: Damage) -> Damage:
        DAMAGE[function.__name__] = (function, says)
        return function

    return put


def sound() -> Net:
    """A network of one quantised convolution and DEPTH_TO_SPACE, which loads."""
    n = Net()
    of, to = ("int8", 0.03, -3), ("int8", 0.05, 5)
    n.op("DEPTH_TO_SPACE", n.conv_q(n.input((1, 12, 16, 3), *of), of, 3, 12, to), block_size=2, q=to)
    return n


X, W, B, CONVOLVED = 0, 1, 2, 3
"""Its tensors."""
PADS = [[0, 0], [1, 1], [1, 1], [0, 0]]

# ---- what is not supported ---------------------------------------------------------------------------------------------------------------------

refused("custom operator", lambda n: n.op("CustomWhatever", n.input()), "custom operator 'Whatever'.*without it")
refused("Flex", lambda n: n.op("CustomFlexErf", n.input()), "'FlexErf'.*built-in operators only")
refused("number 200", lambda n: n.op("200", n.input()), "number 200 is not supported")
refused("SOFTMAX", lambda n: n.op("SOFTMAX", n.input()), "'v0_0' .SOFTMAX.: .*attention")
refused("WHILE", lambda n: n.op("WHILE", n.input()), "loops")
refused("RESHAPE of a flat picture", lambda n: n.op("RELU", n.op("RESHAPE", n.input(), n.ints(1, 192, 3))), "moves pixels")
refused("RESIZE of any size to a fixed one", lambda n: n.op("RESIZE_BILINEAR", n.input(signature=(1, -1, -1, 3)), n.ints(24, 32)), "constant size")
refused("CONCATENATION side by side", lambda n: n.op("CONCATENATION", n.input(), 0, axis=2), "side by side")
refused("CONCATENATION with an activation", lambda n: n.op("CONCATENATION", n.input(), 0, axis=3, fused=1), "fused activation")
refused("SLICE of fixed size", lambda n: n.op("SLICE", n.input(signature=(1, -1, -1, 3)), n.ints(0, 0, 0, 0), n.ints(1, 8, 8, 3)), "fixed size")
refused("PAD of channels", lambda n: n.op("PAD", n.input(), n.const([[0, 0], [0, 0], [0, 0], [0, 1]], "int32")), "channels")
refused("MIRROR_PAD of another mode", lambda n: n.op("MIRROR_PAD", n.input(), n.const(PADS, "int32"), mode=7), "mode 7")
refused("MEAN of rows", lambda n: n.op("MEAN", n.input(), n.ints(1)), "whole picture")
refused("REDUCE_MIN", lambda n: n.op("REDUCE_MIN", n.input(), n.ints(1, 2)), "reduces the axes HW")
refused("CAST to integers", lambda n: n.op("CAST", n.input(), kind="uint8"), "uint8 inside the network")
refused("POW", lambda n: n.op("POW", n.input(), n.const(2.5)), "power 2.5")
refused(
    "a filter from the picture", lambda n: n.op("CONV_2D", n.input(), n.conv(0, 3, 4), stride_w=1, stride_h=1), "a constant is expected|filter of"
)
refused("a picture of constants", lambda n: n.op("ADD", n.input(), n.random(1, 12, 16, 3)), "one number, or one per channel")
refused("TRANSPOSE of rows and columns", lambda n: n.conv(n.op("TRANSPOSE", n.conv(n.input(), 3, 4), n.ints(0, 2, 1, 3)), 4, 4), "does not transpose")
refused("an output with axes exchanged", lambda n: n.op("TRANSPOSE", n.conv(n.input(), 3, 4), n.ints(0, 2, 1, 3)), "rows before columns")
refused("FULLY_CONNECTED of a flat picture", lambda n: n.op("FULLY_CONNECTED", n.input(), n.random(5, 576)), "only channels can be mixed")
refused("TRANSPOSE_CONV to another size", lambda n: n.op("TRANSPOSE_CONV", n.ints(1, 23, 32, 4), n.random(4, 3, 3, 3), n.input(), stride_w=2,
        stride_h=2), "fixed multiple")  # fmt: skip
refused("a vector", lambda n: n.op("RELU", n.input((5,))), "not a picture")
refused("an input of int32", lambda n: n.op("CAST", n.input(kind="int32")), "takes int32")
refused("text", lambda n: n.op("RELU", n.input(kind="string")), "takes string")
refused("no input", lambda n: n.op("RELU", n.random(1, 4, 4, 3)), "no input")
refused("a window of a million pixels", lambda n: n.op("AVERAGE_POOL_2D", n.input(), filter_w=1000, filter_h=1000, stride_w=1, stride_h=1), "window")
refused("FILL of ten gigabytes", lambda n: n.op("ADD", n.input(), n.op("FILL", n.ints(50000, 50000), n.const(1.0))), "shape .50000, 50000.")
refused("RANGE without end", lambda n: n.op("ADD", n.input(), n.op("CAST", n.op("RANGE", *(n.const(v, "int32") for v in (0, 2**31 - 1, 1)),
        kind="int32"))), "damaged file")  # fmt: skip
refused("quantised by blocks", lambda n: n.tensors[n.op("RELU", n.input())].update({4: Table({4: ("B", 2)})}), "way of its own")
refused("integers without scale", lambda n: n.op("ADD", n.input(), n.const(1.0), kind="int8"), "without a scale")

# ---- damage ------------------------------------------------------------------------------------------------------------------------------------


@damage("version 4")
def another_version(n: Net, graph: Table) -> None:
    n.version = 4


@damage("no operators or no output")
def no_operators(n: Net, graph: Table) -> None:
    n.operators.clear()


@damage("no operators or no output")
def no_outputs(n: Net, graph: Table) -> None:
    n.outputs = []


@damage("gives back its input")
def input_is_output(n: Net, graph: Table) -> None:
    n.outputs = [X]


@damage("names tensors .*999")
def unknown_tensor(n: Net, graph: Table) -> None:
    n.operators[0][1] = np.array([X, 999], np.int32)


@damage("list of 65537 tables")
def very_many_operators(n: Net, graph: Table) -> None:
    n.operators += [n.operators[0]] * (65537 - len(n.operators))


@damage("has no output")
def operator_without_output(n: Net, graph: Table) -> None:
    n.operators[0][2] = np.zeros(0, np.int32)


@damage("computed twice")
def two_makers(n: Net, graph: Table) -> None:
    n.operators.append(n.operators[0])


@damage("depends on itself")
def loop(n: Net, graph: Table) -> None:
    n.operators[0][1] = np.array([CONVOLVED + 1, W, B], np.int32)


@damage("code 7 of 2")
def unknown_code(n: Net, graph: Table) -> None:
    n.operators[0][0] = ("I", 7)


@damage("reads 'c1', which nothing computes")
def lost_filter(n: Net, graph: Table) -> None:
    n.tensors[W][2] = ("I", 0)


@damage("buffer 99 of")
def unknown_buffer(n: Net, graph: Table) -> None:
    n.tensors[W][2] = ("I", 99)


@damage("324 bytes for the shape")
def enormous_filter(n: Net, graph: Table) -> None:
    n.tensors[W][0] = np.array([12, 30000, 30000, 3], np.int32)


@damage("has 324 bytes for the shape")
def absurd_shape(n: Net, graph: Table) -> None:
    n.tensors[W][0] = np.array([2**31 - 1] * 8, np.int32)
    n.tensors[W][4] = Table({2: np.array([0.1], np.float32)})


@damage("absurd size")
def enormous_picture(n: Net, graph: Table) -> None:
    n.tensors[X][0] = np.array([1, 2**30, 2**30, 3], np.int32)


@damage("has the shape .-1")
def negative_shape(n: Net, graph: Table) -> None:
    n.tensors[W][0] = np.array([-1, 3, 3, 3], np.int32)


@damage("filter of shape .12, 3, 9")
def filter_of_another_rank(n: Net, graph: Table) -> None:
    n.tensors[W][0] = np.array([12, 3, 9], np.int32)


@damage("in 1 groups for 2 channels")
def picture_of_two_channels(n: Net, graph: Table) -> None:
    n.tensors[X][0] = np.array([1, 12, 16, 2], np.int32)


@damage("type float64|bytes for the shape")
def filter_of_another_type(n: Net, graph: Table) -> None:
    n.tensors[W][1] = ("b", 10)


@damage("12 zero points for 11 scales")
def too_few_scales(n: Net, graph: Table) -> None:
    n.tensors[W][4][2] = n.tensors[W][4][2][:11]


@damage("not positive")
def scale_of_zero(n: Net, graph: Table) -> None:
    n.tensors[CONVOLVED][4][2] = np.zeros(1, np.float32)


@damage("not positive")
def scale_that_is_no_number(n: Net, graph: Table) -> None:
    n.tensors[W][4][2] = np.full(12, np.nan, np.float32)


@damage("zero point 999, which int8 cannot hold")
def zero_beyond(n: Net, graph: Table) -> None:
    n.tensors[CONVOLVED][4][3] = np.array([999], np.int64)


@damage("zero point 1000, which int8 cannot hold")
def filter_with_a_zero_beyond(n: Net, graph: Table) -> None:
    n.tensors[W][4][3] = np.full(12, 1000, np.int64)


@damage("2 zero points for 1 scales")
def two_zeros(n: Net, graph: Table) -> None:
    n.tensors[CONVOLVED][4][3] = np.array([1, 2], np.int64)


@damage("computed, but has 3 scales")
def scales_for_a_picture(n: Net, graph: Table) -> None:
    n.tensors[X][4] = Table({2: np.ones(3, np.float32), 6: ("i", 3)})


@damage("bias of shape .4. for 12 scales")
def short_bias(n: Net, graph: Table) -> None:
    n.tensors[B][0], n.buffers[2][0] = np.array([4], np.int32), np.zeros(16, np.uint8)
    del n.tensors[B][4]


@damage("strides .1, 0")
def stride_of_zero(n: Net, graph: Table) -> None:
    n.operators[0][4][1] = ("i", 0)


@damage("padding 5")
def unknown_padding(n: Net, graph: Table) -> None:
    n.operators[0][4][0] = ("b", 5)


@damage("fused activation 9")
def unknown_activation(n: Net, graph: Table) -> None:
    n.operators[0][4][3] = ("b", 9)


@damage("blocks of 5x5")
def block_that_does_not_fit(n: Net, graph: Table) -> None:
    n.operators[1][4][0] = ("i", 5)


@damage("another scale or zero point")
def pixels_moved_to_another_scale(n: Net, graph: Table) -> None:
    n.tensors[CONVOLVED + 1][4][2] = np.array([0.5], np.float32)


@damage("sparse")
def sparse_filter(n: Net, graph: Table) -> None:
    n.tensors[W][6] = Table({0: ("i", 1)})


@damage("needs at least 2")
def no_filter(n: Net, graph: Table) -> None:
    n.operators[0][1] = np.array([X], np.int32)
