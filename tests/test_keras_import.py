"""The importer of Keras models, on files that h5py writes in Keras' layouts and on real ones."""

from __future__ import annotations

import base64
import marshal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the tests write HDF5 with h5py")

from keras_codes import CODES
from keras_files import (
    archive,
    chain,
    conv,
    convolved,
    functional,
    layer,
    model_h5,
    random,
    reading,
    reading3,
    source,
    weights3_h5,
    weights_h5,
)

import fastsr
from fastsr import lower, passes
from fastsr.errors import ModelError
from fastsr.graph import Graph
from fastsr.importers import keras, load_graph
from fastsr.importers.hdf5 import File
from fastsr.importers.keras_weights import store_of, to_torch
from fastsr.ops import run_graph

X = np.random.default_rng(1).random((9, 8, 3)).astype(np.float32)


def computed(data: bytes, x: np.ndarray = X, path: str = "model.h5") -> np.ndarray:
    """The first output (H, W, C) of a model for the input (H, W, C)."""
    graph = keras.loads(data, Path(path))
    lower.lower(passes.optimise(keras.loads(data, Path(path))))
    return run_graph(graph, {graph.inputs[0].name: x.transpose(2, 0, 1)[None].astype(np.float64)})[graph.outputs[0]][0].transpose(1, 2, 0)


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max())))


# ---- versions ----------------------------------------------------------------------------------------------------------------------------------


def two_convolutions() -> tuple[list[dict[str, Any]], dict[str, Any], np.ndarray]:
    """Layers, weights and the result for X of conv 5x5, relu, conv 3x3, plus the input."""
    a, wa = conv("a", 5, 3, 4, activation="relu")
    b, wb = conv("b", 3, 4, 3)
    middle = np.maximum(convolved(X, wa[0][1], wa[1][1]), 0)
    return [a, b, layer("Add", "sum")], {"x": [], "a": wa, "b": wb, "sum": []}, convolved(middle, wb[0][1], wb[1][1]) + X


def test_keras_2_functional() -> None:
    (a, b, add), weights, want = two_convolutions()
    config = functional(source(), reading(a, "x"), reading(b, "a"), reading(add, "b", "x"))
    close(computed(model_h5(config, weights)), want)


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_keras_3_functional(form: str) -> None:
    (a, b, add), weights, want = two_convolutions()
    first = {**layer("InputLayer", "x", batch_shape=[None, None, None, 3]), "module": "keras.layers"}
    layers = [first, reading3(a, "x"), reading3(b, "a"), reading3(add, "b", "x", listed=True)]
    config = functional(*layers, inputs=["x", 0, 0], outputs=["sum", 0, 0])
    arrays = {"conv2d": [w for _, w in weights["a"]], "conv2d_1": [w for _, w in weights["b"]]}
    data = model_h5(config, weights, "3.4.1") if form == "h5" else archive(config, weights3_h5(arrays))
    close(computed(data), want)


def test_keras_3_operations_with_constants() -> None:
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}
    times = {"module": "keras.src.ops.numpy", "class_name": "Multiply", "config": {"name": "m"}, "name": "m",
             "inbound_nodes": [{"args": [tensor, 0.5], "kwargs": {}}]}  # fmt: skip
    cut = {"module": "keras.src.ops.numpy", "class_name": "Clip", "config": {"name": "c", "x_min": 0.1, "x_max": 0.3}, "name": "c",
           "inbound_nodes": [{"args": [{**tensor, "config": {"keras_history": ["m", 0, 0]}}], "kwargs": {}}]}  # fmt: skip
    config = functional(layer("InputLayer", "x", batch_shape=[None, None, None, 3]), times, cut)
    close(computed(archive(config, weights3_h5({}))), np.clip(X * 0.5, 0.1, 0.3))


