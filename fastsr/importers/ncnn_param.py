"""The layer list of an ncnn model: text (.param) or binary (.param.bin), as in ncnn's net.cpp, paramdict.cpp and docs/developer-guide.

Both begin with the number 7767517. A layer has a type, inputs and outputs ("blobs") and parameters by number; a parameter is an integer, a float, a
text or an array of numbers. The binary form does not say which of integer and float a number is: the reader of a parameter does.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ModelError

MAGIC = 7767517
MAX_LAYERS = 65536
MAX_BLOBS = 1 << 20
MAX_ARRAY = 4096
MAX_ID = 256
END = -233
FIRST_ARRAY, FIRST_TEXT = -23300, -23400

TYPES = (
    "AbsVal", "ArgMax", "BatchNorm", "Bias", "BNLL", "Concat", "Convolution", "Crop", "Deconvolution", "Dropout", "Eltwise", "ELU", "Embed",
    "Exp", "Flatten", "InnerProduct", "Input", "Log", "LRN", "MemoryData", "MVN", "Pooling", "Power", "PReLU", "Proposal", "Reduction",
    "ReLU", "Reshape", "ROIPooling", "Scale", "Sigmoid", "Slice", "Softmax", "Split", "SPP", "TanH", "Threshold", "Tile", "RNN", "LSTM",
    "BinaryOp", "UnaryOp", "ConvolutionDepthWise", "Padding", "Squeeze", "ExpandDims", "Normalize", "Permute", "PriorBox",
    "DetectionOutput", "Interp", "DeconvolutionDepthWise", "ShuffleChannel", "InstanceNorm", "Clip", "Reorg", "YoloDetectionOutput",
    "Quantize", "Dequantize", "Yolov3DetectionOutput", "PSROIPooling", "ROIAlign", "Packing", "Requantize", "Cast", "HardSigmoid", "SELU",
    "HardSwish", "Noop", "PixelShuffle", "DeepCopy", "Mish", "StatisticsPooling", "Swish", "Gemm", "GroupNorm", "LayerNorm", "Softplus",
    "GRU", "MultiHeadAttention", "GELU", "Convolution1D", "Pooling1D", "ConvolutionDepthWise1D", "Convolution3D", "ConvolutionDepthWise3D",
    "Pooling3D", "MatMul", "Deconvolution1D", "DeconvolutionDepthWise1D", "Deconvolution3D", "DeconvolutionDepthWise3D", "Einsum",
    "DeformableConv2D", "GLU", "Fold", "Unfold", "GridSample", "CumulativeSum", "CopyTo", "Erf", "Diag", "CELU", "Shrink", "RMSNorm",
    "Spectrogram", "InverseSpectrogram", "Flip", "SDPA", "RotaryEmbed",
)  # fmt: skip
"""Layer types by their number in binary files: the order in which ncnn's src/CMakeLists.txt adds them, which only ever grows."""


class Bits(int):
    """The 32 bits of a number that is an integer or a float."""

    @property
    def as_float(self) -> float:
        return float(struct.unpack("<f", struct.pack("<i", self))[0])


