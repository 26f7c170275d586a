"""The table of damaged or unsupported TensorFlow graphs, each with words of the error that it must give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tensorflow_graphs import INT32, Frozen, Type, set_shape


def small() -> Frozen:
    """A network of one convolution, as a file that loads."""
    g = Frozen()
    g.node("Relu", g.conv(g.placeholder(), np.ones((3, 3, 1, 2), np.float32), "conv"), name="y")
    return g


Damage = Callable[[Frozen], None]
DAMAGE: dict[str, tuple[Damage, str]] = {}


def damage(says: str) -> Callable[[Damage], Damage]:
    """Register a function that makes a graph that must be refused, with words of the error."""

    def put(build: Damage) -> Damage:
        DAMAGE[build.__name__] = (build, says)
        return build

    return put


def attr(g: Frozen, node: str, key: str) -> Any:
    """The AttrValue of a node of `g`."""
    (n,) = [n for n in g.message.node if n.name == node.encode()]
    (a,) = [a for a in n.attr if a.key == key.encode()]
    return a.value


def network(g: Frozen) -> None:
    """A sound graph to damage: x -> conv -> y."""
    g.message.CopyFrom(small().message)


@damage("no nodes|parse")
def no_nodes(g: Frozen) -> None:
    g.message.library.SetInParent()


@damage("no placeholder|no output")
def constants_only(g: Frozen) -> None:
    g.node("Add", g.const(np.float32(1)), g.const(np.float32(2)), name="y")


@damage("'gone'")
def missing_input(g: Frozen) -> None:
    network(g)
    g.message.node[-1].input[0] = b"gone"


@damage("two nodes have the name 'conv'")
def duplicate_name(g: Frozen) -> None:
    network(g)
    g.node("Relu", "x", name="conv")


@damage("depends on itself")
def cycle(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    g.node("Add", x, "b", name="a")
    g.node("Relu", "a", name="b")
    g.node("Tanh", "b", name="y")


@damage("no output")
def nothing_but_a_cycle(g: Frozen) -> None:
    g.placeholder([1, -1, -1, 1])
    g.node("Relu", "b", name="a")
    g.node("Relu", "a", name="b")


@damage("reads output 1 of 'conv'")
def absent_output(g: Frozen) -> None:
    network(g)
    g.message.node[-1].input[0] = b"conv:1"


@damage("reads output 5")
def absent_output_of_split(g: Frozen) -> None:
    s = g.node("Split", g.const(np.int32(3)), g.placeholder([1, -1, -1, 4]), num_split=2)
    g.node("Relu", s + ":5", name="y")


@damage("'conv:output:0'|name")
def function_style_input(g: Frozen) -> None:
    network(g)
    g.message.node[-1].input[0] = b"conv:z"


@damage("'y'.*Whatever.*not supported|Whatever")
def unknown_operator(g: Frozen) -> None:
    g.node("Whatever", g.placeholder([1, -1, -1, 1]), name="y")


@damage("not frozen")
def not_frozen(g: Frozen) -> None:
    w = g.node("VariableV2", name="w")
    g.node("Conv2D", g.placeholder(), w, name="y", padding="SAME", strides=[1, 1, 1, 1])


@damage("inputs")
def relu_without_input(g: Frozen) -> None:
    g.placeholder([1, -1, -1, 1])
    g.node("Relu", name="y")


@damage("padding")
def no_padding_attribute(g: Frozen) -> None:
    x = g.placeholder()
    g.node("Conv2D", x, g.const(np.ones((3, 3, 1, 1), np.float32)), name="y", strides=[1, 1, 1, 1])


@damage("wrong type")
def attribute_of_wrong_type(g: Frozen) -> None:
    network(g)
    attr(g, "conv", "padding").i = 1


@damage("strides")
def zero_stride(g: Frozen) -> None:
    g.conv(g.placeholder(), np.ones((3, 3, 1, 1), np.float32), strides=[1, 0, 1, 1])


@damage("strides")
def stride_over_channels(g: Frozen) -> None:
    g.conv(g.placeholder(), np.ones((3, 3, 1, 1), np.float32), strides=[1, 1, 1, 2])


@damage("4 are needed")
def short_strides(g: Frozen) -> None:
    g.conv(g.placeholder(), np.ones((3, 3, 1, 1), np.float32), strides=[1, 1])


@damage("data_format")
def unknown_data_format(g: Frozen) -> None:
    g.conv(g.placeholder(), np.ones((3, 3, 1, 1), np.float32), data_format="NCHW_VECT_C")


@damage("works on NCHW")
def mixed_layouts(g: Frozen) -> None:
    x = g.conv(g.placeholder(), np.ones((3, 3, 1, 1), np.float32))
    g.conv(x, np.ones((3, 3, 1, 1), np.float32), "y", data_format="NCHW")


@damage("filter of shape")
def filter_for_other_channels(g: Frozen) -> None:
    x = g.conv(g.placeholder(), np.ones((3, 3, 1, 2), np.float32))
    g.conv(x, np.ones((3, 3, 3, 2), np.float32), "y")


@damage("filter of shape")
def empty_filter(g: Frozen) -> None:
    g.conv(g.placeholder([1, -1, -1, 1]), np.ones((0, 3, 1, 2), np.float32), "y")


@damage("bias of shape")
def bias_of_wrong_length(g: Frozen) -> None:
    x = g.conv(g.placeholder(), np.ones((3, 3, 1, 2), np.float32))
    g.node("BiasAdd", x, g.const(np.ones(3, np.float32)), name="y", data_format="NHWC")


@damage("one number, or one per channel|damaged")
def constant_picture(g: Frozen) -> None:
    g.node("Add", g.placeholder([1, -1, -1, 1]), g.const(np.ones((1, 5, 5, 1), np.float32)), name="y")


@damage("differs")
def residual_of_other_size(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    g.node("Add", g.conv(x, np.ones((3, 3, 1, 1), np.float32), padding="VALID"), x, name="y")


@damage("is_training")
def training_batch_norm(g: Frozen) -> None:
    v = g.const(np.ones(2, np.float32))
    g.node("FusedBatchNorm", g.placeholder(), v, v, v, v, name="y", data_format="NHWC")


@damage("blocks of 3x3")
def block_does_not_divide(g: Frozen) -> None:
    g.node("DepthToSpace", g.placeholder([1, -1, -1, 4]), name="y", block_size=3, data_format="NHWC")


@damage("block")
def huge_block(g: Frozen) -> None:
    g.node("SpaceToDepth", g.placeholder([1, -1, -1, 4]), name="y", block_size=2**31, data_format="NHWC")


@damage("constant size")
def resize_to_constant_size(g: Frozen) -> None:
    g.node("ResizeBilinear", g.placeholder([1, -1, -1, 3]), g.ints(100, 100), name="y")


@damage("fixed multiple")
def resize_to_the_size_of_nothing(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    small = g.conv(x, np.ones((3, 3, 1, 1), np.float32), padding="VALID")
    g.node("ResizeBilinear", small, g.size_of(x, 2), name="y")


@damage("rounded down")
def resize_by_one_and_a_half(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 3])
    size = g.node("FloorDiv", g.size_of(x, 3), g.ints(2, 2))
    g.node("ResizeBilinear", x, size, name="y")


@damage("absurd|factor")
def resize_by_a_million(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 3])
    g.node("ResizeBilinear", x, g.size_of(x, 1000000), name="y")


@damage("not a fixed multiple|output of a size")
def transposed_convolution_of_odd_size(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    n = g.node("Add", g.node("Mul", g.scalar_of(x, 1), g.const(np.int32(2)), T=Type(INT32)), g.const(np.int32(1)), T=Type(INT32))
    shape = g.node("Pack", g.const(np.int32(1)), n, n, g.const(np.int32(1)), N=4, axis=0)
    g.node(
        "Conv2DBackpropInput",
        shape,
        g.const(np.ones((4, 4, 1, 1), np.float32)),
        x,
        name="y",
        strides=[1, 2, 2, 1],
        padding="SAME",
        data_format="NHWC",
    )


@damage("side by side")
def joined_along_width(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    g.node("ConcatV2", x, x, g.const(np.int32(2)), name="y", N=2)


@damage("divides by zero")
def division_by_zero(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 3])
    g.node("ResizeBilinear", x, g.node("FloorDiv", g.size_of(x), g.ints(0, 0)), name="y")


@damage("too large")
def huge_constant(g: Frozen) -> None:
    network(g)
    del attr(g, "Const_2", "value").tensor.shape.dim[:]
    set_shape(attr(g, "Const_2", "value").tensor.shape, [1 << 20, 1 << 20, 1, 1])


@damage("only 1 values")
def large_constant_of_one_value(g: Frozen) -> None:
    network(g)
    tensor = attr(g, "Const_2", "value").tensor
    tensor.ClearField("tensor_content")
    tensor.float_val.append(1)
    del tensor.shape.dim[:]
    set_shape(tensor.shape, [5000, 5000, 1, 1])


@damage("shape")
def overflowing_constant(g: Frozen) -> None:
    network(g)
    del attr(g, "Const_2", "value").tensor.shape.dim[:]
    set_shape(attr(g, "Const_2", "value").tensor.shape, [1 << 62, 1 << 62, -(1 << 62), 1])


@damage("bytes")
def short_content(g: Frozen) -> None:
    network(g)
    attr(g, "Const_2", "value").tensor.tensor_content = b"1234"


@damage("memory")
def many_large_fills(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 3])
    for _ in range(40):
        big = g.node("Fill", g.ints(1 << 12, 1 << 12), g.const(np.float32(1)))
        x = g.node("Add", x, g.node("Squeeze", big), name="")


@damage("memory")
def many_arrays_taken_apart(g: Frozen) -> None:
    x, big = g.placeholder([1, -1, -1, 3]), g.const(np.zeros(4096, np.uint8))
    for _ in range(400):
        parts = g.node("Unpack", big, num=4096, axis=0, T=Type(4))
        x = g.node("Add", x, g.node("Cast", parts + ":7", SrcT=Type(4), DstT=Type(1)))


@damage("placeholders")
def thousands_of_placeholders(g: Frozen) -> None:
    for k in range(10000):
        g.placeholder(name=f"x{k}")
    g.node("AddN", *(f"x{k}" for k in range(10000)), name="y", N=10000)


@damage("DT_COMPLEX64")
def complex_constant(g: Frozen) -> None:
    network(g)
    attr(g, "Const_2", "value").tensor.dtype = 8


@damage("can be fed")
def string_placeholder(g: Frozen) -> None:
    g.node("Relu", g.placeholder(None, dtype=7), name="y")


@damage("channels")
def unknown_channels(g: Frozen) -> None:
    g.node("Relu", g.placeholder(), name="y")


@damage("not a picture")
def vector_placeholder(g: Frozen) -> None:
    g.node("Relu", g.placeholder([100]), name="y")


@damage("where a constant is expected")
def computed_filter(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    g.node("Conv2D", x, x, name="y", padding="SAME", strides=[1, 1, 1, 1])


@damage("rounds sizes|absurd")
def endless_shape_code(g: Frozen) -> None:
    x = g.placeholder([1, -1, -1, 1])
    n = g.size_of(x)
    for _ in range(3000):
        n = g.node("FloorDiv", g.node("Add", g.node("Mul", n, g.ints(3, 3), T=Type(INT32)), g.ints(1, 1), T=Type(INT32)), g.ints(2, 2))
    g.node("ResizeBilinear", x, n, name="y")
