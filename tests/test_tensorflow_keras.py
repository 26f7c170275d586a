"""Networks exported by TensorFlow's own tools: Keras layers and tf.image, frozen by convert_variables_to_constants_v2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastsr.backends import pick_backend
from fastsr.importers import load_graph
from fastsr.lower import lower
from fastsr.ops import run_graph
from fastsr.passes import optimise

EXPORT = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
L = tf.keras.layers
def conv(filters, size=3, **options):
    return L.Conv2D(filters, size, padding="same", **options)
def function(f):
    return L.Lambda(f)
NETWORKS = {
    "prelu": lambda x: conv(3)(L.PReLU(shared_axes=[1, 2])(conv(8)(x))),
    "transposed": lambda x: L.Conv2DTranspose(3, 9, strides=3, padding="same")(conv(8, activation="relu")(x)),
    "transposed_valid": lambda x: L.Conv2DTranspose(3, 4, strides=2, padding="valid")(x),
    "upsampling_nearest": lambda x: conv(3)(L.UpSampling2D((2, 3), interpolation="nearest")(conv(4)(x))),
    "batch_norm": lambda x: conv(3)(L.LeakyReLU()(L.BatchNormalization()(conv(8)(x)))),
    "depthwise": lambda x: conv(3)(L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)),
    "separable": lambda x: L.SeparableConv2D(3, 3, padding="same")(x),
    "dilated": lambda x: conv(3, dilation_rate=2)(x),
    "pixel_shuffle": lambda x: function(lambda t: tf.nn.depth_to_space(t, 2))(conv(12)(x)),
    "concat": lambda x: L.Concatenate()([x, conv(3)(x)]),
    "crop": lambda x: L.Cropping2D(2)(L.ZeroPadding2D(3)(conv(3)(x))),
    "clip": lambda x: function(lambda t: tf.clip_by_value(t * 255.0, 20.0, 60.0))(L.Rescaling(2.0, -0.5)(x)),
    "resize_bicubic": lambda x: function(lambda t: tf.image.resize(t, tf.shape(t)[1:3] * 2, method="bicubic"))(x),
    "resize_bilinear": lambda x: function(lambda t: tf.image.resize(t, tf.shape(t)[1:3] * 3, method="bilinear"))(x),
    "swish": lambda x: L.ReLU(max_value=6.0)(conv(3, activation="swish")(x)),
    "reflect": lambda x: function(lambda t: tf.pad(t, [[0, 0], [1, 2], [3, 1], [0, 0]], mode="REFLECT"))(conv(3)(x)),
    "squeeze_dense": lambda x: L.Multiply()([conv(8)(x), L.Reshape((1, 1, 8))(L.Dense(8, "sigmoid")(L.Dense(2, "relu")(
        L.GlobalAveragePooling2D()(conv(8)(x)))))]),
    "squeeze_conv": lambda x: (lambda y: y * conv(8, 1, activation="sigmoid")(L.GlobalMaxPooling2D(keepdims=True)(y)))(conv(8)(x)),
    "squeeze_dims": lambda x: function(lambda t: t * tf.sigmoid(tf.reduce_mean(t, [1, 2])[:, None, None, :]))(conv(4)(x)),
    "instance_norm": lambda x: function(lambda t: tf.nn.batch_normalization(t, *tf.nn.moments(t, [1, 2], keepdims=True), None, None, 1e-3))(
        conv(4)(x)),
    "repeated": lambda x: conv(3)(function(lambda t: tf.concat([t, tf.broadcast_to(tf.reduce_mean(t, [1, 2], True), tf.shape(t))], 3))(conv(4)(x))),
    "pools": lambda x: L.AveragePooling2D(3, 2, "same")(L.MaxPooling2D(3, 1, "same")(L.MaxPooling2D(2, 2, "same")(conv(4)(x)))),
    "pools_valid": lambda x: L.AveragePooling2D(2)(L.MaxPooling2D(3, 2)(conv(4)(x))),
    "resize_to_other": lambda x: function(lambda t: tf.image.resize(t[0], tf.shape(t[1])[1:3], method="bilinear"))([conv(4, strides=2)(x), x]),
    "two_outputs": lambda x: [conv(3, name="a")(x), conv(4, name="b")(x)],
}
for name, build in NETWORKS.items():
    source = L.Input((None, None, 3))
    model = tf.keras.Model(source, build(source))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape).astype(np.float32) * (0.3 if w.ndim == 4 else 1) for w in model.get_weights()])
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.float32, name="x"))
    frozen = convert_variables_to_constants_v2(call)
    with open(os.path.join(sys.argv[1], name + ".pb"), "wb") as f:
        f.write(frozen.graph.as_graph_def().SerializeToString())
    x = rng.random((1, 13, 10, 3), dtype=np.float32)
    y = frozen(tf.constant(x))
    np.savez(os.path.join(sys.argv[1], name + ".npz"), x=x, **{str(i): np.array(t) for i, t in enumerate(y if isinstance(y, (list, tuple)) else [y])})
"""
NAMES = [line.split('"')[1] for line in EXPORT.splitlines() if line.startswith('    "')]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the frozen networks, their inputs and their outputs."""
    folder = tmp_path_factory.mktemp("keras")
    python = os.environ.get("FASTSR_TF_PYTHON") or sys.executable
    if subprocess.run([python, "-c", "import tensorflow"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no TensorFlow: name a Python that has one in FASTSR_TF_PYTHON")
    run = subprocess.run([python, "-c", EXPORT, str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", NAMES)
def test_exported_network_gives_the_same(name: str, exported: Path) -> None:
    graph = load_graph(exported / f"{name}.pb")
    with np.load(exported / f"{name}.npz") as data:
        got = run_graph(graph, {"x": data["x"].transpose(0, 3, 1, 2)})
        assert len(got) == len(data.files) - 1
        for i, output in enumerate(graph.outputs):
            want = data[str(i)].transpose(0, 3, 1, 2)
            assert got[output].shape == want.shape
            np.testing.assert_allclose(got[output], want, rtol=0, atol=2e-6 * float(np.abs(want).max()))
            if i == 0:
                run = pick_backend().compile(lower(optimise(graph))).run([np.ascontiguousarray(data["x"].transpose(0, 3, 1, 2))], [0])[0]
                np.testing.assert_allclose(run, want, rtol=0, atol=1e-5 * float(np.abs(want).max()))