@dataclass
class Layer:
    """One layer. `weights`: what its type reads from the .bin file, by name."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    params: dict[int, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)

    def integer(self, k: int, default: int) -> int:
        """Parameter k as an integer. Raises ModelError."""
        value = self.params.get(k, default)
        if isinstance(value, float) and value == 0:
            value = 0
        if not isinstance(value, int):
            raise ModelError(f"has {self._shown(k)} where an integer is expected: damaged file")
        return int(value)

    def real(self, k: int, default: float) -> float:
        """Parameter k as a finite float. Raises ModelError."""
        value = self.params.get(k, default)
        value = value.as_float if isinstance(value, Bits) else value
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ModelError(f"has {self._shown(k)} where a number is expected: damaged file")
        return float(np.float32(value))

    def integers(self, k: int) -> list[int]:
        """Parameter k as a list of integers, empty when it is absent. Raises ModelError."""
        value = self._array(k)
        if not all(isinstance(v, int) for v in value):
            raise ModelError(f"has {self._shown(k)} where integers are expected: damaged file")
        return [int(v) for v in value]

    def reals(self, k: int) -> list[float]:
        """Parameter k as a list of finite floats, empty when it is absent. Raises ModelError."""
        value = [v.as_float if isinstance(v, Bits) else float(v) for v in self._array(k)]
        if not np.isfinite(value).all():
            raise ModelError(f"has {self._shown(k)} where numbers are expected: damaged file")
        return value

    def _array(self, k: int) -> list[Any]:
        value = self.params.get(k, [])
        if not isinstance(value, list):
            raise ModelError(f"has {self._shown(k)} where an array is expected: damaged file")
        return value

    def _shown(self, k: int) -> str:
        return f"parameter {k} = {str(self.params.get(k))[:60]}"


def is_text(head: bytes) -> bool:
    """Whether a file begins like a text .param."""
    return re.match(rb"(\xef\xbb\xbf)?\s{0,64}7767517\s", head) is not None


def is_binary(head: bytes) -> bool:
    """Whether a file begins like a binary .param.bin."""
    return head[:4] == struct.pack("<i", MAGIC)


def read(data: bytes) -> list[Layer]:
    """The layers of a .param file of either form. Raises ModelError for a file that is none or is damaged."""
    if is_binary(data):
        layers = _Binary(data).layers()
    elif is_text(data):
        layers = _read_text(data)
    elif re.match(rb"\s*\d+\s+\d+\s*\n\s*[A-Z]\w+\s", data[:200]):
        raise ModelError("this is a .param file of an ncnn before 2017, without 7767517 in the first line: convert the model again")
    else:
        raise ModelError("this is not an ncnn .param file: it does not begin with 7767517")
    if not layers:
        raise ModelError("the file has no layers: damaged ncnn model")
    made: set[str] = set()
    for layer in layers:
        for out in layer.outputs:
            if out in made:
                raise ModelError(f"two layers make '{out}': damaged ncnn model")
            made.add(out)
    for layer in layers:
        for name in layer.inputs:
            if name not in made:
                raise ModelError(f"layer '{layer.name}' ({layer.op}) reads '{name}', which no layer makes: damaged or incomplete ncnn model")
    return layers


# ---- text --------------------------------------------------------------------------------------------------------------------------------------

_PAIR = re.compile(r'(-?\d{1,6})=("[^"]*"|\S*)')


def _read_text(data: bytes) -> list[Layer]:
    lines = [line.strip() for line in data.decode("utf-8", "replace").lstrip("\ufeff").splitlines()]
    lines = [line for line in lines if line]
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(re.fullmatch(r"\d{1,9}", c) for c in counts):
        raise ModelError("its second line does not say how many layers and blobs there are: damaged ncnn model")
    n, blobs = int(counts[0]), int(counts[1])
    _check_counts(n, blobs)
    if len(lines) - 2 < n:
        raise ModelError(f"it lists {len(lines) - 2} of {n} layers: the ncnn .param file is cut short")
    layers = [_text_layer(line) for line in lines[2 : 2 + n]]
    if sum(len(layer.outputs) for layer in layers) > blobs:
        raise ModelError(f"its layers make more than the {blobs} blobs that it announces: damaged ncnn model")
    return layers


def _check_counts(layers: int, blobs: int) -> None:
    if not 0 < layers <= MAX_LAYERS or not 0 < blobs <= MAX_BLOBS:
        raise ModelError(f"it announces {layers} layers and {blobs} blobs: damaged ncnn model")


def _text_layer(line: str) -> Layer:
    words = line.split(None, 4)
    if len(words) < 4 or not all(re.fullmatch(r"\d{1,6}", w) for w in words[2:4]):
        raise ModelError(f"the line '{line[:80]}' is not a layer: damaged ncnn model")
    op, name, (reads, makes) = words[0], words[1], (int(w) for w in words[2:4])
    rest = words[4] if len(words) > 4 else ""
    blobs = rest.split(None, reads + makes)
    if len(blobs) < reads + makes:
        raise ModelError(f"layer '{name}' ({op}) names fewer than {reads} inputs and {makes} outputs: damaged ncnn model")
    tail = blobs[reads + makes] if len(blobs) > reads + makes else ""
    layer = Layer(op, name, blobs[:reads], blobs[reads : reads + makes])
    at = 0
    while at < len(tail):
        pair = _PAIR.match(tail, at)
        if pair is None:
            raise ModelError(f"layer '{name}' ({op}) has the parameter '{tail[at : at + 40]}', which is not number=value: damaged ncnn model")
        key, value = int(pair[1]), pair[2]
        listed = key <= FIRST_ARRAY
        key = FIRST_ARRAY - key if listed else key
        if not 0 <= key < MAX_ID:
            raise ModelError(f"layer '{name}' ({op}) has a parameter of number {pair[1]}: damaged ncnn model")
        layer.params[key] = _text_value(layer, value, listed)
        at = pair.end()
        while at < len(tail) and tail[at].isspace():
            at += 1
    return layer


def _text_value(layer: Layer, text: str, listed: bool) -> Any:
    if not listed and text[:1].isalpha():
        return text
    if not listed and text.startswith('"'):
        return text.strip('"')
    if not listed and "," not in text:
        return _text_number(layer, text)
    parts = [p for p in text.split(",") if p]
    if listed:
        if not parts or not re.fullmatch(r"\d{1,9}", parts[0]) or int(parts[0]) != len(parts) - 1:
            raise ModelError(f"layer '{layer.name}' ({layer.op}) has an array '{text[:40]}' of another length than it says: damaged ncnn model")
        parts = parts[1:]
    if len(parts) > MAX_ARRAY:
        raise ModelError(f"layer '{layer.name}' ({layer.op}) has an array of {len(parts)} numbers: damaged ncnn model")
    return [_text_number(layer, p) for p in parts]


def _text_number(layer: Layer, text: str) -> int | float:
    if re.fullmatch(r"[+-]?\d{1,10}", text) and -(1 << 31) <= int(text) < 1 << 31:
        return int(text)
    if re.fullmatch(r"[+-]?(\d{1,60}\.\d{0,60}|\d{0,60}\.\d{1,60}|\d{1,60}(?=[eE]))([eE][+-]?\d{1,3})?", text):
        return float(text)
    raise ModelError(f"layer '{layer.name}' ({layer.op}) has the parameter '{text[:40]}', which is not a number: damaged ncnn model")


# ---- binary ------------------------------------------------------------------------------------------------------------------------------------


class _Binary:
    def __init__(self, data: bytes) -> None:
        self.words = np.frombuffer(data[: len(data) // 4 * 4], "<i4")
        self.at = 1

    def take(self, n: int = 1) -> list[int]:
        if n > len(self.words) - self.at:
            raise ModelError("the ncnn .param.bin file is cut short")
        self.at += n
        return [int(w) for w in self.words[self.at - n : self.at]]

    def layers(self) -> list[Layer]:
        """All layers; blobs are called by their numbers, layers by their types and places, as the file has no names."""
        n, blobs = self.take(2)
        _check_counts(n, blobs)
        return [self.layer(k, blobs) for k in range(n)]

    def layer(self, k: int, blobs: int) -> Layer:
        index, reads, makes = self.take(3)
        if not 0 <= index < len(TYPES):
            raise ModelError(f"binary param of an unknown layer type (number {index}, layer {k}): give the text .param file instead")
        op = TYPES[index]
        if not 0 <= reads <= MAX_LAYERS or not 0 <= makes <= MAX_LAYERS:
            raise ModelError(f"layer {k} ({op}) has {reads} inputs and {makes} outputs: damaged ncnn model")
        names = self.take(reads + makes)
        if not all(0 <= i < blobs for i in names):
            raise ModelError(f"layer {k} ({op}) uses a blob that the file does not announce: damaged ncnn model")
        blob = [str(i) for i in names]
        layer = Layer(op, f"{op}_{k}", blob[:reads], blob[reads:])
        value: Any
        while (key := self.take()[0]) != END:
            if key <= FIRST_TEXT:
                (size,) = self.take()
                if not 0 <= size < 256:
                    raise ModelError(f"layer {k} ({op}) has a text of {size} bytes: damaged ncnn model")
                words = np.array(self.take(-(-size // 4)), "<i4").tobytes()
                key, value = FIRST_TEXT - key, words[:size].decode("utf-8", "replace").rstrip("\0")
            elif key <= FIRST_ARRAY:
                (size,) = self.take()
                if not 0 <= size <= MAX_ARRAY:
                    raise ModelError(f"layer {k} ({op}) has an array of {size} numbers: damaged ncnn model")
                key, value = FIRST_ARRAY - key, [Bits(v) for v in self.take(size)]
            else:
                value = Bits(self.take()[0])
            if not 0 <= key < MAX_ID:
                raise ModelError(f"layer {k} ({op}) has a parameter of number {key}: damaged ncnn model")
            layer.params[key] = value
        return layer
