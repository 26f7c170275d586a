"""Models saved by Keras 3, and by Keras 2 where the package tf_keras is there too, against what Keras itself computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastsr.importers import load_graph
from fastsr.ops import OPS, run_graph

EXPORT = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
folder, kind, *models = sys.argv[1:]
import numpy as np
import tensorflow as tf
if kind == "2":
    import tf_keras as keras
else:
    import keras
L = keras.layers
NEW = kind == "3"
def conv(filters, size=3, **options):
    return L.Conv2D(filters, size, **{"padding": "same", **options})
def inner(channels):
    return keras.Sequential([L.Input((None, None, channels)), conv(6), L.BatchNormalization(), L.ReLU(), conv(channels)])
def functional(channels):
    x = L.Input((None, None, channels))
    return keras.Model(x, L.Add()([x, conv(channels)(L.PReLU(shared_axes=[1, 2])(conv(5)(x)))]))
def shared(x):
    block = inner(4)
    return conv(3)(block(block(conv(4)(x))))
def attention(x):
    y = conv(8)(x)
    s = L.Dense(8, activation="sigmoid")(L.Dense(4, activation="relu")(L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(y))))
    return conv(3)(L.Multiply()([y, s]))
def operators(x):
    y = conv(6)(x)
    y = 2.0 - (y * 0.5 + 0.1) / 3.0
    return conv(3)(L.Concatenate()([-y, y - (x[..., :1] if NEW else x[:, :, :, :1])]))[:, 1:-2, 2:, :]
def ops(x):
    y = conv(6)(x)
    if NEW:
        return keras.ops.clip(keras.ops.concatenate([keras.ops.relu(y), keras.ops.maximum(y, 0.2)], axis=-1), 0.0, 0.7)
    return tf.clip_by_value(tf.concat([tf.nn.relu(y), tf.maximum(y, 0.2)], -1), 0.0, 0.7)
def shuffle(x):
    y = conv(12)(x)
    if NEW:
        return L.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(y)
    return tf.nn.depth_to_space(y, 2)
def adapted(x):
    y = L.Normalization()
    y.adapt(np.random.default_rng(3).random((2, 4, 4, 3), dtype=np.float32))
    return conv(3)(y(x))
NETWORKS = {
    "conv": lambda x: conv(3, 5)(conv(8, activation="relu")(x)),
    "valid": lambda x: conv(3, (3, 5), padding="valid", use_bias=False)(x),
    "strided": lambda x: conv(3, 4, strides=2)(x),
    "dilated": lambda x: conv(3, dilation_rate=2)(x),
    "groups": lambda x: conv(6, groups=3)(x),
    "activations": lambda x: conv(3, activation="tanh")(conv(4, activation="swish")(conv(4, activation="hard_sigmoid")(x))),
    "leaky": lambda x: conv(3, activation="leaky_relu")(L.LeakyReLU(0.1)(L.ReLU(6.0, 0.25)(conv(4)(x)))),
    "prelu": lambda x: conv(3)(L.PReLU(shared_axes=[1, 2])(conv(8)(x))),
    "transposed": lambda x: L.Conv2DTranspose(3, 9, strides=3, padding="same")(conv(8, activation="relu")(x)),
    "transposed_even": lambda x: L.Conv2DTranspose(3, 4, strides=2, padding="same")(x),
    "transposed_valid": lambda x: L.Conv2DTranspose(3, 4, strides=2, padding="valid")(x),
    "transposed_gap": lambda x: L.Conv2DTranspose(3, 2, strides=3, padding="valid")(L.Conv2DTranspose(3, 1, strides=2, padding="same")(x)),
    "transposed_more": lambda x: L.Conv2DTranspose(3, 5, strides=2, padding="same", output_padding=1)(x),
    "nearest": lambda x: conv(3)(L.UpSampling2D((2, 3))(conv(4)(x))),
    "bilinear": lambda x: L.UpSampling2D(2, interpolation="bilinear")(x),
    "bicubic": lambda x: L.UpSampling2D(2, interpolation="bicubic")(x),
    "batch_norm": lambda x: conv(3)(L.BatchNormalization(scale=False)(conv(4)(L.BatchNormalization(epsilon=1e-2)(conv(8)(x))))),
    "depthwise": lambda x: conv(3)(L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)),
    "separable": lambda x: L.SeparableConv2D(3, 3, padding="same", depth_multiplier=2)(x),
    "merges": lambda x: L.Average()([L.Subtract()([x, conv(3)(x)]), L.Maximum()([x, conv(3)(x)]), L.Minimum()([x, conv(3)(x)])]),
    "concat": lambda x: L.Concatenate()([x, conv(3)(x)]),
    "crop": lambda x: L.Cropping2D(((1, 2), (0, 3)))(L.ZeroPadding2D(((3, 0), (1, 2)))(conv(3)(x))),
    "rescale": lambda x: L.Rescaling(255.0)(conv(3)(L.Rescaling(2.0, -0.5)(x))),
    "normalization": adapted,
    "mean_pool": lambda x: L.AveragePooling2D(2, padding="valid")(x),
    "noise": lambda x: L.Dropout(0.5)(L.GaussianNoise(0.2)(conv(3)(x))),
    "nested": lambda x: conv(3)(inner(4)(conv(4)(x))),
    "nested_functional": lambda x: functional(3)(x),
    "shared": shared,
    "attention": attention,
    "max_pool": lambda x: L.MaxPooling2D(2, padding="valid")(conv(3)(x)),
    "operators": operators,
    "ops": ops,
    "shuffle": shuffle,
    "formula": lambda x: L.Lambda(lambda t: tf.clip_by_value(-t * 0.5 + 2.0, 0.25, 1.5))(conv(3)(L.Lambda(lambda t: t / 2.0 - 1)(x))),
    "closure": lambda x: (lambda scale: L.Lambda(lambda t: tf.nn.relu(t * scale)))(0.25)(conv(3)(x)),
    "channels_first": lambda x: L.Permute((2, 3, 1))(L.Permute((3, 1, 2))(conv(3)(x))),
    "relu6_pad": lambda x: conv(3, padding="valid", activation="relu6" if NEW else tf.nn.relu6)(L.ZeroPadding2D(1)(x)),
    "two_outputs": lambda x: [conv(3, name="a")(x), conv(4, name="b")(x)],
}
def keep(name, model, x):
    y = model.predict(x, verbose=0)
    np.savez(os.path.join(folder, name + ".npz"), x=x, **{str(i): t for i, t in enumerate(y if isinstance(y, (list, tuple)) else [y])})
rng = np.random.default_rng(1)
for name, build in NETWORKS.items():
    source = L.Input((None, None, 3))
    model = keras.Model(source, build(source))
    for layer in model.layers:
        if layer.name != "normalization":
            layer.set_weights([rng.uniform(0.1, 0.9, w.shape).astype(np.float32) * (0.3 if w.ndim == 4 else 1) for w in layer.get_weights()])
    for ending in ("keras", "h5"):
        model.save(os.path.join(folder, f"{name}.{ending}"))
    keep(name, model, rng.random((1, 12, 10, 3), dtype=np.float32))
for path in models:
    model = keras.models.load_model(path, compile=False)
    keep(os.path.basename(path), model, rng.random((1, *(n or 24 for n in model.inputs[0].shape[1:])), dtype=np.float32))
"""
NAMES = [line.split('"')[1] for line in EXPORT.splitlines() if line.startswith('    "')]
REAL = ("SRCNN_rgb_full_model.h5", "RDN_x2_full_model.h5")


