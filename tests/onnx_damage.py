"""The table of damaged or unsupported ONNX graphs, each with words of the error that it must give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx_graphs import Net

Damage = Callable[[Any], None]
Build = Callable[[Net], Any]
UNSUPPORTED: list[tuple[str, Build, str]] = []
DAMAGE: dict[str, tuple[Damage, str]] = {}


def refused(name: str, build: Build, says: str) -> None:
    UNSUPPORTED.append((name, build, says))


def damage(says: str) -> Callable[[Damage], Damage]:
    """Register a function that damages a sound model, with words of the error."""

    def put(function: Damage) -> Damage:
        DAMAGE[function.__name__] = (function, says)
        return function

    return put


def sound() -> Any:
    """A network of one convolution and an activation, as a ModelProto that loads."""
    n = Net()
    n.node("Relu", n.conv(n.input(), 3, 4))
    return n.model()


# ---- what is not supported ---------------------------------------------------------------------------------------------------------------------

refused("normalisation of two axes", lambda n: n.node("InstanceNormalization", n.node("Reshape", n.input((1, 4, 16, 16)), n.ints(1, 2, 512, 1)),
        n.random(2), n.random(2)), "moves pixels")  # fmt: skip
refused("normalisation of other channels", lambda n: n.node("InstanceNormalization", n.input(), n.random(4), n.random(4)), "scale of shape")
refused("groups", lambda n: n.node("GroupNormalization", n.input(), n.random(3), n.random(3), num_groups=2), "2 groups for 3 channels")
refused("sum over the picture", lambda n: n.node("Relu", n.node("ReduceSum", n.input(), n.ints(2, 3))), "sum or a mean over rows or columns")
refused("sum over something else", lambda n: n.node("Div", n.node("ReduceSum", n.input(), n.ints(2, 3)), n.const(100.0)), "something else")
refused("pixel repeated to a size of nothing", lambda n: n.node("Expand", n.node("GlobalAveragePool", n.input()), n.node("Concat", n.size_of("x", 0),
        n.size_of("x", 1), n.node("Mul", n.size_of("x", 2), n.ints(3)), n.size_of("x", 3), axis=0)), "no picture in the network")  # fmt: skip
refused("unknown operator", lambda n: n.node("Whatever", n.input()), "'Whatever_0'.*Whatever is not supported")
refused("other domain", lambda n: n.node("FusedConv", n.input(), domain="com.microsoft"), "domain 'com.microsoft'")
refused("Softmax", lambda n: n.node("Softmax", n.input()), "attention")
refused("ThresholdedRelu", lambda n: n.node("ThresholdedRelu", n.input()), "no step")
refused("Conv of three axes", lambda n: n.node("Conv", n.input(), n.random(4, 3, 3)), "two axes")
refused("computed filter", lambda n: n.node("Conv", n.input(), n.conv("x", 3, 4)), "where a constant is expected")
refused("constant picture", lambda n: n.node("Add", n.input((1, 3, 4, 4)), n.random(1, 3, 4, 4)), "one number, or one per channel")
refused("resize to a constant size", lambda n: n.node("Resize", n.input(), "", "", n.ints(1, 3, 100, 100)), "constant size")
refused("resize to half a picture of odd size", lambda n: n.node("Resize", n.input(), "", "", n.node("Concat", n.size_of("x", 0), n.size_of("x", 1),
        n.node("Div", n.size_of("x", 2), n.ints(2)), n.size_of("x", 3), axis=0)), "rounded down")  # fmt: skip
refused("antialias", lambda n: n.node("Resize", n.input(), "", n.const([1, 1, 2, 2]), antialias=1, mode="linear"), "antialias")
refused("tf_crop_and_resize", lambda n: n.node("Resize", n.input(), n.const([0, 0, 0, 0, 1, 1, 1, 1]), n.const([1, 1, 2, 2]),
        coordinate_transformation_mode="tf_crop_and_resize"), "tf_crop_and_resize")  # fmt: skip
refused("wrap", lambda n: n.node("Pad", n.input(), n.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"), "mode 'wrap'")
refused("pad channels", lambda n: n.node("Pad", n.input(), n.ints(0, 1, 0, 0, 0, 0, 0, 0)), "channels")
refused("side by side", lambda n: n.node("Concat", n.input(), "x", axis=3), "side by side")
refused("crop of fixed size", lambda n: n.node("Slice", n.input(), n.ints(0), n.ints(8), n.ints(2)), "fixed size")
refused("sizes that differ", lambda n: n.node("Add", n.input(), n.node("Conv", "x", n.random(3, 3, 3, 3))), "axis H differs")
refused("to integers", lambda n: n.node("Cast", n.input(), to=TensorProto.INT64), "INT64")
refused("window attention", lambda n: n.node("Transpose", n.node("Reshape", n.input((1, 4, 16, 16)), n.ints(1, 4, 2, 8, 2, 8)),
        perm=[0, 2, 4, 1, 3, 5]), "moves pixels")  # fmt: skip
refused("flattened picture", lambda n: n.node("Relu", n.node("Reshape", n.input((1, 4, 16, 16)), n.ints(1, 4, 256))), "moves pixels")
refused("multiplied sizes", lambda n: n.node("Reshape", n.input(), n.node("Concat", n.ints(1, 3), n.node("Mul", n.size_of("x", 2), n.size_of("x", 3)),
        axis=0)), "moves pixels")  # fmt: skip
refused("maxima of unknown borders", lambda n: n.node("MaxPool", n.input(), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
        "depends on the picture's size")  # fmt: skip
refused("mean of rows", lambda n: n.node("ReduceMean", n.input(), axes=[2]), "whole picture")
refused("training", lambda n: n.node("Dropout", n.input(), n.const(0.5), n.const(True, np.bool_)), "training")
refused("power", lambda n: n.node("Pow", n.input(), n.const(2.5)), "power 2.5")
refused("text input", lambda n: n.node("Identity", n.input(dtype=TensorProto.STRING)), "STRING")
refused("a vector", lambda n: n.node("Relu", n.input((5,))), "not a picture")
refused("unknown channels", lambda n: n.node("Relu", n.input(("N", "C", "H", "W"))), "how many channels")
refused("no input", lambda n: n.node("Relu", n.random(1, 3, 4, 4)), "no input")
refused("rows and columns by different blocks", lambda n: n.node("Reshape", n.node("Transpose", n.node("Reshape", n.input((1, 6, 8, 8)),
        n.ints(1, 1, 2, 3, 8, 8)), perm=[0, 1, 4, 2, 5, 3]), n.ints(1, 1, 16, 24)), "square blocks")  # fmt: skip


refused("rows and columns exchanged", lambda n: n.conv(n.node("Transpose", n.input(), perm=[0, 1, 3, 2]), 3, 4), "NCWH")
refused("exchanged output", lambda n: n.node("Transpose", n.conv(n.input(), 3, 4), perm=[0, 1, 3, 2]), "axes NCWH")


def endless_shape_code(n: Net) -> Any:
    size = n.size_of(n.input(), 2)
    for _ in range(3000):
        size = n.node("Div", n.node("Add", n.node("Mul", size, n.ints(3)), n.ints(1)), n.ints(2))
    return n.node("Resize", "x", "", "", n.node("Concat", n.size_of("x", 0), n.size_of("x", 1), size, n.size_of("x", 3), axis=0))


def many_large_fills(n: Net) -> Any:
    x = n.input()
    for _ in range(40):
        x = n.node("Add", x, n.node("ReduceMax", n.node("ConstantOfShape", n.ints(4096, 4096)), keepdims=0))
    return x


def branch(n: Net) -> Any:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "b", [], [helper.make_tensor_value_info("y", 1, None)])
    return n.node("If", n.node("Less", n.node("ReduceMax", n.input(), keepdims=0), n.const(0.5)), then_branch=graph, else_branch=graph)


refused("endless shape code", endless_shape_code, "rounds sizes|absurd")
refused("many large fills", many_large_fills, "memory")
refused("If on pixels", branch, "whole picture|branches|constants only")

# ---- damage ------------------------------------------------------------------------------------------------------------------------------------


@damage("no nodes")
def no_nodes(m: Any) -> None:
    del m.graph.node[:]


@damage("no output")
def no_output(m: Any) -> None:
    del m.graph.output[:]


@damage("'gone'")
def missing_value(m: Any) -> None:
    m.graph.node[1].input[0] = "gone"


@damage("'gone'")
def missing_output(m: Any) -> None:
    m.graph.output[0].name = "gone"


@damage("depends on itself")
def cycle(m: Any) -> None:
    m.graph.node[0].input[0] = m.graph.node[1].output[0]


@damage("two nodes compute")
def computed_twice(m: Any) -> None:
    m.graph.node.append(m.graph.node[0])


@damage("name of another value")
def constant_twice(m: Any) -> None:
    m.graph.initializer.append(m.graph.initializer[0])


@damage("version 5")
def old_operators(m: Any) -> None:
    m.opset_import[0].version = 5


@damage("filter of shape")
def other_channels(m: Any) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


@damage("too large")
def huge_constant(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 1, 1]


@damage("too large")
def huge_and_empty(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [0, 1 << 62, 3, 3]
    m.graph.initializer[0].raw_data = b""


@damage("bytes")
def ten_gigabytes_declared(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [1 << 8, 1 << 20]
    m.graph.initializer[0].raw_data = b""


@damage("shape")
def negative_dimension(m: Any) -> None:
    m.graph.initializer[0].dims[0] = -4


@damage("bytes")
def short_constant(m: Any) -> None:
    m.graph.initializer[0].raw_data = m.graph.initializer[0].raw_data[:-1]


@damage("NaN")
def undefined_numbers(m: Any) -> None:
    m.graph.initializer[0].raw_data = np.full(108, np.nan, np.float32).tobytes()


@damage("COMPLEX64")
def complex_constant(m: Any) -> None:
    m.graph.initializer[0].data_type = 14


@damage("strides")
def zero_stride(m: Any) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("strides", [0, 1]))


@damage("wrong type")
def attribute_of_wrong_type(m: Any) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("strides", "two"))


@damage("groups")
def zero_groups(m: Any) -> None:
    next(a for a in m.graph.node[0].attribute if a.name == "group").i = 0


@damage("bias of shape")
def bias_of_wrong_length(m: Any) -> None:
    m.graph.initializer[1].dims[:] = [2, 2]


@damage("absurd size")
def absurd_size(m: Any) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40


@damage("inputs")
def thousands_of_inputs(m: Any) -> None:
    m.graph.node.append(helper.make_node("Sum", [f"x{k}" for k in range(10000)], ["s"]))
    for k in range(10000):
        m.graph.input.append(helper.make_tensor_value_info(f"x{k}", 1, [1, 3, 8, 8]))
    m.graph.output[0].name = "s"


@damage("nodes, more than")
def huge_node_count(m: Any) -> None:
    for k in range(70000):
        m.graph.node.add(op_type="Relu").output.append(f"r{k}")


@damage("no tensor")
def sequence_input(m: Any) -> None:
    m.graph.input[0].type.ClearField("tensor_type")
    m.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


@damage("give the path")
def external_data_of_bytes(m: Any) -> None:
    m.graph.initializer[0].data_location = 1
    m.graph.initializer[0].external_data.add(key="location", value="weights")
