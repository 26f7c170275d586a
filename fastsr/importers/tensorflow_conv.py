"""TensorFlow's convolutions: plain, depthwise, transposed, and dilated ones spelled out with batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from .context import register
from .tensorflow_context import Context, TfNode
from .tensorflow_ops import Handler, data_format_of, formatted, spatial
from .tensorflow_values import Blocks, Picture, Value
from .values import Array, Dim, ceil_div

OPS: dict[str, Handler] = {}
op = partial(register, OPS)


def weights(ctx: Context, node: TfNode, args: list[Value], k: int = 1) -> tuple[Array, np.ndarray]:
    """A convolution's filter as (constant, float32 array of four axes)."""
    value = ctx.array(node, args, k)
    data = ctx.numbers(node, args, k)
    if data.ndim != 4 or 0 in data.shape or data.dtype.kind not in "fiu":
        raise ModelError(f"has a filter of shape {list(data.shape)}: damaged file")
    return value, data.astype(np.float32, copy=False)


def reordered(w: np.ndarray) -> np.ndarray:
    """A filter (kh, kw, a, b) as (b, a, kh, kw)."""
    kh, kw, a, b = w.shape
    if kh * kw > 128:
        return w.transpose(3, 2, 0, 1)
    out = np.empty((b, a, kh, kw), w.dtype)
    for i in range(kh):  # tap by tap: NumPy's copy of the whole, with loops of kw numbers, takes more than twice as long
        for j in range(kw):
            out[:, :, i, j] = w[i, j].T
    return out


Attrs = dict[str, Any]