@pytest.mark.parametrize("ordering", ["tf", "th"])
@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_keras_1_with_both_orders_of_axes(ordering: str, backend: str) -> None:
    _, weights, want = two_convolutions()
    shape = [None, None, None, 3] if ordering == "tf" else [None, 3, None, None]
    old, layers = {}, []
    for name, kh, k, act in (("a", 5, 4, "relu"), ("b", 3, 3, "linear")):
        w, bias = (a for _, a in weights[name])
        w = w[::-1, ::-1] if backend == "theano" else w
        w = w if ordering == "tf" else w.transpose(3, 2, 0, 1)
        old[name] = [(f"{name}_W", w), (f"{name}_b", bias)]
        settings = {"nb_filter": k, "nb_row": kh, "nb_col": kh, "border_mode": "same", "subsample": [1, 1], "dim_ordering": ordering, "bias": True}
        layers.append(layer("Convolution2D", name, activation=act, **settings))
    merge = layer("Merge", "m", mode="sum", concat_axis=-1)
    config = functional(source(batch_input_shape=shape), reading(layers[0], "x"), reading(layers[1], "a"), reading(merge, "b", "x"))
    config["class_name"] = "Model"
    close(computed(model_h5(config, {"x": [], **old, "m": []}, "1.2.2", backend)), want)


def test_keras_1_sequential_is_a_list() -> None:
    w, b = random(3, 3, 3, 2), random(2)
    settings = {"nb_filter": 2, "nb_row": 3, "nb_col": 3, "border_mode": "same", "activation": "relu", "subsample": [1, 1], "dim_ordering": "tf"}
    spec = {"class_name": "Convolution2D", "config": {"name": "c", **settings, "batch_input_shape": [None, 32, 32, 3]}}
    data = model_h5({"class_name": "Sequential", "config": [spec]}, {"c": [("c_W:0", w), ("c_b:0", b)]}, "1.0.5", "")
    close(computed(data), np.maximum(convolved(X, w, b), 0))


def test_nested_models_and_shared_layers() -> None:
    a, wa = conv("a", 3, 3, 3)
    inner = functional(source(name="i"), reading(a, "i"))
    nested = {**inner, "name": "block", "config": {**inner["config"], "name": "block"}}
    call = [[["x", 0, 0, {}]], [["block", 1, 0, {}]]]  # Keras 2 counts the call that made a nested model
    config = functional(source(), {**nested, "inbound_nodes": call}, outputs=[["block", 2, 0]])
    want = convolved(convolved(X, *(w for _, w in wa)), *(w for _, w in wa))
    close(computed(model_h5(config, {"x": [], "block": wa})), want)


def test_missing_channels_come_from_the_weights() -> None:
    a, wa = conv("a", 3, 1, 1)
    graph = keras.loads(model_h5(chain(a, channels=None), {"a": wa}))
    assert graph.inputs[0].channels == 1 and graph.feed.colour == "y"


def test_channels_first_and_permute() -> None:
    a, wa = conv("a", 3, 3, 4, data_format="channels_first")
    config = functional(source(batch_input_shape=[None, 3, None, None]), reading(a, "x"), reading(layer("Permute", "p", dims=[2, 3, 1]), "a"))
    close(computed(model_h5(config, {"a": wa})), convolved(X, wa[0][1], wa[1][1]))


def test_batch_normalisation_and_prelu() -> None:
    gamma, beta, mean, var, alpha = random(3), random(3), random(3), random(3) ** 2, random(1, 1, 3)
    bn = [(f"n/{n}:0", a) for n, a in (("gamma", gamma), ("beta", beta), ("moving_mean", mean), ("moving_variance", var))]
    config = chain(layer("BatchNormalization", "n", axis=[3], epsilon=0.002), layer("PReLU", "p", shared_axes=[1, 2]))
    y = (X - mean) / np.sqrt(var + 0.002) * gamma + beta
    close(computed(model_h5(config, {"n": bn, "p": [("p/alpha:0", alpha)]})), np.where(y > 0, y, y * alpha))


# ---- Lambdas -----------------------------------------------------------------------------------------------------------------------------------


def code(function: Any) -> list[Any]:
    """A function as Keras 2 keeps it: marshalled and in base64."""
    return [base64.b64encode(marshal.dumps(function.__code__)).decode(), None, None]


