"""TensorFlow Lite's transposed convolution: ONNX's, or for integers a convolution and DEPTH_TO_SPACE.

A transposed convolution with stride s makes each of the s x s pixels of a block from the same few pixels of the input, by other taps. With a channel
for each pixel of the block it is a convolution, which the precision int8 computes in integers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from . import onnx_conv, onnx_pixels
from .context import register
from .onnx_values import Picture
from .tflite_context import Args, Handler, TfliteContext, TfliteNode, nhwc
from .tflite_conv import filter_of, movement
from .tflite_quantised import bias, finish, for_convolution, parameter
from .values import Dim

OPS: dict[str, Handler] = {}
op = partial(register, OPS)
MAX_CHANNELS = 65536


@op("TRANSPOSE_CONV")
def transpose_conv(ctx: TfliteContext, node: TfliteNode, args: Args) -> Picture:
    """Output shape, filter (K, kh, kw, C), picture, bias. The output must be a fixed multiple of the input."""
    filter_of(ctx, node, 1)
    x = for_convolution(ctx, node, ctx.picture(node, args, 2))
    k, kh, kw, c = ctx.tensor(node, 1).shape
    shape = list(ctx.array(node, args, 0).data.reshape(-1))
    if len(shape) != 4 or isinstance(shape[3], Dim) or shape[3] != k or c != x.channels:
        raise ModelError(f"has a filter of shape {[k, kh, kw, c]} for {x.channels} channels: damaged file")
    attrs = movement(node)
    padding, strides = attrs.pop("auto_pad"), attrs["strides"]
    pads, extra = [0, 0, 0, 0], [0, 0]
    for i, a in enumerate("HW"):
        s, kernel, wanted = strides[i], (kh, kw)[i], shape[1 + i]
        if padding == "SAME_UPPER":
            natural: Any = x.size[a] * s
            total = max(kernel - s, 0)
            pads[i], pads[i + 2], extra[i] = total // 2, total - total // 2, max(s - kernel, 0)
        else:
            natural = (x.size[a] - 1) * s + kernel
            over = wanted - natural
            extra[i] = int(over) if not isinstance(over, Dim) and 0 <= over < s else 0
            natural = natural + extra[i]
        if wanted != natural:
            raise ModelError(f"makes an output of a size that is not a fixed multiple ({s}) of its input's: not supported")
    block = strides[0]
    if x.name in ctx.rounded and padding == "SAME_UPPER" and strides == [block, block] and block > 1 and k * block * block <= MAX_CHANNELS:
        return _by_blocks(ctx, node, x, block, pads[:2])
    value, _ = parameter(ctx, node, 1, lambda w: w.transpose(3, 0, 1, 2), 1, False)
    b = bias(ctx, node, 3, x, ctx.tensor(node, 1), False)
    core = ctx.spell(node, "ConvTranspose", pads=pads, output_padding=extra, **attrs)
    y = onnx_conv.conv_transpose(ctx, core, [ctx.nchw(node, x), value, *([] if b is None else [b])])
    return finish(ctx, node, nhwc(y), node.int("fused"))


def _by_blocks(ctx: TfliteContext, node: TfliteNode, x: Picture, block: int, before: list[int]) -> Picture:
    """A convolution whose channels are (row in the block, column in the block, K), rounded, and then moved to their pixels."""
    rows, columns = (taps(n, block, p) for n, p in zip(ctx.tensor(node, 1).shape[1:3], before, strict=True))
    first = [min(d for phase in axis for d, _ in phase) for axis in (rows, columns)]
    last = [max(d for phase in axis for d, _ in phase) for axis in (rows, columns)]
    size = [b - a + 1 for a, b in zip(first, last, strict=True)]
    ctx.spend(8 * ctx.tensor(node, 1).shape[0] * x.channels * (block * block) * size[0] * size[1])

    def arrange(w: np.ndarray) -> np.ndarray:
        k, _, _, c = w.shape
        out = np.full((block, block, k, c, *size), w.dtype.type(empty), w.dtype)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                for dy, ty in row:
                    for dx, tx in column:
                        out[i, j, :, :, dy - first[0], dx - first[1]] = w[:, ty, tx]
        return out.reshape(block * block * k, c, *size)

    tensor, copies = ctx.tensor(node, 1), block * block
    zeros = np.unique(tensor.zero)
    empty = int(zeros[0]) if zeros.size == 1 else 0
    value, _ = parameter(ctx, node, 1, arrange, 0, True, copies)
    b = bias(ctx, node, 3, x, tensor, bool(value.name), copies)
    pads = [-first[0], -first[1], last[0], last[1]]
    core = ctx.spell(node, "Conv", strides=[1, 1], pads=pads)
    y = onnx_conv.conv(ctx, core, [ctx.nchw(node, x), value, *([] if b is None else [b])])
    y = finish(ctx, node, y, node.int("fused"))
    moved = onnx_pixels.depth_to_space(ctx, ctx.spell(node, "DepthToSpace", blocksize=block, mode="DCR"), [y])
    if y.name in ctx.grids:
        ctx.grids[moved.name] = ctx.grids[y.name]
    return nhwc(moved)


def taps(kernel: int, block: int, before: int) -> list[list[tuple[int, int]]]:
    """For each pixel of a block: (input pixel counted from that of the block, tap of the filter). before: pixels that are cut off at the start."""
    return [[((p + before - t) // block, t) for t in range(kernel) if (p + before - t) % block == 0] for p in range(block)]
