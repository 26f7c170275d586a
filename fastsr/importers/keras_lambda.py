"""Lambdas and layers of projects' own classes, recognised by what they are called and by what the layers around them need.

A Lambda holds Python bytecode or the name of a function. Neither ever runs: the bytecode is only searched for names of functions, as text. What
cannot be told with certainty is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import partial
from typing import Any

from ..errors import ModelError
from .context import register
from .keras_context import Context, Node, flat, square_root
from .keras_layers import LAYERS, scaled
from .tensorflow_values import Picture

layer = partial(register, LAYERS)

SHUFFLE = re.compile(r"depth_?to_?space|pixel_?shuff|sub_?pixel|phase_?shift|periodic_?shuffl", re.IGNORECASE)
FACTORS = ("block_size", "scale", "scale_factor", "upscale_factor", "upsample_factor", "factor", "r", "size", "ratio", "upscale", "block")
MAX_CODE = 1 << 20
ADVICE = "fastsr never runs code of a model file: replace it with a layer of Keras, or export the network to ONNX or a frozen .pb"
KNOWN = {
    "normalize_01": (1 / 255, 0.0), "normalise_01": (1 / 255, 0.0),
    "normalize_m11": (1 / 127.5, -1.0), "normalise_m11": (1 / 127.5, -1.0),
    "denormalize_m11": (127.5, 127.5), "denormalise_m11": (127.5, 127.5),
    "denormalize_01": (255.0, 0.0), "denormalise_01": (255.0, 0.0),
}  # fmt: skip
"""Functions of krasserm/super-resolution and its many descendants -> (factor, offset)."""


def shuffle(ctx: Context, node: Node, x: Picture, block: int) -> Picture:
    """TensorFlow's depth_to_space."""
    if not 2 <= block <= 64 or x.channels % (block * block):
        raise ModelError(f"cannot split {x.channels} channels into blocks of {block}x{block}: damaged file")
    made = ctx.emit("DepthToSpace", [x.name], ctx.fresh(node.name), node, blocksize=block, mode="DCR")
    return x.like(made, C=x.channels // (block * block), H=x.size["H"] * block, W=x.size["W"] * block)


def whole(value: Any) -> int:
    """A block factor that a setting gives, 0 when it gives none; [2, 2] is 2."""
    if isinstance(value, list) and len(value) in (1, 2) and all(v == value[0] for v in value):
        value = value[0]
    return value if type(value) is int and 2 <= value <= 64 else 0


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
def function_layer(ctx: Context, node: Node) -> Picture:
    """A Lambda: pixel shuffle, or one of the functions of KNOWN, or a factor."""
    x = ctx.picture(node)
    function, names, numbers = described(node)
    if function in KNOWN:
        return scaled(ctx, node, x, *KNOWN[function])
    arguments = node.setting("arguments", default={})
    called = node.layer.name if node.layer else ""
    if any(SHUFFLE.search(n) for n in names) or (SHUFFLE.search(called) and (function or not names)):
        given = dict(arguments) if isinstance(arguments, dict) else {}
        if not any(whole(given.get(k)) for k in FACTORS) and len(numbers) == 1:
            given = {"scale": int(numbers[0])} if numbers[0] == int(numbers[0]) else {}
        x = ctx.spatial(node)
        return shuffle(ctx, node, x, block_of(ctx, node, x, given))
    if re.search(r"scal", called, re.IGNORECASE) and not names and len(numbers) == 1 and 0 < numbers[0] <= 1:
        return scaled(ctx, node, x, numbers[0], 0.0)
    meaning = f"calls {', '.join(names[:6])}" if names else "is a formula"
    if re.search(r"normali[sz]e", f"{function} {called}", re.IGNORECASE):
        meaning = "normalises pixels, by 255, 127.5 or the mean of some pictures"
    shown = f" ('{function[:60]}')" if function else ""
    raise ModelError(f"holds code{shown} that {meaning}, and the file does not say what it computes; {ADVICE}")


def described(node: Node) -> tuple[str, list[str], list[float]]:
    """Of a Lambda: the name of its function ("" for bytecode), all names of functions in it, numbers in its closure."""
    spec = node.config.get("function")
    closure: Any = None
    code = ""
    name = ""
    if isinstance(spec, dict) and spec.get("class_name") == "function":
        name = str(spec.get("config", "")).rpartition(".")[2]
    elif isinstance(spec, dict):
        inner = spec.get("config", spec.get("items"))
        if isinstance(inner, dict):
            code, closure = str(inner.get("code", "")), inner.get("closure")
        elif isinstance(inner, list) and inner:
            code, closure = str(inner[0]), inner[2] if len(inner) > 2 else None
    elif isinstance(spec, list) and spec:
        code, closure = str(spec[0]), spec[2] if len(spec) > 2 else None
    elif isinstance(spec, str):
        name = spec if re.fullmatch(r"[A-Za-z_][\w.]{0,99}", spec) else ""
        code = "" if name and node.config.get("function_type") != "lambda" else spec
        name = "" if code else name.rpartition(".")[2]
    numbers = [float(v) for v in flat(closure) if isinstance(v, (int, float)) and not isinstance(v, bool)]
    names = [name] if name else words(code)
    return name, names, numbers


NOISE = {"lambda", "tf", "nn", "K", "keras", "backend", "self", "input", "inputs", "tensor", "image", "images", "pixels", "x"}


def words(code: str) -> list[str]:
    """Names that look like functions in marshalled code, found as text: nothing is unmarshalled."""
    try:
        raw = base64.b64decode(code[:MAX_CODE].encode("ascii", "replace"), validate=False)
    except (ValueError, binascii.Error):
        return []
    marked = re.finditer(rb"[zZaA\xfa\xda\xe1\xc1](.)([A-Za-z_]\w{1,60})", raw, re.DOTALL)
    found = [m[2][: m[1][0]].decode("ascii", "replace") for m in marked if 2 <= m[1][0] <= len(m[2])]
    found += [m[1][: int.from_bytes(m[0][1:5], "little")].decode("ascii", "replace") for m in re.finditer(rb"u(?:.\0\0\0)([A-Za-z_]\w{1,60})", raw, re.DOTALL)]
    return [w for w in dict.fromkeys(found) if w not in NOISE and not w.startswith("<") and len(w) > 2]