def shuffled(x: np.ndarray, b: int) -> np.ndarray:
    h, w, c = x.shape
    return x.reshape(h, w, b, b, c // b // b).transpose(0, 2, 1, 3, 4).reshape(h * b, w * b, -1)


tf: Any = None


@pytest.mark.parametrize(
    "spec",
    [
        layer("Lambda", "up", function="pixel_shuffle", function_type="function", module="m"),
        layer("Lambda", "pixel_shuffle", function=code(lambda t: tf.nn.depth_to_space(t, 2)), function_type="lambda"),
        layer("Lambda", "up", function={"class_name": "function", "module": "builtins", "config": "depth_to_space"}, arguments={"block_size": 2}),
        layer("PixelShuffle", "up", scale=2),
        layer("Package>SubpixelConv2D", "up", upsampling_factor=2),
        layer("DepthToSpace", "up", block_size=2),
    ],
)
def test_pixel_shuffles_are_recognised(spec: dict[str, Any]) -> None:
    a, wa = conv("a", 3, 3, 12)
    b, wb = conv("b", 3, 3, 3)
    want = convolved(shuffled(convolved(X, *(w for _, w in wa)), 2), *(w for _, w in wb))
    close(computed(model_h5(chain(a, spec, b), {"a": wa, "b": wb})), want)


@pytest.mark.parametrize("version", CODES)
@pytest.mark.parametrize("kind", ["2", "3"])
def test_code_is_read_as_a_formula(version: str, kind: str) -> None:
    a, wa = conv("a", 3, 3, 12)
    config = {"class_name": "__lambda__", "config": {"code": CODES[version], "defaults": None, "closure": [2]}}
    function: Any = [CODES[version], None, [2]] if kind == "2" else config
    spec = layer("Lambda", "f", function=function, function_type="lambda")
    want = np.clip(shuffled(convolved(X, *(w for _, w in wa)) / 2 - 1, 2), 0, 1)
    close(computed(model_h5(chain(a, spec), {"a": wa})), want)


K: Any = None
ops: Any = None
LAMBDAS: dict[str, tuple[Any, Any]] = {
    "relu with a largest value": (lambda t: K.relu(t, max_value=0.5), lambda x: np.clip(x, 0, 0.5)),
    "relu with a slope": (lambda t: K.relu(t - 0.5, 0.25), lambda x: np.where(x < 0.5, 0.25 * (x - 0.5), x - 0.5)),
    "concat": (lambda t: tf.concat([t, 2 * t], axis=-1), lambda x: np.concatenate([x, 2 * x], -1)),
    "gelu of Keras 3": (lambda t: ops.gelu(t), lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    "subtraction by keywords": (lambda t: tf.subtract(y=t, x=2.0), lambda x: 2 - x),
}


@pytest.mark.parametrize("name", LAMBDAS)
def test_settings_of_functions_count(name: str) -> None:
    function, want = LAMBDAS[name]
    spec = layer("Lambda", "f", function=code(function), function_type="lambda")
    close(computed(model_h5(chain(spec), {})), want(X.astype(np.float64)))


def test_alpha_of_elu_counts() -> None:
    spec = layer("Lambda", "f", function=code(lambda t: K.elu(t, alpha=0.25)), function_type="lambda")
    (node,) = keras.loads(model_h5(chain(spec), {})).nodes
    assert (node.op, node.attrs) == ("Elu", {"alpha": 0.25})


def test_unknown_settings_of_functions_are_refused() -> None:
    for function in (lambda t: tf.nn.swish(t, beta=2.0), lambda t: tf.nn.silu(t, 2.0), lambda t: tf.concat([t, 1.0], 3)):
        with pytest.raises(ModelError, match=r"settings that fastsr does not know|joins a picture with a constant"):
            keras.loads(model_h5(chain(layer("Lambda", "f", function=code(function), function_type="lambda")), {}))


def test_a_shuffle_at_the_end_gives_the_channels_that_went_in() -> None:
    a, wa = conv("a", 3, 3, 27)
    spec = layer("Lambda", "subpixel", function="f", function_type="function")
    got = computed(model_h5(chain(a, spec), {"a": wa}))
    close(got, shuffled(convolved(X, *(w for _, w in wa)), 3))


def test_known_functions_and_their_range() -> None:
    a, wa = conv("a", 3, 3, 3)
    first = layer("Lambda", "n", function="normalize_m11", function_type="function")
    last = layer("Lambda", "d", function="denormalize_m11", function_type="function")
    data = model_h5(chain(first, a, last), {"a": wa})
    close(computed(data, X * 255), (convolved(X * 2 - 1, *(w for _, w in wa)) + 1) * 127.5)
    feed = keras.loads(data).feed
    assert (feed.range, feed.out_range, feed.colour) == (255.0, 255.0, "rgb")


def test_marshalled_code_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    evil = eval(f"lambda t: open({str(mark)!r}, 'w').write('x')")
    evil(None)
    assert mark.exists()
    mark.unlink()

    def refuse(*_: Any) -> None:
        raise AssertionError("code of a model file was unmarshalled or run")

    for spec in (
        layer("Lambda", "pixel_shuffle", function=code(evil), function_type="lambda"),
        layer("Lambda", "f", function={"class_name": "__lambda__", "config": {"code": code(evil)[0], "defaults": None, "closure": None}}),
        layer("Lambda", "f", function="os.system", function_type="function", module="os", arguments={"command": f"touch {mark}"}),
        layer("Lambda", "f", function={"class_name": "function", "module": "os", "config": "system"}, arguments={"command": f"touch {mark}"}),
        layer("TFOpLambda", "f", function="io.write_file"),
    ):
        a, wa = conv("a", 3, 3, 12)
        b, wb = conv("b", 3, 3, 3)
        data = model_h5(chain(a, spec, b), {"a": wa, "b": wb})
        with monkeypatch.context() as m:
            m.setattr(marshal, "loads", refuse)
            m.setattr(marshal, "load", refuse)
            for name in ("eval", "exec", "compile"):
                m.setattr(f"builtins.{name}", refuse)
            with pytest.raises(ModelError):
                keras.loads(data)
        assert not mark.exists()


# ---- feeding -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kernel", "pre_scale"), [("srcnn.h5", 3, 2), ("VDSR_x3.h5", 3, 3), ("denoise.h5", 3, 1), ("model.h5", 9, 2), ("model.h5", 3, 1)]
)
def test_networks_that_do_not_enlarge(name: str, kernel: int, pre_scale: int, tmp_path: Path) -> None:
    a, wa = conv("a", kernel, 3, 3)
    (tmp_path / name).write_bytes(model_h5(chain(a), {"a": wa}))
    assert load_graph(tmp_path / name).feed.pre_scale == pre_scale


def test_rescaling_tells_the_range() -> None:
    a, wa = conv("a", 3, 3, 3)
    data = model_h5(chain(layer("Rescaling", "r", scale=1 / 255, offset=0.0), a, layer("Rescaling", "s", scale=255.0, offset=0.0)), {"a": wa})
    assert (keras.loads(data).feed.range, keras.loads(data).feed.out_range) == (255.0, 255.0)


def test_a_mean_of_pixels_tells_the_range() -> None:
    a, wa = conv("a", 3, 3, 3)
    mean = [114.4, 111.5, 103.1]
    before = layer("TFOpLambda", "m", function="math.subtract")
    after = layer("TFOpLambda", "s", function="__operators__.add")
    layers = [reading(before, "x", y=mean), reading(a, "m"), reading(layer("Rescaling", "r", scale=127.5), "a"), reading(after, "r", y=mean)]
    data = model_h5(functional(source(), *layers), {"a": wa})
    close(computed(data, X * 255), convolved(X * 255 - np.array(mean), *(w for _, w in wa)) * 127.5 + np.array(mean))
    assert (keras.loads(data).feed.range, keras.loads(data).feed.out_range) == (255.0, 255.0)


def test_tanh_at_the_end_means_minus_one_to_one() -> None:
    a, wa = conv("a", 3, 3, 3, activation="tanh")
    feed = keras.loads(model_h5(chain(a), {"a": wa})).feed
    assert (feed.range, feed.mean, feed.out_range, feed.out_mean) == (2.0, (1.0,) * 3, 2.0, (1.0,) * 3)


# ---- weights without a network -----------------------------------------------------------------------------------------------------------------


def torch_names(data: bytes) -> dict[str, np.ndarray]:
    store = store_of(File(data))
    assert store is not None
    return to_torch(store)


def test_weights_in_pytorch_names_and_layouts() -> None:
    k, t, d, dw = random(3, 3, 2, 5), random(4, 4, 6, 5), random(5, 7), random(3, 3, 5, 2)
    norm = [(n, random(5) ** 2) for n in ("gamma", "beta", "moving_mean", "moving_variance")]
    weights = {
        "zz": [("zz/kernel:0", k), ("zz/bias:0", random(5))],
        "bn": [(f"bn/{n}:0", a) for n, a in norm],
        "prelu": [("prelu/alpha:0", random(1, 1, 5))],
        "conv2d_transpose": [("conv2d_transpose/kernel:0", t)],
        "dense": [("dense/kernel:0", d)],
        "depthwise": [("depthwise/depthwise_kernel:0", dw)],
        "nothing": [],
    }
    got = torch_names(weights_h5(weights, backend="tensorflow"))
    want = ["zz.weight", "zz.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "prelu.weight", "conv2d_transpose.weight"]
    assert list(got) == [*want, "dense.weight", "depthwise.weight"]
    np.testing.assert_array_equal(got["zz.weight"], k.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(got["conv2d_transpose.weight"], t.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(got["dense.weight"], d.T)
    np.testing.assert_array_equal(got["depthwise.weight"][3, 0], dw[:, :, 1, 1])
    np.testing.assert_array_equal(got["bn.running_var"], norm[3][1])
    assert got["prelu.weight"].shape == (5,)


def test_keras_3_weights_are_in_the_order_of_writing() -> None:
    arrays = {"conv2d_1": [random(3, 3, 3, 8), random(8)], "batch_normalization": [random(8)] * 4, "conv2d": [random(3, 3, 8, 3), random(3)]}
    got = torch_names(weights3_h5(arrays))
    assert list(got)[:3] == ["conv2d_1.weight", "conv2d_1.bias", "batch_normalization.weight"]
    assert got["conv2d.weight"].shape == (3, 8, 3, 3)


def test_keras_1_weights_of_theano_are_mirrored_back() -> None:
    w = random(6, 3, 5, 5)
    got = torch_names(weights_h5({"c": [("c_W", w), ("c_b", random(6))]}))
    np.testing.assert_array_equal(got["c.weight"], w[:, :, ::-1, ::-1])
    got = torch_names(weights_h5({"c": [("c_W:0", w), ("c_b:0", random(6))]}))
    np.testing.assert_array_equal(got["c.weight"], w)


def test_real_weights_have_their_layers_in_order(shared: Path) -> None:
    for name, count, first in (
        ("SRResNet_x4_weights.h5", 225, (64, 3, 9, 9)),
        ("SRGAN_x4_weights.h5", 225, (64, 3, 9, 9)),
        ("SRCNN_935_weights.h5", 6, (128, 1, 9, 9)),
        ("DenoisingAutoEncoder_x2_keras1.h5", 10, (64, 3, 3, 3)),
    ):
        got = torch_names((shared / "models/keras" / name).read_bytes())
        assert len(got) == count and next(iter(got.values())).shape == first, name


# ---- real models -------------------------------------------------------------------------------------------------------------------------------


def test_real_full_models(shared: Path) -> None:
    import cv2

    picture = cv2.imread(str(shared / "images/Set5/butterfly.png"))
    small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    model = fastsr.load(shared / "models/keras/RDN_x2_full_model.h5")
    assert model.scale == 2 and model.feed.colour == "rgb"
    errors = [
        float(np.mean((a.astype(float) - picture) ** 2))
        for a in (model.upscale(small), cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    ]
    assert errors[0] < 0.7 * errors[1]
    model = fastsr.load(shared / "models/keras/SRCNN_rgb_full_model.h5")
    assert model.scale == 2 and model.feed.pre_scale == 2
    assert model.upscale(small).shape == picture.shape


def test_a_model_is_recognised_whatever_its_name(tmp_path: Path) -> None:
    (a, b, add), weights, _ = two_convolutions()
    config = functional(source(), reading(a, "x"), reading(b, "a"), reading(add, "b", "x"))
    for name, data in (("m.bin", model_h5(config, weights)), ("m.zip", archive(chain(layer("Dropout", "d", rate=0.1)), weights3_h5({})))):
        path = tmp_path / name
        path.write_bytes(data)
        graph: Graph = load_graph(path)
        assert graph.meta["format"].startswith("Keras") and graph.meta["source"] == name
