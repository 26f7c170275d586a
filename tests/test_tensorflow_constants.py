"""Tensors of frozen graphs: every way in which TensorFlow stores numbers; and the document's table of operators."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tensorflow_graphs import FLOAT, INT32, set_shape

from fastsr.importers.tensorflow import PICTURE_OPS
from fastsr.importers.tensorflow_schema import messages, tensor_array


@pytest.mark.parametrize(
    ("dtype", "field", "values", "shape", "want"),
    [
        (FLOAT, "float_val", [1.5, 2.5], [4], np.array([1.5, 2.5, 2.5, 2.5], np.float32)),
        (FLOAT, "float_val", [], [2], np.zeros(2, np.float32)),
        (FLOAT, "float_val", [3.0], [], np.float32(3)),
        (2, "double_val", [0.1], [2], np.array([0.1, 0.1])),
        (INT32, "int_val", [1, -2], [2], np.array([1, -2], np.int32)),
        (4, "int_val", [255], [2], np.array([255, 255], np.uint8)),
        (5, "int_val", [-3], [1], np.array([-3], np.int16)),
        (6, "int_val", [-3], [1], np.array([-3], np.int8)),
        (9, "int64_val", [2**40], [1], np.array([2**40])),
        (10, "bool_val", [True, False], [3], np.array([True, False, False])),
        (12, "int_val", [7, 200], [2], np.array([7, 200], np.uint8)),
        (11, "int_val", [-7], [1], np.array([-7], np.int8)),
        (13, "int_val", [-70000], [1], np.array([-70000], np.int32)),
        (14, "half_val", [0x3F80, 0xC020], [3], np.array([1, -2.5, -2.5], np.float32)),
        (19, "half_val", [0x3C00, 0xC100], [2], np.array([1, -2.5], np.float16)),
        (22, "uint32_val", [2**32 - 1], [1], np.array([2**32 - 1], np.uint32)),
        (23, "uint64_val", [2**63], [1], np.array([2**63], np.uint64)),
    ],
)  # fmt: skip
def test_listed_values(dtype: int, field: str, values: list[float], shape: list[int], want: np.ndarray) -> None:
    tensor = messages()["Tensor"](dtype=dtype)
    set_shape(tensor.shape, shape)
    getattr(tensor, field).extend(values)
    got = tensor_array(tensor)
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_array_equal(got, want)


def test_content_of_bfloat16_and_bool() -> None:
    tensor = messages()["Tensor"](dtype=14, tensor_content=np.array([0x3F80, 0x4000], "<u2").tobytes())
    set_shape(tensor.shape, [2])
    np.testing.assert_array_equal(tensor_array(tensor), np.array([1, 2], np.float32))
    tensor = messages()["Tensor"](dtype=10, tensor_content=b"\x00\x02\x01")
    set_shape(tensor.shape, [3])
    np.testing.assert_array_equal(tensor_array(tensor), np.array([False, True, True]))


# ---- the document ------------------------------------------------------------------------------------------------------------------------------


def test_document_lists_the_operators() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs/tensorflow.md").read_text(encoding="utf-8")
    table = text.split("## Operators on pictures", 1)[1].split("\n\n", 1)[0]
    known = set(PICTURE_OPS)
    assert known <= set(re.findall(r"\w+", table))
    assert "Sin" not in known
