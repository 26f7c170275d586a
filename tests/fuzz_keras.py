"""Mutation fuzzer of the importer of Keras models: only ModelError may come out, quickly and in bounded memory.

    python tests/fuzz_keras.py [count] [seed]

Graphs that load go through the passes and are lowered too. Seeds are small models of Keras 1, 2 and 3, and weights without a network. Two thirds of
the mutations change bytes of the HDF5 file or archive, half of these near the structures that hold offsets and sizes. The others change the config:
settings, names, layers, calls, code of Lambdas. The default test suite runs a few of them: test_keras_damage.py.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import fuzzing  # noqa: E402
from fuzzing import NUMBERS, mutate_bytes  # noqa: E402
from keras_codes import CODES  # noqa: E402
from keras_files import archive, chain, conv, functional, layer, model_h5, reading, reading3, source, weights3_h5, weights_h5  # noqa: E402
from keras_files import random as noise  # noqa: E402

from fastsr.importers import keras  # noqa: E402

Seed = tuple[Any, Any]
"""A config and a function of it that makes the file; None and the bytes of a file."""


VALUES: list[Any] = [None, True, False, "", [], {}, "same", "x", "a", "Conv2D", "Lambda", [[["x", 0, 0]]], 0.5, 1e300, "relu", [1, 1], [None] * 4]


def seeds() -> list[Seed]:
    """Models to mutate."""
    a, wa = conv("a", 3, 3, 8, activation="relu")
    b, wb = conv("b", 3, 8, 12)
    c, wc = conv("c", 3, 3, 3)
    bn = [(f"n/{n}:0", abs(noise(8))) for n in ("gamma", "beta", "moving_mean", "moving_variance")]
    weights = {"a": wa, "n": bn, "p": [("p/alpha:0", noise(1, 1, 8))], "b": wb, "c": wc}
    spec = chain(
        layer("Rescaling", "r", scale=1 / 255, offset=0.0),
        a,
        layer("BatchNormalization", "n", axis=[3], epsilon=0.001),
        layer("PReLU", "p", shared_axes=[1, 2]),
        b,
        layer("Lambda", "pixel_shuffle", function=[CODES["3.8"], None, [2]], function_type="lambda", arguments={"scale": 2}),
        layer("Cropping2D", "k", cropping=[[1, 0], [0, 1]]),
        c,
    )
    more = functional(
        source(),
        reading(layer("UpSampling2D", "u", size=[2, 2], interpolation="bilinear"), "x"),
        reading(c, "u"),
        reading(layer("Conv2DTranspose", "t", filters=3, kernel_size=[4, 4], strides=[2, 2], padding="same"), "x"),
        reading(layer("Concatenate", "j", axis=-1), "c", "t"),
        reading(layer("TFOpLambda", "g", function="clip_by_value"), "j", clip_value_min=0, clip_value_max=1),
        reading(layer("SlicingOpLambda", "s", function="__operators__.getitem"), "g", slice_spec=[{}, {"start": 1, "stop": -1}, {}, {"stop": 3}]),
        reading(layer("DepthwiseConv2D", "d", kernel_size=[3, 3], padding="valid", depth_multiplier=1), "s"),
        reading(layer("GlobalAveragePooling2D", "m"), "d"),
        reading(layer("Reshape", "e", target_shape=[1, 1, 3]), "m"),
        reading(layer("Multiply", "y"), "d", "e"),
        outputs=[["d", 0, 0], ["y", 0, 0]],
    )
    others = {"c": wc, "t": [("t/kernel:0", noise(4, 4, 3, 3)), ("t/bias:0", noise(3))]}
    others["d"] = [("d/depthwise_kernel:0", noise(3, 3, 3, 1)), ("d/bias:0", noise(3))]
    third = functional(
        {**layer("InputLayer", "x", batch_shape=[None, None, None, 3]), "module": "keras.layers"},
        reading3(c, "x"),
        reading3(layer("Add", "s"), "c", "x", listed=True),
        inputs=["x", 0, 0],
        outputs=["s", 0, 0],
    )
    nested = {**chain(c), "name": "block", "inbound_nodes": [[["x", 0, 0, {}]], [["block", 1, 0, {}]]]}
    twice = functional(source(), nested, outputs=[["block", 2, 0]])
    stored = weights3_h5({"conv2d": [w for _, w in wc]})
    settings = {"nb_filter": 3, "nb_row": 3, "nb_col": 3, "border_mode": "same", "dim_ordering": "th", "subsample": [1, 1]}
    first = [{"class_name": "Convolution2D", "config": {"name": "c", **settings, "batch_input_shape": [None, 3, 16, 16]}}]
    old = {"c": [("c_W", noise(3, 3, 3, 3)), ("c_b", noise(3))]}
    return [
        (spec, lambda config: model_h5(config, weights)),
        (more, lambda config: model_h5(config, others)),
        (third, lambda config: archive(config, stored)),
        (twice, lambda config: model_h5(config, {"block": wc})),
        ({"class_name": "Sequential", "config": first}, lambda config: model_h5(config, old, "1.2", "")),
        (None, weights_h5(weights, backend="tensorflow")),
        (None, compressed()),
        (None, stored),
    ]


def compressed() -> bytes:
    """Weights in compressed chunks."""
    import io

    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w") as f:
        f.attrs["layer_names"] = np.array([b"a"])
        group = f.create_group("a")
        group.attrs["weight_names"] = ["kernel", "bias"]
        group.create_dataset("kernel", data=noise(3, 3, 4, 8), chunks=(3, 3, 2, 8), compression="gzip", shuffle=True, fletcher32=True)
        group.create_dataset("bias", data=noise(8))
    return data.getvalue()


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a config."""
    found, waiting = [], [value]
    while waiting:
        at = waiting.pop()
        for key in list(at) if isinstance(at, dict) else range(len(at)):
            found.append((at, key))
            if isinstance(at[key], (dict, list)):
                waiting.append(at[key])
    return found


