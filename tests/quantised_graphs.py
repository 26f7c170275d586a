"""Small quantised networks for tests, as graphs: QDQ pairs around convolutions, or QLinearConv."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from graphs import Builder

MOST = 127
"""Magnitude of weights, where a test does not set another; see `runtime_cuts_off`."""

Q = tuple[str, float, int, Any]
"""A quantised value: its name, scale, zero point and type."""


class Quantised(Builder):
    """Adds quantised layers; what it takes and makes are `Q`s, but for `real` and `quantize`."""

    def scale_of(self, scale: Any, zero: Any, dtype: Any) -> tuple[str, str]:
        return self.const(scale), self.const(zero, dtype)

    def quantize(self, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> Q:
        return self.op("QuantizeLinear", x, *self.scale_of(scale, zero, dtype)), scale, zero, dtype

    def real(self, q: Q) -> str:
        return self.op("DequantizeLinear", q[0], *self.scale_of(*q[1:]))

    def weight_integers(self, cout: int, cin: int, kh: int, kw: int, dtype: Any = np.int8) -> str:
        most = MOST
        w = np.clip(np.rint(self.rng.standard_normal((cout, cin, kh, kw)) * most / 3), -most, most)
        return self.const(w + (128 if dtype == np.uint8 else 0), dtype)

    def conv_q(
        self,
        x: Q,
        cin: int,
        cout: int,
        k: int | tuple[int, int] = 3,
        *,
        out: tuple[float, int, Any] | None = (1.0, 128, np.uint8),
        per_channel: bool = True,
        bias: bool = True,
        w_type: Any = np.int8,
        linear: bool = False,
        act: Any = None,
        **attrs: Any,
    ) -> Any:
        """A convolution and what follows it. out: scale, zero point and type of the result; None: real numbers. linear: QLinearConv."""
        kh, kw = (k, k) if isinstance(k, int) else k
        cg = cin // attrs.get("group", 1)
        w = self.weight_integers(cout, cg, kh, kw, w_type)
        n = cout if per_channel else 1
        scale = (self.rng.uniform(0.5, 1.5, n) * (127 / MOST) / (30 * np.sqrt(cg * kh * kw))).astype(np.float32)
        zero = np.full(n, 128 if w_type == np.uint8 else 0)
        if not per_channel:
            scale, zero = scale.reshape(()), zero.reshape(())
        b = self.const(self.rng.integers(-3000, 3000, cout), np.int32) if bias else ""
        sums = (np.float32(x[1]) * scale).astype(np.float32)
        if linear:
            assert out is not None
            params = [*self.scale_of(*x[1:]), w, self.const(scale), self.const(zero, w_type), *self.scale_of(*out)]
            return self.op("QLinearConv", x[0], *params, *([b] if bias else []), **attrs), *out
        real_w = self.op("DequantizeLinear", w, self.const(scale), self.const(zero, w_type), **({"axis": 0} if per_channel else {}))
        real_b = [self.op("DequantizeLinear", b, self.const(sums), axis=0)] if bias else []
        y = self.op("Conv", self.real(x), real_w, *real_b, **attrs)
        if act is not None:
            y = act(self, y)
        return y if out is None else self.quantize(y, *out)


@lru_cache(maxsize=1)
def runtime_cuts_off() -> bool:
    """Whether ONNX Runtime's convolutions of integers cut sums of two products off at 16 bits, as they do on x86 without VNNI.

    Its documents advise weights of 7 bits there, with which no sum is too large: comparisons take such weights then.
    """
    import onnxruntime
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (1, 8, 9, 9)).astype(np.int8), rng.integers(0, 256, (8, 8, 3, 3)).astype(np.uint8)
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"])
    ins = [helper.make_tensor_value_info("x", TensorProto.INT8, x.shape), helper.make_tensor_value_info("w", TensorProto.UINT8, w.shape)]
    graph = helper.make_graph([node], "g", ins, [helper.make_tensor_value_info("y", TensorProto.INT32, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x, "w": w})
    places = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.int64), (3, 3), (1, 2))
    return not np.array_equal(y[0], np.einsum("chwij,ocij->ohw", places, w.astype(np.int64)))