def export(folder: Path, kind: str, *models: Path) -> Path:
    """A folder with the models, their inputs and their outputs."""
    python = os.environ.get("FASTSR_TF_PYTHON") or sys.executable
    package = "tf_keras" if kind == "2" else "keras"
    if subprocess.run([python, "-c", f"import tensorflow, {package}"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no TensorFlow with {package}: name a Python that has them in FASTSR_TF_PYTHON")
    run = subprocess.run([python, "-c", EXPORT, str(folder), kind, *map(str, models)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def exported3(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """What Keras 3 writes and computes, of the real models too."""
    return export(tmp_path_factory.mktemp("keras3"), "3", *(shared / "models/keras" / name for name in REAL))


@pytest.fixture(scope="module")
def exported2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Keras 2 writes and computes."""
    return export(tmp_path_factory.mktemp("keras2"), "2")


def compare(model: Path, numbers: Path) -> None:
    graph = load_graph(model)
    missing = sorted({node.op for node in graph.nodes} - set(OPS))
    if missing:
        pytest.skip(f"fastsr has no {', '.join(missing)} yet")
    with np.load(numbers) as data:
        got = run_graph(graph, {graph.inputs[0].name: data["x"].transpose(0, 3, 1, 2)})
        assert len(got) == len(data.files) - 1
        for i, output in enumerate(graph.outputs):
            want = data[str(i)].transpose(0, 3, 1, 2)
            assert got[output].shape == want.shape
            np.testing.assert_allclose(got[output], want, rtol=0, atol=3e-6 * float(np.abs(want).max()))


@pytest.mark.tensorflow
@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", NAMES)
def test_keras_3_gives_the_same(name: str, ending: str, exported3: Path) -> None:
    compare(exported3 / f"{name}.{ending}", exported3 / f"{name}.npz")


@pytest.mark.tensorflow
@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", NAMES)
def test_keras_2_gives_the_same(name: str, ending: str, exported2: Path) -> None:
    compare(exported2 / f"{name}.{ending}", exported2 / f"{name}.npz")


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", REAL)
def test_real_models_give_the_same(name: str, exported3: Path, shared: Path) -> None:
    compare(shared / "models/keras" / name, exported3 / f"{name}.npz")
