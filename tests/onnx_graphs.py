"""Small ONNX files for the tests, made with onnx.helper, and ONNX Runtime's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]
ANY = ("N", 3, "H", "W")


class Net:
    """A graph under construction: `node` returns the name of a node's first output."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[str] = []
        self.metadata: dict[str, str] = {}
        self.domains: dict[str, int] = {}

    def input(self, shape: Shape = ANY, name: str = "x", dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.const(numbers, np.int64)

    def random(self, *shape: int, scale: float = 0.5) -> str:
        return self.const(self.rng.standard_normal(shape) * scale)

    def node(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attrs: Any) -> str:
        return self.many(op, *inputs, outputs=outputs, domain=domain, **attrs)[0]

    def many(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attrs: Any) -> list[str]:
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        if domain:
            self.domains[domain] = 1
        self.nodes.append(helper.make_node(op, list(inputs), names, f"{op}_{len(self.nodes)}", domain=domain, **attrs))
        return names

    def conv(self, x: str, cin: int, cout: int, k: int = 3, group: int = 1, **attrs: Any) -> str:
        attrs.setdefault("pads", [k // 2] * 4)
        return self.node("Conv", x, self.random(cout, cin // group, k, k, scale=0.3), self.random(cout), group=group, **attrs)

    def size_of(self, x: str, axis: int) -> str:
        """One size of a tensor, as an array of one number."""
        return self.node("Gather", self.node("Shape", x), self.ints(axis))

    def model(self, *outputs: str) -> Any:
        """The ModelProto; the last node's first output is the output when none is named."""
        names = outputs or tuple(self.outputs) or (self.nodes[-1].output[0],)
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for v in values:
            v.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "net", self.inputs, values, self.constants)
        opsets = [helper.make_opsetid(d, v) for d, v in {"": self.opset, **self.domains}.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=min(10, 4 + max(self.opset - 9, 0)))
        for key, value in self.metadata.items():
            model.metadata_props.add(key=key, value=value)
        return model

    def data(self, *outputs: str) -> bytes:
        return bytes(self.model(*outputs).SerializeToString())


def run_onnx(data: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
    """All outputs of a file in ONNX Runtime, unoptimised, so that it does what the file says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=True)))
