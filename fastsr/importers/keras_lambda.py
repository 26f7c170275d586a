"""Lambdas and layers of projects' own classes.

A Lambda holds Python bytecode or the name of a function. Neither ever runs. Bytecode is read as a formula (keras_bytecode) and its functions are
translated like those that Keras keeps by name. Functions and classes of a project itself are known by what they are called, and by what the layers
around them need. What cannot be told with certainty is refused.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from ..errors import ModelError
from .context import register
from .keras_bytecode import Formula, OpaqueError, formula_of
from .keras_context import Context, Node, flat, square_root
from .keras_layers import LAYERS, scaled
from .keras_ops import apply
from .keras_pixels import shuffle, whole
from .tensorflow_values import Picture

layer = partial(register, LAYERS)

SHUFFLE = re.compile(r"depth_?to_?space|pixel_?shuff|sub_?pixel", re.IGNORECASE)
"""Names of what is TensorFlow's depth_to_space. Functions called phase_shift or periodic_shuffle take channels in other orders."""
FACTORS = ("block_size", "scale", "scale_factor", "upscale_factor", "upsample_factor", "factor", "r", "size", "ratio", "upscale", "block")
ADVICE = (
    "fastsr never runs code of a model file: replace it with a layer of Keras, export the network to ONNX or a frozen .pb, or save_weights() alone, "
    "which is enough for common networks"
)
KNOWN = {
    "normalize_01": (1 / 255, 0.0), "normalise_01": (1 / 255, 0.0),
    "normalize_m11": (1 / 127.5, -1.0), "normalise_m11": (1 / 127.5, -1.0),
    "denormalize_m11": (127.5, 127.5), "denormalise_m11": (127.5, 127.5),
    "denormalize_01": (255.0, 0.0), "denormalise_01": (255.0, 0.0),
}  # fmt: skip
"""Functions of krasserm/super-resolution and its many descendants -> (factor, offset)."""


def block_of(ctx: Context, node: Node, x: Picture, given: dict[str, Any]) -> int:
    """The block factor of a pixel shuffle: what a setting says, else what the layers that read the result need. Raises ModelError."""
    stated = {whole(given[k]) for k in FACTORS if k in given} - {0}
    if len(stated) == 1:
        return stated.pop()
    needs = node.wanted()
    fits = {square_root(x.channels / n) for n in needs if n and x.channels % n == 0} - {0, 1}
    if len(needs) and len(fits) == 1:
        return fits.pop()
    why = f"the layers behind it need {sorted(needs)} channels" if needs else "no layer behind it says how many channels it needs"
    raise ModelError(f"shuffles {x.channels} channels into pixels by a factor that the file does not say ({why}): {ADVICE}")


@layer("PixelShuffle", "PixelShuffler", "PixelShuffling", "PixelShuffleLayer", "PixelShuffle2D", "DepthToSpace", "DepthToSpaceLayer")
@layer("Depth_to_space", "SubpixelConv2D", "SubPixelConv2D", "SubPixelUpscaling", "SubpixelUpscaling", "SubpixelLayer2D", "Subpixel")
def pixel_shuffle(ctx: Context, node: Node) -> Picture:
    """Classes that projects write around tf.nn.depth_to_space. Those that hold weights too are something else."""
    if ctx.shapes(node.path, node.group):
        raise ModelError(f"is a class of the project itself ('{node.op}') with weights, which fastsr does not know: export the network to ONNX")
    x = ctx.spatial(node)
    return shuffle(ctx, node, x, block_of(ctx, node, x, node.config))


