"""Networks converted by TensorFlow's own converter, in every type of weights, against LiteRT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tflite_graphs import run_litert

from fastsr.backends import pick_backend
from fastsr.importers import load_graph
from fastsr.importers.tflite_schema import Tensor, parse_model
from fastsr.lower import lower
from fastsr.passes import optimise

CONVERT = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
L = tf.keras.layers
def conv(filters, size=3, **options):
    return L.Conv2D(filters, size, padding="same", **options)
def function(f):
    return L.Lambda(f)
def prelu():
    return L.PReLU(shared_axes=[1, 2], alpha_initializer=tf.keras.initializers.RandomUniform(0.1, 0.4, seed=1))
NETWORKS = {
    "espcn": lambda x: function(lambda t: tf.nn.depth_to_space(t, 3))(conv(27)(conv(16, activation="tanh")(conv(32, 5, activation="tanh")(x)))),
    "fsrcnn": lambda x: L.Conv2DTranspose(3, 9, strides=3, padding="same")(prelu()(conv(32, 1)(prelu()(conv(8)(prelu()(conv(32, 5)(x))))))),
    "anchor": lambda x: function(lambda t: tf.clip_by_value(tf.nn.depth_to_space(t, 2), 0.0, 1.0))(L.Add()([conv(12)(conv(16, activation="relu")(x)),
              L.Concatenate()([x] * 4)])),
    "leaky": lambda x: conv(3)(L.UpSampling2D(2, interpolation="bilinear")(L.LeakyReLU(negative_slope=0.2)(conv(8)(L.UpSampling2D(2)(x))))),
    "swish": lambda x: conv(3)(L.Activation("swish")(L.ReLU(max_value=6.0)(conv(8)(x)))),
    "hard_swish": lambda x: conv(3)(L.Activation("gelu")(L.Activation("hard_swish")(conv(8)(x)))),
    "separable": lambda x: L.SeparableConv2D(3, 3, padding="same")(L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x))),
    "strided": lambda x: L.Conv2DTranspose(3, 4, strides=2, padding="same")(conv(8, strides=2, activation="relu")(x)),
    "dilated": lambda x: conv(3, dilation_rate=2)(conv(8, dilation_rate=3)(x)),
    "pads": lambda x: L.Cropping2D(2)(function(lambda t: tf.pad(t, [[0, 0], [3, 2], [2, 3], [0, 0]], mode="REFLECT"))(L.ZeroPadding2D(2)(x))),
    "halves": lambda x: function(lambda t: t[..., :4] * t[..., 4:])(conv(8)(x)),
    "pool": lambda x: L.UpSampling2D(2)(L.Add()([L.MaxPooling2D(2)(x), L.AveragePooling2D(2)(x)])),
    "shuffle": lambda x: conv(3)(L.Reshape((24, 32, 3))(L.Permute((1, 3, 2, 4, 5))(L.Reshape((12, 16, 2, 2, 3))(conv(12)(x))))),
    "rescaled": lambda x: function(lambda t: t[0] * 255.0 + t[1])([conv(3)(L.Rescaling(1 / 255)(x)), x]),
}
for name, build in NETWORKS.items():
    source = L.Input((12, 16, 3), batch_size=1)
    model = tf.keras.Model(source, build(source))
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.uniform(0, 0.1, w.shape).astype(np.float32) if w.ndim == 1 else w for w in model.get_weights()])
    examples = lambda: ([rng.random((1, 12, 16, 3), dtype=np.float32)] for _ in range(16))
    for kind in ("float32", "float16", "dynamic", "floats", "int8", "uint8"):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind in ("floats", "int8", "uint8"):
            converter.representative_dataset = examples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if kind in ("int8", "uint8"):
            converter.inference_input_type = converter.inference_output_type = tf.as_dtype(kind)
        with open(os.path.join(sys.argv[1], name + " " + kind + ".tflite"), "wb") as f:
            f.write(converter.convert())
"""
NAMES = [line.split('"')[1] for line in CONVERT.splitlines() if line.startswith('    "')]
KINDS = {"float32": 1e-5, "float16": 1e-5, "dynamic": 0.05, "floats": 0, "int8": 0, "uint8": 0}
"""Types -> the error allowed, relative to the largest number; 0 where the levels of the result are compared."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the converted networks."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT, which TensorFlow Lite files are compared with, is not installed")
    folder = tmp_path_factory.mktemp("converted")
    python = os.environ.get("FASTSR_TF_PYTHON") or sys.executable
    if subprocess.run([python, "-c", "import tensorflow"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no TensorFlow: name a Python that has one in FASTSR_TF_PYTHON")
    run = subprocess.run([python, "-c", CONVERT, str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


def real(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor that LiteRT takes or gives, (N, C, H, W)."""
    numbers = (array.astype(np.float32) - tensor.zero[0]) * tensor.scale[0] if tensor.quantised else array
    return np.ascontiguousarray(numbers.transpose(0, 3, 1, 2), np.float32)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_converted_network_gives_what_litert_gives(name: str, kind: str, converted: Path) -> None:
    path = converted / f"{name} {kind}.tflite"
    model = parse_model(path.read_bytes())
    source, result = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    x = np.random.default_rng(2).random((1, 12, 16, 3), np.float32)
    if source.quantised:
        info = np.iinfo(source.dtype)
        x = np.clip(np.rint(x / source.scale[0]) + source.zero[0], info.min, info.max).astype(source.dtype)
    wanted = real(run_litert(path.read_bytes(), x), result)
    program = lower(optimise(load_graph(path)))
    got = pick_backend("cpu").compile(program).run([real(x, source)], [0])[0]
    assert got.shape == wanted.shape
    if KINDS[kind]:
        assert np.abs(got - wanted).max() <= KINDS[kind] * np.abs(wanted).max()
        return
    maker = next(o for o in model.operators if model.outputs[0] in o.outputs)
    levels = np.rint(np.abs(got - wanted) / float((result if result.quantised else model.tensors[maker.inputs[0]]).scale[0]))
    assert levels.max() <= 3
    assert (levels > 0).mean() < 0.25