def mutate_config(rng: random.Random, config: Any, donor: Any) -> None:
    """One change of a config."""
    found = places(config)
    if not found:
        return
    at, key = rng.choice(found)
    others = places(donor)
    kind = rng.randrange(9)
    if kind == 0 and len(at):
        del at[key]
    elif kind == 1:
        other, k = rng.choice(others)
        at[key] = copy.deepcopy(other[k])
    elif kind == 2:
        at[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind in (3, 4):
        at[key] = rng.choice(NUMBERS)
    elif isinstance(at[key], str) and len(at[key]) > 60 and kind < 8:
        raw = mutate_bytes(rng, base64.b64decode(at[key]), base64.b64decode(CODES[rng.choice(list(CODES))]))
        at[key] = base64.b64encode(raw).decode()
    elif kind == 5 and isinstance(at[key], (int, float)):
        at[key] = at[key] + rng.choice((-1, 1, 2, 0.5))
    elif kind == 6 and isinstance(at, list) and at:
        at.insert(rng.randrange(len(at)), copy.deepcopy(rng.choice(at)))
    elif kind == 7:
        for _ in range(rng.choice((2, 20, 90))):
            at[key] = [at[key]]
    elif isinstance(at, dict):
        at[rng.choice(("name", "activation", "padding", "axis", "groups", "strides", "layers", "data_format", "class_name"))] = rng.choice(
            (1, -1, "valid", "tanh", [2, 2], "channels_first", None, [["x", 0, 0]], "Sequential")
        )


def mutate_metadata(rng: random.Random, data: bytes) -> bytes:
    """Changes of offsets, sizes and types, which lie near the structures' signatures."""
    b = bytearray(data)
    signs = [i for s in (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"\x89HDF") for i in range(len(b) - 4) if b[i : i + 4] == s]
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.choice(signs) + rng.randrange(4, 120) if rng.randrange(3) else rng.randrange(len(b))
        i = min(i // 4 * 4, len(b) - 8)
        value = rng.choice((*NUMBERS, rng.choice(signs), rng.randrange(len(b)), len(b)))
        width = rng.choice((1, 2, 4, 8))
        b[i : i + width] = struct.pack("<Q", value & ((1 << 64) - 1))[:width]
    return bytes(b)


def mutated(rng: random.Random, files: list[tuple[bytes, Seed]]) -> bytes:
    """One file that Keras did not write."""
    data, (config, make) = rng.choice(files)
    other, (donor, _) = rng.choice(files)
    if config is not None and rng.randrange(3) == 0:
        config = json.loads(json.dumps(config))
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            mutate_config(rng, config, donor or config)
        try:
            data = make(json.dumps(config))
        except ValueError:  # it has become its own part
            return data
        return mutate_bytes(rng, data, other) if rng.randrange(8) == 0 else data
    return mutate_metadata(rng, data) if rng.randrange(2) else mutate_bytes(rng, data, other)


def run(count: int, seed: int, progress: bool = False) -> Counter[str]:
    """`fuzzing.run` on files for this importer."""
    files = [(make if config is None else make(json.dumps(config)), (config, make)) for config, make in seeds()]
    return fuzzing.run(count, seed, files, mutated, keras, progress)  # type: ignore[arg-type]


if __name__ == "__main__":
    total, first = (int(a) for a in (*sys.argv[1:3], *("200000", "1")[len(sys.argv) - 1 :]))
    for what, n in run(total, first, progress=True).most_common():
        print(f"{n:8d}  {what}")
