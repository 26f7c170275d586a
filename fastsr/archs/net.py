"""Builds the Graph of a network from its weights, a module at a time, in ONNX operators."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import ModelError
from ..graph import Feed, Graph, Input, Node
from .weights import Weights

MAX_CHANNELS = 4096

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "Gelu", "mish": "Mish", "hardswish": "HardSwish", "elu": "Elu"}


class Net:
    """One network being built. Values are named by strings; `channels[value]` is known for each.

    Methods that read weights take the name of a module, as PyTorch's state dicts have it, and raise ModelError when its tensors are missing or do not
    fit what they are applied to.
    """

    def __init__(self, weights: Weights, channels: int) -> None:
        if not 1 <= channels <= MAX_CHANNELS:
            raise ModelError(f"the first convolution takes {channels} channels")
        self.w = weights
        self.graph = Graph(inputs=[Input("picture", channels)])
        self.channels: dict[str, int] = {"picture": channels}
        self.scale: dict[str, Fraction] = {"picture": Fraction(1)}
        self.input = "picture"
        self._n = 0

    # ---- plumbing ----------------------------------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: list[str], channels: int, name: str = "", by: Fraction | int = 1, **attrs: Any) -> str:
        """Append a node; returns its output. by: how much larger than the first input it is."""
        self._n += 1
        out = f"v{self._n}"
        self.scale[out] = self.scale[inputs[0]] * by
        self.graph.nodes.append(Node(op, inputs, [out], attrs, name or f"{op}_{self._n}"))
        self.channels[out] = channels
        return out

    def const(self, array: Any, stem: str = "c") -> str:
        """A constant's name."""
        self._n += 1
        name = f"{stem}#{self._n}"
        self.graph.constants[name] = np.asarray(array)
        return name

    def number(self, value: float) -> str:
        """A constant of one float."""
        return self.const(np.float32(value))

    def done(self, out: str, feed: Feed, name: str, **meta: Any) -> Graph:
        """The finished graph with the result `out`. Raises ModelError when the feed does not go with the channels of input and result."""
        self.graph.outputs = [out]
        colours = {"y": 1, "rgb": 3, "bgr": 3}
        want = colours.get(feed.colour)
        if want is not None and (self.channels["picture"] != want or self.channels[out] != want):
            feed = Feed()
        self.graph.feed = feed
        self.graph.meta = {"architecture": name, "scale": float(self.scale[out]), **meta}
        self.graph.prune()
        self.graph.validate()
        return self.graph

    # ---- modules -----------------------------------------------------------------------------------------------------------------------------

    def conv(self, x: str, name: str, stride: int = 1, pad: int | None = None, dilation: int = 1, mode: str = "zeros", grouped: bool = False) -> str:
        """Convolution by `name`.weight and .bias. pad: None keeps the size. mode: "zeros", "edge" or "reflect".

        Groups follow from the shapes: one for each channel, or, where the architecture may have them (grouped), any number. Anything else that a
        weight for fewer channels could be is an error, as it belongs to another place.
        """
        w = self.w[f"{name}.weight"]
        if w.ndim != 4 or w.size == 0:
            raise ModelError(f"'{name}.weight' has shape {list(w.shape)}, a convolution's was expected")
        c = self.channels[x]
        groups = c // w.shape[1] if c % w.shape[1] == 0 else 0
        alone = w.shape[1] == 1 and w.shape[0] % c == 0
        if groups < 1 or w.shape[0] % groups or (groups > 1 and not (alone or grouped)):
            raise ModelError(f"'{name}.weight' of shape {list(w.shape)} does not fit {c} channels")
        total = [dilation * (k - 1) for k in w.shape[2:]]
        pads = [pad] * 4 if pad is not None else [total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2]
        if mode != "zeros" and any(pads):
            x = self.pad(x, pads, mode)
            pads = [0] * 4
        inputs = [x, self.const(w, name), *self._bias(name, w.shape[0])]
        return self.emit("Conv", inputs, w.shape[0], name, Fraction(1, stride), kernel_shape=list(w.shape[2:]), strides=[stride] * 2,
                         dilations=[dilation] * 2, pads=pads, group=groups)  # fmt: skip

    def _bias(self, name: str, channels: int) -> list[str]:
        b = self.w.get(f"{name}.bias")
        if b is None:
            return []
        if b.shape != (channels,):
            raise ModelError(f"'{name}.bias' has shape {list(b.shape)} for {channels} channels")
        return [self.const(b, name)]

    def conv_transpose(self, x: str, name: str, stride: int, pad: int | None = None, extra: int | None = None) -> str:
        """Transposed convolution that enlarges by `stride`: pad and output padding follow from that, unless given."""
        w = self.w[f"{name}.weight"]
        c = self.channels[x]
        if w.ndim != 4 or w.size == 0 or c % w.shape[0] or w.shape[0] != c:
            raise ModelError(f"'{name}.weight' of shape {list(w.shape)} does not fit {c} channels in a transposed convolution")
        k = w.shape[2]
        if pad is None:
            pad = max(k - stride + 1, 0) // 2
        if extra is None:
            extra = max(stride - k + 2 * pad, 0)
        inputs = [x, self.const(w, name), *self._bias(name, w.shape[1])]
        return self.emit("ConvTranspose", inputs, w.shape[1], name, stride, kernel_shape=list(w.shape[2:]), strides=[stride] * 2, pads=[pad] * 4,
                         output_padding=[extra] * 2)  # fmt: skip

    def norm(self, x: str, name: str, eps: float | None = None) -> str:
        """Batch normalisation by running mean and variance; without these, instance normalisation. eps: None for the framework's own."""
        if eps is None:
            eps = 1e-3 if self.w.keras else 1e-5
        c = self.channels[x]
        parts = [self.w.get(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        ones, zeros = np.ones(c, np.float32), np.zeros(c, np.float32)
        gamma, beta = (default if p is None else p for p, default in zip(parts, (ones, zeros), strict=False))
        if any(p is not None and p.shape != (c,) for p in parts):
            raise ModelError(f"the normalisation '{name}' does not have {c} channels")
        if parts[2] is None or parts[3] is None:
            return self.emit("InstanceNormalization", [x, self.const(gamma), self.const(beta)], c, name, epsilon=eps)
        return self.emit("BatchNormalization", [x, *map(self.const, (gamma, beta, parts[2], parts[3]))], c, name, epsilon=eps)

    def prelu(self, x: str, name: str) -> str:
        """PReLU by `name`.weight: one slope, or one for each channel."""
        slope = self.w[f"{name}.weight"]
        if slope.size not in (1, self.channels[x]):
            raise ModelError(f"'{name}.weight' has {slope.size} slopes for {self.channels[x]} channels")
        return self.emit("PRelu", [x, self.const(slope.reshape(-1, 1, 1), name)], self.channels[x], name)

    def act(self, x: str, kind: str) -> str:
        """An activation without weights: "relu6", "leaky" with its slope as in "leaky0.2", an operator's name in small letters; "" for none."""
        c = self.channels[x]
        if not kind:
            return x
        if kind.startswith("leaky"):
            return self.emit("LeakyRelu", [x], c, alpha=float(kind[5:] or 0.01))
        if kind == "relu6":
            return self.emit("Clip", [x, self.number(0), self.number(6)], c)
        if kind == "silu":
            return self.emit("Mul", [x, self.emit("Sigmoid", [x], c)], c)
        if kind == "hardsigmoid":
            return self.emit("HardSigmoid", [x], c, alpha=1 / 6, beta=0.5)
        return self.emit(ACTIVATIONS[kind], [x], c)

    # ---- arithmetic --------------------------------------------------------------------------------------------------------------------------

    def add(self, a: str, b: str) -> str:
        """a + b."""
        return self._join("Add", a, b)

    def sub(self, a: str, b: str) -> str:
        """a - b."""
        return self._join("Sub", a, b)

    def mul(self, a: str, b: str) -> str:
        """a b."""
        return self._join("Mul", a, b)

    def _join(self, op: str, a: str, b: str) -> str:
        ca, cb = self.channels[a], self.channels[b]
        if ca != cb and 1 not in (ca, cb):
            raise ModelError(f"the weights do not fit each other: {ca} channels meet {cb}")
        return self.emit(op, [a, b], max(ca, cb))

    def times(self, x: str, factor: float) -> str:
        """x times a number."""
        return x if factor == 1 else self.emit("Mul", [x, self.number(factor)], self.channels[x])

    def plus(self, x: str, term: float) -> str:
        """x plus a number."""
        return x if term == 0 else self.emit("Add", [x, self.number(term)], self.channels[x])

    def concat(self, *xs: str) -> str:
        """Channels side by side."""
        return self.emit("Concat", list(xs), sum(self.channels[x] for x in xs), axis=1)

    def split(self, x: str, *sizes: int) -> list[str]:
        """Groups of channels; the last one is what remains."""
        begin, out = 0, []
        for size in (*sizes, self.channels[x] - sum(sizes)):
            if size < 1:
                raise ModelError(f"{self.channels[x]} channels cannot be split into {list(sizes)} and a rest")
            ends = [self.const(np.array([n], np.int64)) for n in (begin, begin + size, 1)]
            out.append(self.emit("Slice", [x, *ends], size))
            begin += size
        return out

    # ---- pixels ------------------------------------------------------------------------------------------------------------------------------

    def shuffle(self, x: str, block: int) -> str:
        """Pixel shuffle (Shi et al., CVPR 2016): the picture's channels outermost as in PyTorch, or innermost as in TensorFlow."""
        c = self.channels[x]
        if block < 1 or c % (block * block):
            raise ModelError(f"{c} channels cannot be shuffled into blocks of {block}x{block} pixels")
        return x if block == 1 else self.emit("DepthToSpace", [x], c // block**2, by=block, blocksize=block, mode="DCR" if self.w.keras else "CRD")

    def unshuffle(self, x: str, block: int) -> str:
        """The inverse of `shuffle`."""
        c = self.channels[x]
        if block == 1:
            return x
        y = self.emit("SpaceToDepth", [x], c * block**2, by=Fraction(1, block), blocksize=block)  # block outermost
        order = np.zeros((c * block**2, c * block**2, 1, 1), np.float32)
        for k in range(c * block**2):
            channel, place = divmod(k, block**2)
            order[k, place * c + channel] = 1
        return self.emit("Conv", [y, self.const(order)], c * block**2, kernel_shape=[1, 1])

    def resize(self, x: str, factor: float, mode: str = "nearest", align_corners: bool = False) -> str:
        """Enlargement by a constant factor. mode: "nearest", "linear" or "cubic", as torch.nn.functional.interpolate does them."""
        if factor == 1:
            return x
        attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}
        if mode == "nearest":
            attrs = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if mode == "cubic":
            attrs["cubic_coeff_a"] = -0.75
        scales = self.const(np.array([1, 1, factor, factor], np.float32))
        return self.emit("Resize", [x, "", scales], self.channels[x], by=Fraction(factor), **attrs)

    def pad(self, x: str, pads: list[int], mode: str = "constant") -> str:
        """Pad top, left, bottom, right; negative amounts crop. mode: "constant", "edge" or "reflect"."""
        amounts = self.const(np.array([0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], np.int64))
        return self.emit("Pad", [x, amounts], self.channels[x], mode=mode)

    def mean(self, x: str) -> str:
        """The mean of each channel over the whole picture."""
        return self.emit("GlobalAveragePool", [x], self.channels[x])

    def max_pool(self, x: str, kernel: int, stride: int) -> str:
        """The largest number of each window, without padding: maxima of shifted pictures, rows first, then every stride-th pixel."""
        c = self.channels[x]
        for axis in range(2):
            parts = []
            for k in range(kernel):
                crop = [0] * 4
                crop[axis], crop[axis + 2] = -k, k + 1 - kernel
                parts.append(self.pad(x, crop))
            x = parts[0]
            for part in parts[1:]:
                x = self.emit("Max", [x, part], c)
        if stride == 1:
            return x
        every = self.const(np.ones((c, 1, 1, 1), np.float32))
        return self.emit("Conv", [x, every], c, by=Fraction(1, stride), kernel_shape=[1, 1], strides=[stride] * 2, group=c)

    def resize_to(self, x: str, like: str, mode: str = "linear") -> str:
        """To the height and width of another value, as torch.nn.functional.interpolate with a size does it. mode: "linear" or "nearest".

        "nearest" to a size that is smaller by less than half drops the last row or column, or keeps all: position i is read from floor(i n / m).
        """
        attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
        if mode == "nearest":
            attrs = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        y = self.emit("Resize", [x, "", "", like], self.channels[x], **attrs)
        self.scale[y] = self.scale[like]
        return y