def padding(node: TfNode, form: str, kernel: list[int], strides: list[int], dilations: list[int], size: Attrs) -> tuple[Attrs, Attrs]:
    """ONNX attributes for the padding of a convolution or pool, and the size of its output."""
    mode = node.attr_text("padding")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if mode == "SAME":
        out = {a: ceil_div(size[a], s) for a, s in zip("HW", strides, strict=True)}
        if strides == [1, 1]:
            total = [r - 1 for r in reach]
            return {"pads": [t // 2 for t in total] + [t - t // 2 for t in total]}, out
        return {"auto_pad": "SAME_UPPER"}, out
    if mode == "VALID":
        pads = [0, 0, 0, 0]
    elif mode == "EXPLICIT":
        listed = node.attr_ints("explicit_paddings")
        if len(listed) != 8 or min(listed) < 0 or max(listed) > 65536:
            raise ModelError(f"explicit_paddings {listed[:16]} are not supported")
        pairs = {a: listed[2 * i : 2 * i + 2] for i, a in enumerate(form)}
        if any(pairs["N"]) or any(pairs["C"]):
            raise ModelError("pads the batch or the channels, which is not supported")
        pads = [pairs["H"][0], pairs["W"][0], pairs["H"][1], pairs["W"][1]]
    else:
        raise ModelError(f"padding '{mode}' is not supported")
    out = {}
    for i, a in enumerate("HW"):
        out[a] = (size[a] + (pads[i] + pads[i + 2] - reach[i])) // strides[i] + 1
        if not isinstance(out[a], Dim) and out[a] < 1:
            raise ModelError("has no output pixel for the size that its placeholder fixes: damaged file")
    return {"pads": pads}, out


@op("Conv2D")
def conv2d(ctx: Context, node: TfNode, args: list[Value]) -> Picture | Blocks:
    """Conv2D, filter (kh, kw, C / groups, K)."""
    blocks, args = split_blocks(args)
    x, form = formatted(ctx, node, args), data_format_of(node)
    value, w = weights(ctx, node, args)
    kh, kw, cg, k = w.shape
    group = x.channels // cg
    if group * cg != x.channels or k % max(group, 1):
        raise ModelError(f"has a filter of shape {list(w.shape)} for {x.channels} channels: damaged file")
    strides, dilations = spatial(node, "strides", form), spatial(node, "dilations", form)
    pads, out = padding(node, form, [kh, kw], strides, dilations, x.size)
    name = ctx.constant(value, reordered(w), "OIHW", node.name)
    if blocks is not None:
        return filtered(blocks, node, name, strides, dilations, group)
    ctx.emit("Conv", [x.name, name], node.name, node, strides=strides, dilations=dilations, group=group, kernel_shape=[kh, kw], **pads)
    return x.like(node.name, C=k, **out)


@op("DepthwiseConv2dNative")
def depthwise(ctx: Context, node: TfNode, args: list[Value]) -> Picture | Blocks:
    """One filter per channel, (kh, kw, C, multiplier): a Conv with C groups."""
    blocks, args = split_blocks(args)
    x, form = formatted(ctx, node, args), data_format_of(node)
    value, w = weights(ctx, node, args)
    kh, kw, c, m = w.shape
    if c != x.channels:
        raise ModelError(f"has a filter of shape {list(w.shape)} for {x.channels} channels: damaged file")
    strides, dilations = spatial(node, "strides", form), spatial(node, "dilations", form)
    pads, out = padding(node, form, [kh, kw], strides, dilations, x.size)
    name = ctx.constant(value, w.transpose(2, 3, 0, 1).reshape(c * m, 1, kh, kw), "depthwise", node.name)
    if blocks is not None:
        return filtered(blocks, node, name, strides, dilations, c)
    ctx.emit("Conv", [x.name, name], node.name, node, strides=strides, dilations=dilations, group=c, kernel_shape=[kh, kw], **pads)
    return x.like(node.name, C=c * m, **out)


@op("Conv2DBackpropInput")
def conv_transpose(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """Transposed convolution: output_shape, filter (kh, kw, K, C), picture."""
    x, form = formatted(ctx, node, args, 2), data_format_of(node)
    value, w = weights(ctx, node, args)
    kh, kw, k, c = w.shape
    shape = ctx.array(node, args, 0).data.reshape(-1)
    if c != x.channels or shape.size not in (2, 4):
        raise ModelError(f"has a filter of shape {list(w.shape)} and an output shape of {shape.size} numbers for {x.channels} channels: damaged file")
    wanted = dict(zip(form if shape.size == 4 else "HW", shape.tolist(), strict=True))
    if isinstance(wanted.get("C", k), Dim) or wanted.get("C", k) != k:
        raise ModelError(f"asks for {wanted.get('C')} channels from a filter of shape {list(w.shape)}: damaged file")
    strides, dilations = spatial(node, "strides", form), spatial(node, "dilations", form)
    if dilations != [1, 1]:
        raise ModelError("dilated transposed convolution is not supported")
    mode, pads, extra, out = node.attr_text("padding"), [0, 0, 0, 0], [0, 0], {}
    for i, a in enumerate("HW"):
        s, kernel = strides[i], w.shape[i]
        if mode == "SAME":
            natural: Any = x.size[a] * s
            total = max(kernel - s, 0)
            pads[i], pads[i + 2], extra[i] = total // 2, total - total // 2, max(s - kernel, 0)
        elif mode == "VALID":
            natural = (x.size[a] - 1) * s + kernel
            over = wanted[a] - natural
            extra[i] = int(over) if not isinstance(over, Dim) and 0 <= over < s else 0
            natural = natural + extra[i]
        else:
            raise ModelError(f"padding '{mode}' is not supported")
        fixed = not isinstance(wanted[a], Dim) and isinstance(natural, Dim)
        if wanted[a] != natural and not (fixed and (mode == "VALID" or wanted[a] % s == 0)):
            raise ModelError(f"makes an output of a size that is not a fixed multiple ({s}) of its input's: not supported")
        out[a] = natural
    name = ctx.constant(value, reordered(w), "IOHW", node.name)
    ctx.emit("ConvTranspose", [x.name, name], node.name, node, strides=strides, kernel_shape=[kh, kw], pads=pads, output_padding=extra)
    return x.like(node.name, C=k, **out)


# ---- dilation by batches -----------------------------------------------------------------------------------------------------------------------
# SpaceToBatchND, a VALID convolution and BatchToSpaceND are one dilated convolution. Borders that only round the size up are in both the paddings and
# the crops, and cancel.


@op("SpaceToBatchND")
def space_to_batch(ctx: Context, node: TfNode, args: list[Value]) -> Blocks:
    """The start: block sizes and paddings (start and end of H, of W), which may be shape code."""
    x, block, pads = ctx.picture(node, args), ctx.ints(node, args, 1), list(ctx.array(node, args, 2).data.reshape(-1))
    if x.layout != "NHWC" or len(block) != 2 or len(pads) != 4 or not all(1 <= b <= 1024 for b in block):
        raise ModelError("cuts a picture into batches in a way that is not supported: only dilated convolutions of NHWC pictures are")
    return Blocks(x, block, [pads[0], pads[2], pads[1], pads[3]])


def split_blocks(args: list[Value]) -> tuple[Blocks | None, list[Value]]:
    """The first argument's blocks, if it is any, and the arguments with the whole picture in their place."""
    if args and isinstance(args[0], Blocks):
        return args[0], [args[0].source, *args[1:]]
    return None, args


def filtered(blocks: Blocks, node: TfNode, weight: str, strides: list[int], dilations: list[int], group: int) -> Blocks:
    """The blocks with their filter noted."""
    if blocks.weight or node.attr_text("padding") != "VALID" or strides != [1, 1] or dilations != [1, 1]:
        raise ModelError("filters a picture cut into batches in a way that is not supported: only dilated convolutions are")
    return Blocks(blocks.source, blocks.block, blocks.pads, weight, group)


@op("BatchToSpaceND")
def batch_to_space(ctx: Context, node: TfNode, args: list[Value]) -> Picture:
    """The end: crops (start and end of H, of W)."""
    blocks = args[0] if args else None
    block, crops = ctx.ints(node, args, 1), list(ctx.array(node, args, 2).data.reshape(-1))
    if not isinstance(blocks, Blocks) or not blocks.weight or block != blocks.block or len(crops) != 4:
        raise ModelError("joins batches in a way that is not supported: only dilated convolutions are")
    pads = [p - c for p, c in zip(blocks.pads, [crops[0], crops[2], crops[1], crops[3]], strict=True)]
    if any(isinstance(p, Dim) or not 0 <= p <= 65536 for p in pads):
        raise ModelError("pads and crops by amounts that depend on the picture: not supported")
    pads = [int(p) for p in pads]
    x, shape = blocks.source, ctx.graph.constants[blocks.weight].shape
    kernel = list(shape[2:])
    out = {a: x.size[a] + (pads[i] + pads[i + 2] - (kernel[i] - 1) * block[i]) for i, a in enumerate("HW")}
    if any(not isinstance(n, Dim) and n < 1 for n in out.values()):
        raise ModelError("has no output pixel for the size that its placeholder fixes: damaged file")
    ctx.emit("Conv", [x.name, blocks.weight], node.name, node, strides=[1, 1], dilations=block, group=blocks.group, kernel_shape=kernel, pads=pads)
    return x.like(node.name, C=shape[0], **out)