@layer("Lambda")
def function_layer(ctx: Context, node: Node) -> Any:
    """A Lambda: bytecode that is a formula; a function by name that is a pixel shuffle or one of KNOWN."""
    x = ctx.picture(node)
    name, code, closure, defaults = described(node)
    arguments = node.setting("arguments", default={})
    arguments = arguments if isinstance(arguments, dict) else {}
    called = node.layer.name if node.layer else ""
    if code:
        try:
            return value_of(ctx, node, x, formula_of(code, closure, defaults, arguments))
        except OpaqueError as e:
            if not e.foreign or not SHUFFLE.search(called):
                raise ModelError(f"holds code that {e}; {ADVICE}") from None
            numbers = [v for v in flat(closure) if whole(v)]
            arguments = {"scale": numbers[0]} if len(numbers) == 1 else arguments
    elif name in KNOWN:
        return scaled(ctx, node, x, *KNOWN[name])
    if code or SHUFFLE.search(name) or SHUFFLE.search(called):
        x = ctx.spatial(node)
        return shuffle(ctx, node, x, block_of(ctx, node, x, arguments))
    meaning = "does something that the file does not say"
    if re.search(r"normali[sz]e", f"{name} {called}", re.IGNORECASE):
        meaning = "normalises pixels, and the file does not say whether by 255, 127.5 or the mean of some pictures"
    raise ModelError(f"calls the function '{name[:60]}' of the project itself, which {meaning}; {ADVICE}")


def described(node: Node) -> tuple[str, str, Any, Any]:
    """Of a Lambda: the name of its function, or its code in base64, with its closure and its defaults."""
    spec = node.config.get("function")
    if isinstance(spec, dict) and spec.get("class_name") == "function":
        return str(spec.get("config", "")).rpartition(".")[2], "", None, None
    if isinstance(spec, dict):
        spec = spec.get("config", spec.get("items"))
        if isinstance(spec, dict):
            spec = [spec.get("code"), spec.get("defaults"), spec.get("closure")]
    if isinstance(spec, list) and spec and isinstance(spec[0], str):
        return "", spec[0], spec[2] if len(spec) > 2 else None, spec[1] if len(spec) > 1 else None
    if isinstance(spec, str):
        if node.config.get("function_type") != "lambda" and re.fullmatch(r"[A-Za-z_][\w.]{0,99}", spec):
            return spec.rpartition(".")[2], "", None, None
        return "", spec, None, None
    raise ModelError("has no function: damaged file")


MODULES = ("tf", "tensorflow", "K", "keras", "backend", "ops", "F", "nn", "image", "layers")
"""What names of modules begin with, as projects import TensorFlow and Keras."""


def value_of(ctx: Context, node: Node, x: Picture, formula: Formula) -> Any:
    """The Picture, or the number or list, that a formula computes. Raises ModelError."""
    ctx.count()
    if formula.kind == "argument":
        return x
    if formula.kind == "constant":
        return list(formula.value) if isinstance(formula.value, tuple) else formula.value
    if formula.kind == "name":
        return formula.value.rpartition(".")[2]
    args = [value_of(ctx, node, x, part) for part in formula.parts]
    if formula.kind == "list":
        return args
    if formula.kind == "negative":
        return -args[0] if isinstance(args[0], (int, float)) else apply(ctx, node, "negative", args, {})
    if formula.kind == "binary":
        if all(isinstance(a, (int, float)) for a in args):
            return arithmetic(formula.value, *args)
        if formula.value == "**":
            raise ModelError("raises to a power, which is not supported")
        return apply(ctx, node, {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}[formula.value], args, {})
    keywords = {k: value_of(ctx, node, x, part) for k, part in formula.keywords}
    if formula.value.partition(".")[0] not in MODULES:
        if SHUFFLE.search(formula.value) and args and isinstance(args[0], Picture):
            numbers = [v for v in (*args[1:], *keywords.values()) if whole(v)]
            return shuffle(ctx, node, args[0], block_of(ctx, node, args[0], {"scale": numbers[0]} if numbers else {}))
        raise ModelError(f"calls the function '{formula.value[:60]}' of the project itself, whose code is not in the file; {ADVICE}")
    return apply(ctx, node, formula.value, args, keywords)


def arithmetic(operator: str, a: float, b: float) -> float:
    """Two numbers combined."""
    if operator == "**":
        if abs(a) > 1e6 or abs(b) > 16:
            raise ModelError("computes absurd numbers: damaged file")
        return float(a**b)
    if operator == "/" and b == 0:
        raise ModelError("divides by zero: damaged file")
    return {"+": a + b, "-": a - b, "*": a * b}[operator] if operator != "/" else a / b
