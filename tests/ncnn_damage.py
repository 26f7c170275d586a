"""The tables of ncnn models that are damaged or hold what fastsr does not run, each with words of the error that it must give."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from ncnn_graphs import Net, marked, plain

Files = tuple[bytes, bytes]
UNSUPPORTED: list[tuple[str, Callable[[Net], Any], str]] = []
DAMAGE: dict[str, tuple[Callable[[bytes, bytes], Files], str]] = {}
BINARY_DAMAGE: dict[str, tuple[Callable[[list[int]], list[int]], str]] = {}


def refused(name: str, build: Callable[[Net], Any], says: str) -> None:
    UNSUPPORTED.append((name, build, says))


def damage(name: str, change: Callable[[bytes, bytes], Files], says: str) -> None:
    DAMAGE[name] = (change, says)


def replaced(name: str, old: bytes, new: bytes, says: str) -> None:
    """Damage of the text."""
    damage(name, lambda param, weights: (param.replace(old, new), weights), says)


def sound() -> Net:
    """A network of a convolution, an activation and a pixel shuffle."""
    n = Net()
    n.layer("PixelShuffle", n.layer("PReLU", n.conv(n.input(), 3, 12), p={0: 12}, w=(plain(n.random(12)),)), p={0: 2})
    return n


# ---- what is not supported ---------------------------------------------------------------------------------------------------------------------

refused("unknown layer", lambda n: n.layer("Whatever", n.input(3)), "'whatever_1'.*Whatever are not supported")
refused("attention", lambda n: n.layer("Softmax", n.input(3)), "attention")
refused("GroupNorm", lambda n: n.layer("GroupNorm", n.input(3), p={0: 1, 1: 3}), "whole picture")
refused("deformable", lambda n: n.layer("DeformableConv2D", n.input(3), n.conv("data", 3, 18)), "moves pixels")
refused("CELU", lambda n: n.layer("CELU", n.input(3)), "CELU are not supported")
refused("unknown function", lambda n: n.layer("UnaryOp", n.input(3), p={0: 9}), "function sin")
refused("power", lambda n: n.layer("BinaryOp", n.input(3), p={0: 6, 1: 1, 2: 2.5}), "power 2.5")
refused("arc tangent", lambda n: n.layer("BinaryOp", n.input(3), "data", p={0: 10}), "number 10")
refused("constant picture", lambda n: n.layer("BinaryOp", n.input(3), n.memory(n.random(3, 4, 4))), "pixel to pixel")
refused("constant of other channels", lambda n: n.layer("BinaryOp", n.input(3), n.memory(n.random(5))), "3 channels with 5 numbers")
refused("two constants", lambda n: n.layer("BinaryOp", n.layer("BinaryOp", n.memory([1.0]), n.memory([2.0])), n.input(3)), "two constants")
refused("constant output", lambda n: (n.conv(n.input(), 3, 3), n.layer("Noop", n.memory([1.0]))), "is a constant")
refused("division by zero", lambda n: n.layer("BinaryOp", n.input(3), p={0: 3, 1: 1, 2: 0.0}), "divides by zero")
refused("channels that differ", lambda n: n.layer("BinaryOp", n.conv(n.input(), 3, 4), n.conv("data", 3, 5)), "4 and 5 channels")
refused("sizes that differ", lambda n: n.layer("BinaryOp", n.input(3), n.conv("data", 3, 3, more={4: 0})), "heights differ")
refused("row of pixels", lambda n: n.layer("BinaryOp", n.input(3), n.layer("Reduction", "data", p={0: 3, 1: 0, 3: [1], 4: 1, 5: 1})), "axes")
refused("side by side", lambda n: n.layer("Concat", n.input(3), "data", p={0: 1}), "side by side")
refused("pieces of a picture", lambda n: n.layer("Slice", n.input(3), p={0: [-233, -233], 1: 2}, n=2), "only channels can be cut")
refused("crop of fixed size", lambda n: n.layer("Crop", n.input(3), p={3: 8, 4: 8, 5: 3}), "fixed size")
refused("crop from the back", lambda n: n.layer("Crop", n.input(3), p={9: [-8], 10: [-1], 11: [2]}), "fixed size")
refused("crop by formula", lambda n: n.layer("Crop", n.input(3), p={19: "0,0", 20: "1,1"}), "formula")
refused("crop to half a picture", lambda n: n.layer("Crop", n.input(3), n.layer("Interp", "data", p={0: 1, 1: 0.5, 2: 0.5})), "cannot follow")
refused("resize to a constant size", lambda n: n.layer("Interp", n.input(3), p={0: 2, 3: 100, 4: 100}), "constant size")
refused("resize by formula", lambda n: n.layer("Interp", n.input(3), p={0: 2, 9: "*(0w,2),*(0h,2)"}), "formula")
refused("resize to half an odd size", lambda n: n.layer("Interp", n.input(3), n.conv("data", 3, 3, more={3: 2}), p={0: 2, 5: 1}), "multiple")
refused("exchanged axes", lambda n: n.layer("Permute", n.input(3), p={0: 1}), "exchanges axes")
refused("flattened picture", lambda n: n.layer("Flatten", n.input(3)), "single pixels")
refused("reshaped picture", lambda n: n.layer("Reshape", n.input(3), p={0: 8, 1: 8, 2: -1}), "single pixels")
refused("dense layer of a picture", lambda n: n.layer("InnerProduct", n.input(3), p={0: 2, 2: 6}, w=(marked(n.random(6)),)), "all pixels")
refused("mean at borders", lambda n: n.layer("Pooling", n.input(3), p={0: 1, 1: 3, 3: 1}), "fewer pixels at borders")
refused("mean of windows outside", lambda n: n.layer("Pooling", n.input(3), p={0: 1, 1: 2, 2: 2}), "fewer pixels at borders")
refused("windows by size", lambda n: n.layer("Pooling", n.input(3), p={0: 1, 7: 1, 8: 4}), "depend on the picture's size")
refused("pooling same", lambda n: n.layer("Pooling", n.input(3), p={0: 0, 1: 2, 2: 2, 5: 2}), "pad_mode")
refused("mean of everything", lambda n: n.layer("Reduction", n.input(3), p={0: 3}), "only the mean of rows and columns")
refused("old axes", lambda n: n.layer("Reduction", n.input(3), p={0: 3, 1: 0, 3: [2, 3]}), "convert the model again")
refused("computed weights", lambda n: n.layer("Convolution", n.input(3), n.conv("data", 3, 9), p={0: 3, 1: 3, 19: 1}), "dynamic_weight")
refused("deconvolution to a constant size", lambda n: n.layer("Deconvolution", n.input(3), p={0: 1, 1: 2, 3: 2, 6: 12, 20: 64},
        w=(marked(n.random(12)),)), "constant size")  # fmt: skip
refused("border of each channel", lambda n: n.layer("Padding", n.input(3), p={0: 1, 6: 3}, w=(plain(n.random(3)),)), "own number")
refused("bytes without scales", lambda n: n.conv(n.input(), 3, 4, kind="int8"), "no scales")
refused("unknown channels", lambda n: n.layer("ReLU", n.input()), "how many channels")
refused("cast to integers", lambda n: n.layer("Cast", n.input(3), p={0: 1, 1: 3}), "than floats")

# ---- damage ------------------------------------------------------------------------------------------------------------------------------------

replaced("no magic", b"7767517\n", b"", "before 2017")
replaced("other magic", b"7767517\n", b"7767518\n", "not begin with 7767517")
damage("only magic", lambda p, w: (b"7767517\n", w), "second line")
damage("no layers", lambda p, w: (b"7767517\n0 0\n", w), "0 layers")
replaced("huge count", b"\n4 4\n", b"\n999999999 4\n", "999999999 layers")
replaced("more layers than lines", b"\n4 4\n", b"\n5 5\n", "lists 4 of 5 layers")
replaced("more blobs", b"\n4 4\n", b"\n4 3\n", "more than the 3 blobs")
damage("text cut short", lambda p, w: (p[: len(p) // 2], w), "cut short|fewer than|damaged")
replaced("no name", b"prelu_2 1 1 b1 b2 0=12", b"", "is not a layer")
replaced("too few blobs", b"prelu_2 1 1 b1 b2", b"prelu_2 1 9 b1 b2", "fewer than 1 inputs and 9 outputs")
replaced("unknown input", b"1 1 b1 b2", b"1 1 gone b2", "reads 'gone'")
replaced("cycle", b"1 1 data b1", b"1 1 b2 b1", "depends on itself")
replaced("made twice", b"1 1 b1 b2", b"1 1 b1 b1", "two layers make 'b1'")
replaced("not a parameter", b"0=12", b"zero=12", "number=value")
replaced("not a number", b"0=12", b"0=12x", "not a number")
replaced("number too large", b"0=12", b"0=99999999999", "not a number")
replaced("parameter far away", b"0=12", b"0=12 9999=1", "number 9999")
replaced("float for an integer", b"0=12", b"0=1.2e+01", "where an integer is expected")
replaced("array of another length", b"0=12", b"0=12 -23303=4,1,2", "another length")
replaced("array for a number", b"0=12", b"-23300=1,12", "where an integer is expected")
replaced("infinite number", b"4=1", b"4=1 9=2 -23310=1,1e400", "numbers are expected")
replaced("negative channels", b"0=12", b"0=-12", "left")
replaced("channels that do not split", b"b3 0=2", b"b3 0=5", "blocks of 5x5")
replaced("zero stride", b"4=1", b"4=1 3=0", "strides of 0x0")
replaced("huge stride", b"4=1", b"4=1 3=100000", "strides of")
replaced("huge padding", b"4=1", b"4=100000", "pads by")
replaced("negative padding", b"4=1", b"4=-5", "pads by")
replaced("zero kernel", b"1=3", b"1=0", "how many channels")
replaced("other kernel", b"1=3", b"1=5", "weights, and takes|how many channels")
replaced("unknown activation", b"4=1", b"4=1 9=77", "activation of number 77")
replaced("activation without numbers", b"4=1", b"4=1 9=3", "2 are needed")
replaced("another input size", b"Input            input_0 0 1 data", b"Input input_0 0 1 data 0=-4 1=-4", "takes 3 channels of -4x-4")
replaced("other input channels", b"Input            input_0 0 1 data", b"Input input_0 0 1 data 2=5", "for 5 channels")
replaced("input with inputs", b"input_0 0 1 data", b"input_0 1 1 b1 data", "depends on itself|Input")
replaced("more weights than there are", b"6=324", b"6=3240000", "3240000|left")
replaced("negative weights", b"6=324", b"6=-324", "left")
replaced("huge weights", b"6=324", b"6=2147483647", "left")
damage("no weights", lambda p, w: (p, b""), "take 4 bytes.*0 left")
damage("weights left over", lambda p, w: (p, w + bytes(8)), "8 bytes too many")
damage("weights cut short", lambda p, w: (p, w[:-4]), "'prelu_2'.*take 48 bytes.*44 left")
damage("NaN", lambda p, w: (p, w[:4] + np.full(324, np.nan, np.float32).tobytes() + w[1300:]), "NaN")
damage("a table", lambda p, w: (p, b"\1\2\3\4" + w[4:]), "left")
damage("sizes that multiply", lambda p, w: (b"7767517\n2 2\nInput i 0 1 data\nMemoryData m 0 1 m 0=2000000 1=2000000 2=2000000\n", w), "left")
damage("another type", lambda p, w: (p.replace(b"PReLU            prelu_2 1 1 b1 b2 0=12", b"ReLU r 1 1 b1 b2"), w), "48 bytes too many")
damage("no input", lambda p, w: (b"7767517\n2 2\nMemoryData m 0 1 m 0=1\nReLU r 1 1 m r\n", bytes(4)), "no Input|constant")
damage("squared channels", lambda p, w: (b"7767517\n10 10\nInput i 0 1 b0 2=3\n" + b"".join(
    b"Reorg i%d 1 1 b%d b%d 0=16\n" % (k, k, k + 1) for k in range(9)), b""), "channels")  # fmt: skip
damage("a large shuffle", lambda p, w: (b"7767517\n3 3\nInput i 0 1 a 2=65536\nShuffleChannel s 1 1 a b 0=256\nReLU r 1 1 b c\n", b""), "memory")


def binary(name: str, change: Callable[[list[int]], list[int]], says: str) -> None:
    """Damage of the binary form, as a list of its 32-bit words."""
    BINARY_DAMAGE[name] = (change, says)


def words(data: bytes) -> list[int]:
    """A binary form as 32-bit words."""
    return list(struct.unpack(f"<{len(data) // 4}i", data))


binary("binary of an unknown type", lambda w: [*w[:3], 999, *w[4:]], "binary param of an unknown layer type")
binary("binary of a negative type", lambda w: [*w[:3], -1, *w[4:]], "binary param of an unknown layer type")
binary("binary cut short", lambda w: w[:-3], "cut short")
binary("binary without end", lambda w: w[:-1], "cut short")
binary("binary of only magic", lambda w: w[:1], "cut short")
binary("binary with many layers", lambda w: [w[0], 1 << 30, *w[2:]], "announces")
binary("binary with many inputs", lambda w: [*w[:4], 1 << 30, *w[5:]], "inputs")
binary("binary with another blob", lambda w: [*w[:6], 77, *w[7:]], "does not announce")
binary("binary with a long array", lambda w: [*w[:7], -23310, 1 << 30, *w[7:]], "array of")
binary("binary with a long text", lambda w: [*w[:7], -23410, 1 << 30, *w[7:]], "text of")
binary("binary with a far parameter", lambda w: [*w[:7], 1 << 20, 0, *w[7:]], "parameter of number")
